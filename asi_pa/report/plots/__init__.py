"""Figures for papers and notebooks, drawn from results without running anything again.

Each function draws one panel and returns its ``matplotlib.axes.Axes``: alone, or into the ``ax`` that it is
given.  ``results`` is a path, a result, its dict, a data frame of a sweep (`results_of`).  `sheet` makes the
whole figure that ``asi-pa plot NAME`` writes, `save` writes it.  Needs matplotlib, the extra ``plot``.

    from asi_pa.report import plots

    ax = plots.failure_rate("r.json", trace="redis", designs=["linux", "migratetype"])
    ax.set_title("redis")
"""

from __future__ import annotations

from asi_pa.report.plots.bars import speed, starvation
from asi_pa.report.plots.memory import failure_rate, flushes, price
from asi_pa.report.plots.over_time import leaves, pageblocks, unusable_index
from asi_pa.report.plots.read import Results, results_of
from asi_pa.report.plots.sheet import PLOTS, Choice, sheet
from asi_pa.report.plots.style import SIZES, MissingMatplotlibError, save

__all__ = [
    "PLOTS",
    "SIZES",
    "Choice",
    "MissingMatplotlibError",
    "Results",
    "failure_rate",
    "flushes",
    "leaves",
    "pageblocks",
    "price",
    "results_of",
    "save",
    "sheet",
    "speed",
    "starvation",
    "unusable_index",
]
