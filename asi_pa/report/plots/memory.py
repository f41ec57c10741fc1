"""Figures over memory: requests that fail, flushes, and what a design needs beyond linux."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from asi_pa.experiment.measures import measure_named
from asi_pa.experiment.verdict import entry, short_name
from asi_pa.report.cells import price_shares
from asi_pa.report.palette import GRID, INK, design_colours
from asi_pa.report.plots.points import Line, lines_over_memory
from asi_pa.report.plots.read import Source, missing, one_of, results_of
from asi_pa.report.plots.style import MARKS, axes_for, look, with_legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["failure_rate", "flushes", "price"]

_KINDS = {"real": "requests that must succeed", "declined": "requests that may be declined"}


@with_legend
def failure_rate(
    results: Source,
    *,
    trace: str | None = None,
    kind: str = "real",
    designs: Sequence[str] | None = None,
    where: Mapping[str, str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Share of the requests that fail over the memory of the machine, a line a design.

    Parameters
    ----------
    results : a comparison (its curves, or its sizes with ``--memory``) or a sweep, in a form of `results_of`
    trace : which one; None where there is one
    kind : ``real`` (must succeed) or ``declined`` (the caller has another way)
    designs : names of those to draw; None: all
    where : columns and values that narrow a sweep's rows, such as ``{"classifier": "rfc"}``
    ax : where to draw; None: axes of a new figure

    A line is the median of the seeds, the band behind it their range, where seeds are known.  Per cent on a
    scale that is linear below 0.01 % and logarithmic above.  Raises ValueError where something is missing.
    """
    if kind not in _KINDS:
        raise ValueError(f"kind {kind!r}: expected one of {', '.join(_KINDS)}")
    name, lines, absent = lines_over_memory(
        results_of(results), kind, trace, what=f"failure rate of {_KINDS[kind]}", where=where
    )
    with look():
        ax = _over_memory(axes_for(ax), lines, designs, scale=100.0)
        ax.set_yscale("symlog", linthresh=0.01, linscale=0.6)
        ticks = [0, 0.01, 0.1, 1, 10, 100]
        ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.set_ylim(-0.002, max(max(line.high) for line in lines) * 200 + 0.05)
        ax.minorticks_off()
        ax.set_ylabel("failed, %")
        ax.set_title(f"{name}: {_KINDS[kind]}{_absent(absent)}")
    return ax


@with_legend
def flushes(
    results: Source,
    *,
    trace: str | None = None,
    designs: Sequence[str] | None = None,
    where: Mapping[str, str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """TLB flushes, ranged and full, over the memory of the machine, a line a design that protects something.

    Parameters as of `failure_rate`.  The scale is linear below 10 flushes and logarithmic above.
    """
    name, lines, absent = lines_over_memory(
        results_of(results), "flushes", trace, what="TLB flushes", where=where
    )
    with look():
        ax = _over_memory(axes_for(ax), lines, designs, scale=1.0)
        top = max(max(line.high) for line in lines)
        if top > 50:
            ax.set_yscale("symlog", linthresh=10)
        ax.set_ylim(0, top * (2 if top > 50 else 1.08) + 1)
        ax.set_ylabel("TLB flushes")
        ax.set_title(f"{name}: TLB flushes{_absent(absent)}")
    return ax


def _absent(points: int) -> str:
    return f" ({points} points missing)" if points else ""


def _over_memory(ax: Axes, lines: Sequence[Line], designs: Sequence[str] | None, *, scale: float) -> Axes:
    shown = [line for line in lines if _chosen(line.design, designs)]
    if not shown:
        raise ValueError(
            f"no design of {', '.join(designs or ())}: there are {', '.join(x.design for x in lines)}"
        )
    colours = design_colours(line.design for line in lines)
    for number, line in enumerate(shown):
        colour = colours[line.design]
        middle, low, high = ([scale * v for v in values] for values in (line.middle, line.low, line.high))
        if low != high:
            ax.fill_between(line.mib, low, high, color=colour, alpha=0.15, linewidth=0)
        # the first lies on top where lines are the same, the later ones are wider
        ax.plot(
            line.mib,
            middle,
            color=colour,
            marker=MARKS[number % len(MARKS)],
            linewidth=1.2 + 0.7 * (number if len(shown) < 5 else 0),
            markersize=3 + 0.7 * (number if len(shown) < 5 else 0),
            label=short_name(line.design),
            zorder=5 - 0.1 * number,
            clip_on=False,
        )
    _memory_axis(ax, max(size for line in shown for size in line.mib) >= 4096)
    return ax


def _memory_axis(ax: Axes, large: bool) -> None:
    """Sizes of memory in GiB on a logarithmic scale, or in MiB."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if large:
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda mib, _: f"{mib / 1024:g}"))
        ax.minorticks_off()
    else:
        ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 4, 5, 10]))
    ax.set_xlabel(f"memory of the machine, {'GiB' if large else 'MiB'}")


def _chosen(design: str, designs: Sequence[str] | None) -> bool:
    return designs is None or design in designs or short_name(design) in designs


@with_legend
def price(
    results: Source,
    *,
    trace: str | None = None,
    measure: str = "price",
    designs: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Memory that a design needs beyond the reference, per cent: a dot a seed, a bar at their median.

    Parameters as of `failure_rate`, but a comparison that searched is needed, and ``measure`` is ``price``
    (so that requests succeed which must) or ``roomy`` (so that besides at most 1 % of the others are
    declined).  The grey band is what the rule calls equal.  Designs that no size of the recorded machine
    was enough for have their number of such seeds instead.
    """
    found = results_of(results)
    command = "asi-pa compare redis --json r.json"
    if found.kind != "compare":
        raise missing(found, "memory needed", command)
    name = one_of(found, "trace", trace, found.traces)
    answer = next(answer for answer in found.data["answer"] if answer["trace"] == name)
    row, reference = entry(answer, measure, "search"), found.data["reference"]
    if row is None or all(v is None for v in row["values"].get(reference, ())):
        raise missing(found, "memory needed (it takes a search: no --quick, no --memory)", command)
    shown = [d for d in row["values"] if d != reference and _chosen(d, designs)]
    if not shown:
        raise missing(found, f"such design beside {reference}", command)
    with look():
        ax = axes_for(ax)
        _dots(ax, row, shown, reference, list(row["values"]))
        ax.set_xlabel(f"memory beyond {reference}, %")
        ax.set_title(f"{name}: {measure_named(measure).label}")
    return ax


def _dots(
    ax: Axes, row: Mapping[str, Any], shown: Sequence[str], reference: str, known: Sequence[str]
) -> None:
    colours = design_colours(known)
    equal = 100 * measure_named(str(row["measure"])).relative
    ax.axvspan(-equal, equal, color=GRID, zorder=0, linewidth=0)
    ax.axvline(0, color=INK, linewidth=0.8, zorder=1)
    most = equal
    for place, design in enumerate(shown):
        shares = price_shares(row, design, reference)
        most = max([most, *map(abs, shares)])
        count: dict[float, int] = {}
        for share in shares:  # equal ones side by side
            count[share] = nth = count.get(share, 0) + 1
            offset = (nth // 2) * (0.055 if nth % 2 else -0.055)
            ax.plot(share, place + offset, "o", color=colours[design], markersize=2.6, alpha=0.85, mew=0)
        if shares:
            ax.plot([median(shares)] * 2, [place - 0.4, place + 0.4], color=INK, linewidth=1.1, zorder=4)
        values = row["values"][design]
        never = sum(value is None for value in values)
        if never:
            text = f"none enough in {never} of {len(values)}"
            ax.annotate(text, (1, place), xycoords=("axes fraction", "data"), ha="right", va="center")
    ax.set_yticks(range(len(shown)), [short_name(design) for design in shown])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.grid(visible=False, axis="y")
    if most > 25:
        ax.set_xscale("symlog", linthresh=5)
        ticks = [t for t in (-100, -10, 0, 10, 100, 1000) if abs(t) <= most * 1.5 or t == 0]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    else:
        ax.set_xlim(-max(most, 3) * 1.15, max(most, 3) * 1.15)
