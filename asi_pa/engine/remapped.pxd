# What the designs that change mappings page by page have in common.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from asi_pa._core cimport INFO_MT, INFO_SENSITIVE, MIGRATE_UNMOVABLE, request_t, zone_t
from asi_pa.engine.page_alloc cimport mm_t
from asi_pa.physmap.physmap cimport RESTRICTED


cdef inline bint remapped_present(mm_t *mm) noexcept nogil:
    # Remapped pages are the present ones of the restricted tree, the absent ones of the unrestricted.
    return mm.design.tree == RESTRICTED


cdef inline bint is_remapped(mm_t *mm, uint32_t info) noexcept nogil:
    if mm.design.tree == RESTRICTED:
        return not info & INFO_SENSITIVE
    return info & INFO_SENSITIVE and (info & INFO_MT) == MIGRATE_UNMOVABLE


cdef inline bint wanted_present(mm_t *mm, uint32_t info) noexcept nogil:
    # Must an allocated page be present in the tree that the design changes?
    return is_remapped(mm, info) == remapped_present(mm)


cdef uint32_t count_present(mm_t *mm, zone_t *z, uint32_t frame, uint32_t n) noexcept nogil
cdef void set_pages(mm_t *mm, uint64_t pfn, uint64_t n, bint present, int cause) noexcept nogil
cdef void map_chunk(mm_t *mm, zone_t *z, uint32_t frame, uint32_t n, bint present, bint at_once, int ctx,
                    int order, int request) noexcept nogil
cdef void audit_mapping(mm_t *mm, zone_t *z, uint32_t frame, uint32_t n, bint present) noexcept nogil
cdef void given_back(mm_t *mm, zone_t *z, uint32_t frame, int order) noexcept nogil
cdef void clear_pages(mm_t *mm, zone_t *z, uint32_t frame, int order) noexcept nogil
cdef int64_t remap_for(mm_t *mm, int64_t pfn, int order, const request_t *rq) noexcept nogil
cdef int64_t handed_out(mm_t *mm, zone_t *z, int64_t pfn, int order, const request_t *rq) noexcept nogil
