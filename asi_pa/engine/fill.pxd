# Free pages of an initial state, onto the lists in the order given.
from libc.stdint cimport uint32_t

from asi_pa._core cimport zone_t


cdef void fill_free(zone_t *z, uint32_t frame, int order) noexcept nogil
cdef bint fill_pcp(zone_t *z, int cpu, uint32_t frame, int order, int mt) noexcept nogil
cdef int copy_zone(zone_t *to, const zone_t *source) except -1
