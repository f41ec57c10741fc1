# Designs that are no table: they wrap the allocator and change mappings page by page.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from asi_pa._core cimport design_t, request_t, zone_t
from asi_pa.engine.flip cimport balance_ahead
from asi_pa.engine.page_alloc cimport count_numa, mm_alloc, mm_t, wrapper_t, zone_free

cpdef enum Wrapper:         # the words of Design.wrapper, "" is NONE
    WRAP_NONE = 0
    WRAP_PER_PAGE = 1
    WRAP_POOL = 2
    WRAP_QUEUE = 3


cdef inline int64_t design_alloc(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil:
    cdef int64_t pfn
    if mm.wrapper == NULL:
        pfn = mm_alloc(mm, cpu, order, rq)
    else:
        pfn = wrapped_alloc(mm, cpu, order, rq)
    if mm.nnodes > 1 and pfn >= 0:
        count_numa(mm, cpu, rq, <uint64_t>pfn)
    return pfn


cdef inline void design_free(mm_t *mm, zone_t *z, int cpu, uint32_t frame, int order) noexcept nogil:
    if mm.wrapper == NULL:
        zone_free(z, cpu, frame, order)
    else:
        wrapped_free(mm, z, cpu, frame, order)


cdef inline bint has_pool(const mm_t *mm) noexcept nogil:
    return mm.wrapper != NULL and mm.wrapper.shrink != NULL


cdef inline bint has_queue(const mm_t *mm) noexcept nogil:
    return mm.wrapper != NULL and mm.wrapper.work != NULL


cdef inline void run_ahead(mm_t *mm) noexcept nogil:
    # the workers that requests woke (balance_ahead, pool_balance), on the first CPU; called when no request
    # is under way
    cdef int i, due = 0
    for i in range(mm.nzones):
        due |= mm.zones[i].ahead_due
        if mm.zones[i].ahead_due and mm.wrapper == NULL:
            mm.zones[i].diff = &mm.zones[i].diffs[0]
            balance_ahead(mm.zones[i])
    if due and mm.wrapper != NULL:
        wrapper_balance(mm, due)


cdef const wrapper_t *wrapper_of(int number, const design_t *design) noexcept
cdef void wrapper_balance(mm_t *mm, int due) noexcept nogil
cdef void wrapped_contig(mm_t *mm, zone_t *z, uint32_t frame, uint32_t n, uint32_t info) noexcept nogil
cdef int64_t wrapped_alloc(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil
cdef void wrapped_free(mm_t *mm, zone_t *z, int cpu, uint32_t frame, int order) noexcept nogil
