"""Colours that stay apart for colour-blind readers, the same for the same thing everywhere.

Designs and kinds of memory take hues of Okabe and Ito's palette; lightness differs as well, so that
a grey print still tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterable

from asi_pa.designs import REFERENCE

__all__ = ["DASHES", "GRID", "INK", "LEAF_COLOURS", "MUTED", "design_colours", "kind_colours"]

INK, MUTED, GRID = "#1f2933", "#5f6c7b", "#e4e7eb"

_DESIGNS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a5a00", "#5e3c99", "#7a8b00")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")

#: Leaves of the physmap, from the wanted to the unwanted.
LEAF_COLOURS = {"1g": "#004c6d", "2m": "#56b4e9", "4k": "#d55e00"}

#: All words must be in the name; the first match wins, so more special words come first.
_KINDS = (
    (("hole",), "#d5d9de"),
    (("free", "unmapped"), "#dfe7ee"),
    (("free", "mapped"), "#fbe3b0"),
    (("free",), "#f2efe6"),
    (("isolate",), "#6b4c9a"),
    (("highatomic",), "#cc79a7"),
    (("cma",), "#8a5a00"),
    (("pool",), "#d55e00"),
    (("nons",), "#e69f00"),
    (("unmapped",), "#1f3b57"),
    (("mapped",), "#e69f00"),
    (("unmovable",), "#1f3b57"),
    (("movable",), "#7fb8de"),
    (("reclaimable",), "#009e73"),
    (("pcp",), "#999999"),
    (("sens",), "#1f3b57"),
)
_SPARE = ("#f0e442", "#a65628", "#66a61e", "#b3b3b3", "#e7298a", "#17becf")


def design_colours(designs: Iterable[str]) -> dict[str, str]:
    """A colour per design: grey for the reference, hues for the others in order, then the hues lighter."""
    colours: dict[str, str] = {}
    for name in designs:
        if name not in colours:
            hues = len(colours) - (REFERENCE in colours)
            lighter, hue = divmod(hues, len(_DESIGNS))
            colours[name] = "#7b8794" if name == REFERENCE else _lighter(_DESIGNS[hue], 1 - 0.6**lighter)
    return colours


def kind_colours(kinds: Iterable[str]) -> dict[str, str]:
    """A colour per kind of memory, chosen by the words in its name; no two kinds share one."""
    colours: dict[str, str] = {}
    spare = list(_SPARE)
    for kind in kinds:
        if kind in colours:
            continue
        text = kind.lower()
        colour = next((c for words, c in _KINDS if all(word in text for word in words)), None)
        tints = [colour] + [_lighter(colour, step) for step in (0.3, 0.5, 0.65, 0.8)] if colour else []
        free = [c for c in tints if c not in colours.values()] or [
            c for c in spare if c not in colours.values()
        ]
        colours[kind] = free[0] if free else "#999999"
    return colours


def _lighter(colour: str, share: float) -> str:
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(p + (255 - p) * share):02x}" for p in parts)
