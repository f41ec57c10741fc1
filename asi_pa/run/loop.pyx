"""Runs operations: hits in the loop, everything else in calls.

The loop knows which frames are coming: the slot of an operation is fetched 24 operations ahead, the frame
that it holds 12 ahead.  Only so far ahead is it known that operations have slots.

kswapd runs between operations, after every 100th (``kswapd.pyx``) or as many as the replay says, where it was
woken: the operation that wakes it ends a stretch, and the next one ends where it is kswapd's turn.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from asi_pa._core cimport NIL, likely, prefetchw, zone_t
from asi_pa.run.fallback cimport answered, failed, free_in_pages, is_in_pages, split_in_pages
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
from asi_pa.engine.migrate cimport free_allocated, split_allocated
from asi_pa.engine.page_alloc cimport mm_t, zone_of
from asi_pa.engine.pcp cimport refresh_cpu_vm_stats
from asi_pa.engine.wrappers cimport design_alloc, run_ahead
from asi_pa.trace.ops cimport OP_ALLOC, OP_FREE, OP_INSTEAD, OP_SPLIT, OP_TICK, OP_TRY

cdef extern from *:
    """
    /* What run_some() calls is inlined, whatever its size: two loops, with and without a look ahead. */
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
        good = run_some(run, &op, &ops[end - SLOTS_AHEAD], True)
        last = op + SLOTS_AHEAD
    if good and not run.woke:
        good = run_some(run, &op, last, False)
    i[0] = op - ops
    return good


cdef inline bint run_some(run_t *run, const op_t **at, const op_t *last, bint ahead) noexcept nogil:
    # Runs operations up to `last`.  With `ahead`, a constant where this is inlined, it fetches what comes and
    # ends where that has no slot.  Either ends after the operation that wakes kswapd.  False: the operation
    # that it came to cannot be.
    cdef zone_t *z = run.mm.zones[0]
    cdef uint32_t *slots = run.slots
    cdef uint32_t base = <uint32_t>z.base_pfn, frame, held, slot
    cdef const kind_t *kind
    cdef const op_t *op = at[0]
    cdef bint good = True
    while op < last:
        if ahead:
            slot = op[SLOTS_AHEAD].slot
            if not likely(slot < run.nslots, 1):
                break
            prefetchw(&slots[slot])
            frame = slots[op[FRAMES_AHEAD].slot] - base
            frame &= -<uint32_t>(frame < z.nframes)     # frame 0 for an empty slot: cheaper than a branch
            prefetchw(&z.state[frame])
            prefetchw(&z.links[frame])
        kind = opaque(kind_of(run, key_of(op)))
        if not likely(kind.key == key_of(op), 1):
            kind = learn(run, op)
        if kind.does <= BUDDY_ALLOC:
            frame = pcp_alloc_hit(z, kind) if kind.does == PCP_ALLOC else buddy_alloc_hit(z, kind)
            if likely(frame != NIL, 1):
                slots[op.slot] = base + frame
                run.allocations += 1
            else:
                allocate(run, op)
                if run.woke:
                    op += 1
                    break
        elif likely(kind.does != NO_HIT, 1):
            held = slots[op.slot]
            if likely(held != NIL, 1):
                frame = held - base
                if likely(z.state[frame] == kind.state, 1):
                    slots[op.slot] = NIL
                    if kind.does == PCP_FREE:
                        pcp_free_hit(z, kind, frame)
                    else:
                        buddy_free_hit(z, kind, frame)
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


# ---------------------------------------------------------------- any operation on any machine

cdef void allocate(run_t *run, const op_t *op) noexcept nogil:
    cdef mm_t *mm = run.mm
    cdef int64_t pfn
    mm.clock = clock_at(run, op)
    pfn = design_alloc(mm, op.cpu, op.order, &run.requests[op.cls])
    run.allocations += 1
    run.woke = mm.kswapd_woken and not run.waits
    if pfn < 0:
        failed(run, op)
        run.woke = mm.kswapd_woken and not run.waits
        return
    run.slots[op.slot] = <uint32_t>pfn
    if mm.slots != NULL:
        own(mm, <uint32_t>pfn, op.slot)


cdef bint step(run_t *run, const op_t *op) noexcept nogil:
    # False if the operation cannot be.
    cdef mm_t *mm = run.mm
    cdef zone_t *z = NULL
    cdef uint32_t held = NIL, frame = 0
    if op.op != OP_TICK and (op.order > mm.zones[0].max_order or op.cpu >= mm.ncpus):
        return False
    if op.op == OP_ALLOC:
        allocate(run, op)
    elif op.op == OP_TRY or op.op == OP_INSTEAD:
        if not answered(run, op):
            allocate(run, op)
    elif op.op == OP_TICK:
        mm.clock = clock_at(run, op)
        refresh_vm_stats(mm, op.cpu)
        kswapd(mm, cpu_of(mm, op))
    elif op.op == OP_FREE or op.op == OP_SPLIT:
        held = run.slots[op.slot]
        if held == NIL:
            run.skipped += 1
        else:
            z = zone_of(mm, held)
            frame = held - <uint32_t>z.base_pfn
            if is_in_pages(run, op):
                if op.op == OP_FREE:
                    free_in_pages(run, op)
                else:
                    split_in_pages(run, op)
            elif op.op == OP_SPLIT:
                return op.slot + (1u << op.order) <= run.nslots and split_allocated(
                    run.slots, mm, z, frame, op.order, op.slot)
            else:
                run.slots[op.slot] = NIL
                if not free_allocated(mm, z, op.cpu, frame, op.order):
                    run.slots[op.slot] = held
                    return False
    else:
        return False
    if mm.design.looks_ahead:
        run_ahead(mm)
    return True


cdef inline uint64_t clock_at(const run_t *run, const op_t *op) noexcept nogil:
    # operations done before this one: what reclaim may know of
    return run.clock + <uint64_t>(op - run.stretch)


cdef inline int cpu_of(const mm_t *mm, const op_t *op) noexcept nogil:
    # a tick may name no CPU
    return op.cpu if op.cpu < mm.ncpus else 0


cdef void own(mm_t *mm, uint32_t pfn, uint32_t slot) noexcept nogil:
    # compaction tells the owner where its pages went
    cdef zone_t *z = zone_of(mm, pfn)
    z.links[pfn - <uint32_t>z.base_pfn].prev = slot


cdef void refresh_vm_stats(mm_t *mm, int one) noexcept nogil:
    # vmstat's worker of one CPU, or of every CPU where there is none of the number
    cdef int i, cpu
    for i in range(mm.nzones):
        for cpu in range(mm.ncpus):
            if cpu == one or one >= mm.ncpus:
                refresh_cpu_vm_stats(mm.zones[i], cpu)
