# Per-CPU page lists (struct per_cpu_pages): the hits are inline, refills and bulk frees in _pcp.pyx.
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


cdef inline uint32_t pcp_hit(zone_t *z, int cpu, int order, const request_t *rq) noexcept nogil:
    # __rmqueue_pcplist() of an order that has a list; NIL, and nothing changed, where that is empty
    cdef pcp_t *pcp = &z.pcps[cpu]
    cdef int index = rq.pcp_list[order]
    if pcp.lists[index].head == NIL:
        return NIL
    pcp.free_count >>= 1
    pcp.count -= <int64_t>1 << order
    return pcp_pop(z, &pcp.lists[index])


cdef inline bint pcp_put(zone_t *z, int cpu, uint32_t frame, int order, int ft) noexcept nogil:
    # free_frozen_page_commit(): push at the head, then see whether the lists hold too much.  False: no list.
    cdef pcp_t *pcp = &z.pcps[cpu]
    cdef int index = z.design.pcp_free[order][ft]
    if index == NO_PCP_LIST:
        return False
    pcp.alloc_factor >>= 1
    pcp_push(z, &pcp.lists[index], frame, order)
    pcp.count += <int64_t>1 << order
    if likely(pcp.count < pcp.quiet and (order == 0 or pcp.free_count < pcp.batch), 1):
        # pcp_freed() where it neither moves `high` nor gives pages back
        pcp.freed_order = order
        if pcp.free_count < pcp.free_count_max:
            pcp.free_count += <int64_t>1 << order
    else:
        z.diff = &z.diffs[cpu]
        pcp_freed(z, pcp, order, index)
    return True


cdef uint32_t rmqueue_pcplist(zone_t *z, int cpu, int order, const request_t *rq,
                              uint32_t flags) noexcept nogil
cdef void pcp_refill(zone_t *z, pcp_t *pcp, int order, int ft, int index,
                     uint32_t flags) noexcept nogil
cdef void pcp_freed(zone_t *z, pcp_t *pcp, int order, int index) noexcept nogil
cdef void free_pcppages_bulk(zone_t *z, pcp_t *pcp, int64_t count, int index) noexcept nogil
cdef void pcp_drain(zone_t *z, pcp_t *pcp) noexcept nogil
cdef bint pcp_decay(zone_t *z, pcp_t *pcp) noexcept nogil
