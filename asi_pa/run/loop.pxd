# What runs the operations of a trace.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from asi_pa._core cimport MAX_CPUS, MAX_ORDERS, request_t
from asi_pa.run.hits cimport kind_t
from asi_pa.engine.page_alloc cimport mm_t
from asi_pa.trace.ops cimport op_t

cdef enum:
    MAX_CLASSES = 256
    WAYS = 6
    KINDS = 64
    KIND_SHIFT = 26         # of a 32-bit hash, to a number below KINDS

cdef struct run_t

cdef struct run_t:
    # A machine, the allocations of a trace on it, and what happened.
    mm_t *mm
    uint32_t *slots         # slot -> pfn
    uint64_t nslots
    bint (*step)(run_t *run, const op_t *op) noexcept nogil     # what the loop does not do inline
    uint64_t done           # operations of the last call
    const op_t *stretch         # where the operations under way began
    uint64_t clock          # operations of all calls
    uint64_t kswapd_every   # of these, between two chances of kswapd to run
    bint waits              # kswapd was awake when the stretch under way began
    bint woke               # an operation of the stretch woke it
    uint64_t allocations
    uint64_t failures
    uint64_t skipped        # frees and splits of what was never allocated
    uint64_t failed_by_class[MAX_CLASSES]
    request_t requests[MAX_CLASSES]
    # what callers do when a try failed (asi_pa.kernel.callers): the single pages that they ask for instead
    request_t fallbacks[MAX_CLASSES]
    uint16_t falls_back[MAX_CLASSES]    # bit per order
    uint8_t way[MAX_CLASSES][MAX_ORDERS]        # WAYS: way out, twice, and 1 if huge
    uint8_t way_of_fallback[MAX_CLASSES]
    uint64_t failed_by_way[WAYS]
    int64_t replayed_by_class[MAX_CLASSES]      # requests that the trace lacks, less those it has too many
    uint64_t fallbacks_replayed     # tries
    uint64_t fallbacks_failed       # of these, those in which a page was not to be had
    uint64_t fallback_pages         # requests
    bint replays_tries          # OP_TRY is one
    uint32_t tried[MAX_CPUS]    # slot of the CPU's last OP_TRY
    uint64_t dropped            # OP_INSTEAD that were not asked for
    uint8_t *in_pages       # bit per slot: a try failed, and the slots from this one on hold its pages
    kind_t kinds[KINDS]     # by hash of the key: those that the loop does inline
    kind_t others[KINDS]    # and the rest


cdef Py_ssize_t run_ops(run_t *run, const op_t *ops, Py_ssize_t i, Py_ssize_t end) noexcept nogil
