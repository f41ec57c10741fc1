# The free scanner: where pages are moved to.
from libc.stdint cimport int64_t, uint32_t

from asi_pa.engine.compact_control cimport compact_control_t

cdef void held_init(compact_control_t *cc) noexcept nogil
cdef uint32_t compaction_alloc(compact_control_t *cc, int order) noexcept nogil
cdef void compaction_free(compact_control_t *cc, uint32_t frame, int order) noexcept nogil
cdef int64_t release_free_list(compact_control_t *cc) noexcept nogil
cdef void move_freelist_tail(compact_control_t *cc, int order, uint32_t frame) noexcept nogil
