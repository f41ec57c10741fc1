"""The caller's fallback, replayed: what a trace cannot show, for there every try succeeded.

Where a try of a known caller fails (``asi_pa.kernel.callers``), the single pages follow that it would ask for
instead, as many as the try would have been, until one is not to be had.  An allocation of order k owns 2^k
slots (``asi_pa.trace.compiler``): its pages lie in these, from the first on, and go when it is freed.
"""

from libc.stdint cimport int64_t, uint32_t

from asi_pa._core cimport NIL, request_t, zone_t
from asi_pa.engine.page_alloc cimport count_failure, mm_t, zone_of
from asi_pa.engine.wrappers cimport design_alloc, design_free
from asi_pa.trace.ops cimport OP_TRY


cdef bint answered(run_t *run, const op_t *op) noexcept nogil:
    # Of a recorded try and what was asked for instead: is there nothing to ask for?
    cdef uint32_t tried
    if op.op == OP_TRY:
        if not run.replays_tries:
            return True
        run.tried[op.cpu] = op.slot
        return False
    tried = run.tried[op.cpu]
    if not run.replays_tries or tried >= run.nslots or run.slots[tried] == NIL:
        return False
    # the try that failed there succeeded here
    run.slots[op.slot] = NIL
    run.dropped += 1
    run.replayed_by_class[op.cls] -= 1
    return True


cdef void failed(run_t *run, const op_t *op) noexcept nogil:
    # A request of the trace got nothing.
    run.slots[op.slot] = NIL
    run.failures += 1
    run.failed_by_class[op.cls] += 1
    run.failed_by_way[run.way[op.cls][op.order]] += 1
    count_failure(run.mm, op.cpu, op.order, &run.requests[op.cls])
    if op.op == OP_TRY:
        return          # what the caller asked for instead is in the trace
    if run.falls_back[op.cls] >> op.order & 1 and op.slot + (<uint32_t>1 << op.order) <= run.nslots:
        fall_back(run, op)


cdef void fall_back(run_t *run, const op_t *op) noexcept nogil:
    cdef mm_t *mm = run.mm
    cdef const request_t *rq = &run.fallbacks[op.cls]
    cdef uint32_t k
    cdef int64_t pfn
    run.fallbacks_replayed += 1
    for k in range(1u << op.order):
        run.allocations += 1
        run.fallback_pages += 1
        run.replayed_by_class[op.cls] += 1
        pfn = design_alloc(mm, op.cpu, 0, rq)
        if pfn < 0:
            run.fallbacks_failed += 1
            run.failures += 1
            run.failed_by_class[op.cls] += 1
            run.failed_by_way[run.way_of_fallback[op.cls]] += 1
            count_failure(mm, op.cpu, 0, rq)
            return
        run.slots[op.slot + k] = <uint32_t>pfn
        if k == 0:
            run.in_pages[op.slot >> 3] |= 1u << (op.slot & 7)
        if mm.slots != NULL:
            own(mm, <uint32_t>pfn, op.slot + k)


cdef bint is_in_pages(const run_t *run, const op_t *op) noexcept nogil:
    return run.in_pages[op.slot >> 3] >> (op.slot & 7) & 1


cdef void split_in_pages(run_t *run, const op_t *op) noexcept nogil:
    # split_page() of what is single pages, each in the slot that it gets: nothing is left to do.
    run.in_pages[op.slot >> 3] &= ~(1u << (op.slot & 7))


cdef void free_in_pages(run_t *run, const op_t *op) noexcept nogil:
    # The free of an allocation that is single pages.
    cdef mm_t *mm = run.mm
    cdef uint32_t k, held
    cdef zone_t *z
    split_in_pages(run, op)
    for k in range(1u << op.order):
        held = run.slots[op.slot + k]
        if held == NIL:
            return
        run.slots[op.slot + k] = NIL
        z = zone_of(mm, held)
        design_free(mm, z, op.cpu, held - <uint32_t>z.base_pfn, 0)


cdef void own(mm_t *mm, uint32_t pfn, uint32_t slot) noexcept nogil:
    # compaction tells the owner where its pages went
    cdef zone_t *z = zone_of(mm, pfn)
    z.links[pfn - <uint32_t>z.base_pfn].prev = slot
