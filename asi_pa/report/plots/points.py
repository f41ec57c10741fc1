"""Values over memory: from sizes of a comparison, its curves, or the rows of a sweep, the same lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from asi_pa.report.plots.read import Results, missing, one_of

__all__ = ["Line", "lines_over_memory"]

#: Places of an answer that are no sizes somebody asked for.
_PLACES = ("short", "search")
#: (design, bytes of memory, value)
Point = tuple[str, int, float | None]


@dataclass(frozen=True)
class Line:
    """A design's values over memory: the median, least and most of the seeds at each size."""

    design: str
    mib: list[float]
    middle: list[float]
    low: list[float]
    high: list[float]


def lines_over_memory(
    results: Results, measure: str, trace: str | None, *, what: str, where: Mapping[str, str] | None = None
) -> tuple[str, list[Line], int]:
    """(trace, a line a design, how many points of the grid are missing).

    ``measure``: ``real`` or ``declined`` (shares of failed requests) or ``flushes``.  ``where`` narrows the
    rows of a sweep.  Raises ValueError where the results lack what it needs.
    """
    name = one_of(results, "trace", trace, results.traces) if results.traces else ""
    command = f"asi-pa compare {name or 'redis'} --memory 800M,1G,1200M,1500M --json r.json"
    if results.kind == "compare":
        found = list(_of_answer(results.data, name, measure))
        if not found and measure in ("real", "declined"):
            curves = [curve for curve in results.data.get("curves", ()) if curve["trace"] == name]
            if curves and any(v is not None for v in next(iter(curves[0]["shares"].values()))[measure]):
                return name, _of_curve(curves[0], measure), 0
    elif results.kind == "sweep":
        found = list(_of_rows(results, name, measure, where or {}))
    else:
        found = []
    sizes = {size for _, size, _ in found}
    lines = _lines(found)
    if len(sizes) < 2 or not lines:
        raise missing(results, f"{what} on several sizes of memory", command)
    counts = [sum(d == line.design and s == size for d, s, _ in found) for line in lines for size in sizes]
    return name, lines, max(counts) * len(counts) - sum(counts)


def _of_answer(result: Mapping[str, Any], trace: str, measure: str) -> Iterator[Point]:
    """Where sizes were given on the command line."""
    answer = next(answer for answer in result["answer"] if answer["trace"] == trace)
    if any(row["place"] in _PLACES for row in answer["measures"]):
        return
    sizes = {run["memory"]: run["memory_bytes"] for run in result["runs"] if run["trace"] == trace}
    for row in answer["measures"]:
        if row["measure"] == measure and row["place"] in sizes:
            for design, values in row["values"].items():
                for value in values:
                    yield design, sizes[row["place"]], value


def _of_curve(curve: Mapping[str, Any], measure: str) -> list[Line]:
    """A comparison's own curve has medians only."""
    lines = []
    for design, shares in curve["shares"].items():
        at = [(m, v) for m, v in zip(curve["mib"], shares[measure], strict=True) if v is not None]
        mib, values = [float(m) for m, _ in at], [float(v) for _, v in at]
        lines.append(Line(design, mib, values, values, values))
    return lines


def _of_rows(results: Results, trace: str, measure: str, where: Mapping[str, str]) -> Iterator[Point]:
    rows = [row for row in results.rows if row["trace"] == trace]
    for key, value in where.items():
        if not any(key in row for row in rows):
            raise ValueError(f"{results.name}: no column {key!r}")
        rows = [row for row in rows if str(row.get(key)) == value]
    for key in ("nodes", "classifier", "kernel"):
        there = sorted({str(row[key]) for row in rows if row.get(key) is not None})
        if len(there) > 1:
            raise ValueError(
                f"{results.name}: several of {key} ({', '.join(there)}): choose one with --where {key}=..."
            )
    # a multiple of what linux needs is another size with each seed: such points stand at their median
    sizes: dict[str, list[int]] = {}
    for row in rows:
        sizes.setdefault(str(row.get("memory", row["memory_bytes"])), []).append(int(row["memory_bytes"]))
    for row in rows:
        size = round(median(sizes[str(row.get("memory", row["memory_bytes"]))]))
        yield str(row["design"]), size, _value(row, measure)


def _value(row: Mapping[str, Any], measure: str) -> float | None:
    if measure == "flushes":
        parts = [row.get("tlb_flushes_ranged"), row.get("tlb_flushes_full")]
        return None if None in parts else float(sum(part for part in parts if part is not None))
    asked, failed = (row.get(f"{name}.{measure}") for name in ("requests_by_group", "failures_by_group"))
    return failed / asked if asked and failed is not None else None


def _lines(points: Sequence[Point]) -> list[Line]:
    lines = []
    for design in dict.fromkeys(design for design, _, _ in points):
        by_size: dict[int, list[float]] = {}
        for name, size, value in points:
            if name == design and value is not None:
                by_size.setdefault(size, []).append(value)
        if by_size:
            sizes = sorted(by_size)
            lines.append(
                Line(
                    design,
                    [size / 2**20 for size in sizes],
                    [median(by_size[size]) for size in sizes],
                    [min(by_size[size]) for size in sizes],
                    [max(by_size[size]) for size in sizes],
                )
            )
    return lines
