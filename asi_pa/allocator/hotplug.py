"""Memory blocks: which are there, which the allocator has, and what changes when one comes or goes.

The four steps are the kernel's (mm/memorymemory_hotplug.c, Linux 7.2;
Documentation/admin-guide/mm/memory-hotplug.rst):

    absent   --add_memory-->     offline   --online_pages-->    online
    absent   <--remove_memory--  offline   <--offline_pages--   online

add and remove change the page tables, online and offline the zone.  After the latter two, watermarks,
reserves, per-CPU limits and zonelists are computed again (init_per_zone_wmark_min), if they were computed at
all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

from asi_pa.engine import memory_hotplug
from asi_pa.kernel.layout import Layout

if TYPE_CHECKING:
    from asi_pa.engine.machine import Machine
    from asi_pa.kernel.spec import ZoneSpec

__all__ = ["MemoryBlock", "MemoryBlocks"]

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class MemoryBlock:
    """A line of the machine's memory map, as /sys/devices/system/memory has it."""

    start_pfn: int
    pages: int
    nid: int
    zone: str
    """The zone that has it, or would."""
    state: str
    """"online", "offline" (there, not the allocator's), "absent" (room for hotplug)."""
    removable: bool
    """No holes in it: it can go offline once its pages are free."""


class MemoryBlocks:
    """The books of one machine."""

    def __init__(self, machine: Machine, layout: Layout) -> None:
        self.machine = machine
        self.limits = layout.limits
        self.pages = layout.block_pages
        self.absent: set[int] = set()
        """Block numbers (pfn // pages) with no memory."""
        self.offline: set[int] = set()
        for start, end in layout.room:
            self.absent.update(range(start // self.pages, end // self.pages))
            if machine.physmap is not None:
                memory_hotplug.leave_out(machine.physmap, start, end - start)
        self.missing = {
            (zone.nid, zone.name): _cut(absent_ranges(zone), layout.room) for zone in machine.spec.zones
        }
        """Holes that are no memory and never will be (the PCI hole), by zone."""
        self.room = layout.room

    # ------------------------------------------------------------ looking

    def blocks(self) -> list[MemoryBlock]:
        """Every block that a zone spans, in whole or in part, ascending by pfn."""
        found = []
        for zone in sorted(self.machine.spec.zones, key=lambda zone: zone.start_pfn):
            missing = self.missing[zone.nid, zone.name]
            for number in range(zone.start_pfn // self.pages, -(-zone.end_pfn // self.pages)):
                start = max(number * self.pages, zone.start_pfn)
                end = min((number + 1) * self.pages, zone.end_pfn)
                plugged = number in self.absent or number in self.offline
                if not plugged and any(a <= start and end <= b for a, b in missing):
                    continue
                state = "absent" if number in self.absent else "offline" if plugged else "online"
                whole = end - start == self.pages and (plugged or not overlaps(zone.holes, start, end))
                found.append(MemoryBlock(start, end - start, zone.nid, zone.name, state, whole))
        return found

    def gaps(self, zone: ZoneSpec) -> list[tuple[int, int]]:
        """Ranges inside a zone's span that are no online memory, ascending."""
        numbers = self.absent | self.offline
        gaps = [(n * self.pages, (n + 1) * self.pages) for n in numbers]
        inside = [(a, b) for a, b in gaps if a < zone.end_pfn and b > zone.start_pfn]
        return sorted([*inside, *self.missing[zone.nid, zone.name]])

    def span(self, zone: ZoneSpec) -> tuple[int, int]:
        """[start, end) of what a zone spans without the room for hotplug at its ends; (0, 0): nothing."""
        start, end = zone.start_pfn, zone.end_pfn
        gone = [(n * self.pages, (n + 1) * self.pages) for n in self.absent | self.offline]
        edges = {a for a, _ in self.room}
        gone += [(a, b) for a, b in self.missing[zone.nid, zone.name] if b in edges]
        for a, b in sorted(gone):
            if a <= start < b:
                start = b
        for a, b in sorted(gone, reverse=True):
            if a < end <= b:
                end = a
        return (start, end) if start < end else (0, 0)

    # ------------------------------------------------------------ the four steps

    def add(self, pfn: int, n: int) -> None:
        """add_memory(): absent -> offline."""
        numbers = self._numbers(pfn, n, self.absent, "there already, or no room for hotplug")
        memory_hotplug.add_memory(self.machine, self._zone(pfn, n), pfn, n)
        self.absent -= numbers
        self.offline |= numbers

    def online(self, pfn: int, n: int) -> None:
        """online_pages(): offline -> online."""
        numbers = self._numbers(pfn, n, self.offline, "not offline")
        zone = self._zone(pfn, n)
        memory_hotplug.online_pages(self.machine, zone, pfn, n)
        self.offline -= numbers
        self._resized(zone, n, without_range(self.machine.spec.zones[zone].holes, pfn, pfn + n))

    def offline_pages(self, pfn: int, n: int) -> tuple[int, str] | None:
        """offline_pages(): online -> offline; (pfn, why) of a page in use, and nothing changed."""
        zone = self._zone(pfn, n)
        spec = self.machine.spec.zones[zone]
        numbers = self._aligned(pfn, n)
        if not (self.absent | self.offline).isdisjoint(numbers):
            raise ValueError(f"pfns [{pfn}, {pfn + n}) are not online")
        if overlaps(spec.holes, pfn, pfn + n):
            raise ValueError(f"pfns [{pfn}, {pfn + n}) have holes")
        busy = memory_hotplug.offline_pages(self.machine, zone, pfn, n)
        if busy is None:
            self.offline.update(numbers)
            self._resized(zone, -n, with_range(spec.holes, pfn, pfn + n))
        return busy

    def remove(self, pfn: int, n: int) -> None:
        """remove_memory(): offline -> absent."""
        numbers = self._numbers(pfn, n, self.offline, "not offline")
        self._zone(pfn, n)
        memory_hotplug.remove_memory(self.machine, pfn, n)
        self.offline -= numbers
        self.absent |= numbers

    # ------------------------------------------------------------ checks and bookkeeping

    def _aligned(self, pfn: int, n: int) -> range:
        if n <= 0 or pfn < 0 or pfn % self.pages or n % self.pages:
            raise ValueError(f"pfn {pfn}, {n} pages: not whole memory blocks of {self.pages} pages")
        return range(pfn // self.pages, (pfn + n) // self.pages)

    def _numbers(self, pfn: int, n: int, wanted: set[int], otherwise: str) -> set[int]:
        numbers = self._aligned(pfn, n)
        if self.machine.physmap is None:
            raise ValueError("the machine has no physmap")
        for number in numbers:  # ends at the first that is wrong, however many were asked for
            if number not in wanted:
                raise ValueError(f"memory block at pfn {number * self.pages} is {otherwise}")
        return set(numbers)

    def _zone(self, pfn: int, n: int) -> int:
        for i, zone in enumerate(self.machine.spec.zones):
            if zone.start_pfn <= pfn and pfn + n <= zone.end_pfn:
                return i
        raise ValueError(f"pfns [{pfn}, {pfn + n}) are not inside one zone")

    def _resized(self, number: int, n: int, holes: Ranges) -> None:
        spec = self.machine.spec
        zone = spec.zones[number]
        managed = zone.spanned - sum(b - a for a, b in zone.holes) if zone.managed is None else zone.managed
        present = managed if zone.present is None else zone.present
        zone = replace(zone, holes=holes, managed=managed + n, present=present + n)
        spec = replace(spec, zones=(*spec.zones[:number], zone, *spec.zones[number + 1 :]))
        memory_hotplug.set_limits(self.machine, self.limits.of(spec) if self.limits is not None else spec)


def absent_ranges(zone: ZoneSpec) -> Ranges:
    """The holes of a zone that are no memory at all; the others were reserved at boot.

    A ZoneSpec does not tell them apart, but says how much is present.
    """
    missing = 0 if zone.present is None else zone.spanned - zone.present
    for count in range(min(len(zone.holes), 3) + 1):
        for chosen in combinations(zone.holes[-16:], count):
            if sum(b - a for a, b in chosen) == missing:
                return chosen
    return ()


def overlaps(ranges: Ranges, start: int, end: int) -> bool:
    return any(a < end and start < b for a, b in ranges)


def with_range(ranges: Ranges, start: int, end: int) -> Ranges:
    """The ranges and [start, end), joined to those that it touches."""
    apart = [(a, b) for a, b in ranges if b < start or a > end]
    touched = [(a, b) for a, b in ranges if b == start or a == end]
    low, high = min([start, *(a for a, _ in touched)]), max([end, *(b for _, b in touched)])
    return tuple(sorted([*apart, (low, high)]))


def without_range(ranges: Ranges, start: int, end: int) -> Ranges:
    """The ranges less [start, end), which lies inside one of them."""
    left = []
    for a, b in ranges:
        left += [(x, y) for x, y in ((a, min(b, start)), (max(a, end), b)) if x < y]
    return tuple(left)


def _cut(ranges: Ranges, cuts: Ranges) -> Ranges:
    for start, end in cuts:
        ranges = without_range(ranges, start, end)
    return ranges
