"""What a trace says first: of each frame and of each pageblock, in one pass over its events."""

from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t

import numpy as np

from asi_pa.trace.events import ALLOC, FREE, FREE_BATCHED

__all__ = ["NOTHING", "NO_EVENT", "first_mentions"]

cdef extern from *:
    """
    #define asi_prefetch(p) __builtin_prefetch((const void *)(p), 1)
    """
    void asi_prefetch(const void *p) noexcept nogil

cdef enum:
    NO_KIND = 255
    AHEAD = 16
    KINDS = 256

NOTHING = int(NO_KIND)
NO_EVENT = 0xFFFFFFFF
cdef uint32_t NEVER = 0xFFFFFFFF
cdef uint32_t FAILED = 0xFFFFFFFF

cdef struct events_t:
    # the columns, and the numbers of those kinds that matter
    const uint8_t *kind
    const uint32_t *pfn
    const uint8_t *cpu
    const uint8_t *order        # as events count, which is the allocation's own of a fallback
    const uint8_t *asked        # as the trace has it
    const int8_t *mt            # that an event shows
    const int8_t *wanted        # that a request has
    int64_t count
    uint8_t alloc, free, batched
    uint8_t shows[KINDS]        # kinds of events that show a pageblock's type
    int max_order, costly, block_order

cdef struct found_t:
    uint8_t *kind
    uint32_t *event
    int64_t frames
    uint32_t *freed             # 1 + the free of a frame since which nothing happened to it
    int8_t *shown
    uint32_t *when              # by block: the event that shows its type
    uint32_t *reused            # the same by a page handed out again
    int8_t *as_type
    int64_t blocks


cdef void look(const events_t *e, const found_t *f) noexcept nogil:
    cdef int64_t i, frame, low, high, block
    cdef uint8_t kind
    cdef uint32_t pfn, number
    for i in range(e.count):
        if i + AHEAD < e.count and e.pfn[i + AHEAD] < f.frames:
            asi_prefetch(&f.event[e.pfn[i + AHEAD]])
            asi_prefetch(&f.freed[e.pfn[i + AHEAD]])
        kind = e.kind[i]
        if kind == e.batched:
            continue
        pfn = e.pfn[i]
        block = pfn >> e.block_order
        if e.asked[i] <= e.costly and block < f.blocks:
            if kind == e.free:
                f.freed[pfn] = <uint32_t>i + 1
            elif f.freed[pfn]:
                number = f.freed[pfn] - 1
                f.freed[pfn] = 0
                if (kind == e.alloc and number < f.reused[block] and e.asked[number] == e.asked[i]
                        and e.cpu[number] == e.cpu[i]):
                    f.reused[block] = number
                    f.as_type[block] = e.wanted[i]
        if pfn == FAILED or e.order[i] > e.max_order:
            continue
        if e.shows[kind] and block < f.blocks and f.when[block] == NEVER:
            f.when[block] = <uint32_t>i
            f.shown[block] = e.mt[i]
        low, high = pfn, <int64_t>pfn + (<int64_t>1 << e.order[i])
        for frame in range(low, min(high, f.frames)):
            if f.event[frame] == NEVER:
                f.event[frame] = <uint32_t>i
                f.kind[frame] = kind
    for block in range(f.blocks):
        if f.reused[block] < f.when[block]:
            f.shown[block] = f.as_type[block]


def first_mentions(trace, types, orders, shows, int64_t frames, int64_t end, int costly):
    """What a trace's first ``end`` events say first of each of ``frames`` frames, and of their pageblocks.

    types, orders : int8[events], uint8[events] what events show and how large they are, where that is not
        what the trace's own columns say
    shows : the kinds of events that show a pageblock's type; pages of orders up to ``costly`` that the CPU
        that freed them hands out again show it as well

    Returns (uint8[frames] kinds, uint32[frames] events, int8[pageblocks] types), `NOTHING`, `NO_EVENT` and -1
    where there is nothing.
    """
    cdef const uint8_t[::1] kind = trace.kind
    cdef const uint32_t[::1] pfn = trace.pfn
    cdef const uint8_t[::1] cpu = trace.cpu
    cdef const uint8_t[::1] asked = trace.order
    cdef const int8_t[::1] wanted = trace.migratetype
    cdef const uint8_t[::1] order = np.ascontiguousarray(orders, np.uint8)
    cdef const int8_t[::1] mt = np.ascontiguousarray(types, np.int8)
    cdef events_t e
    cdef found_t f
    if not 0 <= end <= kind.shape[0] or not 0 <= frames <= 1 << 32:
        raise ValueError(f"{end} of {kind.shape[0]} events, {frames} frames")
    if len({kind.shape[0], pfn.shape[0], cpu.shape[0], asked.shape[0], wanted.shape[0], order.shape[0],
            mt.shape[0]}) > 1:
        raise ValueError("columns of different length")
    e.count = end
    e.alloc, e.free, e.batched = ALLOC, FREE, FREE_BATCHED
    e.max_order, e.costly, e.block_order = trace.max_page_order, costly, trace.pageblock_order
    for number in range(KINDS):
        e.shows[number] = number in shows
    f.frames, f.blocks = frames, (frames >> e.block_order) + 1
    kinds = np.full(frames, NO_KIND, np.uint8)
    events = np.full(frames, NEVER, np.uint32)
    freed = np.zeros(f.blocks << e.block_order, np.uint32)
    shown, as_type = np.full(f.blocks, -1, np.int8), np.full(f.blocks, -1, np.int8)
    when, reused = np.full(f.blocks, NEVER, np.uint32), np.full(f.blocks, NEVER, np.uint32)
    cdef uint8_t[::1] kinds_view = kinds
    cdef uint32_t[::1] events_view = events
    cdef uint32_t[::1] freed_view = freed
    cdef int8_t[::1] shown_view = shown
    cdef int8_t[::1] as_type_view = as_type
    cdef uint32_t[::1] when_view = when
    cdef uint32_t[::1] reused_view = reused
    if end and frames:
        e.kind, e.pfn, e.cpu, e.order = &kind[0], &pfn[0], &cpu[0], &order[0]
        e.asked, e.mt, e.wanted = &asked[0], &mt[0], &wanted[0]
        f.kind, f.event, f.freed = &kinds_view[0], &events_view[0], &freed_view[0]
        f.shown, f.when = &shown_view[0], &when_view[0]
        f.reused, f.as_type = &reused_view[0], &as_type_view[0]
        with nogil:
            look(&e, &f)
    return kinds, events, shown
