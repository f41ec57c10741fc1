"""Figures over the time of a replay: unusable index, pageblocks, leaves of the restricted physmap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from asi_pa.experiment.ranking import protects
from asi_pa.experiment.verdict import short_name
from asi_pa.kernel import indexes
from asi_pa.report.figures import LEAF_MIB, LEAF_NAMES, blocks_of, samples
from asi_pa.report.palette import INK, LEAF_COLOURS, block_kind, design_colours
from asi_pa.report.plots.read import Results, Source, missing, one_of, results_of, run_of
from asi_pa.report.plots.style import axes_for, look, with_legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["designs_over_time", "leaves", "pageblocks", "unusable_index"]

_COMMAND = "asi-pa compare redis --json r.json"
_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
#: Columns of a pageblock map as drawn: more than any printer tells apart at these widths.
_ACROSS, _UP = 600, 256
Run = Mapping[str, Any]


@with_legend
def unusable_index(
    results: Source,
    *,
    trace: str | None = None,
    memory: str | None = None,
    designs: Sequence[str] | None = None,
    order: int = 9,
    ax: Axes | None = None,
) -> Axes:
    """The kernel's unusable_free_index over time: the share of free memory in blocks too small to be one.

    Parameters
    ----------
    results : a comparison, of which a line a design is shown (order: that of a pageblock), or what
        ``asi-pa validate --json`` wrote: the recorded machine beside the model's, of ``order``
    trace, memory : which replay; None: the only trace, ``short`` or the first size
    designs, ax : as of `failure_rate`

    Source: mm/vmstat.c unusable_free_index().  Raises ValueError where something is missing.
    """
    found = results_of(results)
    if found.kind == "validation":
        return _validated(found, order, ax)
    run = run_of(found, trace, memory, "series", _COMMAND)
    entries = [d for d in designs_over_time(run, designs) if d["series"].get("unusable_index")]
    if not entries:
        raise missing(found, "unusable index over time (a result of an older version)", _COMMAND)
    with look():
        ax = axes_for(ax)
        colours = design_colours(d["design"] for d in run["designs"])
        for number, design in enumerate(entries):
            x, label = _times(design)
            ax.plot(
                x,
                np.asarray(design["series"]["unusable_index"]) / 1000,
                color=colours[design["design"]],
                linestyle=_DASHES[number % len(_DASHES)],
                drawstyle="steps-post",
                label=short_name(design["design"]),
                zorder=5 - 0.1 * number,
            )
        _finish_index(ax, f"{_run_name(run)}: unusable index")
        ax.set_xlabel(label)
    return ax


def _validated(found: Results, order: int, ax: Axes | None) -> Axes:
    series = found.data["series"]
    with look():
        ax = axes_for(ax)
        for who, colour, dash in (("recorded", INK, "-"), ("model", "#d55e00", (0, (4, 1.5)))):
            index = [indexes.unusable_index(free, order) / 1000 for free in series["free"][who]]
            ax.plot(series["time"], index, color=colour, linestyle=dash, label=who)
        _finish_index(ax, f"{found.data['trace']}: unusable index, order {order}")
        ax.set_xlabel("seconds")
    return ax


def _finish_index(ax: Axes, title: str) -> None:
    ax.set_ylim(0, 1.02)
    ax.set_xlim(left=0)
    ax.set_ylabel("unusable index")
    ax.set_title(title)


@with_legend
def pageblocks(
    results: Source,
    *,
    design: str | None = None,
    trace: str | None = None,
    memory: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Types of pageblocks over time: a row of the picture is a pageblock, low addresses below.

    Parameters
    ----------
    results : a comparison with samples (``--json`` or ``--html`` was given)
    design : whose; None where there is one
    trace, memory, ax : as of `unusable_index`
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Rectangle

    found = results_of(results)
    run = run_of(found, trace, memory, "blockmap", _COMMAND)
    blocks = blocks_of(run, _UP)
    name = one_of(found, "design", _full(run, design), list(blocks.maps))
    entry = next(d for d in run["designs"] if d["design"] == name)
    points = samples(entry, "blockmap")
    if points is None:
        raise missing(found, f"pageblock map of {name}", _COMMAND)
    x = np.asarray(points["s"] or points["op"], dtype=np.float64)
    across = np.linspace(x[0], x[-1], _ACROSS)
    grid = blocks.maps[name][np.searchsorted(x, across, side="right") - 1].T
    kinds = [block_kind(kind, entry.get("tree") or "restricted") for kind in blocks.legend]
    with look():
        ax = axes_for(ax)
        ax.imshow(
            grid,
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            extent=(x[0], x[-1], 0, run["memory_bytes"] / 2**20),
            cmap=ListedColormap([colour for _, colour in kinds]),
            vmin=-0.5,
            vmax=len(kinds) - 0.5,
        )
        for words, colour in dict.fromkeys(kinds[code] for code in np.unique(blocks.maps[name]).tolist()):
            ax.add_patch(Rectangle((x[0], 0), 0, 0, facecolor=colour, label=words))  # for the legend
        ax.grid(visible=False)
        ax.set_xlabel("seconds" if points["s"] else "operations")
        ax.set_ylabel("MiB of the zone")
        ax.set_title(f"{_run_name(run)}: {short_name(name)}")
    return ax


@with_legend
def leaves(
    results: Source,
    *,
    design: str | None = None,
    trace: str | None = None,
    memory: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Memory that the restricted physmap maps over time, stacked by the size of its leaves.

    Less 4K is better.  Parameters as of `pageblocks`; ``design`` one that changes the restricted physmap.
    """
    found = results_of(results)
    run = run_of(found, trace, memory, "series", _COMMAND)
    able = [d for d in run["designs"] if protects(d) and d["series"].get("restricted_leaves")]
    names = [d["design"] for d in able if d.get("tree", "restricted") == "restricted"]
    if not names:
        raise missing(found, "design that changes the restricted physmap", _COMMAND)
    name = one_of(found, "design", _full(run, design), names)
    entry = next(d for d in able if d["design"] == name)
    sizes = [size for size in ("1g", "2m", "4k") if any(entry["series"]["restricted_leaves"].get(size, ()))]
    x, label = _times(entry)
    with look():
        ax = axes_for(ax)
        layers = [np.asarray(entry["series"]["restricted_leaves"][size]) * LEAF_MIB[size] for size in sizes]
        if layers:
            ax.stackplot(
                x,
                *layers,
                colors=[LEAF_COLOURS[size] for size in sizes],
                labels=[LEAF_NAMES[size] for size in sizes],
                linewidth=0,
            )
        ax.set_xlim(x[0], x[-1])
        ax.set_ylim(bottom=0)
        ax.set_xlabel(label)
        ax.set_ylabel("mapped, MiB")
        ax.set_title(f"{_run_name(run)}: {short_name(name)}")
    return ax


def designs_over_time(run: Run, designs: Sequence[str] | None) -> list[Mapping[str, Any]]:
    """The run's designs that have samples, of those named; ValueError for a name that is not there."""
    able = [design for design in run["designs"] if design.get("series")]
    if designs is None:
        return able
    wanted = [_full(run, name) for name in designs]
    names = [design["design"] for design in able]
    for name in wanted:
        if name not in names:
            raise ValueError(f"{_run_name(run)}: no design {name!r}: there are {', '.join(names)}")
    return [design for design in able if design["design"] in wanted]


def _full(run: Run, name: str | None) -> str | None:
    """The full name of a run's design that was named shortly."""
    return next((d["design"] for d in run["designs"] if short_name(d["design"]) == name), name)


def _run_name(run: Run) -> str:
    return f"{run['trace']}, memory {run['memory']}"


def _times(design: Mapping[str, Any]) -> tuple[Sequence[float], str]:
    points = samples(design)
    assert points is not None  # it has a series, and the schema gives that its op
    return (points["s"], "seconds") if points["s"] else (points["op"], "operations")
