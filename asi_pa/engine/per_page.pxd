# Design "per-page": the mapping of every page changes when it is handed out, and back when it is freed.
from libc.stdint cimport int64_t, uint32_t

from asi_pa._core cimport request_t, zone_t
from asi_pa.engine.page_alloc cimport mm_t

cdef int64_t per_page_alloc(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil
cdef bint per_page_keep(mm_t *mm, zone_t *z, uint32_t frame, int order) noexcept nogil
