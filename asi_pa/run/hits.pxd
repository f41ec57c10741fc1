# Hits: a list that has the page, or room for it.  That is what nearly every operation meets, so it is inline;
# whatever else there is to an operation is a call.
#
# Operations are of few kinds: what is done, order, request, CPU.  All that follows from these alone (which
# list, whose counters, what is written to the frame) is looked up once for a kind.
#
# `tracks` is the zone's: the loop has it as a constant, so that a machine without a protected tree pays
# nothing.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from asi_pa._core cimport (
    INFO_SENSITIVE,
    block_of,
    likely,
    link_t,
    mod_free,
    pcp_t,
    pcplist_t,
    request_t,
    take_first,
    vmdiff_t,
    zone_t,
)
from asi_pa.engine.page_alloc cimport buddy_free, mm_t, page_given_back, page_handed_out
from asi_pa.engine.pcp cimport NO_PCP_LIST, pcp_empty, pcp_put, pcp_take

cdef extern from *:
    """
    /* The same pointer: the compiler forgets how it was made, so as not to make it anew at each use. */
    #ifdef __GNUC__
    #define asi_pa_opaque(p) ({ __typeof__(p) q_ = (p); __asm__("" : "+r"(q_)); q_; })
    #else
    #define asi_pa_opaque(p) (p)
    #endif
    """
    kind_t *opaque_kind "asi_pa_opaque"(kind_t *) noexcept nogil
    pcplist_t *opaque "asi_pa_opaque"(pcplist_t *) noexcept nogil

cdef enum:                  # what a kind of operation does where it hits
    PCP_ALLOC = 0
    BUDDY_ALLOC = 1
    PCP_FREE = 2
    BUDDY_FREE = 3
    NO_HIT = 4

cdef struct kind_t:
    uint32_t key                # the operation's words that make it of this kind
    uint8_t does
    uint8_t order
    uint8_t state               # of the allocation
    uint8_t ft                  # where an allocation looks first
    uint16_t pages
    uint8_t above               # order 0
    uint8_t pad
    uint32_t free_list          # where an allocation looks in the buddy
    pcp_t *pcp
    vmdiff_t *diff
    pcplist_t *list             # where an allocation looks first
    const uint32_t *seen        # orders of free blocks that the watermark test sees, bit per order
    const uint8_t *list_of      # freetype of the pageblock -> list of a freed page
    link_t owned                # what an allocation writes to its frame's links; 64 bytes in all


cdef inline bint pcp_alloc_hit(zone_t *z, const kind_t *k, uint32_t *frame, bint tracks) noexcept nogil:
    # __alloc_pages() where the zone has plenty and the list has a block; else False, and nothing changed.
    if not likely(z.nr_free > z.plenty, 1):
        return False
    # for orders above 0 the watermark test wants to see a block in the buddy's lists
    if not likely(k.seen[0] >> k.order, 1):
        return False
    if not likely(not pcp_empty(k.list), 1):
        return False
    frame[0] = pcp_take(k.pcp, k.list, k.pages)
    hand_out(z, k, frame[0], tracks)
    return True


cdef inline bint buddy_alloc_hit(zone_t *z, const kind_t *k, uint32_t *frame, bint tracks) noexcept nogil:
    # The same without per-CPU lists.
    cdef uint32_t orders = z.nonempty[k.ft] >> k.order
    if not likely(z.nr_free > z.plenty and orders != 0 and not z.detours, 1):
        return False
    frame[0] = take_first(z, k.free_list, orders, k.order, k.ft)
    mod_free(z, k.diff, -<int64_t>k.pages)
    hand_out(z, k, frame[0], tracks)
    return True


cdef inline void hand_out(zone_t *z, const kind_t *k, uint32_t frame, bint tracks) noexcept nogil:
    # prep_new_page()
    z.state[frame] = k.state
    z.links[frame] = k.owned
    if tracks:
        page_handed_out(z, frame, k.order, k.owned.next & INFO_SENSITIVE != 0)


cdef inline bint pcp_free_hit(zone_t *z, const kind_t *k, uint32_t frame, bint tracks) noexcept nogil:
    # __free_frozen_pages(): the pcp list of the block's type; False, and nothing done: the buddy.
    cdef size_t number = k.list_of[z.pbtype[block_of(z, frame)]]
    if not likely(number != NO_PCP_LIST, 1):
        return False
    if tracks:
        page_given_back(z, frame, k.order)
    pcp_put(z, k.pcp, opaque(&k.pcp.lists[number]), frame, k.order, k.pages, k.pcp.free_count_below[k.above])
    return True


cdef inline void buddy_free_hit(zone_t *z, const kind_t *k, uint32_t frame, bint tracks) noexcept nogil:
    if tracks:
        page_given_back(z, frame, k.order)
    z.diff = k.diff
    buddy_free(z, frame, k.order, z.pbtype[block_of(z, frame)])


cdef inline bint alloc_hit(zone_t *z, const kind_t *k, uint32_t *frame) noexcept nogil:
    if k.does == PCP_ALLOC:
        return pcp_alloc_hit(z, k, frame, z.tracks)
    return k.does == BUDDY_ALLOC and buddy_alloc_hit(z, k, frame, z.tracks)


cdef inline bint free_hit(zone_t *z, const kind_t *k, uint32_t frame) noexcept nogil:
    # False, and nothing done, for a kind that does not hit.
    if k.does == PCP_FREE and pcp_free_hit(z, k, frame, z.tracks):
        return True
    if k.does != PCP_FREE and k.does != BUDDY_FREE:
        return False
    buddy_free_hit(z, k, frame, z.tracks)
    return True


cdef void learn_alloc(kind_t *k, mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil
cdef void learn_free(kind_t *k, mm_t *mm, int cpu, int order) noexcept nogil
