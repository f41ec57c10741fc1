"""When the vmstat workers run: where their drains say so, else where the wheel, or their phase, has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from asi_pa.trace.classify import Classifier
from asi_pa.trace.compile import OP_TICK, operations
from asi_pa.trace.ticks import TICKS_PER_GAP, all_ticks, seen_ticks, tick_phases, wheel_of
from asi_pa.trace.timer_wheel import Wheel
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


def times_of(trace: Any, cpu: int, until: int | None = None) -> list[float]:
    ticks = seen_ticks(trace, until)
    assert ticks is not None
    assert (np.diff(ticks.time_ns.astype(np.int64)) >= 0).all()
    return [float(at) for at in ticks.time_ns[ticks.cpu == cpu] / MS]


def test_a_tick_is_where_its_burst_begins() -> None:
    trace = trace_of(*bursts(0, 350, 1341), *bursts(1, 334.5, 2330))
    assert wheel_of(trace) is None
    first, second = tick_phases(trace)
    assert (first.seen, second.seen) == (2, 2)
    assert first.phase_ns == 345.5 * MS
    assert times_of(trace, 0) == [350, 1341, *(345.5 + 1000 * k for k in range(2, 6))]
    one = times_of(trace, 1)
    assert one[0] == 334.5
    assert one[2] == 2330
    assert one[1] == one[3] - 2000 == second.phase_ns / MS + 1000


#: Of a recorded guest with HZ 250 and two CPUs, ms: each second has its jiffies, the same again after four.
SEEN = ((356.3, 5348.3), (324.3, 2348.3))
ON_WHEEL = ((356.3, 1348.3, 2340.3, 3332.3, 4356.3, 5348.3), (324.3, 1316.3, 2340.3, 3332.3, 4324.3, 5316.3))


def test_ticks_that_are_seen_say_where_the_wheel_has_the_others() -> None:
    trace = trace_of(*bursts(0, *SEEN[0]), *bursts(1, *SEEN[1]))
    wheel = wheel_of(trace)
    assert wheel is not None
    assert (wheel.hz, wheel.grain, wheel.period, wheel.on_time) == (250, 8, 4, 3)
    assert times_of(trace, 0) == pytest.approx(ON_WHEEL[0])
    # the third second's had to wait for its CPU: it is where it is seen
    late = [2348.3 if at == 2340.3 else at for at in ON_WHEEL[1]]
    assert times_of(trace, 1) == pytest.approx(late)
    # what begins far from any tick is none
    other = trace_of(*bursts(0, *SEEN[0], 3800), *bursts(1, *SEEN[1]))
    assert times_of(other, 0) == pytest.approx(ON_WHEEL[0])
    # one on time too few, and there is no wheel
    assert wheel_of(trace, until=30) is None


@pytest.mark.parametrize("hz", [100, 250, 300, 1000])
@pytest.mark.parametrize("cpu", [0, 1, 63])
def test_a_wheel_s_ticks_are_numbered_as_they_come(hz: int, cpu: int) -> None:
    """As the kernel reckons: round_jiffies_common(), then calc_index()."""
    wheel = Wheel(hz, 123_456_789)
    numbers = np.arange(-20, 200)
    times = wheel.when(cpu, numbers)
    slot = 8 if hz < 504 else 64
    for number, at in zip(numbers.tolist(), times.tolist(), strict=True):
        asked = number * hz - 3 * cpu
        expires = asked // slot * slot + slot
        assert abs(at - wheel.origin_ns - expires * 1e9 / hz) < 2
    assert (np.diff(times) > 0.9e9).all()
    np.testing.assert_array_equal(wheel.last(cpu, times), numbers)
    np.testing.assert_array_equal(wheel.last(cpu, times - 1), numbers - 1)
    np.testing.assert_array_equal(wheel.when(cpu, numbers + wheel.period) - times, wheel.period * 10**9)


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
    assert times_of(trace, 0, until=5) == [350 + 1000 * k for k in range(6)]


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
