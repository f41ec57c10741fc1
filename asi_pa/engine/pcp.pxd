# Per-CPU page lists (struct per_cpu_pages): the hits are inline, refills and bulk frees in engine/pcp.pyx.
from libc.stdint cimport int64_t, uint8_t, uint32_t

from asi_pa._core cimport (
    ALLOC_HIGHATOMIC,
    NIL,
    PCP,
    likely,
    pcp_t,
    pcplist_t,
    request_t,
    zone_t,
)

cdef enum:
    NO_PCP_LIST = 255
    PCP_MAX_LOW_ORDER = 3       # PAGE_ALLOC_COSTLY_ORDER
    PCPF_PREV_FREE_HIGH_ORDER = 1
    PCPF_FREE_HIGH_BATCH = 2


cdef inline int64_t pcp_flags(const pcp_t *pcp) noexcept nogil:
    # per_cpu_pages.flags, which a free of order 0 need not touch here
    return (PCPF_PREV_FREE_HIGH_ORDER if 0 < pcp.freed_order <= PCP_MAX_LOW_ORDER else 0) | (
        PCPF_FREE_HIGH_BATCH if pcp.free_high_batch else 0)


cdef inline void pcp_set_flags(pcp_t *pcp, int64_t flags) noexcept nogil:
    pcp.freed_order = 1 if flags & PCPF_PREV_FREE_HIGH_ORDER else 0
    pcp.free_high_batch = flags & PCPF_FREE_HIGH_BATCH


# The head has no back link and an empty list no tail: a page comes and goes at the head without either.

cdef inline void pcp_push(zone_t *z, pcplist_t *fl, uint32_t frame, int order) noexcept nogil:
    cdef uint32_t head = fl.head
    z.state[frame] = <uint8_t>(PCP | order)
    z.links[frame].next = head
    if head != NIL:
        z.links[head].prev = frame
    else:
        fl.tail = frame
    fl.head = frame


cdef inline void pcp_append(zone_t *z, pcplist_t *fl, uint32_t frame, int order) noexcept nogil:
    z.state[frame] = <uint8_t>(PCP | order)
    z.links[frame].next = NIL
    if fl.head == NIL:
        fl.head = frame
    else:
        z.links[frame].prev = fl.tail
        z.links[fl.tail].next = frame
    fl.tail = frame


cdef inline uint32_t pcp_pop(zone_t *z, pcplist_t *fl) noexcept nogil:
    cdef uint32_t frame = fl.head
    fl.head = z.links[frame].next
    return frame


cdef inline uint32_t pcp_pop_tail(zone_t *z, pcplist_t *fl) noexcept nogil:
    cdef uint32_t frame = fl.tail
    if frame == fl.head:
        fl.head = NIL
    else:
        fl.tail = z.links[frame].prev
        z.links[fl.tail].next = NIL
    return frame


cdef inline void pcp_unlink(zone_t *z, pcplist_t *fl, uint32_t frame) noexcept nogil:
    # Any page of the list.
    if frame == fl.head:
        fl.head = z.links[frame].next
    elif frame == fl.tail:
        pcp_pop_tail(z, fl)
    else:
        z.links[z.links[frame].prev].next = z.links[frame].next
        z.links[z.links[frame].next].prev = z.links[frame].prev


cdef inline uint32_t pcp_take(zone_t *z, pcp_t *pcp, pcplist_t *fl, int64_t pages) noexcept nogil:
    # __rmqueue_pcplist() of a list that is not empty
    pcp.free_count >>= 1
    pcp.count -= pages
    return pcp_pop(z, fl)


cdef inline void pcp_put(zone_t *z, pcp_t *pcp, int number, uint32_t frame, int order,
                         int64_t pages) noexcept nogil:
    # free_frozen_page_commit(): push at the head, then see whether the lists hold too much.
    cdef int64_t count = pcp.count + pages
    pcp.alloc_factor >>= 1
    pcp_push(z, &pcp.lists[number], frame, order)
    pcp.count = count
    if likely((count < pcp.quiet) & ((order == 0) | (pcp.free_count < pcp.free_high_least)), 1):
        # pcp_freed() where it neither moves `high` nor gives pages back
        pcp.freed_order = order
        if pcp.free_count < pcp.free_count_max:
            pcp.free_count += pages
    else:
        pcp_freed(z, pcp, order, number)


cdef uint32_t rmqueue_pcplist(zone_t *z, int cpu, int order, const request_t *rq,
                              uint32_t flags) noexcept nogil
cdef void pcp_refill(zone_t *z, pcp_t *pcp, int order, int ft, int index,
                     uint32_t flags) noexcept nogil
cdef int64_t nr_pcp_alloc(zone_t *z, pcp_t *pcp, int order) noexcept nogil
cdef int64_t pcp_excess(zone_t *z, pcp_t *pcp, int order) noexcept nogil
cdef bint pcp_lower_high(zone_t *z, pcp_t *pcp) noexcept nogil
cdef void pcp_freed(zone_t *z, pcp_t *pcp, int order, int index) noexcept nogil
cdef void free_pcppages_bulk(zone_t *z, pcp_t *pcp, int64_t count, int index) noexcept nogil
cdef void pcp_drain(zone_t *z, pcp_t *pcp) noexcept nogil
cdef bint pcp_decay(zone_t *z, pcp_t *pcp) noexcept nogil
cdef bint refresh_cpu_vm_stats(zone_t *z, int cpu) noexcept nogil
