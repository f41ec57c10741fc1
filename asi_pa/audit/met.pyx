"""The set of the states that a search met, as hashes of 128 bits."""

from libc.stdint cimport uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from asi_pa._core cimport big_alloc


cdef bint table_grow(table_t *t) noexcept nogil:
    cdef uint64_t room = t.room * 2 if t.room else 1 << 12, i, at
    cdef hash_t *slots = <hash_t *>big_alloc(room * sizeof(hash_t))
    if slots == NULL:
        return False
    memset(slots, 0, room * sizeof(hash_t))
    for i in range(t.room):
        if t.slots[i].a:
            at = t.slots[i].a & (room - 1)
            while slots[at].a:
                at = (at + 1) & (room - 1)
            slots[at] = t.slots[i]
    free(t.slots)
    t.slots = slots
    t.room = room
    return True


cdef int table_add(table_t *t, hash_t h) noexcept nogil:
    # What it was before; a new one is sound until table_break() says otherwise.
    cdef hash_t *slot
    if t.used * 4 >= t.room * 3 and not table_grow(t):
        return MET_NO_ROOM
    slot = slot_of(t, h)
    if slot.a:
        return MET_BROKEN if slot.b & 1 else MET_SOUND
    slot.a = h.a | 1
    slot.b = h.b & ~<uint64_t>1
    t.used += 1
    return MET_NOT


cdef void table_break(table_t *t, hash_t h) noexcept nogil:
    slot_of(t, h).b |= 1
