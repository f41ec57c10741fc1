"""The smallest memory on which something holds, found with few trials."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["lattice", "on_lattice", "smallest"]

_MIB = 256  # pages


def lattice(pages: int) -> int:
    """The step of memory sizes, in pages: 4 MiB, below 256 MiB 2 MiB."""
    return (4 if pages >= 256 * _MIB else 2) * _MIB


def on_lattice(pages: float) -> int:
    """The nearest size of the lattice, one step at least."""
    step = lattice(int(pages))
    return max(round(pages / step), 1) * step


def smallest(
    holds: Callable[[int], bool],
    guess: int,
    *,
    step: float,
    most: int,
    enough: Callable[[int, int], bool] = lambda _fails, _holds: False,
) -> int | None:
    """The smallest size of the lattice, in pages, on which ``holds``, as far as it holds above and not below.

    From ``guess`` on the size grows, or shrinks, by the factor ``step`` (such as 1.02), then by more, until
    one size holds and one does not; these are halved until they are neighbours or ``enough(fails, holds)``.
    None if it does not hold on ``most``.  Where it holds and fails by turns, the answer is one of the
    borders.
    """
    at = min(on_lattice(guess), most)
    move = max(int(at * (step - 1)), lattice(at))
    if holds(at):
        good, bad = at, 0
        while good > lattice(good):
            below = max(on_lattice(good - move), lattice(good))
            if not holds(below):
                bad = below
                break
            good, move = below, 2 * move
    else:
        bad, good = at, 0
        while bad < most:
            above = min(on_lattice(bad + move), most)
            if holds(above):
                good = above
                break
            bad, move = above, 2 * move
        if not good:
            return None
    while good - bad > lattice(bad) and not enough(bad, good):
        middle = on_lattice((good + bad) / 2)
        if not bad < middle < good:
            break
        if holds(middle):
            good = middle
        else:
            bad = middle
    return good
