"""Per-CPU page lists: refill, bulk free and the tuning of ``high``, ``alloc_factor``, ``free_count``.

Rules: mm/page_alloc.c nr_pcp_alloc, nr_pcp_free, nr_pcp_high, free_pcppages_bulk, decay_pcp_high (7.2; where
6.12 differs the kernel profile says so).
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memmove

from asi_pa._core cimport (
    AHEAD_BACK,
    AHEAD_BACK_TIMER,
    AHEAD_NOW,
    ALLOC_FLIP,
    ALLOC_NOSTEAL,
    FREE,
    RMQUEUE_NORMAL,
    TAIL,
    WMARK_HIGH,
    block_of,
    free_one,
    prefetchw,
    rmqueue,
    pcp_set_quiet,
    set_below_high,
    set_plenty,
    vmdiff_t,
    zone_watermark_ok,
)
from asi_pa.engine.flip cimport clear_ahead


# ---------------------------------------------------------------- arrays

cdef bint pcplist_init(pcplist_t *fl, size_t pages) noexcept nogil:
    # An empty list with room; False: no memory, and nothing done.
    cdef uint32_t *room = <uint32_t *>calloc(pages + PCP_AHEAD, sizeof(uint32_t))
    if room == NULL:
        return False
    fl.room = room
    fl.end = room + pages
    fl.head = fl.tail = room
    return True


cdef bint pcplist_reserve(pcplist_t *fl, size_t pages) noexcept nogil:
    # Room for so many pages, by doubling; False: no memory, and nothing done.
    cdef size_t size = fl.end - fl.room, n = fl.head - fl.tail
    cdef pcplist_t grown
    if pages <= size:
        return True
    while size < pages:
        size *= 2
    if not pcplist_init(&grown, size):
        return False
    memcpy(grown.room, fl.tail, n * sizeof(uint32_t))
    grown.head += n
    free(fl.room)
    fl[0] = grown
    return True


cdef bint pcplist_copy(pcplist_t *to, const pcplist_t *source) noexcept nogil:
    cdef size_t n = source.head - source.tail
    if not pcplist_reserve(to, n):
        return False
    memcpy(to.room, source.tail, n * sizeof(uint32_t))
    to.tail = to.room
    to.head = to.room + n
    return True


cdef uint32_t *pcp_make_room(zone_t *z, pcplist_t *fl, bint at_head) noexcept nogil:
    # For as many pages as the list has: it moves in its array where that is at least half empty, otherwise
    # the array doubles.  Returns its head.
    cdef size_t size = fl.end - fl.room, n = fl.head - fl.tail
    cdef uint32_t *to
    if 2 * n > size and not pcplist_reserve(fl, 2 * size):
        z.pcp_no_room = True        # Machine.raise_hook_error() says it when the operations are done
        z.watched[0] = 1
        pcp_give_half(z, fl)
        n = fl.head - fl.tail
    to = fl.room if at_head else fl.end - n
    memmove(to, fl.tail, n * sizeof(uint32_t))
    fl.tail = to
    fl.head = to + n
    return fl.head


cdef void pcp_give_half(zone_t *z, pcplist_t *fl) noexcept nogil:
    cdef size_t at = <const char *>fl - <const char *>z.pcps
    cdef pcp_t *pcp = &z.pcps[at // sizeof(pcp_t)]
    cdef int order = z.design.pcp_list_order[fl - pcp.lists]
    z.diff = &z.diffs[pcp - z.pcps]
    free_from_tail(z, pcp, fl, (fl.head - fl.tail + 1) // 2 << order, order)


cdef void pcp_open(pcplist_t *fl, int64_t pages) noexcept nogil:
    # An empty list is about to get so many pages at its tail.
    if not pcplist_reserve(fl, <size_t>pages):
        pages = fl.end - fl.room
    fl.head = fl.tail = fl.room + pages


cdef void pcp_unlink(pcplist_t *fl, uint32_t frame) noexcept nogil:
    # Any page of the list.
    cdef uint32_t *at = fl.head - 1
    if fl.tail[0] == frame:
        fl.tail += 1
        return
    while at[0] != frame:
        at -= 1
    memmove(at, at + 1, (fl.head - at - 1) * sizeof(uint32_t))
    fl.head -= 1


# ---------------------------------------------------------------- rules

cdef inline int64_t clamp(int64_t x, int64_t low, int64_t high) noexcept nogil:
    # include/linux/minmax.h __clamp (6.12 and 7.2): the upper limit is asked first, and where low > high what
    # is below both becomes low
    if x >= high:
        return high
    return low if x < low else x


cdef int64_t nr_pcp_alloc(zone_t *z, pcp_t *pcp, int order) noexcept nogil:
    # How many blocks a refill takes; doubles with alloc_factor while order-0 refills follow each other.
    cdef int64_t batch = pcp.batch, high, n, most
    pcp.high = clamp(pcp.high, pcp.high_min, pcp.high_max)
    high = pcp.high
    if high < batch:
        return 1
    n = batch
    if order == 0:
        n = batch << pcp.alloc_factor
    if pcp.high_min != pcp.high_max and not z.below_high:
        pcp.high = high + n if high + n < pcp.high_max else pcp.high_max
        high = pcp.high
    if order == 0:
        most = high - pcp.count - batch
        if most < batch:
            most = batch
        if n <= most and pcp.alloc_factor < z.pcp_batch_scale_max:
            pcp.alloc_factor += 1
        if n > most:
            n = most
    if n > 1:
        n >>= order
        if n < 2:
            n = 2
    return n


cdef void pcp_refill(zone_t *z, pcp_t *pcp, int order, int ft, int index,
                     uint32_t flags) noexcept nogil:
    # rmqueue_bulk(): one rmqueue mode for the whole refill, pages in the order they came.
    cdef int64_t n = nr_pcp_alloc(z, pcp, order)
    cdef int64_t wanted = n
    cdef int mode = RMQUEUE_NORMAL
    cdef uint32_t frame
    cdef pcplist_t *fl = &pcp.lists[index]
    pcp_set_quiet(z, pcp)
    if flags & ALLOC_HIGHATOMIC and not z.kernel.pcp_refill_highatomic:
        return
    pcp_open(fl, n)
    z.stats.pcp_refills += 1
    if z.design.flip_before_steal and flags & ALLOC_FLIP:
        flags |= ALLOC_NOSTEAL      # rather an empty list: rmqueue_buddy() flips a block, whose rest refills
    while n > 0:
        frame = rmqueue(z, order, ft, flags, &mode)
        if frame == NIL:
            break
        pcp_append(z, fl, frame, order)
        pcp.count += <int64_t>1 << order
        n -= 1
    z.stats.pcp_refilled += wanted - n
    if z.design.looks_ahead:
        z.ahead_due |= z.design.looks_ahead & AHEAD_NOW


cdef uint32_t rmqueue_pcplist(zone_t *z, int cpu, int order, const request_t *rq,
                              uint32_t flags) noexcept nogil:
    # rmqueue_pcplist() / __rmqueue_pcplist(); z.diff is this CPU's
    cdef pcp_t *pcp = &z.pcps[cpu]
    cdef int index = rq.pcp_list[order]
    if index == NO_PCP_LIST:
        return NIL
    if not pcp_empty(&pcp.lists[index]):
        return pcp_take(pcp, &pcp.lists[index], <int64_t>1 << order)
    pcp.free_count >>= 1        # before the refill, in whose windows pages may be freed to this CPU
    pcp_refill(z, pcp, order, rq.ft, index, flags)
    if pcp_empty(&pcp.lists[index]):
        return NIL
    pcp.count -= <int64_t>1 << order
    return pcp_pop(&pcp.lists[index])


cdef void free_pcppages_bulk(zone_t *z, pcp_t *pcp, int64_t count, int index) noexcept nogil:
    # From the list's tail until it is empty, then the next lists in turn, until `count` pages are gone.
    cdef int order
    if count > pcp.count:
        count = pcp.count
    z.stats.pcp_bulk_frees += 1
    while count > 0:
        while pcp_empty(&pcp.lists[index]):
            index += 1
            if index == z.design.npcp:
                index = 0
        order = z.design.pcp_list_order[index]
        count = free_from_tail(z, pcp, &pcp.lists[index], count, order)


cdef int64_t free_from_tail(zone_t *z, pcp_t *pcp, pcplist_t *fl, int64_t count,
                            int order) noexcept nogil:
    # Frees from a list that is not empty until it is, or `count` pages are gone; returns what is left of
    # these.
    cdef uint32_t *at = fl.tail
    cdef const uint32_t *last = fl.head
    cdef uint32_t frame
    cdef int64_t pages = <int64_t>1 << order, before = pcp.count
    while True:
        frame = at[PCP_AHEAD]
        prefetchw(&z.state[frame])
        prefetchw(&z.links[frame])
        frame = at[PCP_AHEAD // 2] ^ 1u << order
        if z.state[frame] == <uint8_t>(FREE | order):
            prefetchw(&z.links[z.links[frame].next])
            prefetchw(&z.links[z.links[frame].prev])
        frame = at[0]
        at += 1
        z.state[frame] = TAIL
        count -= pages
        pcp.count -= pages
        free_one(z, frame, order, z.pbtype[block_of(z, frame)], False)
        if at == last or count <= 0:
            break
    fl.tail = at
    if at == last:
        fl.head = fl.tail = fl.room
    z.stats.pcp_drained += (before - pcp.count) >> order
    return count


cdef int64_t nr_pcp_high(zone_t *z, pcp_t *pcp, bint free_high) noexcept nogil:
    cdef int64_t high, most
    pcp.high = clamp(pcp.high, pcp.high_min, pcp.high_max)
    high = pcp.high
    if high == 0:
        return 0
    if free_high:
        most = high - (pcp.batch << z.pcp_batch_scale_max)
        pcp.high = most if most > pcp.high_min else pcp.high_min
        return 0
    if pcp.high_min == pcp.high_max:
        return high
    if z.below_high:
        most = high - (pcp.free_count if pcp.free_count > pcp.batch else pcp.batch)
        pcp.high = most if most > pcp.high_min else pcp.high_min
        return pcp.count if pcp.count > pcp.high_min else pcp.high_min
    if pcp.count >= high and pcp.high < pcp.free_count + pcp.batch:
        pcp.high = clamp(pcp.free_count + pcp.batch, pcp.high_min, pcp.high_max)
    return high


cdef int64_t pcp_excess(zone_t *z, pcp_t *pcp, int order) noexcept nogil:
    # free_frozen_page_commit() after the push: tunes `high` and says how many pages to give back.
    cdef bint free_high = False
    cdef int64_t batch = pcp.batch, high, to_free
    if order != 0 and order <= PCP_MAX_LOW_ORDER:
        free_high = (pcp.free_count >= pcp.free_high_least and 0 < pcp.freed_order <= PCP_MAX_LOW_ORDER
                     and (not pcp.free_high_batch or pcp.count >= batch))
    pcp.freed_order = order
    if pcp.free_count < pcp.free_count_max:
        pcp.free_count += <int64_t>1 << order
    high = nr_pcp_high(z, pcp, free_high)
    pcp_set_quiet(z, pcp)
    if pcp.count < high:
        return 0
    # nr_pcp_free()
    if free_high:
        to_free = batch << z.pcp_batch_scale_max
        return to_free if to_free < pcp.count else pcp.count
    if high < batch:
        return 1
    return clamp(pcp.free_count, batch, high - batch)


cdef void pcp_freed(zone_t *z, pcp_t *pcp, int order, int index) noexcept nogil:
    cdef int64_t to_free = pcp_excess(z, pcp, order), chunk
    z.diff = &z.diffs[pcp - z.pcps]
    if to_free == 0:
        return
    if z.kernel.pcp_bulk_in_batches:
        while to_free > 0 and pcp.count > 0:
            chunk = pcp.batch if to_free > pcp.batch else to_free
            free_pcppages_bulk(z, pcp, chunk, index)
            to_free -= chunk
    else:
        free_pcppages_bulk(z, pcp, to_free, index)
    if z.below_high and zone_watermark_ok(z, 0, z.wmark[WMARK_HIGH] + z.boost, 3, 0):
        set_below_high(z, False)


cdef void pcp_drain(zone_t *z, pcp_t *pcp) noexcept nogil:
    # drain_pages_zone()
    cdef int64_t n
    while pcp.count > 0:
        n = pcp.batch << z.pcp_batch_scale_max
        free_pcppages_bulk(z, pcp, n if n < pcp.count else pcp.count, 0)


cdef bint pcp_lower_high(zone_t *z, pcp_t *pcp) noexcept nogil:
    # decay_pcp_high(): the part that moves `high`
    cdef int64_t high = pcp.high, n
    if high <= pcp.high_min:
        return False
    n = pcp.count - (pcp.batch << z.pcp_batch_scale_max)
    if n < high - (high >> 3):
        n = high - (high >> 3)
    if n < pcp.high_min:
        n = pcp.high_min
    pcp.high = n
    pcp_set_quiet(z, pcp)
    return n > pcp.high_min


cdef bint pcp_decay(zone_t *z, pcp_t *pcp) noexcept nogil:
    # decay_pcp_high(), from the vmstat worker about once a second
    cdef bint todo = pcp_lower_high(z, pcp)
    cdef int64_t n = pcp.count - pcp.high
    while n > 0:
        todo = True
        free_pcppages_bulk(z, pcp, n if n < pcp.batch else pcp.batch, 0)
        n -= pcp.batch
    return todo


cdef bint pcp_expire(zone_t *z, pcp_t *pcp, bint remote) noexcept nogil:
    # refresh_cpu_vm_stats(), CONFIG_NUMA: of another node's pages a batch goes back at the third tick, that
    # one included which found counters moved by this CPU (drain_zone_pages()); which moves them.
    if not pcp.expire or not pcp.count:
        return False
    if not remote:
        pcp.expire = 0
        return False
    pcp.expire -= 1
    if not pcp.expire:
        free_pcppages_bulk(z, pcp, pcp.count if pcp.count < pcp.batch else pcp.batch, 0)
    return True


cdef bint refresh_cpu_vm_stats(zone_t *z, int cpu, bint remote) noexcept nogil:
    # mm/vmstat.c, once a second on each CPU: its differences are folded, then its lists decay.  `remote`: the
    # zone is of another node than the CPU.
    cdef vmdiff_t *diff = &z.diffs[cpu]
    cdef bint moved = diff.free != 0 or diff.cma != 0
    cdef bint todo
    z.nr_free += diff.free
    z.nr_free_cma += diff.cma
    diff.free = diff.cma = 0
    set_plenty(z)
    if z.design.looks_ahead & AHEAD_BACK_TIMER:
        z.ahead_due |= AHEAD_BACK
    z.diff = diff
    if z.design.clears_ahead:
        clear_ahead(z)
    if z.pcps == NULL:
        return False
    if moved:
        z.pcps[cpu].expire = EXPIRE_TICKS
    todo = pcp_decay(z, &z.pcps[cpu])
    return pcp_expire(z, &z.pcps[cpu], remote) or todo
