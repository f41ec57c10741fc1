"""What was asked for."""

from __future__ import annotations

from asi_pa.experiment.metrics.entry import Metric

__all__ = ["WORK"]

WORK: tuple[Metric, ...] = (
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
)
