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

from asi_pa.report.catalogue import METRICS, Metric, as_posted, best, protects, shown, value_of
from asi_pa.report.evidence import count, summary
from asi_pa.report.format import delta_text, format_bytes, format_value, plural, relief_text
from asi_pa.report.modelled import modelled_terminal

__all__ = ["render_terminal", "wants_colour"]

GROUP, LABEL, VALUE, DELTA = 9, 23, 9, 7
STUB = GROUP + LABEL
CELL = VALUE + 1 + DELTA + 1  # value, marker, delta, gap
SHORT_GROUPS = {
    "work": "work",
    "failures": "failures",
    "relief": "relief",
    "kinds": "kinds",
    "physmap": "physmap",
    "flushes": "flushes",
    "fragmentation": "fragm.",
    "pool": "pool",
    "speed": "speed",
}
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
    if words := relief_text(result):
        facts += f", {words}"
    text = textwrap.fill(
        f"classifier: {result['classifier']}", width, initial_indent="", subsequent_indent="  "
    )
    return paint(f"asi_pa compare: {facts}", BOLD) + "\n" + paint(text, DIM)


def _run(run: Mapping[str, Any], width: int, paint: _Paint, quiet: bool) -> str:
    title = f"{run['trace']}, {run['memory']} memory ({format_bytes(run['memory_bytes'])})"
    first, *more = textwrap.wrap(f"{title}: {plural(run['operations'], 'operation')}{_repairs(run)}", width)
    lines = [paint(first[: len(title)], BOLD) + first[len(title) :], *more]
    rows, same = _rows(run, quiet)
    table = _table if _fit(run["designs"], width) else _turned
    lines += table(run, rows, width, paint)
    if same and not quiet:
        text = "; ".join(f"{m.label.strip()} {format_value(v, m.unit)}" for m, v in same)
        lines.append(paint(textwrap.fill(f"the same for all: {text}", width, subsequent_indent="  "), DIM))
    broken = [f"{d['design']}: {d['verify']}" for d in run["designs"] if d.get("verify", "ok") != "ok"]
    lines += [paint(textwrap.fill(f"verify() FAILED for {text}", width), RED, BOLD) for text in broken]
    return "\n".join(lines)


def _repairs(run: Mapping[str, Any]) -> str:
    total = sum(v for v in run.get("repairs", {}).values() if isinstance(v, int))
    return f", {plural(total, 'repair')} to the trace" if total else ""


def _rows(run: Mapping[str, Any], quiet: bool) -> tuple[list[Metric], list[tuple[Metric, Any]]]:
    """The rows of a table, and those whose value all designs share, which a line can say."""
    rows, same = [], []
    for metric in METRICS:
        if not (metric.essential if quiet else metric.screen):
            continue
        values = [value_of(metric, d["metrics"]) for d in run["designs"] if protects(d) or not metric.asi]
        if not quiet and metric.key != "exposure_violations" and len(set(values)) == 1:
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
    blocks: list[list[tuple[list[str], list[str], Metric]]] = []
    room = 0
    for metric in rows:
        head = textwrap.wrap(metric.label.strip(), 10, break_long_words=False)
        cells = [
            f"{format_value(shown(metric, d), metric.unit)}{_mark(run, metric, d)}" for d in run["designs"]
        ]
        need = _turned_width(head, cells)
        if room < need:
            blocks.append([])
            room = width - stub
        room -= need
        blocks[-1].append((head, cells, metric))
    lines = []
    for block in blocks:
        high = max(len(head) for head, _, _ in block)
        widths = [_turned_width(head, cells) for head, cells, _ in block]
        for k in range(high):
            words = [([""] * (high - len(head)) + head)[k] + " " for head, _, _ in block]
            text = "".join(f"{word:>{w}}" for word, w in zip(words, widths, strict=True))
            lines.append(paint((" " * stub + text).rstrip(), BOLD))
        for i, name in enumerate(names):
            text = f"{name[:34]:<{stub}}"
            for (_, cells, _), w in zip(block, widths, strict=True):
                text += _painted(f"{cells[i]:>{w}}", paint)
            lines.append(text.rstrip())
    return lines


def _turned_width(head: Sequence[str], cells: Sequence[str]) -> int:
    """Of a column whose cells end in a marker."""
    return max(max(map(len, head)) + 2, max(map(len, cells)) + 1)


def _mark(run: Mapping[str, Any], metric: Metric, design: Mapping[str, Any]) -> str:
    """ "*" for the best of a measure, "!" for a broken promise, else a blank."""
    if design["design"] in best(metric, run["designs"]):
        return "*"
    return "!" if metric.key == "exposure_violations" and shown(metric, design) else " "


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
            stub = paint(f"{'' if index else SHORT_GROUPS[group]:<{GROUP}}", DIM)
            lines.append(stub + _row(run, metric, designs, paint))
    return lines


def _painted(cell: str, paint: _Paint) -> str:
    codes = (GREEN, BOLD) if cell.endswith("*") else (RED,) if cell.endswith("!") else ()
    return paint(cell, *codes)


def _row(run: Mapping[str, Any], metric: Metric, designs: Sequence[Mapping[str, Any]], paint: _Paint) -> str:
    reference = next((value_of(metric, d["metrics"]) for d in designs if d["design"] == "linux"), None)
    cells = []
    for design in designs:
        value = shown(metric, design)
        text = f"{format_value(value, metric.unit):>{VALUE}}"
        delta = "" if design["design"] == "linux" or metric.asi else delta_text(value, reference, metric.unit)
        text = _painted(f"{text}{_mark(run, metric, design)}", paint)
        last = design is designs[-1]
        cells.append(text + paint(delta, DIM) + " " * (0 if last else DELTA + 1 - len(delta)))
    return f"{metric.label:<{LABEL}}{''.join(cells)}".rstrip()


def _legend(result: Mapping[str, Any], width: int, paint: _Paint) -> str:
    text = "* best of its measure (flips and refills have no best)."
    if all(_fit(run["designs"], width) for run in result["runs"]):
        text += " Beside a value its difference to linux (= equal, ~ within 0.05 %)."
    designs = [d for run in result["runs"] for d in run["designs"]]
    bare = sorted({d["design"] for d in designs if not protects(d)})
    if bare:
        text += f" {', '.join(bare)} protects nothing and has no figures where protection costs."
    leaky = sorted({d["design"] for d in designs if d["metrics"].get("exposure_violations")})
    if leaky:
        text += f" {', '.join(leaky)} breaks its promise (!) and does not compete there."
    posted = sorted({d["design"] for d in designs if as_posted(d)} - set(leaky))
    if posted:
        text += f" {', '.join(posted)} as posted: holes that nothing here meets; does not compete."
    return paint(textwrap.fill(text, width), DIM)


def _claims(result: Mapping[str, Any], width: int, paint: _Paint, quiet: bool) -> str:
    lines = [] if quiet else [paint("The RFC's claims, on design migratetype", BOLD)]
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
