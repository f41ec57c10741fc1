"""What a request that may block does when both attempts of the slow path failed: reclaim, compaction.

The order of attempts is that of __alloc_pages_slowpath, should_reclaim_retry and should_compact_retry
(mm/page_alloc.c, 7.2: read, not recorded). Drains and the reserve need nobody's leave: every request that
may block has them before it fails. Compaction (``compaction.pyx``), where a replay asks for it, is that of
the kernel. Reclaim is a declared supply: page-cache allocations (slots of a replay) in the order of an LRU
clock, one a node, which leave a pass at a time. What it is not: nothing is scanned in vain, written back,
refaulted or swapped; anonymous memory never leaves. Only replays have a supply and compact: an allocation
that moves must have a slot that can be told.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from asi_pa._core cimport (
    ALLOC,
    ALLOC_CMA,
    ALLOC_NOFRAGMENT,
    ALLOC_NO_WATERMARKS,
    INFO_LRU,
    KIND_MASK,
    MIGRATE_MOVABLE,
    NIL,
    WMARK_HIGH,
    WMARK_MIN,
    watermark_ok_with,
)
from asi_pa.engine.compact_control cimport (
    COMPACT_COSTLY_ORDER,
    COMPACT_PRIO_ASYNC,
    COMPACT_PRIO_SYNC_FULL,
    COMPACT_PRIO_SYNC_LIGHT,
    COMPACT_SKIPPED,
    COMPACT_SUCCESS,
)
from asi_pa.engine.compaction cimport alloc_pages_direct_compact, compaction_order, zones_of
from asi_pa.engine.compaction_gates cimport room_to_compact
from asi_pa.engine.highatomic cimport unreserve_highatomic
from asi_pa.engine.migrate cimport allocated_order, free_allocated, lru_add_drain
from asi_pa.engine.page_alloc cimport GFP_IO, get_page_from_freelist, zone_of
from asi_pa.engine.pcp cimport pcp_drain

cdef enum:
    DEF_PRIORITY = 12           # include/linux/mmzone.h
    MAX_RECLAIM_RETRIES = 16    # mm/internal.h
    MAX_COMPACT_RETRIES = 16    # mm/page_alloc.c
    GFP_RETRY_MAYFAIL = 0x4000      # include/linux/gfp_types.h
    GFP_NOFAIL = 0x8000
    GFP_NORETRY = 0x10000
    GFP_THISNODE = 0x200000

cdef struct slowpath_t:
    # what __alloc_pages_slowpath() remembers from round to round
    bint drained
    bint compact_first
    int priority            # COMPACT_PRIO_*
    int result              # of the last compaction
    int compaction_retries
    int no_progress_loops
    int64_t progress        # pages that this round reclaimed


# ---------------------------------------------------------------- reclaim

cdef int64_t reclaim(mm_t *mm, int cpu, int nid, int64_t pages) noexcept nogil:
    # shrink_lruvec(): a pass of so many pages over a node's LRU, a cluster after the other.
    # isolate_lru_folios() takes whole folios, at least one for a cluster, so that a pass over large ones
    # frees more than it was meant to.
    cdef int64_t freed = 0, got
    while pages > 0:
        got = shrink_cluster(mm, cpu, nid, min(pages, <int64_t>SWAP_CLUSTER_MAX))
        if not got:
            break
        freed += got
        pages -= SWAP_CLUSTER_MAX
    return freed


cdef int64_t shrink_cluster(mm_t *mm, int cpu, int nid, int64_t pages) noexcept nogil:
    # Frees the next allocations of a node's supply, those that were there when `mm.clock` operations were
    # done; what the workload freed itself is gone already.
    cdef int64_t freed = 0
    cdef uint32_t slot, pfn, frame
    cdef int order
    cdef zone_t *z
    while freed < pages and mm.supply_at[nid] < mm.supply_end[nid]:
        if mm.supply_since != NULL and mm.supply_since[mm.supply_at[nid]] > mm.clock:
            break
        slot = mm.supply[mm.supply_at[nid]]
        mm.supply_at[nid] += 1
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


cdef int64_t reclaimable(const mm_t *mm, int nid) noexcept nogil:
    # zone_reclaimable_pages(), of all zones of a node: what of its supply is there
    cdef uint64_t low = mm.supply_at[nid], high = mm.supply_end[nid], middle
    if mm.supply_since != NULL:
        while low < high:
            middle = (low + high) // 2
            if mm.supply_since[middle] <= mm.clock:
                low = middle + 1
            else:
                high = middle
    if mm.supply_pages != NULL:
        return <int64_t>(mm.supply_pages[high] - mm.supply_pages[mm.supply_at[nid]])
    return <int64_t>(high - mm.supply_at[nid])


cdef bint anything_reclaimable(const mm_t *mm) noexcept nogil:
    cdef int nid
    for nid in range(mm.nnodes):
        if reclaimable(mm, nid):
            return True
    return False


cdef int64_t one_pass(const mm_t *mm, int nid) noexcept nogil:
    # get_scan_count(), shrink_lruvec(): the first pass over the LRU takes 1 / 2^DEF_PRIORITY of it, and no
    # less than a cluster
    return max(<int64_t>SWAP_CLUSTER_MAX, reclaimable(mm, nid) >> DEF_PRIORITY)


cdef void each_pcp(mm_t *mm, void (*act)(zone_t *, pcp_t *) noexcept nogil) noexcept nogil:
    cdef int i, cpu
    cdef zone_t *z
    for i in range(mm.nzones):
        z = mm.zones[i]
        if z.pcps != NULL:
            for cpu in range(mm.ncpus):
                z.diff = &z.diffs[cpu]
                act(z, &z.pcps[cpu])


cdef bint unreserve(mm_t *mm, int cpu, const request_t *rq, bint force) noexcept nogil:
    # unreserve_highatomic_pageblock(): one pageblock of the first zone of the list that has one to give.
    cdef int node = mm.cpu_node[cpu], at
    cdef zone_t *z
    for at in range(mm.nzonelist[node]):
        z = mm.zonelist[node][at]
        if z.zone_idx <= rq.zone_idx:
            z.diff = &z.diffs[cpu]
            if unreserve_highatomic(z, rq.ft, force):
                return True
    return False


cdef bint compaction_ready(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil:
    # compaction_ready() of some zone: reclaim leaves a costly request to compaction.
    cdef int node = mm.cpu_node[cpu], at
    cdef zone_t *z
    for at in range(zones_of(mm, node, rq)):
        z = mm.zonelist[node][at]
        if z.zone_idx <= rq.zone_idx and room_to_compact(z, order, z.wmark[WMARK_HIGH] + z.boost,
                                                         rq.zone_idx, 0):
            return True
    return False


cdef int64_t shrink_zones(mm_t *mm, int cpu, const request_t *rq) noexcept nogil:
    # A pass over the LRU of each node that the request may use.
    cdef int node = mm.cpu_node[cpu], at, last = -1
    cdef int64_t freed = 0
    cdef zone_t *z
    for at in range(zones_of(mm, node, rq)):
        z = mm.zonelist[node][at]
        if z.nid != last and (z.zone_idx <= rq.zone_idx or mm.nnodes == 1):
            freed += reclaim(mm, cpu, z.nid, one_pass(mm, z.nid))
            last = z.nid
    return freed


cdef int64_t direct_reclaim(mm_t *mm, int cpu, int order, const request_t *rq, uint32_t flags,
                            slowpath_t *s) noexcept nogil:
    # __alloc_pages_direct_reclaim().  Without a supply it goes on as after reclaim that freed something else.
    cdef int64_t pfn
    cdef bint ready = (order > COMPACT_COSTLY_ORDER and may_compact(mm, rq)
                       and compaction_ready(mm, cpu, order, rq))
    s.progress = 1 if ready else shrink_zones(mm, cpu, rq)
    if not s.progress and s.drained:
        return -1
    pfn = get_page_from_freelist(mm, cpu, order, rq, flags, 0)
    if pfn < 0 and not s.drained:
        # pages may be pinned in the reserve and on per-CPU lists
        unreserve(mm, cpu, rq, False)
        each_pcp(mm, pcp_drain)     # drain_all_pages()
        s.drained = True
        pfn = get_page_from_freelist(mm, cpu, order, rq, flags, 0)
    return pfn


# ---------------------------------------------------------------- once more?

cdef bint may_compact(const mm_t *mm, const request_t *rq) noexcept nogil:
    # gfp_compaction_allowed()
    return mm.compacts and rq.gfp & GFP_IO


cdef bint some_zone_ok(mm_t *mm, int cpu, int order, const request_t *rq, uint32_t flags,
                       bint reclaimed) noexcept nogil:
    # A zone that is above MIN, or would be if everything reclaimable of its node were free.
    cdef int node = mm.cpu_node[cpu], at
    cdef zone_t *z
    for at in range(zones_of(mm, node, rq)):
        z = mm.zonelist[node][at]
        if z.zone_idx > rq.zone_idx:
            continue
        if watermark_ok_with(z, order, z.wmark[WMARK_MIN] + z.boost, rq.zone_idx, flags,
                             max(z.nr_free, <int64_t>0)
                             + (reclaimable(mm, z.nid) if reclaimed else 0)):
            return True
    return False


cdef bint should_reclaim_retry(mm_t *mm, int cpu, int order, const request_t *rq, uint32_t flags,
                               slowpath_t *s) noexcept nogil:
    # should_reclaim_retry(): could everything reclaimable help?  Before the OOM killer the reserve goes.
    if s.progress and order <= COMPACT_COSTLY_ORDER:
        s.no_progress_loops = 0
    else:
        s.no_progress_loops += 1
    if s.no_progress_loops <= MAX_RECLAIM_RETRIES and anything_reclaimable(mm):
        if some_zone_ok(mm, cpu, order, rq, flags, True):
            return True
    return unreserve(mm, cpu, rq, True)


cdef bint should_compact_retry(mm_t *mm, int cpu, int order, const request_t *rq, uint32_t flags,
                               slowpath_t *s) noexcept nogil:
    # should_compact_retry()
    cdef bint costly = order > COMPACT_COSTLY_ORDER
    cdef int node = mm.cpu_node[cpu], at
    cdef zone_t *z
    if order == 0:
        return False
    if not may_compact(mm, rq):
        # as without CONFIG_COMPACTION: while order 0 would do
        return not costly and some_zone_ok(mm, cpu, 0, rq, flags, False)
    if s.result == COMPACT_SKIPPED:
        # compaction_zonelist_suitable()
        for at in range(zones_of(mm, node, rq)):
            z = mm.zonelist[node][at]
            if z.zone_idx <= rq.zone_idx and room_to_compact(
                    z, order, z.wmark[WMARK_MIN] + z.boost, rq.zone_idx,
                    reclaimable(mm, z.nid) // order):
                return True
        return False
    if s.result == COMPACT_SUCCESS:
        s.compaction_retries += 1
        if s.compaction_retries <= (MAX_COMPACT_RETRIES // 4 if costly else MAX_COMPACT_RETRIES):
            return True
    if s.priority > (COMPACT_PRIO_SYNC_LIGHT if costly else COMPACT_PRIO_SYNC_FULL):
        s.priority -= 1
        s.compaction_retries = 0
        return True
    return False


# ---------------------------------------------------------------- the slow path

cdef int64_t one_round(mm_t *mm, int cpu, int order, const request_t *rq, uint32_t flags,
                       slowpath_t *s) noexcept nogil:
    # Reclaim, then compaction, each with an attempt; who compacts first has no reclaim in its first round.
    cdef int64_t pfn = -1
    s.progress = 0
    if not s.compact_first:
        pfn = direct_reclaim(mm, cpu, order, rq, flags, s)
    if pfn < 0 and may_compact(mm, rq):
        pfn = alloc_pages_direct_compact(mm, cpu, order, rq, flags, s.priority, &s.result)
        lru_add_drain(mm)
    return pfn


cdef int64_t direct_relief(mm_t *mm, int cpu, int order, const request_t *rq, uint32_t flags) noexcept nogil:
    # The rest of __alloc_pages_slowpath() for requests that may block.
    cdef int64_t pfn
    cdef slowpath_t s
    cdef bint costly = order > COMPACT_COSTLY_ORDER
    # who compacts first is asked of the order requested; only a design's own promotion counts
    cdef int wanted = compaction_order(mm, order, rq, flags & ~<uint32_t>ALLOC_NOFRAGMENT)
    s.drained = False
    s.compact_first = may_compact(mm, rq) and (
        wanted > COMPACT_COSTLY_ORDER or (wanted > 0 and rq.mt != MIGRATE_MOVABLE))
    s.priority = COMPACT_PRIO_ASYNC if s.compact_first else COMPACT_PRIO_SYNC_LIGHT
    s.result = COMPACT_SKIPPED
    s.compaction_retries = s.no_progress_loops = 0
    while True:
        pfn = one_round(mm, cpu, order, rq, flags, &s)
        if pfn >= 0:
            return pfn
        if s.compact_first:
            s.compact_first = False
            if rq.gfp & GFP_NORETRY and rq.gfp & GFP_THISNODE:
                return -1
            if not rq.gfp & GFP_NORETRY:
                s.priority = COMPACT_PRIO_SYNC_LIGHT
        elif rq.gfp & GFP_NORETRY:
            break
        elif costly and not (rq.gfp & GFP_RETRY_MAYFAIL and may_compact(mm, rq)):
            break
        elif not (should_reclaim_retry(mm, cpu, order, rq, flags, &s)
                  or (s.progress and should_compact_retry(mm, cpu, order, rq, flags, &s))):
            if not (mm.defrag_mode and flags & ALLOC_NOFRAGMENT):
                break
            flags &= ~<uint32_t>ALLOC_NOFRAGMENT
        pfn = get_page_from_freelist(mm, cpu, order, rq, flags, 0)
        if pfn >= 0:
            return pfn
    if rq.gfp & GFP_NOFAIL:
        # __alloc_pages_may_oom(): the reserves; there is no OOM killer here to go on with
        return get_page_from_freelist(mm, cpu, order, rq, (flags & ALLOC_CMA) | ALLOC_NO_WATERMARKS, 0)
    return -1
