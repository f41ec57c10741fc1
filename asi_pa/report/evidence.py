"""What speaks for and against a claim, in lines short enough to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from asi_pa.experiment.metrics import METRICS
from asi_pa.report.format import format_value

__all__ = ["count", "figure_unit", "summary"]


def count(claim: Mapping[str, Any], side: bool | None) -> int:
    """Number of a claim's figures for it (True), against it (False) or neither (None)."""
    return sum(figure["for"] is side for figure in claim["figures"])


def summary(claim: Mapping[str, Any], side: bool, runs: int) -> list[str]:
    """A line for each design, metric and opponent: the range over the runs, and which runs.

    ``runs`` is the number of runs of the result, to say "all 4 runs" instead of their names.
    """
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for figure in claim["figures"]:
        if figure["for"] is side:
            key = (figure["design"], figure["metric"], figure.get("against", ""))
            groups.setdefault(key, []).append(figure)
    lines = []
    for (design, metric, against), members in groups.items():
        unit = figure_unit(metric)
        text = f"{design}: {metric} {_range([m['value'] for m in members], unit)}"
        if "reference" in members[0]:
            held = _range([m["reference"] for m in members], unit)
            text += f", {against or members[0].get('says', '').partition(':')[0]} {held}"
        where = sorted({m["run"] for m in members})
        lines.append(f"{text} ({', '.join(where) if len(where) < runs or runs == 1 else f'all {runs} runs'})")
    return lines


def figure_unit(metric: str) -> str:
    """The unit of a claim's figure: that of its row, or a share for the rates by kind."""
    if metric.startswith(("failure_rate.", "pcp_share.")):
        return "share"
    return next((m.unit for m in METRICS if m.key == metric), "count")


def _range(values: Sequence[float], unit: str) -> str:
    low, high = format_value(min(values), unit), format_value(max(values), unit)
    return low if low == high else f"{low} .. {high}"
