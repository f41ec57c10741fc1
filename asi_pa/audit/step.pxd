# What the auditor's search does in a step: an operation, and what another CPU does in its windows.
# The meaning of all numbers, in words, is in audit/words.py.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from asi_pa.audit.met cimport hash_t, table_t
from asi_pa.audit.state cimport MAX_BLOCKS, MAX_FRAMES, extra_t, home_t
from asi_pa._core cimport request_t, zone_t
from asi_pa.engine.page_alloc cimport mm_t

cdef enum:
    MAX_OPS = 1024
    MAX_FOUND = 256
    MAX_REQUESTS = 32
    MAX_SEARCH_ORDERS = 6

cdef enum:                      # what can be broken
    BAD_EXPOSED = 1
    BAD_HIDDEN = 2
    BAD_STALE = 3
    BAD_LABEL = 4
    BAD_LOST = 5
    BAD_UNFLUSHED = 6
    BAD_CMA = 7
    BAD_LOCKED_FLUSH = 8
    BAD_PHYSMAP = 9
    POOR_FAILURE = 16           # liveness
    POOR_FLUSH = 17
    POOR_STRANDED = 18

cdef enum:                      # by what: a family in the high byte, an event's context or a detail below
    BY_RELABEL = 0x100          # ctx of the event since which label and mapping disagree
    BY_MAP = 0x200              # ctx of the map event
    BY_UNMAP = 0x300
    BY_PCP_REFILLED = 0x400
    BY_PCP_FREED = 0x401
    BY_RESERVE_FIRST = 0x402
    BY_RESERVE_LAST = 0x403
    BY_CONTIG = 0x404
    BY_CMA = 0x405
    BY_LIST = 0x406
    BY_PAGE = 0x407
    BY_MERGED = 0x408           # the page was on another list than its pageblock's, after a merge
    BY_LATE = 0x409             # mapped before it was cleared
    BY_MOVED = 0x40A            # compaction moved the page there
    BY_POOL_REFILL = 0x410      # a refill that leaves part of its chunk as it was
    BY_POOL_MARK = 0x411        # a free into the pool by the mark of a pageblock that it has only part of
    BY_POOL_LEFT = 0x412        # ... of a pageblock that the shrinker gave back
    BY_OP = 0x500               # code of the operation
    BY_FAILURE = 0x600          # FAIL_* | 0x10 for sensitive requests
    BY_STRANDED = 0x700         # whose request: migratetype | 0x10 protected | 0x20 may block
    BY_WINDOW = 0x8000          # added: another CPU acted in a window, whose number is in bits 11-13

cdef enum:
    CTX_ISOLATION = 15          # no event: isolation sets the type beside set_pageblock_migratetype()
    CTX_POOLED = 20             # a free into the pool, by its pageblock's mark; of one that was shrunk since
    CTX_POOLED_LEFT = 21

cdef enum:
    FAIL_NO_BUDDIES = 2         # enough whole blocks, none large enough
    FAIL_PARTLY = 3             # free pages in partly used blocks
    FAIL_POOL = 5               # the pool had pages
    FAIL_QUEUE = 6              # the free queue had pages

cdef struct op_t:
    uint8_t code                # OP_* of verify/codes.pxd
    uint8_t cpu
    uint8_t order               # isolate: the mode; contig: 1 for CMA
    uint8_t which               # alloc, contig: request; unreserve, take: freetype
    uint8_t frame
    uint8_t n                   # frames of a range; shrink: pages
    uint8_t at                  # of an inner operation: the how-manieth window of the outer one
    uint8_t pad

cdef struct step_t:
    op_t op
    op_t inner                  # what another CPU does in a window of op

cdef struct node_t:
    uint32_t parent
    step_t step

cdef struct masks_t:
    uint64_t exposed            # allocated, to be absent, present
    uint64_t hidden             # allocated, to be present, absent
    uint64_t stale              # present with sensitive data, not counting `exposed`
    uint64_t live               # allocated
    uint64_t taken_absent       # of these, to be absent
    uint64_t present
    uint32_t mislabelled        # blocks whose label and mapping disagree
    uint32_t cma_lost           # blocks of CMA that are not any more

cdef struct found_t:
    uint8_t invariant
    uint16_t mechanism
    uint32_t parent
    uint32_t frame
    step_t step
    int32_t walked              # steps of the walk from `parent` up to `step`; -1: found by the search itself

cdef struct candidate_t:
    # a state that one of a batch's led to and nothing frozen knew
    hash_t hash
    step_t step
    uint32_t lost               # a frame that shows how it is broken, where `broken`
    uint8_t broken
    uint8_t window              # search_t.inner_window

cdef struct batch_t:
    # What a run of a level's states leads to, found out while the set of states met stands still.
    table_t own                 # the candidates
    candidate_t *candidates
    uint64_t n
    uint64_t room
    uint8_t *states             # packed, of each candidate
    uint64_t *ends              # of each state expanded: candidates up to its last one
    uint64_t *transitions       # and operations
    uint64_t expanded
    found_t found[MAX_FOUND]
    int nfound

cdef enum:
    MAX_SIBLINGS = 127          # a uint8_t numbers them, and their table of 256 stays half empty

cdef struct siblings_t:
    # The states that operations led to from the one being expanded, as long as there is room.
    uint8_t *images
    int n
    uint8_t slots[256]          # number + 1 by fingerprint, open addressing
    uint64_t prints[MAX_SIBLINGS]
    masks_t masks[MAX_SIBLINGS]
    extra_t extra[MAX_SIBLINGS]     # when it was looked up in `met`
    bint kept[MAX_SIBLINGS]     # it was
    bint broken[MAX_SIBLINGS]   # lists, counters, states disagree in it

cdef struct search_t:
    mm_t *mm
    zone_t *z
    extra_t x
    request_t requests[MAX_REQUESTS]
    int nrequests
    int contig_requests[2]      # by sensitivity; -1: not searched
    int max_alloc_order[MAX_REQUESTS]
    int min_alloc_order[MAX_REQUESTS]
    op_t allocs[MAX_REQUESTS * MAX_SEARCH_ORDERS]   # all requests of the first CPU, of all their orders
    int nallocs
    bint isolation
    bint contig
    bint report
    bint ticks
    bint compaction
    bint windows
    bint liveness
    uint32_t cma_blocks
    # the operation under way
    bint nested
    int seen                    # windows passed
    op_t *inner
    int inner_window            # its number in the engine
    uint64_t unflushed          # cleared entries whose flush is under way
    uint64_t inner_unflushed
    uint64_t late               # frames that were mapped before they were cleared
    int64_t result
    size_t own_events           # of the log: what the request itself did, before workers ran
    int64_t zeroed
    uint64_t flushes
    uint32_t shared_orders      # orders with a pcp list that serves both sides
    # of the state before the operation
    masks_t before
    uint8_t old_state[MAX_FRAMES]
    uint8_t old_type[MAX_BLOCKS]
    uint64_t old_freed          # extra_t.freed
    uint64_t old_live           # frames whose allocation the operation leaves alone
    int32_t walked              # steps of the walk under way; -1: none
    # results
    found_t found[MAX_FOUND]
    int nfound
    int nexplored               # of these, by exploring; walks come behind
    # the search
    home_t home
    uint32_t parent_node        # of the state being expanded
    uint8_t *parent             # its image
    extra_t parent_extra
    bint moved                  # the zone is not in that state
    bint broken                 # the state that was looked up last
    bint tree_differs           # the page tables are not what the blocks' marks say
    siblings_t siblings
    node_t *nodes
    uint64_t nnodes
    uint64_t room
    table_t met                 # states, up to symmetry
    const table_t *frozen       # another search's, where this one helps it; else `met`
    batch_t *batch              # where new states are put as long as `frozen` stands still; NULL: in `met`
    bint symmetry               # False: `met` holds every single one
    bint counts_orbits          # `orbits` holds what they are up to symmetry
    table_t orbits
    uint8_t *level              # packed states of the level being expanded
    uint64_t level_n
    uint64_t level_room
    uint64_t level_first        # node of its first state
    uint64_t level_at
    uint8_t *next
    uint64_t next_n
    uint64_t next_room
    int size                    # of a packed state
    int depth                   # of the level being expanded, from 0
    uint64_t transitions

cdef bint absent_wanted(const mm_t *mm, uint32_t info) noexcept nogil
cdef void take_masks(const search_t *s, masks_t *m) noexcept nogil
cdef void run_step(search_t *s, const step_t *step) noexcept nogil
cdef void list_allocations(search_t *s) noexcept nogil
cdef int list_operations(search_t *s, op_t *ops) noexcept nogil
cdef void settle(search_t *s) noexcept nogil
cdef void remember(search_t *s, const masks_t *m) noexcept nogil
