"""Designs that wrap the allocator: per-page mapping, RFCv2's free queue, the separate pool of 2023.

Each has *odd* pages, whose mapping differs from all other memory's: in the restricted tree the nonsensitive
ones (present there), in the unrestricted tree the sensitive unmovable ones (absent there).

per-page: set_direct_map_invalid_noflush() and a flush for every page, as secretmem does today
(mm/secretmem.c, 7.2).
queue: free pages are unmapped; a freed nonsensitive page waits in a per-CPU list for a worker that unmaps
and flushes it, then frees it past the pcp lists; msgid
20250110-asi-rfc-v2-v2-0-8419288bc805@google.com, patch 14.
pool: "Prototype for direct map awareness in page allocator", msgid 20230308094106.227365-1-rppt@kernel.org;
the odd pages have free lists of their own, refilled a pageblock at a time.  A page belongs to the pool when
its mapping is odd; the posting asks its pageblock's mark instead, which would put the neighbours of a small
chunk into the pool.
"""

from libc.stdint cimport uint8_t

from asi_pa._core cimport (
    ALLOC,
    INFO_SENSITIVE,
    NIL,
    ORDER_MASK,
    POOL,
    POOL_LIST,
    QUEUED,
    TAIL,
    ZERO_NONE,
    blocks_on,
    first_of,
    free_to_buddy,
    list_add,
    list_del,
)
from asi_pa.engine.page_alloc cimport count_dirty, prep_new_page, set_dirty, zone_of
from asi_pa.physmap.physmap cimport (
    CAUSE_PAGE_ALLOC,
    CAUSE_PAGE_FREE,
    CAUSE_POOL_REFILL,
    CAUSE_QUEUE_WORKER,
    CAUSE_SHRINKER,
    FLUSH_NONE,
    FLUSH_RANGE,
    physmap_flush,
    physmap_map,
    physmap_present,
    physmap_unflushed,
    physmap_unmap,
)


# ---------------------------------------------------------------- what all share

cdef void set_pages(mm_t *mm, uint64_t pfn, uint64_t n, bint present, int cause) noexcept nogil:
    # Page by page, as set_direct_map_*_noflush() is called; whoever unmaps flushes.
    cdef uint64_t i
    for i in range(n):
        if present:
            physmap_map(mm.physmap, mm.design.tree, pfn + i, 1, cause)
        else:
            physmap_unmap(mm.physmap, mm.design.tree, pfn + i, 1, cause, FLUSH_NONE)


cdef void clear_pages(mm_t *mm, zone_t *z, uint32_t frame, int order) noexcept nogil:
    mm.stats.pages_zeroed += 1u << order
    set_dirty(z, frame, 1u << order, False)


cdef int64_t handed_out(mm_t *mm, zone_t *z, int64_t pfn, int order, const request_t *rq) noexcept nogil:
    # The audit of every allocation: mapped as it should be, and no old secrets in what is mapped.
    cdef uint32_t frame = <uint32_t>(<uint64_t>pfn - z.base_pfn), i, n = 1u << order
    cdef bint odd = is_odd(mm, rq.info), present = odd == odd_present(mm)
    for i in range(n):
        if physmap_present(mm.physmap, mm.design.tree, <uint64_t>pfn + i) == present:
            continue
        if present:
            mm.stats.absences += 1
        else:
            mm.stats.exposures += 1
    if not present:
        mm.stats.unflushed += physmap_unflushed(mm.physmap, <uint64_t>pfn, n)
        set_dirty(z, frame, n, True)
    elif rq.sensitive and mm.design.tree == RESTRICTED:
        set_dirty(z, frame, n, True)
    else:
        mm.stats.stale_exposed += count_dirty(z, frame, n)
    return pfn


cdef int64_t wrapped_alloc(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil:
    cdef int64_t pfn
    cdef zone_t *z
    cdef bint odd = is_odd(mm, rq.info)
    mm.now += 1
    if mm.wrapper == WRAP_POOL:
        pfn = pool_or_buddy(mm, cpu, order, rq, odd)
        if pfn < 0:
            return -1
        z = zone_of(mm, <uint64_t>pfn)
        return handed_out(mm, z, pfn, order, rq)
    if mm.wrapper == WRAP_QUEUE and mm.queue_due and mm.now >= mm.queue_due:
        queue_run(mm, cpu)
    pfn = mm_alloc(mm, cpu, order, rq)
    if pfn < 0 and mm.wrapper == WRAP_QUEUE and mm.design.queue_waits and rq.block and mm.queue_due:
        # direct reclaim waits for the worker; as posted the pages are stuck
        queue_run(mm, cpu)
        mm.stats.flush_allocs += 1
        pfn = mm_alloc(mm, cpu, order, rq)
    if pfn < 0:
        return -1
    z = zone_of(mm, <uint64_t>pfn)
    if odd:
        if mm.design.zeroing != ZERO_NONE:
            clear_pages(mm, z, <uint32_t>(<uint64_t>pfn - z.base_pfn), order)
        set_pages(mm, <uint64_t>pfn, 1u << order, odd_present(mm), CAUSE_PAGE_ALLOC)
        if odd_present(mm):
            mm.stats.map_allocs += 1
        else:
            physmap_flush(mm.physmap, <uint64_t>pfn, 1u << order)
            mm.stats.flush_allocs += 1
    return handed_out(mm, z, pfn, order, rq)


cdef void wrapped_free(mm_t *mm, zone_t *z, int cpu, uint32_t frame, int order) noexcept nogil:
    cdef uint64_t pfn = z.base_pfn + frame
    mm.now += 1
    if mm.wrapper == WRAP_POOL:
        if physmap_present(mm.physmap, mm.design.tree, pfn) == odd_present(mm):
            pool_free(z, frame, order)
            return
    elif is_odd(mm, z.links[frame].next):
        if mm.wrapper == WRAP_QUEUE:
            queue_add(mm, z, frame, order)
            return
        if odd_present(mm):
            # the caller frees and so waits for the flush itself
            physmap_unmap(mm.physmap, mm.design.tree, pfn, 1u << order, CAUSE_PAGE_FREE, FLUSH_RANGE)
            mm.stats.flush_frees += 1
        else:
            # secretmem_free_folio(): mapped again, then cleared by its owner
            set_pages(mm, pfn, 1u << order, True, CAUSE_PAGE_FREE)
            clear_pages(mm, z, frame, order)
    zone_free(z, cpu, frame, order)


cdef void wrapped_contig(mm_t *mm, zone_t *z, uint32_t frame, uint32_t n, uint32_t info) noexcept nogil:
    # A contiguous range that was just allocated gets the mapping of its kind.
    cdef uint64_t pfn = z.base_pfn + frame
    if is_odd(mm, info):
        if odd_present(mm):
            mm.stats.pages_zeroed += n
            set_dirty(z, frame, n, False)
        set_pages(mm, pfn, n, odd_present(mm), CAUSE_PAGE_ALLOC)
        if not odd_present(mm):
            physmap_flush(mm.physmap, pfn, n)
    if info & INFO_SENSITIVE and (odd_present(mm) or is_odd(mm, info)):
        set_dirty(z, frame, n, True)


# ---------------------------------------------------------------- RFCv2's free queue

cdef void queue_add(mm_t *mm, zone_t *z, uint32_t frame, int order) noexcept nogil:
    # links: next in the queue; one queue a zone stands for the per-CPU lists, which one worker empties
    z.state[frame] = <uint8_t>(QUEUED | order)
    z.links[frame].next = z.queue
    z.links[frame].prev = NIL
    z.queue = frame
    if not mm.queue_due:
        mm.queue_due = mm.now + mm.design.queue_delay


cdef void queue_run(mm_t *mm, int cpu) noexcept nogil:
    # The worker: so many chunks are unmapped, flushed together, and only then free.
    cdef int64_t batch = mm.design.queue_batch, unmapped, freed
    cdef int i
    cdef zone_t *z
    cdef uint32_t frame
    mm.queue_due = 0
    while True:
        unmapped = freed = 0
        for i in range(mm.nzones):
            z = mm.zones[i]
            frame = z.queue
            while frame != NIL and (unmapped < batch or not batch):
                physmap_unmap(mm.physmap, mm.design.tree, z.base_pfn + frame,
                              1u << (z.state[frame] & ORDER_MASK), CAUSE_QUEUE_WORKER,
                              FLUSH_RANGE if batch == 1 else FLUSH_NONE)
                unmapped += 1
                frame = z.links[frame].next
        if not unmapped:
            return
        if batch != 1:
            z = mm.zones[0]
            physmap_flush(mm.physmap, z.base_pfn + z.first, z.nframes - z.first)
        for i in range(mm.nzones):
            z = mm.zones[i]
            z.diff = &z.diffs[cpu]
            while freed < unmapped and z.queue != NIL:
                frame = z.queue
                z.queue = z.links[frame].next
                free_to_buddy(z, frame, z.state[frame] & ORDER_MASK)
                freed += 1


# ---------------------------------------------------------------- the pool

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
