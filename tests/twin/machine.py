"""The twin's machine: zones, CPUs and the engine's interface."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from asi_pa.designs import Design, as_design
from asi_pa.gfp import GFP_NAMES, MODEL_LRU, Migratetype, gfp_migratetype, gfp_zone_index
from asi_pa.kernel import DEFAULT_KERNEL, Kernel, kernel_profile
from asi_pa.machine import MachineSpec

from . import buddy, isolation, page_alloc, pcp
from .dump import dump_zone
from .fallback import unreserve_highatomic
from .isolation import IsolateMode
from .tables import ALLOC_CMA, EBUSY, WMARK_MIN, Tables
from .verify import verify_zone
from .zone import Allocation, Zone

__all__ = ["Machine"]

#: Plain Linux, and the postings of which recorded runs exist.
_DESIGNS = ("linux", "migratetype/as-posted", "freetype/as-posted", "freetype/as-posted-flags")
_COMP = GFP_NAMES["__GFP_COMP"]


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
        if self.tables.design.name not in _DESIGNS:
            raise ValueError(f"the twin does not know design {self.tables.design.name!r}")
        self.kernel = kernel_profile(kernel)
        self.zones = [Zone(zone, spec, self.kernel, self.tables) for zone in spec.zones]
        for zone in self.zones:
            _boot(zone)

    # Requests

    def alloc(self, order: int, gfp: int, cpu: int = 0) -> int:
        """The first pfn of 2^order pages, or -1."""
        self._check_order(order)
        gfp_migratetype(gfp)
        self._on(cpu)
        highest = gfp_zone_index(gfp)
        zones = [zone for zone in self.zones if zone.spec.zone_idx <= highest]
        if not zones:
            return -1
        found = page_alloc.alloc_pages(zones, order, gfp, highest, self.spec, self.kernel)
        if found is None:
            return -1
        zone, pfn = found
        lru = bool(gfp & MODEL_LRU)
        compound = bool(gfp & _COMP)
        zone.allocated[pfn] = Allocation(order, compound, lru)
        zone.set_lru(pfn, order if compound else 0, lru)
        return pfn

    def free(self, pfn: int, order: int, cpu: int = 0) -> None:
        """Give back what alloc() returned."""
        self._check_order(order)
        zone = self._zone_of(pfn)
        used = zone.allocated.get(pfn)
        if used is None:
            raise ValueError(f"pfn {pfn} is not the start of an allocation")
        if used.order != order:
            raise ValueError(f"pfn {pfn} was allocated with order {used.order}, not {order}")
        self._on(cpu)
        self._give_back(zone, pfn, order)

    def _give_back(self, zone: Zone, pfn: int, order: int) -> None:
        """__free_frozen_pages (mm/page_alloc.c, 7.2)."""
        del zone.allocated[pfn]
        zone.set_lru(pfn, order, False)
        if not pcp.free(zone, pfn, order):
            buddy.free_split(zone, pfn, order)

    # Per-CPU lists

    def drain(self, cpu: int = 0, zone: int = 0) -> None:
        """drain_local_pages: empty one CPU's lists of one zone."""
        self._on(cpu)
        pcp.drain(self._zone(zone), cpu)

    def tick(self, cpu: int = 0, zone: int = 0) -> int:
        """decay_pcp_high: 1 if there was anything to do, -1 where there are no per-CPU lists."""
        target = self._zone(zone)
        self._on(cpu)
        return int(pcp.tick(target)) if target.pcp[cpu].enabled else -1

    # Pageblocks

    def isolate(self, start: int, end: int, mode: int) -> int:
        """start_isolate_page_range: 0 or -errno.  ``mode``: 1 CMA_ALLOC, 2 OTHER.

        Kernels before 6.17 forget the blocks' types: they come back as CMA or MOVABLE, by the mode.
        """
        zone = self._range(start, end)
        self._on(0)
        return isolation.start_isolate_page_range(zone, start, end, IsolateMode(mode))

    def unisolate(self, start: int, end: int) -> None:
        """undo_isolate_page_range."""
        zone = self._range(start, end)
        self._on(0)
        isolation.undo_isolate_page_range(zone, start, end)

    def alloc_contig_range(self, start: int, end: int, cma: bool, gfp: int = 0) -> int:
        """Take [start, end) as single pages; 0 or -errno.  ``gfp`` would be for migration targets."""
        zone = self._range(start, end)
        self._on(0)
        mode = IsolateMode.CMA_ALLOC if cma else IsolateMode.OTHER
        result = isolation.start_isolate_page_range(zone, start, end, mode)
        if result:
            return result
        for cpu in range(self.spec.cpus):
            pcp.drain(zone, cpu)  # drain_all_pages: by the caller, whose counters lag
        outer = isolation.alloc_contig_range(zone, start, end)
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
        self._on(cpu)
        self._free_contig(zone, start, n)

    def _free_contig(self, zone: Zone, start: int, n: int) -> None:
        """free_contig_range (mm/page_alloc.c): 6.12 page by page, 7.2 in aligned chunks."""
        largest = 0 if self.kernel.free_contig_by_page else zone.max_page_order
        for pfn, order in buddy.chunks(start, start + n, largest):
            for page in range(pfn, pfn + (1 << order)):
                del zone.allocated[page]
            zone.allocated[pfn] = Allocation(order, compound=False, lru=False)
            self._give_back(zone, pfn, order)

    def unreserve_highatomic(self, freetype: int, force: bool, zone: int = 0, cpu: int = 0) -> int:
        """unreserve_highatomic_pageblock in one zone: 1 if a block was turned to ``freetype``."""
        self._check_freetype(freetype)
        self._on(cpu)
        return int(unreserve_highatomic(self._zone(zone), freetype, force))

    def take_and_putback(self, freetype: int, min_order: int) -> int:
        """Take a free block out and put it back, as page reporting does; its pfn or -1.

        __isolate_free_page and __putback_isolated_page (mm/page_alloc.c, 7.2): pageblocks of which
        at least half is taken become MOVABLE.
        """
        self._check_order(min_order)
        self._check_freetype(freetype)
        self._on(0)
        zone = self.zones[0]
        for order in range(min_order, zone.max_page_order + 1):
            pfn = zone.head(order, freetype)
            if pfn is not None:
                break
        else:
            return -1
        if zone.migratetype(freetype) is not Migratetype.ISOLATE:
            mark = zone.spec.wmark[WMARK_MIN] + (1 << order)
            if not page_alloc.watermark_ok(zone, 0, mark, 0, ALLOC_CMA):
                return -1
        zone.delete(pfn, order, freetype)
        if order >= zone.pageblock_order - 1:
            for block in zone.blocks(pfn, order):
                old = zone.type_of(block)
                if self.tables.ordinary(old):
                    buddy.move_block(zone, block, old, self.tables.sibling(Migratetype.MOVABLE, freetype))
        buddy.free_one(zone, pfn, order, zone.type_of(pfn), to_tail=True)
        return pfn

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

    def dump(self, zone: int = 0) -> npt.NDArray[np.int32]:
        """The recorded dump format, from the counters on."""
        return dump_zone(self._zone(zone), zone)

    def verify(self) -> str | None:
        """The first broken invariant in words, or None."""
        for zone in self.zones:
            broken = verify_zone(zone)
            if broken:
                return f"zone {zone.spec.name}: {broken}"
        return None

    def counters(self, cpu: int = 0) -> tuple[int, int, int]:
        """(pcp count, pcp high, NR_FREE_PAGES) of the first zone."""
        zone = self.zones[0]
        return zone.pcp[cpu].count, zone.pcp[cpu].high, zone.nr_free_pages.read()

    # Arguments

    def _on(self, cpu: int) -> None:
        if not 0 <= cpu < self.spec.cpus:
            raise ValueError(f"cpu {cpu} is not one of {self.spec.cpus}")
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

    def _zone_of(self, pfn: int) -> Zone:
        for zone in self.zones:
            if zone.spans(pfn):
                return zone
        raise ValueError(f"pfn {pfn} is in no zone")

    def _range(self, start: int, end: int) -> Zone:
        zone = self._zone_of(start)
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
            zone.set_type(block, 0, zone.tables.sibling(Migratetype.CMA, zone.tables.boot))
            buddy.free_one(zone, block, zone.pageblock_order, zone.type_of(block))
    zone.nr_free_pages.threshold = threshold
