"""Events in order of time: a text whose times run backwards, and the pieces of one recording.

ftrace keeps a buffer for each CPU, and ``per_cpu/cpuN/trace`` shows one of them: put one after the other, or
given as several files, they are one recording whose events belong in order of time.  Replayed in the order of
the file they would invent repairs and another peak.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.limits import claim
from asi_pa.trace.format import EVENT_COLUMNS, EXT, Trace

__all__ = ["Columns", "are_pieces", "in_order", "joined", "merged"]

#: Arrays by the names of `EVENT_COLUMNS`.
Columns = dict[str, Any]
#: Bytes an event that sorting takes at most: indices, keys, and both copies of the columns.
_SORTING = 80


def in_order(
    columns: Columns, ext: npt.NDArray[np.void], *, reversed_text: bool, where: str
) -> tuple[Columns, npt.NDArray[np.void], int]:
    """Events sorted by time; of equal times those stay as they were that come from one piece.

    ``columns`` are the event columns with times modulo 2^64 from some event; ``reversed_text``: no event is
    later than the one before, so the text stands on its head.  Returns columns whose times begin at 0,
    extfrag rows that name the new places, and where time began.  Raises ValueError, led by ``where``, if two
    events of one CPU from different pieces bear the same time: nothing tells their order then.
    """
    times = columns["time_ns"].astype(np.int64)
    count = len(times)
    claim(f"{where}: time runs backwards; putting {count} events in order", _SORTING * count)
    if reversed_text:
        order = np.arange(count - 1, -1, -1)
    else:
        order = np.argsort(times, kind="stable")
        _refuse_ties(times, columns["cpu"], where)
    began = int(times[order[0]])
    made = {name: np.ascontiguousarray(column[order]) for name, column in columns.items()}
    made["time_ns"] = (times[order] - began).astype(np.uint64)
    place = np.empty(count, np.int64)
    place[order] = np.arange(count)
    rows = ext.copy()
    rows["event"] = place[ext["event"].astype(np.int64)]
    rows = rows[np.argsort(rows["event"], kind="stable")]
    for column in made.values():
        column.flags.writeable = False
    return made, rows, began


def _refuse_ties(times: npt.NDArray[np.int64], cpu: npt.NDArray[np.uint8], where: str) -> None:
    """ValueError where a CPU's own times run backwards and two of its pieces have events of one time.

    Buffers of several CPUs that were printed in turn are no such case: each CPU's events stand in their
    order.
    """
    by_cpu = np.argsort(cpu, kind="stable")
    of, own = cpu[by_cpu], times[by_cpu]
    back = (np.diff(own) < 0) & (np.diff(of.astype(np.int64)) == 0)
    if not back.any():
        return
    piece = np.concatenate([[0], np.cumsum(back)])
    order = np.lexsort((piece, own, of))
    of, own, piece = of[order], own[order], piece[order]
    same = int(((np.diff(own) == 0) & (of[1:] == of[:-1]) & (np.diff(piece) != 0)).sum())
    if same:
        raise ValueError(
            f"{where}: time runs backwards, and {same} times events of one CPU bear the same time on both "
            f"sides of such "
            "a place: nothing tells their order (sort the text by time, or print nanoseconds: perf script "
            "--ns)"
        )


def are_pieces(traces: Sequence[Trace]) -> bool:
    """Are these texts pieces of one recording: each with CPUs of its own, and of one time or of one CPU
    each?"""
    if len(traces) < 2 or any("began_ns" not in trace.provenance for trace in traces):
        return False
    seen: set[int] = set()
    single = True
    for trace in traces:
        cpus = set(np.unique(trace.cpu).tolist())
        if cpus & seen:
            return False
        seen |= cpus
        single &= len(cpus) == 1
    if single:
        return True
    spans = sorted(_span(trace) for trace in traces)
    return all(later[0] <= max(end for _, end in spans[: i + 1]) for i, later in enumerate(spans[1:]))


def _span(trace: Trace) -> tuple[int, int]:
    began = int(trace.provenance["began_ns"])
    return began, began + int(trace.time_ns[-1])


def joined(traces: Sequence[Trace]) -> list[Trace]:
    """The traces; one instead of all where they are pieces of one recording."""
    return [merged(traces)] if are_pieces(traces) else list(traces)


def merged(traces: Sequence[Trace]) -> Trace:
    """One trace of several texts, their events in order of time.

    Raises ValueError for traces that do not say when they began, and where events of one CPU from different
    ones bear the same time.
    """
    for trace in traces:
        if "began_ns" not in trace.provenance:
            raise ValueError(f"{trace.label}: only texts can be put together, they say when each event was")
    gfps = list(dict.fromkeys(mask for trace in traces for mask in trace.gfps))
    comms = list(dict.fromkeys(comm for trace in traces for comm in trace.comms))
    if max(len(gfps), len(comms)) > 0x10000:
        raise ValueError("together more than 65536 different command names or gfp masks")
    first = min(_span(trace)[0] for trace in traces)
    parts: list[Columns] = []
    rows: list[npt.NDArray[np.void]] = []
    before = 0
    for trace in traces:
        part: Columns = {name: getattr(trace, name) for name in EVENT_COLUMNS}
        part["time_ns"] = part["time_ns"] + np.uint64(_span(trace)[0] - first)
        part["gfp"] = np.array([gfps.index(mask) for mask in trace.gfps], np.uint16)[trace.gfp]
        part["comm"] = np.array([comms.index(comm) for comm in trace.comms] or [0], np.uint16)[trace.comm]
        parts.append(part)
        moved = trace.ext.copy()
        moved["event"] += before
        rows.append(moved)
        before += len(trace)
    columns: Columns = {name: np.concatenate([part[name] for part in parts]) for name in EVENT_COLUMNS}
    where = "+".join(str(trace.provenance.get("source", trace.name)) for trace in traces)
    columns, ext, began = in_order(
        columns, np.concatenate([np.zeros(0, EXT), *rows]), reversed_text=False, where=where
    )
    known = [trace.lost for trace in traces if trace.lost is not None]
    about: dict[str, Any] = {
        "source": where,
        "format": "text",
        "began_ns": first + began,
        "merged": len(traces),
    }
    for key in ("lines", "other_events", "lost_places", "remarks", "stack_lines", "time_steps_back"):
        total = sum(int(trace.provenance.get(key, 0)) for trace in traces)
        if total or key in ("lines", "other_events"):
            about[key] = total
    if any(trace.provenance.get("mobility_grouping") == "off" for trace in traces):
        about["mobility_grouping"] = "off"
    return replace(
        traces[0],
        name="+".join(trace.name for trace in traces),
        path="+".join(trace.path for trace in traces),
        **columns,
        gfps=tuple(gfps),
        comms=tuple(comms),
        cpus=max(trace.cpus for trace in traces),
        lost=sum(known) if known else None,
        ext=ext,
        provenance=about,
    )
