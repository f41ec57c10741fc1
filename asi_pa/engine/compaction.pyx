"""Compaction: a run, when it is finished, and who starts one.

Rules: mm/compaction.c compact_zone, compact_finished, try_to_compact_pages, compact_node, kcompactd_do_work;
mm/page_alloc.c __alloc_pages_direct_compact (7.2; where 6.12 differs the kernel profile says so).  Recorded
runs of both kernels replay exactly; what they do not exercise is in docs/engine/model.md.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.stdlib cimport malloc
from libc.string cimport memset

from asi_pa.engine.compact_control cimport (
    COMPACT_COMPLETE,
    COMPACT_CONTENDED,
    COMPACT_CONTINUE,
    COMPACT_DEFERRED,
    COMPACT_NO_SUITABLE_PAGE,
    COMPACT_NOT_SUITABLE_ZONE,
    COMPACT_PARTIAL_SKIPPED,
    COMPACT_PRIO_ASYNC,
    COMPACT_PRIO_SYNC_FULL,
    COMPACT_SKIPPED,
    COMPACT_SUCCESS,
    COMPACT_WHOLE,
    LOG_BEGIN,
    LOG_END,
    LOG_FINISHED,
    LOG_TOTALS,
    MIGRATE_ASYNC,
    MIGRATE_SYNC,
    MIGRATE_SYNC_LIGHT,
    block_aligned,
    block_start,
    compact_control_t,
    compact_log,
    last_block,
    seen,
)
from asi_pa.engine.compaction_gates cimport (
    compaction_defer_reset,
    compaction_deferred,
    compaction_restarting,
    compaction_suit_allocation_order,
    defer_compaction,
    fragmentation_score,
    free_for_compaction,
    reset_isolation_suitable,
)
from asi_pa.engine.compaction_source cimport isolate_migratepages
from asi_pa.engine.compaction_target cimport held_init, release_free_list
from asi_pa._core cimport (
    ALLOC_NOFRAGMENT,
    COMPACTS_BOTH,
    COMPACTS_ORDER,
    MIGRATE_RECLAIMABLE,
    MIGRATE_MOVABLE,
    MIGRATE_UNMOVABLE,
    NIL,
    WMARK_HIGH,
    WMARK_MIN,
    capture_t,
    compact_state_t,
    design_t,
    request_t,
    watermark_ok_with,
    zone_t,
)
from asi_pa.engine.migrate cimport lru_add_drain, migrate_pages, putback_movable_pages
from asi_pa.engine.page_alloc cimport (
    GFP_FS,
    GFP_IO,
    compact_log_t,
    get_page_from_freelist,
    mm_t,
    prep_new_page,
    zone_of,
)
from asi_pa.engine.pcp cimport pcp_drain

cdef enum:
    GFP_THISNODE = 0x200000     # include/linux/gfp_types.h
    PROACTIVENESS = 20      # vm.compaction_proactiveness
    ENOMEM = 12


# ---------------------------------------------------------------- is it finished?

cdef bint scanners_met(const compact_control_t *cc) noexcept nogil:
    # compact_scanners_met()
    return cc.free_pfn >> cc.zone.pageblock_order <= cc.migrate_pfn >> cc.zone.pageblock_order


cdef bint any_ordinary(const zone_t *z, int order) noexcept nogil:
    # a free block of the order that a flip could take
    cdef int ft
    for ft in range(z.design.nft):
        if z.design.mt[ft] <= MIGRATE_RECLAIMABLE and z.nonempty[ft] >> order & 1:
            return True
    return False


cdef bint request_would_find(const compact_control_t *cc) noexcept nogil:
    # A free block of the order or more on the request's list, CMA's for movable ones, or one it may claim.
    cdef zone_t *z = cc.zone
    cdef design_t *d = z.design
    cdef int order, i, other
    for order in range(cc.order, z.max_order + 1):
        if cc.flips and any_ordinary(z, order):
            return True
        if z.nonempty[cc.ft] >> order & 1:
            return True
        if cc.mt == MIGRATE_MOVABLE and d.cma[cc.ft] < d.nft and z.nonempty[d.cma[cc.ft]] >> order & 1:
            return True
        # find_suitable_fallback(), claimable: should_try_claim_block()
        if order < z.pageblock_order // 2 and cc.mt == MIGRATE_MOVABLE:
            continue
        for i in range(d.nfallback[cc.ft]):
            other = d.fallback[cc.ft][i]
            if z.nonempty[other] >> order & 1:
                return True
    return False


cdef int finished(compact_control_t *cc) noexcept nogil:
    # __compact_finished()
    cdef zone_t *z = cc.zone
    cdef compact_state_t *c = &z.compact
    if scanners_met(cc):
        # reset_cached_positions()
        c.cached_migrate[0] = c.cached_migrate[1] = z.first
        c.cached_free = last_block(z)
        if cc.direct:
            c.blockskip_flush = True
        return COMPACT_COMPLETE if cc.whole_zone else COMPACT_PARTIAL_SKIPPED
    if cc.proactive:
        return COMPACT_CONTINUE if fragmentation_score(z) > 100 - PROACTIVENESS else COMPACT_SUCCESS
    if cc.order == COMPACT_WHOLE or not block_aligned(z, cc.migrate_pfn):
        return COMPACT_CONTINUE
    if cc.mm.defrag_mode and not cc.direct:
        if watermark_ok_with(z, cc.order, z.wmark[WMARK_HIGH] + z.boost, cc.zone_idx, cc.alloc_flags,
                             free_for_compaction(cc, z)):
            return COMPACT_SUCCESS
        return COMPACT_CONTINUE
    return COMPACT_SUCCESS if request_would_find(cc) else COMPACT_NO_SUITABLE_PAGE


cdef int compact_finished(compact_control_t *cc) noexcept nogil:
    cdef int result = finished(cc)
    compact_log(cc.mm, LOG_FINISHED, cc.order, result, 0, 0)
    return COMPACT_CONTINUE if result == COMPACT_NO_SUITABLE_PAGE else result


# ---------------------------------------------------------------- a run

cdef void begin_positions(compact_control_t *cc) noexcept nogil:
    # where the scanners begin
    cdef zone_t *z = cc.zone
    cdef compact_state_t *c = &z.compact
    if cc.whole_zone:
        cc.migrate_pfn = z.first
        cc.free_pfn = last_block(z)
        return
    cc.migrate_pfn = c.cached_migrate[cc.mode != MIGRATE_ASYNC]
    cc.free_pfn = c.cached_free
    if cc.free_pfn < z.first or cc.free_pfn >= z.nframes:
        cc.free_pfn = c.cached_free = last_block(z)
    if cc.migrate_pfn < z.first or cc.migrate_pfn >= z.nframes:
        cc.migrate_pfn = c.cached_migrate[0] = c.cached_migrate[1] = z.first
    if cc.migrate_pfn <= c.init_migrate:
        cc.whole_zone = True


cdef void lru_add_drain_cpu_zone(compact_control_t *cc) noexcept nogil:
    cdef zone_t *z = cc.zone
    lru_add_drain(cc.mm)
    if z.pcps != NULL:
        z.diff = &z.diffs[cc.cpu]
        pcp_drain(z, &z.pcps[cc.cpu])


cdef int compact_zone(compact_control_t *cc, zone_t *z) noexcept nogil:
    # compact_zone()
    cdef int result
    cdef int64_t highest
    cc.zone = z
    cc.nr_migratepages = 0
    cc.nisolated = 0
    cc.total_migrate_scanned = cc.total_free_scanned = 0
    cc.isolated = scratch(cc.mm)
    if cc.isolated == NULL:
        return COMPACT_SKIPPED
    held_init(cc)
    z.diff = &z.diffs[cc.cpu]
    if cc.order != COMPACT_WHOLE:
        result = compaction_suit_allocation_order(cc, z)
        if result != COMPACT_CONTINUE:
            return result
        if compaction_restarting(z, cc.order):
            reset_isolation_suitable(z)
    if cc.mm.compact_log != NULL:
        cc.mm.compact_log.control = cc
    begin_positions(cc)
    cc.mm.stats.compactions += 1
    compact_log(cc.mm, LOG_BEGIN, seen(z, cc.migrate_pfn), seen(z, cc.free_pfn), cc.mode, cc.whole_zone)
    lru_add_drain(cc.mm)
    result = compact_batches(cc)
    if cc.nr_freepages > 0:
        highest = block_start(z, release_free_list(cc))
        if highest > z.compact.cached_free:
            z.compact.cached_free = highest
    compact_log(cc.mm, LOG_END, seen(z, cc.migrate_pfn), seen(z, cc.free_pfn), result, 0)
    compact_log(cc.mm, LOG_TOTALS, cc.total_migrate_scanned, cc.total_free_scanned, cc.fast_search_fail,
                cc.search_order)
    cc.mm.stats.compact_migrate_scanned += cc.total_migrate_scanned
    cc.mm.stats.compact_free_scanned += cc.total_free_scanned
    cc.mm.stats.compact_moved += cc.moved
    cc.mm.stats.compact_success += result == COMPACT_SUCCESS
    cc.moved = 0
    if cc.mm.compact_log != NULL:
        cc.mm.compact_log.control = NULL     # it is on the caller's stack
    return result


cdef int compact_batches(compact_control_t *cc) noexcept nogil:
    # the loop of compact_zone(): isolate, migrate, look
    cdef zone_t *z = cc.zone
    cdef compact_state_t *c = &z.compact
    cdef bint together = cc.mode == MIGRATE_ASYNC and c.cached_migrate[0] == c.cached_migrate[1], again
    cdef bint isolated = False
    cdef int64_t last_migrated = -1
    cdef int result, error
    cdef uint32_t nleft
    cdef uint32_t *left = cc.isolated + 10 * z.pageblock_pages
    while True:
        result = compact_finished(cc)
        if result != COMPACT_CONTINUE:
            return result
        cc.finish_pageblock = last_migrated >= 0 and last_migrated == block_start(z, cc.migrate_pfn)
        again = True
        while again:
            again = False
            isolated = isolate_migratepages(cc)
            if not isolated:
                if together:
                    c.cached_migrate[1] = c.cached_migrate[0]
                break
            together = False
            last_migrated = max(<int64_t>z.first, block_start(z, cc.migrate_pfn - 1))
            nleft = migrate_pages(cc, left, &error)
            if error:
                putback_movable_pages(cc, left, nleft)
                if error == -ENOMEM and not scanners_met(cc):
                    return COMPACT_CONTENDED
                if (not block_aligned(z, cc.migrate_pfn) and not cc.ignore_skip_hint
                        and not cc.finish_pageblock and cc.mode < MIGRATE_SYNC):
                    # the rest of the block at once, so that it is not searched for again
                    cc.finish_pageblock = True
                    if cc.order == z.pageblock_order:
                        last_migrated = -1
                    again = True
        # where nothing was isolated, the kernel goes on to drain without a look at what was captured
        if isolated and z.capture != NULL and z.capture.frame != NIL and cc.direct:
            return COMPACT_SUCCESS
        if cc.order > 0 and last_migrated >= 0:
            if last_migrated < cc.migrate_pfn & ~((<int64_t>1 << cc.order) - 1):
                lru_add_drain_cpu_zone(cc)
                last_migrated = -1


cdef void run_as_words(compact_log_t *log) noexcept nogil:
    # The run under way for ``Machine.compaction_seen``: positions, what is isolated, what is held.
    cdef compact_control_t *cc = <compact_control_t *>log.control
    cdef zone_t *z
    cdef int order
    cdef uint32_t i, frame, n
    cdef int32_t *out
    log.at_watch = NULL
    if cc == NULL:
        return
    z = cc.zone
    out = <int32_t *>malloc((8 + 2 * <size_t>cc.nr_freepages + cc.nisolated) * sizeof(int32_t))
    if out == NULL:
        return
    out[0] = <int32_t>seen(z, cc.migrate_pfn)
    out[1] = <int32_t>seen(z, cc.free_pfn)
    out[2] = cc.fast_search_fail
    out[3] = cc.search_order
    out[4] = <int32_t>cc.nr_migratepages
    out[5] = <int32_t>cc.nr_freepages
    out[6] = cc.finish_pageblock
    out[7] = <int32_t>cc.nisolated
    n = 8
    for i in range(cc.nisolated):
        out[n] = <int32_t>seen(z, cc.isolated[cc.nisolated - 1 - i])
        n += 1
    for order in range(z.max_order + 1):
        frame = cc.held[order].head
        while frame != NIL:
            out[n] = order
            out[n + 1] = <int32_t>seen(z, frame)
            n += 2
            frame = z.links[frame].next
    log.seen = out
    log.nseen = n


cdef void watch_log(compact_log_t *log, size_t row) noexcept nogil:
    log.watch = row
    log.at_watch = run_as_words


cdef uint32_t *scratch(mm_t *mm) noexcept nogil:
    # Room for what a run isolates, splits and moves: never more than a pageblock of folios each.
    if mm.compact_room == NULL:
        mm.compact_room = <uint32_t *>malloc(12 * mm.zones[0].pageblock_pages * sizeof(uint32_t))
    return mm.compact_room


# ---------------------------------------------------------------- who starts one

cdef void control_init(compact_control_t *cc, mm_t *mm, int cpu, int order, int mode) noexcept nogil:
    memset(cc, 0, sizeof(compact_control_t))
    cc.mm = mm
    cc.cpu = cpu
    cc.order = order
    cc.mode = mode
    cc.ft = mm.design.start[MIGRATE_UNMOVABLE][1]
    cc.mt = MIGRATE_UNMOVABLE
    cc.alloc_flags = WMARK_MIN
    cc.zone_idx = 3
    cc.fs = True
    cc.fast_start_pfn = -1
    cc.search_order = order if order > 0 else 0
    set_side(cc, mm.design.mapped[mm.design.start[MIGRATE_MOVABLE][1]])


cdef void set_side(compact_control_t *cc, bint mapped) noexcept nogil:
    # Sound designs: a page stays on its side of the mapping, so that a run has one.  Nothing posted says so.
    cdef design_t *d = &cc.mm.design
    cdef int i
    cc.side = -1
    cc.movable = d.start[MIGRATE_MOVABLE][1]
    if d.compaction_same_side:
        cc.side = mapped
        cc.movable = -1
        for i in range(2):
            if d.mapped[d.start[MIGRATE_MOVABLE][i]] == mapped:
                cc.movable = d.start[MIGRATE_MOVABLE][i]


cdef int compact_zone_order(mm_t *mm, zone_t *z, int cpu, int order, const request_t *rq, uint32_t flags,
                            int priority, int capture_order, capture_t *capture) noexcept nogil:
    # compact_zone_order(); `capture_order` is the request's, which `order` may exceed
    cdef compact_control_t cc
    cdef int result
    control_init(&cc, mm, cpu, order, MIGRATE_ASYNC if priority == COMPACT_PRIO_ASYNC else MIGRATE_SYNC_LIGHT)
    cc.ft = rq.ft
    cc.mt = rq.mt
    cc.alloc_flags = flags
    cc.zone_idx = rq.zone_idx
    # who can flip a whole block does not care which side becomes free; most of what moves is movable memory
    cc.flips = order > capture_order and order == z.pageblock_order and mm.design.flips != 0
    if not cc.flips and order < z.pageblock_order:
        set_side(&cc, mm.design.mapped[rq.ft])
    cc.fs = (rq.gfp & GFP_FS) != 0
    cc.direct = True
    cc.whole_zone = priority == COMPACT_PRIO_SYNC_FULL
    cc.ignore_skip_hint = cc.whole_zone
    cc.ignore_block_suitable = cc.whole_zone
    if capture != NULL:
        z.capture = capture
        z.merge_order = min(z.pageblock_order, capture.order)
    result = compact_zone(&cc, z)
    z.capture = NULL
    z.merge_order = z.pageblock_order
    if capture != NULL and capture.frame != NIL:
        result = COMPACT_SUCCESS
    return result


cdef int zones_of(const mm_t *mm, int node, const request_t *rq) noexcept nogil:
    # ac->zonelist: how many of the node's zones, with other nodes' or without
    return mm.nlocal[node] if rq.gfp & GFP_THISNODE else mm.nzonelist[node]


cdef int try_to_compact_pages(mm_t *mm, int cpu, int order, const request_t *rq, uint32_t flags, int priority,
                              int capture_order, uint32_t *captured, zone_t **where) noexcept nogil:
    # try_to_compact_pages(): the zones in turn until one yields.  With `captured`, a block of `capture_order`
    # is taken out of a merge.
    cdef int at, last, node = mm.cpu_node[cpu], status, result = COMPACT_SKIPPED
    cdef zone_t *z
    cdef capture_t capture
    if not rq.gfp & GFP_IO:
        return COMPACT_SKIPPED
    capture.order = capture_order
    capture.ft = rq.ft
    capture.frame = NIL
    last = zones_of(mm, node, rq)
    for at in range(last):
        z = mm.zonelist[node][at]
        if z.zone_idx > rq.zone_idx:
            continue
        if priority > COMPACT_PRIO_SYNC_FULL and compaction_deferred(mm, z, order):
            result = max(result, <int>COMPACT_DEFERRED)
            mm.stats.compact_deferred += 1
            continue
        status = compact_zone_order(mm, z, cpu, order, rq, flags, priority, capture_order,
                                    &capture if captured != NULL else NULL)
        result = max(status, result)
        if status == COMPACT_SUCCESS:
            compaction_defer_reset(mm, z, order, False)
            if captured != NULL:
                captured[0] = capture.frame
                where[0] = z
            break
        if priority != COMPACT_PRIO_ASYNC and status in (COMPACT_COMPLETE, COMPACT_PARTIAL_SKIPPED):
            defer_compaction(mm, z, order)
    return result


cdef int compaction_order(mm_t *mm, int order, const request_t *rq, uint32_t flags) noexcept nogil:
    # The order that compaction is asked for; 0: none.  Who would mix types and must not (vm.defrag_mode, and
    # designs whose slow path keeps NOFRAGMENT) asks for a pageblock, for a single page too.  As posted
    # everywhere a design asks for the request's order, so that order 0 starves beside blocks that could flip;
    # __GFP_UNMAPPED v4 asks for a pageblock for unmapped requests, "both" for all.
    cdef int big = mm.zones[0].pageblock_order
    if order > big:
        return order
    if mm.design.flips and mm.design.compaction != COMPACTS_ORDER:
        if mm.design.compaction == COMPACTS_BOTH or not mm.design.mapped[rq.ft]:
            return big
    if not mm.kernel.defrag_mode_retry:
        return order            # 6.12 promotes nothing
    if flags & ALLOC_NOFRAGMENT and rq.mt != MIGRATE_MOVABLE:
        return big
    return order


cdef int64_t alloc_pages_direct_compact(mm_t *mm, int cpu, int order, const request_t *rq, uint32_t flags,
                                        int priority, int *result) noexcept nogil:
    # __alloc_pages_direct_compact(): the captured page, or one from the lists; -1
    cdef uint32_t captured = NIL
    cdef zone_t *z = NULL
    cdef int64_t pfn
    cdef int wanted = compaction_order(mm, order, rq, flags)
    result[0] = COMPACT_NOT_SUITABLE_ZONE
    if wanted == 0:
        return -1
    result[0] = try_to_compact_pages(mm, cpu, wanted, rq, flags, priority, order, &captured, &z)
    if result[0] == COMPACT_SKIPPED:
        return -1
    if result[0] == COMPACT_DEFERRED and mm.kernel.compact_deferred_fails:
        return -1
    mm.stats.compact_stall += 1
    if captured != NIL:
        prep_new_page(z, captured, order, rq)
        pfn = <int64_t>(z.base_pfn + captured)
    else:
        pfn = get_page_from_freelist(mm, cpu, order, rq, flags, 0)
        if pfn < 0:
            return -1
        z = zone_of(mm, pfn)
    mm.stats.compact_stall_success += 1
    z.compact.blockskip_flush = False
    compaction_defer_reset(mm, z, wanted, True)
    return pfn


cdef void compact_node(mm_t *mm, int cpu, int nid, bint proactive) noexcept nogil:
    # compact_node(): /proc/sys/vm/compact_memory, or kcompactd of itself
    cdef compact_control_t cc
    cdef int i
    control_init(&cc, mm, cpu, COMPACT_WHOLE, MIGRATE_SYNC_LIGHT if proactive else MIGRATE_SYNC)
    cc.proactive = proactive
    for i in range(mm.nzones):
        if mm.zones[i].nid == nid and mm.zones[i].present > 0:
            cc.whole_zone = cc.ignore_skip_hint = True
            compact_zone(&cc, mm.zones[i])


cdef void kcompactd_do_work(mm_t *mm, int cpu, int nid, int order, int zone_idx) noexcept nogil:
    # kcompactd_do_work()
    cdef compact_control_t cc
    cdef int i, status, each
    cdef zone_t *z
    control_init(&cc, mm, cpu, order, MIGRATE_SYNC_LIGHT)
    cc.zone_idx = zone_idx
    if mm.defrag_mode:
        cc.alloc_flags = WMARK_HIGH
    for i in range(mm.nzones):
        z = mm.zones[i]
        if z.nid != nid or z.present == 0 or z.zone_idx > zone_idx or compaction_deferred(mm, z, order):
            continue
        if compaction_suit_allocation_order(&cc, z) != COMPACT_CONTINUE:
            continue
        cc.whole_zone = False
        status = compact_zone(&cc, z)
        if status == COMPACT_SUCCESS:
            compaction_defer_reset(mm, z, order, False)
        elif status == COMPACT_COMPLETE or status == COMPACT_PARTIAL_SKIPPED:
            if z.pcps != NULL:
                for each in range(mm.ncpus):
                    z.diff = &z.diffs[each]
                    pcp_drain(z, &z.pcps[each])
            defer_compaction(mm, z, order)
