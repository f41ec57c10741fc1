"""One step of the auditor: every operation a small zone can be asked for, and how each is carried out.

The operations are the engine's own; nothing here knows a design.  Another CPU acts in the windows where the
engine drops the zone lock (``zone_t.window``), with one operation of its own.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from asi_pa.audit.state cimport INFO_CONTIG, dirty_frames, present_frames, set_present_frames
from asi_pa._core cimport (
    AHEAD_BACK,
    AHEAD_BACK_TIMER,
    ALLOC,
    FREE,
    INFO_SENSITIVE,
    KIND_MASK,
    MIGRATE_CMA,
    MIGRATE_ISOLATE,
    MIGRATE_RECLAIMABLE,
    NIL,
    ORDER_MASK,
    PCP,
    POOL,
    POOL_LIST,
    TAKEN,
    WINDOW_MAPPED,
    WINDOW_UNMAPPED,
    ZERO_MAPPED,
    blocks_on,
    request_t,
    vmdiff_t,
    zone_t,
)
from asi_pa.engine.compact_control cimport COMPACT_PRIO_SYNC_FULL
from asi_pa.engine.compaction cimport alloc_pages_direct_compact, compact_node, compaction_order
from asi_pa.engine.flip cimport clear_ahead
from asi_pa.engine.highatomic cimport unreserve_highatomic
from asi_pa.engine.page_isolation cimport (
    alloc_contig_range,
    free_contig_range,
    start_isolate_page_range,
    take_and_putback,
    undo_isolate_page_range,
)
from asi_pa.engine.migrate cimport lru_add_drain
from asi_pa.engine.remapped cimport is_remapped, remapped_present
from asi_pa.engine.page_alloc cimport mm_t
from asi_pa.engine.pcp cimport pcp_decay, pcp_drain
from asi_pa.engine.wrappers cimport (
    design_alloc,
    design_free,
    has_pool,
    has_queue,
    run_ahead,
    wrapped_contig,
    wrapped_free,
)
from asi_pa.verify.codes cimport (
    OP_ALLOC,
    OP_COMPACT_NODE,
    OP_CONTIG,
    OP_DIRECT_COMPACT,
    OP_DRAIN,
    OP_FREE,
    OP_FREE_CONTIG,
    OP_ISOLATE,
    OP_SHRINK,
    OP_TAKE,
    OP_TICK,
    OP_UNISOLATE,
    OP_UNRESERVE,
    OP_WORKER,
)


cdef extern from *:
    int ctzll "__builtin_ctzll"(unsigned long long) noexcept nogil


# ---------------------------------------------------------------- what is where

cdef bint absent_wanted(const mm_t *mm, uint32_t info) noexcept nogil:
    # Must an allocated page be absent from the protected tree?
    if mm.wrapper == NULL:
        return (info & INFO_SENSITIVE) != 0
    return is_remapped(<mm_t *>mm, info) != remapped_present(<mm_t *>mm)


cdef inline uint64_t heads_among(const zone_t *z, uint32_t frame) noexcept nogil:
    # Of eight frames those that head something, as the top bits of eight bytes.
    cdef uint64_t states = 0
    memcpy(&states, z.state + frame, 8)
    if z.nframes - frame < 8:
        states &= (<uint64_t>1 << 8 * (z.nframes - frame)) - 1
    states |= (states & <uint64_t>0x7070707070707070) + <uint64_t>0x7070707070707070
    return states & <uint64_t>0x8080808080808080


cdef void take_masks(const search_t *s, masks_t *m) noexcept nogil:
    # The state as sets of frames and blocks.
    cdef const zone_t *z = s.z
    cdef uint32_t first, frame, end = 0, block, pages
    cdef uint64_t heads, range_mask, whole = (<uint64_t>1 << z.pageblock_pages) - 1
    cdef int kind
    cdef bint remapped_is_present = remapped_present(s.mm)
    m.exposed = 0
    m.hidden = 0
    m.live = 0
    m.taken_absent = 0
    m.mislabelled = 0
    m.cma_lost = 0
    if z.design.tracks:
        m.present = 0
        for block in range(z.first_block, z.nblocks):
            if z.pbmapped[block]:
                m.present |= whole << (block << z.pageblock_order)
            if z.pbmapped[block] != z.design.mapped[z.pbtype[block]]:
                m.mislabelled |= 1u << block
    else:
        m.present = present_frames(z)
    for first in range(0, z.nframes, 8):
        heads = heads_among(z, first)
        while heads:
            frame = first + (<uint32_t>ctzll(heads) >> 3)
            heads &= heads - 1
            if frame < end:
                continue        # inside a block
            kind = z.state[frame] & KIND_MASK
            pages = 1u << (z.state[frame] & ORDER_MASK)
            end = frame + pages
            range_mask = (<uint64_t>1 << pages) - 1 << frame
            if kind == ALLOC:
                m.live |= range_mask
                if absent_wanted(s.mm, z.links[frame].next):
                    m.taken_absent |= range_mask
                    m.exposed |= range_mask & m.present
                else:
                    m.hidden |= range_mask & ~m.present
            elif not z.design.tracks:
                if kind == FREE or kind == PCP:
                    if range_mask & (m.present if remapped_is_present else ~m.present):
                        m.mislabelled |= 1u << (frame >> z.pageblock_order)
                elif kind == POOL:
                    if range_mask & (~m.present if remapped_is_present else m.present):
                        m.mislabelled |= 1u << (frame >> z.pageblock_order)
    m.stale = m.present & dirty_frames(z) & ~m.taken_absent
    if s.cma_blocks:
        for block in range(z.first_block, z.nblocks):
            if s.cma_blocks >> block & 1 and z.design.mt[z.pbbase[block]] != MIGRATE_CMA:
                m.cma_lost |= 1u << block


# ---------------------------------------------------------------- one operation

cdef void mark_contig(search_t *s, uint32_t frame, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(frame, frame + n):
        s.z.links[i].next |= INFO_CONTIG


cdef int64_t compact(search_t *s, const op_t *op) noexcept nogil:
    # Either kind looks at the whole zone whatever earlier runs kept of it, so that no state has this.
    cdef request_t *rq = &s.requests[op.which]
    cdef int64_t result = 0
    cdef int status = 0
    if op.code == OP_COMPACT_NODE:
        compact_node(s.mm, op.cpu, s.z.nid, False)
    else:
        result = alloc_pages_direct_compact(s.mm, op.cpu, op.order, rq, rq.slow_flags, COMPACT_PRIO_SYNC_FULL,
                                            &status)
    lru_add_drain(s.mm)
    return result


cdef int64_t operate(search_t *s, const op_t *op) noexcept nogil:
    cdef zone_t *z = s.z
    cdef mm_t *mm = s.mm
    cdef int64_t result = 0
    cdef uint32_t frame = op.frame, i
    z.diff = &z.diffs[op.cpu]
    if op.code == OP_ALLOC:
        result = design_alloc(mm, op.cpu, op.order, &s.requests[op.which])
        if not s.nested:
            s.own_events = z.nevents
        if z.design.looks_ahead:
            run_ahead(mm)       # a worker, the request did not wait for it
        return result
    if op.code == OP_FREE:
        if z.state[frame] == <uint8_t>(ALLOC | op.order):
            design_free(mm, z, op.cpu, frame, op.order)
    elif op.code == OP_DRAIN:
        pcp_drain(z, &z.pcps[op.cpu])
    elif op.code == OP_ISOLATE:
        result = start_isolate_page_range(z, frame, frame + op.n, op.order)
    elif op.code == OP_UNISOLATE:
        undo_isolate_page_range(z, frame, frame + op.n)
    elif op.code == OP_CONTIG:
        result = alloc_contig_range(z, frame, frame + op.n, 1 if op.order else 2, s.requests[op.which].info)
        if result == 0:
            if mm.wrapper != NULL:
                wrapped_contig(mm, z, frame, op.n, s.requests[op.which].info)
            mark_contig(s, frame, op.n)
    elif op.code == OP_FREE_CONTIG and all_contig(z, frame, op.n):
        if mm.wrapper == NULL:
            free_contig_range(z, op.cpu, frame, op.n)
        else:
            for i in range(frame, frame + op.n):
                wrapped_free(mm, z, op.cpu, i, 0)
    elif op.code == OP_UNRESERVE:
        result = unreserve_highatomic(z, op.which, True)
    elif op.code == OP_TICK:
        result = pcp_decay(z, &z.pcps[op.cpu]) if z.pcps != NULL else 0
        if z.design.looks_ahead & AHEAD_BACK_TIMER:
            z.ahead_due |= AHEAD_BACK
        if z.design.clears_ahead:
            clear_ahead(z)
    elif op.code == OP_TAKE:
        result = take_and_putback(z, op.which, op.order)
    elif op.code == OP_SHRINK:
        result = mm.wrapper.shrink(mm, op.cpu, op.n)
    elif op.code == OP_WORKER:
        mm.wrapper.work(mm, op.cpu)
    elif op.code == OP_COMPACT_NODE or op.code == OP_DIRECT_COMPACT:
        result = compact(s, op)
    if z.design.looks_ahead:
        run_ahead(mm)
    return result


cdef void in_window(zone_t *z, int at, uint32_t frame, int order) noexcept nogil:
    # The engine dropped the zone lock: the other CPU may act, once.
    cdef search_t *s = <search_t *>z.window_arg
    cdef masks_t before, after
    cdef uint64_t pages
    cdef vmdiff_t *diff = z.diff
    if s.nested:
        return
    if at == WINDOW_MAPPED:
        take_masks(s, &after)
        s.late |= after.stale & ~s.before.stale & ~s.before.exposed
    if not s.windows:
        return
    s.seen += 1
    if z.state[frame] & KIND_MASK == TAKEN:
        order = z.state[frame] & ORDER_MASK
    pages = (<uint64_t>1 << (1u << order)) - 1 << frame
    s.unflushed = pages if at == WINDOW_UNMAPPED else 0
    if s.inner == NULL or s.inner.at != s.seen:
        return
    s.inner_window = at
    s.nested = True
    if s.unflushed:
        take_masks(s, &before)
    operate(s, s.inner)
    if s.unflushed:
        take_masks(s, &after)
        s.inner_unflushed = s.unflushed & after.taken_absent & ~before.taken_absent
    s.nested = False
    z.diff = diff


cdef void run_step(search_t *s, const step_t *step) noexcept nogil:
    # The operation, with the other CPU's in the window it names.
    cdef zone_t *z = s.z
    s.seen = 0
    s.nested = False
    s.unflushed = 0
    s.inner_unflushed = 0
    s.late = 0
    s.inner_window = 0
    s.inner = <op_t *>&step.inner if step.inner.code else NULL
    z.nevents = 0
    s.mm.now = 0
    s.mm.queue_due = s.x.due
    s.zeroed = <int64_t>z.stats.pages_zeroed
    s.flushes = 0
    if z.physmap != NULL:
        s.flushes = z.physmap.counters.flushes_ranged + z.physmap.counters.flushes_full
    if s.windows or z.design.zeroing == ZERO_MAPPED:
        z.window = in_window
        z.window_arg = s
    s.result = operate(s, &step.op)
    z.window = NULL
    z.diff = z.diffs
    s.zeroed = <int64_t>z.stats.pages_zeroed - s.zeroed
    if z.physmap != NULL:
        s.flushes = z.physmap.counters.flushes_ranged + z.physmap.counters.flushes_full - s.flushes
    if step.op.code != OP_ALLOC:
        s.own_events = z.nevents
    s.x.due = 0
    if s.mm.queue_due:
        s.x.due = <uint8_t>(s.mm.queue_due - s.mm.now if s.mm.queue_due > s.mm.now else 1)


cdef void settle(search_t *s) noexcept nogil:
    # After a state was loaded: the page tables follow the block marks where both are kept.
    cdef masks_t m
    if s.z.physmap != NULL and s.z.design.tracks:
        take_masks(s, &m)
        set_present_frames(s.z, m.present)


cdef void remember(search_t *s, const masks_t *m) noexcept nogil:
    # What the check of the next operation compares with; ``m`` is the state's.
    cdef zone_t *z = s.z
    s.before = m[0]
    memcpy(s.old_state, z.state, z.nframes)
    memcpy(s.old_type, z.pbtype, z.nblocks)
    s.old_freed = s.x.freed
    s.old_live = m.live


# ---------------------------------------------------------------- all operations of a state

cdef inline void add(op_t *ops, int *n, int code, int cpu, int order, int which, uint32_t frame,
                     uint32_t pages) noexcept nogil:
    cdef op_t op
    op.code = <uint8_t>code
    op.cpu = <uint8_t>cpu
    op.order = <uint8_t>order
    op.which = <uint8_t>which
    op.frame = <uint8_t>frame
    op.n = <uint8_t>pages
    op.at = 0
    op.pad = 0
    ops[n[0]] = op
    if n[0] < MAX_OPS - 1:
        n[0] += 1


cdef void list_allocations(search_t *s) noexcept nogil:
    # They are the same in every state.
    cdef int i, order
    s.nallocs = 0
    for i in range(s.nrequests):
        for order in range(s.min_alloc_order[i], s.max_alloc_order[i] + 1):
            add(s.allocs, &s.nallocs, OP_ALLOC, 0, order, i, 0, 0)


cdef bint all_contig(const zone_t *z, uint32_t frame, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(frame, frame + n):
        if z.state[i] != ALLOC or not z.links[i].next & INFO_CONTIG:
            return False
    return True


cdef void list_contig(search_t *s, op_t *ops, int *n, uint32_t frame, uint32_t pages,
                      bint cma) noexcept nogil:
    cdef int i
    for i in range(2):
        if s.contig_requests[i] >= 0:
            add(ops, n, OP_CONTIG, 0, cma, s.contig_requests[i], frame, pages)


cdef void list_ranges(search_t *s, op_t *ops, int *n) noexcept nogil:
    # Isolation and contiguous ranges, of a pageblock each and of a largest block.
    cdef zone_t *z = s.z
    cdef uint32_t block, frame
    cdef bint cma
    for block in range(z.first_block, z.nblocks):
        frame = block << z.pageblock_order
        cma = z.design.mt[z.pbbase[block]] == MIGRATE_CMA
        if s.isolation:
            if z.design.mt[z.pbtype[block]] == MIGRATE_ISOLATE:
                add(ops, n, OP_UNISOLATE, 0, 0, 0, frame, z.pageblock_pages)
            else:
                add(ops, n, OP_ISOLATE, 0, 1 if cma else 2, 0, frame, z.pageblock_pages)
        if not s.contig:
            continue
        if all_contig(z, frame, z.pageblock_pages):
            add(ops, n, OP_FREE_CONTIG, 0, 0, 0, frame, z.pageblock_pages)
            continue
        # a pageblock, each half of it, the largest block it begins
        list_contig(s, ops, n, frame, z.pageblock_pages, cma)
        list_contig(s, ops, n, frame, z.pageblock_pages >> 1, cma)
        list_contig(s, ops, n, frame + (z.pageblock_pages >> 1), z.pageblock_pages >> 1, cma)
        if not frame & ((1u << z.max_order) - 1) and z.max_order > z.pageblock_order:
            list_contig(s, ops, n, frame, 1u << z.max_order, cma)


cdef void list_compaction(search_t *s, op_t *ops, int *n) noexcept nogil:
    # compact_memory, and direct compaction for every request that it is for (a wrapper's comes through it).
    cdef int i, order
    add(ops, n, OP_COMPACT_NODE, 0, 0, 0, 0, 0)
    for i in range(s.nrequests if s.mm.wrapper == NULL else 0):
        if not s.requests[i].block:
            continue
        for order in range(s.min_alloc_order[i], s.max_alloc_order[i] + 1):
            if compaction_order(s.mm, order, &s.requests[i], s.requests[i].slow_flags) > 0:
                add(ops, n, OP_DIRECT_COMPACT, 0, order, i, 0, 0)


cdef int list_operations(search_t *s, op_t *ops) noexcept nogil:
    # What can be asked for in this state; what would change nothing is left out where that is plain.
    cdef zone_t *z = s.z
    cdef int n = 0, order, i, cpu, ft, ncpus = z.ncpus if z.pcps != NULL else 1
    cdef uint32_t first, frame
    cdef uint64_t heads
    for cpu in range(ncpus):
        memcpy(ops + n, s.allocs, s.nallocs * sizeof(op_t))
        if cpu:
            for i in range(n, n + s.nallocs):
                ops[i].cpu = <uint8_t>cpu
        n += s.nallocs
        for first in range(0, z.nframes, 8):
            heads = heads_among(z, first)
            while heads:
                frame = first + (<uint32_t>ctzll(heads) >> 3)
                heads &= heads - 1
                if z.state[frame] & KIND_MASK == ALLOC:
                    add(ops, &n, OP_FREE, cpu, z.state[frame] & ORDER_MASK, 0, frame, 0)
        if z.pcps != NULL:
            if z.pcps[cpu].count:
                add(ops, &n, OP_DRAIN, cpu, 0, 0, 0, 0)
            if s.ticks:
                add(ops, &n, OP_TICK, cpu, 0, 0, 0, 0)
        elif z.design.looks_ahead & AHEAD_BACK_TIMER or z.design.clears_ahead:
            add(ops, &n, OP_TICK, cpu, 0, 0, 0, 0)
    if s.isolation or s.contig:
        list_ranges(s, ops, &n)
    if z.nr_free_highatomic > 0:
        for ft in range(z.design.nft):
            if z.design.mt[ft] <= MIGRATE_RECLAIMABLE:
                add(ops, &n, OP_UNRESERVE, 0, 0, ft, 0, 0)
    if s.report:
        for ft in range(z.design.nft):
            if z.design.mt[ft] == MIGRATE_ISOLATE:
                continue        # page_reporting_process_zone() leaves these out
            if not z.design.reports_unmapped and not z.design.mapped[ft]:
                continue
            for order in range(z.pageblock_order - 1, z.max_order + 1):
                if z.nonempty[ft] >> order & 1:
                    add(ops, &n, OP_TAKE, 0, order, ft, 0, 0)
    if s.compaction:
        list_compaction(s, ops, &n)
    if has_pool(s.mm):
        for order in range(z.max_order + 1):
            if blocks_on(z, order, POOL_LIST):
                add(ops, &n, OP_SHRINK, 0, 0, 0, 0, 1)
                break
    if has_queue(s.mm) and z.queue != NIL:
        add(ops, &n, OP_WORKER, 0, 0, 0, 0, 0)
    return n
