"""The separate pool of 2023: the remapped pages have free lists of their own, refilled a pageblock at a time.

"Prototype for direct map awareness in page allocator", msgid 20230308094106.227365-1-rppt@kernel.org, patches
1 and 3; recorded runs of it as posted and as its letter says (docs/model.md).

    request, not remapped -> buddy <--- shrinker: chunks, lowest order first, to the tails of the lists
    request, remapped ----> pool's lists, smallest order that fits; a refill from the buddy when there is none
    free -----------------> pool when it owns the page (pool_owns), else buddy
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset

from asi_pa._core cimport (
    AHEAD_BACK,
    AHEAD_NOW,
    AHEAD_STOCK,
    CTX_REFILL,
    CTX_SHRINK,
    EVENT_POOLED,
    FREE,
    KIND_MASK,
    MIGRATE_RECLAIMABLE,
    ORDER_MASK,
    PCP,
    POOL,
    POOL_LIST,
    REFILL_REQUEST,
    TAIL,
    WMARK_LOW,
    blocks_on,
    design_t,
    first_of,
    free_one,
    list_add,
    list_del,
    zone_watermark_ok,
)
from asi_pa.engine.mapping cimport log_event
from asi_pa.engine.page_alloc cimport (
    GFP_SENSITIVE,
    GFP_THISNODE,
    MAX_NODES,
    decode_request_on,
    get_page_from_freelist,
    may_wait,
    mm_alloc,
    prep_new_page,
    zone_of,
)
from asi_pa.engine.page_isolation cimport ISOLATE_MODE_OTHER, alloc_contig_range
from asi_pa.engine.remapped cimport clear_pages, count_present, is_remapped, map_chunk
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


cdef int64_t pool_take(mm_t *mm, int node, int order, const request_t *rq) noexcept nogil:
    # The smallest order that fits, split; the pool knows no zones, so every zone's share is asked.  node -1:
    # of whichever node.
    cdef int o, high, i
    cdef zone_t *z
    cdef uint32_t frame
    for o in range(order, mm.zones[0].max_order + 1):
        for i in range(mm.nzones):
            z = mm.zones[i]
            if not blocks_on(z, o, POOL_LIST) or not is_of(z, node):
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


cdef int64_t pool_pages(mm_t *mm, int node) noexcept nogil:
    cdef int64_t n = 0
    cdef int i, o
    for i in range(mm.nzones):
        if is_of(mm.zones[i], node):
            for o in range(mm.zones[i].max_order + 1):
                n += <int64_t>blocks_on(mm.zones[i], o, POOL_LIST) << o
    return n


# ---------------------------------------------------------------- from the buddy and back

cdef void pool_add_chunk(mm_t *mm, zone_t *z, uint32_t frame, int order) noexcept nogil:
    # A refill's chunk; of one that is larger than any list has, the lowest part is taken first.
    cdef uint32_t n = 1u << order, at
    for at in range(block_of(z, frame), block_of(z, frame + n - 1) + 1):
        z.pbpool[at] = 1
    if order <= z.max_order:
        pool_insert(mm, z, frame, order)
        return
    at = n
    while at:
        at -= 1u << z.max_order
        pool_insert(mm, z, frame + at, z.max_order)


cdef bint range_is_free(const zone_t *z, uint32_t frame, uint32_t end) noexcept nogil:
    # pfn_range_valid_contig(), and nothing to migrate: all of it is on the free lists or on per-CPU lists, in
    # ordinary pageblocks.
    cdef int kind
    while frame < end:
        kind = z.state[frame] & KIND_MASK
        if kind != FREE and kind != PCP:
            return False
        if z.design.mt[z.pbtype[block_of(z, frame)]] > MIGRATE_RECLAIMABLE:
            return False
        frame += 1u << (z.state[frame] & ORDER_MASK)
    return frame == end


cdef int64_t contig_chunk(mm_t *mm, int node, int order, const request_t *rq, bint only) noexcept nogil:
    # alloc_contig_pages(): the first aligned range of a size that no list has.  Above the LOW mark, as an
    # ordinary request would have it; `only` of the node.
    cdef int i
    cdef uint32_t n = 1u << order, frame
    cdef zone_t *z
    for i in range(mm.nlocal[node] if only else mm.nzonelist[node]):
        z = mm.zonelist[node][i]
        if z.zone_idx > rq.zone_idx or n > z.nframes - z.first:
            continue
        if not zone_watermark_ok(z, 0, z.wmark[WMARK_LOW] + z.boost + n - 1, rq.zone_idx, 0):
            continue
        # the zone's frame 0 need not be so aligned
        frame = <uint32_t>(-<int64_t>(z.base_pfn + z.first) & (n - 1)) + z.first
        while frame + n <= z.nframes:
            if range_is_free(z, frame, frame + n):
                z.diff = z.diffs
                if alloc_contig_range(z, frame, frame + n, ISOLATE_MODE_OTHER, rq.info) == 0:
                    memset(&z.state[frame], TAIL, n)
                    return <int64_t>(z.base_pfn + frame)
            frame += n
    return -1


cdef int64_t refill_chunk(mm_t *mm, int cpu, int order, const request_t *rq, bint worker) noexcept nogil:
    # The worker takes what lies above the LOW mark and nothing else.
    if order > mm.zones[0].max_order:
        if not worker and not rq.block:
            return -1       # alloc_contig_pages() sleeps
        return contig_chunk(mm, mm.cpu_node[cpu], order, rq, rq.gfp & GFP_THISNODE)
    if worker:
        return get_page_from_freelist(mm, cpu, order, rq, rq.fast_flags, 0)
    return mm_alloc(mm, cpu, order, rq)


cdef int wanted_order(mm_t *mm, int cpu, int order) noexcept nogil:
    # Of the chunk that a refill begins with; below `order`: there shall be none.
    cdef zone_t *z = mm.zonelist[mm.cpu_node[cpu]][0]
    cdef int wanted = mm.design.refill_order, chosen
    if z.refill != NULL:
        chosen = z.refill(z, order)
        if chosen >= 0:
            return chosen
    # as posted what is larger than a pageblock is never asked for
    return min(max(order, wanted), max(wanted, z.pageblock_order))


cdef bint pool_refill(mm_t *mm, int cpu, int order, const request_t *rq, bint worker) noexcept nogil:
    # A zeroed chunk of a pageblock, or an order less at a time down to the request's; whatever the request's
    # context.  Larger chunks come of merging alone, unless the design asks for them.
    cdef int o = wanted_order(mm, cpu, order)
    cdef uint32_t frame, n
    cdef int64_t pfn = -1
    cdef zone_t *z
    while o >= order:
        pfn = refill_chunk(mm, cpu, o, rq, worker)
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
    if not remapped_present(mm):
        physmap_flush(mm.physmap, <uint64_t>pfn, n)
    if not worker:
        mm.stats.map_allocs += remapped_present(mm)
        mm.stats.flush_allocs += not remapped_present(mm)
    pool_add_chunk(mm, z, frame, o)
    return True


cdef int64_t own_pool_get(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil:
    # With a pool a node: what the requester's has, or has after a refill of its own node's memory.
    cdef request_t own
    cdef int node = mm.cpu_node[cpu]
    cdef int64_t pfn = pool_take(mm, node, order, rq)
    if pfn < 0 and may_wait(&mm.design, rq, True):
        own = rq[0]
        own.gfp |= GFP_THISNODE
        if pool_refill(mm, cpu, order, &own, False):
            pfn = pool_take(mm, node, order, rq)
    return pfn


cdef int64_t pool_get(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil:
    # What the pool has, or has after a refill.
    cdef int64_t pfn = pool_take(mm, -1, order, rq)
    if pfn < 0 and may_wait(&mm.design, rq, True) and pool_refill(mm, cpu, order, rq, False):
        pfn = pool_take(mm, -1, order, rq)
    return pfn


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
    pfn = pool_get(mm, cpu, order, rq)
    if pfn >= 0:
        mm.stats.pool_hits += 1
    return pfn


# ---------------------------------------------------------------- with marks, or a pool a node

cdef int64_t marked_pool_alloc(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil:
    # With a pool a node: first the requester's, then what the others have, then a refill of any node's.
    cdef int64_t pfn = -1
    if not is_remapped(mm, rq.info):
        return pool_alloc(mm, cpu, order, rq)
    if mm.design.pool_by_node:
        pfn = own_pool_get(mm, cpu, order, rq)
        if pfn >= 0:
            mm.stats.pool_hits += 1
    if pfn < 0 and not (mm.design.pool_by_node and rq.gfp & GFP_THISNODE):
        pfn = pool_alloc(mm, cpu, order, rq)
    mm.zones[0].ahead_due |= mm.design.looks_ahead & AHEAD_NOW
    return pfn


cdef bint marked_pool_keep(mm_t *mm, zone_t *z, uint32_t frame, int order) noexcept nogil:
    if not pool_keep(mm, z, frame, order):
        return False
    mm.zones[0].ahead_due |= mm.design.looks_ahead & AHEAD_BACK
    return True


cdef int cpu_of_node(const mm_t *mm, int node) noexcept nogil:
    cdef int cpu
    for cpu in range(mm.ncpus):
        if mm.cpu_node[cpu] == node:
            return cpu
    return 0


cdef void pool_keep_marks(mm_t *mm, int due, int node) noexcept nogil:
    # Whole pageblocks beyond the high mark go back, the largest chunks first; below the low mark the worker
    # refills up to the high one.  node -1: the machine's one pool.
    cdef design_t *d = &mm.design
    cdef int cpu = 0 if node < 0 else cpu_of_node(mm, node), i, o
    cdef int64_t pages = pool_pages(mm, node)
    cdef request_t rq
    cdef zone_t *z
    if due & AHEAD_BACK and d.pool_high and pages > d.pool_high:
        for o in range(mm.zones[0].max_order, mm.zones[0].pageblock_order - 1, -1):
            for i in range(mm.nzones):
                z = mm.zones[i]
                z.diff = &z.diffs[cpu]
                while (is_of(z, node) and blocks_on(z, o, POOL_LIST)
                        and pages - (<int64_t>1 << o) >= d.pool_high):
                    pool_release(mm, z, pool_first(mm, z, o), o)
                    pages -= <int64_t>1 << o
    if due & AHEAD_STOCK and pages < d.pool_low:
        # it wakes nobody and has no reserves
        decode_request_on(mm, mm.cpu_node[cpu], (0 if remapped_present(mm) else GFP_SENSITIVE)
                          | (GFP_THISNODE if node >= 0 else 0), &rq)
        while pages < max(d.pool_low, d.pool_high) and pool_refill(mm, cpu, 0, &rq, True):
            pages = pool_pages(mm, node)


cdef void pool_balance(mm_t *mm, int due) noexcept nogil:
    cdef int node, cpu
    if not mm.design.pool_by_node:
        pool_keep_marks(mm, due, -1)
        return
    for node in range(MAX_NODES):
        for cpu in range(mm.ncpus):
            if mm.cpu_node[cpu] == node:
                pool_keep_marks(mm, due, node)      # of nodes that have CPUs: whose pool is asked
                break


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
