# Emptying a pageblock that is partly free, so that it can flip.
from libc.stdint cimport uint32_t

from asi_pa._core cimport zone_t

cdef uint32_t evacuate_block(zone_t *z, int ft) noexcept nogil
