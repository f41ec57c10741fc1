"""The twin's machine: zones, CPUs and the engine's interface."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from asi_pa.designs import Design, as_design
from asi_pa.kernel.gfp import Migratetype
from asi_pa.kernel.numa import cpu_nodes, fallback_order
from asi_pa.kernel.spec import MachineSpec
from asi_pa.kernel.versions import DEFAULT_KERNEL, Kernel, kernel_profile

from . import buddy, isolation, mapping, page_alloc, pcp
from .compaction import Compactor
from .dump import dump_zone
from .fallback import unreserve_highatomic
from .flip import balance_ahead, clear_ahead
from .isolation import IsolateMode
from .kswapd import Kswapds
from .mapping import Window
from .page_alloc import Zonelist
from .request import Request, decode
from .stats import Stats
from .tables import ALLOC_NOFRAGMENT, EBUSY, Tables
from .verify import verify_zone
from .wrappers import Pool, Queue, wrap
from .zone import Allocation, Zone

__all__ = ["Machine", "zonelists"]

Found = tuple[Zone, int] | None


class Machine:
    """The page allocator of ``spec``, in plain Python: slow, and written for reading.

    It answers exactly as the engine does.  Frame numbers are absolute.  Every refused call raises
    ValueError, which names the bad value, and changes nothing.
    """

    def __init__(
        self, spec: MachineSpec, design: Design | str = "linux", kernel: Kernel | str = DEFAULT_KERNEL
    ) -> None:
        self.spec = spec
        self.tables = Tables(as_design(design), spec.pageblock_order)
        self.kernel = kernel_profile(kernel)
        self.counts = Stats()
        self.zones = [Zone(zone, spec, self.kernel, self.tables, self.counts) for zone in spec.zones]
        for zone in self.zones:
            _boot(zone)
        self.kswapds = Kswapds(self.zones, self.counts, page_alloc.watermark_ok)
        self.zonelists = zonelists(spec, self.zones, self.kswapds)
        self.nodes = cpu_nodes(spec)
        self.numa_counts: dict[int, Counter[str]] = defaultdict(Counter)
        self.cpu = 0
        #: What a request that may block does when all else failed; None: it fails, too.
        self.relief: Callable[[int, Request, Callable[[int], Found], int, int], Found] | None = None
        #: Pages that no page table has: what remove_memory() took away.
        self.absent: set[int] = set()
        self.compactor = Compactor(self)
        for each in self.zones:
            each.tell = self.compactor.owners.moved
        self.wrapper = wrap(self.tables, self.counts, self.zones, self._alloc, self._give_back)
        if isinstance(self.wrapper, Pool):
            self.wrapper.machine = self

    # Requests

    def alloc(self, order: int, gfp: int, cpu: int = 0) -> int:
        """The first pfn of 2^order pages, or -1."""
        self._check_order(order)
        found = self.request(order, decode(self.tables, gfp), cpu)
        self.look_ahead()
        return found[1] if found else -1

    def request(self, order: int, request: Request, cpu: int) -> tuple[Zone, int] | None:
        """What a request gets; a failure is counted."""
        self.on_cpu(cpu)
        found = self.wrapper.alloc(order, request) if self.wrapper else self._alloc(order, request)
        if found is None:
            page_alloc.count_failure(self.zonelists[self.nodes[cpu]], order, request, self.spec)
        else:
            self._zone_statistics(found[0].spec.nid, request, cpu)
        return found

    def _zone_statistics(self, nid: int, request: Request, cpu: int) -> None:
        """zone_statistics (mm/page_alloc.c, 7.2), of machines of several nodes."""
        here = self.nodes[cpu]
        preferred = self.zonelists[here].preferred(request).spec.nid
        counts = [(nid, "hit")] if nid == preferred else [(nid, "miss"), (preferred, "foreign")]
        for node, what in (*counts, (nid, "local" if nid == here else "other")):
            self.numa_counts[node][f"numa_{what}"] += 1

    def flips(self) -> list[dict[str, int]]:
        """By zone, in pageblocks."""
        return [{name: zone.flips[name] for name in ("flips_s2n", "flips_n2s")} for zone in self.zones]

    def numa(self) -> list[dict[str, int]]:
        """By node; empty where there is one."""
        names = ("numa_hit", "numa_miss", "numa_foreign", "numa_local", "numa_other")
        nids = sorted({zone.nid for zone in self.spec.zones})
        return [{name: self.numa_counts[nid][name] for name in names} for nid in nids if len(nids) > 1]

    def look_ahead(self) -> None:
        """The workers, where they were woken."""
        if isinstance(self.wrapper, Pool):
            self.wrapper.balance()
            return
        for zone in self.zones:
            if zone.stock_due or zone.back_due:
                self.on_cpu(0)
                balance_ahead(zone)

    def _alloc(self, order: int, request: Request) -> tuple[Zone, int] | None:
        """The allocator itself, without a wrapper."""
        cpu, relief = self.cpu, self.relief
        return page_alloc.alloc_pages(
            self.zonelists[self.nodes[cpu]],
            order,
            request,
            self.spec,
            relief and (lambda attempt, flags: relief(order, request, attempt, cpu, flags)),
        )

    def free(self, pfn: int, order: int, cpu: int = 0) -> None:
        """Give back what alloc() returned."""
        self._check_order(order)
        zone = self.zone_of(pfn)
        used = zone.allocated.get(pfn)
        if used is None:
            raise ValueError(f"pfn {pfn} is not the start of an allocation")
        if used.order != order:
            raise ValueError(f"pfn {pfn} was allocated with order {used.order}, not {order}")
        self.on_cpu(cpu)
        self.release(zone, pfn, order)
        self.look_ahead()

    def release(self, zone: Zone, pfn: int, order: int) -> None:
        """free() of what is known to be an allocation, on the CPU that the zone is used from."""
        if self.wrapper:
            self.wrapper.free(zone, pfn, order)
        else:
            self._give_back(zone, pfn, order)

    def _give_back(self, zone: Zone, pfn: int, order: int) -> None:
        """__free_frozen_pages (mm/page_alloc.c, 7.2)."""
        zone.give_back(pfn, order)
        if not pcp.free(zone, pfn, order):
            buddy.free_split(zone, pfn, order)

    # Compaction

    def give_back(self, zone: Zone, pfn: int, order: int) -> None:
        """An ordinary free, without a wrapper."""
        self._give_back(zone, pfn, order)

    def settle(self, zone: Zone, used: Allocation, target: int) -> None:
        """Migration brought an allocation to another frame."""
        zone.allocated[target] = used
        if zone.tables.tracks:
            mapping.handed_out(zone, target, used.order, used.sensitive)
        elif used.sensitive and (self.wrapper is None or self.wrapper.remapped_present):
            zone.set_dirty(target, 1 << used.order, True)

    def compact(self, order: int, gfp: int, priority: int, cpu: int = 0) -> int:
        """try_to_compact_pages: the result."""
        self.on_cpu(cpu)
        request = decode(self.tables, gfp)
        flags = page_alloc.slow_flags(self.zonelists[self.nodes[cpu]], order, request, self.spec)
        zones = self.zonelists[self.nodes[cpu]].usable(request)
        result, _, _ = self.compactor.try_zones(zones, order, request, flags, priority, None)
        self.compactor.lru.drain()
        return result

    def direct_compact(
        self, order: int, request: Request, flags: int, priority: int, attempt: Callable[[], Found]
    ) -> tuple[int, Found]:
        """__alloc_pages_direct_compact: (result, what it got); the batch is not drained."""
        zones = self.zonelists[self.nodes[self.cpu]].usable(request)
        wanted = self.compaction_order(order, request, flags)
        return self.compactor.direct(zones, order, wanted, request, flags, priority, attempt)

    def compaction_order(self, order: int, request: Request, flags: int) -> int:
        """Which order compaction is asked for: as posted the request's, 0 meaning none (flip starvation)."""
        tables, big = self.tables, self.spec.pageblock_order
        how = tables.design.compaction
        if order > big:
            return order
        asks = how == "both" or (how == "unmapped" and not tables.mapped[request.freetype])
        if tables.design.flips != "none" and asks:
            return big
        promotes = self.kernel.defrag_mode_retry and flags & ALLOC_NOFRAGMENT
        if promotes and request.migratetype is not Migratetype.MOVABLE:
            return big
        return order

    def compact_and_alloc(self, order: int, gfp: int, priority: int, cpu: int = 0) -> tuple[int, int]:
        """(result, pfn or -1) of one direct compaction, as recorded."""
        self.on_cpu(cpu)
        request = decode(self.tables, gfp)
        zonelist = self.zonelists[self.nodes[cpu]]
        flags = page_alloc.slow_flags(zonelist, order, request, self.spec)
        result, found = self.direct_compact(
            order,
            request,
            flags,
            priority,
            lambda: page_alloc.get_page_from_freelist(zonelist, order, request, flags, self.spec),
        )
        self.compactor.lru.drain()
        return result, found[1] if found else -1

    def compact_node(self, nid: int, proactive: bool, cpu: int = 0) -> None:
        """compact_node."""
        self.on_cpu(cpu)
        self.compactor.node(nid, proactive=proactive)
        self.compactor.lru.drain()

    def kcompactd(self, nid: int, order: int, highest: int, cpu: int = 0) -> None:
        """kcompactd_do_work."""
        self.on_cpu(cpu)
        self.compactor.kcompactd(nid, order, highest)
        self.compactor.lru.drain()

    def reset_skip_bits(self, zone: int = 0) -> None:
        """reset_isolation_suitable."""
        target = self._zone(zone)
        target.compact.reset(target)

    # Per-CPU lists

    def drain(self, cpu: int = 0, zone: int = 0) -> None:
        """drain_local_pages: empty one CPU's lists of one zone."""
        self.on_cpu(cpu)
        pcp.drain(self._zone(zone), cpu)
        self.look_ahead()

    def tick(self, cpu: int = 0, zone: int = 0) -> int:
        """decay_pcp_high: 1 if there was anything to do, -1 where there are no per-CPU lists."""
        more = self._tick(cpu, zone)
        if more >= 0:
            self.look_ahead()
        return more

    def _tick(self, cpu: int, zone: int) -> int:
        target = self._zone(zone)
        self.on_cpu(cpu)
        return int(pcp.tick(target)) if target.pcp[cpu].enabled else -1

    def refresh_vm_stats(self, cpu: int = 0, zone: int = 0) -> None:
        """refresh_cpu_vm_stats (mm/vmstat.c, 7.2): once a second, folding and decay."""
        target = self._zone(zone)
        counters = (target.nr_free_pages, target.nr_free_cma)
        if any(counter.diff[cpu] for counter in counters):
            target.pcp[cpu].expire = 3
        for counter in counters:
            counter.fold(cpu)
        target.back_due |= self.tables.gives_back == "timer"
        self.on_cpu(cpu)
        if self.tables.design.zeroed_by == "worker":
            clear_ahead(target)
        if self._tick(cpu, zone) >= 0:
            pcp.expire(target, remote=target.spec.nid != self.nodes[cpu])

    # Pageblocks

    def isolate(self, start: int, end: int, mode: int) -> int:
        """start_isolate_page_range: 0 or -errno.  ``mode``: 1 CMA_ALLOC, 2 OTHER.

        Kernels before 6.17 forget the blocks' types: they come back as CMA or MOVABLE, by the mode.
        """
        zone = self._range(start, end)
        self.on_cpu(0)
        result = isolation.start_isolate_page_range(zone, start, end, IsolateMode(mode))
        self.look_ahead()
        return result

    def unisolate(self, start: int, end: int) -> None:
        """undo_isolate_page_range."""
        zone = self._range(start, end)
        self.on_cpu(0)
        isolation.undo_isolate_page_range(zone, start, end)
        self.look_ahead()

    def alloc_contig_range(self, start: int, end: int, cma: bool, gfp: int = 0) -> int:
        """Take [start, end) as single pages; 0 or -errno.  ``gfp`` says on which side they must be."""
        zone = self._range(start, end)
        request = decode(self.tables, gfp)
        self.on_cpu(0)
        mode = IsolateMode.CMA_ALLOC if cma else IsolateMode.OTHER
        result = self.take_range(zone, start, end, mode, request)
        if result == 0 and self.wrapper:
            self.wrapper.contiguous(zone, start, end, request)
        self.look_ahead()
        return result

    def take_range(self, zone: Zone, start: int, end: int, mode: IsolateMode, request: Request) -> int:
        """alloc_contig_range, whatever wraps the allocator."""
        result = isolation.start_isolate_page_range(zone, start, end, mode)
        if result:
            # The kernel undoes the whole range, what others had isolated there included (6.12 and 7.2).
            if self.tables.design.undoes_others_isolation:
                isolation.undo_isolate_page_range(zone, start, end)
            return result
        zone.lock_dropped(Window.CONTIG, start, 0)
        for cpu in range(self.spec.cpus):
            pcp.drain(zone, cpu)  # drain_all_pages: by the caller, whose counters lag
        outer = isolation.alloc_contig_range(zone, start, end, request)
        if outer is not None:
            self._free_contig(zone, outer[0], start - outer[0])
            self._free_contig(zone, end, outer[1] - end)
        isolation.undo_isolate_page_range(zone, start, end)
        return 0 if outer else -EBUSY

    def free_contig_range(self, start: int, n: int, cpu: int = 0) -> None:
        """Give back single pages, such as alloc_contig_range() takes."""
        zone = self._range(start, start + n)
        for pfn in range(start, start + n):
            used = zone.allocated.get(pfn)
            if used is None or used.order:
                raise ValueError(f"pfn {pfn} is not a page of a contiguous range")
        self.on_cpu(cpu)
        if self.wrapper:
            for pfn in range(start, start + n):
                self.wrapper.free(zone, pfn, 0)
        else:
            self._free_contig(zone, start, n)
        self.look_ahead()

    def _free_contig(self, zone: Zone, start: int, n: int) -> None:
        """free_contig_range (mm/page_alloc.c): 6.12 page by page, 7.2 in aligned chunks."""
        largest = 0 if self.kernel.free_contig_by_page else zone.max_page_order
        for pfn, order in buddy.chunks(start, start + n, largest):
            head = zone.allocated[pfn]
            for page in range(pfn, pfn + (1 << order)):
                del zone.allocated[page]
            zone.allocated[pfn] = replace(head, order=order)
            self._give_back(zone, pfn, order)

    def shrink_pool(self, pages: int, cpu: int = 0) -> int:
        """One call of the pool's shrinker; pages given back."""
        self.on_cpu(cpu)
        return self.wrapper.shrink(pages) if isinstance(self.wrapper, Pool) else 0

    def run_queue(self, cpu: int = 0) -> None:
        """The free queue's worker runs now."""
        self.on_cpu(cpu)
        if isinstance(self.wrapper, Queue):
            self.wrapper.work()

    def unreserve_highatomic(self, freetype: int, force: bool, zone: int = 0, cpu: int = 0) -> int:
        """unreserve_highatomic_pageblock in one zone: 1 if a block was turned to ``freetype``."""
        self._check_freetype(freetype)
        self.on_cpu(cpu)
        done = int(unreserve_highatomic(self._zone(zone), freetype, force))
        self.look_ahead()
        return done

    def take_and_putback(self, freetype: int, min_order: int) -> int:
        """Take a free block out and put it back, as page reporting does; its pfn or -1.

        __isolate_free_page and __putback_isolated_page (mm/page_alloc.c, 7.2).
        """
        self._check_order(min_order)
        self._check_freetype(freetype)
        self.on_cpu(0)
        taken = self._take_and_putback(freetype, min_order)
        self.look_ahead()
        return taken

    def _take_and_putback(self, freetype: int, min_order: int) -> int:
        zone = self.zones[0]
        for order in range(min_order, zone.max_page_order + 1):
            pfn = zone.head(order, freetype)
            if pfn is not None:
                break
        else:
            return -1
        if not isolation.isolate_free_page(zone, pfn, order):
            return -1
        zone.lock_dropped(Window.REPORTED, pfn, order)
        # Sound designs put back pageblock by pageblock: another CPU may have isolated one meanwhile.
        piece = min(order, zone.pageblock_order) if self.tables.design.putback_by_block else order
        for start in range(pfn, pfn + (1 << order), 1 << piece):
            buddy.free_one(zone, start, piece, zone.type_of(start), to_tail=True)
        return pfn

    def moved(self) -> list[list[int]]:
        """(before, after) of allocations that moved out of blocks that were to flip, since the last call."""
        found = [pair for zone in self.zones for pair in zone.moved]
        for zone in self.zones:
            zone.moved = []
        return found

    def at_window(self, callback: Callable[[int, int, int], None] | None) -> None:
        """Call back where a step drops the zone lock, as another CPU would act: callback(at, pfn, order)."""

        def window(at: int, pfn: int, order: int) -> None:
            cpu = self.cpu
            assert callback is not None
            callback(at, pfn, order)
            self.on_cpu(cpu)

        for zone in self.zones:
            zone.window = callback and window

    # State

    def restore(
        self,
        zone: int,
        below_high: bool,
        boost: int,
        pcp_fields: Sequence[tuple[int, int, int, int]] = (),
    ) -> None:
        """Set what a recorded machine had before its first operation and boot does not determine.

        ``pcp_fields``: per CPU (high, flags, alloc_factor, free_count).
        """
        target = self._zone(zone)
        target.below_high = below_high
        target.watermark_boost = boost
        for pages, (high, flags, alloc_factor, free_count) in zip(target.pcp, pcp_fields, strict=False):
            pages.high = high
            pages.prev_free_high_order = bool(flags & 1)
            pages.free_high_batch = bool(flags & 2)
            pages.alloc_factor = alloc_factor
            pages.free_count = free_count

    def restore_compaction(self, zone: int, words: Sequence[int], skip: Sequence[int]) -> None:
        """Set what compaction keeps between runs, as a dump has it."""
        target = self._zone(zone)
        state, start = target.compact, target.spec.start_pfn
        positions = [-1 if word < 0 else word + start for word in words[:5]]
        state.cached_free, *state.cached_migrate, state.init_migrate, state.init_free = positions
        state.considered, state.shift, state.order_failed = words[5:8]
        state.flush = bool(words[8])
        state.skip = [bool(bit) for bit in skip]

    def dump(self, zone: int = 0, compaction: bool = False) -> npt.NDArray[np.int32]:
        """The recorded dump format, from the counters on."""
        remapped = self.wrapper.remapped if self.wrapper else None
        return dump_zone(self._zone(zone), zone, remapped, compaction=compaction)

    def verify(self) -> str | None:
        """The first broken invariant in words, or None."""
        for zone in self.zones:
            broken = verify_zone(zone)
            if broken:
                return f"zone {zone.spec.name}: {broken}"
        return None

    def stats(self) -> Counter[str]:
        """The counts by the engine's names; what is missing is 0."""
        return self.counts.counts()

    def log_events(self) -> None:
        """Start the log that events() shows."""
        for zone in self.zones:
            zone.events = zone.events or []

    def events(self, zone: int = 0) -> npt.NDArray[np.int32]:
        """Changes of pageblocks' types and mapping, in the recorded rows' shape; int32 (n, 5)."""
        rows = [[value & 0xFFFFFFFF for value in row] for row in self._zone(zone).events or []]
        return np.array(rows, dtype=np.uint32).reshape(-1, 5).view(np.int32)

    def is_present(self, pfn: int) -> bool:
        """Is the page in the tree that the design protects?"""
        if pfn in self.absent:
            return False
        return self.wrapper.is_present(pfn) if self.wrapper else self.zone_of(pfn).is_mapped(pfn)

    def counters(self, cpu: int = 0, zone: int = 0) -> tuple[int, int, int]:
        """(pcp count, pcp high, NR_FREE_PAGES) of a zone."""
        target = self._zone(zone)
        return target.pcp[cpu].count, target.pcp[cpu].high, target.nr_free_pages.read()

    # Arguments

    def on_cpu(self, cpu: int) -> None:
        """What follows happens on this CPU."""
        if not 0 <= cpu < self.spec.cpus:
            raise ValueError(f"cpu {cpu} is not one of {self.spec.cpus}")
        self.cpu = cpu
        for zone in self.zones:
            zone.this_cpu = cpu

    def _check_order(self, order: int) -> None:
        if not 0 <= order <= self.spec.max_page_order:
            raise ValueError(f"order {order} is not in 0..{self.spec.max_page_order}")

    def _check_freetype(self, freetype: int) -> None:
        if not 0 <= freetype < self.tables.count:
            raise ValueError(f"freetype {freetype} is not one of the design's {self.tables.count}")

    def _zone(self, position: int) -> Zone:
        if not 0 <= position < len(self.zones):
            raise ValueError(f"zone {position} is not one of {len(self.zones)}")
        return self.zones[position]

    def zone_of(self, pfn: int) -> Zone:
        """The zone that spans a frame."""
        for zone in self.zones:
            if zone.spans(pfn):
                return zone
        raise ValueError(f"pfn {pfn} is in no zone")

    def _range(self, start: int, end: int) -> Zone:
        zone = self.zone_of(start)
        if not start < end <= zone.spec.end_pfn:
            raise ValueError(f"pfn range {start}..{end} is empty or leaves its zone")
        return zone


def _boot(zone: Zone) -> None:
    """Hand the memory over as boot does: ordinary memory to the tails, then CMA pageblocks.

    mm/mm_init.c deferred or memblock release (FPI_TO_TAIL), then init_cma_reserved_pageblock, whose
    blocks pass the per-CPU lists and so reach the heads, one pageblock at a time (7.2).
    """
    threshold, zone.nr_free_pages.threshold = zone.nr_free_pages.threshold, 0
    barriers = sorted([*zone.spec.holes, *zone.spec.cma, (zone.spec.end_pfn, zone.spec.end_pfn)])
    at = zone.spec.start_pfn
    for start, end in barriers:
        buddy.hand_over(zone, at, start, zone.max_page_order, to_tail=True)
        at = end
    for start, end in sorted(zone.spec.cma):
        for block in range(start, end, zone.pageblock_nr_pages):
            cma = zone.tables.sibling(Migratetype.CMA, zone.tables.boot)
            assert cma is not None
            zone.set_base_type(block, cma)
            buddy.free_one(zone, block, zone.pageblock_order, zone.type_of(block))
    zone.nr_free_pages.threshold = threshold


def zonelists(spec: MachineSpec, zones: list[Zone], kswapds: Kswapds) -> dict[int, Zonelist]:
    """build_zonelists (mm/page_alloc.c, 7.2): a node's populated zones, then other nodes' by distance."""
    fallback = fallback_order(spec)
    found = {}
    for node, order in fallback.items():
        local = [zone for zone in zones if zone.spec.nid == node]
        own = [zone for zone in local if zone.present] or local[:1]
        others = [
            zone for nid in order if nid != node for zone in zones if zone.spec.nid == nid and zone.present
        ]
        # alloc_flags_nofragment: one of several nodes needs a DMA32 zone, too.
        dma32 = any(zone.spec.name == "DMA32" for zone in own)
        nofragment = spec.nofragment if len(fallback) == 1 else dma32
        found[node] = Zonelist((*own, *others), len(own), nofragment, kswapds)
    return found
