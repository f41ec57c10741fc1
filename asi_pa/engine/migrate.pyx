"""Migration: isolated folios to the free scanner's targets, in batches; large ones are split if need be.

Rules: mm/migrate.c migrate_pages, migrate_pages_sync, migrate_pages_batch, try_split_folio; mm/swap.c
folio_add_lru (7.2).  Whether a folio moves is known beforehand: a pinned one fails with -EAGAIN each time.

A folio belongs to a slot (``mm.slots``), which is told the new frame.  Of a folio that was split the first
page keeps the slot; its ``info`` has the number of a record with the others, which ``free_allocated`` reads:

    slots[s] -> page 0, info >> INFO_SPLIT = 1 + at / 2        pieces.frame[at] = order, [at + k] = page k
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport realloc

from asi_pa.engine.compact_control cimport (
    LOG_MIGRATED,
    LOG_MOVE,
    MIGRATE_ASYNC,
    compact_control_t,
    compact_log,
    seen,
)
from asi_pa.engine.compaction_target cimport compaction_alloc, compaction_free
from asi_pa._core cimport (
    ALLOC,
    INFO_COMP,
    INFO_LRU,
    INFO_PINNED,
    INFO_SENSITIVE,
    INFO_SPLIT,
    INFO_UNSPLITTABLE,
    NIL,
    ORDER_MASK,
    zone_t,
)
from asi_pa.engine.page_alloc cimport (
    LRU_BATCH,
    mm_t,
    page_handed_out,
    pieces_t,
    set_dirty,
    zone_free,
    zone_of,
)
from asi_pa.engine.remapped cimport remapped_present
from asi_pa.engine.wrappers cimport design_free

cdef enum:
    PASSES_ASYNC = 10       # NR_MAX_MIGRATE_PAGES_RETRY
    PASSES_FIRST = 3        # NR_MAX_MIGRATE_ASYNC_RETRY
    PASSES_ALONE = 7        # NR_MAX_MIGRATE_SYNC_RETRY
    ENOMEM = 12
    EAGAIN = 11
    PIECE = 0x80000000      # an owner that is no slot: a place in pieces.frame
    INFO_KIND = (1 << INFO_SPLIT) - 1


# ---------------------------------------------------------------- the LRU

cdef void lru_add_drain(mm_t *mm) noexcept nogil:
    # lru_add_drain(): what is in the batch can be isolated from now on
    cdef uint32_t i
    cdef zone_t *z
    for i in range(mm.lru_add_n):
        z = zone_of(mm, mm.lru_add[i])
        z.links[mm.lru_add[i] - z.base_pfn].next |= INFO_LRU
    mm.lru_add_n = 0


cdef void folio_add_lru(mm_t *mm, zone_t *z, uint32_t frame) noexcept nogil:
    # folio_add_lru(): a batch that is full, or gets a large folio, is drained
    mm.lru_add[mm.lru_add_n] = z.base_pfn + frame
    mm.lru_add_n += 1
    if mm.lru_add_n == LRU_BATCH or z.state[frame] & ORDER_MASK:
        lru_add_drain(mm)


cdef void putback_movable_pages(compact_control_t *cc, const uint32_t *frames, uint32_t n) noexcept nogil:
    # putback_movable_pages()
    cdef uint32_t i
    for i in range(n):
        folio_add_lru(cc.mm, cc.zone, frames[i])


# ---------------------------------------------------------------- whose a folio is

cdef void tell_owner(mm_t *mm, zone_t *z, uint32_t owner, uint32_t frame) noexcept nogil:
    if owner == NIL or mm.slots == NULL:
        return
    if owner & PIECE:
        mm.pieces.frame[owner & ~<uint32_t>PIECE] = <uint32_t>(z.base_pfn + frame)
    else:
        mm.slots[owner] = <uint32_t>(z.base_pfn + frame)


cdef uint32_t pieces_new(pieces_t *p, int order) noexcept nogil:
    # Room for the pieces of a folio; NIL: none
    cdef uint32_t at = p.vacant[order], room
    cdef uint32_t *more
    if at != 0:
        at -= 1
        p.vacant[order] = p.frame[at]
    else:
        at = p.used
        if at + (1u << order) > p.room:
            room = 2 * p.room + (2u << order)
            if room >= <uint32_t>1 << 24:
                return NIL
            more = <uint32_t *>realloc(p.frame, room * sizeof(uint32_t))
            if more == NULL:
                return NIL
            p.frame = more
            p.room = room
        p.used = at + (1u << order)
    p.frame[at] = order
    return at


cdef void pieces_forget(pieces_t *p, uint32_t at) noexcept nogil:
    cdef int order = <int>p.frame[at]
    p.frame[at] = p.vacant[order]
    p.vacant[order] = at + 1


cdef uint32_t pieces_of(mm_t *mm, zone_t *z, uint32_t frame, int order) noexcept nogil:
    # The record of a folio of this order that was split, of which `frame` is the first page; NIL: it is none.
    cdef uint32_t at
    if z.state[frame] != ALLOC or z.links[frame].next >> INFO_SPLIT == 0:
        return NIL
    at = ((z.links[frame].next >> INFO_SPLIT) - 1) * 2
    return at if mm.pieces.frame[at] == <uint32_t>order else NIL


cdef int allocated_order(const mm_t *mm, const zone_t *z, uint32_t frame) noexcept nogil:
    # The order of what a slot holds, whatever compaction made of it
    cdef uint32_t record = z.links[frame].next >> INFO_SPLIT
    return <int>mm.pieces.frame[(record - 1) * 2] if record else z.state[frame] & ORDER_MASK


cdef bint free_allocated(mm_t *mm, zone_t *z, int cpu, uint32_t frame, int order) noexcept nogil:
    # A free of what a slot holds, in pieces (ascending) if it was split; False: it is not of this order.
    cdef uint32_t at, k, pfn
    if z.state[frame] == <uint8_t>(ALLOC | order) and z.links[frame].next >> INFO_SPLIT == 0:
        design_free(mm, z, cpu, frame, order)
        return True
    at = pieces_of(mm, z, frame, order)
    if at == NIL:
        return False
    design_free(mm, z, cpu, frame, 0)
    for k in range(1, 1u << order):
        pfn = mm.pieces.frame[at + k]
        z = zone_of(mm, pfn)
        design_free(mm, z, cpu, <uint32_t>(pfn - z.base_pfn), 0)
    pieces_forget(&mm.pieces, at)
    return True


cdef bint split_allocated(uint32_t *slots, mm_t *mm, zone_t *z, uint32_t frame, int order,
                          uint32_t slot) noexcept nogil:
    # split_page(): 2^order allocations of order 0, in as many slots from `slot` on; False: not of this order
    cdef uint32_t at = pieces_of(mm, z, frame, order), k, pfn, n = 1u << order
    if at == NIL:
        if z.state[frame] != <uint8_t>(ALLOC | order):
            return False
        for k in range(n):
            z.state[frame + k] = ALLOC
            z.links[frame + k].next = z.links[frame].next & ~<uint32_t>INFO_COMP
            z.links[frame + k].prev = slot + k
            slots[slot + k] = <uint32_t>(z.base_pfn + frame + k)
        return True
    z.links[frame].next &= INFO_KIND
    for k in range(1, n):
        pfn = mm.pieces.frame[at + k]
        z = zone_of(mm, pfn)
        z.links[pfn - z.base_pfn].prev = slot + k
        slots[slot + k] = pfn
    pieces_forget(&mm.pieces, at)
    return True


cdef bint split_folio(mm_t *mm, zone_t *z, uint32_t frame) noexcept nogil:
    # split_folio_to_list(): not with a foreign reference, nor below its mapping's least order
    cdef int order = z.state[frame] & ORDER_MASK
    cdef uint32_t info = z.links[frame].next, owner = z.links[frame].prev, at = NIL, k
    if info & (INFO_PINNED | INFO_UNSPLITTABLE):
        return False
    if owner != NIL and mm.slots != NULL:
        at = pieces_new(&mm.pieces, order)
        if at == NIL:
            return False
    info &= ~<uint32_t>INFO_COMP
    for k in range(1u << order):
        z.state[frame + k] = ALLOC
        z.links[frame + k].next = info
        z.links[frame + k].prev = NIL
        if at != NIL and k:
            z.links[frame + k].prev = PIECE | (at + k)
            mm.pieces.frame[at + k] = <uint32_t>(z.base_pfn + frame + k)
    z.links[frame].prev = owner
    if at != NIL:
        z.links[frame].next |= (at // 2 + 1) << INFO_SPLIT
    return True


# ---------------------------------------------------------------- migrate_pages()

cdef struct folios_t:
    # a list of folios, in the room that the machine keeps for it
    uint32_t *frame
    uint32_t n


cdef struct batch_t:
    folios_t failed         # ret_folios
    folios_t split          # split_folios
    uint32_t *source        # unmap_folios and dst_folios
    uint32_t *target
    uint32_t unmapped
    int nsplit
    int64_t moved           # pages


cdef inline void append(folios_t *list, uint32_t frame) noexcept nogil:
    list.frame[list.n] = frame
    list.n += 1


cdef void split_to(compact_control_t *cc, folios_t *list, uint32_t frame, int order) noexcept nogil:
    # the tails, then the page that was the head
    cdef uint32_t n = 1u << order, k
    for k in range(1, n):
        append(list, frame + (k if cc.zone.kernel.split_ascending else n - k))
    append(list, frame)


cdef void move_folio(compact_control_t *cc, uint32_t frame, uint32_t target, int order) noexcept nogil:
    # migrate_folio_move() that succeeds: same owner and request; the source is freed at once
    cdef zone_t *z = cc.zone
    cdef uint32_t info = z.links[frame].next
    z.state[target] = <uint8_t>(ALLOC | order)
    z.links[target] = z.links[frame]
    z.links[frame].next = info & INFO_KIND
    tell_owner(cc.mm, z, z.links[target].prev, target)
    if z.tracks:
        page_handed_out(z, target, order, (info & INFO_SENSITIVE) != 0)
    elif info & INFO_SENSITIVE and (cc.mm.wrapper == NULL or remapped_present(cc.mm)):
        set_dirty(z, target, 1u << order, True)
    folio_add_lru(cc.mm, z, target)
    zone_free(z, cc.cpu, frame, order)
    cc.moved += <int64_t>1 << order


cdef uint32_t move_unmapped(compact_control_t *cc, batch_t *b, int mode) noexcept nogil:
    # migrate_folios_move(), once: what says -EAGAIN stays, in order; how many
    cdef zone_t *z = cc.zone
    cdef uint32_t i, kept = 0, frame
    cdef int order
    cdef bint pinned
    for i in range(b.unmapped):
        frame = b.source[i]
        order = z.state[frame] & ORDER_MASK
        pinned = z.links[frame].next & INFO_PINNED
        compact_log(cc.mm, LOG_MOVE, seen(z, frame), seen(z, b.target[i]), order + 256 * mode,
                    -EAGAIN if pinned else 0)
        if pinned:
            b.source[kept] = frame
            b.target[kept] = b.target[i]
            kept += 1
        else:
            move_folio(cc, frame, b.target[i], order)
            b.moved += <int64_t>1 << order
    b.unmapped = kept
    return kept


cdef int migrate_batch(compact_control_t *cc, batch_t *b, const uint32_t *frames, uint32_t n, uint32_t *at,
                       int mode, int passes) noexcept nogil:
    # migrate_pages_batch(): targets for all, then moves.  `at` is the first that was not tried; -ENOMEM, or
    # how many failed.
    cdef zone_t *z = cc.zone
    cdef uint32_t i = 0, target, retry = 0
    cdef int order, _pass, failed = 0, error = 0
    b.unmapped = 0
    while i < n:
        order = z.state[frames[i]] & ORDER_MASK
        target = compaction_alloc(cc, order)
        if target != NIL:
            b.source[b.unmapped] = frames[i]
            b.target[b.unmapped] = target
            b.unmapped += 1
        elif order > 0 and split_folio(cc.mm, z, frames[i]):
            split_to(cc, &b.split, frames[i], order)
            b.nsplit += 1
            failed += 1
        else:
            error = -ENOMEM
            break
        i += 1
    at[0] = i
    for _pass in range(passes):
        retry = move_unmapped(cc, b, mode)
        if retry == 0:
            break
    failed += retry
    # migrate_folios_undo()
    for i in range(b.unmapped):
        append(&b.failed, b.source[i])
        compaction_free(cc, b.target[i], z.state[b.source[i]] & ORDER_MASK)
    return error if error else failed


cdef int migrate_sync(compact_control_t *cc, batch_t *b, uint32_t *frames, uint32_t n,
                      uint32_t *at) noexcept nogil:
    # migrate_pages_sync(): together and async first, then each that failed alone.  What was not tried is
    # frames[at[0]:at[1]].
    cdef uint32_t i, k, again
    cdef int error = migrate_batch(cc, b, frames, n, at, MIGRATE_ASYNC, PASSES_FIRST), failed = b.nsplit
    at[1] = n
    if error < 0:
        return error
    again = b.failed.n
    for i in range(again):
        frames[i] = b.failed.frame[i]
    b.failed.n = 0
    for i in range(again):
        error = migrate_batch(cc, b, &frames[i], 1, &k, cc.mode, PASSES_ALONE)
        at[0] = i + k
        at[1] = again
        if error < 0:
            if not k:
                append(&b.failed, frames[i])
                at[0] = i + 1
            return error
        failed += error
    return failed


cdef uint32_t migrate_pages(compact_control_t *cc, uint32_t *left, int *error) noexcept nogil:
    # migrate_pages() of what was isolated, the last first; what is left in list order, and how much.
    # `error`: -ENOMEM, or how many failed.
    cdef uint32_t pages = cc.zone.pageblock_pages, n = cc.nisolated, i
    cdef uint32_t[2] at
    cdef uint32_t *frames = cc.isolated + 2 * pages
    cdef batch_t b
    cdef int64_t handed = cc.nr_migratepages
    cdef int more
    b.failed.frame = left
    b.split.frame = cc.isolated + 4 * pages
    b.source = cc.isolated + 6 * pages
    b.target = cc.isolated + 8 * pages
    b.failed.n = b.split.n = 0
    b.nsplit = 0
    b.moved = 0
    for i in range(n):
        frames[i] = cc.isolated[n - 1 - i]
    if cc.mode == MIGRATE_ASYNC:
        error[0] = migrate_batch(cc, &b, frames, n, at, MIGRATE_ASYNC, PASSES_ASYNC)
        at[1] = n
    else:
        error[0] = migrate_sync(cc, &b, frames, n, at)
    for i in range(at[0], at[1]):
        append(&b.failed, frames[i])
    if b.split.n:
        n = b.split.n
        for i in range(n):
            frames[i] = b.split.frame[i]
        if error[0] < 0:
            at[0] = 0
        else:
            more = migrate_batch(cc, &b, frames, n, at, MIGRATE_ASYNC, 1)
            if more > 0:
                error[0] += more
        for i in range(at[0], n):
            append(&b.failed, frames[i])
    if b.failed.n == 0:
        error[0] = 0
    compact_log(cc.mm, LOG_MIGRATED, handed, b.moved, 0, 0)
    cc.nr_migratepages = 0
    cc.nisolated = 0
    return b.failed.n
