"""The rows of the tables: which metric, under which name, in which unit, and which way is better.

The keys are those of ``metrics`` in a result; docs/metrics.md defines each of them at length and
says where the definition comes from.  The sentences here are what a reader sees as a tooltip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "GROUPS",
    "METRICS",
    "Metric",
    "Number",
    "as_posted",
    "best",
    "competes",
    "leaf_share_2m",
    "protects",
    "run_name",
    "shown",
    "tlb_flushes",
    "value_of",
]

Number = int | float
Unit = Literal["kb", "count", "pages", "blocks", "bytes", "share", "index", "per1000", "seconds", "rate"]

#: Groups in the order of the tables.
GROUPS: dict[str, str] = {
    "work": "work",
    "failures": "failed requests",
    "relief": "relief",
    "kinds": "sensitivity",
    "physmap": "physmap",
    "flushes": "TLB flushes",
    "fragmentation": "fragmentation",
    "pool": "pool",
    "speed": "speed of the model",
}


def leaf_share_2m(metrics: Mapping[str, Any]) -> float | None:
    """Share (0..1) of the restricted physmap's mapped kB that sits in leaves of 2M or larger.

    None where the design has no restricted physmap or nothing is mapped in it.
    """
    restricted = (metrics.get("direct_map_kb") or {}).get("restricted")
    if not restricted:
        return None
    total = sum(restricted.values())
    return (total - restricted["4k"]) / total if total else None


def tlb_flushes(metrics: Mapping[str, Any]) -> int | None:
    """Ranged and full flushes together."""
    ranged, full = metrics.get("tlb_flushes_ranged"), metrics.get("tlb_flushes_full")
    return None if ranged is None or full is None else ranged + full


@dataclass(frozen=True)
class Metric:
    """One row.  ``key`` is a path into ``metrics``, dotted, list indexes as numbers."""

    key: str
    label: str
    group: str
    unit: Unit
    better: Literal["low", "high", ""]
    """Which way is better; empty where the number only tells how a design works."""
    meaning: str
    asi: bool = False
    """Counts the cost of protection: what protects nothing, leaks, or is as posted does not compete."""
    screen: bool = True
    """Shown in the terminal; the HTML page shows every row."""
    essential: bool = False
    """Shown even by ``--quiet``."""
    derive: Callable[[Mapping[str, Any]], Number | None] | None = None
    """For a row computed from several metrics."""


def _m(
    key: str,
    label: str,
    group: str,
    unit: Unit,
    better: Literal["low", "high", ""],
    meaning: str,
    **more: Any,
) -> Metric:
    return Metric(key, label, group, unit, better, meaning, **more)


METRICS: tuple[Metric, ...] = (
    _m("allocations", "requests", "work", "count", "", "Requests for pages, those that failed included."),
    _m(
        "failures",
        "failed requests",
        "failures",
        "count",
        "low",
        "Requests that got nothing. The trace comes from a machine where they succeeded; unless told to, the "
        "model reclaims nothing, so each one stands for a request that would have had to reclaim or fail.",
        essential=True,
    ),
    _m(
        "failures_by_cause.flip_starvation",
        "  flip starvation",
        "failures",
        "count",
        "low",
        "Failed with enough free pages of the other kind and the watermark met, "
        "but without a wholly free pageblock to flip.",
        asi=True,
        essential=True,
    ),
    _m(
        "failures_by_cause.no_block_refusal",
        "  may not block",
        "failures",
        "count",
        "low",
        "Failed because only a flip could have helped and the request may not block.",
        asi=True,
        essential=True,
    ),
    _m(
        "failures_by_cause.fragmentation",
        "  fragmentation",
        "failures",
        "count",
        "low",
        "Failed with enough free pages, none of them in a block large enough.",
    ),
    _m(
        "failures_by_cause.watermark",
        "  watermark",
        "failures",
        "count",
        "low",
        "Failed because the zone's watermark (with reserves and boost) refused the request.",
    ),
    _m(
        "failures_by_cause.no_memory",
        "  no memory",
        "failures",
        "count",
        "low",
        "Failed with fewer free pages than were asked for.",
    ),
    _m(
        "kswapd_wakeups",
        "kswapd wake-ups",
        "relief",
        "count",
        "low",
        "Times a request entered the slow path and had to wake kswapd, which sleeps again after a tick; "
        "without relief it never does, so 1 says that it was needed.",
    ),
    _m(
        "pages_reclaimed",
        "pages reclaimed",
        "relief",
        "pages",
        "low",
        "Pages freed out of the declared supply of page cache (--reclaim).",
    ),
    _m(
        "compactions",
        "compactions",
        "relief",
        "count",
        "low",
        "Runs of compaction over a zone (--compaction), deferred attempts not counted.",
    ),
    _m(
        "compaction_pages_moved",
        "pages moved",
        "relief",
        "pages",
        "low",
        "Pages that those runs moved: what compaction costs.",
    ),
    _m(
        "exposure_violations",
        "exposure violations",
        "kinds",
        "count",
        "low",
        "Broken promises that the auditor saw: a sensitive allocated page present in the restricted "
        "physmap, a nonsensitive one absent, sensitive data mapped before it was zeroed, a page handed "
        "out before its flush. A sound design has none; linux promises nothing, so it breaks nothing.",
        asi=True,
        essential=True,
    ),
    _m(
        "flips_s2n",
        "flips S -> N",
        "kinds",
        "blocks",
        "",
        "Pageblocks that went from sensitive (absent from the restricted physmap) to nonsensitive.",
        asi=True,
    ),
    _m(
        "flips_n2s",
        "flips N -> S",
        "kinds",
        "blocks",
        "",
        "Pageblocks that went from nonsensitive back to sensitive.",
        asi=True,
    ),
    _m(
        "no_block_refusals",
        "flips refused",
        "kinds",
        "count",
        "low",
        "Attempts to get pages that came to a flip and may not wait for it, whatever became of the request.",
        asi=True,
    ),
    _m(
        "stranded_pages_max",
        "stranded pages, max",
        "kinds",
        "pages",
        "low",
        "Most free pages of the wrong kind at the moment of a failure.",
        asi=True,
    ),
    _m(
        "stranded_pages_end",
        "stranded pages, end",
        "kinds",
        "pages",
        "low",
        "Free pages of the wrong kind at the end.",
        asi=True,
        screen=False,
    ),
    _m(
        "bytes_zeroed",
        "zeroed",
        "kinds",
        "bytes",
        "low",
        "Bytes cleared because memory went from sensitive to nonsensitive.",
        asi=True,
    ),
    _m(
        "bytes_zeroed_locked",
        "  under the zone lock",
        "kinds",
        "bytes",
        "low",
        "Of these, bytes cleared while the zone lock was held, so that everybody else waited.",
        asi=True,
        screen=False,
    ),
    _m(
        "blocks_unmapped_ahead",
        "unmapped ahead of need",
        "kinds",
        "blocks",
        "",
        "Pageblocks unmapped before a request needed them; they are among the flips N -> S.",
        asi=True,
        screen=False,
    ),
    _m(
        "restricted_2m_share",
        "restricted map in 2M",
        "physmap",
        "share",
        "high",
        "Share of what the restricted physmap maps at the end that sits in leaves of 2M or larger.",
        asi=True,
        essential=True,
        derive=leaf_share_2m,
    ),
    *(
        _m(
            f"direct_map_kb.{tree}.{size}",
            f"{tree}, {size.upper()}",
            "physmap",
            "kb",
            "",
            f"What the {tree} physmap maps at the end in leaves of {size.upper()} (as DirectMap{size} of "
            "/proc/meminfo).",
            asi=tree == "restricted",
            screen=tree == "restricted" and size != "1g",
        )
        for tree in ("restricted", "unrestricted")
        for size in ("4k", "2m", "1g")
    ),
    _m(
        "leaf_writes_pmd",
        "leaf writes, 2M",
        "physmap",
        "count",
        "low",
        "2M leaf entries that map and unmap operations wrote.",
        asi=True,
    ),
    _m(
        "leaf_writes_pte",
        "leaf writes, 4K",
        "physmap",
        "count",
        "low",
        "4K leaf entries that map and unmap operations wrote.",
        asi=True,
    ),
    _m(
        "leaf_writes_pud",
        "leaf writes, 1G",
        "physmap",
        "count",
        "low",
        "1G leaf entries that map and unmap operations wrote.",
        asi=True,
        screen=False,
    ),
    _m(
        "leaf_splits_2m",
        "2M leaves split",
        "physmap",
        "count",
        "low",
        "2M leaves replaced by 512 of 4K (direct_map_level2_splits).",
        asi=True,
    ),
    _m(
        "leaf_splits_1g",
        "1G leaves split",
        "physmap",
        "count",
        "low",
        "1G leaves replaced by 512 of 2M (direct_map_level3_splits).",
        asi=True,
        screen=False,
    ),
    _m(
        "table_pages_allocated",
        "table pages allocated",
        "physmap",
        "pages",
        "low",
        "Page-table pages that the replay had to allocate for the physmaps.",
        asi=True,
    ),
    _m(
        "tlb_flushes_per_1000_allocations",
        "flushes / 1000 served",
        "flushes",
        "per1000",
        "low",
        "TLB flushes, ranged and full, per thousand requests that got their pages.",
        asi=True,
        essential=True,
    ),
    _m(
        "tlb_flushes_ranged",
        "flushes, ranged",
        "flushes",
        "count",
        "low",
        "Flushes of at most tlb_single_page_flush_ceiling (33) pages, entry by entry.",
        asi=True,
    ),
    _m(
        "tlb_flushes_full",
        "flushes, full",
        "flushes",
        "count",
        "low",
        "Flushes of a longer range, which the kernel turns into flushes of the whole TLB on every CPU.",
        asi=True,
    ),
    _m(
        "tlb_flushed_pages",
        "pages in ranged flushes",
        "flushes",
        "pages",
        "low",
        "4K pages that the ranged flushes invalidated one by one.",
        asi=True,
        screen=False,
    ),
    _m(
        "ipis",
        "shootdown IPIs",
        "flushes",
        "count",
        "low",
        "Interrupts sent: flushes times the other CPUs online.",
        asi=True,
    ),
    _m(
        "flush_free_hit_ratio",
        "flush-free hits",
        "flushes",
        "share",
        "high",
        "Of the requests that got their pages, the share served from a list already in the right state.",
        asi=True,
        essential=True,
    ),
    _m(
        "extfrag_events",
        "extfrag events",
        "fragmentation",
        "count",
        "low",
        "Fallbacks below pageblock_order (mm_page_alloc_extfrag with fragmenting=1).",
    ),
    _m(
        "extfrag_events_severe",
        "  severe",
        "fragmentation",
        "count",
        "low",
        "Fallbacks of order 3 or less.",
        screen=False,
    ),
    _m(
        "mixed_blocks",
        "mixed pageblocks",
        "fragmentation",
        "blocks",
        "low",
        "Pageblocks at the end with an allocated page whose requested type is not the block's.",
        essential=True,
    ),
    _m(
        "foreign_pages",
        "foreign pages",
        "fragmentation",
        "pages",
        "low",
        "Allocated pages at the end whose requested type is not the block's.",
        screen=False,
    ),
    _m(
        "unusable_index.9",
        "unusable index, order 9",
        "fragmentation",
        "index",
        "low",
        "Share of free memory that cannot serve an order-9 request (debugfs unusable_index).",
    ),
    _m(
        "extfrag_index.9",
        "extfrag index, order 9",
        "fragmentation",
        "index",
        "",
        "-1: order 9 is free; near 0: lack of memory; near 1: fragmentation (debugfs extfrag_index).",
        screen=False,
    ),
    _m(
        "watermark_boosts",
        "watermark boosts",
        "fragmentation",
        "count",
        "low",
        "Times a fallback boosted the zone's watermarks (boost_watermark).",
        screen=False,
    ),
    _m(
        "pool_refills",
        "refills",
        "pool",
        "count",
        "",
        "Chunks that the pool took from the allocator.",
        asi=True,
        screen=False,
    ),
    _m(
        "pool_refill_pages",
        "pages refilled",
        "pool",
        "pages",
        "",
        "Pages in those chunks.",
        asi=True,
        screen=False,
    ),
    _m(
        "pool_shrinks",
        "shrinks",
        "pool",
        "count",
        "",
        "Chunks that the shrinker gave back.",
        asi=True,
        screen=False,
    ),
    _m(
        "replay_ops_per_second",
        "operations / s",
        "speed",
        "rate",
        "high",
        "Trace operations that the model replayed a second, the design and its physmap included.",
    ),
    _m(
        "replay_seconds",
        "replay, seconds",
        "speed",
        "seconds",
        "low",
        "Wall-clock time of the replay.",
        screen=False,
    ),
)


def value_of(metric: Metric, metrics: Mapping[str, Any]) -> Number | None:
    """The row's value for one design, None where the design has none."""
    if metric.derive is not None:
        return metric.derive(metrics)
    node: Any = metrics
    for part in metric.key.split("."):
        if isinstance(node, Mapping):
            node = node.get(part)
        elif isinstance(node, Sequence) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            return None
    return node if isinstance(node, (int, float)) else None


def protects(design: Mapping[str, Any]) -> bool:
    """Whether a design (an entry of ``runs[].designs``) protects anything at all."""
    if "protects" in design:
        return bool(design["protects"])
    return design["design"] != "linux" and design["metrics"]["exposure_violations"] is not None


def as_posted(design: Mapping[str, Any]) -> bool:
    """Whether a design keeps the holes that it was posted with, also where a run meets none of them."""
    return bool(design.get("as_posted"))


def shown(metric: Metric, design: Mapping[str, Any]) -> Number | None:
    """A row's value for a design; None where the row is about protection and the design has none.

    Exposure violations are the exception: a design that protects nothing breaks no promise, and the 0
    (or the missing number) is shown as it is.
    """
    if metric.asi and not protects(design) and metric.key != "exposure_violations":
        return None
    return value_of(metric, design["metrics"])


def competes(metric: Metric, design: Mapping[str, Any]) -> bool:
    """Whether a design can be the best of a row: in rows of protection costs only sound ones can."""
    if not metric.asi:
        return True
    return protects(design) and design["metrics"]["exposure_violations"] == 0 and not as_posted(design)


def best(metric: Metric, designs: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Names of the designs that are best in a row; empty when nobody stands out."""
    values = {
        d["design"]: v
        for d in designs
        if competes(metric, d) and (v := value_of(metric, d["metrics"])) is not None
    }
    if not metric.better or len(values) < 2 or len(set(values.values())) == 1:
        return frozenset()
    top = (min if metric.better == "low" else max)(values.values())
    return frozenset(name for name, value in values.items() if value == top)


def run_name(run: Mapping[str, Any]) -> str:
    """``redis/tight``: how claims and tables name a run."""
    return f"{run['trace']}/{run['memory']}"
