"""The per-CPU lists (struct per_cpu_pages) when a trace began: which pages, on whose list, in which order.

A page on such a list bears no flag that /proc/kpageflags shows.  Most are found by what happens to them
first: a page that a caller gets, or that is drained, without having left the buddy before was on the list of
that CPU, order and type.  Lists are taken from their head and drained from their tail, so the times of these
events give the order.  /proc/zoneinfo says how many pages each CPU had; those that no event shows are placed
where they can have been, or reported as not located.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.trace.events import ALLOC, EXTFRAG, FREE, PCPU_DRAIN, ZONE_LOCKED
from asi_pa.trace.first_events import COSTLY_ORDER, FirstEvents
from asi_pa.trace.format import Trace
from asi_pa.trace.witness import emptied_lists, first_from_lists

__all__ = ["Located", "PcpPages", "pcp_at_start", "pcp_unseen"]

#: Flags were read within so long after the other snapshots; events until then may precede them.
_READING_NS = 500_000_000
_U8 = npt.NDArray[np.uint8]
_I64 = npt.NDArray[np.int64]
_Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PcpPages:
    """Pages on per-CPU lists: list after list, each from its head to its tail."""

    pfn: _I64
    order: _U8
    mt: _U8
    """The list's type: 0 Unmovable, 1 Movable, 2 Reclaimable."""
    cpu: _U8

    def __len__(self) -> int:
        return len(self.pfn)

    def take(self, rows: npt.NDArray[Any]) -> PcpPages:
        return PcpPages(self.pfn[rows], self.order[rows], self.mt[rows], self.cpu[rows])

    @property
    def pages(self) -> int:
        return int((1 << self.order.astype(np.int64)).sum())

    @staticmethod
    def none() -> PcpPages:
        empty = np.zeros(0, np.uint8)
        return PcpPages(np.zeros(0, np.int64), empty, empty, empty)


@dataclass(frozen=True)
class Located:
    """What events show of the lists."""

    pages: PcpPages
    drained: _Bool
    """bool per page: found by being drained, so it was behind those that no event shows."""
    counts: tuple[int, ...]
    """Pages of each CPU at event 0, as recorded and reckoned back."""

    def joined(self, unseen: PcpPages) -> PcpPages:
        """All pages: those seen, and between what was taken from the head and from the tail those unseen."""
        both = PcpPages(
            *(
                np.concatenate([getattr(self.pages, k), getattr(unseen, k)])
                for k in ("pfn", "order", "mt", "cpu")
            )
        )
        place = np.concatenate([2 * self.drained.astype(np.int64), np.ones(len(unseen), np.int64)])
        rows = np.lexsort((np.arange(len(both)), place, both.mt, both.order, both.cpu))
        return both.take(rows)


def list_types(trace: Trace) -> _U8:
    """u8[256]: the list that pages of a recorded migratetype's number are on: 0 U, 1 M, 2 R.

    What has no list of its own (HIGHATOMIC, CMA) is on Movable's, free_frozen_page_commit (mm/page_alloc.c).
    """
    table = np.ones(256, np.uint8)
    for number, name in enumerate(trace.migratetypes):
        if name in ("Unmovable", "Reclaimable"):
            table[number] = 0 if name == "Unmovable" else 2
    return table


def pcp_orders(trace: Trace) -> tuple[int, ...]:
    """The orders that per-CPU lists serve."""
    return (*range(COSTLY_ORDER + 1), trace.pageblock_order)


def pcp_at_start(
    trace: Trace, zone: dict[str, Any], first: FirstEvents, flags: _U8, moment: int | None
) -> Located:
    """The pages of a zone that were on per-CPU lists, as far as events show.

    ``flags``: u8 by frame of the zone, `KPF_BITS`; ``moment``: how many events had happened when zoneinfo was
    read.
    """
    start, cpus = int(zone["start_pfn"]), zone.get("cpus") or []
    seen, event = first.kind[start : start + len(flags)], first.event[start : start + len(flags)]
    late, hidden = (0, 1) if moment is None else (_reading(trace, moment), 255)
    frames = first_from_lists(trace, flags, seen, event, start, pcp_orders(trace), len(cpus), late, hidden)
    rows = event[frames].astype(np.int64)
    order, cpu = trace.order[rows], trace.cpu[rows]
    types = list_types(trace)
    mt = types[trace.migratetype[rows].view(np.uint8)]
    mt[order > COSTLY_ORDER] = mt[order > COSTLY_ORDER] == 1
    drained = trace.kind[rows] == PCPU_DRAIN
    sequence = np.lexsort((np.where(drained, -rows, rows), drained, mt, order, cpu))
    pages = PcpPages((frames + start).astype(np.int64), order, mt, cpu).take(sequence)
    counts = tuple(
        int(limits.get("count", 0)) - delta
        for limits, delta in zip(cpus, _flow(trace, zone, moment or 0, len(cpus)), strict=True)
    )
    return Located(pages, drained[sequence], counts)


def _reading(trace: Trace, moment: int) -> int:
    """The number of events before which flags may have been read; exact where the reading is stamped."""
    stamp = trace.snapshots.get("kpageflags_start")
    if isinstance(stamp, dict) and "trace_ns" in stamp:
        return int(np.searchsorted(trace.time_ns, np.uint64(max(int(stamp["trace_ns"][1]), 0))))
    at = int(trace.time_ns[min(moment, len(trace) - 1)])
    return int(np.searchsorted(trace.time_ns, np.uint64(at + _READING_NS)))


def _flow(trace: Trace, zone: dict[str, Any], moment: int, cpus: int) -> list[int]:
    """By how many pages the first ``moment`` events made each CPU's lists longer."""
    part = slice(0, moment)
    start, end = int(zone["start_pfn"]), int(zone["start_pfn"]) + int(zone["spanned"])
    order = trace.order[part].copy()
    fallbacks = trace.ext[trace.ext["event"] < moment]
    order[fallbacks["event"].astype(np.intp)] = fallbacks["alloc_order"]
    sign = np.zeros(256, np.int64)
    sign[[ZONE_LOCKED, FREE, EXTFRAG]] = 1
    sign[[ALLOC, PCPU_DRAIN]] = -1
    pages = sign[trace.kind[part]] << np.minimum(order, 20).astype(np.int64)
    pages[~np.isin(order, pcp_orders(trace))] = 0
    pages[(trace.pfn[part] < start) | (trace.pfn[part] >= end)] = 0
    return [int(pages[trace.cpu[part] == cpu].sum()) for cpu in range(cpus)]


def pcp_unseen(
    trace: Trace,
    zone: dict[str, Any],
    located: Located,
    candidates: Callable[[], _I64],
    block_mt: _U8,
    first: FirstEvents,
) -> PcpPages:
    """Places for the pages that are on a CPU's lists by count and that no event shows.

    ``candidates`` tells frames of the zone without a flag at both ends and untouched, int64.  They go to
    order-0 lists that never ran empty, from blocks of the list's type with the fewest candidates first; then
    whole pageblocks of candidates go to the list of that order.  What is left is not located.
    """
    size, start = 1 << trace.pageblock_order, int(zone["start_pfn"])
    lacking = [
        count - located.pages.take(located.pages.cpu == cpu).pages for cpu, count in enumerate(located.counts)
    ]
    if max(lacking, default=0) <= 0:
        return PcpPages.none()
    frames = candidates()
    emptied = emptied_lists(
        trace, first.event, first.events, start, start + int(zone["spanned"]), list_types(trace), COSTLY_ORDER
    )
    block = ((frames + start) >> trace.pageblock_order) - (start >> trace.pageblock_order)
    per = np.bincount(block, minlength=len(block_mt))
    rows = np.lexsort((frames, per[block]))
    rows = rows[per[block[rows]] < size]
    singles = {mt: frames[rows[block_mt[block[rows]] == mt]] for mt in range(3)}
    wholes = np.flatnonzero(per == size)
    found: list[tuple[_I64, int, int, int]] = []
    for cpu, missing in enumerate(lacking):
        for mt in (1, 0, 2):
            if missing > 0 and not emptied[cpu, 0, mt]:
                chosen, singles[mt] = singles[mt][:missing], singles[mt][missing:]
                found.append((chosen + start, 0, mt, cpu))
                missing -= len(chosen)
        number = max(missing, 0) // size
        chosen, wholes = wholes[:number], wholes[number:]
        pfn = (chosen + (start >> trace.pageblock_order)) << trace.pageblock_order
        # What was freed whole was a huge page of a user: its block is movable.
        movable = not emptied[cpu, trace.pageblock_order, 1]
        if movable or not emptied[cpu, trace.pageblock_order, 0]:
            found.append((pfn, trace.pageblock_order, int(movable), cpu))
    pages = [PcpPages.none()] + [
        PcpPages(
            pfn.astype(np.int64),
            *(np.full(len(pfn), value, np.uint8) for value in (order, mt, cpu)),
        )
        for pfn, order, mt, cpu in found
    ]
    return PcpPages(*(np.concatenate([getattr(p, k) for p in pages]) for k in ("pfn", "order", "mt", "cpu")))
