"""Per-page mapping: set_direct_map_invalid_noflush() and a flush for every page, as secretmem does today.

mm/secretmem.c, 7.2.
"""

from asi_pa.engine.page_alloc cimport mm_alloc
from asi_pa.engine.remapped cimport clear_pages, is_remapped, remap_for, remapped_present, set_pages
from asi_pa.physmap.physmap cimport CAUSE_PAGE_FREE, FLUSH_RANGE, physmap_unmap


cdef int64_t per_page_alloc(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil:
    return remap_for(mm, mm_alloc(mm, cpu, order, rq), order, rq)


cdef bint per_page_keep(mm_t *mm, zone_t *z, uint32_t frame, int order) noexcept nogil:
    if is_remapped(mm, z.links[frame].next):
        if remapped_present(mm):
            # the caller frees and so waits for the flush itself
            physmap_unmap(mm.physmap, mm.design.tree, z.base_pfn + frame, 1u << order, CAUSE_PAGE_FREE,
                          FLUSH_RANGE)
            mm.stats.flush_frees += 1
        else:
            # secretmem_free_folio(): mapped again, then cleared by its owner
            set_pages(mm, z.base_pfn + frame, 1u << order, True, CAUSE_PAGE_FREE)
            clear_pages(mm, z, frame, order)
    return False
