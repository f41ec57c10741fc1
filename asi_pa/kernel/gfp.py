"""The vocabulary: GFP flags, migratetypes, and what a request word means to the allocator.

A *request word* is a 32-bit gfp mask as a kernel prints it (the numbers are those of 6.18 and 7.2,
include/linux/gfp_types.h) plus bits of ours that no kernel uses: ``__GFP_SENSITIVE``, which the
RFC of March 2025 proposes (msgid 20250313-asi-page-alloc-v1-0-04972e046cea@google.com, patch 6), and
``MODEL_LRU``, which says that the pages count as movable (PG_lru) while they are allocated.
"""

from __future__ import annotations

from difflib import get_close_matches
from enum import IntEnum

__all__ = [
    "GFP_ATOMIC",
    "GFP_HIGHUSER",
    "GFP_HIGHUSER_MOVABLE",
    "GFP_KERNEL",
    "GFP_KERNEL_ACCOUNT",
    "GFP_NAMES",
    "GFP_NOFS",
    "GFP_NOIO",
    "GFP_NOWAIT",
    "GFP_TRANSHUGE",
    "GFP_TRANSHUGE_LIGHT",
    "GFP_USER",
    "MODEL_LRU",
    "MODEL_PINNED",
    "MODEL_UNSPLITTABLE",
    "Migratetype",
    "describe_gfp",
    "gfp_migratetype",
    "gfp_zone_index",
    "parse_gfp",
]

__GFP_DMA = 0x1
__GFP_HIGHMEM = 0x2
__GFP_DMA32 = 0x4
__GFP_MOVABLE = 0x8
__GFP_RECLAIMABLE = 0x10
__GFP_HIGH = 0x20
__GFP_IO = 0x40
__GFP_FS = 0x80
__GFP_ZERO = 0x100
__GFP_DIRECT_RECLAIM = 0x400
__GFP_KSWAPD_RECLAIM = 0x800
__GFP_WRITE = 0x1000
__GFP_NOWARN = 0x2000
__GFP_RETRY_MAYFAIL = 0x4000
__GFP_NOFAIL = 0x8000
__GFP_NORETRY = 0x10000
__GFP_MEMALLOC = 0x20000
__GFP_COMP = 0x40000
__GFP_NOMEMALLOC = 0x80000
__GFP_HARDWALL = 0x100000
__GFP_THISNODE = 0x200000
__GFP_ACCOUNT = 0x400000
__GFP_ZEROTAGS = 0x800000
__GFP_NO_OBJ_EXT = 0x1000000
#: Ours: beside MODEL_LRU, a folio that migration cannot split (its mapping has a least order).
MODEL_UNSPLITTABLE = 0x10000000
#: Ours: beside MODEL_LRU, somebody else holds a reference, so that migration fails with -EAGAIN.
MODEL_PINNED = 0x20000000
#: Ours: the pages are on the LRU while allocated, so claims and compaction count them as movable.
MODEL_LRU = 0x40000000
#: The RFC's flag; the posting leaves its number to the tree it applies to, this one is ours.
__GFP_SENSITIVE = 0x80000000

__GFP_RECLAIM = __GFP_DIRECT_RECLAIM | __GFP_KSWAPD_RECLAIM
GFP_ATOMIC = __GFP_HIGH | __GFP_KSWAPD_RECLAIM
GFP_KERNEL = __GFP_RECLAIM | __GFP_IO | __GFP_FS
GFP_KERNEL_ACCOUNT = GFP_KERNEL | __GFP_ACCOUNT
GFP_NOWAIT = __GFP_KSWAPD_RECLAIM | __GFP_NOWARN
GFP_NOIO = __GFP_RECLAIM
GFP_NOFS = __GFP_RECLAIM | __GFP_IO
GFP_USER = __GFP_RECLAIM | __GFP_IO | __GFP_FS | __GFP_HARDWALL
GFP_HIGHUSER = GFP_USER | __GFP_HIGHMEM
GFP_HIGHUSER_MOVABLE = GFP_HIGHUSER | __GFP_MOVABLE
GFP_TRANSHUGE_LIGHT = (
    (GFP_HIGHUSER_MOVABLE | __GFP_COMP | __GFP_NOMEMALLOC | __GFP_NOWARN) & ~__GFP_RECLAIM
) & 0xFFFFFFFF
GFP_TRANSHUGE = GFP_TRANSHUGE_LIGHT | __GFP_DIRECT_RECLAIM

#: name -> value, composites first, as the kernel's own printing (``%pGg``) orders them.
GFP_NAMES: dict[str, int] = {
    "GFP_TRANSHUGE": GFP_TRANSHUGE,
    "GFP_TRANSHUGE_LIGHT": GFP_TRANSHUGE_LIGHT,
    "GFP_HIGHUSER_MOVABLE": GFP_HIGHUSER_MOVABLE,
    "GFP_HIGHUSER": GFP_HIGHUSER,
    "GFP_USER": GFP_USER,
    "GFP_KERNEL_ACCOUNT": GFP_KERNEL_ACCOUNT,
    "GFP_KERNEL": GFP_KERNEL,
    "GFP_NOFS": GFP_NOFS,
    "GFP_ATOMIC": GFP_ATOMIC,
    "GFP_NOIO": GFP_NOIO,
    "GFP_NOWAIT": GFP_NOWAIT,
    "__GFP_DMA": __GFP_DMA,
    "__GFP_HIGHMEM": __GFP_HIGHMEM,
    "__GFP_DMA32": __GFP_DMA32,
    "__GFP_MOVABLE": __GFP_MOVABLE,
    "__GFP_RECLAIMABLE": __GFP_RECLAIMABLE,
    "__GFP_HIGH": __GFP_HIGH,
    "__GFP_IO": __GFP_IO,
    "__GFP_FS": __GFP_FS,
    "__GFP_ZERO": __GFP_ZERO,
    "__GFP_DIRECT_RECLAIM": __GFP_DIRECT_RECLAIM,
    "__GFP_KSWAPD_RECLAIM": __GFP_KSWAPD_RECLAIM,
    "__GFP_WRITE": __GFP_WRITE,
    "__GFP_NOWARN": __GFP_NOWARN,
    "__GFP_RETRY_MAYFAIL": __GFP_RETRY_MAYFAIL,
    "__GFP_NOFAIL": __GFP_NOFAIL,
    "__GFP_NORETRY": __GFP_NORETRY,
    "__GFP_MEMALLOC": __GFP_MEMALLOC,
    "__GFP_COMP": __GFP_COMP,
    "__GFP_NOMEMALLOC": __GFP_NOMEMALLOC,
    "__GFP_HARDWALL": __GFP_HARDWALL,
    "__GFP_THISNODE": __GFP_THISNODE,
    "__GFP_ACCOUNT": __GFP_ACCOUNT,
    "__GFP_ZEROTAGS": __GFP_ZEROTAGS,
    "__GFP_NO_OBJ_EXT": __GFP_NO_OBJ_EXT,
    "MODEL_UNSPLITTABLE": MODEL_UNSPLITTABLE,
    "MODEL_PINNED": MODEL_PINNED,
    "MODEL_LRU": MODEL_LRU,
    "__GFP_SENSITIVE": __GFP_SENSITIVE,
}


class Migratetype(IntEnum):
    """enum migratetype of Linux 7.2 with CONFIG_CMA (include/linux/mmzone.h)."""

    UNMOVABLE = 0
    MOVABLE = 1
    RECLAIMABLE = 2
    HIGHATOMIC = 3
    CMA = 4
    ISOLATE = 5


def gfp_migratetype(gfp: int) -> Migratetype:
    """The migratetype a mask asks for (include/linux/gfp.h gfp_migratetype, 7.2).

    Raises ValueError for __GFP_MOVABLE together with __GFP_RECLAIMABLE, which the kernel forbids.
    """
    both = (gfp >> 3) & 3
    if both == 3:
        raise ValueError(f"gfp 0x{gfp:x}: __GFP_MOVABLE and __GFP_RECLAIMABLE exclude each other")
    return Migratetype(both)


def gfp_zone_index(gfp: int) -> int:
    """The highest zone index a mask admits: 0 DMA, 1 DMA32, 2 Normal, 3 Movable (gfp_zone, 7.2)."""
    if gfp & __GFP_DMA:
        return 0
    if gfp & __GFP_DMA32:
        return 1
    movable = __GFP_HIGHMEM | __GFP_MOVABLE
    return 3 if gfp & movable == movable else 2


def parse_gfp(text: str, names: dict[str, int] | None = None) -> int:
    """A mask from the text a trace prints: ``GFP_KERNEL|__GFP_ZERO|0x200`` or ``none``.

    ``names`` is the trace's own table where it has one.  Raises ValueError for an unknown name.
    """
    if text == "none":
        return 0
    table = GFP_NAMES if names is None else names
    mask = 0
    for word in text.split("|"):
        if word in table:
            mask |= table[word]
            continue
        try:
            mask |= int(word, 0)
        except ValueError:
            near = get_close_matches(word.upper(), table, 1)
            hint = f": did you mean {near[0]}?" if near else ""
            raise ValueError(f"unknown gfp flag {word!r}{hint}") from None
    return mask


def describe_gfp(gfp: int) -> str:
    """The mask as the kernel prints it: composites first, unknown bits in hex, ``none`` for 0."""
    if gfp == 0:
        return "none"
    words = []
    for name, value in GFP_NAMES.items():
        if gfp & value == value:
            words.append(name)
            gfp &= ~value
    if gfp:
        words.append(f"0x{gfp:x}")
    return "|".join(words)
