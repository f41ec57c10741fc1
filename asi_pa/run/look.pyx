"""What a request is to the allocator and what each zone's watermark says of it, by the engine's own rules.

Nothing runs and nothing changes: for explaining an operation (``asi_pa.experiment.explain``).
"""

from libc.stdint cimport int64_t, uint32_t

from asi_pa._core cimport (
    ALLOC_CMA,
    ALLOC_FLIP,
    ALLOC_HIGHATOMIC,
    ALLOC_KSWAPD,
    ALLOC_MIN_RESERVE,
    ALLOC_NOFRAGMENT,
    ALLOC_NON_BLOCK,
    WMARK_MASK,
    WMARK_MIN,
    request_t,
    zone_t,
    zone_unusable_free,
    zone_watermark_fast,
)
from asi_pa.engine.machine cimport Machine
from asi_pa.engine.page_alloc cimport decode_request_on, mm_t
from asi_pa.engine.pcp cimport NO_PCP_LIST

cdef enum:
    THISNODE = 0x200000         # __GFP_THISNODE

_FLAGS = {
    "NON_BLOCK": ALLOC_NON_BLOCK,
    "MIN_RESERVE": ALLOC_MIN_RESERVE,
    "CMA": ALLOC_CMA,
    "NOFRAGMENT": ALLOC_NOFRAGMENT,
    "HIGHATOMIC": ALLOC_HIGHATOMIC,
    "KSWAPD": ALLOC_KSWAPD,
    "FLIP": ALLOC_FLIP,
}


cdef int decode(Machine machine, int cpu, uint32_t gfp, int order, request_t *rq) except -1:
    machine._made("a look")
    machine._check_cpu(cpu)
    machine._check_order(order)
    decode_request_on(&machine.mm, machine.mm.cpu_node[cpu], gfp, rq)
    return 0


cdef uint32_t flags_of(const request_t *rq, int order, bint slow) noexcept nogil:
    # those of the fast path, or the slow path's first
    cdef uint32_t flags = rq.slow_flags if slow else rq.fast_flags
    if slow and order > 0 and not rq.block and not rq.nomemalloc and rq.high:
        flags |= ALLOC_HIGHATOMIC
    return flags


def request(Machine machine not None, int order, uint32_t gfp, int cpu=0):
    """What a request of this order and mask is, from this CPU.

    A dict: ``freetype`` (where it looks first), ``sensitive``, ``may_block``, ``zones`` (numbers of those
    that it may use, in order), ``pcp_list`` (None: no per-CPU list of this order), ``fast_flags`` and
    ``slow_flags`` (names of ALLOC_ flags).  Raises ValueError for an order or CPU that the machine has not.
    """
    cdef request_t rq
    cdef mm_t *mm = &machine.mm
    cdef int i, k, node, last
    decode(machine, cpu, gfp, order, &rq)
    node = mm.cpu_node[cpu]
    last = mm.nlocal[node] if gfp & THISNODE else mm.nzonelist[node]
    zones = []
    for i in range(last):
        for k in range(mm.nzones):
            if mm.zones[k] == mm.zonelist[node][i] and mm.zones[k].zone_idx <= rq.zone_idx:
                zones.append(k)
    return {
        "freetype": rq.ft,
        "sensitive": bool(rq.sensitive),
        "may_block": bool(rq.block),
        "zones": zones,
        "pcp_list": None if rq.pcp_list[order] == NO_PCP_LIST else rq.pcp_list[order],
        "fast_flags": [name for name, bit in _FLAGS.items() if flags_of(&rq, order, False) & bit],
        "slow_flags": [name for name, bit in _FLAGS.items() if flags_of(&rq, order, True) & bit],
    }


def watermark(Machine machine not None, int zone, int order, uint32_t gfp, int cpu=0, bint slow=False):
    """What a zone's watermark says of a request now: on the fast path, or on the slow path's first attempt.

    A dict in pages: ``free`` (the counter), ``unusable`` (of it: the order's own, reserves and CMA that it
    may not use), ``mark`` (its name is ``which``), ``boost``, ``least`` (mark and boost after what the
    request may go below), ``reserve`` (lowmem_reserve), ``enough`` (free - unusable > least + reserve), and
    ``passes``, the engine's own answer: enough, and a block of the order in reach.  Sources: mm/page_alloc.c
    __zone_watermark_ok(), zone_watermark_fast().
    """
    cdef request_t rq
    cdef zone_t *z = machine._zone(zone)
    cdef uint32_t flags
    cdef int64_t free, unusable, mark, least
    decode(machine, cpu, gfp, order, &rq)
    flags = flags_of(&rq, order, slow)
    free = max(z.nr_free, 0)
    unusable = zone_unusable_free(z, order, flags)
    mark = z.wmark[flags & WMARK_MASK]
    least = mark + z.boost
    if flags & ALLOC_MIN_RESERVE:
        least -= least // 2
        if flags & ALLOC_NON_BLOCK:
            least -= least // 4
    return {
        "free": free,
        "unusable": unusable,
        "which": "min" if flags & WMARK_MASK == WMARK_MIN else "low",
        "mark": mark,
        "boost": z.boost,
        "least": least,
        "reserve": z.lowmem_reserve[rq.zone_idx],
        "enough": free - unusable > least + z.lowmem_reserve[rq.zone_idx],
        "passes": zone_watermark_fast(z, order, mark + z.boost, rq.zone_idx, flags),
    }
