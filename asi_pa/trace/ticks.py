"""When each CPU's vmstat worker runs: about once a second it lowers ``high`` and drains what is above it.

decay_pcp_high (mm/page_alloc.c) runs from vmstat_update (mm/vmstat.c), a kworker of that CPU, every
vm.stat_interval (1 s).  No event says so, but its drains do: bursts of mm_page_pcpu_drain by a kworker that
follow no free of that CPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from asi_pa.trace.events import FREE, PCPU_DRAIN
from asi_pa.trace.format import Trace

__all__ = ["TICK_NS", "Tick", "Ticks", "all_ticks", "seen_ticks", "tick_phases"]

TICK_NS = 1_000_000_000
#: Of a gap without events, so many ticks are kept: `high` and the lists are at their least after fewer.
TICKS_PER_GAP = 60
#: A drain so soon after a free of its CPU is that free's; drains so close together are one burst.
_NEAR_NS = 20_000
_BIN_NS = 20_000_000
#: The worker runs within so much of its phase: its timer is rounded to a whole second, then up to the timer
#: wheel's grain (round_jiffies_relative(), calc_index() in kernel/time/timer.c: 8 jiffies for a wait of 64 to
#: 511 of them), and a kworker has to get its turn.
_OFF_NS = 2 * _BIN_NS
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
    part = slice(0, until)
    kind, cpus, times = trace.kind[part], trace.cpu[part], trace.time_ns[part].astype(np.int64)
    worker = np.array([name.startswith("kworker") for name in trace.comms])
    if not worker.any():  # a trace without names: anybody may be one
        worker = np.array([not name for name in trace.comms] or [True])
    by_worker = worker[np.minimum(trace.comm[part], len(worker) - 1)]
    drains = (kind == PCPU_DRAIN) & by_worker
    ticks = []
    for cpu in range(trace.cpus):
        mine = cpus == cpu
        when = times[drains & mine]
        frees = times[(kind == FREE) & mine & by_worker]
        when = when[np.diff(when, prepend=-TICK_NS) > _NEAR_NS]
        at = np.searchsorted(frees, when, side="right")
        last = np.where(at > 0, frees[np.maximum(at - 1, 0)] if len(frees) else 0, -TICK_NS)
        ticks.append(_phase(cpu, when[when - last > _NEAR_NS]))
    best = max(ticks, key=lambda tick: tick.seen)
    return tuple(tick if tick.seen else Tick(tick.cpu, best.phase_ns, 0) for tick in ticks)


def seen_ticks(trace: Trace, until: int | None = None) -> Ticks | None:
    """When each CPU's worker ran: where a burst says so, else at its phase; None where no tick is seen.

    ``until``: bursts of the first so many events only.
    """
    phases = tick_phases(trace, until)
    return _laid_out(trace, phases) if any(tick.seen for tick in phases) else None


def all_ticks(trace: Trace) -> Ticks:
    """`seen_ticks`, or once a second, all CPUs together, where no tick is seen."""
    together = tuple(Tick(cpu, 0, 0) for cpu in range(trace.cpus))
    return seen_ticks(trace) or _laid_out(trace, together, after=1)


def _laid_out(trace: Trace, phases: tuple[Tick, ...], after: int = 0) -> Ticks:
    times = np.maximum.accumulate(trace.time_ns.astype(np.int64))
    parts = [_times_of(times, tick, after) for tick in phases]
    when = np.concatenate(parts)
    cpu = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    rows = np.lexsort((cpu, when))
    return Ticks(when[rows].astype(np.uint64), cpu[rows].astype(np.uint8))


def _times_of(times: _I64, tick: Tick, after: int) -> _I64:
    """One CPU's ticks from number ``after`` on, i64[k]; of a long gap between events the last."""
    passed = np.floor_divide(times - tick.phase_ns, TICK_NS)
    before = np.concatenate([[after - 1], passed[:-1]])
    rows = np.flatnonzero(passed > before)
    count = np.minimum(passed[rows] - before[rows], TICKS_PER_GAP)
    ends = np.cumsum(count)
    number = np.repeat(passed[rows] - ends, count) + np.arange(1, int(count.sum()) + 1)
    seen = np.array(tick.seen_ns, np.int64)
    of_seen = (seen - tick.phase_ns + TICK_NS // 2) // TICK_NS
    when = tick.phase_ns + number * TICK_NS
    where = np.searchsorted(number, of_seen)
    there = (where < len(number)) & (number[np.minimum(where, len(number) - 1)] == of_seen)
    when[where[there]] = seen[there]
    return when


def _phase(cpu: int, when: _I64) -> Tick:
    """The median of times modulo a second, around where most of them are; those near it are ticks."""
    if not len(when):
        return Tick(cpu, 0, 0)
    offsets = when % TICK_NS
    bins = np.bincount(offsets // _BIN_NS, minlength=TICK_NS // _BIN_NS)
    centre = int((bins + np.roll(bins, -1)).argmax() + 1) * _BIN_NS
    turned = (offsets - centre + TICK_NS // 2) % TICK_NS
    near = np.abs(turned - TICK_NS // 2) <= _OFF_NS
    # Of what is drained in one tick with pauses between, the first.
    second = (when[near] - centre + TICK_NS // 2) // TICK_NS
    first = np.diff(second, prepend=-1) != 0
    phase = (int(np.median(turned[near][first])) + centre - TICK_NS // 2) % TICK_NS
    return Tick(cpu, phase, int(first.sum()), tuple(when[near][first].tolist()))
