"""Designs that wrap the allocator: what all of them do, and the table of those there are.

Each has a file with its functions: ``per_page``, ``free_queue``, ``pool``.
"""

from libc.stdint cimport uint64_t

from asi_pa._core cimport INFO_SENSITIVE, design_t
from asi_pa.engine.free_queue cimport queue_alloc, queue_keep, queue_run
from asi_pa.engine.page_alloc cimport set_dirty, zone_of
from asi_pa.engine.per_page cimport per_page_alloc, per_page_keep
from asi_pa.engine.pool cimport (
    marked_pool_alloc,
    marked_pool_keep,
    pool_alloc,
    pool_balance,
    pool_keep,
    pool_shrink,
)
from asi_pa.engine.remapped cimport (
    audit_mapping,
    given_back,
    handed_out,
    is_remapped,
    remapped_present,
    set_pages,
    wanted_present,
)
from asi_pa.physmap.physmap cimport CAUSE_PAGE_ALLOC, physmap_flush

cdef wrapper_t PER_PAGE
PER_PAGE.alloc = per_page_alloc
PER_PAGE.keep = per_page_keep
PER_PAGE.shrink = NULL
PER_PAGE.work = NULL
PER_PAGE.balance = NULL

cdef wrapper_t POOL_OF_PAGES
POOL_OF_PAGES.alloc = pool_alloc
POOL_OF_PAGES.keep = pool_keep
POOL_OF_PAGES.shrink = pool_shrink
POOL_OF_PAGES.work = NULL
POOL_OF_PAGES.balance = NULL

# What the posting's pool does not have: marks, a pool a node.  A design with neither tests for neither.
cdef wrapper_t MARKED_POOL
MARKED_POOL.alloc = marked_pool_alloc
MARKED_POOL.keep = marked_pool_keep
MARKED_POOL.shrink = pool_shrink
MARKED_POOL.work = NULL
MARKED_POOL.balance = pool_balance

cdef wrapper_t FREE_QUEUE
FREE_QUEUE.alloc = queue_alloc
FREE_QUEUE.keep = queue_keep
FREE_QUEUE.shrink = NULL
FREE_QUEUE.work = queue_run
FREE_QUEUE.balance = NULL


cdef const wrapper_t *wrapper_of(int number, const design_t *design) noexcept:
    # NULL where nothing wraps the allocator
    if number == WRAP_PER_PAGE:
        return &PER_PAGE
    if number == WRAP_POOL:
        if design.looks_ahead or design.pool_by_node:
            return &MARKED_POOL
        return &POOL_OF_PAGES
    if number == WRAP_QUEUE:
        return &FREE_QUEUE
    return NULL


cdef int64_t wrapped_alloc(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil:
    cdef int64_t pfn
    mm.now += 1
    pfn = mm.wrapper.alloc(mm, cpu, order, rq)
    if pfn < 0:
        return -1
    return handed_out(mm, zone_of(mm, <uint64_t>pfn), pfn, order, rq)


cdef void wrapped_free(mm_t *mm, zone_t *z, int cpu, uint32_t frame, int order) noexcept nogil:
    mm.now += 1
    given_back(mm, z, frame, order)
    if not mm.wrapper.keep(mm, z, frame, order):
        zone_free(z, cpu, frame, order)


cdef void wrapper_balance(mm_t *mm, int due) noexcept nogil:
    cdef int i
    if mm.wrapper.balance != NULL:
        mm.wrapper.balance(mm, due)
    for i in range(mm.nzones):
        mm.zones[i].ahead_due = 0       # what the worker itself took wakes nobody


cdef void wrapped_contig(mm_t *mm, zone_t *z, uint32_t frame, uint32_t n, uint32_t info) noexcept nogil:
    # A contiguous range that was just allocated gets the mapping of its kind.
    cdef uint64_t pfn = z.base_pfn + frame
    if is_remapped(mm, info):
        if remapped_present(mm):
            mm.stats.pages_zeroed += n
            set_dirty(z, frame, n, False)
        set_pages(mm, pfn, n, remapped_present(mm), CAUSE_PAGE_ALLOC)
        if not remapped_present(mm):
            physmap_flush(mm.physmap, pfn, n)
    audit_mapping(mm, z, frame, n, wanted_present(mm, info))
    if info & INFO_SENSITIVE and (remapped_present(mm) or is_remapped(mm, info)):
        set_dirty(z, frame, n, True)
