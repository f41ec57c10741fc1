"""Calls of the allocator over many pages at once: arrays in, arrays out, no Python and no GIL in between."""

from functools import lru_cache

import numpy as np

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from asi_pa._core cimport ALLOC, KIND_MASK, MAX_ORDERS, prefetchw, request_t, zone_t
from asi_pa.run.hits cimport alloc_hit, free_hit, kind_t, learn_alloc, learn_free
from asi_pa.engine.machine cimport NOT_MADE
from asi_pa.engine.page_alloc cimport count_failure, decode_request_on, mm_t, zone_of
from asi_pa.engine.wrappers cimport design_alloc, design_free, run_ahead
from asi_pa.engine.check cimport describe_frame

from asi_pa.kernel.gfp import GFP_KERNEL, parse_gfp

cdef extern from "Python.h":
    long PyLong_AsLongAndOverflow(object, int *) except? -1

cdef enum:
    AHEAD = 12              # elements whose frames are fetched ahead


gfp_of_names = lru_cache(maxsize=256)(parse_gfp)


cdef int64_t large_number(object value) except? -2:
    cdef int overflow = 0
    cdef int64_t x = PyLong_AsLongAndOverflow(value, &overflow)
    return -1 if overflow or x < 0 else x


cdef int64_t large_word(object gfp) except? -2:
    # a request word that is no small int: a large one, or its names
    return large_number(gfp_of_names(gfp) if isinstance(gfp, str) else gfp)


cdef class BulkCalls:
    """What ``Allocator`` inherits: one machine, and the calls over arrays.

    A call while a bulk call of the same allocator runs raises RuntimeError, whatever the thread.
    """

    def __cinit__(self):
        self.machine = NOT_MADE
        self.mm = &self.machine.mm

    cdef int _decode(self, cached_t *c, uint64_t key, object gfp, int64_t word) except -1:
        if word < 0 or word >> 32:
            raise ValueError(f"gfp {gfp}: a request word has 32 bits")
        if word >> 3 & 3 == 3:
            raise ValueError(f"gfp 0x{word:x}: __GFP_MOVABLE and __GFP_RECLAIMABLE exclude each other")
        decode_request_on(self.mm, <int>(key >> 32 & 0xFF), <uint32_t>word, &c.rq)
        c.key = key
        return 0

    cdef int _refuse(self, object order, object cpu) except -1:
        self.machine._made(type(self).__name__)
        if not 0 <= order <= self.mm.zones[0].max_order:
            raise ValueError(f"order {order} is not in 0..{self.mm.zones[0].max_order}")
        if not 0 <= cpu < self.mm.ncpus:
            raise ValueError(f"cpu {cpu} is not in 0..{self.mm.ncpus - 1}")
        raise RuntimeError("a bulk call or a replay of this allocator is running in another thread")

    cdef int _idle(self) except -1:
        if self.running or self.machine is NOT_MADE:
            self._refuse(0, 0)
        return 0

    # ------------------------------------------------------------ many at once

    def alloc_pages_bulk(self, order, gfp=GFP_KERNEL, n=None, out=None, *, cpu=0):
        """As many calls of ``alloc_pages`` as ``n`` says, or as fit before one fails; no Python in between.

        Parameters
        ----------
        order : int, or (n,) array of integers
            The order of all, or of each.
        gfp : int or str
            The request word of all, or its names.
        n : int, optional
            How many; the length of ``order`` or ``out`` if not given.
        out : (n,) array of uint32 or uint64, optional
            C-contiguous and writable; receives the pfns.

        Returns the pfns of those that succeeded, as the first part of ``out`` or of a new array: uint32 where
        all frames of the machine fit, else uint64.  Fewer than n mean that the next one found no memory,
        which is counted as a failure.  ValueError and MemoryError as for ``alloc_pages``, with nothing
        allocated.
        (The kernel's alloc_pages_bulk() is another thing: it asks the watermarks once for all.)
        """
        cdef int64_t c = number(cpu), got, count
        cdef const request_t *rq
        cdef const uint8_t[::1] each
        cdef const uint8_t *orders = NULL
        cdef uint32_t[::1] narrow
        cdef uint64_t[::1] wide
        cdef uint32_t *to32 = NULL
        cdef uint64_t *to64 = NULL
        cdef int one
        if <uint64_t>c >= <uint64_t>self.mm.ncpus or self.running:
            self._refuse(0, cpu)
        one = self._one_order(order)
        if n is None:
            n = self._how_many(order if one < 0 else None, out)
        count = number(n)
        if count < 0:
            raise ValueError(f"n {n}: not a number of allocations")
        if one < 0:
            each = self._orders(order, count)
            orders = &each[0]
        if out is None:
            out = np.empty(count, np.uint64 if self.end_pfn > <uint64_t>1 << 32 else np.uint32)
        else:
            self._check_out(out, count)
        rq = request(self, gfp, <int>c)
        if count == 0:
            return out[:0]
        if out.dtype == np.uint32:
            narrow = out
            to32 = &narrow[0]
        else:
            wide = out
            to64 = &wide[0]
        with cython.critical_section(self):
            self._idle()        # another thread may have begun one since it was asked
            self.running = 1
            with nogil:
                got = alloc_many(self.mm, <int>c, rq, orders, one, count, to32, to64, &self.clock)
            self.running = 0
            self.allocated += got
            if got < count:
                self.allocated += 1
                count_failure(self.mm, <int>c, orders[got] if orders != NULL else one, rq)
            if self.machine.watched:
                self._look_many(<int>c, to32, to64, orders, one, got)
            if got < count:
                after_operation(self.mm, &self.clock, <int>c)
        return out if got == count else out[:got]

    cdef int _look_many(self, int cpu, const uint32_t *got32, const uint64_t *got64, const uint8_t *orders,
                        int order, int64_t n) except -1:
        # What nobody will get is given back.
        try:
            self.machine._afterwards()
        except MemoryError:
            free_many(self.mm, cpu, got32, got64, orders, order, n, &self.clock)
            raise
        return 0

    def free_pages_bulk(self, pfns, order=0, *, cpu=0):
        """``free_pages`` for every element of an array, in its order; no Python in between.

        Parameters
        ----------
        pfns : (n,) array of integers
        order : int, or (n,) array of integers

        ValueError names the first element that ``free_pages`` would refuse, or that is there twice; nothing
        is freed then.
        """
        cdef int64_t c = number(cpu), n, bad
        cdef const uint8_t[::1] each
        cdef const uint8_t *orders = NULL
        cdef const uint32_t[::1] narrow
        cdef const uint64_t[::1] wide
        cdef const uint32_t *from32 = NULL
        cdef const uint64_t *from64 = NULL
        cdef int one
        if <uint64_t>c >= <uint64_t>self.mm.ncpus or self.running:
            self._refuse(0, cpu)
        pfns = np.asarray(pfns)
        if pfns.ndim != 1 or (len(pfns) and pfns.dtype.kind not in "iu"):
            raise ValueError(f"pfns of shape {pfns.shape}, {pfns.dtype}: one-dimensional, of integers")
        n = len(pfns)
        one = self._one_order(order)
        if one < 0:
            each = self._orders(order, n)
            orders = &each[0]
        if n == 0:
            return
        if pfns.dtype.kind == "i" and pfns.min() < 0:
            raise ValueError(f"free_pages_bulk: pfn {pfns.min()} is in no zone; nothing was freed")
        if pfns.dtype == np.uint32:
            narrow = np.ascontiguousarray(pfns)
            from32 = &narrow[0]
        else:
            wide = np.ascontiguousarray(pfns, np.uint64)
            from64 = &wide[0]
        with cython.critical_section(self):
            self._idle()
            self.running = 1
            with nogil:
                bad = mark_many(self.mm, from32, from64, orders, one, n)
                if bad < 0:
                    free_many(self.mm, <int>c, from32, from64, orders, one, n, &self.clock)
            self.running = 0
            if bad >= 0:
                why = self._why_not(int(pfns[bad]))
                self._unmark(from32, from64, bad)
                raise ValueError(f"free_pages_bulk: element {bad}, free of pfn {pfns[bad]}, order "
                                 f"{orders[bad] if orders != NULL else one}: {why}; nothing was freed")
            self.freed += n
            if self.machine.watched:
                self.machine._afterwards()

    cdef str _why_not(self, uint64_t pfn):
        cdef zone_t *z = zone_of(self.mm, pfn)
        cdef uint32_t frame
        if z == NULL:
            return "it is in no zone"
        frame = <uint32_t>(pfn - z.base_pfn)
        if z.state[frame] & KIND_MASK == ALLOC | MARK:
            return "it is given twice"
        return describe_frame(z, frame)

    cdef void _unmark(self, const uint32_t *from32, const uint64_t *from64, int64_t n) noexcept:
        cdef int64_t i
        cdef uint64_t pfn
        cdef zone_t *z
        for i in range(n):
            pfn = from32[i] if from32 != NULL else from64[i]
            z = zone_of(self.mm, pfn)
            z.state[<uint32_t>(pfn - z.base_pfn)] &= <uint8_t>~MARK

    cdef int _one_order(self, object order) except -2:
        """The order, or -1 if there is one for each element."""
        if isinstance(order, int):
            if not 0 <= order <= self.mm.zones[0].max_order:
                self._refuse(order, 0)
            return order
        return -1

    def _how_many(self, orders, out):
        if orders is not None and np.ndim(orders):
            return len(orders)
        if out is None:
            raise ValueError("n is missing: how many allocations?")
        return len(out)

    def _orders(self, order, n):
        """Orders as the loops want them: uint8, never empty."""
        self.machine._made(type(self).__name__)
        given = np.asarray(order)
        if (given.size and given.dtype.kind not in "iu") or given.shape not in ((), (n,)):
            raise ValueError(f"order of shape {given.shape}, {given.dtype}: one integer, or {n} of them")
        if not given.size:
            return np.zeros(1, np.uint8)
        low, high = int(given.min()), int(given.max())
        if low < 0 or high > self.mm.zones[0].max_order:
            self._refuse(low if low < 0 else high, 0)
        return np.ascontiguousarray(np.broadcast_to(given, (max(n, 1),)), np.uint8)

    cdef int _check_out(self, object out, int64_t n) except -1:
        if not isinstance(out, np.ndarray) or out.dtype not in (np.uint32, np.uint64) or out.shape != (n,):
            raise ValueError(f"out: an array of {n} uint32 or uint64 is expected")
        if not out.flags.c_contiguous or not out.flags.writeable:
            raise ValueError("out: not C-contiguous and writable")
        if out.dtype == np.uint32 and self.end_pfn > <uint64_t>1 << 32:
            raise ValueError(f"out: pfns up to {self.end_pfn - 1} do not fit uint32")
        return 0


# ---------------------------------------------------------------- the loops

cdef int64_t alloc_many(mm_t *mm, int cpu, const request_t *rq, const uint8_t *orders, int order, int64_t n,
                        uint32_t *to32, uint64_t *to64, uint64_t *clock) noexcept nogil:
    cdef int64_t i, pfn
    cdef kind_t kinds[MAX_ORDERS]
    cdef zone_t *z = mm.zones[0]
    cdef uint32_t frame
    for i in range(z.max_order + 1):
        learn_alloc(&kinds[i], mm, cpu, <int>i, rq)
    for i in range(n):
        if orders != NULL:
            order = orders[i]
        if alloc_hit(z, &kinds[order], &frame):
            pfn = <int64_t>(z.base_pfn + frame)
        else:
            pfn = design_alloc(mm, cpu, order, rq)
        if pfn < 0:
            return i
        if mm.design.looks_ahead:
            run_ahead(mm)
        after_operation(mm, clock, cpu)
        if to32 != NULL:
            to32[i] = <uint32_t>pfn
        else:
            to64[i] = <uint64_t>pfn
    return n


cdef inline zone_t *zone_near(mm_t *mm, zone_t *z, uint64_t pfn) noexcept nogil:
    # most often the zone of the element before
    if pfn >= z.base_pfn + z.first and pfn < z.base_pfn + z.nframes:
        return z
    return zone_of(mm, pfn)


cdef int64_t mark_many(mm_t *mm, const uint32_t *from32, const uint64_t *from64, const uint8_t *orders,
                       int order, int64_t n) noexcept nogil:
    # Every element is looked at before any is freed; the mark finds those that are there twice.
    # Returns the first that cannot be freed, or -1 with the marks taken off again.
    cdef int64_t i
    cdef uint64_t pfn
    cdef zone_t *z = mm.zones[0]
    cdef zone_t *at
    cdef uint8_t *state
    for i in range(n):
        if i + 2 * AHEAD < n:
            pfn = from32[i + 2 * AHEAD] if from32 != NULL else from64[i + 2 * AHEAD]
            if pfn >= z.base_pfn and pfn < z.base_pfn + z.nframes:
                prefetchw(&z.state[<uint32_t>(pfn - z.base_pfn)])
        if orders != NULL:
            order = orders[i]
        pfn = from32[i] if from32 != NULL else from64[i]
        at = zone_near(mm, z, pfn)
        if at == NULL:
            return i
        z = at
        state = &z.state[<uint32_t>(pfn - z.base_pfn)]
        if state[0] != <uint8_t>(ALLOC | order):
            return i
        state[0] = <uint8_t>(ALLOC | MARK | order)
    if mm.design.tracks or mm.wrapper != NULL or mm.slots != NULL:
        # those look at other allocations while one is freed
        for i in range(n):
            pfn = from32[i] if from32 != NULL else from64[i]
            z = zone_near(mm, z, pfn)
            z.state[<uint32_t>(pfn - z.base_pfn)] &= <uint8_t>~MARK
    return -1


cdef void free_many(mm_t *mm, int cpu, const uint32_t *from32, const uint64_t *from64, const uint8_t *orders,
                    int order, int64_t n, uint64_t *clock) noexcept nogil:
    cdef int64_t i
    cdef uint64_t pfn
    cdef uint32_t frame
    cdef kind_t kinds[MAX_ORDERS]
    cdef zone_t *z = mm.zones[0]
    for i in range(z.max_order + 1):
        learn_free(&kinds[i], mm, cpu, <int>i)
    for i in range(n):
        if i + AHEAD < n:
            pfn = from32[i + AHEAD] if from32 != NULL else from64[i + AHEAD]
            if pfn >= z.base_pfn and pfn < z.base_pfn + z.nframes:
                frame = <uint32_t>(pfn - z.base_pfn)
                prefetchw(&z.state[frame])
                prefetchw(&z.links[frame])
        if orders != NULL:
            order = orders[i]
        pfn = from32[i] if from32 != NULL else from64[i]
        z = zone_near(mm, z, pfn)
        frame = <uint32_t>(pfn - z.base_pfn)
        if not free_hit(z, &kinds[order], frame):
            design_free(mm, z, cpu, frame, order)
        after_operation(mm, clock, cpu)
