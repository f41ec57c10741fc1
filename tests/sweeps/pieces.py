"""Pieces of work for executors, as workers import them."""

import os
import signal
from pathlib import Path


def squared(number: int) -> int:
    """What a piece of work returns."""
    if number == 13:
        raise ValueError("thirteen")
    return number * number


def deadly(item: tuple[int, str]) -> int:
    """Kills its worker where ``item`` says "always", and "once" where no file says that it did."""
    number, how = item
    if how == "always" or (how and not Path(how).exists()):
        if how != "always":
            Path(how).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number
