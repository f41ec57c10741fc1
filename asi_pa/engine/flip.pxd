# Pageblocks that change sides.
from libc.stdint cimport int64_t, uint32_t

from asi_pa._core cimport zone_t

cdef uint32_t rmqueue_flip(zone_t *z, int order, int ft, uint32_t flags) noexcept nogil
cdef int64_t flip_free_blocks(zone_t *z, int64_t n, bint to_mapped) noexcept nogil
cdef void balance_ahead(zone_t *z) noexcept nogil
cdef void clear_ahead(zone_t *z) noexcept nogil
