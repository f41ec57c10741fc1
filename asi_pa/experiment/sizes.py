"""Sizes of memory as a comparison takes them: bytes, ``ample``, and multiples of what linux needs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from asi_pa.experiment.search import on_lattice
from asi_pa.kernel.sizing import parse_size

__all__ = ["Size", "as_size"]

_TIMES = re.compile(r"(\d+(?:\.\d+)?)\s*[x×]")
_MIB = 256  # pages
#: Beyond this a machine that is made from a trace's is the recorded one.
_MOST = 100.0


@dataclass(frozen=True)
class Size:
    """A size that was asked for."""

    words: str
    """As it was written."""
    pages: int = 0
    """0: the machine as it was recorded ("ample"), or a multiple."""
    times: float = 0.0
    """So many times what linux needs with the same trace, seed and relief; 0: no multiple."""

    def of(self, needed: Callable[[], float | None], most: int) -> int:
        """The size in pages, 0 for the recorded machine.

        ``needed`` finds what linux needs, MiB; it is called for a multiple only.  ``most``: pages of the
        recorded zone, which no multiple goes beyond.  Raises ValueError where linux's need is not found.
        """
        if not self.times:
            return self.pages
        found = needed() if most else None
        if found is None:
            raise ValueError(f"memory {self.words}: there is no size of this trace that linux needs")
        return min(on_lattice(self.times * found * _MIB), most)


def as_size(size: str | int) -> Size:
    """``"2G"``, ``"1.05x"``, ``"ample"`` or bytes.  Raises ValueError for anything else."""
    if isinstance(size, str):
        text = size.strip().lower()
        if text == "ample":
            return Size("ample")
        match = _TIMES.fullmatch(text)
        if match:
            times = float(match[1])
            if not 0 < times <= _MOST:
                raise ValueError(f"memory {size!r}: a multiple of what linux needs is above 0 and up to 100")
            return Size(f"{match[1]}x", times=times)
    try:
        return Size(str(size).strip(), parse_size(size) // 4096)
    except ValueError as error:
        raise ValueError(f'{error}; or "ample", or a multiple of what linux needs such as 1.05x') from None
