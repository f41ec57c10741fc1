# A zone, walked; a frame in words.
from libc.stdint cimport uint32_t, uint64_t

from asi_pa._core cimport zone_t

cdef const char *zone_verify(zone_t *z, uint64_t *where) noexcept nogil
cdef str describe_frame(zone_t *z, uint32_t frame)
