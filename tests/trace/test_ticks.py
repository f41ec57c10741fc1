"""When the vmstat workers run: where their drains say so, else at their phase."""

from __future__ import annotations

from typing import Any

import numpy as np

from asi_pa.trace.classify import Classifier
from asi_pa.trace.compile import OP_TICK, operations
from asi_pa.trace.ticks import TICKS_PER_GAP, all_ticks, seen_ticks, tick_phases
from tests.trace.events import make_trace

MS = 1_000_000
COMMS = ("kworker", "task")


def trace_of(*rows: tuple[Any, ...]) -> Any:
    """(kind, comm, cpu, time in ms) each, and an allocation every 100 ms of six seconds, of CPU 0's task."""
    regular = [("alloc", 1, 0, 100.0 * k) for k in range(61)]
    events = sorted([*regular, *rows], key=lambda row: row[3])
    return make_trace(
        [
            (kind, 64 + 4 * k, 0, 0, comm, cpu, int(at * MS), 0)
            for k, (kind, comm, cpu, at) in enumerate(events)
        ],
        comms=COMMS,
    )


def bursts(cpu: int, *times: float) -> list[tuple[Any, ...]]:
    """Drains by a kworker, two each."""
    return [("pcpu_drain", 0, cpu, at + part) for at in times for part in (0, 0.001)]


def test_a_tick_is_where_its_burst_begins() -> None:
    trace = trace_of(*bursts(0, 350, 1342, 3358), *bursts(1, 334.5, 2330))
    first, second = tick_phases(trace)
    assert (first.seen, second.seen) == (3, 2)
    assert first.phase_ns == 350 * MS
    ticks = seen_ticks(trace)
    assert ticks is not None
    of = [(ticks.time_ns[ticks.cpu == cpu] / MS).tolist() for cpu in (0, 1)]
    assert of[0] == [350, 1342, 2350, 3358, 4350, 5350]
    assert of[1][0] == 334.5
    assert of[1][2] == 2330
    assert of[1][1] == of[1][3] - 2000 == second.phase_ns / MS + 1000
    assert (np.diff(ticks.time_ns.astype(np.int64)) >= 0).all()


def test_drains_that_follow_a_free_of_the_worker_are_that_free_s() -> None:
    trace = trace_of(*bursts(0, 350, 1350, 2350), ("free", 0, 0, 3349.99), *bursts(0, 3350))
    assert tick_phases(trace)[0].seen == 3
    # what another task freed just before the worker ran is not the worker's
    trace = trace_of(*bursts(0, 350, 1350, 2350), ("free", 1, 0, 3349.99), *bursts(0, 3350))
    assert tick_phases(trace)[0].seen == 4
    assert tick_phases(trace_of(("pcpu_drain", 1, 0, 350.0)))[0].seen == 0


def test_where_none_is_seen() -> None:
    trace = trace_of()
    assert seen_ticks(trace) is None
    ticks = all_ticks(trace)
    assert ticks.time_ns.tolist() == [k * 1000 * MS for k in range(1, 7) for _ in range(2)]
    assert ticks.cpu.tolist() == [0, 1] * 6
    # a CPU of which none is seen goes with the other
    one = seen_ticks(trace_of(*bursts(1, 800, 1800)))
    assert one is not None
    assert set(one.time_ns[one.cpu == 0] // MS % 1000) == {800}


def test_only_the_first_events_count_as_evidence() -> None:
    trace = trace_of(*bursts(0, 350, 1342, 3358))
    some = seen_ticks(trace, until=5)
    assert some is not None
    assert (some.time_ns[some.cpu == 0] // MS).tolist() == [350 + 1000 * k for k in range(6)]


def test_a_gap_has_at_most_so_many() -> None:
    trace = trace_of(*bursts(0, 350), ("alloc", 1, 0, 1e9))
    ticks = seen_ticks(trace)
    assert ticks is not None
    assert (ticks.cpu == 0).sum() == 6 + TICKS_PER_GAP
    assert ticks.time_ns.max() <= trace.time_ns.max()


def test_operations_have_them_in_the_order_of_time() -> None:
    """Between the same two allocations the CPU that ticks first comes first, whatever its number."""
    trace = trace_of(*bursts(0, 350, 1350), *bursts(1, 320, 1320))
    ticks = seen_ticks(trace)
    ops = np.concatenate([part for part, *_ in operations(trace, Classifier.parse(), ticks=ticks)])
    assert ops["cpu"][ops["op"] == OP_TICK].tolist() == [1, 0] * 6
    # a tick whose drains were recorded stands between what came before and after them
    parts = [part for part, *_ in operations(trace, Classifier.parse(), ticks=ticks, cuts=[4, 2, 61, 2])]
    assert (parts[1]["op"] == OP_TICK).sum() == 1
