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
    NO_HIT,
    PCP_ALLOC,
    PCP_FREE,
    buddy_alloc_hit,
    buddy_free_hit,
    kind_t,
    learn_alloc,
    learn_free,
    pcp_alloc_hit,
    pcp_free_hit,
)
from asi_pa.engine.kswapd cimport kswapd
from asi_pa.engine.page_alloc cimport mm_t
from asi_pa.run.step cimport allocate, cpu_of, step
from asi_pa.trace.ops cimport OP_ALLOC, OP_FREE, OP_TICK

cdef extern from *:
    """
    /* What run_some() calls is inlined, whatever its size: a loop that looks ahead for each kind of zone, and
       one that does not. */
    #ifdef __GNUC__
    #undef CYTHON_INLINE
    #define CYTHON_INLINE inline __attribute__((always_inline))
    #endif
    /* The same pointer: the compiler forgets how it was made, so as not to make it anew at each use. */
    #ifdef __GNUC__
    #define asi_pa_opaque(p) ({ __typeof__(p) q_ = (p); __asm__("" : "+r"(q_)); q_; })
    #else
    #define asi_pa_opaque(p) (p)
    #endif
    """
    kind_t *opaque "asi_pa_opaque"(kind_t *) noexcept nogil

cdef enum:
    FRAMES_AHEAD = 12
    SLOTS_AHEAD = 24


cdef Py_ssize_t run_ops(run_t *run, const op_t *ops, Py_ssize_t i, Py_ssize_t end) noexcept nogil:
    # Runs [i, end); returns the operation that cannot be, or -1.
    cdef mm_t *mm = run.mm
    cdef Py_ssize_t stop, upto, first
    cdef bint good = True
    cdef int k
    for k in range(KINDS):
        run.kinds[k].key = 0            # of no operation; the machine may have changed since the last run
        run.kinds[k].does = NO_HIT
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
            good = ops[i].op == OP_TICK and step(run, &ops[i])      # no slot: only a tick needs none
            i += good
        run.clock += i - first
        mm.clock = run.clock
        if mm.kswapd_woken and i > first and run.clock % run.kswapd_every == 0:
            kswapd(mm, cpu_of(mm, &ops[i - 1]))
    run.done = i
    return -1 if good else i


cdef inline uint32_t key_of(const op_t *op) noexcept nogil:
    return (<const uint32_t *>op)[0]        # op, order, cls, cpu


cdef inline kind_t *kind_of(run_t *run, uint32_t key) noexcept nogil:
    return &run.kinds[<uint32_t>(key * <uint32_t>0x9E3779B1) >> KIND_SHIFT]


cdef bint run_stretch(run_t *run, const op_t *ops, Py_ssize_t *i, Py_ssize_t stop,
                      Py_ssize_t end) noexcept nogil:
    # Runs operations from i on, up to end or the first that has no slot; those before `stop` have one.
    # Leaves in i where it came to; False if that operation cannot be.
    cdef const op_t *op = &ops[i[0]]
    cdef const op_t *last = &ops[stop]
    cdef bint good = True
    if end - i[0] > SLOTS_AHEAD and stop - i[0] == SLOTS_AHEAD:
        if run.mm.zones[0].tracks:
            good = run_some(run, &op, &ops[end - SLOTS_AHEAD], True, True)
        else:
            good = run_some(run, &op, &ops[end - SLOTS_AHEAD], True, False)
        last = op + SLOTS_AHEAD
    if good and not run.woke:
        good = run_some(run, &op, last, False, run.mm.zones[0].tracks)
    i[0] = op - ops
    return good


cdef inline bint run_some(run_t *run, const op_t **at, const op_t *last, bint ahead,
                          bint tracks) noexcept nogil:
    # Runs operations up to `last`, or up to the one that wakes kswapd.  With `ahead`, a constant where this
    # is inlined, it fetches what comes and ends where that has no slot; `tracks` is the zone's, a constant
    # there, too.  False: the operation that it came to cannot be.  (base_pfn stays in memory: it would take
    # a register from what needs one more.)
    cdef zone_t *z = run.mm.zones[0]
    cdef uint32_t *slots = run.slots
    cdef uint32_t frame, held, slot
    cdef const kind_t *kind
    cdef const op_t *op = at[0]
    cdef bint good = True
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
        kind = opaque(kind_of(run, key_of(op)))
        if not likely(kind.key == key_of(op), 1):
            kind = learn(run, op)
        if kind.does <= BUDDY_ALLOC:
            if kind.does == PCP_ALLOC:
                frame = pcp_alloc_hit(z, kind, tracks)
            else:
                frame = buddy_alloc_hit(z, kind, tracks)
            if likely(frame != NIL, 1):
                slots[op.slot] = <uint32_t>z.base_pfn + frame
                run.allocations += 1
            else:
                allocate(run, op)
                if run.woke:
                    op += 1
                    break
        elif likely(kind.does != NO_HIT, 1):
            held = slots[op.slot]
            if likely(held != NIL, 1):
                frame = held - <uint32_t>z.base_pfn
                if likely(z.state[frame] == kind.state, 1):
                    slots[op.slot] = NIL
                    if kind.does == PCP_FREE:
                        pcp_free_hit(z, kind, frame, tracks)
                    else:
                        buddy_free_hit(z, kind, frame, tracks)
                elif not step(run, op):
                    good = False
                    break
            else:
                run.skipped += 1
        elif not step(run, op):
            good = False
            break
        elif run.woke:
            op += 1
            break
        op += 1
    at[0] = op
    return good


cdef const kind_t *learn(run_t *run, const op_t *op) noexcept nogil:
    cdef kind_t *kind = kind_of(run, key_of(op))
    memset(kind, 0, sizeof(kind_t))
    kind.key = key_of(op)
    kind.does = NO_HIT
    if op.order <= run.mm.zones[0].max_order and op.cpu < run.mm.ncpus:
        if op.op == OP_ALLOC:
            learn_alloc(kind, run.mm, op.cpu, op.order, &run.requests[op.cls])
        elif op.op == OP_FREE:
            learn_free(kind, run.mm, op.cpu, op.order)
    return kind
