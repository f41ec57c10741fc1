# Per-CPU page lists (struct per_cpu_pages): the hits are inline, refills and bulk frees in _pcp.pyx.
from libc.stdint cimport int64_t, uint8_t, uint32_t

from asi_pa._core cimport (
    ALLOC_HIGHATOMIC,
    NIL,
    PCP,
    pcp_t,
    pcplist_t,
    zone_t,
)

cdef enum:
    PCPF_PREV_FREE_HIGH_ORDER = 1
    PCPF_FREE_HIGH_BATCH = 2
    NO_PCP_LIST = 255
    PCP_MAX_LOW_ORDER = 3       # PAGE_ALLOC_COSTLY_ORDER


cdef inline void pcp_push(zone_t *z, pcplist_t *fl, uint32_t frame, int order) noexcept nogil:
    cdef uint32_t head = fl.head
    z.state[frame] = <uint8_t>(PCP | order)
    z.links[frame].next = head
    z.links[frame].prev = NIL
    if head != NIL:
        z.links[head].prev = frame
    else:
        fl.tail = frame
    fl.head = frame


cdef inline void pcp_append(zone_t *z, pcplist_t *fl, uint32_t frame, int order) noexcept nogil:
    cdef uint32_t tail = fl.tail
    z.state[frame] = <uint8_t>(PCP | order)
    z.links[frame].next = NIL
    z.links[frame].prev = tail
    if tail != NIL:
        z.links[tail].next = frame
    else:
        fl.head = frame
    fl.tail = frame


cdef inline uint32_t pcp_pop(zone_t *z, pcplist_t *fl) noexcept nogil:
    cdef uint32_t frame = fl.head
    cdef uint32_t nxt = z.links[frame].next
    fl.head = nxt
    if nxt != NIL:
        z.links[nxt].prev = NIL
    else:
        fl.tail = NIL
    return frame


cdef inline uint32_t pcp_pop_tail(zone_t *z, pcplist_t *fl) noexcept nogil:
    cdef uint32_t frame = fl.tail
    cdef uint32_t prv = z.links[frame].prev
    fl.tail = prv
    if prv != NIL:
        z.links[prv].next = NIL
    else:
        fl.head = NIL
    return frame


cdef inline uint32_t rmqueue_pcplist(zone_t *z, pcp_t *pcp, int order, int ft, int index,
                                     uint32_t flags) noexcept nogil:
    # rmqueue_pcplist() / __rmqueue_pcplist()
    cdef pcplist_t *fl = &pcp.lists[index]
    pcp.free_count >>= 1
    if fl.head == NIL:
        pcp_refill(z, pcp, order, ft, index, flags)
        if fl.head == NIL:
            return NIL
    pcp.count -= <int64_t>1 << order
    return pcp_pop(z, fl)


cdef inline void free_to_pcp(zone_t *z, pcp_t *pcp, uint32_t frame, int order,
                             int index) noexcept nogil:
    # free_frozen_page_commit(): push at the head, then see whether the lists hold too much.
    pcp.alloc_factor >>= 1
    pcp_push(z, &pcp.lists[index], frame, order)
    pcp.count += <int64_t>1 << order
    pcp_freed(z, pcp, order, index)


cdef void pcp_refill(zone_t *z, pcp_t *pcp, int order, int ft, int index,
                     uint32_t flags) noexcept nogil
cdef void pcp_freed(zone_t *z, pcp_t *pcp, int order, int index) noexcept nogil
cdef void free_pcppages_bulk(zone_t *z, pcp_t *pcp, int64_t count, int index) noexcept nogil
cdef void pcp_drain(zone_t *z, pcp_t *pcp) noexcept nogil
cdef bint pcp_decay(zone_t *z, pcp_t *pcp) noexcept nogil
