# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The separate pool of 2023: the odd pages have free lists of their own, refilled a pageblock at a time.

"Prototype for direct map awareness in page allocator", msgid 20230308094106.227365-1-rppt@kernel.org.  A page
belongs to the pool when its mapping is odd; the posting asks its pageblock's mark instead, which would put the
neighbours of a small chunk into the pool.
"""

from libc.stdint cimport uint8_t, uint64_t

from asi_pa._core cimport (
    ALLOC,
    INFO_SENSITIVE,
    POOL,
    POOL_LIST,
    TAIL,
    blocks_on,
    first_of,
    list_add,
    list_del,
)
from asi_pa._odd_pages cimport clear_pages, odd_present, set_pages
from asi_pa._page_alloc cimport mm_alloc, prep_new_page, zone_free, zone_of
from asi_pa._physmap cimport (
    CAUSE_POOL_REFILL,
    CAUSE_SHRINKER,
    FLUSH_NONE,
    physmap_flush,
    physmap_map,
    physmap_unmap,
)


cdef void pool_add(zone_t *z, uint32_t frame, int order) noexcept nogil:
    list_add(z, frame, order, POOL_LIST)
    z.state[frame] = <uint8_t>(POOL | order)


cdef void pool_free(zone_t *z, uint32_t frame, int order) noexcept nogil:
    # Buddies merge inside the pool, up to a pageblock; a larger page comes back in pieces.
    cdef uint32_t buddy, end = frame + (1u << order), at = frame
    cdef int o = order
    if o > z.pageblock_order:
        o = z.pageblock_order
    while at < end:
        z.state[at] = TAIL
        frame = at
        order = o
        while order < z.pageblock_order:
            buddy = frame ^ (1u << order)
            if z.state[buddy] != <uint8_t>(POOL | order):
                break
            list_del(z, buddy, order, POOL_LIST)
            frame &= buddy
            order += 1
        pool_add(z, frame, order)
        at += 1u << o


cdef int64_t pool_take(mm_t *mm, int order, const request_t *rq) noexcept nogil:
    # The smallest order that fits, split; the pool knows no zones, so every zone's share is asked.
    cdef int o, high, i
    cdef zone_t *z
    cdef uint32_t frame
    for o in range(order, mm.zones[0].pageblock_order + 1):
        for i in range(mm.nzones):
            z = mm.zones[i]
            if not blocks_on(z, o, POOL_LIST):
                continue
            frame = first_of(z, o, POOL_LIST)
            list_del(z, frame, o, POOL_LIST)
            high = o
            while high > order:
                high -= 1
                pool_add(z, frame + (1u << high), high)
            prep_new_page(z, frame, order, rq)
            return <int64_t>(z.base_pfn + frame)
    return -1


cdef void pool_map(mm_t *mm, uint64_t pfn, int order, bint present, int cause) noexcept nogil:
    # One chunk's mapping: page by page, or as large a leaf as fits.
    if not mm.design.refill_leaves:
        set_pages(mm, pfn, 1u << order, present, cause)
    elif present:
        physmap_map(mm.physmap, mm.design.tree, pfn, 1u << order, cause)
    else:
        physmap_unmap(mm.physmap, mm.design.tree, pfn, 1u << order, cause, FLUSH_NONE)


cdef bint pool_refill(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil:
    # A zeroed chunk of a pageblock, or an order less at a time down to the request's.
    cdef int o = min(max(order, mm.design.refill_order), mm.zones[0].pageblock_order)
    cdef int64_t pfn
    cdef zone_t *z
    while o >= order:
        pfn = mm_alloc(mm, cpu, o, rq)
        if pfn >= 0:
            z = zone_of(mm, <uint64_t>pfn)
            mm.stats.pool_refills += 1
            mm.stats.pool_refill_pages += 1u << o
            clear_pages(mm, z, <uint32_t>(<uint64_t>pfn - z.base_pfn), o)
            pool_map(mm, <uint64_t>pfn, o, odd_present(mm), CAUSE_POOL_REFILL)
            if not odd_present(mm):
                physmap_flush(mm.physmap, <uint64_t>pfn, 1u << o)
                mm.stats.flush_allocs += 1
            else:
                mm.stats.map_allocs += 1
            pool_free(z, <uint32_t>(<uint64_t>pfn - z.base_pfn), o)
            return True
        o -= 1
    return False


cdef int64_t pool_or_buddy(mm_t *mm, int cpu, int order, const request_t *rq, bint odd) noexcept nogil:
    cdef int64_t pfn
    if not odd:
        pfn = mm_alloc(mm, cpu, order, rq)
        if pfn < 0 and rq.block:
            # direct reclaim calls the shrinker, a batch at a time
            while pfn < 0 and pool_shrink(mm, cpu, mm.design.shrink_batch):
                pfn = mm_alloc(mm, cpu, order, rq)
            if pfn >= 0 and odd_present(mm):
                mm.stats.flush_allocs += 1
        return pfn
    pfn = pool_take(mm, order, rq)
    if pfn < 0 and pool_refill(mm, cpu, order, rq):
        pfn = pool_take(mm, order, rq)
    if pfn >= 0:
        mm.stats.pool_hits += 1
    return pfn


cdef int64_t pool_shrink(mm_t *mm, int cpu, int64_t pages) noexcept nogil:
    # The shrinker: lowest order first, page by page; what it unmaps is flushed before it is free.
    cdef int64_t gone = 0
    cdef uint64_t pfn
    cdef int o, k
    cdef zone_t *z
    cdef uint32_t frame
    for o in range(mm.zones[0].pageblock_order + 1):
        for k in range(mm.nzones):
            z = mm.zones[k]
            while gone < pages and blocks_on(z, o, POOL_LIST):
                frame = first_of(z, o, POOL_LIST)
                list_del(z, frame, o, POOL_LIST)
                pfn = z.base_pfn + frame
                if not odd_present(mm):
                    clear_pages(mm, z, frame, o)
                pool_map(mm, pfn, o, not odd_present(mm), CAUSE_SHRINKER)
                if odd_present(mm):
                    physmap_flush(mm.physmap, pfn, 1u << o)
                z.state[frame] = <uint8_t>(ALLOC | o)
                z.links[frame].next = INFO_SENSITIVE
                zone_free(z, cpu, frame, o)
                gone += <int64_t>1 << o
    if gone:
        mm.stats.pool_shrinks += 1
    return gone


cdef int64_t pool_pages(mm_t *mm) noexcept nogil:
    cdef int64_t n = 0
    cdef int i, o
    for i in range(mm.nzones):
        for o in range(mm.zones[i].pageblock_order + 1):
            n += <int64_t>blocks_on(mm.zones[i], o, POOL_LIST) << o
    return n
