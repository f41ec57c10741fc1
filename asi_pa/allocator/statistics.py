"""What an allocator's state looks like in numbers and in the kernel's own words.

``Statistics`` is what scripts read; the /proc texts are rendered by ``asi_pa.kernel.procfs`` from the
engine's lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from asi_pa.experiment.metrics import CAUSES, METRICS, Counter
from asi_pa.kernel import indexes, procfs
from asi_pa.kernel.sizing import watermarks
from asi_pa.kernel.spec import ZONE_INDEX, ZoneSpec

if TYPE_CHECKING:
    from asi_pa.allocator.allocator import Allocator
    from asi_pa.physmap.records import PhysmapCounters

__all__ = ["Statistics", "buddyinfo", "index", "pagetypeinfo", "statistics", "zoneinfo"]

#: Zones of a kernel with ZONE_DEVICE, all of which zoneinfo lists (enum zone_type, include/linux/mmzone.h).
_ALL_ZONES = (*ZONE_INDEX, "Device")


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """An allocator's counters at one moment; definitions in docs/use/metrics.md.

    Pages are 4 KiB, pageblocks ``2 ** pageblock_order`` pages.  Everything is counted since construction (or
    since the initial state of a trace was loaded), except the ``pages_*``, which say what is now.
    """

    allocations: int
    """Requests, those that failed included."""
    frees: int
    """Allocations given back one by one or in bulk."""
    failures: int
    """Requests that found nothing: the sum of failures_by_cause."""
    failures_by_cause: Mapping[str, int]
    """By the keys of ``asi_pa.experiment.metrics.CAUSES``."""
    pages_managed: int
    """Pages that the zones have."""
    pages_free: int
    """Pages on the buddy's free lists, isolated ones included."""
    pages_pcp: int
    """Pages on per-CPU lists."""
    pages_pool: int
    """Free pages of the pool, in designs that have one."""
    pages_free_by_type: Mapping[str, int]
    """pages_free by freetype name."""
    engine: Mapping[str, int]
    """Every counter of the engine by its own name (asi_pa/engine/types.pxd stats_t)."""
    physmap: PhysmapCounters
    """Leaf writes, splits, table pages, flushes, IPIs (asi_pa.physmap.records)."""
    metrics: Mapping[str, int]
    """What comparisons measure and counters alone tell, by its key in docs/use/metrics.md: ``flips_s2n``,
    ...
    """

    def __getattr__(self, name: str) -> int:
        """A metric, or a counter of the engine, by its name: ``statistics.flips_s2n``."""
        for counts in (self.metrics, self.engine) if not name.startswith("_") else ():
            if name in counts:
                return counts[name]
        raise AttributeError(f"statistics have no {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.metrics, *self.engine})

    @property
    def tlb_flushes(self) -> int:
        """Flushes, ranged and full."""
        return self.physmap.flushes_ranged + self.physmap.flushes_full


def statistics(allocator: Allocator) -> Statistics:
    """The counters of an allocator now."""
    s = allocator.machine.stats()
    names = [freetype.name for freetype in allocator.design.freetypes]
    orders = np.arange(allocator.spec.max_page_order + 1)
    by_type = np.zeros(len(names), np.int64)
    managed = pcp = pool = 0
    for zone in range(len(allocator.spec.zones)):
        by_type += (allocator.free_lists(zone).astype(np.int64) << orders[:, None]).sum(axis=0)
        state = allocator.zone_state(zone)
        managed += state["managed"]
        pcp += state["pcp"]
        pool += state["pool"]
    causes = {key: s[cause.counter] for key, cause in CAUSES.items()}
    assert allocator.physmap is not None
    return Statistics(
        allocations=allocator.allocations,
        frees=allocator.frees,
        failures=sum(causes.values()),
        failures_by_cause=causes,
        pages_managed=managed,
        pages_free=int(by_type.sum()),
        pages_pcp=pcp,
        pages_pool=pool,
        pages_free_by_type=dict(zip(names, by_type.tolist(), strict=True)),
        engine=s,
        physmap=allocator.physmap.counters(),
        metrics={m.key: m.measure.of(s) for m in METRICS if isinstance(m.measure, Counter)},
    )


def index(allocator: Allocator, zone: int, unusable: bool) -> tuple[int, ...]:
    """unusable_index or extfrag_index x 1000 of a zone, by order."""
    free = allocator.free_lists(zone).sum(axis=1).tolist()
    one = indexes.unusable_index if unusable else indexes.extfrag_index
    return tuple(one(free, order) for order in range(len(free)))


# ---------------------------------------------------------------- /proc


def _populated(allocator: Allocator) -> list[tuple[int, ZoneSpec]]:
    """The zones that have memory, as /proc lists them: by node, lowest zone first."""
    zones = [(i, zone) for i, zone in enumerate(allocator.spec.zones) if allocator.zone_state(i)["present"]]
    return sorted(zones, key=lambda item: (item[1].nid, item[1].zone_idx))


def buddyinfo(allocator: Allocator) -> str:
    """The text of /proc/buddyinfo."""
    return procfs.buddyinfo(
        procfs.BuddyZone(zone.nid, zone.name, allocator.free_lists(i).sum(axis=1).tolist())
        for i, zone in _populated(allocator)
    )


def pagetypeinfo(allocator: Allocator) -> str:
    """The text of /proc/pagetypeinfo; the types are the design's."""
    types = len(allocator.design.freetypes)
    order = allocator.spec.pageblock_order
    zones = []
    for i, zone in _populated(allocator):
        first = zone.start_pfn >> order
        there = np.ones((zone.end_pfn - 1 >> order) - first + 1, bool)
        for a, b in allocator.blocks.gaps(zone):
            # blocks whose first frame has no struct page are not counted (pfn_to_online_page)
            there[max(-(-a >> order) - first, 0) : -(-b >> order) - first] = False
        counts = np.bincount(allocator.pageblocks(i)[there], minlength=types)
        zones.append(
            procfs.TypedZone(zone.nid, zone.name, allocator.free_lists(i).T.tolist(), counts.tolist())
        )
    names = [freetype.name for freetype in allocator.design.freetypes]
    return procfs.pagetypeinfo(procfs.PageTypes(order, names, zones))


def zoneinfo(allocator: Allocator) -> str:
    """The text of /proc/zoneinfo, with those counters that are modelled."""
    zones = {(zone.nid, zone.name): i for i, zone in enumerate(allocator.spec.zones)}
    return procfs.zoneinfo(
        _zone(allocator, zones.get((nid, name)), nid, name)
        for nid in sorted({zone.nid for zone in allocator.spec.zones})
        for name in _ALL_ZONES
    )


def _zone(allocator: Allocator, number: int | None, nid: int, name: str) -> procfs.ZoneInfo:
    state = None if number is None else allocator.zone_state(number)
    if number is None or state is None or not state["present"]:
        marks = watermarks(0, 0, 1, movable=name == "Movable")
        pages = dict.fromkeys(_PAGES, 0) | dict(zip(_PAGES[2:6], marks, strict=True))
        return procfs.ZoneInfo(nid=nid, name=name, pages=pages, protection=(0,) * len(_ALL_ZONES))
    zone = allocator.spec.zones[number]
    start, end = allocator.blocks.span(zone)
    boost = state["boost"]
    pages = dict(
        zip(
            _PAGES,
            (
                state["nr_free_pages"],
                boost,
                *(mark + boost for mark in zone.wmark),
                end - start,
                state["present"],
                state["managed"],
                state["cma"],
            ),
            strict=True,
        )
    )
    free = allocator.free_lists(number)
    stats = {"nr_free_pages": state["nr_free_pages"]}
    if allocator.kernel.version != "6.12":
        # NR_FREE_PAGES_BLOCKS: free pages in whole pageblocks, isolated ones left out
        stats["nr_free_pages_blocks"] = sum(
            int(free[order, i]) << order
            for order in range(allocator.spec.pageblock_order, allocator.spec.max_page_order + 1)
            for i, freetype in enumerate(allocator.design.freetypes)
            if freetype.mt.name != "ISOLATE"
        )
    stats["nr_free_cma"] = state["nr_free_cma"]
    tail = {"node_unreclaimable": 0, "start_pfn": start}
    if allocator.kernel.version in ("7.2", "7.3"):
        tail |= {
            "reserved_highatomic": state["nr_reserved_highatomic"],
            "free_highatomic": state["nr_free_highatomic"],
        }
    reserve = (*zone.lowmem_reserve, *(0, 0, 0, 0))[: len(ZONE_INDEX)]
    return procfs.ZoneInfo(
        nid=nid,
        name=name,
        pages=pages,
        protection=(*reserve, reserve[-1]),
        stats=stats,
        pagesets={cpu: allocator.pcp_state(number, cpu) for cpu in range(allocator.spec.cpus)},
        tail=tail,
    )


_PAGES = ("free", "boost", "min", "low", "high", "promo", "spanned", "present", "managed", "cma")
