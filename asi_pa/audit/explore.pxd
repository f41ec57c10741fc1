# A level of the search, expanded state by state or in batches.
from libc.stdint cimport uint8_t, uint64_t

from asi_pa.audit.step cimport batch_t, search_t, step_t

cdef enum:                      # why expanding ended
    ENDED_NOT = 0               # all of the level is done
    ENDED_STATES = 1
    ENDED_OPERATIONS = 2
    ENDED_SECONDS = 3
    ENDED_MEMORY = 4

cdef struct limits_t:
    uint64_t states
    uint64_t operations
    double seconds              # of this thread, from now on

cdef double cpu_seconds() noexcept nogil
cdef bint keep_state(search_t *s, const step_t *step, uint8_t *image) noexcept nogil
cdef bint is_parent(const search_t *s, uint64_t present) noexcept nogil
cdef int expand_level(search_t *s, const limits_t *limits) noexcept nogil
cdef batch_t *batch_new(uint64_t states) noexcept nogil
cdef void batch_free(batch_t *b) noexcept nogil
cdef int expand_batch(search_t *s, const search_t *of, uint64_t first, uint64_t n, batch_t *b) noexcept nogil
cdef int merge_batch(search_t *s, const batch_t *b, const limits_t *limits) noexcept nogil
cdef void order_findings(search_t *s) noexcept nogil
