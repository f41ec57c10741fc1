"""A zone: its frames, pageblock types, free lists and counters (struct zone)."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from asi_pa.kernel.gfp import Migratetype
from asi_pa.kernel.spec import MachineSpec, ZoneSpec
from asi_pa.kernel.versions import Kernel

from . import mapping
from .compact_state import CompactState
from .mapping import Context, Window
from .pcp import PerCpuPages
from .request import Request
from .stats import Stats
from .tables import Tables

__all__ = ["Allocation", "Capture", "Vmstat", "Zone"]


@dataclass(frozen=True)
class Allocation:
    """Pages in use, by the pfn of the first."""

    order: int
    compound: bool
    lru: bool
    sensitive: bool = False
    migratetype: Migratetype = Migratetype.UNMOVABLE
    #: Somebody else holds a reference, so that it does not move.
    pinned: bool = False
    #: A folio whose mapping has a least order.
    unsplittable: bool = False


@dataclass
class Capture:
    """struct capture_control (mm/internal.h, 7.2): who compacts takes its block out of a merge."""

    order: int
    freetype: int
    pfn: int | None = None


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

    def fold(self, cpu: int) -> None:
        """refresh_cpu_vm_stats (mm/vmstat.c, 7.2)."""
        self.folded += self.diff[cpu]
        self.diff[cpu] = 0

    def read(self) -> int:
        """What zone_page_state() sees: without the differences, never negative."""
        return max(self.folded, 0)

    def exact(self) -> int:
        return self.folded + sum(self.diff)


class Zone:
    """The state of one zone, and the elementary steps on its free lists."""

    def __init__(
        self, spec: ZoneSpec, machine: MachineSpec, kernel: Kernel, tables: Tables, stats: Stats
    ) -> None:
        self.spec = spec
        self.machine = machine
        self.kernel = kernel
        self.tables = tables
        self.stats = stats
        #: Of ``flips_s2n`` and ``flips_n2s`` of ``stats`` those in this zone.
        self.flips: Counter[str] = Counter()
        self.pageblock_order = machine.pageblock_order
        self.pageblock_nr_pages = 1 << machine.pageblock_order
        self.max_page_order = machine.max_page_order
        self.managed = spec.managed if spec.managed is not None else _without_holes(spec)
        self.present = spec.present if spec.present is not None else self.managed

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
        #: Is the pageblock present in the protected tree (Tables.tracks)?
        self.block_mapped = [tables.tracks and tables.mapped[tables.boot]] * len(self.block_type)
        self.compact = CompactState(len(self.block_type))
        #: Of the run of compaction that is under way, if it captures.
        self.capture: Capture | None = None
        #: Per frame from the first pageblock on: does it hold what a sensitive owner wrote?
        self.dirty = bytearray(len(self.block_type) << self.pageblock_order)
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
        #: ZONE_BOOSTED_WATERMARK: the next request that may wakes kswapd.
        self.boosted = False
        #: ZONE_BELOW_HIGH: the high watermark failed, the per-CPU lists shrink.
        self.below_high = False
        self.pcp = [PerCpuPages(spec.pcp, tables) for _ in range(machine.cpus)]
        #: Did a request wake the worker that unmaps ahead of need?
        self.stock_due = False
        #: Did something wake the worker that gives back what is free beyond a mark?
        self.back_due = False
        #: Design "pool": its free lists by order, head first; and by pageblock, is it marked as the pool's?
        self.pool: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(self.max_page_order + 1)]
        self.pool_marks = [False] * len(self.block_type)
        #: Design "queue": pfn -> order of the freed pages that wait for the worker, who starts at the end.
        self.queue: dict[int, int] = {}
        #: [before, after] of allocations that moved out of a pageblock that was to flip, if nobody was told.
        self.moved: list[list[int]] = []
        #: Tells who holds a page of a replay where it went; False where nobody does.
        self.tell: Callable[[int, int], bool] | None = None
        #: The event log, in the recorded rows' shape, and the number of the operation under way.
        self.events: list[tuple[int, int, int, int, int]] | None = None
        self.now = 0
        #: What another CPU does where the lock is dropped: (which window, pfn, order).
        self.window: Callable[[int, int, int], None] | None = None

    def lists_used(self) -> None:
        """The workers that this wakes: free lists, or a pool, were asked."""
        self.stock_due |= self.tables.stocks
        self.back_due |= self.tables.gives_back == "eager"

    def lock_dropped(self, at: Window, pfn: int, order: int) -> None:
        """The zone lock is dropped here: another CPU may act."""
        if self.window is not None:
            self.window(at, pfn, order)

    # Frames and pageblocks

    def spans(self, pfn: int) -> bool:
        """zone_spans_pfn."""
        return self.spec.start_pfn <= pfn < self.spec.end_pfn

    def is_reserved(self, pfn: int) -> bool:
        """PG_reserved; frames outside of the zone count as such."""
        return not self.spans(pfn) or bool(self.reserved[pfn - self.spec.start_pfn])

    def set_reserved(self, pfn: int, pages: int, value: bool) -> None:
        start = pfn - self.spec.start_pfn
        self.reserved[start : start + pages] = bytes([value]) * pages

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

    def block_index(self, pfn: int) -> int:
        """Which pageblock of the zone it is in."""
        return (pfn >> self.pageblock_order) - self.first_block

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
            return self.tables.isolate(base)
        return base

    def set_base_type(self, pfn: int, freetype: int) -> None:
        """The type alone: whoever calls has seen to the mapping."""
        self.block_type[(pfn >> self.pageblock_order) - self.first_block] = freetype

    def set_isolated(self, pfn: int, isolated: bool) -> None:
        """toggle_pageblock_isolate (7.2): ISOLATE is a bit, the type beneath survives."""
        self.block_isolated[(pfn >> self.pageblock_order) - self.first_block] = isolated

    def set_type(self, pfn: int, order: int, freetype: int, ctx: Context) -> None:
        """change_pageblock_range: every pageblock of the block gets the type, and ISOLATE stays on it."""
        for start in self.blocks(pfn, order):
            new = mapping.retyped(self, start, freetype, ctx) if self.tables.tracks else freetype
            self.set_base_type(start, new)

    def all_blocks(self) -> Iterator[int]:
        """First pfns of all pageblocks."""
        count = len(self.block_type)
        return (block << self.pageblock_order for block in range(self.first_block, self.first_block + count))

    def is_mapped(self, pfn: int) -> bool:
        """Is the pageblock of ``pfn`` present in the protected tree?"""
        return self.block_mapped[(pfn >> self.pageblock_order) - self.first_block]

    def set_mapped(self, pfn: int, mapped: bool) -> None:
        self.block_mapped[(pfn >> self.pageblock_order) - self.first_block] = mapped

    def set_dirty(self, pfn: int, pages: int, value: bool) -> None:
        start = pfn - (self.first_block << self.pageblock_order)
        self.dirty[start : start + pages] = bytes([value]) * pages

    def count_dirty(self, pfn: int, pages: int) -> int:
        start = pfn - (self.first_block << self.pageblock_order)
        return self.dirty.count(1, start, start + pages)

    # Owners

    def hand_out(self, pfn: int, order: int, request: Request) -> None:
        """prep_new_page: the pages are the requester's."""
        self.allocated[pfn] = Allocation(
            order,
            request.compound,
            request.lru,
            request.sensitive,
            request.migratetype,
            request.pinned,
            request.unsplittable,
        )
        self.set_lru(pfn, order, request.lru)
        if self.tables.tracks:
            mapping.handed_out(self, pfn, order, request.sensitive)

    def give_back(self, pfn: int, order: int) -> None:
        """The pages are nobody's, and on no list yet."""
        used = self.allocated.pop(pfn)
        self.set_lru(pfn, order, False)
        if self.tables.tracks:
            mapping.given_back(self, pfn, order, used.sensitive)

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
        """__del_page_from_free_list: without counting.

        Linked lists need not know which list a block is on, and where September's flip put a CMA
        block's tail on another type's list (Sx-g2), or where a block keeps a bit of its own (v2 of 2026),
        the caller is wrong about it.
        """
        listed = self.free_list[order][freetype]
        if pfn not in listed and (self.tables.design.flip_cma or self.tables.design.blocks_keep_bit):
            listed = next(blocks for blocks in self.free_list[order] if pfn in blocks)
        del listed[pfn]
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

    def is_set_aside(self, pfn: int) -> bool:
        """Is the page in a design's pool or queue?"""
        return any(
            self.queue.get(pfn & -(1 << order), -1) >= order or pfn & -(1 << order) in self.pool[order]
            for order in range(self.max_page_order + 1)
        )

    def owner_of(self, pfn: int) -> int | None:
        """First pfn of the allocation that contains ``pfn`` (compound_head), or None."""
        for order in range(self.max_page_order + 1):
            start = pfn & -(1 << order)
            if start in self.allocated and start + (1 << self.allocated[start].order) > pfn:
                return start
        return None


def _without_holes(spec: ZoneSpec) -> int:
    return spec.spanned - sum(end - start for start, end in spec.holes)
