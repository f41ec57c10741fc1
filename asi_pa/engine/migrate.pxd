# Moving pages, the batch on their way to the LRU, and who is told where they went.
from libc.stdint cimport int64_t, uint32_t

from asi_pa.engine.compact_control cimport compact_control_t
from asi_pa._core cimport zone_t
from asi_pa.engine.page_alloc cimport mm_t

cdef void lru_add_drain(mm_t *mm) noexcept nogil
cdef void tell_owner(mm_t *mm, zone_t *z, uint32_t owner, uint32_t frame) noexcept nogil
cdef void putback_movable_pages(compact_control_t *cc, const uint32_t *frames, uint32_t n) noexcept nogil
cdef uint32_t migrate_pages(compact_control_t *cc, uint32_t *left, int *error) noexcept nogil
cdef bint free_allocated(mm_t *mm, zone_t *z, int cpu, uint32_t frame, int order) noexcept nogil
cdef int allocated_order(const mm_t *mm, const zone_t *z, uint32_t frame) noexcept nogil
cdef bint split_allocated(uint32_t *slots, mm_t *mm, zone_t *z, uint32_t frame, int order,
                          uint32_t slot) noexcept nogil
