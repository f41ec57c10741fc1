"""Pageblocks and the protected tree: mapping, clearing, and the audit of both.

Designs whose labels promise a mapping (Tables.tracks) come here whenever a pageblock's type changes and
whenever pages change hands.  *Exposed* pages are sensitive and mapped, *hidden* ones nonsensitive and not.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from asi_pa.kernel.gfp import Migratetype

if TYPE_CHECKING:
    from .zone import Zone

__all__ = [
    "Context",
    "Kind",
    "Window",
    "given_back",
    "handed_out",
    "live",
    "log",
    "map_blocks",
    "promises_kept",
    "retyped",
    "unmap_blocks",
    "zero",
]


class Context(IntEnum):
    """Why a pageblock's type or mapping changes; 0 to 8 and 10 to 13 as recorded runs number it."""

    OTHER = 0
    CLAIM = 1
    PARTIAL = 2
    MERGE = 3
    RESERVE = 4
    UNRESERVE = 5
    UNMAP = 6
    ISOLATE_FREE = 7
    FLIP = 8
    CONTIG = 9
    REFILL = 10
    SHRINK = 11
    PAGE_MAP = 12
    WORKER = 13
    HOTPLUG = 16


class Window(IntEnum):
    """Where a step drops the zone lock, so that another CPU may act, numbered as the engine does."""

    TAKEN = 1
    """A block is off its list, nothing mapped, unmapped or cleared yet."""
    UNMAPPED = 2
    """Entries cleared, flush under way."""
    FLUSHED = 3
    """Mapping changed and flushed, label not yet."""
    REPORTED = 4
    """Page reporting holds the block."""
    CONTIG = 5
    """A contiguous range is isolated, not yet grabbed."""
    MAPPED = 6
    """Mapped, not yet cleared."""


class Kind(IntEnum):
    """Kinds of events as recorded runs number them."""

    MAP = 1
    UNMAP = 2
    SILENT = 3
    RETYPE = 4
    POOLED = 6
    QUEUED = 7


def live(zone: Zone, block: int) -> tuple[int, int]:
    """(sensitive, nonsensitive) pages in use in the pageblock that begins at ``block``."""
    size = zone.pageblock_nr_pages
    for order in range(zone.pageblock_order, zone.max_page_order + 1):
        used = zone.allocated.get(block & -(1 << order))
        if used is not None and used.order >= order:
            return (size, 0) if used.sensitive else (0, size)
    count = [0, 0]
    for pfn in range(block, block + size):
        used = zone.allocated.get(pfn)
        if used is not None:
            count[not used.sensitive] += 1 << used.order
    return count[0], count[1]


def log(zone: Zone, kind: Kind, ctx: Context, old: int, new: int, pfn: int, pages: int, aux: int) -> None:
    """One more row of the event log."""
    if zone.events is not None:
        what = kind | ctx << 8 | old << 16 | new << 24
        zone.events.append((zone.now, what, pfn - zone.spec.start_pfn, pages, aux))


def zero(zone: Zone, block: int, *, locked: bool) -> None:
    """Clear a pageblock before it is mapped, where and as far as the design does (Design.zeroing)."""
    how = zone.tables.design.zeroing
    if how in ("none", "alloc"):
        return
    pages = zone.count_dirty(block, zone.pageblock_nr_pages) if how == "dirty" else zone.pageblock_nr_pages
    zone.stats.pages_zeroed += pages
    if how == "locked" or locked:
        zone.stats.pages_zeroed_locked += pages
    zone.set_dirty(block, zone.pageblock_nr_pages, False)


def map_blocks(zone: Zone, pfn: int, blocks: int, ctx: Context) -> None:
    """asi_map (March 2025, patch 5): present from here on, no flush."""
    already = stale = 0
    for block in range(pfn, pfn + blocks * zone.pageblock_nr_pages, zone.pageblock_nr_pages):
        if zone.is_mapped(block):
            already += 1
            continue
        stale += zone.count_dirty(block, zone.pageblock_nr_pages)
        sensitive, nonsensitive = live(zone, block)
        zone.stats.exposures += sensitive
        zone.stats.exposed_now += sensitive
        zone.stats.hidden_now -= nonsensitive
        zone.stats.flips_s2n += 1
        zone.flips["flips_s2n"] += 1
        zone.set_mapped(block, True)
    zone.stats.stale_exposed += stale
    pages = blocks * zone.pageblock_nr_pages
    log(zone, Kind.MAP, ctx, 0, 0, pfn, pages, stale | already << 16)


def unmap_blocks(zone: Zone, pfn: int, blocks: int, ctx: Context, *, flush: bool = True) -> None:
    """asi_unmap (March 2025, patch 5): entries cleared, then a flush, unless the caller has one for more."""
    absent = 0
    for block in range(pfn, pfn + blocks * zone.pageblock_nr_pages, zone.pageblock_nr_pages):
        if not zone.is_mapped(block):
            absent += 1
            continue
        sensitive, nonsensitive = live(zone, block)
        zone.stats.exposed_now -= sensitive
        zone.stats.hidden_now += nonsensitive
        zone.stats.absences += nonsensitive
        zone.stats.flips_n2s += 1
        zone.flips["flips_n2s"] += 1
        zone.set_mapped(block, False)
    if flush:
        zone.lock_dropped(Window.UNMAPPED, pfn, zone.pageblock_order)
    pages = blocks * zone.pageblock_nr_pages
    # The recorder calls March's unmap "other": only the change of type after it has a number.
    recorded = Context.OTHER if ctx is Context.UNMAP else ctx
    log(zone, Kind.UNMAP, recorded, 0, 0, pfn, pages, absent << 16)


def retyped(zone: Zone, block: int, new: int, ctx: Context) -> int:
    """A pageblock is about to become ``new``: what that means for its mapping, and what it does become.

    As posted in March 2025 (patch 9) a mapped label maps, and nothing unmaps.  Sound designs map and
    unmap with every change of side, and clear before they map; a claim and a flip have done so already.
    In v2 of 2026 a block's bit changes by flips only: what has the bit stays unmovable and unmapped.
    """
    tables = zone.tables
    old = zone.type_of(block)
    stays = (
        tables.design.blocks_keep_bit and ctx is not Context.FLIP and tables.mapped[new] != tables.mapped[old]
    )
    if old == new or (stays and tables.migratetype[new] is tables.migratetype[old]):
        return old
    zone.stats.retypes += 1
    if tables.design.label_maps and tables.mapped[new]:
        map_blocks(zone, block, 1, ctx)
    elif tables.design.explicit_maps and tables.mapped[new] != zone.is_mapped(block):
        if tables.mapped[new]:
            zero(zone, block, locked=True)
            map_blocks(zone, block, 1, ctx)
        else:
            unmap_blocks(zone, block, 1, ctx)
    if ctx is not Context.FLIP and tables.event_type[old] != tables.event_type[new]:
        silent = zone.is_mapped(block) and not tables.mapped[new]
        sensitive, nonsensitive = live(zone, block)
        log(
            zone,
            Kind.SILENT if silent else Kind.RETYPE,
            ctx,
            tables.event_type[old],
            tables.event_type[new],
            block,
            zone.pageblock_nr_pages,
            sensitive | nonsensitive << 16,
        )
    return old if stays else new


def _wrong_side(zone: Zone, pfn: int, order: int, sensitive: bool) -> int:
    """Pageblocks under an allocation whose mapping is not what its owner wants."""
    return sum(zone.is_mapped(block) == sensitive for block in zone.blocks(pfn, order))


def handed_out(zone: Zone, pfn: int, order: int, sensitive: bool) -> None:
    """Every allocation is checked against the mapping; what it holds from now on is remembered."""
    wrong = _wrong_side(zone, pfn, order, sensitive)
    pages = wrong * min(1 << order, zone.pageblock_nr_pages)
    if sensitive:
        zone.stats.exposures += pages
        zone.stats.exposed_now += pages
        zone.set_dirty(pfn, 1 << order, True)
        return
    zone.stats.absences += pages
    zone.stats.hidden_now += pages
    if zone.tables.design.zeroing == "alloc":
        zone.stats.pages_zeroed += 1 << order
        zone.set_dirty(pfn, 1 << order, False)


def given_back(zone: Zone, pfn: int, order: int, sensitive: bool) -> None:
    """The running totals forget a freed allocation; its owner may have to clear it (secretmem)."""
    pages = _wrong_side(zone, pfn, order, sensitive) * min(1 << order, zone.pageblock_nr_pages)
    if not sensitive:
        zone.stats.hidden_now -= pages
        return
    zone.stats.exposed_now -= pages
    if zone.tables.design.owner_zeroes:
        zone.stats.pages_zeroed += 1 << order
        zone.set_dirty(pfn, 1 << order, False)


def promises_kept(zone: Zone) -> bool:
    """Sound designs: is every pageblock mapped exactly where its label says so?"""
    return all(
        zone.is_mapped(block) == zone.tables.mapped[zone.type_of(block)]
        for block in zone.all_blocks()
        if zone.migratetype(zone.type_of(block)) is not Migratetype.ISOLATE
    )
