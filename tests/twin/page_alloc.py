"""Watermarks, the zonelist walk, the slow path without reclaim (mm/page_alloc.c)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from asi_pa.kernel.gfp import GFP_NAMES, Migratetype
from asi_pa.kernel.spec import MachineSpec

from . import pcp
from .fallback import reserve_highatomic
from .flip import rmqueue_buddy
from .kswapd import Kswapds
from .request import Request
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

__all__ = [
    "Zonelist",
    "alloc_pages",
    "count_failure",
    "fast_flags",
    "get_page_from_freelist",
    "slow_flags",
    "watermark_ok",
]

HIGH = GFP_NAMES["__GFP_HIGH"]
MEMALLOC = GFP_NAMES["__GFP_MEMALLOC"]
NOMEMALLOC = GFP_NAMES["__GFP_NOMEMALLOC"]

ZONE_NORMAL = 2


@dataclass(frozen=True)
class Zonelist:
    """Where the CPUs of one node look for memory (struct zonelist)."""

    zones: Sequence[Zone]
    #: How many of them are the node's own: all that __GFP_THISNODE may use.
    own: int
    #: Does the machine want ALLOC_NOFRAGMENT where this node's Normal zone is preferred?
    nofragment: bool
    kswapds: Kswapds

    def usable(self, request: Request) -> list[Zone]:
        """The zones a request may use, the preferred one first."""
        zones = self.zones[: self.own] if request.this_node else self.zones
        return [zone for zone in zones if zone.spec.zone_idx <= request.highest]

    def preferred(self, request: Request) -> Zone:
        """ac->preferred_zoneref, whatever __GFP_THISNODE says."""
        usable = (zone for zone in self.zones if zone.spec.zone_idx <= request.highest)
        return next(usable, self.zones[0])


# Watermarks


def _unusable_free(zone: Zone, order: int, alloc_flags: int) -> int:
    """Free pages that this request may not count on (__zone_watermark_unusable_free, 7.2)."""
    unusable = (1 << order) - 1
    if not alloc_flags & ALLOC_RESERVES:
        unusable += zone.nr_free_highatomic
    if not alloc_flags & ALLOC_CMA:
        unusable += zone.nr_free_cma.read()
    return unusable


def watermark_ok(
    zone: Zone, order: int, mark: int, highest: int, alloc_flags: int, free: int | None = None
) -> bool:
    """Enough free pages above ``mark``, and a block of the order (__zone_watermark_ok, 7.2).

    ``free``: not NR_FREE_PAGES but these.
    """
    free = zone.nr_free_pages.read() if free is None else free
    free -= _unusable_free(zone, order, alloc_flags)
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
    tables = zone.tables
    return any(
        blocks
        and zone.migratetype(freetype) in usable
        and (tables.design.unmapped_counts or tables.mapped[freetype] or not tables.ordinary(freetype))
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


def _take(zone: Zone, order: int, request: Request, alloc_flags: int) -> int | None:
    """From the per-CPU lists, else from the buddy (rmqueue, 7.2), reserving for HIGHATOMIC."""
    pfn = pcp.alloc(zone, order, request.freetype, alloc_flags)
    if pfn is None:
        pfn = rmqueue_buddy(zone, order, request, alloc_flags)
        if pfn is None:
            return None
        if zone.pcp[zone.this_cpu].enabled and zone.tables.pcp_index(order, request.freetype) is not None:
            # by what was said of the request, as all counts by kind, not by what the design makes of it
            said = bool(request.gfp & GFP_NAMES["__GFP_SENSITIVE"])
            zone.stats.pcp_missed_sensitive += said
            zone.stats.pcp_missed_nonsensitive += not said
        zone.lists_used()
    if alloc_flags & ALLOC_HIGHATOMIC and zone.kernel.reserve_highatomic_from_pcp:
        reserve_highatomic(zone, pfn, order, request.freetype)
    zone.hand_out(pfn, order, request)
    return pfn


def get_page_from_freelist(
    zonelist: Zonelist, order: int, request: Request, alloc_flags: int, spec: MachineSpec
) -> tuple[Zone, int] | None:
    """One walk over the zonelist, and a second without NOFRAGMENT (get_page_from_freelist, 7.2)."""
    no_fallback = alloc_flags & ALLOC_NOFRAGMENT and not spec.defrag_mode
    node = zonelist.preferred(request).spec.nid
    for zone in zonelist.usable(request):
        if no_fallback and zone.spec.nid != node:
            break  # locality matters more than fragmentation: start over, fallbacks allowed
        if not _may_take(zone, order, request.highest, alloc_flags):
            continue
        pfn = _take(zone, order, request, alloc_flags)
        if zone.boosted and alloc_flags & ALLOC_KSWAPD:
            zone.boosted = False  # rmqueue
            zonelist.kswapds.wakeup(zone, False, 0, zone.spec.zone_idx)
        if pfn is not None:
            return zone, pfn
    if no_fallback:
        return get_page_from_freelist(zonelist, order, request, alloc_flags & ~ALLOC_NOFRAGMENT, spec)
    return None


# The whole request


def fast_flags(zonelist: Zonelist, request: Request, spec: MachineSpec) -> int:
    """prepare_alloc_pages and alloc_flags_nofragment (7.2)."""
    flags = WMARK_LOW | _common_flags(request)
    normal = zonelist.preferred(request).spec.zone_idx == ZONE_NORMAL
    if spec.defrag_mode or (zonelist.nofragment and normal):
        flags |= ALLOC_NOFRAGMENT
    return flags


def _highatomic(order: int, request: Request) -> int:
    """ALLOC_HIGHATOMIC for atomic requests above order 0 (alloc_flags_nonblocking, 7.3)."""
    atomic = request.gfp & HIGH and not request.blocks and not request.gfp & NOMEMALLOC
    return ALLOC_HIGHATOMIC if order > 0 and atomic else 0


def slow_flags(zonelist: Zonelist, order: int, request: Request, spec: MachineSpec) -> int:
    """gfp_to_alloc_flags (7.2)."""
    flags = WMARK_MIN | ALLOC_CPUSET | _common_flags(request)
    if request.gfp & HIGH:
        flags |= ALLOC_MIN_RESERVE
    if not request.blocks:
        if not request.gfp & NOMEMALLOC:
            flags |= ALLOC_NON_BLOCK | _highatomic(order, request)
        if request.gfp & HIGH:
            flags &= ~ALLOC_CPUSET
    if spec.defrag_mode:
        flags |= ALLOC_NOFRAGMENT
    if zonelist.zones[0].tables.design.slow_keeps_fast:  # September 2025, patch 16, as posted
        flags |= fast_flags(zonelist, request, spec) & (ALLOC_WMARK_MASK | ALLOC_NOFRAGMENT)
    return flags


def _common_flags(request: Request) -> int:
    """Of both paths: kswapd, CMA for movable requests (gfp_to_alloc_flags_cma, 7.2), flips."""
    flags = ALLOC_KSWAPD if request.kswapd else 0
    if request.migratetype is Migratetype.MOVABLE:
        flags |= ALLOC_CMA
    if request.flips:
        flags |= ALLOC_FLIP
    return flags


def alloc_pages(
    zonelist: Zonelist,
    order: int,
    request: Request,
    spec: MachineSpec,
    relief: Callable[[Callable[[int], tuple[Zone, int] | None], int], tuple[Zone, int] | None] | None = None,
) -> tuple[Zone, int] | None:
    """The fast path and what the slow path tries before it would reclaim (__alloc_frozen_pages, 7.2).

    ``relief`` goes on from there with these flags, and makes attempts as often as it likes.
    """
    first = zonelist.zones[0]
    design, kernel = first.tables.design, first.kernel

    def attempt(alloc_flags: int) -> tuple[Zone, int] | None:
        return get_page_from_freelist(zonelist, order, request, alloc_flags, spec)

    first_flags = fast_flags(zonelist, request, spec)
    if kernel.highatomic_first_attempt:
        first_flags |= _highatomic(order, request)
    found = attempt(first_flags)
    if found:
        return found
    # __alloc_pages_slowpath from here on
    first.stats.slowpath += 1
    for zone in zonelist.zones:
        zone.back_due |= zone.tables.gives_back == "lazy"
    if request.kswapd:
        _wake_all_kswapds(zonelist, order, request, spec)
    flags = slow_flags(zonelist, order, request, spec)
    found = attempt(flags)
    if found:
        return found
    reserves = bool(request.gfp & MEMALLOC and not request.gfp & NOMEMALLOC)  # __gfp_pfmemalloc_flags
    if reserves:
        flags = ALLOC_NO_WATERMARKS | _common_flags(request)
        if design.flips == "september" and not design.keeps_noblock:
            flags |= ALLOC_FLIP  # as posted, ALLOC_NOBLOCK is lost here (Sx-g1)
    if reserves or not flags & ALLOC_CPUSET or kernel.slowpath_always_retries:
        found = attempt(flags)
        if found:
            return found
    if request.blocks:
        return relief(attempt, flags) if relief else None
    if kernel.defrag_mode_retry and spec.defrag_mode and flags & ALLOC_NOFRAGMENT and request.kswapd:
        return attempt(flags & ~ALLOC_NOFRAGMENT)
    return None


def _wake_all_kswapds(zonelist: Zonelist, order: int, request: Request, spec: MachineSpec) -> None:
    """Each node's of the zonelist once (wake_all_kswapds, 7.2)."""
    if spec.defrag_mode:
        order = max(order, spec.pageblock_order)
    last = None
    for zone in zonelist.zones:
        if zone.spec.zone_idx <= request.highest and zone.managed > 0 and zone.spec.nid != last:
            zonelist.kswapds.wakeup(zone, request.blocks, order, request.highest)
            last = zone.spec.nid


def _off_lists(zone: Zone) -> int:
    """Free pages that are not on the buddy's lists: per-CPU lists, the pool, the free queue."""
    pages = sum(lists.count for lists in zone.pcp)
    pages += sum(len(blocks) << order for order, blocks in enumerate(zone.pool))
    return pages + sum(1 << order for order in zone.queue.values())


def count_failure(zonelist: Zonelist, order: int, request: Request, spec: MachineSpec) -> None:
    """Why a request failed (docs/use/metrics.md), and how many free pages of the other side stood by."""
    tables = zonelist.zones[0].tables
    stats = zonelist.zones[0].stats
    design = tables.design
    flags = slow_flags(zonelist, 0, request, spec)
    passed = whole = False
    free = other = flippable = 0
    for zone in zonelist.usable(request):
        # The pages alone, whatever blocks they form.
        mark = zone.wmark(WMARK_MIN) + (1 << order) - 1
        passed |= _watermark_fast(zone, 0, mark, request.highest, flags)
        free += _off_lists(zone)
        for current, lists in enumerate(zone.free_list):
            for freetype, blocks in enumerate(lists):
                migratetype = tables.migratetype[freetype]
                if migratetype is Migratetype.ISOLATE:
                    continue
                free += len(blocks) << current
                if tables.mapped[freetype] == tables.mapped[request.freetype]:
                    continue
                if migratetype <= Migratetype.HIGHATOMIC:
                    other += len(blocks) << current
                if tables.ordinary(freetype):
                    flippable += len(blocks) << current
                    whole |= bool(blocks) and current >= max(order, zone.pageblock_order)
    if free < 1 << order:
        stats.fail_no_memory += 1
    elif not passed:
        stats.fail_watermark += 1
    elif design.flips != "none" and whole and not flags & ALLOC_FLIP:
        stats.fail_noblock += 1
    elif design.flips != "none" and not whole and flippable >= 1 << order:
        stats.fail_starvation += 1
    else:
        stats.fail_fragmentation += 1
    if tables.tracks:
        stats.stranded_max = max(stats.stranded_max, other)
