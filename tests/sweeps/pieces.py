"""Pieces of work for executors, as workers import them."""

import os
import signal
import time
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


def slow(path: str) -> str:
    """Takes its time, and leaves a file when it is done; a path that ends in "first" is done at once."""
    if not path.endswith("first"):
        time.sleep(20)
    Path(path).write_text("done")
    return path
