"""Flip starvation: how much of the scarce kind a fragmented machine yields, design by design.

The reviewers' scenario for __GFP_UNMAPPED (msgid 20260320-page_alloc-unmapped-v2-0-28bf1bd54f41@google.com
and its review): fill 90 % of memory in chunks of 64 KiB, free three of every four, see that almost no free 2M
block is left, then ask for the scarce kind until a request fails.  The measure is the bytes obtained, against
the same demand on a machine where the surviving chunks lie side by side.

The scarce kind is what a design keeps least of: nonsensitive memory in the restricted tree's designs,
unmapped memory in the direct map's; for designs that protect nothing it is plain kernel memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from asi_pa.designs import DESIGNS, Design, as_design
from asi_pa.experiment import build
from asi_pa.kernel.gfp import GFP_NAMES
from asi_pa.trace import CompiledTrace, compile_trace
from asi_pa.trace.workloads import workload

__all__ = ["ALL_DESIGNS", "Starvation", "starvation", "starvation_text"]

#: Every built-in one, by its full name.
ALL_DESIGNS = tuple(name for name, design in DESIGNS.items() if name == design.name)
_STEP = 1024
_ASKER = 1
_SENSITIVE = np.uint32(GFP_NAMES["__GFP_SENSITIVE"])
_MOBILITY = np.uint32(GFP_NAMES["__GFP_MOVABLE"] | GFP_NAMES["__GFP_RECLAIMABLE"])


@dataclass(frozen=True)
class Starvation:
    """One design's yield, in bytes obtained before the first failure."""

    design: str
    fresh: int
    """On the unfragmented machine."""
    stressed: int
    """Fragmented, without compaction."""
    compacted: int
    """Fragmented, with compaction for the order that the design asks for."""
    promoted: int
    """Fragmented, with compaction for a pageblock whenever a flip could help."""
    pages_moved: int
    """By that last one."""
    free_blocks: int
    """Wholly free pageblocks when the asking began, of ``blocks``."""
    blocks: int


def _for(compiled: CompiledTrace, design: Design) -> CompiledTrace:
    """The workload with the scarce kind of this design: in the direct map's designs the asker wants unmapped
    memory, and what fills the machine wants none of it."""
    if design.tree != "unrestricted":
        return compiled
    unmovable = (compiled.classes & _MOBILITY) == 0
    classes = np.where(unmovable, compiled.classes ^ _SENSITIVE, compiled.classes).astype(np.uint32)
    return replace(compiled, classes=classes)


def _ask(compiled: CompiledTrace, design: Design, asked: int, compaction: bool) -> tuple[int, int, int, int]:
    """(bytes obtained, pages moved, whole free blocks at the start of asking, blocks)."""
    machine, run, _ = build(_for(compiled, design), design, compaction=compaction)
    start = len(compiled.ops) - asked
    run.run(compiled.ops, 0, start)
    kinds = run.block_kinds()
    for at in range(start, len(compiled.ops), _STEP):
        before = run.failures
        run.run(compiled.ops, at, min(at + _STEP, len(compiled.ops)))
        if run.failures > before:
            break
    broken = machine.verify()
    if broken is not None:
        raise RuntimeError(f"{design.name}: {broken}")
    obtained = run.allocations - run.failures - int((compiled.ops["op"][:start] == 1).sum())
    return obtained * 4096, machine.stats()["compact_moved"], int((kinds >= 0x80).sum()), len(kinds)


def starvation(
    designs: Sequence[str | Design] = ALL_DESIGNS,
    memory: str = "1G",
    *,
    unmovable: bool = False,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> list[Starvation]:
    """The scenario for each design.

    Parameters
    ----------
    memory : size of the machine, 32M to 64G
    unmovable : the chunks cannot be moved, so compaction has nothing to work with
    seed : of the workload

    Raises ValueError for unknown designs and sizes.
    """
    chosen = [as_design(d) for d in designs]
    stress = compile_trace(workload("stress-unmovable" if unmovable else "stress", memory, seed))
    fresh = compile_trace(workload("fresh", memory, seed))
    asked = int(np.count_nonzero((stress.ops["op"] == 1) & (stress.ops["order"] == 0)))
    rows = []
    for design in chosen:
        if progress:
            progress(design.name)
        baseline, *_ = _ask(_without_ticks(fresh), design, asked, False)
        plain, _, free, blocks = _ask(_without_ticks(stress), design, asked, False)
        own, *_ = _ask(_without_ticks(stress), design, asked, True)
        promoted, moved, *_ = _ask(_without_ticks(stress), replace(design, compaction="both"), asked, True)
        rows.append(Starvation(design.name, baseline, plain, own, promoted, moved, free, blocks))
    return rows


def _without_ticks(compiled: CompiledTrace) -> CompiledTrace:
    """The asking is the last ``asked`` operations only where no tick is among them."""
    return replace(compiled, ops=compiled.ops[compiled.ops["op"] != 4])


def starvation_text(rows: Sequence[Starvation]) -> str:
    """A table for the terminal: MiB obtained, and the share of what the unfragmented machine yields."""
    names = "".join(f"{name:>17}" for name in ("fragmented", "+ compaction", "+ promotion"))
    lines = [f"{'design':24}{'fresh':>10}{names}{'pages moved':>13}"]
    for row in rows:
        cells = [f"{row.design:24}{row.fresh >> 20:>6} MiB"]
        for value in (row.stressed, row.compacted, row.promoted):
            share = 100 * value / row.fresh if row.fresh else 0.0
            cells.append(f"{value >> 20:>6} MiB {share:>5.0f}%")
        lines.append("".join(cells) + f"{row.pages_moved:>13,}")
    for row in rows[:1]:
        lines.append(f"{row.design}: {row.free_blocks} of {row.blocks} pageblocks free when the asking began")
    return "\n".join(lines).rstrip() + "\n"
