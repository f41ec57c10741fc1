"""The recorded machine beside the model's over time, as SVG: no library, no script, any browser shows it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from asi_pa.kernel.indexes import suitable_blocks, unusable_index
from asi_pa.run.prediction import distance

__all__ = ["validation_svg"]

_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 720, 120, 90, 44, 44
_RECORDED, _MODEL = "#1b1b1b", "#d1495b"


def validation_svg(result: dict[str, Any]) -> str:
    """A panel each: distance, pages on per-CPU lists, blocks of order 0, order-9 pages, unusable index."""
    series = result["series"]
    times: list[float] = series["time"]
    recorded, model = series["free"]["recorded"], series["free"]["model"]
    off = [distance(a, b) for a, b in zip(model, recorded, strict=True)]
    panels: list[tuple[str, list[list[float]]]] = [
        ("pages in blocks of the wrong order, % of free pages", [off]),
        (
            "pages on per-CPU lists",
            [[sum(row) for row in series["pcp"][who]] for who in ("recorded", "model")],
        ),
        ("free blocks of order 0", [[row[0] for row in rows] for rows in (recorded, model)]),
        (
            "order-9 pages available",
            [[suitable_blocks(row, 9) for row in rows] for rows in (recorded, model)],
        ),
        (
            "unusable index x 1000, order 9",
            [[unusable_index(row, 9) for row in rows] for rows in (recorded, model)],
        ),
    ]
    height = _TOP + len(panels) * (_HEIGHT + _GAP)
    width = _LEFT + _WIDTH + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="20" font-size="14">{escape(result["trace"])}: recorded '
        f'<tspan fill="{_RECORDED}">&#9473;</tspan> and model left alone '
        f'<tspan fill="{_MODEL}">&#9473;</tspan></text>',
    ]
    for number, (title, lines) in enumerate(panels):
        parts += _panel(title, times, lines, _TOP + number * (_HEIGHT + _GAP))
    return "\n".join([*parts, "</svg>", ""])


def _panel(title: str, times: Sequence[float], lines: list[list[float]], top: float) -> list[str]:
    low = min(0.0, *(min(line) for line in lines))
    high = max(max(line) for line in lines) or 1.0
    last = times[-1] or 1.0
    colours = (_RECORDED, _MODEL) if len(lines) == 2 else (_MODEL,)

    def place(time: float, value: float) -> str:
        x = _LEFT + _WIDTH * time / last
        y = top + _HEIGHT * (1 - (value - low) / (high - low))
        return f"{x:.1f},{y:.1f}"

    parts = [
        f'<text x="{_LEFT}" y="{top - 6}">{escape(title)}</text>',
        f'<path d="M{_LEFT},{top} V{top + _HEIGHT} H{_LEFT + _WIDTH}" fill="none" stroke="#999999"/>',
        f'<text x="{_LEFT - 6}" y="{top + 10}" text-anchor="end">{high:,.4g}</text>',
        f'<text x="{_LEFT - 6}" y="{top + _HEIGHT}" text-anchor="end">{low:,.4g}</text>',
        f'<text x="{_LEFT + _WIDTH}" y="{top + _HEIGHT + 14}" text-anchor="end">{last:.1f} s</text>',
    ]
    for line, colour in zip(lines, colours, strict=True):
        points = " ".join(place(time, value) for time, value in zip(times, line, strict=True))
        dashes = ' stroke-dasharray="5 3"' if colour == _MODEL and len(lines) == 2 else ""
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"{dashes}/>'
        )
    return parts
