# Compaction as its callers see it: direct, kcompactd, compact_memory.
from libc.stdint cimport int64_t, uint32_t

from asi_pa._core cimport request_t, zone_t
from asi_pa.engine.page_alloc cimport compact_log_t, mm_t

cdef int try_to_compact_pages(mm_t *mm, int cpu, int order, const request_t *rq, uint32_t flags, int priority,
                              int capture_order, uint32_t *captured, zone_t **where) noexcept nogil
cdef int64_t alloc_pages_direct_compact(mm_t *mm, int cpu, int order, const request_t *rq, uint32_t flags,
                                        int priority, int *result) noexcept nogil
cdef int zones_of(const mm_t *mm, int node, const request_t *rq) noexcept nogil
cdef int compaction_order(mm_t *mm, int order, const request_t *rq, uint32_t flags) noexcept nogil
cdef void compact_node(mm_t *mm, int cpu, int nid, bint proactive) noexcept nogil
cdef void kcompactd_do_work(mm_t *mm, int cpu, int nid, int order, int zone_idx) noexcept nogil
cdef void watch_log(compact_log_t *log, size_t row) noexcept nogil
