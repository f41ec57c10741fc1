# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""``Machine``: zones, CPUs, a design and a kernel profile, as Python sees them."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, malloc
from libc.string cimport memset

import operator

import numpy as np

from asi_pa._core cimport (
    ALLOC,
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
    event_t,
    free_to_buddy,
    pcp_t,
    request_t,
    pcp_set_quiet,
    set_below_high,
    set_plenty,
    vmdiff_t,
    zone_init,
    zone_release_range,
    zone_t,
)
from asi_pa._flip cimport flip_free_blocks
from asi_pa._highatomic cimport unreserve_highatomic
from asi_pa._zone_check cimport describe_frame, zone_verify
from asi_pa._isolation cimport (
    alloc_contig_range,
    free_contig_range,
    start_isolate_page_range,
    take_and_putback,
    undo_isolate_page_range,
)
from asi_pa._page_alloc cimport (
    MAX_NODES,
    MAX_ZONES,
    count_failure,
    decode_request,
    decode_request_on,
    mm_t,
    zone_of,
)
from asi_pa._pcp cimport NO_PCP_LIST, pcp_decay, pcp_drain, pcp_flags, pcp_set_flags
from asi_pa._physmap cimport RESTRICTED, UNRESTRICTED, Physmap
from asi_pa._wrappers cimport (
    WRAP_NONE,
    WRAP_PER_PAGE,
    WRAP_POOL,
    WRAP_QUEUE,
    design_alloc,
    design_free,
    pool_shrink,
    queue_run,
    run_ahead,
    wrapped_contig,
    wrapped_free,
)

from asi_pa.designs import Design, as_design
from asi_pa.kernel import kernel_profile
from asi_pa.numa import cpu_nodes, fallback_order


# ---------------------------------------------------------------- building

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


cdef class ZoneView:
    """What a design's slow-path decision may look at; valid only during the call."""

    cdef zone_t *z
    cdef object design
    cdef object zone
    cdef public object error

    @property
    def pageblock_pages(self):
        return self.z.pageblock_pages

    @property
    def managed(self):
        """Managed pages of the zone."""
        return self.z.managed

    @property
    def watermarks(self):
        """(min, low, high) in pages, boost included."""
        return tuple(self.z.wmark[i] + self.z.boost for i in range(3))

    def free_pages(self, *, mapped=None, freetype=None):
        """Free pages that requests can have: of one side, of one freetype, or all."""
        cdef int ft, order
        cdef int64_t n = 0
        for ft in self._types(mapped, freetype):
            for order in range(self.z.max_order + 1):
                n += <int64_t>self.z.lists[order][ft].count << order
        return n

    def whole_blocks(self, *, mapped=None, freetype=None):
        """Wholly free pageblocks of one side, of one freetype, or all."""
        cdef int ft, order
        cdef int64_t n = 0
        for ft in self._types(mapped, freetype):
            for order in range(self.z.pageblock_order, self.z.max_order + 1):
                n += <int64_t>self.z.lists[order][ft].count << (order - self.z.pageblock_order)
        return n

    def free_list(self, freetype, int order, int most=64):
        """pfns at the head of one free list, at most ``most``."""
        cdef uint32_t frame
        out = []
        if 0 <= order <= self.z.max_order:
            frame = self.z.lists[order][<int>self.design.freetype(freetype)].head
            while frame != NIL and len(out) < most:
                out.append(self.z.base_pfn + frame)
                frame = self.z.links[frame].next
        return out

    def _types(self, mapped, freetype):
        return [i for i, ft in enumerate(self.design.freetypes)
                if ft.mt <= 2 and (mapped is None or ft.mapped == mapped)
                and (freetype is None or ft.name == freetype)]


cdef object whole_number(ZoneView view, method, answer):
    try:
        number = operator.index(answer)
        if abs(number) < 1 << 62:
            return number
    except TypeError:
        pass
    raise ValueError(f"design {view.design.name!r}: {method}() returned {answer!r}, which is no number")


cdef void ahead_hook(zone_t *z) noexcept with gil:
    cdef ZoneView view = <ZoneView>z.hooks
    cdef int64_t n
    if view.error is not None:
        return
    try:
        n = whole_number(view, "unmap_ahead", view.design.unmap_ahead(view))
        if n > 0:
            z.stats.unmapped_ahead += flip_free_blocks(z, n, False)
        elif n < 0:
            flip_free_blocks(z, -n, True)
    except BaseException as error:
        view.error = error


cdef int64_t choose_hook(zone_t *z, int order, int ft) noexcept with gil:
    cdef ZoneView view = <ZoneView>z.hooks
    if view.error is not None:
        return -1
    try:
        pfn = view.design.choose_block(view, order, view.design.freetypes[ft].name)
        if pfn is None:
            return -1
        pfn = whole_number(view, "choose_block", pfn)
        if not z.base_pfn + z.first <= pfn < z.base_pfn + z.nframes:
            return -1
        return pfn - z.base_pfn
    except BaseException as error:
        view.error = error
        return -1


cdef void window_hook(zone_t *z, int at, uint32_t frame, int order) noexcept with gil:
    cdef Machine machine = <Machine>z.window_arg
    cdef vmdiff_t *cpu = z.diff
    try:
        machine.on_window(at, z.base_pfn + frame, order)
    except BaseException as error:
        (<ZoneView>machine.views[0]).error = error
    z.diff = cpu


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
    boot : bool
        False leaves every frame a hole, for an initial state to be loaded (``_replay.Replay.populate``).

    Frame numbers are absolute pfns, sizes are pages.  Raises ValueError for impossible sizes.
    """

    def __init__(self, spec, design="linux", kernel="7.2", bint boot=True):
        cdef Zone zone
        cdef mm_t *mm = &self.mm
        cdef int i
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
        mm.defrag_mode = spec.defrag_mode
        freetype = self.design.freetype(self.design.boot)
        zones = []
        for zone_spec in spec.zones:
            zone = Zone()
            build_zone(zone, mm, zone_spec, spec, freetype, boot, bool(self.design.protects))
            mm.zones[mm.nzones] = &zone.z
            mm.nzones += 1
            zones.append(zone)
        self.zones = tuple(zones)
        self.views = []
        for i, node in enumerate(cpu_nodes(spec)):
            mm.cpu_node[i] = node
        self._build_zonelists()
        mm.wrapper = {"": WRAP_NONE, "per-page": WRAP_PER_PAGE, "pool": WRAP_POOL,
                      "queue": WRAP_QUEUE}[self.design.wrapper]
        if self.design.protects:
            self._attach_physmap()
        self._attach_hooks()

    def _build_zonelists(self):
        """build_zonelists(): each node's populated zones, its own first, then other nodes' by distance."""
        cdef mm_t *mm = &self.mm
        cdef int i, n, node
        zones = self.spec.zones
        populated = [i for i in range(mm.nzones) if mm.zones[i].present > 0]
        fallback = fallback_order(self.spec)
        mm.nnodes = len(fallback)
        for node, order in fallback.items():
            own = [i for i in populated if zones[i].nid == node]
            # where nothing is left of a node, an empty zone of its own stands first
            own = own or [i for i in range(mm.nzones) if zones[i].nid == node][:1]
            mm.nlocal[node] = len(own)
            others = [i for nid in order[1:] for i in populated if zones[i].nid == nid]
            for n, i in enumerate((*own, *others)):
                mm.zonelist[node][n] = mm.zones[i]
            mm.nzonelist[node] = len(own) + len(others)
            # alloc_flags_nofragment(): one of several nodes needs a DMA32 zone, too
            mm.nofragment[node] = (self.spec.nofragment if mm.nnodes == 1
                                   else any(zones[i].zone_idx == 1 for i in own))

    def _attach_hooks(self):
        """Slow-path decisions that a subclass of Design overrides are asked of it."""
        cdef int i
        kind = type(self.design)
        for i, zone in enumerate(self.zones):
            view = ZoneView()
            (<ZoneView>view).z = self.mm.zones[i]
            (<ZoneView>view).design = self.design
            (<ZoneView>view).zone = zone
            self.views.append(view)
            self.mm.zones[i].hooks = <void *>view
            if kind.unmap_ahead is not Design.unmap_ahead:
                self.mm.zones[i].ahead = ahead_hook
                self.mm.design.looks_ahead = 1
                set_plenty(self.mm.zones[i])
            if kind.choose_block is not Design.choose_block:
                self.mm.zones[i].choose = choose_hook

    def _attach_physmap(self):
        """The two trees over all zones; flips and wrappers write to the restricted one."""
        cdef Physmap physmap
        cdef int i
        size = 1 << self.spec.max_page_order
        start = min(zone.start_pfn for zone in self.spec.zones) // size * size
        end = -(-max(zone.end_pfn for zone in self.spec.zones) // size) * size
        physmap = Physmap(start, end - start, cpus=self.spec.cpus, pageblock_order=self.spec.pageblock_order,
                          max_leaf="1G" if self.design.tree == "unrestricted" else "2M",
                          mirror=self.design.mirror, log_limit=1 << 22)
        self.physmap = physmap
        self.mm.physmap = &physmap.pm
        for i in range(self.mm.nzones):
            self.mm.zones[i].physmap = &physmap.pm

    # ------------------------------------------------------------ operations

    def alloc(self, int order, uint32_t gfp, int cpu=0):
        """One allocation attempt of 2**order pages; the pfn, or -1 when the kernel would reclaim or fail."""
        cdef request_t rq
        cdef int64_t pfn
        self._check_order(order)
        self._check_cpu(cpu)
        if (gfp >> 3) & 3 == 3:
            raise ValueError(f"gfp 0x{gfp:x}: __GFP_MOVABLE and __GFP_RECLAIMABLE exclude each other")
        decode_request_on(&self.mm, self.mm.cpu_node[cpu], gfp, &rq)
        pfn = design_alloc(&self.mm, cpu, order, &rq)
        if pfn < 0:
            count_failure(&self.mm, cpu, order, &rq)
        if self.mm.design.looks_ahead:
            run_ahead(&self.mm)
            self.raise_hook_error()
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
            raise ValueError(f"free of pfn {pfn}, order {order}: {describe_frame(z, frame)}")
        design_free(&self.mm, z, cpu, frame, order)

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

    def isolate(self, uint64_t start, uint64_t end, int mode=2, int zone=0):
        """start_isolate_page_range(): 0, or -EBUSY with everything as it was.  mode: 1 CMA_ALLOC, 2 other."""
        cdef zone_t *z = self._range(zone, start, end)
        return start_isolate_page_range(z, <uint32_t>(start - z.base_pfn), <uint32_t>(end - z.base_pfn), mode)

    def unisolate(self, uint64_t start, uint64_t end, int zone=0):
        """undo_isolate_page_range()"""
        cdef zone_t *z = self._range(zone, start, end)
        undo_isolate_page_range(z, <uint32_t>(start - z.base_pfn), <uint32_t>(end - z.base_pfn))

    def alloc_contig_range(self, uint64_t start, uint64_t end, bint cma=False, uint32_t gfp=0, int zone=0):
        """alloc_contig_range() of frames that are free already: 0, or -EBUSY with every block as it was.

        The frames become allocations of order 0, given back by ``free_contig_range``.
        """
        cdef zone_t *z = self._range(zone, start, end)
        cdef request_t rq
        cdef int result
        decode_request(&self.mm, gfp, &rq)
        result = alloc_contig_range(z, <uint32_t>(start - z.base_pfn), <uint32_t>(end - z.base_pfn),
                                    1 if cma else 2, rq.info)
        if result == 0 and self.mm.wrapper != WRAP_NONE:
            wrapped_contig(&self.mm, z, <uint32_t>(start - z.base_pfn), <uint32_t>(end - start), rq.info)
        return result

    def free_contig_range(self, uint64_t start, uint64_t n, int cpu=0, int zone=0):
        """free_contig_range(); ValueError, and nothing changed, unless all n frames are such allocations."""
        cdef zone_t *z = self._range(zone, start, start + n)
        cdef uint32_t frame = <uint32_t>(start - z.base_pfn), i
        self._check_cpu(cpu)
        for i in range(frame, frame + <uint32_t>n):
            if z.state[i] != ALLOC:
                raise ValueError(f"free_contig_range of pfn {z.base_pfn + i}: {describe_frame(z, i)}")
        z.diff = &z.diffs[cpu]
        if self.mm.wrapper == WRAP_NONE:
            free_contig_range(z, cpu, frame, <uint32_t>n)
        else:
            for i in range(frame, frame + <uint32_t>n):
                wrapped_free(&self.mm, z, cpu, i, 0)

    def shrink_pool(self, int64_t pages, int cpu=0):
        """One call of the pool's shrinker (design "pool"); pages given back to the allocator."""
        self._check_cpu(cpu)
        return pool_shrink(&self.mm, cpu, pages) if self.mm.wrapper == WRAP_POOL else 0

    def run_queue(self, int cpu=0):
        """The free queue's worker (design "rfcv2-queue") runs now."""
        self._check_cpu(cpu)
        if self.mm.wrapper == WRAP_QUEUE:
            queue_run(&self.mm, cpu)

    def blocks(self, int zone=0):
        """(freetype of every pageblock, present in the protected tree), uint8 and bool arrays."""
        cdef zone_t *z = self._zone(zone)
        types = np.asarray(<uint8_t[:z.nblocks]>z.pbtype)[z.first_block:].copy()
        mapped = np.asarray(<uint8_t[:z.nblocks]>z.pbmapped)[z.first_block:].astype(bool)
        return types, mapped

    def at_window(self, callback):
        """Calls back where a step drops the zone lock, as another CPU would act: callback(at, pfn, order).

        at: 1 the block is off its list, 2 entries cleared, flush under way, 3 mapping changed and flushed,
        label not yet, 4 page reporting holds the block, 5 a contiguous range is isolated.  None ends it.
        """
        cdef int i
        self.on_window = callback
        for i in range(self.mm.nzones):
            self.mm.zones[i].window = NULL
            if callback is not None:
                self.mm.zones[i].window = window_hook
            self.mm.zones[i].window_arg = <void *>self

    def take_and_putback(self, int freetype, int min_order, int zone=0):
        """What page reporting does to a list's first block of at least min_order; its pfn, or -1."""
        cdef zone_t *z = self._zone(zone)
        cdef int64_t frame
        self._check_order(min_order)
        if not 0 <= freetype < self.mm.design.nft:
            raise ValueError(f"freetype {freetype} is not one of the design's {self.mm.design.nft}")
        z.diff = z.diffs
        frame = take_and_putback(z, freetype, min_order)
        return frame if frame < 0 else frame + <int64_t>z.base_pfn

    def counters(self, int cpu=0, int zone=0):
        """(pages on the CPU's pcp lists, their ``high``, NR_FREE_PAGES as zone_page_state sees it)."""
        cdef zone_t *z = self._zone(zone)
        cdef int64_t nr_free = z.nr_free if z.nr_free > 0 else 0
        if z.pcps == NULL:
            return 0, 0, nr_free
        return z.pcps[cpu].count, z.pcps[cpu].high, nr_free

    def raise_hook_error(self):
        """Raises what a design's own slow-path decision raised, if anything did."""
        for view in self.views:
            if view.error is not None:
                raise view.error

    def stats(self):
        """The machine's slow-path counters as a dict; meanings in docs/metrics.md."""
        return dict(self.mm.stats)

    def log_events(self):
        """Starts the log of mapping and type changes of pageblocks that ``events`` shows."""
        cdef zone_t *z
        for zone in self.zones:
            z = &(<Zone>zone).z
            if z.events == NULL:
                z.events_room = 1024
                z.events = <event_t *>malloc(z.events_room * sizeof(event_t))
                if z.events == NULL:
                    raise MemoryError("no memory for the event log")

    def events(self, int zone=0):
        """int32 (n, 5): operation; kind | ctx << 8 | old << 16 | new << 24; frame; pages; aux.

        kind 1 map (aux: pages newly exposed that held sensitive data | blocks mapped already << 16), 2 unmap
        (aux: blocks that were not mapped << 16), 3 a mapped block gets an unmapped label, 4 other change of
        type (aux of both: live sensitive | live nonsensitive pages << 16).
        """
        cdef zone_t *z = self._zone(zone)
        cdef size_t i
        out = np.zeros((z.nevents, 5), np.uint32)
        cdef uint32_t[:, ::1] view = out
        for i in range(z.nevents):
            view[i, 0] = <uint32_t>z.events[i].op
            view[i, 1] = (z.events[i].kind | <uint32_t>z.events[i].ctx << 8
                          | <uint32_t>z.events[i].old_ft << 16 | <uint32_t>z.events[i].new_ft << 24)
            view[i, 2] = z.events[i].frame - z.first
            view[i, 3] = z.events[i].nr
            view[i, 4] = z.events[i].aux
        return out.view(np.int32)

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
        """The zone's state as recorded runs dump it: int32 words from the counters on (see docs/model.md)."""
        parts = [np.asarray(part, np.int64) for part in self._dump_parts(zone)]
        return np.concatenate(parts).astype(np.int32)

    def _dump_parts(self, int zone):
        cdef zone_t *z = self._zone(zone)
        cdef design_t *d = &self.mm.design
        cdef int order, ft, cpu
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
        yield [8, pcp.count, pcp.high, pcp.high_min, pcp.high_max, pcp.batch, pcp_flags(pcp),
               pcp.alloc_factor, pcp.free_count, self.mm.design.npcp]
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
        z.boost = boost
        set_below_high(z, below_high)
        if z.pcps != NULL:
            for cpu, (high, flags, alloc_factor, free_count) in enumerate(pcp_fields):
                self._check_cpu(cpu)
                z.pcps[<int>cpu].high = high
                pcp_set_flags(&z.pcps[<int>cpu], flags)
                z.pcps[<int>cpu].alloc_factor = alloc_factor
                z.pcps[<int>cpu].free_count = free_count
                pcp_set_quiet(z, &z.pcps[<int>cpu])

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

    cdef zone_t *_range(self, int zone, uint64_t start, uint64_t end) except NULL:
        cdef zone_t *z = self._zone(zone)
        if not z.base_pfn + z.first <= start < end <= z.base_pfn + z.nframes:
            raise ValueError(f"pfns [{start}, {end}) are not a range of zone {z.zone_idx}")
        z.diff = z.diffs
        return z

    cdef int _check_order(self, int order) except -1:
        if not 0 <= order <= self.spec.max_page_order:
            raise ValueError(f"order {order} is not in 0..{self.spec.max_page_order}")
        return 0

    cdef int _check_cpu(self, int cpu) except -1:
        if not 0 <= cpu < self.mm.ncpus:
            raise ValueError(f"cpu {cpu}: the machine has {self.mm.ncpus}")
        return 0


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
