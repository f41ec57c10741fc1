"""Compaction: gates, deferral, a run, and who starts one (mm/compaction.c, mm/page_alloc.c, 7.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from asi_pa.kernel.gfp import GFP_NAMES, Migratetype

from . import pcp
from .compact_state import CompactState
from .migrate import ENOMEM, LruBatch, Owners, migrate_pages
from .page_alloc import watermark_ok
from .request import Request
from .scanners import isolate_freepages, isolate_migratepages
from .tables import ALLOC_CMA, ALLOC_WMARK_MASK, PAGE_ALLOC_COSTLY_ORDER, WMARK_HIGH, WMARK_LOW, WMARK_MIN
from .zone import Allocation, Capture, Zone

if TYPE_CHECKING:
    from .machine import Machine

__all__ = ["ASYNC", "FULL", "LIGHT", "SKIPPED", "SUCCESS", "Compactor", "Run", "room_to_compact"]

_IO, _FS = GFP_NAMES["__GFP_IO"], GFP_NAMES["__GFP_FS"]
#: enum migrate_mode; enum compact_priority; enum compact_result.
MODE_ASYNC, MODE_LIGHT, MODE_SYNC = 0, 1, 2
FULL, LIGHT, ASYNC = 0, 1, 2
NOT_SUITABLE, SKIPPED, DEFERRED, NO_PAGE, CONTINUE, COMPLETE, PARTIAL, CONTENDED, SUCCESS = range(9)
EXTFRAG_THRESHOLD = 500
PROACTIVENESS = 20


def compact_gap(zone: Zone, order: int) -> int:
    """Free pages beyond the mark (include/linux/compaction.h)."""
    return min(2 << order, 32) if zone.kernel.compact_gap_is_capped else 2 << order


def room_to_compact(zone: Zone, order: int, mark: int, highest: int, more: int) -> bool:
    """__compaction_suitable: free pages to move into, were there ``more`` of them."""
    mark += compact_gap(zone, order)
    if order > PAGE_ALLOC_COSTLY_ORDER:
        mark += zone.spec.wmark[WMARK_LOW] - zone.spec.wmark[WMARK_MIN]
    return watermark_ok(zone, 0, mark, highest, ALLOC_CMA, zone.nr_free_pages.read() + more)


class Run:
    """struct compact_control: what one run wants, where its scanners are, what it holds."""

    def __init__(self, compactor: Compactor, order: int, mode: int) -> None:
        self.compactor = compactor
        machine = compactor.machine
        self.machine = machine
        self.lru = compactor.lru
        self.owners = compactor.owners
        self.zone = machine.zones[0]
        self.order = order
        self.mode = mode
        self.freetype = machine.tables.start(Migratetype.UNMOVABLE, True)
        self.migratetype = Migratetype.UNMOVABLE
        self.movable: int | None = machine.tables.start(Migratetype.MOVABLE, True)
        #: Mapped (True) or unmapped blocks only, or all of them.
        self.side: bool | None = None
        #: Does a free block of the other side serve, too?
        self.flips = False
        self.stay_on(machine.tables.mapped[machine.tables.start(Migratetype.MOVABLE, True)])
        self.alloc_flags = WMARK_MIN
        self.highest = 3
        self.fs = True
        self.direct = self.proactive = False
        self.whole_zone = self.ignore_skip = self.ignore_suitable = False
        self.search_failures = 0
        self.search_order = max(order, 0)
        self.fast_start: int | None = None
        self._begin()

    def _begin(self) -> None:
        self.migrate = self.free_at = 0
        self.finish_block = False
        self.wanted = 0
        self.held: list[list[int]] = [[] for _ in range(self.zone.max_page_order + 1)]
        self.held_pages = 0
        self.migrate_scanned = self.free_scanned = self.moved = 0

    def stay_on(self, mapped: bool) -> None:
        """Sound designs: a page stays on its side of the mapping, so that a run has one."""
        tables = self.machine.tables
        if tables.design.compaction_same_side:
            self.side = mapped
            lists = [tables.start(Migratetype.MOVABLE, sensitive) for sensitive in (False, True)]
            self.movable = next((ft for ft in reversed(lists) if tables.mapped[ft] == mapped), None)

    def on_side(self, block: int) -> bool:
        return self.side is None or self.zone.is_mapped(block) == self.side

    # What the scanners and migration need

    def log(self, kind: int, a: int, b: int, c: int = 0, d: int = 0) -> None:
        self.compactor.log(kind, a, b, c, d)

    def shown(self, pfn: int) -> int:
        """A position as logged."""
        return pfn - self.zone.spec.start_pfn

    def suits_skip(self, pfn: int) -> bool:
        """isolation_suitable."""
        return self.ignore_skip or not self.zone.compact.skip[self.zone.block_index(pfn)]

    def hold(self, pfn: int, order: int) -> None:
        """An isolated free block, last of its list."""
        self.held[order].append(pfn)
        self.held_pages += 1 << order

    def take_target(self, order: int) -> int | None:
        """compaction_alloc."""
        for attempt in range(2):
            if attempt:
                isolate_freepages(self)
            for high in range(order, len(self.held)):
                if self.held[high]:
                    pfn = self.held[high].pop(0)
                    for lower in range(high - 1, order - 1, -1):
                        self.held[lower].insert(0, pfn + (1 << lower))
                    self.held_pages -= 1 << order
                    self.wanted -= 1 << order
                    return pfn
        return None

    def put_target(self, pfn: int, order: int) -> None:
        """compaction_free."""
        self.held[order].insert(0, pfn)
        self.held_pages += 1 << order
        self.wanted += 1 << order

    def put_back(self, folios: list[int]) -> None:
        """putback_movable_pages."""
        for pfn in folios:
            self.lru.add(self.zone, pfn, self.zone.allocated[pfn].order)

    def settle(self, used: Allocation, target: int) -> None:
        """A folio is at its new place."""
        self.machine.settle(self.zone, used, target)

    def free(self, pfn: int, order: int) -> None:
        """The old place is free."""
        self.machine.give_back(self.zone, pfn, order)

    # The gate

    def _free_pages(self) -> int:
        """NR_FREE_PAGES; with vm.defrag_mode kcompactd counts pages in free pageblocks."""
        zone = self.zone
        if self.direct or not self.machine.spec.defrag_mode:
            return zone.nr_free_pages.read()
        orders = range(zone.pageblock_order, zone.max_page_order + 1)
        return sum(zone.nr_free(order) << order for order in orders)

    def gate(self) -> int:
        """compaction_suit_allocation_order."""
        zone = self.zone
        mark = zone.wmark(self.alloc_flags & ALLOC_WMARK_MASK)
        if watermark_ok(zone, self.order, mark, self.highest, self.alloc_flags, self._free_pages()):
            return SUCCESS
        gap = compact_gap(zone, self.order)
        costly = self.order > PAGE_ALLOC_COSTLY_ORDER
        without_cma = costly and self.mode == MODE_ASYNC and not self.alloc_flags & ALLOC_CMA
        without_cma = without_cma and zone.kernel.compact_async_gate_without_cma
        if without_cma and not watermark_ok(zone, 0, mark + gap, self.highest, 0):
            return SKIPPED
        result = CONTINUE
        if not room_to_compact(zone, self.order, mark, self.highest, 0):
            result = SKIPPED
        elif costly and 0 <= self._fragmentation_index() <= EXTFRAG_THRESHOLD:
            result = NOT_SUITABLE
        self.log(10, self.order, result)
        return CONTINUE if result == CONTINUE else SKIPPED

    def _fragmentation_index(self) -> int:
        zone = self.zone
        counts = [zone.nr_free(order) for order in range(zone.max_page_order + 1)]
        if any(counts[self.order :]):
            return -1000
        blocks = sum(counts)
        pages = sum(n << order for order, n in enumerate(counts))
        return 1000 - (1000 + pages * 1000 // (1 << self.order)) // blocks if blocks else 0

    # Finished?

    def met(self) -> bool:
        """compact_scanners_met."""
        return self.free_at >> self.zone.pageblock_order <= self.migrate >> self.zone.pageblock_order

    def finished(self) -> int:
        """compact_finished."""
        result = self._finished()
        self.log(9, self.order, result)
        return CONTINUE if result == NO_PAGE else result

    def _finished(self) -> int:
        zone, state = self.zone, self.zone.compact
        if self.met():
            state.cached_migrate = [zone.spec.start_pfn] * 2
            state.cached_free = zone.block_start(zone.spec.end_pfn - 1)
            state.flush |= self.direct
            return COMPLETE if self.whole_zone else PARTIAL
        if self.proactive:
            counts = [zone.nr_free(order) << order for order in range(zone.max_page_order + 1)]
            pages = sum(counts)
            scattered = sum(counts[: zone.pageblock_order]) * 100 // pages if pages else 0
            return CONTINUE if scattered > 100 - PROACTIVENESS else SUCCESS
        if self.order < 0 or self.migrate != zone.block_start(self.migrate):
            return CONTINUE
        if self.machine.spec.defrag_mode and not self.direct:
            mark = zone.wmark(WMARK_HIGH)
            ok = watermark_ok(zone, self.order, mark, self.highest, self.alloc_flags, self._free_pages())
            return SUCCESS if ok else CONTINUE
        return SUCCESS if self._would_find() else NO_PAGE

    def _would_find(self) -> bool:
        zone, tables = self.zone, self.zone.tables
        movable = self.migratetype is Migratetype.MOVABLE
        for order in range(self.order, zone.max_page_order + 1):
            lists = zone.free_list[order]
            if self.flips and any(lists[ft] for ft in range(tables.count) if tables.ordinary(ft)):
                return True
            cma = tables.sibling(Migratetype.CMA, self.freetype) if movable else None
            if lists[self.freetype] or (cma is not None and lists[cma]):
                return True
            claims = not movable or order >= zone.pageblock_order // 2
            if claims and any(lists[other] for other in tables.fallbacks[self.freetype]):
                return True
        return False

    # The run

    def compact(self, zone: Zone) -> int:
        """compact_zone."""
        self.zone = zone
        self._begin()
        if self.order > 0:
            result = self.gate()
            if result != CONTINUE:
                return result
            if zone.compact.restarting(self.order):
                zone.compact.reset(zone)
        self._positions()
        self.machine.counts.compactions += 1
        self.log(6, self.shown(self.migrate), self.shown(self.free_at), self.mode, int(self.whole_zone))
        self.lru.drain()
        result = self._batches()
        released = [(order, pfn) for order, pfns in enumerate(self.held) for pfn in pfns]
        for order, pfn in released:
            zone.allocated[pfn] = Allocation(
                order, compound=False, lru=False, sensitive=zone.tables.tracks and not zone.is_mapped(pfn)
            )
            self.free(pfn, order)
        if released:
            highest = zone.block_start(max(pfn for _, pfn in released))
            zone.compact.cached_free = max(zone.compact.cached_free, highest)
        self.log(7, self.shown(self.migrate), self.shown(self.free_at), result)
        self.log(8, self.migrate_scanned, self.free_scanned, self.search_failures, self.search_order)
        self.machine.counts.compact_migrate_scanned += self.migrate_scanned
        self.machine.counts.compact_free_scanned += self.free_scanned
        self.machine.counts.compact_moved += self.moved
        self.machine.counts.compact_success += result == SUCCESS
        return result

    def _positions(self) -> None:
        zone, state = self.zone, self.zone.compact
        last = zone.block_start(zone.spec.end_pfn - 1)
        self.migrate, self.free_at = zone.spec.start_pfn, last
        if self.whole_zone:
            return
        if not zone.spans(state.cached_free):
            state.cached_free = last
        if not zone.spans(state.cached_migrate[self.mode != MODE_ASYNC]):
            state.cached_migrate = [zone.spec.start_pfn] * 2
        self.migrate = state.cached_migrate[self.mode != MODE_ASYNC]
        self.free_at = state.cached_free
        self.whole_zone = self.migrate <= state.init_migrate

    def _batches(self) -> int:
        zone, state = self.zone, self.zone.compact
        together = self.mode == MODE_ASYNC and state.cached_migrate[0] == state.cached_migrate[1]
        last: int | None = None
        while True:
            result = self.finished()
            if result != CONTINUE:
                return result
            self.finish_block = last == zone.block_start(self.migrate)
            while True:
                folios = isolate_migratepages(self)
                isolated = bool(folios)
                if not isolated:
                    if together:
                        state.cached_migrate[1] = state.cached_migrate[0]
                    break
                together = False
                last = max(zone.spec.start_pfn, zone.block_start(self.migrate - 1))
                error, left = migrate_pages(self, folios)
                self.wanted = 0
                if not error:
                    break
                self.put_back(left)
                if error == -ENOMEM and not self.met():
                    return CONTENDED
                aligned = self.migrate == zone.block_start(self.migrate)
                if aligned or self.ignore_skip or self.finish_block or self.mode == MODE_SYNC:
                    break
                self.finish_block = True
                if self.order == zone.pageblock_order:
                    last = None
            if isolated and zone.capture is not None and zone.capture.pfn is not None:
                return SUCCESS
            if self.order > 0 and last is not None and last < self.migrate & -(1 << self.order):
                self.lru.drain()
                pcp.drain(zone, self.machine.cpu)
                last = None


class Compactor:
    """Compaction of one machine: who calls it, the batch on its way to the LRU, the log."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.lru = LruBatch()
        self.owners = Owners()
        self.rows: list[list[int]] | None = None

    def log(self, kind: int, a: int, b: int, c: int = 0, d: int = 0) -> None:
        """A row as recordings have it."""
        if self.rows is not None:
            words = [((x & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000 for x in (a, b, c, d)]
            self.rows.append([self.machine.zones[0].now, kind, *words])

    def _deferral(self, kind: int, zone: Zone, order: int) -> None:
        state: CompactState = zone.compact
        self.log(kind, order, state.considered, state.shift, state.order_failed)

    def _deferred(self, zone: Zone, order: int) -> bool:
        deferred = zone.compact.deferred(order)
        if deferred:
            self._deferral(11, zone, order)
        return deferred

    def _succeeded(self, zone: Zone, order: int, *, allocated: bool) -> None:
        zone.compact.succeeded(order, allocated=allocated)
        self._deferral(13, zone, order)

    def _failed(self, zone: Zone, order: int) -> None:
        zone.compact.failed(order)
        self._deferral(12, zone, order)

    def try_zones(
        self, zones: list[Zone], order: int, request: Request, flags: int, priority: int, capture: int | None
    ) -> tuple[int, Zone | None, int | None]:
        """try_to_compact_pages: (result, the zone and the page of a capture)."""
        result = SKIPPED
        if not request.gfp & _IO:
            return SKIPPED, None, None
        for zone in zones:
            if priority > FULL and self._deferred(zone, order):
                result = max(result, DEFERRED)
                self.machine.counts.compact_deferred += 1
                continue
            run = Run(self, order, MODE_ASYNC if priority == ASYNC else MODE_LIGHT)
            run.freetype, run.migratetype = request.freetype, request.migratetype
            run.alloc_flags, run.highest = flags, request.highest
            block = self.machine.spec.pageblock_order
            promoted = capture is not None and order > capture
            run.flips = promoted and order == block and self.machine.tables.design.flips != "none"
            if not run.flips and order < block:
                run.stay_on(self.machine.tables.mapped[request.freetype])
            run.fs = bool(request.gfp & _FS)
            run.direct = True
            run.whole_zone = run.ignore_skip = run.ignore_suitable = priority == FULL
            zone.capture = None if capture is None else Capture(capture, request.freetype)
            status = run.compact(zone)
            page = zone.capture.pfn if zone.capture else None
            zone.capture = None
            if page is not None:
                status = SUCCESS
            result = max(result, status)
            if status == SUCCESS:
                self._succeeded(zone, order, allocated=False)
                return result, zone, page
            if priority != ASYNC and status in (COMPLETE, PARTIAL):
                self._failed(zone, order)
        return result, None, None

    def direct(
        self,
        zones: list[Zone],
        order: int,
        wanted: int,
        request: Request,
        flags: int,
        priority: int,
        attempt: Callable[[], tuple[Zone, int] | None],
    ) -> tuple[int, tuple[Zone, int] | None]:
        """__alloc_pages_direct_compact: (result, what it got)."""
        if wanted == 0:
            return NOT_SUITABLE, None
        result, zone, page = self.try_zones(zones, wanted, request, flags, priority, order)
        fails = self.machine.kernel.compact_deferred_fails
        if result == SKIPPED or (result == DEFERRED and fails):
            return result, None
        self.machine.counts.compact_stall += 1
        if zone is not None and page is not None:
            zone.hand_out(page, order, request)
            found: tuple[Zone, int] | None = (zone, page)
        else:
            found = attempt()
        if found is None:
            return result, None
        self.machine.counts.compact_stall_success += 1
        found[0].compact.flush = False
        self._succeeded(found[0], wanted, allocated=True)
        return result, found

    def node(self, nid: int, *, proactive: bool) -> None:
        """compact_node."""
        run = Run(self, -1, MODE_LIGHT if proactive else MODE_SYNC)
        run.proactive = proactive
        run.whole_zone = run.ignore_skip = True
        for zone in self.machine.zones:
            if zone.spec.nid == nid and zone.present:
                run.compact(zone)

    def kcompactd(self, nid: int, order: int, highest: int) -> None:
        """kcompactd_do_work."""
        run = Run(self, order, MODE_LIGHT)
        run.highest = highest
        if self.machine.spec.defrag_mode:
            run.alloc_flags = WMARK_HIGH
        for zone in self.machine.zones:
            if zone.spec.nid != nid or not zone.present or zone.spec.zone_idx > highest:
                continue
            if self._deferred(zone, order):
                continue
            run.zone = zone
            if run.gate() != CONTINUE:
                continue
            run.whole_zone = False
            status = run.compact(zone)
            if status == SUCCESS:
                self._succeeded(zone, order, allocated=False)
            elif status in (COMPLETE, PARTIAL):
                for cpu in range(self.machine.spec.cpus):
                    zone.this_cpu = cpu
                    pcp.drain(zone, cpu)
                zone.this_cpu = self.machine.cpu
                self._failed(zone, order)
