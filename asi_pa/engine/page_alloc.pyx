"""A request's way through zones, watermarks, lists and retries.

Rules: mm/page_alloc.c get_page_from_freelist, gfp_to_alloc_flags, __alloc_pages_slowpath (7.2), up to where
the kernel would begin to reclaim; what follows there is in ``vmscan.pyx``.
"""

from libc.string cimport memset

from asi_pa.engine.pcp cimport NO_PCP_LIST, rmqueue_pcplist
from asi_pa._core cimport (
    AHEAD_BACK,
    AHEAD_BACK_LAZY,
    AHEAD_NOW,
    ALLOC_CMA,
    ALLOC_CPUSET,
    ALLOC_FLIP,
    ALLOC_HIGHATOMIC,
    ALLOC_KSWAPD,
    ALLOC_MIN_RESERVE,
    ALLOC_NOFRAGMENT,
    ALLOC_NON_BLOCK,
    ALLOC_NOSTEAL,
    ALLOC_NO_WATERMARKS,
    ALLOC_OOM,
    INFO_COMP,
    INFO_LRU,
    INFO_PINNED,
    INFO_SENSITIVE,
    INFO_UNSPLITTABLE,
    MAX_ORDERS,
    MIGRATE_CMA,
    MIGRATE_HIGHATOMIC,
    MIGRATE_ISOLATE,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    NIL,
    NO_FREETYPE,
    ORDER_MASK,
    POOL_LIST,
    RMQUEUE_NORMAL,
    WMARK_HIGH,
    WMARK_LOW,
    WMARK_MASK,
    WMARK_MIN,
    blocks_on,
    ctz,
    rmqueue,
    rmqueue_smallest,
    set_below_high,
    zone_watermark_fast,
)
from asi_pa.engine.flip cimport rmqueue_flip
from asi_pa.engine.highatomic cimport reserve_highatomic
from asi_pa.engine.kswapd cimport wake_all_kswapds, wakeup_kswapd

cdef enum:                  # include/linux/gfp_types.h, 7.2; MODEL_LRU and its like are ours (gfp.py)
    GFP_DMA = 0x1
    GFP_HIGHMEM = 0x2
    GFP_DMA32 = 0x4
    GFP_MOVABLE = 0x8
    GFP_RECLAIMABLE = 0x10
    GFP_HIGH = 0x20
    GFP_DIRECT_RECLAIM = 0x400
    GFP_MEMALLOC = 0x20000
    GFP_COMP = 0x40000
    GFP_NOMEMALLOC = 0x80000
    GFP_MODEL_UNSPLITTABLE = 0x10000000
    GFP_MODEL_PINNED = 0x20000000
    GFP_MODEL_LRU = 0x40000000


# ---------------------------------------------------------------- requests

cdef zone_t *preferred_zone(mm_t *mm, int node, int zone_idx) noexcept nogil:
    # ac->preferred_zoneref: the first zone of the node's list that a request may use at all.
    cdef int i
    for i in range(mm.nzonelist[node]):
        if mm.zonelist[node][i].zone_idx <= zone_idx:
            return mm.zonelist[node][i]
    return mm.zonelist[node][0]


cdef void decode_request(mm_t *mm, uint32_t gfp, request_t *rq) noexcept nogil:
    decode_request_on(mm, mm.cpu_node[0], gfp, rq)


cdef uint32_t request_info(uint32_t gfp, const request_t *rq) noexcept nogil:
    # What is kept of a request beside its pages.
    cdef uint32_t info = rq.mt
    if rq.sensitive:
        info |= INFO_SENSITIVE
    if gfp & GFP_MODEL_LRU:
        info |= INFO_LRU
        if gfp & GFP_MODEL_PINNED:
            info |= INFO_PINNED
        if gfp & GFP_MODEL_UNSPLITTABLE:
            info |= INFO_UNSPLITTABLE
    if gfp & (GFP_COMP | GFP_MODEL_LRU):
        info |= INFO_COMP
    return info


cdef void decode_request_on(mm_t *mm, int node, uint32_t gfp, request_t *rq) noexcept nogil:
    # prepare_alloc_pages(), alloc_flags_nofragment(), gfp_to_alloc_flags(), gfp_zone()
    cdef design_t *d = &mm.design
    cdef zone_t *z
    cdef uint32_t fast = WMARK_LOW, slow = WMARK_MIN | ALLOC_CPUSET
    cdef int order
    rq.gfp = gfp
    rq.mt = (gfp >> 3) & 3
    if rq.mt == 3:
        rq.mt = MIGRATE_RECLAIMABLE
    rq.sensitive = (gfp & GFP_SENSITIVE) != 0
    rq.ft = d.start[rq.mt][rq.sensitive]
    if d.tracks:
        # what the design protects is what its labels say: March has no nonsensitive movable memory
        rq.sensitive = not d.mapped[rq.ft]
    rq.ft_other = d.other[rq.ft]
    if gfp & GFP_DMA:
        rq.zone_idx = 0
    elif gfp & GFP_DMA32:
        rq.zone_idx = 1
    elif gfp & (GFP_HIGHMEM | GFP_MOVABLE) == (GFP_HIGHMEM | GFP_MOVABLE):
        rq.zone_idx = 3
    else:
        rq.zone_idx = 2
    rq.block = (gfp & GFP_DIRECT_RECLAIM) != 0
    rq.high = (gfp & GFP_HIGH) != 0
    rq.kswapd = (gfp & GFP_KSWAPD_RECLAIM) != 0
    rq.memalloc = (gfp & GFP_MEMALLOC) != 0
    rq.nomemalloc = (gfp & GFP_NOMEMALLOC) != 0
    rq.info = request_info(gfp, rq)
    if rq.kswapd:
        fast |= ALLOC_KSWAPD
        slow |= ALLOC_KSWAPD
    if rq.mt == MIGRATE_MOVABLE:
        fast |= ALLOC_CMA
        slow |= ALLOC_CMA
    # alloc_flags_nofragment(): only where the preferred zone is ZONE_NORMAL
    z = preferred_zone(mm, node, rq.zone_idx)
    if (z.zone_idx == 2 and mm.nofragment[z.nid]) or mm.defrag_mode:
        fast |= ALLOC_NOFRAGMENT
    if mm.defrag_mode:
        slow |= ALLOC_NOFRAGMENT
    if rq.high:
        slow |= ALLOC_MIN_RESERVE
    if not rq.block:
        if not rq.nomemalloc:
            slow |= ALLOC_NON_BLOCK
        if rq.high:
            slow &= ~<uint32_t>ALLOC_CPUSET
    if d.may_flip[rq.ft] and may_wait(d, rq, rq.block):
        fast |= ALLOC_FLIP
        slow |= ALLOC_FLIP
    if d.slow_keeps_fast:
        slow |= fast            # September, patch 16 as posted: LOW watermark and NOFRAGMENT stay
    rq.fast_flags = fast
    rq.slow_flags = slow
    rq.fast_large = 0
    if mm.kernel.highatomic_first_attempt and rq.high and not rq.block and not rq.nomemalloc:
        rq.fast_large = ALLOC_HIGHATOMIC
    for order in range(MAX_ORDERS):
        rq.pcp_list[order] = d.pcp_list[order][rq.ft]


# ---------------------------------------------------------------- the path of a request

cdef inline uint32_t rmqueue_reserve(zone_t *z, int order, int ft) noexcept nogil:
    # The HIGHATOMIC reserve of the requester's side, where the design has one.
    cdef int ha = z.design.highatomic[ft]
    return NIL if ha == NO_FREETYPE else rmqueue_smallest(z, order, ha)


cdef uint32_t rmqueue_buddy(zone_t *z, int order, const request_t *rq, uint32_t flags) noexcept nogil:
    # rmqueue_buddy(): the zone's lists, then the HIGHATOMIC reserve, then what a design can flip.
    cdef uint32_t frame = NIL
    cdef int mode = RMQUEUE_NORMAL
    if flags & ALLOC_HIGHATOMIC:
        frame = rmqueue_reserve(z, order, rq.ft)
    if frame == NIL:
        if z.design.flip_before_steal and flags & ALLOC_FLIP:
            frame = rmqueue(z, order, rq.ft, flags | ALLOC_NOSTEAL, &mode)
            if frame == NIL:
                frame = rmqueue_flip(z, order, rq.ft, flags)
        if frame == NIL:
            frame = rmqueue(z, order, rq.ft, flags, &mode)
        if frame == NIL and flags & (ALLOC_OOM | ALLOC_NON_BLOCK):
            frame = rmqueue_reserve(z, order, rq.ft)
        if frame == NIL:
            frame = rmqueue_flip(z, order, rq.ft, flags)
            if frame == NIL:
                return NIL
    if flags & ALLOC_HIGHATOMIC and not z.kernel.reserve_highatomic_from_pcp:
        if not z.kernel.highatomic_first_attempt or flags & WMARK_MASK == WMARK_MIN:
            reserve_highatomic(z, frame, order, rq.ft)
    return frame


cdef uint32_t zone_take(zone_t *z, int cpu, int order, const request_t *rq, uint32_t flags) noexcept nogil:
    # rmqueue(): a per-CPU list, then the buddy
    cdef uint32_t frame = NIL
    z.diff = &z.diffs[cpu]
    if z.pcps != NULL:
        frame = rmqueue_pcplist(z, cpu, order, rq, flags)
    if frame == NIL:
        frame = rmqueue_buddy(z, order, rq, flags)
        if frame == NIL:
            return NIL
        if z.pcps != NULL and rq.pcp_list[order] != NO_PCP_LIST:
            # by what was said of the request, as all counts by kind, not by what the design makes of it
            z.stats.pcp_missed_sensitive += (rq.gfp & GFP_SENSITIVE) != 0
            z.stats.pcp_missed_nonsensitive += not rq.gfp & GFP_SENSITIVE
        if z.design.looks_ahead:
            z.ahead_due |= z.design.looks_ahead & AHEAD_NOW
    if flags & ALLOC_HIGHATOMIC and z.kernel.reserve_highatomic_from_pcp:
        reserve_highatomic(z, frame, order, rq.ft)
    prep_new_page(z, frame, order, rq)
    return frame


cdef int64_t get_page_from_freelist(mm_t *mm, int cpu, int order, const request_t *rq, uint32_t flags,
                                    int at) noexcept nogil:
    # get_page_from_freelist(); `at` is the zone to go on from in the first round.
    cdef int node = mm.cpu_node[cpu], last
    cdef zone_t *z
    cdef uint32_t frame
    cdef bint take
    last = mm.nlocal[node] if rq.gfp & GFP_THISNODE else mm.nzonelist[node]
    while True:
        while at < last:
            z = mm.zonelist[node][at]
            at += 1
            if z.zone_idx > rq.zone_idx:
                continue
            if (mm.nnodes > 1 and flags & ALLOC_NOFRAGMENT and not mm.defrag_mode
                    and z.nid != preferred_zone(mm, node, rq.zone_idx).nid):
                break       # rather mix types here than leave the node
            take = False
            if not z.below_high:
                take = zone_watermark_fast(z, order, z.wmark[WMARK_HIGH] + z.boost, rq.zone_idx, flags)
                if not take:
                    set_below_high(z, True)
            if not take:
                take = zone_watermark_fast(z, order, z.wmark[flags & WMARK_MASK] + z.boost,
                                           rq.zone_idx, flags)
            if not take and not flags & ALLOC_NO_WATERMARKS:
                continue
            z.diff = &z.diffs[cpu]
            frame = zone_take(z, cpu, order, rq, flags)
            if z.boosted and flags & ALLOC_KSWAPD:
                z.boosted = 0       # rmqueue(): ZONE_BOOSTED_WATERMARK
                wakeup_kswapd(mm, z, False, 0, z.zone_idx)
            if frame != NIL:
                return <int64_t>(z.base_pfn + frame)
        if not flags & ALLOC_NOFRAGMENT or mm.defrag_mode:
            return -1
        flags &= ~<uint32_t>ALLOC_NOFRAGMENT
        at = 0


cdef void count_numa(mm_t *mm, int cpu, const request_t *rq, uint64_t pfn) noexcept nogil:
    # zone_statistics(), once for each request that got its pages, wherever a design had them from.
    cdef int node = mm.cpu_node[cpu]
    cdef int preferred = preferred_zone(mm, node, rq.zone_idx).nid, nid = zone_of(mm, pfn).nid
    if nid == preferred:
        mm.numa[nid].hit += 1
    else:
        mm.numa[nid].miss += 1
        mm.numa[preferred].foreign += 1
    if nid == node:
        mm.numa[nid].local += 1
    else:
        mm.numa[nid].other += 1


cdef int64_t mm_alloc(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil:
    # __alloc_pages(), __alloc_pages_slowpath()
    cdef int64_t pfn
    cdef int i
    cdef uint32_t flags
    cdef bint reserves
    flags = rq.fast_flags
    if order > 0:
        flags |= rq.fast_large
    pfn = get_page_from_freelist(mm, cpu, order, rq, flags, 0)
    if pfn >= 0:
        return pfn
    mm.stats.slowpath += 1
    if mm.design.looks_ahead & AHEAD_BACK_LAZY:
        for i in range(mm.nzones):
            mm.zones[i].ahead_due |= AHEAD_BACK
    if rq.kswapd:
        wake_all_kswapds(mm, cpu, order, rq)
    flags = rq.slow_flags
    if order > 0 and not rq.block and not rq.nomemalloc and rq.high:
        flags |= ALLOC_HIGHATOMIC
    pfn = get_page_from_freelist(mm, cpu, order, rq, flags, 0)
    if pfn >= 0:
        return pfn
    reserves = rq.memalloc and not rq.nomemalloc
    if reserves:
        flags = (flags & (ALLOC_CMA | ALLOC_KSWAPD | ALLOC_FLIP)) | ALLOC_NO_WATERMARKS
        if mm.design.flips_both_ways and not mm.design.keeps_noblock:
            flags |= ALLOC_FLIP     # patch 16 as posted: ALLOC_NOBLOCK is lost here
    if reserves or not flags & ALLOC_CPUSET or mm.kernel.slowpath_always_retries:
        pfn = get_page_from_freelist(mm, cpu, order, rq, flags, 0)
        if pfn >= 0:
            return pfn
    if (not rq.block and mm.defrag_mode and mm.kernel.defrag_mode_retry
            and flags & ALLOC_NOFRAGMENT and flags & ALLOC_KSWAPD):
        flags &= ~<uint32_t>ALLOC_NOFRAGMENT
        pfn = get_page_from_freelist(mm, cpu, order, rq, flags, 0)
        if pfn >= 0:
            return pfn
    if rq.block and mm.relief != NULL:
        return mm.relief(mm, cpu, order, rq, flags)
    return -1


cdef int64_t pages_off_lists(const zone_t *z) noexcept nogil:
    # Free, but not on the buddy's lists: per-CPU lists, the pool, the free queue.
    cdef int64_t pages = 0
    cdef int i
    cdef uint32_t frame = z.queue
    if z.pcps != NULL:
        for i in range(z.ncpus):
            pages += z.pcps[i].count
    for i in range(z.max_order + 1):
        pages += <int64_t>blocks_on(z, i, POOL_LIST) << i
    while frame != NIL:
        pages += <int64_t>1 << (z.state[frame] & ORDER_MASK)
        frame = z.links[frame].next
    return pages


cdef void count_failure(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil:
    # Why a request failed, and how many free pages of the other kind stood by.
    cdef int node = mm.cpu_node[cpu], at, ft, o, big, last
    cdef zone_t *z
    cdef design_t *d = &mm.design
    cdef int64_t free_pages = 0, other = 0, flippable = 0, pages
    cdef bint passed = False, whole = False
    cdef uint32_t flags = rq.slow_flags, orders
    last = mm.nlocal[node] if rq.gfp & GFP_THISNODE else mm.nzonelist[node]
    for at in range(last):
        z = mm.zonelist[node][at]
        if z.zone_idx > rq.zone_idx:
            continue
        if order > z.pageblock_order:
            big = order
        else:
            big = z.pageblock_order
        # the pages alone, whatever blocks they form
        if zone_watermark_fast(z, 0, z.wmark[WMARK_MIN] + z.boost + (1 << order) - 1, rq.zone_idx, flags):
            passed = True
        free_pages += pages_off_lists(z)
        for ft in range(d.nft):
            if d.mt[ft] == MIGRATE_ISOLATE:
                continue
            orders = z.nonempty[ft]
            while orders:
                o = ctz(orders)
                orders &= orders - 1
                pages = <int64_t>blocks_on(z, o, ft) << o
                free_pages += pages
                if d.mapped[ft] == d.mapped[rq.ft] or d.mt[ft] == MIGRATE_CMA:
                    continue
                other += pages
                if d.mt[ft] != MIGRATE_HIGHATOMIC:
                    # a reserve is there for others, and no flip takes it
                    flippable += pages
                    whole = whole or o >= big
    if free_pages < <int64_t>1 << order:
        mm.stats.fail_no_memory += 1
    elif not passed:
        mm.stats.fail_watermark += 1
    elif d.flips and whole and not flags & ALLOC_FLIP:
        mm.stats.fail_noblock += 1
    elif d.flips and flippable >= <int64_t>1 << order and not whole:
        mm.stats.fail_starvation += 1
    else:
        mm.stats.fail_fragmentation += 1
    if d.tracks and <uint64_t>other > mm.stats.stranded_max:
        mm.stats.stranded_max = other


# ---------------------------------------------------------------- designs with a protected tree

cdef void wrongly_mapped(zone_t *z, uint32_t frame, int order, bint sensitive, int sign) noexcept nogil:
    # An allocation in pageblocks some of which are mapped although it is sensitive, or are not although it is
    # not: counted when handed out (sign 1), forgotten when given back (-1).
    cdef uint32_t b, pages = 1u << order
    cdef int64_t in_block = pages if order < z.pageblock_order else z.pageblock_pages
    for b in range(block_of(z, frame), block_of(z, frame + pages - 1) + 1):
        if sensitive != z.pbmapped[b]:
            continue
        if sensitive:
            z.stats.exposed_now += sign * in_block
            if sign > 0:
                z.stats.exposures += in_block
        else:
            z.stats.hidden_now += sign * in_block
            if sign > 0:
                z.stats.absences += in_block


cdef void set_dirty_many(zone_t *z, uint32_t frame, uint32_t n, bint dirty) noexcept nogil:
    cdef uint32_t i
    if not (frame | n) & 7:
        memset(z.dirty + (frame >> 3), 0xFF if dirty else 0, n >> 3)
        return
    for i in range(frame, frame + n):
        if dirty:
            z.dirty[i >> 3] |= <uint8_t>(1 << (i & 7))
        else:
            z.dirty[i >> 3] &= <uint8_t>~(1 << (i & 7))


cdef uint32_t count_dirty(zone_t *z, uint32_t frame, uint32_t n) noexcept nogil:
    cdef uint32_t i, count = 0
    if z.dirty != NULL:
        for i in range(frame, frame + n):
            count += (z.dirty[i >> 3] >> (i & 7)) & 1
    return count
