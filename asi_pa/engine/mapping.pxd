# A pageblock of a design with a protected tree: what it holds, how it is mapped.
from libc.stdint cimport uint32_t

from asi_pa.engine.types cimport zone_t

cdef void log_event(zone_t *z, int kind, int ctx, int old_ft, int new_ft, uint32_t frame,
                    uint32_t nr, uint32_t aux) noexcept nogil
cdef uint32_t block_live(zone_t *z, uint32_t block) noexcept nogil
cdef uint32_t block_dirty(zone_t *z, uint32_t block) noexcept nogil
cdef void block_zero(zone_t *z, uint32_t block, bint locked) noexcept nogil
cdef void blocks_map(zone_t *z, uint32_t block, uint32_t n, int ctx) noexcept nogil
cdef void blocks_unmap(zone_t *z, uint32_t block, uint32_t n, int ctx, bint flush) noexcept nogil


cdef inline void lock_dropped(zone_t *z, int at, uint32_t frame, int order) noexcept nogil:
    # The lock is dropped here; audits let another CPU act.
    if z.window != NULL:
        z.window(z, at, frame, order)
