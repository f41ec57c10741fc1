"""Each posted design as data: freetypes, where requests look, who may take from whom, how blocks flip.

A *freetype* is the index of a free list: a migratetype and what a design adds to it.  The engine reads these
tables and never asks which design it runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from asi_pa.gfp import Migratetype

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
    flips: str = "none"
    """"none", "march" (claim maps, one unmap step) or "september" (both ways after all else failed)."""
    label_maps: bool = False
    """Setting a block's type maps it as a side effect, and nothing unmaps (as posted in March)."""
    explicit_maps: bool = False
    """Every change of label across mappings maps or unmaps, both explicitly."""
    zero_blocks: bool = False
    """A flip S -> N clears the block."""
    flip_cma: bool = False
    """A flip may take blocks out of CMA (September as posted)."""
    keeps_noblock: bool = True
    """Whether a request may block is its gfp's word, whatever the slow path makes of its flags."""
    slow_keeps_fast: bool = False
    """The slow path keeps the fast path's LOW watermark and NOFRAGMENT (September, patch 16 as posted)."""
    wrapper: str = ""
    """What wraps the engine: "", "pool" or "per-page"."""
    shrink_batch: int = 128
    """Pages that one call of the pool's shrinker gives back (SHRINK_BATCH of mm/shrinker.c, 7.2)."""

    def freetype(self, name: str) -> int:
        """The index of a freetype by name; KeyError if there is none."""
        for i, ft in enumerate(self.freetypes):
            if ft.name == name:
                return i
        raise KeyError(name)

    def index_of(self, mt: MT, like: int) -> int:
        """The freetype of migratetype ``mt`` on the same side (sensitive, mapped) as freetype ``like``.

        A design that has only one of that migratetype has it for both sides.
        """
        same = [i for i, ft in enumerate(self.freetypes) if ft.mt == mt]
        if not same:
            raise KeyError(mt)
        for i in same:
            if self.freetypes[i].sensitive == self.freetypes[like].sensitive:
                return i
        return same[0]

    def other_side(self, index: int) -> int:
        """The freetype of the other sensitivity that a flip takes from; itself where there is none."""
        here = self.freetypes[index]
        fallback = index
        for i, ft in enumerate(self.freetypes):
            if ft.mapped == here.mapped:
                continue
            if ft.mt == here.mt:
                return i
            if ft.mt == MT.UNMOVABLE and ft.mapped:
                fallback = i
        return fallback

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
        if not self.explicit_maps or self.freetypes[movable].mapped == here.mapped:
            return movable
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
)

# The seed with its TODOs solved: reserves and isolation exist for either mapping, blocks never merge or
# share a pcp list across mappings, map and unmap are explicit, a block is cleared before it is mapped.
MIGRATETYPE_SOUND = replace(
    MIGRATETYPE_AS_POSTED,
    name="migratetype/sound",
    title="migratetype pervasion, RFC of March 2025 made sound",
    freetypes=(
        *_MARCH_FREETYPES,
        Freetype(name="HighAtomicNons", mt=MT.HIGHATOMIC, sensitive=False, mapped=True),
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
    zero_blocks=True,
)

# September 2025: every migratetype exists in both kinds; nonsensitive first, as the series numbers them.
FREETYPE_AS_POSTED = Design(
    name="freetype/as-posted",
    title="freetypes, series of September 2025 as posted",
    source=(f"{SEPTEMBER}, patches 11, 12, 16, 18",),
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
    zero_blocks=True,
    flip_cma=True,
    keeps_noblock=False,
)

PER_PAGE = replace(
    LINUX,
    name="per-page",
    title="set_direct_map for every nonsensitive page, a flush each",
    source=("mm/secretmem.c and arch/x86/mm/pat/set_memory.c, Linux 7.2",),
    protects="sensitive pages absent from the restricted physmap",
    wrapper="per-page",
)

POOL = replace(
    LINUX,
    name="pool/nonsensitive",
    title="separate pool of nonsensitive pages, prototype of 2023 turned to the ASI question",
    source=("msgid 20230308094106.227365-1-rppt@kernel.org, 5 patches",),
    protects="sensitive pages absent from the restricted physmap",
    wrapper="pool",
)

FREETYPE_AS_POSTED_FLAGS = replace(
    FREETYPE_AS_POSTED,
    name="freetype/as-posted-flags",
    title="freetypes of September 2025, slow-path flags exactly as in patch 16",
    slow_keeps_fast=True,
)

_ALL = (
    LINUX,
    PER_PAGE,
    POOL,
    MIGRATETYPE_AS_POSTED,
    MIGRATETYPE_SOUND,
    FREETYPE_AS_POSTED,
    FREETYPE_AS_POSTED_FLAGS,
)

#: Every built-in design by its full name, and by the bare names that mean the sound variants.
DESIGNS: dict[str, Design] = {d.name: d for d in _ALL} | {"migratetype": MIGRATETYPE_SOUND, "pool": POOL}


def design_names() -> list[str]:
    """Names a user may give, variants beside bare names."""
    return list(DESIGNS)


def as_design(design: str | Design) -> Design:
    """The design of a name; a Design is passed through.  ValueError for an unknown name."""
    if isinstance(design, Design):
        return design
    try:
        return DESIGNS[design]
    except KeyError:
        raise ValueError(f"unknown design {design!r}: designs are {', '.join(DESIGNS)}") from None
