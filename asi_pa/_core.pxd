# The zone: free lists, counters; the hot paths are inline here so that every extension that cimports them
# gets them inlined.  Cold paths (claim, steal, reserves) are in _core.pyx; what a frame, a list, a zone is,
# in engine/types.pxd, whose names can be had from here, too.
#
# Rules cite the kernel's function; versions and evidence are in docs/engine/model.md.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from asi_pa.engine.types cimport *

# ---------------------------------------------------------------- memory

cdef extern from *:
    """
    #include <stdlib.h>
    #include <sys/mman.h>
    #define asi_pa_prefetchw(p) __builtin_prefetch((p), 1)
    /* Memory of any content, in huge pages where the system gives them for the asking. */
    static inline void *asi_pa_big_alloc(size_t size)
    {
        const size_t huge = 2ul << 20;
        void *p;
        if (size < huge)
            return malloc(size);
        size = (size + huge - 1) & ~(huge - 1);
        p = aligned_alloc(huge, size);
    #ifdef MADV_HUGEPAGE
        if (p)
            madvise(p, size, MADV_HUGEPAGE);
    #endif
        return p;
    }
    """
    int ctz "__builtin_ctz"(unsigned int) noexcept nogil
    int clz "__builtin_clz"(unsigned int) noexcept nogil
    bint likely "__builtin_expect"(bint, long) noexcept nogil
    void prefetchw "asi_pa_prefetchw"(const void *) noexcept nogil
    void *big_alloc "asi_pa_big_alloc"(size_t) noexcept nogil


# ---------------------------------------------------------------- counters

cdef inline void mod_free(zone_t *z, vmdiff_t *diff, int64_t n) noexcept nogil:
    # __mod_zone_page_state: the per-CPU difference is folded when it leaves [-t, t].
    cdef int64_t d = diff.free + n, t = z.stat_threshold
    if not likely(<uint64_t>(d + t) <= <uint64_t>(2 * t), 1):
        z.nr_free += d
        d = 0
    diff.free = d


cdef inline void account_freepages(zone_t *z, int ft, int64_t n) noexcept nogil:
    # account_freepages: ISOLATE counts for nothing, CMA and HIGHATOMIC have counters beside.
    cdef int mt = z.design.mt[ft]
    cdef int64_t d
    if mt <= MIGRATE_RECLAIMABLE:
        mod_free(z, z.diff, n)
        return
    if mt == MIGRATE_ISOLATE:
        return
    mod_free(z, z.diff, n)
    if mt == MIGRATE_HIGHATOMIC:
        z.nr_free_highatomic += n
    elif mt == MIGRATE_CMA:
        d = z.diff.cma + n
        if d > z.stat_threshold or -d > z.stat_threshold:
            z.nr_free_cma += d
            d = 0
        z.diff.cma = d
    set_plenty(z)


# ---------------------------------------------------------------- free lists

cdef inline uint32_t list_of(const zone_t *z, int order, int ft) noexcept nogil:
    # The list's head, a number like a frame's and above them all; behind it stands how many blocks it has.
    return z.heads + <uint32_t>(order * (2 * MAX_LISTS) + 2 * ft)


cdef inline uint32_t first_of(const zone_t *z, int order, int ft) noexcept nogil:
    # The list's first block; not below z.nframes if there is none.  The next is z.links[frame].next.
    return z.links[list_of(z, order, ft)].next


cdef inline uint32_t blocks_on(const zone_t *z, int order, int ft) noexcept nogil:
    # free_area[order].nr_free, of one list
    return z.links[list_of(z, order, ft) + 1].next


cdef inline void list_insert(zone_t *z, uint32_t frame, int order, int ft, uint32_t list,
                             uint32_t prv) noexcept nogil:
    # After `prv`, a block of the list or its head.
    cdef link_t *links = z.links
    cdef uint32_t nxt = links[prv].next
    links[frame].next = nxt
    links[frame].prev = prv
    links[nxt].prev = frame
    links[prv].next = frame
    links[list + 1].next += 1
    z.state[frame] = <uint8_t>(FREE | order)
    z.nonempty[ft] |= 1u << order
    if z.listed != NULL:
        z.listed[frame] = <uint8_t>ft


cdef inline void list_add(zone_t *z, uint32_t frame, int order, int ft) noexcept nogil:
    cdef uint32_t list = list_of(z, order, ft)
    list_insert(z, frame, order, ft, list, list)


cdef inline void list_add_tail(zone_t *z, uint32_t frame, int order, int ft) noexcept nogil:
    cdef uint32_t list = list_of(z, order, ft)
    list_insert(z, frame, order, ft, list, z.links[list].prev)


cdef inline void list_del(zone_t *z, uint32_t frame, int order, int ft) noexcept nogil:
    cdef link_t *links = z.links
    cdef uint32_t nxt = links[frame].next, prv = links[frame].prev, left
    if z.listed != NULL:
        ft = z.listed[frame]
    links[prv].next = nxt
    links[nxt].prev = prv
    z.state[frame] = TAIL
    prv = list_of(z, order, ft) + 1
    left = links[prv].next - 1
    links[prv].next = left
    z.nonempty[ft] -= <uint32_t>(left == 0) << order


cdef inline void expand(zone_t *z, uint32_t frame, int low, int high, int ft) noexcept nogil:
    # mm/page_alloc.c expand(): the upper halves go to the heads of the lists.
    while high > low:
        high -= 1
        list_add(z, frame + (1u << high), high, ft)


cdef inline uint32_t take_first(zone_t *z, uint32_t list, uint32_t orders, int order,
                                int ft) noexcept nogil:
    # The first block of the lowest of `orders` (bit 0: `order`, whose list is `list`), split.  Its state is
    # for the caller to set.
    cdef uint32_t frame, left
    if not orders & 1:
        return split_first(z, list, ctz(orders), order, ft)
    frame = unlink_first(z.links, list, &left)
    z.nonempty[ft] -= <uint32_t>(left == 0) << order
    return frame


cdef inline uint32_t unlink_first(link_t *links, uint32_t list, uint32_t *left) noexcept nogil:
    # The list's first block; `left` says how many remain.
    cdef uint32_t frame = links[list].next
    cdef uint32_t nxt = links[frame].next
    left[0] = links[list + 1].next - 1
    links[list].next = nxt
    links[nxt].prev = list
    links[list + 1].next = left[0]
    return frame


cdef inline uint32_t split_first(zone_t *z, uint32_t list, int up, int order, int ft) noexcept nogil:
    # What is split off goes to lists that are known to be empty.
    cdef link_t *links = z.links
    cdef uint8_t *state = z.state
    cdef uint8_t *listed = z.listed
    cdef int high = order + up
    cdef uint32_t frame, left, upper
    list += <uint32_t>(2 * MAX_LISTS * up)
    frame = unlink_first(links, list, &left)
    # bits `order` to `high` - 1 are clear: the sum sets them, and clears `high` where nothing is left
    z.nonempty[ft] += (<uint32_t>(left != 0) << high) - (1u << order)
    while high > order:
        high -= 1
        list -= 2 * MAX_LISTS
        upper = frame + (1u << high)
        links[upper].next = list
        links[upper].prev = list
        links[list].next = upper
        links[list].prev = upper
        links[list + 1].next = 1
        state[upper] = <uint8_t>(FREE | high)
        if listed != NULL:
            listed[upper] = <uint8_t>ft
    return frame


cdef inline uint32_t rmqueue_smallest(zone_t *z, int order, int ft) noexcept nogil:
    # __rmqueue_smallest(): first non-empty list from `order` up, its head, split within the type.
    cdef uint32_t orders = z.nonempty[ft] >> order
    cdef uint32_t frame
    if orders == 0:
        return NIL
    frame = take_first(z, list_of(z, order, ft), orders, order, ft)
    z.state[frame] = TAIL
    account_freepages(z, ft, -(<int64_t>1 << order))
    return frame


cdef inline uint32_t rmqueue(zone_t *z, int order, int ft, uint32_t flags, int *mode) noexcept nogil:
    # __rmqueue(); `mode` remembers how far the last call had to go.
    if likely(z.nonempty[ft] >> order != 0 and mode[0] == RMQUEUE_NORMAL and not z.detours, 1):
        return rmqueue_smallest(z, order, ft)
    return rmqueue_slow(z, order, ft, flags, mode)


cdef inline void set_block_type(zone_t *z, uint32_t block, int ft, int ctx) noexcept nogil:
    # set_pageblock_migratetype(); designs with a protected tree look at what that means for it.
    if z.design.tracks:
        ft = block_retyped(z, block, ft, ctx)
    z.pbbase[block] = <uint8_t>ft
    if (z.design.explicit_maps or (ctx == CTX_FLIP and z.design.flip_keeps_isolation)) and (
            z.design.mt[z.pbtype[block]] == MIGRATE_ISOLATE):
        ft = z.design.isolate[ft]       # isolated meanwhile: it stays so
    z.pbtype[block] = <uint8_t>ft


cdef inline void free_one(zone_t *z, uint32_t frame, int order, int ft, bint to_tail) noexcept nogil:
    # __free_one_page(): merge upwards, then insert at head, or at tail when a further merge is likely.
    cdef uint32_t bit = 1u << order, list
    account_freepages(z, ft, bit)
    while order < z.merge_order and z.state[frame ^ bit] == <uint8_t>(FREE | order):
        list_del(z, frame ^ bit, order, ft)
        frame &= ~bit
        order += 1
        bit <<= 1
    if not likely(order < z.merge_order, 1):
        frame = merge_blocks(z, frame, &order, ft)
        if frame == NIL:
            return      # captured
        bit = 1u << order
    if not to_tail and order < z.max_order - 1:
        # buddy_merge_likely(): the buddy of the parent is free at its order.
        to_tail = z.state[(frame & ~bit) ^ bit << 1] == <uint8_t>(FREE | (order + 1))
    list = list_of(z, order, ft)
    # nobody can predict that, so no branch: after the list's last block, or after its head
    list_insert(z, frame, order, ft, list, list ^ ((list ^ z.links[list].prev) & -<uint32_t>to_tail))


cdef inline void free_to_buddy(zone_t *z, uint32_t frame, int order) noexcept nogil:
    # free_one_page() / split_large_buddy(): pieces of at most a pageblock, each under its own type.
    cdef uint32_t end = frame + (1u << order)
    z.state[frame] = TAIL
    if order > z.pageblock_order:
        order = z.pageblock_order
    while frame < end:
        free_one(z, frame, order, z.pbtype[block_of(z, frame)], False)
        frame += 1u << order


# ---------------------------------------------------------------- watermarks

cdef inline int64_t zone_unusable_free(zone_t *z, int order, uint32_t flags) noexcept nogil:
    # __zone_watermark_unusable_free()
    cdef int64_t unusable = (<int64_t>1 << order) - 1
    if not flags & (ALLOC_NON_BLOCK | ALLOC_MIN_RESERVE | ALLOC_HIGHATOMIC | ALLOC_OOM):
        unusable += z.nr_free_highatomic
    if not flags & ALLOC_CMA and z.nr_free_cma > 0:
        unusable += z.nr_free_cma
    return unusable


cdef inline bint zone_watermark_fast(zone_t *z, int order, int64_t mark, int zone_idx,
                                     uint32_t flags) noexcept nogil:
    # zone_watermark_fast(): order 0 without the walk, everything else the full test.
    cdef int64_t nr_free = z.nr_free if z.nr_free > 0 else 0
    cdef int64_t unusable
    if order == 0:
        unusable = zone_unusable_free(z, 0, flags)
        if nr_free - (unusable if unusable < nr_free else nr_free) > mark + z.lowmem_reserve[zone_idx]:
            return True
    if zone_watermark_ok(z, order, mark, zone_idx, flags):
        return True
    if order == 0 and flags & ALLOC_MIN_RESERVE and z.boost and flags & WMARK_MASK == WMARK_MIN:
        return zone_watermark_ok(z, 0, z.wmark[WMARK_MIN], zone_idx, flags)
    return False


# ---------------------------------------------------------------- cold paths, in _core.pyx

cdef bint zone_watermark_ok(zone_t *z, int order, int64_t mark, int zone_idx,
                            uint32_t flags) noexcept nogil
cdef bint watermark_ok_with(zone_t *z, int order, int64_t mark, int zone_idx, uint32_t flags,
                            int64_t nr_free) noexcept nogil

cdef int find_suitable_fallback(zone_t *z, int order, int ft) noexcept nogil
cdef uint32_t fallback_orders(const zone_t *z, int ft) noexcept nogil
cdef bint block_in_zone(zone_t *z, uint32_t block) noexcept nogil
cdef int64_t plenty_of(const zone_t *z) noexcept nogil
cdef bint detours_of(const zone_t *z) noexcept nogil
cdef int64_t quiet_of(const zone_t *z, const pcp_t *pcp) noexcept nogil
cdef int64_t free_high_least_of(const zone_t *z, const pcp_t *pcp) noexcept nogil
cdef void set_plenty(zone_t *z) noexcept nogil
cdef void pcp_set_quiet(zone_t *z, pcp_t *pcp) noexcept nogil
cdef void set_below_high(zone_t *z, bint below) noexcept nogil
cdef uint32_t merge_blocks(zone_t *z, uint32_t frame, int *order, int ft) noexcept nogil
cdef int block_retyped(zone_t *z, uint32_t block, int ft, int ctx) noexcept nogil
cdef void keep_claimed(zone_t *z, uint32_t frame, int cur, int order, int ft) noexcept nogil
cdef uint32_t rmqueue_claim(zone_t *z, int order, int ft, uint32_t flags) noexcept nogil
cdef uint32_t rmqueue_steal(zone_t *z, int order, int ft) noexcept nogil
cdef uint32_t rmqueue_slow(zone_t *z, int order, int ft, uint32_t flags, int *mode) noexcept nogil
cdef uint32_t move_freepages(zone_t *z, uint32_t block, int old_ft, int new_ft) noexcept nogil

cdef int zone_init(zone_t *z, uint64_t start_pfn, uint64_t end_pfn, int pageblock_order,
                   int max_order, int ncpus) except -1
cdef void zone_destroy(zone_t *z) noexcept nogil
cdef void zone_release_range(zone_t *z, uint32_t frame, uint32_t end) noexcept nogil

cdef class Zone:
    cdef zone_t z
    cdef public object spec
