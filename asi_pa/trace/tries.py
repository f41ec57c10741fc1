"""Tries that failed where they were recorded, and what their callers asked for instead.

mm_page_alloc is printed for a request that failed, too, without a page.  Where mask and order tell whose try
it was (`asi_pa.kernel.callers`), the single pages of the same kind that the same command asks for next on the
same CPU, as many as the try would have been, are its fallback.  A replay makes the try; if it succeeds there,
these pages are not asked for, and what it got goes when the last of them is freed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from asi_pa.kernel.callers import fallback_of
from asi_pa.kernel.gfp import GFP_NAMES
from asi_pa.trace.events import ALLOC
from asi_pa.trace.format import Trace
from asi_pa.trace.ops import OP, Op

__all__ = ["Try", "insert_tries", "recorded_tries"]

_NO_PFN = 0xFFFFFFFF
#: What a request for a page must have in common with the fallback that the caller's source says.
_KIND = 0
for _name in ("MOVABLE", "RECLAIMABLE", "HIGH", "DIRECT_RECLAIM", "IO", "FS", "WRITE"):
    _KIND |= GFP_NAMES[f"__GFP_{_name}"]


@dataclass(frozen=True)
class Try:
    """A failed try and the requests made instead: indexes of events."""

    event: int
    pages: tuple[int, ...]


def recorded_tries(trace: Trace, masks: list[int]) -> list[Try]:
    """The failed tries of known callers that were followed by single pages, in order.

    ``masks``: the trace's, as callers asked for them.  A later try on the same CPU ends the one
    before, unless it is the same again while that lacks pages.
    """
    asked = trace.kind == ALLOC
    failed = np.flatnonzero(asked & (trace.pfn == _NO_PFN)).tolist()
    found: list[Try] = []
    singles = np.flatnonzero(asked & (trace.pfn != _NO_PFN) & (trace.order == 0)) if failed else failed
    kinds = np.array([mask & _KIND for mask in masks], np.int64)
    known = [
        (event, instead)
        for event in failed
        if (instead := fallback_of(masks[trace.gfp[event]], int(trace.order[event]))) is not None
    ]
    for cpu in sorted({int(trace.cpu[event]) for event, _ in known}):
        mine = np.asarray(singles)[trace.cpu[singles] == cpu]
        tries = [(event, instead) for event, instead in known if trace.cpu[event] == cpu]
        taken = -1
        for at, (event, instead) in enumerate(tries):
            if event < taken:
                continue  # the same caller tries again before its pages are complete
            same = _repeats(trace, tries, at)
            end = tries[same][0] if same < len(tries) else len(trace)
            window = mine[(mine > event) & (mine < end)]
            fits = (trace.comm[window] == trace.comm[event]) & (kinds[trace.gfp[window]] == instead & _KIND)
            pages = window[fits][: 1 << int(trace.order[event])].tolist()
            if pages:
                taken = pages[-1]
                found.append(Try(event, tuple(pages)))
    return sorted(found, key=lambda each: each.event)


def _repeats(trace: Trace, tries: list[tuple[int, int]], at: int) -> int:
    """The first try after ``at`` that is another one."""
    event = tries[at][0]
    what = (trace.comm[event], trace.gfp[event], trace.order[event])
    later = at + 1
    while later < len(tries):
        other = tries[later][0]
        if (trace.comm[other], trace.gfp[other], trace.order[other]) != what:
            break
        later += 1
    return later


def insert_tries(
    trace: Trace, ops: npt.NDArray[np.void], tries: list[Try], nslots: int
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int64], int]:
    """Operations with the tries as such: (ops, for each the index that it had or came before, slots).

    The compiler gives back at once what a failed request may get.  Here it becomes a TRY, a page an INSTEAD,
    and where all pages are freed the try's FREE follows the last of these.
    """
    ops = ops.copy()
    requests = np.flatnonzero(ops["op"] == Op.OP_ALLOC)
    rank = np.cumsum(trace.kind == ALLOC) - 1
    frees = np.flatnonzero(ops["op"] == Op.OP_FREE)
    by_slot = frees[np.lexsort((frees, ops["slot"][frees]))]
    keys = ops["slot"][by_slot].astype(np.int64) * (len(ops) + 1) + by_slot
    keep = np.ones(len(ops), bool)
    where, new = [], []
    for each in tries:
        at = int(requests[rank[each.event]])
        pages = requests[rank[list(each.pages)]]
        ops["op"][at], ops["op"][pages] = Op.OP_TRY, Op.OP_INSTEAD
        ops["slot"][at] = nslots
        keep[at + 1] = False
        order, cpu = int(ops["order"][at]), int(ops["cpu"][at])
        slots = ops["slot"][pages].astype(np.int64)
        found = np.searchsorted(keys, slots * (len(ops) + 1) + pages)
        freed = [
            int(by_slot[i]) if i < len(by_slot) and ops["slot"][by_slot[i]] == slot else -1
            for i, slot in zip(found.tolist(), slots.tolist(), strict=True)
        ]
        if min(freed) >= 0:
            where.append(max(freed) + 1)
            new.append((Op.OP_FREE, order, 0, cpu, nslots))
        nslots += 1 << order
    by_place = np.argsort(np.array(where, np.int64), kind="stable")
    places = np.array(where, np.int64)[by_place]
    keep = np.insert(keep, places, True)
    came = np.insert(np.arange(len(ops), dtype=np.int64), places, places)
    return np.insert(ops, places, np.array(new, OP)[by_place])[keep], came[keep], nslots
