# The set of the states that a search met: their hashes, open addressing.
from libc.stdint cimport uint64_t

cdef extern from *:
    void prefetch "__builtin_prefetch"(const void *) noexcept nogil

cdef struct hash_t:
    uint64_t a
    uint64_t b

cdef struct table_t:
    hash_t *slots               # an empty one has a == 0
    uint64_t room               # a power of two
    uint64_t used

cdef enum:                      # what a table says of a state
    MET_NOT = 0
    MET_SOUND = 1
    MET_BROKEN = 2              # lists, counters, states disagree: nothing is done with it
    MET_NO_ROOM = 3

cdef int table_add(table_t *t, hash_t h) noexcept nogil
cdef void table_break(table_t *t, hash_t h) noexcept nogil


cdef inline void table_fetch(const table_t *t, hash_t h) noexcept nogil:
    # Where it would be is brought near.
    if t.room:
        prefetch(&t.slots[(h.a | 1) & (t.room - 1)])


cdef inline hash_t *slot_of(const table_t *t, hash_t h) noexcept nogil:
    # Of a table with room: where the state is, or the empty slot where it would be.  A hash's lowest bits
    # are not its own: that of `a` says that the slot is taken, that of `b` that the state is broken.
    cdef uint64_t a = h.a | 1, b = h.b & ~<uint64_t>1, at = a & (t.room - 1)
    while t.slots[at].a and (t.slots[at].a != a or t.slots[at].b & ~<uint64_t>1 != b):
        at = (at + 1) & (t.room - 1)
    return &t.slots[at]


cdef inline int table_find(const table_t *t, hash_t h) noexcept nogil:
    cdef const hash_t *slot
    if not t.room:
        return MET_NOT
    slot = slot_of(t, h)
    if not slot.a:
        return MET_NOT
    return MET_BROKEN if slot.b & 1 else MET_SOUND
