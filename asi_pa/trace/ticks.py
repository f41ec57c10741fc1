"""When each CPU's vmstat worker runs: about once a second it lowers ``high`` and drains what is above it.

decay_pcp_high (mm/page_alloc.c) runs from vmstat_update (mm/vmstat.c), a kworker of that CPU, every
vm.stat_interval (1 s).  No event says so, but its drains do: bursts of mm_page_pcpu_drain by a kworker that
follow no free of that CPU.  The ticks that are seen say where the timer wheel puts the others
(`asi_pa.trace.timer_wheel`); where they are too few for that, the others have their phase.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from asi_pa.trace.blocks import ranges
from asi_pa.trace.events import FREE, PCPU_DRAIN
from asi_pa.trace.format import Trace
from asi_pa.trace.timer_wheel import LATE_NS, SECOND_NS, Wheel, fit

__all__ = ["Tick", "Ticks", "all_ticks", "seen_ticks", "tick_phases", "wheel_of"]

#: Of a gap without events, so many ticks are kept: `high` and the lists are at their least after fewer.
TICKS_PER_GAP = 60
#: A drain so soon after a free of its CPU is that free's; drains so close together are one burst.
_NEAR_NS = 20_000
_BIN_NS = 20_000_000
#: A worker's bursts lie within so much of its phase: the timer wheel's grain, and it has to get its turn.
_OFF_NS = LATE_NS
#: By rounding, a burst may seem to begin so much before its tick.
_EARLY_NS = 1_000_000
_I64: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tick:
    """A CPU's worker: it runs at about ``phase_ns`` + k seconds of the trace; ``seen`` bursts say so."""

    cpu: int
    phase_ns: int
    seen: int
    seen_ns: tuple[int, ...] = field(default=(), repr=False)
    """When each of those bursts began."""


@dataclass(frozen=True)
class Ticks:
    """All ticks of a trace, in the order of time."""

    time_ns: npt.NDArray[np.uint64]
    cpu: npt.NDArray[np.uint8]


def tick_phases(trace: Trace, until: int | None = None) -> tuple[Tick, ...]:
    """The phase of each CPU's ticks, from the first ``until`` events (None: all).

    A CPU of which none is seen ticks with the one that is seen most: vmstat_shepherd (mm/vmstat.c) starts
    them together.
    """
    ticks = [_phase(cpu, when) for cpu, when in enumerate(_bursts(trace, until))]
    best = max(ticks, key=lambda tick: tick.seen)
    return tuple(tick if tick.seen else Tick(tick.cpu, best.phase_ns, 0) for tick in ticks)


def wheel_of(trace: Trace, until: int | None = None) -> Wheel | None:
    """The timer wheel as the bursts of the first ``until`` events show it; None where they are too few."""
    return fit(_bursts(trace, until))


def seen_ticks(trace: Trace, until: int | None = None) -> Ticks | None:
    """When each CPU's worker ran: where a burst says so, else where the wheel has it, or at its phase.

    None where no tick is seen.  ``until``: bursts of the first so many events only.
    """
    bursts = _bursts(trace, until)
    wheel = fit(bursts)
    if wheel is not None:
        return _laid_out(trace, [_OnWheel(wheel, cpu, when) for cpu, when in enumerate(bursts)])
    phases = tick_phases(trace, until)
    return _laid_out(trace, [_AtPhase(tick) for tick in phases]) if any(t.seen for t in phases) else None


def all_ticks(trace: Trace) -> Ticks:
    """`seen_ticks`, or once a second, all CPUs together, where no tick is seen."""
    return seen_ticks(trace) or _laid_out(trace, [_AtPhase(Tick(cpu, 0, 0)) for cpu in range(trace.cpus)])


class _OnWheel:
    """A CPU's ticks where the wheel has them; those seen, where they are seen."""

    def __init__(self, wheel: Wheel, cpu: int, bursts: _I64) -> None:
        self.wheel, self.cpu = wheel, cpu
        number = wheel.last(cpu, bursts + _EARLY_NS)
        late = bursts - wheel.when(cpu, number)
        ticks = (late < LATE_NS) & (np.diff(number, prepend=number[:1] - 1) != 0)
        self.seen, self.seen_ns = number[ticks], bursts[ticks]

    def last(self, times: _I64) -> _I64:
        return self.wheel.last(self.cpu, times)

    def when(self, number: _I64) -> _I64:
        return self.wheel.when(self.cpu, number)


class _AtPhase:
    """A CPU's ticks a whole number of seconds apart; those seen, where they are seen."""

    def __init__(self, tick: Tick) -> None:
        self.phase = tick.phase_ns
        self.seen_ns = np.array(tick.seen_ns, np.int64)
        self.seen = (self.seen_ns - self.phase + SECOND_NS // 2) // SECOND_NS

    def last(self, times: _I64) -> _I64:
        return np.floor_divide(times - self.phase, SECOND_NS)

    def when(self, number: _I64) -> _I64:
        return self.phase + number * SECOND_NS


def _laid_out(trace: Trace, cpus: Sequence[_OnWheel | _AtPhase]) -> Ticks:
    times = trace.time_ns.view(np.int64)
    if (times[1:] < times[:-1]).any():
        times = np.maximum.accumulate(times)
    # With no more than this between two events no tick of a gap is left out.
    long = np.flatnonzero(times[1:] - times[:-1] > TICKS_PER_GAP // 2 * SECOND_NS) + 1
    parts = [_times_of(times, np.concatenate([[0], long]), ticks) for ticks in cpus]
    when = np.concatenate(parts)
    cpu = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    rows = np.lexsort((cpu, when))
    return Ticks(when[rows].astype(np.uint64), cpu[rows].astype(np.uint8))


def _times_of(times: _I64, long: npt.NDArray[np.intp], ticks: _OnWheel | _AtPhase) -> _I64:
    """One CPU's ticks after the first moment, i64[k]; of a long gap between events the last.

    ``long``: the events that such gaps end with, and the first.
    """
    if not len(times):
        return np.zeros(0, np.int64)
    before = ticks.last(np.concatenate([[0], times[long[1:] - 1]]))
    passed = ticks.last(times[long])
    ends = np.append(before[1:], ticks.last(times[-1:]))
    of_gap = np.clip(passed - before, 0, TICKS_PER_GAP)
    begins = np.stack([passed - of_gap, np.maximum(passed, before)], axis=1) + 1
    counts = np.stack([of_gap, np.maximum(ends - begins[:, 1] + 1, 0)], axis=1)
    number = ranges(begins.ravel(), counts.ravel())
    when = ticks.when(number)
    where = np.searchsorted(number, ticks.seen)
    there = where < len(number)  # nowhere, if all of the trace lies between two ticks
    there[there] = number[where[there]] == ticks.seen[there]
    when[where[there]] = ticks.seen_ns[there]
    return when


def _bursts(trace: Trace, until: int | None) -> list[_I64]:
    """When bursts of drains by a kworker began that follow no free of its CPU, of each CPU, ns."""
    part = slice(0, until)
    kind, cpus, times = trace.kind[part], trace.cpu[part], trace.time_ns[part].view(np.int64)
    worker = np.array([name.startswith("kworker") for name in trace.comms])
    if not worker.any():  # a trace without names: anybody may be one
        worker = np.array([not name for name in trace.comms] or [True])

    def of_worker(what: int) -> tuple[_I64, npt.NDArray[np.uint8]]:
        rows = np.flatnonzero(kind == what)
        rows = rows[worker[np.minimum(trace.comm[rows], len(worker) - 1)]]
        return times[rows], cpus[rows]

    (drained, drained_on), (freed, freed_on) = of_worker(PCPU_DRAIN), of_worker(FREE)
    bursts = []
    for cpu in range(trace.cpus):
        when, frees = drained[drained_on == cpu], freed[freed_on == cpu]
        when = when[np.diff(when, prepend=-SECOND_NS) > _NEAR_NS]
        at = np.searchsorted(frees, when, side="right")
        last = np.where(at > 0, frees[np.maximum(at - 1, 0)] if len(frees) else 0, -SECOND_NS)
        bursts.append(when[when - last > _NEAR_NS])
    return bursts


def _phase(cpu: int, when: _I64) -> Tick:
    """The median of times modulo a second, around where most of them are; those near it are ticks."""
    if not len(when):
        return Tick(cpu, 0, 0)
    offsets = when % SECOND_NS
    bins = np.bincount(offsets // _BIN_NS, minlength=SECOND_NS // _BIN_NS)
    centre = int((bins + np.roll(bins, -1)).argmax() + 1) * _BIN_NS
    turned = (offsets - centre + SECOND_NS // 2) % SECOND_NS
    near = np.abs(turned - SECOND_NS // 2) <= _OFF_NS
    # Of what is drained in one tick with pauses between, the first.
    second = (when[near] - centre + SECOND_NS // 2) // SECOND_NS
    first = np.diff(second, prepend=-1) != 0
    phase = (int(np.median(turned[near][first])) + centre - SECOND_NS // 2) % SECOND_NS
    return Tick(cpu, phase, int(first.sum()), tuple(when[near][first].tolist()))
