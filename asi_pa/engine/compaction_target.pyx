"""Compaction's free scanner: free blocks taken off the lists as targets.

Rules: mm/compaction.c isolate_freepages, isolate_freepages_block, fast_isolate_freepages,
fast_isolate_around, suitable_migration_target, compaction_alloc, compaction_free, release_free_list (7.2).
Whole buddies are held, in lists of their order; what is left of them stays held from batch to batch and goes
back when the run ends.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from asi_pa.engine.compact_control cimport (
    COMPACT_CLUSTER_MAX,
    LOG_FAST_FREE,
    LOG_FREE_SCAN,
    MIGRATE_ASYNC,
    block_end,
    block_start,
    compact_control_t,
    compact_log,
    freelist_scan_limit,
    held_t,
    isolation_suitable,
    on_side,
    seen,
)
from asi_pa._core cimport (
    ALLOC,
    FREE,
    INFO_COMP,
    INFO_SENSITIVE,
    KIND_MASK,
    MAX_ORDERS,
    MIGRATE_CMA,
    MIGRATE_MOVABLE,
    NIL,
    ORDER_MASK,
    TAKEN,
    block_of,
    link_t,
    list_of,
    zone_t,
)
from asi_pa.engine.page_isolation cimport isolate_free_page
from asi_pa.engine.page_alloc cimport zone_free


# ---------------------------------------------------------------- what is held

cdef void held_init(compact_control_t *cc) noexcept nogil:
    cdef int order
    for order in range(MAX_ORDERS):
        cc.held[order].head = NIL
    cc.nr_freepages = 0


cdef void hold_first(compact_control_t *cc, uint32_t frame, int order) noexcept nogil:
    cdef held_t *held = &cc.held[order]
    cc.zone.state[frame] = <uint8_t>(TAKEN | order)
    cc.zone.links[frame].next = held.head
    if held.head == NIL:
        held.tail = frame
    held.head = frame


cdef void hold_last(compact_control_t *cc, uint32_t frame, int order) noexcept nogil:
    cdef held_t *held = &cc.held[order]
    cc.zone.links[frame].next = NIL
    if held.head == NIL:
        held.head = frame
    else:
        cc.zone.links[held.tail].next = frame
    held.tail = frame
    cc.nr_freepages += <int64_t>1 << order


cdef uint32_t unhold(compact_control_t *cc, int order) noexcept nogil:
    cdef uint32_t frame = cc.held[order].head
    cc.held[order].head = cc.zone.links[frame].next
    return frame


cdef uint32_t compaction_alloc(compact_control_t *cc, int order) noexcept nogil:
    # compaction_alloc(): the smallest block held that is large enough, its lowest part; NIL where the
    # scanners have met.
    cdef int high, attempt
    cdef uint32_t frame
    for attempt in range(2):
        if attempt:
            isolate_freepages(cc)
        for high in range(order, cc.zone.max_order + 1):
            if cc.held[high].head != NIL:
                break
        else:
            continue
        frame = unhold(cc, high)
        while high > order:
            high -= 1
            hold_first(cc, frame + (1u << high), high)
        cc.nr_freepages -= <int64_t>1 << order
        cc.nr_migratepages -= <int64_t>1 << order
        return frame
    return NIL


cdef void compaction_free(compact_control_t *cc, uint32_t frame, int order) noexcept nogil:
    # compaction_free(): a target that was not used
    hold_first(cc, frame, order)
    cc.nr_freepages += <int64_t>1 << order
    cc.nr_migratepages += <int64_t>1 << order


cdef int64_t release_free_list(compact_control_t *cc) noexcept nogil:
    # release_free_list(): freed like any page; the highest of them
    cdef int64_t highest = -1
    cdef int order
    cdef uint32_t frame
    for order in range(cc.zone.max_order + 1):
        while cc.held[order].head != NIL:
            frame = unhold(cc, order)
            if frame > highest:
                highest = frame
            give_back(cc, frame, order)
    cc.nr_freepages = 0
    return highest


cdef void give_back(compact_control_t *cc, uint32_t frame, int order) noexcept nogil:
    # nobody has had it: whatever side its block is on is the right one for it
    cdef zone_t *z = cc.zone
    z.links[frame].next = 0
    if z.tracks and not z.pbmapped[block_of(z, frame)]:
        z.links[frame].next = INFO_SENSITIVE
    zone_free(z, cc.cpu, frame, order)


# ---------------------------------------------------------------- rotating the zone's lists

cdef void rotate(zone_t *z, uint32_t list, uint32_t first) noexcept nogil:
    # The circle through the list's head begins with `first` from now on.
    cdef link_t *links = z.links
    cdef uint32_t before = links[list].prev, after = links[list].next, last = links[first].prev
    if last == list:
        return
    links[before].next = after
    links[after].prev = before
    links[list].next = first
    links[first].prev = list
    links[list].prev = last
    links[last].next = list


cdef void move_freelist_tail(compact_control_t *cc, int order, uint32_t frame) noexcept nogil:
    # move_freelist_tail(): `frame` becomes the last
    cdef uint32_t list = list_of(cc.zone, order, cc.movable), following = cc.zone.links[frame].next
    if following != list:
        rotate(cc.zone, list, following)


# ---------------------------------------------------------------- block by block

cdef bint suitable_migration_target(const compact_control_t *cc, int64_t start) noexcept nogil:
    # suitable_migration_target(): not what is free already as somebody wants it, and only among movable pages
    cdef zone_t *z = cc.zone
    cdef int mt, wanted = cc.order if cc.order > 0 else z.pageblock_order
    if z.state[start] & KIND_MASK == FREE and z.state[start] & ORDER_MASK >= wanted:
        return False
    if not on_side(cc, block_of(z, <uint32_t>start)):
        return False
    mt = z.design.mt[z.pbtype[block_of(z, <uint32_t>start)]]
    return cc.ignore_block_suitable or mt == MIGRATE_MOVABLE or mt == MIGRATE_CMA


cdef int64_t isolate_freepages_block(compact_control_t *cc, int64_t *start, int64_t end,
                                     int stride) noexcept nogil:
    # isolate_freepages_block(): from `start` by `stride` until enough is held; `start` is where it came to.
    cdef zone_t *z = cc.zone
    cdef int64_t at = start[0], scanned = 0, total = 0, pages
    cdef int kind
    while at < end:
        scanned += 1
        kind = z.state[at] & KIND_MASK
        pages = <int64_t>1 << (z.state[at] & ORDER_MASK)
        if kind == ALLOC and pages > 1 and z.links[at].next & INFO_COMP:
            if at + pages <= end:
                at += pages - 1
                scanned += pages - 1
        elif kind == FREE:
            if not isolate_free_page(z, <uint32_t>at, z.state[at] & ORDER_MASK):
                break
            scanned += pages - 1
            total += pages
            hold_last(cc, <uint32_t>at, z.state[at] & ORDER_MASK)
            if cc.nr_migratepages <= cc.nr_freepages:
                at += pages
                break
            at += pages - 1
        at += stride
    if at > end:
        at = end
    compact_log(cc.mm, LOG_FREE_SCAN, seen(z, start[0]), seen(z, at), scanned, total)
    start[0] = at
    cc.total_free_scanned += scanned
    return total


cdef void isolate_freepages(compact_control_t *cc) noexcept nogil:
    # isolate_freepages(): from the scanner's position downwards until enough is held
    cdef zone_t *z = cc.zone
    cdef int64_t at, start, end, low, got
    cdef int stride = COMPACT_CLUSTER_MAX if cc.mode == MIGRATE_ASYNC else 1
    fast_isolate_freepages(cc)
    if cc.nr_freepages:
        return
    at = cc.free_pfn
    start = block_start(z, at)
    end = min(start + z.pageblock_pages, <int64_t>z.nframes)
    low = block_end(z, cc.migrate_pfn)
    while start >= low:
        if suitable_migration_target(cc, start) and isolation_suitable(cc, start):
            got = isolate_freepages_block(cc, &at, end, stride)
            if at == end:
                # update_pageblock_skip()
                z.compact.skip[block_of(z, <uint32_t>start)] = 1
                if start - z.pageblock_pages < z.compact.cached_free:
                    z.compact.cached_free = start - z.pageblock_pages
            if cc.nr_freepages >= cc.nr_migratepages:
                if at >= end:
                    at = start - z.pageblock_pages
                break
            if at < end:
                break
            stride = 1 if got else min(<int>COMPACT_CLUSTER_MAX, 2 * stride)
        end = start
        start -= z.pageblock_pages
        at = start
    cc.free_pfn = at


# ---------------------------------------------------------------- the fast search

cdef int next_search_order(compact_control_t *cc, int order) noexcept nogil:
    # next_search_order(): round robin downwards; -1 when all were asked
    order -= 1
    if order < 0:
        order = cc.order - 1
    if order == cc.search_order:
        cc.search_order -= 1
        if cc.search_order < 0:
            cc.search_order = cc.order - 1
        return -1
    return order


cdef struct fast_search_t:
    uint64_t low            # a page from here on is taken at once
    uint64_t least          # and one from here on for want of a better
    int64_t highest         # block start of the highest page seen; -1: none
    int limit               # entries of a list
    int64_t scanned
    int64_t total


cdef bint any_free(const zone_t *z, int order) noexcept nogil:
    # free_area[order].nr_free
    cdef int ft
    for ft in range(z.design.nft):
        if z.nonempty[ft] >> order & 1:
            return True
    return False


cdef uint32_t search_list(compact_control_t *cc, fast_search_t *s, int order, int *walked) noexcept nogil:
    # One order of fast_isolate_freepages(): the page to take from the MOVABLE list, walked from its tail.
    cdef zone_t *z = cc.zone
    cdef uint32_t list = list_of(z, order, cc.movable), at = z.links[list].prev, page = NIL, first = NIL
    cdef int64_t high = -1
    walked[0] = 0
    while at != list:
        walked[0] += 1
        if <int64_t>at >= s.highest:
            s.highest = max(block_start(z, at), <int64_t>z.first)
        if at >= s.low:
            cc.fast_search_fail = 0
            cc.search_order = order
            page = at
            break
        if at >= s.least and <int64_t>at > high:
            high = at
            s.limit >>= 1
        if walked[0] >= s.limit:
            first = at
            break
        at = z.links[at].prev
    s.scanned += walked[0]
    if page == NIL and high >= 0:
        page = <uint32_t>high
    if page != NIL:
        first = page
    if first != NIL:
        rotate(z, list, first)      # move_freelist_head(): the next search skips what this one saw
    return page


cdef int64_t search_lists(compact_control_t *cc, fast_search_t *s) noexcept nogil:
    # The loop of fast_isolate_freepages() over orders: the page taken, or -1.
    cdef zone_t *z = cc.zone
    cdef int order, walked
    cdef uint32_t page
    cdef int64_t taken = -1
    cc.search_order = min(cc.order - 1, cc.search_order)
    order = cc.search_order
    while order >= 0 and taken < 0:
        if any_free(z, order):
            page = search_list(cc, s, order, &walked)
            if page != NIL:
                if isolate_free_page(z, page, order):
                    taken = page
                    hold_last(cc, page, order)
                    s.scanned += (<int64_t>1 << order) - 1
                    s.total += <int64_t>1 << order
                else:
                    order = cc.search_order + 1         # the last to be asked
            if cc.nr_freepages >= cc.nr_migratepages:
                break
            if walked >= s.limit:
                s.limit = max(1, s.limit >> 1)
        order = next_search_order(cc, order)
    return taken


cdef void fast_isolate_freepages(compact_control_t *cc) noexcept nogil:
    # fast_isolate_freepages(): a page in the top quarter of what is between the scanners, or in its half
    cdef zone_t *z = cc.zone
    cdef fast_search_t s
    cdef bint from_start = cc.free_pfn >= z.compact.init_free
    # unsigned: with both scanners in one block the distance is huge, and no page is high enough
    cdef uint64_t distance = <uint64_t>(cc.free_pfn - cc.migrate_pfn), mask = z.pageblock_pages - 1
    cdef int64_t around
    if cc.order <= 0 or cc.movable < 0:
        return
    s.limit = z.pageblock_pages >> 1 if from_start else max(1, freelist_scan_limit(cc) >> 1)
    s.low = (<uint64_t>cc.free_pfn - (distance >> 2)) & ~mask
    s.least = (<uint64_t>cc.free_pfn - (distance >> 1)) & ~mask
    s.highest = -1
    s.scanned = s.total = 0
    around = search_lists(cc, &s)
    compact_log(cc.mm, LOG_FAST_FREE, seen(z, <int64_t>s.least), seen(z, cc.free_pfn), s.scanned, s.total)
    if around < 0:
        cc.fast_search_fail += 1
        if from_start:
            around = start_of_search(cc, &s)
    if s.highest >= 0 and s.highest >= z.compact.cached_free:
        z.compact.cached_free = s.highest - z.pageblock_pages
    cc.total_free_scanned += s.scanned
    if around >= 0:
        fast_isolate_around(cc, around)


cdef int64_t start_of_search(compact_control_t *cc, const fast_search_t *s) noexcept nogil:
    # A scan that has not begun yet goes on from the highest page that the search saw, a direct one else from
    # the middle.  The block to look into, or -1.
    cdef zone_t *z = cc.zone
    if s.highest >= 0 and <uint64_t>s.highest >= s.least:
        cc.free_pfn = s.highest
        return s.highest
    if cc.direct and s.least < z.nframes:
        cc.free_pfn = <int64_t>s.least
        if s.least >= z.first and suitable_migration_target(cc, cc.free_pfn):
            return cc.free_pfn
    return -1


cdef void fast_isolate_around(compact_control_t *cc, int64_t frame) noexcept nogil:
    # fast_isolate_around(): more from the block of what was found
    cdef zone_t *z = cc.zone
    cdef int64_t start = max(block_start(z, frame), <int64_t>z.first)
    cdef int64_t end = min(block_end(z, frame), <int64_t>z.nframes)
    if cc.nr_freepages >= cc.nr_migratepages or (cc.direct and cc.mode == MIGRATE_ASYNC):
        return
    isolate_freepages_block(cc, &start, end, 1)
    if start == end:
        z.compact.skip[block_of(z, <uint32_t>frame)] = 1
