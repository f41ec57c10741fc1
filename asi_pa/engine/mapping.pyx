"""What a pageblock of a design with a protected tree holds and how it is mapped: asi_map(), asi_unmap().

Every change is counted, logged (``Machine.events``) and made in the page tables.  Sources: the series of
March and September 2025 (``docs/engine/designs.md``), checked by recorded runs of both.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport realloc

from asi_pa.engine.types cimport (
    ALLOC,
    CTX_CLAIM,
    CTX_CONTIG,
    CTX_FLIP,
    CTX_HOTPLUG,
    CTX_MERGE,
    CTX_POPULATE,
    CTX_RESERVE,
    CTX_UNMAP,
    CTX_UNRESERVE,
    EVENT_MAP,
    EVENT_UNMAP,
    HOLE,
    INFO_SENSITIVE,
    KIND_MASK,
    ORDER_MASK,
    TAIL,
    WINDOW_UNMAPPED,
    ZERO_ALLOC,
    ZERO_DIRTY,
    ZERO_LOCKED,
    ZERO_NONE,
    event_t,
    zone_t,
)
from asi_pa.physmap.physmap cimport (
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


cdef void log_event(zone_t *z, int kind, int ctx, int old_ft, int new_ft, uint32_t frame,
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
    e.frame = frame
    e.nr = nr
    e.aux = aux


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
            z.flips_s2n += 1
    z.stats.stale_exposed += exposed
    if z.physmap != NULL:
        physmap_map(z.physmap, z.design.tree, z.base_pfn + (<uint64_t>block << z.pageblock_order),
                    <uint64_t>n << z.pageblock_order, physmap_cause(ctx))
    log_event(z, EVENT_MAP, ctx, 0, 0, block << z.pageblock_order, n << z.pageblock_order,
              exposed | already << 16)


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
        z.stats.absences += live >> 16
        z.pbmapped[b] = 0
        z.stats.flips_n2s += 1
        z.flips_n2s += 1
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
    log_event(z, EVENT_UNMAP, 0 if ctx == CTX_UNMAP else ctx, 0, 0, block << z.pageblock_order,
              n << z.pageblock_order, absent << 16)
