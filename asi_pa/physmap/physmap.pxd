# The physmap as other extensions see it: the C interface of physmap/ops, and the Python object.
from asi_pa.physmap.ops cimport (
    CAUSE_CLAIM,
    CAUSE_CONTIG,
    CAUSE_FLIP,
    CAUSE_HIGHATOMIC,
    CAUSE_HOTPLUG,
    CAUSE_MERGE,
    CAUSE_OTHER,
    CAUSE_PAGE_ALLOC,
    CAUSE_PAGE_FREE,
    CAUSE_POOL_REFILL,
    CAUSE_POPULATE,
    CAUSE_QUEUE_WORKER,
    CAUSE_SET_MEMORY,
    CAUSE_SHRINKER,
    CAUSE_UNRESERVE,
    FLUSH_FULL,
    FLUSH_NONE,
    FLUSH_RANGE,
    LEVEL_PMD,
    LEVEL_PTE,
    LEVEL_PUD,
    MAX_DIRECT_MAP_PFN,
    RESTRICTED,
    UNRESTRICTED,
    physmap_add,
    physmap_counters_t,
    physmap_cut,
    physmap_destroy,
    physmap_flush,
    physmap_init,
    physmap_leave_out,
    physmap_log_t,
    physmap_map,
    physmap_present,
    physmap_present_in,
    physmap_present_pages,
    physmap_protect,
    physmap_record_t,
    physmap_remove,
    physmap_reserve,
    physmap_reset_counters,
    physmap_set_global,
    physmap_t,
    physmap_tree,
    physmap_unflushed,
    physmap_unmap,
)

cdef class Physmap:
    cdef physmap_t pm           # the model, when this object owns one
    cdef physmap_t *p           # what the methods work on: &self.pm, or a borrowed one
    cdef object owner           # keeps a borrowed model alive
    cdef readonly int pageblock_order

    cdef physmap_t *model(self) except NULL

    @staticmethod
    cdef Physmap borrow(physmap_t *p, object owner, int pageblock_order)
