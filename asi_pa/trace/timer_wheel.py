"""At which jiffy each CPU's vmstat worker runs: what the kernel's timers make of "once a second".

vmstat_update() (mm/vmstat.c) asks to run again after round_jiffies_relative(HZ): at a whole second of
jiffies, three jiffies earlier for every CPU before it (round_jiffies_common(), kernel/time/timer.c).  The
timer wheel keeps a timer so far off in a slot of 8 jiffies, from 504 jiffies on of 64, and expires it at the
slot's end (LVL_START, calc_index()).  So the ticks are not a second apart: with HZ 250 those of CPU 0 come
8, 6, 4 and 2 jiffies after the whole second, those of CPU 1 0, -2, 4 and 2, and then anew.  Where a trace
shows some of them, HZ and the beginning of the seconds follow, and so do all the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["LATE_NS", "SECOND_NS", "Wheel", "fit"]

SECOND_NS = 1_000_000_000
#: CONFIG_HZ (kernel/Kconfig.hz), the most common first: of equal fits the first is taken.
HZ = (250, 1000, 100, 300)
#: A worker waits for its CPU so long at most; what begins later is no tick.
LATE_NS = 40_000_000
#: round_jiffies_common(): so many jiffies between the CPUs.
_SKEW = 3
_BIN_NS = 250_000
#: Bursts so close together are of one tick.
_ONE_NS = 1_000_000
#: So many bursts must begin where the wheel says.
_LEAST = 3
_I64: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Wheel:
    """The wheel by a trace's clock; a CPU's ticks are numbered by their second."""

    hz: int
    origin_ns: int
    """When a worker runs whose timer expires at jiffy 0, a multiple of both HZ and the grain."""
    on_time: int = 0
    """How many of the bursts that were seen begin just when it says."""

    @property
    def grain(self) -> int:
        """Jiffies of a slot in which a timer of about a second lies."""
        return 8 if self.hz < 504 else 64

    @property
    def period(self) -> int:
        """Seconds after which everything repeats."""
        return self.grain // math.gcd(self.grain, self.hz)

    def when(self, cpu: int, number: _I64) -> _I64:
        """The time of a CPU's ticks, ns."""
        jiffy = ((number * self.hz - _SKEW * cpu) // self.grain + 1) * self.grain
        return self.origin_ns + jiffy // self.hz * SECOND_NS + jiffy % self.hz * SECOND_NS // self.hz

    def last(self, cpu: int, time_ns: _I64) -> _I64:
        """The number of a CPU's last tick up to each time."""
        second, rest = np.divmod(time_ns - self.origin_ns, SECOND_NS)
        jiffy = second * self.hz + (rest * self.hz + self.hz - 1) // SECOND_NS
        number: _I64 = (jiffy // self.grain * self.grain + _SKEW * cpu - 1) // self.hz
        return number


def fit(bursts: Sequence[_I64]) -> Wheel | None:
    """The wheel that most bursts of drains agree with (each CPU's, ns); None where too few do."""
    found = [_fit(bursts, Wheel(hz, 0)) for hz in HZ]
    best = max(found, key=lambda wheel: wheel.on_time)
    return best if best.on_time >= _LEAST else None


def _fit(bursts: Sequence[_I64], wheel: Wheel) -> Wheel:
    """Each burst says where the origin can be, one place a second of the period: where most agree."""
    period = wheel.period * SECOND_NS
    seconds = np.arange(wheel.period)
    firsts = [when[np.diff(when, prepend=-SECOND_NS) > _ONE_NS] for when in bursts]
    places = [
        (when[:, None] - wheel.when(cpu, seconds)[None, :]).ravel() % period
        for cpu, when in enumerate(firsts)
    ]
    at = np.concatenate([np.zeros(0, np.int64), *places])
    bins = np.bincount(at // _BIN_NS, minlength=period // _BIN_NS)
    start = int((bins + np.roll(bins, -1)).argmax()) * _BIN_NS
    after = (at - start) % period
    near = after[after < 2 * _BIN_NS]
    return Wheel(wheel.hz, start + int(np.median(near)) if len(near) else 0, len(near))
