"""Compaction's gates: watermarks and fragmentation before a run, deferral after failures, the skip bits.

Rules: mm/compaction.c compaction_suit_allocation_order, compaction_suitable, compaction_deferred,
defer_compaction, compaction_defer_reset, __reset_isolation_suitable (7.2; where 6.12 differs the kernel
profile says so); mm/vmstat.c fragmentation_index, extfrag_for_order.
"""

from libc.stdint cimport int64_t, uint32_t

from asi_pa.engine.compact_control cimport (
    COMPACT_CONTINUE,
    COMPACT_COSTLY_ORDER,
    COMPACT_NOT_SUITABLE_ZONE,
    COMPACT_SKIPPED,
    COMPACT_SUCCESS,
    LOG_DEFER,
    LOG_DEFERRED,
    LOG_DEFER_RESET,
    LOG_SUITABLE,
    MIGRATE_ASYNC,
    block_end,
    block_start,
    compact_control_t,
    compact_log,
)
from asi_pa._core cimport (
    ALLOC,
    ALLOC_CMA,
    FREE,
    INFO_COMP,
    INFO_LRU,
    KIND_MASK,
    MIGRATE_MOVABLE,
    ORDER_MASK,
    WMARK_LOW,
    WMARK_MASK,
    WMARK_MIN,
    block_of,
    blocks_on,
    compact_state_t,
    watermark_ok_with,
    zone_t,
    zone_watermark_ok,
)
from asi_pa.engine.page_isolation cimport head_of
from asi_pa.engine.page_alloc cimport mm_t

cdef enum:
    COMPACT_MAX_DEFER_SHIFT = 6     # mm/compaction.c
    EXTFRAG_THRESHOLD = 500         # vm.extfrag_threshold
    SAMPLE = 8                      # 1 << PAGE_ALLOC_COSTLY_ORDER


# ---------------------------------------------------------------- watermarks and fragmentation

cdef int64_t compact_gap(const zone_t *z, int order) noexcept nogil:
    # compact_gap(): twice the order's pages; 7.2 asks for no more than a cluster, which is held at a time
    cdef int64_t gap = <int64_t>2 << order
    return 32 if z.kernel.compact_gap_is_capped and gap > 32 else gap


cdef int64_t free_for_compaction(const compact_control_t *cc, zone_t *z) noexcept nogil:
    # NR_FREE_PAGES; for kcompactd with vm.defrag_mode NR_FREE_PAGES_BLOCKS
    cdef int64_t pages = 0
    cdef int order, ft
    if cc.direct or not cc.mm.defrag_mode:
        return z.nr_free if z.nr_free > 0 else 0
    for order in range(z.pageblock_order, z.max_order + 1):
        for ft in range(z.design.nft):
            pages += <int64_t>blocks_on(z, order, ft) << order
    return pages


cdef int fragmentation_index(zone_t *z, int order) noexcept nogil:
    # fragmentation_index(): -1000 where a block of the order is free, near 0 where memory is short, near 1000
    # where it is in pieces
    cdef int64_t pages = 0, blocks = 0, n
    cdef int o, ft
    for o in range(z.max_order + 1):
        for ft in range(z.design.nft):
            n = blocks_on(z, o, ft)
            if n and o >= order:
                return -1000
            blocks += n
            pages += n << o
    if blocks == 0:
        return 0
    return <int>(1000 - (1000 + pages * 1000 // (<int64_t>1 << order)) // blocks)


cdef int fragmentation_score(zone_t *z) noexcept nogil:
    # fragmentation_score_zone(): extfrag_for_order() of a pageblock, in percent
    cdef int64_t pages = 0, whole = 0, n
    cdef int o, ft
    for o in range(z.max_order + 1):
        for ft in range(z.design.nft):
            n = <int64_t>blocks_on(z, o, ft) << o
            pages += n
            if o >= z.pageblock_order:
                whole += n
    return <int>((pages - whole) * 100 // pages) if pages else 0


cdef bint room_to_compact(zone_t *z, int order, int64_t mark, int zone_idx, int64_t more) noexcept nogil:
    # __compaction_suitable(): free pages to move into, were there `more` of them
    mark += compact_gap(z, order)
    if order > COMPACT_COSTLY_ORDER:
        mark += z.wmark[WMARK_LOW] - z.wmark[WMARK_MIN]
    return watermark_ok_with(z, 0, mark, zone_idx, ALLOC_CMA, max(z.nr_free, <int64_t>0) + more)


cdef bint compaction_suitable(compact_control_t *cc, zone_t *z, int64_t mark) noexcept nogil:
    # compaction_suitable(): room to move into, and fragmentation rather than shortage
    cdef int index, result = COMPACT_CONTINUE
    if not room_to_compact(z, cc.order, mark, cc.zone_idx, 0):
        result = COMPACT_SKIPPED
    elif cc.order > COMPACT_COSTLY_ORDER:
        index = fragmentation_index(z, cc.order)
        if 0 <= index <= EXTFRAG_THRESHOLD:
            result = COMPACT_NOT_SUITABLE_ZONE
    compact_log(cc.mm, LOG_SUITABLE, cc.order, result, 0, 0)
    return result == COMPACT_CONTINUE


cdef int compaction_suit_allocation_order(compact_control_t *cc, zone_t *z) noexcept nogil:
    # SUCCESS: there is nothing to do; SKIPPED: it would not help; CONTINUE: go
    cdef int64_t mark = z.wmark[cc.alloc_flags & WMARK_MASK] + z.boost
    if watermark_ok_with(z, cc.order, mark, cc.zone_idx, cc.alloc_flags, free_for_compaction(cc, z)):
        return COMPACT_SUCCESS
    if (z.kernel.compact_async_gate_without_cma and cc.order > COMPACT_COSTLY_ORDER
            and cc.mode == MIGRATE_ASYNC and not cc.alloc_flags & ALLOC_CMA):
        # room outside CMA, too: the request could not use a block made there
        if not zone_watermark_ok(z, 0, mark + compact_gap(z, cc.order), cc.zone_idx, 0):
            return COMPACT_SKIPPED
    return COMPACT_CONTINUE if compaction_suitable(cc, z, mark) else COMPACT_SKIPPED


# ---------------------------------------------------------------- deferral

cdef void log_deferral(mm_t *mm, zone_t *z, int kind, int order) noexcept nogil:
    compact_log(mm, kind, order, z.compact.considered, z.compact.defer_shift, z.compact.order_failed)


cdef bint compaction_deferred(mm_t *mm, zone_t *z, int order) noexcept nogil:
    # compaction_deferred(): after failures, 2^shift requests are turned away before the next run
    cdef compact_state_t *c = &z.compact
    cdef uint32_t limit = 1u << c.defer_shift
    if order < c.order_failed:
        return False
    c.considered += 1
    if c.considered >= limit:
        c.considered = limit
        return False
    log_deferral(mm, z, LOG_DEFERRED, order)
    return True


cdef void defer_compaction(mm_t *mm, zone_t *z, int order) noexcept nogil:
    # defer_compaction()
    cdef compact_state_t *c = &z.compact
    c.considered = 0
    if c.defer_shift < COMPACT_MAX_DEFER_SHIFT:
        c.defer_shift += 1
    if order < c.order_failed:
        c.order_failed = order
    log_deferral(mm, z, LOG_DEFER, order)


cdef void compaction_defer_reset(mm_t *mm, zone_t *z, int order, bint alloc_success) noexcept nogil:
    # compaction_defer_reset(): a run that ended well says only which orders have not failed
    cdef compact_state_t *c = &z.compact
    if alloc_success:
        c.considered = 0
        c.defer_shift = 0
    if order >= c.order_failed:
        c.order_failed = order + 1
    log_deferral(mm, z, LOG_DEFER_RESET, order)


cdef bint compaction_restarting(zone_t *z, int order) noexcept nogil:
    # compaction_restarting(): deferred as long as can be, and now tried again
    cdef compact_state_t *c = &z.compact
    return (order >= c.order_failed and c.defer_shift == COMPACT_MAX_DEFER_SHIFT
            and c.considered >= 1u << c.defer_shift)


# ---------------------------------------------------------------- skip bits

cdef bint pageblock_skip_persistent(zone_t *z, int64_t frame) noexcept nogil:
    # pageblock_skip_persistent(): in a compound page of a pageblock or more
    cdef uint32_t head = head_of(z, <uint32_t>frame)
    return (z.state[head] & KIND_MASK == ALLOC and z.state[head] & ORDER_MASK >= z.pageblock_order
            and z.links[head].next & INFO_COMP)


cdef bint reset_isolation_pfn(zone_t *z, int64_t frame, bint source, bint target) noexcept nogil:
    # __reset_isolation_pfn(): whether a sample of the block has a page to move or a place to move to; only
    # then is its skip bit cleared.
    cdef uint32_t block = block_of(z, <uint32_t>frame), head
    cdef int64_t at = block_start(z, frame), end = block_end(z, frame)
    cdef int kind
    if pageblock_skip_persistent(z, frame):
        return False
    if source and target and not z.compact.skip[block]:
        return True
    if not source and target and z.design.mt[z.pbtype[block]] != MIGRATE_MOVABLE:
        return False
    if at < z.first:
        at = z.first
    if end > z.nframes:
        end = z.nframes
    while at < end:
        kind = z.state[at] & KIND_MASK
        if target and kind == FREE:
            z.compact.skip[block] = 0
            return True
        if source:
            head = head_of(z, <uint32_t>at)
            if z.state[head] & KIND_MASK == ALLOC and z.links[head].next & INFO_LRU:
                z.compact.skip[block] = 0
                return True
        at += SAMPLE
    return False


cdef void reset_isolation_suitable(zone_t *z) noexcept nogil:
    # __reset_isolation_suitable(): from both ends inwards, after a direct run that came to its end
    cdef compact_state_t *c = &z.compact
    cdef int64_t m = z.first, f = <int64_t>z.nframes - 1
    cdef int64_t reset_migrate = f, reset_free = m
    cdef bint source_set = False, free_set = False
    if not c.blockskip_flush:
        return
    c.blockskip_flush = False
    while m < f:
        if reset_isolation_pfn(z, m, True, source_set) and m < reset_migrate:
            source_set = True
            reset_migrate = m
            c.init_migrate = m
            c.cached_migrate[0] = c.cached_migrate[1] = m
        if reset_isolation_pfn(z, f, free_set, True) and f > reset_free:
            free_set = True
            reset_free = f
            c.init_free = f
            c.cached_free = f
        m += z.pageblock_pages
        f -= z.pageblock_pages
    if reset_migrate >= reset_free:
        # nothing was found: leave no distance
        c.cached_migrate[0] = c.cached_migrate[1] = m
        c.cached_free = f
