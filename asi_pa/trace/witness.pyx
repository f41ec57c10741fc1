"""The two witnesses of a recorded zone's frames heard, in a pass each: flags, and what events say first.

`asi_pa.trace.frames` and `asi_pa.trace.pcplists` say what is asked and what becomes of the answers.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memset

import numpy as np

from asi_pa.trace.frame_bits cimport BUDDY, FREE_FRAME, HELD_FRAME, HOLE_FRAME, PCP_FRAME
from asi_pa.trace.events import ALLOC, EXTFRAG, FREE, PCPU_DRAIN, ZONE_LOCKED
from asi_pa.trace.mentions import NO_EVENT, NOTHING

__all__ = ["COUNTS", "blank_frames", "decide", "emptied_lists", "first_from_lists", "mark_holes"]

cdef enum:
    SOME = 128

cdef enum:                  # what is counted of each pageblock
    C_POPULATED = 0
    C_FREE = 1
    C_HELD = 2
    C_LRU = 3               # of what is held
    C_SLAB = 4
    C_OVERRULED_USED = 5    # by its flags; the trace says it was free
    C_OVERRULED_FREE = 6
    C_PCP = 7
    NCOUNTS = 8

COUNTS = ("populated", "free", "held", "lru", "slab", "overruled_used", "overruled_free", "pcp")

cdef uint8_t NO_KIND = NOTHING
cdef uint32_t NEVER = NO_EVENT
cdef uint8_t ALLOCATED = ALLOC
cdef uint8_t FREED = FREE
cdef uint8_t LOCKED = ZONE_LOCKED
cdef uint8_t DRAINED = PCPU_DRAIN
cdef uint8_t FALLEN_BACK = EXTFRAG


cdef int64_t without_page(const uint8_t *flags, const uint8_t *seen, uint8_t *state,
                          int64_t frames) noexcept nogil:
    cdef int64_t i
    cdef uint32_t found = 0
    cdef uint8_t hole, none = NO_KIND
    for i in range(frames):
        hole = <uint8_t>((flags[i] >> 7) & (seen[i] == none))
        state[i] = <uint8_t>(hole * HOLE_FRAME)
        found += hole
    return found


cdef bint is_blank(const uint8_t *flags, const uint8_t *seen, const uint8_t *state,
                   int64_t count) noexcept nogil:
    cdef int64_t i
    for i in range(count):
        if flags[i] or seen[i] != NO_KIND or state[i]:
            return False
    return True


def mark_holes(flags, seen, int64_t missing, sizes):
    """uint8[frames]: 2 where a frame was never handed to the allocator, of which ``missing`` are, else 0.

    Frames without a page first, then whole runs of each of ``sizes`` frames without a flag or an event.
    """
    cdef const uint8_t[::1] flag = flags
    cdef const uint8_t[::1] kind = seen
    cdef int64_t frames = flag.shape[0], size, at
    if kind.shape[0] != frames:
        raise ValueError(f"{frames} flags, {kind.shape[0]} first events")
    state = np.empty(frames, np.uint8)
    cdef uint8_t[::1] view = state
    if not frames:
        return state
    with nogil:
        missing -= without_page(&flag[0], &kind[0], &view[0], frames)
    for size in sizes:
        at = 0
        while missing >= size and at + size <= frames:
            if is_blank(&flag[at], &kind[at], &view[at], size):
                memset(&view[at], HOLE_FRAME, size)
                missing -= size
            at += size
    return state


cdef void decide_some(const uint8_t *flags, const uint8_t *seen, uint8_t *state, int n,
                      int64_t *counts) noexcept nogil:
    # Whether a frame is free by its flags, unless the trace frees it first; or by leaving the buddy first.
    # Counted in bytes, as many at once as the machine has room for: at most SOME frames.
    cdef int i
    cdef uint8_t kind, was, bits, left, fell, unused, given, hole, listed, marked, buddy, free, held
    cdef uint8_t locked = LOCKED, fallen_back = FALLEN_BACK, freed = FREED
    cdef uint8_t holes = 0, frees = 0, helds = 0, lrus = 0, slabs = 0, used = 0, unfree = 0, pcps = 0
    for i in range(n):
        kind, was, bits = seen[i], state[i], flags[i]
        left = kind == locked
        fell = kind == fallen_back
        left |= fell
        unused = kind == freed
        given = was == FREE_FRAME
        hole = was == HOLE_FRAME
        listed = was == PCP_FRAME
        marked = bits > BUDDY
        buddy = bits & BUDDY
        free = ((buddy & (unused ^ 1)) | left) & given
        held = given & (free ^ 1)
        holes += hole
        pcps += listed
        frees += free
        helds += held
        lrus += held & (bits >> 1)
        slabs += held & (bits >> 3)
        used += (left | listed) & marked
        unfree += buddy & unused
        state[i] = was | held
    counts[C_POPULATED] += n - holes
    counts[C_FREE] += frees
    counts[C_HELD] += helds
    counts[C_LRU] += lrus
    counts[C_SLAB] += slabs
    counts[C_OVERRULED_USED] += used
    counts[C_OVERRULED_FREE] += unfree
    counts[C_PCP] += pcps


cdef void taken_of(const uint8_t *seen, const uint32_t *event, uint32_t *taken, int64_t n) noexcept nogil:
    cdef int64_t i
    cdef uint8_t locked = LOCKED, fallen_back = FALLEN_BACK
    for i in range(n):
        if seen[i] == locked or seen[i] == fallen_back:
            taken[i] = event[i]


def decide(flags, seen, event, state, int64_t start, int block_order):
    """What each frame was, in ``state``, where holes (2) and pages on per-CPU lists (3) are marked already.

    flags, seen, event : uint8, uint8, uint32[frames] from ``start`` on: the snapshot's bits, first events

    Returns uint32[frames] the events with which frames left the buddy first, and int64[pageblocks, `COUNTS`].
    """
    cdef const uint8_t[::1] flag = flags
    cdef const uint8_t[::1] kind = seen
    cdef const uint32_t[::1] events = event
    cdef uint8_t[::1] states = state
    cdef int64_t frames = flag.shape[0], low = 0, high, block = 0, size = <int64_t>1 << block_order
    cdef int n
    if kind.shape[0] != frames or events.shape[0] != frames or states.shape[0] != frames or start < 0:
        raise ValueError("columns of different length")
    taken = np.full(frames, NEVER, np.uint32)
    counts = np.zeros((((start + frames - 1) >> block_order) - (start >> block_order) + 1, NCOUNTS), np.int64)
    cdef uint32_t[::1] taken_view = taken
    cdef int64_t[:, ::1] counted = counts
    if not frames:
        return taken, counts
    with nogil:
        while low < frames:
            high = min(((start + low) & ~(size - 1)) + size - start, frames)
            while low < high:
                n = <int>min(high - low, SOME)
                decide_some(&flag[low], &kind[low], &states[low], n, &counted[block, 0])
                low += n
            block += 1
        taken_of(&kind[0], &events[0], &taken_view[0], frames)
    return taken, counts


def blank_frames(flags, seen, state, flags_after):
    """int64: held frames without a flag that no event mentions; ``flags_after``: and without one then (None:
    not known)."""
    cdef const uint8_t[::1] flag = flags
    cdef const uint8_t[::1] kind = seen
    cdef const uint8_t[::1] states = state
    cdef const uint8_t[::1] later = flags if flags_after is None else flags_after
    cdef int64_t frames = flag.shape[0], found = 0, i
    if kind.shape[0] != frames or states.shape[0] != frames or later.shape[0] != frames:
        raise ValueError("columns of different length")
    with nogil:
        for i in range(frames):
            found += (flag[i] == 0) & (kind[i] == NO_KIND) & (states[i] == HELD_FRAME) & (later[i] == 0)
    out = np.empty(found, np.int64)
    cdef int64_t[::1] view = out
    found = 0
    with nogil:
        for i in range(frames):
            if flag[i] == 0 and kind[i] == NO_KIND and states[i] == HELD_FRAME and later[i] == 0:
                view[found] = i
                found += 1
    return out


def first_from_lists(trace, flags, seen, event, int64_t start, served, int cpus, int64_t late, int hidden):
    """int64: frames from ``start`` on whose first event shows them to have been on a per-CPU list.

    served : the orders of such lists
    cpus : that have them
    late, hidden : events from this one on are heard only of pages without any of these flags
    """
    cdef const uint8_t[::1] flag = flags
    cdef const uint8_t[::1] kind = seen
    cdef const uint32_t[::1] events = event
    cdef const uint32_t[::1] pfn = trace.pfn
    cdef const uint8_t[::1] order = trace.order
    cdef const uint8_t[::1] cpu = trace.cpu
    cdef int64_t frames = flag.shape[0], found = 0, i, k, row
    cdef uint8_t[256] lists
    cdef bint alone
    if kind.shape[0] != frames or events.shape[0] != frames:
        raise ValueError("columns of different length")
    for i in range(256):
        lists[i] = i in served
    with nogil:
        for i in range(frames):
            found += (kind[i] == ALLOCATED) | (kind[i] == DRAINED)
    out = np.empty(found, np.int64)
    cdef int64_t[::1] view = out
    found = 0
    with nogil:
        for i in range(frames):
            if kind[i] != ALLOCATED and kind[i] != DRAINED:
                continue
            row = events[i]
            if (flag[i] & hidden and row >= late) or pfn[row] != i + start:
                continue
            if not lists[order[row]] or cpu[row] >= cpus or i + (<int64_t>1 << order[row]) > frames:
                continue
            alone = True
            for k in range(i + 1, i + (<int64_t>1 << order[row])):
                alone &= events[k] == row
            if alone:
                view[found] = i
                found += 1
    return out[:found].copy()


def emptied_lists(trace, event, int64_t events, int64_t start, int64_t end, types, int costly):
    """bool[CPUs, orders, 3]: per-CPU lists that ran empty in the first ``events`` events of a zone's frames.

    They were refilled, or drained down to a page that came during the trace (``event``: uint32[frames], the
    first of each).  types : uint8[256] the list of a recorded migratetype's number; orders above ``costly``
    know Movable and others only.
    """
    cdef const uint8_t[::1] kind = trace.kind
    cdef const uint32_t[::1] pfn = trace.pfn
    cdef const uint8_t[::1] order = trace.order
    cdef const uint8_t[::1] cpu = trace.cpu
    cdef const uint8_t[::1] shown = trace.migratetype.view(np.uint8)
    cdef const uint32_t[::1] first = event
    cdef const uint8_t[::1] table = types
    cdef int64_t i
    cdef uint8_t mt
    if events > kind.shape[0] or end > first.shape[0] or table.shape[0] != 256:
        raise ValueError(f"{events} of {kind.shape[0]} events, {end} of {first.shape[0]} frames")
    out = np.zeros((256, 256, 3), np.bool_)
    cdef uint8_t[:, :, ::1] view = out.view(np.uint8)
    with nogil:
        for i in range(events):
            if kind[i] != LOCKED and kind[i] != DRAINED:
                continue
            if pfn[i] < start or pfn[i] >= end or (kind[i] == DRAINED and first[pfn[i]] >= i):
                continue
            mt = table[shown[i]]
            if order[i] > costly:
                mt = mt == 1
            if mt < 3:
                view[cpu[i], order[i], mt] = True
    return out
