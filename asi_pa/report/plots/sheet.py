"""A figure by name: the panels that it has of given results, and one legend above them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from asi_pa.experiment.ranking import protects
from asi_pa.report.plots import bars, memory, over_time
from asi_pa.report.plots.points import lines_over_memory
from asi_pa.report.plots.read import Results, Source, results_of, run_of
from asi_pa.report.plots.style import SIZES, legend_columns, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PLOTS", "Choice", "Plot", "sheet"]

#: Draws a panel into axes.
Panel = Callable[["Axes"], "Axes"]


@dataclass(frozen=True)
class Choice:
    """What of the results is shown; None: everything, or what a panel chooses itself."""

    traces: Sequence[str] | None = None
    designs: Sequence[str] | None = None
    memory: str | None = None
    where: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plot:
    """A figure that ``asi-pa plot`` knows."""

    name: str
    help: str
    command: str
    """Makes what it is drawn from."""
    panels: Callable[[Results, Choice], Iterator[tuple[Panel, float]]]
    """The panels with their heights in inches."""


def _traces(found: Results, choice: Choice) -> list[str | None]:
    names = list(choice.traces or found.traces)
    for name in names:
        if name not in found.traces:
            raise ValueError(f"{found.name}: no trace {name!r}: there are {', '.join(found.traces)}")
    return [*names] or [None]


def _failures(found: Results, choice: Choice) -> Iterator[tuple[Panel, float]]:
    drawn, problem = 0, None
    for trace in _traces(found, choice):
        for kind in ("real", "declined"):
            try:  # a trace may have too few requests of a kind for their share to say something
                lines_over_memory(found, kind, trace, what="failure rate", where=choice.where)
            except ValueError as error:
                problem = problem or error
                continue
            drawn += 1
            yield _panel(memory.failure_rate, found, trace=trace, kind=kind, **_some(choice)), 1.75
    if not drawn and problem is not None:
        raise problem


def _flushes(found: Results, choice: Choice) -> Iterator[tuple[Panel, float]]:
    for trace in _traces(found, choice):
        yield _panel(memory.flushes, found, trace=trace, **_some(choice)), 1.75


def _some(choice: Choice) -> dict[str, Any]:
    return {"designs": choice.designs, "where": choice.where}


def _price(found: Results, choice: Choice) -> Iterator[tuple[Panel, float]]:
    for trace in _traces(found, choice):
        answer = next((a for a in found.data.get("answer", ()) if a["trace"] == trace), {"measures": ()})
        rows = {row["measure"]: row for row in answer["measures"] if row["place"] == "search"}
        for measure in [key for key in ("price", "roomy") if key in rows] or ["price"]:
            many = len(rows[measure]["values"]) if measure in rows else 1
            panel = _panel(memory.price, found, trace=trace, measure=measure, designs=choice.designs)
            yield panel, 0.55 + 0.17 * many


def _unusable(found: Results, choice: Choice) -> Iterator[tuple[Panel, float]]:
    if found.kind == "validation":
        yield _panel(over_time.unusable_index, found), 1.75
        return
    for trace in _traces(found, choice):
        pick = {"trace": trace, "memory": choice.memory, "designs": choice.designs}
        yield _panel(over_time.unusable_index, found, **pick), 1.75


def _pageblocks(found: Results, choice: Choice) -> Iterator[tuple[Panel, float]]:
    for design, pick in _designs(found, choice, "blockmap"):
        if design.get("blockmap"):
            yield _panel(over_time.pageblocks, found, design=design["design"], **pick), 1.3


def _leaves(found: Results, choice: Choice) -> Iterator[tuple[Panel, float]]:
    drawn = 0
    for design, pick in _designs(found, choice, "series"):
        tree = design.get("tree", "restricted") == "restricted"
        if protects(design) and tree and design["series"].get("restricted_leaves"):
            drawn += 1
            yield _panel(over_time.leaves, found, design=design["design"], **pick), 1.2
    if not drawn:
        yield _panel(over_time.leaves, found), 1.2  # says what is missing


def _designs(found: Results, choice: Choice, has: str) -> Iterator[tuple[Mapping[str, Any], dict[str, Any]]]:
    for trace in _traces(found, choice):
        pick = {"trace": trace, "memory": choice.memory}
        run = run_of(found, trace, choice.memory, has, "asi-pa compare redis --json r.json")
        for design in over_time.designs_over_time(run, choice.designs):
            yield design, pick


def _starvation(found: Results, choice: Choice) -> Iterator[tuple[Panel, float]]:
    rows = {row.get("design") for row in found.rows} or found.data.get("stored", {}).get("yields", ())
    many = len(choice.designs or rows)
    yield _panel(bars.starvation, found, designs=choice.designs), 0.6 + 0.17 * many


def _speed(found: Results, _choice: Choice) -> Iterator[tuple[Panel, float]]:
    yield _panel(bars.speed, found), 0.6 + 0.11 * sum(bool(row.get("target")) for row in found.rows)


def _panel(draw: Callable[..., Axes], found: Results, **how: Any) -> Panel:
    return lambda ax: draw(found, ax=ax, **how)


_COMPARE = "asi-pa compare redis --json r.json"
_SIZES = "asi-pa compare redis --memory 800M,1G,1200M,1500M --json r.json"
#: Every figure, in the order of the gallery.
PLOTS: dict[str, Plot] = {
    plot.name: plot
    for plot in (
        Plot("failures", "share of requests that fail over memory, by what it means", _SIZES, _failures),
        Plot("price", "memory that each design needs beyond linux, a dot a seed", _COMPARE, _price),
        Plot("flushes", "TLB flushes over memory", _SIZES, _flushes),
        Plot("unusable", "the kernel's unusable index over time", _COMPARE, _unusable),
        Plot("pageblocks", "types of pageblocks over time, a map a design", _COMPARE, _pageblocks),
        Plot("leaves", "leaves of the restricted physmap over time", _COMPARE, _leaves),
        Plot(
            "starvation", "what a fragmented machine yields", "asi-pa starvation --json s.json", _starvation
        ),
        Plot("speed", "the model's speed against its targets", "python -m benchmarks.targets", _speed),
    )
}


def sheet(name: str, results: Source, *, size: str = "column", choice: Choice | None = None) -> Figure:
    """The figure ``name`` of some results, for a ``column`` (3.4 inches wide) or a ``page`` (7 inches).

    Raises ValueError for a name or size that is none, and where the results lack what the figure needs;
    MissingMatplotlibError without matplotlib.
    """
    if name not in PLOTS:
        raise ValueError(f"no figure {name!r}: there are {', '.join(PLOTS)}")
    if size not in SIZES:
        raise ValueError(f"no size {size!r}: there are {', '.join(SIZES)}")
    found = results_of(results)
    with look():
        from matplotlib.figure import Figure

        panels = list(PLOTS[name].panels(found, choice or Choice()))
        width, across = SIZES[size]
        across = min(across, len(panels))
        down = -(-len(panels) // across)
        heights = [max(high for _, high in panels[i * across : (i + 1) * across]) for i in range(down)]
        tall = sum(heights)
        figure = Figure(figsize=(width, tall), layout="constrained")
        axes = figure.subplots(down, across, squeeze=False, height_ratios=heights)
        for ax, (draw, _) in zip(axes.flat, panels, strict=False):
            draw(ax)
        for ax in axes.flat[len(panels) :]:
            ax.remove()
        _plain_axes(axes, len(panels))
        grown = _legend(figure, list(axes.flat[: len(panels)]))
        figure.set_size_inches(width, tall + grown)
    return figure


def _plain_axes(axes: Any, count: int) -> None:
    """Words under the lowest axes of a column only, and beside the leftmost, where they are the same."""
    across = axes.shape[1]
    for place in range(count):
        row, column = divmod(place, across)
        ax = axes[row, column]
        if place + across < count and axes[row + 1, column].get_xlabel() == ax.get_xlabel():
            ax.set_xlabel("")
        if column and axes[row, column - 1].get_ylabel() == ax.get_ylabel():
            ax.set_ylabel("")


def _legend(figure: Figure, axes: Sequence[Axes]) -> float:
    """One legend above all panels; the inches that it takes."""
    shown: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, handle)
    if not shown:
        return 0.0
    columns = legend_columns(shown, figure.get_figwidth())
    figure.legend(list(shown.values()), list(shown), loc="outside upper left", ncols=columns)
    return 0.16 * -(-len(shown) // columns) + 0.05
