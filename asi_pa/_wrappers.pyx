# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Designs that wrap the allocator: per-page mapping, and the separate pool of 2023.

per-page: set_direct_map_invalid_noflush() and a flush for every page, as secretmem does today
(mm/secretmem.c, 7.2).
pool: "Prototype for direct map awareness in page allocator", msgid 20230308094106.227365-1-rppt@kernel.org,
turned to the ASI question: the pool holds nonsensitive (mapped) pages, the allocator beside it only
sensitive memory.
A page belongs to the pool when it is mapped; the posting asks its pageblock's mark instead, which would put
sensitive neighbours of a small chunk into the pool.
"""

from asi_pa._core cimport (
    ALLOC,
    MAX_ORDERS,
    NIL,
    POOL,
    TAIL,
    freelist_t,
    uint8_t,
)
from asi_pa._page_alloc cimport prep_new_page, zone_of
from asi_pa._physmap cimport (
    CAUSE_PAGE_ALLOC,
    CAUSE_PAGE_FREE,
    CAUSE_POOL_REFILL,
    CAUSE_SHRINKER,
    FLUSH_NONE,
    FLUSH_RANGE,
    RESTRICTED,
    physmap_flush,
    physmap_map,
    physmap_present,
    physmap_unmap,
)


# ---------------------------------------------------------------- what both share

cdef void map_pages(mm_t *mm, uint64_t pfn, uint64_t n, int cause) noexcept nogil:
    cdef uint64_t i
    for i in range(n):
        physmap_map(mm.physmap, RESTRICTED, pfn + i, 1, cause)


cdef bint any_present(mm_t *mm, uint64_t pfn, uint64_t n, bint present) noexcept nogil:
    cdef uint64_t i
    for i in range(n):
        if physmap_present(mm.physmap, RESTRICTED, pfn + i) == present:
            return True
    return False


cdef int64_t handed_out(mm_t *mm, int64_t pfn, int order, const request_t *rq) noexcept nogil:
    # The audit of every allocation: sensitive pages absent, nonsensitive ones present.
    if any_present(mm, <uint64_t>pfn, 1u << order, rq.sensitive):
        mm.stats.exposures += 1
    return pfn


cdef int64_t wrapped_alloc(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil:
    cdef int64_t pfn
    if mm.wrapper == WRAP_POOL:
        pfn = pool_or_buddy(mm, cpu, order, rq)
    else:
        pfn = mm_alloc(mm, cpu, order, rq)
        if pfn >= 0 and not rq.sensitive:
            # the page may hold what a sensitive owner left
            mm.stats.pages_zeroed += 1u << order
            map_pages(mm, <uint64_t>pfn, 1u << order, CAUSE_PAGE_ALLOC)
    return pfn if pfn < 0 else handed_out(mm, pfn, order, rq)


cdef void wrapped_free(mm_t *mm, zone_t *z, int cpu, uint32_t frame, int order) noexcept nogil:
    cdef uint64_t pfn = z.base_pfn + frame
    if mm.wrapper == WRAP_POOL:
        if physmap_present(mm.physmap, RESTRICTED, pfn):
            pool_free(z, frame, order)
            return
    elif not z.links[frame].next & INFO_SENSITIVE:
        # the caller frees and so waits for the flush itself
        physmap_unmap(mm.physmap, RESTRICTED, pfn, 1u << order, CAUSE_PAGE_FREE, FLUSH_RANGE)
        mm.stats.flush_frees += 1
    zone_free(z, cpu, frame, order)


# ---------------------------------------------------------------- the pool

cdef void pool_add(zone_t *z, uint32_t frame, int order) noexcept nogil:
    cdef freelist_t *fl = &z.pool[order]
    z.state[frame] = <uint8_t>(POOL | order)
    z.links[frame].next = fl.head
    z.links[frame].prev = NIL
    if fl.head != NIL:
        z.links[fl.head].prev = frame
    else:
        fl.tail = frame
    fl.head = frame
    fl.count += 1


cdef void pool_del(zone_t *z, uint32_t frame, int order) noexcept nogil:
    cdef freelist_t *fl = &z.pool[order]
    cdef uint32_t nxt = z.links[frame].next, prv = z.links[frame].prev
    z.state[frame] = TAIL
    if prv != NIL:
        z.links[prv].next = nxt
    else:
        fl.head = nxt
    if nxt != NIL:
        z.links[nxt].prev = prv
    else:
        fl.tail = prv
    fl.count -= 1


cdef void pool_free(zone_t *z, uint32_t frame, int order) noexcept nogil:
    # Buddies merge inside the pool, up to a pageblock.
    cdef uint32_t buddy
    z.state[frame] = TAIL
    while order < z.pageblock_order:
        buddy = frame ^ (1u << order)
        if z.state[buddy] != <uint8_t>(POOL | order):
            break
        pool_del(z, buddy, order)
        frame &= buddy
        order += 1
    pool_add(z, frame, order)


cdef int64_t pool_take(mm_t *mm, int order, const request_t *rq) noexcept nogil:
    # The smallest order that fits, split; the pool knows no zones, so every zone's share is asked.
    cdef int o, high, i
    cdef zone_t *z
    cdef uint32_t frame
    for o in range(order, MAX_ORDERS):
        for i in range(mm.nzones):
            z = mm.zones[i]
            if o > z.pageblock_order or z.pool[o].head == NIL:
                continue
            frame = z.pool[o].head
            pool_del(z, frame, o)
            high = o
            while high > order:
                high -= 1
                pool_add(z, frame + (1u << high), high)
            prep_new_page(z, frame, order, rq)
            return <int64_t>(z.base_pfn + frame)
    return -1


cdef bint pool_refill(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil:
    # A zeroed chunk of a pageblock, or an order less at a time down to the request's.
    cdef int o = mm.zones[0].pageblock_order
    cdef int64_t pfn
    cdef zone_t *z
    cdef request_t chunk = rq[0]
    chunk.info &= 0x03
    chunk.info |= INFO_SENSITIVE
    while o >= order:
        pfn = mm_alloc(mm, cpu, o, &chunk)
        if pfn >= 0:
            mm.stats.pool_refills += 1
            mm.stats.pool_refill_pages += 1u << o
            mm.stats.pages_zeroed += 1u << o
            map_pages(mm, <uint64_t>pfn, 1u << o, CAUSE_POOL_REFILL)
            z = zone_of(mm, <uint64_t>pfn)
            pool_free(z, <uint32_t>(<uint64_t>pfn - z.base_pfn), o)
            return True
        o -= 1
    return False


cdef int64_t pool_or_buddy(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil:
    cdef int64_t pfn
    if rq.sensitive:
        pfn = mm_alloc(mm, cpu, order, rq)
        if pfn < 0 and rq.block:
            # direct reclaim calls the shrinker, a batch at a time
            while pfn < 0 and pool_shrink(mm, cpu, mm.pool_shrink_batch):
                pfn = mm_alloc(mm, cpu, order, rq)
            if pfn >= 0:
                mm.stats.flush_allocs += 1
        return pfn
    pfn = pool_take(mm, order, rq)
    if pfn < 0 and pool_refill(mm, cpu, order, rq):
        pfn = pool_take(mm, order, rq)
    if pfn >= 0:
        mm.stats.pool_hits += 1
    return pfn


cdef int64_t pool_shrink(mm_t *mm, int cpu, int64_t pages) noexcept nogil:
    # The shrinker: lowest order first; pages leave the restricted tree one by one, then one flush.
    cdef int64_t gone = 0
    cdef uint64_t i, pfn
    cdef int o, k
    cdef zone_t *z
    cdef uint32_t frame
    for o in range(MAX_ORDERS):
        for k in range(mm.nzones):
            z = mm.zones[k]
            if o > z.pageblock_order:
                continue
            while gone < pages and z.pool[o].head != NIL:
                frame = z.pool[o].head
                pool_del(z, frame, o)
                pfn = z.base_pfn + frame
                for i in range(<uint64_t>1 << o):
                    physmap_unmap(mm.physmap, RESTRICTED, pfn + i, 1, CAUSE_SHRINKER, FLUSH_NONE)
                # flushed before the page can be handed out again
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
        for o in range(MAX_ORDERS):
            n += <int64_t>mm.zones[i].pool[o].count << o
    return n
