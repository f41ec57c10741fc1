"""Figures of one number each: what a fragmented machine yields, and how fast the model is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from asi_pa.experiment.verdict import short_name
from asi_pa.report.palette import GRID, INK, MUTED, design_colours
from asi_pa.report.plots.read import Results, Source, missing, results_of
from asi_pa.report.plots.style import axes_for, look, with_legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["speed", "starvation"]

_WAYS = {
    "stressed": ("fragmented", "o"),
    "compacted": ("+ compaction", "s"),
    "promoted": ("+ promotion to whole pageblocks", "^"),
}
_MET, _NOT_MET = "#009e73", "#d55e00"


@with_legend
def starvation(results: Source, *, designs: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """What a fragmented machine yields of the scarce kind, per cent of what it yields unfragmented.

    Parameters
    ----------
    results : what ``asi-pa starvation --json`` wrote or the function returned, with a mark for each way to
        compact (of several sizes and seeds the median); or a comparison, which has the stored yields, without
        compaction
    designs, ax : as of `failure_rate`
    """
    rows = _yields(results_of(results))
    shown = [d for d in rows if designs is None or d in designs or short_name(d) in designs]
    if not shown:
        raise ValueError(f"no design of {', '.join(designs or ())}: there are {', '.join(rows)}")
    with look():
        ax = axes_for(ax)
        colours = design_colours(rows)
        for place, design in enumerate(shown):
            shares = rows[design]
            ax.plot([0, 100], [place, place], color=GRID, linewidth=0.8, zorder=1)
            ax.plot(
                [min(shares.values()), max(shares.values())], [place] * 2, color=colours[design], linewidth=1
            )
            for way, share in shares.items():
                marker = _WAYS[way][1]
                ax.plot(share, place, marker, color=colours[design], markersize=4.5, mew=0, clip_on=False)
        for way in dict.fromkeys(way for design in shown for way in rows[design]):
            words, marker = _WAYS[way]
            ax.plot([], [], marker, color=MUTED, markersize=4.5, mew=0, label=words)
        ax.set_yticks(range(len(shown)), [short_name(design) for design in shown])
        ax.set_ylim(len(shown) - 0.5, -0.5)
        ax.set_xlim(0, 101)
        ax.grid(visible=False, axis="y")
        ax.set_xlabel("% of what it yields unfragmented")
        ax.set_title("yield of a fragmented machine")
    return ax


def _yields(found: Results) -> dict[str, dict[str, float]]:
    """By design, by way to compact: per cent."""
    if found.kind == "starvation":
        rows: dict[str, list[Mapping[str, Any]]] = {}
        for row in found.rows:
            if row["fresh"]:
                rows.setdefault(row["design"], []).append(row)
        return {
            design: {
                way: median(100 * row[way] / row["fresh"] for row in some) for way in _WAYS if way in some[0]
            }
            for design, some in rows.items()
        }
    stored: Mapping[str, float] = found.data.get("stored", {}).get("yields", {})
    if not stored:
        raise missing(found, "yields", "asi-pa starvation --json s.json")
    return {design: {"stressed": 100 * share} for design, share in stored.items()}


@with_legend
def speed(results: Source, *, ax: Axes | None = None) -> Axes:
    """What was measured against its target, a dot a target, logarithmic: up to 1 it is met.

    Parameters
    ----------
    results : what ``python -m benchmarks.targets`` wrote (docs/engine/performance.json)
    ax : as of `failure_rate`
    """
    found = results_of(results)
    rows = [r for r in found.rows if r.get("target") and r.get("value")] if found.kind == "targets" else []
    if not rows:
        raise missing(found, "measured targets", "python -m benchmarks.targets --json p.json")
    with look():
        ax = axes_for(ax)
        ax.axvline(1, color=INK, linewidth=0.8, zorder=1)
        for place, row in enumerate(rows):
            share = _of_target(row)
            colour = _MET if share <= 1 else _NOT_MET
            ax.plot([1, share], [place] * 2, color=colour, linewidth=1)
            ax.plot(share, place, "o" if share <= 1 else "D", color=colour, markersize=3.5, mew=0)
        for words, marker, colour in (("met", "o", _MET), ("not met", "D", _NOT_MET)):
            ax.plot([], [], marker, color=colour, markersize=3.5, mew=0, label=words)
        ax.set_yticks(range(len(rows)), [str(row["what"]) for row in rows])
        ax.tick_params(axis="y", labelsize=5.5, length=0)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set_xscale("log", base=2)
        ax.grid(visible=False, axis="y")
        shares = [_of_target(row) for row in rows]
        ticks = [t for t in (0.0625, 0.25, 1, 4, 16) if min(shares) / 1.5 <= t <= max(shares) * 1.5]
        ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
        ax.minorticks_off()
        ax.set_xlabel("measured / target", loc="right")
        ax.set_title(f"speed, asi_pa {found.data.get('version', '')}".rstrip(), loc="right")
    return ax


def _of_target(row: Mapping[str, Any]) -> float:
    """How the value stands to its target, up to 1 if it is met; a negative target is one to reach."""
    value, target = float(row["value"]), float(row["target"])
    return -target / value if target < 0 else value / target
