"""A long sequence made short: operations are left out as long as the same thing breaks in the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from asi_pa.verify.codes import Code

if TYPE_CHECKING:
    from asi_pa.audit.search import Search

__all__ = ["shrink"]

Steps = npt.NDArray[np.void]
Owners = list[tuple[int, int]]


def shrink(
    search: Search, steps: Steps, pair: tuple[int, int], stopped: Callable[[], bool] = lambda: False
) -> Steps:
    """The steps without those that are not needed to break ``pair`` (invariant, mechanism).

    Frames move when earlier operations go, so a free follows the allocation that it belonged to.  Once
    ``stopped`` says so it ends with what it has.
    """
    owners = _owners(search, steps)
    keep = list(range(len(steps)))
    best = _attempt(search, steps, owners, keep, pair)
    if best is None:
        return steps
    keep = keep[: len(best)]
    size = max(len(keep) // 2, 1)
    while not stopped():
        at, shorter = 0, False
        while at < len(keep) and not stopped():
            trial = keep[:at] + keep[at + size :]
            got = _attempt(search, steps, owners, trial, pair)
            if got is None:
                at += size
            else:
                keep, best, shorter = trial[: len(got)], got, True
        if size == 1 and not shorter:
            break
        size = max(size // 2, 1)
    return best


def _owners(search: Search, steps: Steps) -> Owners:
    """For each free, the step that allocated its frame and the offset in that; (-1, 0) for other steps."""
    _, results = search.replay(steps)
    owner: dict[int, tuple[int, int]] = {}
    out = []
    for number, (row, result) in enumerate(zip(steps, results, strict=True)):
        out.append(owner.get(int(row["frame"]), (-1, 0)) if row["code"] == Code.OP_FREE else (-1, 0))
        if row["code"] in (Code.OP_COMPACT_NODE, Code.OP_DIRECT_COMPACT):
            owner.clear()  # pages were moved
        if row["code"] in (Code.OP_ALLOC, Code.OP_DIRECT_COMPACT) and result >= 0:
            owner |= {int(result) + i: (number, i) for i in range(1 << int(row["order"]))}
        elif row["code"] == Code.OP_CONTIG and result == 0:
            owner |= {int(row["frame"]) + i: (number, i) for i in range(int(row["n"]))}
    return out


def _attempt(
    search: Search, steps: Steps, owners: Owners, keep: list[int], pair: tuple[int, int]
) -> Steps | None:
    """The kept steps up to the break, frees moved to where their allocations are now; None if none breaks."""
    rows = steps[keep].copy()
    place = {number: i for i, number in enumerate(keep)}
    moved = np.array([(place.get(owners[n][0], -1), owners[n][1]) for n in keep], np.int32).reshape(-1, 2)
    pairs, _ = search.replay(rows, moved)
    at = [step for invariant, mechanism, step in pairs if (invariant, mechanism) == pair]
    return rows[: at[0] + 1] if at else None
