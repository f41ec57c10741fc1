"""Any operation on any machine: what the loop does not do inline.

A module of its own, so that the compiler leaves it out of the loop.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from asi_pa._core cimport NIL, zone_t
from asi_pa.engine.kswapd cimport kswapd
from asi_pa.engine.migrate cimport free_allocated, split_allocated
from asi_pa.engine.page_alloc cimport mm_t, zone_of
from asi_pa.engine.pcp cimport refresh_cpu_vm_stats
from asi_pa.engine.wrappers cimport design_alloc, run_ahead
from asi_pa.run.fallback cimport answered, failed, free_in_pages, is_in_pages, own, split_in_pages
from asi_pa.trace.ops cimport OP_ALLOC, OP_FREE, OP_INSTEAD, OP_SPLIT, OP_TICK, OP_TRY


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
    return True


cdef bint step_ahead(run_t *run, const op_t *op) noexcept nogil:
    # Where a design has workers that requests wake.
    if not step(run, op):
        return False
    run_ahead(run.mm)
    return True


cdef inline uint64_t clock_at(const run_t *run, const op_t *op) noexcept nogil:
    # operations done before this one: what reclaim may know of
    return run.clock + <uint64_t>(op - run.stretch)


cdef void refresh_vm_stats(mm_t *mm, int one) noexcept nogil:
    # vmstat's worker of one CPU, or of every CPU where there is none of the number
    cdef int i, cpu
    for i in range(mm.nzones):
        for cpu in range(mm.ncpus):
            if cpu == one or one >= mm.ncpus:
                refresh_cpu_vm_stats(mm.zones[i], cpu, mm.cpu_node[cpu] != mm.zones[i].nid)
