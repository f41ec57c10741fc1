"""The buddy core: split, merge, free, and moving the free pages of a pageblock (mm/page_alloc.c)."""

from __future__ import annotations

from asi_pa.kernel.gfp import Migratetype

from .mapping import Context
from .zone import Zone

__all__ = [
    "chunks",
    "expand",
    "free_one",
    "free_pages_of_block",
    "free_split",
    "hand_over",
    "move_block",
    "move_free_pages",
    "smallest",
    "take",
    "whole_block_in_zone",
]


def expand(zone: Zone, pfn: int, low: int, high: int, freetype: int) -> int:
    """Cut an unlinked block of order ``high`` down to ``low``; the caller keeps the lowest pages.

    Each upper half goes to the head of ``freetype``'s list.  Returns the pages given back, which
    the caller counts.  (expand, 7.2)
    """
    given_back = 0
    while high > low:
        high -= 1
        zone.link(pfn + (1 << high), high, freetype, tail=False)
        given_back += 1 << high
    return given_back


def take(zone: Zone, pfn: int, low: int, high: int, freetype: int) -> int:
    """Unlink a block, split it within its own type, count the difference once (page_del_and_expand, 7.2)."""
    zone.unlink(pfn, high, freetype)
    given_back = expand(zone, pfn, low, high, freetype)
    zone.account(freetype, given_back - (1 << high))
    return pfn


def smallest(zone: Zone, order: int, freetype: int) -> int | None:
    """The head of the first non-empty list of ``freetype`` that is large enough (__rmqueue_smallest, 7.2)."""
    for current in range(order, zone.max_page_order + 1):
        pfn = zone.head(current, freetype)
        if pfn is not None:
            return take(zone, pfn, order, current, freetype)
    return None


def free_one(zone: Zone, pfn: int, order: int, freetype: int, *, to_tail: bool = False) -> None:
    """Free one block, merging it with its buddies as far as they go (__free_one_page, 7.2)."""
    zone.account(freetype, 1 << order)
    while order < zone.max_page_order:
        if _captured(zone, pfn, order, freetype):
            return
        buddy = pfn ^ (1 << order)
        if zone.buddy.get(buddy) != order:
            break
        buddy_type = freetype
        if order >= zone.pageblock_order:
            # Only from here on can the buddy lie in a pageblock of another type.
            buddy_type = zone.type_of(buddy)
            if buddy_type != freetype and not zone.tables.mergeable[freetype][buddy_type]:
                break
        zone.unlink(buddy, order, buddy_type)
        if buddy_type != freetype:
            zone.set_type(buddy, order, freetype, Context.MERGE)
        pfn &= buddy
        order += 1
    zone.link(pfn, order, freetype, tail=to_tail or _merge_likely(zone, pfn, order))


def _captured(zone: Zone, pfn: int, order: int, freetype: int) -> bool:
    """compaction_capture (7.2): who compacts takes the block that it waits for before it merges further."""
    capture = zone.capture
    if capture is None or capture.pfn is not None or order != capture.order:
        return False
    migratetype = zone.migratetype(freetype)
    if migratetype in (Migratetype.CMA, Migratetype.ISOLATE):
        return False
    if zone.tables.mapped[freetype] != zone.tables.mapped[capture.freetype]:
        return False
    wants_movable = zone.migratetype(capture.freetype) is Migratetype.MOVABLE
    if order < zone.pageblock_order and migratetype is Migratetype.MOVABLE and not wants_movable:
        return False
    capture.pfn = pfn
    zone.account(freetype, -(1 << order))
    return True


def _merge_likely(zone: Zone, pfn: int, order: int) -> bool:
    """Would the block above merge further, were our buddy free too (buddy_merge_likely, 7.2)?"""
    if order >= zone.max_page_order - 1:
        return False
    parent = pfn & ~(1 << order)
    return zone.buddy.get(parent ^ (1 << (order + 1))) == order + 1


def free_split(zone: Zone, pfn: int, order: int) -> None:
    """Free a block pageblock by pageblock, each under its own type (split_large_buddy, 7.2)."""
    piece = min(order, zone.pageblock_order)
    for start in range(pfn, pfn + (1 << order), 1 << piece):
        free_one(zone, start, piece, zone.type_of(start))


def free_pages_of_block(zone: Zone, pfn: int) -> list[tuple[int, int]]:
    """(pfn, order) of the free blocks that begin in the pageblock of ``pfn``, ascending."""
    start = zone.block_start(pfn)
    found = []
    while start < zone.block_start(pfn) + zone.pageblock_nr_pages:
        order = zone.buddy.get(start)
        if order is None:
            start += 1
        else:
            found.append((start, order))
            start += 1 << order
    return found


def whole_block_in_zone(zone: Zone, pfn: int) -> bool:
    """prep_move_freepages_block (7.2): a pageblock that straddles the zone's end cannot be moved."""
    start = zone.block_start(pfn)
    return zone.spans(start) and zone.spans(start + zone.pageblock_nr_pages - 1)


def move_free_pages(zone: Zone, pfn: int, old: int, new: int) -> int:
    """Move a pageblock's free pages to another type's lists; how many (__move_freepages_block, 7.2)."""
    moved = 0
    for start, order in free_pages_of_block(zone, pfn):
        zone.move(start, order, old, new)
        moved += 1 << order
    return moved


def move_block(zone: Zone, pfn: int, old: int, new: int, ctx: Context) -> int:
    """Retype a pageblock and its free pages; how many, -1 if it straddles (move_freepages_block, 7.2)."""
    if not whole_block_in_zone(zone, pfn):
        return -1
    moved = move_free_pages(zone, pfn, old, new)
    zone.set_type(pfn, 0, new, ctx)
    return moved


def hand_over(zone: Zone, start: int, end: int, largest: int, *, to_tail: bool) -> None:
    """Free a range in naturally aligned chunks, ascending (mm/memblock.c __free_pages_memory, 7.2)."""
    for pfn, order in chunks(start, end, largest):
        free_one(zone, pfn, order, zone.type_of(pfn), to_tail=to_tail)


def chunks(start: int, end: int, largest: int) -> list[tuple[int, int]]:
    """(pfn, order): the range cut into the largest naturally aligned blocks, ascending."""
    found = []
    while start < end:
        alignment = (start & -start).bit_length() - 1 if start else largest
        order = min(alignment, (end - start).bit_length() - 1, largest)
        found.append((start, order))
        start += 1 << order
    return found
