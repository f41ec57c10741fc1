"""Memory that comes and goes inside a zone's span (mm/memory_hotplug.c; ``asi_pa.engine.memory_hotplug``).

The four steps do to the twin what the functions of the same names do to the engine.  Pages that are offline
are holes of the zone; pages that are absent besides are in no page table.
"""

from __future__ import annotations

from asi_pa.kernel.gfp import Migratetype
from asi_pa.kernel.spec import MachineSpec

from . import buddy, isolation, pcp
from .isolation import IsolateMode
from .machine import Machine, zonelists
from .mapping import Context
from .zone import Zone

__all__ = ["add_memory", "offline_pages", "online_pages", "remove_memory", "set_limits"]


def _blocks(zone: Zone, pfn: int, n: int) -> range:
    return range(pfn, pfn + n, zone.pageblock_nr_pages)


# The page tables


def add_memory(machine: Machine, number: int, pfn: int, n: int) -> None:
    """arch_add_memory (arch/x86/mm/init_64.c, 7.2): present in the unrestricted tree, not in the other one.

    Entries that removal left behind are there still.
    """
    zone = machine.zones[number]
    zone.set_dirty(pfn, n, False)
    if zone.tables.tracks and pfn in machine.absent:
        for block in _blocks(zone, pfn, n):
            zone.set_mapped(block, zone.tables.design.tree == "unrestricted")
    machine.absent.difference_update(range(pfn, pfn + n))


def remove_memory(machine: Machine, pfn: int, n: int) -> None:
    """arch_remove_memory (7.2); as posted the designs' own tree keeps its entries."""
    design = machine.tables.design
    if design.tree == "unrestricted" or design.mirror:
        machine.absent.update(range(pfn, pfn + n))
        if machine.wrapper:
            machine.wrapper.remapped.difference_update(range(pfn, pfn + n))


# The zone


def online_pages(machine: Machine, number: int, pfn: int, n: int) -> None:
    """online_pages (7.2): pageblocks come as isolated ones and leave isolation at the lists' tails."""
    zone = machine.zones[number]
    machine.on_cpu(0)
    zone.set_reserved(pfn, n, False)
    for block in _blocks(zone, pfn, n):  # move_pfn_range_to_zone
        zone.set_base_type(block, machine.tables.boot)
        zone.set_isolated(block, True)
        zone.nr_isolate_pageblock += 1
    for block in _blocks(zone, pfn, n):  # generic_online_page
        buddy.free_one(zone, block, zone.pageblock_order, zone.type_of(block), to_tail=True)
    zone.managed += n
    zone.present += n
    isolation.undo_isolate_page_range(zone, pfn, pfn + n)


def offline_pages(machine: Machine, number: int, pfn: int, n: int) -> tuple[int, str] | None:
    """offline_pages (7.2) of pages that are free; else (pfn, why) of the first that is not."""
    zone = machine.zones[number]
    at = pfn
    while at < pfn + n:
        order, why = _what(zone, at)
        if why:
            return at, why
        at += 1 << order
    machine.on_cpu(0)
    for cpu in range(machine.spec.cpus):
        pcp.drain(zone, cpu)  # zone_pcp_disable
    if isolation.start_isolate_page_range(zone, pfn, pfn + n, IsolateMode.OTHER):
        return pfn, "it cannot be isolated"
    at = pfn
    while at < pfn + n:  # __offline_isolated_pages
        order = zone.buddy[at]
        zone.delete(at, order, zone.type_of(at))
        at += 1 << order
    zone.set_reserved(pfn, n, True)
    for block in _blocks(zone, pfn, n):
        # A design that keeps label and mapping together leaves the block as boot makes one.
        zone.set_type(block, 0, machine.tables.boot, Context.HOTPLUG)
        zone.set_isolated(block, False)
        zone.nr_isolate_pageblock -= 1
    zone.managed -= n
    zone.present -= n
    return None


def _what(zone: Zone, pfn: int) -> tuple[int, str]:
    """(order of the free block that begins here, "") or (0, why there is none)."""
    order = zone.buddy.get(pfn, _on_pcp(zone, pfn))
    if zone.is_reserved(pfn):
        return 0, "the allocator does not have it"
    if zone.is_set_aside(pfn):
        return 0, "it is in the pool" if zone.tables.design.wrapper == "pool" else "it is in the free queue"
    if order is None:
        return 0, "it is allocated"
    migratetype = zone.migratetype(zone.type_of(pfn))
    if migratetype is Migratetype.CMA:
        return 0, "its pageblock is CMA"
    if migratetype is Migratetype.ISOLATE:
        return 0, "its pageblock is isolated"
    return order, ""


def _on_pcp(zone: Zone, pfn: int) -> int | None:
    """The order of a block on somebody's per-CPU lists."""
    for lists in zone.pcp:
        for index, pages in enumerate(lists.lists):
            if pfn in pages:
                return zone.tables.pcp_lists[index][0]
    return None


def set_limits(machine: Machine, spec: MachineSpec) -> None:
    """init_per_zone_wmark_min, zone_pcp_update, refresh_zone_stat_thresholds, build_all_zonelists (7.2)."""
    machine.spec = spec
    for zone, limits in zip(machine.zones, spec.zones, strict=True):
        zone.spec, zone.machine = limits, spec
        zone.watermark_boost = 0  # __setup_per_zone_wmarks
        for counter in (zone.nr_free_pages, zone.nr_free_cma):
            counter.threshold = limits.stat_threshold
        if limits.pcp is None:
            continue
        for lists in zone.pcp:
            lists.batch = limits.pcp.batch
            lists.high_min, lists.high_max = limits.pcp.high_min, limits.pcp.high_max
    machine.zonelists = zonelists(spec, machine.zones, machine.kswapds)
