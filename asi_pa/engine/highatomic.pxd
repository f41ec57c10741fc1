# The reserve for high-order atomic requests.
from libc.stdint cimport uint32_t

from asi_pa._core cimport zone_t

cdef void reserve_highatomic(zone_t *z, uint32_t frame, int order, int ft) noexcept nogil
cdef bint unreserve_highatomic(zone_t *z, int ft, bint force) noexcept nogil
