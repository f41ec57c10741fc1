"""The twin's vocabulary: allocation flags, marks, and a design's tables.

A *freetype* is the index of a free list.  In plain Linux it is the migratetype; a design may add a
property (sensitivity), and then several freetypes share a migratetype.
"""

from __future__ import annotations

from asi_pa.designs import Design
from asi_pa.gfp import GFP_NAMES, Migratetype, gfp_migratetype

__all__ = [
    "ALLOC_CMA",
    "ALLOC_CPUSET",
    "ALLOC_FLIP",
    "ALLOC_HIGHATOMIC",
    "ALLOC_KSWAPD",
    "ALLOC_MIN_RESERVE",
    "ALLOC_NOFRAGMENT",
    "ALLOC_NON_BLOCK",
    "ALLOC_NO_WATERMARKS",
    "ALLOC_OOM",
    "ALLOC_RESERVES",
    "ALLOC_WMARK_MASK",
    "EBUSY",
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
#: Any of these lets a request use what the watermark holds back for HIGHATOMIC (mm/internal.h, 7.2).
ALLOC_RESERVES = ALLOC_NON_BLOCK | ALLOC_MIN_RESERVE | ALLOC_HIGHATOMIC | ALLOC_OOM

#: Higher orders are dear (include/linux/mmzone.h, 7.2).
PAGE_ALLOC_COSTLY_ORDER = 3
EBUSY = 16


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
        self._sibling: list[dict[Migratetype, int]] = []
        for freetype in everyone:
            found = {mt: design.index_of(mt, freetype) for mt in Migratetype}
            self._sibling.append({mt: index for mt, index in found.items() if index is not None})
        #: The label promises that the pageblock is present in the restricted physmap.
        self.mapped = tuple(kind.mapped for kind in kinds)
        #: Claims wholly free pageblocks only, and never steals (March 2025, patch 10).
        self.whole_blocks_only = tuple(kind.whole_blocks_only for kind in kinds)
        #: The freetype of the other kind whose blocks a flip takes; itself where there is none.
        self.other_side = tuple(design.other_side(freetype) for freetype in everyone)

    @property
    def count(self) -> int:
        return len(self.names)

    def start(self, gfp: int) -> int:
        """The freetype where a request looks first."""
        sensitive = bool(gfp & GFP_NAMES["__GFP_SENSITIVE"])
        return self.design.freetype(self.design.start[gfp_migratetype(gfp)][sensitive])

    def sibling(self, migratetype: Migratetype, freetype: int) -> int:
        """The freetype of another migratetype on the same side of the design as ``freetype``."""
        return self._sibling[freetype][migratetype]

    def ordinary(self, freetype: int) -> bool:
        """UNMOVABLE, MOVABLE or RECLAIMABLE of either kind (migratetype_is_mergeable, 7.2)."""
        return self.migratetype[freetype] <= Migratetype.RECLAIMABLE

    def may_flip(self, gfp: int) -> bool:
        """Does the request carry ALLOC_FLIP?  Only those that may block (both postings)."""
        if not gfp & GFP_NAMES["__GFP_DIRECT_RECLAIM"]:
            return False
        sensitive = bool(gfp & GFP_NAMES["__GFP_SENSITIVE"])
        return self.design.flips == "september" or (self.design.flips == "march" and sensitive)

    def pcp_index(self, order: int, freetype: int) -> int | None:
        """The per-CPU list for blocks of this order and type, if there is one (order_to_pindex, 7.2)."""
        return self._pcp_index.get((order, freetype))
