"""What commands end with: exit statuses, and errors as one line."""

from __future__ import annotations

import os
import sys

__all__ = ["FAILED", "GOOD", "INTERRUPTED", "UNUSABLE", "in_words", "printable", "say_error"]

GOOD = 0
#: A check found what it looks for: a difference, a broken invariant, a hole.
FAILED = 1
#: Input that cannot be used, an option that does not exist.
UNUSABLE = 2
#: Ctrl-C, as shells say it.
INTERRUPTED = 130


def printable(text: str) -> str:
    """Text that a terminal shows and does not obey, and that UTF-8 can write.

    Control characters, line separators and marks that turn the direction of writing become ``\\x1b``
    and the like, as do the bytes of a file's name that are no UTF-8; all else stays.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\u3000" else char.encode("unicode_escape").decode()
        for char in text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    )


def in_words(error: BaseException) -> str:
    """An exception's message in one line, led by the file that it is about."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return printable(f"{os.fsdecode(error.filename)}: {error.strerror}")
    return printable(" ".join(str(error).split()))


def say_error(message: str) -> None:
    """The one line that a user sees."""
    if sys.stderr is None:
        return
    print(f"asi-pa: error: {printable(message)}", file=sys.stderr, flush=True)
