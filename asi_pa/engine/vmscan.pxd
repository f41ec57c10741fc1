# What relieves a shortage: direct reclaim of a declared supply, drains, compaction.
from libc.stdint cimport int64_t, uint32_t

from asi_pa._core cimport pcp_t, request_t, zone_t
from asi_pa.engine.page_alloc cimport mm_t

cdef enum:
    SWAP_CLUSTER_MAX = 32       # include/linux/swap.h

cdef int64_t one_pass(const mm_t *mm, int nid) noexcept nogil
cdef int64_t reclaim(mm_t *mm, int cpu, int nid, int64_t pages) noexcept nogil
cdef int64_t direct_relief(mm_t *mm, int cpu, int order, const request_t *rq, uint32_t flags) noexcept nogil
cdef void each_pcp(mm_t *mm, void (*act)(zone_t *, pcp_t *) noexcept nogil) noexcept nogil
