"""The answer's numbers as the screen and the page show them: a median with its range, a price in per cent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from asi_pa.experiment.verdict import short_name

__all__ = ["better_text", "number", "price_shares", "spread_text", "value_text"]

Row = Mapping[str, Any]


def number(value: float, unit: str, more: int = 0) -> str:
    """One number, its unit left out where the row says it; ``more`` decimals than it is shown with."""
    if unit == "share":
        value *= 100
        decimals = 0 if value in (0, 100) or 10 <= value < 99.5 else 1 if value >= 0.1 else 2
        return f"{value:.{decimals + more}f}"
    if unit == "percent":
        if abs(value) < 0.05 and not more:
            return "0"
        return f"{value:+.{(1 if abs(value) < 9.95 else 0) + more}f}"
    return f"{value:,.{more}f}"


def price_shares(row: Row, design: str, reference: str) -> list[float]:
    """What a design needs beyond the reference, per cent, seed by seed."""
    mine, theirs = row["values"][design], row["values"][reference]
    return [100 * (a / b - 1) for a, b in zip(mine, theirs, strict=True) if a is not None and b]


def spread_text(values: Sequence[float], unit: str, more: int = 0) -> str:
    """``33 [24..53] %``; one number where there is no spread.  ``more`` decimals than usual, 0 to 12."""
    if unit == "share" and 0 < max(values) < 0.01 and not more:
        return "< 1 %"
    sign = " %" if unit in ("share", "percent") else ""
    middle, low, high = (number(v, unit, more) for v in (median(values), min(values), max(values)))
    if low == high:
        return f"{middle}{sign}"
    return f"{middle} [{low.lstrip('+')}..{high.lstrip('+')}]{sign}"


def value_text(row: Row, design: str, reference: str) -> str:
    """A design's cell of a row: a price relative to the reference, all else as it is."""
    if design not in row["values"]:
        return "-"
    if row["unit"] == "mib":
        shares = price_shares(row, design, reference)
        if len(shares) < len(row["values"][design]):
            return "none" if any(v is not None for v in row["values"][reference]) else "-"
        return spread_text(shares, "percent")
    values = [v for v in row["values"][design] if v is not None]
    return spread_text(values, row["unit"]) if values else "-"


def better_text(row: Row, protagonists: Sequence[str]) -> str:
    """Who is better, and in how many seeds: ``pool 16/16``, ``equal``, ``undecided``."""
    word = row["against_other"]
    if word is None:
        return ""
    if word["word"] not in ("better", "worse"):
        return str(word["word"])
    name = short_name(protagonists[word["word"] == "worse"])
    return name if row["exact"] else f"{name} {word['agree']}/{word['seeds']}"
