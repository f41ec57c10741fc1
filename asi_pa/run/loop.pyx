"""Runs operations: hits in the loop, everything else in calls (``step.pyx``).

The loop knows which frames are coming: the slot of an operation is fetched 24 operations ahead, the frame
that it holds 12 ahead.  Only so far ahead is it known that operations have slots.

kswapd runs between operations, after every 100th (``kswapd.pyx``) or as many as the replay says, where it was
woken: the operation that wakes it ends a stretch, and the next one ends where it is kswapd's turn.
"""

from libc.stdint cimport uint32_t
from libc.string cimport memset

from asi_pa._core cimport NIL, likely, prefetchw, zone_t
from asi_pa.run.hits cimport (
    BUDDY_ALLOC,
    BUDDY_FREE,
    NO_HIT,
    PCP_ALLOC,
    PCP_FREE,
    buddy_alloc_hit,
    buddy_free_hit,
    kind_t,
    learn_alloc,
    learn_free,
    opaque_kind,
    pcp_alloc_hit,
    pcp_free_hit,
)
from asi_pa.engine.kswapd cimport kswapd
from asi_pa.engine.page_alloc cimport mm_t
from asi_pa.run.step cimport allocate, cpu_of, step, step_ahead
from asi_pa.trace.ops cimport OP_ALLOC, OP_FREE, OP_TICK

cdef extern from *:
    """
    /* What run_some() calls is inlined, whatever its size: a loop that looks ahead for each kind of zone, and
       one that does not. */
    #ifdef __GNUC__
    #undef CYTHON_INLINE
    #define CYTHON_INLINE inline __attribute__((always_inline))
    #endif
    """

cdef enum:
    FRAMES_AHEAD = 12
    SLOTS_AHEAD = 24


cdef Py_ssize_t run_ops(run_t *run, const op_t *ops, Py_ssize_t i, Py_ssize_t end) noexcept nogil:
    # Runs [i, end); returns the operation that cannot be, or -1.
    cdef mm_t *mm = run.mm
    cdef Py_ssize_t stop, upto, first
    cdef bint good = True
    cdef int k
    run.step = step_ahead if mm.design.looks_ahead else step
    for k in range(KINDS):
        # of no operation here: 0 belongs to the first, 1 elsewhere; the machine may have changed meanwhile
        run.kinds[k].key = k == 0
        run.others[k].key = k == 0
    while i < end and good:
        upto = end
        run.waits = mm.kswapd_woken != 0
        run.woke = False
        if run.waits:
            upto = min(end, i + <Py_ssize_t>(run.kswapd_every - run.clock % run.kswapd_every))
        first = stop = i
        while stop < upto and stop < i + SLOTS_AHEAD and ops[stop].slot < run.nslots:
            stop += 1
        run.stretch = &ops[i]
        mm.clock = run.clock
        if i < stop:
            good = run_stretch(run, ops, &i, stop, upto)
        else:
            good = ops[i].op == OP_TICK and run.step(run, &ops[i])      # no slot: only a tick needs none
            i += good
        run.clock += i - first
        mm.clock = run.clock
        if mm.kswapd_woken and i > first and run.clock % run.kswapd_every == 0:
            kswapd(mm, cpu_of(mm, &ops[i - 1]))
    run.done = i
    return -1 if good else i


cdef inline uint32_t key_of(const op_t *op) noexcept nogil:
    return (<const uint32_t *>op)[0]        # op, order, cls, cpu


cdef inline kind_t *kind_of(kind_t *kinds, uint32_t key) noexcept nogil:
    return &kinds[<uint32_t>(key * <uint32_t>0x9E3779B1) >> KIND_SHIFT]


cdef bint run_stretch(run_t *run, const op_t *ops, Py_ssize_t *i, Py_ssize_t stop,
                      Py_ssize_t end) noexcept nogil:
    # Runs operations from i on, up to end or the first that has no slot; those before `stop` have one.
    # Leaves in i where it came to; False if that operation cannot be.
    cdef const op_t *op = &ops[i[0]]
    cdef const op_t *last = &ops[stop]
    cdef const zone_t *z = run.mm.zones[0]
    cdef bint good = True
    if end - i[0] > SLOTS_AHEAD and stop - i[0] == SLOTS_AHEAD:
        good = run_ahead_of(run, &op, &ops[end - SLOTS_AHEAD])
        last = op + SLOTS_AHEAD
    if good and not run.woke:
        good = run_some(run, &op, last, False, z.tracks, z.pcps != NULL)
    i[0] = op - ops
    return good


cdef bint run_ahead_of(run_t *run, const op_t **at, const op_t *last) noexcept nogil:
    # A loop for each kind of zone.
    cdef const zone_t *z = run.mm.zones[0]
    if z.tracks:
        if z.pcps != NULL:
            return run_some(run, at, last, True, True, True)
        return run_some(run, at, last, True, True, False)
    if z.pcps != NULL:
        return run_some(run, at, last, True, False, True)
    return run_some(run, at, last, True, False, False)


cdef inline bint run_some(run_t *run, const op_t **at, const op_t *last, bint ahead, bint tracks,
                          bint lists) noexcept nogil:
    # Runs operations up to `last`, or up to the one that wakes kswapd.  With `ahead`, a constant where this
    # is inlined, it fetches what comes and ends where that has no slot; `tracks`, and `lists`, whether it has
    # per-CPU lists, are the zone's, constants there, too.  False: the operation that it came to cannot be.
    # What alone tells allocations from frees, which nobody can predict, is the operation: the sooner it is
    # read the less is lost.  (base_pfn stays in memory: it would take a register from what needs one more.)
    cdef zone_t *z = run.mm.zones[0]
    cdef uint32_t *slots = run.slots
    cdef uint32_t frame, held, slot
    cdef const kind_t *kind
    cdef const op_t *op = at[0]
    cdef bint good = True, hit
    while op < last:
        if ahead:
            slot = op[SLOTS_AHEAD].slot
            if not likely(slot < run.nslots, 1):
                break
            prefetchw(&slots[slot])
            frame = slots[op[FRAMES_AHEAD].slot] - <uint32_t>z.base_pfn
            frame &= -<uint32_t>(frame < z.nframes)     # frame 0 for an empty slot: cheaper than a branch
            prefetchw(&z.state[frame])
            prefetchw(&z.links[frame])
            if tracks:
                prefetchw(&z.dirty[frame >> 3])
        kind = opaque_kind(kind_of(run.kinds, key_of(op)))
        if not likely(kind.key == key_of(op), 1):
            if not elsewhere(run, op):
                good = False
                break
            if run.woke:
                op += 1
                break
        elif op.op == OP_ALLOC:
            if lists:
                hit = pcp_alloc_hit(z, kind, &frame, tracks)
            else:
                hit = buddy_alloc_hit(z, kind, &frame, tracks)
            if likely(hit, 1):
                slots[op.slot] = <uint32_t>z.base_pfn + frame
                run.allocations += 1
            else:
                allocate(run, op)
                if run.woke:
                    op += 1
                    break
        else:
            held = slots[op.slot]
            if likely(held != NIL, 1):
                frame = held - <uint32_t>z.base_pfn
                if likely(z.state[frame] == kind.state, 1):
                    slots[op.slot] = NIL
                    if not lists:
                        buddy_free_hit(z, kind, frame, tracks)
                    elif not likely(pcp_free_hit(z, kind, frame, tracks), 1):
                        free_past_lists(z, kind, frame)
                elif not run.step(run, op):
                    good = False
                    break
            else:
                run.skipped += 1
        op += 1
    at[0] = op
    return good


cdef bint elsewhere(run_t *run, const op_t *op) noexcept nogil:
    # An operation of a kind that the loop does not know, or that is not done inline there: what passes the
    # per-CPU lists of a machine that has them, and what always takes a call.  False: it cannot be.
    cdef kind_t *kind = kind_of(run.others, key_of(op))
    cdef zone_t *z = run.mm.zones[0]
    cdef uint32_t frame, held
    if kind.key != key_of(op):
        learn(run, op)
        return run.step(run, op)
    if kind.does == BUDDY_ALLOC:
        if buddy_alloc_hit(z, kind, &frame, z.tracks):
            run.slots[op.slot] = <uint32_t>z.base_pfn + frame
            run.allocations += 1
            return True
    elif kind.does == BUDDY_FREE:
        held = run.slots[op.slot]
        frame = held - <uint32_t>z.base_pfn
        if held != NIL and z.state[frame] == kind.state:
            run.slots[op.slot] = NIL
            buddy_free_hit(z, kind, frame, z.tracks)
            return True
    return run.step(run, op)


cdef void free_past_lists(zone_t *z, const kind_t *kind, uint32_t frame) noexcept nogil:
    buddy_free_hit(z, kind, frame, z.tracks)


cdef void learn(run_t *run, const op_t *op) noexcept nogil:
    cdef kind_t kind
    memset(&kind, 0, sizeof(kind_t))
    kind.key = key_of(op)
    kind.does = NO_HIT
    if op.order <= run.mm.zones[0].max_order and op.cpu < run.mm.ncpus:
        if op.op == OP_ALLOC:
            learn_alloc(&kind, run.mm, op.cpu, op.order, &run.requests[op.cls])
        elif op.op == OP_FREE:
            learn_free(&kind, run.mm, op.cpu, op.order)
    if kind.does == (PCP_ALLOC if op.op == OP_ALLOC else PCP_FREE) or (
            run.mm.zones[0].pcps == NULL and kind.does != NO_HIT):
        kind_of(run.kinds, key_of(op))[0] = kind
    else:
        kind_of(run.others, key_of(op))[0] = kind
