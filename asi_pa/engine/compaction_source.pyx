"""Compaction's migration scanner: movable folios taken off the LRU, a batch at a time.

Rules: mm/compaction.c isolate_migratepages, isolate_migratepages_block, fast_find_migrateblock,
suitable_migration_source, update_cached_migrate (7.2; where 6.12 differs the kernel profile says so).
"""

from libc.stdint cimport int64_t, uint32_t

from asi_pa.engine.compact_control cimport (
    COMPACT_CLUSTER_MAX,
    COMPACT_COSTLY_ORDER,
    COMPACT_WHOLE,
    LOG_MIGRATE_SCAN,
    MIGRATE_ASYNC,
    block_aligned,
    block_end,
    block_start,
    compact_control_t,
    compact_log,
    freelist_scan_limit,
    isolation_suitable,
    on_side,
    seen,
)
from asi_pa.engine.compaction_gates cimport pageblock_skip_persistent
from asi_pa.engine.compaction_target cimport move_freelist_tail
from asi_pa._core cimport (
    ALLOC,
    ALLOC_CMA,
    FREE,
    INFO_COMP,
    INFO_LRU,
    KIND_MASK,
    MIGRATE_CMA,
    MIGRATE_MOVABLE,
    ORDER_MASK,
    block_of,
    list_of,
    zone_t,
)
from asi_pa.engine.migrate cimport putback_movable_pages
from asi_pa.engine.remapped cimport is_remapped


# ---------------------------------------------------------------- which block

cdef bint takes_movable(const compact_control_t *cc) noexcept nogil:
    # Whether a direct run may empty MOVABLE blocks: for movable requests, and in 7.2 for a whole pageblock.
    cdef zone_t *z = cc.zone
    return cc.mt == MIGRATE_MOVABLE or (
        z.kernel.compact_block_takes_movable and cc.order >= z.pageblock_order)


cdef bint suitable_migration_source(const compact_control_t *cc, int64_t start) noexcept nogil:
    # suitable_migration_source()
    cdef zone_t *z = cc.zone
    cdef int ft = z.pbtype[block_of(z, <uint32_t>start)], mt = z.design.mt[ft]
    if pageblock_skip_persistent(z, start):
        return False
    if not on_side(cc, block_of(z, <uint32_t>start)):
        return False
    if not cc.direct:
        return True
    if z.kernel.compact_cma_needs_flag and mt == MIGRATE_CMA and not cc.alloc_flags & ALLOC_CMA:
        return False
    if cc.mode != MIGRATE_ASYNC:
        return True
    if takes_movable(cc):
        return mt == MIGRATE_MOVABLE or mt == MIGRATE_CMA
    return mt == cc.mt


cdef int64_t fast_find_migrateblock(compact_control_t *cc) noexcept nogil:
    # fast_find_migrateblock(): a block with free pages of the orders below, from the MOVABLE lists; else
    # where the scanner is
    cdef zone_t *z = cc.zone
    cdef int limit = freelist_scan_limit(cc), scanned = 0, order = cc.order - 1
    cdef int64_t distance, high, found = -1
    cdef uint32_t list, at
    if cc.ignore_skip_hint or cc.finish_pageblock or cc.order <= COMPACT_COSTLY_ORDER:
        return cc.migrate_pfn
    if cc.migrate_pfn != z.first and not block_aligned(z, cc.migrate_pfn):
        return cc.migrate_pfn
    if (cc.direct and not takes_movable(cc)) or cc.movable < 0:
        return cc.migrate_pfn
    distance = (cc.free_pfn - cc.migrate_pfn) >> 1
    if cc.migrate_pfn != z.first:
        distance >>= 2
    high = block_start(z, cc.migrate_pfn + distance)
    while order >= COMPACT_COSTLY_ORDER and found < 0 and scanned < limit:
        list = list_of(z, order, cc.movable)
        at = z.links[list].next
        while at != list:
            scanned += 1
            if scanned > limit:
                move_freelist_tail(cc, order, at)
                break
            if at < high and not z.compact.skip[block_of(z, at)]:
                move_freelist_tail(cc, order, at)
                if cc.fast_start_pfn == -1 or (cc.fast_start_pfn >= 0 and at < cc.fast_start_pfn):
                    cc.fast_start_pfn = at
                found = max(block_start(z, at), <int64_t>z.first)
                cc.fast_search_fail = 0
                break
            at = z.links[at].next
        order -= 1
    cc.total_migrate_scanned += scanned
    if found >= 0:
        return found
    cc.fast_search_fail += 1
    if cc.fast_start_pfn >= 0:
        # reinit_migrate_pfn(): the lowest block that a search found is where the linear scan begins
        cc.migrate_pfn = cc.fast_start_pfn
        cc.fast_start_pfn = -2
    return cc.migrate_pfn


cdef void update_cached_migrate(compact_control_t *cc, int64_t frame) noexcept nogil:
    # update_cached_migrate(): past the block behind
    cdef zone_t *z = cc.zone
    cdef int64_t at = block_end(z, frame)
    if at > z.compact.cached_migrate[0]:
        z.compact.cached_migrate[0] = at
    if cc.mode != MIGRATE_ASYNC and at > z.compact.cached_migrate[1]:
        z.compact.cached_migrate[1] = at


cdef bint isolate_migratepages(compact_control_t *cc) noexcept nogil:
    # isolate_migratepages(): one block; whether anything is isolated
    cdef zone_t *z = cc.zone
    cdef int64_t low = fast_find_migrateblock(cc), end = block_end(z, low), start
    cdef bint fast = low != cc.migrate_pfn and cc.fast_search_fail == 0
    while end <= cc.free_pfn:
        start = max(end - z.pageblock_pages, <int64_t>z.first)
        if (block_aligned(z, low) or low == z.first) and not fast and not isolation_suitable(cc, start):
            pass
        elif not suitable_migration_source(cc, start):
            update_cached_migrate(cc, end)
        else:
            isolate_migratepages_block(cc, low, end)
            break
        fast = False
        cc.migrate_pfn = low = end
        end += z.pageblock_pages
    return cc.nisolated != 0


# ---------------------------------------------------------------- within a block

cdef enum:                  # what isolate_migratepages_block() does about a frame
    PASS = 0
    FAIL = 1
    TAKE = 2


cdef int look_at(const compact_control_t *cc, int64_t frame, int64_t *pages) noexcept nogil:
    # What a frame heads, `pages` of it.
    cdef zone_t *z = cc.zone
    cdef int kind = z.state[frame] & KIND_MASK, order = z.state[frame] & ORDER_MASK
    cdef uint32_t info
    pages[0] = 1
    if kind == FREE:
        pages[0] = <int64_t>1 << order
        return PASS
    if kind != ALLOC:
        return FAIL
    info = z.links[frame].next
    if order > 0 and info & INFO_COMP:
        # skip_isolation_on_order()
        if order >= z.pageblock_order or (cc.order != COMPACT_WHOLE and order >= cc.order):
            pages[0] = <int64_t>1 << order
            return FAIL
    if not info & INFO_LRU or not cc.fs:
        return FAIL         # or page cache, which a compactor without __GFP_FS leaves alone
    if cc.mm.wrapper != NULL and is_remapped(cc.mm, info):
        return FAIL         # its mapping is its own, page by page
    pages[0] = <int64_t>1 << order
    return TAKE


cdef void isolate_migratepages_block(compact_control_t *cc, int64_t low, int64_t end) noexcept nogil:
    # isolate_migratepages_block()
    cdef zone_t *z = cc.zone
    cdef int64_t start = low, scanned = 0, pages, following = 0, isolated = 0, unit = 0
    cdef bint gives_up = cc.direct and cc.mode == MIGRATE_ASYNC, updated = False
    cdef int64_t valid = -1
    cdef int does
    cdef uint32_t block = block_of(z, <uint32_t>low)
    cc.migrate_pfn = low
    if gives_up:
        unit = <int64_t>1 << cc.order
        following = (low & ~(unit - 1)) + unit
    while low < end:
        if gives_up and low >= following:
            if isolated:
                break
            following = (low & ~(unit - 1)) + unit
        scanned += 1
        if valid < 0 and (block_aligned(z, low) or low == z.first):
            if not isolation_suitable(cc, low):
                low = end
                break
            valid = low
        does = look_at(cc, low, &pages)
        scanned += pages - 1
        if does == TAKE:
            if not updated and valid >= 0:
                # test_and_set_skip(), when the lruvec is locked for the first time
                updated = True
                if not cc.ignore_skip_hint:
                    if z.compact.skip[block] and not cc.finish_pageblock:
                        low = end
                        break
                    z.compact.skip[block] = 1
            z.links[low].next &= ~<uint32_t>INFO_LRU
            cc.isolated[cc.nisolated] = <uint32_t>low
            cc.nisolated += 1
            cc.nr_migratepages += pages
            isolated += pages
            low += pages
            if cc.nr_migratepages >= COMPACT_CLUSTER_MAX and not cc.finish_pageblock:
                break
            continue
        low += pages
        if does == FAIL and gives_up:
            if isolated:
                put_back_isolated(cc)
                isolated = 0
            if low - 1 < following:
                low = following
                following += unit
    if low > end:
        low = end
    if low == end and (not isolated or cc.finish_pageblock):
        if valid >= 0 and not updated:
            z.compact.skip[block] = 1
        update_cached_migrate(cc, end)
    compact_log(cc.mm, LOG_MIGRATE_SCAN, seen(z, start), seen(z, low), scanned, isolated)
    cc.total_migrate_scanned += scanned
    cc.migrate_pfn = low


cdef void put_back_isolated(compact_control_t *cc) noexcept nogil:
    # the range cannot become the block that is wanted; in list order, the last isolated first
    cdef uint32_t i
    for i in range(cc.nisolated):
        putback_movable_pages(cc, &cc.isolated[cc.nisolated - 1 - i], 1)
    cc.nisolated = 0
    cc.nr_migratepages = 0
