"""Kinds of operations, for the hits in ``run/hits.pxd``."""

from asi_pa._core cimport ALLOC, NIL, list_of

cdef uint32_t ALL_ORDERS = 0xFFFFFFFF


cdef bint may_hit(const mm_t *mm) noexcept nogil:
    # Most machines: one zone, and no design, worker or shortage stands between an operation and its lists.
    return mm.nzones == 1 and mm.wrapper == NULL and mm.slots == NULL and not mm.design.looks_ahead


cdef void learn_alloc(kind_t *k, mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil:
    # Everything but the key.
    cdef zone_t *z = mm.zones[0]
    k.does = NO_HIT
    if not may_hit(mm) or z.zone_idx > rq.zone_idx:
        return
    if order > 0 and rq.fast_large:
        return          # looks in the HIGHATOMIC reserve first
    k.does = BUDDY_ALLOC
    k.order = <uint8_t>order
    k.state = <uint8_t>(ALLOC | order)
    k.pages = <uint16_t>(1 << order)
    k.above = order > 0
    k.ft = rq.ft
    k.free_list = list_of(z, order, rq.ft)
    k.diff = &z.diffs[cpu]
    k.owned.next = rq.info
    k.owned.prev = NIL
    if z.pcps != NULL and rq.pcp_list[order] != NO_PCP_LIST:
        k.does = PCP_ALLOC
        k.seen = &z.nonempty[rq.ft] if order > 0 else &ALL_ORDERS
        k.pcp = &z.pcps[cpu]
        k.list = &k.pcp.lists[rq.pcp_list[order]]


cdef void learn_free(kind_t *k, mm_t *mm, int cpu, int order) noexcept nogil:
    cdef zone_t *z = mm.zones[0]
    k.does = NO_HIT
    if not may_hit(mm):
        return
    k.does = BUDDY_FREE
    k.order = <uint8_t>order
    k.state = <uint8_t>(ALLOC | order)
    k.pages = <uint16_t>(1 << order)
    k.above = order > 0
    k.diff = &z.diffs[cpu]
    if z.pcps != NULL:
        k.does = PCP_FREE
        k.pcp = &z.pcps[cpu]
        k.list_of = mm.design.pcp_free[order]
