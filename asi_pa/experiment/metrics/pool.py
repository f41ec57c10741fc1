"""The pool's refills and shrinks."""

from __future__ import annotations

from asi_pa.experiment.metrics.entry import Counter, Metric

__all__ = ["POOL"]

POOL: tuple[Metric, ...] = (
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
)
