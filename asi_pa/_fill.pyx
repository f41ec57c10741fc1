# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Free pages of an initial state: onto the buddy's and the per-CPU lists, each at the tail of its list."""

from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memset

from asi_pa._core cimport (
    TAIL,
    account_freepages,
    block_of,
    list_add_tail,
    pcp_t,
    zone_t,
)
from asi_pa._pcp cimport NO_PCP_LIST, pcp_append


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
