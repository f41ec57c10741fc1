# Whether a run begins at all, and what is kept of failures.
from libc.stdint cimport int64_t

from asi_pa.engine.compact_control cimport compact_control_t
from asi_pa.engine.page_alloc cimport mm_t
from asi_pa._core cimport zone_t

cdef int compaction_suit_allocation_order(compact_control_t *cc, zone_t *z) noexcept nogil
cdef bint room_to_compact(zone_t *z, int order, int64_t mark, int zone_idx, int64_t more) noexcept nogil
cdef int64_t free_for_compaction(const compact_control_t *cc, zone_t *z) noexcept nogil
cdef int fragmentation_score(zone_t *z) noexcept nogil
cdef bint compaction_deferred(mm_t *mm, zone_t *z, int order) noexcept nogil
cdef void defer_compaction(mm_t *mm, zone_t *z, int order) noexcept nogil
cdef void compaction_defer_reset(mm_t *mm, zone_t *z, int order, bint alloc_success) noexcept nogil
cdef bint compaction_restarting(zone_t *z, int order) noexcept nogil
cdef void reset_isolation_suitable(zone_t *z) noexcept nogil
cdef bint pageblock_skip_persistent(zone_t *z, int64_t frame) noexcept nogil
