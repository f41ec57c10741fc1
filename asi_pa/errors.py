"""What commands end with: exit statuses, and errors as one line."""

from __future__ import annotations

import sys

__all__ = ["FAILED", "GOOD", "INTERRUPTED", "UNUSABLE", "in_words", "say_error"]

GOOD = 0
#: A check found what it looks for: a difference, a broken invariant, a hole.
FAILED = 1
#: Input that cannot be used, an option that does not exist.
UNUSABLE = 2
#: Ctrl-C, as shells say it.
INTERRUPTED = 130


def in_words(error: BaseException) -> str:
    """An exception's message in one line, led by the file that it is about."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def say_error(message: str) -> None:
    """The one line that a user sees."""
    print(f"asi-pa: error: {message}", file=sys.stderr, flush=True)
