"""What a zone holds at the start, allocation by allocation, in one pass over its frames.

An allocation's kind is a byte: order << 1 | movable, and FILE for a page of a file, which reclaim can drop.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t

import numpy as np

from asi_pa.trace.frame_bits cimport ANON, BUDDY, HEAD, HELD_FRAME, LRU, TAIL

__all__ = ["kinds_freed", "rest_of"]

cdef enum:
    FREED_FRAME = 255       # of an allocation that the trace frees
    MOVABLE = 1
    FILE = 64


cdef inline uint8_t of_file(uint8_t flags) noexcept nogil:
    # reclaim can drop it and read it again: on the LRU, not anonymous (there is no swap)
    return FILE if flags & (LRU | ANON) == LRU else 0


def kinds_freed(flags, pfn, order, block_mt, int64_t start, int block_order):
    """uint8: the kinds of allocations that the trace frees, by the flags of their first frames.

    One without flags when the snapshot was read moves as its pageblock does if its frames were free by then.
    """
    cdef const uint8_t[::1] flag = flags
    cdef const uint32_t[::1] pfns = np.ascontiguousarray(pfn, np.uint32)
    cdef const uint8_t[::1] orders = np.ascontiguousarray(order, np.uint8)
    cdef const uint8_t[::1] types = block_mt
    cdef int64_t i, at, n = pfns.shape[0]
    cdef uint8_t bits, movable
    kinds = np.empty(n, np.uint8)
    cdef uint8_t[::1] view = kinds
    if orders.shape[0] != n:
        raise ValueError(f"{n} frames, {orders.shape[0]} orders")
    for i in range(n):
        at = pfns[i] - start
        if not 0 <= at < flag.shape[0] or (pfns[i] >> block_order) - (start >> block_order) >= types.shape[0]:
            raise ValueError(f"pfn {pfns[i]}: not among the frames given")
        bits = flag[at]
        movable = bits & LRU != 0
        if bits & BUDDY and types[(pfns[i] >> block_order) - (start >> block_order)] == 1:
            movable = MOVABLE
        view[i] = orders[i] << 1 | movable | of_file(bits)
    return kinds


cdef int compound(const uint8_t *flags, const uint8_t *state, int64_t at, int64_t frames, uint32_t pfn,
                  int max_order) noexcept nogil:
    # The order of the compound page that begins at a frame: a head and the tails after it, all still there.
    cdef int64_t end = at + 1
    cdef int order = 0
    while end < frames and state[end] == HELD_FRAME and flags[end] & TAIL:
        end += 1
    while 1 << order < end - at:
        order += 1
    if 1 << order != end - at or order > max_order or pfn & ((1u << order) - 1):
        return 0
    return order


cdef int64_t collect(const uint8_t *flags, const uint8_t *state, int64_t frames, uint32_t start,
                     int max_order, uint32_t *pfns, uint8_t *kinds) noexcept nogil:
    cdef int64_t at = 0, found = 0
    cdef int order
    while at < frames:
        if state[at] != HELD_FRAME:
            at += 1
            continue
        order = compound(flags, state, at, frames, start + <uint32_t>at, max_order) if flags[at] & HEAD else 0
        pfns[found] = start + <uint32_t>at
        kinds[found] = <uint8_t>(order << 1 | (flags[at] & LRU != 0)) | of_file(flags[at])
        found += 1
        at += <int64_t>1 << order
    return found


def rest_of(flags, state, pfn, order, int64_t start, int max_order):
    """What a zone holds besides allocations that the trace frees: uint32 frames, uint8 kinds.

    flags, state : uint8[frames] from ``start`` on; a compound page is one allocation where it is whole
    pfn, order : of what the trace frees
    """
    cdef const uint8_t[::1] flag = flags
    cdef const uint32_t[::1] pfns = np.ascontiguousarray(pfn, np.uint32)
    cdef const uint8_t[::1] orders = np.ascontiguousarray(order, np.uint8)
    left = np.array(state, np.uint8)
    cdef uint8_t[::1] states = left
    cdef int64_t frames = flag.shape[0], i, at, end, found = 0
    if states.shape[0] != frames or orders.shape[0] != pfns.shape[0]:
        raise ValueError("columns of different length")
    for i in range(pfns.shape[0]):
        at = pfns[i] - start
        if at < 0:
            raise ValueError(f"pfn {pfns[i]}: not among the frames given")
        end = min(at + (<int64_t>1 << orders[i]), frames)
        while at < end:
            states[at] = FREED_FRAME
            at += 1
    most = int(np.count_nonzero(left == HELD_FRAME))
    found_pfns, kinds = np.empty(most, np.uint32), np.empty(most, np.uint8)
    cdef uint32_t[::1] pfn_view = found_pfns
    cdef uint8_t[::1] kind_view = kinds
    if most:
        with nogil:
            found = collect(
                &flag[0], &states[0], frames, <uint32_t>start, max_order, &pfn_view[0], &kind_view[0]
            )
    return found_pfns[:found], kinds[:found]
