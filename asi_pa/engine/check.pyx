"""Walks a zone: the first broken invariant, and a frame's state, in words."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from asi_pa._core cimport (
    ALLOC,
    FREE,
    HOLE,
    KIND_MASK,
    MAX_FREETYPES,
    MAX_ORDERS,
    MIGRATE_CMA,
    MIGRATE_HIGHATOMIC,
    MIGRATE_ISOLATE,
    ORDER_MASK,
    PCP,
    POOL,
    QUEUED,
    TAIL,
    TAKEN,
    block_of,
    blocks_on,
    detours_of,
    first_of,
    free_high_least_of,
    list_of,
    pcp_t,
    pcplist_t,
    plenty_of,
    quiet_of,
    zone_t,
)


cdef struct found_t:
    # what a walk over the frames and lists found
    uint32_t free_by_list[MAX_ORDERS][MAX_FREETYPES]
    int64_t nr_free
    int64_t nr_cma
    int64_t nr_highatomic


cdef inline bint may_be_listed(const zone_t *z, uint32_t block, int ft) noexcept nogil:
    # May a free page of the block be on this freetype's list?  Where a block keeps a bit of its own, on the
    # list of any bit (2026, v2).
    cdef int own = z.pbtype[block]
    return own == ft or (z.design.blocks_keep_bit
                         and (z.design.mt[own] == z.design.mt[ft] or not z.design.mapped[own]))


cdef const char *zone_verify(zone_t *z, uint64_t *where) noexcept nogil:
    # Walks frames, lists and counters; returns the first broken invariant, NULL when all hold.
    cdef found_t found
    cdef const char *broken
    cdef int ft
    memset(&found, 0, sizeof(found_t))
    broken = frames_verify(z, &found, where)
    if broken != NULL:
        return broken
    for ft in range(z.design.nft):
        broken = lists_verify(z, ft, &found, where)
        if broken != NULL:
            return broken
    where[0] = 0
    broken = counters_verify(z, &found)
    if broken != NULL:
        return broken
    return pcp_verify(z, where)


cdef const char *frames_verify(zone_t *z, found_t *found, uint64_t *where) noexcept nogil:
    # Each frame heads a block, or stands inside one.
    cdef uint32_t frame = 0, step, i
    cdef int order, kind, ft
    while frame < z.nframes:
        where[0] = frame
        kind = z.state[frame] & KIND_MASK
        order = z.state[frame] & ORDER_MASK
        step = 1
        if kind == TAIL:
            return b"a frame belongs to no block"
        if kind == TAKEN:
            return b"a block is off every list although no operation is under way"
        if kind != HOLE:
            if order > z.max_order or (z.state[frame] & 0x70 and kind >= ALLOC):
                return b"a frame's state is not one"
            step = 1u << order
            if frame & (step - 1):
                if kind == FREE or kind == POOL:
                    return b"a free block is not aligned to its order"
            if frame + step > z.nframes or frame < z.first:
                return b"a block reaches out of the zone"
            for i in range(frame + 1, frame + step):
                if z.state[i] != TAIL:
                    where[0] = i
                    return b"a frame inside a block has a state of its own"
            if kind == FREE:
                ft = z.listed[frame] if z.design.blocks_keep_bit else z.pbtype[block_of(z, frame)]
                found.free_by_list[order][ft] += 1
        frame += step
    return NULL


cdef const char *lists_verify(zone_t *z, int ft, found_t *found, uint64_t *where) noexcept nogil:
    # The lists of a freetype hold the free blocks that were found, and are linked both ways.
    cdef uint32_t head, busy = z.nonempty[ft] & ((2u << z.max_order) - 1)
    cdef int order
    cdef int64_t pages
    cdef const char *broken
    # most freetypes have no free block: that all of their lists say so is seen without branches
    for order in range(z.max_order + 1):
        head = list_of(z, order, ft)
        busy |= (z.links[head].next ^ head) | (z.links[head].prev ^ head) | blocks_on(z, order, ft)
        busy |= found.free_by_list[order][ft]
    if not busy:
        return NULL
    for order in range(z.max_order + 1):
        broken = list_verify(z, order, ft, found.free_by_list[order][ft], where)
        if broken != NULL:
            return broken
        pages = <int64_t>blocks_on(z, order, ft) << order
        if z.design.mt[ft] != MIGRATE_ISOLATE:
            found.nr_free += pages
        if z.design.mt[ft] == MIGRATE_CMA:
            found.nr_cma += pages
        if z.design.mt[ft] == MIGRATE_HIGHATOMIC:
            found.nr_highatomic += pages
    return NULL


cdef const char *list_verify(zone_t *z, int order, int ft, uint32_t blocks, uint64_t *where) noexcept nogil:
    cdef uint32_t prev = list_of(z, order, ft), head = first_of(z, order, ft), count = 0, b
    while head != list_of(z, order, ft):
        where[0] = head
        if head >= z.nframes or z.state[head] != <uint8_t>(FREE | order):
            return b"a free list holds a frame that heads no free block of its order"
        if not may_be_listed(z, block_of(z, head), ft):
            return b"a free block is on the list of another type than its pageblock's"
        if z.links[head].prev != prev:
            return b"a free list's back link is wrong"
        if order >= z.pageblock_order:
            for b in range(block_of(z, head), block_of(z, head + (1u << order))):
                if not may_be_listed(z, b, ft):
                    return b"a free block spans pageblocks of two types"
        prev = head
        head = z.links[head].next
        count += 1
        if count > blocks_on(z, order, ft):
            return b"a free list is longer than its count"
    where[0] = prev if prev < z.nframes else 0
    if z.links[head].prev != prev:
        return b"a free list's tail is wrong"
    if count != blocks_on(z, order, ft) or count != blocks:
        return b"a free list's count differs from the free blocks there are"
    if (z.nonempty[ft] >> order & 1) != (count != 0):
        return b"the index of non-empty lists is wrong"
    return NULL


cdef const char *counters_verify(zone_t *z, const found_t *found) noexcept nogil:
    # The zone's counters, CPUs' differences included, say what the lists hold.
    cdef int64_t nr_free = z.nr_free, nr_cma = z.nr_free_cma, isolated = 0
    cdef uint32_t i, b
    for i in range(<uint32_t>z.ncpus):
        nr_free += z.diffs[i].free
        nr_cma += z.diffs[i].cma
    if nr_free != found.nr_free:
        return b"NR_FREE_PAGES differs from the pages on the free lists"
    if nr_cma != found.nr_cma:
        return b"NR_FREE_CMA_PAGES differs from the pages on the CMA lists"
    if z.nr_free_highatomic != found.nr_highatomic:
        return b"nr_free_highatomic differs from the pages on the HIGHATOMIC lists"
    if z.plenty != plenty_of(z) or z.detours != detours_of(z):
        return b"what the fast paths test is out of date (set_plenty)"
    for b in range(z.first_block, z.nblocks):
        isolated += z.design.mt[z.pbtype[b]] == MIGRATE_ISOLATE
    if isolated != z.nr_isolate_blocks:
        return b"nr_isolate_pageblock differs from the isolated pageblocks"
    return NULL


cdef const char *pcp_verify(zone_t *z, uint64_t *where) noexcept nogil:
    cdef int cpu, number, order
    cdef int64_t count, most, least, pages = 0, listed = 0
    cdef uint32_t frame
    cdef const uint32_t *at
    cdef pcp_t *pcp
    cdef pcplist_t *fl
    if z.pcps != NULL:
        for cpu in range(z.ncpus):
            pcp = &z.pcps[cpu]
            count = 0
            for number in range(z.design.npcp):
                order = z.design.pcp_list_order[number]
                fl = &pcp.lists[number]
                if not fl.room <= fl.tail <= fl.head <= fl.end:
                    return b"a per-CPU list is not inside its array"
                at = fl.tail
                while at != fl.head:
                    frame = at[0]
                    at += 1
                    where[0] = frame
                    if frame >= z.nframes or z.state[frame] != <uint8_t>(PCP | order):
                        return b"a per-CPU list holds a frame that is not on one"
                    count += <int64_t>1 << order
            if count != pcp.count:
                return b"a per-CPU count differs from the pages on its lists"
            most = pcp.batch << z.pcp_batch_scale_max
            least = free_high_least_of(z, pcp)
            if (pcp.quiet != quiet_of(z, pcp) or pcp.free_high_least != least or pcp.free_count_max != most
                    or pcp.free_count_below[0] != most or pcp.free_count_below[1] != min(least, most)):
                return b"what the fast path of a per-CPU free tests is out of date (pcp_set_quiet)"
            listed += count
    frame = 0
    while frame < z.nframes:
        if z.state[frame] & KIND_MASK == PCP:
            pages += <int64_t>1 << (z.state[frame] & ORDER_MASK)
        frame += 1
    if pages != listed:
        return b"a page says it is on a per-CPU list and is on none"
    return NULL


cdef str describe_frame(zone_t *z, uint32_t frame):
    # What a frame is that is no allocation's first page of the order that was asked for.
    cdef int kind = z.state[frame] & KIND_MASK
    cdef int order = z.state[frame] & ORDER_MASK
    if kind == ALLOC:
        return f"it is allocated with order {order}"
    if kind == FREE:
        return f"it is free already (order {order})"
    if kind == PCP:
        return f"it is free already, on a per-CPU list (order {order})"
    if kind == POOL:
        return f"it is free already, in the pool (order {order})"
    if kind == QUEUED:
        return "it is free already, in the free queue"
    if kind == HOLE:
        return "it was never handed to the allocator"
    return "it is not the first page of an allocation"
