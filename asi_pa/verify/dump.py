"""A zone's state as recorded runs dump it: a run of int32 words, taken apart and checked.

The words (layout in ``docs/engine/model.md``) begin after a dump's magic, position and length.
``Machine.dump`` writes the same words, so that recording and model are compared word for word and shown side
by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from asi_pa.designs import Design
from asi_pa.kernel.gfp import Migratetype

__all__ = [
    "BELOW_HIGH",
    "COMPACTION",
    "COUNTERS",
    "PCP_FIELDS",
    "CpuState",
    "DumpShape",
    "Words",
    "ZoneState",
    "check_state",
    "pcp_field_words",
    "pcp_list_name",
    "take_apart",
    "word_name",
]

Words = npt.NDArray[np.int32]

COUNTERS = (
    "NR_FREE_PAGES",
    "NR_FREE_CMA_PAGES",
    "nr_reserved_highatomic",
    "nr_free_highatomic",
    "watermark_boost",
    "zone flags",
    "WMARK_MIN",
    "WMARK_LOW",
    "WMARK_HIGH",
    "WMARK_PROMO",
    "lowmem_reserve",
    "unfolded NR_FREE_PAGES",
    "unfolded NR_FREE_CMA_PAGES",
    "stat_threshold",
    "managed",
    "cma_pages",
    "nr_isolate_pageblock",
    "second zone",
)
PCP_FIELDS = ("count", "high", "high_min", "high_max", "batch", "flags", "alloc_factor", "free_count")
#: What compaction keeps between runs (struct zone); frames relative to the zone, -1 below it or not set.
COMPACTION = (
    "compact_cached_free_pfn",
    "compact_cached_migrate_pfn, async",
    "compact_cached_migrate_pfn, sync",
    "compact_init_migrate_pfn",
    "compact_init_free_pfn",
    "compact_considered",
    "compact_defer_shift",
    "compact_order_failed",
    "compact_blockskip_flush",
)
#: ZONE_BELOW_HIGH, the only zone flag that the allocator's fast paths look at.
BELOW_HIGH = 4


@dataclass(frozen=True, kw_only=True)
class DumpShape:
    """What a zone's dumps must look like; frame numbers in them are relative to ``start_pfn``."""

    start_pfn: int
    spanned: int
    pageblock_order: int
    max_page_order: int
    cpus: int
    design: Design
    compaction: bool = False
    """Do they have what compaction keeps between runs, and the skip bits?"""
    pcp_orders: tuple[int, ...] = field(init=False)
    """The order of the blocks on each pcp list."""

    def __post_init__(self) -> None:
        orders = tuple(order for order, _ in self.design.pcp_lists(self.pageblock_order))
        object.__setattr__(self, "pcp_orders", orders)

    @property
    def blocks(self) -> int:
        """How many pageblocks the zone touches."""
        last = self.start_pfn + self.spanned - 1
        return (last >> self.pageblock_order) - (self.start_pfn >> self.pageblock_order) + 1

    def block_of(self, frame: int) -> int:
        """The index of a frame's pageblock in a dump."""
        return (self.start_pfn + frame >> self.pageblock_order) - (self.start_pfn >> self.pageblock_order)


@dataclass(frozen=True)
class CpuState:
    """One CPU's part of a dump: unfolded differences of FREE and FREE_CMA, the pcp fields and lists."""

    diff: tuple[int, int]
    fields: dict[str, int]
    lists: list[Words]


@dataclass(frozen=True)
class ZoneState:
    """A dump taken apart.  ``lists[order][freetype]`` and ``CpuState.lists`` hold frames, head to tail."""

    counters: dict[str, int]
    nr_free: list[int]
    lists: list[list[Words]]
    blocks: Words
    cpus: list[CpuState]
    mapped: Words | None
    """By pageblock: is it present in the tree that the design protects?  None for designs that map by
    page.
    """
    pool_marks: Words | None
    """By pageblock: is it marked as the pool's?  None for designs without a pool."""
    pool: list[Words]
    """By order: the pool's frames, head to tail; empty for designs without one."""
    queue: Words
    """(n, 2): frames and orders that wait in the free queue, head to tail."""
    remapped_runs: Words
    """(n, 2): runs (first frame, pages) whose mapping is unlike all others', in designs that map by page."""
    compaction: dict[str, int] = field(default_factory=dict)
    """By the names of ``COMPACTION``, in runs of compaction."""
    skip: Words | None = None
    """A skip bit per pageblock, in runs of compaction."""


#: (what, index or indexes, first word, one past the last word)
Section = tuple[str, tuple[int, ...], int, int]


def _sections(words: list[int], shape: DumpShape) -> Iterator[Section]:
    """The parts of a dump in order.  Raises ValueError where the words do not fit the shape."""
    total = len(words)
    at = 0

    def fixed(what: str, value: int) -> int:
        if at >= total:
            raise ValueError(f"is cut short before {what}")
        if words[at] != value:
            raise ValueError(f"has {words[at]} {what}, not {value}")
        return at + 1

    def counted(what: str, index: tuple[int, ...] = (), width: int = 1) -> Iterator[Section]:
        nonlocal at
        if at >= total:
            raise ValueError(f"is cut short before the length of {what} {index}")
        n = words[at] * width
        if n < 0 or at + 1 + n > total:
            raise ValueError(f"says {n} entries of {what} {index}, there are {total - at - 1} words left")
        yield f"length of {what}", index, at, at + 1
        yield what, index, at + 1, at + 1 + n
        at += 1 + n

    def run(what: str, index: tuple[int, ...], n: int) -> Section:
        nonlocal at
        if at + n > total:
            raise ValueError(f"is cut short within {what}")
        at += n
        return what, index, at - n, at

    at = fixed("counters", len(COUNTERS))
    yield run("counters", (), len(COUNTERS))
    at = fixed("orders", shape.max_page_order + 1)
    at = fixed("free lists for each order", len(shape.design.freetypes))
    for order in range(shape.max_page_order + 1):
        yield run("nr_free", (order,), 1)
        for freetype in range(len(shape.design.freetypes)):
            yield from counted("free list", (order, freetype))
    at = fixed("pageblocks", shape.blocks)
    yield run("pageblocks", (), shape.blocks)
    for cpu in range(shape.cpus):
        if cpu == 1:
            at = fixed("further CPUs", shape.cpus - 1)
        if cpu:
            yield run("differences", (cpu,), 2)
        at = fixed("pcp fields", len(PCP_FIELDS))
        yield run("pcp fields", (cpu,), len(PCP_FIELDS))
        at = fixed("pcp lists", len(shape.pcp_orders))
        for k in range(len(shape.pcp_orders)):
            yield from counted("pcp list", (cpu, k))
    if shape.design.protects and not shape.design.wrapper:
        at = fixed("mapped flags", shape.blocks)
        yield run("mapped flags", (), shape.blocks)
    if shape.compaction:
        at = fixed("words of compaction", len(COMPACTION))
        yield run("compaction", (), len(COMPACTION))
        at = fixed("skip bits", shape.blocks)
        yield run("skip bits", (), shape.blocks)
    if shape.design.wrapper == "pool":
        at = fixed("pool marks", shape.blocks)
        yield run("pool marks", (), shape.blocks)
        at = fixed("pool lists", shape.max_page_order + 1)
        for order in range(shape.max_page_order + 1):
            yield from counted("pool list", (order,))
    if shape.design.wrapper == "queue":
        yield from counted("queue", width=2)
    if shape.design.wrapper:
        yield from counted("remapped runs", width=2)
    if at != total:
        raise ValueError(f"goes on for {total - at} words after its end")


def take_apart(words: Words, shape: DumpShape) -> ZoneState:
    """The state that a dump's words describe.

    Raises ValueError, as the end of a sentence that begins with the dump's name, for words that do not fit
    the shape; whether the state makes sense is another question (``check_state``).
    """
    plain = words.tolist()
    counters: dict[str, int] = {}
    lists: list[list[Words]] = []
    blocks = words[:0]
    compaction: dict[str, int] = {}
    diffs: list[tuple[int, int]] = []
    fields: list[dict[str, int]] = []
    pcp_lists: list[list[Words]] = []
    nr_free: list[int] = []
    pool: list[Words] = []
    at_end: dict[str, Words] = {}
    for what, _, start, stop in _sections(plain, shape):
        if what == "free list":
            lists[-1].append(words[start:stop])
        elif what == "nr_free":
            lists.append([])
            nr_free.append(plain[start])
        elif what == "pcp list":
            pcp_lists[-1].append(words[start:stop])
        elif what == "counters":
            counters = dict(zip(COUNTERS, plain[start:stop], strict=True))
            diffs.append((counters["unfolded NR_FREE_PAGES"], counters["unfolded NR_FREE_CMA_PAGES"]))
        elif what == "pageblocks":
            blocks = words[start:stop]
        elif what == "differences":
            diffs.append((plain[start], plain[start + 1]))
        elif what == "pcp fields":
            fields.append(dict(zip(PCP_FIELDS, plain[start:stop], strict=True)))
            pcp_lists.append([])
        elif what == "pool list":
            pool.append(words[start:stop])
        elif what == "compaction":
            compaction = dict(zip(COMPACTION, plain[start:stop], strict=True))
        elif not what.startswith("length"):
            at_end[what] = words[start:stop]
    cpus = [CpuState(*parts) for parts in zip(diffs, fields, pcp_lists, strict=True)]
    queue, remapped_runs = (at_end.get(what, words[:0]).reshape(-1, 2) for what in ("queue", "remapped runs"))
    return ZoneState(
        counters,
        nr_free,
        lists,
        blocks,
        cpus,
        at_end.get("mapped flags"),
        at_end.get("pool marks"),
        pool,
        queue,
        remapped_runs,
        compaction,
        at_end.get("skip bits"),
    )


def check_state(state: ZoneState, shape: DumpShape) -> None:
    """Raises ValueError, as the end of a sentence that begins with the dump's name, for what cannot be.

    That is lists of frames outside the zone, misaligned, or on two lists at once, and counts that are not the
    sum of what they count.
    """
    types = len(shape.design.freetypes)
    for order, total in enumerate(state.nr_free):
        listed = sum(map(len, state.lists[order]))
        if total != listed:
            raise ValueError(f"says nr_free {total} at order {order}, its lists hold {listed}")
    if state.blocks.min() < 0 or state.blocks.max() >= types:
        raise ValueError(f"has a pageblock whose type is not one of the {types}")
    for name, flags in (
        ("mapped flag", state.mapped),
        ("pool mark", state.pool_marks),
        ("skip bit", state.skip),
    ):
        if flags is not None and (flags.min() < 0 or flags.max() > 1):
            raise ValueError(f"has a {name} that is neither 0 nor 1")
    for name, value in state.compaction.items():
        if not -1 <= value <= (shape.spanned if name.endswith(("pfn", "sync")) else 64):
            raise ValueError(f"has {name} {value}")
    _check_frames(state, shape)
    _check_runs(state.remapped_runs, shape)
    _check_counts(state, shape)


def _check_frames(state: ZoneState, shape: DumpShape) -> None:
    """Every block on a list lies in the zone, is aligned, and lies on no other list."""
    parts = [(order, frames) for order, row in enumerate(state.lists) for frames in row if len(frames)]
    parts += [
        (order, frames)
        for cpu in state.cpus
        for order, frames in zip(shape.pcp_orders, cpu.lists, strict=True)
        if len(frames)
    ]
    parts += [(order, frames) for order, frames in enumerate(state.pool) if len(frames)]
    wrong_order = (state.queue[:, 1] < 0) | (state.queue[:, 1] > shape.max_page_order)
    if wrong_order.any():
        raise ValueError(f"has order {state.queue[wrong_order][0, 1]} in its queue")
    parts += [(order, state.queue[i : i + 1, 0]) for i, order in enumerate(state.queue[:, 1].tolist())]
    if not parts:
        return
    frame = np.concatenate([frames for _, frames in parts]).astype(np.int64)
    size = np.repeat([1 << order for order, _ in parts], [len(frames) for _, frames in parts])
    for wrong, why in (
        ((frame < 0) | (frame + size > shape.spanned), f"lies outside the zone of {shape.spanned} frames"),
        ((frame + shape.start_pfn) % size != 0, "is not aligned to its order"),
    ):
        if wrong.any():
            raise ValueError(f"lists frame {frame[wrong][0]}, which {why}")
    by_frame = np.argsort(frame, kind="stable")
    frame, size = frame[by_frame], size[by_frame]
    twice = frame[:-1] + size[:-1] > frame[1:]
    if twice.any():
        raise ValueError(f"lists frame {frame[1:][twice][0]} twice")


def _check_runs(runs: Words, shape: DumpShape) -> None:
    """Runs of pages ascend inside the zone and do not touch."""
    start, pages = runs[:, 0].astype(np.int64), runs[:, 1]
    end = start + pages
    if ((pages < 1) | (start < 0) | (end > shape.spanned)).any() or (start[1:] <= end[:-1]).any():
        raise ValueError(f"has runs of pages that are not ascending runs in a zone of {shape.spanned} frames")


def _check_counts(state: ZoneState, shape: DumpShape) -> None:
    """Counters are the sums that they should be."""
    counters, cpus = state.counters, state.cpus
    mts = [freetype.mt for freetype in shape.design.freetypes]
    pages = dict.fromkeys(Migratetype, 0)
    for order, row in enumerate(state.lists):
        for mt, frames in zip(mts, row, strict=True):
            pages[mt] += len(frames) << order
    free = sum(pages.values()) - pages[Migratetype.ISOLATE]
    isolated = [i for i, mt in enumerate(mts) if mt == Migratetype.ISOLATE]
    for name, is_ in (
        ("NR_FREE_PAGES", max(0, free - sum(cpu.diff[0] for cpu in cpus))),
        ("NR_FREE_CMA_PAGES", max(0, pages[Migratetype.CMA] - sum(cpu.diff[1] for cpu in cpus))),
        ("nr_free_highatomic", pages[Migratetype.HIGHATOMIC]),
        ("nr_isolate_pageblock", int(np.isin(state.blocks, isolated).sum())),
    ):
        if counters[name] != is_:
            raise ValueError(f"says {name} {counters[name]}, what it lists makes {is_}")
    if counters["zone flags"] & ~BELOW_HIGH:
        raise ValueError(f"has zone flags {counters['zone flags']}")
    for name in (
        "nr_reserved_highatomic",
        "watermark_boost",
        "WMARK_MIN",
        "WMARK_LOW",
        "WMARK_HIGH",
        "WMARK_PROMO",
    ):
        if counters[name] < 0:
            raise ValueError(f"has {name} {counters[name]}")
    for cpu, its in enumerate(cpus):
        pcp = its.fields
        on_lists = sum(len(f) << order for order, f in zip(shape.pcp_orders, its.lists, strict=True))
        if pcp["count"] != on_lists:
            raise ValueError(f"says {pcp['count']} pages on the pcp lists of CPU {cpu}, they hold {on_lists}")
        if not (
            pcp["batch"] > 0
            and 0 <= pcp["high_min"] <= pcp["high_max"]
            and min(pcp["high"], pcp["alloc_factor"], pcp["free_count"]) >= 0
            and 0 <= pcp["flags"] <= 3
        ):
            raise ValueError(f"has impossible pcp fields of CPU {cpu}: {pcp}")


def pcp_field_words(words: Words, shape: DumpShape) -> list[slice]:
    """Where the pcp fields of each CPU are."""
    return [
        slice(start, stop)
        for what, _, start, stop in _sections(words.tolist(), shape)
        if what == "pcp fields"
    ]


def pcp_list_name(shape: DumpShape, k: int) -> str:
    """What is on pcp list ``k``, in words."""
    order, types = shape.design.pcp_lists(shape.pageblock_order)[k]
    names = [freetype.name for i, freetype in enumerate(shape.design.freetypes) if i in types]
    return f"order {order}, {' and '.join(names)}"


def word_name(words: Words, index: int, shape: DumpShape) -> str:
    """Which part of a dump the word at ``index`` is, in words; one past the end is allowed."""
    for what, where, start, stop in _sections(words.tolist(), shape):
        if index >= stop:
            continue
        if index < start:
            return "a count of things that all dumps have"
        if what == "counters":
            return COUNTERS[index - start]
        if what == "nr_free":
            return f"nr_free of order {where[0]}"
        if what == "pageblocks":
            return f"type of pageblock {index - start}"
        if what in ("mapped flags", "pool marks", "skip bits"):
            return f"{what[:-1]} of pageblock {index - start}"
        if what == "compaction":
            return COMPACTION[index - start]
        if what == "differences":
            return f"CPU {where[0]}, {COUNTERS[11 + index - start]}"
        if what == "pcp fields":
            return f"CPU {where[0]}, pcp {PCP_FIELDS[index - start]}"
        if what.endswith(("queue", "remapped runs")):
            name = {"queue": "the free queue", "remapped runs": "runs of pages mapped unlike others"}[
                what.removeprefix("length of ")
            ]
        elif what.endswith("pool list"):
            name = f"pool list of order {where[0]}"
        elif what.endswith("pcp list"):
            name = f"CPU {where[0]}, pcp list of {pcp_list_name(shape, where[1])}"
        else:
            name = f"free list of order {where[0]}, {shape.design.freetypes[where[1]].name}"
        return f"length of {name}" if what.startswith("length") else f"entry {index - start} of {name}"
    return "the end"
