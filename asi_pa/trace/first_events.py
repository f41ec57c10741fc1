"""What a trace says first of each frame and of each pageblock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from asi_pa.trace.events import EXTFRAG, PCPU_DRAIN, ZONE_LOCKED
from asi_pa.trace.format import Trace
from asi_pa.trace.mentions import first_mentions

__all__ = ["COSTLY_ORDER", "FirstEvents", "first_events"]

#: PAGE_ALLOC_COSTLY_ORDER: orders up to here, and a pageblock's, have per-CPU lists.
COSTLY_ORDER = 3


@dataclass(frozen=True)
class FirstEvents:
    """What a trace says first of each frame and each pageblock."""

    kind: npt.NDArray[np.uint8]
    """u8[frames]: the kind of the first event but free_batched that covers the frame, or `NOTHING`."""
    event: npt.NDArray[np.uint32]
    """u32[frames]: its number, `NO_EVENT` where there is none."""
    shown: npt.NDArray[np.int8]
    """i8[blocks]: the recorded kernel's migratetype when first shown, -1 unknown."""
    events: int
    """How many events were looked at."""


def first_events(trace: Trace, frames: int, until: int | None = None) -> FirstEvents:
    """What the trace says first of each of ``frames`` frames; ``until``: in its first so many events.

    Block types are seen when a page leaves the buddy lists (the list's type), is drained to them
    (its block's type), is taken by fallback (the fallback's type), or is handed out again by the CPU that
    freed it: a free puts it on the list of its block's type, a request takes it from the list of its own.
    """
    types, orders = trace.migratetype, trace.order
    if len(trace.ext):
        types, orders = types.copy(), orders.copy()
        rows = trace.ext["event"].astype(np.intp)
        types[rows] = trace.ext["fallback_mt"].astype(np.int8)
        orders[rows] = trace.ext["alloc_order"]
    end = len(trace) if until is None else min(until, len(trace))
    shows = (ZONE_LOCKED, PCPU_DRAIN, EXTFRAG)
    return FirstEvents(*first_mentions(trace, types, orders, shows, frames, end, COSTLY_ORDER), end)
