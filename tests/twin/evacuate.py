"""Emptying a pageblock that is partly free, so that it can flip (Design.flip_free, Design.flip_used).

Nobody's posting: the search is bounded as fast_isolate_freepages() bounds its own (mm/compaction.c), what may
move is what has_unmovable_pages() lets pass (mm/page_isolation.c), and it goes where an allocation of its own
kind would.
"""

from __future__ import annotations

from asi_pa.kernel.gfp import Migratetype

from . import buddy, mapping, pcp
from .fallback import Mode, rmqueue
from .tables import WMARK_MIN
from .zone import Zone

__all__ = ["evacuate"]

MOST_BLOCKS = 64


def evacuate(zone: Zone, freetype: int) -> int | None:
    """The first pfn of a pageblock of the other side, emptied and on no list; None if none can be had."""
    block = _block_to_empty(zone, freetype)
    if block is None:
        return None
    for cpu in range(zone.machine.cpus):
        pcp.drain(zone, cpu)
    used = _to_move(zone, block)
    if used is None or zone.buddy.get(block, -1) >= zone.pageblock_order:
        return None
    held = [(pfn, order) for pfn, order in buddy.free_pages_of_block(zone, block)]
    for pfn, order in held:
        zone.delete(pfn, order, zone.type_of(block))
    for pfn in used:
        order = zone.allocated[pfn].order
        if not _move(zone, pfn):
            for start, size in sorted(held):
                buddy.free_one(zone, start, size, zone.type_of(block))
            return None
        held.append((pfn, order))
    return block


def _block_to_empty(zone: Zone, freetype: int) -> int | None:
    from .page_alloc import watermark_ok

    tables, looked, last = zone.tables, 0, None
    for order in range(zone.pageblock_order - 1, -1, -1):
        for other in range(tables.count):
            if not tables.ordinary(other) or tables.mapped[other] == tables.mapped[freetype]:
                continue
            for pfn in zone.free_list[order][other]:
                if looked == MOST_BLOCKS:
                    break
                block = zone.block_start(pfn)
                if block == last or zone.type_of(block) != other:
                    continue
                if not buddy.whole_block_in_zone(zone, block):
                    continue
                last = block
                looked += 1
                used = _to_move(zone, block)
                if used is None:
                    continue
                pages = sum(1 << zone.allocated[page].order for page in used)
                if pages * 100 > (100 - tables.design.flip_free) * zone.pageblock_nr_pages:
                    continue
                if watermark_ok(zone, 0, zone.spec.wmark[WMARK_MIN] + pages, zone.spec.zone_idx, 0):
                    return block
    return None


def _to_move(zone: Zone, block: int) -> list[int] | None:
    """First pfns of what is in use in a pageblock; None where some of it cannot move, or all is one block."""
    used, pfn = [], block
    listed = {
        start: order
        for cpu in zone.pcp
        for (order, _), pfns in zip(zone.tables.pcp_lists, cpu.lists, strict=True)
        for start in pfns
    }
    while pfn < block + zone.pageblock_nr_pages:
        if pfn in zone.buddy:
            pfn += 1 << zone.buddy[pfn]
        elif pfn in listed:
            pfn += 1 << listed[pfn]
        elif pfn in zone.allocated:
            if not zone.is_lru(pfn) or zone.allocated[pfn].pinned:
                return None
            used.append(pfn)
            pfn += 1 << zone.allocated[pfn].order
        else:
            return None
    return used if pfn == block + zone.pageblock_nr_pages else None


def _move(zone: Zone, pfn: int) -> bool:
    """A folio to where an allocation of its own kind would be; False if there is no place."""
    used = zone.allocated[pfn]
    start = zone.tables.start(Migratetype(used.migratetype), used.sensitive)
    target = rmqueue(zone, used.order, start, 0, Mode())
    if target is None:
        return False
    zone.allocated[target] = used
    zone.set_lru(target, used.order, True)
    if zone.tables.tracks:
        mapping.handed_out(zone, target, used.order, used.sensitive)
    zone.give_back(pfn, used.order)
    if zone.tell is None or not zone.tell(pfn, target):
        zone.moved.append([pfn, target])
    zone.stats.moved_to_flip += 1 << used.order
    return True
