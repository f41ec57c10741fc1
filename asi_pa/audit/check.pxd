# Which invariants a step broke, and by what mechanism.
from libc.stdint cimport uint32_t

from asi_pa.audit.step cimport masks_t, search_t, step_t

cdef int check_step(search_t *s, const step_t *step, const masks_t *after) noexcept nogil
cdef bint check_whole(search_t *s, const step_t *step) noexcept nogil
cdef void found_lost(search_t *s, const step_t *step, uint32_t where) noexcept nogil
