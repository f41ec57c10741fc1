# The physmap: an unrestricted and a restricted tree over the same frames, flush accounting and a log.
# docs/engine/physmap.md says what each rule models and where it comes from.
from libc.stdint cimport uint8_t, uint64_t

from asi_pa.physmap.pgtable cimport (
    LEVEL_PGD,
    LEVEL_PMD,
    LEVEL_PTE,
    LEVEL_PUD,
    PGT_PRESENT,
    PGT_PSE,
    pgt_leaf,
    pgt_pte_table,
    pgtable_t,
)

cdef extern from *:
    """
    #define MAX_DIRECT_MAP_PFN  (1ULL << 34)
    """
    const uint64_t MAX_DIRECT_MAP_PFN

cdef enum:
    UNRESTRICTED = 0
    RESTRICTED = 1

cdef enum:
    MAX_OWED = 16

cdef enum:
    FLUSH_NONE = 0
    FLUSH_RANGE = 1
    FLUSH_FULL = 2

cdef enum:
    LOG_MAP = 1
    LOG_UNMAP = 2
    LOG_SPLIT = 3
    LOG_FLUSH = 4
    LOG_PROTECT = 5
    LOG_COLLAPSE = 6

cdef enum:
    CAUSE_OTHER = 0
    CAUSE_CLAIM = 1
    CAUSE_FLIP = 2
    CAUSE_POOL_REFILL = 3
    CAUSE_SHRINKER = 4
    CAUSE_PAGE_ALLOC = 5
    CAUSE_PAGE_FREE = 6
    CAUSE_MERGE = 7
    CAUSE_HIGHATOMIC = 8
    CAUSE_UNRESERVE = 9
    CAUSE_CONTIG = 10
    CAUSE_HOTPLUG = 11
    CAUSE_SET_MEMORY = 12
    CAUSE_QUEUE_WORKER = 13
    CAUSE_POPULATE = 14

ctypedef struct physmap_record_t:
    uint64_t seq
    uint8_t op
    uint8_t tree
    uint8_t level
    uint8_t cause
    uint8_t flush
    uint8_t pad[3]
    uint64_t pfn
    uint64_t count
    uint64_t event

ctypedef struct physmap_log_t:
    physmap_record_t *records
    uint64_t length
    uint64_t capacity
    uint64_t limit              # records kept at most
    uint64_t seq                # of the next record, counted whether it is kept or not
    uint64_t dropped            # over the limit, or no memory
    bint enabled

ctypedef struct physmap_counters_t:
    uint64_t map_calls[2]       # by tree
    uint64_t unmap_calls[2]
    uint64_t protect_calls
    uint64_t leaf_writes[8]     # [tree * 4 + level]
    uint64_t splits[8]          # [tree * 4 + level of the leaf that was split]
    uint64_t collapses[8]       # [tree * 4 + level of the leaf that formed again]
    uint64_t tables_allocated[2]
    uint64_t tables_freed[2]
    uint64_t flushes_ranged
    uint64_t flushes_full
    uint64_t flushes_split      # of flushes_full: those that a split asked for
    uint64_t flushes_others     # of flushes_ranged: other address spaces' entries go at their next use
    uint64_t flushed_pages      # 4K pages invalidated one by one in ranged flushes
    uint64_t ipis
    uint64_t skipped_level      # 2M blocks asi_map skipped with a warning: leaf levels differ, or no leaf
    uint64_t skipped_absent     # entries asi_map found nothing for in the unrestricted tree
    uint64_t copied_absent      # entries copied from an unrestricted leaf that is itself not present
    uint64_t redundant          # pages inside a large leaf that is in the wanted state already
    uint64_t left_mapped        # pages of removed memory whose leaf reaches beyond it and stays

ctypedef struct owed_t:
    uint64_t start
    uint64_t end

ctypedef struct physmap_t:
    uint64_t start_pfn
    uint64_t end_pfn
    pgtable_t unrestricted
    pgtable_t restricted
    physmap_log_t log
    physmap_counters_t counters
    uint64_t now                # the engine's operation counter, copied into log records
    int nowed                   # ranges whose entries went and whose flush is owed
    owed_t owed[MAX_OWED]       # where there are more, the last one is around the rest
    uint64_t flush_ceiling      # 4K pages; a larger range becomes a full flush
    int ncpus
    bint invlpgb                # flushes are broadcast by the processor: no IPIs
    bint as_posted_skip         # asi_map skips where the leaf levels of the two trees differ
    bint mirror                 # changes of the unrestricted tree reach the restricted one
    bint split_flush            # every split costs a full flush
    bint collapse               # set_memory_rox() makes large leaves again (7.2; not 6.12)
    bint global_pages           # kernel entries are GLOBAL: a kernel with neither ASI nor PTI

# Nothing here raises or needs the GIL.  int: 0, -ENOMEM or -EINVAL (range outside the physmap).
cdef int physmap_init(physmap_t *pm, uint64_t start_pfn, uint64_t end_pfn,
                      int unrestricted_max_leaf_level, int ncpus) noexcept nogil
cdef int physmap_reserve(physmap_t *pm, uint64_t start_pfn, uint64_t end_pfn,
                         int unrestricted_max_leaf_level, int ncpus) noexcept nogil
cdef int physmap_add(physmap_t *pm, uint64_t pfn, uint64_t n) noexcept nogil
cdef int physmap_remove(physmap_t *pm, uint64_t pfn, uint64_t n) noexcept nogil
cdef void physmap_destroy(physmap_t *pm) noexcept nogil
cdef int physmap_map(physmap_t *pm, int tree, uint64_t pfn, uint64_t n, int cause) noexcept nogil
cdef int physmap_unmap(physmap_t *pm, int tree, uint64_t pfn, uint64_t n, int cause,
                       int flush) noexcept nogil
cdef int physmap_flush(physmap_t *pm, uint64_t pfn, uint64_t n) noexcept nogil
cdef int physmap_protect(physmap_t *pm, uint64_t pfn, uint64_t n, uint64_t set_bits,
                         uint64_t clear_bits, int cause, bint collapse) noexcept nogil
cdef void physmap_set_global(physmap_t *pm, bint global_pages) noexcept nogil
cdef int physmap_cut(physmap_t *pm, uint64_t pfn, uint64_t n) noexcept nogil
cdef int physmap_leave_out(physmap_t *pm, uint64_t pfn, uint64_t n) noexcept nogil
cdef void physmap_reset_counters(physmap_t *pm) noexcept nogil


cdef inline pgtable_t *physmap_tree(physmap_t *pm, int tree) noexcept nogil:
    return &pm.restricted if tree else &pm.unrestricted


cdef inline bint physmap_present(physmap_t *pm, int tree, uint64_t pfn) noexcept nogil:
    """Whether a frame is mapped; ``pfn`` must be in [start_pfn, end_pfn)."""
    cdef pgtable_t *t = physmap_tree(pm, tree)
    cdef uint64_t e = t.pmd[(pfn - t.pmd_base) >> 9]
    if e & PGT_PSE:
        return e & PGT_PRESENT
    if e:
        return pgt_pte_table(t, e)[pfn & 511] & PGT_PRESENT
    e = t.pud[(pfn - t.pud_base) >> 18]
    return e & PGT_PRESENT and e & PGT_PSE


cdef inline uint64_t physmap_unflushed(const physmap_t *pm, uint64_t pfn, uint64_t n) noexcept nogil:
    """Of a range, the pages that some TLB may still hold: their unmapping was not followed by a flush yet."""
    cdef uint64_t pages = 0, start, end
    cdef int i
    for i in range(pm.nowed):
        start = max(pfn, pm.owed[i].start)
        end = min(pfn + n, pm.owed[i].end)
        if start < end:
            pages += end - start
    return pages


cdef inline uint64_t physmap_present_in(physmap_t *pm, int tree, uint64_t pfn, uint64_t n) noexcept nogil:
    """How many of n frames from pfn on are mapped in a tree."""
    cdef pgtable_t *t = physmap_tree(pm, tree)
    cdef uint64_t end = pfn + n, step, k, count = 0
    cdef uint64_t *e
    cdef int level
    while pfn < end:
        e = pgt_leaf(t, pfn, &level)
        step = min(512 - (pfn & 511), end - pfn)
        if level == LEVEL_PTE:
            for k in range(step):
                count += e[k] & PGT_PRESENT
        elif e[0] & PGT_PRESENT:
            count += step
        pfn += step
    return count


cdef inline uint64_t physmap_present_pages(physmap_t *pm, int tree) noexcept nogil:
    """Mapped frames of a tree, O(1)."""
    cdef pgtable_t *t = physmap_tree(pm, tree)
    return t.present[1] + (t.present[2] << 9) + (t.present[3] << 18)
