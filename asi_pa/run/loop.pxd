# Operations of a trace, and what runs them.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from asi_pa._core cimport request_t
from asi_pa.run.hits cimport kind_t
from asi_pa.engine.page_alloc cimport mm_t

cdef enum:
    OP_ALLOC = 1
    OP_FREE = 2
    OP_SPLIT = 3
    OP_TICK = 4
    MAX_CLASSES = 256
    KINDS = 64
    KIND_SHIFT = 26         # of a 32-bit hash, to a number below KINDS

cdef packed struct op_t:
    uint8_t op
    uint8_t order
    uint8_t cls
    uint8_t cpu
    uint32_t slot

cdef struct run_t:
    # A machine, the allocations of a trace on it, and what happened.
    mm_t *mm
    uint32_t *slots         # slot -> pfn
    uint64_t nslots
    uint64_t done           # operations of the last call
    const op_t *stretch         # where the operations under way began
    uint64_t clock          # operations of all calls
    bint waits              # kswapd was awake when the stretch under way began
    bint woke               # an operation of the stretch woke it
    uint64_t allocations
    uint64_t failures
    uint64_t skipped        # frees and splits of what was never allocated
    uint64_t failed_by_class[MAX_CLASSES]
    request_t requests[MAX_CLASSES]
    kind_t kinds[KINDS]     # by hash of the key


cdef Py_ssize_t run_ops(run_t *run, const op_t *ops, Py_ssize_t i, Py_ssize_t end) noexcept nogil
