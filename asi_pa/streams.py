"""Standard output while a verb runs: what cannot be printed is said once, and a reader that went away stops
nothing.

A verb goes on when the reader of its output is gone (``| head``): its files are written and its exit status
is that of the work.  A full disk is an error that names standard output.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

from asi_pa.errors import printable

__all__ = ["standard_output"]

#: Colours of our own making, which pass; they are switched on for terminals only.
_COLOUR = re.compile("(\x1b\\[[0-9;]*m)")


class _Output:
    """Passes text on to a stream, escaped where a terminal would obey it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._colours = stream.isatty()
        self._failed: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """All of ``text``, unless nobody reads any more."""
        shown = "\n".join(self._shown(line) for line in text.split("\n"))
        with self._guarded():
            try:
                self._stream.write(shown)
            except UnicodeEncodeError as error:
                self._stream.write(shown.encode(error.encoding, "backslashreplace").decode(error.encoding))
        return len(text)

    def flush(self) -> None:
        """Sends what is held back on its way; raises what an earlier ``write`` could not do, too."""
        if self._failed is not None:  # argparse keeps it to itself
            raise self._failed
        with self._guarded():
            self._stream.flush()

    def _shown(self, line: str) -> str:
        if not self._colours:
            return printable(line)
        return "".join(part if _COLOUR.fullmatch(part) else printable(part) for part in _COLOUR.split(line))

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            self._discard()
        except OSError as error:
            self._discard()
            self._failed = OSError(error.errno, error.strerror, "standard output")
            raise self._failed from None

    def _discard(self) -> None:
        """Nothing more is sent, neither by us nor by the interpreter when it ends."""
        with contextlib.suppress(OSError, ValueError):
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, self._stream.fileno())
            os.close(sink)


@contextlib.contextmanager
def standard_output() -> Iterator[None]:
    """``sys.stdout`` is such a stream inside the block; ValueError where it is closed."""
    stream = sys.stdout
    if stream is None or stream.closed:
        raise ValueError("standard output is closed")
    sys.stdout = cast(TextIO, _Output(stream))
    try:
        try:
            yield
        except SystemExit:  # argparse's --help and --version
            sys.stdout.flush()
            raise
        sys.stdout.flush()
    finally:
        sys.stdout = stream
