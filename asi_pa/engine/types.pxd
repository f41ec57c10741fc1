# What the engine is made of: its numbers and its structures.  No rule is here.
#
#   frame  0        1        2        3        4 ...            a frame is (pfn - zone.base_pfn)
#   state  FREE|2   TAIL     TAIL     TAIL     ALLOC|0          one byte: kind << 4 | order
#   links  next,prev .        .        .       info,owner       list links while free, request info
#                                                               and owner while allocated; nothing while
#                                                               on a per-CPU list
#                                                               the last are the heads of the free lists
#   pbtype [--------- one freetype per pageblock ----------]
#
# What is cpdef here are the words of a Design, which Python looks up by name.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from asi_pa.physmap.physmap cimport physmap_t

cdef enum:
    MAX_FREETYPES = 15
    MAX_LISTS = 16          # of one order
    POOL_LIST = 15          # design "pool": its free blocks, no freetype
    MAX_ORDERS = 16         # orders 0 .. 15
    MAX_PCP_LISTS = 52
    MAX_CPUS = 256
    MAX_ZONE_INDEX = 4
    MAX_FALLBACKS = 6

cdef enum:
    NIL = 0xFFFFFFFF

cdef enum:                  # the kind of a frame, in the high nibble of its state
    TAIL = 0x00             # inside a block that another frame heads
    FREE = 0x10             # heads a free block on a buddy list
    PCP = 0x20              # heads a block on a per-CPU list
    POOL = 0x30             # heads a free block of the pool (design "pool")
    QUEUED = 0x40           # freed, waits for the worker (design "rfcv2-queue")
    TAKEN = 0x50            # off every list, owned by a step in flight (flip, contig, page reporting)
    ALLOC = 0x80            # heads an allocation
    HOLE = 0xF0             # never handed to the allocator, or not there
    KIND_MASK = 0xF0
    ORDER_MASK = 0x0F

cdef enum:                  # enum migratetype of 7.2 (include/linux/mmzone.h)
    MIGRATE_UNMOVABLE = 0
    MIGRATE_MOVABLE = 1
    MIGRATE_RECLAIMABLE = 2
    MIGRATE_HIGHATOMIC = 3
    MIGRATE_CMA = 4
    MIGRATE_ISOLATE = 5

cdef enum:                  # mm/internal.h; the numbers are ours
    WMARK_MIN = 0
    WMARK_LOW = 1
    WMARK_HIGH = 2
    WMARK_MASK = 3
    ALLOC_NO_WATERMARKS = 0x04
    ALLOC_OOM = 0x08
    ALLOC_NON_BLOCK = 0x10
    ALLOC_MIN_RESERVE = 0x20
    ALLOC_CPUSET = 0x40
    ALLOC_CMA = 0x80
    ALLOC_NOFRAGMENT = 0x100
    ALLOC_HIGHATOMIC = 0x200
    ALLOC_KSWAPD = 0x400
    ALLOC_FLIP = 0x800      # ALLOC_ASI_UNMAP of the March RFC, its mirror image in September
    ALLOC_NOSTEAL = 0x1000  # ours: stop before single-page steals (designs that flip first)

cdef enum:                  # rmqueue_mode of mm/page_alloc.c
    RMQUEUE_NORMAL = 0
    RMQUEUE_CMA = 1
    RMQUEUE_CLAIM = 2
    RMQUEUE_STEAL = 3

cdef enum:                  # why a block's type or mapping changed; as recorded runs number them, others ours
    CTX_OTHER = 0
    CTX_CLAIM = 1           # claim of a whole buddy
    CTX_PARTIAL = 2         # claim of a pageblock's free part
    CTX_MERGE = 3
    CTX_RESERVE = 4
    CTX_UNRESERVE = 5
    CTX_UNMAP = 6           # after asi_unmap, the March RFC's flip
    CTX_ISOLATE_FREE = 7    # __isolate_free_page
    CTX_FLIP = 8            # September's flip, either way
    CTX_CONTIG = 9
    CTX_REFILL = 10         # of the pool
    CTX_SHRINK = 11
    CTX_PAGE_MAP = 12       # of single pages, for who allocates or frees them
    CTX_WORKER = 13
    CTX_POPULATE = 14
    CTX_HOTPLUG = 16

cdef enum:                  # request info of an allocation, kept in links[head].next
    INFO_MT = 0x03
    INFO_SENSITIVE = 0x04
    INFO_LRU = 0x08
    INFO_COMP = 0x10
    INFO_PINNED = 0x20      # somebody else holds a reference: it cannot move (yet)
    INFO_UNSPLITTABLE = 0x80    # a folio whose mapping has a least order; 0x40 is the auditor's
    INFO_SPLIT = 8          # from this bit on: what became of a folio that migration split (migrate.pyx)

cdef struct capture_t:
    # struct capture_control (mm/internal.h): who compacts takes what it waits for out of a merge
    int order
    int ft                  # of the request
    uint32_t frame          # NIL: nothing yet

cdef struct compact_state_t:
    # What compaction keeps of a zone between runs (struct zone, include/linux/mmzone.h).  Frames; -1: not set
    int64_t cached_migrate[2]   # compact_cached_migrate_pfn: where async and sync runs go on
    int64_t cached_free
    int64_t init_migrate
    int64_t init_free
    uint32_t considered
    int defer_shift
    int order_failed
    bint blockskip_flush
    uint8_t *skip           # PB_compact_skip, a byte per pageblock

cdef struct link_t:
    uint32_t next
    uint32_t prev

cdef struct request_t:
    # What a request word means, decoded once.
    uint32_t gfp
    uint8_t ft              # the freetype where it looks first
    uint8_t ft_other        # the same migratetype of the other sensitivity
    uint8_t mt
    uint8_t sensitive
    uint8_t zone_idx
    uint8_t block           # __GFP_DIRECT_RECLAIM
    uint8_t high            # __GFP_HIGH
    uint8_t kswapd
    uint8_t memalloc
    uint8_t nomemalloc
    uint32_t info
    uint32_t fast_flags
    uint32_t slow_flags     # of order 0; ALLOC_HIGHATOMIC comes with the order
    uint32_t fast_large     # joins fast_flags above order 0
    uint8_t pcp_list[MAX_ORDERS]    # the per-CPU list for this freetype; 255: none
    uint8_t pad[16]         # 64 bytes: a cache line

cdef struct design_t:
    # From a dict with these keys (engine/boot.pyx): the tables first, then what has a Design's field's name.
    int nft
    int npcp
    uint8_t mt[MAX_FREETYPES]
    uint8_t sensitive[MAX_FREETYPES]
    uint8_t mapped[MAX_FREETYPES]       # what the label promises: present in the protected tree
    uint8_t whole_only[MAX_FREETYPES]   # claims only wholly free pageblocks, never steals
    uint8_t nfallback[MAX_FREETYPES]
    uint8_t fallback[MAX_FREETYPES][MAX_FALLBACKS]
    uint32_t mergeable[MAX_FREETYPES]   # freetypes a free block of order >= pageblock_order may swallow
    uint8_t start[3][2]                 # [migratetype][sensitive]
    uint8_t highatomic[MAX_FREETYPES]   # the reserve of a freetype's sensitivity
    uint8_t cma[MAX_FREETYPES]
    uint8_t isolate[MAX_FREETYPES]
    uint8_t other[MAX_FREETYPES]        # the freetype of the other sensitivity
    uint8_t event_type[MAX_FREETYPES]   # its number in the event log
    uint8_t pcp_list[MAX_ORDERS][MAX_FREETYPES]     # where a request of this freetype looks; 255: none
    uint8_t pcp_free[MAX_ORDERS][MAX_FREETYPES]     # what a page freed in such a block joins; 255: none
    uint8_t pcp_list_order[MAX_PCP_LISTS]
    int tracks                          # the design has a protected tree: mapping is recorded
    int clears_ahead                    # vmstat's worker clears free unmapped pageblocks
    int looks_ahead                     # AHEAD_*: what a worker has to do and when; 0: nothing
    # fields of a Design
    int label_maps                      # March 2025: labelling a block maps it when the label says mapped
    int flips                           # Flips below
    uint8_t may_flip[MAX_FREETYPES]     # a request of this freetype flips a block if it may wait
    int flips_both_ways                 # September: by all of the other side's fallback; else S -> N by claim
    int flip_ctx                        # what the event log calls a flip
    int zeroing                         # Zeroing below
    int owner_zeroes                    # a sensitive owner clears its pages before it frees them
    int flip_before_steal
    int contig_flips
    int tree                            # of the physmap: RESTRICTED or UNRESTRICTED
    int compaction_same_side            # pages move within one side of the mapping
    int compaction                      # Compaction below
    int pool_by_mark            # a freed page goes to the pool by its pageblock's mark, not by its mapping
    int refill_unmaps           # Refill below
    int pool_clears             # what leaves the pool for the direct map is cleared
    int shrink_counts           # the shrinker stops when it has freed what was asked
    int64_t shrink_batch
    int64_t queue_delay
    int64_t unmap_batch         # chunks that a worker unmaps between two flushes; 0: all
    int may_wait                # Waits below
    int refill_order
    bint refill_leaves
    bint pool_by_node
    int64_t pool_low
    int64_t pool_high
    int flip_free               # percent of a pageblock that must be free before it may flip
    int64_t unmap_low
    int64_t unmap_high
    int64_t map_back                    # whole free unmapped blocks beyond which they are mapped; 0: never
    int explicit_maps                   # sound: every relabel across mappings maps or unmaps
    int blocks_keep_bit                 # whether a block is unmapped is its own bit, which only flips change
    int flip_keeps_isolation            # a flip changes a block's bit alone
    int flip_splits                     # what a flip leaves goes to the lists as in an ordinary split
    int isolates_unmapped               # a block of the unmapped side can be isolated
    int unmapped_counts                 # the watermark test's order part sees unmapped lists
    int reports_unmapped                # page reporting visits unmapped lists
    int undoes_others_isolation         # a contiguous range that cannot be isolated undoes all of its range
    int putback_by_block                # sound: page reporting puts back pageblock by pageblock
    int keeps_noblock                   # sound: may-block is decided by gfp, not by recomputed flags
    int slow_keeps_fast                 # the slow path keeps the fast path's flags (September, patch 16)
    int flip_cma                        # a flip may take CMA blocks (September as posted)

# Words of a Design: each is the end of a member's name ("" is NONE).

cpdef enum Flips:
    FLIPS_NONE = 0
    FLIPS_MARCH = 1         # S -> N by claim, N -> S by the unmap step
    FLIPS_SEPTEMBER = 2     # both ways by __rmqueue of the other sensitivity

cpdef enum Zeroing:
    ZERO_NONE = 0
    ZERO_LOCKED = 1         # the whole block, under the zone lock
    ZERO_FLIP = 2           # the whole block, outside it
    ZERO_DIRTY = 3          # its pages that held sensitive data, outside it
    ZERO_ALLOC = 4          # every nonsensitive allocation
    ZERO_MAPPED = 5         # the whole block, outside it, after it was mapped

cpdef enum Compaction:      # what direct compaction is asked for
    COMPACTS_ORDER = 0      # the request's order
    COMPACTS_UNMAPPED = 1   # a pageblock for unmapped requests
    COMPACTS_BOTH = 2       # a pageblock for every request that could flip

cpdef enum Refill:          # what a refill of the pool changes the mapping of
    REFILL_CHUNK = 0
    REFILL_REQUEST = 1          # its pages, at the chunk's start

cpdef enum Waits:           # which requests may wait for what their design has to change
    WAITS_POSTED = 0            # as the posting has it
    WAITS_NONE = 1
    WAITS_BLOCK = 2             # those that may block
    WAITS_ANY = 3
    WAITS_SENSITIVE = 4         # of those that may block the sensitive ones
    WAITS_NONSENSITIVE = 5

cdef enum:                  # looks_ahead: a worker's work, and what wakes it; the first two: ahead_due, too
    AHEAD_STOCK = 1             # keep a stock of what is asked for next: woken where lists were asked
    AHEAD_BACK = 2              # give back what is free beyond a mark: likewise ("eager")
    AHEAD_NOW = 3
    AHEAD_BACK_LAZY = 4         # the same, woken by a request in the slow path
    AHEAD_BACK_TIMER = 8        # the same, woken once a second

cdef enum:                  # where a step drops the zone lock: another CPU may act there
    WINDOW_TAKEN = 1        # the block is off its list, nothing mapped, unmapped or cleared yet
    WINDOW_UNMAPPED = 2     # entries cleared, flush under way
    WINDOW_FLUSHED = 3      # mapping changed and flushed, label not yet
    WINDOW_REPORTED = 4     # page reporting holds the block
    WINDOW_CONTIG = 5       # the range is isolated, not yet grabbed
    WINDOW_MAPPED = 6       # mapped, not yet cleared

cdef enum:
    NO_FREETYPE = 255       # a design's table has none

cdef struct kernel_t:
    # From a dict; the fields of a Kernel that the engine asks for.
    int free_high_needs_high_min
    int pcp_bulk_in_batches
    int pcp_refill_highatomic
    int reserve_highatomic_from_pcp
    int highatomic_first_attempt
    int free_contig_by_page
    int slowpath_always_retries
    int isolate_is_bit
    int defrag_mode_retry
    int compact_gap_is_capped
    int compact_block_takes_movable
    int compact_async_gate_without_cma
    int compact_deferred_fails
    int compact_cma_needs_flag
    int split_ascending

cdef struct pcplist_t:
    # An array of frames, tail[0] to head[-1], that moves and grows in its room (engine/pcp.pxd)
    uint32_t *head          # above the page at the head
    uint32_t *tail          # the page at the tail; head == tail: the list is empty
    uint32_t *room
    uint32_t *end           # of the room, for pages: PCP_AHEAD more words may be read

cdef struct pcp_t:
    # struct per_cpu_pages (include/linux/mmzone.h)
    int64_t count
    int64_t high
    int64_t high_min
    int64_t high_max
    int64_t batch
    int64_t alloc_factor
    int64_t free_count
    int64_t free_count_max  # batch << CONFIG_PCP_BATCH_SCALE_MAX
    int64_t free_high_least     # with a lower free_count no free is free_high
    int64_t free_count_below[2]     # with a lower free_count a free, of order 0 or above, only adds to it
    int64_t quiet           # with fewer pages a free only adds to its list (pcp_set_quiet)
    int64_t freed_order     # of the last free; 1 to 3 is PCPF_PREV_FREE_HIGH_ORDER
    int64_t free_high_batch     # PCPF_FREE_HIGH_BATCH
    int64_t expire          # ticks until a batch of another node's pages goes back
    pcplist_t lists[MAX_PCP_LISTS]

cdef struct vmdiff_t:
    # one CPU's unfolded differences of the zone's counters (vm_stat_diff)
    int64_t free
    int64_t cma

cdef enum:
    EVENT_MAP = 1
    EVENT_UNMAP = 2
    EVENT_SILENT = 3        # a block leaves its mapped label without unmap
    EVENT_RETYPE = 4        # any other change of type
    EVENT_POOLED = 6        # present pages enter the pool by a free
    EVENT_QUEUED = 7        # a chunk enters the free queue

cdef struct event_t:
    # a block's or a page's mapping or type changed; the recorded runs' event rows have this shape
    uint64_t op
    uint8_t kind            # EVENT_*
    uint8_t ctx
    uint8_t old_ft
    uint8_t new_ft
    uint32_t frame
    uint32_t nr
    uint32_t aux

cdef struct fallback_t:
    # a page taken from another type's list (mm_page_alloc_extfrag)
    uint32_t frame
    uint8_t order
    uint8_t fallback_order
    uint8_t ft
    uint8_t fallback_ft

cdef struct stats_t:
    # counted on slow paths only
    uint64_t flips_s2n
    uint64_t flips_n2s
    uint64_t pages_zeroed
    uint64_t pages_zeroed_locked    # of these, under the zone lock
    uint64_t pages_zeroed_ahead     # of these, by a worker before anybody asked
    uint64_t unmapped_ahead         # pageblocks unmapped before anybody asked
    uint64_t moved_to_flip          # pages moved out of a pageblock that was to flip
    uint64_t extfrag_events
    uint64_t extfrag_fragmenting
    uint64_t extfrag_severe
    uint64_t claims_whole
    uint64_t claims_partial
    uint64_t claims_refused
    uint64_t steals
    uint64_t boosts
    uint64_t noblock_refusals       # attempts that ended at a flip, which the request may not wait for
    uint64_t fail_watermark
    uint64_t fail_no_memory
    uint64_t fail_fragmentation
    uint64_t fail_starvation
    uint64_t fail_noblock
    uint64_t stranded_max
    uint64_t pool_refills
    uint64_t pool_refill_pages
    uint64_t pool_shrinks
    uint64_t pool_hits
    uint64_t exposures          # sensitive pages that were mapped when handed out, or became so while in use
    uint64_t absences           # pages that must be present and were not when handed out or while in use
    uint64_t unflushed          # sensitive pages handed out before the flush that their unmapping owes
    uint64_t exposed_now        # live sensitive pages that are mapped
    uint64_t hidden_now         # live nonsensitive pages that are not mapped
    uint64_t stale_exposed      # pages mapped while they still held sensitive data
    uint64_t flush_allocs       # allocations that had to wait for a flush
    uint64_t map_allocs         # allocations that had to map first, no flush
    uint64_t flush_frees        # frees that had to wait for a flush
    uint64_t slowpath
    uint64_t kswapd_wakeups
    uint64_t kcompactd_wakeups
    uint64_t reclaimed              # pages of the supply
    uint64_t compactions            # runs
    uint64_t compact_success
    uint64_t compact_moved          # pages
    uint64_t compact_migrate_scanned    # frames looked at by the migration scanner
    uint64_t compact_free_scanned       # by the free scanner
    uint64_t compact_stall          # direct compactions that were neither skipped nor deferred
    uint64_t compact_stall_success  # of these, with a page
    uint64_t compact_deferred       # zones that a direct compaction was turned away from
    uint64_t pcp_refills
    uint64_t pcp_bulk_frees
    uint64_t pcp_refilled           # blocks
    uint64_t pcp_drained
    uint64_t pcp_missed_nonsensitive     # of an order the pcp lists serve, served by the buddy all the same
    uint64_t pcp_missed_sensitive
    uint64_t reserves
    uint64_t unreserves
    uint64_t retypes

cdef struct zone_t:
    # geometry
    uint64_t base_pfn           # pfn of frame 0, a multiple of 1 << max_order
    uint32_t first              # first frame of the zone proper
    uint32_t nframes            # one past its last frame
    uint32_t nblocks
    uint32_t first_block
    int pageblock_order
    int merge_order             # frees below it merge without looking at types, or for who wants to capture
    int max_order
    uint32_t pageblock_pages
    int zone_idx
    int nid
    # arrays
    link_t *links
    uint8_t *state
    uint8_t *pbtype             # effective freetype
    uint8_t *pbbase             # freetype under ISOLATE
    uint8_t *pbmapped           # 1: the pageblock is present in the protected tree
    uint8_t *pbpool             # 1: the pageblock is marked as the pool's (design "pool")
    uint8_t *listed             # a free block's list, where its pageblock's type may say another; else NULL
    uint8_t *dirty              # bit per frame: holds sensitive data; NULL when not tracked
    size_t arrays_bytes
    # counters and limits
    int64_t nr_free
    int64_t plenty              # with more free pages every request meets its first watermark (set_plenty)
    pcp_t *pcps                 # one a CPU, NULL: bypassed
    vmdiff_t *diff              # this CPU's
    vmdiff_t *diffs
    design_t *design
    int64_t stat_threshold
    bint tracks                 # the design's
    bint detours                # an allocation may look elsewhere before its own list, or wake a worker
    int64_t nr_free_cma
    int64_t nr_free_highatomic
    int64_t nr_reserved_highatomic
    int64_t managed
    int64_t present
    int64_t cma_pages
    int64_t nr_isolate_blocks
    int64_t wmark[4]
    int64_t lowmem_reserve[MAX_ZONE_INDEX]
    int64_t boost
    int64_t boost_factor
    int boosted                 # ZONE_BOOSTED_WATERMARK: the next request that may wakes kswapd
    int64_t pcp_batch_scale_max
    int below_high
    int ncpus
    # free lists (free_area[order].free_list[migratetype]): circles through a head, so that inserting and
    # removing need no branch; the heads follow the frames in `links`
    uint32_t heads
    uint32_t nonempty[MAX_LISTS]    # bit per order
    uint32_t queue                  # design "rfcv2-queue" only: the first page that waits
    int ahead_due               # AHEAD_STOCK, AHEAD_BACK: what a worker is to do when no request is under way
    # what an operation changes ends here (the auditor's images)
    # shared by the machine's zones
    kernel_t *kernel
    stats_t *stats
    physmap_t *physmap
    # another CPU in the windows between lock drops (audits); NULL: nobody
    void (*window)(zone_t *z, int at, uint32_t frame, int order) noexcept nogil
    void *window_arg
    # slow-path decisions of a design written in Python; NULL: the engine's own
    void (*ahead)(zone_t *z) noexcept nogil
    int64_t (*choose)(zone_t *z, int order, int ft) noexcept nogil
    int (*refill)(zone_t *z, int order) noexcept nogil
    void *hooks
    # empties a pageblock that is partly free so that it can flip (evacuate.pyx); NULL: such blocks stay
    uint32_t (*evacuate)(zone_t *z, int ft) noexcept nogil
    void *machine               # mm_t, for it
    # compaction
    compact_state_t compact
    capture_t *capture          # of the run that is under way, NULL: none
    bint pcp_no_room            # no memory for a per-CPU list's pages: the buddy has got some instead
    int *watched                # the machine's: whoever made the operation under way looks what it came to
    # event log (recorded runs, audits); off when events is NULL
    event_t *events
    size_t nevents
    size_t events_room
    # log of fallbacks; off when NULL, full at its room
    fallback_t *fallbacks
    size_t nfallbacks
    size_t fallbacks_room
    uint64_t now
    # of stats.flips_s2n and flips_n2s those in this zone
    uint64_t flips_s2n
    uint64_t flips_n2s


cdef inline uint32_t block_of(const zone_t *z, uint32_t frame) noexcept nogil:
    return frame >> z.pageblock_order
