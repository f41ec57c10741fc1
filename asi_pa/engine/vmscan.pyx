"""What a request that may block does when both attempts of the slow path failed: a model, not exact.

The order of attempts is that of __alloc_pages_slowpath (mm/page_alloc.c, 7.2).  Drains and the reserve need
nobody's leave: every request that may block has them before it fails.  Reclaim is a stub: a declared supply
of page-cache allocations (slots of a replay, in an order drawn from the seed) that can be freed at any time.
Compaction, where it is told to, moves movable allocations from the zone's start to free memory at its end, as
mm/compaction.c's two scanners do (7.2); what it costs is the pages it moves.  Only replays have a supply and
compact: an allocation that moves must have a slot that can be told.
"""

from libc.string cimport memset

from asi_pa._core cimport (
    ALLOC,
    COMPACTS_BOTH,
    COMPACTS_ORDER,
    FLIPS_NONE,
    FREE,
    INFO_LRU,
    INFO_SENSITIVE,
    KIND_MASK,
    MIGRATE_CMA,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    NIL,
    ORDER_MASK,
    TAIL,
    account_freepages,
    expand,
    free_to_buddy,
    list_del,
)
from asi_pa.engine.highatomic cimport unreserve_highatomic
from asi_pa.engine.odd_pages cimport is_odd, odd_present
from asi_pa.engine.page_alloc cimport get_page_from_freelist, set_dirty, zone_of
from asi_pa.engine.pcp cimport pcp_drain
from asi_pa.engine.wrappers cimport WRAP_NONE, design_free

cdef enum:
    MAX_RECLAIM_RETRIES = 16    # mm/internal.h
    COMPACT_MAX_DEFER_SHIFT = 6     # mm/compaction.c
    PAGE_ALLOC_COSTLY_ORDER = 3     # include/linux/mmzone.h
    GFP_RETRY_MAYFAIL = 0x4000      # include/linux/gfp_types.h
    GFP_NORETRY = 0x10000


# ---------------------------------------------------------------- reclaim

cdef int64_t reclaim(mm_t *mm, int cpu, int64_t pages) noexcept nogil:
    # Frees the next allocations of the supply; those that the workload freed itself are gone already.
    cdef int64_t freed = 0
    cdef uint32_t slot, pfn, frame
    cdef zone_t *z
    while freed < pages and mm.supply_at < mm.supply_n:
        slot = mm.supply[mm.supply_at]
        mm.supply_at += 1
        pfn = mm.slots[slot]
        if pfn == NIL:
            continue
        z = zone_of(mm, pfn)
        frame = <uint32_t>(pfn - z.base_pfn)
        if z.state[frame] & KIND_MASK != ALLOC or not z.links[frame].next & INFO_LRU:
            continue
        mm.slots[slot] = NIL
        freed += <int64_t>1 << (z.state[frame] & ORDER_MASK)
        design_free(mm, z, cpu, frame, z.state[frame] & ORDER_MASK)
    mm.stats.reclaimed += freed
    return freed


cdef void each_pcp(mm_t *mm, void (*act)(zone_t *, pcp_t *) noexcept nogil) noexcept nogil:
    cdef int i, cpu
    cdef zone_t *z
    for i in range(mm.nzones):
        z = mm.zones[i]
        if z.pcps != NULL:
            for cpu in range(mm.ncpus):
                z.diff = &z.diffs[cpu]
                act(z, &z.pcps[cpu])


cdef bint unreserve(mm_t *mm, int cpu, const request_t *rq, bint force) noexcept nogil:
    # unreserve_highatomic_pageblock(): one pageblock of the first zone of the list that has one to give.
    cdef int node = mm.cpu_node[cpu], at
    cdef zone_t *z
    for at in range(mm.nzonelist[node]):
        z = mm.zonelist[node][at]
        if z.zone_idx <= rq.zone_idx:
            z.diff = &z.diffs[cpu]
            if unreserve_highatomic(z, rq.ft, force):
                return True
    return False


cdef int64_t direct_reclaim(mm_t *mm, int cpu, int order, const request_t *rq, uint32_t flags,
                            bint *drained, int64_t *progress) noexcept nogil:
    # __alloc_pages_direct_reclaim().  Without a supply it goes on as after reclaim that freed something else.
    cdef int64_t pfn, freed = reclaim(mm, cpu, SWAP_CLUSTER_MAX)
    progress[0] += freed
    if not freed and drained[0]:
        return -1
    pfn = get_page_from_freelist(mm, cpu, order, rq, flags, 0)
    if pfn < 0 and not drained[0]:
        # pages may be pinned in the reserve and on per-CPU lists
        unreserve(mm, cpu, rq, False)
        each_pcp(mm, pcp_drain)     # drain_all_pages()
        drained[0] = True
        pfn = get_page_from_freelist(mm, cpu, order, rq, flags, 0)
    return pfn


cdef int64_t direct_relief(mm_t *mm, int cpu, int order, const request_t *rq, uint32_t flags) noexcept nogil:
    # The rest of __alloc_pages_slowpath() for requests that may block: compaction, reclaim, the last drops.
    cdef int64_t pfn = -1, progress
    cdef int _tries, wanted = compaction_order(mm, order, rq)
    cdef bint drained = False
    for _tries in range(MAX_RECLAIM_RETRIES):
        progress = 0
        if wanted > 0 and mm.compacts:
            progress = compact_zones(mm, cpu, wanted, rq)
            pfn = get_page_from_freelist(mm, cpu, order, rq, flags, 0)
            if pfn >= 0:
                return pfn
        pfn = direct_reclaim(mm, cpu, order, rq, flags, &drained, &progress)
        if pfn >= 0:
            return pfn
        if rq.gfp & GFP_NORETRY or (order > PAGE_ALLOC_COSTLY_ORDER and not rq.gfp & GFP_RETRY_MAYFAIL):
            return -1
        if not progress:
            break
    # should_reclaim_retry(): before the OOM killer the reserve goes, a pageblock at a time
    while unreserve(mm, cpu, rq, True):
        pfn = get_page_from_freelist(mm, cpu, order, rq, flags, 0)
        if pfn >= 0:
            return pfn
    return -1


# ---------------------------------------------------------------- compaction

cdef int compaction_order(mm_t *mm, int order, const request_t *rq) noexcept nogil:
    # As posted everywhere compaction is asked for the request's order, 0 meaning none: flip starvation.
    # __GFP_UNMAPPED v4 asks for a pageblock for unmapped requests; "both" for every request that could flip.
    cdef int big = mm.zones[0].pageblock_order
    if mm.design.flips == FLIPS_NONE or order > big or mm.design.compaction == COMPACTS_ORDER:
        return order
    if mm.design.compaction == COMPACTS_BOTH or not mm.design.mapped[rq.ft]:
        return big
    return order


cdef int64_t compact_zones(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil:
    cdef int i
    cdef int64_t moved = 0
    for i in range(mm.nzones):
        if mm.zones[i].zone_idx <= rq.zone_idx:
            mm.zones[i].diff = &mm.zones[i].diffs[cpu]
            moved += compact_zone(mm, mm.zones[i], order, rq.ft, rq.block)
    return moved


cdef bint compaction_deferred(zone_t *z, int order) noexcept nogil:
    # after failures, 2^shift requests are turned away before the next run
    cdef uint32_t limit = 1u << z.compact_defer_shift
    if order < z.compact_order_failed:
        return False
    z.compact_considered += 1
    if z.compact_considered >= limit:
        z.compact_considered = limit
        return False
    return True


cdef void compaction_ended(zone_t *z, int order, bint success) noexcept nogil:
    # compaction_defer_reset(), defer_compaction()
    if success:
        z.compact_considered = 0
        z.compact_defer_shift = 0
        if order >= z.compact_order_failed:
            z.compact_order_failed = order + 1
        return
    z.compact_considered = 0
    z.compact_defer_shift += 1
    if order < z.compact_order_failed:
        z.compact_order_failed = order
    if z.compact_defer_shift > COMPACT_MAX_DEFER_SHIFT:
        z.compact_defer_shift = COMPACT_MAX_DEFER_SHIFT


cdef bint compact_finished(zone_t *z, int order, int ft) noexcept nogil:
    # __compact_finished(): a block of the order that the request, or a flip for it, can have.
    cdef int other
    for other in range(z.design.nft):
        if z.design.mt[other] > MIGRATE_RECLAIMABLE or not z.nonempty[other] >> order:
            continue
        if other == ft or order >= z.pageblock_order or z.design.mapped[other] == z.design.mapped[ft]:
            return True
    return False


cdef int64_t compact_zone(mm_t *mm, zone_t *z, int order, int ft, bint sync) noexcept nogil:
    # compact_zone(): the migrate scanner empties pageblocks from the start, the free scanner fills others
    # from the end; pages moved.
    cdef uint32_t source = z.first_block, target = z.nblocks
    cdef uint32_t frame, end, to
    cdef int64_t moved = 0
    cdef int o
    if order == 0 or compact_finished(z, order, ft) or compaction_deferred(z, order):
        return 0
    mm.stats.compactions += 1
    while source < target:
        if not source_suits(z, source, sync):
            source += 1
            continue
        frame = source << z.pageblock_order
        end = frame + z.pageblock_pages
        while frame < end:
            o = z.state[frame] & ORDER_MASK
            if z.state[frame] & KIND_MASK != ALLOC or not may_move(mm, z.links[frame].next) or o >= order:
                frame += 1u << o if z.state[frame] & KIND_MASK == FREE else 1
                continue
            to = free_scanner(z, &target, source, o, z.pbmapped[source])
            if to == NIL:
                mm.stats.compact_moved += moved
                compaction_ended(z, order, compact_finished(z, order, ft))
                return moved
            move_page(mm, z, frame, to, o)
            moved += <int64_t>1 << o
            frame += 1u << o
        if compact_finished(z, order, ft):
            mm.stats.compact_success += 1
            break
        source += 1
    compaction_ended(z, order, source < target)
    mm.stats.compact_moved += moved
    return moved


cdef bint may_move(mm_t *mm, uint32_t info) noexcept nogil:
    # On the LRU; wrappers change mappings page by page, and their odd pages stay where they are.
    return info & INFO_LRU and (mm.wrapper == WRAP_NONE or not is_odd(mm, info))


cdef bint source_suits(zone_t *z, uint32_t block, bint sync) noexcept nogil:
    # suitable_migration_source(): asynchronous compaction empties movable blocks only
    cdef int mt = z.design.mt[z.pbtype[block]]
    return mt == MIGRATE_MOVABLE or mt == MIGRATE_CMA or (sync and mt <= MIGRATE_RECLAIMABLE)


cdef uint32_t free_scanner(zone_t *z, uint32_t *target, uint32_t source, int order,
                           bint mapped) noexcept nogil:
    # isolate_freepages(): from the end downwards, movable blocks that are not wholly free, of the same side.
    cdef uint32_t block = target[0], frame, end
    cdef int high, ft
    while block > source + 1:
        block -= 1
        ft = z.pbtype[block]
        if z.design.mt[ft] == MIGRATE_MOVABLE and z.pbmapped[block] == mapped:
            frame = block << z.pageblock_order
            end = frame + z.pageblock_pages
            high = z.state[frame]
            if high & KIND_MASK != FREE or high & ORDER_MASK < z.pageblock_order:
                while frame < end:
                    high = z.state[frame] & ORDER_MASK
                    if z.state[frame] & KIND_MASK == FREE:
                        if high >= order and high < z.pageblock_order:
                            list_del(z, frame, high, ft)
                            expand(z, frame, order, high, ft)
                            account_freepages(z, ft, -(<int64_t>1 << order))
                            target[0] = block + 1
                            return frame
                        frame += 1u << high
                    else:
                        frame += 1
        if order == 0:
            target[0] = block       # nothing here for anybody
    return NIL


cdef void move_page(mm_t *mm, zone_t *z, uint32_t frame, uint32_t to, int order) noexcept nogil:
    # migrate_pages() of one allocation: same request, same owner, another frame.
    cdef uint32_t owner = z.links[frame].prev
    memset(&z.state[to], TAIL, 1u << order)
    z.state[to] = z.state[frame]
    z.links[to] = z.links[frame]
    if z.links[to].next & INFO_SENSITIVE and (mm.wrapper == WRAP_NONE or odd_present(mm)):
        set_dirty(z, to, 1u << order, True)
    if owner != NIL:
        mm.slots[owner] = <uint32_t>(z.base_pfn + to)
    free_to_buddy(z, frame, order)
