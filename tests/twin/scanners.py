"""Compaction's two scanners (mm/compaction.c, 7.2)."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from asi_pa.kernel.gfp import Migratetype

from .compact_state import skip_persistent
from .isolation import isolate_free_page
from .tables import ALLOC_CMA, PAGE_ALLOC_COSTLY_ORDER

if TYPE_CHECKING:
    from .compaction import Run

__all__ = ["isolate_freepages", "isolate_migratepages"]

CLUSTER = 32  # COMPACT_CLUSTER_MAX
ASYNC = 0
_U64 = (1 << 64) - 1
#: Where a fast search began is used up (ULONG_MAX).
USED_UP = -2

Blocks = OrderedDict[int, None]


def _make_last(blocks: Blocks, pfn: int) -> None:
    """move_freelist_tail: the list begins behind ``pfn``."""
    for key in list(blocks):
        blocks.move_to_end(key)
        if key == pfn:
            return


def _make_first(blocks: Blocks, pfn: int) -> None:
    """move_freelist_head: the list begins with ``pfn``."""
    for key in list(blocks):
        if key == pfn:
            return
        blocks.move_to_end(key)


# The migration scanner


def _takes_movable(run: Run) -> bool:
    zone = run.zone
    if run.migratetype is Migratetype.MOVABLE:
        return True
    return zone.kernel.compact_block_takes_movable and run.order >= zone.pageblock_order


def _source_suits(run: Run, block: int) -> bool:
    """suitable_migration_source."""
    zone = run.zone
    if skip_persistent(zone, block):
        return False
    if not run.on_side(block):
        return False
    if not run.direct:
        return True
    migratetype = zone.migratetype(zone.type_of(block))
    cma = migratetype is Migratetype.CMA
    if cma and zone.kernel.compact_cma_needs_flag and not run.alloc_flags & ALLOC_CMA:
        return False
    if run.mode != ASYNC:
        return True
    if _takes_movable(run):
        return cma or migratetype is Migratetype.MOVABLE
    return migratetype is run.migratetype


def _fast_find(run: Run) -> int:
    """fast_find_migrateblock: a block with free pages below the order, from the MOVABLE lists' heads."""
    zone = run.zone
    first = run.migrate == zone.spec.start_pfn
    if (
        run.ignore_skip
        or run.finish_block
        or run.order <= PAGE_ALLOC_COSTLY_ORDER
        or not (first or run.migrate == zone.block_start(run.migrate))
        or (run.direct and not _takes_movable(run))
        or run.movable is None
    ):
        return run.migrate
    limit = (CLUSTER >> run.search_failures) + 1
    distance = (run.free_at - run.migrate) >> (1 if first else 3)
    high = zone.block_start(run.migrate + distance)
    scanned = 0
    found = None
    for order in range(run.order - 1, PAGE_ALLOC_COSTLY_ORDER - 1, -1):
        if found is not None or scanned >= limit:
            break
        blocks = zone.free_list[order][run.movable]
        for pfn in list(blocks):
            scanned += 1
            if scanned > limit:
                _make_last(blocks, pfn)
                break
            if pfn < high and not zone.compact.skip[zone.block_index(pfn)]:
                _make_last(blocks, pfn)
                if run.fast_start != USED_UP:
                    run.fast_start = pfn if run.fast_start is None else min(run.fast_start, pfn)
                found = max(zone.block_start(pfn), zone.spec.start_pfn)
                run.search_failures = 0
                break
    run.migrate_scanned += scanned
    if found is not None:
        return found
    run.search_failures += 1
    if run.fast_start not in (None, USED_UP):
        assert run.fast_start is not None
        run.migrate, run.fast_start = run.fast_start, USED_UP
    return run.migrate


def _past(run: Run, pfn: int) -> None:
    """update_cached_migrate: behind the pageblock that begins at ``pfn``."""
    zone, state = run.zone, run.zone.compact
    end = zone.block_start(pfn) + zone.pageblock_nr_pages
    for k in range(1 if run.mode == ASYNC else 2):
        state.cached_migrate[k] = max(state.cached_migrate[k], end)


def isolate_migratepages(run: Run) -> list[int]:
    """Folios of one pageblock, the last first."""
    zone, size = run.zone, run.zone.pageblock_nr_pages
    low = _fast_find(run)
    found = low != run.migrate and run.search_failures == 0
    end = zone.block_start(low) + size
    while end <= run.free_at:
        start = max(end - size, zone.spec.start_pfn)
        at_start = low == zone.block_start(low) or low == zone.spec.start_pfn
        if not (at_start and not found and not run.suits_skip(start)):
            if _source_suits(run, start):
                return _isolate_block(run, low, end)
            _past(run, end)
        found = False
        run.migrate = low = end
        end += size
    return []


def _look(run: Run, pfn: int) -> tuple[str, int]:
    """("pass" | "fail" | "take", pages) of a frame."""
    zone = run.zone
    if pfn in zone.buddy:
        return "pass", 1 << zone.buddy[pfn]
    used = zone.allocated.get(pfn)
    if used is None:
        return "fail", 1
    if (
        used.compound
        and used.order
        and (used.order >= zone.pageblock_order or (run.order > 0 and used.order >= run.order))
    ):
        return "fail", 1 << used.order
    if not zone.is_lru(pfn) or not run.fs:
        return "fail", 1
    wrapper = run.machine.wrapper
    if wrapper is not None and wrapper.wants_remapped(used):
        return "fail", 1
    return "take", 1 << used.order


def _isolate_block(run: Run, low: int, end: int) -> list[int]:
    """isolate_migratepages_block."""
    zone, start = run.zone, low
    taken: list[int] = []
    pages = scanned = 0
    picky = run.direct and run.mode == ASYNC
    unit = 1 << max(run.order, 0)
    boundary = (low & -unit) + unit
    block = zone.block_index(low)
    valid = updated = False
    run.migrate = low
    while low < end:
        if picky and low >= boundary:
            if pages:
                break
            boundary = (low & -unit) + unit
        scanned += 1
        if not valid and (low == zone.block_start(low) or low == zone.spec.start_pfn):
            if not run.suits_skip(low):
                low = end
                break
            valid = True
        what, size = _look(run, low)
        scanned += size - 1
        if what == "take":
            if valid and not updated:
                updated = True
                if not run.ignore_skip:
                    if zone.compact.skip[block] and not run.finish_block:
                        low = end
                        break
                    zone.compact.skip[block] = True
            zone.set_lru(low, zone.allocated[low].order, False)
            taken.insert(0, low)
            run.wanted += size
            pages += size
            low += size
            if run.wanted >= CLUSTER and not run.finish_block:
                break
            continue
        low += size
        if what == "fail" and picky:
            run.put_back(taken)
            taken, pages, run.wanted = [], 0, 0
            if low <= boundary:
                low, boundary = boundary, boundary + unit
    low = min(low, end)
    if low == end and (not pages or run.finish_block):
        if valid and not updated:
            zone.compact.skip[block] = True
        _past(run, end)
    run.log(2, run.shown(start), run.shown(low), scanned, pages)
    run.migrate_scanned += scanned
    run.migrate = low
    return taken


# The free scanner


def _target_suits(run: Run, block: int) -> bool:
    """suitable_migration_target."""
    zone = run.zone
    wanted = run.order if run.order > 0 else zone.pageblock_order
    if zone.buddy.get(block, -1) >= wanted:
        return False
    if not run.on_side(block):
        return False
    kinds = (Migratetype.MOVABLE, Migratetype.CMA)
    return run.ignore_suitable or zone.migratetype(zone.type_of(block)) in kinds


def _free_block(run: Run, start: int, end: int, stride: int) -> tuple[int, int]:
    """isolate_freepages_block: (where it came to, pages isolated)."""
    zone, pfn = run.zone, start
    scanned = total = 0
    while pfn < end:
        scanned += 1
        used = zone.allocated.get(pfn)
        if used is not None and used.compound and used.order:
            if pfn + (1 << used.order) <= end:
                pfn += (1 << used.order) - 1
                scanned += (1 << used.order) - 1
        elif pfn in zone.buddy:
            order = zone.buddy[pfn]
            if not isolate_free_page(zone, pfn, order):
                break
            scanned += (1 << order) - 1
            total += 1 << order
            run.hold(pfn, order)
            pfn += 1 << order
            if run.held_pages >= run.wanted:
                break
            pfn -= 1
        pfn += stride
    pfn = min(pfn, end)
    run.log(3, run.shown(start), run.shown(pfn), scanned, total)
    run.free_scanned += scanned
    return pfn, total


def isolate_freepages(run: Run) -> None:
    """isolate_freepages: the fast search, else downwards from where the scanner is."""
    zone, size = run.zone, run.zone.pageblock_nr_pages
    _fast_isolate(run)
    if run.held_pages:
        return
    at = run.free_at
    start = zone.block_start(at)
    end = min(start + size, zone.spec.end_pfn)
    low = zone.block_start(run.migrate) + size
    stride = CLUSTER if run.mode == ASYNC else 1
    while start >= low:
        if _target_suits(run, start) and run.suits_skip(start):
            at, got = _free_block(run, at, end, stride)
            if at == end:
                zone.compact.skip[zone.block_index(start)] = True
                zone.compact.cached_free = min(zone.compact.cached_free, start - size)
            if run.held_pages >= run.wanted:
                if at >= end:
                    at = start - size
                break
            if at < end:
                break
            stride = 1 if got else min(CLUSTER, 2 * stride)
        end = start
        start -= size
        at = start
    run.free_at = at


def _next_order(run: Run, order: int) -> int:
    """next_search_order: round robin downwards; -1 at the end."""
    order = order - 1 if order > 0 else run.order - 1
    if order == run.search_order:
        run.search_order = run.search_order - 1 if run.search_order > 0 else run.order - 1
        return -1
    return order


class _Search:
    """fast_isolate_freepages: what a search of the lists finds."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.from_start = run.free_at >= run.zone.compact.init_free
        size = run.zone.pageblock_nr_pages
        self.limit = size >> 1 if self.from_start else max(1, ((CLUSTER >> run.search_failures) + 1) >> 1)
        distance = (run.free_at - run.migrate) & _U64
        self.low = ((run.free_at - (distance >> 2)) & _U64) & -size
        self.least = ((run.free_at - (distance >> 1)) & _U64) & -size
        self.low = max(self.low, self.least)
        self.highest = -1
        self.scanned = 0
        self.total = 0

    def lists(self) -> int | None:
        """The page taken, after a look at the orders in turn."""
        run, zone = self.run, self.run.zone
        run.search_order = min(run.order - 1, run.search_order)
        order = run.search_order
        taken = None
        while order >= 0 and taken is None:
            if zone.nr_free(order):
                pfn, walked = self._one_list(order)
                if pfn is not None:
                    if isolate_free_page(zone, pfn, order):
                        taken = pfn
                        run.hold(pfn, order)
                        self.scanned += (1 << order) - 1
                        self.total += 1 << order
                    else:
                        order = run.search_order + 1
                if run.held_pages >= run.wanted:
                    break
                if walked >= self.limit:
                    self.limit = max(1, self.limit >> 1)
            order = _next_order(run, order)
        return taken

    def _one_list(self, order: int) -> tuple[int | None, int]:
        run, zone = self.run, self.run.zone
        assert run.movable is not None
        blocks = zone.free_list[order][run.movable]
        page = best = stop = None
        walked = 0
        for pfn in reversed(list(blocks)):
            walked += 1
            if pfn >= self.highest:
                self.highest = max(zone.block_start(pfn), zone.spec.start_pfn)
            if pfn >= self.low:
                run.search_failures = 0
                run.search_order = order
                page = pfn
                break
            if pfn >= self.least and (best is None or pfn > best):
                best = pfn
                self.limit >>= 1
            if walked >= self.limit:
                stop = pfn
                break
        self.scanned += walked
        page = best if page is None else page
        first = stop if page is None else page
        if first is not None:
            _make_first(blocks, first)
        return page, walked

    def beginning(self) -> int | None:
        """Nothing was found, and the scan has not begun: where it begins."""
        run, zone = self.run, self.run.zone
        if self.highest >= max(self.least, 0):
            run.free_at = self.highest
            return self.highest
        if run.direct and self.least < zone.spec.end_pfn:
            run.free_at = self.least
            if zone.spans(self.least) and _target_suits(run, self.least):
                return self.least
        return None


def _fast_isolate(run: Run) -> None:
    zone = run.zone
    if run.order <= 0 or run.movable is None:
        return
    search = _Search(run)
    around = search.lists()
    run.log(4, run.shown(search.least), run.shown(run.free_at), search.scanned, search.total)
    if around is None:
        run.search_failures += 1
        if search.from_start:
            around = search.beginning()
    if search.highest >= 0 and search.highest >= zone.compact.cached_free:
        zone.compact.cached_free = search.highest - zone.pageblock_nr_pages
    run.free_scanned += search.scanned
    if around is None or run.held_pages >= run.wanted or (run.direct and run.mode == ASYNC):
        return
    start = max(zone.block_start(around), zone.spec.start_pfn)
    end = min(zone.block_start(around) + zone.pageblock_nr_pages, zone.spec.end_pfn)
    if _free_block(run, start, end, 1)[0] == end:
        zone.compact.skip[zone.block_index(around)] = True
