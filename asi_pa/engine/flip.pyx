"""Flips: whole free pageblocks change from one side of the mapping to the other.

March 2025, patch 11, and September 2025, patch 18, flip after everything else has failed; ahead of need is
ours (``migratetype/eager``).
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from asi_pa._core cimport (
    AHEAD_BACK,
    AHEAD_STOCK,
    ALLOC_CMA,
    ALLOC_FLIP,
    ALLOC_NOSTEAL,
    CTX_FLIP,
    FREE,
    KIND_MASK,
    MIGRATE_CMA,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    MIGRATE_UNMOVABLE,
    NIL,
    ORDER_MASK,
    RMQUEUE_NORMAL,
    TAIL,
    TAKEN,
    WINDOW_FLUSHED,
    WINDOW_MAPPED,
    WINDOW_TAKEN,
    WINDOW_UNMAPPED,
    ZERO_MAPPED,
    account_freepages,
    block_of,
    blocks_on,
    design_t,
    expand,
    first_of,
    free_one,
    keep_claimed,
    list_del,
    rmqueue,
    rmqueue_smallest,
    set_block_type,
    zone_t,
)
from asi_pa.engine.mapping cimport block_dirty, block_zero, blocks_map, blocks_unmap, lock_dropped
from asi_pa.physmap.physmap cimport physmap_flush


cdef uint32_t take_to_flip(zone_t *z, int order, int ft, uint32_t flags) noexcept nogil:
    # A free block of order >= pageblock_order of the other side, off its list.
    cdef design_t *d = z.design
    cdef int other = d.other[ft], mode = RMQUEUE_NORMAL, high
    cdef int64_t chosen
    cdef uint32_t frame
    if z.choose != NULL:
        chosen = z.choose(z, order, ft)
        if chosen >= 0:
            frame = <uint32_t>chosen
            high = z.state[frame] & ORDER_MASK
            if z.state[frame] & KIND_MASK == FREE and high >= order:
                other = z.pbtype[block_of(z, frame)]
                if d.mapped[other] != d.mapped[ft] and d.mt[other] <= MIGRATE_RECLAIMABLE:
                    list_del(z, frame, high, other)
                    expand(z, frame, order, high, other)
                    account_freepages(z, other, -(<int64_t>1 << order))
                    return frame
    if not d.flips_both_ways:
        # March, patch 11: sensitive requests only; the smallest fitting free block of the nonsensitive type
        return NIL if d.mapped[ft] else rmqueue_smallest(z, order, other)
    # September, patch 18: the other side's full fallback machinery
    if not d.flip_cma:
        flags &= ~<uint32_t>ALLOC_CMA
    return rmqueue(z, order, other, flags & ~<uint32_t>ALLOC_NOSTEAL, &mode)


cdef void clear_and_map(zone_t *z, uint32_t frame, int order) noexcept nogil:
    # A chunk off the lists, cleared as the design has it.
    cdef uint32_t first = block_of(z, frame), last = block_of(z, frame + (1u << order)), block
    cdef bint late = z.design.zeroing == ZERO_MAPPED
    if not late:
        for block in range(first, last):
            block_zero(z, block, False)
    blocks_map(z, first, last - first, CTX_FLIP)
    if late:
        # 2026, v4: what former owners left is in the map until this is done
        lock_dropped(z, WINDOW_MAPPED, frame, order)
        for block in range(first, last):
            block_zero(z, block, False)


cdef uint32_t rmqueue_flip(zone_t *z, int order, int ft, uint32_t flags) noexcept nogil:
    # The slow step after everything else failed: a whole block of the other kind changes sides.
    cdef design_t *d = z.design
    cdef int big = order if order > z.pageblock_order else z.pageblock_order
    cdef int o, new
    cdef uint32_t frame, block, first, last
    if d.other[ft] == ft:
        return NIL
    if not flags & ALLOC_FLIP:
        z.stats.noblock_refusals += d.may_flip[ft]      # who may not block
        return NIL
    frame = take_to_flip(z, big, ft, flags)
    if frame == NIL and z.evacuate != NULL and big == z.pageblock_order:
        frame = z.evacuate(z, ft)
    if frame == NIL:
        return NIL
    z.state[frame] = <uint8_t>(TAKEN | big)
    first = block_of(z, frame)
    last = block_of(z, frame + (1u << big))
    lock_dropped(z, WINDOW_TAKEN, frame, big)
    if not d.mapped[ft]:
        blocks_unmap(z, first, last - first, d.flip_ctx, True)
        z.stats.flush_allocs += 1
    else:
        clear_and_map(z, frame, big)
        z.stats.map_allocs += 1
    lock_dropped(z, WINDOW_FLUSHED, frame, big)
    for block in range(first, last):
        new = ft
        if d.mt[z.pbtype[block]] == MIGRATE_CMA:
            new = d.other[z.pbtype[block]]
        set_block_type(z, block, new, d.flip_ctx)
    z.state[frame] = TAIL
    if d.flip_splits:
        keep_claimed(z, frame, big, order, ft)
        return frame
    for o in range(order, big):
        new = ft
        if d.explicit_maps:
            new = z.pbtype[block_of(z, frame)]
        free_one(z, frame + (1u << o), o, new, False)
    return frame


# ---------------------------------------------------------------- ahead of need

cdef void settle_block(zone_t *z, uint32_t frame, int order, int target) noexcept nogil:
    # A chunk whose mapping was changed, and flushed, goes to the other side's lists.
    cdef uint32_t first = block_of(z, frame), last = block_of(z, frame + (1u << order)), block
    lock_dropped(z, WINDOW_FLUSHED, frame, order)
    for block in range(first, last):
        set_block_type(z, block, target, CTX_FLIP)
    z.state[frame] = TAIL
    for block in range(first, last):
        # one at a time: another CPU may have isolated part of it
        free_one(z, block << z.pageblock_order, z.pageblock_order, z.pbtype[block], True)


cdef void map_taken(zone_t *z, uint32_t frame, int order, int target) noexcept nogil:
    # A chunk off the lists is cleared and mapped.
    lock_dropped(z, WINDOW_TAKEN, frame, order)
    clear_and_map(z, frame, order)
    settle_block(z, frame, order, target)


cdef void unmap_taken(zone_t *z, uint32_t head, bint alone, int target) noexcept nogil:
    # Chunks off the lists (links[].next) are unmapped under one flush: nobody has one before.  `alone`: a
    # single chunk, whose unmapping flushes.
    cdef uint32_t frame = head, low = NIL, end = 0, block, following
    cdef int order
    while frame != NIL:
        order = z.state[frame] & ORDER_MASK
        block = block_of(z, frame)
        lock_dropped(z, WINDOW_TAKEN, frame, order)
        blocks_unmap(z, block, block_of(z, frame + (1u << order)) - block, CTX_FLIP, alone)
        low = min(low, frame)
        end = max(end, frame + (1u << order))
        frame = z.links[frame].next
    if not alone:
        frame = head
        while frame != NIL:
            lock_dropped(z, WINDOW_UNMAPPED, frame, z.state[frame] & ORDER_MASK)
            frame = z.links[frame].next
        if z.physmap != NULL:
            physmap_flush(z.physmap, z.base_pfn + low, end - low)
    frame = head
    while frame != NIL:
        following = z.links[frame].next
        settle_block(z, frame, z.state[frame] & ORDER_MASK, target)
        frame = following


cdef int64_t flip_free_blocks(zone_t *z, int64_t n, bint to_mapped) noexcept nogil:
    # Up to n wholly free pageblocks change sides ahead of need; `unmap_batch` chunks under one flush.
    cdef design_t *d = z.design
    cdef int ft, order, target
    cdef int64_t done = 0, held = 0
    cdef uint32_t frame, head = NIL, tail = NIL
    if to_mapped:
        target = d.start[MIGRATE_UNMOVABLE][0]
    else:
        target = d.start[MIGRATE_MOVABLE][1]
        if d.mapped[target]:
            target = d.start[MIGRATE_UNMOVABLE][1]      # only UNMOVABLE can be unmapped
    for order in range(z.max_order, z.pageblock_order - 1, -1):
        for ft in range(d.nft):
            if d.mt[ft] > MIGRATE_RECLAIMABLE or d.mapped[ft] == to_mapped:
                continue
            while done < n and blocks_on(z, order, ft):
                if order > z.pageblock_order and n - done < <int64_t>1 << (order - z.pageblock_order):
                    break
                frame = first_of(z, order, ft)
                list_del(z, frame, order, ft)
                account_freepages(z, ft, -(<int64_t>1 << order))
                z.state[frame] = <uint8_t>(TAKEN | order)
                z.links[frame].next = NIL
                done += <int64_t>1 << (order - z.pageblock_order)
                if to_mapped:
                    map_taken(z, frame, order, target)
                    continue
                if head == NIL:
                    head = frame
                else:
                    z.links[tail].next = frame
                tail = frame
                held += 1
                if held == d.unmap_batch:
                    unmap_taken(z, head, held == 1, target)
                    head = NIL
                    held = 0
    if head != NIL:
        unmap_taken(z, head, held == 1, target)
    return done


cdef int64_t whole_unmapped(const zone_t *z) noexcept nogil:
    cdef int64_t whole = 0
    cdef int ft, order
    for ft in range(z.design.nft):
        if not z.design.mapped[ft] and z.design.mt[ft] <= MIGRATE_RECLAIMABLE:
            for order in range(z.pageblock_order, z.max_order + 1):
                whole += <int64_t>blocks_on(z, order, ft) << (order - z.pageblock_order)
    return whole


cdef int64_t free_unmapped(const zone_t *z) noexcept nogil:
    cdef int64_t pages = 0
    cdef int ft, order
    for ft in range(z.design.nft):
        if not z.design.mapped[ft] and z.design.mt[ft] <= MIGRATE_RECLAIMABLE:
            for order in range(z.max_order + 1):
                pages += <int64_t>blocks_on(z, order, ft) << order
    return pages


cdef bint is_soiled(zone_t *z, uint32_t frame, int order) noexcept nogil:
    # Whether a chunk holds what sensitive owners left.
    cdef uint32_t block
    for block in range(block_of(z, frame), block_of(z, frame + (1u << order))):
        if block_dirty(z, block):
            return True
    return False


cdef uint32_t take_soiled(zone_t *z) noexcept nogil:
    # The first such chunk of whole pageblocks that is free and unmapped, off its list; NIL: there is none.
    cdef uint32_t frame
    cdef int order, ft
    for order in range(z.max_order, z.pageblock_order - 1, -1):
        for ft in range(z.design.nft):
            if z.design.mt[ft] > MIGRATE_RECLAIMABLE or z.design.mapped[ft] or not blocks_on(z, order, ft):
                continue
            frame = first_of(z, order, ft)
            while frame < z.nframes:
                if is_soiled(z, frame, order):
                    list_del(z, frame, order, ft)
                    account_freepages(z, ft, -(<int64_t>1 << order))
                    z.state[frame] = <uint8_t>(TAKEN | order)
                    return frame
                frame = z.links[frame].next
    return NIL


cdef void clear_ahead(zone_t *z) noexcept nogil:
    # vmstat's worker clears free unmapped pageblocks, so that whoever maps one finds little left to clear.
    cdef uint32_t frame, block, first, last, _i
    cdef uint64_t before
    for _i in range(z.nblocks):
        frame = take_soiled(z)
        if frame == NIL:
            return
        first = block_of(z, frame)
        last = block_of(z, frame + (1u << (z.state[frame] & ORDER_MASK)))
        lock_dropped(z, WINDOW_TAKEN, frame, z.state[frame] & ORDER_MASK)
        before = z.stats.pages_zeroed
        for block in range(first, last):
            block_zero(z, block, False)
        z.stats.pages_zeroed_ahead += z.stats.pages_zeroed - before
        z.state[frame] = TAIL
        for block in range(first, last):
            free_one(z, block << z.pageblock_order, z.pageblock_order, z.pbtype[block], True)


cdef void balance_ahead(zone_t *z) noexcept nogil:
    # The worker that was woken (AHEAD_*); it may wait for flushes, requests may not.
    cdef design_t *d = z.design
    cdef int due = z.ahead_due
    cdef int64_t pages
    z.ahead_due = 0
    if due & AHEAD_STOCK and z.ahead != NULL:
        z.ahead(z)
    if due & AHEAD_BACK and d.map_back:
        pages = whole_unmapped(z)
        if pages > d.map_back:
            flip_free_blocks(z, pages - d.map_back, True)
    if due & AHEAD_STOCK and d.unmap_low and z.ahead == NULL:
        pages = free_unmapped(z)
        if pages < d.unmap_low:
            z.stats.unmapped_ahead += flip_free_blocks(
                z, (d.unmap_high - pages + z.pageblock_pages - 1) >> z.pageblock_order, False)
