"""Free pages of an initial state: onto the buddy's and the per-CPU lists, each at the tail of its list."""

from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy, memset

from asi_pa._core cimport (
    TAIL,
    account_freepages,
    block_of,
    link_t,
    list_add_tail,
    list_of,
    pcp_t,
    pcp_set_quiet,
    set_plenty,
    vmdiff_t,
    zone_t,
)
from asi_pa.engine.pcp cimport NO_PCP_LIST, pcp_append, pcp_numbers, pcplist_copy


cdef void fill_free(zone_t *z, uint32_t frame, int order) noexcept nogil:
    # A block whose pageblocks are of unlike freetypes goes in as pageblocks.
    cdef uint32_t end = frame + (1u << order), at
    cdef int ft = z.pbtype[block_of(z, frame)]
    cdef bint split = False
    memset(&z.state[frame], TAIL, 1u << order)
    at = frame
    while at < end:
        split = split or z.pbtype[block_of(z, at)] != ft
        at += z.pageblock_pages
    if split:
        order = z.pageblock_order
    while frame < end:
        ft = z.pbtype[block_of(z, frame)]
        account_freepages(z, ft, <int64_t>1 << order)
        list_add_tail(z, frame, order, ft)
        frame += 1u << order


cdef int list_for(const zone_t *z, uint32_t frame, int order, int mt) noexcept nogil:
    # The list of a migratetype whose promise the page's block keeps; else the one of the block's own type.
    cdef int ft, side, own = z.pbtype[block_of(z, frame)]
    for side in range(2):
        ft = z.design.start[mt][side]
        if z.design.mapped[ft] == z.design.mapped[own] and z.design.sensitive[ft] == z.design.sensitive[own]:
            return z.design.pcp_free[order][ft]
    return z.design.pcp_free[order][own]


cdef bint fill_pcp(zone_t *z, int cpu, uint32_t frame, int order, int mt) noexcept nogil:
    # False, and nothing done, where a machine of this design keeps no such list.
    cdef int number
    cdef pcp_t *pcp
    if z.pcps == NULL or cpu >= z.ncpus:
        return False
    number = list_for(z, frame, order, mt)
    if number == NO_PCP_LIST:
        return False
    pcp = &z.pcps[cpu]
    memset(&z.state[frame], TAIL, 1u << order)
    pcp_append(z, &pcp.lists[number], frame, order)
    pcp.count += <int64_t>1 << order
    return True


cdef int zone_arrays(zone_t *z, array_t *arrays) noexcept nogil:
    # The arrays but for the per-CPU lists; how many they are.
    cdef int n = 0
    if z.dirty != NULL:
        n = add_array(arrays, n, <void **>&z.dirty, (z.nframes + 7) >> 3, 8)
    n = add_array(arrays, n, <void **>&z.state, z.heads, 8)
    n = add_array(arrays, n, <void **>&z.pbtype, z.nblocks, 1)
    n = add_array(arrays, n, <void **>&z.pbbase, z.nblocks, 1)
    n = add_array(arrays, n, <void **>&z.pbmapped, z.nblocks, 1)
    n = add_array(arrays, n, <void **>&z.pbpool, z.nblocks, 1)
    if z.listed != NULL:
        n = add_array(arrays, n, <void **>&z.listed, z.nframes, 1)
    # last, behind the frames' links, the heads of the lists
    return add_array(arrays, n, <void **>&z.links, list_of(z, z.max_order + 1, 0) * sizeof(link_t), 8)


cdef int add_array(array_t *arrays, int n, void **place, size_t bytes, size_t aligned) noexcept nogil:
    arrays[n].place = place
    arrays[n].bytes = bytes
    arrays[n].aligned = aligned
    return n + 1


cdef int copy_zone(zone_t *to, zone_t *source) except -1:
    """One zone's state into another of the same machine and design: frames, lists, counters, limits."""
    cdef array_t ours[ZONE_ARRAYS]
    cdef array_t theirs[ZONE_ARRAYS]
    cdef int i, k
    if (to.nframes != source.nframes or to.base_pfn != source.base_pfn or to.heads != source.heads
            or to.ncpus != source.ncpus or (to.pcps == NULL) != (source.pcps == NULL)):
        raise ValueError("two zones of different shape")
    zone_arrays(to, ours)
    for i in range(zone_arrays(source, theirs)):
        memcpy(ours[i].place[0], theirs[i].place[0], theirs[i].bytes)
    memcpy(to.diffs, source.diffs, source.ncpus * sizeof(vmdiff_t))
    memcpy(to.nonempty, source.nonempty, sizeof(source.nonempty))
    to.nr_free = source.nr_free
    to.nr_free_cma = source.nr_free_cma
    to.nr_free_highatomic = source.nr_free_highatomic
    to.nr_reserved_highatomic = source.nr_reserved_highatomic
    to.nr_isolate_blocks = source.nr_isolate_blocks
    to.boost = source.boost
    to.below_high = source.below_high
    set_plenty(to)
    if to.pcps != NULL:
        for i in range(to.ncpus):
            memcpy(&to.pcps[i], &source.pcps[i], pcp_numbers())
            for k in range(to.design.npcp):
                if not pcplist_copy(&to.pcps[i].lists[k], &source.pcps[i].lists[k]):
                    raise MemoryError("no memory for per-CPU lists")
            pcp_set_quiet(to, &to.pcps[i])
    return 0
