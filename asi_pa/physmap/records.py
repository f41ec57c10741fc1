"""The vocabulary of the physmap: page-table bits, log records, counters (asi_pa.physmap.physmap has the
model).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

__all__ = [
    "LEAF_NAMES",
    "LOG_DTYPE",
    "PAGE_OFFSET",
    "Cause",
    "Flush",
    "Leaf",
    "LogOp",
    "PageBit",
    "PhysmapCounters",
    "WalkStep",
    "frame_of",
]

#: Start of the direct map with 4-level paging, without KASLR (Documentation/arch/x86/x86_64/mm.rst).
PAGE_OFFSET = 0xFFFF888000000000

#: Leaf sizes by page-table level 1, 2, 3; the names are those of /proc/meminfo's DirectMap lines.
LEAF_NAMES = ("4K", "2M", "1G")


class PageBit(IntEnum):
    """Bits of a page-table entry (arch/x86/include/asm/pgtable_types.h, without the prefix _PAGE_)."""

    PRESENT = 1 << 0
    RW = 1 << 1
    ACCESSED = 1 << 5
    DIRTY = 1 << 6
    PSE = 1 << 7
    GLOBAL = 1 << 8
    NX = 1 << 63


class LogOp(IntEnum):
    """What a log record is about (field ``op``)."""

    MAP = 1
    UNMAP = 2
    SPLIT = 3
    FLUSH = 4
    PROTECT = 5
    COLLAPSE = 6


class Flush(IntEnum):
    """TLB flush asked for, or done (field ``flush``)."""

    NONE = 0
    RANGED = 1
    FULL = 2


class Cause(IntEnum):
    """Why the physmap changed (field ``cause``)."""

    OTHER = 0
    CLAIM = 1
    FLIP = 2
    POOL_REFILL = 3
    SHRINKER = 4
    PAGE_ALLOC = 5
    PAGE_FREE = 6
    MERGE = 7
    HIGHATOMIC = 8
    UNRESERVE = 9
    CONTIG = 10
    HOTPLUG = 11
    SET_MEMORY = 12
    QUEUE_WORKER = 13
    POPULATE = 14


#: One operation on the physmap.  ``tree`` 0 unrestricted, 1 restricted; ``level`` 1 PTE, 2 PMD, 3 PUD,
#: 0 for a flush; ``pfn`` the first frame; ``count`` entries written (SPLIT, COLLAPSE: 512; FLUSH: pages);
#: ``event`` the engine's operation number at the time; ``seq`` has gaps where records were dropped.
LOG_DTYPE = np.dtype(
    {
        "names": ["seq", "op", "tree", "level", "cause", "flush", "pfn", "count", "event"],
        "formats": ["u8", "u1", "u1", "u1", "u1", "u1", "u8", "u8", "u8"],
        "offsets": [0, 8, 9, 10, 11, 12, 16, 24, 32],
        "itemsize": 40,
    }
)


class Leaf(NamedTuple):
    """The entry that decides about a frame, as lookup_address() finds it."""

    level: str
    """4K, 2M or 1G."""
    entry: int
    """The 64-bit entry; its frame is the leaf's first."""
    present: bool


class WalkStep(NamedTuple):
    """One step of a page-table walk."""

    level: str
    """PGD, PUD, PMD or PTE."""
    table_pfn: int
    """The table page read."""
    slot: int
    """Index of the entry in the table, 0-511 (pgd_index() and its kin)."""
    entry: int
    """The 64-bit entry found there."""


@dataclass(frozen=True, kw_only=True)
class PhysmapCounters:
    """What the physmap has done since it was built (the building itself is not counted).

    All are counts; pairs are (unrestricted, restricted), triples are by leaf size (4K, 2M, 1G).
    """

    map_calls: tuple[int, int]
    unmap_calls: tuple[int, int]
    protect_calls: int
    leaf_writes: tuple[tuple[int, int, int], tuple[int, int, int]]
    """Leaf entries written by map, unmap and protect; the 512 entries of a split are not among them."""
    splits_2m: tuple[int, int]
    splits_1g: tuple[int, int]
    collapses_2m: tuple[int, int]
    """2M leaves that set_memory_rox() made out of 512 of 4K."""
    collapses_1g: tuple[int, int]
    tables_allocated: tuple[int, int]
    """Page-table pages."""
    tables_freed: tuple[int, int]
    flushes_ranged: int
    flushes_full: int
    flushes_split: int
    """Of flushes_full: asked for by a split."""
    flushes_others: int
    """Of flushes_ranged: kernel entries were not GLOBAL and INVLPG reached the current address space only, so
    that every other address space's entries go at its next use."""
    flushed_pages: int
    """4K pages invalidated one by one, on each CPU, by the ranged flushes."""
    ipis: int
    """Shootdown interrupts received: (CPUs - 1) per flush; with INVLPGB only for the ranged ones of
    set_memory_*()."""
    skipped_level: int
    """2M blocks that asi_map skipped with a warning: the leaf levels differ, or there is no leaf."""
    skipped_absent: int
    """Entries that asi_map found nothing for in the unrestricted tree."""
    copied_absent: int
    """Entries that asi_map copied from a leaf that is itself not present."""
    redundant: int
    """Pages inside a large leaf that was in the wanted state already."""
    left_mapped: int
    """Pages of removed memory that stayed mapped, in either tree, because their leaf reaches beyond it."""
    log_dropped: int
    """Log records beyond the limit, or for which there was no memory."""

    @property
    def direct_map_level2_splits(self) -> int:
        """/proc/vmstat: 2M leaves of the kernel's own direct map that were split."""
        return self.splits_2m[0]

    @property
    def direct_map_level3_splits(self) -> int:
        """/proc/vmstat: 1G leaves of the kernel's own direct map that were split."""
        return self.splits_1g[0]

    @property
    def direct_map_level2_collapses(self) -> int:
        """/proc/vmstat (7.2): 2M leaves of the kernel's own direct map that formed again."""
        return self.collapses_2m[0]

    @property
    def direct_map_level3_collapses(self) -> int:
        """/proc/vmstat (7.2): 1G leaves of the kernel's own direct map that formed again."""
        return self.collapses_1g[0]


def frame_of(entry: int) -> int:
    """The pfn that a page-table entry holds."""
    return (entry >> 12) & 0xFFFFFFFFFF
