"""A design as text, one fact a line, so that two designs can be compared with diff."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from asi_pa.designs import DESIGNS, Design, as_design

__all__ = ["describe_design", "diff_designs", "list_designs"]


def list_designs() -> str:
    """A line for each design: name, whether it is as posted or sound, title, what also names it."""
    bare: dict[str, list[str]] = {}
    for name, design in DESIGNS.items():
        if name != design.name:
            bare.setdefault(design.name, []).append(name)
    full = [(name, design) for name, design in DESIGNS.items() if name == design.name]
    width = max(len(name) for name, _ in full)
    lines = []
    for name, design in full:
        also = f" (also: {', '.join(bare[name])})" if name in bare else ""
        kind = "as posted" if design.as_posted else "sound" if design.protects else "-"
        lines.append(f"{name:<{width}}  {kind:<9}  {design.title}{also}")
    return "\n".join(lines) + "\n"


def describe_design(design: str | Design) -> str:
    """Everything the engine reads of a design.  ValueError for an unknown name."""
    return "\n".join(_facts(as_design(design))) + "\n"


def diff_designs(one: str | Design, two: str | Design) -> str:
    """The lines in which two designs differ, as a unified diff; empty when there are none."""
    a, b = as_design(one), as_design(two)
    lines = difflib.unified_diff(list(_facts(a)), list(_facts(b)), a.name, b.name, lineterm="", n=0)
    return "".join(line + "\n" for line in lines if not line.startswith("@@"))


def _facts(design: Design) -> Iterator[str]:
    for item in fields(design):
        value = getattr(design, item.name)
        if isinstance(value, tuple) and value and not isinstance(value[0], str):
            for index, entry in enumerate(value):
                # What has a name goes by it, so that a diff matches like with like.
                yield f"{item.name}[{getattr(entry, 'name', index)}]: {_words(entry)}"
        else:
            yield f"{item.name}: {_words(value)}"


def _words(value: Any) -> str:
    if is_dataclass(value):
        rest = (item for item in fields(value) if item.name != "name")
        return "; ".join(f"{item.name} {_words(getattr(value, item.name))}" for item in rest)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return " | ".join(_words(item) for item in value)
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value) or "-"
    return str(getattr(value, "name", value)) or "-"
