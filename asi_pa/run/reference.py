"""The recorded machine at every event: what a prediction is compared with.

`Course` compiles a trace in its start state and knows which operation belongs to which event; `follow`
carries out the recorded decisions (`asi_pa.run.track`) and samples the free lists on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.engine.machine import Machine
from asi_pa.run.recorded import block_counts, pcp_counts, typed_free
from asi_pa.run.replay import Replay
from asi_pa.run.settle import (
    busiest,
    freetypes,
    recorded_free,
    recorded_moment,
    requests,
)
from asi_pa.run.start import compile_trace
from asi_pa.run.track import Tracker
from asi_pa.trace import CompiledTrace, Trace
from asi_pa.trace.classify import Classifier
from asi_pa.trace.compile import OP_ALLOC, OP_FREE, OP_SPLIT, operations
from asi_pa.trace.events import ALLOC
from asi_pa.trace.frames import recorded_zones
from asi_pa.trace.ticks import all_ticks, seen_ticks

__all__ = ["Course", "Followed", "State", "follow", "state_of", "untraced"]

NO_PFN = 0xFFFFFFFF
#: A snapshot of the end without a stamp is looked for in so much of the trace.
_WINDOW_NS = 3_000_000_000
_I64 = npt.NDArray[np.int64]


@dataclass
class State:
    """A zone's lists in numbers."""

    typed: _I64
    """i64[freetypes, orders]: free blocks."""
    pcp: _I64
    """i64[cpus]: pages on each CPU's lists."""
    blocks: _I64
    """i64[freetypes]: pageblocks."""

    @property
    def free(self) -> _I64:
        """i64[orders]: free blocks."""
        counts: _I64 = self.typed.sum(axis=0)
        return counts


def state_of(machine: Machine, zone: int) -> State:
    """What a machine's zone looks like now."""
    return State(typed_free(machine, zone), pcp_counts(machine, zone), block_counts(machine, zone))


class Course:
    """A trace that can be followed: compiled in its start state, with the zone that it is about.

    Raises ValueError for a trace without the snapshots of its start, or without allocations.
    """

    def __init__(
        self,
        trace: Trace,
        *,
        kernel: str | None = None,
        evidence: int | None = None,
        compiled: CompiledTrace | None = None,
    ):
        missing = [name for name in ("zones", "buddyinfo") if f"{name}_start" not in trace.snapshots]
        missing += ["kpageflags"] * ("start" not in trace.kpageflags)
        if missing:
            raise ValueError(
                f"trace {trace.name}: no {', '.join(missing)} of the start, so nothing is known to compare "
                "with (asi-pa record takes them)"
            )
        zones = [zone for zone in recorded_zones(trace) if busiest(trace, zone)]
        if not zones:
            raise ValueError(f"trace {trace.name}: no zone has most of the events")
        self.trace, self.record = trace, zones[0]
        self.ticks = seen_ticks(trace, evidence)
        if compiled is None or compiled.counts["recorded_tries"]:
            compiled = compile_trace(trace, recorded=True, evidence=evidence, tries=False)
        self.compiled: CompiledTrace = compiled
        self.kernel = kernel or self.compiled.kernel
        names = [(zone.name, zone.nid) for zone in self.compiled.machine.zones]
        self.zone = names.index((str(self.record["name"]), int(self.record.get("nid", 0))))
        self.notes: dict[str, Any] = self.compiled.initial[
            self.record["name"] + (f"/{names[self.zone][1]}" if names[self.zone][1] else "")
        ]
        asked = trace.kind == ALLOC
        ops = self.compiled.ops["op"] == OP_ALLOC
        #: Events that the ALLOC operations come from, in order; one that failed there asks, too.
        self.allocs = np.flatnonzero(asked)
        if not len(self.allocs) or len(self.allocs) != int(ops.sum()):
            raise ValueError(
                f"trace {trace.name}: {len(self.allocs)} allocations, {int(ops.sum())} operations of them"
            )
        self.pfns = trace.pfn[self.allocs].astype(np.int64)
        self.before = np.concatenate([[0], np.cumsum(ops)])
        self._operations: dict[int, int] = {}
        self._further: _I64 = np.zeros(0, np.int64)

    def operations_at(self, events: Sequence[int]) -> _I64:
        """How many operations the first so many events make, i64, for ascending numbers of events.

        What was asked once is known: ask for all of them together first.
        """
        if set(events) - self._operations.keys():
            self._count_operations(events)
        counts = np.array([self._operations[event] for event in events], np.int64)
        return counts + np.searchsorted(self._further, counts)

    def shifted_by(self, where: _I64) -> None:
        """Further operations were put before those of these numbers, ascending."""
        self._further = where

    def _count_operations(self, events: Sequence[int]) -> None:
        trace, rule = self.trace, Classifier.parse()
        cuts = np.unique(np.array([0, *events, len(trace)], np.int64))
        counts, total = [0], 0
        chunks = iter(np.diff(cuts).tolist())
        for part, _, _ in operations(trace, rule, cuts=list(chunks), ticks=self.ticks):
            total += len(part)
            counts.append(total)
        if total != len(self.compiled.ops) - len(self._further):
            raise ValueError(f"trace {trace.name}: {total} operations, {len(self.compiled.ops)} compiled")
        self._operations.update(zip(cuts.tolist(), counts, strict=True))

    def start(
        self, compiled: CompiledTrace | None = None, kernel: str | None = None
    ) -> tuple[Machine, Replay]:
        """A machine of plain Linux in the start state."""
        compiled = compiled or self.compiled
        machine = Machine(compiled.machine, "linux", kernel or self.kernel, boot=False)
        run = Replay(machine, compiled.classes, compiled.nslots, fallbacks=False)
        for zone, population in enumerate(compiled.population):
            run.populate(zone, population)
        run.place_displaced()
        return machine, run

    def slots_at(self, operation: int) -> npt.NDArray[np.uint32]:
        """u32[slots]: where the recorded allocations are after so many operations; 2^32 - 1 for none."""
        slots = np.full(self.compiled.nslots, NO_PFN, np.uint32)
        for population in self.compiled.population:
            slots[population.held_slot] = population.held_pfn
        ops = self.compiled.ops[:operation]
        value = np.full(len(ops), NO_PFN, np.uint32)
        rows = np.flatnonzero(ops["op"] == OP_ALLOC)
        value[rows] = self.pfns[: len(rows)]
        moves = (ops["op"] == OP_ALLOC) | (ops["op"] == OP_FREE)
        at = 0
        for split in [*np.flatnonzero(ops["op"] == OP_SPLIT).tolist(), len(ops)]:
            part = np.flatnonzero(moves[at:split]) + at
            slots[ops["slot"][part]] = value[part]  # of several, the last one stays
            if split < len(ops):
                slot, size = int(ops["slot"][split]), 1 << int(ops["order"][split])
                if slots[slot] != NO_PFN:
                    slots[slot : slot + size] = slots[slot] + np.arange(size, dtype=np.uint32)
            at = split + 1
        return slots


@dataclass
class Followed:
    """The recorded machine as the trace shows it."""

    states: dict[int, State]
    """By number of events that had happened."""
    one_step: dict[str, list[int]]
    untraced: int
    ghosts: int
    refilled: int
    drained: int
    end_event: int
    """When the end's buddyinfo was read, in events; the last event without one."""
    end_off: int | None
    """Pages in blocks of the wrong order there; None without a buddyinfo of the end."""
    fallbacks: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    """(event, order, fallback order, freetype, fallback freetype)."""
    without_event: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Allocations that no event shows: (event before which they were, CPU, order, pfn)."""


def _tracker(course: Course) -> Tracker:
    machine, _ = course.start()
    return Tracker(machine, requests(course.trace), freetypes(course.trace), all_ticks(course.trace))


def untraced(course: Course) -> list[tuple[int, int, int, int]]:
    """The allocations without an event that following a trace shows, as ``Followed.without_event``."""
    tracker = _tracker(course)
    tracker.run(course.trace, 0, len(course.trace))
    return list(tracker.without_event)


def follow(
    course: Course,
    moments: Sequence[int],
    visit: tuple[Sequence[int], Callable[[Machine, int], None]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Followed:
    """Carries out what was recorded; samples after each of ``moments`` events (ascending), and at the end.

    ``visit``: numbers of events, and what is called after each with the machine and the number.
    """
    trace = course.trace
    visited, see = visit or ((), None)
    wanted = recorded_free(trace, course.record, "end")
    stamped = recorded_moment(trace, "end")
    last = len(trace)
    first = int(np.searchsorted(trace.time_ns, np.uint64(max(int(trace.time_ns[-1]) - _WINDOW_NS, 0))))
    if stamped is not None:
        first, last = min(stamped[0], len(trace)), max(min(stamped[1], len(trace)), 1)
    tracker = _tracker(course)
    states = {0: state_of(tracker.machine, course.zone)}
    nearest: tuple[int, int] | None = None
    at = 0
    for stop in sorted({*moments, *visited, first, last, len(trace)} - {0}):
        if wanted is not None and first <= at < last:
            tracker.run(trace, at, stop, wanted, course.zone)
            found = tracker.nearest
            if found is not None and (nearest is None or found[1] < nearest[1]):
                nearest = found
        else:
            tracker.run(trace, at, stop)
        at = stop
        states[stop] = state_of(tracker.machine, course.zone)
        if see is not None and stop in visited:
            see(tracker.machine, stop)
        if progress:
            progress(stop, len(trace))
    end = len(trace) if nearest is None else int(nearest[0])
    again = _tracker(course)
    again.run(trace, 0, end)
    states[end] = state_of(again.machine, course.zone)
    return Followed(
        states,
        tracker.one_step(),
        int(tracker.untraced),
        int(tracker.ghosts),
        int(again.refilled),
        int(again.drained),
        end,
        None if nearest is None else int(nearest[1]) // 2,
        list(tracker.fallbacks),
        list(tracker.without_event),
    )
