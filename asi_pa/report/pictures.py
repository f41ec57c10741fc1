"""The answer in small pictures: plain HTML and SVG, no script, in light and dark, on paper and on a phone.

Each returns a card with its title, who is better, the picture and its legend; empty where there is nothing to
show.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from math import log10
from statistics import median
from typing import Any

from asi_pa.experiment.verdict import entry, short_name
from asi_pa.report.cells import better_text, number, price_shares, value_text

__all__ = ["pictures"]

Result = Mapping[str, Any]
Row = Mapping[str, Any]


def pictures(result: Result) -> str:
    """The cards that decide, the curve of failing requests first."""
    cards = [_curves(result)]
    for measure, place, title in (
        ("declined", "short", "Requests declined, memory short"),
        ("price", "search", "Memory needed beyond linux's"),
        ("leaves", "ample", "Restricted map in 2M leaves"),
        ("flushes", "short", "TLB flushes, memory short"),
        ("mixed", "ample", "Mixed pageblocks at the end"),
    ):
        make = _dots if measure == "price" else _bars
        cards.append(make(result, measure, place, title))
    cards.append(_stored(result))
    return f'<div class="cards small">{"".join(cards)}</div>'


def _sides(result: Result) -> list[str]:
    """Linux last: what stands beside the two."""
    return list(dict.fromkeys([*result["protagonists"], result["reference"]]))


def _colour(result: Result, design: str) -> str:
    if design == result["reference"]:
        return "l"
    return "ab"[result["protagonists"].index(design)]


def _card(title: str, tag: str, body: str, note: str = "") -> str:
    small = f'<p class="note">{note}</p>' if note else ""
    return f'<figure class="card pic"><h3>{title}<span class="tag">{tag}</span></h3>{body}{small}</figure>'


def _tag(result: Result, rows: Sequence[tuple[str, Row]]) -> str:
    words = [(name, better_text(row, result["protagonists"])) for name, row in rows]
    texts = {text for _, text in words}
    if len(texts) == 1:
        return escape(texts.pop())
    return escape("; ".join(f"{name}: {text}" for name, text in words))


def _rows(result: Result, measure: str, place: str) -> list[tuple[str, Row]]:
    found = [(t["trace"], entry(t, measure, place)) for t in result["answer"]]
    return [(name, row) for name, row in found if row is not None]


def _bars(result: Result, measure: str, place: str, title: str) -> str:
    """A bar a design and trace, its range as a thin line."""
    rows = _rows(result, measure, place)
    shown = [(name, row) for name, row in rows if any(_there(row, side) for side in _sides(result))]
    if not shown:
        return ""
    lines = []
    for name, row in shown:
        if len(shown) > 1:
            lines.append(f'<div class="of">{escape(name)}</div>')
        most = max((max(_there(row, s)) for s in _sides(result) if _there(row, s)), default=0) or 1
        if row["unit"] == "share":
            most = max(most, 0.01)
        for side in _sides(result):
            values = _there(row, side)
            if not values:
                continue
            width, text = 100 * median(values) / most, value_text(row, side, result["reference"])
            lines.append(_bar(result, side, width, text))
    return _card(escape(title), _tag(result, shown), "".join(lines))


def _bar(result: Result, design: str, width: float, text: str) -> str:
    return (
        f'<div class="row {_colour(result, design)}"><span>{escape(short_name(design))}</span>'
        f'<i style="--w:{width:.1f}%"></i><b>{escape(text)}</b></div>'
    )


def _there(row: Row, design: str) -> list[float]:
    return [value for value in row["values"].get(design, ()) if value is not None]


def _dots(result: Result, measure: str, place: str, title: str) -> str:
    """A dot a seed, per cent of linux's memory; the grey band is what counts as equal."""
    rows = _rows(result, measure, place)
    sides = [side for side in _sides(result) if side != result["reference"]]
    shares = {(name, s): price_shares(row, s, result["reference"]) for name, row in rows for s in sides}
    every = [v for values in shares.values() for v in values]
    if not every:
        return ""
    low, high = min(-3.0, *every), max(3.0, *every)

    def x(value: float) -> float:
        return 10 + 280 * (value - low) / (high - low)

    parts, y = [], 16
    for name, row in rows:
        for side in sides:
            values = shares[name, side]
            text = f"{short_name(side)}, {name}: {value_text(row, side, result['reference'])}"
            parts.append(f'<text x="10" y="{y}">{escape(text)}</text>')
            parts.append(f'<line class="axis" x1="10" x2="290" y1="{y + 12}" y2="{y + 12}"/>')
            dots = "".join(
                f'<circle class="{_colour(result, side)}" cx="{x(v):.1f}" cy="{y + 12}" r="4"/>'
                for v in values
            )
            parts.append(dots)
            y += 36
    band = f'<rect class="band" x="{x(-2):.1f}" width="{x(2) - x(-2):.1f}" y="0" height="{y - 8}"/>'
    ticks = "".join(
        f'<text class="tick {where}" x="{x(v):.1f}" y="{y + 6}">{text}</text>'
        for v, where, text in (
            (low, "first", f"{number(low, 'percent')} %"),
            (0.0, "", "linux"),
            (high, "last", f"{number(high, 'percent')} %"),
        )
    )
    svg = (
        f'<svg viewBox="0 0 300 {y + 12}" role="img" aria-label="{escape(title)}">{band}'
        f'<line class="axis" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="0" y2="{y - 8}"/>'
        f"{''.join(parts)}{ticks}</svg>"
    )
    return _card(escape(title), _tag(result, rows), svg, "A dot a seed; within the band it counts as equal.")


# ---------------------------------------------------------------- the curve


_FLOOR = 1e-5


def _curves(result: Result) -> str:
    """Failing requests over memory, real and declined apart, on a logarithmic scale with 0 at its foot."""
    panels = []
    for curve in result.get("curves", ()):
        for key, words in (("real", "must succeed"), ("declined", "have another way")):
            if any(v is not None for shares in curve["shares"].values() for v in shares[key]):
                panels.append(_panel(result, curve, key, f"{curve['trace']}: requests that {words}"))
    if not panels:
        return ""
    keys = "".join(
        f'<li class="{_colour(result, side)}">{escape(short_name(side))}</li>' for side in _sides(result)
    )
    seeds = result["curves"][0]["seeds"]
    body = f'<ul class="key">{keys}</ul><div class="panels">{"".join(panels)}</div>'
    note = f"Median of {seeds} seeds, share that fails. Never added up: one must succeed, the other need not."
    return _card("Requests that fail, over memory", "", body, note).replace("card pic", "card pic wide", 1)


def _panel(result: Result, curve: Mapping[str, Any], key: str, title: str) -> str:
    sizes = curve["mib"]
    low, high = log10(sizes[0]), log10(sizes[-1])

    def x(mib: float) -> float:
        return 44 + 240 * (log10(mib) - low) / max(high - low, 1e-9)

    def y(share: float) -> float:
        return 112 - 92 * max(log10(max(share, _FLOOR)) - log10(_FLOOR), 0) / -log10(_FLOOR)

    grid = "".join(
        f'<line class="axis" x1="44" x2="284" y1="{y(v):.1f}" y2="{y(v):.1f}"/>'
        f'<text class="left" x="40" y="{y(v) + 3:.1f}">{text}</text>'
        for v, text in ((1, "100 %"), (0.1, "10 %"), (0.01, "1 %"), (0.001, "0.1 %"), (0, "0"))
    )
    lines = "".join(_line(result, side, curve, key, x, y) for side in reversed(_sides(result)))
    ends = "".join(
        f'<text class="tick {where}" x="{x(mib):.1f}" y="127">{mib:,} MiB</text>'
        for mib, where in {sizes[-1]: "last", sizes[0]: "first"}.items()
    )
    return (
        f'<svg viewBox="0 0 300 134" role="img" aria-label="{escape(title)}">'
        f'<text x="44" y="10">{escape(title)}</text>{grid}{lines}{ends}</svg>'
    )


def _line(result: Result, side: str, curve: Mapping[str, Any], key: str, x: Any, y: Any) -> str:
    shares = curve["shares"].get(side)
    if shares is None:
        return ""
    points = [(x(m), y(v)) for m, v in zip(curve["mib"], shares[key], strict=True) if v is not None]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5"/>' for a, b in points)
    return f'<g class="{_colour(result, side)}"><polyline points="{path}"/>{dots}</g>'


# ---------------------------------------------------------------- what hangs on no trace


def _stored(result: Result) -> str:
    stored = result.get("stored")
    if not stored:
        return ""
    lines = list(_yields(result, stored))
    for side in result["protagonists"]:
        posted, sound = stored["holes_as_posted"].get(side), stored["holes"].get(side)
        if posted is not None or sound is not None:
            words = [f"{posted} as posted"] * (posted is not None) + [f"{sound} made sound"] * (
                sound is not None
            )
            lines.append(f'<div class="of">{escape(short_name(side))}: holes found, {", ".join(words)}</div>')
    return _card("Yield of a fragmented machine, and holes", "", "".join(lines)) if lines else ""


def _yields(result: Result, stored: Mapping[str, Any]) -> Iterator[str]:
    for side in _sides(result):
        share = stored["yields"].get(side)
        if share is not None:
            yield _bar(result, side, 100 * share, f"{100 * share:.0f} %")
