"""One replay that is only to say how many requests fail, and which: what a search asks for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from asi_pa.designs import Design
from asi_pa.experiment.runs import build
from asi_pa.trace import CompiledTrace
from asi_pa.trace.compile import OP_ALLOC
from asi_pa.trace.groups import GROUPS

__all__ = ["Failures", "Relief", "by_group", "failures", "requests"]

#: A probe is cut into so many pieces, between which it may end.
_PIECES = 24


@dataclass(frozen=True)
class Relief:
    """What relieves a shortage."""

    reclaim: int | None = None
    """Bytes that reclaim may free; None: the pages of files that the recorded machine had."""
    compaction: bool = True

    @classmethod
    def none(cls) -> Relief:
        """The bare allocator."""
        return cls(0, False)

    def words(self) -> str:
        """For the first line of every table."""
        if self == Relief.none():
            return "no relief: requests fail where a kernel would begin to reclaim"
        supply = "recorded file pages" if self.reclaim is None else f"{self.reclaim >> 20} MiB of page cache"
        parts = [f"{supply} can be reclaimed"] if self.reclaim != 0 else []
        return ", ".join(parts + ["compaction"] * self.compaction)


@dataclass(frozen=True)
class Failures:
    """Failed requests by group."""

    real: int
    declined: int
    huge: int


def requests(compiled: CompiledTrace) -> Failures:
    """Requests of a trace by group."""
    ops = compiled.ops
    return by_group(compiled, np.bincount(ops["cls"][ops["op"] == OP_ALLOC], minlength=256))


def by_group(compiled: CompiledTrace, by_class: npt.NDArray[np.int64]) -> Failures:
    sums = dict.fromkeys(GROUPS, 0)
    for cls, group in enumerate(compiled.groups):
        if group:
            sums[group] += int(by_class[cls])
    return Failures(**sums)


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
    _, run, _ = build(
        compiled, design, kernel, reclaim=relief.reclaim, compaction=relief.compaction, seed=seed
    )
    found, at = Failures(0, 0, 0), 0
    for stop in np.linspace(0, len(compiled.ops), _PIECES + 1).astype(int).tolist()[1:]:
        run.run(compiled.ops, at, stop)
        at = stop
        if run.failures:
            found = by_group(compiled, run.failures_by_class().astype(np.int64))
            if most_real is not None and found.real > most_real:
                break
            if most_declined is not None and found.declined > most_declined:
                break
    return found
