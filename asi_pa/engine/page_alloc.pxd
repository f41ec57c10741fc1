# The machine: zones, CPUs, and the path of a request through them.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from asi_pa._core cimport (
    ALLOC,
    INFO_SENSITIVE,
    MAX_CPUS,
    MAX_ORDERS,
    NIL,
    TAIL,
    WAITS_ANY,
    WAITS_BLOCK,
    WAITS_NONE,
    WAITS_POSTED,
    WAITS_SENSITIVE,
    ZERO_ALLOC,
    block_of,
    design_t,
    free_one,
    free_to_buddy,
    kernel_t,
    pcp_t,
    request_t,
    stats_t,
    zone_t,
)
from asi_pa.engine.pcp cimport NO_PCP_LIST, pcp_put
from asi_pa.physmap.physmap cimport physmap_t, physmap_unflushed

cdef enum:
    MAX_ZONES = 16
    MAX_NODES = 8
    LRU_BATCH = 31              # PAGEVEC_SIZE

cdef enum:                  # include/linux/gfp_types.h, 7.2; the last is ours (gfp.py)
    GFP_IO = 0x40
    GFP_FS = 0x80
    GFP_KSWAPD_RECLAIM = 0x800
    GFP_THISNODE = 0x200000
    GFP_SENSITIVE = 0x80000000

cdef struct pieces_t:
    # Where the pages of split folios are, a power of two at a time (migrate.pyx).
    uint32_t *frame
    uint32_t used
    uint32_t room
    uint32_t vacant[MAX_ORDERS]     # of an order: 1 + the first that is free again; 0: none

cdef struct compact_log_t:
    # what compaction did, as recordings log it: rows of six
    int32_t *rows
    size_t n
    size_t room
    bint lost               # no memory: the log has holes
    # the state of a run when it comes to a row (``asi-pa verify --explain``)
    size_t watch            # the row
    void *control           # the run under way
    void (*at_watch)(compact_log_t *log) noexcept nogil     # NULL: nobody looks
    int32_t *seen
    size_t nseen

cdef struct numa_t:
    # enum numa_stat_item of a node, as zone_statistics() counts (mm/page_alloc.c, 7.2): requests
    uint64_t hit
    uint64_t miss           # it gave what another node was to give
    uint64_t foreign        # another gave what it was to give
    uint64_t local          # given to a CPU of its own
    uint64_t other          # to a CPU of another

cdef struct mm_t

cdef struct wrapper_t:
    # What a design does that wraps the allocator; what the three have is in wrappers.pyx.
    # alloc: the pfn, -1 if there is none.  keep: the wrapper keeps a freed page; False: the buddy gets it.
    int64_t (*alloc)(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil
    bint (*keep)(mm_t *mm, zone_t *z, uint32_t frame, int order) noexcept nogil
    # the shrinker of its pool: how many of so many pages the buddy got; NULL: it has no pool
    int64_t (*shrink)(mm_t *mm, int cpu, int64_t pages) noexcept nogil
    # the worker that empties its free queue; NULL: it has none
    void (*work)(mm_t *mm, int cpu) noexcept nogil
    # the worker that keeps to the pool's marks (AHEAD_*); NULL: it has none
    void (*balance)(mm_t *mm, int due) noexcept nogil

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
    numa_t numa[MAX_NODES]      # counted on machines of several nodes only
    physmap_t *physmap
    # what follows when both attempts of the slow path failed (vmscan.pyx); NULL: requests fail where the
    # kernel would begin to reclaim, as on the recorded machines
    int64_t (*relief)(mm_t *mm, int cpu, int order, const request_t *rq, uint32_t flags) noexcept nogil
    int compacts
    # kswapd (kswapd.pyx), one a node
    uint32_t kswapd_woken       # bit per node
    int kswapd_order[MAX_NODES]
    int kswapd_highest[MAX_NODES]
    int kcompactd_order[MAX_NODES]      # 0: nobody woke it
    int kcompactd_highest[MAX_NODES]
    uint32_t *slots             # slot -> pfn of the replay; NULL: nobody is told where a page went
    pieces_t pieces
    uint64_t lru_add[LRU_BATCH]     # folios on their way to the LRU, which nobody can isolate meanwhile
    uint32_t lru_add_n
    uint32_t *compact_room
    compact_log_t *compact_log  # NULL: not kept
    uint32_t *supply            # slots that reclaim may free, in order
    uint64_t supply_at[MAX_NODES]       # a node's part of them, the LRU of its own: the next one,
    uint64_t supply_end[MAX_NODES]      # and one past the last
    uint64_t *supply_since      # after how many operations each is there, ascending; NULL: from the beginning
    uint64_t *supply_pages      # running totals of their pages, from 0 on; NULL: a page each
    uint64_t clock              # operations done
    const wrapper_t *wrapper    # NULL: nothing wraps the allocator
    uint64_t now                # operations of a wrapper
    uint64_t queue_due          # when its worker runs; 0: nothing waits
    int64_t queued_chunks
    int64_t queued_pages
    int64_t pool_wrong          # pages in the pool that are not remapped
    # pages that moved out of a block that flips and belong to no slot: pfns before and after, in turn
    uint64_t *moved
    size_t nmoved
    size_t moved_room


cdef inline zone_t *zone_of(mm_t *mm, uint64_t pfn) noexcept nogil:
    # NULL when no zone has the frame
    cdef int i
    cdef zone_t *z
    for i in range(mm.nzones):
        z = mm.zones[i]
        if pfn >= z.base_pfn + z.first and pfn < z.base_pfn + z.nframes:
            return z
    return NULL


cdef inline bint may_wait(const design_t *d, const request_t *rq, bint posted) noexcept nogil:
    # May a request wait for what its design has to change?  `posted`: what its posting says.
    if d.may_wait == WAITS_POSTED:
        return posted
    if d.may_wait == WAITS_NONE or d.may_wait == WAITS_ANY:
        return d.may_wait == WAITS_ANY
    if not rq.block:
        return False
    return d.may_wait == WAITS_BLOCK or rq.sensitive == (d.may_wait == WAITS_SENSITIVE)


# ---------------------------------------------------------------- designs with a protected tree

cdef inline void set_dirty(zone_t *z, uint32_t frame, uint32_t n, bint dirty) noexcept nogil:
    # Whether pages hold what a sensitive owner wrote; not tracked where nothing is protected.
    cdef uint32_t bits
    if z.dirty == NULL:
        return
    if (frame & 7) + n > 8:
        set_dirty_many(z, frame, n, dirty)
        return
    bits = ((1u << n) - 1) << (frame & 7)
    if dirty:
        z.dirty[frame >> 3] |= <uint8_t>bits
    else:
        z.dirty[frame >> 3] &= <uint8_t>~bits


cdef inline void page_handed_out(zone_t *z, uint32_t frame, int order, bint sensitive) noexcept nogil:
    # Every allocation is checked against the mapping of the pageblocks it lies in, and against flushes owed.
    cdef uint32_t pages = 1u << order
    if sensitive and z.physmap != NULL and z.physmap.nowed:
        z.stats.unflushed += physmap_unflushed(z.physmap, z.base_pfn + frame, pages)
    if sensitive == z.pbmapped[block_of(z, frame)] or order > z.pageblock_order:
        wrongly_mapped(z, frame, order, sensitive, 1)
    if sensitive:
        set_dirty(z, frame, pages, True)
    elif z.design.zeroing == ZERO_ALLOC:
        z.stats.pages_zeroed += pages
        set_dirty(z, frame, pages, False)


cdef inline void page_given_back(zone_t *z, uint32_t frame, int order) noexcept nogil:
    # The running totals of wrongly mapped live pages forget a freed one.
    cdef bint sensitive = (z.links[frame].next & INFO_SENSITIVE) != 0
    if sensitive == z.pbmapped[block_of(z, frame)] or order > z.pageblock_order:
        wrongly_mapped(z, frame, order, sensitive, -1)
    if sensitive and z.design.owner_zeroes:
        z.stats.pages_zeroed += 1u << order
        set_dirty(z, frame, 1u << order, False)


# ---------------------------------------------------------------- the path of a request

cdef inline void prep_new_page(zone_t *z, uint32_t frame, int order, const request_t *rq) noexcept nogil:
    z.state[frame] = <uint8_t>(ALLOC | order)
    z.links[frame].next = rq.info
    z.links[frame].prev = NIL
    if z.tracks:
        page_handed_out(z, frame, order, rq.sensitive)


cdef inline void buddy_free(zone_t *z, uint32_t frame, int order, int ft) noexcept nogil:
    # free_one_page(); z.diff is the CPU's
    if order <= z.pageblock_order:
        z.state[frame] = TAIL
        free_one(z, frame, order, ft, False)
    else:
        free_to_buddy(z, frame, order)


cdef inline void zone_free(zone_t *z, int cpu, uint32_t frame, int order) noexcept nogil:
    # __free_frozen_pages(): the pcp list of the block's type, or the buddy.
    cdef int ft = z.pbtype[block_of(z, frame)]
    cdef int number = z.design.pcp_free[order][ft]
    cdef pcp_t *pcp
    if z.tracks:
        page_given_back(z, frame, order)
    if z.pcps != NULL and number != NO_PCP_LIST:
        pcp = &z.pcps[cpu]
        pcp_put(z, pcp, &pcp.lists[number], frame, order, <int64_t>1 << order,
                pcp.free_count_below[order != 0])
    else:
        z.diff = &z.diffs[cpu]
        buddy_free(z, frame, order, ft)


cdef uint32_t rmqueue_buddy(zone_t *z, int order, const request_t *rq, uint32_t flags) noexcept nogil
cdef uint32_t zone_take(zone_t *z, int cpu, int order, const request_t *rq, uint32_t flags) noexcept nogil
cdef int64_t get_page_from_freelist(mm_t *mm, int cpu, int order, const request_t *rq, uint32_t flags,
                                    int at) noexcept nogil
cdef int64_t mm_alloc(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil
cdef void wrongly_mapped(zone_t *z, uint32_t frame, int order, bint sensitive, int sign) noexcept nogil
cdef void count_numa(mm_t *mm, int cpu, const request_t *rq, uint64_t pfn) noexcept nogil
cdef void count_failure(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil
cdef void set_dirty_many(zone_t *z, uint32_t frame, uint32_t n, bint dirty) noexcept nogil
cdef uint32_t count_dirty(zone_t *z, uint32_t frame, uint32_t n) noexcept nogil
cdef void decode_request(mm_t *mm, uint32_t gfp, request_t *rq) noexcept nogil
cdef void decode_request_on(mm_t *mm, int node, uint32_t gfp, request_t *rq) noexcept nogil
