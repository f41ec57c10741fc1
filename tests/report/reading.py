"""Reads what a report shows, to hold it against the numbers that it was made from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

__all__ = ["Shown", "Tables", "numbers", "shows", "spread", "value_at"]

_NUMBER = r"[+-]?\d[\d,]*(?:\.\d+)?"
_SPREAD = re.compile(rf"(?P<less>< )?(?P<mid>{_NUMBER})(?: \[(?P<low>{_NUMBER})\.\.(?P<high>{_NUMBER})\])?")
_SCALE = {
    "": 1.0, "B": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40,
    "k": 1e3, "M": 1e6, "G": 1e9, "%": 0.01,
}  # fmt: skip
_CELL = re.compile(r"^(?P<number>[+-]?\d[\d,]*(?:\.\d+)?) ?(?P<unit>[KMGT]iB|B|%|[kMG])?(?:/s)?$")


class Shown(float):
    """A number as it is written: it stands for what lies within half of its last digit."""

    def __new__(cls, text: str, scale: float = 1.0) -> Shown:
        made = super().__new__(cls, float(text.replace(",", "")) * scale)
        made.half = 0.5 * 10.0 ** -len(text.partition(".")[2]) * scale  # type: ignore[attr-defined]
        return made

    def stands_for(self, value: float) -> bool:
        return bool(abs(self - value) <= self.half * (1 + 1e-9) + 1e-12)  # type: ignore[attr-defined]


def numbers(text: str) -> list[Shown]:
    """Every number of a line."""
    return [Shown(found) for found in re.findall(_NUMBER, text)]


def spread(text: str) -> tuple[Shown, Shown, Shown] | str:
    """``33 [24..53] %`` as median, least and most; a cell without a number as it is."""
    found = _SPREAD.search(text)
    if found is None or found["less"]:
        return text.strip()
    middle = Shown(found["mid"])
    if found["low"] is None:
        return middle, middle, middle
    return middle, Shown(found["low"]), Shown(found["high"])


def shows(text: str, value: float | None, unit: str) -> bool:
    """Whether a table's cell shows a metric's value."""
    if value is None:
        return text == "-"
    found = _CELL.match(text)
    if found is None:
        return False
    shown = Shown(found["number"], _SCALE[found["unit"] or ""])
    return shown.stands_for(value * {"kb": 1024, "index": 0.001}.get(unit, 1))


def value_at(metrics: Mapping[str, Any], key: str) -> Any:
    """A metric by its dotted path, None where it is not there."""
    node: Any = metrics
    for part in key.split("."):
        node = node[int(part)] if isinstance(node, list) else (node or {}).get(part)
    return node


class Tables(HTMLParser):
    """A page's tables: rows of cells, each a (class, texts between tags) pair; and elements by class."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[tuple[str, list[str]]]] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self._in_cell = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = {name: value or "" for name, value in attrs}
        self.elements.append((tag, about))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append((about.get("class", ""), []))
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell and data.strip():
            self.rows[-1][-1][1].append(data.strip())
