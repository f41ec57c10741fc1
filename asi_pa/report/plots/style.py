"""Looks of the figures: sizes for papers, one style, and files that are the same bytes each time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    "look",
    "needs_matplotlib",
    "save",
]

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
