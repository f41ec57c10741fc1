"""What a field of a Design says of itself: what it means, which values it may have, which designs read it.

The words stand at the field (``metadata=says(...)``).  ``help(Design)``, docs/extend/fields.md and the
refusals of `asi_pa.designs.words` are made of them.
"""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any

__all__ = ["NUMBER", "Reader", "Says", "about", "described", "fields_text", "nearest", "says"]

#: What the engine's numbers hold.
NUMBER = 1 << 62


@dataclass(frozen=True)
class Reader:
    """The designs that a field makes a difference to."""

    words: str
    """As in "it is read ...", empty: by every design."""
    reads: Callable[[Any], bool] = lambda _design: True


def _tracks(design: Any) -> bool:
    return bool(design.protects) and not design.wrapper


def _overrides(design: Any, hook: str) -> bool:
    return str(getattr(type(design), hook).__qualname__) != f"Design.{hook}"


EVERY = Reader("")
PROTECTS = Reader("where `protects` says something", lambda d: bool(d.protects))
LABELS = Reader("where pageblocks' labels say what is mapped: `protects`, and no `wrapper`", _tracks)
FLIPS = Reader("where `flips` is not none", lambda d: _tracks(d) and d.flips != "none")
SEPTEMBER = Reader("where `flips` is september", lambda d: _tracks(d) and d.flips == "september")
CLEARS = Reader(
    "where `protects` says something, and `wrapper` is not pool", lambda d: d.protects and d.wrapper != "pool"
)
UNMAPS_AHEAD = Reader("where `unmap_low` is above 0", lambda d: _tracks(d) and d.unmap_low > 0)
MOVES = Reader(
    "where `flip_used` is move", lambda d: _tracks(d) and d.flips != "none" and d.flip_used == "move"
)
WAITS = Reader(
    "where `flips` is not none, or `wrapper` is pool or queue",
    lambda d: bool(d.protects) and (d.wrapper in ("pool", "queue") or (_tracks(d) and d.flips != "none")),
)
CLEARS_DIRTY = Reader(
    "where `zeroing` is dirty, and labels say what is mapped", lambda d: _tracks(d) and d.zeroing == "dirty"
)
GIVES_BACK = Reader("where `map_back` or `pool_high` is above 0", lambda d: d.map_back > 0 or d.pool_high > 0)
UNMAPS = Reader(
    "where `unmap_low` is above 0, there is an unmap_ahead(), or `wrapper` is queue",
    lambda d: d.wrapper == "queue" or (_tracks(d) and (d.unmap_low > 0 or _overrides(d, "unmap_ahead"))),
)
QUEUE = Reader("where `wrapper` is queue", lambda d: d.wrapper == "queue")
POOL = Reader("where `wrapper` is pool", lambda d: d.wrapper == "pool")


@dataclass(frozen=True)
class Says:
    """Of one field."""

    text: str
    words: tuple[str, ...] = ()
    """It is one of these."""
    least: int = 0
    most: int = NUMBER
    """A number's range."""
    read: Reader = EVERY
    heading: str = ""
    """Of the fields that begin here."""


def says(text: str, **more: Any) -> dict[str, Says]:
    """The ``metadata`` of a field."""
    return {"says": Says(" ".join(text.split()), **more)}


def about(field: Field[Any]) -> Says:
    """What a field says of itself."""
    found: Says = field.metadata["says"]
    return found


def nearest(name: str, known: Iterable[str]) -> str:
    """``: did you mean X?``, or nothing."""
    near = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f": did you mean {near[0]}?" if near else ""


def _value(field: Field[Any]) -> str:
    """What it may be, and what it is unless told otherwise."""
    known = about(field)
    if field.default is MISSING:
        return ""
    if isinstance(field.default, bool):
        return f"yes or no; {'yes' if field.default else 'no'}"
    if isinstance(field.default, int):
        upto = f" to {known.most}" if known.most < NUMBER else ""
        return f"{known.least}{upto or ' and more'}; {field.default}"
    if known.words:
        return f"{', '.join(word or '(empty)' for word in known.words)}; {field.default or '(empty)'}"
    return f"text; {field.default or '(empty)'}"


def described(kind: type, before: str) -> str:
    """A docstring: ``before``, then every field under its heading."""
    lines = [before.strip()]
    for field in fields(kind):
        known = about(field)
        if known.heading:
            lines += ["", known.heading, "-" * len(known.heading)]
        value = _value(field)
        lines.append(f"{field.name}{f' : {value}' if value else ''}")
        text = known.text + (f"  Read {known.read.words}." if known.read.words else "")
        lines += textwrap.wrap(
            text, 100, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False
        )
    return "\n".join(lines) + "\n"


def fields_text(kind: type, head: str) -> str:
    """The same as a page of the documentation."""
    return "\n".join([head.strip(), *_tables(kind)]) + "\n"


def _tables(kind: type) -> Iterator[str]:
    for field in fields(kind):
        known = about(field)
        if known.heading:
            yield f"\n## {known.heading}\n"
            yield "| field | may be; is | means | read |\n|---|---|---|---|"
        text = known.text.replace("|", "\\|")
        yield f"| `{field.name}` | {_value(field)} | {text} | {known.read.words or 'always'} |"
