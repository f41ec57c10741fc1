"""Designs that wrap the allocator: per-page mapping, RFCv2's free queue, the separate pool of 2023.

per-page: set_direct_map_invalid_noflush() and a flush for every page, as secretmem does today
(mm/secretmem.c, 7.2).  The queue and the pool have files of their own.
"""

from libc.stdint cimport uint64_t

from asi_pa._core cimport CTX_PAGE_MAP, INFO_SENSITIVE, ZERO_NONE
from asi_pa.engine.free_queue cimport queue_add, queue_run
from asi_pa.engine.odd_pages cimport (
    audit_mapping,
    clear_pages,
    given_back,
    handed_out,
    is_odd,
    map_chunk,
    odd_present,
    set_pages,
    wanted_present,
)
from asi_pa.engine.page_alloc cimport set_dirty, zone_of
from asi_pa.physmap.physmap cimport (
    CAUSE_PAGE_ALLOC,
    CAUSE_PAGE_FREE,
    FLUSH_RANGE,
    physmap_flush,
    physmap_unmap,
)
from asi_pa.engine.pool cimport pool_free, pool_or_buddy, pool_owns


cdef int64_t wrapped_alloc(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil:
    cdef int64_t pfn
    cdef zone_t *z
    cdef bint odd = is_odd(mm, rq.info)
    mm.now += 1
    if mm.wrapper == WRAP_POOL:
        pfn = pool_or_buddy(mm, cpu, order, rq, odd)
        if pfn < 0:
            return -1
        z = zone_of(mm, <uint64_t>pfn)
        return handed_out(mm, z, pfn, order, rq)
    if mm.wrapper == WRAP_QUEUE and mm.queue_due and mm.now >= mm.queue_due:
        queue_run(mm, cpu)
    pfn = mm_alloc(mm, cpu, order, rq)
    if pfn < 0 and mm.wrapper == WRAP_QUEUE and mm.design.queue_waits and rq.block and mm.queue_due:
        # direct reclaim waits for the worker; as posted the pages are stuck
        queue_run(mm, cpu)
        mm.stats.flush_allocs += 1
        pfn = mm_alloc(mm, cpu, order, rq)
    if pfn < 0:
        return -1
    z = zone_of(mm, <uint64_t>pfn)
    if odd:
        if mm.design.zeroing != ZERO_NONE:
            clear_pages(mm, z, <uint32_t>(<uint64_t>pfn - z.base_pfn), order)
        map_chunk(mm, z, <uint32_t>(<uint64_t>pfn - z.base_pfn), 1u << order, odd_present(mm), False,
                  CTX_PAGE_MAP, 0, 0)
        if odd_present(mm):
            mm.stats.map_allocs += 1
        else:
            physmap_flush(mm.physmap, <uint64_t>pfn, 1u << order)
            mm.stats.flush_allocs += 1
    return handed_out(mm, z, pfn, order, rq)


cdef void wrapped_free(mm_t *mm, zone_t *z, int cpu, uint32_t frame, int order) noexcept nogil:
    cdef uint64_t pfn = z.base_pfn + frame
    mm.now += 1
    given_back(mm, z, frame, order)
    if mm.wrapper == WRAP_POOL:
        if pool_owns(mm, z, frame):
            pool_free(mm, z, frame, order)
            return
    elif is_odd(mm, z.links[frame].next):
        if mm.wrapper == WRAP_QUEUE:
            queue_add(mm, z, frame, order)
            return
        if odd_present(mm):
            # the caller frees and so waits for the flush itself
            physmap_unmap(mm.physmap, mm.design.tree, pfn, 1u << order, CAUSE_PAGE_FREE, FLUSH_RANGE)
            mm.stats.flush_frees += 1
        else:
            # secretmem_free_folio(): mapped again, then cleared by its owner
            set_pages(mm, pfn, 1u << order, True, CAUSE_PAGE_FREE)
            clear_pages(mm, z, frame, order)
    zone_free(z, cpu, frame, order)


cdef void wrapped_contig(mm_t *mm, zone_t *z, uint32_t frame, uint32_t n, uint32_t info) noexcept nogil:
    # A contiguous range that was just allocated gets the mapping of its kind.
    cdef uint64_t pfn = z.base_pfn + frame
    if is_odd(mm, info):
        if odd_present(mm):
            mm.stats.pages_zeroed += n
            set_dirty(z, frame, n, False)
        set_pages(mm, pfn, n, odd_present(mm), CAUSE_PAGE_ALLOC)
        if not odd_present(mm):
            physmap_flush(mm.physmap, pfn, n)
    audit_mapping(mm, z, frame, n, wanted_present(mm, info))
    if info & INFO_SENSITIVE and (odd_present(mm) or is_odd(mm, info)):
        set_dirty(z, frame, n, True)
