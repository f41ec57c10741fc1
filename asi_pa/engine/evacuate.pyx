"""Emptying a pageblock that is partly free, so that it can flip (Design.flip_free, Design.flip_used).

No posting has it; it is put together of what the kernel does for a contiguous range:

- where to look: pageblocks that hold a free piece of the other side, the largest pieces first, 64 of them at
  most (as fast_isolate_freepages() bounds its search, mm/compaction.c);
- which block will do: enough of it is free, and all else is a folio on the LRU that nobody has pinned
  (has_unmovable_pages(), mm/page_isolation.c); per-CPU lists are drained (drain_all_pages());
- how its pages go: to pages that an allocation of their own kind gets, on the side where they were, never
  below the MIN mark (alloc_migration_target(), mm/migrate.c; the LRU caches are off meanwhile,
  lru_cache_disable()).

Where a page finds no place the block's free pages go back, and nothing flips.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport realloc

from asi_pa._core cimport (
    ALLOC,
    FREE,
    INFO_LRU,
    INFO_MT,
    INFO_PINNED,
    INFO_SENSITIVE,
    KIND_MASK,
    MIGRATE_RECLAIMABLE,
    NIL,
    ORDER_MASK,
    PCP,
    RMQUEUE_NORMAL,
    TAIL,
    TAKEN,
    WMARK_MIN,
    account_freepages,
    block_in_zone,
    block_of,
    blocks_on,
    first_of,
    free_one,
    list_del,
    rmqueue,
    zone_watermark_ok,
)
from asi_pa.engine.migrate cimport tell_owner
from asi_pa.engine.page_alloc cimport mm_t, page_given_back, page_handed_out
from asi_pa.engine.pcp cimport pcp_drain

cdef enum:
    MOST_BLOCKS = 64


cdef int64_t used_pages(const zone_t *z, uint32_t block) noexcept nogil:
    # Pages of a block that would have to move; -1: one of them cannot.
    cdef uint32_t frame = block << z.pageblock_order, end = frame + z.pageblock_pages, pages
    cdef int64_t used = 0
    cdef int kind
    while frame < end:
        kind = z.state[frame] & KIND_MASK
        pages = 1u << (z.state[frame] & ORDER_MASK)
        if kind == ALLOC:
            if not z.links[frame].next & INFO_LRU or z.links[frame].next & INFO_PINNED:
                return -1
            used += pages
        elif kind != FREE and kind != PCP:
            return -1
        frame += pages
    return used if frame == end else -1


cdef uint32_t block_to_empty(zone_t *z, int ft) noexcept nogil:
    # The first pageblock of the other side that will do; NIL: there is none.
    cdef int order, other, looked = 0
    cdef uint32_t frame, block, last = NIL
    cdef int64_t used
    for order in range(z.pageblock_order - 1, -1, -1):
        for other in range(z.design.nft):
            if z.design.mt[other] > MIGRATE_RECLAIMABLE or z.design.mapped[other] == z.design.mapped[ft]:
                continue
            if not blocks_on(z, order, other):
                continue
            frame = first_of(z, order, other)
            while frame < z.nframes and looked < MOST_BLOCKS:
                block = block_of(z, frame)
                frame = z.links[frame].next
                if block == last or z.pbtype[block] != other or not block_in_zone(z, block):
                    continue
                last = block
                looked += 1
                used = used_pages(z, block)
                if used < 0 or used * 100 > (100 - z.design.flip_free) * <int64_t>z.pageblock_pages:
                    continue
                if zone_watermark_ok(z, 0, z.wmark[WMARK_MIN] + used, z.zone_idx, 0):
                    return block
    return NIL


cdef void take_free(zone_t *z, uint32_t block) noexcept nogil:
    # The block's free pages come off their lists: no page is to move there.
    cdef uint32_t frame = block << z.pageblock_order, end = frame + z.pageblock_pages
    cdef int order, ft = z.pbtype[block]
    while frame < end:
        order = z.state[frame] & ORDER_MASK
        if z.state[frame] & KIND_MASK == FREE:
            list_del(z, frame, order, ft)
            account_freepages(z, ft, -(<int64_t>1 << order))
            z.state[frame] = <uint8_t>(TAKEN | order)
        frame += 1u << order


cdef void put_back(zone_t *z, uint32_t block) noexcept nogil:
    # What of the block is nobody's goes back to its lists.
    cdef uint32_t frame = block << z.pageblock_order, end = frame + z.pageblock_pages
    cdef int order
    while frame < end:
        order = z.state[frame] & ORDER_MASK
        if z.state[frame] & KIND_MASK == TAKEN:
            z.state[frame] = TAIL
            free_one(z, frame, order, z.pbtype[block], False)
        frame += 1u << order


cdef void log_move(mm_t *mm, uint64_t before, uint64_t after) noexcept nogil:
    # For who holds a page by its frame number alone (Machine.moved).
    cdef size_t room
    cdef uint64_t *more
    if mm.nmoved == mm.moved_room:
        room = 2 * mm.moved_room + 64
        more = <uint64_t *>realloc(mm.moved, 2 * room * sizeof(uint64_t))
        if more == NULL:
            return
        mm.moved = more
        mm.moved_room = room
    mm.moved[2 * mm.nmoved] = before
    mm.moved[2 * mm.nmoved + 1] = after
    mm.nmoved += 1


cdef bint move_page(mm_t *mm, zone_t *z, uint32_t frame) noexcept nogil:
    # A folio of the block that is emptied; False: there is no place for it.
    cdef int order = z.state[frame] & ORDER_MASK, mode = RMQUEUE_NORMAL
    cdef uint32_t info = z.links[frame].next, owner = z.links[frame].prev
    cdef bint sensitive = (info & INFO_SENSITIVE) != 0
    cdef uint32_t target = rmqueue(z, order, z.design.start[info & INFO_MT][sensitive], 0, &mode)
    if target == NIL:
        return False
    z.state[target] = <uint8_t>(ALLOC | order)
    z.links[target] = z.links[frame]
    if owner == NIL:
        log_move(mm, z.base_pfn + frame, z.base_pfn + target)
    tell_owner(mm, z, owner, target)
    if z.tracks:
        page_handed_out(z, target, order, sensitive)
        page_given_back(z, frame, order)
    z.state[frame] = <uint8_t>(TAKEN | order)
    z.stats.moved_to_flip += 1u << order
    return True


cdef uint32_t evacuate_block(zone_t *z, int ft) noexcept nogil:
    # A pageblock of the side that `ft` is not on, emptied and on no list; NIL: none can be had.
    cdef mm_t *mm = <mm_t *>z.machine
    cdef uint32_t block = block_to_empty(z, ft), frame, end
    cdef int cpu
    if block == NIL:
        return NIL
    if z.pcps != NULL:
        for cpu in range(z.ncpus):
            pcp_drain(z, &z.pcps[cpu])
    frame = block << z.pageblock_order
    if z.state[frame] == <uint8_t>(FREE | z.pageblock_order) or used_pages(z, block) < 0:
        return NIL      # the drain made it whole, or more than whole: who asks again finds it
    end = frame + z.pageblock_pages
    take_free(z, block)
    while frame < end:
        if z.state[frame] & KIND_MASK == ALLOC and not move_page(mm, z, frame):
            put_back(z, block)
            return NIL
        frame += 1u << (z.state[frame] & ORDER_MASK)
    frame = block << z.pageblock_order
    while frame < end:
        end -= 1
        z.state[end] = TAIL
    return frame
