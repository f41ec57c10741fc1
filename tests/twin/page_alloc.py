"""Watermarks, the zonelist walk, the slow path without reclaim (mm/page_alloc.c)."""

from __future__ import annotations

from asi_pa.gfp import GFP_NAMES, Migratetype, gfp_migratetype
from asi_pa.kernel import Kernel
from asi_pa.machine import MachineSpec

from . import pcp
from .fallback import reserve_highatomic, rmqueue_buddy
from .tables import (
    ALLOC_CMA,
    ALLOC_CPUSET,
    ALLOC_FLIP,
    ALLOC_HIGHATOMIC,
    ALLOC_KSWAPD,
    ALLOC_MIN_RESERVE,
    ALLOC_NO_WATERMARKS,
    ALLOC_NOFRAGMENT,
    ALLOC_NON_BLOCK,
    ALLOC_OOM,
    ALLOC_RESERVES,
    ALLOC_WMARK_MASK,
    WMARK_HIGH,
    WMARK_LOW,
    WMARK_MIN,
)
from .zone import Zone

__all__ = ["alloc_pages", "watermark_ok"]

HIGH = GFP_NAMES["__GFP_HIGH"]
KSWAPD_RECLAIM = GFP_NAMES["__GFP_KSWAPD_RECLAIM"]
DIRECT_RECLAIM = GFP_NAMES["__GFP_DIRECT_RECLAIM"]
MEMALLOC = GFP_NAMES["__GFP_MEMALLOC"]
NOMEMALLOC = GFP_NAMES["__GFP_NOMEMALLOC"]

ZONE_NORMAL = 2


# Watermarks


def _unusable_free(zone: Zone, order: int, alloc_flags: int) -> int:
    """Free pages that this request may not count on (__zone_watermark_unusable_free, 7.2)."""
    unusable = (1 << order) - 1
    if not alloc_flags & ALLOC_RESERVES:
        unusable += zone.nr_free_highatomic
    if not alloc_flags & ALLOC_CMA:
        unusable += zone.nr_free_cma.read()
    return unusable


def watermark_ok(zone: Zone, order: int, mark: int, highest: int, alloc_flags: int) -> bool:
    """Enough free pages above ``mark``, and a block of the order (__zone_watermark_ok, 7.2)."""
    free = zone.nr_free_pages.read() - _unusable_free(zone, order, alloc_flags)
    if alloc_flags & ALLOC_MIN_RESERVE:
        mark -= mark // 2
        if alloc_flags & ALLOC_NON_BLOCK:
            mark -= mark // 4
    if alloc_flags & ALLOC_OOM:
        mark -= mark // 2
    if free <= mark + zone.spec.lowmem_reserve[highest]:
        return False
    if order == 0:
        return True
    usable = {Migratetype.UNMOVABLE, Migratetype.MOVABLE, Migratetype.RECLAIMABLE}
    if alloc_flags & ALLOC_CMA:
        usable.add(Migratetype.CMA)
    if alloc_flags & (ALLOC_HIGHATOMIC | ALLOC_OOM):
        usable.add(Migratetype.HIGHATOMIC)
    return any(
        blocks and zone.migratetype(freetype) in usable
        for lists in zone.free_list[order:]
        for freetype, blocks in enumerate(lists)
    )


def _watermark_fast(zone: Zone, order: int, mark: int, highest: int, alloc_flags: int) -> bool:
    """zone_watermark_fast (7.2): a quick test for order 0, and leniency with the boost at MIN."""
    if order == 0:
        free = zone.nr_free_pages.read()
        free -= min(free, _unusable_free(zone, 0, alloc_flags))
        if free > mark + zone.spec.lowmem_reserve[highest]:
            return True
    if watermark_ok(zone, order, mark, highest, alloc_flags):
        return True
    if (
        order == 0
        and alloc_flags & ALLOC_MIN_RESERVE
        and zone.watermark_boost
        and alloc_flags & ALLOC_WMARK_MASK == WMARK_MIN
    ):
        return watermark_ok(zone, 0, zone.spec.wmark[WMARK_MIN], highest, alloc_flags)
    return False


# The zonelist walk


def _may_take(zone: Zone, order: int, highest: int, alloc_flags: int) -> bool:
    """The watermark part of get_page_from_freelist (7.2); sets ZONE_BELOW_HIGH."""
    if not zone.below_high:
        if _watermark_fast(zone, order, zone.wmark(WMARK_HIGH), highest, alloc_flags):
            return True
        zone.below_high = True
    if alloc_flags & ALLOC_NO_WATERMARKS:
        return True
    mark = zone.wmark(alloc_flags & ALLOC_WMARK_MASK)
    return _watermark_fast(zone, order, mark, highest, alloc_flags)


def _take(zone: Zone, order: int, freetype: int, alloc_flags: int) -> int | None:
    """From the per-CPU lists, else from the buddy (rmqueue, 7.2), reserving for HIGHATOMIC."""
    pfn = pcp.alloc(zone, order, freetype, alloc_flags)
    from_pcp = pfn is not None
    if pfn is None:
        pfn = rmqueue_buddy(zone, order, freetype, alloc_flags)
    reserves = not from_pcp or zone.kernel.reserve_highatomic_from_pcp
    if pfn is not None and alloc_flags & ALLOC_HIGHATOMIC and reserves:
        reserve_highatomic(zone, pfn, order)
    return pfn


def _get_page_from_freelist(
    zones: list[Zone], order: int, freetype: int, highest: int, alloc_flags: int, spec: MachineSpec
) -> tuple[Zone, int] | None:
    """One walk over the zonelist, and a second without NOFRAGMENT (get_page_from_freelist, 7.2)."""
    no_fallback = alloc_flags & ALLOC_NOFRAGMENT and not spec.defrag_mode
    for zone in zones:
        if no_fallback and zone.spec.nid != zones[0].spec.nid:
            break  # locality matters more than fragmentation: start over, fallbacks allowed
        if not _may_take(zone, order, highest, alloc_flags):
            continue
        pfn = _take(zone, order, freetype, alloc_flags)
        if pfn is not None:
            return zone, pfn
    if no_fallback:
        return _get_page_from_freelist(zones, order, freetype, highest, alloc_flags & ~ALLOC_NOFRAGMENT, spec)
    return None


# The whole request


def _fast_flags(zones: list[Zone], gfp: int, spec: MachineSpec) -> int:
    """prepare_alloc_pages and alloc_flags_nofragment (7.2)."""
    flags = WMARK_LOW | _kswapd_flag(gfp) | _cma_flag(gfp)
    if spec.defrag_mode or (spec.nofragment and zones[0].spec.zone_idx == ZONE_NORMAL):
        flags |= ALLOC_NOFRAGMENT
    return flags


def _slow_flags(order: int, gfp: int, spec: MachineSpec) -> int:
    """gfp_to_alloc_flags (7.2)."""
    flags = WMARK_MIN | ALLOC_CPUSET | _kswapd_flag(gfp) | _cma_flag(gfp)
    if gfp & HIGH:
        flags |= ALLOC_MIN_RESERVE
    if not gfp & DIRECT_RECLAIM:
        if not gfp & NOMEMALLOC:
            flags |= ALLOC_NON_BLOCK
            if order > 0 and gfp & HIGH:
                flags |= ALLOC_HIGHATOMIC
        if gfp & HIGH:
            flags &= ~ALLOC_CPUSET
    if spec.defrag_mode:
        flags |= ALLOC_NOFRAGMENT
    return flags


def _kswapd_flag(gfp: int) -> int:
    return ALLOC_KSWAPD if gfp & KSWAPD_RECLAIM else 0


def _cma_flag(gfp: int) -> int:
    """gfp_to_alloc_flags_cma (7.2)."""
    return ALLOC_CMA if gfp_migratetype(gfp) is Migratetype.MOVABLE else 0


def alloc_pages(
    zones: list[Zone], order: int, gfp: int, highest: int, spec: MachineSpec, kernel: Kernel
) -> tuple[Zone, int] | None:
    """The fast path and what the slow path tries before it would reclaim (__alloc_frozen_pages, 7.2)."""
    tables = zones[0].tables
    freetype = tables.start(gfp)
    flip = ALLOC_FLIP if tables.may_flip(gfp) else 0

    def attempt(alloc_flags: int) -> tuple[Zone, int] | None:
        return _get_page_from_freelist(zones, order, freetype, highest, alloc_flags, spec)

    fast_flags = _fast_flags(zones, gfp, spec) | flip
    found = attempt(fast_flags)
    if found:
        return found
    # __alloc_pages_slowpath from here on
    flags = _slow_flags(order, gfp, spec) | flip
    if tables.design.slow_keeps_fast:  # September 2025, patch 16, as posted
        flags |= fast_flags & (ALLOC_WMARK_MASK | ALLOC_NOFRAGMENT)
    found = attempt(flags)
    if found:
        return found
    reserves = bool(gfp & MEMALLOC and not gfp & NOMEMALLOC)  # __gfp_pfmemalloc_flags
    if reserves:
        flags = ALLOC_NO_WATERMARKS | _cma_flag(gfp) | flags & ALLOC_KSWAPD | flip
        if tables.design.flips == "september" and not tables.design.keeps_noblock:
            flags |= ALLOC_FLIP  # as posted, ALLOC_NOBLOCK is lost here (Sx-g1)
    if reserves or not flags & ALLOC_CPUSET or kernel.slowpath_always_retries:
        found = attempt(flags)
        if found:
            return found
    if gfp & DIRECT_RECLAIM:
        return None  # reclaim and compaction would come here
    if kernel.defrag_mode_retry and spec.defrag_mode and flags & ALLOC_NOFRAGMENT and gfp & KSWAPD_RECLAIM:
        return attempt(flags & ~ALLOC_NOFRAGMENT)
    return None
