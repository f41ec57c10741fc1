"""One replay that is only to say how many requests fail, and which: what a search asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from asi_pa.designs import Design
from asi_pa.experiment.measured import grouped
from asi_pa.experiment.runs import build
from asi_pa.kernel.callers import WayOut
from asi_pa.run.replay import Replay
from asi_pa.trace import CompiledTrace
from asi_pa.trace.compile import OP_ALLOC

__all__ = ["Failures", "Relief", "failures", "requests"]

#: A probe is cut into so many pieces, between which it may end.
_PIECES = 24


@dataclass(frozen=True)
class Relief:
    """What relieves a shortage."""

    reclaim: int | None = None
    """Bytes that reclaim may free; None: the pages of files that the recorded machine had."""
    compaction: bool = True
    fallbacks: bool = True
    """Where a try of a known caller fails, the pages that it would ask for instead are asked for."""

    def options(self) -> dict[str, Any]:
        """For ``build`` and ``replay``."""
        return {"reclaim": self.reclaim, "compaction": self.compaction, "fallbacks": self.fallbacks}

    @classmethod
    def none(cls) -> Relief:
        """The bare allocator."""
        return cls(0, False)

    def words(self) -> str:
        """For the first line of every table."""
        more = [] if self.fallbacks else ["callers' fallbacks not replayed"]
        if self.reclaim == 0 and not self.compaction:
            return ", ".join(["no relief: requests fail where a kernel would begin to reclaim", *more])
        supply = "recorded file pages" if self.reclaim is None else f"{self.reclaim >> 20} MiB of page cache"
        parts = [f"{supply} can be reclaimed"] if self.reclaim != 0 else []
        return ", ".join([*parts, *["compaction"] * self.compaction, *more])


@dataclass(frozen=True)
class Failures:
    """Failed requests by group."""

    real: int
    declined: int
    huge: int


def requests(compiled: CompiledTrace) -> Failures:
    """Requests of a trace by group."""
    return Failures(**grouped(compiled.classes, compiled.kinds[OP_ALLOC]))


def _failed(run: Replay) -> Failures:
    by_way = run.failures_by_way_out().astype(np.int64)
    declined = int(by_way[WayOut.OPPORTUNISTIC, 0])
    return Failures(int(by_way[:, 0].sum()) - declined, declined, int(by_way[:, 1].sum()))


def failures(
    compiled: CompiledTrace,
    design: Design,
    kernel: str | None,
    relief: Relief,
    seed: int,
    *,
    most_real: int | None = None,
    most_declined: int | None = None,
) -> Failures:
    """What fails in a design, counted until a limit is passed (None: to the end)."""
    _, run, _ = build(compiled, design, kernel, seed=seed, log=False, **relief.options())
    found, at = Failures(0, 0, 0), 0
    for stop in np.linspace(0, len(compiled.ops), _PIECES + 1).astype(int).tolist()[1:]:
        run.run(compiled.ops, at, stop)
        at = stop
        if run.failures:
            found = _failed(run)
            if most_real is not None and found.real > most_real:
                break
            if most_declined is not None and found.declined > most_declined:
                break
    return found
