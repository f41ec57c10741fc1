"""Isolating pageblocks and allocating contiguous ranges (mm/page_isolation.c, mm/page_alloc.c)."""

from __future__ import annotations

from enum import IntEnum

from asi_pa.kernel.gfp import Migratetype

from . import buddy, mapping
from .mapping import Context
from .page_alloc import watermark_ok
from .request import Request
from .tables import ALLOC_CMA, EBUSY, EINVAL, WMARK_MIN
from .zone import Allocation, Zone

__all__ = [
    "IsolateMode",
    "alloc_contig_range",
    "isolate_free_page",
    "start_isolate_page_range",
    "undo_isolate_page_range",
]


class IsolateMode(IntEnum):
    """enum pb_isolate_mode as the recordings number it (include/linux/page-isolation.h, 7.2)."""

    CMA_ALLOC = 1
    OTHER = 2


# One pageblock


def _is_movable(zone: Zone, pfn: int) -> tuple[bool, int]:
    """(may the page be isolated, how many pages this answer covers) (page_is_unmovable, 7.2)."""
    if zone.is_reserved(pfn) or zone.is_set_aside(pfn):
        return False, 1
    owner = zone.owner_of(pfn)
    if owner is not None and zone.allocated[owner].compound and zone.allocated[owner].order:
        step = owner + (1 << zone.allocated[owner].order) - pfn
        return zone.allocated[owner].lru, step
    if owner != pfn:
        # Reference count 0: free, on a per-CPU list, or the tail of a block that is not compound.
        return True, 1 << zone.buddy.get(pfn, 0)
    return zone.is_lru(pfn), 1


def _has_unmovable_pages(zone: Zone, start: int, end: int, mode: IsolateMode) -> bool:
    """has_unmovable_pages (7.2)."""
    if zone.migratetype(zone.base_type(start)) is Migratetype.CMA:
        return mode is not IsolateMode.CMA_ALLOC
    while start < end:
        movable, step = _is_movable(zone, start)
        if not movable:
            return True
        start += step
    return False


def _move_free_pages(zone: Zone, block: int, isolated: bool) -> bool:
    """Bring a block in or out of ISOLATE with its free pages (__move_freepages_block_isolate, 7.2)."""
    if not buddy.whole_block_in_zone(zone, block):
        return False
    large = zone.free_block_of(block)
    if large is not None and zone.buddy[large] > zone.pageblock_order:
        # Take the large block apart, so that isolated and other pageblocks do not share it.
        order = zone.buddy[large]
        zone.delete(large, order, zone.type_of(large))
        zone.set_isolated(block, isolated)
        buddy.free_split(zone, large, order)
    else:
        old = zone.type_of(block)
        zone.set_isolated(block, isolated)
        buddy.move_free_pages(zone, block, old, zone.type_of(block))
    return True


def _isolate_block(zone: Zone, block: int, start: int, end: int, mode: IsolateMode) -> int:
    """set_migratetype_isolate (7.2): [start, end) is the range that must be movable; 0 or -errno.

    In the series of 2026 a block with the unmapped bit is refused (mm/page_isolation.c of its tree).
    """
    tables = zone.tables
    if not tables.design.isolates_unmapped and not tables.mapped[zone.base_type(block)]:
        return -EINVAL
    if zone.is_isolated(block):
        return -EBUSY
    if _has_unmovable_pages(zone, max(block, start), min(block + zone.pageblock_nr_pages, end), mode):
        return -EBUSY
    if not _move_free_pages(zone, block, isolated=True):
        return -EBUSY
    if not zone.kernel.isolate_is_bit:
        zone.set_base_type(block, _type_after(zone, block, mode))
    zone.nr_isolate_pageblock += 1
    return 0


def _type_after(zone: Zone, block: int, mode: IsolateMode) -> int:
    """Before 6.17 ISOLATE replaced the type, and the caller named the one that takes its place.

    Sound designs keep the pageblock on its side of the mapping.
    """
    tables = zone.tables
    base = zone.base_type(block)
    if mode is IsolateMode.CMA_ALLOC:
        cma = tables.sibling(Migratetype.CMA, base)
        return base if cma is None else cma
    if not tables.design.explicit_maps:
        return tables.start(Migratetype.MOVABLE, tables.design.freetypes[base].sensitive)
    mapped = zone.is_mapped(block)
    after = tables.on_side(tables.start(Migratetype.MOVABLE, not mapped), mapped)
    return base if after is None else after


def _unisolate_block(zone: Zone, block: int) -> None:
    """unset_migratetype_isolate (7.2): free pages may now merge with the neighbour's."""
    if not zone.is_isolated(block):
        return
    order = zone.buddy.get(block, -1)
    neighbour = block ^ (1 << max(order, 0))
    if (
        # The kernel: order >= pageblock_order, the same where MAX_PAGE_ORDER is one more.  A larger block
        # may hold pageblocks that stay isolated.
        order == zone.pageblock_order < zone.max_page_order
        and zone.buddy.get(neighbour) == order
        and not zone.is_isolated(neighbour)
    ):
        zone.delete(block, order, zone.type_of(block))
        zone.set_isolated(block, False)
        buddy.free_one(zone, block, order, zone.type_of(block), to_tail=True)
    else:
        _move_free_pages(zone, block, isolated=False)
    zone.nr_isolate_pageblock -= 1


# A range


def _isolate_boundary(
    zone: Zone, boundary: int, mode: IsolateMode, *, before: bool, skip_isolation: bool
) -> int:
    """Isolate the pageblock at one end of the range (isolate_single_pageblock, 7.2).

    Nothing in use may straddle the boundary, so the pages below it are looked at, from the start of
    the max-order aligned range on.
    """
    block = boundary - zone.pageblock_nr_pages if before else boundary
    error = 0
    if not skip_isolation:
        error = _isolate_block(zone, block, block, block + zone.pageblock_nr_pages, mode)
    if error or not zone.spans(boundary if before else boundary - 1):
        return error
    pfn = max(block & -(1 << zone.max_page_order), zone.spec.start_pfn)
    while pfn < boundary:
        if pfn in zone.buddy:
            pfn += 1 << zone.buddy[pfn]
            continue
        owner = zone.owner_of(pfn)
        if owner is not None and zone.allocated[owner].compound and zone.allocated[owner].order:
            pfn = owner + (1 << zone.allocated[owner].order)
            if pfn > boundary:
                if not skip_isolation:
                    _unisolate_block(zone, block)
                return -EBUSY
            continue
        pfn += 1
    return 0


def start_isolate_page_range(zone: Zone, start: int, end: int, mode: IsolateMode) -> int:
    """Isolate all pageblocks of [start, end), or none; 0 or -errno (start_isolate_page_range, 7.2)."""
    size = zone.pageblock_nr_pages
    first = zone.block_start(start)
    last = zone.block_start(end - 1)
    error = _isolate_boundary(zone, first, mode, before=False, skip_isolation=False)
    if error:
        return error
    error = _isolate_boundary(zone, last + size, mode, before=True, skip_isolation=first == last)
    if error:
        undo_isolate_page_range(zone, first, first + size)
        return error
    for block in range(first + size, last, size):
        if _isolate_block(zone, block, start, end, mode):
            undo_isolate_page_range(zone, first, block)
            undo_isolate_page_range(zone, last, last + size)
            return -EBUSY
    return 0


def undo_isolate_page_range(zone: Zone, start: int, end: int) -> None:
    """undo_isolate_page_range (7.2)."""
    for block in range(zone.block_start(start), end, zone.pageblock_nr_pages):
        _unisolate_block(zone, block)


# Free pages


def isolate_free_page(zone: Zone, pfn: int, order: int) -> bool:
    """Take a free block out, unless that leaves less than the MIN mark (__isolate_free_page, 7.2).

    Pageblocks of which at least half is taken become MOVABLE.
    """
    freetype = zone.type_of(pfn)
    if zone.migratetype(freetype) is not Migratetype.ISOLATE:
        mark = zone.spec.wmark[WMARK_MIN] + (1 << order)
        if not watermark_ok(zone, 0, mark, 0, ALLOC_CMA):
            return False
    zone.delete(pfn, order, freetype)
    if order >= zone.pageblock_order - 1:
        for block in zone.blocks(pfn, order):
            old = zone.type_of(block)
            if zone.tables.ordinary(old):
                buddy.move_block(zone, block, old, _movable(zone, block), Context.ISOLATE_FREE)
    return True


def _movable(zone: Zone, block: int) -> int:
    """MOVABLE of the pageblock's kind; sound designs look at its mapping, not at its label."""
    tables = zone.tables
    if not tables.design.explicit_maps:
        sensitive = tables.design.freetypes[zone.type_of(block)].sensitive
        return tables.start(Migratetype.MOVABLE, sensitive)
    movable = tables.on_side(tables.start(Migratetype.MOVABLE, True), zone.is_mapped(block))
    assert movable is not None
    return movable


# Contiguous ranges


def _isolated_reach(zone: Zone, start: int, end: int) -> int | None:
    """Where the free isolated blocks from ``start`` on end that cover all up to ``end``; None: they do
    not (test_pages_isolated, 7.2)."""
    pfn = start
    while pfn < end:
        if pfn not in zone.buddy or not zone.is_isolated(pfn):
            return None
        pfn += 1 << zone.buddy[pfn]
    return pfn


def _take_isolated(zone: Zone, start: int, end: int) -> None:
    """Unlink the free blocks of a range (isolate_freepages_range, 7.2)."""
    pfn = start
    while pfn < end:
        order = zone.buddy[pfn]
        zone.delete(pfn, order, zone.type_of(pfn))
        pfn += 1 << order


def _flip_range(zone: Zone, start: int, end: int, sensitive: bool) -> bool:
    """Sound designs: bring the pageblocks of an isolated, free range to the requester's side.

    A pageblock that has to change must be free as a whole; nothing changes unless all can.
    """
    tables = zone.tables
    wrong = [
        block
        for block in range(zone.block_start(start), end, zone.pageblock_nr_pages)
        if zone.is_mapped(block) == sensitive
    ]
    for block in wrong:
        pfn = block
        while pfn < block + zone.pageblock_nr_pages:
            free = zone.free_block_of(pfn)
            if free is None:
                return False
            pfn = free + (1 << zone.buddy[free])
        if tables.on_side(zone.base_type(block), not sensitive) is None:
            return False
    for block in wrong:
        new = tables.on_side(zone.base_type(block), not sensitive)
        assert new is not None
        if sensitive:
            mapping.unmap_blocks(zone, block, 1, Context.CONTIG)
        else:
            mapping.zero(zone, block, locked=False)
            mapping.map_blocks(zone, block, 1, Context.CONTIG)
        if zone.migratetype(zone.base_type(block)) is Migratetype.HIGHATOMIC:
            # On the other side it is an ordinary pageblock.
            zone.nr_reserved_highatomic -= min(zone.nr_reserved_highatomic, zone.pageblock_nr_pages)
        _rebase(zone, block, new)
    return True


def _rebase(zone: Zone, block: int, new: int) -> None:
    """Another type beneath ISOLATE; the free pages follow to its ISOLATE list."""
    old = zone.type_of(block)
    zone.set_base_type(block, new)
    if zone.type_of(block) == old:
        return
    large = zone.free_block_of(block)
    if large is not None and zone.buddy[large] > zone.pageblock_order:
        order = zone.buddy[large]
        zone.delete(large, order, old)
        buddy.free_split(zone, large, order)
    else:
        buddy.move_free_pages(zone, block, old, zone.type_of(block))


def alloc_contig_range(zone: Zone, start: int, end: int, request: Request) -> tuple[int, int] | None:
    """Take [start, end) out of an already isolated zone (alloc_contig_range, 7.2, without migration).

    Returns the range that the free blocks really covered, which the caller gives back in part, or
    None if a page is in use.  Every page becomes a single-page allocation.
    """
    outer_start = zone.free_block_of(start)
    outer_end = None if outer_start is None else _isolated_reach(zone, outer_start, end)
    if outer_start is None or outer_end is None:
        return None
    if zone.tables.design.contig_flips and not _flip_range(zone, start, end, request.sensitive):
        return None
    _take_isolated(zone, outer_start, outer_end)
    for pfn in range(outer_start, outer_end):
        if start <= pfn < end:
            zone.hand_out(pfn, 0, request)
        else:  # goes straight back, nobody had it
            sensitive = not zone.is_mapped(pfn)
            zone.allocated[pfn] = Allocation(order=0, compound=False, lru=False, sensitive=sensitive)
    return outer_start, outer_end
