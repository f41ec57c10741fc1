"""What an entry of the table is: a number's name, unit, meaning, and how it is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from asi_pa.experiment.measured import Measured

__all__ = ["Better", "Counter", "Metric", "Number", "Unit"]

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
