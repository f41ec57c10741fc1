"""Taking a block from the buddy lists: own type, CMA, claim, steal, HIGHATOMIC (mm/page_alloc.c)."""

from __future__ import annotations

from enum import IntEnum

from asi_pa.kernel.gfp import Migratetype

from . import buddy, mapping
from .mapping import Context, Window
from .tables import (
    ALLOC_CMA,
    ALLOC_KSWAPD,
    ALLOC_NOFRAGMENT,
    ALLOC_NOSTEAL,
    PAGE_ALLOC_COSTLY_ORDER,
    WMARK_HIGH,
)
from .zone import Zone

__all__ = ["Mode", "RmqueueMode", "reserve_highatomic", "rmqueue", "unreserve_highatomic"]


class RmqueueMode(IntEnum):
    """enum rmqueue_mode (7.2): what was needed for the last page, so that the next begins there."""

    NORMAL = 0
    CMA = 1
    CLAIM = 2
    STEAL = 3


class Mode:
    """A RmqueueMode that callees change."""

    def __init__(self) -> None:
        self.value = RmqueueMode.NORMAL


def rmqueue(zone: Zone, order: int, freetype: int, alloc_flags: int, mode: Mode) -> int | None:
    """One block of ``freetype``, by the cheapest means that works (__rmqueue, 7.2)."""
    cma = zone.tables.sibling(Migratetype.CMA, freetype)
    # Balance: movable requests drain CMA while it holds more than half of the free pages.
    use_cma = alloc_flags & ALLOC_CMA and cma is not None
    if use_cma and zone.nr_free_cma.read() > zone.nr_free_pages.read() // 2:
        pfn = smallest_of(zone, order, cma)
        if pfn is not None:
            return pfn
    if mode.value <= RmqueueMode.NORMAL:
        pfn = buddy.smallest(zone, order, freetype)
        if pfn is not None:
            return pfn
    if mode.value <= RmqueueMode.CMA and use_cma:
        pfn = smallest_of(zone, order, cma)
        if pfn is not None:
            mode.value = RmqueueMode.CMA
            return pfn
    if mode.value <= RmqueueMode.CLAIM:
        pfn = claim(zone, order, freetype, alloc_flags)
        if pfn is not None:
            mode.value = RmqueueMode.NORMAL  # the claimed block feeds the type's own lists
            return pfn
    if not alloc_flags & (ALLOC_NOFRAGMENT | ALLOC_NOSTEAL):
        pfn = steal(zone, order, freetype)
        if pfn is not None:
            mode.value = RmqueueMode.STEAL
            return pfn
    return None


def smallest_of(zone: Zone, order: int, freetype: int | None) -> int | None:
    """buddy.smallest, of a freetype that a design may not have."""
    return None if freetype is None else buddy.smallest(zone, order, freetype)


def find_fallback(zone: Zone, order: int, freetype: int) -> int | None:
    """The first fallback with a block of exactly this order (find_suitable_fallback, 7.2)."""
    for fallback in zone.tables.fallbacks[freetype]:
        if zone.free_list[order][fallback]:
            return fallback
    return None


def claim(zone: Zone, order: int, freetype: int, alloc_flags: int) -> int | None:
    """Turn a fallback's pageblock into one of ours, the largest block first (__rmqueue_claim, 7.2)."""
    min_order = order
    if alloc_flags & ALLOC_NOFRAGMENT or zone.tables.whole_blocks_only[freetype]:
        min_order = max(order, zone.pageblock_order)
    for current in range(zone.max_page_order, min_order - 1, -1):
        if not _worth_claiming(zone, current, freetype):
            return None
        fallback = find_fallback(zone, current, freetype)
        if fallback is None:
            continue
        pfn = zone.head(current, fallback)
        assert pfn is not None
        if current >= zone.pageblock_order:
            _count_extfrag(zone, current)
            return _claim_whole(zone, pfn, order, current, freetype, fallback)
        if boost_watermark(zone) and alloc_flags & ALLOC_KSWAPD:
            zone.boosted = True
        if _claim_partial(zone, pfn, freetype, fallback):
            _count_extfrag(zone, current)
            return buddy.smallest(zone, order, freetype)
    return None


def _count_extfrag(zone: Zone, order: int) -> None:
    """What the tracepoint mm_page_alloc_extfrag reports (include/trace/events/kmem.h, 7.2)."""
    zone.stats.extfrag_events += 1
    zone.stats.extfrag_fragmenting += order < zone.pageblock_order
    zone.stats.extfrag_severe += order <= PAGE_ALLOC_COSTLY_ORDER


def _worth_claiming(zone: Zone, order: int, freetype: int) -> bool:
    """should_try_claim_block (7.2): movable pages leave small blocks alone, they can be migrated."""
    return order >= zone.pageblock_order // 2 or zone.migratetype(freetype) in (
        Migratetype.UNMOVABLE,
        Migratetype.RECLAIMABLE,
    )


def _claim_whole(zone: Zone, pfn: int, order: int, current: int, freetype: int, fallback: int) -> int:
    """A block of whole pageblocks: no scan, no boost (try_to_claim_block, 7.2)."""
    zone.delete(pfn, current, fallback)
    tables = zone.tables
    if tables.design.explicit_maps and tables.mapped[freetype] and not tables.mapped[fallback]:
        # As any other flip, a block at a time; the zone lock is dropped where the design clears outside it.
        unlocked = tables.design.zeroing in ("flip", "dirty")
        if unlocked:
            zone.lock_dropped(Window.TAKEN, pfn, current)
        for block in zone.blocks(pfn, current):
            mapping.zero(zone, block, locked=False)
            mapping.map_blocks(zone, block, 1, Context.CLAIM)
        if unlocked:
            zone.lock_dropped(Window.FLUSHED, pfn, current)
    zone.set_type(pfn, current, freetype, Context.CLAIM)
    zone.stats.claims_whole += 1
    zone.stats.map_allocs += zone.tables.mapped[freetype] and not zone.tables.mapped[fallback]
    alike = all(zone.type_of(block) == freetype for block in zone.blocks(pfn, current))
    if alike or not tables.design.explicit_maps:
        zone.account(freetype, buddy.expand(zone, pfn, order, current, freetype))
        return pfn
    # A pageblock that was isolated while the lock was dropped stays apart.
    for start, piece in buddy.chunks(pfn + (1 << order), pfn + (1 << current), zone.pageblock_order):
        buddy.free_one(zone, start, piece, zone.type_of(start))
    return pfn


def _claim_partial(zone: Zone, pfn: int, freetype: int, fallback: int) -> bool:
    """Retype the pageblock around ``pfn`` if half of it is free or alike (try_to_claim_block, 7.2)."""
    if not buddy.whole_block_in_zone(zone, pfn):
        return False
    start = zone.block_start(pfn)
    offset = start - zone.spec.start_pfn
    free = sum(1 << order for _, order in buddy.free_pages_of_block(zone, pfn))
    movable = zone.lru.count(1, offset, offset + zone.pageblock_nr_pages)
    if zone.migratetype(freetype) is Migratetype.MOVABLE:
        alike = movable
    elif zone.migratetype(fallback) is Migratetype.MOVABLE:
        # What is neither free nor movable counts as alike: unmovable or reclaimable, who knows.
        alike = zone.pageblock_nr_pages - (free + movable)
    else:
        alike = 0
    if free + alike < zone.pageblock_nr_pages // 2:
        zone.stats.claims_refused += 1
        return False
    buddy.move_free_pages(zone, start, fallback, freetype)
    zone.set_type(start, 0, freetype, Context.PARTIAL)
    zone.stats.claims_partial += 1
    return True


def steal(zone: Zone, order: int, freetype: int) -> int | None:
    """The smallest block of a fallback; the rest stays the fallback's (__rmqueue_steal, 7.2)."""
    if zone.tables.whole_blocks_only[freetype]:
        return None
    for current in range(order, zone.max_page_order + 1):
        fallback = find_fallback(zone, current, freetype)
        if fallback is not None:
            pfn = zone.head(current, fallback)
            assert pfn is not None
            zone.stats.steals += 1
            _count_extfrag(zone, current)
            return buddy.take(zone, pfn, order, current, fallback)
    return None


def boost_watermark(zone: Zone) -> bool:
    """Have kswapd reclaim more, after mixing types (boost_watermark, 7.2); False if there is no boost."""
    factor = zone.machine.watermark_boost_factor
    step = zone.pageblock_nr_pages
    if not factor or zone.managed < 4 * step:
        return False
    limit = zone.spec.wmark[WMARK_HIGH] * factor // 10000
    if not limit:
        return False
    zone.stats.boosts += 1
    zone.watermark_boost = min(zone.watermark_boost + step, max(step, limit))
    return True


def reserve_highatomic(zone: Zone, pfn: int, order: int, freetype: int) -> None:
    """Keep the pageblock of a HIGHATOMIC success for more of the kind (reserve_highatomic_pageblock, 7.2).

    Sound designs reserve only where the pageblock is on the requester's side of the mapping.
    """
    block = zone.pageblock_nr_pages
    highatomic = zone.tables.sibling(Migratetype.HIGHATOMIC, freetype)
    one_percent = zone.managed // 100
    if one_percent < block or highatomic is None:
        return
    if zone.nr_reserved_highatomic >= -(-one_percent // block) * block:
        return
    old = zone.type_of(pfn)
    if not zone.tables.ordinary(old):
        return
    if zone.tables.design.explicit_maps and zone.tables.mapped[old] != zone.tables.mapped[highatomic]:
        return
    if order < zone.pageblock_order:
        if buddy.move_block(zone, pfn, old, highatomic, Context.RESERVE) == -1:
            return
        zone.nr_reserved_highatomic += block
    else:
        zone.set_type(pfn, order, highatomic, Context.RESERVE)
        zone.nr_reserved_highatomic += 1 << order
    zone.stats.reserves += 1


def unreserve_highatomic(zone: Zone, freetype: int, force: bool) -> bool:
    """Turn one reserved pageblock back; True if pages moved (unreserve_highatomic_pageblock, 7.2)."""
    block = zone.pageblock_nr_pages
    highatomic = zone.tables.sibling(Migratetype.HIGHATOMIC, freetype)
    if highatomic is None or (not force and zone.nr_reserved_highatomic <= block):
        return False
    for order in range(zone.max_page_order + 1):
        pfn = zone.head(order, highatomic)
        if pfn is None:
            continue
        zone.nr_reserved_highatomic -= min(max(block, 1 << order), zone.nr_reserved_highatomic)
        if order < zone.pageblock_order:
            moved = buddy.move_block(zone, pfn, highatomic, freetype, Context.UNRESERVE)
        else:
            zone.move(pfn, order, highatomic, freetype)
            zone.set_type(pfn, order, freetype, Context.UNRESERVE)
            moved = 1
        if moved > 0:
            zone.stats.unreserves += 1
            return True
    return False
