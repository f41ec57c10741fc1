"""A zone: its frames, pageblock types, free lists and counters (struct zone)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from asi_pa.gfp import Migratetype
from asi_pa.kernel import Kernel
from asi_pa.machine import MachineSpec, ZoneSpec

from .pcp import PerCpuPages
from .tables import Tables

__all__ = ["Allocation", "Vmstat", "Zone"]


@dataclass(frozen=True)
class Allocation:
    """Pages in use, by the pfn of the first."""

    order: int
    compound: bool
    lru: bool


class Vmstat:
    """A zone counter with per-CPU differences (mm/vmstat.c __mod_zone_page_state, 7.2)."""

    def __init__(self, cpus: int, threshold: int) -> None:
        self.folded = 0
        self.diff = [0] * cpus
        self.threshold = threshold

    def add(self, cpu: int, delta: int) -> None:
        """Leaving [-threshold, threshold] folds all of this CPU's difference."""
        self.diff[cpu] += delta
        if abs(self.diff[cpu]) > self.threshold:
            self.folded += self.diff[cpu]
            self.diff[cpu] = 0

    def read(self) -> int:
        """What zone_page_state() sees: without the differences, never negative."""
        return max(self.folded, 0)

    def exact(self) -> int:
        return self.folded + sum(self.diff)


class Zone:
    """The state of one zone, and the elementary steps on its free lists."""

    def __init__(self, spec: ZoneSpec, machine: MachineSpec, kernel: Kernel, tables: Tables) -> None:
        self.spec = spec
        self.machine = machine
        self.kernel = kernel
        self.tables = tables
        self.pageblock_order = machine.pageblock_order
        self.pageblock_nr_pages = 1 << machine.pageblock_order
        self.max_page_order = machine.max_page_order
        self.managed = spec.managed if spec.managed is not None else _without_holes(spec)

        #: [order][freetype]: pfns of free blocks, head first.
        self.free_list: list[list[OrderedDict[int, None]]] = [
            [OrderedDict() for _ in tables.names] for _ in range(self.max_page_order + 1)
        ]
        #: PageBuddy: first pfn of every free block -> its order.
        self.buddy: dict[int, int] = {}
        self.first_block = spec.start_pfn >> self.pageblock_order
        last_block = (spec.end_pfn - 1) >> self.pageblock_order
        self.block_type = [tables.boot] * (last_block - self.first_block + 1)
        #: The ISOLATE bit of each pageblock (kernels with Kernel.isolate_is_bit).
        self.block_isolated = [False] * len(self.block_type)
        #: Is the pageblock present in the restricted physmap (designs that protect one)?
        self.block_mapped = [False] * len(self.block_type)
        #: First pfn -> what is in use there.
        self.allocated: dict[int, Allocation] = {}
        #: PG_lru per frame.
        self.lru = bytearray(spec.spanned)
        #: PG_reserved per frame: never handed to the allocator.
        self.reserved = bytearray(spec.spanned)
        for start, end in spec.holes:
            for pfn in range(start, end):
                self.reserved[pfn - spec.start_pfn] = 1

        self.this_cpu = 0
        self.nr_free_pages = Vmstat(machine.cpus, spec.stat_threshold)
        self.nr_free_cma = Vmstat(machine.cpus, spec.stat_threshold)
        self.nr_free_highatomic = 0
        self.nr_reserved_highatomic = 0
        self.nr_isolate_pageblock = 0
        self.watermark_boost = 0
        #: ZONE_BELOW_HIGH: the high watermark failed, the per-CPU lists shrink.
        self.below_high = False
        self.pcp = [PerCpuPages(spec.pcp, tables) for _ in range(machine.cpus)]

    # Frames and pageblocks

    def spans(self, pfn: int) -> bool:
        """zone_spans_pfn."""
        return self.spec.start_pfn <= pfn < self.spec.end_pfn

    def is_reserved(self, pfn: int) -> bool:
        """PG_reserved; frames outside of the zone count as such."""
        return not self.spans(pfn) or bool(self.reserved[pfn - self.spec.start_pfn])

    def is_lru(self, pfn: int) -> bool:
        return bool(self.lru[pfn - self.spec.start_pfn])

    def set_lru(self, pfn: int, order: int, value: bool) -> None:
        start = pfn - self.spec.start_pfn
        self.lru[start : start + (1 << order)] = bytes([value]) * (1 << order)

    def wmark(self, mark: int) -> int:
        """wmark_pages (include/linux/mmzone.h, 7.2)."""
        return self.spec.wmark[mark] + self.watermark_boost

    def block_start(self, pfn: int) -> int:
        return pfn & -self.pageblock_nr_pages

    def blocks(self, pfn: int, order: int) -> Iterator[int]:
        """First pfns of the pageblocks that a block of ``order`` covers (at least one)."""
        return iter(range(self.block_start(pfn), pfn + (1 << order), self.pageblock_nr_pages))

    def base_type(self, pfn: int) -> int:
        """The pageblock's type; where ISOLATE is a bit, the one beneath it."""
        return self.block_type[(pfn >> self.pageblock_order) - self.first_block]

    def type_of(self, pfn: int) -> int:
        """get_pfnblock_migratetype (mm/page_alloc.c, 7.2)."""
        base = self.base_type(pfn)
        if self.block_isolated[(pfn >> self.pageblock_order) - self.first_block]:
            return self.tables.sibling(Migratetype.ISOLATE, base)
        return base

    def set_type(self, pfn: int, order: int, freetype: int) -> None:
        """change_pageblock_range: every pageblock of the block gets the type.

        In the RFC of March 2025 (patch 10) a mapped label maps the pageblock; no label unmaps it.
        """
        for start in self.blocks(pfn, order):
            self.block_type[(start >> self.pageblock_order) - self.first_block] = freetype
        if self.tables.design.label_maps and self.tables.mapped[freetype]:
            self.set_mapped(pfn, order, True)

    def set_mapped(self, pfn: int, order: int, mapped: bool) -> None:
        """asi_map or asi_unmap of every pageblock of the block."""
        for start in self.blocks(pfn, order):
            self.block_mapped[(start >> self.pageblock_order) - self.first_block] = mapped

    def is_isolated(self, pfn: int) -> bool:
        return self.migratetype(self.type_of(pfn)) is Migratetype.ISOLATE

    def migratetype(self, freetype: int) -> Migratetype:
        return self.tables.migratetype[freetype]

    # Free lists

    def account(self, freetype: int, pages: int) -> None:
        """account_freepages (mm/page_alloc.c, 7.2): isolated pages do not count as free."""
        migratetype = self.migratetype(freetype)
        if migratetype is Migratetype.ISOLATE:
            return
        self.nr_free_pages.add(self.this_cpu, pages)
        if migratetype is Migratetype.CMA:
            self.nr_free_cma.add(self.this_cpu, pages)
        elif migratetype is Migratetype.HIGHATOMIC:
            self.nr_free_highatomic += pages

    def link(self, pfn: int, order: int, freetype: int, *, tail: bool) -> None:
        """__add_to_free_list: without counting."""
        blocks = self.free_list[order][freetype]
        blocks[pfn] = None
        if not tail:
            blocks.move_to_end(pfn, last=False)
        self.buddy[pfn] = order

    def unlink(self, pfn: int, order: int, freetype: int) -> None:
        """__del_page_from_free_list: without counting."""
        del self.free_list[order][freetype][pfn]
        del self.buddy[pfn]

    def delete(self, pfn: int, order: int, freetype: int) -> None:
        """del_page_from_free_list."""
        self.unlink(pfn, order, freetype)
        self.account(freetype, -(1 << order))

    def move(self, pfn: int, order: int, old: int, new: int) -> None:
        """move_to_free_list (7.2): to the tail; two counts, the old list's and the new one's."""
        self.unlink(pfn, order, old)
        self.link(pfn, order, new, tail=True)
        self.account(old, -(1 << order))
        self.account(new, 1 << order)

    def head(self, order: int, freetype: int) -> int | None:
        """get_page_from_free_area: the head of a free list."""
        return next(iter(self.free_list[order][freetype]), None)

    def nr_free(self, order: int) -> int:
        """free_area.nr_free: blocks of this order on all lists."""
        return sum(len(blocks) for blocks in self.free_list[order])

    def free_block_of(self, pfn: int) -> int | None:
        """First pfn of the free block that contains ``pfn`` (find_large_buddy, 7.2), or None."""
        for order in range(self.max_page_order + 1):
            start = pfn & -(1 << order)
            if start in self.buddy and start + (1 << self.buddy[start]) > pfn:
                return start
        return None

    def owner_of(self, pfn: int) -> int | None:
        """First pfn of the allocation that contains ``pfn`` (compound_head), or None."""
        for order in range(self.max_page_order + 1):
            start = pfn & -(1 << order)
            if start in self.allocated and start + (1 << self.allocated[start].order) > pfn:
                return start
        return None


def _without_holes(spec: ZoneSpec) -> int:
    return spec.spanned - sum(end - start for start, end in spec.holes)
