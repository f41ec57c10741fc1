# The machine: zones, CPUs, and the path of a request through them.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from asi_pa._core cimport (
    ALLOC,
    ALLOC_CMA,
    ALLOC_HIGHATOMIC,
    ALLOC_KSWAPD,
    ALLOC_NO_WATERMARKS,
    ALLOC_NOFRAGMENT,
    ALLOC_NON_BLOCK,
    ALLOC_OOM,
    INFO_SENSITIVE,
    ALLOC_FLIP,
    ALLOC_NOSTEAL,
    MAX_CPUS,
    NIL,
    NO_FREETYPE,
    RMQUEUE_NORMAL,
    TAIL,
    WMARK_HIGH,
    WMARK_MASK,
    block_of,
    design_t,
    free_to_buddy,
    kernel_t,
    request_t,
    reserve_highatomic,
    rmqueue,
    rmqueue_flip,
    rmqueue_smallest,
    stats_t,
    zone_t,
    zone_watermark_fast,
)
from asi_pa._pcp cimport NO_PCP_LIST, free_to_pcp, rmqueue_pcplist
from asi_pa._physmap cimport physmap_t

cdef enum:
    MAX_ZONES = 16
    MAX_NODES = 8

cdef struct mm_t:
    int nzones
    int ncpus
    int nnodes
    int nofragment[MAX_NODES]   # the fast path carries ALLOC_NOFRAGMENT where the node's Normal is preferred
    int defrag_mode
    int nlocal[MAX_NODES]       # zones of the node itself, first in its list: ZONELIST_NOFALLBACK
    int nzonelist[MAX_NODES]
    zone_t *zonelist[MAX_NODES][MAX_ZONES]
    zone_t *zones[MAX_ZONES]
    int cpu_node[MAX_CPUS]
    kernel_t kernel
    design_t design
    stats_t stats
    physmap_t *physmap
    # relief of shortages (_relief.pyx); NULL: requests fail where the kernel would begin to reclaim
    int64_t (*relief)(mm_t *mm, int cpu, int order, const request_t *rq, uint32_t flags) noexcept nogil
    int compacts
    int kswapd_woken
    uint32_t *slots             # slot -> pfn of the replay
    uint32_t *supply            # slots that reclaim may free, in order
    uint64_t supply_n
    uint64_t supply_at
    int wrapper                 # WRAP_* of _wrappers.pxd
    uint64_t now                # operations of a wrapper
    uint64_t queue_due          # when its worker runs; 0: nothing waits


cdef inline zone_t *zone_of(mm_t *mm, uint64_t pfn) noexcept nogil:
    # NULL when no zone has the frame
    cdef int i
    cdef zone_t *z
    for i in range(mm.nzones):
        z = mm.zones[i]
        if pfn >= z.base_pfn + z.first and pfn < z.base_pfn + z.nframes:
            return z
    return NULL


cdef inline void prep_new_page(zone_t *z, uint32_t frame, int order, const request_t *rq) noexcept nogil:
    z.state[frame] = <uint8_t>(ALLOC | order)
    z.links[frame].next = rq.info
    z.links[frame].prev = NIL
    if z.design.tracks:
        page_handed_out(z, frame, order, rq.sensitive)


cdef inline uint32_t rmqueue_reserve(zone_t *z, int order, int ft) noexcept nogil:
    # The HIGHATOMIC reserve of the requester's side, where the design has one.
    cdef int ha = z.design.highatomic[ft]
    return NIL if ha == NO_FREETYPE else rmqueue_smallest(z, order, ha)


cdef inline uint32_t rmqueue_buddy(zone_t *z, int order, const request_t *rq,
                                   uint32_t flags) noexcept nogil:
    # rmqueue_buddy(): the zone's lists, then the HIGHATOMIC reserve, then what a design can flip.
    cdef uint32_t frame = NIL
    cdef int mode = RMQUEUE_NORMAL
    if flags & ALLOC_HIGHATOMIC:
        frame = rmqueue_reserve(z, order, rq.ft)
    if frame == NIL:
        if z.design.flip_before_steal and flags & ALLOC_FLIP:
            frame = rmqueue(z, order, rq.ft, flags | ALLOC_NOSTEAL, &mode)
            if frame == NIL:
                frame = rmqueue_flip(z, order, rq.ft, flags)
        if frame == NIL:
            frame = rmqueue(z, order, rq.ft, flags, &mode)
        if frame == NIL and flags & (ALLOC_OOM | ALLOC_NON_BLOCK):
            frame = rmqueue_reserve(z, order, rq.ft)
        if frame == NIL:
            frame = rmqueue_flip(z, order, rq.ft, flags)
            if frame == NIL:
                return NIL
    if flags & ALLOC_HIGHATOMIC and not z.kernel.reserve_highatomic_from_pcp:
        reserve_highatomic(z, frame, order, rq.ft)
    return frame


cdef inline uint32_t zone_take(zone_t *z, int cpu, int order, const request_t *rq,
                               uint32_t flags) noexcept nogil:
    # rmqueue()
    cdef int index = z.design.pcp_list[order][rq.ft]
    cdef uint32_t frame = NIL
    if z.pcps != NULL and index != NO_PCP_LIST:
        frame = rmqueue_pcplist(z, &z.pcps[cpu], order, rq.ft, index, flags)
    if frame == NIL:
        frame = rmqueue_buddy(z, order, rq, flags)
        if frame == NIL:
            return NIL
        if index != NO_PCP_LIST:
            z.stats.pcp_missed_sensitive += rq.sensitive
            z.stats.pcp_missed_nonsensitive += not rq.sensitive
        if z.design.looks_ahead:
            z.ahead_due = 1
    if flags & ALLOC_HIGHATOMIC and z.kernel.reserve_highatomic_from_pcp:
        reserve_highatomic(z, frame, order, rq.ft)
    prep_new_page(z, frame, order, rq)
    return frame


cdef inline int64_t mm_alloc(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil:
    # __alloc_pages(): the first zone of the list when it is above its high watermark, all else out of line.
    cdef zone_t *z = mm.zonelist[mm.cpu_node[cpu]][0]
    cdef uint32_t frame
    if (z.zone_idx <= rq.zone_idx and not z.below_high
            and zone_watermark_fast(z, order, z.wmark[WMARK_HIGH] + z.boost, rq.zone_idx, rq.fast_flags)):
        z.diff = &z.diffs[cpu]
        frame = zone_take(z, cpu, order, rq, rq.fast_flags)
        if frame != NIL:
            return <int64_t>(z.base_pfn + frame)
        return mm_alloc_rest(mm, cpu, order, rq, 1)
    return mm_alloc_rest(mm, cpu, order, rq, 0)


cdef inline void zone_free(zone_t *z, int cpu, uint32_t frame, int order) noexcept nogil:
    # __free_frozen_pages(): the pcp list of the block's type, or the buddy.
    cdef design_t *d = z.design
    cdef int ft = d.pcp_type[z.pbtype[block_of(z, frame)]]
    z.diff = &z.diffs[cpu]
    if d.tracks:
        page_given_back(z, frame, order)
    if z.pcps != NULL and ft != NO_PCP_LIST and d.pcp_list[order][ft] != NO_PCP_LIST:
        free_to_pcp(z, &z.pcps[cpu], frame, order, d.pcp_list[order][ft])
    else:
        free_to_buddy(z, frame, order)


cdef int64_t get_page_from_freelist(mm_t *mm, int cpu, int order, const request_t *rq, uint32_t flags,
                                    int at) noexcept nogil
cdef int64_t mm_alloc_rest(mm_t *mm, int cpu, int order, const request_t *rq, int tried) noexcept nogil
cdef void page_handed_out(zone_t *z, uint32_t frame, int order, bint sensitive) noexcept nogil
cdef void page_given_back(zone_t *z, uint32_t frame, int order) noexcept nogil
cdef void count_failure(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil
cdef void set_dirty(zone_t *z, uint32_t frame, uint32_t n, bint dirty) noexcept nogil
cdef uint32_t count_dirty(zone_t *z, uint32_t frame, uint32_t n) noexcept nogil
cdef void decode_request(mm_t *mm, uint32_t gfp, request_t *rq) noexcept nogil
cdef void decode_request_on(mm_t *mm, int node, uint32_t gfp, request_t *rq) noexcept nogil
