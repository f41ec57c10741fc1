"""Allocations without an event that the recorded decisions prove: asked for in a prediction, too.

alloc_pages_bulk() and isolation take pages without mm_page_alloc.  Where a caller got a page of a per-CPU
list that was not its head, or a list was refilled that was not empty, somebody had got the pages ahead of it:
the tracked run lets them go (`asi_pa.run.track`) and remembers them.  What callers did is more than the
events say by these, and by their frees, which find nothing to free otherwise.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from asi_pa.trace.compile import OP_ALLOC, OP_FREE
from asi_pa.trace.events import ALLOC, FREE
from asi_pa.trace.ops import OP

if TYPE_CHECKING:
    from asi_pa.run.reference import Course

__all__ = ["with_untraced"]

_I64: TypeAlias = npt.NDArray[np.int64]


def with_untraced(course: Course, found: Sequence[tuple[int, int, int, int]]) -> Course:
    """The same course with the operations that no event shows.

    ``found``: (event before which it must have been, CPU, order, pfn) each, by event, as
    ``Tracker.without_event`` has them.
    """
    rows = np.array(found, np.int64).reshape(-1, 4)
    ops = course.compiled.ops
    before = course.operations_at(np.unique(rows[:, 0]).tolist())
    place = before[np.searchsorted(np.unique(rows[:, 0]), rows[:, 0])]
    like = _next_alike(ops, place, rows[:, 1], rows[:, 2])
    rows, place, like = rows[like >= 0], place[like >= 0], like[like >= 0]
    if not len(rows):
        return course
    allocs = ops[like].copy()
    allocs["slot"] = course.compiled.nslots + np.cumsum(1 << rows[:, 2]) - (1 << rows[:, 2])
    freed, given = _frees(course, rows)
    frees = np.zeros(len(freed), OP)
    frees["op"], frees["slot"], frees["order"] = OP_FREE, allocs["slot"][given], rows[given, 2]
    frees["cpu"] = course.trace.cpu[freed]
    where = np.concatenate([place, course.operations_at(freed.tolist())])
    events = np.concatenate([rows[:, 0], freed])
    by_place = np.lexsort((events, where))
    return _inserted(
        course,
        np.concatenate([allocs, frees])[by_place],
        where[by_place],
        (rows[:, 0], rows[:, 3]),
        int(course.compiled.nslots + (1 << rows[:, 2]).sum()),
    )


def _next_alike(ops: npt.NDArray[np.void], place: _I64, cpu: _I64, order: _I64) -> _I64:
    """The next allocation of the same CPU and order from each operation on: what it was asked for with.

    -1 where none follows.
    """
    at = np.flatnonzero(ops["op"] == OP_ALLOC)
    key = ops["cpu"][at].astype(np.int64) << 8 | ops["order"][at]
    found = np.full(len(place), -1, np.int64)
    wanted = cpu << 8 | order
    for each in np.unique(wanted).tolist():
        mine, asked = at[key == each], wanted == each
        number = np.searchsorted(mine, place[asked])
        found[asked] = np.append(mine, -1)[number]
    return found


def _frees(course: Course, rows: _I64) -> tuple[_I64, _I64]:
    """Events that free the pages, of those that compiled to nothing, and which of ``rows`` each frees."""
    trace = course.trace
    touches = np.flatnonzero(
        np.isin(trace.kind, (ALLOC, FREE)) & np.isin(trace.pfn, rows[:, 3].astype(trace.pfn.dtype))
    )
    touches = touches[np.lexsort((touches, trace.pfn[touches]))]
    width = len(trace) + 1
    # Of an allocation with an event, found at its own event, the next.
    next_at = np.searchsorted(
        trace.pfn[touches].astype(np.int64) * width + touches, rows[:, 3] * width + rows[:, 0] + 1
    )
    event = np.append(touches, 0)[next_at]
    mine = (next_at < len(touches)) & (trace.pfn[event] == rows[:, 3]) & (trace.kind[event] == FREE)
    mine &= trace.order[event] == rows[:, 2]
    freed, given = np.unique(event[mine], return_index=True)
    given = np.flatnonzero(mine)[given]
    asked = np.unique(np.concatenate([freed, freed + 1]))
    count = dict(zip(asked.tolist(), course.operations_at(asked.tolist()).tolist(), strict=True))
    nothing = np.array([count[k] == count[k + 1] for k in freed.tolist()], bool)
    return freed[nothing].astype(np.int64), given[nothing]


def _inserted(
    course: Course, ops: npt.NDArray[np.void], where: _I64, given: tuple[_I64, _I64], nslots: int
) -> Course:
    """The course with further operations before those of number ``where``, ascending.

    ``given``: event and pfn of the allocations among them.
    """
    more = copy.copy(course)
    more.compiled = replace(course.compiled, ops=np.insert(course.compiled.ops, where, ops), nslots=nslots)
    asked = more.compiled.ops["op"] == OP_ALLOC
    more.before = np.concatenate([[0], np.cumsum(asked)])
    added = np.zeros(len(more.compiled.ops), bool)
    added[where + np.arange(len(where))] = True
    of_allocs = added[asked]
    for name, values in (("allocs", given[0]), ("pfns", given[1])):
        column = np.empty(len(of_allocs), np.int64)
        column[~of_allocs], column[of_allocs] = getattr(course, name), values
        setattr(more, name, column)
    more.shifted_by(where)
    return more
