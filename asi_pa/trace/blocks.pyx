"""Sets of frames, and the aligned blocks they form."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import numpy as np

__all__ = ["frames_of", "free_blocks", "list_order", "pages_of", "ranges", "runs"]

cdef enum:
    MAX_ORDER = 31


cdef inline int largest(uint32_t frame, uint32_t end, int max_order) noexcept nogil:
    # The order of the largest aligned block from a frame on that does not go beyond `end`.
    cdef int order = 0
    while order < max_order and not frame & (1u << order) and end - frame >= 2u << order:
        order += 1
    return order


cdef inline int64_t first_not(const uint8_t *free, int64_t at, int64_t frames, uint8_t value) noexcept nogil:
    # The first frame from `at` on that is not `value` (0 or 1), eight at a time where they are alike.
    cdef uint64_t eight, alike = value * <uint64_t>0x0101010101010101
    while at + 8 <= frames:
        memcpy(&eight, &free[at], 8)
        if eight != alike:
            break
        at += 8
    while at < frames and free[at] == value:
        at += 1
    return at


cdef int64_t blocks_of(const uint8_t *free, int64_t frames, uint32_t start, int max_order,
                       const int64_t *place, uint32_t *pfns, uint8_t *orders, int64_t *found) noexcept nogil:
    # Counts the blocks of each order, or with `place` (where each order begins) writes them, too.
    cdef int64_t at = 0, end
    cdef uint32_t frame, stop
    cdef int order
    memset(found, 0, (MAX_ORDER + 1) * sizeof(int64_t))
    while True:
        at = first_not(free, at, frames, 0)
        if at == frames:
            return 0
        end = first_not(free, at, frames, 1)
        frame, stop = start + <uint32_t>at, start + <uint32_t>end
        while frame < stop:
            order = largest(frame, stop, max_order)
            if place != NULL:
                pfns[place[order] + found[order]] = frame
                orders[place[order] + found[order]] = <uint8_t>order
            found[order] += 1
            frame += 1u << order
        at = end


def free_blocks(free, uint32_t start, int max_order):
    """The buddy structure of a set of free frames: maximal aligned blocks, by order, then address.

    ``free`` is bool by frame from ``start`` on.  Returns absolute u32 frames and u8 orders.
    """
    cdef const uint8_t[::1] view = np.ascontiguousarray(free, np.bool_).view(np.uint8)
    cdef int64_t[MAX_ORDER + 1] found
    cdef int64_t[MAX_ORDER + 1] place
    cdef int64_t n = view.shape[0], total = 0
    cdef int order
    if not 0 <= max_order <= MAX_ORDER or start + n > 2**32:
        raise ValueError(f"order {max_order}, {n} frames from {start} on")
    memset(found, 0, sizeof(found))
    if n:
        with nogil:
            blocks_of(&view[0], n, start, max_order, NULL, NULL, NULL, found)
    for order in range(MAX_ORDER + 1):
        place[order] = total
        total += found[order]
    pfns, orders = np.empty(total, np.uint32), np.empty(total, np.uint8)
    cdef uint32_t[::1] pfn_view = pfns
    cdef uint8_t[::1] order_view = orders
    if total:
        with nogil:
            blocks_of(&view[0], n, start, max_order, place, &pfn_view[0], &order_view[0], found)
    return pfns, orders


def ranges(begins, counts):
    """int64: each begin and the numbers that follow it, so many of each; int64 and int64."""
    cdef const int64_t[::1] first = np.ascontiguousarray(begins, np.int64)
    cdef const int64_t[::1] count = np.ascontiguousarray(counts, np.int64)
    cdef int64_t total = 0, at = 0, i, k
    if first.shape[0] != count.shape[0]:
        raise ValueError(f"{first.shape[0]} begins and {count.shape[0]} counts")
    for i in range(count.shape[0]):
        if count[i] < 0:
            raise ValueError(f"count {count[i]} is negative")
        total += count[i]
    out = np.empty(total, np.int64)
    cdef int64_t[::1] view = out
    with nogil:
        for i in range(first.shape[0]):
            for k in range(count[i]):
                view[at] = first[i] + k
                at += 1
    return out


def pages_of(order):
    """How many pages blocks of these orders have."""
    cdef const uint8_t[::1] orders = np.ascontiguousarray(order, np.uint8)
    cdef int64_t pages = 0, i
    with nogil:
        for i in range(orders.shape[0]):
            pages += <int64_t>1 << (orders[i] & 31)
    return pages


def frames_of(pfn, order):
    """Every frame of the given blocks, int64."""
    return ranges(pfn, 1 << np.asarray(order).astype(np.int64))


def list_order(pfn, order, taken, uint32_t start):
    """Rows of free blocks as they lie on their lists: what is taken first is nearest to the head.

    ``taken``: u32 by frame from ``start`` on, when a frame first leaves the buddy.  Blocks that are never
    taken come last, by address.
    """
    cdef const uint32_t[::1] pfns = np.ascontiguousarray(pfn, np.uint32)
    cdef const uint8_t[::1] orders = np.ascontiguousarray(order, np.uint8)
    cdef const uint32_t[::1] times = np.ascontiguousarray(taken, np.uint32)
    cdef int64_t i, begin, frame, n = pfns.shape[0]
    cdef uint32_t first
    if not n:
        return np.zeros(0, np.intp)
    when = np.empty(n, np.uint32)
    cdef uint32_t[::1] view = when
    if orders.shape[0] != n:
        raise ValueError(f"{n} blocks, {orders.shape[0]} orders")
    for i in range(n):
        frame = <int64_t>pfns[i] - start
        if frame < 0 or orders[i] > MAX_ORDER or frame + (<int64_t>1 << orders[i]) > times.shape[0]:
            raise ValueError(f"block at pfn {pfns[i]}, order {orders[i]}: outside the frames given")
    with nogil:
        for i in range(n):
            first = 0xFFFFFFFF
            begin = <int64_t>pfns[i] - start
            for frame in range(begin, begin + (<int64_t>1 << orders[i])):
                first = min(first, times[frame])
            view[i] = first
    return np.lexsort((pfn, when, order))


def runs(mask, int64_t start):
    """The half-open ranges where ``mask`` (bool) holds; its first element is frame ``start``."""
    cdef const uint8_t[::1] view = np.ascontiguousarray(mask, np.bool_).view(np.uint8)
    cdef int64_t at = 0, end, n = view.shape[0]
    found = []
    while at < n:
        at = first_not(&view[0], at, n, 0)
        if at < n:
            end = first_not(&view[0], at, n, 1)
            found.append((at + start, end + start))
            at = end
    return tuple(found)
