"""Looks of the figures: sizes for papers, one style, and files that are the same bytes each time."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from asi_pa.files import atomic_file
from asi_pa.report.palette import GRID, INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "MARKS",
    "SIZES",
    "SUFFIXES",
    "MissingMatplotlibError",
    "axes_for",
    "legend_columns",
    "look",
    "needs_matplotlib",
    "save",
    "with_legend",
]

_P = ParamSpec("_P")
#: Width in inches, and panels side by side, of a column and of a page of two columns.
SIZES = {"column": (3.4, 1), "page": (7.0, 2)}
#: Markers of designs in the order of a legend: shape tells apart what colour does not.
MARKS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
#: Suffixes of files that can be written.
SUFFIXES = (".svg", ".pdf", ".png")

_LOOK: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.2,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.2,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "asi_pa",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # TrueType: publishers refuse type 3
}
#: Nothing of when and by what: the same figure is the same file.
_METADATA: dict[str, dict[str, Any]] = {
    ".svg": {"Date": None, "Creator": "asi_pa"},
    ".pdf": {"CreationDate": None, "Creator": "asi_pa", "Producer": None},
    ".png": {"Software": "asi_pa"},
}


class MissingMatplotlibError(ImportError, ValueError):
    """A figure was asked for and matplotlib is not installed; the one-line message says what to do."""

    def __init__(self) -> None:
        super().__init__("figures need matplotlib: pip install 'asi_pa[plot]'")


def needs_matplotlib() -> None:
    """Raise MissingMatplotlibError if there is none."""
    if find_spec("matplotlib") is None:
        raise MissingMatplotlibError


@contextmanager
def look() -> Iterator[None]:
    """The style of the figures, for what is drawn inside; what was set before comes back."""
    needs_matplotlib()
    import matplotlib as mpl

    with mpl.rc_context({**mpl.rcParamsDefault, "backend": mpl.rcParams["backend"], **_LOOK}):
        yield


def axes_for(ax: Axes | None) -> Axes:
    """``ax``, or axes of a new pyplot figure of a column's width, which a notebook shows."""
    if ax is not None:
        return ax
    needs_matplotlib()
    from matplotlib import pyplot

    with look():
        width = 1.4 * SIZES["column"][0]
        return pyplot.subplots(figsize=(width, 0.62 * width), layout="constrained")[1]


def legend_columns(labels: Collection[str], inches: float) -> int:
    """How many columns of a legend with these labels fit into a width."""
    wide = 0.36 + 0.058 * max(map(len, labels))  # inches: a handle, and letters of 7 points
    return max(1, min(len(labels), int(inches / wide)))


def with_legend(draw: Callable[_P, Axes]) -> Callable[_P, Axes]:
    """A function that draws a panel: where it makes the axes itself, a legend stands above them."""

    @wraps(draw)
    def drawn(*args: _P.args, **kwargs: _P.kwargs) -> Axes:
        ax = draw(*args, **kwargs)
        handles, labels = ax.get_legend_handles_labels()
        if kwargs.get("ax") is None and labels:
            with look():
                ax.figure.draw_without_rendering()  # the layout says how wide the axes are
                shown = dict(zip(labels, handles, strict=True))
                wide = ax.figure.get_figwidth() * ax.get_position().width
                columns = legend_columns(labels, wide)
                ax.legend(shown.values(), shown, loc="lower left", bbox_to_anchor=(0, 1.07), ncols=columns)
        return ax

    return drawn


def save(figure: Figure, path: str | Path, *, dpi: int = 200) -> None:
    """Write a figure by its suffix (.svg, .pdf, .png), whole or not at all, the same bytes each time.

    ``dpi``: dots an inch of a .png, and of pageblock maps in the others.
    Raises ValueError for another suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: a figure is written as {', '.join(SUFFIXES)}, by the file's suffix")
    whole = io.BytesIO()
    with look():
        small = {"pil_kwargs": {"optimize": True}} if suffix == ".png" else {}
        figure.savefig(whole, format=suffix[1:], metadata=_METADATA[suffix], dpi=dpi, **small)
    with atomic_file(path) as file:
        file.write(whole.getvalue())
