"""One unit of an audit's work: a design's search of one small machine, as far as its limits allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from asi_pa.audit.scopes import Scope
from asi_pa.audit.search import Batch, Search
from asi_pa.audit.shrink import shrink
from asi_pa.designs import Design
from asi_pa.engine.machine import Machine

__all__ = ["Alone", "Helpers", "Raw", "Searched", "Unit", "UnitResult", "search_unit"]

Worker = TypeVar("Worker")
Part = TypeVar("Part")

#: Operations of a random walk.
WALK = 200
#: Of a unit's operations or seconds, what random walks get.
WALK_SHARE = 0.2
#: Walks made with one seed.
WALKS = 500
#: States of a level that one helper takes at a time, and how many such batches are merged together.
BATCH = 64
ROUND = 64
#: No limit on operations.
_MOST = 1 << 62
#: Seconds of exploring between looks at who could help and at Ctrl-C.
SLICE = 0.2


@dataclass(frozen=True, kw_only=True)
class Searched:
    """How far a scope was searched."""

    scope: Scope
    depth: int
    """Every sequence of this many operations was tried."""
    closed: bool
    """Every reachable state was met: longer sequences lead nowhere new."""
    states: int
    """Distinct states, up to symmetry."""
    transitions: int
    """Operations carried out and checked, those of random walks included."""
    seconds: float
    """Of processor time."""
    stopped: str
    """"closed", "depth", "states", "operations", "seconds" or "memory"."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.scope.name,
            "about": self.scope.about,
            "depth": self.depth,
            "closed": self.closed,
            "states": self.states,
            "transitions": self.transitions,
            "seconds": round(self.seconds, 3),
            "stopped": self.stopped,
        }


@dataclass(frozen=True)
class Raw:
    """A pair of broken invariant and mechanism, by number, and the shortest steps that were found for it."""

    invariant: int
    mechanism: int
    frame: int
    steps: npt.NDArray[np.void]
    """STEP_DTYPE."""
    results: npt.NDArray[np.int64]
    minimal: bool
    """No shorter sequence exists in the scope; False: from a random walk, shortened."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What to search, and how far.  It can be pickled wherever its design can."""

    design: Design
    """Scaled (``asi_pa.audit.scopes.scaled``)."""
    scope: Scope
    depth: int
    states: int
    operations: int | None
    """Carried out and checked at most; None: no limit."""
    seconds: float | None
    """Of processor time at most; None: no limit.  With it how far the search comes depends on the machine."""
    seed: int = 0
    liveness: bool = True


@dataclass(frozen=True)
class UnitResult:
    """How far a unit was searched, and what it broke."""

    searched: Searched
    raw: list[Raw]


class Helpers(Protocol):
    """Who carries out a unit's batches: other threads, where some have nothing to do."""

    def idle(self) -> bool:
        """Whether anybody could help now."""

    def stopped(self) -> bool:
        """Whether the search is to end as soon as it can."""

    def together(
        self,
        count: int,
        work: Callable[[Worker, int], Part],
        own: Worker,
        make: Callable[[], Worker],
        spare: list[Worker],
    ) -> list[Part]:
        """``[work(worker, 0), ... work(worker, count - 1)]``, each with a worker of a thread's own."""


_Found = tuple[int, int, int, "npt.NDArray[np.void]"]
"""What a walk broke: invariant, mechanism, frame, steps."""


class Alone:
    """No helpers."""

    def idle(self) -> bool:
        """Nobody could help."""
        return False

    def stopped(self) -> bool:
        """Nobody stops it."""
        return False

    def together(
        self,
        count: int,
        work: Callable[[Worker, int], Part],
        own: Worker,
        make: Callable[[], Worker],
        spare: list[Worker],
    ) -> list[Part]:
        """One after the other."""
        return [work(own, number) for number in range(count)]


class _Arm:
    """A search with the machine that it searches."""

    def __init__(self, unit: Unit) -> None:
        scope = unit.scope
        self.machine = Machine(scope.machine, unit.design)
        self.search = Search(
            self.machine,
            [(request.gfp, 0, scope.orders()) for request in scope.requests],
            scope.contig,
            windows=scope.windows,
            liveness=unit.liveness,
            ticks=scope.machine.zones[0].pcp is not None,
            symmetry=not scope.compaction,
            compaction=scope.compaction,
        )


class _Driver:
    """A unit under way."""

    def __init__(self, unit: Unit, helpers: Helpers) -> None:
        self.unit = unit
        self.helpers = helpers
        self.arm = _Arm(unit)
        self.spare: list[_Arm] = []
        self.walked = 0
        self.walk_seconds = 0.0

    def explore(self) -> str:
        """Breadth first to a limit; says which."""
        unit, search = self.unit, self.arm.search
        operations = _MOST if unit.operations is None else int(unit.operations * (1 - WALK_SHARE))
        seconds = float("inf") if unit.seconds is None else unit.seconds * (1 - WALK_SHARE)
        stopped = "seconds"
        while not self.helpers.stopped():
            left = seconds - search.seconds
            if search.frontier >= 2 * BATCH and search.depth < unit.depth and self.helpers.idle():
                self._round(operations)
            else:
                search.explore(unit.depth, unit.states, min(left, SLICE), operations)
            stopped = search.stopped
            self.arm.machine.raise_hook_error()
            if stopped != "seconds" or search.seconds >= seconds:
                break
        return stopped

    def _round(self, operations: int) -> None:
        """A part of the level in batches, expanded side by side and merged in order."""
        search = self.arm.search
        ahead = min(search.frontier, ROUND * BATCH)
        starts = range(0, ahead, BATCH)

        def collect(arm: _Arm, number: int) -> Batch:
            first = starts[number]
            batch = arm.search.collect(search, first, min(BATCH, ahead - first))
            arm.machine.raise_hook_error()
            return batch

        for batch in self._together(len(starts), collect):
            if not search.merge(batch, self.unit.states, operations):
                break

    def walk(self) -> list[Raw]:
        """Random walks from where exploring ended; what they broke that it did not, shortened."""
        unit, search = self.unit, self.arm.search
        if search.closed:
            return []
        walks = max(search.transitions // (4 * WALK), 50)
        if unit.operations is not None:
            walks = max(min(walks, (unit.operations - search.transitions) // WALK), 1)
        chunks = -(-walks // WALKS)
        seconds = float("inf") if unit.seconds is None else unit.seconds

        found: dict[tuple[int, int], _Found] = {}
        first = 0
        while first < chunks and search.seconds + self.walk_seconds < seconds:
            if self.helpers.stopped():
                break
            numbers = range(first, min(first + (ROUND if self.helpers.idle() else 1), chunks))
            for some, walked, took in self._walk_some(numbers, walks):
                self.walked += walked
                self.walk_seconds += took
                for one in some:
                    found.setdefault(one[:2], one)
            first = numbers.stop
        return [self._shortened(*one) for one in found.values()]

    def _walk_some(self, numbers: range, walks: int) -> list[tuple[list[_Found], int, float]]:
        """The walks of these seeds."""
        search = self.arm.search

        def walk(arm: _Arm, at: int) -> tuple[list[_Found], int, float]:
            seed = self.unit.seed << 20 | numbers[at]
            answer = arm.search.walk(seed, WALK, min(WALKS, walks - numbers[at] * WALKS), search)
            arm.machine.raise_hook_error()
            return answer

        return self._together(len(numbers), walk)

    def _together(self, count: int, work: Callable[[_Arm, int], Part]) -> list[Part]:
        return self.helpers.together(count, work, self.arm, lambda: _Arm(self.unit), self.spare)

    def _shortened(self, invariant: int, mechanism: int, frame: int, steps: npt.NDArray[np.void]) -> Raw:
        search = self.arm.search
        short = shrink(search, steps, (invariant, mechanism), self.helpers.stopped)
        return Raw(invariant, mechanism, frame, short, search.replay(short)[1], False)


def search_unit(unit: Unit, helpers: Helpers | None = None) -> UnitResult:
    """Explores a scope breadth first, then walks at random from where that ended.

    The result is the same with any helpers and without, unless the unit's seconds end it.  Raises what a
    design written in Python raised, and MemoryError.
    """
    driver = _Driver(unit, helpers or Alone())
    stopped = driver.explore()
    search = driver.arm.search
    raw = driver.walk()
    raw += [
        Raw(invariant, mechanism, frame, steps, search.replay(steps)[1], True)
        for invariant, mechanism, frame, steps in search.findings()
    ]
    searched = Searched(
        scope=unit.scope,
        depth=search.depth,
        closed=search.closed,
        states=search.states,
        transitions=search.transitions + driver.walked,
        seconds=search.seconds + driver.walk_seconds,
        stopped=stopped,
    )
    return UnitResult(searched, raw)
