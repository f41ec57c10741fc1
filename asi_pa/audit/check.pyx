"""What a step broke: invariants compared before and after it, mechanisms read from the event log.

No design is named here.  A mechanism is the context in which the engine mapped, unmapped or relabelled a
pageblock (claim, merge, reserve, ...), or the list that a page came from.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from asi_pa.audit.state cimport INFO_CONTIG, present_frames
from asi_pa.audit.step cimport (
    BAD_CMA,
    BAD_EXPOSED,
    BAD_HIDDEN,
    BAD_LABEL,
    BAD_LOCKED_FLUSH,
    BAD_LOST,
    BAD_PHYSMAP,
    BAD_STALE,
    BAD_UNFLUSHED,
    BY_CMA,
    BY_CONTIG,
    BY_FAILURE,
    BY_LATE,
    BY_LIST,
    BY_MAP,
    BY_MERGED,
    BY_MOVED,
    BY_OP,
    BY_PAGE,
    BY_PCP_FREED,
    BY_PCP_REFILLED,
    BY_POOL_LEFT,
    BY_POOL_MARK,
    BY_POOL_REFILL,
    BY_RELABEL,
    BY_RESERVE_FIRST,
    BY_RESERVE_LAST,
    BY_STRANDED,
    BY_UNMAP,
    BY_WINDOW,
    CTX_ISOLATION,
    CTX_POOLED,
    CTX_POOLED_LEFT,
    FAIL_NO_BUDDIES,
    FAIL_PARTLY,
    FAIL_POOL,
    FAIL_QUEUE,
    MAX_FOUND,
    POOR_FAILURE,
    POOR_FLUSH,
    POOR_STRANDED,
    absent_wanted,
    found_t,
    op_t,
)
from asi_pa._core cimport (
    CTX_CONTIG,
    CTX_FLIP,
    CTX_REFILL,
    CTX_SHRINK,
    EVENT_MAP,
    EVENT_POOLED,
    EVENT_RETYPE,
    EVENT_SILENT,
    EVENT_UNMAP,
    KIND_MASK,
    MIGRATE_CMA,
    MIGRATE_HIGHATOMIC,
    MIGRATE_ISOLATE,
    MIGRATE_RECLAIMABLE,
    NIL,
    ORDER_MASK,
    PCP,
    POOL_LIST,
    WMARK_MIN,
    blocks_on,
    design_t,
    event_t,
    request_t,
    zone_t,
    zone_watermark_fast,
)
from asi_pa.engine.pool cimport pool_pages
from asi_pa.engine.check cimport zone_verify
from asi_pa.engine.page_isolation cimport head_of
from asi_pa.engine.wrappers cimport has_pool, has_queue
from asi_pa.verify.codes cimport OP_ALLOC, OP_COMPACT_NODE, OP_DIRECT_COMPACT, OP_FREE, OP_FREE_CONTIG


# ---------------------------------------------------------------- findings

cdef void found(search_t *s, const step_t *step, int invariant, int mechanism, uint32_t frame) noexcept nogil:
    # The first of each pair is kept: the search goes breadth first, so none is shorter.
    cdef int i
    cdef found_t *f
    if step.inner.code:
        mechanism |= BY_WINDOW | s.inner_window << 11
    for i in range(s.nfound):
        f = &s.found[i]
        if f.invariant == invariant and f.mechanism == mechanism:
            return
    if s.nfound == MAX_FOUND:
        return
    f = &s.found[s.nfound]
    s.nfound += 1
    f.invariant = <uint8_t>invariant
    f.mechanism = <uint16_t>mechanism
    f.parent = s.parent_node
    f.frame = frame
    f.step = step[0]
    f.walked = s.walked


cdef int last_event(const zone_t *z, uint32_t frame, uint32_t n, int kind, int other_kind) noexcept nogil:
    # The context of the last event of these kinds that touched one of n frames; -1: none.
    cdef size_t i = z.nevents
    cdef const event_t *e
    while i > 0:
        i -= 1
        e = &z.events[i]
        if (e.kind == kind or e.kind == other_kind) and e.frame < frame + n and frame < e.frame + e.nr:
            return e.ctx
    return -1


cdef inline int block_event(const zone_t *z, uint32_t block, int kind, int other_kind) noexcept nogil:
    return last_event(z, block << z.pageblock_order, z.pageblock_pages, kind, other_kind)


# ---------------------------------------------------------------- mechanisms

cdef int by_pool(int why) noexcept nogil:
    # What brought pages of the wrong mapping into the pool, as follow_labels() remembers it.
    if why == CTX_REFILL + 1:
        return BY_POOL_REFILL
    if why == CTX_POOLED + 1:
        return BY_POOL_MARK
    if why == CTX_POOLED_LEFT + 1:
        return BY_POOL_LEFT
    return BY_PAGE


cdef bint moved_there(const search_t *s, const op_t *op, uint32_t frame) noexcept nogil:
    # Did the operation compact, and is the frame none of what it allocated?
    if op.code == OP_COMPACT_NODE:
        return True
    return op.code == OP_DIRECT_COMPACT and not s.result <= frame < s.result + (1 << op.order)


cdef int why_handed_out(search_t *s, const step_t *step, uint32_t frame) noexcept nogil:
    # An allocation got a frame of the wrong mapping: where did it come from?
    cdef zone_t *z = s.z
    cdef uint32_t block = frame >> z.pageblock_order, head = frame
    cdef const uint8_t *states = s.old_state
    cdef int ft = s.old_type[block], order
    cdef const op_t *op = &step.op
    if moved_there(s, op, frame):
        return BY_MOVED
    if z.links[head_of(z, frame)].next & INFO_CONTIG:
        return BY_RELABEL | (s.x.why[block] - 1) if s.x.why[block] else BY_CONTIG
    if not z.design.tracks:
        return by_pool(s.x.why[block]) if s.x.why[block] else BY_PAGE
    for order in range(z.max_order + 1):
        head = frame & ~((1u << order) - 1)
        if states[head] == <uint8_t>(PCP | order) and s.shared_orders >> order & 1:
            return BY_PCP_FREED if s.old_freed >> head & 1 else BY_PCP_REFILLED
    if s.x.why[block]:
        return BY_RELABEL | (s.x.why[block] - 1)
    if z.design.mt[ft] == MIGRATE_HIGHATOMIC:
        if op.code == OP_ALLOC and op.order and s.requests[op.which].high and not s.requests[op.which].block:
            return BY_RESERVE_FIRST
        return BY_RESERVE_LAST
    if z.design.mt[ft] == MIGRATE_CMA:
        return BY_CMA
    return BY_MERGED if z.design.blocks_keep_bit else BY_LIST


cdef void each_frame(search_t *s, const step_t *step, int invariant, uint64_t frames,
                     const masks_t *after) noexcept nogil:
    # New members of one of the sets of wrongly mapped frames.
    cdef zone_t *z = s.z
    cdef uint32_t frame
    cdef int ctx, mechanism
    cdef bint same
    for frame in range(z.first, z.nframes):
        if not frames >> frame & 1:
            continue
        # allocated before, and still?  then the mapping changed under it
        same = s.old_live >> frame & 1
        if invariant == BAD_STALE:
            ctx = last_event(z, frame, 1, EVENT_MAP, EVENT_MAP)
            if ctx < 0 and z.design.tracks:
                continue        # left by a page that was exposed: found there
            mechanism = BY_MAP | (ctx if ctx >= 0 else 0)
        elif same and not moved_there(s, &step.op, frame):
            ctx = last_event(z, frame, 1, EVENT_MAP if invariant == BAD_EXPOSED else EVENT_UNMAP, 0xFF)
            if ctx < 0:
                ctx = 0
            mechanism = (BY_MAP if invariant == BAD_EXPOSED else BY_UNMAP) | ctx
        else:
            mechanism = why_handed_out(s, step, frame)
        found(s, step, invariant, mechanism, frame)


cdef int why_in_pool(const search_t *s, uint32_t block) noexcept nogil:
    # By what pages of the wrong mapping came into the pool in this step.
    if block_event(s.z, block, EVENT_POOLED, EVENT_POOLED) >= 0:
        return CTX_POOLED_LEFT if s.x.shrunk >> block & 1 else CTX_POOLED
    return CTX_REFILL if block_event(s.z, block, EVENT_UNMAP, EVENT_MAP) == CTX_REFILL else 0


cdef void follow_shrinker(search_t *s) noexcept nogil:
    # The pageblocks of which the shrinker gave something back since they were refilled.
    cdef zone_t *z = s.z
    cdef uint32_t block
    cdef int ctx
    for block in range(z.first_block, z.nblocks):
        ctx = block_event(z, block, EVENT_MAP, EVENT_UNMAP)
        if ctx == CTX_SHRINK:
            s.x.shrunk |= 1u << block
        elif ctx == CTX_REFILL:
            s.x.shrunk &= ~(1u << block)


cdef void follow_labels(search_t *s, const step_t *step, const masks_t *after) noexcept nogil:
    # Remembers, for each block whose label and mapping disagree, the event that began it.
    cdef zone_t *z = s.z
    cdef uint32_t block
    cdef int ctx
    for block in range(z.first_block, z.nblocks):
        if not after.mislabelled >> block & 1:
            s.x.why[block] = 0
        elif not s.x.why[block]:
            if not z.design.tracks:
                s.x.why[block] = <uint8_t>(why_in_pool(s, block) + 1)
                continue
            ctx = CTX_ISOLATION
            if z.design.mt[z.pbtype[block]] != MIGRATE_ISOLATE:
                ctx = block_event(z, block, EVENT_SILENT, EVENT_RETYPE)
                if ctx < 0:
                    ctx = CTX_ISOLATION if z.design.mt[s.old_type[block]] == MIGRATE_ISOLATE else 0
            s.x.why[block] = <uint8_t>(ctx + 1)


cdef void follow_shared_lists(search_t *s, const step_t *step) noexcept nogil:
    # Which pages of pcp lists that serve both sides were put there by a free.
    cdef zone_t *z = s.z
    cdef uint32_t frame
    cdef uint64_t on_list = 0
    cdef int order
    if z.pcps == NULL:
        return
    for frame in range(z.first, z.nframes):
        if z.state[frame] & KIND_MASK == PCP:
            on_list |= <uint64_t>1 << frame
    s.x.freed &= on_list
    if step.op.code == OP_FREE and on_list >> step.op.frame & 1:
        order = z.state[step.op.frame] & ORDER_MASK
        if s.shared_orders >> order & 1:
            s.x.freed |= <uint64_t>1 << step.op.frame


# ---------------------------------------------------------------- liveness

cdef void found_stranded(search_t *s, const step_t *step) noexcept nogil:
    cdef const request_t *rq = &s.requests[step.op.which]
    cdef int who = rq.mt
    if absent_wanted(s.mm, rq.info):
        who |= 0x10
    if rq.block:
        who |= 0x20
    found(s, step, POOR_STRANDED, BY_STRANDED | who, 0)


cdef void check_failure(search_t *s, const step_t *step) noexcept nogil:
    # A request failed: what stood by on the other side?
    cdef zone_t *z = s.z
    cdef const design_t *d = z.design
    cdef const request_t *rq = &s.requests[step.op.which]
    cdef int ft, order, big, how = 0
    cdef bint whole = False, part = False
    cdef int64_t blocks = 0
    cdef int side
    side = 0x10 if absent_wanted(s.mm, rq.info) else 0
    big = step.op.order if step.op.order > z.pageblock_order else z.pageblock_order
    if s.mm.wrapper != NULL:
        # only a pool has free blocks of its own, only a queue pages that wait
        if z.nonempty[POOL_LIST] >> big:
            found_stranded(s, step)
        elif pool_pages(s.mm, -1) >= 1 << step.op.order:
            found(s, step, POOR_FAILURE, BY_FAILURE | FAIL_POOL | side, 0)
        if z.queue != NIL:
            found(s, step, POOR_FAILURE, BY_FAILURE | FAIL_QUEUE | side, 0)
        return
    if not d.flips:
        return
    if not zone_watermark_fast(z, 0, z.wmark[WMARK_MIN] + z.boost + (1 << step.op.order) - 1, rq.zone_idx,
                               rq.slow_flags):
        return          # too little free memory of any kind
    for ft in range(d.nft):
        if d.mapped[ft] == d.mapped[rq.ft] or d.mt[ft] > MIGRATE_RECLAIMABLE:
            continue
        for order in range(z.max_order + 1):
            if not blocks_on(z, order, ft):
                continue
            if order >= big:
                whole = True
            elif order >= step.op.order:
                part = True
            if order >= z.pageblock_order:
                blocks += <int64_t>blocks_on(z, order, ft) << order
    if whole:
        found_stranded(s, step)
    elif blocks >= <int64_t>1 << step.op.order:
        how = FAIL_NO_BUDDIES
    elif part:
        how = FAIL_PARTLY
    if how:
        found(s, step, POOR_FAILURE, BY_FAILURE | how | side, 0)


cdef void check_flushes(search_t *s, const step_t *step) noexcept nogil:
    # Flushes where nobody may wait: in requests that may not block, and under the zone lock.
    cdef zone_t *z = s.z
    cdef size_t i
    cdef const event_t *e
    cdef bint waits_not = step.op.code == OP_ALLOC and not s.requests[step.op.which].block
    if has_queue(s.mm):
        return          # the worker ran: its time had come, the request did not wait for it
    if not step.inner.code and not z.design.tracks and waits_not and s.flushes:
        if s.liveness:
            found(s, step, POOR_FLUSH, BY_UNMAP, 0)
    if not z.design.tracks:
        return          # pool and queue change mappings with no lock held
    for i in range(z.nevents):
        e = &z.events[i]
        if e.kind == EVENT_UNMAP:
            if e.ctx != 0 and e.ctx != CTX_FLIP and e.ctx != CTX_CONTIG:
                found(s, step, BAD_LOCKED_FLUSH, BY_UNMAP | e.ctx, e.frame)
            elif waits_not and i < s.own_events and not step.inner.code and s.liveness:
                found(s, step, POOR_FLUSH, BY_UNMAP | e.ctx, e.frame)
        elif (e.kind == EVENT_MAP and e.ctx == CTX_FLIP and waits_not and i < s.own_events
                and not step.inner.code and s.liveness):
            # no flush on this way, but a pageblock is cleared outside the lock
            found(s, step, POOR_FLUSH, BY_MAP | e.ctx, e.frame)


# ---------------------------------------------------------------- the check of a step

cdef int check_step(search_t *s, const step_t *step, const masks_t *after) noexcept nogil:
    # Compares with s.before; brings s.x up to date.  Returns nonzero when something new is broken.
    cdef uint64_t exposed, hidden, stale, gone, live = s.old_live
    cdef int had = s.nfound, mechanism
    cdef uint32_t block, frame
    if step.inner.code == OP_FREE:
        s.old_live &= ~((<uint64_t>1 << (1u << step.inner.order)) - 1 << step.inner.frame)
    elif step.inner.code == OP_FREE_CONTIG:
        s.old_live &= ~((<uint64_t>1 << step.inner.n) - 1 << step.inner.frame)
    if has_pool(s.mm) and s.z.nevents:
        follow_shrinker(s)
    if after.mislabelled or s.before.mislabelled:
        follow_labels(s, step, after)
    if s.shared_orders:
        follow_shared_lists(s, step)
    exposed = after.exposed & ~(s.before.exposed & s.old_live)
    hidden = after.hidden & ~(s.before.hidden & s.old_live)
    stale = after.stale & ~s.before.stale & ~s.before.exposed
    if exposed:
        each_frame(s, step, BAD_EXPOSED, exposed, after)
    if hidden:
        each_frame(s, step, BAD_HIDDEN, hidden, after)
    if stale:
        each_frame(s, step, BAD_STALE, stale, after)
    if s.late:
        for frame in range(s.z.first, s.z.nframes):
            if s.late >> frame & 1:
                found(s, step, BAD_STALE, BY_LATE, frame)
    if after.mislabelled & ~s.before.mislabelled:
        for block in range(s.z.first_block, s.z.nblocks):
            if (after.mislabelled & ~s.before.mislabelled) >> block & 1:
                mechanism = BY_RELABEL | (s.x.why[block] - 1 if s.x.why[block] else 0)
                if not s.z.design.tracks:
                    mechanism = by_pool(s.x.why[block])
                found(s, step, BAD_LABEL, mechanism, block << s.z.pageblock_order)
    if after.cma_lost & ~s.before.cma_lost:
        for block in range(s.z.first_block, s.z.nblocks):
            if (after.cma_lost & ~s.before.cma_lost) >> block & 1:
                frame = <uint32_t>block_event(s.z, block, EVENT_SILENT, EVENT_RETYPE)
                found(s, step, BAD_CMA, BY_RELABEL | (frame if frame < 0x80 else 0),
                      block << s.z.pageblock_order)
    s.tree_differs = s.z.design.tracks and s.z.physmap != NULL and present_frames(s.z) != after.present
    if s.tree_differs:
        found(s, step, BAD_PHYSMAP, BY_OP | step.op.code, 0)
    if s.inner_unflushed:
        for frame in range(s.z.first, s.z.nframes):
            if s.inner_unflushed >> frame & 1:
                found(s, step, BAD_UNFLUSHED, BY_OP | step.op.code, frame)
    # cleared entries without a flush stay in some TLB
    gone = s.before.present & ~after.present
    if not s.z.design.tracks:
        s.x.unflushed |= gone
        if s.flushes:
            s.x.unflushed = 0
        s.x.unflushed &= ~after.present
        if s.x.unflushed & after.taken_absent:
            for frame in range(s.z.first, s.z.nframes):
                if (s.x.unflushed & after.taken_absent) >> frame & 1:
                    found(s, step, BAD_UNFLUSHED, BY_OP | step.op.code, frame)
    if s.z.nevents or s.flushes:
        check_flushes(s, step)
    if s.liveness and step.op.code == OP_ALLOC and s.result < 0 and not step.inner.code:
        check_failure(s, step)
    s.old_live = live
    return s.nfound - had


cdef bint check_whole(search_t *s, const step_t *step) noexcept nogil:
    # Lists, counters, states: the engine's own walk.  False: broken, nothing more may be done with the zone.
    cdef uint64_t where = 0
    if zone_verify(s.z, &where) != NULL:
        found_lost(s, step, <uint32_t>where)
        return False
    return True


cdef void found_lost(search_t *s, const step_t *step, uint32_t where) noexcept nogil:
    found(s, step, BAD_LOST, BY_OP | step.op.code, where)
