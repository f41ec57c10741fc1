"""From a MachineSpec and a Design to the engine: what is checked, laid out, handed over at boot."""

from dataclasses import fields

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc
from libc.string cimport memset

from asi_pa._core cimport (
    AHEAD_BACK,
    AHEAD_BACK_LAZY,
    AHEAD_BACK_TIMER,
    AHEAD_STOCK,
    CTX_FLIP,
    CTX_UNMAP,
    HOLE,
    MAX_CPUS,
    MAX_FALLBACKS,
    MAX_FREETYPES,
    MAX_ORDERS,
    MAX_PCP_LISTS,
    MIGRATE_CMA,
    MIGRATE_HIGHATOMIC,
    MIGRATE_ISOLATE,
    MIGRATE_MOVABLE,
    NO_FREETYPE,
    Zone,
    block_of,
    free_to_buddy,
    pcp_t,
    pcp_set_quiet,
    set_plenty,
    zone_init,
    zone_release_range,
    zone_t,
)
from asi_pa.engine.page_alloc cimport MAX_NODES, MAX_ZONES, mm_t
from asi_pa.engine.pcp cimport NO_PCP_LIST, PCP_ROOM, pcplist_init

from asi_pa.engine.types import Compaction, Flips, Refill, Waits, Zeroing
from asi_pa.engine.wrappers import Wrapper
from asi_pa.physmap.physmap import tree_number


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
        if zone.pcp_cpus and (zone.pcp is None or len(zone.pcp_cpus) != spec.cpus):
            raise ValueError(f"zone {zone.name}: pcp_cpus has {len(zone.pcp_cpus)} entries for {spec.cpus} "
                             "CPUs, and needs pcp beside it")
        for name, start, end in taken:
            if zone.start_pfn < end and start < zone.end_pfn:
                raise ValueError(f"zones {name} and {zone.name} overlap")
        taken.append((zone.name, zone.start_pfn, zone.end_pfn))
    return 0


#: Fields of a Design that are words -> the enum of its numbers, and how its members' names begin.
_WORDS = {
    "flips": (Flips, "FLIPS_"),
    "zeroing": (Zeroing, "ZERO_"),
    "compaction": (Compaction, "COMPACTS_"),
    "refill_unmaps": (Refill, "REFILL_"),
    "may_wait": (Waits, "WAITS_"),
    "wrapper": (Wrapper, "WRAP_"),
}


cdef int number_of(str field, str word) except -1:
    """The engine's number for a word of a Design's field."""
    if field == "tree":
        return tree_number(word)
    enum, prefix = _WORDS[field]
    return enum[prefix + (word or "none").upper().replace("-", "_")]


cdef list by_freetype(object of, int n, int missing=0):
    """A table with a number for each freetype; ``missing`` where ``of`` has None, and behind the last."""
    values = [of(i) for i in range(n)] + [None] * (MAX_FREETYPES - n)
    return [missing if value is None else value for value in values]


cdef dict design_numbers(object design, int pageblock_order):
    """What the engine reads of a Design: each scalar field under its name, and the tables (design_t)."""
    numbers = {}
    for field in fields(design):
        value = getattr(design, field.name)
        if field.name in _WORDS or field.name == "tree":
            numbers[field.name] = number_of(field.name, value)
        elif isinstance(value, int):
            numbers[field.name] = value
    numbers["tracks"] = bool(design.protects) and not design.wrapper
    numbers["flips_both_ways"] = design.flips == "september"
    numbers["flip_ctx"] = CTX_UNMAP if design.flips == "march" else CTX_FLIP
    numbers["looks_ahead"] = ahead_of(design)
    numbers["clears_ahead"] = design.zeroed_by == "worker"
    numbers["unmap_high"] = max(design.unmap_high, design.unmap_low)
    # counted as on x86-64, where a pageblock has order 9
    numbers["refill_order"] = max(0, design.refill_order + pageblock_order - 9)
    return numbers | _freetype_tables(design) | _pcp_tables(design, pageblock_order)


cdef int ahead_of(object design) except -1:
    """What a worker has to do, and when (AHEAD_*)."""
    cdef int work = 0
    if design.unmap_low or design.pool_low:
        work |= AHEAD_STOCK
    if design.map_back or design.pool_high:
        work |= {"eager": AHEAD_BACK, "lazy": AHEAD_BACK_LAZY, "timer": AHEAD_BACK_TIMER}[design.give_back]
    return work


def _freetype_tables(design):
    """What is asked by freetype, fallbacks and siblings as freetypes' numbers."""
    kinds = design.freetypes
    n = len(kinds)
    if n > MAX_FREETYPES:
        raise ValueError(f"design {design.name!r} has {n} freetypes, at most {MAX_FREETYPES} are possible")

    def fallbacks(i):
        if len(kinds[i].fallbacks) > MAX_FALLBACKS:
            raise ValueError(f"freetype {kinds[i].name!r} has more than {MAX_FALLBACKS} fallbacks")
        others = [design.freetype(name) for name in kinds[i].fallbacks]
        return others + [0] * (MAX_FALLBACKS - len(others))

    def siblings(mt):
        return by_freetype(lambda i: design.index_of(mt, i), n, NO_FREETYPE)

    def swallows(i):
        return sum(1 << j for j in range(n) if j != i and design.mergeable(i, j))

    # where every migratetype has both sides, recorders log migratetypes
    doubled = sum(kind.mt == MIGRATE_MOVABLE for kind in kinds) > 1

    def in_events(i):
        return kinds[i].mt if doubled else i

    return {
        "nft": n,
        "mt": by_freetype(lambda i: kinds[i].mt, n),
        "sensitive": by_freetype(lambda i: kinds[i].sensitive, n),
        "mapped": by_freetype(lambda i: kinds[i].mapped, n),
        # March flips for requests of the unmapped side only (patch 11): the other side claims blocks, but not
        # those that are to be emptied first
        "may_flip": by_freetype(lambda i: design.flips == "september" or (
            design.flips == "march" and (not kinds[i].mapped or design.flip_free < 100)), n),
        "whole_only": by_freetype(lambda i: kinds[i].whole_blocks_only, n),
        "nfallback": by_freetype(lambda i: len(kinds[i].fallbacks), n),
        "fallback": [fallbacks(i) for i in range(n)] + [[0] * MAX_FALLBACKS] * (MAX_FREETYPES - n),
        "mergeable": by_freetype(swallows, n),
        "start": [[design.freetype(name) for name in pair] for pair in design.start],
        "highatomic": siblings(MIGRATE_HIGHATOMIC),
        "cma": siblings(MIGRATE_CMA),
        "isolate": siblings(MIGRATE_ISOLATE),
        "other": by_freetype(design.other_side, n),
        "event_type": by_freetype(in_events, n),
    }


def _pcp_tables(design, pageblock_order):
    """The lists by order and freetype: where a request looks, what a freed page joins."""
    lists = design.pcp_lists(pageblock_order)
    if len(lists) > MAX_PCP_LISTS:
        raise ValueError(f"design {design.name!r} needs {len(lists)} pcp lists, at most {MAX_PCP_LISTS}")
    looks = [[NO_PCP_LIST] * MAX_FREETYPES for _ in range(MAX_ORDERS)]
    for number, (of_order, types) in enumerate(lists):
        for freetype in types:
            looks[of_order][freetype] = number
    joins = by_freetype(design.pcp_type, len(design.freetypes), -1)
    return {
        "npcp": len(lists),
        "pcp_list_order": [order for order, _ in lists] + [0] * (MAX_PCP_LISTS - len(lists)),
        "pcp_list": looks,
        "pcp_free": [[NO_PCP_LIST if kept < 0 else row[kept] for kept in joins] for row in looks],
    }


cdef int build_zone(Zone zone, mm_t *mm, object spec, object machine, int boot, bint release,
                    bint protects) except -1:
    """A zone as boot leaves it: everything free, CMA blocks handed over last."""
    cdef zone_t *z = &zone.z
    cdef int i
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
        if mm.design.flip_cma or mm.design.blocks_keep_bit:
            z.listed = <uint8_t *>calloc(z.nframes + (1u << z.max_order), 1)
            if z.listed == NULL:
                raise MemoryError("no memory for the zone's map of lists")
        z.dirty = <uint8_t *>calloc((z.nframes + (1u << z.max_order)) >> 3, 1)
        if z.dirty == NULL:
            raise MemoryError("no memory for the zone's map of sensitive data")
    memset(z.pbtype, boot, z.nblocks)
    memset(z.pbbase, boot, z.nblocks)
    build_pcps(z, spec.pcp_cpus or (() if spec.pcp is None else (spec.pcp,) * machine.cpus))
    mark_holes(z, spec)
    set_plenty(z)
    if release:
        release_all(z, spec, boot)
    else:
        memset(&z.state[z.first], HOLE, z.nframes - z.first)
    return 0


cdef int build_pcps(zone_t *z, tuple pcps) except -1:
    """Per-CPU lists by a PcpSpec each; empty: there are none, the buddy serves all."""
    cdef pcp_t *pcp
    cdef int i, k
    if not pcps:
        return 0
    z.pcps = <pcp_t *>calloc(len(pcps), sizeof(pcp_t))
    if z.pcps == NULL:
        raise MemoryError("no memory for per-CPU lists")
    for i, limits in enumerate(pcps):
        pcp = &z.pcps[i]
        pcp.batch = limits.batch
        pcp.high_min = limits.high_min
        pcp.high_max = limits.high_max
        pcp.high = limits.high_min if limits.high is None else limits.high
        pcp.free_high_batch = bool(limits.free_high_batch)
        pcp_set_quiet(z, pcp)
        for k in range(z.design.npcp):
            if not pcplist_init(&pcp.lists[k], PCP_ROOM):
                raise MemoryError("no memory for per-CPU lists")
    return 0


cdef int mark_holes(zone_t *z, object spec) except -1:
    """Holes, and how much CMA there is; ValueError for what does not fit the zone."""
    cdef uint64_t base = z.base_pfn
    for a, b in spec.holes:
        if not spec.start_pfn <= a < b <= spec.end_pfn:
            raise ValueError(f"hole [{a}, {b}) is not inside zone {spec.name}")
        memset(&z.state[<uint32_t>(a - base)], HOLE, <size_t>(b - a))
    for a, b in spec.cma:
        if (a | b) & (z.pageblock_pages - 1) or not spec.start_pfn <= a < b <= spec.end_pfn:
            raise ValueError(f"CMA range [{a}, {b}) is not made of pageblocks of zone {spec.name}")
        z.cma_pages += b - a
    return 0


cdef int release_all(zone_t *z, object spec, int boot) except -1:
    """What boot frees: everything between the holes, then CMA, pageblock by pageblock."""
    cdef uint32_t at = z.first, end
    cdef uint64_t base = z.base_pfn
    cdef int i
    gaps = sorted((*spec.holes, *spec.cma))
    for a, b in (*gaps, (spec.end_pfn, spec.end_pfn)):
        end = a - base
        zone_release_range(z, at, end)
        at = b - base
    for a, b in spec.cma:
        for at in range(<uint32_t>(a - base), <uint32_t>(b - base), z.pageblock_pages):
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
