"""/proc/buddyinfo, pagetypeinfo and zoneinfo, debugfs' extfrag/: as the kernel prints them, and back.

Printing takes plain numbers, reading returns the same records, so that text -> records -> text is
the identity.  Source: mm/vmstat.c (frag_show_print, pagetypeinfo_showfree_print,
pagetypeinfo_showblockcount_print, zoneinfo_show_print, unusable_show_print, extfrag_show_print), Linux 6.12
to 7.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from asi_pa.kernel import indexes

__all__ = [
    "MIGRATETYPE_NAMES",
    "BuddyZone",
    "PageTypes",
    "TypedZone",
    "ZoneInfo",
    "buddyinfo",
    "extfrag_index",
    "pagetypeinfo",
    "parse_buddyinfo",
    "parse_pagetypeinfo",
    "parse_zoneinfo",
    "unusable_index",
    "zoneinfo",
]

#: migratetype_names of a kernel with CMA and memory isolation, by number.
MIGRATETYPE_NAMES = ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "CMA", "Isolate")
#: Free lists are counted up to here, under the zone lock; longer ones print as ">100000".
FREECOUNT_LIMIT = 100000


@dataclass(frozen=True)
class BuddyZone:
    """A line of buddyinfo: free blocks by order."""

    nid: int
    name: str
    free: Sequence[int]


@dataclass(frozen=True)
class TypedZone:
    """A zone of pagetypeinfo: free blocks by migratetype and order, pageblocks by migratetype.

    ``mixed`` counts the pageblocks with pages of other types in them, which a kernel booted with
    page_owner=on prints (pagetypeinfo_showmixedcount); None where it does not.
    """

    nid: int
    name: str
    free: Sequence[Sequence[int]]
    blocks: Sequence[int]
    mixed: Sequence[int] | None = None


@dataclass(frozen=True)
class PageTypes:
    """All of pagetypeinfo."""

    pageblock_order: int
    migratetypes: Sequence[str]
    zones: Sequence[TypedZone]


@dataclass(frozen=True, kw_only=True)
class ZoneInfo:
    """A zone of zoneinfo.  All counts are pages.

    ``pages`` holds the block that begins with ``pages free`` (free, boost, min, low, high, promo,
    spanned, present, managed, cma; min, low, high and promo with the boost added), ``stats`` the
    zone's counters, ``node_stats`` those of the node where the zone is its first populated one,
    ``pagesets`` one record a CPU (count, high, batch, high_min, high_max, stat_threshold), ``tail``
    what follows (node_unreclaimable, start_pfn, and on newer kernels reserved_highatomic and
    free_highatomic).  An unpopulated zone has pages and protection only.
    """

    nid: int
    name: str
    pages: Mapping[str, int]
    protection: Sequence[int]
    stats: Mapping[str, int] = field(default_factory=dict)
    node_stats: Mapping[str, int] = field(default_factory=dict)
    pagesets: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    tail: Mapping[str, int] = field(default_factory=dict)


def buddyinfo(zones: Iterable[BuddyZone]) -> str:
    """The text of /proc/buddyinfo."""
    return "".join(
        f"Node {zone.nid}, zone {zone.name:>8s} " + "".join(f"{count:6d} " for count in zone.free) + "\n"
        for zone in zones
    )


def unusable_index(zones: Iterable[BuddyZone]) -> str:
    """The text of extfrag/unusable_index in debugfs, of the free blocks that buddyinfo shows."""
    return "".join(_index_line(zone, indexes.unusable_index) for zone in zones)


def extfrag_index(zones: Iterable[BuddyZone]) -> str:
    """The text of extfrag/extfrag_index in debugfs, of the free blocks that buddyinfo shows."""
    return "".join(_index_line(zone, indexes.extfrag_index, width=2) for zone in zones)


def _index_line(zone: BuddyZone, index: Callable[[Sequence[int], int], int], width: int = 1) -> str:
    values = [index(zone.free, order) for order in range(len(zone.free))]
    return f"Node {zone.nid}, zone {zone.name:>8s} {indexes.index_text(values, width)}\n"


def pagetypeinfo(info: PageTypes) -> str:
    """The text of /proc/pagetypeinfo; page_owner's part where zones have ``mixed``."""
    orders = len(info.zones[0].free[0]) if info.zones else 0
    text = f"Page block order: {info.pageblock_order}\n"
    text += f"Pages per block:  {1 << info.pageblock_order}\n\n"
    text += f"{'Free pages count per migrate type at order':<43s} "
    text += "".join(f"{order:6d} " for order in range(orders)) + "\n"
    for zone in info.zones:
        for mtype, row in zip(info.migratetypes, zone.free, strict=True):
            text += f"Node {zone.nid:4d}, zone {zone.name:>8s}, type {mtype:>12s} "
            for count in row:
                over = count >= FREECOUNT_LIMIT
                text += f"{'>' if over else ''}{min(count, FREECOUNT_LIMIT):6d} "
            text += "\n"
    parts = [("Number of blocks type ", [zone.blocks for zone in info.zones])]
    mixed = [zone.mixed for zone in info.zones if zone.mixed is not None]
    if mixed:
        parts.append(("Number of mixed blocks ", mixed))
    for title, counts in parts:
        text += f"\n{title:<23s}" + "".join(f"{m:>12s} " for m in info.migratetypes) + "\n"
        for zone, row in zip(info.zones, counts, strict=True):
            text += f"Node {zone.nid}, zone {zone.name:>8s} " + "".join(f"{n:12d} " for n in row) + "\n"
    return text


def zoneinfo(zones: Iterable[ZoneInfo]) -> str:
    """The text of /proc/zoneinfo."""
    return "".join(_zone_text(zone) for zone in zones)


def _zone_text(zone: ZoneInfo) -> str:
    lines = [f"Node {zone.nid}, zone {zone.name:>8s}"]
    if zone.node_stats:
        lines.append("  per-node stats")
        lines += [f"      {name:<12s} {value}" for name, value in zone.node_stats.items()]
    lead = "  pages "
    for name, value in zone.pages.items():
        lines.append(f"{lead}{name:<8s} {value}")
        lead = " " * 8
    lines.append(f"        protection: ({', '.join(str(value) for value in zone.protection)})")
    if zone.tail:
        lines += [f"      {name:<12s} {value}" for name, value in zone.stats.items()]
        lines.append("  pagesets")
        for cpu, values in zone.pagesets.items():
            lines.append(f"    cpu: {cpu}")
            for name, value in values.items():
                if name == "stat_threshold":
                    lines.append(f"  vm stats threshold: {value}")
                else:
                    lines.append(f"              {name + ':':<9s} {value}")
        lines += [f"  {name + ':':<20s} {value}" for name, value in zone.tail.items()]
    return "\n".join(lines) + "\n"


class _Lines:
    """Lines with their numbers; errors name the line."""

    def __init__(self, text: str, what: str) -> None:
        self.lines = text.splitlines()
        self.what = what
        self.at = 0

    def __iter__(self) -> Iterator[str]:
        while self.at < len(self.lines):
            self.at += 1
            yield self.lines[self.at - 1]

    def error(self, why: str) -> ValueError:
        line = self.lines[self.at - 1] if 0 < self.at <= len(self.lines) else ""
        return ValueError(f"{self.what}, line {self.at}: {why}: {line!r}")

    def numbers(self, text: str) -> list[int]:
        words = [word.removeprefix(">") for word in text.split()]
        if not all(_COUNT.fullmatch(word) for word in words):
            raise self.error("expected whole numbers")
        return [int(word) for word in words]

    def number(self, text: str) -> int:
        """The one number of a text."""
        found = self.numbers(text)
        if len(found) != 1:
            raise self.error("expected a whole number")
        return found[0]


_COUNT = re.compile(r"[0-9]{1,20}")  # what printf() makes of an unsigned long
_ZONE = re.compile(r"Node\s+(\d{1,9}),\s+zone\s+(\w+)")
_TYPED = re.compile(r"Node +(\d{1,9}), zone +(\w+), type +(\w+) (.*)")


def parse_buddyinfo(text: str) -> list[BuddyZone]:
    """Read buddyinfo, blank lines apart; ValueError names the first line that is none."""
    zones: list[BuddyZone] = []
    lines = _Lines(text, "buddyinfo")
    for line in lines:
        if not line.strip():
            continue
        match = _ZONE.match(line)
        if match is None:
            raise lines.error("expected 'Node N, zone NAME'")
        free = tuple(lines.numbers(line[match.end() :]))
        if zones and len(free) != len(zones[0].free):
            raise lines.error(f"{len(free)} orders, and {len(zones[0].free)} before")
        zones.append(BuddyZone(int(match[1]), match[2], free))
    return zones


def parse_pagetypeinfo(text: str) -> PageTypes:
    """Read pagetypeinfo; ValueError names the first line that does not fit."""
    lines = _Lines(text, "pagetypeinfo")
    order = None
    names: list[str] = []
    free: dict[tuple[int, str], list[tuple[int, ...]]] = {}
    blocks: dict[tuple[int, str], tuple[int, ...]] = {}
    mixed: dict[tuple[int, str], tuple[int, ...]] = {}
    counts = blocks
    for line in lines:
        if line.startswith("Page block order:"):
            order = lines.number(line.partition(":")[2])
        elif line.startswith("Number of blocks type"):
            names, counts = line.split()[4:], blocks
        elif line.startswith("Number of mixed blocks"):
            counts = mixed
            if line.split()[4:] != names:
                raise lines.error("other types than the blocks have")
        elif match := _TYPED.match(line):
            free.setdefault((int(match[1]), match[2]), []).append(tuple(lines.numbers(match[4])))
        elif match := _ZONE.match(line):
            counts[int(match[1]), match[2]] = tuple(lines.numbers(line[match.end() :]))
        elif line and not line.startswith(("Pages per block:", "Free pages count")):
            raise lines.error("not a line of pagetypeinfo")
    if order is None or not names:
        raise ValueError("pagetypeinfo: no 'Page block order' or no 'Number of blocks type' line")
    if free.keys() != blocks.keys():
        raise ValueError("pagetypeinfo: free lists and block counts name different zones")
    if mixed and mixed.keys() != blocks.keys():
        raise ValueError("pagetypeinfo: block counts and mixed counts name different zones")
    for key, rows in free.items():
        counted = [rows, blocks[key], mixed.get(key, names)]
        if any(len(each) != len(names) for each in counted) or len({len(row) for row in rows}) != 1:
            raise ValueError(
                f"pagetypeinfo: node {key[0]}, zone {key[1]}: expected {len(names)} migratetypes"
            )
    zones = [TypedZone(*key, tuple(rows), blocks[key], mixed.get(key)) for key, rows in free.items()]
    return PageTypes(order, tuple(names), tuple(zones))


def parse_zoneinfo(text: str) -> list[ZoneInfo]:
    """Read zoneinfo; ValueError names the first line that does not fit."""
    lines = _Lines(text, "zoneinfo")
    zones: list[ZoneInfo] = []
    name: tuple[int, str] | None = None
    pages: dict[str, int] = {}
    node_stats: dict[str, int] = {}
    section: dict[str, int] = {}
    tail: dict[str, int] = {}
    pagesets: dict[int, dict[str, int]] = {}
    for line in lines:
        words = line.split()
        if match := _ZONE.fullmatch(line):
            name = (int(match[1]), match[2])
            pages, node_stats, section, tail, pagesets = {}, {}, {}, {}, {}
        elif name is None or len(words) < 2:
            if words != ["pagesets"]:
                raise lines.error("not a line of zoneinfo")
            section = {}
        elif line == "  per-node stats":
            section = node_stats
        elif line.startswith("  pages "):
            section = pages
            section[words[1]] = lines.number(" ".join(words[2:]))
        elif words[0] == "protection:":
            protection = lines.numbers(line.partition("(")[2].rstrip(")").replace(",", " "))
            section = {}
            zones.append(
                ZoneInfo(
                    nid=name[0],
                    name=name[1],
                    pages=pages,
                    protection=tuple(protection),
                    stats=section,
                    node_stats=node_stats,
                    pagesets=pagesets,
                    tail=tail,
                )
            )
        elif words[0] == "cpu:":
            section = pagesets.setdefault(lines.number(words[1]), {})
        elif line.startswith("  vm stats threshold:"):
            section["stat_threshold"] = lines.number(words[-1])
        elif len(words) == 2 and line.startswith("      "):
            section[words[0].rstrip(":")] = lines.number(words[1])
        elif len(words) == 2 and words[0].endswith(":"):
            tail[words[0][:-1]] = lines.number(words[1])
        else:
            raise lines.error("not a line of zoneinfo")
    if not zones:
        raise ValueError("zoneinfo: no zone")
    return zones
