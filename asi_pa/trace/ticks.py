"""When each CPU's vmstat worker runs: about once a second it lowers ``high`` and drains what is above it.

decay_pcp_high (mm/page_alloc.c) runs from vmstat_update (mm/vmstat.c), a kworker of that CPU, every
vm.stat_interval (1 s).  No event says so, but its drains do: bursts of mm_page_pcpu_drain by a kworker that
follow no free of that CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asi_pa.trace.events import FREE, PCPU_DRAIN
from asi_pa.trace.format import Trace

__all__ = ["TICK_NS", "Tick", "first_ticks", "tick_phases"]

TICK_NS = 1_000_000_000
#: A drain so soon after a free of its CPU is that free's; drains so close together are one burst.
_NEAR_NS = 20_000
_BIN_NS = 20_000_000


@dataclass(frozen=True)
class Tick:
    """A CPU's worker: it runs at ``phase_ns`` + k seconds of the trace's time; ``seen`` bursts say so."""

    cpu: int
    phase_ns: int
    seen: int


def tick_phases(trace: Trace, until: int | None = None) -> tuple[Tick, ...]:
    """The phase of each CPU's ticks, from the first ``until`` events (None: all).

    A CPU of which none is seen ticks with the one that is seen most: vmstat_shepherd (mm/vmstat.c) starts
    them together.
    """
    part = slice(0, until)
    kind, cpus, times = trace.kind[part], trace.cpu[part], trace.time_ns[part].astype(np.int64)
    worker = np.array([name.startswith("kworker") or not name for name in trace.comms] or [True])
    drains = (kind == PCPU_DRAIN) & worker[np.minimum(trace.comm[part], len(worker) - 1)]
    ticks = []
    for cpu in range(trace.cpus):
        mine = cpus == cpu
        when = times[drains & mine]
        frees = times[(kind == FREE) & mine]
        when = when[np.diff(when, prepend=-TICK_NS) > _NEAR_NS]
        at = np.searchsorted(frees, when, side="right")
        last = np.where(at > 0, frees[np.maximum(at - 1, 0)] if len(frees) else 0, -TICK_NS)
        when = when[when - last > _NEAR_NS]
        ticks.append(Tick(cpu, *_phase(when)))
    best = max(ticks, key=lambda tick: tick.seen)
    return tuple(tick if tick.seen else Tick(tick.cpu, best.phase_ns, 0) for tick in ticks)


def first_ticks(trace: Trace, until: int | None = None) -> list[int] | None:
    """When each CPU's worker runs first, ns; None where no tick is seen."""
    ticks = tick_phases(trace, until)
    return [tick.phase_ns for tick in ticks] if any(tick.seen for tick in ticks) else None


def _phase(when: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> tuple[int, int]:
    """The median of times modulo a second, around where most of them are; and how many are near it."""
    if not len(when):
        return 0, 0
    offsets = when % TICK_NS
    bins = np.bincount(offsets // _BIN_NS, minlength=TICK_NS // _BIN_NS)
    centre = int((bins + np.roll(bins, -1)).argmax() + 1) * _BIN_NS
    turned = (offsets - centre + TICK_NS // 2) % TICK_NS
    near = np.abs(turned - TICK_NS // 2) <= 2 * _BIN_NS
    # Of what is drained in one tick with pauses between, the first.
    second = (when[near] - centre + TICK_NS // 2) // TICK_NS
    found = turned[near][np.diff(second, prepend=-1) != 0]
    return (int(np.median(found)) + centre - TICK_NS // 2) % TICK_NS, len(found)
