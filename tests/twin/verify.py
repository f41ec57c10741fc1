"""Invariants of a zone: what must hold between any two operations."""

from __future__ import annotations

from asi_pa.kernel.gfp import Migratetype

from .mapping import promises_kept
from .zone import Zone

__all__ = ["verify_zone"]


def verify_zone(zone: Zone) -> str | None:
    """The first broken invariant in words, or None."""
    broken = _free_lists(zone) or _frames(zone) or _counters(zone) or _pcp_counts(zone)
    if not broken and zone.tables.design.explicit_maps and not promises_kept(zone):
        return "a pageblock is not mapped as its label says"
    return broken


def _free_lists(zone: Zone) -> str | None:
    listed = {}
    for order, lists in enumerate(zone.free_list):
        for freetype, blocks in enumerate(lists):
            for pfn in blocks:
                name = f"free block {pfn} of order {order} on list {zone.tables.names[freetype]}"
                if pfn & ((1 << order) - 1):
                    return f"{name} is not aligned"
                if pfn in listed:
                    return f"{name} is on two lists"
                listed[pfn] = order
                for block in zone.blocks(pfn, order):
                    if not _may_be_listed(zone, zone.type_of(block), freetype):
                        return f"{name} lies in a pageblock of type {zone.tables.names[zone.type_of(block)]}"
                buddy = pfn ^ (1 << order)
                if order < min(zone.pageblock_order, zone.max_page_order) and zone.buddy.get(buddy) == order:
                    return f"{name} was not merged with its free buddy {buddy}"
    if listed != zone.buddy:
        return "the buddy marks and the free lists name different blocks"
    return None


def _may_be_listed(zone: Zone, block: int, freetype: int) -> bool:
    """May a page of a pageblock of type ``block`` be on this list?

    In v2 of 2026 a block keeps a bit of its own, whatever list its pages are on.
    """
    tables = zone.tables
    if block == freetype or not tables.design.blocks_keep_bit:
        return block == freetype
    return tables.migratetype[block] is tables.migratetype[freetype] or not tables.mapped[block]


def _frames(zone: Zone) -> str | None:
    """Every frame is in exactly one of: free block, allocation, per-CPU list, hole."""
    owner = bytearray(zone.spec.spanned)
    blocks = [("free block", pfn, order) for pfn, order in zone.buddy.items()]
    blocks += [("allocation", pfn, used.order) for pfn, used in zone.allocated.items()]
    for pcp in zone.pcp:
        for index, pages in enumerate(pcp.lists):
            order, _ = zone.tables.pcp_lists[index]
            blocks += [("per-CPU page", pfn, order) for pfn in pages]
    blocks += [("waiting page", pfn, order) for pfn, order in zone.queue.items()]
    for order, pooled in enumerate(zone.pool):
        blocks += [("pool block", pfn, order) for pfn in pooled]
    for what, pfn, order in blocks:
        start = pfn - zone.spec.start_pfn
        end = start + (1 << order)
        if start < 0 or end > zone.spec.spanned:
            return f"{what} {pfn} of order {order} reaches out of the zone"
        if any(owner[start:end]):
            return f"{what} {pfn} of order {order} overlaps another block"
        if any(zone.reserved[start:end]):
            return f"{what} {pfn} of order {order} overlaps a hole"
        if what != "allocation" and any(zone.lru[start:end]):
            return f"{what} {pfn} of order {order} holds pages marked as LRU"
        owner[start:end] = b"\1" * (end - start)
    lost = sum(not used and not hole for used, hole in zip(owner, zone.reserved, strict=True))
    if lost:
        return f"{lost} frames belong to nothing"
    return None


def _counters(zone: Zone) -> str | None:
    free = dict.fromkeys(Migratetype, 0)
    for order, lists in enumerate(zone.free_list):
        for freetype, blocks in enumerate(lists):
            free[zone.migratetype(freetype)] += len(blocks) << order
    counted = sum(free.values()) - free[Migratetype.ISOLATE]
    isolated = sum(
        zone.is_isolated((zone.first_block + index) << zone.pageblock_order)
        for index in range(len(zone.block_type))
    )
    checks = (
        ("NR_FREE_PAGES", zone.nr_free_pages.exact(), counted),
        ("NR_FREE_CMA_PAGES", zone.nr_free_cma.exact(), free[Migratetype.CMA]),
        ("nr_free_highatomic", zone.nr_free_highatomic, free[Migratetype.HIGHATOMIC]),
        ("nr_isolate_pageblock", zone.nr_isolate_pageblock, isolated),
    )
    for name, value, found in checks:
        if value != found:
            return f"{name} is {value}, counted {found}"
    return None


def _pcp_counts(zone: Zone) -> str | None:
    for cpu, pcp in enumerate(zone.pcp):
        found = 0
        for index, pages in enumerate(pcp.lists):
            found += len(pages) << zone.tables.pcp_lists[index][0]
        if pcp.count != found:
            return f"cpu {cpu}: pcp count is {pcp.count}, its lists hold {found} pages"
    return None
