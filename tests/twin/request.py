"""A request word, decoded once (asi_pa.kernel.gfp)."""

from __future__ import annotations

from dataclasses import dataclass

from asi_pa.designs import Design
from asi_pa.kernel.gfp import (
    GFP_NAMES,
    MODEL_LRU,
    MODEL_PINNED,
    MODEL_UNSPLITTABLE,
    Migratetype,
    gfp_migratetype,
    gfp_zone_index,
)

from .tables import Tables

__all__ = ["Request", "decode", "may_wait"]

_COMP = GFP_NAMES["__GFP_COMP"]
_DIRECT_RECLAIM = GFP_NAMES["__GFP_DIRECT_RECLAIM"]
_KSWAPD_RECLAIM = GFP_NAMES["__GFP_KSWAPD_RECLAIM"]
_SENSITIVE = GFP_NAMES["__GFP_SENSITIVE"]
_THISNODE = GFP_NAMES["__GFP_THISNODE"]


@dataclass(frozen=True)
class Request:
    """What the allocator reads of a request."""

    gfp: int
    migratetype: Migratetype
    #: The free list where it looks first.
    freetype: int
    #: Must its pages be absent from the protected tree?
    sensitive: bool
    #: The highest zone it may use (gfp_zone).
    highest: int
    #: Its pages are on the LRU while in use, so they count as movable.
    lru: bool
    compound: bool
    #: Movable pages that compaction cannot move, or not split.
    pinned: bool
    unsplittable: bool
    #: __GFP_DIRECT_RECLAIM: may sleep, so it may flip and reclaim.
    blocks: bool
    kswapd: bool
    this_node: bool
    #: May it change the side of a pageblock (ALLOC_FLIP)?
    flips: bool


def decode(tables: Tables, gfp: int) -> Request:
    """Raises ValueError for migratetypes that exclude each other."""
    migratetype = gfp_migratetype(gfp)
    sensitive = bool(gfp & _SENSITIVE)
    freetype = tables.start(migratetype, sensitive)
    if tables.tracks:
        # What the labels protect is what counts: March 2025 knows no nonsensitive movable memory.
        sensitive = not tables.mapped[freetype]
    blocks = bool(gfp & _DIRECT_RECLAIM)
    design = tables.design
    return Request(
        gfp=gfp,
        migratetype=migratetype,
        freetype=freetype,
        sensitive=sensitive,
        highest=gfp_zone_index(gfp),
        lru=bool(gfp & MODEL_LRU),
        compound=bool(gfp & (_COMP | MODEL_LRU)),
        pinned=bool(gfp & MODEL_LRU and gfp & MODEL_PINNED),
        unsplittable=bool(gfp & MODEL_LRU and gfp & MODEL_UNSPLITTABLE),
        blocks=blocks,
        kswapd=bool(gfp & _KSWAPD_RECLAIM),
        this_node=bool(gfp & _THISNODE),
        # March 2025, patch 11: sensitive requests that may block.  September, patch 16: whoever may block.
        flips=tables.may_flip(freetype) and may_wait(design, blocks, sensitive, posted=blocks),
    )


def may_wait(design: Design, blocks: bool, sensitive: bool, *, posted: bool) -> bool:
    """May a request wait for what its design has to change (Design.may_wait)?"""
    return {
        "posted": posted,
        "none": False,
        "any": True,
        "block": blocks,
        "sensitive": blocks and sensitive,
        "nonsensitive": blocks and not sensitive,
    }[design.may_wait]
