# Random walks.
from libc.stdint cimport uint8_t, uint64_t

from asi_pa.audit.step cimport search_t, step_t

cdef uint64_t next_random(uint64_t *state) noexcept nogil
cdef int walk_once(search_t *s, const uint8_t *start, int length, uint64_t *random,
                   step_t *steps) noexcept nogil
