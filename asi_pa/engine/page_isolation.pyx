"""Isolation of pageblocks, contiguous ranges, and page reporting's take-and-put-back.

Rules: mm/page_isolation.c, and alloc_contig_range, free_contig_range, __isolate_free_page of mm/page_alloc.c
(7.2).
Nothing migrates here: a range is free already, or the answer is -EBUSY.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from asi_pa._core cimport (
    ALLOC,
    ALLOC_CMA,
    CTX_CONTIG,
    CTX_ISOLATE_FREE,
    FREE,
    HOLE,
    INFO_COMP,
    INFO_LRU,
    INFO_SENSITIVE,
    KIND_MASK,
    MIGRATE_CMA,
    MIGRATE_HIGHATOMIC,
    MIGRATE_ISOLATE,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    NIL,
    NO_FREETYPE,
    ORDER_MASK,
    POOL,
    QUEUED,
    TAIL,
    TAKEN,
    WINDOW_CONTIG,
    WINDOW_REPORTED,
    WMARK_MIN,
    account_freepages,
    block_in_zone,
    block_of,
    blocks_on,
    design_t,
    first_of,
    free_one,
    list_del,
    move_freepages,
    set_block_type,
    zone_watermark_ok,
)
from asi_pa.engine.mapping cimport block_zero, blocks_map, blocks_unmap
from asi_pa.engine.page_alloc cimport page_handed_out, zone_free
from asi_pa.engine.pcp cimport pcp_drain


cdef uint32_t head_of(zone_t *z, uint32_t frame) noexcept nogil:
    # The frame that heads the block a frame lies in.
    cdef int order
    cdef uint32_t head
    for order in range(z.max_order + 1):
        head = frame & ~((1u << order) - 1)
        if z.state[head] != TAIL and (z.state[head] >= HOLE or (z.state[head] & ORDER_MASK) >= order):
            return head
    return frame


cdef bint is_isolated(zone_t *z, uint32_t block) noexcept nogil:
    return z.design.mt[z.pbtype[block]] == MIGRATE_ISOLATE


cdef bint has_unmovable_pages(zone_t *z, uint32_t frame, uint32_t end, int mode) noexcept nogil:
    # has_unmovable_pages(): in use, and neither on the LRU nor the inside of a page that is not compound.
    cdef uint32_t head, pages
    cdef int kind
    if z.design.mt[z.pbtype[block_of(z, frame)]] == MIGRATE_CMA:
        return mode != ISOLATE_MODE_CMA_ALLOC
    while frame < end:
        head = head_of(z, frame)
        kind = z.state[head] & KIND_MASK
        if kind == HOLE or kind == POOL or kind == QUEUED:
            return True
        pages = 1u << (z.state[head] & ORDER_MASK)
        if kind == ALLOC and not z.links[head].next & INFO_LRU:
            if frame == head or (pages > 1 and z.links[head].next & INFO_COMP):
                return True
        frame = head + pages
    return False


cdef void toggle_isolate(zone_t *z, uint32_t block, bint isolate) noexcept nogil:
    cdef int ft = z.design.isolate[z.pbbase[block]] if isolate else z.pbbase[block]
    z.pbtype[block] = <uint8_t>ft


cdef void isolate_and_move(zone_t *z, uint32_t block, bint isolate) noexcept nogil:
    # __pageblock_isolate_and_move_free_pages(): a larger free block is taken apart at the pageblocks.
    cdef uint32_t frame = block << z.pageblock_order
    cdef uint32_t head = head_of(z, frame), at, end
    cdef int order = z.state[head] & ORDER_MASK
    cdef int old = z.pbtype[block], new
    if z.state[head] & KIND_MASK == FREE and order > z.pageblock_order:
        old = z.pbtype[block_of(z, head)]
        list_del(z, head, order, old)
        account_freepages(z, old, -(<int64_t>1 << order))
        toggle_isolate(z, block, isolate)
        end = head + (1u << order)
        at = head
        while at < end:
            free_one(z, at, z.pageblock_order, z.pbtype[block_of(z, at)], False)
            at += z.pageblock_pages
        return
    new = z.design.isolate[z.pbbase[block]] if isolate else z.pbbase[block]
    move_freepages(z, block, old, new)
    toggle_isolate(z, block, isolate)


cdef int set_migratetype_isolate(zone_t *z, uint32_t block, int mode, uint32_t start,
                                 uint32_t end) noexcept nogil:
    cdef uint32_t low = block << z.pageblock_order
    cdef uint32_t high = low + z.pageblock_pages
    cdef int ft
    if not z.design.isolates_unmapped and not z.design.mapped[z.pbbase[block]]:
        return -EINVAL
    if low < z.first or high > z.nframes or is_isolated(z, block):
        return -EBUSY
    if has_unmovable_pages(z, low if low > start else start, high if high < end else end, mode):
        return -EBUSY
    isolate_and_move(z, block, True)
    if not z.kernel.isolate_is_bit:
        # until 6.17 ISOLATE replaced the type, and the caller's word decided what came back
        ft = z.pbbase[block]
        if mode == ISOLATE_MODE_CMA_ALLOC:
            ft = z.design.cma[ft]
        elif z.design.explicit_maps:
            ft = side_of(z, z.design.start[MIGRATE_MOVABLE][0 if z.pbmapped[block] else 1], z.pbmapped[block])
        else:
            ft = z.design.start[MIGRATE_MOVABLE][z.design.sensitive[ft]]
        if ft != NO_FREETYPE:
            z.pbbase[block] = <uint8_t>ft
            z.pbtype[block] = z.design.isolate[ft]
    z.nr_isolate_blocks += 1
    return 0


cdef void unset_migratetype_isolate(zone_t *z, uint32_t block) noexcept nogil:
    cdef uint32_t frame = block << z.pageblock_order, buddy
    cdef int order = z.state[frame] & ORDER_MASK
    if not is_isolated(z, block):
        return
    z.nr_isolate_blocks -= 1
    # The kernel asks for order >= pageblock_order, the same where MAX_PAGE_ORDER is one more; a larger block
    # may hold pageblocks that stay isolated.
    if z.state[frame] & KIND_MASK == FREE and order == z.pageblock_order < z.max_order:
        buddy = frame ^ (1u << order)
        if z.state[buddy] == <uint8_t>(FREE | order) and not is_isolated(z, block_of(z, buddy)):
            # freed again, so that it merges; __putback_isolated_page() puts to the tail
            list_del(z, frame, order, z.pbtype[block])
            account_freepages(z, z.pbtype[block], -(<int64_t>1 << order))
            toggle_isolate(z, block, False)
            free_one(z, frame, order, z.pbtype[block], True)
            return
    isolate_and_move(z, block, False)


cdef int isolate_single_pageblock(zone_t *z, uint32_t boundary, int mode, bint before,
                                  bint skip) noexcept nogil:
    # isolate_single_pageblock(): besides, a compound page must not straddle the boundary.
    cdef uint32_t block = block_of(z, boundary) - (1 if before else 0)
    cdef uint32_t frame = block << z.pageblock_order, at, head, pages
    cdef int kind, error
    if not skip:
        error = set_migratetype_isolate(z, block, mode, frame, frame + z.pageblock_pages)
        if error:
            return error
    if boundary <= z.first or boundary >= z.nframes:
        return 0
    at = frame & ~((1u << z.max_order) - 1)
    if at < z.first:
        at = z.first
    while at < boundary:
        head = head_of(z, at)
        kind = z.state[head] & KIND_MASK
        if kind == HOLE:
            at += 1
            continue
        pages = 1u << (z.state[head] & ORDER_MASK)
        if kind == ALLOC and pages > 1 and z.links[head].next & INFO_COMP and head + pages > boundary:
            if not skip:
                unset_migratetype_isolate(z, block)
            return -EBUSY
        at = head + pages
    return 0


cdef int start_isolate_page_range(zone_t *z, uint32_t start, uint32_t end, int mode) noexcept nogil:
    # First block, last block, then the middle; what was isolated is undone on failure.
    cdef uint32_t pages = z.pageblock_pages
    cdef uint32_t low = start & ~(pages - 1), high = (end + pages - 1) & ~(pages - 1), at
    cdef bint one = low == high - pages
    cdef int error = isolate_single_pageblock(z, low, mode, False, False)
    if error:
        return error
    error = isolate_single_pageblock(z, high, mode, True, one)
    if error:
        unset_migratetype_isolate(z, block_of(z, low))
        return error
    at = low + pages
    while at + pages < high:
        if set_migratetype_isolate(z, block_of(z, at), mode, start, end) != 0:
            undo_isolate_page_range(z, low, at)
            unset_migratetype_isolate(z, block_of(z, high - pages))
            return -EBUSY
        at += pages
    return 0


cdef void undo_isolate_page_range(zone_t *z, uint32_t start, uint32_t end) noexcept nogil:
    cdef uint32_t b
    for b in range(block_of(z, start), block_of(z, end + z.pageblock_pages - 1)):
        unset_migratetype_isolate(z, b)


cdef bint flip_range(zone_t *z, uint32_t start, uint32_t end, uint32_t info) noexcept nogil:
    # Sound designs: every pageblock of an isolated, free range comes to the requester's side.  A block that
    # has to change must be free as a whole; nothing is changed unless all can be.
    cdef design_t *d = z.design
    cdef bint to_mapped = not info & INFO_SENSITIVE
    cdef uint32_t first = block_of(z, start), last = block_of(z, end - 1) + 1, b, at, high
    cdef int ft
    for b in range(first, last):
        if z.pbmapped[b] == to_mapped:
            continue
        at = b << z.pageblock_order
        high = at + z.pageblock_pages
        while at < high:
            if z.state[head_of(z, at)] & KIND_MASK != FREE:
                return False
            at = head_of(z, at) + (1u << (z.state[head_of(z, at)] & ORDER_MASK))
        ft = side_of(z, z.pbbase[b], to_mapped)
        if ft == NO_FREETYPE:
            return False
    for b in range(first, last):
        if z.pbmapped[b] == to_mapped:
            continue
        ft = side_of(z, z.pbbase[b], to_mapped)
        if to_mapped:
            block_zero(z, b, False)
            blocks_map(z, b, 1, CTX_CONTIG)
        else:
            blocks_unmap(z, b, 1, CTX_CONTIG, True)
        if d.mt[z.pbbase[b]] == MIGRATE_HIGHATOMIC:
            # the other side has no such reserve of this block: it is an ordinary one from here on
            z.nr_reserved_highatomic -= min(z.nr_reserved_highatomic, <int64_t>z.pageblock_pages)
        z.pbbase[b] = <uint8_t>ft
        if d.isolate[ft] != z.pbtype[b]:
            isolate_list(z, b, d.isolate[ft])
    return True


cdef int side_of(zone_t *z, int ft, bint to_mapped) noexcept nogil:
    # The freetype a block of type `ft` gets on a side: CMA stays CMA, the rest is as requests start.
    cdef design_t *d = z.design
    cdef int i
    if d.mapped[ft] == to_mapped:
        return ft
    if d.mt[ft] == MIGRATE_CMA:
        for i in range(d.nft):
            if d.mt[i] == MIGRATE_CMA and d.mapped[i] == to_mapped:
                return i
        return NO_FREETYPE
    i = d.start[MIGRATE_MOVABLE][0 if to_mapped else 1]
    return i if d.mapped[i] == to_mapped else d.start[0][0 if to_mapped else 1]


cdef void isolate_list(zone_t *z, uint32_t block, int ft) noexcept nogil:
    # An isolated block's free pages, from one ISOLATE list to another; a larger block is taken apart first.
    cdef uint32_t frame = block << z.pageblock_order
    cdef uint32_t head = head_of(z, frame), at, end
    cdef int order = z.state[head] & ORDER_MASK, old
    if z.state[head] & KIND_MASK == FREE and order > z.pageblock_order:
        old = z.pbtype[block_of(z, head)]
        list_del(z, head, order, old)
        account_freepages(z, old, -(<int64_t>1 << order))
        z.pbtype[block] = <uint8_t>ft
        at = head
        end = head + (1u << order)
        while at < end:
            free_one(z, at, z.pageblock_order, z.pbtype[block_of(z, at)], False)
            at += z.pageblock_pages
        return
    move_freepages(z, block, z.pbtype[block], ft)
    z.pbtype[block] = <uint8_t>ft


cdef int alloc_contig_range(zone_t *z, uint32_t start, uint32_t end, int mode, uint32_t info) noexcept nogil:
    # alloc_contig_range(): isolate, drain, grab what is free, give back what was grabbed beyond the range.
    cdef uint32_t outer, at, outer_end
    cdef int cpu, order, ft
    cdef int error = start_isolate_page_range(z, start, end, mode)
    if error:
        if z.design.undoes_others_isolation:
            # the kernel undoes the whole range, and with it what another caller had isolated (6.12 alike)
            undo_isolate_page_range(z, start, end)
        return error
    if z.window != NULL:
        z.window(z, WINDOW_CONTIG, start, 0)
    if z.pcps != NULL:
        for cpu in range(z.ncpus):
            pcp_drain(z, &z.pcps[cpu])
    outer = head_of(z, start)
    if z.state[outer] & KIND_MASK != FREE:
        outer = start
    at = outer
    while at < end:
        if z.state[at] & KIND_MASK != FREE or not is_isolated(z, block_of(z, at)):
            undo_isolate_page_range(z, start, end)
            return -EBUSY
        at += 1u << (z.state[at] & ORDER_MASK)
    outer_end = at
    if z.design.contig_flips and not flip_range(z, start, end, info):
        undo_isolate_page_range(z, start, end)
        return -EBUSY
    at = outer
    while at < outer_end:
        order = z.state[at] & ORDER_MASK
        ft = z.pbtype[block_of(z, at)]
        list_del(z, at, order, ft)
        account_freepages(z, ft, -(<int64_t>1 << order))
        at += 1u << order
    for at in range(outer, outer_end):
        z.state[at] = ALLOC
        z.links[at].next = info
        z.links[at].prev = NIL
        if at < start or at >= end:
            # goes straight back, nobody had it
            z.links[at].next = 0 if z.pbmapped[block_of(z, at)] else INFO_SENSITIVE
    if z.design.tracks:
        for at in range(start, end):
            page_handed_out(z, at, 0, (info & INFO_SENSITIVE) != 0)
    if outer < start:
        free_contig_range(z, 0, outer, start - outer)
    if end < outer_end:
        free_contig_range(z, 0, end, outer_end - end)
    undo_isolate_page_range(z, start, end)
    return 0


cdef void free_contig_range(zone_t *z, int cpu, uint32_t frame, uint32_t n) noexcept nogil:
    # free_contig_range(): 7.2 frees the largest naturally aligned chunks, 6.12 page by page.
    cdef uint32_t end = frame + n, i
    cdef int order
    while frame < end:
        order = 0
        if not z.kernel.free_contig_by_page:
            while (order < z.max_order and not frame & (1u << order)
                   and frame + (2u << order) <= end):
                order += 1
        for i in range(frame + 1, frame + (1u << order)):
            z.state[i] = TAIL
        z.state[frame] = <uint8_t>(ALLOC | order)
        zone_free(z, cpu, frame, order)
        frame += 1u << order


cdef bint isolate_free_page(zone_t *z, uint32_t frame, int order) noexcept nogil:
    # __isolate_free_page(): a free block off its list, unless that leaves less than the MIN mark; blocks of
    # at least half a pageblock make their pageblocks MOVABLE.
    cdef uint32_t b
    cdef int ft = z.pbtype[block_of(z, frame)]
    if z.design.mt[ft] != MIGRATE_ISOLATE:
        if not zone_watermark_ok(z, 0, z.wmark[WMARK_MIN] + (<int64_t>1 << order), 0, ALLOC_CMA):
            return False
    list_del(z, frame, order, ft)
    account_freepages(z, ft, -(<int64_t>1 << order))
    z.state[frame] = <uint8_t>(TAKEN | order)
    if order >= z.pageblock_order - 1:
        for b in range(block_of(z, frame), block_of(z, frame + (1u << order) - 1) + 1):
            ft = z.pbtype[b]
            if z.design.mt[ft] <= MIGRATE_RECLAIMABLE and block_in_zone(z, b):
                if z.design.explicit_maps:
                    ft = side_of(z, z.design.start[MIGRATE_MOVABLE][1], z.pbmapped[b])
                else:
                    ft = z.design.start[MIGRATE_MOVABLE][z.design.sensitive[ft]]
                move_freepages(z, b, z.pbtype[b], ft)
                set_block_type(z, b, ft, CTX_ISOLATE_FREE)
    return True


cdef int64_t take_and_putback(zone_t *z, int ft, int least_order) noexcept nogil:
    # page_reporting: __isolate_free_page() and __putback_isolated_page() of a list's first block.
    cdef int order
    cdef uint32_t frame = NIL, b, block
    for order in range(least_order, z.max_order + 1):
        if blocks_on(z, order, ft):
            frame = first_of(z, order, ft)
            break
    else:
        return -1
    block = block_of(z, frame)
    if not isolate_free_page(z, frame, order):
        return -1
    if z.window != NULL:
        z.window(z, WINDOW_REPORTED, frame, order)
    z.state[frame] = TAIL
    if z.design.putback_by_block and order > z.pageblock_order:
        # another CPU may have isolated part of it meanwhile; the kernel puts the whole under the first's type
        for b in range(block, block_of(z, frame + (1u << order))):
            free_one(z, b << z.pageblock_order, z.pageblock_order, z.pbtype[b], True)
    else:
        free_one(z, frame, order, z.pbtype[block], True)
    return frame
