"""``Machine``: zones, CPUs, a design and a kernel profile, as Python sees them."""

from dataclasses import asdict

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

import numpy as np

from asi_pa.engine.boot cimport build_zone, check_spec, design_numbers, number_of
from asi_pa.engine.compact_control cimport COMPACT_PRIO_SYNC_FULL
from asi_pa.engine.compaction cimport alloc_pages_direct_compact, compact_node, watch_log
from asi_pa._core cimport (
    AHEAD_STOCK,
    ALLOC,
    HOLE,
    NIL,
    ORDER_MASK,
    POOL_LIST,
    Zone,
    blocks_on,
    compact_state_t,
    design_t,
    event_t,
    first_of,
    pcp_set_quiet,
    pcp_t,
    request_t,
    set_below_high,
    set_plenty,
    vmdiff_t,
    zone_t,
)
from asi_pa.engine.evacuate cimport evacuate_block
from asi_pa.engine.highatomic cimport unreserve_highatomic
from asi_pa.engine.hooks cimport ZoneView, ahead_hook, choose_hook, refill_hook
from asi_pa.engine.page_isolation cimport (
    alloc_contig_range,
    free_contig_range,
    start_isolate_page_range,
    take_and_putback,
    undo_isolate_page_range,
)
from asi_pa.engine.kswapd cimport kswapd
from asi_pa.engine.migrate cimport lru_add_drain
from asi_pa.engine.remapped cimport remapped_present
from asi_pa.engine.page_alloc cimport (
    compact_log_t,
    count_failure,
    decode_request,
    decode_request_on,
    mm_t,
    zone_of,
)
from asi_pa.engine.pcp cimport pcp_decay, pcp_drain, pcp_flags, pcp_set_flags, refresh_cpu_vm_stats
from asi_pa.physmap.physmap cimport Physmap, physmap_present
from asi_pa.engine.vmscan cimport direct_relief
from asi_pa.engine.wrappers cimport (
    design_alloc,
    design_free,
    has_pool,
    has_queue,
    run_ahead,
    wrapped_contig,
    wrapped_free,
    wrapper_of,
)
from asi_pa.engine.check cimport describe_frame, zone_verify

from asi_pa.designs import Design, as_design
from asi_pa.kernel.versions import kernel_profile
from asi_pa.kernel.numa import cpu_nodes, fallback_order


cdef zone_t NO_ZONE             # nothing but zeros


cdef void window_hook(zone_t *z, int at, uint32_t frame, int order) noexcept with gil:
    cdef Machine machine = <Machine>z.window_arg
    cdef vmdiff_t *cpu = z.diff
    try:
        machine.on_window(at, z.base_pfn + frame, order)
    except BaseException as error:
        if machine.window_error is None:
            machine.window_error = error
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
        The version's rules; ``asi_pa.kernel.versions``.
    boot : bool
        False leaves every frame a hole, for an initial state to be loaded (``run.replay.Replay.populate``).
    reclaims : bool
        Requests that may block go on where the kernel begins to reclaim: drains, reserves
        (``asi_pa.engine.vmscan``).
        On the recorded machines they fail there.

    Frame numbers are absolute pfns, sizes are pages.  Raises ValueError for impossible sizes.
    """

    def __cinit__(self):
        # until __init__ has run: no zone and no CPU; who looks at the first zone finds one without memory
        memset(&self.mm, 0, sizeof(mm_t))
        self.mm.zones[0] = &NO_ZONE
        self.zones = ()
        self.views = []

    def __init__(self, spec, design="linux", kernel="7.2", bint boot=True,
                 bint reclaims=False):
        cdef Zone zone
        cdef mm_t *mm = &self.mm
        cdef int i
        if self.spec is not None:
            raise RuntimeError("a Machine is initialised once")
        check_spec(spec)
        self.design = as_design(design)
        self.kernel = kernel_profile(kernel)
        self.spec = spec
        memset(mm, 0, sizeof(mm_t))
        mm.design = design_numbers(self.design, spec.pageblock_order)
        mm.kernel = asdict(self.kernel)
        mm.ncpus = spec.cpus
        mm.defrag_mode = spec.defrag_mode
        if reclaims:
            mm.relief = direct_relief
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
        mm.wrapper = wrapper_of(number_of("wrapper", self.design.wrapper), &mm.design)
        if self.design.protects:
            self._attach_physmap()
        self._attach_hooks()

    def __dealloc__(self):
        free(self.mm.moved)
        free(self.mm.pieces.frame)
        free(self.mm.compact_room)
        if self.mm.compact_log != NULL:
            free(self.mm.compact_log.rows)
            free(self.mm.compact_log.seen)
            free(self.mm.compact_log)

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
            (<ZoneView>view).spec = zone.spec
            (<ZoneView>view).keeps = zone
            self.views.append(view)
            self.mm.zones[i].hooks = <void *>view
            if kind.unmap_ahead is not Design.unmap_ahead:
                self.mm.zones[i].ahead = ahead_hook
                self.mm.design.looks_ahead |= AHEAD_STOCK
                set_plenty(self.mm.zones[i])
            if kind.choose_block is not Design.choose_block:
                self.mm.zones[i].choose = choose_hook
            if kind.choose_refill is not Design.choose_refill:
                self.mm.zones[i].refill = refill_hook
            if self.design.flip_used == "move":
                self.mm.zones[i].evacuate = evacuate_block
                self.mm.zones[i].machine = &self.mm
        self._watch()

    cdef int _watch(self) except -1:
        cdef int i
        self.watched = (self.mm.design.looks_ahead or self.mm.zones[0].choose != NULL
                        or self.mm.zones[0].refill != NULL
                        or self.on_window is not None)
        for i in range(self.mm.nzones):
            self.mm.zones[i].watched = &self.watched
            self.watched |= self.mm.zones[i].pcp_no_room
        return 0

    def _attach_physmap(self):
        """The two trees over all zones; flips and wrappers write to the restricted one."""
        cdef Physmap physmap
        cdef int i
        size = 1 << self.spec.max_page_order
        start = min(zone.start_pfn for zone in self.spec.zones) // size * size
        end = -(-max(zone.end_pfn for zone in self.spec.zones) // size) * size
        physmap = Physmap(start, end - start, cpus=self.spec.cpus, pageblock_order=self.spec.pageblock_order,
                          max_leaf="1G" if self.design.tree == "unrestricted" else "2M",
                          mirror=self.design.mirror, collapse=self.kernel.collapse_rox, log_limit=1 << 22,
                          global_pages=not self.design.protects or self.design.tree == "unrestricted")
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
        if self.watched:
            self._afterwards()
        return pfn

    cdef int _afterwards(self) except -1:
        # What a replay does after an operation: the workers it woke run; what Python raised surfaces.
        run_ahead(&self.mm)
        self.raise_hook_error()
        return 0

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
        if self.watched:
            self._afterwards()

    def drain(self, int cpu=0, int zone=0):
        """drain_local_pages(): the zone's pcp lists of one CPU go back to the buddy."""
        cdef zone_t *z = self._zone(zone)
        self._check_cpu(cpu)
        z.diff = &z.diffs[cpu]
        if z.pcps != NULL:
            pcp_drain(z, &z.pcps[cpu])
        if self.watched:
            self._afterwards()

    def tick(self, int cpu=0, int zone=0):
        """decay_pcp_high(); 1 if there is more to do, 0 if not, -1 where pcp lists are bypassed."""
        cdef zone_t *z = self._zone(zone)
        self._check_cpu(cpu)
        z.diff = &z.diffs[cpu]
        if z.pcps == NULL:
            return -1
        more = int(pcp_decay(z, &z.pcps[cpu]))
        if self.watched:
            self._afterwards()
        return more

    def run_kswapd(self, int cpu=0):
        """kswapd runs, on every node where it was woken, and frees on the lists of ``cpu``."""
        self._check_cpu(cpu)
        kswapd(&self.mm, cpu)

    def refresh_vm_stats(self, int cpu=0, int zone=0):
        """refresh_cpu_vm_stats(): a CPU's differences of the zone's counters are folded, its lists decay.

        Where the zone is of another node, a batch goes back at the third call since the CPU moved its
        counters, that one included: drain_zone_pages(), mm/page_alloc.c, 7.2 and 6.12.
        """
        cdef zone_t *z = self._zone(zone)
        self._check_cpu(cpu)
        refresh_cpu_vm_stats(z, cpu, self.mm.cpu_node[cpu] != z.nid)
        if self.watched:
            self.raise_hook_error()

    def unreserve_highatomic(self, int freetype, bint force, int zone=0, int cpu=0):
        """unreserve_highatomic_pageblock() for a requester of this freetype; 1 if a block was given back."""
        cdef zone_t *z = self._zone(zone)
        self._check_cpu(cpu)
        if not 0 <= freetype < self.mm.design.nft:
            raise ValueError(f"freetype {freetype} is not one of the design's {self.mm.design.nft}")
        z.diff = &z.diffs[cpu]
        done = int(unreserve_highatomic(z, freetype, force))
        if self.watched:
            self._afterwards()
        return done

    def isolate(self, uint64_t start, uint64_t end, int mode=2, int zone=0):
        """start_isolate_page_range(): 0, or -EBUSY with everything as it was.  mode: 1 CMA_ALLOC, 2 other."""
        cdef zone_t *z = self._range(zone, start, end)
        result = start_isolate_page_range(z, <uint32_t>(start - z.base_pfn),
                                          <uint32_t>(end - z.base_pfn), mode)
        if self.watched:
            self._afterwards()
        return result

    def unisolate(self, uint64_t start, uint64_t end, int zone=0):
        """undo_isolate_page_range()"""
        cdef zone_t *z = self._range(zone, start, end)
        undo_isolate_page_range(z, <uint32_t>(start - z.base_pfn), <uint32_t>(end - z.base_pfn))
        if self.watched:
            self._afterwards()

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
        if result == 0 and self.mm.wrapper != NULL:
            wrapped_contig(&self.mm, z, <uint32_t>(start - z.base_pfn), <uint32_t>(end - start), rq.info)
        if self.watched:
            self._afterwards()
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
        if self.mm.wrapper == NULL:
            free_contig_range(z, cpu, frame, <uint32_t>n)
        else:
            for i in range(frame, frame + <uint32_t>n):
                wrapped_free(&self.mm, z, cpu, i, 0)
        if self.watched:
            self._afterwards()

    def shrink_pool(self, int64_t pages, int cpu=0):
        """One call of the pool's shrinker (design "pool"); pages given back to the allocator."""
        self._check_cpu(cpu)
        return self.mm.wrapper.shrink(&self.mm, cpu, pages) if has_pool(&self.mm) else 0

    def compact_memory(self, int node=0, int cpu=0):
        """One write to the node's ``compact`` file: compact_node(), and the moved pages are on the LRU."""
        self._check_cpu(cpu)
        compact_node(&self.mm, cpu, node, False)
        lru_add_drain(&self.mm)
        if self.watched:
            self._afterwards()

    def direct_compact(self, int order, uint32_t gfp, int cpu=0):
        """__alloc_pages_direct_compact() of the highest priority; the pfn of 2**order pages, or -1."""
        cdef request_t rq
        cdef int64_t pfn
        cdef int status = 0
        self._check_order(order)
        self._check_cpu(cpu)
        decode_request_on(&self.mm, self.mm.cpu_node[cpu], gfp, &rq)
        pfn = alloc_pages_direct_compact(&self.mm, cpu, order, &rq, rq.slow_flags, COMPACT_PRIO_SYNC_FULL,
                                         &status)
        lru_add_drain(&self.mm)
        if self.watched:
            self._afterwards()
        return pfn

    def run_queue(self, int cpu=0):
        """The free queue's worker (design "rfcv2-queue") runs now."""
        self._check_cpu(cpu)
        if has_queue(&self.mm):
            self.mm.wrapper.work(&self.mm, cpu)

    def blocks(self, int zone=0):
        """(freetype of every pageblock, present in the protected tree), uint8 and bool arrays."""
        cdef zone_t *z = self._zone(zone)
        types = np.asarray(<uint8_t[:z.nblocks]>z.pbtype)[z.first_block:].copy()
        mapped = np.asarray(<uint8_t[:z.nblocks]>z.pbmapped)[z.first_block:].astype(bool)
        return types, mapped

    def at_window(self, callback):
        """Calls back where a step drops the zone lock, as another CPU would act: callback(at, pfn, order).

        What it raises, the operation raises when it is done.

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
        self._watch()

    def take_and_putback(self, int freetype, int min_order, int zone=0):
        """One step of page_reporting_process_zone(): a list's first block of min_order or more; pfn or -1."""
        cdef zone_t *z = self._zone(zone)
        cdef int64_t frame
        self._check_order(min_order)
        if not 0 <= freetype < self.mm.design.nft:
            raise ValueError(f"freetype {freetype} is not one of the design's {self.mm.design.nft}")
        z.diff = z.diffs
        frame = take_and_putback(z, freetype, min_order)
        if self.watched:
            self._afterwards()
        return frame if frame < 0 else frame + <int64_t>z.base_pfn

    def counters(self, int cpu=0, int zone=0):
        """(pages on the CPU's pcp lists, their ``high``, NR_FREE_PAGES as zone_page_state sees it)."""
        cdef zone_t *z = self._zone(zone)
        cdef int64_t nr_free = z.nr_free if z.nr_free > 0 else 0
        self._check_cpu(cpu)
        if z.pcps == NULL:
            return 0, 0, nr_free
        return z.pcps[cpu].count, z.pcps[cpu].high, nr_free

    def moved(self):
        """int64 (n, 2): pfns before and after, of allocations that moved since the last call.

        Where a design moves used pages out of a block that is to flip (``flip_used``), one that a caller
        holds by its pfn is another one's from then on.  What a replay's slots hold is told there.
        """
        cdef size_t i
        out = np.empty((self.mm.nmoved, 2), np.int64)
        cdef int64_t[:, ::1] view = out
        for i in range(self.mm.nmoved):
            view[i, 0] = self.mm.moved[2 * i]
            view[i, 1] = self.mm.moved[2 * i + 1]
        self.mm.nmoved = 0
        return out

    def raise_hook_error(self):
        """Raises what a design's own slow-path decision, or a callback of `at_window`, raised, if any did.

        MemoryError where a per-CPU list found no memory to grow.
        """
        for i in range(self.mm.nzones):
            if self.mm.zones[<int>i].pcp_no_room:
                raise MemoryError("no memory for a per-CPU list: it gave pages to the buddy, as no kernel's "
                                  "does; what the machine does from here on says nothing")
        error, self.window_error = self.window_error, None
        if error is not None:
            raise error
        for view in self.views:
            if view.error is not None:
                raise view.error

    def stats(self):
        """The machine's slow-path counters as a dict; meanings in docs/use/metrics.md."""
        return dict(self.mm.stats)

    def numa(self):
        """numa_hit, numa_miss, numa_foreign, numa_local and numa_other of each node: zone_statistics().

        A list of dicts of requests, in the order of the node numbers.  Empty on a machine of one node, which
        counts none of it.
        """
        if self.mm.nnodes < 2:
            return []
        return [{f"numa_{key}": value for key, value in dict(self.mm.numa[nid]).items()}
                for nid in range(self.mm.nnodes)]

    def flips(self):
        """flips_s2n and flips_n2s of each zone, in pageblocks; their sums are those of stats()."""
        return [{"flips_s2n": self.mm.zones[i].flips_s2n, "flips_n2s": self.mm.zones[i].flips_n2s}
                for i in range(self.mm.nzones)]

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

    def log_compaction(self):
        """Starts the log of what compaction does that ``compaction_events`` shows."""
        if self.mm.compact_log == NULL:
            self.mm.compact_log = <compact_log_t *>calloc(1, sizeof(compact_log_t))
            if self.mm.compact_log == NULL:
                raise MemoryError("no memory for the log of compaction")

    def compaction_events(self):
        """int32 (n, 6): operation, kind and four columns, as recorded runs have them (docs/model.md)."""
        cdef compact_log_t *log = self.mm.compact_log
        if log == NULL or log.n == 0:
            return np.zeros((0, 6), np.int32)
        if log.lost:
            raise MemoryError("the log of compaction did not fit into memory")
        return np.asarray(<int32_t[:log.n, :6]>log.rows).copy()

    def watch_compaction(self, size_t row):
        """Keeps the run's state as it is before it writes this row of the log, for ``compaction_seen``."""
        self.log_compaction()
        watch_log(self.mm.compact_log, row)

    def compaction_seen(self):
        """What ``watch_compaction`` found, None if the log did not come so far.

        A dict: migrate, free (the scanners' frames), fast_search_fail, search_order, wanted, held_pages,
        finish_pageblock; isolated: frames, first to migrate first; held: (order, frame) of the free scanner's
        blocks, as their lists have them.
        """
        cdef compact_log_t *log = self.mm.compact_log
        if log == NULL or log.nseen == 0:
            return None
        words = np.asarray(<int32_t[:log.nseen]>log.seen).tolist()
        n = words[7]
        names = ("migrate", "free", "fast_search_fail", "search_order", "wanted", "held_pages",
                 "finish_pageblock")
        seen = dict(zip(names, words[:7], strict=True))
        seen["isolated"] = words[8:8 + n]
        seen["held"] = list(zip(words[8 + n::2], words[9 + n::2], strict=True))
        return seen

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

    def dump(self, int zone=0, bint compaction=False):
        """The zone's state as recorded runs dump it: int32 words from the counters on (see docs/model.md).

        compaction : with what compaction keeps between runs
        """
        parts = [np.asarray(part, np.int64) for part in self._dump_parts(zone, compaction)]
        return np.concatenate(parts).astype(np.int32)

    def _dump_parts(self, int zone, bint compaction):
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
        if compaction:
            yield from self._dump_compaction(zone)
        if d.tracks:
            yield [z.nblocks - z.first_block]
            yield np.asarray(<uint8_t[:z.nblocks]>z.pbmapped)[z.first_block:].astype(np.int32)
        elif self.mm.wrapper != NULL:
            yield from self._dump_pages(zone, shift)

    def _dump_pages(self, int zone, shift):
        # what designs that map by page add: pool or queue, and the runs of remapped pages
        cdef zone_t *z = self._zone(zone)
        cdef uint32_t frame
        cdef uint8_t present = remapped_present(&self.mm)
        if has_pool(&self.mm):
            yield [z.nblocks - z.first_block]
            yield np.asarray(<uint8_t[:z.nblocks]>z.pbpool)[z.first_block:].astype(np.int32)
            yield [z.max_order + 1]
            for order in range(z.max_order + 1):
                frames = self._list(zone, order, POOL_LIST)
                yield [len(frames)]
                yield frames + shift
        elif has_queue(&self.mm):
            queue = []
            frame = z.queue
            while frame != NIL:
                queue += [frame + shift, z.state[frame] & ORDER_MASK]
                frame = z.links[frame].next
            yield [len(queue) // 2]
            yield queue
        mask = np.zeros(z.nframes + 1, np.uint8)
        cdef uint8_t[::1] is_remapped_page = mask
        for frame in range(z.first, z.nframes):
            if z.state[frame] != HOLE:
                is_remapped_page[frame] = present == physmap_present(self.mm.physmap, self.mm.design.tree,
                                                                     z.base_pfn + frame)
        edges = np.flatnonzero(np.diff(mask, prepend=np.uint8(0)))
        yield [len(edges) // 2]
        yield np.column_stack([edges[::2] + shift, edges[1::2] - edges[::2]]).reshape(-1)

    def _dump_pcp(self, int zone, int cpu, shift):
        cdef zone_t *z = self._zone(zone)
        cdef pcp_t *pcp
        cdef int i
        if z.pcps == NULL:
            yield [8, 0, 0, 0, 0, 0, 0, 0, 0, self.mm.design.npcp]
            yield [0] * self.mm.design.npcp
            return
        pcp = &z.pcps[cpu]
        yield [8, pcp.count, pcp.high, pcp.high_min, pcp.high_max, pcp.batch, pcp_flags(pcp),
               pcp.alloc_factor, pcp.free_count, self.mm.design.npcp]
        for i in range(self.mm.design.npcp):
            n = pcp.lists[i].head - pcp.lists[i].tail
            yield [n]
            yield np.array([pcp.lists[i].head[-1 - k] for k in range(n)], np.int64) + shift

    def _dump_compaction(self, int zone):
        cdef zone_t *z = self._zone(zone)
        cdef compact_state_t *c = &z.compact
        positions = [c.cached_free, c.cached_migrate[0], c.cached_migrate[1], c.init_migrate, c.init_free]
        yield [9, *(max(-1, position - z.first) for position in positions), c.considered, c.defer_shift,
               c.order_failed, int(c.blockskip_flush)]
        yield [z.nblocks - z.first_block]
        yield np.asarray(<uint8_t[:z.nblocks]>c.skip)[z.first_block:].astype(np.int32)

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

    def restore_compaction(self, int zone, words, skip):
        """Sets what compaction keeps between runs: the nine words of a dump, and the skip bits."""
        cdef zone_t *z = self._zone(zone)
        cdef compact_state_t *c = &z.compact
        cdef const uint8_t[::1] bits = np.ascontiguousarray(skip, np.uint8)
        cdef uint32_t i
        if bits.shape[0] != z.nblocks - z.first_block:
            raise ValueError(f"{bits.shape[0]} skip bits for {z.nblocks - z.first_block} pageblocks")
        positions = [-1 if word < 0 else word + z.first for word in words[:5]]
        c.cached_free, c.cached_migrate[0], c.cached_migrate[1], c.init_migrate, c.init_free = positions
        c.considered, c.defer_shift, c.order_failed, c.blockskip_flush = words[5:]
        for i in range(bits.shape[0]):
            c.skip[z.first_block + i] = bits[i] != 0

    def _list(self, int zone, int order, int ft):
        """Frames of one free list, head to tail, relative to the zone's base; int64 array."""
        cdef zone_t *z = self._zone(zone)
        cdef uint32_t n = blocks_on(z, order, ft), i
        cdef uint32_t frame = first_of(z, order, ft)
        out = np.empty(n, np.int64)
        cdef int64_t[:] view = out
        for i in range(n):
            view[i] = frame
            frame = z.links[frame].next
        return out

    # ------------------------------------------------------------ checks

    cdef zone_t *_zone(self, int zone) except NULL:
        self._made("Machine")
        if not 0 <= zone < self.mm.nzones:
            raise ValueError(f"zone {zone}: the machine has {self.mm.nzones}")
        return self.mm.zones[zone]

    cdef zone_t *_range(self, int zone, uint64_t start, uint64_t end) except NULL:
        cdef zone_t *z = self._zone(zone)
        if not z.base_pfn + z.first <= start < end <= z.base_pfn + z.nframes:
            raise ValueError(f"pfns [{start}, {end}) are not a range of zone {z.zone_idx}")
        z.diff = z.diffs
        return z

    cdef int _made(self, str what) except -1:
        if self.spec is None:
            raise RuntimeError(f"{what}.__init__ was not called: a subclass calls super().__init__(...)")
        return 0

    cdef int _check_order(self, int order) except -1:
        self._made("Machine")
        if not 0 <= order <= self.spec.max_page_order:
            raise ValueError(f"order {order} is not in 0..{self.spec.max_page_order}")
        return 0

    cdef int _check_cpu(self, int cpu) except -1:
        if not 0 <= cpu < self.mm.ncpus:
            raise ValueError(f"cpu {cpu}: the machine has {self.mm.ncpus}")
        return 0


NOT_MADE = Machine.__new__(Machine)
