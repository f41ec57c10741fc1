"""Another CPU in the windows where the engine drops the zone lock, for scripts."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from asi_pa.engine.machine import Machine

__all__ = ["Meanwhile"]


class Meanwhile:
    """A context in which ``action`` happens once, in the ``number``-th window, from 1, of what is done."""

    def __init__(self, machine: Machine, number: int, action: Callable[[], object]) -> None:
        self._machine = machine
        self._number = number
        self._action = action
        self._seen = 0
        self._inside = False

    def __enter__(self) -> Self:
        self._machine.at_window(self._window)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._machine.at_window(None)

    def _window(self, at: int, pfn: int, order: int) -> None:
        """The other CPU's own windows do not count."""
        if self._inside:
            return
        self._seen += 1
        if self._seen == self._number:
            self._inside = True
            self._action()
            self._inside = False
