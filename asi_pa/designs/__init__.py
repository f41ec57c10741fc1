"""Designs as data: which free lists there are, where a request looks, who may take from whom, what flips.

Public: the registry :data:`DESIGNS`, :class:`Design` and its parts, :func:`as_design` for names and words.  A
posting is a file of this folder with its citation at the head and its ``DESIGNS``, and its name below.
"""

from __future__ import annotations

from html import escape
from importlib import import_module

from asi_pa.designs import words
from asi_pa.designs.freetypes import Freetype, PcpBank
from asi_pa.designs.migratetype_2025_03 import PROPOSAL
from asi_pa.designs.table import Design, Proposal
from asi_pa.names import perhaps

__all__ = [
    "COMPARED",
    "DESIGNS",
    "PROPOSAL",
    "REFERENCE",
    "Design",
    "Freetype",
    "PcpBank",
    "Proposal",
    "Registry",
    "as_design",
    "design_names",
]

#: The files, in the order of ``asi-pa designs``.
POSTINGS = (
    "linux",
    "per_page",
    "rfcv2_2025_01",
    "migratetype_2025_03",
    "freetype_2025_09",
    "unmapped_2026",
    "ours",
    "pool_2023",
)
_ALL: tuple[Design, ...] = tuple(
    design for name in POSTINGS for design in import_module(f"asi_pa.designs.{name}").DESIGNS
)
_SHOWN = sorted((design for design in _ALL if design.compared), key=lambda design: design.compared)


def _short_names() -> dict[str, Design]:
    """The families' names, where no design has that name itself."""
    families = dict.fromkeys(design.family for design in _ALL)
    return {
        family: next(design for design in _SHOWN if design.family == family)
        for family in families
        if all(design.name != family for design in _ALL)
    }


class Registry(dict[str, Design]):
    """Designs by name, which print themselves in a few lines."""

    def __repr__(self) -> str:
        full = [name for name, design in self.items() if name == design.name]
        short = [name for name in self if name not in full]
        return f"<{len(full)} designs: {', '.join(full)}; for short {', '.join(short)}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(design.title)}</td>"
            f"<td>{'as posted' if design.as_posted else 'sound' if design.protects else ''}</td></tr>"
            for name, design in self.items()
            if name == design.name
        )
        return f"<table>{rows}</table>"


#: Every built-in design by its full name, and by the bare names that mean the sound variants.
DESIGNS = Registry({design.name: design for design in _ALL} | _short_names())
#: What ``compare`` shows unless told otherwise.
COMPARED: tuple[str, ...] = tuple(design.name for design in _SHOWN)
#: What everything is held against.
REFERENCE = "linux"


def design_names() -> list[str]:
    """Names a user may give, variants beside bare names."""
    return list(DESIGNS)


def as_design(design: str | Design) -> Design:
    """The design that a word means; a Design is checked and passed through.

    ``migratetype/sound`` is built in, ``migratetype/sound:zeroing=dirty,unmap_low=512`` changes its fields,
    ``path.py:NAME`` is a Design, or a function that makes one, in a file of the user's.  Raises ValueError
    for anything else.
    """
    if isinstance(design, Design):
        if DESIGNS.get(design.name) is not design:
            words.check(design)
        return design
    name, colon, rest = design.partition(":")
    if colon and name.endswith(".py"):
        return words.from_file(name, rest)
    if name.endswith(".py"):
        raise ValueError(f"{name}: which of its designs? {name}:NAME")
    if name not in DESIGNS:
        near = perhaps(name, list(DESIGNS))
        raise ValueError(f"unknown design {name!r}{near}: designs are {', '.join(DESIGNS)}, or FILE.py:NAME")
    return words.changed(DESIGNS[name], rest) if colon else DESIGNS[name]
