"""How far a long command is: a bar on a terminal where tqdm is installed, nothing anywhere else."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Never, Self

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Progress"]

#: Seconds between two drawings of the bar.
_PAUSE = 0.3


class Progress:
    """A context in which calls ``(what, done, of)`` move a bar on stderr, with the time that is left.

    A new bar begins where ``of`` changes; ``what`` may change with every call and is drawn with the bar, a
    few times a second.  Silent when ``quiet``, when stderr is no terminal, and without tqdm (the extra
    ``report``).  The bar is gone at the end, after errors too.  May be called by several threads.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._bar: tqdm[Never] | None = None
        self._make: type[tqdm[Never]] | None = None
        self._lock = threading.Lock()
        if not quiet and sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self._make = tqdm

    def __enter__(self) -> Self:
        return self

    def __call__(self, what: str, done: int, of: int) -> None:
        """``what`` is underway, ``done`` steps of ``of``."""
        if self._make is None:
            return
        with self._lock:
            bar = self._bar
            if bar is None or bar.total != of:
                self._close()
                bar = self._bar = self._make(
                    total=of, unit_scale=True, leave=False, mininterval=_PAUSE, dynamic_ncols=True
                )
            bar.set_description_str(what, refresh=False)
            bar.update(done - bar.n)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
