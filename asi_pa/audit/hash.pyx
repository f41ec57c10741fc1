"""A hash of a small zone's state up to the symmetries of the engine.

All are exact, so that two states with one hash have the same future up to renaming: the order of the
largest blocks in memory (the engine never compares addresses across them), the two frames of an order-1 pair
(where no design clears or maps single pages: merged, it would matter which of the two it was), the CPUs.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from asi_pa.audit.state cimport (
    MAX_FRAMES,
    dirty_frames,
    extra_t,
    listed,
    pack,
    packed_size,
    present_frames,
    put,
)
from asi_pa._core cimport (
    ALLOC,
    FREE,
    HOLE,
    KIND_MASK,
    PCP,
    POOL_LIST,
    ZERO_ALLOC,
    first_of,
    pcp_t,
    pcplist_t,
    zone_t,
)
from asi_pa.engine.pcp cimport pcp_empty, pcp_flags

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static inline uint64_t asi_pa_fold(uint64_t x, uint64_t y)
    {
        unsigned __int128 p = (unsigned __int128)x * y;
        return (uint64_t)p ^ (uint64_t)(p >> 64);
    }
    /* Sixteen bytes a step through two multiply-and-fold chains; there must be room for zeros behind them. */
    static void asi_pa_hash128(uint8_t *data, int n, uint64_t *a, uint64_t *b)
    {
        uint64_t x = 0x9E3779B97F4A7C15ull ^ (uint64_t)n, y = 0xC2B2AE3D27D4EB4Full, v, w;
        memset(data + n, 0, 16);
        for (; n > 0; n -= 16, data += 16) {
            memcpy(&v, data, 8);
            memcpy(&w, data + 8, 8);
            x = asi_pa_fold(x ^ v, w ^ 0xA0761D6478BD642Full) + 0x8EBC6AF09C88C6E3ull;
            y = asi_pa_fold(y + w, v ^ 0xE7037ED1A0B428DBull) ^ (x >> 31);
        }
        *a = asi_pa_fold(x, y ^ 0x1D8E4E27C47D124Full);
        *b = asi_pa_fold(y, x + 0xEB44ACCAB455D165ull);
    }
    #define ASI_PA_ONES 0x0101010101010101ull
    #define ASI_PA_TOPS 0x8080808080808080ull
    """
    void asi_pa_hash128(uint8_t *data, int n, uint64_t *a, uint64_t *b) noexcept nogil
    int ctzll "__builtin_ctzll"(unsigned long long) noexcept nogil
    const uint64_t ONES "ASI_PA_ONES"           # in each of eight bytes
    const uint64_t TOP_BITS "ASI_PA_TOPS"

cdef enum:
    UNIT_WORDS = 50                 # of 64 frames: 16 words, and 32 blocks, and 2


cdef struct naming_t:
    uint8_t seq[MAX_FRAMES]         # when a frame was met on the way through all lists
    uint8_t met[MAX_FRAMES]         # the frames in that order
    int nmet
    int max_order                   # the zone's
    uint8_t name[MAX_FRAMES + 8]    # a frame's canonical number; eight are written at a time
    bint pages_differ               # the design maps or clears page by page: no two of a pair are alike
    uint64_t dirty_pages            # where it does; else 0
    uint64_t dirty_blocks           # where it does not: frames, any of a block counts
    uint64_t present                # where it maps page by page; else 0


cdef inline void meet(naming_t *c, const zone_t *z, uint32_t head) noexcept nogil:
    cdef int n = c.nmet
    while head < z.nframes and n < <int>z.nframes:       # a broken list may run in a circle
        c.seq[head] = <uint8_t>n
        c.met[n] = <uint8_t>head
        n += 1
        head = z.links[head].next
    c.nmet = n


cdef inline void meet_pcplist(naming_t *c, const zone_t *z, const pcplist_t *fl) noexcept nogil:
    cdef const uint32_t *at = fl.head
    cdef int n = c.nmet
    while at != fl.tail and n < <int>z.nframes:
        at -= 1
        c.seq[at[0]] = <uint8_t>n
        c.met[n] = <uint8_t>at[0]
        n += 1
    c.nmet = n


cdef void meet_all(naming_t *c, const zone_t *z, bint swap_cpus) noexcept nogil:
    cdef uint32_t orders, possible = (2u << z.max_order) - 1
    cdef int ft, order, i, k, cpu
    c.nmet = 0
    for ft in range(z.design.nft):
        orders = z.nonempty[ft] & possible
        while orders:
            meet(c, z, first_of(z, ctzll(orders), ft))
            orders &= orders - 1
    for order in range(z.max_order + 1):
        meet(c, z, first_of(z, order, POOL_LIST))
    meet(c, z, z.queue)
    if z.pcps == NULL:
        return
    for i in range(z.ncpus):
        cpu = z.ncpus - 1 - i if swap_cpus else i
        if z.pcps[cpu].count:
            for k in range(z.design.npcp):
                meet_pcplist(c, z, &z.pcps[cpu].lists[k])


cdef inline uint32_t frame_key(const naming_t *c, const zone_t *z, uint32_t frame) noexcept nogil:
    # Orders the two frames of a pair independently of which comes first in memory.
    if listed(z.state[frame]):
        return 0x20000 | c.seq[frame]
    if z.state[frame] & KIND_MASK == ALLOC:
        return 0x10000 | z.links[frame].next
    return z.state[frame]


cdef int emit_unit(naming_t *c, const zone_t *z, const extra_t *x, uint32_t start,
                   uint64_t *text) noexcept nogil:
    # One largest block, its frames in canonical order; c.name gets their numbers within the block.  Returns
    # the number of words: of eight frames (or a smaller block) the states, and what is known of their pages.
    cdef uint32_t end = start + (1u << z.max_order), first, frame, i, n = min(8, 1 << z.max_order)
    cdef uint64_t states, info, heads, pairs, swap, item
    cdef uint64_t whole = (<uint64_t>1 << z.pageblock_pages) - 1, unit
    cdef int words = 0
    for first in range(start, end, 8):
        states = 0
        info = 0
        if n == 8:
            memcpy(&states, z.state + first, 8)
        else:
            memcpy(&states, z.state + first, 4)
            if n == 2:
                states &= 0xFFFF
        heads = states & TOP_BITS
        while heads:
            i = <uint32_t>ctzll(heads) >> 3
            heads &= heads - 1
            if z.state[first + i] & KIND_MASK == ALLOC:
                info |= (<uint64_t>z.links[first + i].next & 0xFF) << 8 * i
        if x.freed:
            for i in range(n):
                if z.state[first + i] & KIND_MASK == PCP:
                    info |= (x.freed >> (first + i) & 1) << 8 * i
        item = (first - start) * ONES + <uint64_t>0x0706050403020100
        memcpy(&c.name[first], &item, 8)
        if not c.pages_differ:
            # pairs of single pages, neither of them inside a block or a hole
            heads = states | ((states & 0x70 * ONES) + 0x70 * ONES)
            heads &= ~((states & 0x0F * ONES) + 0x7F * ONES) & TOP_BITS
            pairs = heads & heads >> 8 & <uint64_t>0x0080008000800080
            while pairs:
                i = <uint32_t>ctzll(pairs) >> 3
                pairs &= pairs - 1
                frame = first + i
                if z.state[frame] >= HOLE or z.state[frame + 1] >= HOLE:
                    continue
                if frame_key(c, z, frame) > frame_key(c, z, frame + 1):
                    swap = (states ^ states >> 8) >> 8 * i & 0xFF
                    states ^= (swap | swap << 8) << 8 * i
                    swap = (info ^ info >> 8) >> 8 * i & 0xFF
                    info ^= (swap | swap << 8) << 8 * i
                    c.name[frame] += 1
                    c.name[frame + 1] -= 1
        if n == 8:
            text[words] = states
            text[words + 1] = info
            words += 2
        else:
            text[words] = states | info << 32
            words += 1
    for first in range(start >> z.pageblock_order, end >> z.pageblock_order):
        item = c.dirty_blocks >> (first << z.pageblock_order) & whole
        item = z.pbmapped[first] | <uint64_t>(item != 0) << 1
        item |= <uint64_t>z.pbpool[first] << 2 | <uint64_t>(x.shrunk >> first & 1) << 3
        item = item << 16 | <uint64_t>x.why[first] << 24
        text[words] = z.pbtype[first] | <uint32_t>z.pbbase[first] << 8 | item
        words += 1
    if c.pages_differ:
        unit = ~<uint64_t>0 >> (64 - (end - start))
        text[words] = c.dirty_pages >> start & unit
        text[words + 1] = c.present >> start & unit
        words += 2
    return words


cdef void order_units(const naming_t *c, int units, int words, int *rank, int *order_of,
                      const uint64_t (*text)[UNIT_WORDS]) noexcept nogil:
    # The largest blocks in canonical order: as the way through all lists meets them, then those on no list.
    cdef int i, j, k, ranked = 0, met
    for i in range(units):
        rank[i] = -1
    for i in range(c.nmet):
        j = c.met[i] >> c.max_order
        if rank[j] < 0:
            rank[j] = ranked
            order_of[ranked] = j
            ranked += 1
            if ranked == units:
                break
    # blocks on no list have no name from outside: their content orders them, equal ones are equal
    met = ranked
    for i in range(units):
        if rank[i] >= 0:
            continue
        k = ranked
        while k > met and memcmp(text[i], text[order_of[k - 1]], words * sizeof(uint64_t)) < 0:
            order_of[k] = order_of[k - 1]
            k -= 1
        order_of[k] = i
        ranked += 1
    for i in range(units):
        rank[order_of[i]] = i


cdef uint8_t *put_units(naming_t *c, const zone_t *z, const extra_t *x, int *rank,
                        uint64_t *text) noexcept nogil:
    # All frames and pageblocks, the largest blocks in canonical order; `rank` gets each one's place.
    cdef uint64_t unit[MAX_FRAMES][UNIT_WORDS]
    cdef int order_of[MAX_FRAMES]
    cdef int units = <int>(z.nframes >> z.max_order), words = 0, i
    if units == 1:
        rank[0] = 0
        return <uint8_t *>(text + emit_unit(c, z, x, 0, text))
    for i in range(units):
        words = emit_unit(c, z, x, <uint32_t>i << z.max_order, unit[i])
    order_units(c, units, words, rank, order_of, unit)
    for i in range(units):
        memcpy(text + i * words, unit[order_of[i]], words * sizeof(uint64_t))
    return <uint8_t *>(text + units * words)


cdef inline uint8_t name_of(const naming_t *c, const int *rank, uint32_t frame) noexcept nogil:
    return <uint8_t>(rank[frame >> c.max_order] << c.max_order | c.name[frame])


cdef uint8_t *put_lists(const naming_t *c, const zone_t *z, const extra_t *x, const int *rank,
                        uint8_t *p) noexcept nogil:
    # The frames of all lists in their order, and the sets of frames that are known by name.
    cdef int i
    cdef uint64_t mask
    for i in range(c.nmet):
        p[0] = name_of(c, rank, c.met[i])
        p += 1
    if z.listed != NULL:
        # a free page's list is not told by its pageblock
        for i in range(c.nmet):
            p[0] = z.listed[c.met[i]] if z.state[c.met[i]] & KIND_MASK == FREE else 0
            p += 1
    if x.unflushed:
        mask = 0
        for i in range(<int>z.nframes):
            if x.unflushed >> i & 1:
                mask |= <uint64_t>1 << name_of(c, rank, i)
        memcpy(p, &mask, 8)
        p += 8
    return p


cdef uint8_t *put_counters(const zone_t *z, const extra_t *x, uint8_t *p) noexcept nogil:
    # Also those that follow from the rest: a state in which they do not is another one, and looked at.
    p = put(p, z.nr_free)
    p = put(p, z.nr_free_cma)
    p = put(p, z.nr_free_highatomic)
    p = put(p, z.nr_isolate_blocks)
    p = put(p, z.nr_reserved_highatomic)
    p = put(p, z.boost)
    p[0] = <uint8_t>z.below_high
    p[1] = x.due
    return p + 2


cdef uint8_t *put_pcp(const zone_t *z, const pcp_t *pcp, uint8_t *p) noexcept nogil:
    cdef int k
    p = put(p, pcp.count)
    p = put(p, pcp.high)
    p = put(p, pcp.alloc_factor)
    p = put(p, pcp.free_count)
    p = put(p, pcp_flags(pcp))
    if not pcp.count:
        return p
    # which list holds how many of the pages met
    for k in range(z.design.npcp):
        if not pcp_empty(&pcp.lists[k]):
            p[0] = <uint8_t>k
            p[1] = <uint8_t>(pcp.lists[k].head - pcp.lists[k].tail)
            p += 2
    return p


cdef void hash_once(const zone_t *z, const extra_t *x, bint swap_cpus, hash_t *h) noexcept nogil:
    cdef naming_t c
    cdef uint64_t text[MAX_FRAMES * 4 + 64]
    cdef int rank[MAX_FRAMES]       # of a largest block
    cdef int i
    cdef uint8_t *p
    c.max_order = z.max_order
    c.pages_differ = not z.design.tracks or z.design.zeroing == ZERO_ALLOC or z.design.owner_zeroes
    c.dirty_pages = dirty_frames(z) if c.pages_differ else 0
    c.dirty_blocks = 0 if c.pages_differ else dirty_frames(z)
    c.present = 0 if z.design.tracks else present_frames(z)
    meet_all(&c, z, swap_cpus)
    p = put_units(&c, z, x, rank, text)
    p = put_lists(&c, z, x, rank, p)
    p = put_counters(z, x, p)
    if z.pcps != NULL:
        for i in range(z.ncpus):
            p = put_pcp(z, &z.pcps[z.ncpus - 1 - i if swap_cpus else i], p)
    asi_pa_hash128(<uint8_t *>text, <int>(p - <uint8_t *>text), &h.a, &h.b)


cdef int64_t first_cpu(const zone_t *z) noexcept nogil:
    # Which of two CPUs' lists come first: below 0 the first one's, above 0 the other's; 0: they look alike.
    cdef const pcp_t *a = &z.pcps[0]
    cdef const pcp_t *b = &z.pcps[1]
    if a.count != b.count:
        return a.count - b.count
    if a.high != b.high:
        return a.high - b.high
    if a.alloc_factor != b.alloc_factor:
        return a.alloc_factor - b.alloc_factor
    if a.free_count != b.free_count:
        return a.free_count - b.free_count
    return pcp_flags(a) - pcp_flags(b)


cdef hash_t canonical_hash(const zone_t *z, const extra_t *x) noexcept nogil:
    cdef hash_t h, other
    cdef int64_t first = -1
    if z.pcps != NULL and z.ncpus == 2:
        first = first_cpu(z)
    hash_once(z, x, first > 0, &h)
    if first == 0:
        hash_once(z, x, True, &other)
        if other.a < h.a or (other.a == h.a and other.b < h.b):
            return other
    return h


cdef hash_t plain_hash(const zone_t *z, const extra_t *x) noexcept nogil:
    # Of the packed form: symmetric states differ.
    cdef hash_t h
    cdef uint8_t data[1024]
    pack(z, x, data)
    asi_pa_hash128(data, packed_size(z), &h.a, &h.b)
    return h
