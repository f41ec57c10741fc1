"""Each posted design as data: freetypes, where requests look, who may take from whom, how blocks flip.

A *freetype* is the index of a free list: a migratetype and what a design adds to it.  The engine reads these
tables and fields.  It knows no design's name; where designs act differently, a field says how (``flips`` has
three words, ``wrapper`` four), and the engine has code for each word.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

from asi_pa.kernel.gfp import Migratetype
from asi_pa.kernel.sizing import PCPTYPES

MT = Migratetype

__all__ = ["DESIGNS", "Design", "Freetype", "as_design", "design_names"]

SEED = "msgid 20250313-asi-page-alloc-v1-0-04972e046cea@google.com"
SEPTEMBER = "msgid 20250924-b4-asi-page-alloc-v1-0-2d861768041f@google.com"


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
    it) or "alloc" (every nonsensitive allocation; until then the block's old contents stay readable)."""
    owner_zeroes: bool = False
    """A sensitive owner clears its pages before it frees them (secretmem)."""
    flip_before_steal: bool = False
    """A request that may flip does so rather than take single pages from another migratetype."""
    reserves_nonsensitive: bool = True
    """Nonsensitive requests have HIGHATOMIC reserves, too."""
    putback_by_block: bool = False
    """Page reporting puts a block back pageblock by pageblock, each under its own type: another CPU may have
    isolated one of them meanwhile.  The kernel's __putback_isolated_page() does not look."""
    contig_flips: bool = False
    """alloc_contig_range flips wholly free pageblocks of its range to the requester's side, or fails."""
    unmap_low: int = 0
    """Unmapping ahead of need: below this many free sensitive pages (0: never) ..."""
    unmap_high: int = 0
    """... whole free nonsensitive pageblocks are unmapped until there are this many."""
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
        base = as_design(design)
        return cls(**{f.name: getattr(base, f.name) for f in fields(base)} | changes)

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
            if self.freetypes[i].mt == MT.UNMOVABLE and here.mt <= MT.RECLAIMABLE:
                return i
        return index

    def mergeable(self, a: int, b: int) -> bool:
        """May free pageblocks of unlike types merge (migratetype_is_mergeable, mm/internal.h 7.2)?"""
        x, y = self.freetypes[a], self.freetypes[b]
        if a == b:
            return True
        if x.mt > MT.RECLAIMABLE or y.mt > MT.RECLAIMABLE:
            return False
        return self.merge_across or x.mapped == y.mapped

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


def _side(
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


def _bank(suffix: str = "") -> PcpBank:
    u, m, r = (_NAMES[mt] + suffix for mt in (MT.UNMOVABLE, MT.MOVABLE, MT.RECLAIMABLE))
    return PcpBank(types=(u, m, r), thp=((u, r), (m,)))


LINUX = Design(
    name="linux",
    title="plain Linux, no ASI",
    source=("mm/page_alloc.c, Linux 7.2",),
    freetypes=_side("", sensitive=True, mapped=False),
    start=(("Unmovable",) * 2, ("Movable",) * 2, ("Reclaimable",) * 2),
    pcp_banks=(_bank(),),
    boot="Movable",
)

# March 2025.  UNMOVABLE is two types, only the nonsensitive one is mapped (patch 9); it claims whole blocks
# only, from 10 down (patch 10); sensitive requests never fall back to it but may unmap a block (patch 11).
_MARCH_FREETYPES = (
    Freetype(name="UnmovableSens", mt=MT.UNMOVABLE, fallbacks=("Reclaimable", "Movable")),
    Freetype(
        name="UnmovableNons",
        mt=MT.UNMOVABLE,
        sensitive=False,
        mapped=True,
        fallbacks=("UnmovableSens", "Reclaimable", "Movable"),
        whole_blocks_only=True,
    ),
    Freetype(name="Movable", mt=MT.MOVABLE, fallbacks=("Reclaimable", "UnmovableSens")),
    Freetype(name="Reclaimable", mt=MT.RECLAIMABLE, fallbacks=("UnmovableSens", "Movable")),
    Freetype(name="HighAtomic", mt=MT.HIGHATOMIC),
    Freetype(name="CMA", mt=MT.CMA),
    Freetype(name="Isolate", mt=MT.ISOLATE),
)

MIGRATETYPE_AS_POSTED = Design(
    name="migratetype/as-posted",
    title="migratetype pervasion, RFC of March 2025 as posted",
    source=(f"{SEED}, patches 6-11",),
    as_posted=True,
    freetypes=_MARCH_FREETYPES,
    start=(("UnmovableNons", "UnmovableSens"), ("Movable", "Movable"), ("Reclaimable", "Reclaimable")),
    pcp_banks=(
        PcpBank(
            types=("UnmovableSens", "UnmovableNons", "Movable", "Reclaimable"),
            thp=(("UnmovableSens", "UnmovableNons", "Reclaimable"), ("Movable",)),
        ),
    ),
    boot="Movable",
    protects="sensitive pages absent from the restricted physmap",
    flips="march",
    label_maps=True,
    mirror=False,
)

# The seed with its TODOs solved: reserves and isolation exist for either mapping, blocks never merge or
# share a pcp list across mappings, map and unmap are explicit, a block is cleared before it is mapped.
MIGRATETYPE_SOUND = replace(
    MIGRATETYPE_AS_POSTED,
    name="migratetype/sound",
    title="migratetype pervasion, RFC of March 2025 made sound",
    as_posted=False,
    freetypes=(
        *_MARCH_FREETYPES,
        Freetype(name="HighAtomicNons", mt=MT.HIGHATOMIC, sensitive=False, mapped=True),
        Freetype(name="CMANons", mt=MT.CMA, sensitive=False, mapped=True),
        Freetype(name="IsolateNons", mt=MT.ISOLATE, sensitive=False, mapped=True),
    ),
    pcp_banks=(
        PcpBank(
            types=("UnmovableSens", "UnmovableNons", "Movable", "Reclaimable"),
            thp=(("UnmovableSens", "Reclaimable"), ("Movable",), ("UnmovableNons",)),
        ),
    ),
    merge_across=False,
    label_maps=False,
    explicit_maps=True,
    putback_by_block=True,
    mirror=True,
    zeroing="flip",
    contig_flips=True,
    compaction_same_side=True,
)

MIGRATETYPE_EAGER = replace(
    MIGRATETYPE_SOUND,
    name="migratetype/eager",
    title="migratetype/sound, and blocks unmapped ahead of need",
    unmap_low=2048,
    unmap_high=8192,
)

# September 2025: every migratetype exists in both kinds; nonsensitive first, as the series numbers them.
FREETYPE_AS_POSTED = Design(
    name="freetype/as-posted",
    title="freetypes, series of September 2025 as posted",
    source=(f"{SEPTEMBER}, patches 11, 12, 16, 18",),
    as_posted=True,
    freetypes=(
        *_side("Nons", sensitive=False, mapped=True),
        *_side("Sens", sensitive=True, mapped=False),
    ),
    start=(
        ("UnmovableNons", "UnmovableSens"),
        ("MovableNons", "MovableSens"),
        ("ReclaimableNons", "ReclaimableSens"),
    ),
    pcp_banks=(_bank("Nons"), _bank("Sens")),
    boot="MovableSens",
    merge_across=False,
    protects="sensitive pages absent from the restricted physmap",
    flips="september",
    zeroing="flip",
    flip_cma=True,
    keeps_noblock=False,
    mirror=False,
)

PER_PAGE = replace(
    LINUX,
    name="per-page",
    title="set_direct_map for every nonsensitive page, a flush each",
    source=("mm/secretmem.c and arch/x86/mm/pat/set_memory.c, Linux 7.2",),
    protects="sensitive pages absent from the restricted physmap",
    wrapper="per-page",
    zeroing="alloc",
    putback_by_block=True,
)

POOL = replace(
    LINUX,
    name="pool/nonsensitive",
    title="separate pool of nonsensitive pages, prototype of 2023 turned to the ASI question",
    source=("msgid 20230308094106.227365-1-rppt@kernel.org, 5 patches",),
    protects="sensitive pages absent from the restricted physmap",
    wrapper="pool",
    putback_by_block=True,
)

FREETYPE_AS_POSTED_FLAGS = replace(
    FREETYPE_AS_POSTED,
    name="freetype/as-posted-flags",
    title="freetypes of September 2025 as posted, slow-path flags exactly as in patch 16",
    slow_keeps_fast=True,
)

# September's two defects repaired: may-block is decided by gfp (Sx-g1), a flip leaves CMA alone (Sx-g2); and
# alloc_contig_range gives its caller the mapping it asked for.
FREETYPE_SOUND = replace(
    FREETYPE_AS_POSTED,
    name="freetype/sound",
    title="freetypes of September 2025 made sound",
    as_posted=False,
    keeps_noblock=True,
    flip_cma=False,
    explicit_maps=True,
    putback_by_block=True,
    mirror=True,
    contig_flips=True,
    compaction_same_side=True,
)

# 2026: one more list, of unmovable memory absent from the direct map itself.  Read in excerpts only;
# inferred: requests of any migratetype may flip an unmapped block back, and the flip's place is September's.
# v2 stays as it was posted, as far as it was read: alloc_contig_range hands a range out with the mapping that
# it has, and page reporting is plain Linux's.
UNMAPPED_V2 = Design(
    name="unmapped/v2",
    title="__GFP_UNMAPPED v2 (March 2026) as posted: absent from the direct map",
    source=("msgid 20260320-page_alloc-unmapped-v2-0-28bf1bd54f41@google.com, read in excerpts",),
    as_posted=True,
    freetypes=(
        *_side("", sensitive=False, mapped=True),
        Freetype(name="UnmovableUnmapped", mt=MT.UNMOVABLE),
        Freetype(name="IsolateUnmapped", mt=MT.ISOLATE),
    ),
    start=(("Unmovable", "UnmovableUnmapped"), ("Movable", "Movable"), ("Reclaimable", "Reclaimable")),
    pcp_banks=(_bank(), PcpBank(types=("UnmovableUnmapped",), thp=(("UnmovableUnmapped",),))),
    boot="Movable",
    merge_across=False,
    protects="sensitive unmovable pages absent from the direct map",
    tree="unrestricted",
    flips="september",
    explicit_maps=True,
    zeroing="flip",
)

UNMAPPED_V4 = replace(
    UNMAPPED_V2,
    name="unmapped/v4",
    title="__GFP_UNMAPPED v4 (2026) made sound: owners clear, unmapped requests compact for a pageblock",
    as_posted=False,
    source=("msgid 20260726-page_alloc-unmapped-v3-0-6f5729aa9832@google.com and v4, read second-hand",),
    zeroing="none",
    owner_zeroes=True,
    putback_by_block=True,
    contig_flips=True,
    compaction="unmapped",
    compaction_same_side=True,
)

UNMAPPED_SYMMETRIC = replace(
    UNMAPPED_V4,
    name="unmapped/symmetric",
    title="__GFP_UNMAPPED v4 made sound, compaction for a pageblock for mapped requests too",
    compaction="both",
)

POOL_UNMAPPED = replace(
    POOL,
    name="pool/unmapped",
    title="separate pool of pages absent from the direct map, prototype of 2023",
    protects="sensitive unmovable pages absent from the direct map",
    tree="unrestricted",
)

QUEUE_AS_POSTED = replace(
    PER_PAGE,
    name="rfcv2-queue/as-posted",
    title="free pages unmapped, per-CPU free queue and worker (RFCv2, January 2025) as posted",
    source=("msgid 20250110-asi-rfc-v2-v2-0-8419288bc805@google.com, patch 14",),
    as_posted=True,
    wrapper="queue",
    zeroing="none",
    putback_by_block=False,
)

QUEUE_SOUND = replace(
    QUEUE_AS_POSTED,
    name="rfcv2-queue/sound",
    title="RFCv2's free queue made sound: flushes batched, nonsensitive allocations zeroed",
    as_posted=False,
    queue_batch=0,
    queue_waits=True,
    zeroing="alloc",
    putback_by_block=True,
)

_ALL = (
    LINUX,
    PER_PAGE,
    QUEUE_AS_POSTED,
    QUEUE_SOUND,
    MIGRATETYPE_AS_POSTED,
    MIGRATETYPE_SOUND,
    MIGRATETYPE_EAGER,
    FREETYPE_AS_POSTED,
    FREETYPE_AS_POSTED_FLAGS,
    FREETYPE_SOUND,
    UNMAPPED_V2,
    UNMAPPED_V4,
    UNMAPPED_SYMMETRIC,
    POOL_UNMAPPED,
    POOL,
)

#: Every built-in design by its full name, and by the bare names that mean the sound variants.
DESIGNS: dict[str, Design] = {d.name: d for d in _ALL} | {
    "rfcv2-queue": QUEUE_SOUND,
    "migratetype": MIGRATETYPE_SOUND,
    "freetype": FREETYPE_SOUND,
    "unmapped": UNMAPPED_V4,
    "pool": POOL,
}


def design_names() -> list[str]:
    """Names a user may give, variants beside bare names."""
    return list(DESIGNS)


def as_design(design: str | Design) -> Design:
    """The design that a word means; a Design is checked and passed through.

    ``migratetype/sound`` is built in, ``migratetype/sound:zeroing=dirty,unmap_low=512`` changes its fields,
    ``path.py:NAME`` is a Design, or a function that makes one, in a file of the user's.  Raises ValueError
    for anything else.
    """
    from asi_pa.designs import words as design_words

    if isinstance(design, Design):
        if DESIGNS.get(design.name) is not design:
            design_words.check(design)
        return design
    name, colon, rest = design.partition(":")
    if colon and name.endswith(".py"):
        return design_words.from_file(name, rest)
    if name not in DESIGNS:
        raise ValueError(f"unknown design {name!r}: designs are {', '.join(DESIGNS)}, or FILE.py:NAME")
    return design_words.changed(DESIGNS[name], rest) if colon else DESIGNS[name]
