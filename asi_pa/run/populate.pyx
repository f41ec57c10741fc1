"""A zone's initial state, brought into a machine: the side of each pageblock, what is free, what is held.

The steps of ``Replay.populate``, in this order; what they are given has been checked there.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memset

from asi_pa._core cimport (
    ALLOC,
    CTX_POPULATE,
    TAIL,
    block_of,
    free_one,
    prefetchw,
    zone_t,
)
from asi_pa.engine.fill cimport fill_free
from asi_pa.engine.mapping cimport blocks_map, blocks_unmap
from asi_pa.engine.page_alloc cimport mm_t, set_dirty
from asi_pa.engine.remapped cimport is_remapped, remapped_present, set_pages
from asi_pa.engine.wrappers cimport has_pool
from asi_pa.physmap.physmap cimport CAUSE_POPULATE, RESTRICTED

cdef enum:
    AHEAD = 16


cdef void count_kinds(const zone_t *z, const run_t *run, start_t *start) noexcept nogil:
    # Pages of each pageblock that are held sensitive, and nonsensitive.
    cdef Py_ssize_t i
    cdef uint32_t frame, b
    cdef bint nonsensitive
    cdef uint8_t order
    for i in range(start.held):
        frame = start.held_pfn[i] - <uint32_t>z.base_pfn
        order = start.held_order[i]
        nonsensitive = not run.requests[start.held_cls[i]].sensitive
        if order <= z.pageblock_order:
            start.kinds[2 * block_of(z, frame) + nonsensitive] += 1u << order
            continue
        for b in range(block_of(z, frame), block_of(z, frame + (1u << order) - 1) + 1):
            start.kinds[2 * b + nonsensitive] += z.pageblock_pages


cdef void type_blocks(zone_t *z, const run_t *run, start_t *start) noexcept nogil:
    # The freetype of each pageblock; one that is mapped by pageblock is on the side that most of it wants.
    cdef mm_t *mm = run.mm
    cdef bint side, by_block = mm.design.tracks
    cdef uint32_t b, sensitive, nonsensitive
    cdef int mt
    for b in range(z.first_block, z.nblocks):
        sensitive, nonsensitive = start.kinds[2 * b], start.kinds[2 * b + 1]
        side = by_block and z.pbmapped[b]
        if by_block and sensitive != nonsensitive:
            side = nonsensitive > sensitive
        if sensitive and nonsensitive:
            start.mixed_blocks += 1
        mt = start.block_mt[b - z.first_block]
        z.pbtype[b] = mm.design.start[mt][0 if side else 1]
        if by_block and mm.design.mapped[z.pbtype[b]] != side:
            # the side has this one type only
            z.pbtype[b] = mm.design.start[0][0 if side else 1]
        z.pbbase[b] = z.pbtype[b]
        if by_block:
            start.mapped_blocks += side
            if side and not z.pbmapped[b]:
                blocks_map(z, b, 1, CTX_POPULATE)
            elif z.pbmapped[b] and not side:
                blocks_unmap(z, b, 1, CTX_POPULATE, False)


cdef void soil(zone_t *z, const run_t *run) noexcept nogil:
    # Whatever was free on a running machine may hold what a sensitive owner left.
    cdef uint32_t b
    cdef bint dirty = run.mm.design.tree == RESTRICTED or run.mm.design.tracks
    if z.dirty == NULL:
        return
    memset(z.dirty, 0xFF if dirty else 0, (z.nframes + 7) >> 3)
    for b in range(z.first_block, z.nblocks):
        if z.pbmapped[b]:
            set_dirty(z, b << z.pageblock_order, z.pageblock_pages, False)


cdef void fill_lists(zone_t *z, const start_t *start) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(start.free):
        fill_free(z, start.free_pfn[i] - <uint32_t>z.base_pfn, start.free_order[i])


cdef bint elsewhere(const zone_t *z, const run_t *run, uint32_t frame, uint8_t order,
                    uint8_t cls) noexcept nogil:
    # Whether the design would have put it somewhere else.
    if run.mm.design.tracks:
        return run.requests[cls].sensitive == z.pbmapped[block_of(z, frame)]
    return (has_pool(run.mm) and order <= z.pageblock_order
            and is_remapped(run.mm, run.requests[cls].info))


cdef void fill_held(zone_t *z, run_t *run, start_t *start) noexcept nogil:
    # What is held, but for what belongs elsewhere: that is marked, and its frames are nobody's.
    cdef mm_t *mm = run.mm
    cdef bint plain = mm.wrapper == NULL and not mm.design.tracks
    cdef uint32_t frame, base = <uint32_t>z.base_pfn
    cdef uint8_t order, cls
    cdef Py_ssize_t i
    for i in range(start.held):
        if i + AHEAD < start.held:
            # what the trace frees lies anywhere
            prefetchw(&z.links[start.held_pfn[i + AHEAD] - base])
            prefetchw(&z.state[start.held_pfn[i + AHEAD] - base])
        frame = start.held_pfn[i] - base
        order = start.held_order[i]
        cls = start.held_cls[i]
        if order:
            memset(&z.state[frame], TAIL, 1u << order)
        if not plain and elsewhere(z, run, frame, order, cls):
            z.state[frame] = TAIL
            start.misplaced[i] = 1
            start.left += 1
            continue
        z.state[frame] = <uint8_t>(ALLOC | order)
        z.links[frame].next = run.requests[cls].info
        z.links[frame].prev = start.held_slot[i]
        run.slots[start.held_slot[i]] = start.held_pfn[i]
        if not plain and mm.wrapper != NULL and is_remapped(mm, run.requests[cls].info):
            set_pages(mm, start.held_pfn[i], 1u << order, remapped_present(mm), CAUSE_POPULATE)
            set_dirty(z, frame, 1u << order, not remapped_present(mm))


cdef void free_misplaced(zone_t *z, const start_t *start) noexcept nogil:
    # Their frames are free; what they held is allocated where the design would put it.
    cdef Py_ssize_t i
    cdef uint32_t frame, end
    cdef int order
    if not start.left:
        return
    for i in range(start.held):
        if not start.misplaced[i]:
            continue
        frame = start.held_pfn[i] - <uint32_t>z.base_pfn
        end = frame + (1u << start.held_order[i])
        order = min(<int>start.held_order[i], z.pageblock_order)
        while frame < end:
            free_one(z, frame, order, z.pbtype[block_of(z, frame)], True)
            frame += 1u << order
