"""How much memory an input may claim before it is believed.

What a header promises is compared with a limit before anything is unpacked: a file of half a megabyte can
promise terabytes.  The limit is what the user states, or else grows with the file's own size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

__all__ = ["allowed_bytes", "claim", "memory_limit", "state_limit", "stated_limit"]

#: Without a stated limit: so much at least, so much for each byte of the file, and never more than that.
FLOOR = 1 << 28
RATIO = 512
CEILING = 1 << 32

_stated: ContextVar[int | None] = ContextVar("max_memory", default=None)


@contextlib.contextmanager
def memory_limit(stated: int | None) -> Iterator[None]:
    """Inputs may claim ``stated`` bytes of memory inside the block; None: the default."""
    token = _stated.set(stated)
    try:
        yield
    finally:
        _stated.reset(token)


def state_limit(stated: int | None) -> None:
    """`memory_limit` for the rest of a process."""
    _stated.set(stated)


def stated_limit() -> int | None:
    """What the user stated, None for the default."""
    return _stated.get()


def allowed_bytes(file_bytes: int | None = None) -> int:
    """How many bytes an input may claim; ``file_bytes`` is its own size, None where that is not known."""
    stated = _stated.get()
    if stated is not None:
        return stated
    return CEILING if file_bytes is None else min(max(FLOOR, RATIO * file_bytes), CEILING)


def claim(what: str, wanted: int, file_bytes: int | None = None) -> None:
    """ValueError, led by ``what``, if ``wanted`` bytes are more than is allowed."""
    most = allowed_bytes(file_bytes)
    if wanted > most:
        raise ValueError(
            f"{what} needs {wanted} bytes of memory, {most} are allowed (--max-memory raises that)"
        )
