"""Colours that stay apart for colour-blind readers, the same for the same thing in every figure.

Designs and kinds of memory take hues of Okabe and Ito's palette; lightness differs as well, so that
a grey print still tells them apart.  This is the only table of colours by design and by kind: the
figures of ``asi-pa plot``, the page's curves and its tables take theirs from here.  The page's title and
small pictures have a colour for each of the two compared, whichever designs they are (page.css).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from asi_pa.designs import DESIGNS, Design

__all__ = ["DASHES", "GRID", "INK", "LEAF_COLOURS", "MUTED", "block_kind", "design_colours", "kind_colours"]

INK, MUTED, GRID = "#1f2933", "#5f6c7b", "#e4e7eb"

#: A hue by family of designs, whatever it is compared with; the reference is grey.
_FAMILIES = {
    "linux": "#7b8794",
    "migratetype": "#009e73",
    "pool": "#d55e00",
    "freetype": "#cc79a7",
    "unmapped": "#0072b2",
    "per-page": "#56b4e9",
    "rfcv2-queue": "#e69f00",
    "ours": "#8a5a00",
}
#: Hues of designs from elsewhere, in the order in which they are met.
_ELSEWHERE = ("#5e3c99", "#7a8b00", "#1f2933", "#a6195e", "#00798c")
#: From a family's hue to its other variants, in the order of the designs: toward white, toward black.
_SHADES = (0.45, -0.4, 0.65, -0.65)
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
    """A colour per design: a built-in one has the same in every picture, those from elsewhere their own hues.

    A variant by a word (``pool:refill=10``) takes the next free shade of its design.
    """
    colours: dict[str, str] = {}
    elsewhere = 0
    for name in dict.fromkeys(designs):
        known = DESIGNS.get(name) or DESIGNS.get(name.partition(":")[0])
        if known is not None and known.family in _FAMILIES:
            shades = _shades(_FAMILIES[known.family])
            variants = list(dict.fromkeys(d.name for d in _by_place() if d.family == known.family))
            first = variants.index(known.name)
        else:
            lighter, hue = divmod(elsewhere, len(_ELSEWHERE))
            shades, first = _shades(_lighter(_ELSEWHERE[hue], 1 - 0.6**lighter)), 0
            elsewhere += 1
        colours[name] = next(c for c in chain(shades[first:], _spares()) if c not in colours.values())
    return colours


def _by_place() -> list[Design]:
    """Every built-in design, those first that `compare` shows."""
    return sorted(DESIGNS.values(), key=lambda design: (not design.compared, design.compared))


def _shades(hue: str) -> list[str]:
    return [hue, *(_lighter(hue, share) if share > 0 else _darker(hue, -share) for share in _SHADES)]


def _spares() -> Iterator[str]:
    """Ever lighter greys and hues, for more designs than anyone tells apart."""
    for step in range(1, 40):
        for hue in (*_FAMILIES.values(), *_ELSEWHERE):
            yield _lighter(hue, 1 - 0.93**step)


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


#: By type of a pageblock: as most memory is, and where the design changes it: to mapped, to unmapped.
_BLOCKS = {
    "unmovable": ("#1f3b57", "#d55e00", "#cc79a7"),
    "movable": ("#7fb8de", "#e69f00", "#8a5a00"),
    "reclaimable": ("#009e73", "#f0e442", "#a6195e"),
    "free": ("#f2efe6", "#fbe3b0", "#f3dcea"),
}
_OTHER_BLOCKS = ("#6b4c9a", "#b3b3b3", "#5f6c7b")


def block_kind(kind: str, tree: str) -> tuple[str, str]:
    """(words, colour) for a kind of a block map's legend (``free Movable unmapped``), few enough for print.

    The side is named only where it is the one that the design changes blocks to: mapped in the
    ``restricted`` tree, unmapped in the ``unrestricted`` one.
    """
    words = kind.lower().split()
    name = words[1] if words[0] == "free" and len(words) > 1 else words[0]
    known = next(
        (known for known in ("unmovable", "movable", "reclaimable") if name.startswith(known)), "other"
    )
    known = "free" if words[0] == "free" else known
    colours = _BLOCKS.get(known, _OTHER_BLOCKS)
    odd = "mapped" if tree == "restricted" else "unmapped"
    if words[-1] != odd:
        return known, colours[0]
    return f"{known}, {odd}", colours[1 if odd == "mapped" else 2]


def _lighter(colour: str, share: float) -> str:
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(p + (255 - p) * share):02x}" for p in parts)


def _darker(colour: str, share: float) -> str:
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(p * (1 - share)):02x}" for p in parts)
