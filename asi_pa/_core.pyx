"""The zone: frames, free lists, fallbacks, watermarks; hot inline paths are in ``_core.pxd``.

Rules are those of mm/page_alloc.c, Linux 7.2, as recorded runs confirm them; ``docs/engine/model.md`` lists
each with its source and the recorded sets that would notice if it were wrong.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memset

from asi_pa.engine.mapping cimport (
    block_live,
    block_zero,
    blocks_map,
    blocks_unmap,
    lock_dropped,
    log_event,
)


# ---------------------------------------------------------------- pageblock types

cdef int block_retyped(zone_t *z, uint32_t block, int ft, int ctx) noexcept nogil:
    # A block is about to become `ft`; what it does become.  March 2025 as posted: the label maps (patch 9),
    # nothing unmaps.  2026, v2: whatever is written to it, its bit stays, and with it its one unmapped type.
    cdef design_t *d = z.design
    cdef int old = z.pbtype[block], kind = EVENT_RETYPE, new = ft
    if d.blocks_keep_bit and ctx != CTX_FLIP and d.mapped[ft] != d.mapped[old]:
        new = old
        if d.mt[ft] == d.mt[old]:
            return old
    if old == ft:
        return ft
    z.stats.retypes += 1
    if d.label_maps and d.mapped[ft]:
        blocks_map(z, block, 1, ctx)
    elif d.explicit_maps:
        if d.mapped[ft] and not z.pbmapped[block]:
            block_zero(z, block, True)
            blocks_map(z, block, 1, ctx)
        elif z.pbmapped[block] and not d.mapped[ft]:
            blocks_unmap(z, block, 1, ctx, True)
    # a flip's own change of side is told by its map or unmap
    if z.events != NULL and ctx != CTX_FLIP and d.event_type[old] != d.event_type[ft]:
        if z.pbmapped[block] and not d.mapped[ft]:
            kind = EVENT_SILENT
        log_event(z, kind, ctx, d.event_type[old], d.event_type[ft], block << z.pageblock_order,
                  z.pageblock_pages, block_live(z, block))
    return new


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
    # zone_watermark_ok()
    return watermark_ok_with(z, order, mark, zone_idx, flags, z.nr_free if z.nr_free > 0 else 0)


cdef bint watermark_ok_with(zone_t *z, int order, int64_t mark, int zone_idx, uint32_t flags,
                            int64_t nr_free) noexcept nogil:
    # __zone_watermark_ok(): pages left above the mark, and a block of the order in reach.
    cdef design_t *d = z.design
    cdef int64_t least = mark
    cdef int ft, mt
    nr_free -= zone_unusable_free(z, order, flags)
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
        if mt <= MIGRATE_RECLAIMABLE and (d.unmapped_counts or d.mapped[ft]):
            return True
        if mt == MIGRATE_CMA and flags & ALLOC_CMA:
            return True
        if mt == MIGRATE_HIGHATOMIC and flags & (ALLOC_HIGHATOMIC | ALLOC_OOM):
            return True
    return False


cdef int64_t quiet_of(const zone_t *z, const pcp_t *pcp) noexcept nogil:
    # nr_pcp_high() returns `high` as it is, nr_pcp_free() is not asked.
    return pcp.high if pcp.high_min <= pcp.high <= pcp.high_max and not z.below_high else 0


cdef int64_t free_high_least_of(const zone_t *z, const pcp_t *pcp) noexcept nogil:
    # free_frozen_page_commit(): free_high takes this many pages freed and not allocated since
    return pcp.batch + (pcp.high_min // 2 if z.kernel.free_high_needs_high_min else 0)


cdef void pcp_set_quiet(zone_t *z, pcp_t *pcp) noexcept nogil:
    # To be called whenever `high`, its bounds or the batch changed.
    pcp.free_count_max = pcp.batch << z.pcp_batch_scale_max
    pcp.free_high_least = free_high_least_of(z, pcp)
    pcp.free_count_below[0] = pcp.free_count_max
    pcp.free_count_below[1] = min(pcp.free_high_least, pcp.free_count_max)
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


cdef bint compaction_capture(zone_t *z, uint32_t frame, int order, int ft) noexcept nogil:
    # compaction_capture(): the block that a run waits for, before it merges further or reaches a list.
    cdef capture_t *capture = z.capture
    cdef design_t *d = z.design
    if capture.frame != NIL or order != capture.order:
        return False
    if d.mt[ft] == MIGRATE_CMA or d.mt[ft] == MIGRATE_ISOLATE or d.mapped[ft] != d.mapped[capture.ft]:
        return False
    if (order < z.pageblock_order and d.mt[ft] == MIGRATE_MOVABLE
            and d.mt[capture.ft] != MIGRATE_MOVABLE):
        return False        # it would mix types
    capture.frame = frame
    z.state[frame] = <uint8_t>(TAKEN | order)
    account_freepages(z, ft, -(<int64_t>1 << order))
    return True


cdef uint32_t merge_blocks(zone_t *z, uint32_t frame, int *order, int ft) noexcept nogil:
    # __free_one_page() from pageblock_order on, where buddies may be of unlike types, and from the order on
    # that is to be captured.  NIL: captured.
    cdef uint32_t buddy, b
    cdef int buddy_ft
    while order[0] < z.max_order:
        if z.capture != NULL and compaction_capture(z, frame, order[0], ft):
            return NIL
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


cdef uint32_t fallback_orders(const zone_t *z, int ft) noexcept nogil:
    # Bit per order: some fallback type has a free block of it.  A request that will fail asks many times.
    cdef design_t *d = z.design
    cdef uint32_t orders = 0
    cdef int i
    for i in range(d.nfallback[ft]):
        orders |= z.nonempty[d.fallback[ft][i]]
    return orders


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


cdef void count_extfrag(zone_t *z, uint32_t frame, int order, int ft, int cur, int other) noexcept nogil:
    # trace_mm_page_alloc_extfrag()
    cdef fallback_t *entry
    z.stats.extfrag_events += 1
    if cur < z.pageblock_order:
        z.stats.extfrag_fragmenting += 1
    if cur <= 3:
        z.stats.extfrag_severe += 1
    if z.fallbacks != NULL and z.nfallbacks < z.fallbacks_room:
        entry = &z.fallbacks[z.nfallbacks]
        entry.frame = frame
        entry.order = <uint8_t>order
        entry.fallback_order = <uint8_t>cur
        entry.ft = <uint8_t>ft
        entry.fallback_ft = <uint8_t>other
        z.nfallbacks += 1


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
    # expand() of what was claimed; in sound designs a pageblock that was isolated while the lock was dropped
    # stays apart.
    cdef uint32_t at = frame + (1u << order), block
    cdef bint alike = not z.design.explicit_maps
    cdef int piece = order if order < z.pageblock_order else z.pageblock_order
    if not alike:
        alike = True
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


cdef uint32_t claim_block(zone_t *z, uint32_t frame, int cur, int order, int ft, int old_ft,
                          uint32_t flags) noexcept nogil:
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
    if boost_watermark(z) and flags & ALLOC_KSWAPD:
        z.boosted = 1
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
    cdef uint32_t frame, orders = fallback_orders(z, ft)
    if (flags & ALLOC_NOFRAGMENT or d.whole_only[ft]) and order < z.pageblock_order:
        lowest = z.pageblock_order
    while orders >> lowest:
        cur = 31 - clz(orders)
        # should_try_claim_block()
        if cur < z.pageblock_order // 2 and d.mt[ft] == MIGRATE_MOVABLE:
            break
        other = find_suitable_fallback(z, cur, ft)
        frame = claim_block(z, first_of(z, cur, other), cur, order, ft, other, flags)
        if frame != NIL:
            count_extfrag(z, frame, order, ft, cur, other)
            return frame
        orders &= ~(1u << cur)
    return NIL


cdef uint32_t rmqueue_steal(zone_t *z, int order, int ft) noexcept nogil:
    # __rmqueue_steal(): a single piece out of the smallest foreign block; the block keeps its type.
    cdef int cur, other
    cdef uint32_t frame, orders = fallback_orders(z, ft) >> order
    if z.design.whole_only[ft] or orders == 0:
        return NIL
    cur = order + ctz(orders)
    other = find_suitable_fallback(z, cur, ft)
    frame = first_of(z, cur, other)
    list_del(z, frame, cur, other)
    expand(z, frame, order, cur, other)
    account_freepages(z, other, -(<int64_t>1 << order))
    z.stats.steals += 1
    count_extfrag(z, frame, order, ft, cur, other)
    return frame


cdef uint32_t rmqueue_slow(zone_t *z, int order, int ft, uint32_t flags, int *mode) noexcept nogil:
    # __rmqueue(): own list, CMA, claim, steal.
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


# ---------------------------------------------------------------- construction

cdef int zone_init(zone_t *z, uint64_t start_pfn, uint64_t end_pfn, int pageblock_order,
                   int max_order, int ncpus) except -1:
    """Allocates the arrays of a zone over [start_pfn, end_pfn); every frame is a hole at first."""
    cdef uint64_t unit = <uint64_t>1 << max_order
    cdef uint64_t padded
    cdef uint32_t i, lists
    memset(z, 0, sizeof(zone_t))
    z.base_pfn = start_pfn & ~(unit - 1)
    z.first = <uint32_t>(start_pfn - z.base_pfn)
    z.nframes = <uint32_t>(end_pfn - z.base_pfn)
    padded = (end_pfn - z.base_pfn + unit - 1) & ~(unit - 1)
    z.pageblock_order = pageblock_order
    z.merge_order = pageblock_order
    z.max_order = max_order
    z.pageblock_pages = 1u << pageblock_order
    z.first_block = block_of(z, z.first)
    z.nblocks = <uint32_t>((z.nframes + <uint64_t>z.pageblock_pages - 1) >> pageblock_order)
    z.ncpus = ncpus
    z.heads = <uint32_t>padded
    lists = list_of(z, max_order + 1, 0)
    z.links = <link_t *>big_alloc(lists * sizeof(link_t))
    z.state = <uint8_t *>big_alloc(padded)
    z.pbtype = <uint8_t *>calloc(padded >> pageblock_order, 1)
    z.pbbase = <uint8_t *>calloc(padded >> pageblock_order, 1)
    z.pbmapped = <uint8_t *>calloc(padded >> pageblock_order, 1)
    z.compact.skip = <uint8_t *>calloc(padded >> pageblock_order, 1)
    z.pbpool = <uint8_t *>calloc(padded >> pageblock_order, 1)
    z.diffs = <vmdiff_t *>calloc(ncpus, sizeof(vmdiff_t))
    if not (z.compact.skip and z.links and z.state and z.pbtype and z.pbbase and z.pbmapped and z.pbpool
            and z.diffs):
        zone_destroy(z)
        raise MemoryError(f"a zone of {end_pfn - start_pfn} frames needs {9 * padded} bytes")
    z.arrays_bytes = padded * 9 + 4 * (padded >> pageblock_order)
    z.diff = z.diffs
    z.queue = NIL
    z.compact.cached_migrate[0] = z.compact.cached_migrate[1] = z.compact.cached_free = -1
    z.compact.init_migrate = z.compact.init_free = -1
    memset(z.state, HOLE, z.first)
    memset(z.state + z.first, TAIL, z.nframes - z.first)
    memset(z.state + z.nframes, HOLE, padded - z.nframes)
    for i in range(z.heads, lists, 2):
        z.links[i].next = i
        z.links[i].prev = i
        z.links[i + 1].next = 0
    return 0


cdef void zone_destroy(zone_t *z) noexcept nogil:
    cdef int cpu, k
    if z.pcps != NULL:
        for cpu in range(z.ncpus):
            for k in range(MAX_PCP_LISTS):
                free(z.pcps[cpu].lists[k].room)
    free(z.links)
    free(z.state)
    free(z.pbtype)
    free(z.pbbase)
    free(z.pbmapped)
    free(z.compact.skip)
    free(z.pbpool)
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
