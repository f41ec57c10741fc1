"""Requests that failed: how many, of which kind and order, and why."""

from __future__ import annotations

from collections.abc import Iterator

from asi_pa.experiment.metrics.causes import CAUSES
from asi_pa.experiment.metrics.entry import Metric

__all__ = ["FAILURES"]


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


FAILURES: tuple[Metric, ...] = (
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
)
