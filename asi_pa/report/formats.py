"""The forms in which ``asi-pa compare`` writes a result to a file, each an option of that name.

A format is a module with ``NAME`` (the option's), ``HELP`` (a line) and ``write(result, path)``, which
changes the file only once all of it is written.  One that needs what may not be installed has ``ready()``
too, which raises ValueError, before any work, saying what to install.  A new one is such a module and its
name below.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from asi_pa.report import page, results

__all__ = ["FORMATS", "Format", "ready"]


class Format(Protocol):
    """What such a module offers."""

    NAME: str
    HELP: str

    def write(self, result: Mapping[str, Any], path: str) -> None:
        """Write a result, whole or not at all."""


#: In the order of ``compare --help``.
FORMATS: tuple[Any, ...] = (results, page)


def ready(chosen: Format) -> None:
    """Raise ValueError if a format lacks what it needs."""
    getattr(chosen, "ready", lambda: None)()
