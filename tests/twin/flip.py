"""Flips: wholly free pageblocks change sides of the mapping, on demand or ahead of it.

March 2025 (patch 11): sensitive requests unmap a free nonsensitive block; the other way is a claim.
September 2025 (patches 16 and 18): either kind takes a block of the other.  Both happen after all else
failed, without the zone lock, for requests that may block.
"""

from __future__ import annotations

from typing import Any, cast

from asi_pa.kernel.gfp import Migratetype

from . import buddy, mapping
from .evacuate import evacuate
from .fallback import Mode, reserve_highatomic, rmqueue, smallest_of
from .mapping import Context, Window
from .request import Request
from .tables import (
    ALLOC_CMA,
    ALLOC_FLIP,
    ALLOC_HIGHATOMIC,
    ALLOC_NON_BLOCK,
    ALLOC_NOSTEAL,
    ALLOC_OOM,
    ALLOC_WMARK_MASK,
    WMARK_HIGH,
    WMARK_MIN,
)
from .zone import Zone

__all__ = ["ZoneView", "balance_ahead", "clear_ahead", "flip_free_blocks", "rmqueue_buddy"]


def rmqueue_buddy(zone: Zone, order: int, request: Request, alloc_flags: int) -> int | None:
    """One block without the per-CPU lists (rmqueue_buddy, 7.2), by a flip in the end."""
    freetype = request.freetype
    highatomic = zone.tables.sibling(Migratetype.HIGHATOMIC, freetype)
    pfn = None
    if alloc_flags & ALLOC_HIGHATOMIC:
        pfn = smallest_of(zone, order, highatomic)
    if pfn is None and zone.tables.design.flip_before_steal and alloc_flags & ALLOC_FLIP:
        pfn = rmqueue(zone, order, freetype, alloc_flags | ALLOC_NOSTEAL, Mode())
        if pfn is None:
            pfn = flip(zone, order, freetype, alloc_flags)
    if pfn is None:
        pfn = rmqueue(zone, order, freetype, alloc_flags, Mode())
    if pfn is None and alloc_flags & (ALLOC_OOM | ALLOC_NON_BLOCK):
        pfn = smallest_of(zone, order, highatomic)
    if pfn is None:
        pfn = flip(zone, order, freetype, alloc_flags)
    kernel = zone.kernel
    reserves = not kernel.highatomic_first_attempt or alloc_flags & ALLOC_WMARK_MASK == WMARK_MIN
    reserves = reserves and not kernel.reserve_highatomic_from_pcp
    if pfn is not None and alloc_flags & ALLOC_HIGHATOMIC and reserves:
        reserve_highatomic(zone, pfn, order, freetype)
    return pfn


# On demand


def _take_to_flip(zone: Zone, order: int, freetype: int, alloc_flags: int) -> int | None:
    """A free block of whole pageblocks of the other side, off its list."""
    tables = zone.tables
    other = tables.other_side[freetype]
    if tables.chooses:
        pfn = _chosen(zone, order, freetype)
        if pfn is not None:
            return pfn
    if tables.design.flips == "march":
        return None if tables.mapped[freetype] else buddy.smallest(zone, order, other)
    if not tables.design.flip_cma:  # as posted in September a flip takes CMA blocks, too (Sx-g2)
        alloc_flags &= ~ALLOC_CMA
    return rmqueue(zone, order, other, alloc_flags & ~ALLOC_NOSTEAL, Mode())


def _chosen(zone: Zone, order: int, freetype: int) -> int | None:
    """The block that a design's own Design.choose_block() names, if it suits."""
    tables = zone.tables
    pfn = tables.design.choose_block(cast(Any, ZoneView(zone)), order, tables.names[freetype])
    if pfn is None or zone.buddy.get(pfn, -1) < order:
        return None
    other = zone.type_of(pfn)
    if tables.mapped[other] == tables.mapped[freetype] or not tables.ordinary(other):
        return None
    return buddy.take(zone, pfn, order, zone.buddy[pfn], other)


def flip(zone: Zone, order: int, freetype: int, alloc_flags: int) -> int | None:
    """Whole pageblocks of the other kind change sides, the last resort of a request that may block.

    A CMA block stays CMA; as posted, its unused tail goes to the requester's lists nevertheless.
    """
    tables = zone.tables
    if tables.other_side[freetype] == freetype:
        return None
    if not alloc_flags & ALLOC_FLIP:
        zone.stats.noblock_refusals += tables.may_flip(freetype)
        return None
    large = max(order, zone.pageblock_order)
    pfn = _take_to_flip(zone, large, freetype, alloc_flags)
    if pfn is None and tables.design.flip_used == "move" and large == zone.pageblock_order:
        pfn = evacuate(zone, freetype)
    if pfn is None:
        return None
    ctx = Context.UNMAP if tables.design.flips == "march" else Context.FLIP
    _change_sides(zone, pfn, large, tables.mapped[freetype], ctx)
    if tables.mapped[freetype]:
        zone.stats.map_allocs += 1
    else:
        zone.stats.flush_allocs += 1
    for block in zone.blocks(pfn, large):
        cma = zone.migratetype(zone.base_type(block)) is Migratetype.CMA
        zone.set_type(block, 0, tables.other_side[zone.base_type(block)] if cma else freetype, ctx)
    if tables.design.flip_splits and (
        not tables.design.explicit_maps
        or all(zone.type_of(block) == freetype for block in zone.blocks(pfn, large))
    ):
        zone.account(freetype, buddy.expand(zone, pfn, order, large, freetype))
        return pfn
    if tables.design.flip_splits:  # part of it was isolated meanwhile
        for start, piece in buddy.chunks(pfn + (1 << order), pfn + (1 << large), zone.pageblock_order):
            buddy.free_one(zone, start, piece, zone.type_of(start))
        return pfn
    for current in range(order, large):
        tail = zone.type_of(pfn) if tables.design.explicit_maps else freetype
        buddy.free_one(zone, pfn + (1 << current), current, tail)
    return pfn


def _change_sides(zone: Zone, pfn: int, order: int, mapped: bool, ctx: Context) -> None:
    """Clear and map, or unmap and flush, a block that is on no list."""
    zone.lock_dropped(Window.TAKEN, pfn, order)
    if mapped:
        _clear_and_map(zone, pfn, order)
    else:
        mapping.unmap_blocks(zone, pfn, 1 << (order - zone.pageblock_order), ctx)
    zone.lock_dropped(Window.FLUSHED, pfn, order)


def _clear_and_map(zone: Zone, pfn: int, order: int) -> None:
    late = zone.tables.design.zeroing == "mapped"
    if not late:
        for block in zone.blocks(pfn, order):
            mapping.zero(zone, block, locked=False)
    mapping.map_blocks(zone, pfn, 1 << (order - zone.pageblock_order), Context.FLIP)
    if late:  # 2026, v4: readable until it is cleared
        zone.lock_dropped(Window.MAPPED, pfn, order)
        for block in zone.blocks(pfn, order):
            mapping.zero(zone, block, locked=False)


# Ahead of need


def flip_free_blocks(zone: Zone, count: int, mapped: bool) -> int:
    """Up to ``count`` wholly free pageblocks change sides before anybody asks; how many did."""
    tables = zone.tables
    if mapped:
        target = tables.start(Migratetype.UNMOVABLE, False)
    else:
        target = tables.start(Migratetype.MOVABLE, True)
        if tables.mapped[target]:  # designs where only UNMOVABLE can be unmapped
            target = tables.start(Migratetype.UNMOVABLE, True)
    done = 0
    held: list[tuple[int, int]] = []
    for order in range(zone.max_page_order, zone.pageblock_order - 1, -1):
        blocks = 1 << (order - zone.pageblock_order)
        for freetype in range(tables.count):
            if not tables.ordinary(freetype) or tables.mapped[freetype] == mapped:
                continue
            while done + blocks <= count:
                pfn = zone.head(order, freetype)
                if pfn is None:
                    break
                zone.delete(pfn, order, freetype)
                done += blocks
                if mapped:
                    _change_sides(zone, pfn, order, mapped, Context.FLIP)
                    _to_lists(zone, pfn, order, target)
                    continue
                held.append((pfn, order))
                if len(held) == tables.design.unmap_batch:
                    _unmap_together(zone, held, target)
                    held = []
    if held:
        _unmap_together(zone, held, target)
    return done


def _to_lists(zone: Zone, pfn: int, order: int, target: int) -> None:
    zone.set_type(pfn, order, target, Context.FLIP)
    for block in zone.blocks(pfn, order):
        buddy.free_one(zone, block, zone.pageblock_order, zone.type_of(block), to_tail=True)


def _unmap_together(zone: Zone, chunks: list[tuple[int, int]], target: int) -> None:
    """Chunks that are on no list, under one flush (Design.unmap_batch)."""
    alone = len(chunks) == 1
    for pfn, order in chunks:
        zone.lock_dropped(Window.TAKEN, pfn, order)
        mapping.unmap_blocks(zone, pfn, 1 << (order - zone.pageblock_order), Context.FLIP, flush=alone)
    if not alone:
        for pfn, order in chunks:
            zone.lock_dropped(Window.UNMAPPED, pfn, order)
    for pfn, order in chunks:
        zone.lock_dropped(Window.FLUSHED, pfn, order)
        _to_lists(zone, pfn, order, target)


def clear_ahead(zone: Zone) -> None:
    """vmstat's worker clears free unmapped pageblocks (Design.zeroed_by), each off its list meanwhile."""
    tables = zone.tables
    for _ in zone.all_blocks():
        found = next(
            (
                (pfn, order, freetype)
                for order in range(zone.max_page_order, zone.pageblock_order - 1, -1)
                for freetype in range(tables.count)
                if tables.ordinary(freetype) and not tables.mapped[freetype]
                for pfn in zone.free_list[order][freetype]
                if zone.count_dirty(pfn, 1 << order)
            ),
            None,
        )
        if found is None:
            return
        pfn, order, freetype = found
        zone.delete(pfn, order, freetype)
        zone.lock_dropped(Window.TAKEN, pfn, order)
        before = zone.stats.pages_zeroed
        for block in zone.blocks(pfn, order):
            mapping.zero(zone, block, locked=False)
        zone.stats.pages_zeroed_ahead += zone.stats.pages_zeroed - before
        for block in zone.blocks(pfn, order):
            buddy.free_one(zone, block, zone.pageblock_order, zone.type_of(block), to_tail=True)


def balance_ahead(zone: Zone) -> None:
    """The worker that a refill, or a request beside the per-CPU lists, woke: it may wait for flushes.

    Below ``unmap_low`` free sensitive pages, free blocks are unmapped until there are ``unmap_high``; whole
    free unmapped blocks beyond ``map_back`` are mapped again.
    """
    tables, view = zone.tables, ZoneView(zone)
    stock, back = zone.stock_due, zone.back_due
    zone.stock_due = zone.back_due = False
    wanted = 0
    if stock and tables.asks_ahead:
        wanted = tables.design.unmap_ahead(cast(Any, view))
        if wanted < 0:
            flip_free_blocks(zone, -wanted, True)
    if wanted > 0:
        zone.stats.unmapped_ahead += flip_free_blocks(zone, wanted, False)
    beyond = view.whole_blocks(mapped=False) - tables.design.map_back
    if back and tables.design.map_back and beyond > 0:
        flip_free_blocks(zone, beyond, True)
    if stock and not tables.asks_ahead:
        missing = max(tables.design.unmap_high, tables.design.unmap_low) - view.free_pages(mapped=False)
        if view.free_pages(mapped=False) < tables.design.unmap_low:
            wanted = (missing + zone.pageblock_nr_pages - 1) >> zone.pageblock_order
            zone.stats.unmapped_ahead += flip_free_blocks(zone, wanted, False)


class ZoneView:
    """What a design's own decisions may look at (asi_pa.engine.hooks.ZoneView)."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self.pageblock_pages = zone.pageblock_nr_pages
        self.managed = zone.managed
        self.zone, self.node = zone.spec.name, zone.spec.nid
        self.start_pfn, self.end_pfn = zone.spec.start_pfn, zone.spec.end_pfn
        self.pageblock_order, self.max_order = zone.pageblock_order, zone.max_page_order
        self.watermarks = tuple(zone.wmark(mark) for mark in range(WMARK_HIGH + 1))

    def free_pages(self, **which: Any) -> int:
        return sum(len(blocks) << order for order, blocks in self._lists(**which))

    def whole_blocks(self, **which: Any) -> int:
        least = self._zone.pageblock_order
        return sum(len(blocks) << (order - least) for order, blocks in self._lists(**which) if order >= least)

    def counts(self, **which: Any) -> tuple[int, ...]:
        found = self._lists(**which)
        orders = range(self._zone.max_page_order + 1)
        return tuple(sum(len(blocks) for at, blocks in found if at == order) for order in orders)

    def pool_pages(self) -> int:
        return sum(len(blocks) << order for order, blocks in enumerate(self._zone.pool))

    def block_free(self, pfn: int) -> int:
        start = self._zone.block_start(pfn)
        return sum(
            self._zone.free_block_of(page) is not None for page in range(start, start + self.pageblock_pages)
        )

    def block_type(self, pfn: int) -> str:
        return self._zone.tables.names[self._zone.type_of(pfn)]

    def block_mapped(self, pfn: int) -> bool:
        return self._zone.is_mapped(pfn)

    def free_list(self, freetype: str, order: int, most: int = 64) -> list[int]:
        return list(self._zone.free_list[order][self._zone.tables.names.index(freetype)])[:most]

    def _lists(self, mapped: bool | None = None, freetype: str | None = None) -> list[tuple[int, Any]]:
        tables = self._zone.tables
        return [
            (order, blocks)
            for order, lists in enumerate(self._zone.free_list)
            for index, blocks in enumerate(lists)
            if tables.ordinary(index)
            and mapped in (None, tables.mapped[index])
            and freetype in (None, tables.names[index])
        ]
