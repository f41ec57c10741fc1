"""Remapped pages: those whose mapping differs from all other memory's, in designs that map page by page.

In the restricted tree they are the nonsensitive ones (present there), in the unrestricted tree the sensitive
unmovable ones (absent there).
"""

from asi_pa._core cimport (
    CTX_PAGE_MAP,
    CTX_REFILL,
    CTX_SHRINK,
    CTX_WORKER,
    EVENT_MAP,
    EVENT_UNMAP,
    ZERO_NONE,
)
from asi_pa.engine.mapping cimport log_event
from asi_pa.engine.page_alloc cimport count_dirty, set_dirty, zone_of
from asi_pa.physmap.physmap cimport (
    CAUSE_PAGE_ALLOC,
    CAUSE_POOL_REFILL,
    CAUSE_QUEUE_WORKER,
    CAUSE_SHRINKER,
    FLUSH_NONE,
    physmap_flush,
    physmap_map,
    physmap_present,
    physmap_present_in,
    physmap_unflushed,
    physmap_unmap,
)


cdef uint32_t count_present(mm_t *mm, zone_t *z, uint32_t frame, uint32_t n) noexcept nogil:
    # In the tree that the design changes.
    return <uint32_t>physmap_present_in(mm.physmap, mm.design.tree, z.base_pfn + frame, n)


cdef uint32_t count_newly_exposed(mm_t *mm, zone_t *z, uint32_t frame, uint32_t n) noexcept nogil:
    # Absent pages that still hold what a sensitive owner wrote: about to be mapped.
    cdef uint32_t i, count = 0
    if z.dirty != NULL:
        for i in range(frame, frame + n):
            if z.dirty[i >> 3] >> (i & 7) & 1:
                count += not physmap_present(mm.physmap, mm.design.tree, z.base_pfn + i)
    return count


cdef void set_pages(mm_t *mm, uint64_t pfn, uint64_t n, bint present, int cause) noexcept nogil:
    # Page by page, as set_direct_map_*_noflush() is called; whoever unmaps flushes.
    cdef uint64_t i
    for i in range(n):
        if present:
            physmap_map(mm.physmap, mm.design.tree, pfn + i, 1, cause)
        else:
            physmap_unmap(mm.physmap, mm.design.tree, pfn + i, 1, cause, FLUSH_NONE)


cdef int page_cause(int ctx) noexcept nogil:
    if ctx == CTX_REFILL:
        return CAUSE_POOL_REFILL
    if ctx == CTX_SHRINK:
        return CAUSE_SHRINKER
    if ctx == CTX_WORKER:
        return CAUSE_QUEUE_WORKER
    return CAUSE_PAGE_ALLOC


cdef void map_chunk(mm_t *mm, zone_t *z, uint32_t frame, uint32_t n, bint present, bint at_once, int ctx,
                    int order, int request) noexcept nogil:
    # The mapping of a chunk changes, logged: page by page, or `at_once`, as large a leaf as fits.  `order`
    # and `request` are for the log.
    cdef uint32_t already = count_present(mm, z, frame, n), exposed = 0
    if present:
        exposed = count_newly_exposed(mm, z, frame, n)
        if ctx == CTX_SHRINK:
            mm.stats.stale_exposed += exposed       # nobody gets it now: no owner's audit will see it
        log_event(z, EVENT_MAP, ctx, order, request, frame, n, exposed | already << 16)
    else:
        log_event(z, EVENT_UNMAP, ctx, order, request, frame, n, (n - already) << 16)
    if not at_once:
        set_pages(mm, z.base_pfn + frame, n, present, page_cause(ctx))
    elif present:
        physmap_map(mm.physmap, mm.design.tree, z.base_pfn + frame, n, page_cause(ctx))
    else:
        physmap_unmap(mm.physmap, mm.design.tree, z.base_pfn + frame, n, page_cause(ctx), FLUSH_NONE)


cdef void clear_pages(mm_t *mm, zone_t *z, uint32_t frame, int order) noexcept nogil:
    mm.stats.pages_zeroed += 1u << order
    set_dirty(z, frame, 1u << order, False)


# ---------------------------------------------------------------- owners come and go

cdef inline void count_wrong(mm_t *mm, uint32_t wrong, bint present, int sign) noexcept nogil:
    # The running totals of live pages whose mapping is not what their owner must have.
    if present:
        mm.stats.hidden_now += sign * <int64_t>wrong
    else:
        mm.stats.exposed_now += sign * <int64_t>wrong


cdef void audit_mapping(mm_t *mm, zone_t *z, uint32_t frame, uint32_t n, bint present) noexcept nogil:
    # Pages that somebody gets must be present, or absent.
    cdef uint32_t wrong = count_present(mm, z, frame, n)
    if present:
        wrong = n - wrong
    if present:
        mm.stats.absences += wrong
    else:
        mm.stats.exposures += wrong
    count_wrong(mm, wrong, present, 1)


cdef int64_t remap_for(mm_t *mm, int64_t pfn, int order, const request_t *rq) noexcept nogil:
    # A page fresh from the buddy (-1: none) gets the mapping that its request wants; the pfn.
    cdef zone_t *z
    cdef uint32_t frame
    if pfn < 0 or not is_remapped(mm, rq.info):
        return pfn
    z = zone_of(mm, <uint64_t>pfn)
    frame = <uint32_t>(<uint64_t>pfn - z.base_pfn)
    if mm.design.zeroing != ZERO_NONE:
        clear_pages(mm, z, frame, order)
    map_chunk(mm, z, frame, 1u << order, remapped_present(mm), False, CTX_PAGE_MAP, 0, 0)
    if remapped_present(mm):
        mm.stats.map_allocs += 1
    else:
        physmap_flush(mm.physmap, <uint64_t>pfn, 1u << order)
        mm.stats.flush_allocs += 1
    return pfn


cdef int64_t handed_out(mm_t *mm, zone_t *z, int64_t pfn, int order, const request_t *rq) noexcept nogil:
    # The audit of every allocation: mapped as it should be, and no old secrets in what is mapped.
    cdef uint32_t frame = <uint32_t>(<uint64_t>pfn - z.base_pfn), n = 1u << order
    cdef bint present = wanted_present(mm, rq.info)
    audit_mapping(mm, z, frame, n, present)
    if not present:
        mm.stats.unflushed += physmap_unflushed(mm.physmap, <uint64_t>pfn, n)
        set_dirty(z, frame, n, True)
    else:
        mm.stats.stale_exposed += count_dirty(z, frame, n)
    return pfn


cdef void given_back(mm_t *mm, zone_t *z, uint32_t frame, int order) noexcept nogil:
    # The totals forget a freed page, which is mapped as it was when it was handed out.
    cdef uint32_t n = 1u << order, wrong
    cdef bint present = wanted_present(mm, z.links[frame].next)
    if mm.stats.exposed_now == 0 and mm.stats.hidden_now == 0:
        return
    wrong = count_present(mm, z, frame, n)
    count_wrong(mm, n - wrong if present else wrong, present, -1)
