"""States of a small zone for the auditor's search: copies as they lie in memory, and a packed form."""

from libc.stdint cimport int16_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from asi_pa._core cimport (
    ALLOC,
    KIND_MASK,
    NIL,
    PCP,
    POOL_LIST,
    first_of,
    link_t,
    list_of,
    pcp_set_quiet,
    pcp_t,
    pcplist_t,
    set_plenty,
    zone_t,
)
from asi_pa.engine.fill cimport ZONE_ARRAYS, array_t, zone_arrays
from asi_pa.engine.pcp cimport pcp_flags, pcp_numbers, pcp_set_flags, pcplist_reserve
from asi_pa.physmap.pgtable cimport LEVEL_PTE, PGT_PRESENT, pgt_leaf
from asi_pa.physmap.physmap cimport CAUSE_OTHER, FLUSH_NONE, physmap_map, physmap_tree, physmap_unmap

cdef extern from *:
    """
    #include <stdint.h>
    /* No word waits for the one before. */
    static uint64_t asi_pa_print(const uint64_t *words, int n)
    {
        uint64_t sum = 0, factor = 0x9E3779B97F4A7C15ull;
        for (int i = 0; i < n; i++, factor += 0x3C6EF372FE94F82Aull)
            sum += words[i] * factor;
        return sum;
    }
    """
    int ctzll "__builtin_ctzll"(unsigned long long) noexcept nogil
    uint64_t asi_pa_print(const uint64_t *words, int n) noexcept nogil

cdef enum:
    CPUS_IMAGE = 512        # at least MAX_SEARCH_CPUS * (pcp_numbers() + MAX_PCP_LISTS) + MAX_FRAMES


# ---------------------------------------------------------------- mapping, where it is kept per frame

cdef uint64_t present_frames(const zone_t *z) noexcept nogil:
    # The frames present in the protected tree, for designs that map page by page: one leaf has them all, or
    # one table.
    cdef int level
    cdef uint64_t mask = 0
    cdef uint32_t i
    cdef const uint64_t *e = pgt_leaf(physmap_tree(z.physmap, z.design.tree), z.base_pfn, &level)
    if level != LEVEL_PTE:
        return ~<uint64_t>0 >> (64 - z.nframes) if e[0] & PGT_PRESENT else 0
    for i in range(z.nframes):
        mask |= (e[i] & PGT_PRESENT) << i
    return mask


cdef void set_present_frames(zone_t *z, uint64_t wanted) noexcept nogil:
    cdef uint64_t differ = present_frames(z) ^ wanted, same
    cdef uint32_t i, n
    while differ:
        # a run of frames that are all to be mapped, or all to be unmapped
        i = <uint32_t>ctzll(differ)
        same = (differ & (wanted if wanted >> i & 1 else ~wanted)) >> i
        n = <uint32_t>ctzll(~same) if ~same else 64
        if wanted >> i & 1:
            physmap_map(z.physmap, z.design.tree, z.base_pfn + i, n, CAUSE_OTHER)
        else:
            physmap_unmap(z.physmap, z.design.tree, z.base_pfn + i, n, CAUSE_OTHER, FLUSH_NONE)
        differ &= ~((~<uint64_t>0 >> (64 - n)) << i)


# ---------------------------------------------------------------- copies

cdef void relist(zone_t *z) noexcept nogil:
    # Designs in which a free block may be on the list of another type than its pageblock's.
    cdef int ft, order
    cdef uint32_t frame
    if z.listed == NULL:
        return
    memset(z.listed, 0, z.nframes)
    for ft in range(z.design.nft):
        for order in range(z.max_order + 1):
            frame = first_of(z, order, ft)
            while frame < z.nframes:
                z.listed[frame] = <uint8_t>ft
                frame = z.links[frame].next


cdef int home_move(home_t *home, zone_t *z) noexcept nogil:
    # -1: no memory.
    cdef array_t *a
    cdef size_t offset[ZONE_ARRAYS]
    cdef size_t at = 0
    cdef char *p
    cdef int i, cpu, k
    for cpu in range(z.ncpus if z.pcps != NULL else 0):
        for k in range(z.design.npcp):
            # neither a list nor an image of it needs more
            if not pcplist_reserve(&z.pcps[cpu].lists[k], 2 * MAX_FRAMES):
                return -1
    home.narrays = zone_arrays(z, home.arrays)
    home.bytes = 0
    for i in range(home.narrays):
        a = &home.arrays[i]
        at = (home.bytes + a.aligned - 1) & ~(a.aligned - 1)
        offset[i] = at
        home.bytes = at + a.bytes
    # the frames' links are followed by the heads of the lists, which say nothing that the links do not
    home.words = <int>(at + z.nframes * sizeof(link_t)) >> 3
    home.image = head_bytes(z) + home.bytes + CPUS_IMAGE
    p = <char *>calloc(home.bytes, 1)
    home.arena = p
    if p == NULL:
        return -1
    for i in range(home.narrays):
        a = &home.arrays[i]
        home.were[i] = a.place[0]
        memcpy(p + offset[i], a.place[0], a.bytes)
        a.place[0] = p + offset[i]
    return 0


cdef void home_return(home_t *home) noexcept nogil:
    # The arrays are where they were before home_move(), as they are now.
    cdef array_t *a
    cdef int i
    if home.arena == NULL:
        return
    for i in range(home.narrays):
        a = &home.arrays[i]
        memcpy(home.were[i], a.place[0], a.bytes)
        a.place[0] = home.were[i]
    free(home.arena)
    home.arena = NULL


# An image has what an operation may change of zone_t, the arrays, then each CPU's numbers and lists: of each
# list how many pages it has, and they.  Where a CPU's count is 0 nothing is said of its lists.

cdef inline size_t head_bytes(const zone_t *z) noexcept nogil:
    return <size_t>(<const char *>&z.kernel - <const char *>&z.nr_free)


cdef uint8_t *save_cpus(const zone_t *z, uint8_t *p) noexcept nogil:
    cdef int cpu, k
    cdef const pcp_t *pcp
    cdef const uint32_t *at
    if z.pcps == NULL:
        return p
    for cpu in range(z.ncpus):
        pcp = &z.pcps[cpu]
        memcpy(p, pcp, pcp_numbers())
        p += pcp_numbers()
        if not pcp.count:
            continue
        for k in range(z.design.npcp):
            at = pcp.lists[k].tail
            p[0] = <uint8_t>(pcp.lists[k].head - at)
            p += 1
            while at != pcp.lists[k].head:
                p[0] = <uint8_t>at[0]
                p += 1
                at += 1
    return p


cdef void load_cpus(zone_t *z, const uint8_t *p) noexcept nogil:
    cdef int cpu, k, i
    cdef pcp_t *pcp
    cdef pcplist_t *fl
    if z.pcps == NULL:
        return
    for cpu in range(z.ncpus):
        pcp = &z.pcps[cpu]
        memcpy(pcp, p, pcp_numbers())
        p += pcp_numbers()
        for k in range(z.design.npcp):
            fl = &pcp.lists[k]
            fl.head = fl.tail = fl.room
            if pcp.count:
                fl.head += p[0]
                for i in range(p[0]):
                    fl.tail[i] = p[1 + i]
                p += 1 + p[0]


cdef void save_image(const home_t *home, const zone_t *z, uint8_t *image) noexcept nogil:
    memcpy(image, &z.nr_free, head_bytes(z))
    image += head_bytes(z)
    memcpy(image, home.arena, home.bytes)
    save_cpus(z, image + home.bytes)


cdef void load_image(const home_t *home, zone_t *z, const uint8_t *image) noexcept nogil:
    memcpy(&z.nr_free, image, head_bytes(z))
    image += head_bytes(z)
    memcpy(home.arena, image, home.bytes)
    load_cpus(z, image + home.bytes)


cdef bint same_image(const home_t *home, const zone_t *z, const uint8_t *image) noexcept nogil:
    cdef uint8_t cpus[CPUS_IMAGE]
    if memcmp(&z.nr_free, image, head_bytes(z)) != 0:
        return False
    image += head_bytes(z)
    return (memcmp(home.arena, image, home.bytes) == 0
            and memcmp(cpus, image + home.bytes, save_cpus(z, cpus) - cpus) == 0)


cdef uint64_t fingerprint(const home_t *home) noexcept nogil:
    # Of the frames and blocks; unlike states may share it.
    return asi_pa_print(<const uint64_t *>home.arena, home.words)


# ---------------------------------------------------------------- the packed form

cdef inline uint8_t short_frame(const zone_t *z, uint32_t frame) noexcept nogil:
    return <uint8_t>(255 if frame >= z.nframes else frame)


cdef inline uint32_t long_frame(uint8_t frame) noexcept nogil:
    return <uint32_t>NIL if frame == 255 else frame


cdef inline int set_bytes(uint32_t n) noexcept nogil:
    # Of a set of n frames or blocks.
    return <int>(n + 7) >> 3


cdef inline uint8_t *put_set(uint8_t *p, uint64_t members, uint32_t n) noexcept nogil:
    memcpy(p, &members, set_bytes(n))
    return p + set_bytes(n)


cdef inline const uint8_t *get_set(const uint8_t *p, uint64_t *members, uint32_t n) noexcept nogil:
    members[0] = 0
    memcpy(members, p, set_bytes(n))
    return p + set_bytes(n)


cdef int packed_size(const zone_t *z) noexcept nogil:
    cdef int n = 2 * z.nframes + 5 * z.nblocks + 2 + (z.max_order + 1) * (z.design.nft + 1) + 14
    n += 4 * set_bytes(z.nframes) + set_bytes(z.nblocks)
    if z.pcps != NULL:
        n += z.ncpus * (z.design.npcp + 10)
    return n


cdef inline const uint8_t *get(const uint8_t *p, int64_t *value) noexcept nogil:
    cdef int16_t v
    memcpy(&v, p, 2)
    value[0] = v
    return p + 2


cdef uint8_t pack_pcplist(const pcplist_t *fl, uint8_t *frames) noexcept nogil:
    # Returns the first page, and each has the number of the next beside its state.
    cdef const uint32_t *at = fl.tail
    cdef uint8_t following = 255
    while at != fl.head:
        frames[2 * at[0] + 1] = following
        following = <uint8_t>at[0]
        at += 1
    return following


cdef void pack(const zone_t *z, const extra_t *x, uint8_t *p) noexcept nogil:
    cdef uint32_t i
    cdef int order, ft, cpu, k
    cdef const pcp_t *pcp
    cdef uint8_t *frames = p
    for i in range(z.nframes):
        p[0] = z.state[i]
        p[1] = 0
        if z.state[i] & KIND_MASK == PCP:
            pass                # below
        elif listed(z.state[i]):
            p[1] = short_frame(z, z.links[i].next)
        elif z.state[i] & KIND_MASK == ALLOC:
            p[1] = <uint8_t>z.links[i].next
        p += 2
    memcpy(p, z.pbtype, z.nblocks)
    memcpy(p + z.nblocks, z.pbbase, z.nblocks)
    memcpy(p + 2 * z.nblocks, z.pbmapped, z.nblocks)
    memcpy(p + 3 * z.nblocks, z.pbpool, z.nblocks)
    memcpy(p + 4 * z.nblocks, x.why, z.nblocks)
    p += 5 * z.nblocks
    p = put_set(p, dirty_frames(z), z.nframes)
    p = put_set(p, 0 if z.design.tracks else present_frames(z), z.nframes)
    p = put_set(p, x.freed, z.nframes)
    p = put_set(p, x.unflushed, z.nframes)
    p = put_set(p, x.shrunk, z.nblocks)
    p[0] = x.due
    p[1] = short_frame(z, z.queue)
    p += 2
    for order in range(z.max_order + 1):
        for ft in range(z.design.nft):
            p[0] = short_frame(z, first_of(z, order, ft))
            p += 1
        p[0] = short_frame(z, first_of(z, order, POOL_LIST))
        p += 1
    p = put(p, z.nr_free)
    p = put(p, z.nr_free_cma)
    p = put(p, z.nr_free_highatomic)
    p = put(p, z.nr_reserved_highatomic)
    p = put(p, z.nr_isolate_blocks)
    p = put(p, z.boost)
    p = put(p, z.below_high)
    if z.pcps == NULL:
        return
    for cpu in range(z.ncpus):
        pcp = &z.pcps[cpu]
        for k in range(z.design.npcp):
            p[0] = pack_pcplist(&pcp.lists[k], frames)
            p += 1
        p = put(p, pcp.count)
        p = put(p, pcp.high)
        p = put(p, pcp.alloc_factor)
        p = put(p, pcp.free_count)
        p = put(p, pcp_flags(pcp))


cdef void unpack_pcplist(zone_t *z, pcplist_t *fl, uint8_t first) noexcept nogil:
    # From the links that unpack() has set, which then say nothing, as those of every page on such a list.
    cdef uint32_t at = long_frame(first), following
    fl.head = fl.tail = fl.room + MAX_FRAMES
    while at != NIL:
        fl.tail -= 1
        fl.tail[0] = at
        following = z.links[at].next
        z.links[at].next = NIL
        at = following


cdef inline void unpack_list(zone_t *z, int order, int ft, uint8_t first) noexcept nogil:
    cdef uint32_t list = list_of(z, order, ft), prv = list, at = long_frame(first)
    z.links[list + 1].next = 0
    z.nonempty[ft] |= <uint32_t>(at != NIL) << order
    while at != NIL:
        z.links[prv].next = at
        z.links[at].prev = prv
        prv = at
        at = z.links[at].next
        z.links[list + 1].next += 1
    z.links[prv].next = list
    z.links[list].prev = prv


cdef void unpack(zone_t *z, extra_t *x, const uint8_t *p) noexcept nogil:
    cdef uint32_t i
    cdef int order, ft, cpu, k
    cdef int64_t value
    cdef uint64_t mask
    cdef pcp_t *pcp
    for i in range(z.nframes):
        z.state[i] = p[0]
        z.links[i].next = long_frame(p[1]) if listed(p[0]) else p[1]
        z.links[i].prev = NIL
        p += 2
    memcpy(z.pbtype, p, z.nblocks)
    memcpy(z.pbbase, p + z.nblocks, z.nblocks)
    memcpy(z.pbmapped, p + 2 * z.nblocks, z.nblocks)
    memcpy(z.pbpool, p + 3 * z.nblocks, z.nblocks)
    memcpy(x.why, p + 4 * z.nblocks, z.nblocks)
    p += 5 * z.nblocks
    memcpy(z.dirty, p, set_bytes(z.nframes))
    p = get_set(p + set_bytes(z.nframes), &mask, z.nframes)
    if not z.design.tracks:
        set_present_frames(z, mask)
    p = get_set(p, &x.freed, z.nframes)
    p = get_set(p, &x.unflushed, z.nframes)
    p = get_set(p, &mask, z.nblocks)
    x.shrunk = <uint32_t>mask
    x.due = p[0]
    z.queue = long_frame(p[1])
    p += 2
    memset(z.nonempty, 0, sizeof(z.nonempty))
    for order in range(z.max_order + 1):
        for ft in range(z.design.nft):
            unpack_list(z, order, ft, p[0])
            p += 1
        unpack_list(z, order, POOL_LIST, p[0])
        p += 1
    p = get(p, &z.nr_free)
    p = get(p, &z.nr_free_cma)
    p = get(p, &z.nr_free_highatomic)
    p = get(p, &z.nr_reserved_highatomic)
    p = get(p, &z.nr_isolate_blocks)
    p = get(p, &z.boost)
    p = get(p, &value)
    z.below_high = <int>value
    set_plenty(z)
    relist(z)
    if z.pcps == NULL:
        return
    for cpu in range(z.ncpus):
        pcp = &z.pcps[cpu]
        for k in range(z.design.npcp):
            unpack_pcplist(z, &pcp.lists[k], p[0])
            p += 1
        p = get(p, &pcp.count)
        p = get(p, &pcp.high)
        p = get(p, &pcp.alloc_factor)
        p = get(p, &pcp.free_count)
        p = get(p, &value)
        pcp_set_flags(pcp, value)
        pcp_set_quiet(z, pcp)
