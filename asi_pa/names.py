"""What callers name: one where several are asked for, and the nearest right name for a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TypeVar

__all__ = ["perhaps", "several"]

_T = TypeVar("_T")


def several(given: str | _T | Iterable[str | _T], *one: type[_T]) -> tuple[str | _T, ...]:
    """What was given as a tuple: a string, or whatever is of the types ``one``, stands for itself alone."""
    return (given,) if isinstance(given, (str, *one)) else tuple(given)  # type: ignore[arg-type,return-value]


def perhaps(name: str, known: Sequence[str]) -> str:
    """`` (did you mean 'migratetype'?)``, or nothing where no known name is near."""
    near = difflib.get_close_matches(name.lower(), known, 1, 0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
