# Design "pool": odd pages have free lists of their own.
from libc.stdint cimport int64_t, uint32_t

from asi_pa._core cimport request_t, zone_t
from asi_pa._page_alloc cimport mm_t

cdef int64_t pool_or_buddy(mm_t *mm, int cpu, int order, const request_t *rq, bint odd) noexcept nogil
cdef void pool_free(zone_t *z, uint32_t frame, int order) noexcept nogil
cdef int64_t pool_shrink(mm_t *mm, int cpu, int64_t pages) noexcept nogil
cdef int64_t pool_pages(mm_t *mm) noexcept nogil
