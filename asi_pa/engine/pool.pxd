# Design "pool": remapped pages have free lists of their own.
from libc.stdint cimport int64_t, uint32_t

from asi_pa._core cimport block_of, request_t, zone_t
from asi_pa.engine.remapped cimport remapped_present
from asi_pa.engine.page_alloc cimport mm_t
from asi_pa.physmap.physmap cimport physmap_present


cdef inline bint pool_owns(mm_t *mm, zone_t *z, uint32_t frame) noexcept nogil:
    # Does a freed page go to the pool?  The posting asks the pageblock's mark, whoever owned the page.
    if mm.design.pool_by_mark:
        return z.pbpool[block_of(z, frame)]
    return physmap_present(mm.physmap, mm.design.tree, z.base_pfn + frame) == remapped_present(mm)


cdef inline bint is_of(const zone_t *z, int node) noexcept nogil:
    # node -1: whichever
    return node < 0 or z.nid == node


cdef int64_t pool_alloc(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil
cdef int64_t marked_pool_alloc(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil
cdef bint pool_keep(mm_t *mm, zone_t *z, uint32_t frame, int order) noexcept nogil
cdef bint marked_pool_keep(mm_t *mm, zone_t *z, uint32_t frame, int order) noexcept nogil
cdef int64_t pool_shrink(mm_t *mm, int cpu, int64_t pages) noexcept nogil
cdef int64_t pool_pages(mm_t *mm, int node) noexcept nogil
cdef void pool_balance(mm_t *mm, int due) noexcept nogil
