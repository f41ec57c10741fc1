# What relieves a shortage: kswapd, direct reclaim of a declared supply, compaction.
from libc.stdint cimport int64_t, uint32_t

from asi_pa._core cimport pcp_t, request_t, zone_t
from asi_pa.engine.page_alloc cimport mm_t

cdef int64_t direct_relief(mm_t *mm, int cpu, int order, const request_t *rq, uint32_t flags) noexcept nogil
cdef void each_pcp(mm_t *mm, void (*act)(zone_t *, pcp_t *) noexcept nogil) noexcept nogil
cdef void kswapd(mm_t *mm, int cpu) noexcept nogil
