"""A long sequence made short: operations are left out as long as the same thing breaks in the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from asi_pa._audit import Search

__all__ = ["shrink"]

_ALLOC, _FREE, _CONTIG = 1, 2, 9


def shrink(search: Search, steps: npt.NDArray[np.void], pair: tuple[int, int]) -> npt.NDArray[np.void]:
    """The steps without those that are not needed to break ``pair`` (invariant, mechanism).

    Frames move when earlier operations go, so a free follows the allocation that it belonged to.
    """
    owners = _owners(search, steps)
    keep = list(range(len(steps)))
    best = _attempt(search, steps, owners, keep, pair)
    if best is None:
        return steps
    size = max(len(keep) // 2, 1)
    while True:
        at, shorter = 0, False
        while at < len(keep):
            trial = keep[:at] + keep[at + size :]
            got = _attempt(search, steps, owners, trial, pair)
            if got is None:
                at += size
            else:
                keep, best, shorter = trial[: len(got)], got, True
        if size == 1 and not shorter:
            return best
        size = max(size // 2, 1)


def _owners(search: Search, steps: npt.NDArray[np.void]) -> list[tuple[int, int]]:
    """For each free, the step that allocated its frame and the offset in that; (-1, 0) for other steps."""
    _, results = search.replay(steps)
    owner: dict[int, tuple[int, int]] = {}
    out = []
    for number, (row, result) in enumerate(zip(steps, results, strict=True)):
        out.append(owner.get(int(row["frame"]), (-1, 0)) if row["code"] == _FREE else (-1, 0))
        if row["code"] == _ALLOC and result >= 0:
            owner |= {int(result) + i: (number, i) for i in range(1 << int(row["order"]))}
        elif row["code"] == _CONTIG and result == 0:
            owner |= {int(row["frame"]) + i: (number, i) for i in range(int(row["n"]))}
    return out


def _attempt(
    search: Search,
    steps: npt.NDArray[np.void],
    owners: list[tuple[int, int]],
    keep: list[int],
    pair: tuple[int, int],
) -> npt.NDArray[np.void] | None:
    """The kept steps, frees moved to where their allocations now are, up to the break; None if none breaks.

    A free needs the result of an earlier step, so the sequence is run again for each free that moved.
    """
    rows = steps[keep].copy()
    place = {number: i for i, number in enumerate(keep)}
    for _ in range(len(rows) + 1):
        pairs, results = search.replay(rows)
        moved = False
        for i, number in enumerate(keep):
            owner, offset = owners[number]
            if owner < 0 or owner not in place or place[owner] >= i:
                continue
            made = rows[place[owner]]
            result = int(results[place[owner]])
            frame = result + offset if made["code"] == _ALLOC and result >= 0 else int(rows[i]["frame"])
            if frame != rows[i]["frame"]:
                rows[i]["frame"] = frame
                moved = True
                break
        if not moved:
            break
    at = [step for invariant, mechanism, step in pairs if (invariant, mechanism) == pair]
    return rows[: at[0] + 1] if at else None
