"""The measures that decide between two designs, and from which difference on they count.

All but what a search finds are taken on the recorded machine ("ample") and on one of 1.05 times the memory
that linux needs ("short").  docs/method.md says why these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from asi_pa.experiment.metrics import Better, Number, leaf_share_2m, tlb_flushes

__all__ = ["LEAST_DECLINABLE", "MEASURES", "NEEDED", "Measure", "measure_named", "taken"]


Metrics = Mapping[str, Any]
#: With fewer requests that a caller can do without, their share says nothing.
LEAST_DECLINABLE = 10_000
#: Metrics that measures are taken from.
NEEDED = (
    "direct_map_kb",
    "table_pages_allocated",
    "mixed_blocks",
    "tlb_flushes_ranged",
    "tlb_flushes_full",
    "requests_by_group",
    "failures_by_group",
    "numa_hit",
    "numa_miss",
)


@dataclass(frozen=True)
class Measure:
    """One measure of the answer."""

    key: str
    label: str
    """At most 32 characters."""
    unit: Literal["share", "count", "pages", "blocks", "mib"]
    better: Better
    relative: float
    """The floor below which two values are equal: this share of the larger ..."""
    absolute: float
    """... but at least so much, in the measure's unit."""
    meaning: str
    take: Callable[[Metrics], Number | None] | None = None
    """From the ``metrics`` of a result; None for what a search finds."""
    protection: bool = False
    """Only designs that protect something have it."""
    several: bool = False
    """Only machines of several nodes have it."""

    def floor(self, one: float, other: float) -> float:
        """From which difference on two values are not equal."""
        return max(self.relative * max(abs(one), abs(other)), self.absolute)


def _declined(metrics: Metrics) -> float | None:
    asked = metrics["requests_by_group"]["declined"]
    return metrics["failures_by_group"]["declined"] / asked if asked >= LEAST_DECLINABLE else None


def _real(metrics: Metrics) -> float | None:
    asked = metrics["requests_by_group"]["real"]
    return metrics["failures_by_group"]["real"] / asked if asked else None


def _remote(metrics: Metrics) -> float | None:
    served = metrics["numa_hit"] + metrics["numa_miss"]
    return metrics["numa_miss"] / served if served else None


MEASURES: tuple[Measure, ...] = (
    Measure(
        "leaves", "map in 2M leaves", "share", "high", 0.0, 0.02,
        "Share of the restricted physmap in leaves of 2M or larger at the end.",
        leaf_share_2m, protection=True,
    ),
    Measure(
        "tables", "page tables allocated", "pages", "low", 0.1, 8,
        "Page-table pages that the replay allocated.",
        lambda m: m["table_pages_allocated"], protection=True,
    ),
    Measure(
        "mixed", "mixed pageblocks", "blocks", "low", 0.1, 4,
        "Pageblocks with an allocated page of another type than theirs, at the end.",
        lambda m: m["mixed_blocks"],
    ),
    Measure(
        "flushes", "TLB flushes", "count", "low", 0.1, 8,
        "TLB flushes, ranged and full.", tlb_flushes, protection=True,
    ),
    Measure(
        "remote", "served by another node", "share", "low", 0.0, 0.01,
        "Share of the requests that got their pages from another node than the one they prefer (numa_miss).",
        _remote, several=True,
    ),
    Measure(
        "price", "memory needed", "mib", "low", 0.02, 4,
        "The smallest memory on which at most max(10, 0.01 %) of the real requests fail.",
    ),
    Measure(
        "roomy", "and to decline 1 %", "mib", "low", 0.02, 4,
        "The smallest memory on which besides at most 1 % of the requests with another way are declined.",
    ),
    Measure(
        "real", "real requests failed", "share", "low", 0.0, 0.001,
        "Share of the requests without another way that got nothing.", _real,
    ),
    Measure(
        "declined", "requests declined", "share", "low", 0.0, 0.01,
        "Share of the requests with another way that got nothing.", _declined,
    ),
)  # fmt: skip


def measure_named(key: str) -> Measure:
    """The measure of a key.  Raises KeyError."""
    return {measure.key: measure for measure in MEASURES}[key]


def taken(metrics: Metrics, protects: bool) -> dict[str, Number | None]:
    """The measures of a replay, of a design that protects something or nothing."""
    return {
        m.key: m.take(metrics) if protects or not m.protection else None
        for m in MEASURES
        if m.take is not None and (not m.several or "numa_miss" in metrics)
    }
