# Design "rfcv2-queue": freed pages wait for a worker.
from libc.stdint cimport uint32_t

from asi_pa._core cimport zone_t
from asi_pa.engine.page_alloc cimport mm_t

cdef void queue_add(mm_t *mm, zone_t *z, uint32_t frame, int order) noexcept nogil
cdef void queue_run(mm_t *mm, int cpu) noexcept nogil
