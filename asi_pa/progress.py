"""How far a long command is: a bar on a terminal where tqdm is installed, nothing anywhere else."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Never, Self

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Progress"]


class Progress:
    """A context in which calls ``(what, done, of)`` move a bar on stderr, a new one for each ``what``.

    Silent when ``quiet``, when stderr is no terminal, and without tqdm (the extra ``report``).  The bar
    is gone at the end, after errors too.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._bar: tqdm[Never] | None = None
        self._make: type[tqdm[Never]] | None = None
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
        bar = self._bar
        if bar is None or bar.desc != f"{what}: ":
            self._close()
            bar = self._bar = self._make(desc=what, total=of, unit="op", unit_scale=True, leave=False)
        bar.update(done - bar.n)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
