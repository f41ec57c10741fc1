"""The separate pool of 2023: the remapped pages have free lists of their own, refilled a pageblock at a time.

"Prototype for direct map awareness in page allocator", msgid 20230308094106.227365-1-rppt@kernel.org, patches
1 and 3; recorded runs of it as posted and as its letter says (docs/model.md).

    request, not remapped -> buddy <--- shrinker: chunks, lowest order first, to the tails of the lists
    request, remapped ----> pool's lists, smallest order that fits; a refill from the buddy when there is none
    free -----------------> pool when it owns the page (pool_owns), else buddy
"""

from libc.stdint cimport uint8_t, uint64_t

from asi_pa._core cimport (
    CTX_REFILL,
    CTX_SHRINK,
    EVENT_POOLED,
    POOL,
    POOL_LIST,
    REFILL_REQUEST,
    TAIL,
    blocks_on,
    first_of,
    free_one,
    list_add,
    list_del,
)
from asi_pa.engine.mapping cimport log_event
from asi_pa.engine.remapped cimport clear_pages, count_present, is_remapped, map_chunk
from asi_pa.engine.page_alloc cimport mm_alloc, prep_new_page, zone_of
from asi_pa.physmap.physmap cimport physmap_flush


# ---------------------------------------------------------------- its lists

cdef uint32_t count_not_remapped(mm_t *mm, zone_t *z, uint32_t frame, uint32_t n) noexcept nogil:
    cdef uint32_t present = count_present(mm, z, frame, n)
    return n - present if remapped_present(mm) else present


cdef void pool_add(zone_t *z, uint32_t frame, int order) noexcept nogil:
    list_add(z, frame, order, POOL_LIST)
    z.state[frame] = <uint8_t>(POOL | order)


cdef uint32_t pool_first(mm_t *mm, zone_t *z, int order) noexcept nogil:
    # Off its list.
    cdef uint32_t frame = first_of(z, order, POOL_LIST)
    list_del(z, frame, order, POOL_LIST)
    mm.pool_wrong -= count_not_remapped(mm, z, frame, 1u << order)
    return frame


cdef void pool_insert(mm_t *mm, zone_t *z, uint32_t frame, int order) noexcept nogil:
    # Buddies merge inside the pool as in the allocator, up to its largest order.
    cdef uint32_t buddy
    mm.pool_wrong += count_not_remapped(mm, z, frame, 1u << order)
    z.state[frame] = TAIL
    while order < z.max_order:
        buddy = frame ^ (1u << order)
        if z.state[buddy] != <uint8_t>(POOL | order):
            break
        list_del(z, buddy, order, POOL_LIST)
        frame &= buddy
        order += 1
    pool_add(z, frame, order)


cdef int64_t pool_take(mm_t *mm, int order, const request_t *rq) noexcept nogil:
    # The smallest order that fits, split; the pool knows no zones, so every zone's share is asked.
    cdef int o, high, i
    cdef zone_t *z
    cdef uint32_t frame
    for o in range(order, mm.zones[0].max_order + 1):
        for i in range(mm.nzones):
            z = mm.zones[i]
            if not blocks_on(z, o, POOL_LIST):
                continue
            frame = pool_first(mm, z, o)
            high = o
            while high > order:
                high -= 1
                pool_add(z, frame + (1u << high), high)
                mm.pool_wrong += count_not_remapped(mm, z, frame + (1u << high), 1u << high)
            prep_new_page(z, frame, order, rq)
            return <int64_t>(z.base_pfn + frame)
    return -1


cdef bint pool_keep(mm_t *mm, zone_t *z, uint32_t frame, int order) noexcept nogil:
    cdef uint32_t wrong
    if not pool_owns(mm, z, frame):
        return False
    wrong = count_not_remapped(mm, z, frame, 1u << order)
    if wrong:
        log_event(z, EVENT_POOLED, 0, 0, 0, frame, 1u << order, wrong << 16)
    pool_insert(mm, z, frame, order)
    return True


cdef int64_t pool_pages(mm_t *mm) noexcept nogil:
    cdef int64_t n = 0
    cdef int i, o
    for i in range(mm.nzones):
        for o in range(mm.zones[i].max_order + 1):
            n += <int64_t>blocks_on(mm.zones[i], o, POOL_LIST) << o
    return n


# ---------------------------------------------------------------- from the buddy and back

cdef bint pool_refill(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil:
    # A zeroed chunk of a pageblock, or an order less at a time down to the request's; whatever the request's
    # context.  Larger chunks come of merging alone.
    cdef int o = min(max(order, mm.design.refill_order), mm.zones[0].pageblock_order)
    cdef uint32_t frame, n
    cdef int64_t pfn = -1
    cdef zone_t *z
    while o >= order:
        pfn = mm_alloc(mm, cpu, o, rq)
        if pfn >= 0:
            break
        o -= 1
    if pfn < 0:
        return False
    z = zone_of(mm, <uint64_t>pfn)
    frame = <uint32_t>(<uint64_t>pfn - z.base_pfn)
    n = 1u << (order if mm.design.refill_unmaps == REFILL_REQUEST else o)
    mm.stats.pool_refills += 1
    mm.stats.pool_refill_pages += 1u << o
    clear_pages(mm, z, frame, o)
    map_chunk(mm, z, frame, n, remapped_present(mm), mm.design.refill_leaves, CTX_REFILL, o, order)
    z.pbpool[block_of(z, frame)] = 1
    if remapped_present(mm):
        mm.stats.map_allocs += 1
    else:
        physmap_flush(mm.physmap, <uint64_t>pfn, n)
        mm.stats.flush_allocs += 1
    pool_insert(mm, z, frame, o)
    return True


cdef int64_t pool_alloc(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil:
    cdef int64_t pfn
    if not is_remapped(mm, rq.info):
        pfn = mm_alloc(mm, cpu, order, rq)
        if pfn < 0 and rq.block:
            # direct reclaim calls the shrinker, a batch at a time
            while pfn < 0 and pool_shrink(mm, cpu, mm.design.shrink_batch):
                pfn = mm_alloc(mm, cpu, order, rq)
            if pfn >= 0 and remapped_present(mm):
                mm.stats.flush_allocs += 1
        return pfn
    pfn = pool_take(mm, order, rq)
    if pfn < 0 and pool_refill(mm, cpu, order, rq):
        pfn = pool_take(mm, order, rq)
    if pfn >= 0:
        mm.stats.pool_hits += 1
    return pfn


cdef void pool_release(mm_t *mm, zone_t *z, uint32_t frame, int order) noexcept nogil:
    # A chunk goes back, mapped as all memory is, to the tail of the buddy's lists (__free_pages_ok() with
    # FPI_TO_TAIL), past the pcp lists and whatever its mark says.
    cdef uint32_t n = 1u << order, end = frame + n
    cdef int piece = order if order < z.pageblock_order else z.pageblock_order
    if mm.design.pool_clears and not remapped_present(mm):
        clear_pages(mm, z, frame, order)
    map_chunk(mm, z, frame, n, not remapped_present(mm), mm.design.refill_leaves, CTX_SHRINK, order, 0)
    if remapped_present(mm):
        physmap_flush(mm.physmap, z.base_pfn + frame, n)
    if order == z.pageblock_order:
        z.pbpool[block_of(z, frame)] = 0
    z.state[frame] = TAIL
    while frame < end:
        free_one(z, frame, piece, z.pbtype[block_of(z, frame)], True)
        frame += 1u << piece


cdef int64_t pool_shrink(mm_t *mm, int cpu, int64_t pages) noexcept nogil:
    # The shrinker: lowest order first; pages given back.
    cdef int64_t gone, total = 0
    cdef int o, k
    cdef zone_t *z
    for o in range(mm.zones[0].max_order + 1):
        gone = 0
        for k in range(mm.nzones):
            z = mm.zones[k]
            z.diff = &z.diffs[cpu]
            while gone < pages and blocks_on(z, o, POOL_LIST):
                pool_release(mm, z, pool_first(mm, z, o), o)
                gone += <int64_t>1 << o
        total += gone
        if not mm.design.shrink_counts:
            gone = total        # as posted, the running total is taken off the rest after each order
        if gone >= pages:
            break
        pages -= gone
    if total:
        mm.stats.pool_shrinks += 1
    return total
