# Free pages of an initial state, onto the lists in the order given.
from libc.stdint cimport uint32_t

from asi_pa._core cimport zone_t

cdef enum:
    ZONE_ARRAYS = 8

cdef struct array_t:
    # one of a zone's arrays that operations change
    void **place                # the zone's pointer to it
    size_t bytes
    size_t aligned              # to so many bytes, where it is moved


cdef void fill_free(zone_t *z, uint32_t frame, int order) noexcept nogil
cdef bint fill_pcp(zone_t *z, int cpu, uint32_t frame, int order, int mt) noexcept nogil
cdef int zone_arrays(zone_t *z, array_t *arrays) noexcept nogil
cdef int copy_zone(zone_t *to, zone_t *source) except -1
