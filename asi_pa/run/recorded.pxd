# Lists brought in line with what was recorded.
from libc.stdint cimport int64_t, uint16_t, uint32_t

from asi_pa._core cimport zone_t

cdef enum:
    UNKNOWN_TYPE = 255
    NOWHERE = 0


cdef void off_list(zone_t *z, uint16_t *where, uint32_t frame) noexcept nogil
cdef uint32_t free_block(zone_t *z, uint32_t frame, int *order) noexcept nogil
cdef void carve(zone_t *z, uint32_t head, int high, uint32_t frame, int order,
                int ft) noexcept nogil
cdef void retype(zone_t *z, uint32_t frame, int order, int ft) noexcept nogil
cdef void believed(zone_t *z, uint32_t frame, int ft) noexcept nogil
cdef uint32_t take_out(zone_t *z, uint16_t *where, uint32_t frame, int order) noexcept nogil
cdef void break_up(zone_t *z, uint32_t frame, int order) noexcept nogil
cdef void change_kind(zone_t *z, int old, int new) noexcept nogil
cdef str listed_elsewhere(const zone_t *z, const uint16_t *where)
cdef void give_away(zone_t *z, uint16_t *where, uint32_t frame) noexcept nogil
cdef int64_t distance_to(const zone_t *z, const int64_t *aim, int orders) noexcept nogil
