"""kswapd: woken by requests that found too little and by boosts, it balances and takes the boosts away.

Rules: mm/vmscan.c wakeup_kswapd, pgdat_balanced, balance_pgdat; mm/page_alloc.c wake_all_kswapds, rmqueue
(7.2; 6.12 is the same here).  What it reclaims is the declared supply (``vmscan.pyx``); without one it takes
boosts away and finds nothing.  It always finds the machine as it is between two operations: whoever replays
lets it run every ``KSWAPD_EVERY`` operations and at every tick.  Not modelled: priorities, hopeless nodes
(kswapd_failures), defrag_mode's balance in whole blocks.
"""

from libc.stdint cimport int64_t

from asi_pa._core cimport WMARK_HIGH, set_plenty, zone_watermark_ok
from asi_pa.engine.compaction cimport kcompactd_do_work
from asi_pa.engine.compaction_gates cimport reset_isolation_suitable
from asi_pa.engine.migrate cimport lru_add_drain
from asi_pa.engine.page_alloc cimport MAX_NODES, MAX_ZONES
from asi_pa.engine.vmscan cimport one_pass, reclaim


cdef bint pgdat_balanced(const mm_t *mm, int nid, int order, int highest) noexcept nogil:
    # One zone of the node above its high watermark, boost included, is enough; so is none to look at.
    cdef int i
    cdef bint none = True
    cdef zone_t *z
    for i in range(mm.nzones):
        z = mm.zones[i]
        if z.nid == nid and z.zone_idx <= highest and z.managed > 0:
            none = False
            if zone_watermark_ok(z, order, z.wmark[WMARK_HIGH] + z.boost, highest, 0):
                return True
    return none


cdef bint pgdat_watermark_boosted(const mm_t *mm, int nid, int highest) noexcept nogil:
    cdef int i
    for i in range(mm.nzones):
        if mm.zones[i].nid == nid and mm.zones[i].zone_idx <= highest and mm.zones[i].boost:
            return True
    return False


cdef void wakeup_kcompactd(mm_t *mm, int nid, int order, int highest) noexcept nogil:
    # It runs when kswapd next does, or sleeps.
    if order == 0:
        return
    mm.stats.kcompactd_wakeups += 1
    if mm.kcompactd_order[nid] < order:
        mm.kcompactd_order[nid] = order
    if mm.kcompactd_highest[nid] < highest:
        mm.kcompactd_highest[nid] = highest


cdef void wakeup_kswapd(mm_t *mm, const zone_t *z, bint block, int order, int highest) noexcept nogil:
    cdef uint32_t bit = 1u << z.nid
    if z.managed <= 0:
        return
    if mm.kswapd_highest[z.nid] < highest:
        mm.kswapd_highest[z.nid] = highest
    if mm.kswapd_order[z.nid] < order:
        mm.kswapd_order[z.nid] = order
    if mm.kswapd_woken & bit:
        return
    if pgdat_balanced(mm, z.nid, order, highest) and not pgdat_watermark_boosted(mm, z.nid, highest):
        # there is memory enough, in too small pieces: who may not compact leaves it to kcompactd
        if not block:
            wakeup_kcompactd(mm, z.nid, order, highest)
        return
    mm.kswapd_woken |= bit
    mm.stats.kswapd_wakeups += 1


cdef void wake_all_kswapds(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil:
    # Each node of the zonelist once.
    cdef int node = mm.cpu_node[cpu], at, last = -1
    cdef zone_t *z
    if mm.defrag_mode and order < mm.zones[0].pageblock_order:
        order = mm.zones[0].pageblock_order
    for at in range(mm.nzonelist[node]):
        z = mm.zonelist[node][at]
        if z.zone_idx <= rq.zone_idx and z.managed > 0 and z.nid != last:
            wakeup_kswapd(mm, z, rq.block, order, rq.zone_idx)
            last = z.nid


cdef void balance_pgdat(mm_t *mm, int cpu, int nid, int order, int highest) noexcept nogil:
    # Reclaims for the boost, or up to the high watermark; then the boost that it found is over.
    cdef int64_t boosts[MAX_ZONES]
    cdef int64_t boost = 0, freed = 0, got
    cdef int i
    cdef bint boosted
    cdef zone_t *z
    for i in range(mm.nzones):
        z = mm.zones[i]
        boosts[i] = z.boost if z.nid == nid and z.zone_idx <= highest else 0
        boost += boosts[i]
    boosted = boost > 0
    while True:
        if not pgdat_balanced(mm, nid, order, highest):
            boost = 0           # more than a boost is wanted
        elif boost <= 0:
            break
        got = reclaim(mm, cpu, nid, one_pass(mm, nid))
        if not got:
            break
        boost -= got
        freed += got
        if order and freed >= 2 << order:
            order = 0           # compact_gap(): the rest is compaction's
    for i in range(mm.nzones):
        z = mm.zones[i]
        if boosts[i]:
            z.boost -= boosts[i] if boosts[i] < z.boost else z.boost
            set_plenty(z)
    if boosted:
        wakeup_kcompactd(mm, nid, mm.zones[0].pageblock_order, highest)


cdef void kswapd_try_to_sleep(mm_t *mm, int nid, int order, int highest) noexcept nogil:
    # What is balanced is compacted from now on, for the order that it was woken for.
    cdef int i
    if not pgdat_balanced(mm, nid, order, highest):
        return
    for i in range(mm.nzones):
        if mm.zones[i].nid == nid:
            reset_isolation_suitable(mm.zones[i])
    wakeup_kcompactd(mm, nid, order, highest)


cdef void kcompactd(mm_t *mm, int cpu, int nid) noexcept nogil:
    cdef int order = mm.kcompactd_order[nid], highest = mm.kcompactd_highest[nid]
    mm.kcompactd_order[nid] = mm.kcompactd_highest[nid] = 0
    if order and mm.compacts:
        kcompactd_do_work(mm, cpu, nid, order, highest)
        lru_add_drain(mm)


cdef int cpu_on(const mm_t *mm, int cpu, int nid) noexcept nogil:
    # kswapd_run(), kcompactd_run(): bound to the node's CPUs; of a node without any they run anywhere.
    cdef int i
    if mm.cpu_node[cpu] == nid:
        return cpu
    for i in range(mm.ncpus):
        if mm.cpu_node[i] == nid:
            return i
    return cpu


cdef void kswapd(mm_t *mm, int cpu) noexcept nogil:
    # Every node's that was woken; then it sleeps.  kcompactd follows.
    cdef int nid, order, highest
    for nid in range(MAX_NODES):
        if mm.kswapd_woken >> nid & 1:
            order = mm.kswapd_order[nid]
            highest = mm.kswapd_highest[nid]
            mm.kswapd_order[nid] = mm.kswapd_highest[nid] = 0
            mm.kswapd_woken &= ~(1u << nid)
            balance_pgdat(mm, cpu_on(mm, cpu, nid), nid, order, highest)
            kswapd_try_to_sleep(mm, nid, order, highest)
        kcompactd(mm, cpu_on(mm, cpu, nid), nid)
