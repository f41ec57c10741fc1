"""A toy to hold the model against: the lowest free block that is large enough, and nothing else.

No per-CPU lists, no types, no watermarks.  What it ends with says how much of a prediction comes of knowing
what callers did, and how much of the kernel's rules.

A binary tree over the frames; a node holds 1 + the order of the largest aligned free block below it, 0 for
none.  Below a node that is wholly free, or not free at all, nothing is kept up to date: who goes down sets
the two children first.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

import numpy as np

from asi_pa.trace.ops cimport OP_ALLOC, OP_FREE, OP_SPLIT, op_t

cdef enum:
    NOWHERE = 0xFFFFFFFF


@cython.final
cdef class FirstFit:
    """Frames [start, end), none of them free at first.

    start, end : pfns
    max_order : of the largest block that is counted as one
    """

    cdef uint8_t *best
    cdef uint64_t start
    cdef uint64_t frames
    cdef int depth
    cdef int max_order

    def __init__(self, uint64_t start, uint64_t end, int max_order):
        self.start = start >> max_order << max_order
        self.max_order = max_order
        self.depth = max_order
        if not start < end < <uint64_t>1 << 48:
            raise ValueError(f"[{start}, {end}) is no range of frames")
        self.frames = end - self.start
        while <uint64_t>1 << self.depth < self.frames:
            self.depth += 1
        if self.best != NULL:
            raise RuntimeError("a FirstFit is initialised once")
        self.best = <uint8_t *>calloc(<size_t>2 << self.depth, 1)
        if self.best == NULL:
            raise MemoryError("no memory for a tree over the frames")

    def __dealloc__(self):
        free(self.best)

    cdef inline void step_down(self, uint64_t node, int level) noexcept nogil:
        # the children of a node of this level, if it answers for them
        if self.best[node] == level + 1:
            self.best[2 * node] = self.best[2 * node + 1] = <uint8_t>level
        elif self.best[node] == 0:
            self.best[2 * node] = self.best[2 * node + 1] = 0

    cdef inline void climb(self, uint64_t node, int level) noexcept nogil:
        # what is above a node that changed
        cdef uint8_t left, right
        while node > 1:
            node >>= 1
            level += 1
            left = self.best[2 * node]
            right = self.best[2 * node + 1]
            self.best[node] = <uint8_t>(level + 1) if left == right == level else max(left, right)

    cdef void give(self, uint64_t frame, int order) noexcept nogil:
        # Aligned frames become free; those of a block that is free already, or outside, are left alone.
        cdef uint64_t node = 1, target = ((<uint64_t>1 << self.depth) + frame) >> order
        cdef int level = self.depth
        if frame + (<uint64_t>1 << order) > self.frames:
            return
        while level > order:
            if self.best[node] == level + 1:
                return
            self.step_down(node, level)
            level -= 1
            node = target >> (level - order)
        self.best[node] = <uint8_t>(order + 1)
        self.climb(node, order)

    cdef uint32_t take(self, int order) noexcept nogil:
        # The lowest block; NOWHERE if there is none.
        cdef uint64_t node = 1
        cdef int level = self.depth
        if self.best[1] <= order:
            return NOWHERE
        while level > order:
            self.step_down(node, level)
            level -= 1
            node = 2 * node + (self.best[2 * node] <= order)
        self.best[node] = 0
        self.climb(node, order)
        return <uint32_t>((node << order) - (<uint64_t>1 << self.depth))

    def free(self, pfns, orders):
        """Blocks become free: pfns (k), aligned to their orders (k)."""
        cdef const uint64_t[::1] pfn = np.ascontiguousarray(pfns, np.uint64)
        cdef const uint8_t[::1] order = np.ascontiguousarray(orders, np.uint8)
        cdef Py_ssize_t i
        if pfn.shape[0] != order.shape[0]:
            raise ValueError(f"{order.shape[0]} orders of {pfn.shape[0]} blocks")
        for i in range(pfn.shape[0]):
            if pfn[i] < self.start or order[i] > self.max_order or pfn[i] & ((<uint64_t>1 << order[i]) - 1):
                raise ValueError(f"pfn {pfn[i]}, order {order[i]}, is no block of these frames")
            self.give(pfn[i] - self.start, order[i])

    def run(self, ops, uint32_t[::1] slots, const uint8_t[::1] serves):
        """Carries out operations (`asi_pa.trace.compiler.OP`).

        slots : uint32 pfn of what each slot holds, 2^32 - 1 for nothing; brought up to date
        serves : uint8 (allocations) whether each OP_ALLOC is asked of these frames; others get nothing
        """
        cdef const uint8_t[::1] raw = np.ascontiguousarray(ops).view(np.uint8)
        cdef const op_t *op
        cdef Py_ssize_t i, n = len(ops)
        cdef Py_ssize_t asked = 0
        cdef uint32_t k, pages
        if n == 0:
            return
        op = <const op_t *>&raw[0]
        pages_of = 1 << ops["order"].astype(np.int64)
        last = ops["slot"] + np.where(ops["op"] == OP_SPLIT, pages_of, 1)
        if int(last.max()) > slots.shape[0] or int((ops["op"] == OP_ALLOC).sum()) > serves.shape[0]:
            raise ValueError("operations on slots, or allocations, that are not there")
        if int(ops["order"].max()) > self.max_order:
            raise ValueError(f"operations of an order above {self.max_order}")
        with nogil:
            for i in range(n):
                if op[i].op == OP_ALLOC:
                    slots[op[i].slot] = NOWHERE
                    if serves[asked]:
                        k = self.take(op[i].order)
                        if k != NOWHERE:
                            slots[op[i].slot] = <uint32_t>(self.start + k)
                    asked += 1
                elif op[i].op == OP_FREE:
                    k = slots[op[i].slot]
                    slots[op[i].slot] = NOWHERE
                    if k != NOWHERE and k >= self.start:
                        self.give(k - self.start, op[i].order)
                elif op[i].op == OP_SPLIT and slots[op[i].slot] != NOWHERE:
                    pages = slots[op[i].slot]
                    for k in range(1u << op[i].order):
                        slots[op[i].slot + k] = pages + k

    def blocks(self):
        """int64 (max_order + 1): free blocks by order, buddies merged."""
        cdef int64_t[::1] count
        cdef uint64_t node = 1
        cdef int level = self.depth
        found = np.zeros(self.max_order + 1, np.int64)
        count = found
        while True:
            if level > self.max_order or (self.best[node] and self.best[node] != level + 1):
                self.step_down(node, level)
                node *= 2
                level -= 1
                continue
            if self.best[node]:
                count[level] += 1
            while node & 1:         # done with a right child
                node >>= 1
                level += 1
            if node == 0:
                return found
            node += 1
