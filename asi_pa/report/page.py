"""The comparison as one HTML page that needs nothing but a browser.

The answer comes first, in sentences and small pictures (``pictures``) that need no script.  Closed sections
hold the rest: tables (``tables``) are plain HTML; deeper pictures are plotly figures (``figures``), which
plotly.js, packed once into the page, draws when their run is opened.  ``page.css`` and ``page.js`` beside
this file hold the looks and the scrubbing.
"""

from __future__ import annotations

import gzip
import json
import shlex
from base64 import b64encode
from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from asi_pa.experiment.ranking import protects
from asi_pa.experiment.verdict import short_name
from asi_pa.files import write_atomic
from asi_pa.report import figures, tables
from asi_pa.report.format import format_bytes, plural
from asi_pa.report.modelled_time import modelled_page
from asi_pa.report.palette import kind_colours
from asi_pa.report.pictures import pictures
from asi_pa.report.screen import render_mail

__all__ = ["HELP", "NAME", "MissingPlotlyError", "ready", "render_html", "write", "write_html"]

NAME = "html"
HELP = "write a page with pictures there"

#: Cells of pageblock maps that a page may hold, so that it stays below 2.5 MB.
BLOCK_CELLS = 600_000

PICTURES = {
    "blockmap": (
        "Pageblocks over time",
        "A line of the picture is a pageblock, low addresses at the bottom.",
    ),
    "leaves": (
        "Restricted physmap by leaf size",
        "What the restricted address space can see, and through leaves of which size. Less 4K is better.",
    ),
    "free": ("Free memory by kind", "Free pages by the list they are on, per-CPU lists not included."),
    "flushes": (
        "TLB flushes and flips",
        "Counted from the start. Drag the handles of the strip below, or across any picture, to look at a "
        "part of the time; a double click shows all of it again.",
    ),
}

Run = Mapping[str, Any]


class MissingPlotlyError(ImportError, ValueError):
    """The HTML page was asked for and plotly is not installed; the one-line message says what to do."""

    def __init__(self) -> None:
        super().__init__("the HTML page needs plotly: pip install 'asi_pa[report]'")


def write_html(result: Mapping[str, Any], path: str | Path) -> None:
    """Render and write the page; ``path`` changes only once all of it is written.

    Raises MissingPlotlyError without plotly, ValueError if a pageblock map contradicts itself.
    """
    write_atomic(path, render_html(result))


write = write_html


def ready() -> None:
    """Raise MissingPlotlyError without plotly."""
    if find_spec("plotly") is None:
        raise MissingPlotlyError


def render_html(result: Mapping[str, Any]) -> str:
    """The page as text.  Raises MissingPlotlyError, whose message is one line, without plotly."""
    library = _library()
    runs = result["runs"]
    columns = _columns(runs)
    entries = [_entry(run, figures.blocks_of(run, columns)) for run in runs]
    own = files("asi_pa.report")
    traces = ", ".join(dict.fromkeys(run["trace"] for run in runs))
    sections = (
        ("All designs", tables.designs(result)),
        ("Every run, with deeper pictures", _runs(runs, entries)),
        ("The RFC's four claims", tables.claims(result["claims"], len(runs))),
        ("How it was counted", _how(result)),
        ("Definitions", tables.definitions()),
        ("As text for a mail", f"<pre>{escape(render_mail(result))}</pre>"),
    )
    closed = "".join(
        f'<details class="section"><summary>{title}</summary>{body}</details>' for title, body in sections
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>asi_pa compare: {escape(traces)}</title>
<style>{(own / "page.css").read_text(encoding="utf-8")}</style>
</head>
<body>
{_header(result, traces)}
{pictures(result)}
{_below(result)}
{closed}
{modelled_page(result)}
<footer>asi_pa {escape(result["asi_pa"])}; deeper pictures by plotly.js, embedded. It loads nothing.</footer>
{_data(entries)}
<script type="text/plain" id="plotly">{_packed(library)}</script>
<script>{(own / "page.js").read_text(encoding="utf-8")}</script>
</body>
</html>
"""


def _data(entries: Iterable[Any]) -> str:
    """What page.js knows of each run, apart: only that of a run that is opened is unpacked."""
    return "\n".join(
        f'<script type="text/plain" id="data-{index}">{_packed(_script_json(entry))}</script>'
        for index, entry in enumerate(entries)
    )


def _packed(text: str) -> str:
    """gzip, in base64: page.js unpacks it when it is wanted."""
    return b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def _library() -> str:
    """The text of plotly.js, fit for a script element."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingPlotlyError from error
    # It holds no closing tag today; were one to appear, it would end the element.
    return str(get_plotlyjs()).replace("</script", "<\\/script")


def _script_json(data: Any) -> str:
    """JSON that can stand inside a script element."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _columns(runs: Iterable[Run]) -> int:
    """Pageblocks to show per map, so that all maps together keep to BLOCK_CELLS."""
    samples = sum(len(d["blockmap"]["op"]) for run in runs for d in run["designs"] if d.get("blockmap"))
    return max(16, min(256, BLOCK_CELLS // max(1, samples)))


def _entry(run: Run, blocks: figures.Blocks) -> dict[str, Any]:
    """What page.js knows about a run."""
    pictures = {
        "blockmap": figures.blockmap(run, blocks),
        "leaves": figures.leaf_sizes(run),
        "free": figures.free_memory(run),
        "flushes": figures.flushes(run),
    }
    shown = {name: figure for name, figure in pictures.items() if figure}
    legends = {name: figures.legend(figure) for name, figure in pictures.items() if figure}
    if "blockmap" in legends:
        legends["blockmap"] = list(kind_colours(blocks.legend).items())
    return {
        "operations": run["operations"],
        "shown": blocks.shown,
        "figures": shown,
        "legends": legends,
        "designs": [
            {
                "design": design["design"],
                "series": figures.samples(design),
                "blockmap": figures.samples(design, "blockmap") if design["design"] in blocks.maps else None,
                "now": _now(design),
            }
            for design in run["designs"]
        ],
    }


def _now(design: Mapping[str, Any]) -> list[tuple[str, str, list[int]]]:
    """What the card of a design tells about a moment: (label, unit, values over the samples)."""
    series = design.get("series") or {}
    rows: list[tuple[str, str, list[int]]] = []
    free = list((series.get("free_pages") or {}).values())
    if free:
        rows.append(("free", "pages", [sum(at) for at in zip(*free, strict=True)]))
    if not protects(design):
        return rows
    leaves = series.get("restricted_leaves") or {}
    for size, pages in (("1g", 512 * 512), ("2m", 512), ("4k", 1)):
        if any(leaves.get(size, ())):
            rows.append((f"mapped in {size.upper()}", "pages", [n * pages for n in leaves[size]]))
    if series.get("flushes"):
        rows.append(("flushes so far", "count", series["flushes"]))
    there, back = series.get("flips_s2n") or [], series.get("flips_n2s") or []
    if any(there) or any(back):
        rows.append(("flips so far", "count", [a + b for a, b in zip(there, back, strict=True)]))
    return rows


def _header(result: Mapping[str, Any], traces: str) -> str:
    one, other = (escape(short_name(name)) for name in result["protagonists"])
    verdict = "".join(f"<p>{escape(text)}</p>" for text in result["verdict"][:2])
    return f"""<header>
<p class="kicker">asi_pa compare: {escape(traces)}; Linux {escape(result["kernel"])} rules</p>
<h1><span class="a">{one}</span> or <span class="b">{other}</span>?</h1>
<div class="lede">{verdict or "<p>One seed, or sizes as given: no verdict.</p>"}</div>
</header>"""


def _below(result: Mapping[str, Any]) -> str:
    """Below the pictures: the rest of the verdict, the claims in a line, what to know before believing it."""
    rest = "".join(f"<p>{escape(text)}</p>" for text in result["verdict"][2:])
    claims = ", ".join(f"{claim['claim']} {claim['verdict']}" for claim in result["claims"])
    warned = "".join(f"<li>{escape(line)}</li>" for line in result["caveats"])
    return (
        f'<div class="lede">{rest}<p class="caption">The RFC\'s claims: {escape(claims)}. '
        f"{escape(_seeds(result))}; {escape(result['relief']['words'])}. Counts of a model, not measured "
        f'time.</p></div><ul class="caveats">{warned}</ul>'
    )


def _seeds(result: Mapping[str, Any]) -> str:
    return "one seed" if result["seeds"] == 1 else f"{result['seeds']} seeds: median [least..most]"


def _how(result: Mapping[str, Any]) -> str:
    facts = {
        "command": f"<code>{escape(shlex.join(result['command']))}</code>",
        "kernel modelled": escape(result["kernel"]),
        "seeds": f"{result['seeds']}, from {result['seed']}",
        "asi_pa": escape(result["asi_pa"]),
        "classifier": escape(result["classifier"]),
        "relief": escape(result["relief"]["words"]),
    }
    for trace in result["answer"]:
        asked = ", ".join(f"{name} {n:,}" for name, n in trace["requests"].items())
        facts[f"requests of {escape(trace['trace'])}"] = (
            f"{asked}; enough memory is where at most {trace['real_limit']} real ones fail"
        )
    for line in result.get("nearness") or ():
        facts["how near to a real kernel"] = escape(line)
    rows = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    return f"""<dl class="facts">{rows}</dl>
<p>Real requests have no other way: they may block, and a kernel reclaims until it kills, or they are atomic.
Declined ones have: their callers take smaller pages, or fewer. The two are never added up. Memory
is short at 1.05 times what linux needs with the same seed, to spare on the recorded machine. With
16 seeds a word needs 14 that agree: better or worse if the median difference is more than 1.5
floors (2 % of memory, 4 MiB at least), equal if it is within one, else undecided, of which only the
range is told. The project's <code>docs/use/method.md</code>
says why, with error rates.</p>"""


def _runs(runs: list[Run], entries: list[dict[str, Any]]) -> str:
    return "".join(_panel(i, run, entries[i]) for i, run in enumerate(runs))


def _panel(index: int, run: Run, entry: Mapping[str, Any]) -> str:
    name = (
        f"<b>{escape(run['trace'])}</b>, memory {escape(run['memory'])}, {format_bytes(run['memory_bytes'])}"
    )
    return f"""<details class="panel" id="run-{index}"><summary>{name}</summary>
<p class="caption">{escape(_notes(run))}</p>
{tables.metrics(run)}
{tables.by_order(run)}
<div class="pictures">{_scrubber(entry)}{_pictures(run, entry)}</div></details>"""


def _notes(run: Run) -> str:
    notes = [run["description"]] if run.get("description") else []
    notes.append(plural(run["operations"], "operation"))
    if repairs := [f"{name} {n:,}" for name, n in run.get("repairs", {}).items() if n]:
        notes.append("repairs to the trace: " + ", ".join(repairs))
    if run.get("population"):
        notes.append("at the start: " + ", ".join(f"{k} {_plain(v)}" for k, v in run["population"].items()))
    return "; ".join(notes).replace("_", " ") + "."


def _plain(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def _scrubber(entry: Mapping[str, Any]) -> str:
    """The slider and the cards of the moment it points at."""
    cards = "".join(
        f'<div class="card now" data-design="{i}"><h4>{escape(d["design"])}</h4>'
        f"{'<canvas></canvas>' if d['blockmap'] else ''}<dl></dl></div>"
        for i, d in enumerate(entry["designs"])
        if d["series"]
    )
    if not cards:
        return ""
    return f"""<div class="scrub"><button class="play" aria-label="play">&#9654;</button>
<input type="range" min="0" max="1000" value="0" aria-label="time"><output></output>
{_switch("axis", "x", {"s": "seconds", "op": "operations"}, "s")}</div>
<h3>The moment under the slider</h3>
<p class="caption">Drag the slider, press play, or click into a picture: all of them show the same moment.
A square is a pageblock, addresses rising line by line; the colours are those of the next picture.</p>
<div class="cards moment">{cards}</div>"""


def _pictures(run: Run, entry: Mapping[str, Any]) -> str:
    parts = []
    for name, (title, text) in PICTURES.items():
        if name not in entry["figures"]:
            continue
        switch = ""
        if name == "blockmap" and run["memory_bytes"] >> 21 > entry["shown"]:
            text += f" {entry['shown']:,} of {run['memory_bytes'] >> 21:,} pageblocks, evenly picked."
        if name == "flushes":
            steep = entry["figures"][name]["layout"]["meta"]["steep"]
            switch = _switch(
                "scale", "y", {"linear": "linear", "log": "logarithmic"}, "log" if steep else "linear"
            )
        chips = "".join(
            f'<li style="--c:{colour}">{escape(label)}</li>' for label, colour in entry["legends"][name]
        )
        parts.append(
            f'<h3>{title}</h3><p class="caption">{escape(text)}</p>{switch}<ul class="chips">{chips}</ul>'
            f'<div class="plot" data-figure="{name}"></div>'
        )
    return "".join(parts)


def _switch(name: str, key: str, choices: Mapping[str, str], chosen: str) -> str:
    buttons = "".join(
        f'<button data-{key}="{value}" aria-pressed="{str(value == chosen).lower()}">{text}</button>'
        for value, text in choices.items()
    )
    return f'<span class="switch {name}">{buttons}</span>'
