"""Each posted design as data: freetypes, where requests look, who may take from whom, how blocks flip.

The engine reads these tables and fields.  It knows no design's name; where designs act differently, a field
says how (``flips`` has three words, ``wrapper`` four), and the engine has code for each word.  What a field
means stands at the field, once (`asi_pa.designs.fields`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from inspect import getattr_static, iscoroutinefunction, isgeneratorfunction, signature
from typing import TYPE_CHECKING, Any, Self

from asi_pa.designs.derived import Derived
from asi_pa.designs.fields import (
    CLEARS,
    CLEARS_DIRTY,
    FLIPS,
    GIVES_BACK,
    LABELS,
    MOVES,
    POOL,
    PROTECTS,
    QUEUE,
    SEPTEMBER,
    UNMAPS,
    UNMAPS_AHEAD,
    WAITS,
    described,
    nearest,
    says,
)
from asi_pa.designs.freetypes import Freetype, PcpBank
from asi_pa.names import several

if TYPE_CHECKING:
    from asi_pa import ZoneView

__all__ = ["HOOKS", "Design", "Proposal"]

#: Decisions of the slow path that a subclass may take in Python, and of which designs they are asked.
HOOKS = {"unmap_ahead": LABELS, "choose_block": FLIPS, "choose_refill": POOL}


@dataclass(frozen=True, kw_only=True)
class Design(Derived):
    name: str = field(metadata=says("What it is called.", heading="What it is"))
    title: str = field(metadata=says("The same in a few words."))
    source: tuple[str, ...] = field(metadata=says("Message-ids or files it follows."))
    family: str = field(
        default="",
        metadata=says("What its variants share, and the short name of the first of them that is compared."),
    )
    ours: bool = field(
        default=False,
        metadata=says(
            "A variant that no posting proposes: what is claimed of the posting is not judged by it."
        ),
    )
    compared: int = field(
        default=0,
        metadata=says("Its place in what `compare` shows unless told otherwise, lower first; 0: not shown."),
    )
    as_posted: bool = field(
        default=False,
        metadata=says(
            "It keeps the holes that it was posted with; what protects something and is not as posted is "
            "meant to be sound."
        ),
    )
    protects: str = field(default="", metadata=says("What must be absent from which tree; empty: nothing."))
    tree: str = field(
        default="restricted",
        metadata=says(
            "The tree it changes: restricted (ASI), or unrestricted (absent from the direct map itself).",
            words=("restricted", "unrestricted"),
            read=PROTECTS,
        ),
    )
    mirror: bool = field(
        default=True,
        metadata=says(
            "Changes of the unrestricted physmap (page protection, hotplug) reach the restricted one as "
            "well.",
            read=PROTECTS,
        ),
    )
    wrapper: str = field(
        default="",
        metadata=says(
            "What wraps the engine and changes mappings page by page: nothing, pool (2023), per-page "
            "(secretmem), queue (RFCv2).",
            words=("", "pool", "per-page", "queue"),
            read=PROTECTS,
        ),
    )

    freetypes: tuple[Freetype, ...] = field(metadata=says("The kinds of free lists.", heading="Lists"))
    start: tuple[tuple[str, str], tuple[str, str], tuple[str, str]] = field(
        metadata=says("[migratetype][sensitive]: the freetype a request looks in first.")
    )
    pcp_banks: tuple[PcpBank, ...] = field(metadata=says("The per-CPU lists."))
    boot: str = field(metadata=says("Freetype of all memory at boot."))
    reserves_nonsensitive: bool = field(
        default=True, metadata=says("Nonsensitive requests have HIGHATOMIC reserves, too.", read=LABELS)
    )
    unmapped_counts: bool = field(
        default=True,
        metadata=says(
            "A free block on an unmapped list passes the order part of the watermark test (2026: v4, not "
            "v2).",
            read=LABELS,
        ),
    )
    keeps_noblock: bool = field(
        default=True,
        metadata=says(
            "Whether a request may block is its gfp's word, whatever the slow path makes of its flags.",
            read=SEPTEMBER,
        ),
    )
    slow_keeps_fast: bool = field(
        default=False,
        metadata=says(
            "The slow path keeps the fast path's LOW watermark and NOFRAGMENT (September, patch 16 as "
            "posted)."
        ),
    )
    khugepaged_mended: bool = field(
        default=False,
        metadata=says(
            "khugepaged asks for as many free pageblocks as on plain Linux, whatever pcp types the design "
            "adds."
        ),
    )

    merge_across: bool = field(
        default=True,
        metadata=says(
            "Free blocks of order >= pageblock_order merge across mapped and unmapped labels.",
            read=LABELS,
            heading="Labels and what is mapped",
        ),
    )
    blocks_keep_bit: bool = field(
        default=False,
        metadata=says(
            "Whether a pageblock is unmapped is a bit of its own that only flips change, and free blocks of"
            " one migratetype merge whatever their bits: a free page's list and its block's bit may differ "
            "(2026, v2).",
            read=LABELS,
        ),
    )
    label_maps: bool = field(
        default=False,
        metadata=says(
            "Setting a block's type maps it as a side effect, and nothing unmaps (as posted in March).",
            read=LABELS,
        ),
    )
    explicit_maps: bool = field(
        default=False,
        metadata=says("Every change of label across mappings maps or unmaps, both explicitly.", read=LABELS),
    )

    zeroing: str = field(
        default="none",
        metadata=says(
            "When what a sensitive owner left is cleared on the way S -> N, and by whom (see also "
            "`zeroed_by`, `owner_zeroes`): none; locked "
            "(whole block, by the request, under the zone lock); flip (whole block, outside it, by the "
            "request or the worker that flips); dirty (only pages that held sensitive data, likewise); "
            "mapped (whole block, outside the lock, after it was mapped: readable for as long as the "
            "clearing takes); alloc (every nonsensitive allocation, by its request; until then the block's "
            "old contents stay readable).",
            words=("none", "locked", "flip", "dirty", "mapped", "alloc"),
            read=CLEARS,
            heading="Clearing",
        ),
    )
    zeroed_by: str = field(
        default="request",
        metadata=says(
            "Who clears what `zeroing` leaves to clear: request (whoever flips the block: the request, or a "
            "worker that flips ahead), or worker (once a second, with vmstat's worker, whole free unmapped "
            "pageblocks are cleared off the lists and put back at their tails; who flips one clears what is "
            "left).",
            words=("request", "worker"),
            read=CLEARS_DIRTY,
        ),
    )
    owner_zeroes: bool = field(
        default=False,
        metadata=says("A sensitive owner clears its pages before it frees them (secretmem).", read=LABELS),
    )

    flips: str = field(
        default="none",
        metadata=says(
            "none, march (claim maps, one unmap step) or september (both ways after all else failed).",
            words=("none", "march", "september"),
            read=LABELS,
            heading="Flips on demand",
        ),
    )
    flips_by_any: bool = field(
        default=True,
        metadata=says(
            "A request whose migratetype has no list on the other side flips an UNMOVABLE block of that "
            "side; else only requests whose migratetype has both sides flip (2026: UNMOVABLE ones, in "
            "either direction).",
            read=FLIPS,
        ),
    )
    flip_keeps_isolation: bool = field(
        default=False,
        metadata=says(
            "A flip changes a pageblock's bit alone: one that was isolated meanwhile stays isolated (2026).",
            read=FLIPS,
        ),
    )
    flip_splits: bool = field(
        default=False,
        metadata=says(
            "What a flip leaves of its block goes to the lists as in an ordinary split, heads of empty "
            "lists; else piece by piece as freed pages do, which may merge and take the lists' tails.",
            read=FLIPS,
        ),
    )
    flip_before_steal: bool = field(
        default=False,
        metadata=says(
            "A request that may flip does so rather than take single pages from another migratetype.",
            read=FLIPS,
        ),
    )
    flip_cma: bool = field(
        default=False,
        metadata=says("A flip may take blocks out of CMA (September as posted).", read=SEPTEMBER),
    )

    flip_free: int = field(
        default=100,
        metadata=says(
            "Percent of a pageblock that must be free before it may flip: 100, all of it, as every "
            "posting has it.  With less a request for at most a pageblock that finds no whole one "
            "looks among the 64 pageblocks with the largest free pieces, and the one that flips is "
            "emptied first (`flip_used`); in March's design in either direction.",
            least=1,
            most=100,
            read=MOVES,
        ),
    )
    flip_used: str = field(
        default="refuse",
        metadata=says(
            "What becomes of the used pages of a pageblock that is to flip: refuse (it does not flip), "
            "or move (to other pages of their own side, as compaction moves them: folios on the LRU "
            "that nobody pinned; else it does not flip).",
            words=("refuse", "move"),
            read=FLIPS,
        ),
    )
    may_wait: str = field(
        default="posted",
        metadata=says(
            "Which requests may wait for what the design has to change for them (a flip, a refill of "
            "the pool, the free queue's worker): posted (flips: those that may block; refills: all; the "
            "worker: none), none, block (__GFP_DIRECT_RECLAIM), any, and of those that may block the "
            "sensitive or the nonsensitive.",
            words=("posted", "none", "block", "any", "sensitive", "nonsensitive"),
            read=WAITS,
        ),
    )

    unmap_low: int = field(
        default=0,
        metadata=says(
            "Unmapping ahead of need: below this many free sensitive pages (0: never) ...",
            read=LABELS,
            heading="Flips ahead of need, by a worker",
        ),
    )
    unmap_high: int = field(
        default=0,
        metadata=says(
            "... whole free nonsensitive pageblocks are unmapped until there are this many, at least "
            "`unmap_low`.",
            read=UNMAPS_AHEAD,
        ),
    )
    map_back: int = field(
        default=0,
        metadata=says(
            "Giving back ahead of need: whole free unmapped pageblocks beyond this many (0: never) are "
            "mapped again, cleared as flips clear, by the same worker.",
            read=LABELS,
        ),
    )
    give_back: str = field(
        default="eager",
        metadata=says(
            "When what is free beyond `map_back` or `pool_high` goes back: eager (as soon as the free "
            "lists or the pool were used), lazy (when a request had to take the slow path), timer (once "
            "a second, with vmstat's worker).",
            words=("eager", "lazy", "timer"),
            read=GIVES_BACK,
        ),
    )
    unmap_batch: int = field(
        default=1,
        metadata=says(
            "Chunks that a worker unmaps between two flushes; 0: all that it unmaps at once (the free "
            "queue of RFCv2: 1).",
            read=UNMAPS,
        ),
    )

    isolates_unmapped: bool = field(
        default=True,
        metadata=says(
            "A pageblock of the unmapped side can be isolated; else contiguous ranges, CMA and offlining "
            "fail on any range that has one (2026).",
            read=LABELS,
            heading="Isolation, page reporting, compaction",
        ),
    )
    undoes_others_isolation: bool = field(
        default=True,
        metadata=says(
            "An alloc_contig_range() whose isolation fails undoes the isolation of its whole range, "
            "pageblocks that another caller isolated included, as Linux 7.2 and 6.12 do (docs/kernel-"
            "findings.md); else of its own."
        ),
    )
    contig_flips: bool = field(
        default=False,
        metadata=says(
            "alloc_contig_range flips wholly free pageblocks of its range to the requester's side, or fails.",
            read=LABELS,
        ),
    )
    reports_unmapped: bool = field(
        default=True,
        metadata=says("Page reporting takes blocks off the unmapped lists, too (2026: not).", read=LABELS),
    )
    putback_by_block: bool = field(
        default=False,
        metadata=says(
            "Page reporting puts a block back pageblock by pageblock, each under its own type: another CPU "
            "may have isolated one of them meanwhile.  The kernel's __putback_isolated_page() does not "
            "look."
        ),
    )
    compaction: str = field(
        default="order",
        metadata=says(
            "What direct compaction is asked for: order (the request's), unmapped (a pageblock for unmapped"
            " requests), both (a pageblock for every request that could flip).",
            words=("order", "unmapped", "both"),
            read=FLIPS,
        ),
    )
    compaction_same_side: bool = field(
        default=False,
        metadata=says(
            "Compaction moves pages within one side of the mapping only; no posting says so.", read=LABELS
        ),
    )

    queue_delay: int = field(
        default=64,
        metadata=says(
            "Operations between the first page's arrival in the free queue and the worker's run.",
            least=1,
            read=QUEUE,
            heading="The free queue (RFCv2)",
        ),
    )
    refill_order: int = field(
        default=9,
        metadata=says(
            "The order of the chunk that a refill begins with (2023: 9), a lower one at a time until "
            "there is one.  Above the largest order of the free lists a request that may block takes a "
            "free aligned range, as alloc_contig_pages() does; 18 is 1 GiB.  Counted for pageblocks of "
            "order 9: with smaller ones a chunk has as many pageblocks.",
            most=18,
            read=POOL,
            heading="The pool (2023)",
        ),
    )
    pool_by_node: bool = field(
        default=False,
        metadata=says(
            "A pool a node: a request is served from its CPU's node's, which is refilled of that node's "
            "memory; then from what the others have, then by a refill of any node's.  Else one pool, "
            "whose refills take what an ordinary request would get.",
            read=POOL,
        ),
    )
    pool_low: int = field(
        default=0,
        metadata=says(
            "Below this many free pages of the pool (0: never) a worker refills it, of what lies above "
            "the LOW mark, to `pool_high` pages, at least to this.",
            read=POOL,
        ),
    )
    pool_high: int = field(
        default=0,
        metadata=says(
            "Whole free pageblocks of the pool beyond this many pages (0: never) are given back, the "
            "largest chunks first (`give_back`).",
            read=POOL,
        ),
    )
    refill_leaves: bool = field(
        default=False,
        metadata=says(
            "A chunk's mapping changes at once, which keeps 2M leaves; not page by page as posted.", read=POOL
        ),
    )
    refill_unmaps: str = field(
        default="chunk",
        metadata=says(
            "What a refill changes the mapping of: chunk, or request (its pages, at the chunk's start; 2023"
            " as posted).",
            words=("chunk", "request"),
            read=POOL,
        ),
    )
    pool_by_mark: bool = field(
        default=False,
        metadata=says(
            "A freed page goes to the pool when its pageblock is marked, whoever owned it and however it is"
            " mapped; a refill marks, only a shrunk chunk of exactly a pageblock unmarks (2023 as posted)."
            "  Else a page belongs to the pool when its own mapping says so.",
            read=POOL,
        ),
    )
    pool_clears: bool = field(
        default=True,
        metadata=says("What the shrinker gives back to the direct map is cleared before.", read=POOL),
    )
    shrink_counts: bool = field(
        default=True,
        metadata=says(
            "The shrinker stops when it has freed what was asked; else it takes the running total off the "
            "rest after each order, and so stops early (2023 as posted).",
            read=POOL,
        ),
    )
    shrink_batch: int = field(
        default=128,
        metadata=says(
            "Pages that one call of the pool's shrinker gives back (SHRINK_BATCH of mm/shrinker.c, "
            "7.2); 0: reclaim does not call it.",
            read=POOL,
        ),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", several(self.source))

    def __init_subclass__(cls, **more: Any) -> None:
        """Refuses what the engine would never ask for, or not so: a decision whose name is no hook's, a hook
        that cannot be called as it is called."""
        super().__init_subclass__(**more)
        known = {item.name for item in fields(Design)}
        for name in vars(cls):
            if name in known:
                raise ValueError(
                    f"{cls.__name__}.{name}: fields are given where the design is made: "
                    f"{cls.__name__}.based_on(DESIGN, {name}=...)"
                )
            if not name.startswith("_") and not hasattr(Design, name):
                raise ValueError(f"{cls.__name__}.{name} is no hook of a design{_hint(name)}")
        for name in HOOKS:
            if getattr(cls, name) is not getattr(Design, name):
                _check_hook(cls, name)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        """In a line; `asi-pa designs NAME` lists its rules, `dataclasses.asdict` gives its fields."""
        types = "freetypes " + ", ".join(freetype.name for freetype in self.freetypes)
        said = "; ".join(filter(None, (self.title, self.protects, types)))
        return f"<{type(self).__name__} {self.name}: {said}>"

    # ------------------------------------------------ slow-path decisions a subclass may override

    # ``view`` is an `asi_pa.ZoneView`, valid during the call only.

    def unmap_ahead(self, view: ZoneView) -> int:
        """How many whole free blocks to flip now, before anybody asks; called after refills of free lists.

        n > 0 unmaps n blocks, n < 0 maps -n.  The engine's own rule (``unmap_low``, ``unmap_high``) costs no
        call; override this for another.
        """
        raise NotImplementedError

    def choose_block(self, view: ZoneView, order: int, freetype: str) -> int | None:
        """The pfn of the free block of at least ``order`` that a request of ``freetype`` shall flip.

        None leaves it to the engine; so does a pfn that heads no such block of the other side.
        """
        raise NotImplementedError

    def choose_refill(self, view: ZoneView, order: int) -> int | None:
        """The order of the chunk that a refill of the pool begins with, for a request of ``order``.

        0 to 18 as the machine counts; less than ``order``: no refill.  None leaves it to the engine
        (``refill_order``).  ``view`` shows the first zone of the node that asks.
        """
        raise NotImplementedError

    @classmethod
    def based_on(cls, design: str | Design, **changes: Any) -> Self:
        """An instance of this class with another design's tables, and ``changes`` to them.

        Raises ValueError for a field that there is not.
        """
        from asi_pa.designs import as_design

        base = as_design(design)
        tables = {f.name: getattr(base, f.name) for f in fields(base)}
        for name in changes:
            if name not in tables:
                raise ValueError(f"{name!r} is no field of a design{nearest(name, tables)}")
        return cls(**tables | {"ours": True} | changes)


def _check_hook(cls: type[Design], name: str) -> None:
    """Raises ValueError for a hook that cannot be called with what it is called with."""
    wanted = list(signature(getattr(Design, name)).parameters)
    hook = getattr_static(cls, name)
    given = wanted[isinstance(hook, staticmethod) :]
    said = f"{cls.__name__}.{name}: it is called as {name}({', '.join(wanted[1:])})"
    if not callable(getattr(cls, name)) or iscoroutinefunction(hook) or isgeneratorfunction(hook):
        raise ValueError(f"{said} and returns a number")
    try:
        signature(getattr(hook, "__func__", hook)).bind(*given)
    except TypeError as error:
        raise ValueError(f"{said}: {error}") from None


def _hint(name: str) -> str:
    return nearest(name, HOOKS) or f" (there are {', '.join(HOOKS)}; what helps them begins with _)"


Design.__doc__ = described(
    Design,
    """A design; everything the engine reads of it.

A field is named with what it may be and what it is unless told otherwise; docs/extend/fields.md has the same
words.""",
)


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
