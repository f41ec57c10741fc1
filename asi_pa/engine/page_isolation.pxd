# Isolation of pageblocks and contiguous ranges.
from libc.stdint cimport int64_t, uint32_t

from asi_pa._core cimport zone_t
from asi_pa.engine.page_alloc cimport mm_t

cdef enum:
    ISOLATE_MODE_CMA_ALLOC = 1
    ISOLATE_MODE_OTHER = 2
    EBUSY = 16
    EINVAL = 22

cdef uint32_t head_of(zone_t *z, uint32_t frame) noexcept nogil
cdef int start_isolate_page_range(zone_t *z, uint32_t start, uint32_t end, int mode) noexcept nogil
cdef void undo_isolate_page_range(zone_t *z, uint32_t start, uint32_t end) noexcept nogil
cdef int alloc_contig_range(zone_t *z, uint32_t start, uint32_t end, int mode, uint32_t info) noexcept nogil
cdef void free_contig_range(zone_t *z, int cpu, uint32_t frame, uint32_t n) noexcept nogil
cdef bint isolate_free_page(zone_t *z, uint32_t frame, int order) noexcept nogil
cdef int64_t take_and_putback(zone_t *z, int ft, int least_order) noexcept nogil
