"""What replays left on each node of a machine that has several, as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["node_lines"]

#: Key of an entry of ``nodes``, and the column's head.
_COLUMNS = (
    ("cpus", "CPUs"),
    ("pages", "pages"),
    ("mapped_blocks", "mapped"),
    ("flips_s2n", "S -> N"),
    ("flips_n2s", "N -> S"),
    ("free_pages", "free"),
    ("pool_pages", "pool"),
    ("numa_hit", "numa_hit"),
    ("numa_miss", "numa_miss"),
    ("numa_foreign", "numa_foreign"),
)


def node_lines(designs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A head, and a line for each design (an entry of ``runs[].designs``) and node."""
    rows = [
        (str(design["design"]), str(node["node"]), *(_cell(node.get(key)) for key, _ in _COLUMNS))
        for design in designs
        for node in design.get("nodes", ())
    ]
    head = ("by node", "node", *(name for _, name in _COLUMNS))
    widths = [max(len(row[k]) for row in (head, *rows)) for k in range(len(head))]
    before = ""
    for row in (head, *rows):
        first = "" if row[0] == before else row[0]
        before = row[0]
        cells = (f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        yield "  ".join((f"{first:<{widths[0]}}", *cells))


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value) if value else "-"
