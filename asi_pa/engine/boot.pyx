"""From a MachineSpec and a Design to the engine: what is checked, laid out, handed over at boot."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc
from libc.string cimport memset

from asi_pa._core cimport (
    FLIPS_MARCH,
    FLIPS_NONE,
    FLIPS_SEPTEMBER,
    HOLE,
    MAX_CPUS,
    MAX_FALLBACKS,
    MAX_FREETYPES,
    MAX_ORDERS,
    MAX_PCP_LISTS,
    NIL,
    NO_FREETYPE,
    ZERO_ALLOC,
    ZERO_DIRTY,
    ZERO_FLIP,
    ZERO_LOCKED,
    ZERO_NONE,
    Zone,
    block_of,
    design_t,
    free_to_buddy,
    pcp_t,
    pcp_set_quiet,
    set_plenty,
    zone_init,
    zone_release_range,
    zone_t,
)
from asi_pa.engine.page_alloc cimport MAX_NODES, MAX_ZONES, mm_t
from asi_pa.engine.pcp cimport NO_PCP_LIST
from asi_pa.physmap.physmap cimport RESTRICTED, UNRESTRICTED


cdef int check_spec(object spec) except -1:
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
        if not 1 << spec.pageblock_order <= zone.spanned <= 2**32 - 2**16:
            raise ValueError(
                f"a zone of {zone.spanned} frames is not between one pageblock and 2**32 - 2**16")
        if zone.start_pfn < 0 or zone.end_pfn >= 2**40:
            raise ValueError(f"zone {zone.name} at pfn {zone.start_pfn} is outside physical memory")
        if not 0 <= zone.nid < MAX_NODES:
            raise ValueError(f"node {zone.nid} is not in 0..{MAX_NODES - 1}")
        for name, start, end in taken:
            if zone.start_pfn < end and start < zone.end_pfn:
                raise ValueError(f"zones {name} and {zone.name} overlap")
        taken.append((zone.name, zone.start_pfn, zone.end_pfn))
    return 0


cdef uint8_t or_none(object index) except *:
    return NO_FREETYPE if index is None else index


cdef int fill_design(design_t *d, object design, int pageblock_order) except -1:
    """Translates a Design's tables into the engine's."""
    cdef int i, j, n = len(design.freetypes), order
    if n > MAX_FREETYPES:
        raise ValueError(f"design {design.name!r} has {n} freetypes, at most {MAX_FREETYPES} are possible")
    memset(d, 0, sizeof(design_t))
    memset(d.pcp_list, NO_PCP_LIST, sizeof(d.pcp_list))
    memset(d.pcp_free, NO_PCP_LIST, sizeof(d.pcp_free))
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
        d.highatomic[i] = or_none(design.index_of(3, i))
        d.cma[i] = or_none(design.index_of(4, i))
        d.isolate[i] = or_none(design.index_of(5, i))
        d.other[i] = design.other_side(i)
        d.event_type[i] = ft.mt if design.flips == "september" else i
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
    for i in range(n):
        kept = design.pcp_type(i)
        if kept is not None:
            for order in range(MAX_ORDERS):
                d.pcp_free[order][i] = d.pcp_list[order][<int>kept]
    d.label_maps = design.label_maps
    d.tracks = bool(design.protects) and not design.wrapper
    d.flips = {"none": FLIPS_NONE, "march": FLIPS_MARCH, "september": FLIPS_SEPTEMBER}[design.flips]
    d.zeroing = {"none": ZERO_NONE, "locked": ZERO_LOCKED, "flip": ZERO_FLIP, "dirty": ZERO_DIRTY,
                 "alloc": ZERO_ALLOC}[design.zeroing]
    d.owner_zeroes = design.owner_zeroes
    d.flip_before_steal = design.flip_before_steal
    d.contig_flips = design.contig_flips
    d.tree = {"unrestricted": UNRESTRICTED, "restricted": RESTRICTED}[design.tree]
    d.compaction = {"order": 0, "unmapped": 1, "both": 2}[design.compaction]
    d.compaction_same_side = d.tracks and {"any": False, "same": True}[design.compaction_sides]
    d.shrink_batch = design.shrink_batch
    d.queue_delay = design.queue_delay
    d.queue_batch = design.queue_batch
    d.queue_waits = design.queue_waits
    d.refill_order = design.refill_order
    d.refill_leaves = design.refill_leaves
    d.unmap_low = design.unmap_low
    d.unmap_high = design.unmap_high
    d.looks_ahead = design.unmap_low > 0
    d.explicit_maps = design.explicit_maps
    d.putback_by_block = design.putback_by_block
    d.noblock_flags_kept = design.keeps_noblock
    d.flip_cma = design.flip_cma
    d.slow_keeps_fast = design.slow_keeps_fast
    return 0


cdef int build_zone(Zone zone, mm_t *mm, object spec, object machine, int boot, bint release,
                    bint protects) except -1:
    """A zone as boot leaves it: everything free, CMA blocks handed over last."""
    cdef zone_t *z = &zone.z
    cdef pcp_t *pcp
    cdef int i, k
    cdef uint32_t at, end
    cdef uint64_t base
    zone_init(z, spec.start_pfn, spec.end_pfn, machine.pageblock_order, machine.max_page_order, machine.cpus)
    zone.spec = spec
    z.zone_idx = spec.zone_idx
    z.nid = spec.nid
    z.design = &mm.design
    z.tracks = mm.design.tracks
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
    memset(z.pbmapped, mm.design.tracks and mm.design.mapped[boot], z.nblocks)
    if protects:
        if mm.design.flip_cma:
            z.listed = <uint8_t *>calloc(z.nframes + (1u << z.max_order), 1)
            if z.listed == NULL:
                raise MemoryError("no memory for the zone's map of lists")
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
            pcp.free_high_batch = bool(spec.pcp.free_high_batch)
            pcp_set_quiet(z, pcp)
            for k in range(MAX_PCP_LISTS):
                pcp.lists[k].head = NIL
                pcp.lists[k].tail = NIL
    base = z.base_pfn
    for a, b in spec.holes:
        if not spec.start_pfn <= a < b <= spec.end_pfn:
            raise ValueError(f"hole [{a}, {b}) is not inside zone {spec.name}")
        memset(&z.state[<uint32_t>(a - base)], HOLE, <size_t>(b - a))
    for a, b in spec.cma:
        if (a | b) & (z.pageblock_pages - 1) or not spec.start_pfn <= a < b <= spec.end_pfn:
            raise ValueError(f"CMA range [{a}, {b}) is not made of pageblocks of zone {spec.name}")
        z.cma_pages += b - a
    set_plenty(z)
    if not release:
        memset(&z.state[z.first], HOLE, z.nframes - z.first)
        return 0
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
    set_plenty(z)
    return 0
