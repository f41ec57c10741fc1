# Per-CPU page lists (struct per_cpu_pages): the hits are inline, refills and bulk frees in engine/pcp.pyx.
from libc.stdint cimport int64_t, uint8_t, uint32_t

from asi_pa._core cimport (
    ALLOC_HIGHATOMIC,
    MAX_PCP_LISTS,
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
    PCP_ROOM = 32               # pages of a list's first array
    PCP_AHEAD = 8               # pages that a bulk free looks ahead
    PCP_MAX_LOW_ORDER = 3       # PAGE_ALLOC_COSTLY_ORDER
    EXPIRE_TICKS = 3            # refresh_cpu_vm_stats(): "3 seconds idle till flush"
    PCPF_PREV_FREE_HIGH_ORDER = 1
    PCPF_FREE_HIGH_BATCH = 2


cdef inline size_t pcp_numbers() noexcept nogil:
    # bytes of a pcp_t before its lists
    return sizeof(pcp_t) - MAX_PCP_LISTS * sizeof(pcplist_t)


cdef inline int64_t pcp_flags(const pcp_t *pcp) noexcept nogil:
    # per_cpu_pages.flags, which a free of order 0 need not touch here
    return (PCPF_PREV_FREE_HIGH_ORDER if 0 < pcp.freed_order <= PCP_MAX_LOW_ORDER else 0) | (
        PCPF_FREE_HIGH_BATCH if pcp.free_high_batch else 0)


cdef inline void pcp_set_flags(pcp_t *pcp, int64_t flags) noexcept nogil:
    pcp.freed_order = 1 if flags & PCPF_PREV_FREE_HIGH_ORDER else 0
    pcp.free_high_batch = flags & PCPF_FREE_HIGH_BATCH


# A list is an array: a free adds its page behind the others, an allocation takes the last one, a bulk free
# takes from the front, and knows what comes next.  A refill, which finds its list empty, writes towards the
# front.

cdef inline bint pcp_empty(const pcplist_t *fl) noexcept nogil:
    return fl.head == fl.tail


cdef inline uint32_t pcp_first(const pcplist_t *fl) noexcept nogil:
    # The page at the head, NIL where there is none.
    return NIL if fl.head == fl.tail else (fl.head - 1)[0]


cdef inline void pcp_push(zone_t *z, pcplist_t *fl, uint32_t frame, int order) noexcept nogil:
    cdef uint32_t *head = fl.head
    if not likely(head != fl.end, 1):
        head = pcp_make_room(z, fl, True)
    z.state[frame] = <uint8_t>(PCP | order)
    head[0] = frame
    fl.head = head + 1


cdef inline void pcp_append(zone_t *z, pcplist_t *fl, uint32_t frame, int order) noexcept nogil:
    if not likely(fl.tail != fl.room, 1):
        pcp_make_room(z, fl, False)
    z.state[frame] = <uint8_t>(PCP | order)
    fl.tail -= 1
    fl.tail[0] = frame


cdef inline uint32_t pcp_pop(pcplist_t *fl) noexcept nogil:
    fl.head -= 1
    return fl.head[0]


cdef inline uint32_t pcp_take(pcp_t *pcp, pcplist_t *fl, int64_t pages) noexcept nogil:
    # __rmqueue_pcplist() of a list that is not empty
    pcp.free_count >>= 1
    pcp.count -= pages
    return pcp_pop(fl)


cdef inline void pcp_put(zone_t *z, pcp_t *pcp, pcplist_t *fl, uint32_t frame, int order, int64_t pages,
                         int64_t below) noexcept nogil:
    # free_frozen_page_commit(): push at the head, then see whether the lists hold too much.  `below` is
    # free_count_below's of the order.
    cdef int64_t count, freed = pcp.free_count
    if pcp.alloc_factor:
        pcp.alloc_factor >>= 1      # most often it is 0, and a store is saved
    pcp_push(z, fl, frame, order)
    count = pcp.count + pages
    pcp.count = count
    if likely(count < pcp.quiet and (freed < below or order == 0 or freed < pcp.free_high_least), 1):
        # pcp_freed() where it neither moves `high` nor gives pages back
        pcp.freed_order = order
        if freed < below:
            pcp.free_count = freed + pages
    else:
        pcp_freed(z, pcp, order, <int>(fl - pcp.lists))


cdef bint pcplist_init(pcplist_t *fl, size_t pages) noexcept nogil
cdef bint pcplist_reserve(pcplist_t *fl, size_t pages) noexcept nogil
cdef bint pcplist_copy(pcplist_t *to, const pcplist_t *source) noexcept nogil
cdef uint32_t *pcp_make_room(zone_t *z, pcplist_t *fl, bint at_head) noexcept nogil
cdef void pcp_unlink(pcplist_t *fl, uint32_t frame) noexcept nogil
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
cdef bint refresh_cpu_vm_stats(zone_t *z, int cpu, bint remote) noexcept nogil
