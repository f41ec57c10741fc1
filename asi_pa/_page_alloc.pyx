# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The machine: zones in zonelist order, CPUs, and a request's way through watermarks, lists and retries.

Rules: mm/page_alloc.c get_page_from_freelist, gfp_to_alloc_flags, __alloc_pages_slowpath (7.2), without reclaim
and compaction, which the kernel enters only where this model has already returned.
"""

from libc.stdlib cimport calloc, malloc
from libc.string cimport memcpy, memset

import numpy as np

from asi_pa._core cimport (
    ALLOC_CPUSET,
    ALLOC_FLIP,
    ALLOC_MIN_RESERVE,
    FLIPS_MARCH,
    FLIPS_NONE,
    FLIPS_SEPTEMBER,
    FREE,
    HOLE,
    INFO_COMP,
    INFO_LRU,
    KIND_MASK,
    MAX_FALLBACKS,
    MAX_FREETYPES,
    MAX_ORDERS,
    MAX_PCP_LISTS,
    MIGRATE_HIGHATOMIC,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    ORDER_MASK,
    PCP,
    QUEUED,
    WMARK_LOW,
    WMARK_MIN,
    Zone,
    block_live,
    pcp_t,
    unreserve_highatomic,
    zone_init,
    zone_release_range,
    zone_verify,
)
from asi_pa._pcp cimport pcp_decay, pcp_drain

from asi_pa.designs import as_design
from asi_pa.kernel import kernel_profile

cdef enum:                  # include/linux/gfp_types.h, 7.2; __GFP_SENSITIVE and MODEL_LRU are ours (gfp.py)
    GFP_DMA = 0x1
    GFP_HIGHMEM = 0x2
    GFP_DMA32 = 0x4
    GFP_MOVABLE = 0x8
    GFP_RECLAIMABLE = 0x10
    GFP_HIGH = 0x20
    GFP_DIRECT_RECLAIM = 0x400
    GFP_KSWAPD_RECLAIM = 0x800
    GFP_MEMALLOC = 0x20000
    GFP_COMP = 0x40000
    GFP_NOMEMALLOC = 0x80000
    GFP_MODEL_LRU = 0x40000000
    GFP_SENSITIVE = 0x80000000


# ---------------------------------------------------------------- requests

cdef void decode_request(mm_t *mm, uint32_t gfp, request_t *rq) noexcept nogil:
    # prepare_alloc_pages(), alloc_flags_nofragment(), gfp_to_alloc_flags(), gfp_zone()
    cdef design_t *d = &mm.design
    cdef uint32_t fast = WMARK_LOW, slow = WMARK_MIN | ALLOC_CPUSET
    rq.gfp = gfp
    rq.mt = (gfp >> 3) & 3
    if rq.mt == 3:
        rq.mt = MIGRATE_RECLAIMABLE
    rq.sensitive = (gfp & GFP_SENSITIVE) != 0
    rq.ft = d.start[rq.mt][rq.sensitive]
    rq.ft_other = d.other[rq.ft]
    if gfp & GFP_DMA:
        rq.zone_idx = 0
    elif gfp & GFP_DMA32:
        rq.zone_idx = 1
    elif gfp & (GFP_HIGHMEM | GFP_MOVABLE) == (GFP_HIGHMEM | GFP_MOVABLE):
        rq.zone_idx = 3
    else:
        rq.zone_idx = 2
    rq.block = (gfp & GFP_DIRECT_RECLAIM) != 0
    rq.high = (gfp & GFP_HIGH) != 0
    rq.kswapd = (gfp & GFP_KSWAPD_RECLAIM) != 0
    rq.memalloc = (gfp & GFP_MEMALLOC) != 0
    rq.nomemalloc = (gfp & GFP_NOMEMALLOC) != 0
    rq.info = rq.mt
    if rq.sensitive:
        rq.info |= INFO_SENSITIVE
    if gfp & GFP_MODEL_LRU:
        rq.info |= INFO_LRU
    if gfp & (GFP_COMP | GFP_MODEL_LRU):
        rq.info |= INFO_COMP
    if rq.kswapd:
        fast |= ALLOC_KSWAPD
        slow |= ALLOC_KSWAPD
    if rq.mt == MIGRATE_MOVABLE:
        fast |= ALLOC_CMA
        slow |= ALLOC_CMA
    # alloc_flags_nofragment(): only where the preferred zone is ZONE_NORMAL
    if (mm.nofragment and (rq.zone_idx == 2 or (rq.zone_idx == 3 and not mm.has_movable))) or mm.defrag_mode:
        fast |= ALLOC_NOFRAGMENT
    if mm.defrag_mode:
        slow |= ALLOC_NOFRAGMENT
    if rq.high:
        slow |= ALLOC_MIN_RESERVE
    if not rq.block:
        if not rq.nomemalloc:
            slow |= ALLOC_NON_BLOCK
        if rq.high:
            slow &= ~<uint32_t>ALLOC_CPUSET
    if d.flips == FLIPS_SEPTEMBER or (d.flips == FLIPS_MARCH and rq.sensitive):
        if rq.block:
            fast |= ALLOC_FLIP
            slow |= ALLOC_FLIP
    rq.fast_flags = fast
    rq.slow_flags = slow


# ---------------------------------------------------------------- the path of a request

cdef int64_t get_page_from_freelist(mm_t *mm, int cpu, int order, const request_t *rq, uint32_t flags,
                                    int at) noexcept nogil:
    # get_page_from_freelist(); `at` is the zone to go on from in the first round.
    cdef int node = mm.cpu_node[cpu]
    cdef zone_t *z
    cdef uint32_t frame
    cdef bint take
    while True:
        while at < mm.nzonelist[node]:
            z = mm.zonelist[node][at]
            at += 1
            if z.zone_idx > rq.zone_idx:
                continue
            if flags & ALLOC_NOFRAGMENT and not mm.defrag_mode and z.nid != node:
                break       # rather mix types here than leave the node
            take = False
            if not z.below_high:
                take = zone_watermark_fast(z, order, z.wmark[WMARK_HIGH] + z.boost, rq.zone_idx, flags)
                if not take:
                    z.below_high = 1
            if not take:
                take = zone_watermark_fast(z, order, z.wmark[flags & WMARK_MASK] + z.boost,
                                           rq.zone_idx, flags)
            if not take and not flags & ALLOC_NO_WATERMARKS:
                continue
            z.diff = &z.diffs[cpu]
            frame = zone_take(z, cpu, order, rq, flags)
            if frame != NIL:
                return <int64_t>(z.base_pfn + frame)
        if not flags & ALLOC_NOFRAGMENT or mm.defrag_mode:
            return -1
        flags &= ~<uint32_t>ALLOC_NOFRAGMENT
        at = 0


cdef int64_t mm_alloc_rest(mm_t *mm, int cpu, int order, const request_t *rq, int tried) noexcept nogil:
    # What __alloc_pages() does when the first zone did not answer at once; __alloc_pages_slowpath().
    cdef int64_t pfn
    cdef uint32_t flags
    cdef bint reserves
    pfn = get_page_from_freelist(mm, cpu, order, rq, rq.fast_flags, tried)
    if pfn >= 0:
        return pfn
    mm.stats.slowpath += 1
    flags = rq.slow_flags
    if order > 0 and not rq.block and not rq.nomemalloc and rq.high:
        flags |= ALLOC_HIGHATOMIC
    pfn = get_page_from_freelist(mm, cpu, order, rq, flags, 0)
    if pfn >= 0:
        return pfn
    reserves = rq.memalloc and not rq.nomemalloc
    if reserves:
        flags = (flags & (ALLOC_CMA | ALLOC_KSWAPD | ALLOC_FLIP)) | ALLOC_NO_WATERMARKS
    if reserves or not flags & ALLOC_CPUSET or mm.kernel.slowpath_always_retries:
        pfn = get_page_from_freelist(mm, cpu, order, rq, flags, 0)
        if pfn >= 0:
            return pfn
    if (not rq.block and mm.defrag_mode and mm.kernel.defrag_mode_retry
            and flags & ALLOC_NOFRAGMENT and flags & ALLOC_KSWAPD):
        flags &= ~<uint32_t>ALLOC_NOFRAGMENT
        pfn = get_page_from_freelist(mm, cpu, order, rq, flags, 0)
        if pfn >= 0:
            return pfn
    count_failure(mm, cpu, order, rq, flags)
    return -1


cdef void count_failure(mm_t *mm, int cpu, int order, const request_t *rq, uint32_t flags) noexcept nogil:
    # Why a request failed, and how many free pages of the other kind stood by.
    cdef int node = mm.cpu_node[cpu], at, ft, o, big
    cdef zone_t *z
    cdef design_t *d = &mm.design
    cdef int64_t own = 0, other = 0, pages
    cdef bint passed = False, whole = False
    big = order
    for at in range(mm.nzonelist[node]):
        z = mm.zonelist[node][at]
        if z.zone_idx > rq.zone_idx:
            continue
        if order > z.pageblock_order:
            big = order
        else:
            big = z.pageblock_order
        if zone_watermark_fast(z, 0, z.wmark[WMARK_MIN] + z.boost, rq.zone_idx, flags):
            passed = True
        for ft in range(d.nft):
            for o in range(z.max_order + 1):
                pages = <int64_t>z.lists[o][ft].count << o
                if d.mt[ft] > MIGRATE_HIGHATOMIC:
                    continue
                if d.mapped[ft] == d.mapped[rq.ft]:
                    own += pages
                else:
                    other += pages
                    if o >= big and pages:
                        whole = True
    if not passed:
        mm.stats.fail_watermark += 1
    elif d.flips != FLIPS_NONE and whole and not flags & ALLOC_FLIP:
        mm.stats.fail_noblock += 1
    elif d.flips != FLIPS_NONE and other >= <int64_t>1 << order and own < <int64_t>1 << order:
        mm.stats.fail_starvation += 1
    elif own >= <int64_t>1 << order:
        mm.stats.fail_fragmentation += 1
    else:
        mm.stats.fail_no_memory += 1
    if d.tracks and <uint64_t>other > mm.stats.stranded_max:
        mm.stats.stranded_max = other


# ---------------------------------------------------------------- designs with a protected tree

cdef void page_handed_out(zone_t *z, uint32_t frame, int order, const request_t *rq) noexcept nogil:
    # Every allocation is checked against the mapping of the pageblocks it lies in.
    cdef uint32_t b, i, pages = 1u << order, in_block
    in_block = pages if order < z.pageblock_order else z.pageblock_pages
    for b in range(block_of(z, frame), block_of(z, frame + pages - 1) + 1):
        if rq.sensitive and z.pbmapped[b]:
            z.stats.exposed_now += in_block
            z.stats.exposures += 1
        elif not rq.sensitive and not z.pbmapped[b]:
            z.stats.hidden_now += in_block
            z.stats.exposures += 1
    if z.dirty != NULL and rq.sensitive:
        if order >= 3:
            memset(z.dirty + (frame >> 3), 0xFF, pages >> 3)
        else:
            for i in range(frame, frame + pages):
                z.dirty[i >> 3] |= <uint8_t>(1 << (i & 7))


cdef void page_given_back(zone_t *z, uint32_t frame, int order) noexcept nogil:
    # The running totals of wrongly mapped live pages forget a freed one.
    cdef uint32_t b, pages = 1u << order, in_block
    cdef bint sensitive = (z.links[frame].next & INFO_SENSITIVE) != 0
    in_block = pages if order < z.pageblock_order else z.pageblock_pages
    for b in range(block_of(z, frame), block_of(z, frame + pages - 1) + 1):
        if sensitive and z.pbmapped[b]:
            z.stats.exposed_now -= in_block
        elif not sensitive and not z.pbmapped[b]:
            z.stats.hidden_now -= in_block


# ---------------------------------------------------------------- building

cdef int fill_design(design_t *d, object design, int pageblock_order) except -1:
    """Translates a Design's tables into the engine's."""
    cdef int i, j, n = len(design.freetypes)
    if n > MAX_FREETYPES:
        raise ValueError(f"design {design.name!r} has {n} freetypes, at most {MAX_FREETYPES} are possible")
    memset(d, 0, sizeof(design_t))
    memset(d.pcp_list, NO_PCP_LIST, sizeof(d.pcp_list))
    d.nft = n
    for i, ft in enumerate(design.freetypes):
        d.mt[i] = ft.mt
        d.sensitive[i] = ft.sensitive
        d.mapped[i] = ft.mapped
        d.whole_only[i] = ft.whole_blocks_only
        if len(ft.fallbacks) > MAX_FALLBACKS:
            raise ValueError(f"freetype {ft.name!r} has more than {MAX_FALLBACKS} fallbacks")
        d.nfallback[i] = len(ft.fallbacks)
        for j, name in enumerate(ft.fallbacks):
            d.fallback[i][j] = design.freetype(name)
        for j in range(n):
            if j != i and design.mergeable(i, j):
                d.mergeable[i] |= 1u << j
        d.highatomic[i] = design.index_of(3, i)
        d.cma[i] = design.index_of(4, i)
        d.isolate[i] = design.index_of(5, i)
        d.other[i] = design.other_side(i)
        kept = design.pcp_type(i)
        d.pcp_type[i] = NO_PCP_LIST if kept is None else kept
    for i in range(3):
        for j in range(2):
            d.start[i][j] = design.freetype(design.start[i][j])
    lists = design.pcp_lists(pageblock_order)
    if len(lists) > MAX_PCP_LISTS:
        raise ValueError(f"design {design.name!r} needs {len(lists)} pcp lists, at most {MAX_PCP_LISTS}")
    d.npcp = len(lists)
    for i, (order, types) in enumerate(lists):
        d.pcp_list_order[i] = order
        for j in types:
            d.pcp_list[order][j] = i
    d.label_maps = design.label_maps
    d.tracks = design.tracks
    d.flips = {"none": FLIPS_NONE, "march": FLIPS_MARCH, "september": FLIPS_SEPTEMBER}[design.flips]
    d.zero_block = design.zero_blocks
    d.explicit_maps = design.explicit_maps
    d.noblock_flags_kept = design.keeps_noblock
    d.flip_cma = design.flip_cma
    return 0


cdef int build_zone(Zone zone, mm_t *mm, object spec, object machine, int boot) except -1:
    """A zone as boot leaves it: everything free, CMA blocks handed over last."""
    cdef zone_t *z = &zone.z
    cdef pcp_t *pcp
    cdef int i, l
    cdef uint32_t at, end
    cdef uint64_t base
    zone_init(z, spec.start_pfn, spec.end_pfn, machine.pageblock_order, machine.max_page_order, machine.cpus)
    zone.spec = spec
    z.zone_idx = spec.zone_idx
    z.nid = spec.nid
    z.design = &mm.design
    z.kernel = &mm.kernel
    z.stats = &mm.stats
    z.boost_factor = machine.watermark_boost_factor
    z.pcp_batch_scale_max = machine.pcp_batch_scale_max
    z.stat_threshold = spec.stat_threshold
    holes = sum(b - a for a, b in spec.holes)
    z.managed = spec.spanned - holes if spec.managed is None else spec.managed
    z.present = z.managed if spec.present is None else spec.present
    for i in range(4):
        z.wmark[i] = spec.wmark[i]
    for i in range(len(spec.lowmem_reserve)):
        z.lowmem_reserve[i] = spec.lowmem_reserve[i]
    if mm.design.tracks:
        z.dirty = <uint8_t *>calloc((z.nframes + (1u << z.max_order)) >> 3, 1)
        if z.dirty == NULL:
            raise MemoryError("no memory for the zone's map of sensitive data")
    memset(z.pbtype, boot, z.nblocks)
    memset(z.pbbase, boot, z.nblocks)
    if spec.pcp is not None:
        z.pcps = <pcp_t *>calloc(machine.cpus, sizeof(pcp_t))
        if z.pcps == NULL:
            raise MemoryError("no memory for per-CPU lists")
        for i in range(machine.cpus):
            pcp = &z.pcps[i]
            pcp.batch = spec.pcp.batch
            pcp.high_min = spec.pcp.high_min
            pcp.high_max = spec.pcp.high_max
            pcp.high = spec.pcp.high_min if spec.pcp.high is None else spec.pcp.high
            pcp.flags = 2 if spec.pcp.free_high_batch else 0
            for l in range(MAX_PCP_LISTS):
                pcp.lists[l].head = NIL
                pcp.lists[l].tail = NIL
    base = z.base_pfn
    for a, b in spec.holes:
        if not spec.start_pfn <= a < b <= spec.end_pfn:
            raise ValueError(f"hole [{a}, {b}) is not inside zone {spec.name}")
        memset(&z.state[<uint32_t>(a - base)], HOLE, <size_t>(b - a))
    for a, b in spec.cma:
        if (a | b) & (z.pageblock_pages - 1) or not spec.start_pfn <= a < b <= spec.end_pfn:
            raise ValueError(f"CMA range [{a}, {b}) is not made of pageblocks of zone {spec.name}")
        z.cma_pages += b - a
    at = z.first
    gaps = sorted((*spec.holes, *spec.cma))
    for a, b in (*gaps, (spec.end_pfn, spec.end_pfn)):
        end = a - base
        zone_release_range(z, at, end)
        at = b - base
    for a, b in spec.cma:
        for at in range(<uint32_t>(a - base), <uint32_t>(b - base), 1u << machine.pageblock_order):
            # init_cma_reserved_pageblock()
            z.pbtype[block_of(z, at)] = z.design.cma[boot]
            z.pbbase[block_of(z, at)] = z.design.cma[boot]
            free_to_buddy(z, at, z.pageblock_order)
    for i in range(z.ncpus):
        # boot's own differences are long folded when a machine is up
        z.nr_free += z.diffs[i].free
        z.nr_free_cma += z.diffs[i].cma
        z.diffs[i].free = 0
        z.diffs[i].cma = 0
    return 0


cdef class Machine:
    """A machine: zones, CPUs, one design, one kernel profile.

    Parameters
    ----------
    spec : MachineSpec
        Zones in the order in which requests try them, and their limits.
    design : Design or str
        What the free lists mean; ``asi_pa.designs``.
    kernel : Kernel or str
        The version's rules; ``asi_pa.kernel``.

    Frame numbers are absolute pfns, sizes are pages.  Raises ValueError for impossible sizes.
    """

    def __init__(self, spec, design="linux", kernel="7.2"):
        cdef Zone zone
        cdef mm_t *mm = &self.mm
        cdef int i, n, node
        self.spec = spec
        self.design = as_design(design)
        self.kernel = kernel_profile(kernel)
        check_spec(spec)
        memset(mm, 0, sizeof(mm_t))
        fill_design(&mm.design, self.design, spec.pageblock_order)
        mm.kernel.free_high_needs_high_min = self.kernel.free_high_needs_high_min
        mm.kernel.pcp_bulk_in_batches = self.kernel.pcp_bulk_in_batches
        mm.kernel.pcp_refill_highatomic = self.kernel.pcp_refill_highatomic
        mm.kernel.reserve_highatomic_from_pcp = self.kernel.reserve_highatomic_from_pcp
        mm.kernel.free_contig_by_page = self.kernel.free_contig_by_page
        mm.kernel.slowpath_always_retries = self.kernel.slowpath_always_retries
        mm.kernel.isolate_is_bit = self.kernel.isolate_is_bit
        mm.kernel.defrag_mode_retry = self.kernel.defrag_mode_retry
        mm.ncpus = spec.cpus
        mm.nofragment = spec.nofragment
        mm.defrag_mode = spec.defrag_mode
        boot = self.design.freetype(self.design.boot)
        zones = []
        for zone_spec in spec.zones:
            zone = Zone()
            build_zone(zone, mm, zone_spec, spec, boot)
            mm.zones[mm.nzones] = &zone.z
            mm.has_movable |= zone.z.zone_idx == 3
            mm.nzones += 1
            zones.append(zone)
        self.zones = tuple(zones)
        mm.nnodes = 1 + max(z.nid for z in spec.zones)
        for node in range(mm.nnodes):
            # the node's own zones first, then the others in turn (build_zonelists, node order)
            n = 0
            for i in sorted(range(mm.nzones), key=lambda i: (spec.zones[i].nid - node) % mm.nnodes):
                mm.zonelist[node][n] = mm.zones[i]
                n += 1
            mm.nzonelist[node] = n
        for i in range(mm.ncpus):
            mm.cpu_node[i] = i * mm.nnodes // mm.ncpus

    # ------------------------------------------------------------ operations

    def alloc(self, int order, uint32_t gfp, int cpu=0):
        """One allocation attempt of 2**order pages; the pfn, or -1 when the kernel would reclaim or fail."""
        cdef request_t rq
        cdef int64_t pfn
        self._check_order(order)
        self._check_cpu(cpu)
        if (gfp >> 3) & 3 == 3:
            raise ValueError(f"gfp 0x{gfp:x}: __GFP_MOVABLE and __GFP_RECLAIMABLE exclude each other")
        decode_request(&self.mm, gfp, &rq)
        pfn = mm_alloc(&self.mm, cpu, order, &rq)
        return pfn

    def free(self, uint64_t pfn, int order, int cpu=0):
        """Gives back what ``alloc`` returned.  ValueError, and nothing changed, for anything else."""
        cdef zone_t *z = zone_of(&self.mm, pfn)
        cdef uint32_t frame
        self._check_order(order)
        self._check_cpu(cpu)
        if z == NULL:
            raise ValueError(f"pfn {pfn} is in no zone")
        frame = <uint32_t>(pfn - z.base_pfn)
        if z.state[frame] != <uint8_t>(ALLOC | order):
            raise ValueError(f"free of pfn {pfn}, order {order}: {describe_state(z, frame)}")
        zone_free(z, cpu, frame, order)

    def drain(self, int cpu=0, int zone=0):
        """drain_local_pages(): the zone's pcp lists of one CPU go back to the buddy."""
        cdef zone_t *z = self._zone(zone)
        self._check_cpu(cpu)
        z.diff = &z.diffs[cpu]
        if z.pcps != NULL:
            pcp_drain(z, &z.pcps[cpu])

    def tick(self, int cpu=0, int zone=0):
        """decay_pcp_high(); 1 if there is more to do, 0 if not, -1 where pcp lists are bypassed."""
        cdef zone_t *z = self._zone(zone)
        self._check_cpu(cpu)
        z.diff = &z.diffs[cpu]
        if z.pcps == NULL:
            return -1
        return int(pcp_decay(z, &z.pcps[cpu]))

    def unreserve_highatomic(self, int freetype, bint force, int zone=0, int cpu=0):
        """unreserve_highatomic_pageblock() for a requester of this freetype; 1 if a block was given back."""
        cdef zone_t *z = self._zone(zone)
        if not 0 <= freetype < self.mm.design.nft:
            raise ValueError(f"freetype {freetype} is not one of the design's {self.mm.design.nft}")
        z.diff = &z.diffs[cpu]
        return int(unreserve_highatomic(z, freetype, force))

    def counters(self, int cpu=0, int zone=0):
        """(pages on the CPU's pcp lists, their ``high``, NR_FREE_PAGES as zone_page_state sees it)."""
        cdef zone_t *z = self._zone(zone)
        cdef int64_t nr_free = z.nr_free if z.nr_free > 0 else 0
        if z.pcps == NULL:
            return 0, 0, nr_free
        return z.pcps[cpu].count, z.pcps[cpu].high, nr_free

    def stats(self):
        """The machine's slow-path counters as a dict; meanings in docs/metrics.md."""
        return dict(self.mm.stats)

    def verify(self):
        """Walks everything; None, or the first broken invariant in words."""
        cdef uint64_t where = 0
        cdef const char *what
        for zone in self.zones:
            what = zone_verify(&(<Zone>zone).z, &where)
            if what != NULL:
                pfn = (<Zone>zone).z.base_pfn + where
                return f"zone {zone.spec.name}: {what.decode()} (at pfn {pfn})"
        return None

    # ------------------------------------------------------------ state

    def dump(self, int zone=0):
        """The zone's state as recorded runs dump it: int32 words from the counters on (layout: docs/model.md)."""
        return np.concatenate([np.asarray(part, np.int64) for part in self._dump_parts(zone)]).astype(np.int32)

    def _dump_parts(self, int zone):
        cdef zone_t *z = self._zone(zone)
        cdef design_t *d = &self.mm.design
        cdef int order, ft, i, cpu
        shift = z.base_pfn - self.spec.zones[zone].start_pfn
        yield [18, z.nr_free if z.nr_free > 0 else 0, z.nr_free_cma if z.nr_free_cma > 0 else 0,
               z.nr_reserved_highatomic, z.nr_free_highatomic, z.boost, 4 if z.below_high else 0,
               z.wmark[0], z.wmark[1], z.wmark[2], z.wmark[3], z.lowmem_reserve[2], z.diffs[0].free,
               z.diffs[0].cma, z.stat_threshold, z.managed, z.cma_pages, z.nr_isolate_blocks, int(zone > 0)]
        yield [z.max_order + 1, d.nft]
        for order in range(z.max_order + 1):
            lists = [self._list(zone, order, ft) for ft in range(d.nft)]
            yield [sum(len(frames) for frames in lists)]
            for frames in lists:
                yield [len(frames)]
                yield frames + shift
        yield [z.nblocks - z.first_block]
        yield np.asarray(<uint8_t[:z.nblocks]>z.pbtype)[z.first_block:].astype(np.int32)
        for cpu in range(z.ncpus):
            if cpu == 1:
                yield [z.ncpus - 1]
            if cpu:
                yield [z.diffs[cpu].free, z.diffs[cpu].cma]
            yield from self._dump_pcp(zone, cpu, shift)
        if d.tracks:
            yield [z.nblocks - z.first_block]
            yield np.asarray(<uint8_t[:z.nblocks]>z.pbmapped)[z.first_block:].astype(np.int32)

    def _dump_pcp(self, int zone, int cpu, shift):
        cdef zone_t *z = self._zone(zone)
        cdef pcp_t *pcp
        cdef int i
        cdef uint32_t frame
        if z.pcps == NULL:
            yield [8, 0, 0, 0, 0, 0, 0, 0, 0, self.mm.design.npcp]
            yield [0] * self.mm.design.npcp
            return
        pcp = &z.pcps[cpu]
        yield [8, pcp.count, pcp.high, pcp.high_min, pcp.high_max, pcp.batch, pcp.flags, pcp.alloc_factor,
               pcp.free_count, self.mm.design.npcp]
        for i in range(self.mm.design.npcp):
            frames = []
            frame = pcp.lists[i].head
            while frame != NIL:
                frames.append(frame)
                frame = z.links[frame].next
            yield [len(frames)]
            yield np.array(frames, np.int64) + shift

    def restore(self, int zone, bint below_high, int64_t boost, pcp_fields=()):
        """Sets what a recorded run had before its first operation and boot does not determine.

        pcp_fields: per CPU (high, flags, alloc_factor, free_count).
        """
        cdef zone_t *z = self._zone(zone)
        z.below_high = below_high
        z.boost = boost
        if z.pcps != NULL:
            for cpu, (high, flags, alloc_factor, free_count) in enumerate(pcp_fields):
                self._check_cpu(cpu)
                z.pcps[<int>cpu].high = high
                z.pcps[<int>cpu].flags = flags
                z.pcps[<int>cpu].alloc_factor = alloc_factor
                z.pcps[<int>cpu].free_count = free_count

    def _list(self, int zone, int order, int ft):
        """Frames of one free list, head to tail, relative to the zone's base; int64 array."""
        cdef zone_t *z = self._zone(zone)
        cdef uint32_t n = z.lists[order][ft].count, i = 0
        cdef uint32_t frame = z.lists[order][ft].head
        out = np.empty(n, np.int64)
        cdef int64_t[:] view = out
        while frame != NIL and i < n:
            view[i] = frame
            frame = z.links[frame].next
            i += 1
        return out

    # ------------------------------------------------------------ checks

    cdef zone_t *_zone(self, int zone) except NULL:
        if not 0 <= zone < self.mm.nzones:
            raise ValueError(f"zone {zone}: the machine has {self.mm.nzones}")
        return self.mm.zones[zone]

    cdef int _check_order(self, int order) except -1:
        if not 0 <= order <= self.spec.max_page_order:
            raise ValueError(f"order {order} is not in 0..{self.spec.max_page_order}")
        return 0

    cdef int _check_cpu(self, int cpu) except -1:
        if not 0 <= cpu < self.mm.ncpus:
            raise ValueError(f"cpu {cpu}: the machine has {self.mm.ncpus}")
        return 0


cdef str describe_state(zone_t *z, uint32_t frame):
    cdef int kind = z.state[frame] & KIND_MASK
    cdef int order = z.state[frame] & ORDER_MASK
    if kind == ALLOC:
        return f"it is allocated with order {order}"
    if kind == FREE:
        return f"it is free already (order {order})"
    if kind == PCP:
        return f"it is free already, on a per-CPU list (order {order})"
    if kind == HOLE:
        return "it was never handed to the allocator"
    if kind == QUEUED:
        return "it is free already, in the free queue"
    return "it is not the first page of an allocation"


def check_spec(spec):
    """Raises ValueError for a machine that cannot be."""
    if not 0 < spec.pageblock_order <= spec.max_page_order < MAX_ORDERS:
        raise ValueError(f"pageblock_order {spec.pageblock_order} and max_page_order {spec.max_page_order}: "
                         f"0 < pageblock_order <= max_page_order < {MAX_ORDERS} must hold")
    if not 0 < spec.cpus <= MAX_CPUS:
        raise ValueError(f"cpus {spec.cpus} is not in 1..{MAX_CPUS}")
    if not 0 < len(spec.zones) <= MAX_ZONES:
        raise ValueError(f"{len(spec.zones)} zones, 1..{MAX_ZONES} are possible")
    taken = []
    for zone in spec.zones:
        if not 1 << spec.pageblock_order <= zone.spanned <= 2**32 - 2:
            raise ValueError(f"a zone of {zone.spanned} frames is not between one pageblock and 2**32 - 2")
        if zone.start_pfn < 0 or zone.end_pfn >= 2**40:
            raise ValueError(f"zone {zone.name} at pfn {zone.start_pfn} is outside physical memory")
        if not 0 <= zone.nid < MAX_NODES:
            raise ValueError(f"node {zone.nid} is not in 0..{MAX_NODES - 1}")
        for name, start, end in taken:
            if zone.start_pfn < end and start < zone.end_pfn:
                raise ValueError(f"zones {name} and {zone.name} overlap")
        taken.append((zone.name, zone.start_pfn, zone.end_pfn))
