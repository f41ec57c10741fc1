"""Each posted design as data: freetypes, where requests look, who may take from whom, how blocks flip.

A *freetype* is the index of a free list: a migratetype and what a design adds to it.  The engine reads these
tables and fields.  It knows no design's name; where designs act differently, a field says how (``flips`` has
three words, ``wrapper`` four), and the engine has code for each word.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

from asi_pa.kernel.gfp import Migratetype
from asi_pa.kernel.sizing import PCPTYPES

MT = Migratetype

__all__ = ["Design", "Freetype", "PcpBank", "Proposal", "bank", "side"]


@dataclass(frozen=True, kw_only=True)
class Freetype:
    """One kind of free list."""

    name: str
    """As /proc/pagetypeinfo would print it."""
    mt: MT
    sensitive: bool = True
    """Whose requests it serves, in designs that tell them apart."""
    mapped: bool = False
    """The label promises: present in the tree that the design protects."""
    fallbacks: tuple[str, ...] = ()
    """Freetypes to claim or steal from, first choice first (fallbacks[] of mm/page_alloc.c)."""
    whole_blocks_only: bool = False
    """Claims wholly free pageblocks only, never steals."""


@dataclass(frozen=True, kw_only=True)
class PcpBank:
    """The pcp lists of one set of freetypes: low orders by order and type, then the order-9 lists."""

    types: tuple[str, ...]
    thp: tuple[tuple[str, ...], ...]
    """One list each: the freetypes that share an order-9 list."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """A design; everything the engine reads of it."""

    name: str
    title: str
    source: tuple[str, ...]
    """Message-ids or files it follows."""
    family: str = ""
    """What its variants share, and the short name of the first of them that is compared."""
    ours: bool = False
    """A variant that no posting proposes: what is claimed of the posting is not judged by it."""
    compared: int = 0
    """Its place in what `compare` shows unless told otherwise, lower first; 0: not shown."""
    as_posted: bool = False
    """It keeps the holes that it was posted with; what protects something and is not as posted is meant to
    be sound."""
    freetypes: tuple[Freetype, ...]
    start: tuple[tuple[str, str], tuple[str, str], tuple[str, str]]
    """[migratetype][sensitive]: the freetype a request looks in first."""
    pcp_banks: tuple[PcpBank, ...]
    boot: str
    """Freetype of all memory at boot."""
    merge_across: bool = True
    """Free blocks of order >= pageblock_order merge across mapped and unmapped labels."""
    blocks_keep_bit: bool = False
    """Whether a pageblock is unmapped is a bit of its own that only flips change, and free blocks of one
    migratetype merge whatever their bits: a free page's list and its block's bit may differ (2026, v2)."""
    protects: str = ""
    """What must be absent from which tree; empty: nothing."""
    tree: str = "restricted"
    """The tree it changes: "restricted" (ASI) or "unrestricted" (absent from the direct map itself)."""
    flips: str = "none"
    """"none", "march" (claim maps, one unmap step) or "september" (both ways after all else failed)."""
    label_maps: bool = False
    """Setting a block's type maps it as a side effect, and nothing unmaps (as posted in March)."""
    explicit_maps: bool = False
    """Every change of label across mappings maps or unmaps, both explicitly."""
    mirror: bool = True
    """Changes of the unrestricted physmap (page protection, hotplug) reach the restricted one as well."""
    zeroing: str = "none"
    """Where what a sensitive owner left is cleared on the way S -> N: "none", "locked" (whole block, under
    the zone lock), "flip" (whole block, outside it), "dirty" (only pages that held sensitive data, outside
    it), "mapped" (whole block, outside it, *after* it was mapped: readable for as long as the clearing takes)
    or "alloc" (every nonsensitive allocation; until then the block's old contents stay readable)."""
    owner_zeroes: bool = False
    """A sensitive owner clears its pages before it frees them (secretmem)."""
    flips_by_any: bool = True
    """A request whose migratetype has no list on the other side flips an UNMOVABLE block of that side; else
    only requests whose migratetype has both sides flip (2026: UNMOVABLE ones, in either direction)."""
    flip_keeps_isolation: bool = False
    """A flip changes a pageblock's bit alone: one that was isolated meanwhile stays isolated (2026)."""
    flip_splits: bool = False
    """What a flip leaves of its block goes to the lists as in an ordinary split, heads of empty lists; else
    piece by piece as freed pages do, which may merge and take the lists' tails."""
    flip_before_steal: bool = False
    """A request that may flip does so rather than take single pages from another migratetype."""
    reserves_nonsensitive: bool = True
    """Nonsensitive requests have HIGHATOMIC reserves, too."""
    isolates_unmapped: bool = True
    """A pageblock of the unmapped side can be isolated; else contiguous ranges, CMA and offlining fail on any
    range that has one (2026)."""
    unmapped_counts: bool = True
    """A free block on an unmapped list passes the order part of the watermark test (2026: v4, not v2)."""
    reports_unmapped: bool = True
    """Page reporting takes blocks off the unmapped lists, too (2026: not)."""
    undoes_others_isolation: bool = True
    """An alloc_contig_range() whose isolation fails undoes the isolation of its whole range, pageblocks that
    another caller isolated included, as Linux 7.2 and 6.12 do (docs/kernel-findings.md); else of its own."""
    putback_by_block: bool = False
    """Page reporting puts a block back pageblock by pageblock, each under its own type: another CPU may have
    isolated one of them meanwhile.  The kernel's __putback_isolated_page() does not look."""
    contig_flips: bool = False
    """alloc_contig_range flips wholly free pageblocks of its range to the requester's side, or fails."""
    unmap_low: int = 0
    """Unmapping ahead of need: below this many free sensitive pages (0: never) ..."""
    unmap_high: int = 0
    """... whole free nonsensitive pageblocks are unmapped until there are this many."""
    map_back: int = 0
    """Giving back ahead of need: whole free unmapped pageblocks beyond this many (0: never) are mapped again,
    cleared as flips clear, by the same worker."""
    flip_cma: bool = False
    """A flip may take blocks out of CMA (September as posted)."""
    keeps_noblock: bool = True
    """Whether a request may block is its gfp's word, whatever the slow path makes of its flags."""
    slow_keeps_fast: bool = False
    """The slow path keeps the fast path's LOW watermark and NOFRAGMENT (September, patch 16 as posted)."""
    compaction: str = "order"
    """What direct compaction is asked for: "order" (the request's), "unmapped" (a pageblock for unmapped
    requests), "both" (a pageblock for every request that could flip)."""
    compaction_same_side: bool = False
    """Compaction moves pages within one side of the mapping only; no posting says so."""
    khugepaged_mended: bool = False
    """khugepaged asks for as many free pageblocks as on plain Linux, whatever pcp types the design adds."""
    wrapper: str = ""
    """What wraps the engine: "", "pool", "per-page" or "queue"."""
    queue_delay: int = 64
    """"queue": operations between the first page's arrival in the free queue and the worker's run."""
    queue_batch: int = 1
    """"queue": chunks that the worker unmaps between two flushes; 0: all that wait (RFCv2: 1)."""
    queue_waits: bool = False
    """"queue": a request that may block and found nothing waits for the worker."""
    refill_order: int = 9
    """"pool": the largest order of a refill (2023: 9), at most pageblock_order."""
    refill_leaves: bool = False
    """"pool": a chunk's mapping changes at once, which keeps 2M leaves; not page by page as posted."""
    pool_by_mark: bool = False
    """"pool": a freed page goes to the pool when its pageblock is marked, whoever owned it and however it is
    mapped; a refill marks, only a shrunk chunk of exactly a pageblock unmarks (2023 as posted).  Else a page
    belongs to the pool when its own mapping says so."""
    refill_unmaps: str = "chunk"
    """"pool": what a refill changes the mapping of: "chunk", or the "request"'s pages at its start (2023 as
    posted)."""
    pool_clears: bool = True
    """"pool": what the shrinker gives back to the direct map is cleared before."""
    shrink_counts: bool = True
    """"pool": the shrinker stops when it has freed what was asked; else it takes the running total off the
    rest after each order, and so stops early (2023 as posted)."""
    shrink_batch: int = 128
    """Pages that one call of the pool's shrinker gives back (SHRINK_BATCH of mm/shrinker.c, 7.2)."""

    # ------------------------------------------------ slow-path decisions a subclass may override

    def unmap_ahead(self, view: Any) -> int:
        """How many whole free blocks to flip now, before anybody asks; called after refills of free lists.

        ``view`` is an `asi_pa.engine.hooks.ZoneView`.  n > 0 unmaps n blocks, n < 0 maps -n.  The engine's
        own rule (``unmap_low``, ``unmap_high``) costs no call; override this for another.
        """
        raise NotImplementedError

    def choose_block(self, view: Any, order: int, freetype: str) -> int | None:
        """The pfn of the free block of at least ``order`` that a request of ``freetype`` shall flip.

        None leaves it to the engine; so does a pfn that heads no such block of the other side.
        """
        raise NotImplementedError

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

    @classmethod
    def based_on(cls, design: str | Design, **changes: Any) -> Self:
        """An instance of this class with another design's tables, and ``changes`` to them."""
        from asi_pa.designs import as_design

        base = as_design(design)
        tables = {f.name: getattr(base, f.name) for f in fields(base)}
        return cls(**tables | {"ours": True} | changes)

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


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A posting whose claims a comparison judges, and the families that it is held against."""

    letter: str
    """Message-id of the cover letter."""
    family: str
    """Of its own variants."""
    page_by_page: str
    """Of the designs that change mappings page by page."""
    separate_pool: str
    """Of those that set a pool of pages apart."""


_FALLBACKS = {
    MT.UNMOVABLE: (MT.RECLAIMABLE, MT.MOVABLE),
    MT.MOVABLE: (MT.RECLAIMABLE, MT.UNMOVABLE),
    MT.RECLAIMABLE: (MT.UNMOVABLE, MT.MOVABLE),
}
_NAMES = {
    MT.UNMOVABLE: "Unmovable",
    MT.MOVABLE: "Movable",
    MT.RECLAIMABLE: "Reclaimable",
    MT.HIGHATOMIC: "HighAtomic",
    MT.CMA: "CMA",
    MT.ISOLATE: "Isolate",
}


def side(
    suffix: str, *, sensitive: bool, mapped: bool, only: tuple[MT, ...] = tuple(MT)
) -> tuple[Freetype, ...]:
    """The migratetypes of one side, falling back among themselves (fallbacks[], mm/page_alloc.c 7.2)."""
    return tuple(
        Freetype(
            name=_NAMES[mt] + suffix,
            mt=mt,
            sensitive=sensitive,
            mapped=mapped,
            fallbacks=tuple(_NAMES[f] + suffix for f in _FALLBACKS.get(mt, ()) if f in only),
        )
        for mt in only
    )


def bank(suffix: str = "") -> PcpBank:
    """The per-CPU lists of one side, as Linux has them (order_to_pindex, mm/page_alloc.c 7.2)."""
    u, m, r = (_NAMES[mt] + suffix for mt in (MT.UNMOVABLE, MT.MOVABLE, MT.RECLAIMABLE))
    return PcpBank(types=(u, m, r), thp=((u, r), (m,)))
