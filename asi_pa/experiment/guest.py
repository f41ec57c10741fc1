"""guest: memory of a virtual machine without a direct map, populated page by page, then torn down at once.

guest_memfd of a confidential guest takes its memory through the page cache, a folio at a time, and each
folio leaves the direct map when it is added and comes back when it is removed (msgid
20260506080753.14517-1-itazur@amazon.com).  Measured with a flush a folio: faults up to 40 times as long,
growing with CPUs, population 5 times (msgid 20250924152214.7292-3-roypat@amazon.co.uk).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from asi_pa.designs import Design, as_design
from asi_pa.experiment.costs import Costs, load_costs, modelled_time
from asi_pa.experiment.scripted import SCARCE, USER, Held, Scripted, mib, table
from asi_pa.kernel.sizing import PAGE_SIZE, parse_size

__all__ = ["CPUS", "FAULT_US", "Guest", "guest", "guest_text"]

#: Of the machines for which time is modelled.
CPUS = (4, 16, 64, 192)
#: A page fault on a memfd, which the modelled time comes on top of (Firecracker, pull request 4820).
FAULT_US = 5.88
_BLOCK_PAGES = 1 << 15
_GIB_PAGES = 1 << 18
_WAVES = 8


@dataclass(frozen=True)
class Guest:
    """One design's guest; pages of 4 KiB."""

    design: str
    pages: int
    """Populated."""
    flushes: int
    """TLB flushes while it was populated and torn down."""
    splits: int
    """Leaves split."""
    flips: int
    """Pageblocks that changed sides, both ways."""
    missed: int
    """Requests of order 0 that found their per-CPU list empty after its refill, and came to the buddy alone:
    most that refills which may flip would save."""
    longer: tuple[float, ...]
    """Populating, at ``CPUS``: modelled time over ``FAULT_US`` a page, against ``FAULT_US`` alone."""
    memory_blocks: tuple[int, int]
    """128 MiB memory blocks with an unmapped page: while the guest runs, after it is gone."""
    gib_ranges: tuple[int, int]
    """1 GiB ranges with one, likewise."""
    ranges: tuple[int, int]
    """How many memory blocks and 1 GiB ranges there are."""
    stranded: tuple[int, ...]
    """Pages free on the scarce side: when the guest is gone, and after each of 8 waves in which user memory
    takes an eighth of the machine."""


def _one(design: Design, memory: str, size: str, costs: Costs) -> Guest:
    script = Scripted(design, memory)
    pages = min(parse_size(size) // PAGE_SIZE, sum(script.free_sides()))
    # user memory that comes and goes, as on a host that has run for a while
    older = script.alloc(USER, 0, pages // 2)
    script.free(Held(0, older.slots[::3], 0))
    before = script.cost()
    held = script.alloc(SCARCE, 0, pages, until_failure=True)
    populated = script.cost()
    during = _ranges(script)
    stats = script.stats()
    script.free(held)
    done = script.cost()
    after = _ranges(script)
    stranded = [script.free_sides()[0]]
    for _ in range(_WAVES):
        script.alloc(USER, 0, sum(script.free_sides()) // _WAVES)
        stranded.append(script.free_sides()[0])
    script.check()
    own = {key: value - before[key] for key, value in populated.items()}
    alone = FAULT_US * 1000 * max(1, held.obtained)
    longer = tuple(1 + modelled_time(own, costs, cpus).caller / alone for cpus in CPUS)
    flushes = sum(done[key] - before[key] for key in ("tlb_flushes_ranged", "tlb_flushes_full"))
    splits = sum(done[key] - before[key] for key in ("leaf_splits_2m", "leaf_splits_1g"))
    missed = stats["pcp_missed_sensitive" if design.tree == "unrestricted" else "pcp_missed_nonsensitive"]
    blocks = len(script.remapped_blocks())
    per = _BLOCK_PAGES >> script.machine.spec.pageblock_order
    return Guest(
        design.name,
        held.obtained,
        flushes,
        splits,
        script.stats()["flips_s2n"] + script.stats()["flips_n2s"],
        missed if design.protects else 0,
        longer,
        (during[0], after[0]),
        (during[1], after[1]),
        (-(-blocks // per), -(-blocks // (per * 8))),
        tuple(stranded) if design.protects else (0,) * (_WAVES + 1),
    )


def _ranges(script: Scripted) -> tuple[int, int]:
    """(memory blocks, 1 GiB ranges) with a page that is remapped."""
    remapped = script.remapped_blocks()
    found = []
    for pages in (_BLOCK_PAGES, _GIB_PAGES):
        per = pages >> script.machine.spec.pageblock_order
        padded = np.zeros(-(-len(remapped) // per) * per, bool)
        padded[: len(remapped)] = remapped
        found.append(int(padded.reshape(-1, per).any(axis=1).sum()))
    return found[0], found[1]


def guest(
    designs: Sequence[str | Design],
    memory: str = "2G",
    size: str = "512M",
    *,
    costs: Costs | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Guest]:
    """The scenario for each design: a guest of ``size`` on one zone of ``memory``.

    Raises ValueError for unknown designs and impossible sizes.
    """
    rows = []
    for design in map(as_design, designs):
        if progress:
            progress(design.name)
        rows.append(_one(design, memory, size, costs or load_costs()))
    return rows


def guest_text(rows: Sequence[Guest]) -> str:
    """Two tables, as Markdown: what populating costs, and what is left of it."""
    head = ["design", "populated", "flushes a GiB", "splits", "flips", "alone at the buddy"]
    head += [f"x at {cpus} CPUs" for cpus in CPUS]
    cost = [
        (
            f"`{row.design}`",
            mib(row.pages),
            f"{row.flushes * _GIB_PAGES / max(1, row.pages):,.0f}",
            f"{row.splits:,}",
            f"{row.flips:,}",
            f"{row.missed:,}",
            *(f"{value:.2f}" for value in row.longer),
        )
        for row in rows
    ]
    head2 = (
        "design",
        "memory blocks with unmapped pages",
        "after",
        "1 GiB ranges",
        "after",
        "stranded after",
        *(f"wave {wave}" for wave in (2, 4, 8)),
    )
    left = [
        (
            f"`{row.design}`",
            f"{row.memory_blocks[0]} of {row.ranges[0]}",
            str(row.memory_blocks[1]),
            f"{row.gib_ranges[0]} of {row.ranges[1]}",
            str(row.gib_ranges[1]),
            *(mib(row.stranded[wave]) for wave in (0, 2, 4, 8)),
        )
        for row in rows
    ]
    return table(head, cost) + "\n" + table(head2, left)


def as_json(rows: Sequence[Guest]) -> list[dict[str, Any]]:
    """One object a design."""
    return [asdict(row) for row in rows]
