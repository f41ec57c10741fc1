"""What one design does with one trace and one seed: found by search and by a replay where memory is short.

A row is plain data, so that it can be kept in a cache.  Sizes are MiB.  docs/method.md says why it is made
so.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from asi_pa.designs import Design
from asi_pa.experiment.measured import Measured
from asi_pa.experiment.measures import LEAST_DECLINABLE, NEEDED, taken
from asi_pa.experiment.metrics import measure
from asi_pa.experiment.probe import Failures, Relief, failures, requests
from asi_pa.experiment.runs import build
from asi_pa.experiment.search import on_lattice, smallest
from asi_pa.trace import CompiledTrace, Starts

__all__ = [
    "MIB",
    "SHORT",
    "Measure",
    "SeedStarts",
    "design_row",
    "linux_needs",
    "linux_row",
    "measured_at",
    "real_limit",
    "short_pages",
]

MIB = 256  # pages
#: "Memory short" is so many times what linux needs.
SHORT = 1.05
_FLOOR = 0.02
_FEW = 0.01
_KEPT = 12

Row = dict[str, Any]
#: (pages, start state, design) -> the measures, as `measured_at` takes them.
Measure = Callable[[int, CompiledTrace, Design], Row]


class SeedStarts:
    """Start states of one trace and seed, the last ones kept: designs ask for the same sizes."""

    def __init__(
        self, starts: Starts, whole: CompiledTrace, seed: int, most: int, measure: Measure | None = None
    ) -> None:
        self.starts, self.seed, self.most = starts, seed, most
        self.whole, self._measure = whole, measure
        self._kept: OrderedDict[int, CompiledTrace | None] = OrderedDict()

    def at(self, pages: int) -> CompiledTrace | None:
        """The start state of a size; None where what the trace frees does not fit without evicting others."""
        if pages not in self._kept:
            try:
                made: CompiledTrace | None = self.starts.at(pages, self.seed)
            except ValueError:
                made = None
            if made is not None and made.initial.get("evicted"):
                made = None
            self._kept[pages] = made
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(pages)
        return self._kept[pages]

    def measured(self, pages: int, design: Design, kernel: str | None, relief: Relief) -> Row | None:
        """The measures of a design on a size; None as in `at`."""
        compiled = self.at(pages)
        if compiled is None:
            return None
        if self._measure is not None:
            return self._measure(pages, compiled, design)
        return measured_at(compiled, design, kernel, relief, self.seed)


def real_limit(asked: int) -> int:
    """Real failures that a machine may have and still be large enough; none at all would hang on one."""
    return max(10, asked // 10_000)


def short_pages(needed_mib: float) -> int:
    """The size, in pages, at which memory is short, from the memory that linux needs."""
    return on_lattice(SHORT * needed_mib * MIB)


class _Search:
    """The searches for one design on the start states of one seed."""

    def __init__(
        self,
        starts: SeedStarts,
        design: Design,
        kernel: str | None,
        relief: Relief,
        linux: float | None,
        stopped: Callable[[], bool],
        *,
        roomy: bool = True,
    ) -> None:
        self.starts, self.design, self.kernel, self.relief = starts, design, kernel, relief
        self.linux = None if linux is None else linux * MIB
        self.stopped = stopped
        self.wants_roomy = roomy
        self.asked = requests(starts.whole)
        self.floored = False
        self._seen: dict[int, Failures] = {}

    def failures(self, pages: int, real: int) -> Failures | None:
        """What fails on a size, declined ones counted to the end where no more than ``real`` real ones do."""
        if self.stopped():
            raise KeyboardInterrupt
        if pages not in self._seen:
            compiled = self.starts.at(pages)
            if compiled is None:
                return None
            seed = self.starts.seed
            self._seen[pages] = failures(
                compiled, self.design, self.kernel, self.relief, seed, most_real=real
            )
        return self._seen[pages]

    def serves(self, pages: int) -> bool:
        """Whether the size is enough for the real requests."""
        limit = real_limit(self.asked.real)
        found = self.failures(pages, limit)
        good = found is not None and found.real <= limit
        if not good:
            self.floored = found is None
        return good

    def roomy(self, pages: int) -> bool:
        """Whether it is enough for those with another way, too."""
        found = self._seen[pages] if self.serves(pages) else None
        return found is not None and found.declined <= self.asked.declined // 100

    def _known_equal(self, fails: int, holds: int) -> bool:
        """No use in looking closer: linux needs as much, within the rule's floor."""
        linux = self.linux
        return linux is not None and holds <= linux and linux - fails <= max(_FLOOR * linux, 4 * MIB)

    def needed(self, guess: int, step: float) -> int | None:
        """The smallest size that serves, in pages."""
        return smallest(self.serves, guess, step=step, most=self.starts.most, enough=self._known_equal)

    def run(self, guess: int, step: float) -> Row:
        """``price``, ``roomy`` (MiB; None where all of memory is too little) and ``short``."""
        most = self.starts.most
        row: Row = {"price": None, "roomy": None, "floored": False, "short": None}
        if not self.asked.real + self.asked.declined + self.asked.huge:
            return row
        needed = self.needed(guess, step)
        row["floored"] = self.floored
        if needed is not None:
            row["price"] = needed / MIB
        linux = self.linux or needed
        if linux is None:
            return row
        short = min(short_pages(linux / MIB), most)
        row["short"] = self.starts.measured(short, self.design, self.kernel, self.relief)
        if self.wants_roomy and needed is not None and self.asked.declined >= LEAST_DECLINABLE:
            row["roomy"] = self._find_roomy(needed, short, row["short"])
        return row

    def _find_roomy(self, needed: int, short: int, measured: Row | None) -> float | None:
        if measured is not None and measured["declined"] <= _FEW:
            if self.roomy(needed):
                return needed / MIB
            least = smallest(self.roomy, short, step=1.02, most=self.starts.most, enough=self._close)
        else:
            least = smallest(
                self.roomy, round(short * 1.1), step=1.2, most=self.starts.most, enough=self._close
            )
        return None if least is None else max(least, needed) / MIB

    def _close(self, fails: int, holds: int) -> bool:
        """Near enough: within 2 %, or a fifth of what it is beyond linux."""
        beyond = holds - (self.linux or holds)
        return holds - fails <= max(_FLOOR * holds, beyond / 5)


def linux_row(
    starts: SeedStarts,
    linux: Design,
    kernel: str | None,
    relief: Relief,
    guess: int,
    stopped: Callable[[], bool] = lambda: False,
) -> Row:
    """The row of the reference; ``guess`` in pages."""
    return _Search(starts, linux, kernel, relief, None, stopped).run(guess, 1.03)


def linux_needs(
    starts: SeedStarts,
    linux: Design,
    kernel: str | None,
    relief: Relief,
    guess: int,
    stopped: Callable[[], bool] = lambda: False,
) -> float | None:
    """The ``price`` of the reference's row alone, MiB; None where nothing is asked for or all too little."""
    search = _Search(starts, linux, kernel, relief, None, stopped)
    asked = search.asked
    needed = search.needed(guess, 1.03) if asked.real + asked.declined + asked.huge else None
    return None if needed is None else needed / MIB


def design_row(
    starts: SeedStarts,
    design: Design,
    kernel: str | None,
    relief: Relief,
    linux: Row,
    stopped: Callable[[], bool] = lambda: False,
    *,
    roomy: bool = True,
) -> Row:
    """The row of another design, beside the reference's of the same seed; ``roomy``: search that, too."""
    needed = linux["price"]
    guess = starts.most if needed is None else round(needed * MIB)
    return _Search(starts, design, kernel, relief, needed, stopped, roomy=roomy).run(guess, 1.02)


def measured_at(
    compiled: CompiledTrace, design: Design, kernel: str | None, relief: Relief, seed: int
) -> Row:
    """The measures of a replay to the end; ``drawn``: whether what the seed draws played a part in it.

    That is the order in which page cache is reclaimed: without reclaim every seed gives the same.
    """
    machine, run, _ = build(compiled, design, kernel, seed=seed, log=False, **relief.options())
    run.run(compiled.ops)
    metrics = measure(Measured(compiled, machine, run, 0.0, 0), NEEDED)
    return {**taken(metrics, bool(design.protects)), "drawn": run.supply_used > 0}
