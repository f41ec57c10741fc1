"""A machine that a script drives: requests of a few kinds, in bulk, for scenarios that are no trace.

What is *scarce* depends on the design: unmapped memory where pages leave the direct map itself, nonsensitive
memory where they leave the restricted tree only, plain kernel memory where nothing is protected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.designs import Design
from asi_pa.engine.machine import Machine
from asi_pa.kernel.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NAMES, MODEL_LRU
from asi_pa.kernel.sizing import raised_for, single_zone
from asi_pa.run.replay import Replay
from asi_pa.trace.compiler import OP
from asi_pa.verify.dump import DumpShape, take_apart

__all__ = ["SCARCE", "USER", "USER_PINNED", "Held", "Scripted", "mib", "table"]

_SENSITIVE = GFP_NAMES["__GFP_SENSITIVE"]
_COMP = GFP_NAMES["__GFP_COMP"]
#: Kinds of requests; all may block.
SCARCE, USER, USER_PINNED = range(3)
_ALLOC, _FREE = 1, 2


@dataclass(frozen=True)
class Held:
    """What was asked for in bulk: the slots of all requests, and how many of them got their pages."""

    order: int
    slots: npt.NDArray[np.uint32]
    obtained: int


class Scripted:
    """One zone of ``memory``, one design, and what a script holds of it.

    compaction : requests that may block compact, for what the design asks
    watermarks : False: all of memory can be had, as in the recorded runs that go to exhaustion
    """

    def __init__(
        self, design: Design, memory: str, *, compaction: bool = False, watermarks: bool = True
    ) -> None:
        spec = raised_for(single_zone(memory), design.khugepaged_pcptypes)
        if not watermarks:
            zones = tuple(replace(zone, wmark=(0, 0, 0, 0), lowmem_reserve=(0,) * 4) for zone in spec.zones)
            spec = replace(spec, zones=zones)
        self.design = design
        self.machine = Machine(spec, design)
        scarce = _SENSITIVE if design.tree == "unrestricted" and design.protects else 0
        other = 0 if scarce else _SENSITIVE
        user = GFP_HIGHUSER_MOVABLE | MODEL_LRU | _COMP | _SENSITIVE * (design.tree != "unrestricted")
        classes = (GFP_KERNEL | scarce, user, GFP_KERNEL | _COMP | other)
        self.slots = 8 * sum(zone.spanned for zone in spec.zones)
        self.run = Replay(self.machine, np.array(classes, np.uint32), self.slots)
        if compaction:
            self.run.relieve(np.empty(0, np.uint32), True)
        self._next = 0

    def alloc(self, kind: int, order: int, n: int, *, until_failure: bool = False) -> Held:
        """Asks ``n`` times; ``until_failure``: in steps of 64, until four of them in a row get nothing.

        That is longer than compaction stays deferred after a failure (COMPACT_MAX_DEFER_SHIFT, 64 requests).
        """
        asked: list[npt.NDArray[np.uint32]] = []
        obtained, step, empty = 0, min(n, 64) if until_failure else n, 0
        while n > 0:
            count = min(step, n)
            if self._next + (count << order) > self.slots:
                raise RuntimeError("the script asks for more than it has slots for")
            slots = (self._next + (np.arange(count) << order)).astype(np.uint32)
            before = self.run.failures
            self.run.run(_ops(_ALLOC, order, kind, slots))
            self._next += count << order
            failed = self.run.failures - before
            asked.append(slots)
            obtained += count - failed
            n -= count
            empty = empty + 1 if failed == count else 0
            if until_failure and empty == 4:
                break
        return Held(order, np.concatenate(asked) if asked else np.empty(0, np.uint32), obtained)

    def free(self, held: Held) -> None:
        """Gives back what ``alloc`` returned; requests that failed have nothing to give."""
        self.run.run(_ops(_FREE, held.order, 0, held.slots))

    def stats(self) -> dict[str, int]:
        """The engine's counters (``stats_t``)."""
        counted: dict[str, int] = self.machine.stats()
        return counted

    def cost(self) -> dict[str, int]:
        """The counts that `asi_pa.experiment.costs.modelled_time` reads, since the machine was built."""
        stats = self.stats()
        counted = {"bytes_zeroed": stats["pages_zeroed"] << 12, "flips_s2n": stats["flips_s2n"]}
        names = ("leaf_writes_pte", "leaf_writes_pmd", "leaf_writes_pud")
        physmap = self.machine.physmap
        if physmap is None:
            zero = (*names, "leaf_splits_2m", "leaf_splits_1g", "table_pages_allocated")
            return counted | dict.fromkeys((*zero, "tlb_flushes_ranged", "tlb_flushes_full"), 0)
        c = physmap.counters()
        writes = {name: sum(tree[level] for tree in c.leaf_writes) for level, name in enumerate(names)}
        return (
            counted
            | writes
            | {
                "leaf_splits_2m": sum(c.splits_2m),
                "leaf_splits_1g": sum(c.splits_1g),
                "table_pages_allocated": sum(c.tables_allocated),
                "tlb_flushes_ranged": c.flushes_ranged,
                "tlb_flushes_full": c.flushes_full,
                "tlb_flushed_pages": c.flushed_pages,
            }
        )

    def free_sides(self) -> tuple[int, int]:
        """(free pages on the scarce side, all other free pages), those of a pool with the scarce ones."""
        pages = self.run.free_pages()
        kinds = self.design.freetypes
        scarce_mapped = self.design.tree != "unrestricted"
        scarce = int(pages[-1])
        if self.design.protects and not self.design.wrapper:
            scarce += sum(int(pages[i]) for i, ft in enumerate(kinds) if ft.mapped == scarce_mapped)
        return scarce, int(pages.sum()) - scarce

    def remapped_blocks(self) -> npt.NDArray[np.bool_]:
        """By pageblock: has it any page whose mapping is unlike all others' (unmapped ones, where pages leave
        the direct map)?"""
        if not self.design.protects:
            return np.zeros(len(self.machine.blocks()[0]), bool)
        if not self.design.wrapper:
            mapped = np.asarray(self.machine.blocks()[1], bool)
            return ~mapped if self.design.tree == "unrestricted" else mapped
        zone = self.machine.spec.zones[0]
        shape = DumpShape(
            start_pfn=zone.start_pfn,
            spanned=zone.spanned,
            pageblock_order=self.machine.spec.pageblock_order,
            max_page_order=self.machine.spec.max_page_order,
            cpus=self.machine.spec.cpus,
            design=self.design,
        )
        runs = take_apart(self.machine.dump(), shape).remapped_runs
        remapped = np.zeros(zone.spanned + 1, np.int64)
        np.add.at(remapped, runs[:, 0], 1)
        np.add.at(remapped, runs[:, 0] + runs[:, 1], -1)
        pages = np.cumsum(remapped[:-1]) > 0
        block = 1 << self.machine.spec.pageblock_order
        padded = np.zeros(-(-len(pages) // block) * block, bool)
        padded[: len(pages)] = pages
        return np.asarray(padded.reshape(-1, block).any(axis=1), bool)

    def check(self) -> None:
        """Raises RuntimeError where an invariant of the engine is broken."""
        broken = self.machine.verify()
        if broken is not None:
            raise RuntimeError(f"{self.design.name}: {broken}")


def _ops(op: int, order: int, kind: int, slots: npt.NDArray[np.uint32]) -> npt.NDArray[Any]:
    ops = np.zeros(len(slots), OP)
    ops["op"], ops["order"], ops["cls"], ops["slot"] = op, order, kind, slots
    return ops


def mib(pages: int) -> str:
    """Pages of 4 KiB in MiB."""
    return f"{pages / 256:,.0f} MiB"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows as Markdown, the first column to the left."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        return "| " + " | ".join(cells) + " |"

    rule = "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|"
    return "\n".join([line(head), rule, *map(line, rows)]) + "\n"
