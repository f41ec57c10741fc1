# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The zone: frames, free lists, fallbacks, reserves; hot inline paths are in ``_core.pxd``.

Rules are those of mm/page_alloc.c, Linux 7.2, as recorded runs confirm them; ``docs/model.md`` lists each
with its source and the recorded sets that would notice if it were wrong.
"""

from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from asi_pa._physmap cimport (
    CAUSE_CLAIM,
    CAUSE_CONTIG,
    CAUSE_FLIP,
    CAUSE_HIGHATOMIC,
    CAUSE_HOTPLUG,
    CAUSE_MERGE,
    CAUSE_OTHER,
    CAUSE_POPULATE,
    CAUSE_UNRESERVE,
    FLUSH_NONE,
    FLUSH_RANGE,
    physmap_flush,
    physmap_map,
    physmap_unmap,
)


# ---------------------------------------------------------------- designs with a protected tree

cdef void log_event(zone_t *z, int kind, int ctx, int old_ft, int new_ft, uint32_t block,
                    uint32_t nr, uint32_t aux) noexcept nogil:
    cdef event_t *e
    cdef size_t room
    if z.events == NULL:
        return
    if z.nevents == z.events_room:
        room = z.events_room * 2
        e = <event_t *>realloc(z.events, room * sizeof(event_t))
        if e == NULL:
            return
        z.events = e
        z.events_room = room
    e = &z.events[z.nevents]
    z.nevents += 1
    e.op = z.now
    e.kind = <uint8_t>kind
    e.ctx = <uint8_t>ctx
    e.old_ft = <uint8_t>old_ft
    e.new_ft = <uint8_t>new_ft
    e.frame = block << z.pageblock_order
    e.nr = nr
    e.aux = aux


cdef inline void lock_dropped(zone_t *z, int at, uint32_t frame, int order) noexcept nogil:
    # The lock is dropped here; audits let another CPU act.
    if z.window != NULL:
        z.window(z, at, frame, order)


cdef uint32_t block_live(zone_t *z, uint32_t block) noexcept nogil:
    # Live pages of a block: sensitive in the low half, nonsensitive in the high half.
    cdef uint32_t frame = block << z.pageblock_order
    cdef uint32_t end = frame + z.pageblock_pages
    cdef uint32_t head = frame, live = 0, n, step
    cdef int kind, order
    # A larger allocation may have its head in an earlier block.
    order = z.pageblock_order
    while order <= z.max_order:
        head = frame & ~((1u << order) - 1)
        if z.state[head] & KIND_MASK == ALLOC and (z.state[head] & ORDER_MASK) >= order:
            n = z.pageblock_pages
            return n if z.links[head].next & INFO_SENSITIVE else n << 16
        order += 1
    while frame < end:
        kind = z.state[frame] & KIND_MASK
        step = 1
        if kind != TAIL and kind != HOLE:
            step = 1u << (z.state[frame] & ORDER_MASK)
            if kind == ALLOC:
                live += step if z.links[frame].next & INFO_SENSITIVE else step << 16
        frame += step
    return live


cdef uint32_t block_dirty(zone_t *z, uint32_t block) noexcept nogil:
    # Pages of a block that held sensitive data since they were last cleared.
    cdef uint32_t n = 0, i
    cdef uint32_t frame = block << z.pageblock_order
    if z.dirty == NULL:
        return 0
    for i in range(frame, frame + z.pageblock_pages):
        n += (z.dirty[i >> 3] >> (i & 7)) & 1
    return n


cdef void block_zero(zone_t *z, uint32_t block, bint locked) noexcept nogil:
    # clear_highpage() over the block, as the design has it: counted, and what was sensitive is gone.
    cdef uint32_t i
    cdef uint32_t frame = block << z.pageblock_order, pages = z.pageblock_pages
    cdef int how = z.design.zeroing
    if how == ZERO_NONE or how == ZERO_ALLOC:
        return
    if how == ZERO_DIRTY:
        pages = block_dirty(z, block)
    z.stats.pages_zeroed += pages
    if how == ZERO_LOCKED or locked:
        z.stats.pages_zeroed_locked += pages
    if z.dirty != NULL:
        for i in range(frame, frame + z.pageblock_pages):
            z.dirty[i >> 3] &= <uint8_t>~(1 << (i & 7))


cdef int physmap_cause(int ctx) noexcept nogil:
    if ctx == CTX_CLAIM:
        return CAUSE_CLAIM
    if ctx == CTX_UNMAP or ctx == CTX_FLIP:
        return CAUSE_FLIP
    if ctx == CTX_MERGE:
        return CAUSE_MERGE
    if ctx == CTX_RESERVE:
        return CAUSE_HIGHATOMIC
    if ctx == CTX_UNRESERVE:
        return CAUSE_UNRESERVE
    if ctx == CTX_CONTIG:
        return CAUSE_CONTIG
    if ctx == CTX_POPULATE:
        return CAUSE_POPULATE
    if ctx == CTX_HOTPLUG:
        return CAUSE_HOTPLUG
    return CAUSE_OTHER


cdef void blocks_map(zone_t *z, uint32_t block, uint32_t n, int ctx) noexcept nogil:
    # asi_map() of n pageblocks: present in the protected tree from here on, no flush.
    cdef uint32_t b, live, exposed = 0, already = 0
    for b in range(block, block + n):
        if z.pbmapped[b]:
            already += 1
            continue
        exposed += block_dirty(z, b)
        live = block_live(z, b)
        z.stats.exposed_now += live & 0xFFFF
        z.stats.hidden_now -= live >> 16
        z.stats.exposures += live & 0xFFFF
        z.pbmapped[b] = 1
        if ctx != CTX_POPULATE:
            z.stats.flips_s2n += 1
    z.stats.stale_exposed += exposed
    if z.physmap != NULL:
        physmap_map(z.physmap, z.design.tree, z.base_pfn + (<uint64_t>block << z.pageblock_order),
                    <uint64_t>n << z.pageblock_order, physmap_cause(ctx))
    log_event(z, 1, ctx, 0, 0, block, n << z.pageblock_order, exposed | already << 16)


cdef void blocks_unmap(zone_t *z, uint32_t block, uint32_t n, int ctx, bint flush) noexcept nogil:
    # asi_unmap() of n pageblocks, with flush_tlb_kernel_range() unless the caller batches it.
    cdef uint32_t b, live, absent = 0
    cdef uint64_t pfn, pages
    for b in range(block, block + n):
        if not z.pbmapped[b]:
            absent += 1
            continue
        live = block_live(z, b)
        z.stats.exposed_now -= live & 0xFFFF
        z.stats.hidden_now += live >> 16
        z.pbmapped[b] = 0
        z.stats.flips_n2s += 1
    if z.physmap != NULL:
        pfn = z.base_pfn + (<uint64_t>block << z.pageblock_order)
        pages = <uint64_t>n << z.pageblock_order
        if flush and z.window != NULL:
            physmap_unmap(z.physmap, z.design.tree, pfn, pages, physmap_cause(ctx), FLUSH_NONE)
            lock_dropped(z, WINDOW_UNMAPPED, block << z.pageblock_order, z.pageblock_order)
            physmap_flush(z.physmap, pfn, pages)
        else:
            physmap_unmap(z.physmap, z.design.tree, pfn, pages, physmap_cause(ctx),
                          FLUSH_RANGE if flush else FLUSH_NONE)
    log_event(z, 2, 0 if ctx == CTX_UNMAP else ctx, 0, 0, block, n << z.pageblock_order, absent << 16)


cdef void block_retyped(zone_t *z, uint32_t block, int ft, int ctx) noexcept nogil:
    # A block is about to become `ft`.  March 2025 as posted: the label maps (patch 9), nothing unmaps.
    cdef design_t *d = z.design
    cdef int old = z.pbtype[block], kind = 4
    if old == ft:
        return
    z.stats.retypes += 1
    if d.label_maps and d.mapped[ft]:
        blocks_map(z, block, 1, ctx)
    elif d.explicit_maps:
        if d.mapped[ft] and not z.pbmapped[block]:
            block_zero(z, block, True)
            blocks_map(z, block, 1, ctx)
        elif z.pbmapped[block] and not d.mapped[ft]:
            blocks_unmap(z, block, 1, ctx, True)
    if z.events != NULL and d.event_type[old] != d.event_type[ft]:
        if z.pbmapped[block] and not d.mapped[ft]:
            kind = 3
        log_event(z, kind, ctx, d.event_type[old], d.event_type[ft], block, z.pageblock_pages,
                  block_live(z, block))


# ---------------------------------------------------------------- watermarks

cdef int64_t plenty_of(const zone_t *z) noexcept nogil:
    # No request wants more left: the mark it is first asked for, the largest reserve, what it may not use,
    # its own pages.  The reserve flags only lower these.
    cdef int64_t most = 0
    cdef int i
    for i in range(MAX_ZONE_INDEX):
        if z.lowmem_reserve[i] > most:
            most = z.lowmem_reserve[i]
    most += z.wmark[WMARK_LOW if z.below_high else WMARK_HIGH] + z.boost + z.nr_free_highatomic
    if z.nr_free_cma > 0:
        most += z.nr_free_cma
    return most + (<int64_t>1 << z.max_order)


cdef bint detours_of(const zone_t *z) noexcept nogil:
    return z.nr_free_cma > 0 or z.design.looks_ahead != 0


cdef void set_plenty(zone_t *z) noexcept nogil:
    # To be called whenever a term changes, so that no request has to add them up.
    z.plenty = plenty_of(z)
    z.detours = detours_of(z)


cdef bint zone_watermark_ok(zone_t *z, int order, int64_t mark, int zone_idx,
                            uint32_t flags) noexcept nogil:
    # __zone_watermark_ok(): pages left above the mark, and a block of the order in reach.
    cdef design_t *d = z.design
    cdef int64_t nr_free = (z.nr_free if z.nr_free > 0 else 0) - zone_unusable_free(z, order, flags)
    cdef int64_t least = mark
    cdef int ft, mt
    if flags & (ALLOC_NON_BLOCK | ALLOC_MIN_RESERVE | ALLOC_HIGHATOMIC | ALLOC_OOM):
        if flags & ALLOC_MIN_RESERVE:
            least -= least // 2
            if flags & ALLOC_NON_BLOCK:
                least -= least // 4
        if flags & ALLOC_OOM:
            least -= least // 2
    if nr_free <= least + z.lowmem_reserve[zone_idx]:
        return False
    if order == 0:
        return True
    for ft in range(d.nft):
        if z.nonempty[ft] >> order == 0:
            continue
        mt = d.mt[ft]
        if mt <= MIGRATE_RECLAIMABLE:
            return True
        if mt == MIGRATE_CMA and flags & ALLOC_CMA:
            return True
        if mt == MIGRATE_HIGHATOMIC and flags & (ALLOC_HIGHATOMIC | ALLOC_OOM):
            return True
    return False


cdef int64_t quiet_of(const zone_t *z, const pcp_t *pcp) noexcept nogil:
    # nr_pcp_high() returns `high` as it is, nr_pcp_free() is not asked.
    return pcp.high if pcp.high_min <= pcp.high <= pcp.high_max and not z.below_high else 0


cdef void pcp_set_quiet(zone_t *z, pcp_t *pcp) noexcept nogil:
    # To be called whenever `high`, its bounds or the batch changed.
    pcp.free_count_max = pcp.batch << z.pcp_batch_scale_max
    pcp.quiet = quiet_of(z, pcp)


cdef void set_below_high(zone_t *z, bint below) noexcept nogil:
    # ZONE_BELOW_HIGH
    cdef int cpu
    z.below_high = below
    set_plenty(z)
    if z.pcps != NULL:
        for cpu in range(z.ncpus):
            pcp_set_quiet(z, &z.pcps[cpu])


# ---------------------------------------------------------------- moving free pages between lists

cdef uint32_t move_freepages(zone_t *z, uint32_t block, int old_ft, int new_ft) noexcept nogil:
    # __move_freepages_block(): every free block of the pageblock, ascending, to the tail of the new list.
    cdef uint32_t frame = block << z.pageblock_order
    cdef uint32_t end = frame + z.pageblock_pages
    cdef uint32_t moved = 0, pages
    cdef int order
    while frame < end:
        if z.state[frame] & KIND_MASK == FREE:
            order = z.state[frame] & ORDER_MASK
            pages = 1u << order
            list_del(z, frame, order, old_ft)
            list_add_tail(z, frame, order, new_ft)
            account_freepages(z, old_ft, -<int64_t>pages)
            account_freepages(z, new_ft, pages)
            moved += pages
            frame += pages
        else:
            frame += 1
    return moved


cdef uint32_t merge_blocks(zone_t *z, uint32_t frame, int *order, int ft) noexcept nogil:
    # __free_one_page() from pageblock_order on, where buddies may be of unlike types.
    cdef uint32_t buddy, b
    cdef int buddy_ft
    while order[0] < z.max_order:
        buddy = frame ^ 1u << order[0]
        if z.state[buddy] != <uint8_t>(FREE | order[0]):
            break
        buddy_ft = z.pbtype[block_of(z, buddy)]
        if buddy_ft != ft and not (z.design.mergeable[ft] >> buddy_ft) & 1:
            break
        list_del(z, buddy, order[0], buddy_ft)
        if buddy_ft != ft:
            for b in range(block_of(z, buddy), block_of(z, buddy + (1u << order[0]))):
                set_block_type(z, b, ft, CTX_MERGE)
        frame &= buddy
        order[0] += 1
    return frame


cdef bint block_in_zone(zone_t *z, uint32_t block) noexcept nogil:
    # prep_move_freepages_block(): the zone spans the whole block.
    cdef uint32_t frame = block << z.pageblock_order
    return frame >= z.first and frame + z.pageblock_pages <= z.nframes


# ---------------------------------------------------------------- fallbacks

cdef int find_suitable_fallback(zone_t *z, int order, int ft) noexcept nogil:
    # find_suitable_fallback(): the first type in the fallback order that has a free block of this order.
    cdef design_t *d = z.design
    cdef int i, other
    for i in range(d.nfallback[ft]):
        other = d.fallback[ft][i]
        if z.nonempty[other] >> order & 1:
            return other
    return -1


cdef bint boost_watermark(zone_t *z) noexcept nogil:
    # boost_watermark(): one more pageblock, bounded by boost_factor/10000 of the high watermark.
    cdef int64_t most, pages = z.pageblock_pages
    if z.boost_factor == 0 or pages * 4 > z.managed:
        return False
    most = z.wmark[WMARK_HIGH] * z.boost_factor // 10000
    if most == 0:
        return False
    if most < pages:
        most = pages
    z.boost = z.boost + pages
    if z.boost > most:
        z.boost = most
    set_plenty(z)
    z.stats.boosts += 1
    return True


cdef void count_extfrag(zone_t *z, int fallback_order) noexcept nogil:
    z.stats.extfrag_events += 1
    if fallback_order < z.pageblock_order:
        z.stats.extfrag_fragmenting += 1
    if fallback_order <= 3:
        z.stats.extfrag_severe += 1


cdef void map_claimed(zone_t *z, uint32_t frame, int order) noexcept nogil:
    # Sound designs: a claim that maps drops the zone lock to clear the block, as any other flip does.
    cdef bint unlocked = z.design.zeroing == ZERO_FLIP or z.design.zeroing == ZERO_DIRTY
    cdef uint32_t block
    z.state[frame] = <uint8_t>(TAKEN | order)
    if unlocked:
        lock_dropped(z, WINDOW_TAKEN, frame, order)
    for block in range(block_of(z, frame), block_of(z, frame + (1u << order))):
        block_zero(z, block, not unlocked)
        blocks_map(z, block, 1, CTX_CLAIM)
    if unlocked:
        lock_dropped(z, WINDOW_FLUSHED, frame, order)
    z.state[frame] = TAIL


cdef void keep_claimed(zone_t *z, uint32_t frame, int cur, int order, int ft) noexcept nogil:
    # expand() of what was claimed; a pageblock that was isolated while the lock was dropped stays apart.
    cdef uint32_t at = frame + (1u << order), block
    cdef bint alike = True
    cdef int piece = order if order < z.pageblock_order else z.pageblock_order
    for block in range(block_of(z, frame), block_of(z, frame + (1u << cur))):
        alike = alike and z.pbtype[block] == ft
    if alike:
        expand(z, frame, order, cur, ft)
        account_freepages(z, ft, (<int64_t>1 << cur) - (<int64_t>1 << order))
        return
    while at < frame + (1u << cur):
        free_one(z, at, piece, z.pbtype[block_of(z, at)], False)
        at += 1u << piece
        if piece < z.pageblock_order:
            piece += 1


cdef uint32_t claim_block(zone_t *z, uint32_t frame, int cur, int order, int ft,
                          int old_ft) noexcept nogil:
    # try_to_claim_block()
    cdef design_t *d = z.design
    cdef uint32_t block, at, end, pages, free_pages = 0, movable = 0, alike
    cdef int kind
    if cur >= z.pageblock_order:
        list_del(z, frame, cur, old_ft)
        account_freepages(z, old_ft, -(<int64_t>1 << cur))
        if d.explicit_maps and d.mapped[ft] and not d.mapped[old_ft]:
            map_claimed(z, frame, cur)
        for block in range(block_of(z, frame), block_of(z, frame + (1u << cur))):
            set_block_type(z, block, ft, CTX_CLAIM)
        keep_claimed(z, frame, cur, order, ft)
        z.stats.claims_whole += 1
        if d.mapped[ft] and not d.mapped[old_ft]:
            z.stats.map_allocs += 1
        return frame
    boost_watermark(z)
    block = block_of(z, frame)
    if not block_in_zone(z, block):
        return NIL
    at = block << z.pageblock_order
    end = at + z.pageblock_pages
    while at < end:
        kind = z.state[at] & KIND_MASK
        pages = 1
        if kind == FREE:
            pages = 1u << (z.state[at] & ORDER_MASK)
            free_pages += pages
        elif kind == ALLOC:
            pages = 1u << (z.state[at] & ORDER_MASK)
            if z.links[at].next & INFO_LRU:
                movable += pages
        at += pages
    if d.mt[ft] == MIGRATE_MOVABLE:
        alike = movable
    elif d.mt[old_ft] == MIGRATE_MOVABLE:
        alike = z.pageblock_pages - (free_pages + movable)
    else:
        alike = 0
    if free_pages + alike < z.pageblock_pages >> 1:
        z.stats.claims_refused += 1
        return NIL
    move_freepages(z, block, old_ft, ft)
    set_block_type(z, block, ft, CTX_PARTIAL)
    z.stats.claims_partial += 1
    return rmqueue_smallest(z, order, ft)


cdef uint32_t rmqueue_claim(zone_t *z, int order, int ft, uint32_t flags) noexcept nogil:
    # __rmqueue_claim(): largest first, so that a whole block is claimed rather than a mixed one made.
    cdef design_t *d = z.design
    cdef int cur, other, lowest = order
    cdef uint32_t frame
    if (flags & ALLOC_NOFRAGMENT or d.whole_only[ft]) and order < z.pageblock_order:
        lowest = z.pageblock_order
    cur = z.max_order
    while cur >= lowest:
        # should_try_claim_block()
        if cur < z.pageblock_order // 2 and d.mt[ft] == MIGRATE_MOVABLE:
            break
        other = find_suitable_fallback(z, cur, ft)
        if other >= 0:
            frame = claim_block(z, z.lists[cur][other].head, cur, order, ft, other)
            if frame != NIL:
                count_extfrag(z, cur)
                return frame
        cur -= 1
    return NIL


cdef uint32_t rmqueue_steal(zone_t *z, int order, int ft) noexcept nogil:
    # __rmqueue_steal(): a single piece out of the smallest foreign block; the block keeps its type.
    cdef int cur, other
    cdef uint32_t frame
    if z.design.whole_only[ft]:
        return NIL
    for cur in range(order, z.max_order + 1):
        other = find_suitable_fallback(z, cur, ft)
        if other >= 0:
            frame = z.lists[cur][other].head
            list_del(z, frame, cur, other)
            expand(z, frame, order, cur, other)
            account_freepages(z, other, -(<int64_t>1 << order))
            z.stats.steals += 1
            count_extfrag(z, cur)
            return frame
    return NIL


cdef uint32_t rmqueue(zone_t *z, int order, int ft, uint32_t flags, int *mode) noexcept nogil:
    # __rmqueue(): own list, CMA, claim, steal; `mode` remembers how far the last call had to go.
    cdef uint32_t frame
    cdef int64_t nr_free
    if flags & ALLOC_CMA:
        nr_free = z.nr_free if z.nr_free > 0 else 0
        if z.nr_free_cma > nr_free // 2 and z.design.cma[ft] != NO_FREETYPE:
            frame = rmqueue_smallest(z, order, z.design.cma[ft])
            if frame != NIL:
                return frame
    if mode[0] == RMQUEUE_NORMAL:
        frame = rmqueue_smallest(z, order, ft)
        if frame != NIL:
            return frame
    if mode[0] <= RMQUEUE_CMA and flags & ALLOC_CMA and z.design.cma[ft] != NO_FREETYPE:
        frame = rmqueue_smallest(z, order, z.design.cma[ft])
        if frame != NIL:
            mode[0] = RMQUEUE_CMA
            return frame
    if mode[0] <= RMQUEUE_CLAIM:
        frame = rmqueue_claim(z, order, ft, flags)
        if frame != NIL:
            mode[0] = RMQUEUE_NORMAL
            return frame
    if not flags & (ALLOC_NOFRAGMENT | ALLOC_NOSTEAL):
        frame = rmqueue_steal(z, order, ft)
        if frame != NIL:
            mode[0] = RMQUEUE_STEAL
            return frame
    return NIL


# ---------------------------------------------------------------- flips

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
    if d.flips == FLIPS_MARCH:
        # patch 11: sensitive requests only; the smallest fitting free block of the nonsensitive type
        return NIL if d.mapped[ft] else rmqueue_smallest(z, order, other)
    # September, patch 18: the other side's full fallback machinery
    if not d.flip_cma:
        flags &= ~<uint32_t>ALLOC_CMA
    return rmqueue(z, order, other, flags & ~<uint32_t>ALLOC_NOSTEAL, &mode)


cdef uint32_t rmqueue_flip(zone_t *z, int order, int ft, uint32_t flags) noexcept nogil:
    # The slow step after everything else failed: a whole block of the other kind changes sides.
    cdef design_t *d = z.design
    cdef int big = order if order > z.pageblock_order else z.pageblock_order
    cdef int o, new
    cdef uint32_t frame, block, first, last
    if not flags & ALLOC_FLIP or d.other[ft] == ft:
        return NIL
    frame = take_to_flip(z, big, ft, flags)
    if frame == NIL:
        return NIL
    z.state[frame] = <uint8_t>(TAKEN | big)
    first = block_of(z, frame)
    last = block_of(z, frame + (1u << big))
    lock_dropped(z, WINDOW_TAKEN, frame, big)
    if not d.mapped[ft]:
        blocks_unmap(z, first, last - first, CTX_UNMAP if d.flips == FLIPS_MARCH else CTX_FLIP, True)
        z.stats.flush_allocs += 1
    else:
        for block in range(first, last):
            block_zero(z, block, d.zeroing == ZERO_LOCKED)
        blocks_map(z, first, last - first, CTX_FLIP)
        z.stats.map_allocs += 1
    lock_dropped(z, WINDOW_FLUSHED, frame, big)
    for block in range(first, last):
        new = ft
        if d.mt[z.pbtype[block]] == MIGRATE_CMA:
            new = d.other[z.pbtype[block]]
        set_block_type(z, block, new, CTX_UNMAP if d.flips == FLIPS_MARCH else CTX_FLIP)
    z.state[frame] = TAIL
    for o in range(order, big):
        new = ft
        if d.explicit_maps:
            new = z.pbtype[block_of(z, frame)]
        free_one(z, frame + (1u << o), o, new, False)
    return frame


cdef int64_t flip_free_blocks(zone_t *z, int64_t n, bint to_mapped) noexcept nogil:
    # Up to n wholly free pageblocks change sides ahead of need; one flush for all that are unmapped.
    cdef design_t *d = z.design
    cdef int ft, order, target, big
    cdef int64_t done = 0
    cdef uint32_t frame, block, first, last
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
            while done < n and z.lists[order][ft].head != NIL:
                frame = z.lists[order][ft].head
                big = order
                if order > z.pageblock_order and n - done < <int64_t>1 << (order - z.pageblock_order):
                    break
                list_del(z, frame, big, ft)
                account_freepages(z, ft, -(<int64_t>1 << big))
                z.state[frame] = <uint8_t>(TAKEN | big)
                first = block_of(z, frame)
                last = block_of(z, frame + (1u << big))
                lock_dropped(z, WINDOW_TAKEN, frame, big)
                if to_mapped:
                    for block in range(first, last):
                        block_zero(z, block, False)
                    blocks_map(z, first, last - first, CTX_FLIP)
                else:
                    # each chunk is flushed before anybody can have it
                    blocks_unmap(z, first, last - first, CTX_FLIP, True)
                lock_dropped(z, WINDOW_FLUSHED, frame, big)
                for block in range(first, last):
                    set_block_type(z, block, target, CTX_FLIP)
                z.state[frame] = TAIL
                for block in range(first, last):
                    # one at a time: another CPU may have isolated part of it
                    free_one(z, block << z.pageblock_order, z.pageblock_order, z.pbtype[block], True)
                done += last - first
    return done


cdef void balance_ahead(zone_t *z) noexcept nogil:
    # The worker that a refill or a request beside the pcp lists woke; it may wait for flushes, they may not.
    cdef design_t *d = z.design
    cdef int ft, order
    cdef int64_t unmapped = 0
    z.ahead_due = 0
    if z.ahead != NULL:
        z.ahead(z)
    elif d.unmap_low:
        for ft in range(d.nft):
            if d.mapped[ft] or d.mt[ft] > MIGRATE_RECLAIMABLE:
                continue
            for order in range(z.max_order + 1):
                unmapped += <int64_t>z.lists[order][ft].count << order
        if unmapped < d.unmap_low:
            z.stats.unmapped_ahead += flip_free_blocks(
                z, (d.unmap_high - unmapped + z.pageblock_pages - 1) >> z.pageblock_order, False)


# ---------------------------------------------------------------- HIGHATOMIC

cdef void reserve_highatomic(zone_t *z, uint32_t frame, int order, int ft) noexcept nogil:
    # reserve_highatomic_pageblock(): at most 1 % of the zone, a pageblock at a time.
    cdef design_t *d = z.design
    cdef int64_t limit = z.managed // 100
    cdef int64_t pages = z.pageblock_pages
    cdef uint32_t block = block_of(z, frame), b
    cdef int old = z.pbtype[block]
    cdef int ha = d.highatomic[ft]
    if limit < pages or ha == NO_FREETYPE:
        return
    limit = (limit + pages - 1) // pages * pages
    if z.nr_reserved_highatomic >= limit or d.mt[old] > MIGRATE_RECLAIMABLE:
        return
    if d.explicit_maps and d.mapped[old] != d.mapped[ha]:
        return
    if order < z.pageblock_order:
        if not block_in_zone(z, block):
            return
        move_freepages(z, block, old, ha)
        set_block_type(z, block, ha, CTX_RESERVE)
        z.nr_reserved_highatomic += pages
    else:
        for b in range(block, block_of(z, frame + (1u << order))):
            set_block_type(z, b, ha, CTX_RESERVE)
        z.nr_reserved_highatomic += <int64_t>1 << order
    z.stats.reserves += 1


cdef bint unreserve_highatomic(zone_t *z, int ft, bint force) noexcept nogil:
    # unreserve_highatomic_pageblock(): the first free block found gives its pageblock back.
    cdef design_t *d = z.design
    cdef int64_t pages = z.pageblock_pages, size
    cdef int ha = d.highatomic[ft], order
    cdef uint32_t frame, block, b, moved
    if ha == NO_FREETYPE or (not force and z.nr_reserved_highatomic <= pages):
        return False
    for order in range(z.max_order + 1):
        frame = z.lists[order][ha].head
        if frame == NIL:
            continue
        block = block_of(z, frame)
        size = <int64_t>1 << order
        if size < pages:
            size = pages
        if size > z.nr_reserved_highatomic:
            size = z.nr_reserved_highatomic
        z.nr_reserved_highatomic -= size
        if order < z.pageblock_order:
            if not block_in_zone(z, block):
                continue
            moved = move_freepages(z, block, ha, ft)
            set_block_type(z, block, ft, CTX_UNRESERVE)
        else:
            moved = 1u << order
            list_del(z, frame, order, ha)
            list_add_tail(z, frame, order, ft)
            account_freepages(z, ha, -<int64_t>moved)
            account_freepages(z, ft, moved)
            for b in range(block, block_of(z, frame + moved)):
                set_block_type(z, b, ft, CTX_UNRESERVE)
        if moved > 0:
            z.stats.unreserves += 1
            return True
    return False


# ---------------------------------------------------------------- verify

cdef const char *zone_verify(zone_t *z, uint64_t *where) noexcept nogil:
    # Walks frames, lists and counters; returns the first broken invariant, NULL when all hold.
    cdef uint32_t frame, step, head, count, prev, b, i
    cdef uint32_t free_by_list[MAX_ORDERS][MAX_FREETYPES]
    cdef int64_t nr_free = 0, nr_cma = 0, nr_ha = 0, isolated = 0, seen_free = 0, d
    cdef int order, ft, kind
    cdef design_t *ds = z.design
    memset(free_by_list, 0, sizeof(free_by_list))
    frame = 0
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
                free_by_list[order][z.pbtype[block_of(z, frame)]] += 1
                seen_free += step
        frame += step
    for ft in range(ds.nft):
        for order in range(z.max_order + 1):
            count = 0
            prev = NIL
            head = z.lists[order][ft].head
            while head != NIL:
                where[0] = head
                if head >= z.nframes or z.state[head] != <uint8_t>(FREE | order):
                    return b"a free list holds a frame that heads no free block of its order"
                if z.pbtype[block_of(z, head)] != ft:
                    return b"a free block is on the list of another type than its pageblock's"
                if z.links[head].prev != prev:
                    return b"a free list's back link is wrong"
                if order >= z.pageblock_order:
                    for b in range(block_of(z, head), block_of(z, head + (1u << order))):
                        if z.pbtype[b] != ft:
                            return b"a free block spans pageblocks of two types"
                prev = head
                head = z.links[head].next
                count += 1
                if count > z.lists[order][ft].count:
                    return b"a free list is longer than its count"
            where[0] = prev if prev != NIL else 0
            if z.lists[order][ft].tail != prev:
                return b"a free list's tail is wrong"
            if count != z.lists[order][ft].count or count != free_by_list[order][ft]:
                return b"a free list's count differs from the free blocks there are"
            if (z.nonempty[ft] >> order & 1) != (count != 0):
                return b"the index of non-empty lists is wrong"
            d = <int64_t>count << order
            if ds.mt[ft] != MIGRATE_ISOLATE:
                nr_free += d
            if ds.mt[ft] == MIGRATE_CMA:
                nr_cma += d
            if ds.mt[ft] == MIGRATE_HIGHATOMIC:
                nr_ha += d
    where[0] = 0
    d = z.nr_free
    for i in range(<uint32_t>z.ncpus):
        d += z.diffs[i].free
    if d != nr_free:
        return b"NR_FREE_PAGES differs from the pages on the free lists"
    d = z.nr_free_cma
    for i in range(<uint32_t>z.ncpus):
        d += z.diffs[i].cma
    if d != nr_cma:
        return b"NR_FREE_CMA_PAGES differs from the pages on the CMA lists"
    if z.nr_free_highatomic != nr_ha:
        return b"nr_free_highatomic differs from the pages on the HIGHATOMIC lists"
    if z.plenty != plenty_of(z) or z.detours != detours_of(z):
        return b"what the fast paths test is out of date (set_plenty)"
    for b in range(z.first_block, z.nblocks):
        if ds.mt[z.pbtype[b]] == MIGRATE_ISOLATE:
            isolated += 1
    if isolated != z.nr_isolate_blocks:
        return b"nr_isolate_pageblock differs from the isolated pageblocks"
    return pcp_verify(z, where)


cdef const char *pcp_verify(zone_t *z, uint64_t *where) noexcept nogil:
    cdef int cpu, number, order
    cdef int64_t count, pages = 0, listed = 0
    cdef uint32_t frame, prev
    cdef pcp_t *pcp
    if z.pcps != NULL:
        for cpu in range(z.ncpus):
            pcp = &z.pcps[cpu]
            count = 0
            for number in range(z.design.npcp):
                order = z.design.pcp_list_order[number]
                prev = NIL
                frame = pcp.lists[number].head
                while frame != NIL:
                    where[0] = frame
                    if frame >= z.nframes or z.state[frame] != <uint8_t>(PCP | order):
                        return b"a per-CPU list holds a frame that is not on one"
                    if z.links[frame].prev != prev:
                        return b"a per-CPU list's back link is wrong"
                    prev = frame
                    frame = z.links[frame].next
                    count += <int64_t>1 << order
                    if count > z.nframes:
                        return b"a per-CPU list runs in a circle"
                if pcp.lists[number].tail != prev:
                    return b"a per-CPU list's tail is wrong"
            if count != pcp.count:
                return b"a per-CPU count differs from the pages on its lists"
            if pcp.quiet != quiet_of(z, pcp):
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


# ---------------------------------------------------------------- construction

cdef int zone_init(zone_t *z, uint64_t start_pfn, uint64_t end_pfn, int pageblock_order,
                   int max_order, int ncpus) except -1:
    """Allocates the arrays of a zone over [start_pfn, end_pfn); every frame is a hole at first."""
    cdef uint64_t unit = <uint64_t>1 << max_order
    cdef uint64_t padded
    cdef int order, ft
    memset(z, 0, sizeof(zone_t))
    z.base_pfn = start_pfn & ~(unit - 1)
    z.first = <uint32_t>(start_pfn - z.base_pfn)
    z.nframes = <uint32_t>(end_pfn - z.base_pfn)
    padded = (end_pfn - z.base_pfn + unit - 1) & ~(unit - 1)
    z.pageblock_order = pageblock_order
    z.max_order = max_order
    z.pageblock_pages = 1u << pageblock_order
    z.first_block = block_of(z, z.first)
    z.nblocks = <uint32_t>((z.nframes + <uint64_t>z.pageblock_pages - 1) >> pageblock_order)
    z.ncpus = ncpus
    z.links = <link_t *>big_alloc(padded * sizeof(link_t))
    z.state = <uint8_t *>big_alloc(padded)
    z.pbtype = <uint8_t *>calloc(padded >> pageblock_order, 1)
    z.pbbase = <uint8_t *>calloc(padded >> pageblock_order, 1)
    z.pbmapped = <uint8_t *>calloc(padded >> pageblock_order, 1)
    z.diffs = <vmdiff_t *>calloc(ncpus, sizeof(vmdiff_t))
    if not (z.links and z.state and z.pbtype and z.pbbase and z.pbmapped and z.diffs):
        zone_destroy(z)
        raise MemoryError(f"a zone of {end_pfn - start_pfn} frames needs {9 * padded} bytes")
    z.arrays_bytes = padded * 9 + 3 * (padded >> pageblock_order)
    z.diff = z.diffs
    z.queue = NIL
    memset(z.state, HOLE, z.first)
    memset(z.state + z.first, TAIL, z.nframes - z.first)
    memset(z.state + z.nframes, HOLE, padded - z.nframes)
    for order in range(MAX_ORDERS):
        z.pool[order].head = NIL
        z.pool[order].tail = NIL
        for ft in range(MAX_FREETYPES):
            z.lists[order][ft].head = NIL
            z.lists[order][ft].tail = NIL
    return 0


cdef void zone_destroy(zone_t *z) noexcept nogil:
    free(z.links)
    free(z.state)
    free(z.pbtype)
    free(z.pbbase)
    free(z.pbmapped)
    free(z.dirty)
    free(z.listed)
    free(z.pcps)
    free(z.diffs)
    free(z.events)
    memset(z, 0, sizeof(zone_t))


cdef void zone_release_range(zone_t *z, uint32_t frame, uint32_t end) noexcept nogil:
    # memblock_free_pages(): the largest aligned chunks, ascending, each to the tail of its list.
    cdef int order
    while frame < end:
        order = z.max_order if frame == 0 else ctz(frame)
        if order > z.max_order:
            order = z.max_order
        while frame + (<uint64_t>1 << order) > end:
            order -= 1
        if order == z.max_order:
            account_freepages(z, z.pbtype[block_of(z, frame)], <int64_t>1 << order)
            list_add_tail(z, frame, order, z.pbtype[block_of(z, frame)])
        else:
            free_one(z, frame, order, z.pbtype[block_of(z, frame)], True)
        frame += 1u << order


cdef class Zone:
    """One zone of the engine; built by ``Machine`` from a ``ZoneSpec``.  Holds the arrays."""

    def __dealloc__(self):
        zone_destroy(&self.z)
