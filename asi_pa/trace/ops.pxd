# Operations: what the compiler makes of a trace, and what a replay runs.
from libc.stdint cimport uint8_t, uint32_t

cpdef enum Op:
    OP_ALLOC = 1            # of 2^order pages, into a slot
    OP_FREE = 2             # of the slot's
    OP_SPLIT = 3            # of the slot's allocation into 2^order of order 0, in the slots from its own on
    OP_TICK = 4             # a second has passed (per-CPU lists decay)
    OP_TRY = 5              # an OP_ALLOC that failed where it was recorded
    OP_INSTEAD = 6          # an OP_ALLOC that was made because this CPU's last OP_TRY had failed

cdef packed struct op_t:
    uint8_t op
    uint8_t order
    uint8_t cls
    uint8_t cpu
    uint32_t slot
