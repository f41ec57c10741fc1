"""Taking a block from the buddy lists: own type, CMA, claim, steal, HIGHATOMIC (mm/page_alloc.c)."""

from __future__ import annotations

from enum import IntEnum

from asi_pa.gfp import Migratetype

from . import buddy
from .tables import (
    ALLOC_CMA,
    ALLOC_FLIP,
    ALLOC_HIGHATOMIC,
    ALLOC_NOFRAGMENT,
    ALLOC_NON_BLOCK,
    ALLOC_OOM,
    WMARK_HIGH,
)
from .zone import Zone

__all__ = ["Mode", "RmqueueMode", "reserve_highatomic", "rmqueue", "rmqueue_buddy", "unreserve_highatomic"]


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
    if alloc_flags & ALLOC_CMA and zone.nr_free_cma.read() > zone.nr_free_pages.read() // 2:
        pfn = buddy.smallest(zone, order, cma)
        if pfn is not None:
            return pfn
    if mode.value <= RmqueueMode.NORMAL:
        pfn = buddy.smallest(zone, order, freetype)
        if pfn is not None:
            return pfn
    if mode.value <= RmqueueMode.CMA and alloc_flags & ALLOC_CMA:
        pfn = buddy.smallest(zone, order, cma)
        if pfn is not None:
            mode.value = RmqueueMode.CMA
            return pfn
    if mode.value <= RmqueueMode.CLAIM:
        pfn = claim(zone, order, freetype, alloc_flags)
        if pfn is not None:
            mode.value = RmqueueMode.NORMAL  # the claimed block feeds the type's own lists
            return pfn
    if not alloc_flags & ALLOC_NOFRAGMENT:
        pfn = steal(zone, order, freetype)
        if pfn is not None:
            mode.value = RmqueueMode.STEAL
            return pfn
    return None


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
            return _claim_whole(zone, pfn, order, current, freetype, fallback)
        boost_watermark(zone)
        if _claim_partial(zone, pfn, freetype, fallback):
            return buddy.smallest(zone, order, freetype)
    return None


def _worth_claiming(zone: Zone, order: int, freetype: int) -> bool:
    """should_try_claim_block (7.2): movable pages leave small blocks alone, they can be migrated."""
    return order >= zone.pageblock_order // 2 or zone.migratetype(freetype) in (
        Migratetype.UNMOVABLE,
        Migratetype.RECLAIMABLE,
    )


def _claim_whole(zone: Zone, pfn: int, order: int, current: int, freetype: int, fallback: int) -> int:
    """A block of whole pageblocks: no scan, no boost (try_to_claim_block, 7.2)."""
    zone.delete(pfn, current, fallback)
    zone.set_type(pfn, current, freetype)
    zone.account(freetype, buddy.expand(zone, pfn, order, current, freetype))
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
        return False
    buddy.move_free_pages(zone, start, fallback, freetype)
    zone.set_type(start, 0, freetype)
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
            return buddy.take(zone, pfn, order, current, fallback)
    return None


def boost_watermark(zone: Zone) -> None:
    """Have kswapd reclaim more, after mixing types (boost_watermark, 7.2)."""
    factor = zone.machine.watermark_boost_factor
    step = zone.pageblock_nr_pages
    if not factor or zone.managed < 4 * step:
        return
    limit = zone.spec.wmark[WMARK_HIGH] * factor // 10000
    if not limit:
        return
    zone.watermark_boost = min(zone.watermark_boost + step, max(step, limit))


def rmqueue_buddy(zone: Zone, order: int, freetype: int, alloc_flags: int) -> int | None:
    """One block without the per-CPU lists (rmqueue_buddy, 7.2)."""
    highatomic = zone.tables.sibling(Migratetype.HIGHATOMIC, freetype)
    pfn = None
    if alloc_flags & ALLOC_HIGHATOMIC:
        pfn = buddy.smallest(zone, order, highatomic)
    if pfn is None:
        pfn = rmqueue(zone, order, freetype, alloc_flags, Mode())
        if pfn is None and alloc_flags & (ALLOC_OOM | ALLOC_NON_BLOCK):
            pfn = buddy.smallest(zone, order, highatomic)
    if pfn is None and alloc_flags & ALLOC_FLIP:
        pfn = flip(zone, order, freetype, alloc_flags)
    return pfn


def flip(zone: Zone, order: int, freetype: int, alloc_flags: int) -> int | None:
    """Whole pageblocks of the other kind change sides, the last resort of a request that may block.

    March 2025 (patch 11): sensitive requests unmap a free nonsensitive block.  September 2025 (patch
    16): either kind takes one of the other through all its fallbacks; a CMA block stays CMA, though
    its unused tail goes to the requester's lists.
    """
    tables = zone.tables
    other = tables.other_side[freetype]
    if other == freetype:
        return None
    large = max(order, zone.pageblock_order)
    if tables.design.flips == "march":
        pfn = buddy.smallest(zone, large, other)
    else:
        pfn = rmqueue(zone, large, other, alloc_flags, Mode())
    if pfn is None:
        return None
    zone.set_mapped(pfn, large, tables.mapped[freetype])
    for block in zone.blocks(pfn, large):
        cma = zone.migratetype(zone.base_type(block)) is Migratetype.CMA
        zone.set_type(block, 0, tables.sibling(Migratetype.CMA, freetype) if cma else freetype)
    for current in range(order, large):
        buddy.free_one(zone, pfn + (1 << current), current, freetype)
    return pfn


def reserve_highatomic(zone: Zone, pfn: int, order: int) -> None:
    """Keep the pageblock of a HIGHATOMIC success for more of the kind (reserve_highatomic_pageblock, 7.2)."""
    block = zone.pageblock_nr_pages
    one_percent = zone.managed // 100
    if one_percent < block:
        return
    if zone.nr_reserved_highatomic >= -(-one_percent // block) * block:
        return
    freetype = zone.type_of(pfn)
    if not zone.tables.ordinary(freetype):
        return
    highatomic = zone.tables.sibling(Migratetype.HIGHATOMIC, freetype)
    if order < zone.pageblock_order:
        if buddy.move_block(zone, pfn, freetype, highatomic) == -1:
            return
        zone.nr_reserved_highatomic += block
    else:
        zone.set_type(pfn, order, highatomic)
        zone.nr_reserved_highatomic += 1 << order


def unreserve_highatomic(zone: Zone, freetype: int, force: bool) -> bool:
    """Turn one reserved pageblock back; True if pages moved (unreserve_highatomic_pageblock, 7.2)."""
    block = zone.pageblock_nr_pages
    highatomic = zone.tables.sibling(Migratetype.HIGHATOMIC, freetype)
    if not force and zone.nr_reserved_highatomic <= block:
        return False
    for order in range(zone.max_page_order + 1):
        pfn = zone.head(order, highatomic)
        if pfn is None:
            continue
        zone.nr_reserved_highatomic -= min(max(block, 1 << order), zone.nr_reserved_highatomic)
        if order < zone.pageblock_order:
            moved = buddy.move_block(zone, pfn, highatomic, freetype)
        else:
            zone.move(pfn, order, highatomic, freetype)
            zone.set_type(pfn, order, freetype)
            moved = 1
        if moved > 0:
            return True
    return False
