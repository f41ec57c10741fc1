"""Files that are there whole or not at all, whatever interrupts the writing."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

__all__ = ["atomic_file", "write_atomic"]

#: How the name of an unfinished file ends.
PART = ".part"


@contextlib.contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """An OSError about an unfinished file, or about none, is about ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno is None or not str(error.filename or PART).endswith(PART):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[IO[Any]]:
    """A binary file beside ``path`` that takes its name when the block ends well, and vanishes when not.

    A link keeps pointing where it points: what it points to is replaced.  OSError where nothing can be
    written, and for what is no regular file: a device must not be replaced.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    with _naming(path):
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=PART, dir=target.parent)
    try:
        umask = os.umask(0)
        os.umask(umask)
        os.fchmod(handle, 0o666 & ~umask)
        with _naming(path):
            with os.fdopen(handle, "w+b") as out:
                yield out
            os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_atomic(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file (UTF-8) so that ``path`` holds either all of it or what was there before.

    What is no regular file (``/dev/stdout``, a pipe) is written to directly.
    """
    target = Path(path)
    data = text.encode()
    if target.exists() and not target.is_file():
        with _naming(path), target.open("wb") as stream:
            stream.write(data)
        return
    with atomic_file(target) as out:
        out.write(data)
