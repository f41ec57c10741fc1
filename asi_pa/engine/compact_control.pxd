# Compaction: what a run keeps (struct compact_control, mm/internal.h) and the log that recordings compare.
from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.stdlib cimport realloc

from asi_pa._core cimport (
    MAX_ORDERS,
    block_of,
    zone_t,
)
from asi_pa.engine.page_alloc cimport compact_log_t, mm_t

cdef enum:                  # enum migrate_mode (include/linux/migrate_mode.h)
    MIGRATE_ASYNC = 0
    MIGRATE_SYNC_LIGHT = 1
    MIGRATE_SYNC = 2

cdef enum:                  # enum compact_priority (include/linux/compaction.h)
    COMPACT_PRIO_SYNC_FULL = 0
    COMPACT_PRIO_SYNC_LIGHT = 1
    COMPACT_PRIO_ASYNC = 2

cdef enum:                  # enum compact_result (include/linux/compaction.h)
    COMPACT_NOT_SUITABLE_ZONE = 0
    COMPACT_SKIPPED = 1
    COMPACT_DEFERRED = 2
    COMPACT_NO_SUITABLE_PAGE = 3
    COMPACT_CONTINUE = 4
    COMPACT_COMPLETE = 5
    COMPACT_PARTIAL_SKIPPED = 6
    COMPACT_CONTENDED = 7
    COMPACT_SUCCESS = 8

cdef enum:
    COMPACT_CLUSTER_MAX = 32    # SWAP_CLUSTER_MAX
    COMPACT_COSTLY_ORDER = 3    # PAGE_ALLOC_COSTLY_ORDER
    COMPACT_WHOLE = -1          # the order of compact_memory: is_via_compact_memory()

cdef enum:                  # rows of the log; docs/model.md has the columns
    LOG_MOVE = 1
    LOG_MIGRATE_SCAN = 2
    LOG_FREE_SCAN = 3
    LOG_FAST_FREE = 4
    LOG_MIGRATED = 5
    LOG_BEGIN = 6
    LOG_END = 7
    LOG_TOTALS = 8
    LOG_FINISHED = 9
    LOG_SUITABLE = 10
    LOG_DEFERRED = 11
    LOG_DEFER = 12
    LOG_DEFER_RESET = 13
    LOG_DIRECT = 14

cdef struct held_t:
    # free blocks of one order, off the zone's lists; linked by links[].next
    uint32_t head
    uint32_t tail

cdef struct compact_control_t:
    mm_t *mm
    zone_t *zone
    int cpu
    # what is wanted
    int order               # COMPACT_WHOLE: everything
    int mode
    int ft                  # freetype of who asks
    int mt
    int movable             # freetype whose lists the fast searches walk; -1: none on this side
    int side                # 1, 0: only blocks that are mapped, unmapped, are sources and targets; -1: all
    bint flips              # a free block of the other side serves, too
    uint32_t alloc_flags
    int zone_idx            # highest_zoneidx
    bint direct
    bint proactive
    bint fs                 # __GFP_FS: page cache may move
    bint ignore_skip_hint
    bint ignore_block_suitable
    bint whole_zone
    # where the scanners are
    int64_t migrate_pfn     # frames of the zone, as all positions here
    int64_t free_pfn
    int64_t fast_start_pfn  # -1: none yet, -2: used up
    int fast_search_fail
    int search_order
    bint finish_pageblock
    # what is held
    int64_t nr_freepages
    int64_t nr_migratepages
    held_t held[MAX_ORDERS]
    uint32_t *isolated      # sources in the order of their isolation: the list's tail is isolated[0]
    uint32_t nisolated
    int64_t total_migrate_scanned
    int64_t total_free_scanned
    int64_t moved           # pages


cdef inline int64_t block_start(const zone_t *z, int64_t frame) noexcept nogil:
    return frame & ~<int64_t>(z.pageblock_pages - 1)


cdef inline int64_t block_end(const zone_t *z, int64_t frame) noexcept nogil:
    # pageblock_end_pfn(): of a block's first frame it is the next block's
    return block_start(z, frame) + z.pageblock_pages


cdef inline int64_t last_block(const zone_t *z) noexcept nogil:
    return block_start(z, z.nframes - 1)


cdef inline bint block_aligned(const zone_t *z, int64_t frame) noexcept nogil:
    return not frame & (z.pageblock_pages - 1)


cdef inline bint isolation_suitable(const compact_control_t *cc, int64_t frame) noexcept nogil:
    # isolation_suitable(): the skip bit, where it is honoured
    return cc.ignore_skip_hint or not cc.zone.compact.skip[block_of(cc.zone, <uint32_t>frame)]


cdef inline bint on_side(const compact_control_t *cc, uint32_t block) noexcept nogil:
    return cc.side < 0 or cc.zone.pbmapped[block] == cc.side


cdef inline int freelist_scan_limit(const compact_control_t *cc) noexcept nogil:
    return (COMPACT_CLUSTER_MAX >> min(31, cc.fast_search_fail)) + 1


cdef inline void compact_log(mm_t *mm, int kind, int64_t a, int64_t b, int64_t c, int64_t d) noexcept nogil:
    if mm.compact_log != NULL:
        compact_log_add(mm, kind, a, b, c, d)


cdef inline void compact_log_add(mm_t *mm, int kind, int64_t a, int64_t b, int64_t c,
                                 int64_t d) noexcept nogil:
    # a row as recordings have it: the operation, the kind, four numbers of 32 bits
    cdef compact_log_t *log = mm.compact_log
    cdef int32_t *row
    cdef void *more
    if log.n == log.watch and log.at_watch != NULL:
        log.at_watch(log)
    if log.n == log.room:
        more = realloc(log.rows, 2 * (log.room + 512) * 6 * sizeof(int32_t))
        if more == NULL:
            log.lost = True
            return
        log.rows = <int32_t *>more
        log.room = 2 * (log.room + 512)
    row = log.rows + 6 * log.n
    row[0] = <int32_t>mm.zones[0].now
    row[1] = kind
    row[2] = <int32_t>a
    row[3] = <int32_t>b
    row[4] = <int32_t>c
    row[5] = <int32_t>d
    log.n += 1


cdef inline int64_t seen(const zone_t *z, int64_t frame) noexcept nogil:
    # a position as the log and the dumps show it
    return frame - z.first
