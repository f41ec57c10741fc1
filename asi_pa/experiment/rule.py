"""The rule that makes words of numbers: better, worse, equal, undecided, untested.

Two designs are compared seed by seed.  A seed speaks for *equal* if the difference is within the measure's
floor. With 16 seeds 14 have to agree: *better* or *worse* if they lie on that side and the median difference
is more than 1.5 floors, *equal* if they lie within the floor and the median difference is at most half of it;
else *undecided*, and only the range may be told.  What lies at a floor's edge is undecided with any seeds,
not equal with some.  Nothing happened: *untested*.  docs/use/method.md has the error rates: no false word in
2,807 draws of a design against itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from asi_pa.experiment.measures import Measure

__all__ = ["Spread", "Word", "agreeing", "judge", "spread"]

_CLEAR = 1.5
_INSIDE = 0.5


@dataclass(frozen=True)
class Spread:
    """What a measure is over the seeds."""

    median: float
    least: float
    most: float


@dataclass(frozen=True)
class Word:
    """How one design stands to another in a measure."""

    word: str
    """better, worse, equal, undecided or untested: of the first, against the second."""
    agree: int = 0
    """Seeds that say so."""
    seeds: int = 0
    exact: bool = False
    """No seed matters: one replay says it."""
    difference: Spread | None = None
    """First minus second."""


def spread(values: Sequence[float]) -> Spread:
    """Median and range."""
    return Spread(median(values), min(values), max(values))


def agreeing(seeds: int) -> int:
    """How many of so many seeds must agree: 14 of 16."""
    return seeds - seeds // 8


def judge(
    measure: Measure, first: Sequence[float | None], second: Sequence[float | None], *, exact: bool = False
) -> Word:
    """The first design against the second, whose values belong together seed by seed.

    A missing value (None) on either side means that the measure is not there: untested.
    """
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if not pairs or len(pairs) < len(first):
        return Word("untested")
    differences = [a - b for a, b in pairs]
    floors = [measure.floor(a, b) for a, b in pairs]
    sign = -1 if measure.better == "low" else 1
    n = len(pairs)
    within = sum(abs(d) <= f for d, f in zip(differences, floors, strict=True))
    over = spread(differences)
    clear = abs(over.median) > (1.0 if exact else _CLEAR) * median(floors)
    for word, side in (("better", sign), ("worse", -sign)):
        agree = sum(d * side > 0 for d in differences)
        if agree >= agreeing(n) and clear and over.median * side > 0:
            return Word(word, agree, n, exact, over)
    inside = abs(over.median) <= (1.0 if exact else _INSIDE) * median(floors)
    if within >= agreeing(n) and inside:
        return Word("equal", within, n, exact, over)
    return Word("undecided", within, n, exact, over)
