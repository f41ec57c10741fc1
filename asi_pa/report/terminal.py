"""The comparison as text: a table per run, then the four claims.

Designs stand side by side as long as they fit the width, each value beside its difference to plain Linux;
more of them stand below each other, so that a measure's values are still in one place.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, TextIO

from asi_pa.designs import PROPOSAL, REFERENCE
from asi_pa.errors import printable
from asi_pa.experiment.metrics import GROUPS, ROWS, Metric
from asi_pa.experiment.ranking import as_posted, best, breaches, is_breach, protects, shown, value_of
from asi_pa.report.by_node import node_lines
from asi_pa.report.evidence import count, summary
from asi_pa.report.format import delta_text, format_bytes, format_value, plural
from asi_pa.report.modelled_time import modelled_terminal

__all__ = ["render_terminal", "wants_colour"]

GROUP, LABEL, VALUE, DELTA = 9, 23, 9, 7
STUB = GROUP + LABEL
CELL = VALUE + 1 + DELTA + 1  # value, marker, delta, gap
BOLD, DIM, GREEN, RED, YELLOW = "1", "2", "32", "31", "33"
VERDICT_COLOUR = {"holds": GREEN, "fails": RED, "mixed": YELLOW, "untested": DIM}


def wants_colour(stream: TextIO | None = None) -> bool:
    """Whether to colour: the stream is a terminal, NO_COLOR is unset or empty, TERM is not dumb."""
    stream = sys.stdout if stream is None else stream
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def render_terminal(
    result: Mapping[str, Any], width: int | None = None, *, quiet: bool = False, colour: bool | None = None
) -> str:
    """The tables and claims of a result as text of at most ``width`` columns.

    ``width`` None asks the terminal and keeps to 80..120; ``quiet`` leaves the essential rows and one
    line a claim; ``colour`` None follows :func:`wants_colour`.  The best of a row carries a ``*``,
    coloured or not.  Raises ValueError for a width below 60.
    """
    if width is None:
        width = min(120, max(80, shutil.get_terminal_size((110, 24)).columns))
    if width < 60:
        raise ValueError(f"width {width}: a table needs at least 60 columns")
    paint = _Paint(wants_colour() if colour is None else colour)
    parts = [] if quiet else [_head(result, width, paint)]
    parts += [_run(run, width, paint, quiet) for run in result["runs"]]
    if not quiet:
        parts.append(_legend(result, width, paint))
    if modelled := modelled_terminal(result, width):
        parts.append(modelled)
    parts.append(_claims(result, width, paint, quiet))
    return "\n\n".join(parts) + "\n"


class _Paint:
    """Wraps text in an SGR sequence, or leaves it alone."""

    def __init__(self, on: bool) -> None:
        self.on = on

    def __call__(self, text: str, *codes: str) -> str:
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if self.on and codes and text.strip() else text


def _head(result: Mapping[str, Any], width: int, paint: _Paint) -> str:
    facts = f"kernel {result['kernel']}, seed {result['seed']}, asi_pa {result['asi_pa']}"
    more = f"{result['relief']['words']}; classifier: {result['classifier']}"
    return (
        paint(textwrap.fill(f"asi_pa compare, every run with the first seed: {facts}", width), BOLD)
        + "\n"
        + paint(textwrap.fill(more, width, subsequent_indent="  "), DIM)
    )


def _run(run: Mapping[str, Any], width: int, paint: _Paint, quiet: bool) -> str:
    title = f"{printable(run['trace'])}, {run['memory']} memory ({format_bytes(run['memory_bytes'])})"
    first, *more = textwrap.wrap(f"{title}: {plural(run['operations'], 'operation')}{_repairs(run)}", width)
    lines = [paint(first[: len(title)], BOLD) + first[len(title) :], *more]
    rows, same = _rows(run, quiet)
    table = _table if _fit(run["designs"], width) else _turned
    lines += table(run, rows, width, paint)
    if same and not quiet:
        text = "; ".join(f"{m.label.strip()} {format_value(v, m.unit)}" for m, v in same)
        lines.append(paint(textwrap.fill(f"the same for all: {text}", width, subsequent_indent="  "), DIM))
    if not quiet and any(design.get("nodes") for design in run["designs"]):
        lines += node_lines(run["designs"])
    broken = [f"{d['design']}: {d['verify']}" for d in run["designs"] if d.get("verify", "ok") != "ok"]
    lines += [paint(textwrap.fill(f"verify() FAILED for {text}", width), RED, BOLD) for text in broken]
    return "\n".join(lines)


def _repairs(run: Mapping[str, Any]) -> str:
    total = sum(v for v in run.get("repairs", {}).values() if isinstance(v, int))
    return f", {plural(total, 'repair')} to the trace" if total else ""


def _rows(run: Mapping[str, Any], quiet: bool) -> tuple[list[Metric], list[tuple[Metric, Any]]]:
    """The rows of a table, and those whose value all designs share, which a line can say."""
    rows, same = [], []
    for metric in ROWS:
        if not (metric.essential if quiet else metric.screen):
            continue
        values = [value_of(metric, d["metrics"]) for d in run["designs"] if protects(d) or not metric.asi]
        if not quiet and not metric.breach and len(set(values)) == 1:
            if values[0] is not None:
                same.append((metric, values[0]))
        elif any(value is not None for value in values):
            rows.append(metric)
    return rows, same


def _fit(designs: Sequence[Mapping[str, Any]], width: int) -> bool:
    return STUB + CELL * len(designs) - 1 <= width


def _turned(run: Mapping[str, Any], rows: Sequence[Metric], width: int, paint: _Paint) -> list[str]:
    """Designs down, measures across, in as many tables as the width asks for."""
    names = [d["design"] for d in run["designs"]]
    stub = min(max(map(len, names)), 34) + 1
    blocks: list[list[tuple[list[str], list[str]]]] = []
    room = 0
    for metric in rows:
        head, cells = _column(run, metric)
        need = len(cells[0])
        if room < need:
            blocks.append([])
            room = width - stub
        room -= need
        blocks[-1].append((head, cells))
    lines = []
    for block in blocks:
        for k in range(max(len(head) for head, _ in block), 0, -1):
            text = "".join(head[-k] if k <= len(head) else " " * len(cells[0]) for head, cells in block)
            lines.append(paint((" " * stub + text).rstrip(), BOLD))
        for i, name in enumerate(names):
            text = "".join(_painted(cells[i], paint) for _, cells in block)
            lines.append(f"{name[:34]:<{stub}}{text}".rstrip())
    return lines


def _column(run: Mapping[str, Any], metric: Metric) -> tuple[list[str], list[str]]:
    """A measure's label, line by line, and its cells, all of one width; a cell ends in its mark."""
    head = [f"{line} " for line in textwrap.wrap(metric.label.strip(), 10, break_long_words=False)]
    cells = _cells(run, metric)
    width = 1 + max(map(len, head + cells))
    return [f"{line:>{width}}" for line in head], [f"{cell:>{width}}" for cell in cells]


def _cells(run: Mapping[str, Any], metric: Metric) -> list[str]:
    """A row's values, each with "*" for the best, "!" for a broken promise, else a blank."""
    top = best(metric, run["designs"])
    cells = []
    for design in run["designs"]:
        value = shown(metric, design)
        mark = "*" if design["design"] in top else "!" if is_breach(metric, design) else " "
        cells.append(f"{format_value(value, metric.unit)}{mark}")
    return cells


def _table(run: Mapping[str, Any], rows: Sequence[Metric], _width: int, paint: _Paint) -> list[str]:
    """Measures down, designs across."""
    designs = run["designs"]
    heads = [d["design"].partition("/") for d in designs]
    align = VALUE + 1
    top = " " * STUB + "".join(f"{a:>{align}}"[:CELL].ljust(CELL) for a, _, _ in heads)
    low = " " * STUB + "".join(f"{s + b:>{align}}"[:CELL].ljust(CELL) for _, s, b in heads)
    lines = [paint(top.rstrip(), BOLD)] + ([paint(low.rstrip(), BOLD)] if low.strip() else [])
    for group, metrics in groupby(rows, key=lambda m: m.group):
        for index, metric in enumerate(metrics):
            stub = paint(f"{'' if index else GROUPS[group].short:<{GROUP}}", DIM)
            lines.append(stub + _row(run, metric, paint))
    return lines


def _painted(cell: str, paint: _Paint) -> str:
    codes = (GREEN, BOLD) if cell.endswith("*") else (RED,) if cell.endswith("!") else ()
    return paint(cell, *codes)


def _row(run: Mapping[str, Any], metric: Metric, paint: _Paint) -> str:
    designs = run["designs"]
    reference = next((value_of(metric, d["metrics"]) for d in designs if d["design"] == REFERENCE), None)
    parts = []
    for design, cell in zip(designs, _cells(run, metric), strict=True):
        bare = design["design"] == REFERENCE or metric.asi
        delta = "" if bare else delta_text(shown(metric, design), reference, metric.unit)
        gap = 0 if design is designs[-1] else DELTA + 1 - len(delta)
        parts.append(_painted(f"{cell:>{VALUE + 1}}", paint) + paint(delta, DIM) + " " * gap)
    return f"{metric.label:<{LABEL}}{''.join(parts)}".rstrip()


def _legend(result: Mapping[str, Any], width: int, paint: _Paint) -> str:
    text = "* best of its measure (flips and refills have no best)."
    if all(_fit(run["designs"], width) for run in result["runs"]):
        text += " Beside a value its difference to linux (= equal, ~ within 0.05 %)."
    designs = [d for run in result["runs"] for d in run["designs"]]
    bare = sorted({d["design"] for d in designs if not protects(d)})
    if bare:
        text += f" {', '.join(bare)} protects nothing and has no figures where protection costs."
    leaky = sorted({d["design"] for d in designs if breaches(d)})
    if leaky:
        text += f" {', '.join(leaky)} breaks its promise (!) and does not compete there."
    posted = sorted({d["design"] for d in designs if as_posted(d)} - set(leaky))
    if posted:
        text += f" {', '.join(posted)} as posted: holes that nothing here meets; does not compete."
    return paint(textwrap.fill(text, width), DIM)


def _claims(result: Mapping[str, Any], width: int, paint: _Paint, quiet: bool) -> str:
    lines = [] if quiet else [paint(f"The RFC's claims, on design {PROPOSAL.family}", BOLD)]
    runs = len(result["runs"])
    for claim in result["claims"]:
        verdict = paint(f"{claim['verdict']:<8}", VERDICT_COLOUR.get(claim["verdict"], DIM), BOLD)
        tail = f" ({count(claim, True)} for, {count(claim, False)} against)"
        if quiet:
            lines.append(f"claim {claim['claim']}: {verdict.rstrip()}{tail}")
            continue
        head = textwrap.wrap(f"{claim['text']}{tail}", width - 12)
        lines.append(f"{claim['claim']}. {verdict} {head[0]}")
        lines += [" " * 12 + line for line in head[1:]]
        for side, name in ((False, "against"), (True, "for")):
            for text in summary(claim, side, runs):
                wrapped = textwrap.wrap(text, width - 15)
                lines.append(paint(f"{name:>11}", GREEN if side else RED) + f"  {wrapped[0]}")
                lines += [" " * 15 + line for line in wrapped[1:]]
    return "\n".join(lines)
