"""What relieves a shortage: kswapd, direct reclaim, compaction.  A model, not exact.

Reclaim is a stub: a declared supply of page-cache allocations (slots of a replay, in an order drawn from the
seed) that can be freed at any time.  Compaction moves movable allocations from the zone's start to free
memory at its end, as mm/compaction.c's two scanners do (7.2); what it costs is the pages it moves.  The order
of attempts is that of __alloc_pages_slowpath (mm/page_alloc.c, 7.2).  Only replays have it: an allocation
that moves must have a slot that can be told.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from asi_pa.engine.compact_control cimport COMPACT_PRIO_ASYNC, COMPACT_PRIO_SYNC_LIGHT
from asi_pa.engine.compaction cimport alloc_pages_direct_compact, kcompactd_do_work
from asi_pa._core cimport (
    ALLOC,
    INFO_LRU,
    KIND_MASK,
    NIL,
    WMARK_HIGH,
    set_plenty,
    zone_watermark_ok,
)
from asi_pa.engine.highatomic cimport unreserve_highatomic
from asi_pa.engine.migrate cimport allocated_order, free_allocated, lru_add_drain
from asi_pa.engine.page_alloc cimport get_page_from_freelist, zone_of
from asi_pa.engine.pcp cimport pcp_drain

cdef enum:
    SWAP_CLUSTER_MAX = 32       # include/linux/swap.h
    MAX_RECLAIM_RETRIES = 16    # mm/internal.h


# ---------------------------------------------------------------- reclaim

cdef int64_t reclaim(mm_t *mm, int cpu, int64_t pages) noexcept nogil:
    # Frees the next allocations of the supply; those that the workload freed itself are gone already.
    cdef int64_t freed = 0
    cdef uint32_t slot, pfn, frame
    cdef int order
    cdef zone_t *z
    while freed < pages and mm.supply_at < mm.supply_n:
        slot = mm.supply[mm.supply_at]
        mm.supply_at += 1
        pfn = mm.slots[slot]
        if pfn == NIL:
            continue
        z = zone_of(mm, pfn)
        frame = <uint32_t>(pfn - z.base_pfn)
        if z.state[frame] & KIND_MASK != ALLOC or not z.links[frame].next & INFO_LRU:
            continue
        mm.slots[slot] = NIL
        order = allocated_order(mm, z, frame)
        freed += <int64_t>1 << order
        free_allocated(mm, z, cpu, frame, order)
    mm.stats.reclaimed += freed
    return freed


cdef void each_pcp(mm_t *mm, void (*act)(zone_t *, pcp_t *) noexcept nogil) noexcept nogil:
    cdef int i, cpu
    cdef zone_t *z
    for i in range(mm.nzones):
        z = mm.zones[i]
        if z.pcps != NULL:
            for cpu in range(mm.ncpus):
                z.diff = &z.diffs[cpu]
                act(z, &z.pcps[cpu])


cdef void kswapd(mm_t *mm, int cpu) noexcept nogil:
    # balance_pgdat(): up to the high watermark, then the boost is over.
    cdef int i
    cdef zone_t *z
    if not mm.kswapd_woken:
        return
    mm.kswapd_woken = 0
    for i in range(mm.nzones):
        z = mm.zones[i]
        while not zone_watermark_ok(z, 0, z.wmark[WMARK_HIGH] + z.boost, z.zone_idx, 0):
            if not reclaim(mm, cpu, SWAP_CLUSTER_MAX):
                break
        if z.boost and mm.compacts:
            # the boost was for this: whole pageblocks for those who mix (kswapd wakes kcompactd)
            kcompactd_do_work(mm, cpu, z.nid, z.pageblock_order, z.zone_idx)
            lru_add_drain(mm)
        z.boost = 0
        set_plenty(z)


cdef int64_t direct_relief(mm_t *mm, int cpu, int order, const request_t *rq, uint32_t flags) noexcept nogil:
    # The rest of __alloc_pages_slowpath() for requests that may block: compaction, reclaim, the last drops.
    cdef int64_t pfn = -1, progress
    cdef int _tries, i, result
    cdef uint64_t before
    cdef bint drained = False
    for _tries in range(MAX_RECLAIM_RETRIES):
        progress = 0
        if mm.compacts:
            before = mm.stats.compact_moved
            pfn = alloc_pages_direct_compact(mm, cpu, order, rq, flags,
                                             COMPACT_PRIO_SYNC_LIGHT if _tries else COMPACT_PRIO_ASYNC, &result)
            lru_add_drain(mm)
            if pfn >= 0:
                return pfn
            progress = mm.stats.compact_moved > before
        i = reclaim(mm, cpu, SWAP_CLUSTER_MAX) > 0
        progress += i
        if i or not drained:
            pfn = get_page_from_freelist(mm, cpu, order, rq, flags, 0)
            if pfn >= 0:
                return pfn
        if not drained:
            # __alloc_pages_direct_reclaim(): pages pinned in reserves and per-CPU lists
            for i in range(mm.nzones):
                mm.zones[i].diff = &mm.zones[i].diffs[cpu]
                unreserve_highatomic(mm.zones[i], rq.ft, False)
            each_pcp(mm, pcp_drain)     # drain_all_pages()
            drained = True
            pfn = get_page_from_freelist(mm, cpu, order, rq, flags, 0)
            if pfn >= 0:
                return pfn
        if not progress:
            break
    for i in range(mm.nzones):
        mm.zones[i].diff = &mm.zones[i].diffs[cpu]
        if unreserve_highatomic(mm.zones[i], rq.ft, True):
            pfn = get_page_from_freelist(mm, cpu, order, rq, flags, 0)
            if pfn >= 0:
                return pfn
    return -1
