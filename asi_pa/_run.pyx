# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Runs operations.  What most of them do, a hit in the first list they ask, is inline in the loop.

Operations come in blocks of 16.  While one block runs, the frames of the next are on their way to the cache,
and the slots of the one after that:

    ops    [ runs now ][ frames fetched ][ checked, slots fetched ][ ...
           i           framed            slotted
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from asi_pa._core cimport (
    ALLOC,
    INFO_COMP,
    NIL,
    likely,
    link_t,
    prefetchw,
    request_t,
    zone_t,
)
from asi_pa._page_alloc cimport alloc_hit, count_failure, zone_free, zone_of
from asi_pa._pcp cimport pcp_decay
from asi_pa._relief cimport kswapd
from asi_pa._wrappers cimport WRAP_NONE, design_alloc, design_free, run_ahead

cdef extern from *:
    """
    /* run_blocks() is compiled once for each kind of machine: all of it is inlined, whatever its size. */
    #ifdef __GNUC__
    #undef CYTHON_INLINE
    #define CYTHON_INLINE inline __attribute__((always_inline))
    #endif
    """

cdef enum:
    BLOCK = 16


cdef Py_ssize_t run_ops(run_t *run, const op_t *ops, Py_ssize_t i, Py_ssize_t end) noexcept nogil:
    # Runs [i, end); returns the operation that cannot be, or -1.
    cdef mm_t *mm = run.mm
    # most machines have one zone, and no design, worker or shortage stands between an operation and it
    if mm.nzones > 1 or mm.wrapper != WRAP_NONE or mm.relief != NULL or mm.design.looks_ahead:
        return run_blocks(run, ops, i, end, False, False)
    if mm.zones[0].pcps != NULL:
        return run_blocks(run, ops, i, end, True, True)
    return run_blocks(run, ops, i, end, True, False)


cdef inline Py_ssize_t run_blocks(run_t *run, const op_t *ops, Py_ssize_t i, Py_ssize_t end, bint plain,
                                  bint pcp) noexcept nogil:
    # `plain` and `pcp` are constants where this is inlined: three loops, each with its own paths only.
    cdef zone_t *z = run.mm.zones[0]
    cdef uint32_t *slots = run.slots
    cdef uint32_t base = <uint32_t>z.base_pfn, frame, held
    cdef int order
    cdef bint good = True
    cdef const op_t *op = &ops[i]
    cdef const op_t *stop
    cdef Py_ssize_t framed = fetch_slots(run, ops, i, min(end, i + BLOCK))
    cdef Py_ssize_t slotted = fetch_slots(run, ops, framed, min(end, i + 2 * BLOCK))
    fetch_frames(run, ops, i, framed)
    while good and i < framed:
        stop = &ops[framed]
        fetch_frames(run, ops, framed, slotted)
        i = framed
        framed = slotted
        slotted = fetch_slots(run, ops, slotted, min(end, slotted + BLOCK))
        while op < stop:
            order = op.order
            if plain and op.op == OP_ALLOC:
                frame = alloc_hit(z, op.cpu, order, &run.requests[op.cls], pcp)
                if likely(frame != NIL, 1):
                    slots[op.slot] = base + frame
                    run.allocations += 1
                else:
                    allocate(run, op)
            elif plain and op.op == OP_FREE:
                held = slots[op.slot]
                if likely(held != NIL, 1):
                    frame = held - base
                    if z.state[frame] != <uint8_t>(ALLOC | order):
                        good = False
                        break
                    slots[op.slot] = NIL
                    zone_free(z, op.cpu, frame, order, pcp)
                else:
                    run.skipped += 1
            elif not step(run, op):
                good = False
                break
            op += 1
    run.done = op - ops
    return -1 if op == &ops[end] else op - ops


# ---------------------------------------------------------------- fetching ahead

cdef inline Py_ssize_t fetch_slots(run_t *run, const op_t *ops, Py_ssize_t i, Py_ssize_t end) noexcept nogil:
    # Checks operations [i, end) and fetches their slots.  Returns the first one that cannot be, or end.
    cdef uint32_t *slots = run.slots
    cdef uint64_t nslots = run.nslots
    cdef int max_order = run.mm.zones[0].max_order, ncpus = run.mm.ncpus
    while i < end:
        if not likely(ops[i].slot < nslots and ops[i].order <= max_order and ops[i].cpu < ncpus, 1):
            if ops[i].op != OP_TICK:
                break
        prefetchw(&slots[ops[i].slot])
        i += 1
    return i


cdef inline void fetch_frames(run_t *run, const op_t *ops, Py_ssize_t i, Py_ssize_t end) noexcept nogil:
    # Fetches what the first zone's arrays have of the frames that the slots of [i, end) hold.
    cdef uint32_t *slots = run.slots
    cdef zone_t *z = run.mm.zones[0]
    cdef uint8_t *state = z.state
    cdef link_t *links = z.links
    cdef uint32_t base = <uint32_t>z.base_pfn, frames = z.nframes, frame
    while i < end:
        if likely(ops[i].op != OP_TICK, 1):
            frame = slots[ops[i].slot] - base
            frame &= -<uint32_t>(frame < frames)    # an empty slot fetches frame 0: cheaper than a branch
            prefetchw(&state[frame])
            prefetchw(&links[frame])
        i += 1


# ---------------------------------------------------------------- any operation on any machine

cdef void allocate(run_t *run, const op_t *op) noexcept nogil:
    cdef mm_t *mm = run.mm
    cdef const request_t *rq = &run.requests[op.cls]
    cdef int64_t pfn = design_alloc(mm, op.cpu, op.order, rq)
    run.allocations += 1
    if pfn < 0:
        run.slots[op.slot] = NIL
        run.failures += 1
        run.failed_by_class[op.cls] += 1
        count_failure(mm, op.cpu, op.order, rq)
        return
    run.slots[op.slot] = <uint32_t>pfn
    if mm.relief != NULL:
        own(mm, <uint32_t>pfn, op.slot)


cdef bint step(run_t *run, const op_t *op) noexcept nogil:
    # False if the operation cannot be.
    cdef mm_t *mm = run.mm
    cdef zone_t *z = NULL
    cdef uint32_t held = NIL, frame = 0
    if op.op == OP_ALLOC:
        allocate(run, op)
    elif op.op == OP_TICK:
        tick(mm)
        if mm.relief != NULL:
            kswapd(mm, op.cpu if op.cpu < mm.ncpus else 0)
    elif op.op == OP_FREE or op.op == OP_SPLIT:
        held = run.slots[op.slot]
        if held == NIL:
            run.skipped += 1
        else:
            z = zone_of(mm, held)
            frame = held - <uint32_t>z.base_pfn
            if z.state[frame] != <uint8_t>(ALLOC | op.order):
                return False
            if op.op == OP_SPLIT:
                return split(run, z, op)
            run.slots[op.slot] = NIL
            design_free(mm, z, op.cpu, frame, op.order)
    else:
        return False
    if mm.design.looks_ahead:
        run_ahead(mm)
    return True


cdef bint split(run_t *run, zone_t *z, const op_t *op) noexcept nogil:
    # split_page(): one allocation becomes 2^order of order 0; False where slots for them are missing
    cdef uint32_t held = run.slots[op.slot], n = 1u << op.order, k
    cdef uint32_t frame = held - <uint32_t>z.base_pfn
    if op.slot + n > run.nslots:
        return False
    for k in range(n):
        z.state[frame + k] = ALLOC
        z.links[frame + k].next = z.links[frame].next & ~<uint32_t>INFO_COMP
        z.links[frame + k].prev = op.slot + k
        run.slots[op.slot + k] = held + k
    return True


cdef void own(mm_t *mm, uint32_t pfn, uint32_t slot) noexcept nogil:
    # compaction tells the owner where its pages went
    cdef zone_t *z = zone_of(mm, pfn)
    z.links[pfn - <uint32_t>z.base_pfn].prev = slot


cdef void tick(mm_t *mm) noexcept nogil:
    # vmstat's worker: decay_pcp_high() of every zone and CPU
    cdef int i, cpu
    cdef zone_t *z
    for i in range(mm.nzones):
        z = mm.zones[i]
        if z.pcps != NULL:
            for cpu in range(mm.ncpus):
                z.diff = &z.diffs[cpu]
                pcp_decay(z, &z.pcps[cpu])
