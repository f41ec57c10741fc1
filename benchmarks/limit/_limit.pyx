# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""What the engine is measured against: the leanest buddy (arrays in front or not), an empty call, memory."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

cdef extern from "buddy.h":
    ctypedef struct limit_op:
        uint8_t op
        uint8_t order
        uint8_t cls
        uint8_t cpu
        uint32_t slot
    ctypedef struct limit_buddy:
        uint32_t *slots
        uint32_t nframes
        uint32_t nslots
        uint64_t failed
    int limit_init(limit_buddy *, uint32_t, uint32_t, int) noexcept nogil
    void limit_destroy(limit_buddy *) noexcept nogil
    void limit_run(limit_buddy *, const limit_op *, size_t, size_t, size_t) noexcept nogil
    void limit_free(limit_buddy *, uint32_t, unsigned int) noexcept nogil
    int64_t limit_free_pages(const limit_buddy *) noexcept nogil
    void chase_build(uint32_t *, uint32_t, uint64_t) noexcept nogil
    void *limit_memory(size_t) noexcept nogil
    uint32_t chase_run(const uint32_t *, uint32_t, uint64_t) noexcept nogil


cdef class Limit:
    """The leanest buddy over ``frames`` frames; everything is free unless ``boot`` is false.

    With ``arrays`` an array of frames for each of the orders 0 to 3 stands in front.
    """

    cdef limit_buddy b

    def __init__(self, frames, nslots, bint boot=True, bint arrays=False):
        cdef uint32_t frame = 0
        cdef int order
        if limit_init(&self.b, frames, nslots, arrays):
            raise MemoryError(f"no memory for {frames} frames")
        while boot and frame < self.b.nframes:
            # ascending blocks on each list, as the engine boots
            order = 10
            while frame & ((1u << order) - 1) or <uint64_t>frame + (1u << order) > self.b.nframes:
                order -= 1
            limit_free(&self.b, self.b.nframes - frame - (1u << order), order)
            frame += 1u << order

    def __dealloc__(self):
        limit_destroy(&self.b)

    def load(self, const uint32_t[::1] free_frame, const uint8_t[::1] free_order,
             const uint32_t[::1] held_frame, const uint32_t[::1] held_slot):
        """An initial state: free blocks, and frames of allocations by slot."""
        cdef Py_ssize_t i
        for i in range(free_frame.shape[0] - 1, -1, -1):
            limit_free(&self.b, free_frame[i], free_order[i])
        for i in range(held_frame.shape[0]):
            self.b.slots[held_slot[i]] = held_frame[i]

    def run(self, ops, Py_ssize_t start=0, end=None):
        """Runs operations [start, end) of an OP array; nothing is checked."""
        cdef const limit_op[::1] view = ops
        cdef Py_ssize_t stop = len(ops) if end is None else min(end, len(ops))
        if start < stop:
            with nogil:
                limit_run(&self.b, &view[0], start, stop, view.shape[0])

    @property
    def failures(self):
        return self.b.failed

    def free_pages(self):
        """Pages on the lists and in the arrays; ValueError if links are broken."""
        pages = limit_free_pages(&self.b)
        if pages < 0:
            raise ValueError("a free list is broken")
        return pages


cdef class Empty:
    """Methods that do nothing, signatures of ``alloc`` and ``free``: the floor of a call from Python."""

    def alloc(self, int order, uint32_t gfp, int cpu=0):
        return None

    def free(self, uint64_t pfn, int order, int cpu=0):
        return None


cdef class Memory:
    """``size`` bytes: a random cycle through their cache lines, or a memset of them all."""

    cdef uint32_t *p
    cdef size_t size
    cdef uint32_t at

    def __init__(self, size_t size, seed=1, bint cycle=True):
        self.size = max(<size_t>128, size // 64 * 64)
        if self.size // 64 >= 2**32:
            raise ValueError(f"{size} bytes: more than 2^32 cache lines")
        self.p = <uint32_t *>limit_memory(self.size)
        if self.p == NULL:
            raise MemoryError(f"no memory for {size} bytes")
        if cycle:
            with nogil:
                chase_build(self.p, <uint32_t>(self.size // 64), <uint64_t>0x9E3779B97F4A7C15)

    def __dealloc__(self):
        free(self.p)

    def chase(self, uint64_t steps):
        """Follows the cycle ``steps`` times; where it came to."""
        with nogil:
            self.at = chase_run(self.p, self.at, steps)
        return self.at


def set_memory(size_t size):
    """memset of ``size`` bytes fresh from the system; the last byte."""
    cdef uint8_t *p = <uint8_t *>limit_memory(size)
    if p == NULL:
        raise MemoryError(f"no memory for {size} bytes")
    with nogil:
        memset(p, 0xFF, size)
    last = p[size - 1]
    free(p)
    return last


def copy_memory(size_t size, uint64_t times):
    """memcpy of ``size`` bytes, so many times, from one small buffer to another."""
    cdef uint8_t *p = <uint8_t *>limit_memory(2 * size)
    cdef uint64_t i
    if p == NULL:
        raise MemoryError(f"no memory for {2 * size} bytes")
    with nogil:
        memset(p, 1, 2 * size)
        for i in range(times):
            p[i % size] += 1
            memcpy(p + size, p, size)
    last = p[2 * size - 1]
    free(p)
    return last
