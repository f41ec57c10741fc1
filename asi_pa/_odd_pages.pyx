# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Odd pages: those whose mapping differs from all other memory's, in designs that map page by page.

In the restricted tree they are the nonsensitive ones (present there), in the unrestricted tree the sensitive
unmovable ones (absent there).
"""

from asi_pa._page_alloc cimport count_dirty, set_dirty
from asi_pa._physmap cimport FLUSH_NONE, physmap_map, physmap_present, physmap_unmap


cdef void set_pages(mm_t *mm, uint64_t pfn, uint64_t n, bint present, int cause) noexcept nogil:
    # Page by page, as set_direct_map_*_noflush() is called; whoever unmaps flushes.
    cdef uint64_t i
    for i in range(n):
        if present:
            physmap_map(mm.physmap, mm.design.tree, pfn + i, 1, cause)
        else:
            physmap_unmap(mm.physmap, mm.design.tree, pfn + i, 1, cause, FLUSH_NONE)


cdef void clear_pages(mm_t *mm, zone_t *z, uint32_t frame, int order) noexcept nogil:
    mm.stats.pages_zeroed += 1u << order
    set_dirty(z, frame, 1u << order, False)


cdef int64_t handed_out(mm_t *mm, zone_t *z, int64_t pfn, int order, const request_t *rq) noexcept nogil:
    # The audit of every allocation: mapped as it should be, and no old secrets in what is mapped.
    cdef uint32_t frame = <uint32_t>(<uint64_t>pfn - z.base_pfn), i, n = 1u << order
    cdef bint odd = is_odd(mm, rq.info), present = odd == odd_present(mm)
    for i in range(n):
        if physmap_present(mm.physmap, mm.design.tree, <uint64_t>pfn + i) != present:
            mm.stats.exposures += 1
            break
    if not present:
        set_dirty(z, frame, n, True)
    elif rq.sensitive and mm.design.tree == RESTRICTED:
        set_dirty(z, frame, n, True)
    else:
        mm.stats.stale_exposed += count_dirty(z, frame, n)
    return pfn
