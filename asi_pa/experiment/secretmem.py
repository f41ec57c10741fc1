"""secretmem-vs-frag: what protected memory a machine gives, idle and antagonised, and what comes back of it.

The benchmark of that name (bjackman/kernel-benchmarks-nix, packages/benchmarks/secretmem-vs-frag, 2026): 90 %
of free memory is filled in 64 KiB pieces that are mlock()ed, every second one is unmapped, then secretmem is
asked for until none comes; its measure is ``allocated_bytes``.  With vm.compact_unevictable_allowed=0 the
pieces cannot be moved ("pinned"); without mlock they can, and compaction may help.  The reverse question is
hugepages-alloc's: how many 2M pages are there after protected memory was freed?
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from asi_pa.designs import Design, as_design
from asi_pa.experiment.scripted import SCARCE, USER, USER_PINNED, Held, Scripted, mib, table

__all__ = ["Secretmem", "secretmem", "secretmem_text"]

_PIECE = 4
_HUGE = 9
_ATTEMPTS = 128


@dataclass(frozen=True)
class Secretmem:
    """One design's answers; pages of 4 KiB."""

    design: str
    idle: int
    """Scarce pages until requests get nothing any more, on an idle machine."""
    movable: int
    """The same between pieces that compaction may move, compaction for what the design asks."""
    pinned: int
    """The same between pieces that nothing moves."""
    first: int
    """Of the first 128 requests, those that got a page where pinned pieces fill all of memory, every second
    one freed: half of it is free, no block as a whole (the recorded runs Ux-k1, Vx-k1, Px-k1, Lx-k1)."""
    huge_before: int
    """2M pages that user memory gets on the idle machine."""
    huge_after: int
    """2M pages that it gets after all memory was scarce and was freed."""
    stranded: int
    """Pages that then are free and on the scarce side."""
    splits: int
    """2M leaves that the idle asking split."""


def _antagonise(script: Scripted, kind: int, percent: int = 90) -> None:
    """A share of free memory in 64 KiB pieces, every second one freed."""
    free = sum(script.free_sides())
    pieces = script.alloc(kind, _PIECE, free * percent // 100 >> _PIECE)
    script.free(Held(_PIECE, pieces.slots[1::2], 0))


def _one(design: Design, memory: str) -> Secretmem:
    idle = Scripted(design, memory)
    most = sum(idle.free_sides())
    got = idle.alloc(SCARCE, 0, most, until_failure=True)
    splits = idle.cost()["leaf_splits_2m"]
    idle.free(got)
    stranded, _ = idle.free_sides()
    after = idle.alloc(USER, _HUGE, most >> _HUGE, until_failure=True)
    idle.check()
    before = Scripted(design, memory).alloc(USER, _HUGE, most >> _HUGE, until_failure=True)
    antagonised = []
    for kind in (USER, USER_PINNED):
        script = Scripted(design, memory, compaction=kind == USER)
        _antagonise(script, kind)
        antagonised.append(script.alloc(SCARCE, 0, most, until_failure=True).obtained)
        script.check()
    full = Scripted(design, memory, watermarks=False)
    _antagonise(full, USER_PINNED, 100)
    first = full.alloc(SCARCE, 0, _ATTEMPTS).obtained
    return Secretmem(
        design.name,
        got.obtained,
        antagonised[0],
        antagonised[1],
        first,
        before.obtained,
        after.obtained,
        stranded if design.protects else 0,
        splits,
    )


def secretmem(
    designs: Sequence[str | Design], memory: str = "1G", *, progress: Callable[[str], None] | None = None
) -> list[Secretmem]:
    """The scenario for each design, on one zone of ``memory``.

    Raises ValueError for unknown designs and sizes.
    """
    rows = []
    for design in map(as_design, designs):
        if progress:
            progress(design.name)
        rows.append(_one(design, memory))
    return rows


def secretmem_text(rows: Sequence[Secretmem]) -> str:
    """A table, as Markdown."""
    head = (
        "design",
        "idle",
        "between movable pieces",
        "between pinned pieces",
        f"first {_ATTEMPTS}, no block whole",
        "2M pages before",
        "after",
        "stranded",
        "2M leaves split",
    )
    cells = [
        (
            f"`{row.design}`",
            mib(row.idle),
            mib(row.movable),
            mib(row.pinned),
            str(row.first),
            str(row.huge_before),
            str(row.huge_after),
            mib(row.stranded),
            f"{row.splits:,}",
        )
        for row in rows
    ]
    return table(head, cells)


def as_json(rows: Sequence[Secretmem]) -> list[dict[str, Any]]:
    """One object a design."""
    return [asdict(row) for row in rows]
