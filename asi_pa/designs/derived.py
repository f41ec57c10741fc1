"""What follows from a design's tables: who may merge, whose pcp list a freed page joins, the other side."""

from __future__ import annotations

from asi_pa.designs.freetypes import Freetype, PcpBank
from asi_pa.kernel.gfp import Migratetype
from asi_pa.kernel.sizing import PCPTYPES

MT = Migratetype

__all__ = ["Derived"]


class Derived:
    """Asked once, when a machine is built."""

    freetypes: tuple[Freetype, ...]
    pcp_banks: tuple[PcpBank, ...]
    reserves_nonsensitive: bool
    khugepaged_mended: bool
    merge_across: bool
    blocks_keep_bit: bool
    label_maps: bool
    flips_by_any: bool

    @property
    def migrate_pcptypes(self) -> int:
        """MIGRATE_PCPTYPES of a kernel with this design (include/linux/mmzone.h): 3, in March 2025 4.

        September's freetypes multiply the lists and leave the enum as it is.
        """
        return max(len(bank.types) for bank in self.pcp_banks)

    @property
    def khugepaged_pcptypes(self) -> int:
        """The number of pcp types that the watermarks are computed with (asi_pa.kernel.sizing)."""
        return PCPTYPES if self.khugepaged_mended else self.migrate_pcptypes

    def freetype(self, name: str) -> int:
        """The index of a freetype by name; KeyError if there is none."""
        for i, ft in enumerate(self.freetypes):
            if ft.name == name:
                return i
        raise KeyError(name)

    def index_of(self, mt: Migratetype, like: int) -> int | None:
        """The freetype of migratetype ``mt`` on the same side as freetype ``like``; None where there is none.

        As posted in March, one HIGHATOMIC, CMA and ISOLATE serve both sides.
        """
        same = [i for i, ft in enumerate(self.freetypes) if ft.mt == mt]
        if mt == MT.HIGHATOMIC and self.freetypes[like].mapped and not self.reserves_nonsensitive:
            return None
        for i in same:
            if self.freetypes[i].mapped == self.freetypes[like].mapped:
                return i
        return same[0] if same and (self.label_maps or mt == MT.ISOLATE) else None

    def other_side(self, index: int) -> int:
        """The freetype of the other mapping that a flip takes from; itself where there is none."""
        here = self.freetypes[index]
        other = [i for i, ft in enumerate(self.freetypes) if ft.mapped != here.mapped]
        for i in other:
            if self.freetypes[i].mt == here.mt:
                return i
        for i in other:
            if self.flips_by_any and self.freetypes[i].mt == MT.UNMOVABLE and here.mt <= MT.RECLAIMABLE:
                return i
        return index

    def mergeable(self, a: int, b: int) -> bool:
        """May free pageblocks of unlike types merge (migratetype_is_mergeable, mm/internal.h 7.2)?"""
        x, y = self.freetypes[a], self.freetypes[b]
        if a == b:
            return True
        if x.mt > MT.RECLAIMABLE or y.mt > MT.RECLAIMABLE:
            return False
        return self.merge_across or x.mapped == y.mapped or (self.blocks_keep_bit and x.mt == y.mt)

    def pcp_lists(self, pageblock_order: int) -> list[tuple[int, frozenset[int]]]:
        """(order, freetypes) of every pcp list, in the kernel's list order (order_to_pindex).

        Orders 0-3, and the pageblock's order for huge pages; a small pageblock_order leaves fewer.
        """
        lists: list[tuple[int, frozenset[int]]] = []
        low = [o for o in range(4) if o < pageblock_order]
        for bank in self.pcp_banks:
            for order in low:
                lists += [(order, frozenset((self.freetype(name),))) for name in bank.types]
            lists += [(pageblock_order, frozenset(self.freetype(n) for n in names)) for names in bank.thp]
        return lists

    def pcp_type(self, index: int) -> int | None:
        """The freetype whose pcp list a page freed in a block of this type joins; None: none, the buddy.

        HIGHATOMIC and CMA pages ride on the MOVABLE lists (mm/page_alloc.c __free_frozen_pages, 7.2), as far
        as those are on the same side of the mapping; else on the first lists that are.
        """
        here = self.freetypes[index]
        if here.mt == MT.ISOLATE:
            return None
        if here.mt <= MT.RECLAIMABLE:
            return index
        movable = self.index_of(MT.MOVABLE, index)
        if movable is not None:
            return movable
        if self.label_maps:
            return self.freetype("Movable")
        for bank in self.pcp_banks:
            for name in bank.types:
                if self.freetypes[self.freetype(name)].mapped == here.mapped:
                    return self.freetype(name)
        return None
