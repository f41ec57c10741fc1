"""What passes over a zone's frames share; `asi_pa.trace.frames` has the same values for Python."""

cdef enum:                  # states, FRAME_*
    FREE_FRAME = 0
    HELD_FRAME = 1          # the lowest bit of a frame that was FREE_FRAME
    HOLE_FRAME = 2
    PCP_FRAME = 3

cdef enum:                  # bits of a snapshot's bytes, KPF_*; SLAB is the fourth, NOPAGE the eighth
    BUDDY = 1
    LRU = 2
    ANON = 4
    HEAD = 16
    TAIL = 32
