# Calls of the allocator over many pages, and what single calls share with them.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from asi_pa._core cimport request_t, zone_t
from asi_pa.engine.kswapd cimport KSWAPD_EVERY, kswapd
from asi_pa.engine.machine cimport Machine
from asi_pa.engine.page_alloc cimport mm_t

cdef extern from *:
    """
    /* What a small int holds, without a call (Python 3.12 has a name for it); -1: not a small int. */
    static inline long asi_pa_small_int(PyObject *x) {
        if (!PyLong_CheckExact(x)) return -1;
    #if PY_VERSION_HEX >= 0x030C0000
        return PyUnstable_Long_IsCompact((PyLongObject *)x)
            ? (long)PyUnstable_Long_CompactValue((PyLongObject *)x) : -1;
    #else
        return Py_SIZE(x) == 1 ? (long)((PyLongObject *)x)->ob_digit[0] : Py_SIZE(x) == 0 ? 0 : -1;
    #endif
    }
    """
    long asi_pa_small_int(object)

cdef extern from "Python.h":
    long PyLong_AsLongAndOverflow(object, int *) except? -1

cdef enum:
    CACHED = 64             # decoded request words, direct-mapped
    MARK = 0x40             # in the state of an allocation that a bulk free has seen

cdef struct cached_t:
    uint64_t key            # gfp | node << 32 | 1 << 63; 0: empty
    request_t rq


cdef int64_t large_number(object value) except? -2
cdef int64_t large_word(object gfp) except? -2


cdef inline int64_t number(object value) except? -2:
    # An index as C has it; what is negative or does not fit becomes -1, which no check lets pass.
    cdef int64_t x = asi_pa_small_int(value)
    return x if x >= 0 else large_number(value)


cdef inline const request_t *request(BulkCalls calls, object gfp, int cpu) except NULL:
    # What a request word means, decoded at its first use.
    cdef int64_t word = asi_pa_small_int(gfp)
    if word < 0:
        word = large_word(gfp)
    cdef uint64_t key = <uint64_t>word | <uint64_t>calls.mm.cpu_node[cpu] << 32 | <uint64_t>1 << 63
    cdef cached_t *c = &calls.cached[<uint32_t>(<uint32_t>(key ^ key >> 32) * <uint32_t>0x9E3779B1) >> 26]
    if c.key != key:
        calls._decode(c, key, gfp, word)
    return &c.rq


cdef inline void after_operation(mm_t *mm, uint64_t *clock, int cpu) noexcept nogil:
    # As in a replay: kswapd runs where it was woken, after every 100th operation.
    clock[0] += 1
    if mm.kswapd_woken and clock[0] % KSWAPD_EVERY == 0:
        kswapd(mm, cpu)

cdef class BulkCalls:
    cdef readonly Machine machine
    cdef mm_t *mm
    cdef int running
    cdef uint64_t end_pfn       # of the highest zone
    cdef uint64_t allocated
    cdef uint64_t freed
    cdef uint64_t clock         # operations so far, ticks included
    cdef cached_t cached[CACHED]
    cdef int _decode(self, cached_t *c, uint64_t key, object gfp, int64_t word) except -1
    cdef int _refuse(self, object order, object cpu) except -1
    cdef int _idle(self) except -1
    cdef int _look_many(self, int cpu, const uint32_t *got32, const uint64_t *got64, const uint8_t *orders,
                        int order, int64_t n) except -1
    cdef str _why_not(self, uint64_t pfn)
    cdef void _unmark(self, const uint32_t *from32, const uint64_t *from64, int64_t n) noexcept
    cdef int _check_out(self, object out, int64_t n) except -1
    cdef int _one_order(self, object order) except -2
