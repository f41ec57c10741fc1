"""The tables of the HTML page: all designs, the claims, the metrics of a run, the definitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

from asi_pa.designs import PROPOSAL, REFERENCE
from asi_pa.experiment.metrics import GROUPS, ROWS, Metric
from asi_pa.experiment.ranking import best, competes, is_breach, shown, value_of
from asi_pa.report.cells import value_text
from asi_pa.report.evidence import count, figure_unit, summary
from asi_pa.report.format import delta_text, format_value
from asi_pa.report.palette import design_colours

__all__ = ["by_order", "claims", "definitions", "designs", "metrics"]

SIDES = {True: "for", False: "against", None: "context"}

Run = Mapping[str, Any]
Design = Mapping[str, Any]


def designs(result: Mapping[str, Any]) -> str:
    """Every design on every measure, its word against linux, and what it is."""
    names = [design["design"] for design in result["runs"][0]["designs"]]
    colours = design_colours(names)
    about = {d["design"]: d for run in result["runs"] for d in run["designs"]}
    key = "".join(
        f'<li style="--c:{colours[name]}"><b>{escape(name)}</b> {escape(about[name]["title"])}'
        f" <small>{escape('; '.join(about[name].get('source') or ()))}</small></li>"
        for name in names
    )
    head = "".join(f'<th style="--c:{colours[name]}">{_name(name)}</th>' for name in names)
    parts = []
    for trace in result["answer"]:
        rows = "".join(_measure_row(result, row, names) for row in trace["measures"])
        parts.append(f"<tbody>{_group_row(trace['trace'], len(names))}{rows}</tbody>")
    return (
        f'<ul class="designs">{key}</ul><div class="scroll"><table class="metrics plain"><thead><tr>'
        f'<th></th>{head}</tr></thead>{"".join(parts)}</table></div><p class="caption">Below a value '
        "is the word of the rule against linux. Memory needed is relative to linux with the same seed.</p>"
    )


def _measure_row(result: Mapping[str, Any], row: Mapping[str, Any], names: Sequence[str]) -> str:
    cells = []
    for name in names:
        word = row["against_reference"].get(name)
        text = "" if word is None or word["word"] == "untested" else word["word"]
        value = escape(value_text(row, name, result["reference"]))
        cells.append(f'<td class="{text}">{value}<br><small>{text}</small></td>')
    return f"<tr><th>{escape(row['label'])}, {escape(row['place'])}</th>{''.join(cells)}</tr>"


def claims(entries: Sequence[Mapping[str, Any]], runs: int) -> str:
    """A card per claim: verdict, what speaks for and against it, every figure folded away."""
    cards = "".join(_claim_card(claim, runs) for claim in entries)
    return f"""<p>As its cover letter makes them, judged on <code>{PROPOSAL.family}</code> by the figures
of all runs: a claim holds if every figure speaks for it, fails if every figure
speaks against it, is mixed otherwise.</p>
<div class="cards claims">{cards}</div>"""


def _claim_card(claim: Mapping[str, Any], runs: int) -> str:
    verdict = escape(claim["verdict"])
    evidence = "".join(
        f'<li class="{SIDES[side]}"><b>{SIDES[side]}</b> {escape(text)}</li>'
        for side in (False, True)
        for text in summary(claim, side, runs)
    )
    order = sorted(claim["figures"], key=lambda f: (f["for"] is None, f["for"]))
    rows = "".join(_figure_row(figure) for figure in order)
    head = "".join(f"<th>{text}</th>" for text in ("", "run", "design", "metric", "value", "held against"))
    return (
        f'<div class="card claim {verdict}"><h3><span class="verdict">{verdict}</span> Claim {claim["claim"]}'
        f"<small>{count(claim, True)} for, {count(claim, False)} against</small></h3>"
        f'<p>{escape(claim["text"])}</p><ul class="evidence">{evidence}</ul>'
        f"<details><summary>all {len(order)} figures</summary>"
        f'<div class="scroll"><table class="figures"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details></div>"
    )


def _figure_row(figure: Mapping[str, Any]) -> str:
    side = SIDES[figure["for"]]
    unit = figure_unit(figure["metric"])
    held = escape(figure.get("says", ""))
    if "reference" in figure:
        held = f"{escape(format_value(figure['reference'], unit))} <small>{held}</small>"
    return (
        f'<tr class="{side}"><td>{side}</td><td>{escape(figure["run"])}</td>'
        f"<td>{escape(figure['design'])}</td>"
        f'<td>{escape(figure["metric"])}</td><td class="n">{escape(format_value(figure["value"], unit))}</td>'
        f"<td>{held}</td></tr>"
    )


def metrics(run: Run) -> str:
    """Every metric of a run: rows in groups, designs across, the difference to linux beside each value."""
    designs = run["designs"]
    reference = next((d for d in designs if d["design"] == REFERENCE), None)
    colours = design_colours(d["design"] for d in designs)
    head = "".join(
        f'<th style="--c:{colours[d["design"]]}" title="{escape(d["title"])}">{_name(d["design"])}</th>'
        for d in designs
    )
    parts = []
    for group, members in groupby(ROWS, key=lambda m: m.group):
        rows = "".join(_metric_row(metric, designs, reference) for metric in members)
        if rows:
            parts.append(f"<tbody>{_group_row(GROUPS[group].title, len(designs))}{rows}</tbody>")
    checks = "".join(
        f'<td class="{"" if d.get("verify", "ok") == "ok" else "leak"}">{escape(d.get("verify", "-"))}'
        "<small></small></td>"
        for d in designs
    )
    meaning = "The whole state at the end, walked: free lists, counters, page tables."
    parts.append(f'<tbody><tr><th title="{meaning}">verify()</th>{checks}</tr></tbody>')
    return (
        f'<div class="scroll"><table class="metrics"><thead><tr><th></th>{head}</tr></thead>'
        f'{"".join(parts)}</table></div><p class="caption"><span class="star"></span> best of the row; '
        "beside a value its difference to linux (~: within 0.05 %). Designs that protect nothing, that leak, "
        "or that are as posted, do not compete where protection costs. Hover over a name for its "
        "definition.</p>"
    )


def _metric_row(metric: Metric, designs: Sequence[Design], reference: Design | None) -> str:
    values = [shown(metric, d) for d in designs]
    if all(value is None for value in values):
        return ""
    top = best(metric, designs)
    base = value_of(metric, reference["metrics"]) if reference and not metric.asi else None
    cells = []
    for design, value in zip(designs, values, strict=True):
        delta = "" if design is reference else delta_text(value, base, metric.unit)
        if design["design"] in top:
            kind = "best"
        elif is_breach(metric, design):
            kind = "leak"
        elif not competes(metric, design):
            kind = "out"
        else:
            kind = "zero" if value == 0 else ""
        text = escape(format_value(value, metric.unit))
        cells.append(f'<td class="{kind}">{text}<small>{delta}</small></td>')
    nested = ' class="nested"' if metric.label.startswith(" ") else ""
    label = escape(metric.label.strip())
    return f'<tr><th{nested} title="{escape(metric.sentence)}">{label}</th>{"".join(cells)}</tr>'


def by_order(run: Run) -> str:
    """The metrics that have a value per order, folded away."""
    designs = run["designs"]
    orders = max(len(d["metrics"].get("allocations_by_order", ())) for d in designs)
    head = "".join(f"<th>{order}</th>" for order in range(orders))
    parts = []
    for key, title, unit in (
        ("allocations_by_order", "requests", "count"),
        ("unusable_index", "unusable index at the end", "index"),
        ("extfrag_index", "extfrag index at the end", "index"),
    ):
        rows = []
        for design in designs:
            values = design["metrics"].get(key, ())
            cells = "".join(f"<td>{escape(format_value(value, unit))}</td>" for value in values)
            rows.append(f"<tr><th>{escape(design['design'])}</th>{cells}</tr>")
        parts.append(f"<tbody>{_group_row(title, orders)}{''.join(rows)}</tbody>")
    return (
        '<details class="orders"><summary>By order</summary><div class="scroll"><table class="metrics">'
        f"<thead><tr><th>order</th>{head}</tr></thead>{''.join(parts)}</table></div></details>"
    )


def definitions() -> str:
    """What each row means, by group."""
    parts = []
    for group, members in groupby(ROWS, key=lambda m: m.group):
        entries = "".join(
            f"<div><dt>{escape(m.label.strip())} <code>{escape(m.key)}</code></dt>"
            f"<dd>{escape(m.sentence)}</dd></div>"
            for m in members
        )
        parts.append(f"<h3>{escape(_sentence(GROUPS[group].title))}</h3><dl>{entries}</dl>")
    return f"""<div class="definitions">
<p>Sensitive pages (S) are holes in the restricted physmap, nonsensitive ones
(N) are present in both physmaps. A flip takes a whole pageblock (2 MiB) from
one kind to the other. The project's <code>docs/use/metrics.md</code> has the
definitions at length, with their sources; the JSON file of the same command
(<code>--json</code>) has every number of this page.</p>{"".join(parts)}</div>"""


def _group_row(title: str, columns: int) -> str:
    return f'<tr class="group"><th colspan="{columns + 1}">{escape(title)}</th></tr>'


def _sentence(label: str) -> str:
    label = label.strip()
    return label[0].upper() + label[1:]


def _name(design: str) -> str:
    """A design's name, its variant on a line of its own."""
    return escape(design).replace("/", "<br>/")
