# Design "rfcv2-queue": freed pages wait for a worker.
from libc.stdint cimport int64_t, uint32_t

from asi_pa._core cimport request_t, zone_t
from asi_pa.engine.page_alloc cimport mm_t

cdef int64_t queue_alloc(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil
cdef bint queue_keep(mm_t *mm, zone_t *z, uint32_t frame, int order) noexcept nogil
cdef void queue_run(mm_t *mm, int cpu) noexcept nogil
