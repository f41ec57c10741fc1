"""Per-CPU page lists and their self-tuning (struct per_cpu_pages; mm/page_alloc.c)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from asi_pa.kernel.spec import PcpSpec

from .tables import (
    ALLOC_FLIP,
    ALLOC_HIGHATOMIC,
    ALLOC_NOSTEAL,
    PAGE_ALLOC_COSTLY_ORDER,
    WMARK_HIGH,
    Tables,
)

if TYPE_CHECKING:
    from .zone import Zone

__all__ = ["PerCpuPages", "alloc", "drain", "free", "tick"]


class PerCpuPages:
    """The lists of one CPU in one zone.  ``spec`` None: they are never used."""

    def __init__(self, spec: PcpSpec | None, tables: Tables) -> None:
        self.enabled = spec is not None
        spec = spec or PcpSpec(batch=0, high_min=0, high_max=0)
        self.batch = spec.batch
        self.high_min = spec.high_min
        self.high_max = spec.high_max
        self.high = spec.high_min if spec.high is None else spec.high
        self.free_high_batch = spec.free_high_batch
        #: Pages, not blocks, on all lists.
        self.count = 0
        self.alloc_factor = 0
        self.free_count = 0
        self.expire = 0
        #: PCPF_PREV_FREE_HIGH_ORDER: the free before this one was of order 1-3.
        self.prev_free_high_order = False
        self.lists: list[deque[int]] = [deque() for _ in tables.pcp_lists]

    def clamp_high(self) -> int:
        self.high = clamp(self.high, self.high_min, self.high_max)
        return self.high


def clamp(value: int, low: int, high: int) -> int:
    """clamp (include/linux/minmax.h, 7.2), whose answer is defined for low > high too."""
    if value >= high:
        return high
    return max(value, low)


def alloc(zone: Zone, order: int, freetype: int, alloc_flags: int) -> int | None:
    """Take the head of the requested type's list, refilling it if empty (rmqueue_pcplist, 7.2).

    None where there is no such list: only orders 0-3 and whole pageblocks have one.
    """
    from .fallback import Mode, rmqueue  # the fallbacks need the zone, which holds our lists

    pcp = zone.pcp[zone.this_cpu]
    index = zone.tables.pcp_index(order, freetype)
    if not pcp.enabled or index is None:
        return None
    pcp.free_count >>= 1
    pages = pcp.lists[index]
    if not pages:
        wanted = _nr_alloc(zone, pcp, order)
        # Since between 6.12 and 7.2: no refill, though the tuning has been moved already.
        if alloc_flags & ALLOC_HIGHATOMIC and not zone.kernel.pcp_refill_highatomic:
            return None
        zone.stats.pcp_refills += 1
        if zone.tables.design.flip_before_steal and alloc_flags & ALLOC_FLIP:
            alloc_flags |= ALLOC_NOSTEAL  # rather an empty list: then rmqueue_buddy flips
        mode = Mode()  # kept from page to page: rmqueue_bulk, 7.2
        for _ in range(wanted):
            pfn = rmqueue(zone, order, freetype, alloc_flags, mode)
            if pfn is None:
                break
            pages.append(pfn)
            pcp.count += 1 << order
            zone.stats.pcp_refilled += 1
        zone.lists_used()
        if not pages:
            return None
    pcp.count -= 1 << order
    return pages.popleft()


def _nr_alloc(zone: Zone, pcp: PerCpuPages, order: int) -> int:
    """How many blocks to refill with (nr_pcp_alloc, 7.2)."""
    high = pcp.clamp_high()
    if high < pcp.batch:
        return 1
    batch = pcp.batch if order else pcp.batch << pcp.alloc_factor
    if pcp.high_min != pcp.high_max and not zone.below_high:
        high = pcp.high = min(high + batch, pcp.high_max)
    if not order:
        room = max(high - pcp.count - pcp.batch, pcp.batch)
        # Double the batch of the next refill, as long as allocations outnumber frees.
        if batch <= room and pcp.alloc_factor < zone.machine.pcp_batch_scale_max:
            pcp.alloc_factor += 1
        batch = min(batch, room)
    if batch > 1:
        batch = max(batch >> order, 2)
    return batch


def free(zone: Zone, pfn: int, order: int) -> bool:
    """Push a freed block on a list, if there is one for it (__free_frozen_pages, 7.2).

    The list is that of the pageblock's type, whatever was asked for.
    """
    pcp = zone.pcp[zone.this_cpu]
    freetype = zone.tables.pcp_type[zone.type_of(pfn)]
    index = None if freetype is None else zone.tables.pcp_index(order, freetype)
    if not pcp.enabled or index is None:
        return False
    _commit(zone, pcp, pfn, order, index)
    return True


def _commit(zone: Zone, pcp: PerCpuPages, pfn: int, order: int, index: int) -> None:
    """Push a block, then give back what is too much (free_frozen_page_commit, 7.2)."""
    from .page_alloc import watermark_ok

    pcp.alloc_factor >>= 1
    pcp.lists[index].appendleft(pfn)
    pcp.count += 1 << order

    free_high = False
    if 0 < order <= PAGE_ALLOC_COSTLY_ORDER:
        needed = pcp.batch
        if zone.kernel.free_high_needs_high_min:  # since 6.16
            needed += pcp.high_min // 2
        free_high = (
            pcp.free_count >= needed
            and pcp.prev_free_high_order
            and (not pcp.free_high_batch or pcp.count >= pcp.batch)
        )
        pcp.prev_free_high_order = True
    else:
        pcp.prev_free_high_order = False
    scale = zone.machine.pcp_batch_scale_max
    if pcp.free_count < pcp.batch << scale:
        pcp.free_count += 1 << order

    high = _nr_high(zone, pcp, free_high)
    if pcp.count < high:
        return
    to_free = _nr_free(zone, pcp, high, free_high)
    # 7.2 lets go of the lock between chunks; 6.12 frees all in one call.  A chunk may overshoot.
    chunk = pcp.batch if zone.kernel.pcp_bulk_in_batches else to_free
    while to_free > 0 and pcp.count > 0:
        _bulk(zone, pcp, min(to_free, chunk), index)
        to_free -= chunk
    zone_movable = len(zone.spec.lowmem_reserve) - 1
    if zone.below_high and watermark_ok(zone, 0, zone.wmark(WMARK_HIGH), zone_movable, 0):
        zone.below_high = False


def _nr_high(zone: Zone, pcp: PerCpuPages, free_high: bool) -> int:
    """The count from which on pages are given back; retunes ``high`` (nr_pcp_high, 7.2)."""
    high = pcp.clamp_high()
    if high == 0:
        return 0
    if free_high:
        pcp.high = max(high - (pcp.batch << zone.machine.pcp_batch_scale_max), pcp.high_min)
        return 0
    # ZONE_RECLAIM_ACTIVE is never set: there is no reclaim here.
    if pcp.high_min == pcp.high_max:
        return high
    if zone.below_high:
        pcp.high = max(high - max(pcp.free_count, pcp.batch), pcp.high_min)
        return max(pcp.count, pcp.high_min)
    if pcp.count >= high:
        wanted = pcp.free_count + pcp.batch
        if pcp.high < wanted:
            pcp.high = clamp(wanted, pcp.high_min, pcp.high_max)
    return high


def _nr_free(zone: Zone, pcp: PerCpuPages, high: int, free_high: bool) -> int:
    """How many pages to give back (nr_pcp_free, 7.2)."""
    if free_high:
        return min(pcp.count, pcp.batch << zone.machine.pcp_batch_scale_max)
    if high < pcp.batch:
        return 1
    # Leave at least batch pages on the lists; free more while frees go on.
    return clamp(pcp.free_count, pcp.batch, high - pcp.batch)


def _bulk(zone: Zone, pcp: PerCpuPages, pages: int, index: int) -> None:
    """Free about ``pages`` pages from the tails, beginning with list ``index`` (free_pcppages_bulk, 7.2)."""
    from .buddy import free_one

    zone.stats.pcp_bulk_frees += 1
    left = min(pcp.count, pages)
    while left > 0:
        while not pcp.lists[index]:
            index = (index + 1) % len(pcp.lists)
        order, _ = zone.tables.pcp_lists[index]
        while left > 0 and pcp.lists[index]:
            pfn = pcp.lists[index].pop()
            zone.stats.pcp_drained += 1
            left -= 1 << order
            pcp.count -= 1 << order
            free_one(zone, pfn, order, zone.type_of(pfn))
        index = (index + 1) % len(pcp.lists)


def drain(zone: Zone, cpu: int) -> None:
    """Give everything back (drain_pages_zone, 7.2)."""
    pcp = zone.pcp[cpu]
    while pcp.count:
        _bulk(zone, pcp, min(pcp.count, pcp.batch << zone.machine.pcp_batch_scale_max), 0)


def tick(zone: Zone) -> bool:
    """Let ``high`` decay and give back what lies above (decay_pcp_high, 7.2); True if anything was done."""
    pcp = zone.pcp[zone.this_cpu]
    todo = False
    if pcp.high > pcp.high_min:
        surplus = pcp.batch << zone.machine.pcp_batch_scale_max
        pcp.high = max(pcp.count - surplus, pcp.high - (pcp.high >> 3), pcp.high_min)
        todo = pcp.high > pcp.high_min
    to_drain = pcp.count - pcp.high
    while to_drain > 0:
        _bulk(zone, pcp, min(to_drain, pcp.batch), 0)
        to_drain -= pcp.batch
        todo = True
    return todo


def expire(zone: Zone, *, remote: bool) -> None:
    """Of another node's pages a batch goes back at the third tick since the CPU moved the zone's counters.

    refresh_cpu_vm_stats and drain_zone_pages (mm/vmstat.c, mm/page_alloc.c, 7.2), CONFIG_NUMA.
    """
    pcp = zone.pcp[zone.this_cpu]
    if not pcp.expire or not pcp.count:
        return
    pcp.expire = pcp.expire - 1 if remote else 0
    if remote and pcp.expire == 0:
        _bulk(zone, pcp, min(pcp.count, pcp.batch), 0)
