"""Free lists and per-CPU lists brought in line with what was recorded, page by page; and lists in numbers.

What a trace says of a page is carried out wherever the page is: in the middle of a list, inside a larger
free block, part of an allocation.  ``where`` says of every frame of a zone on which per-CPU list it is:
NOWHERE, or 1 + cpu * lists + list.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memset

import numpy as np

from asi_pa._core cimport (
    ALLOC,
    FREE,
    HOLE,
    INFO_COMP,
    KIND_MASK,
    MIGRATE_ISOLATE,
    NIL,
    ORDER_MASK,
    PCP,
    TAIL,
    TAKEN,
    account_freepages,
    block_of,
    blocks_on,
    list_add,
    list_del,
    move_freepages,
    pcp_t,
    zone_t,
)
from asi_pa.engine.machine cimport Machine
from asi_pa.engine.pcp cimport pcp_unlink


cdef void off_list(zone_t *z, uint16_t *where, uint32_t frame) noexcept nogil:
    # from its per-CPU list, wherever in it
    cdef int number = where[frame] - 1, order = z.state[frame] & ORDER_MASK
    cdef pcp_t *pcp = &z.pcps[number // z.design.npcp]
    pcp_unlink(&pcp.lists[number % z.design.npcp], frame)
    pcp.count -= <int64_t>1 << order
    where[frame] = NOWHERE
    z.state[frame] = TAIL


cdef uint32_t free_block(zone_t *z, uint32_t frame, int *order) noexcept nogil:
    # The free block that the frame lies in; NIL if it lies in none.
    cdef int at
    cdef uint32_t head
    for at in range(z.max_order + 1):
        head = frame & ~((1u << at) - 1)
        if z.state[head] == <uint8_t>(FREE | at):
            order[0] = at
            return head
    return NIL


cdef void carve(zone_t *z, uint32_t head, int high, uint32_t frame, int order,
                int ft) noexcept nogil:
    # A free block is split down to one part; what is split off goes to the heads of the lists of `ft`.
    cdef int own = z.pbtype[block_of(z, head)]
    cdef uint32_t b
    list_del(z, head, high, own)
    account_freepages(z, own, -(<int64_t>1 << high))
    if own != ft:
        retype(z, head, high, ft)
    while high > order:
        high -= 1
        if frame & (1u << high):
            list_add(z, head, high, ft)
            head += 1u << high
        else:
            list_add(z, head + (1u << high), high, ft)
        account_freepages(z, ft, <int64_t>1 << high)
    b = 1u << order
    memset(&z.state[frame], TAIL, b)


cdef void retype(zone_t *z, uint32_t frame, int order, int ft) noexcept nogil:
    # The trace shows another type of these pageblocks than was believed.
    cdef uint32_t b, last = block_of(z, frame + (1u << order) - 1)
    cdef int old
    for b in range(block_of(z, frame), last + 1):
        old = z.pbtype[b]
        if old != ft:
            if order < z.pageblock_order:
                move_freepages(z, b, old, ft)
            z.pbtype[b] = z.pbbase[b] = <uint8_t>ft
            z.nr_isolate_blocks += z.design.mt[ft] == MIGRATE_ISOLATE
            z.nr_isolate_blocks -= z.design.mt[old] == MIGRATE_ISOLATE


cdef void believed(zone_t *z, uint32_t frame, int ft) noexcept nogil:
    # The type of a pageblock, as the trace shows it; a free block that spans it and more goes along.
    cdef int order = 0
    cdef uint32_t head
    if ft == UNKNOWN_TYPE or z.pbtype[block_of(z, frame)] == ft:
        return
    head = free_block(z, frame, &order)
    if head != NIL and order >= z.pageblock_order:
        list_del(z, head, order, z.pbtype[block_of(z, head)])
        account_freepages(z, z.pbtype[block_of(z, head)], -(<int64_t>1 << order))
        retype(z, head, order, ft)
        list_add(z, head, order, ft)
        account_freepages(z, ft, <int64_t>1 << order)
    else:
        retype(z, frame, 0, ft)


cdef bint off_larger(zone_t *z, uint16_t *where, uint32_t frame, int order) noexcept nogil:
    # A page on a per-CPU list that these frames are a part of goes as a whole: break_up() parts it.
    cdef int at
    cdef uint32_t head
    for at in range(order + 1, z.max_order + 1):
        head = frame & ~((1u << at) - 1)
        if z.state[head] == <uint8_t>(PCP | at):
            give_away(z, where, head)
            return True
    return False


cdef uint32_t take_out(zone_t *z, uint16_t *where, uint32_t frame, int order) noexcept nogil:
    # Afterwards none of these frames is free or on a list; how many were.
    cdef uint32_t at = frame, end = frame + (1u << order), head, taken = 0
    cdef int high = 0, size
    if off_larger(z, where, frame, order):
        return 1u << order
    while at < end:
        size = 0
        if z.state[at] & KIND_MASK == PCP:
            size = z.state[at] & ORDER_MASK
            off_list(z, where, at)
            taken += 1u << size
        else:
            head = free_block(z, at, &high)
            if head != NIL:
                size = high if high < order else order
                carve(z, head, high, at, size, z.pbtype[block_of(z, head)])
                taken += 1u << size
        at += 1u << size
    return taken


cdef void break_up(zone_t *z, uint32_t frame, int order) noexcept nogil:
    # An allocation of which only a part is freed, or allocated anew, becomes single pages.
    cdef int at, kind
    cdef uint32_t head, i
    for at in range(z.max_order + 1):
        head = frame & ~((1u << at) - 1)
        kind = z.state[head] & KIND_MASK
        if (kind == ALLOC or kind == TAKEN) and z.state[head] & ORDER_MASK >= at:
            if z.state[head] & ORDER_MASK > order:
                for i in range(head, head + (1u << (z.state[head] & ORDER_MASK))):
                    z.links[i].next = z.links[head].next & ~<uint32_t>INFO_COMP
                    z.links[i].prev = NIL
                    z.state[i] = ALLOC
            return


cdef void give_away(zone_t *z, uint16_t *where, uint32_t frame) noexcept nogil:
    cdef int order = z.state[frame] & ORDER_MASK
    off_list(z, where, frame)
    z.state[frame] = <uint8_t>(ALLOC | order)
    z.links[frame].next = 0
    z.links[frame].prev = NIL

cdef int64_t distance_to(const zone_t *z, const int64_t *aim, int orders) noexcept nogil:
    # pages in blocks of the wrong order, twice
    cdef int64_t sum = 0, n
    cdef int order, ft
    for order in range(orders):
        n = -aim[order]
        for ft in range(z.design.nft):
            n += blocks_on(z, order, ft)
        sum += (n if n > 0 else -n) << order
    return sum


# ---------------------------------------------------------------- what holds after every event

cdef void change_kind(zone_t *z, int old, int new) noexcept nogil:
    cdef uint32_t frame
    for frame in range(z.nframes):
        if z.state[frame] & KIND_MASK == old:
            z.state[frame] = <uint8_t>(new | z.state[frame] & ORDER_MASK)


cdef str listed_elsewhere(const zone_t *z, const uint16_t *where):
    # What `where` says is not what the frame's state says, in words; None: it is.
    cdef uint32_t frame
    cdef int number, order
    for frame in range(z.nframes):
        number = where[frame] - 1
        order = z.state[frame] & ORDER_MASK
        if (number >= 0) != (z.state[frame] & KIND_MASK == PCP) or (
                number >= 0 and order != z.design.pcp_list_order[number % z.design.npcp]):
            return f"pfn {z.base_pfn + frame}: on per-CPU list {number}, its state is 0x{z.state[frame]:02x}"
    return None


# ---------------------------------------------------------------- a machine's lists in numbers

def typed_free(Machine machine not None, int zone):
    """Free blocks by freetype and order, int64[freetypes, max_order + 1]."""
    cdef zone_t *z = machine._zone(zone)
    cdef int ft, order
    out = np.zeros((z.design.nft, z.max_order + 1), np.int64)
    cdef int64_t[:, ::1] view = out
    for ft in range(z.design.nft):
        for order in range(z.max_order + 1):
            view[ft, order] = blocks_on(z, order, ft)
    return out


def pcp_counts(Machine machine not None, int zone):
    """Pages on each CPU's lists, int64[cpus]."""
    cdef zone_t *z = machine._zone(zone)
    cdef int cpu
    out = np.zeros(z.ncpus, np.int64)
    cdef int64_t[::1] view = out
    if z.pcps != NULL:
        for cpu in range(z.ncpus):
            view[cpu] = z.pcps[cpu].count
    return out


def block_counts(Machine machine not None, int zone):
    """Pageblocks by freetype, int64[freetypes], those that hold a frame."""
    cdef zone_t *z = machine._zone(zone)
    cdef uint32_t b, frame, end
    out = np.zeros(z.design.nft, np.int64)
    cdef int64_t[::1] view = out
    for b in range(z.first_block, z.nblocks):
        frame = b << z.pageblock_order
        end = min(frame + z.pageblock_pages, z.nframes)
        while frame < end and z.state[frame] == HOLE:
            frame += 1
        view[z.pbtype[b]] += frame < end
    return out
