"""The pictures of a run as plotly figures: one row a design, time on a common axis.

Each function takes an entry of ``runs`` and returns a figure as plotly.js takes it (``data`` and ``layout``,
plain), or None where no design of the run has the data.  The x values are left out: the page puts in seconds
of trace time, or operations (``samples`` has both).  Plotly's own objects would check each of 100,000 values,
in half the time that a page takes; a test has them check a page's figures.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.experiment.ranking import protects
from asi_pa.report.palette import DASHES, GRID, INK, LEAF_COLOURS, MUTED, design_colours, kind_colours

__all__ = ["Blocks", "blockmap", "blocks_of", "flushes", "free_memory", "leaf_sizes", "legend", "samples"]

PAGE_MIB = 4096 / 2**20
LEAF_MIB = {"4k": PAGE_MIB, "2m": 2.0, "1g": 1024.0}
LEAF_NAMES = {"4k": "4K leaves", "2m": "2M leaves", "1g": "1G leaves"}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"
ROW, GAP, TOP, BOTTOM = 130, 34, 34, 46

Run = Mapping[str, Any]
Design = Mapping[str, Any]
Figure = dict[str, Any]


def samples(design: Design, of: str = "series") -> dict[str, list[float]] | None:
    """The sample points of a design's ``series`` or ``blockmap``: ``op`` and ``s`` (seconds), same length.

    Seconds of a blockmap are read off the series' (op, time) pairs.  None without samples; ``s`` is
    empty where no times are known.
    """
    part, series = design.get(of) or {}, design.get("series") or {}
    if not part.get("op"):
        return None
    ops = np.asarray(part["op"], dtype=np.float64)
    times: list[float] = []
    if series.get("time_ns"):
        known = np.asarray(series["time_ns"], dtype=np.float64)
        known = (known - known[0]) / 1e9
        times = np.round(np.interp(ops, np.asarray(series["op"], dtype=np.float64), known), 6).tolist()
    return {"op": [int(op) for op in ops], "s": times}


class Blocks:
    """The pageblock maps of a run under one ``legend``: per design a uint8 array [time, block]."""

    def __init__(self, run: Run, columns: int = 256) -> None:
        self.legend: list[str] = []
        self.maps: dict[str, npt.NDArray[np.uint8]] = {}
        self.shown = columns
        for design in run["designs"]:
            part = design.get("blockmap") or {}
            if not part.get("rows"):
                continue
            for name in part["legend"]:
                if name not in self.legend:
                    self.legend.append(name)
            codes = np.array([self.legend.index(name) for name in part["legend"]], dtype=np.uint8)
            rows = np.asarray(part["rows"], dtype=np.int64)
            if rows.ndim != 2 or rows.min() < 0 or rows.max() >= len(codes):
                raise ValueError(f"{design['design']}: the blockmap's rows do not fit its legend")
            keep = np.linspace(0, rows.shape[1] - 1, min(columns, rows.shape[1])).round().astype(np.int64)
            self.shown = len(keep)
            self.maps[design["design"]] = codes[rows[:, keep]]
        used = sorted({int(code) for m in self.maps.values() for code in np.unique(m)})
        order = {code: index for index, code in enumerate(used)}
        table = np.array([order.get(code, 0) for code in range(len(self.legend))], dtype=np.uint8)
        self.legend = [self.legend[code] for code in used]
        self.maps = {name: table[m] for name, m in self.maps.items()}


def blocks_of(run: Run, columns: int = 256) -> Blocks:
    """The run's pageblock maps, at most ``columns`` blocks each, evenly picked."""
    return Blocks(run, columns)


def blockmap(run: Run, blocks: Blocks) -> Figure | None:
    """Pageblock types over time: a heatmap per design, blocks in order of address from the bottom up."""
    names = [d["design"] for d in run["designs"] if d["design"] in blocks.maps]
    if not names:
        return None
    colours = kind_colours(blocks.legend)
    count = len(blocks.legend)
    scale = [[(i + side) / count, colours[kind]] for i, kind in enumerate(blocks.legend) for side in (0, 1)]
    figure = _rows(run, names, "pageblocks")
    for index, name in enumerate(names):
        cells = blocks.maps[name].T
        packed = b64encode(cells.tobytes()).decode()
        figure["data"].append(
            {
                "type": "heatmap",
                "z": {"dtype": "u1", "bdata": packed, "shape": f"{cells.shape[0]}, {cells.shape[1]}"},
                "zmin": -0.5,
                "zmax": count - 0.5,
                "colorscale": scale,
                "showscale": False,
                "zsmooth": False,
                "hovertemplate": "%{x}, block column %{y}<extra>" + name + "</extra>",
                "meta": {"design": name, "of": "blockmap"},
                **_axes(index),
            }
        )
    _every_y(figure, showticklabels=False, ticks="")
    return figure


def leaf_sizes(run: Run) -> Figure | None:
    """MiB that the restricted physmap maps, stacked by leaf size; only designs that protect something."""

    def layers(design: Design) -> list[tuple[str, str, npt.NDArray[np.float64]]]:
        leaves = design["series"].get("restricted_leaves") or {}
        return [
            (LEAF_NAMES[size], LEAF_COLOURS[size], np.asarray(leaves[size]) * LEAF_MIB[size])
            for size in ("1g", "2m", "4k")
            if any(leaves.get(size, ()))
        ]

    return _stacked(run, [d for d in run["designs"] if protects(d)], layers)


def free_memory(run: Run) -> Figure | None:
    """MiB free, stacked by free list (freetype)."""
    kinds = kind_colours(
        kind for d in run["designs"] for kind in ((d.get("series") or {}).get("free_pages") or {})
    )

    def layers(design: Design) -> list[tuple[str, str, npt.NDArray[np.float64]]]:
        free = design["series"].get("free_pages") or {}
        return [
            (kind, kinds[kind], np.asarray(pages) * PAGE_MIB) for kind, pages in free.items() if any(pages)
        ]

    return _stacked(run, run["designs"], layers)


def flushes(run: Run) -> Figure | None:
    """Flushes so far and pageblocks flipped so far, all designs on one axis, with a range slider below."""
    designs = [d for d in run["designs"] if samples(d) and protects(d)]
    if not designs:
        return None
    colours = design_colours(d["design"] for d in run["designs"])
    figure = _rows(
        run, ["TLB flushes so far, all CPUs", "pageblocks flipped so far, both ways"], "count", height=210
    )
    tops = []
    for index, design in enumerate(designs):
        points, series = samples(design), design["series"]
        assert points is not None
        flips = np.asarray(series.get("flips_s2n") or [0]) + np.asarray(series.get("flips_n2s") or [0])
        for row, values in enumerate((series.get("flushes") or [], flips)):
            if len(values) != len(points["op"]):
                continue
            if row == 0:
                tops.append(max(values))
            colour, dash = colours[design["design"]], DASHES[index % len(DASHES)]
            figure["data"].append(
                {
                    "type": "scatter",
                    "y": np.asarray(values).tolist(),
                    "name": design["design"],
                    "mode": "lines",
                    "line": {"color": colour, "width": 2, "dash": dash, "shape": "hv"},
                    "hovertemplate": "%{y:,}<extra>" + design["design"] + "</extra>",
                    "meta": {"design": design["design"], "of": "series"},
                    **_axes(row),
                }
            )
    tops = [top for top in tops if top]
    steep = bool(tops) and max(tops) > 30 * min(tops)
    figure["layout"]["yaxis"]["type"] = "log" if steep else "linear"
    figure["layout"] |= {"hovermode": "x unified", "meta": {"steep": steep}}
    _every_y(figure, rangemode="tozero")
    return figure


def _stacked(
    run: Run,
    designs: Sequence[Design],
    layers: Callable[[Design], list[tuple[str, str, npt.NDArray[np.float64]]]],
) -> Figure | None:
    """A row per design that has layers: (name, colour, MiB over time) from the bottom up."""
    found = [(d, layers(d)) for d in designs if samples(d)]
    found = [(d, parts) for d, parts in found if parts]
    if not found:
        return None
    figure = _rows(run, [d["design"] for d, _ in found], "MiB")
    for index, (design, parts) in enumerate(found):
        for name, colour, values in parts:
            figure["data"].append(
                {
                    "type": "scatter",
                    "y": np.round(values, 2).tolist(),
                    "name": name,
                    "stackgroup": f"row{index}",
                    "mode": "lines",
                    "line": {"width": 0.5, "color": colour, "shape": "hv"},
                    "fillcolor": colour,
                    "hovertemplate": "%{y:,.1f} MiB<extra>" + name + "</extra>",
                    "meta": {"design": design["design"], "of": "series"},
                    **_axes(index),
                }
            )
    figure["layout"]["hovermode"] = "x unified"
    _every_y(figure, rangemode="tozero")
    return figure


def _end(run: Run) -> float:
    """Where the x axis ends: the last sample's second, or the number of operations."""
    ends = [points["s"][-1] for d in run["designs"] if (points := samples(d)) and points["s"]]
    return max(ends) if ends else float(run["operations"])


def legend(figure: Figure) -> list[tuple[str, str]]:
    """(name, colour) of what a figure of lines or layers shows, each once, in the order of its traces."""
    lines = [trace for trace in figure["data"] if trace["type"] == "scatter"]
    return list({trace["name"]: (trace["name"], trace["line"]["color"]) for trace in lines}.values())


def _every_y(figure: Figure, **options: Any) -> None:
    for name, axis in figure["layout"].items():
        if name.startswith("yaxis"):
            axis.update(options)


def _axes(row: int) -> dict[str, str]:
    return {"xaxis": "x", "yaxis": "y" if row == 0 else f"y{row + 1}"}


def _rows(run: Run, titles: Sequence[str], unit: str, height: int = ROW) -> Figure:
    """An empty figure of rows under one another that share the x axis, each with its title above it."""
    count = len(titles)
    inner = count * height + (count - 1) * GAP
    layout: dict[str, Any] = {
        "height": inner + TOP + BOTTOM,
        "margin": {"l": 66, "r": 14, "t": TOP, "b": BOTTOM},
        "font": {"family": FONT, "size": 12, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "dragmode": "zoom",
        "hoverlabel": {"font": {"family": FONT, "size": 12}},
        "annotations": [],
        "template": {"data": {"scatter": [{"type": "scatter"}]}},  # plotly's "none"
        "xaxis": {
            "anchor": "y" if count == 1 else f"y{count}",
            "gridcolor": GRID,
            "zeroline": False,
            "linecolor": MUTED,
            "showline": True,
            "range": [0, _end(run)],
            "ticks": "outside",
            "tickcolor": MUTED,
            "title": {"text": "trace time, s", "font": {"size": 12, "color": MUTED}, "standoff": 6},
        },
    }
    for index, title in enumerate(titles):
        top = 1 - index * (height + GAP) / inner
        low = max(0.0, top - height / inner)
        layout["yaxis" if index == 0 else f"yaxis{index + 1}"] = {
            "domain": [low, top],
            "anchor": "x",
            "gridcolor": GRID,
            "zeroline": False,
            "fixedrange": True,
            "nticks": 5,
            "title": {"text": unit, "font": {"size": 11, "color": MUTED}, "standoff": 4},
        }
        layout["annotations"].append(
            {
                "text": f"<b>{title}</b>",
                "x": 0,
                "xref": "paper",
                "xanchor": "left",
                "y": top,
                "yref": "paper",
                "yanchor": "bottom",
                "yshift": 3,
                "showarrow": False,
                "font": {"size": 13, "color": INK},
            }
        )
    return {"data": [], "layout": layout}
