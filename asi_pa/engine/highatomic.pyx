"""HIGHATOMIC: pageblocks reserved for high-order atomic requests (mm/page_alloc.c, Linux 7.2)."""

from libc.stdint cimport int64_t, uint32_t

from asi_pa._core cimport (
    CTX_RESERVE,
    CTX_UNRESERVE,
    MIGRATE_RECLAIMABLE,
    NO_FREETYPE,
    account_freepages,
    block_in_zone,
    block_of,
    blocks_on,
    design_t,
    first_of,
    list_add_tail,
    list_del,
    move_freepages,
    set_block_type,
    zone_t,
)


cdef void reserve_highatomic(zone_t *z, uint32_t frame, int order, int ft) noexcept nogil:
    # reserve_highatomic_pageblock(): at most 1 % of the zone, a pageblock at a time.
    cdef design_t *d = z.design
    cdef int64_t limit = z.managed // 100
    cdef int64_t pages = z.pageblock_pages
    cdef uint32_t block = block_of(z, frame), b
    cdef int old = z.pbtype[block]
    cdef int ha = d.highatomic[ft]
    if limit < pages or ha == NO_FREETYPE:
        return
    limit = (limit + pages - 1) // pages * pages
    if z.nr_reserved_highatomic >= limit or d.mt[old] > MIGRATE_RECLAIMABLE:
        return
    if d.explicit_maps and d.mapped[old] != d.mapped[ha]:
        return
    if order < z.pageblock_order:
        if not block_in_zone(z, block):
            return
        move_freepages(z, block, old, ha)
        set_block_type(z, block, ha, CTX_RESERVE)
        z.nr_reserved_highatomic += pages
    else:
        for b in range(block, block_of(z, frame + (1u << order))):
            set_block_type(z, b, ha, CTX_RESERVE)
        z.nr_reserved_highatomic += <int64_t>1 << order
    z.stats.reserves += 1


cdef bint unreserve_highatomic(zone_t *z, int ft, bint force) noexcept nogil:
    # unreserve_highatomic_pageblock(): the first free block found gives its pageblock back.
    cdef design_t *d = z.design
    cdef int64_t pages = z.pageblock_pages, size
    cdef int ha = d.highatomic[ft], order
    cdef uint32_t frame, block, b, moved
    if ha == NO_FREETYPE or (not force and z.nr_reserved_highatomic <= pages):
        return False
    for order in range(z.max_order + 1):
        if not blocks_on(z, order, ha):
            continue
        frame = first_of(z, order, ha)
        block = block_of(z, frame)
        size = <int64_t>1 << order
        if size < pages:
            size = pages
        if size > z.nr_reserved_highatomic:
            size = z.nr_reserved_highatomic
        z.nr_reserved_highatomic -= size
        if order < z.pageblock_order:
            if not block_in_zone(z, block):
                continue
            moved = move_freepages(z, block, ha, ft)
            set_block_type(z, block, ft, CTX_UNRESERVE)
        else:
            moved = 1u << order
            list_del(z, frame, order, ha)
            list_add_tail(z, frame, order, ft)
            account_freepages(z, ha, -<int64_t>moved)
            account_freepages(z, ft, moved)
            for b in range(block, block_of(z, frame + moved)):
                set_block_type(z, b, ft, CTX_UNRESERVE)
        if moved > 0:
            z.stats.unreserves += 1
            return True
    return False
