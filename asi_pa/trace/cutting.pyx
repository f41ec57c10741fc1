"""What a machine of another size keeps of what the recorded one held, column by column (asi_pa.trace.resize).

An allocation's kind is a byte: order << 1 | movable, and FILE for a page of a file.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memset

import numpy as np

from asi_pa.kernel.gfp import Migratetype
from asi_pa.trace.frame_bits cimport FREE_FRAME

__all__ = ["KINDS", "bring", "columns", "gather", "kinds_of", "orders_of", "take_over", "tally",
           "translate"]

cdef enum:
    NKINDS = 64

cdef uint8_t RECLAIMABLE = Migratetype.RECLAIMABLE

#: Kinds that are told apart where one allocation takes the place of another: all but FILE.
KINDS = NKINDS


cdef inline uint32_t size_of(uint8_t kind) noexcept nogil:
    return 1u << (kind >> 1 & 31)


cdef inline bint cut_off(uint8_t *state, int64_t frames, int64_t at, uint8_t kind) noexcept nogil:
    # Whether the end of the zone cuts an allocation off; the part inside is free then.
    if at + size_of(kind) <= frames:
        return False
    while at < frames:
        state[at] = FREE_FRAME
        at += 1
    return True


def kinds_of(order, movable, file):
    """The kinds of allocations, u8."""
    return (np.asarray(order, np.uint8) << 1) | movable | (np.asarray(file).astype(np.uint8) << 6)


def orders_of(kind):
    """Their orders, u8."""
    return kind >> 1 & 31


def tally(const uint8_t[::1] values):
    """How often each number comes, i64[256]."""
    counts = np.zeros(256, np.int64)
    cdef int64_t[::1] count = counts
    cdef int64_t i
    with nogil:
        for i in range(values.shape[0]):
            count[values[i]] += 1
    return counts


def translate(const uint8_t[::1] values, const uint8_t[::1] table):
    """What a table of 256 says of each number, u8."""
    made = np.empty(values.shape[0], np.uint8)
    cdef uint8_t[::1] out = made
    cdef int64_t i
    if table.shape[0] != 256:
        raise ValueError(f"{table.shape[0]} entries for 256 numbers")
    with nogil:
        for i in range(values.shape[0]):
            out[i] = table[values[i]]
    return made


def bring(const uint32_t[::1] pfn, const uint8_t[::1] kind, const int32_t[::1] chunk, const uint32_t[::1] row,
          const int32_t[::1] place, uint32_t start, int chunk_order, uint8_t[::1] state,
          uint32_t[::1] out_pfn, uint8_t[::1] out_kind):
    """What the trace frees to where its chunk went: written at its ``row``; and what has no place any more.

    ``chunk``: of each, -1 for one in none; ``place``: where each chunk went, -1 if it did not stay; ``state``
    by frame from ``start`` on: an allocation that the zone's end cuts off leaves its part free.  Returns
    those without a place (numbers, u32, kind by kind and as they were within one), how many of each kind.
    """
    cdef int64_t n = pfn.shape[0], frames = state.shape[0], i, at, gone = 0
    cdef int64_t mask = (1 << chunk_order) - 1
    cdef int32_t k
    cdef int64_t[NKINDS] next
    homeless, sorted_ = np.empty(n, np.uint32), np.empty(n, np.uint32)
    counts = np.zeros(NKINDS, np.int64)
    cdef uint32_t[::1] without = homeless, by_kind = sorted_
    cdef int64_t[::1] count = counts
    with nogil:
        for i in range(n):
            k = place[chunk[i]] if chunk[i] >= 0 else -1
            if k >= 0:
                at = (<int64_t>k << chunk_order) + (<int64_t>pfn[i] & mask)
                if not cut_off(&state[0], frames, at, kind[i]):
                    out_pfn[row[i]] = start + <uint32_t>at
                    out_kind[row[i]] = kind[i]
                    continue
            without[gone] = <uint32_t>i
            gone += 1
            count[kind[i] & (NKINDS - 1)] += 1
        at = 0
        for i in range(NKINDS):
            next[i] = at
            at += count[i]
        for i in range(gone):
            by_kind[next[kind[without[i]] & (NKINDS - 1)]] = without[i]
            next[kind[without[i]] & (NKINDS - 1)] += 1
    return sorted_[:gone], counts


def gather(const uint32_t[::1] pfn, const uint8_t[::1] kind, const int64_t[::1] begins,
           const int64_t[::1] chosen, uint32_t start, int chunk_order, uint8_t[::1] state,
           uint32_t[::1] out_pfn, uint8_t[::1] out_kind):
    """What else the chosen chunks hold, at its new place; how many, and how many of each kind (i64).

    ``begins``: where each chunk's allocations begin.  What the zone's end cuts off is not held.
    """
    cdef int64_t frames = state.shape[0], mask = (1 << chunk_order) - 1, k, i, at, n = 0
    counts = np.zeros(NKINDS, np.int64)
    cdef int64_t[::1] count = counts
    with nogil:
        for k in range(chosen.shape[0]):
            for i in range(begins[chosen[k]], begins[chosen[k] + 1]):
                at = (k << chunk_order) + (<int64_t>pfn[i] & mask)
                if not cut_off(&state[0], frames, at, kind[i]):
                    out_pfn[n] = start + <uint32_t>at
                    out_kind[n] = kind[i]
                    count[kind[i] & (NKINDS - 1)] += 1
                    n += 1
    return n, counts


def take_over(uint32_t[::1] pfn, uint8_t[::1] kind, const int64_t[::1] hosts, const int64_t[::1] drawn,
              const uint32_t[::1] needs, const int64_t[::1] lacking, const uint32_t[::1] row,
              uint32_t[::1] out_pfn, uint8_t[::1] out_kind):
    """Gives those without a place that of another of their kind, from a drawn one of the kind on; it goes.

    ``hosts``, ``lacking``: how many there are of each kind that may go and that lack a place; ``needs``: the
    latter's numbers, kind by kind; ``row``: where each number is written.  What stays closes up in ``pfn``
    and ``kind``; returns how much it is.
    """
    cdef int64_t[NKINDS] seen, first
    cdef int64_t i, j, at = 0, n = 0
    cdef int k
    cdef uint32_t to
    memset(seen, 0, sizeof(seen))
    for k in range(NKINDS):
        first[k] = at
        at += lacking[k]
    with nogil:
        for i in range(pfn.shape[0]):
            k = kind[i] & (NKINDS - 1)
            if lacking[k]:
                j = seen[k] - drawn[k]
                seen[k] += 1
                if j < 0:
                    j += hosts[k]
                if j < lacking[k]:
                    to = row[needs[first[k] + j]]
                    out_pfn[to] = pfn[i]
                    out_kind[to] = kind[i]
                    continue
            pfn[n] = pfn[i]
            kind[n] = kind[i]
            n += 1
    return n


def columns(const uint32_t[::1] pfn, const uint8_t[::1] kind, int64_t known, uint32_t[::1] slot,
            int64_t next_slot, const uint8_t[::1] block_mt, int64_t first_block, int pageblock_order):
    """A population's columns of allocations: order, file, kind of request (`HeldClasses`); the next slot.

    The first ``known`` have their slots, the others get the next ones, as many as they have pages.
    """
    cdef int64_t n = pfn.shape[0], i
    cdef uint8_t k, order
    made = np.empty((3, n), np.uint8)
    cdef uint8_t[:, ::1] out = made
    with nogil:
        for i in range(n):
            k = kind[i]
            order = k >> 1 & 31
            out[0, i] = order
            out[1, i] = k >> 6
            # 16 x (0 movable, 1 slab, 2 other) + order
            if not k & 1:
                order += 16 if block_mt[(pfn[i] >> pageblock_order) - first_block] == RECLAIMABLE else 32
            out[2, i] = order
        for i in range(known, n):
            slot[i] = <uint32_t>next_slot
            next_slot += size_of(kind[i])
    return made[0], made[1].view(np.bool_), made[2], next_slot
