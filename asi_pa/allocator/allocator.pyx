"""``Allocator``: what research scripts use.

A single call costs little more than an empty one: request words are decoded once and kept, arguments are read
without conversion layers.  Everything that is not called often is in Python modules beside this one.
"""

import numpy as np

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from asi_pa.allocator.bulk cimport BulkCalls, after_operation, number, request
from asi_pa._core cimport ALLOC, FREE, KIND_MASK, PCP, POOL_LIST, blocks_on, request_t, zone_t
from asi_pa.engine.page_isolation cimport head_of
from asi_pa.engine.machine cimport NOT_MADE, Machine
from asi_pa.engine.page_alloc cimport count_failure, mm_t, zone_of
from asi_pa.engine.wrappers cimport design_alloc, design_free
from asi_pa.engine.check cimport describe_frame

from asi_pa.allocator import statistics as observe
from asi_pa.designs import as_design
from asi_pa.experiment.metrics import CAUSES
from asi_pa.kernel.gfp import GFP_KERNEL, parse_gfp
from asi_pa.allocator.hotplug import MemoryBlocks
from asi_pa.kernel.layout import given, sized
from asi_pa.kernel.spec import MachineSpec
from asi_pa.allocator.refusals import OutOfMemoryError, RangeBusyError


cdef class Allocator(BulkCalls):
    """A page allocator: zones, CPUs, nodes, one design, as a Linux kernel would set it up.

    Parameters
    ----------
    memory : str, int, MachineSpec or Machine
        Bytes, or a size such as ``"64M"``, ``"4G"``, ``"1T"``: the machine is laid out and its watermarks and
        limits computed as a kernel does (``asi_pa.kernel.sizing``).  A MachineSpec is taken as it is; the
        parameters below that describe the machine are then its own.  A Machine is wrapped.
    design : str or Design
        What the free lists mean: a name from ``asi_pa.DESIGNS``, a Design, ``"name:field=value"``,
        ``"file.py:NAME"``.
    kernel : str
        Version whose rules hold: "7.2", "6.18" or "6.12".
    cpus, nodes : int
        Online CPUs, spread evenly over the NUMA nodes.
    single_zone : bool
        One zone Normal of exactly this size, instead of a PC's DMA, DMA32 and Normal with their reserved
        frames.  Needs at least one pageblock; the other form 64 MiB a node.
    pcp : bool
        False: every request bypasses the per-CPU lists.
    exact_counters : bool
        True: free-page counters never lag behind (a vmstat threshold of 0).
    pageblock_order, max_page_order : int
        9 and 10 as on x86-64; smaller values make every effect visible in small zones.
    cma : str or int, optional
        Bytes of CMA memory.
    min_free : int, optional
        vm.min_free_kbytes; computed if not given, with khugepaged's raise unless ``khugepaged`` is False.
    watermark_boost_factor, defrag_mode
        The sysctls of these names.
    distances : tuple of tuples
        Between nodes, as the ACPI SLIT has them; 10 to itself, 20 to others if not given.
    hotplug : str or int, or pfn ranges
        Bytes of room at the end of the machine for memory to be plugged in, in zone ``hotplug_zone``
        ("Normal" or "Movable"); for a MachineSpec ranges (start, end) inside its holes.  A zone is built as
        large as it may become: the room is a hole until it is onlined.
    memory_block : str or int, optional
        Unit of hotplug in bytes; 128 MiB if not given.
    data_cache : str or int
        A CPU's slice of data caches in bytes, its own and its share of common ones (MachineSpec.data_cache).

    Frame numbers are absolute pfns, sizes pages of 4 KiB unless said otherwise.  ValueError for a machine
    that cannot be.  Threads may share it for ``alloc_pages``, ``free_pages`` and their bulk forms: single
    calls take their turns, with a GIL or without one, and raise RuntimeError while a bulk call or a replay
    runs.  All else is for one thread at a time.
    """

    cdef readonly object blocks
    """The memory blocks' books (asi_pa.allocator.hotplug.MemoryBlocks)."""
    cdef readonly object trace
    """The compiled trace whose initial state was loaded (``from_trace``), or None."""
    cdef object run

    def __init__(self, memory="4G", design="linux", kernel="7.2", *, cpus=1, nodes=1, single_zone=False,
                 pcp=True, exact_counters=False, pageblock_order=9, max_page_order=10, cma=None,
                 min_free=None, khugepaged=True, watermark_boost_factor=15000, defrag_mode=False,
                 distances=(), hotplug=None, hotplug_zone="Normal", memory_block=None, data_cache="2M"):
        if self.machine is not NOT_MADE:
            raise RuntimeError("an Allocator is initialised once")
        if isinstance(memory, (Machine, MachineSpec)):
            spec = memory if isinstance(memory, MachineSpec) else memory.spec
            layout = given(spec, block=memory_block, room=hotplug)
        else:
            layout = sized(
                memory, kernel=kernel, cpus=cpus, nodes=nodes, single_zone=single_zone, pcp=pcp,
                exact_counters=exact_counters, pageblock_order=pageblock_order, max_page_order=max_page_order,
                cma=cma, min_free=min_free, khugepaged=khugepaged, defrag_mode=defrag_mode,
                pcptypes=as_design(design).khugepaged_pcptypes,
                watermark_boost_factor=watermark_boost_factor, distances=distances, data_cache=data_cache,
                room=hotplug,
                room_zone=hotplug_zone, block=memory_block)
        machine = memory
        if not isinstance(memory, Machine):
            machine = Machine(layout.spec, design, kernel, reclaims=True)
        if (<Machine>machine).physmap is None:
            (<Machine>machine)._attach_physmap()
        self.machine = machine
        self.mm = &self.machine.mm
        self.end_pfn = max(zone.end_pfn for zone in self.machine.spec.zones)
        self.blocks = MemoryBlocks(machine, layout)

    @classmethod
    def from_trace(cls, trace, design="linux", *, kernel=None, memory=None, classifier="rfc", recorded=False,
                   seed=0):
        """An allocator in the state in which a recorded trace begins; ``replay`` runs the trace's operations.

        trace: a name of ``asi_pa.bundled_traces()``, a path, a Trace or a CompiledTrace.  memory: another
        size than the recorded machine's, "ample" or "1.05x" (``asi_pa.compile_trace``).  recorded: with all
        its zones, not one.
        """
        from asi_pa.experiment import build
        from asi_pa.experiment.points import compile_trace
        from asi_pa.trace import CompiledTrace
        compiled = trace if isinstance(trace, CompiledTrace) else compile_trace(
            trace, classifier, memory=memory, recorded=recorded, seed=seed)
        machine, run, _ = build(compiled, as_design(design), kernel)
        made = cls(machine)
        (<Allocator>made).trace = compiled
        (<Allocator>made).run = run
        return made

    def __reduce__(self):
        raise TypeError("an Allocator cannot be pickled or copied")

    def __repr__(self):
        zones = ", ".join(f"{zone.name} {self.zone_state(i)['managed']}"
                          for i, zone in enumerate(self.spec.zones))
        return f"<Allocator {self.design.name}, kernel {self.kernel.version}, managed pages: {zones}>"

    @property
    def spec(self):
        """The machine as it is now (MachineSpec); hotplug changes it."""
        return self.machine.spec

    @property
    def design(self):
        """The Design."""
        return self.machine.design

    @property
    def kernel(self):
        """The Kernel profile."""
        return self.machine.kernel

    @property
    def physmap(self):
        """Both direct maps (asi_pa.physmap.physmap.Physmap): look up, walk, change protections, read the log.

        Where the design protects nothing, the restricted tree is empty and stays so.
        """
        return self.machine.physmap

    @property
    def allocations(self):
        """Requests made so far, failed ones and replayed ones included."""
        return self.allocated + (0 if self.run is None else self.run.allocations)

    @property
    def frees(self):
        """Allocations given back by calls of this object (a replay counts its own)."""
        return self.freed

    # ------------------------------------------------------------ single calls

    # A plain method descriptor: the interpreter calls it directly.  The first line of its docstring is where
    # inspect and help() find the signature of one.
    @cython.critical_section
    @cython.binding(False)
    @cython.embedsignature(False)
    def alloc_pages(self, order, gfp=GFP_KERNEL, *, cpu=0):
        """alloc_pages($self, order, gfp=3264, *, cpu=0)\n--\n\n\
        Allocates 2**order contiguous pages, naturally aligned; returns the pfn of the first.

        Parameters
        ----------
        order : int
            0 to the machine's max_page_order.
        gfp : int or str
            Request word: the kernel's gfp bits and ``__GFP_SENSITIVE`` (``asi_pa.kernel.gfp``), by default
            GFP_KERNEL; or its names, ``"GFP_KERNEL|__GFP_ZERO"``.
        cpu : int
            The CPU that asks: its per-CPU lists, its node's zonelist.

        Raises OutOfMemoryError when the zones have nothing for it: who may block has drained all pcp lists
        and used up the HIGHATOMIC reserve by then, nothing is reclaimed or compacted.  ValueError for an
        impossible order, gfp or cpu.  MemoryError, here and from every later call, when the process has no
        memory for a longer per-CPU list; nothing is allocated then.  Source: __alloc_pages(),
        mm/page_alloc.c, Linux 7.2.
        """
        cdef int64_t o = number(order), c = number(cpu), pfn
        cdef const request_t *rq
        if (<uint64_t>o > <uint64_t>self.mm.zones[0].max_order or <uint64_t>c >= <uint64_t>self.mm.ncpus
                or self.running):
            self._refuse(order, cpu)
        rq = request(self, gfp, <int>c)
        pfn = design_alloc(self.mm, <int>c, <int>o, rq)
        self.allocated += 1
        if pfn < 0:
            self._failed(<int>c, <int>o, rq)
        if self.machine.watched:
            self._look(pfn, <int>c, <int>o)
        after_operation(self.mm, &self.clock, <int>c)
        return pfn

    @cython.critical_section
    @cython.binding(False)
    @cython.embedsignature(False)
    def free_pages(self, pfn, order=0, *, cpu=0):
        """free_pages($self, pfn, order=0, *, cpu=0)\n--\n\n\
        Gives back 2**order pages that ``alloc_pages`` returned, on the lists of ``cpu``.

        ValueError, and nothing changed, for a double free, a pfn that was never allocated or is out of range,
        another order than it was allocated with.  MemoryError as for ``alloc_pages``; the pages are free
        then.  Source: __free_pages(), mm/page_alloc.c, Linux 7.2.
        """
        cdef int64_t o = number(order), c = number(cpu), p = number(pfn)
        cdef zone_t *z
        cdef uint32_t frame
        if (<uint64_t>o > <uint64_t>self.mm.zones[0].max_order or <uint64_t>c >= <uint64_t>self.mm.ncpus
                or self.running):
            self._refuse(order, cpu)
        z = zone_of(self.mm, <uint64_t>p)
        if z == NULL:
            raise ValueError(f"free of pfn {pfn}, order {order}: it is in no zone")
        frame = <uint32_t>(<uint64_t>p - z.base_pfn)
        if z.state[frame] != <uint8_t>(ALLOC | o):
            raise ValueError(f"free of pfn {pfn}, order {order}: {describe_frame(z, frame)}")
        design_free(self.mm, z, <int>c, frame, <int>o)
        self.freed += 1
        if self.machine.watched:
            self.machine._afterwards()
        after_operation(self.mm, &self.clock, <int>c)

    cdef int _look(self, int64_t pfn, int cpu, int order) except -1:
        # What nobody will get is given back.
        cdef zone_t *z = zone_of(self.mm, <uint64_t>pfn)
        try:
            self.machine._afterwards()
        except MemoryError:
            design_free(self.mm, z, cpu, <uint32_t>(<uint64_t>pfn - z.base_pfn), order)
            raise
        return 0

    cdef int _failed(self, int cpu, int order, const request_t *rq) except -1:
        cause = self._cause(cpu, order, rq)
        if self.machine.watched:
            self.machine._afterwards()
        after_operation(self.mm, &self.clock, cpu)
        raise OutOfMemoryError(order, rq.gfp, cause)

    cdef str _cause(self, int cpu, int order, const request_t *rq):
        # the counter that count_failure() moves is the cause
        before = failures(self.mm)
        count_failure(self.mm, cpu, order, rq)
        for key, count in failures(self.mm).items():
            if count != before[key]:
                return key
        return "no_memory"

    # ------------------------------------------------------------ contiguous ranges, isolation

    def alloc_contig_range(self, start, end, gfp=GFP_KERNEL, *, cma=False):
        """Allocates exactly the frames [start, end) of one zone, whatever free blocks they lie in.

        They become allocations of order 0, to be given back by ``free_contig_range``.  Nothing migrates here:
        RangeBusyError, and every pageblock of the type it was, if a frame is in use.  A design that solves
        the RFC's fifth TODO flips pageblocks to the side that ``gfp`` asks for.  cma: as cma_alloc() does,
        which may take CMA memory.  Source: alloc_contig_range(), mm/page_alloc.c, Linux 7.2.
        """
        zone = self._zone_with(start, end)
        if isinstance(gfp, str):
            gfp = parse_gfp(gfp)
        if self.machine.alloc_contig_range(start, end, cma, gfp, zone) != 0:
            raise RangeBusyError(start, end, *self._first_in_use(start, end))

    def free_contig_range(self, start, n, *, cpu=0):
        """Gives back n frames from ``alloc_contig_range``; ValueError, and nothing changed, if one is not."""
        self.machine.free_contig_range(start, n, cpu, self._zone_with(start, start + n))

    def isolate(self, start, end, *, cma=False):
        """start_isolate_page_range(): takes the pageblocks of [start, end) out of the allocator's hands.

        RangeBusyError, and everything as it was, if a page in them cannot move.  cma: for a CMA allocation.
        """
        zone = self._zone_with(start, end)
        if self.machine.isolate(start, end, 1 if cma else 2, zone) != 0:
            raise RangeBusyError(start, end, *self._first_in_use(start, end))

    def unisolate(self, start, end):
        """undo_isolate_page_range(): the pageblocks of [start, end) get their types back."""
        self.machine.unisolate(start, end, self._zone_with(start, end))

    def _zone_with(self, start, end):
        self._idle()
        for i, zone in enumerate(self.machine.spec.zones):
            if zone.start_pfn <= start < end <= zone.end_pfn:
                return i
        raise ValueError(f"pfns [{start}, {end}) are not a range of one zone")

    def _first_in_use(self, uint64_t start, uint64_t end):
        cdef zone_t *z = zone_of(self.mm, start)
        cdef uint64_t pfn
        cdef uint32_t head
        cdef int kind
        for pfn in range(start, end):
            head = head_of(z, <uint32_t>(pfn - z.base_pfn))
            kind = z.state[head] & KIND_MASK
            if kind != FREE and kind != PCP:
                return pfn, describe_frame(z, head)
        return start, "a pageblock of the range cannot be isolated"

    # ------------------------------------------------------------ memory hotplug

    def memory_blocks(self):
        """list of MemoryBlock (start_pfn, pages, nid, zone, state, removable), ascending."""
        return self.blocks.blocks()

    def add_memory(self, start, n):
        """Plugs in n pages from pfn ``start``, whole memory blocks of the room for hotplug; they are offline.

        The physmap gets them: present in the unrestricted tree, prepared and absent in the restricted one.
        ValueError, and nothing changed, for a range that is no room or is there already.
        """
        self._idle()
        self.blocks.add(start, n)

    def online_pages(self, start, n):
        """Hands offline memory blocks to the zone that spans them: free, at the tails of the Movable lists.

        Watermarks, reserves, per-CPU limits and zonelists are computed again.
        """
        self._idle()
        self.blocks.online(start, n)
        memset(self.cached, 0, sizeof(self.cached))

    def offline_pages(self, start, n):
        """Takes memory blocks away from their zone; limits are computed again.

        RangeBusyError, and nothing changed, while a page is in use (a kernel would first try to migrate it,
        and has emptied the per-CPU lists by the time it gives up).  ValueError for blocks with holes, or that
        are not online.
        """
        self._idle()
        busy = self.blocks.offline_pages(start, n)
        if busy is not None:
            raise RangeBusyError(start, start + n, *busy)
        memset(self.cached, 0, sizeof(self.cached))

    def remove_memory(self, start, n):
        """Unplugs offline memory blocks: they leave both trees of the physmap."""
        self._idle()
        self.blocks.remove(start, n)

    # ------------------------------------------------------------ page protection

    def set_memory_ro(self, pfn, n):
        """Clears RW and DIRTY of n pages in the unrestricted tree; the restricted one follows."""
        self.machine.physmap.set_memory_ro(pfn, n)

    def set_memory_rox(self, pfn, n):
        """Clears RW, DIRTY and NX; from 6.15 on leaves that became uniform are large again."""
        self.machine.physmap.set_memory_rox(pfn, n)

    def set_memory_rw(self, pfn, n):
        """Sets RW again."""
        self.machine.physmap.set_memory_rw(pfn, n)

    def set_memory_nx(self, pfn, n):
        """Sets NX."""
        self.machine.physmap.set_memory_nx(pfn, n)

    def set_memory_x(self, pfn, n):
        """Clears NX."""
        self.machine.physmap.set_memory_x(pfn, n)

    # ------------------------------------------------------------ time passes

    def drain(self, cpu=None):
        """Empties the per-CPU lists of one CPU (drain_local_pages), or of all (drain_all_pages)."""
        self._idle()
        for c in range(self.mm.ncpus) if cpu is None else (cpu,):
            for zone in range(self.mm.nzones):
                self.machine.drain(c, zone)

    def tick(self):
        """A second passes: vmstat's workers fold counters' differences and let lists decay, kswapd runs."""
        self._idle()
        for zone in range(self.mm.nzones):
            for c in range(self.mm.ncpus):
                self.machine.refresh_vm_stats(c, zone)
        self.machine.run_kswapd()
        if self.machine.watched:
            self.machine._afterwards()
        after_operation(self.mm, &self.clock, 0)

    def replay(self, start=None, end=None):
        """Runs the operations [start, end) of the trace this allocator was made from; returns how many.

        By default all that have not run.  An operation that needs what an earlier failed one would have
        allocated is skipped.  ValueError without a trace, or if pages of the trace were freed by other calls;
        RuntimeError while another thread's replay or bulk call runs.
        """
        with cython.critical_section(self):
            self._idle()
            self.running = 1
        try:
            if self.run is None:
                raise ValueError("this allocator has no trace: use Allocator.from_trace")
            first = self.run.done if start is None else start
            last = len(self.trace.ops) if end is None else end
            if not 0 <= first <= last <= len(self.trace.ops):
                raise ValueError(f"operations [{first}, {last}) are not in 0..{len(self.trace.ops)}")
            self.run.run(self.trace.ops, first, last)
        finally:
            self.running = 0
        return last - first

    def verify(self):
        """Walks everything; None, or the first broken invariant in words."""
        self._idle()
        return self.machine.verify() or self.machine.physmap.check()

    def moved(self):
        """int64 (n, 2): pfns before and after, of pages that moved since the last call.

        Of a design that empties pageblocks before they flip (``flip_used="move"``): what ``alloc_pages``
        returned as the first pfn of a row is the second from then on, and is freed by it.  Rows are in order:
        a page may move more than once.
        ``statistics().moved_to_flip`` counts the pages, those of a trace included.
        """
        return self.machine.moved()

    # ------------------------------------------------------------ looking

    def statistics(self):
        """The counters now: a frozen Statistics (asi_pa.allocator.statistics)."""
        return observe.statistics(self)

    def buddyinfo(self):
        """The text of /proc/buddyinfo."""
        return observe.buddyinfo(self)

    def pagetypeinfo(self):
        """The text of /proc/pagetypeinfo, with the design's freetypes as types."""
        return observe.pagetypeinfo(self)

    def zoneinfo(self):
        """The text of /proc/zoneinfo, with those counters that are modelled."""
        return observe.zoneinfo(self)

    def extfrag_index(self, zone=None):
        """Fragmentation index x 1000 by order: tuple of max_page_order + 1 ints (asi_pa.kernel.indexes).

        zone: number or name; the one with most memory if not given.
        """
        return observe.index(self, self._zone_number(zone), False)

    def unusable_index(self, zone=None):
        """Unusable free space index x 1000 by order: max_page_order + 1 ints (asi_pa.kernel.indexes)."""
        return observe.index(self, self._zone_number(zone), True)

    def free_lists(self, int zone=0):
        """Free blocks: uint32 (max_page_order + 1, freetypes)."""
        cdef zone_t *z = self.machine._zone(zone)
        cdef int order, ft, types = self.mm.design.nft
        out = np.empty((z.max_order + 1, types), np.uint32)
        cdef uint32_t[:, ::1] view = out
        for order in range(z.max_order + 1):
            for ft in range(types):
                view[order, ft] = blocks_on(z, order, ft)
        return out

    def pageblocks(self, int zone=0):
        """The freetype of every pageblock of a zone, holes included: uint8 (pageblocks,), from its start."""
        cdef zone_t *z = self.machine._zone(zone)
        return np.asarray(<uint8_t[:z.nblocks]>z.pbtype)[z.first_block:].copy()

    def zone_state(self, int zone=0):
        """A zone's counters in pages: dict of present, managed, cma, nr_free_pages, nr_free_cma, boost, ...

        nr_* are the kernel's lagging counters (zone_page_state), pcp and pool what those lists hold.
        """
        cdef zone_t *z = self.machine._zone(zone)
        cdef int64_t pcp = 0, pool = 0
        cdef int i
        for i in range(z.ncpus):
            pcp += z.pcps[i].count if z.pcps != NULL else 0
        for i in range(z.max_order + 1):
            pool += <int64_t>blocks_on(z, i, POOL_LIST) << i
        return {
            "present": z.present,
            "managed": z.managed,
            "cma": z.cma_pages,
            "nr_free_pages": max(0, z.nr_free),
            "nr_free_cma": max(0, z.nr_free_cma),
            "nr_reserved_highatomic": z.nr_reserved_highatomic,
            "nr_free_highatomic": z.nr_free_highatomic,
            "boost": z.boost,
            "pcp": pcp,
            "pool": pool,
        }

    def pcp_state(self, int zone=0, int cpu=0):
        """A CPU's lists as in zoneinfo: count, high, batch, high_min, high_max (pages), stat_threshold."""
        cdef zone_t *z = self.machine._zone(zone)
        self.machine._check_cpu(cpu)
        if z.pcps == NULL:
            # boot_pageset (BOOT_PAGESET_HIGH, BOOT_PAGESET_BATCH)
            return {"count": 0, "high": 0, "batch": 1, "high_min": 0, "high_max": 0,
                    "stat_threshold": z.stat_threshold}
        return {"count": z.pcps[cpu].count, "high": z.pcps[cpu].high, "batch": z.pcps[cpu].batch,
                "high_min": z.pcps[cpu].high_min, "high_max": z.pcps[cpu].high_max,
                "stat_threshold": z.stat_threshold}

    def _zone_number(self, zone):
        zones = self.machine.spec.zones
        if zone is None:
            return max(range(len(zones)), key=lambda i: self.zone_state(i)["managed"])
        if isinstance(zone, str):
            found = [i for i, spec in enumerate(zones) if spec.name == zone]
            if len(found) != 1:
                names = ", ".join(f"{i}: node {spec.nid} {spec.name}" for i, spec in enumerate(zones))
                raise ValueError(f"zone {zone!r}: {len(found)} zones have that name, zones are {names}")
            return found[0]
        return zone


cdef dict failures(mm_t *mm):
    counts = dict(mm.stats)
    return {key: counts[cause.counter] for key, cause in CAUSES.items()}
