"""Every number of a comparison, an entry each: what it is called, what it means, and how it is measured.

``key`` is its path in a result's ``metrics``; the JSON schema, the tables, the page, docs/use/metrics.md
(``make docs``), the allocator's ``Statistics`` and the tests' made-up result are all made from this table.
To add a metric from a counter of the engine, add an entry with ``measure=Counter("name_in_stats_t")``;
nothing else has to change.  What a measuring function may look at is ``asi_pa.experiment.measured.Measured``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from asi_pa.experiment.measured import Measured
from asi_pa.kernel import callers

__all__ = [
    "CAUSES",
    "FAILURE_GROUPS",
    "GROUPS",
    "METRICS",
    "ROWS",
    "TYPES",
    "WAYS_OUT",
    "Cause",
    "Counter",
    "Group",
    "Metric",
    "Number",
    "leaf_share_2m",
    "measure",
    "metric",
    "tlb_flushes",
]

Number = int | float
Unit = Literal["kb", "count", "pages", "blocks", "bytes", "share", "index", "per1000", "seconds", "rate"]
Better = Literal["low", "high", ""]


@dataclass(frozen=True)
class Counter:
    """Measures what the engine counted: the sum of these counters of ``stats_t``, times a factor."""

    names: tuple[str, ...]
    times: int

    def __init__(self, *names: str, times: int = 1) -> None:
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "times", times)

    def of(self, stats: Mapping[str, int]) -> int:
        """The value from an engine's counters."""
        return sum(stats[name] for name in self.names) * self.times

    def __call__(self, measured: Measured) -> int:
        return self.of(measured.stats)


@dataclass(frozen=True)
class Metric:
    """One entry.  ``key`` is a path into ``metrics``, dotted, list indexes as numbers."""

    key: str
    type: str
    """Of TYPES; empty for what is a part of another entry's value."""
    unit: Unit
    group: str
    label: str
    """The row's name in tables; empty: no row."""
    better: Better
    """Which way is better; empty where the number only tells how a design works."""
    sentence: str
    """What a reader sees as a tooltip."""
    definition: str = ""
    """What docs/use/metrics.md says beyond the sentence, or instead of it where it repeats it (Markdown)."""
    source: str = ""
    """Where the definition comes from."""
    measure: Callable[[Measured], Any] | None = None
    """None for a part of another entry's value."""
    asi: bool = False
    """Counts the cost of protection: what protects nothing, leaks, or is as posted does not compete."""
    screen: bool = True
    """Shown in the terminal's tables; the HTML page shows every row."""
    essential: bool = False
    """Shown even where there is little room."""
    optional: bool = False
    """May be missing from a result."""
    breach: bool = False
    """Above 0 the design broke its promise."""


@dataclass(frozen=True)
class Cause:
    """Why a request can fail."""

    counter: str
    """In ``stats_t``; count_failure() of asi_pa/engine/page_alloc.pyx moves it."""
    words: str
    """What an OutOfMemoryError says."""
    label: str
    sentence: str
    definition: str
    asi: bool = False


@dataclass(frozen=True)
class Group:
    """Entries that stand together."""

    title: str
    """Of the table's part."""
    short: str
    """The same where there is little room."""
    heading: str
    """In docs/use/metrics.md."""
    text: str = ""
    """What docs/use/metrics.md says of all of them."""


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


#: Groups in the order of the tables and of the document.
GROUPS: dict[str, Group] = {
    "work": Group("work", "work", "Work"),
    "failures": Group("failed requests", "failures", "Failed requests"),
    "relief": Group(
        "relief",
        "relief",
        "Relief",
        """
All optional. When memory is short requests that may block reclaim and compact in `asi-pa compare`: what can
be reclaimed are the recorded machine's own file pages, in an order drawn with the seed (the named workloads
begin with none). `--reclaim SIZE` (`reclaim=` in Python) declares so much page cache instead, `--no-relief`
lets nothing be reclaimed or compacted. `asi_pa.replay` relieves only where it is told to, and `asi-pa
starvation` compacts in two of its columns.
What needs nobody's leave happens in every replay: kswapd ends boosts, and before a request that may
block fails, the per-CPU lists are drained and the HIGHATOMIC reserve is used up
(`__alloc_pages_direct_reclaim()`, `should_reclaim_retry()`, mm/page_alloc.c).

    asi-pa compare redis --memory 860M --seeds 1 --reclaim 64M --full
""",
    ),
    "kinds": Group("sensitivity", "kinds", "Sensitivity"),
    "physmap": Group("physmap", "physmap", "Physmap"),
    "flushes": Group("TLB flushes", "flushes", "TLB flushes"),
    "fragmentation": Group(
        "fragmentation",
        "fragm.",
        "Fragmentation",
        """
Let n_o be the number of free blocks of order o, F = sum of n_o 2^o, B = sum of n_o, and
S_k = sum over o >= k of n_o 2^(o-k). All divisions round down.
""",
    ),
    "nodes": Group(
        "nodes",
        "nodes",
        "Nodes",
        """
All optional: only machines of several nodes have them ([nodes.md](nodes.md)). Each request that got its pages
counts once, as zone_statistics() (mm/page_alloc.c) has it in `/proc/vmstat`, also where a pool gave them;
refills of a pool do not count.

    asi-pa compare redis --nodes 2 --memory 900M --seeds 1 --full
""",
    ),
    "pool": Group(
        "pool",
        "pool",
        "Pool",
        """
After M. Rapoport's prototype, msgid 20230308094106.227365-1-rppt@kernel.org, with the kinds swapped: a
pool of nonsensitive pages beside an allocator whose memory is all sensitive. 0 for every other design.
""",
    ),
    "speed": Group(
        "speed of the model",
        "speed",
        "Speed of the model",
        """
These are the only measured times in a result. They belong to the model on the machine that ran it, and
say nothing about a kernel.
""",
    ),
}

#: Why a request can fail, by the key that results, statistics and errors use.
CAUSES: dict[str, Cause] = {
    "watermark": Cause(
        "fail_watermark",
        "every zone it may use is below its watermark",
        "watermark",
        "Failed because the zone's watermark (with reserves and boost) refused the request.",
        "enough pages, but `__zone_watermark_ok()` (mm/page_alloc.c) refuses the request at its lowest "
        "watermark, reserves and boost included, because of the number of free pages.",
    ),
    "fragmentation": Cause(
        "fail_fragmentation",
        "enough free pages, but no free block of this order that it may take",
        "fragmentation",
        "Failed with enough free pages, none of them in a block large enough.",
        "all that remains: enough free pages of a kind that the request may use, no block of them large "
        "enough.",
    ),
    "no_memory": Cause(
        "fail_no_memory",
        "fewer free pages than it asks for",
        "no memory",
        "Failed with fewer free pages than were asked for.",
        "fewer pages are free than were asked for, wherever they are: on the buddy's lists of any type but "
        "ISOLATE, on per-CPU lists, in a pool or a queue.",
    ),
    "flip_starvation": Cause(
        "fail_starvation",
        "free memory is of the other sensitivity, and no whole pageblock is free to flip",
        "flip starvation",
        "Failed with enough free pages of the other kind and the watermark met, "
        "but without a wholly free pageblock to flip.",
        "the watermark is met and enough pages of the other kind are free, but none of them forms a wholly "
        "free block, so nothing can flip. Reserved pages (HIGHATOMIC) and CMA cannot flip and do not count. "
        "The name is V. Babka's objection, made in review of "
        "msgid 20260320-page_alloc-unmapped-v2-0-28bf1bd54f41@google.com.",
        asi=True,
    ),
    "no_block_refusal": Cause(
        "fail_noblock",
        "a flip would give it a pageblock, but may block, and the request may not",
        "may not block",
        "Failed because only a flip could have helped and the request may not block.",
        "a whole block of the other kind was there to flip, but the request may not block and the design "
        "flips only for those that may (RFC patch 11: ALLOC_ASI_UNMAP needs __GFP_DIRECT_RECLAIM).",
        asi=True,
    ),
}

#: What a failure means, and what it leaves its caller, as results name it.
FAILURE_GROUPS = callers.GROUPS
WAYS_OUT = tuple(way.name.lower() for way in callers.WayOut)

_COUNT = {"type": "integer", "minimum": 0}
_PAIR = {"type": "object", "required": ["sensitive", "nonsensitive"], "additionalProperties": _COUNT}
_SIDES = {"type": "object", "required": ["mapped", "unmapped"], "additionalProperties": _COUNT}
_LEAVES = {"type": "object", "required": ["4k", "2m", "1g"], "additionalProperties": _COUNT}

#: JSON Schema of each type that a value of a result can have.
TYPES: dict[str, dict[str, Any]] = {
    "count": _COUNT,
    "count?": {"type": ["integer", "null"], "minimum": 0},
    "number": {"type": "number", "minimum": 0},
    "number?": {"type": ["number", "null"], "minimum": 0},
    "counts by order": {"type": "array", "items": _COUNT},
    "index by order": {"type": "array", "items": {"type": "integer"}},
    "counts by cause": {"type": "object", "required": list(CAUSES), "additionalProperties": _COUNT},
    "counts by kind": _PAIR,
    "shares by kind": {
        "type": "object",
        "required": ["sensitive", "nonsensitive"],
        "additionalProperties": {"type": ["number", "null"], "minimum": 0},
    },
    "counts by side": _SIDES,
    "counts by group": {"type": "object", "required": list(FAILURE_GROUPS), "additionalProperties": _COUNT},
    "counts by way out": {"type": "object", "required": list(WAYS_OUT), "additionalProperties": _COUNT},
    "kb by tree": {
        "type": "object",
        "required": ["unrestricted", "restricted"],
        "additionalProperties": {"anyOf": [_LEAVES, {"type": "null"}]},
    },
}


def _cause_rows() -> Iterator[Metric]:
    """Parts of ``failures_by_cause``; those that only protection knows come first, and in the quiet table."""
    for key, cause in sorted(CAUSES.items(), key=lambda item: not item[1].asi):
        yield Metric(
            f"failures_by_cause.{key}",
            "",
            "count",
            "failures",
            f"  {cause.label}",
            "low",
            cause.sentence,
            cause.definition,
            asi=cause.asi,
            essential=cause.asi,
        )


def _group_rows() -> Iterator[Metric]:
    """Parts of ``failures_by_group``, each a number of its own."""
    says = {
        "real": (
            "real failures",
            "Requests without a way out that failed: they may block, or are atomic, of order 3 or less; and "
            "pages that a caller asked for when its try had failed.",
        ),
        "declined": (
            "declined tries",
            "Tries of order 3 or less that failed, whose callers take less: network page fragments, SLUB's "
            "first tries, readahead.",
        ),
        "huge": ("huge failures", "Failed requests of an order above 3, which a kernel may always refuse."),
    }
    for key, (label, sentence) in says.items():
        row = f"failures_by_group.{key}"
        yield Metric(row, "", "count", "failures", label, "low", sentence, essential=key != "huge")


def _map_rows() -> Iterator[Metric]:
    """Parts of ``direct_map_kb``."""
    for tree in ("restricted", "unrestricted"):
        for size in ("4k", "2m", "1g"):
            yield Metric(
                f"direct_map_kb.{tree}.{size}",
                "",
                "kb",
                "physmap",
                f"{tree}{'' if tree == 'restricted' else ' span'}, {size.upper()}",
                "",
                f"What the {tree} physmap maps at the end in leaves of {size.upper()} (as DirectMap{size} of "
                "/proc/meminfo)." + " It spans the zones from the first frame to the last, so it is "
                "larger than the machine." * (tree == "unrestricted"),
                asi=tree == "restricted",
                screen=tree == "restricted" and size != "1g",
            )


def _side_rows() -> Iterator[Metric]:
    """Parts of ``stranded_pages_end``."""
    for side, others in (("mapped", "protected"), ("unmapped", "visible")):
        yield Metric(
            f"stranded_pages_end.{side}",
            "",
            "pages",
            "kinds",
            f"free at the end, {side}",
            "",
            f"Free pages at the end that are {side}: {others} memory cannot be made of them without a flip.",
            asi=True,
            screen=False,
        )


def _node_metrics() -> Iterator[Metric]:
    """Sums over the nodes; there are as many foreign requests as missed ones."""
    says: dict[str, tuple[str, Better, str]] = {
        "numa_hit": ("on the preferred node", "", "Requests served by the node that they prefer."),
        "numa_miss": ("on another node", "low", "Requests served by another node than the preferred one."),
        "numa_local": ("on the CPU's node", "", "Requests served by the node of the CPU that asked."),
        "numa_other": ("on another CPU's node", "low", "Requests served by a node that the CPU is not on."),
    }
    for key, (label, better, sentence) in says.items():
        yield Metric(
            key,
            "count",
            "count",
            "nodes",
            label,
            better,
            sentence,
            source="`zone_statistics()`, mm/page_alloc.c",
            measure=partial(Measured.numa, key=key),
            screen=key in ("numa_hit", "numa_miss"),
            optional=True,
        )


METRICS: tuple[Metric, ...] = (
    Metric(
        "allocations",
        "count",
        "count",
        "work",
        "requests",
        "",
        "Requests for pages, those that failed included.",
        "Requests, whatever their order and whatever became of them: each is one call of the model's "
        "`__alloc_pages()`. A request for 2^3 pages counts once. What got its pages is `allocations` - "
        "`failures`.",
        measure=lambda m: m.allocations,
    ),
    Metric(
        "allocations_by_order",
        "counts by order",
        "count",
        "work",
        "",
        "",
        "",
        "The same by order, index 0 to MAX_PAGE_ORDER (10). The sum is `allocations`.",
        measure=lambda m: m.requests_by_order(),
    ),
    Metric(
        "failures",
        "count",
        "count",
        "failures",
        "failed requests",
        "low",
        "Requests that got nothing. The trace comes from a machine where they succeeded; unless told to, the "
        "model reclaims nothing, so each one stands for a request that would have had to reclaim or fail.",
        "Requests that got nothing from the fast path and the slow path. The model has no OOM killer, and it "
        "reclaims and compacts only what it is told to ([Relief](#relief)): where a kernel would go on to "
        "reclaim, it counts a failure. On the recorded machine every request of a bundled trace succeeded, "
        "so at the trace's own memory size a design should have none; at a tighter size the number tells how "
        "often the design crosses a watermark.",
        measure=lambda m: m.run.failures,
        screen=False,
    ),
    Metric(
        "failures_by_group",
        "counts by group",
        "count",
        "failures",
        "",
        "",
        "",
        "Failed requests by what the failure means, told by mask and order; never to be added up. `real`: "
        "the caller has no way out; the request may block, so that a kernel would go on reclaiming until it "
        "kills, or it is atomic. `declined`: the request was a try (`__GFP_NORETRY`, or a movable one that "
        "may not reclaim) and its caller takes less. `huge`: any of an order above PAGE_ALLOC_COSTLY_ORDER "
        "(3). A page that a caller asks for after a failed try (`fallbacks_replayed`) is `real`.",
        "include/linux/gfp_types.h; net/core/sock.c `skb_page_frag_refill()`, mm/slub.c `allocate_slab()`",
        measure=lambda m: m.failures_by_group(),
    ),
    *_group_rows(),
    Metric(
        "requests_by_group",
        "counts by group",
        "count",
        "failures",
        "",
        "",
        "",
        "Requests by the same groups; pages that a caller asked for instead of a try are among the `real` "
        "ones, the try stays where it is.",
        measure=lambda m: m.requests_by_group(),
    ),
    Metric(
        "failures_by_way_out",
        "counts by way out",
        "count",
        "failures",
        "",
        "",
        "",
        "Failed requests of all orders by what they leave the caller: `opportunistic`, `blocking`, `atomic`. "
        "__GFP_NORETRY of order 0 is opportunistic only where movable (readahead): SLUB uses it for requests "
        "that it repeats without.",
        measure=lambda m: m.failures_by_way_out(),
    ),
    Metric(
        "fallbacks_replayed",
        "count",
        "count",
        "failures",
        "tries replayed as pages",
        "",
        "Failed tries of known callers for which the replay asked for single pages instead, as they would.",
        "Failed tries of known callers (`asi_pa/kernel/callers.py`: network page fragments, SLUB, buffer "
        "heads, huge pages) for which the replay asked for single pages instead, 2^order of them, until one "
        "was not to be had; they go when the try would have. `--no-fallbacks` leaves that out.",
        measure=lambda m: m.fallbacks[0],
        screen=False,
        optional=True,
    ),
    Metric(
        "fallbacks_failed",
        "count",
        "count",
        "failures",
        "  in which a page failed",
        "low",
        "Of these, those in which a page was not to be had either.",
        measure=lambda m: m.fallbacks[1],
        optional=True,
    ),
    Metric(
        "fallbacks_dropped",
        "count",
        "count",
        "failures",
        "recorded fallbacks dropped",
        "",
        "Recorded requests for single pages that were not made, because the try that failed where it was "
        "recorded succeeded here.",
        measure=lambda m: m.run.dropped,
        screen=False,
        optional=True,
    ),
    Metric(
        "failures_by_cause",
        "counts by cause",
        "count",
        "failures",
        "",
        "",
        "",
        "Every failure has exactly one cause; their sum is `failures`. They are tested in the order "
        "no_memory, watermark, no_block_refusal, flip_starvation, fragmentation:",
        measure=lambda m: {key: m.stats[cause.counter] for key, cause in CAUSES.items()},
    ),
    *_cause_rows(),
    Metric(
        "requests_by_kind",
        "counts by kind",
        "count",
        "failures",
        "",
        "",
        "",
        "Requests, split by what the classifier says of them: `sensitive` and `nonsensitive`. The split is "
        "the same for every design, plain Linux included, so that the service of the two kinds can be "
        "compared; claim 4 does.",
        measure=lambda m: m.requests_by_kind(),
        optional=True,
    ),
    Metric(
        "failures_by_kind",
        "counts by kind",
        "count",
        "failures",
        "",
        "",
        "",
        "Failed requests, split in the same way.",
        measure=lambda m: m.by_kind(m.failed_by_class),
        optional=True,
    ),
    Metric(
        "pcp_allocations_by_kind",
        "counts by kind",
        "count",
        "failures",
        "",
        "",
        "",
        "Requests served from a per-CPU list (struct per_cpu_pages), split in the same way.",
        measure=lambda m: m.pcp_allocations_by_kind(),
        optional=True,
    ),
    Metric(
        "failure_rate",
        "shares by kind",
        "share",
        "failures",
        "",
        "",
        "",
        "`failures_by_kind` / `requests_by_kind`; `null` where nothing was asked for.",
        measure=lambda m: m.shares(m.by_kind(m.failed_by_class)),
        optional=True,
    ),
    Metric(
        "pcp_share",
        "shares by kind",
        "share",
        "failures",
        "",
        "",
        "",
        "`pcp_allocations_by_kind` / `requests_by_kind`; `null` where nothing was asked for.",
        measure=lambda m: m.shares(m.pcp_allocations_by_kind()),
        optional=True,
    ),
    Metric(
        "kswapd_wakeups",
        "count",
        "count",
        "relief",
        "kswapd wake-ups",
        "low",
        "Times a request that entered the slow path, or a watermark boost, had to wake kswapd.",
        "Times kswapd had to be woken, for it was asleep and the node not balanced, or boosted: by a request "
        "that entered the slow path with `__GFP_KSWAPD_RECLAIM`, and by the first such request after a "
        "boost. In the model it runs after every 100th operation (one to five milliseconds of a busy "
        "machine) and at every tick, and sleeps again. It takes the boost away that it found; without a "
        "declared supply it finds nothing to reclaim.",
        "`wakeup_kswapd()`, `balance_pgdat()`, mm/vmscan.c; `rmqueue()`, mm/page_alloc.c",
        measure=Counter("kswapd_wakeups"),
        optional=True,
    ),
    Metric(
        "kcompactd_wakeups",
        "count",
        "count",
        "relief",
        "kcompactd wake-ups",
        "low",
        "Times kswapd ended a boost, or left a request for large blocks to kcompactd.",
        "Times kcompactd was woken: kswapd ended a watermark boost, or a request that may not block found "
        "memory enough and no block of its order. Counted only, it does nothing.",
        "`balance_pgdat()`, `wakeup_kswapd()`, mm/vmscan.c",
        measure=Counter("kcompactd_wakeups"),
        screen=False,
        optional=True,
    ),
    Metric(
        "pages_reclaimed",
        "count",
        "pages",
        "relief",
        "pages reclaimed",
        "low",
        "Pages freed out of the declared supply of page cache (--reclaim).",
        "Pages freed by reclaim, direct or by kswapd, out of the declared supply of page cache, 32 "
        "(SWAP_CLUSTER_MAX) at a time. Reclaim itself is not modelled: no ageing, no dirty pages, no "
        "shrinkers but the pool's.",
        measure=Counter("reclaimed"),
        optional=True,
    ),
    Metric(
        "compactions",
        "count",
        "count",
        "relief",
        "compactions",
        "low",
        "Runs of compaction over a zone (--compaction), deferred attempts not counted.",
        "Runs of the two scanners over a zone, deferred attempts not counted.",
        "`compact_zone()`, mm/compaction.c",
        measure=Counter("compactions"),
        optional=True,
    ),
    Metric(
        "compaction_pages_moved",
        "count",
        "pages",
        "relief",
        "pages moved",
        "low",
        "Pages that those runs moved: what compaction costs.",
        "Pages that those runs moved: what compaction costs. Only allocations on the LRU move.",
        measure=Counter("compact_moved"),
        optional=True,
    ),
    Metric(
        "compaction_scanned_from",
        "count",
        "pages",
        "relief",
        "frames scanned to move from",
        "low",
        "Frames that compaction looked at for pages to move.",
        "Frames that those runs looked at for pages to move, each as often as it was looked at; a free "
        "block that is passed at once counts whole.",
        "`isolate_migratepages_block()`, mm/compaction.c; compact_migrate_scanned of /proc/vmstat",
        measure=Counter("compact_migrate_scanned"),
        optional=True,
    ),
    Metric(
        "compaction_scanned_to",
        "count",
        "pages",
        "relief",
        "frames scanned to move to",
        "low",
        "Frames that compaction looked at for free ones.",
        "Frames that those runs looked at for free ones to move to.",
        "`isolate_freepages_block()`, mm/compaction.c; compact_free_scanned of /proc/vmstat",
        measure=Counter("compact_free_scanned"),
        optional=True,
    ),
    Metric(
        "leaked_pages",
        "count?",
        "pages",
        "kinds",
        "leaked pages",
        "low",
        "Sensitive pages that were present in the protected physmap when they were handed out, or became so "
        "while in use. A sound design has none; linux promises nothing, so it breaks nothing.",
        "Pages of sensitive owners that were present in the physmap the design protects: when they were "
        "handed out, or because their block was mapped while they were in use. Every allocation and every "
        "change of a block is checked. A page counts once each time. 0 for a sound design; a design that "
        "protects nothing promises nothing, so it has 0, or `null`; `protects` says which designs those are.",
        measure=Counter("exposures"),
        asi=True,
        essential=True,
        breach=True,
    ),
    Metric(
        "uncleared_pages",
        "count?",
        "pages",
        "kinds",
        "mapped uncleared",
        "low",
        "Pages that were mapped, or handed out mapped, while they still held what a sensitive owner wrote.",
        "Free pages that were mapped, or handed out mapped, while they still held sensitive data: a "
        "sensitive owner had them, and nobody has cleared them since. 0 for a sound design.",
        measure=Counter("stale_exposed"),
        asi=True,
        essential=True,
        breach=True,
    ),
    Metric(
        "unflushed_pages",
        "count?",
        "pages",
        "kinds",
        "handed out unflushed",
        "low",
        "Pages handed out as sensitive before the flush that their unmapping owes: a TLB may still map them.",
        "Pages handed out to a sensitive owner after their entries were cleared and before the flush "
        "completed, so that a TLB may still map them. In a replay nothing happens between the two; the "
        "auditor lets another CPU act there. 0 for a sound design.",
        measure=Counter("unflushed"),
        asi=True,
        screen=False,
        breach=True,
    ),
    Metric(
        "absent_pages",
        "count?",
        "pages",
        "kinds",
        "absent pages",
        "low",
        "Pages whose owner may be seen, absent when handed out or while in use: an ASI exit where a "
        "restricted map is protected (a cost), an oops where the direct map itself is.",
        "Pages of owners that may be seen which were absent from the physmap the design changes, when they "
        "were handed out or because their block was unmapped while they were in use. No exposure. Where the "
        "restricted physmap is protected (`tree` of the design is `restricted`) the access faults and the "
        "kernel leaves the restricted address space, which is a cost; in the direct-map designs "
        "(`unrestricted`: `unmapped`, `pool/sound`) it is an oops, and the design is broken.",
        "an ASI exit: 20240712-asi-rfc-24-v1-0 and linuxasi.dev",
        measure=Counter("absences"),
        asi=True,
        screen=False,
    ),
    Metric(
        "flips_s2n",
        "count",
        "blocks",
        "kinds",
        "flips S -> N",
        "",
        "Pageblocks that went from sensitive (absent from the restricted physmap) to nonsensitive.",
        "Blocks flipped from S to N. A free buddy of order 10 flips two. Designs that do not work by blocks "
        "(`pool`, `per-page`) have none; what they do instead is in the leaf writes and the pool's rows.",
        measure=Counter("flips_s2n"),
        asi=True,
    ),
    Metric(
        "flips_n2s",
        "count",
        "blocks",
        "kinds",
        "flips N -> S",
        "",
        "Pageblocks that went from nonsensitive back to sensitive.",
        measure=Counter("flips_n2s"),
        asi=True,
    ),
    Metric(
        "no_block_refusals",
        "count",
        "count",
        "kinds",
        "flips refused",
        "low",
        "Attempts to get pages that came to a flip and may not wait for it, whatever became of the request.",
        "Times a flip was called for and not tried because the request may not block: the zone's lists and "
        "reserve had nothing for it, and the design flips for requests of its side that may. A request "
        "counts once for each zone and each attempt of the fast and the slow path. Unlike the cause "
        "`no_block_refusal` it also counts requests that were served in another way afterwards, and those "
        "for whom no whole block was there to flip.",
        measure=Counter("noblock_refusals"),
        asi=True,
    ),
    Metric(
        "stranded_pages_max",
        "count",
        "pages",
        "kinds",
        "stranded pages, max",
        "low",
        "Most free pages of the wrong kind at the moment of a failure.",
        "The most pages that were free but of the wrong kind for the request, taken at the moment of each "
        "failure. 0 if nothing failed.",
        measure=Counter("stranded_max"),
        asi=True,
    ),
    Metric(
        "stranded_pages_end",
        "counts by side",
        "pages",
        "kinds",
        "",
        "",
        "",
        "Pages at the end that are free, by side: `mapped`, the free pages of lists whose blocks are present "
        "in the physmap the design changes, and `unmapped`, the others; a pool's pages are on the side the "
        "pool is for. A request of the other side can have them only through a flip or a shrinker. Pages on "
        "per-CPU lists are not counted. Both 0 for a design that protects nothing.",
        measure=lambda m: m.stranded(),
        asi=True,
        screen=False,
    ),
    *_side_rows(),
    Metric(
        "bytes_zeroed",
        "count",
        "bytes",
        "kinds",
        "zeroed",
        "low",
        "Bytes cleared because memory went from sensitive to nonsensitive.",
        "Bytes cleared because memory went from S to N. The RFC names the clearing as necessary and leaves "
        "it as a TODO; `migratetype/sound` clears each block when it flips. Pages that a request asks to be "
        "cleared (__GFP_ZERO) are not counted.",
        measure=Counter("pages_zeroed", times=4096),
        asi=True,
    ),
    Metric(
        "bytes_zeroed_locked",
        "count",
        "bytes",
        "kinds",
        "  under the zone lock",
        "low",
        "Of these, bytes cleared while the zone lock was held, so that everybody else waited.",
        "Of these, the bytes that were cleared while the zone lock was held: all of a flip's with "
        "`zeroing=locked`, otherwise those of blocks that change sides without a step outside the lock, such "
        "as one given back by a reserve. Everybody who needs the zone waits for it.",
        measure=Counter("pages_zeroed_locked", times=4096),
        asi=True,
        screen=False,
        optional=True,
    ),
    Metric(
        "bytes_zeroed_ahead",
        "count",
        "bytes",
        "kinds",
        "cleared by a worker",
        "",
        "Bytes that a worker cleared in free pageblocks before anybody flipped them.",
        "Bytes cleared in whole free unmapped pageblocks by a worker, once a second (`zeroed_by`). They are "
        "among `bytes_zeroed`, and nobody's allocation waits for them.",
        measure=Counter("pages_zeroed_ahead", times=4096),
        asi=True,
        screen=False,
        optional=True,
    ),
    Metric(
        "blocks_unmapped_ahead",
        "count",
        "blocks",
        "kinds",
        "unmapped ahead of need",
        "",
        "Pageblocks unmapped before a request needed them; they are among the flips N -> S.",
        "Blocks unmapped before a request needed them (`migratetype/eager`: `unmap_low`, `unmap_high`; or a "
        "design's own `unmap_ahead`). They are among `flips_n2s`. Each run of neighbours is flushed once, "
        "and nobody's allocation waits for it.",
        measure=Counter("unmapped_ahead"),
        asi=True,
        screen=False,
        optional=True,
    ),
    Metric(
        "pages_moved_to_flip",
        "count",
        "pages",
        "kinds",
        "moved so that a block could flip",
        "",
        "Used pages moved out of partly free pageblocks so that these could flip.",
        "Used pages that went to other frames because their pageblock, partly free, was to flip "
        "(`flip_used`, `flip_free`); those of attempts that found no place for the rest, too.",
        measure=Counter("moved_to_flip"),
        asi=True,
        screen=False,
        optional=True,
    ),
    Metric(
        "restricted_2m_share",
        "number?",
        "share",
        "physmap",
        "restricted map in 2M",
        "high",
        "Share of what the restricted physmap maps at the end that sits in leaves of 2M or larger.",
        "(`2m` + `1g`) / (`4k` + `2m` + `1g`) of `direct_map_kb.restricted`. Claim 1 "
        "is about this share. Undefined, shown as `-`, while nothing is mapped.",
        measure=lambda m: leaf_share_2m({"direct_map_kb": m.direct_map_kb()}),
        optional=True,
        asi=True,
        essential=True,
    ),
    Metric(
        "direct_map_kb",
        "kb by tree",
        "kb",
        "physmap",
        "",
        "",
        "",
        "kB mapped at the end, in leaves of `4k`, `2m` and `1g`, for the `unrestricted` and the `restricted` "
        "physmap: leaf counts shifted left by 2, 11 and 20, as DirectMap4k, DirectMap2M and DirectMap1G in "
        "/proc/meminfo. `restricted` is `null` where a design has none.",
        "`arch_report_meminfo()`, arch/x86/mm/pat/set_memory.c",
        measure=lambda m: m.direct_map_kb(),
    ),
    *_map_rows(),
    Metric(
        "leaf_writes_pmd",
        "count",
        "count",
        "physmap",
        "leaf writes, 2M",
        "low",
        "2M leaf entries that map and unmap operations wrote.",
        "Leaf entries of 2M written by map and unmap operations, one per entry. Entries written while a leaf "
        "is split belong to the split and are not counted here.",
        measure=lambda m: m.leaf_writes(1),
        asi=True,
    ),
    Metric(
        "leaf_writes_pte",
        "count",
        "count",
        "physmap",
        "leaf writes, 4K",
        "low",
        "4K leaf entries that map and unmap operations wrote.",
        measure=lambda m: m.leaf_writes(0),
        asi=True,
    ),
    Metric(
        "leaf_writes_pud",
        "count",
        "count",
        "physmap",
        "leaf writes, 1G",
        "low",
        "1G leaf entries that map and unmap operations wrote.",
        measure=lambda m: m.leaf_writes(2),
        asi=True,
        screen=False,
    ),
    Metric(
        "leaf_splits_2m",
        "count",
        "count",
        "physmap",
        "2M leaves split",
        "low",
        "2M leaves replaced by 512 of 4K (direct_map_level2_splits).",
        "2M leaves replaced by 512 of 4K: the kernel's direct_map_level2_splits in /proc/vmstat.",
        measure=lambda m: m.physmap_count("splits_2m"),
        asi=True,
    ),
    Metric(
        "leaf_splits_1g",
        "count",
        "count",
        "physmap",
        "1G leaves split",
        "low",
        "1G leaves replaced by 512 of 2M (direct_map_level3_splits).",
        measure=lambda m: m.physmap_count("splits_1g"),
        asi=True,
        screen=False,
    ),
    Metric(
        "table_pages_allocated",
        "count",
        "pages",
        "physmap",
        "table pages allocated",
        "low",
        "Page-table pages that the replay had to allocate for the physmaps.",
        "Pages allocated to hold page tables of the physmaps. Each split needs one.",
        measure=lambda m: m.physmap_count("tables_allocated"),
        asi=True,
    ),
    Metric(
        "tlb_flushes_per_1000_allocations",
        "number",
        "per1000",
        "flushes",
        "flushes / 1000 served",
        "low",
        "TLB flushes, ranged and full, per thousand requests that got their pages.",
        "1000 (`tlb_flushes_ranged` + `tlb_flushes_full`) / (`allocations` - `failures`): flushes per "
        "thousand requests that got their pages. 0 if none did.",
        measure=lambda m: m.flushes_per_1000(),
        asi=True,
        essential=True,
    ),
    Metric(
        "tlb_flushes",
        "count",
        "count",
        "flushes",
        "",
        "low",
        "",
        "`tlb_flushes_ranged` and `tlb_flushes_full` together.",
        measure=lambda m: m.physmap_count("flushes_ranged") + m.physmap_count("flushes_full"),
        asi=True,
        optional=True,
    ),
    Metric(
        "tlb_flushes_ranged",
        "count",
        "count",
        "flushes",
        "flushes, ranged",
        "low",
        "Flushes of at most tlb_single_page_flush_ceiling (33) pages, entry by entry.",
        "Calls of `flush_tlb_kernel_range()` for at most `tlb_single_page_flush_ceiling` (33) pages, which "
        "are invalidated entry by entry.",
        "arch/x86/mm/tlb.c",
        measure=lambda m: m.physmap_count("flushes_ranged"),
        asi=True,
    ),
    Metric(
        "tlb_flushes_full",
        "count",
        "count",
        "flushes",
        "flushes, full",
        "low",
        "Flushes of a longer range, which the kernel turns into flushes of the whole TLB on every CPU.",
        "Such calls for more pages: the whole TLB of every CPU is flushed. A block has 512 pages, so a "
        "flip's flush is a full one. Every split adds a full flush, as `__split_large_page()` does.",
        "arch/x86/mm/tlb.c, arch/x86/mm/pat/set_memory.c",
        measure=lambda m: m.physmap_count("flushes_full"),
        asi=True,
    ),
    Metric(
        "tlb_flushed_pages",
        "count",
        "pages",
        "flushes",
        "pages in ranged flushes",
        "low",
        "4K pages that the ranged flushes invalidated one by one.",
        "4K pages that the ranged flushes invalidated, together; the cost model needs it. A full flush has "
        "no pages here.",
        measure=lambda m: m.physmap_count("flushed_pages"),
        asi=True,
        screen=False,
        optional=True,
    ),
    Metric(
        "tlb_flushes_other_spaces",
        "count",
        "count",
        "flushes",
        "  also other spaces'",
        "low",
        "Ranged flushes after which every other address space is flushed at its next use: kernel entries "
        "are not global under ASI.",
        "Of `tlb_flushes_ranged`, those of kernels whose entries are not global, as under ASI: INVLPG "
        "reaches the current address space, and every other one is flushed as a whole at its next use. The "
        "cost model needs it.",
        "`flush_tlb_one_kernel()`, arch/x86/mm/tlb.c",
        measure=lambda m: m.physmap_count("flushes_others"),
        asi=True,
        screen=False,
        optional=True,
    ),
    Metric(
        "ipis",
        "count",
        "count",
        "flushes",
        "shootdown IPIs",
        "low",
        "Interrupts sent: flushes times the other CPUs online.",
        "Shootdown interrupts sent: for every flush, one to each other online CPU. 0 on a machine with one "
        "CPU. (A replay's machine has no INVLPGB; docs/engine/physmap.md says which flushes it spares.)",
        measure=lambda m: m.physmap_count("ipis"),
        asi=True,
    ),
    Metric(
        "tlb_flushes_per_1000_able",
        "number?",
        "per1000",
        "flushes",
        "flushes / 1000 able",
        "low",
        "TLB flushes per thousand requests of the kinds that can cause one: where a flush is at stake, how "
        "often it happens.",
        "1000 (`tlb_flushes_ranged` + `tlb_flushes_full`) / the requests of the kinds that can cause a flush "
        "in this design: where pages are mapped one by one (`per-page`, `rfcv2-queue`) the nonsensitive "
        "ones, whose pages are unmapped when they are freed; elsewhere those for unmapped memory, which in "
        "the direct-map designs are the sensitive UNMOVABLE ones only, and of these those that may block (a "
        "pool of unmapped pages asks for all). Failed requests included. `null` where there are none. Most "
        "requests of most traces are not of these kinds, so a share of all requests says little.",
        measure=lambda m: m.flushes_per_1000_able(),
        asi=True,
        essential=True,
    ),
    Metric(
        "extfrag_events",
        "count",
        "count",
        "fragmentation",
        "extfrag events",
        "low",
        "Fallbacks below pageblock_order (mm_page_alloc_extfrag with fragmenting=1).",
        "Fallbacks to another type's memory that fragment: the fallback's order is below pageblock_order. "
        "perf prints `fragmenting` of mm_page_alloc_extfrag wrongly, so it is computed here.",
        "mm_page_alloc_extfrag, include/trace/events/kmem.h",
        measure=Counter("extfrag_fragmenting"),
    ),
    Metric(
        "extfrag_events_severe",
        "count",
        "count",
        "fragmentation",
        "  severe",
        "low",
        "Fallbacks of order 3 or less.",
        "Those with a fallback order of at most 3 (PAGE_ALLOC_COSTLY_ORDER).",
        measure=Counter("extfrag_severe"),
        screen=False,
    ),
    Metric(
        "mixed_blocks",
        "count",
        "blocks",
        "fragmentation",
        "mixed pageblocks",
        "low",
        "Pageblocks at the end with an allocated page whose requested type is not the block's.",
        "Blocks that, at the end, hold at least one allocated page whose requested migratetype differs from "
        "the block's.",
        measure=lambda m: m.mixed[0],
        essential=True,
    ),
    Metric(
        "foreign_pages",
        "count",
        "pages",
        "fragmentation",
        "foreign pages",
        "low",
        "Allocated pages at the end whose requested type is not the block's.",
        "Those pages. `foreign_pages / mixed_blocks` is the degree of mixing.",
        measure=lambda m: m.mixed[1],
        screen=False,
    ),
    Metric(
        "unusable_index",
        "counts by order",
        "index",
        "fragmentation",
        "",
        "",
        "",
        "Per order k, in thousandths: 1000 if F = 0, otherwise 1000 (F - S_k 2^k) / F. 0 means that all free "
        "memory can serve the order, 1000 that none can. At the end of the trace.",
        "`unusable_free_index()`, mm/vmstat.c, in debugfs extfrag/unusable_index",
        measure=lambda m: m.index(unusable=True),
    ),
    Metric(
        "unusable_index.9",
        "",
        "index",
        "fragmentation",
        "unusable index, order 9",
        "low",
        "Share of free memory that cannot serve an order-9 request (debugfs unusable_index).",
    ),
    Metric(
        "extfrag_index",
        "index by order",
        "index",
        "fragmentation",
        "",
        "",
        "",
        "Per order k, in thousandths: 0 if B = 0; -1000 if S_k > 0; otherwise 1000 - (1000 + 1000 F / 2^k) / "
        "B. Toward 0 a failure is lack of memory, toward 1000 it is fragmentation. It may be negative "
        "without being -1000. At the end of the trace.",
        "`__fragmentation_index()`, mm/vmstat.c",
        measure=lambda m: m.index(unusable=False),
    ),
    Metric(
        "extfrag_index.9",
        "",
        "index",
        "fragmentation",
        "extfrag index, order 9",
        "",
        "-1: order 9 is free; near 0: lack of memory; near 1: fragmentation (debugfs extfrag_index).",
        screen=False,
    ),
    Metric(
        "watermark_boosts",
        "count",
        "count",
        "fragmentation",
        "watermark boosts",
        "low",
        "Times a fallback boosted the zone's watermarks (boost_watermark).",
        "Times a fallback raised the zone's watermark boost.",
        "`boost_watermark()`, mm/page_alloc.c",
        measure=Counter("boosts"),
        screen=False,
    ),
    *_node_metrics(),
    Metric(
        "pool_refills",
        "count",
        "count",
        "pool",
        "refills",
        "",
        "Chunks that the pool took from the allocator.",
        "Chunks that the pool took from the page allocator. A refill asks for order 9 and steps down to the "
        "requested order.",
        measure=Counter("pool_refills"),
        asi=True,
        screen=False,
    ),
    Metric(
        "pool_refill_pages",
        "count",
        "pages",
        "pool",
        "pages refilled",
        "",
        "Pages in those chunks.",
        measure=Counter("pool_refill_pages"),
        asi=True,
        screen=False,
    ),
    Metric(
        "pool_shrinks",
        "count",
        "count",
        "pool",
        "shrinks",
        "",
        "Chunks that the shrinker gave back.",
        "Chunks that the shrinker gave back to the page allocator.",
        measure=Counter("pool_shrinks"),
        asi=True,
        screen=False,
    ),
    Metric(
        "replay_ops_per_second",
        "number",
        "rate",
        "speed",
        "operations / s",
        "high",
        "Trace operations that the model replayed a second, the design and its physmap included.",
        "Operations of the compiled trace divided by `replay_seconds`.",
        measure=lambda m: m.ops_per_second(),
    ),
    Metric(
        "replay_seconds",
        "number",
        "seconds",
        "speed",
        "replay, seconds",
        "low",
        "Wall-clock time of the replay.",
        "Wall-clock seconds of the replay, without reading and compiling the trace.",
        measure=lambda m: m.seconds,
        screen=False,
    ),
)

#: The rows of the tables.
ROWS = tuple(entry for entry in METRICS if entry.label)


def metric(key: str) -> Metric:
    """The entry of a key.  Raises KeyError, naming it, if there is none."""
    for entry in METRICS:
        if entry.key == key:
            return entry
    raise KeyError(f"no metric {key!r}")


def measure(measured: Measured, keys: Collection[str] = ()) -> dict[str, Any]:
    """All of them after a replay, or only some: the ``metrics`` of a result."""
    there = measured.nodes > 1
    return {
        m.key: m.measure(measured)
        for m in METRICS
        if m.measure and (not keys or m.key in keys) and (there or m.group != "nodes")
    }
