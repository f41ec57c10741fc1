"""The twin's vocabulary: allocation flags, marks, and a design's tables.

A *freetype* is the index of a free list.  In plain Linux it is the migratetype; a design may add a
property (sensitivity), and then several freetypes share a migratetype.
"""

from __future__ import annotations

from asi_pa.designs import Design
from asi_pa.kernel.gfp import Migratetype

__all__ = [
    "ALLOC_CMA",
    "ALLOC_CPUSET",
    "ALLOC_FLIP",
    "ALLOC_HIGHATOMIC",
    "ALLOC_KSWAPD",
    "ALLOC_MIN_RESERVE",
    "ALLOC_NOFRAGMENT",
    "ALLOC_NON_BLOCK",
    "ALLOC_NOSTEAL",
    "ALLOC_NO_WATERMARKS",
    "ALLOC_OOM",
    "ALLOC_RESERVES",
    "ALLOC_WMARK_MASK",
    "EBUSY",
    "EINVAL",
    "PAGE_ALLOC_COSTLY_ORDER",
    "WMARK_HIGH",
    "WMARK_LOW",
    "WMARK_MIN",
    "Tables",
]

# enum zone_watermarks (include/linux/mmzone.h) and the ALLOC_* flags (mm/internal.h), 7.2.
WMARK_MIN, WMARK_LOW, WMARK_HIGH = 0, 1, 2
ALLOC_NO_WATERMARKS = 0x04
ALLOC_WMARK_MASK = ALLOC_NO_WATERMARKS - 1
ALLOC_OOM = 0x08
ALLOC_NON_BLOCK = 0x10
ALLOC_MIN_RESERVE = 0x20
ALLOC_CPUSET = 0x40
ALLOC_CMA = 0x80
ALLOC_NOFRAGMENT = 0x100
ALLOC_HIGHATOMIC = 0x200
ALLOC_KSWAPD = 0x800
#: The request may change a whole free pageblock's mapping: ALLOC_ASI_UNMAP of March 2025; in September
#: 2025 the absence of ALLOC_NOBLOCK.  The number is ours.
ALLOC_FLIP = 0x10000
#: Ours: stop before single-page steals, for designs that rather flip (Design.flip_before_steal).
ALLOC_NOSTEAL = 0x20000
#: Any of these lets a request use what the watermark holds back for HIGHATOMIC (mm/internal.h, 7.2).
ALLOC_RESERVES = ALLOC_NON_BLOCK | ALLOC_MIN_RESERVE | ALLOC_HIGHATOMIC | ALLOC_OOM

#: Higher orders are dear (include/linux/mmzone.h, 7.2).
PAGE_ALLOC_COSTLY_ORDER = 3
EBUSY = 16
EINVAL = 22


class Tables:
    """A design (asi_pa.designs) as the allocator reads it: everything by number, indexed by freetype."""

    def __init__(self, design: Design, pageblock_order: int) -> None:
        self.design = design
        kinds = design.freetypes
        everyone = range(len(kinds))
        self.names = tuple(kind.name for kind in kinds)
        self.migratetype = tuple(kind.mt for kind in kinds)
        #: Where a request may claim or steal, in order (mm/page_alloc.c fallbacks[], 7.2).
        self.fallbacks = tuple(tuple(design.freetype(name) for name in kind.fallbacks) for kind in kinds)
        #: May unlike pageblocks form one free block (migratetype_is_mergeable of both, 7.2)?
        self.mergeable = tuple(tuple(design.mergeable(a, b) for b in everyone) for a in everyone)
        self.boot = design.freetype(design.boot)
        #: (order, freetypes that share the list) of each per-CPU list.
        self.pcp_lists = design.pcp_lists(pageblock_order)
        #: The freetype whose per-CPU lists take a freed page; None: straight to the buddy.
        self.pcp_type = tuple(design.pcp_type(freetype) for freetype in everyone)
        self._pcp_index = {
            (order, freetype): index
            for index, (order, freetypes) in enumerate(self.pcp_lists)
            for freetype in freetypes
        }
        self._sibling = [{mt: design.index_of(mt, freetype) for mt in Migratetype} for freetype in everyone]
        #: Has the design a tree of its own whose mapping follows the pageblocks' labels?  Wrappers change
        #: mappings page by page and leave the labels alone.
        self.tracks = bool(design.protects) and not design.wrapper
        #: The label promises that the pageblock is present in the tree that the design protects.
        self.mapped = tuple(kind.mapped for kind in kinds)
        #: Claims wholly free pageblocks only, and never steals (March 2025, patch 10).
        self.whole_blocks_only = tuple(kind.whole_blocks_only for kind in kinds)
        #: The freetype of the other kind whose blocks a flip takes; itself where there is none.
        self.other_side = tuple(design.other_side(freetype) for freetype in everyone)
        doubled = sum(kind.mt is Migratetype.MOVABLE for kind in kinds) > 1
        #: A freetype's number in the event log: September's recorder wrote plain migratetypes.
        self.event_type = tuple(int(kind.mt) if doubled else freetype for freetype, kind in enumerate(kinds))
        #: Does the design unmap ahead of need, by its own rule or by one written in Python?
        self.asks_ahead = type(design).unmap_ahead is not Design.unmap_ahead
        #: What a worker does, and what wakes it.
        self.stocks = self.asks_ahead or design.unmap_low > 0 or design.pool_low > 0
        self.gives_back = design.give_back if design.map_back or design.pool_high else ""
        self.looks_ahead = bool(self.stocks or self.gives_back)
        self.asks_refill = type(design).choose_refill is not Design.choose_refill
        self.chooses = type(design).choose_block is not Design.choose_block

    @property
    def count(self) -> int:
        return len(self.names)

    def start(self, migratetype: Migratetype, sensitive: bool) -> int:
        """The freetype where a request looks first."""
        return self.design.freetype(self.design.start[migratetype][sensitive])

    def sibling(self, migratetype: Migratetype, freetype: int) -> int | None:
        """The freetype of another migratetype on the same side as ``freetype``, where there is one."""
        return self._sibling[freetype][migratetype]

    def isolate(self, freetype: int) -> int:
        """What an isolated pageblock of ``freetype`` is."""
        isolate = self.sibling(Migratetype.ISOLATE, freetype)
        assert isolate is not None, f"{self.names[freetype]} cannot be isolated"
        return isolate

    def on_side(self, freetype: int, mapped: bool) -> int | None:
        """What a pageblock of ``freetype`` becomes on a side of the mapping.

        CMA stays CMA, or cannot be there; anything else becomes what requests of that side look for
        first: MOVABLE, or UNMOVABLE where the side has nothing movable.
        """
        if self.mapped[freetype] == mapped:
            return freetype
        if self.migratetype[freetype] is Migratetype.CMA:
            there = [
                other
                for other, migratetype in enumerate(self.migratetype)
                if migratetype is Migratetype.CMA and self.mapped[other] == mapped
            ]
            return there[0] if there else None
        movable = self.start(Migratetype.MOVABLE, not mapped)
        return movable if self.mapped[movable] == mapped else self.start(Migratetype.UNMOVABLE, not mapped)

    def may_flip(self, freetype: int) -> bool:
        """Do its requests flip?  March's for the mapped side claim, unless blocks are emptied first."""
        march = not self.mapped[freetype] or self.design.flip_free < 100
        return self.design.flips == "september" or (self.design.flips == "march" and march)

    def ordinary(self, freetype: int) -> bool:
        """UNMOVABLE, MOVABLE or RECLAIMABLE of either kind (migratetype_is_mergeable, 7.2)."""
        return self.migratetype[freetype] <= Migratetype.RECLAIMABLE

    def pcp_index(self, order: int, freetype: int) -> int | None:
        """The per-CPU list for blocks of this order and type, if there is one (order_to_pindex, 7.2)."""
        return self._pcp_index.get((order, freetype))
