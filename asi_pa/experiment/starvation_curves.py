"""When does a design starve?  The scenario over the share of chunks that are pinned and of free memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from asi_pa.designs import Design, as_design
from asi_pa.experiment.starvation import ALL_DESIGNS, ask, asked_in, asking, compacts_for_both
from asi_pa.kernel.gfp import MODEL_PINNED
from asi_pa.names import several
from asi_pa.trace import CompiledTrace
from asi_pa.trace.compile import OP_ALLOC, OP_FREE

__all__ = ["FREED", "PINNED", "CurvePoint", "curves", "curves_text"]

#: Shares of the surviving chunks that somebody pins, in percent.
PINNED = (0, 1, 2, 5, 10, 20, 50, 100)
#: Shares of the chunks that are freed, in percent: the free memory.
FREED = (75, 50, 25, 10)


@dataclass(frozen=True)
class CurvePoint:
    """A design's yield at one share of pinned pages and of free memory, in bytes before the first failure."""

    design: str
    pinned: int
    """Percent of the surviving chunks that cannot move."""
    freed: int
    """Percent of the chunks that were freed."""
    free: int
    """Bytes free when the asking began."""
    plain: int
    """Without compaction."""
    compacted: int
    """With compaction as the design asks for it."""
    promoted: int
    """With compaction for a pageblock whenever a flip could help."""
    pages_moved: int
    """By that last one."""


def _varied(compiled: CompiledTrace, asked: int, pinned: int, freed: int, seed: int) -> CompiledTrace:
    """The scenario with so many percent of the chunks freed, and so many of those that stay pinned."""
    rng = np.random.default_rng(seed)
    start = len(compiled.ops) - asked
    filled, asking = compiled.ops[:start].copy(), compiled.ops[start:]
    chunks = np.flatnonzero((filled["op"] == OP_ALLOC) & (filled["order"] == 4))
    frees = np.flatnonzero(filled["op"] == OP_FREE)
    kept = rng.permutation(frees)[: max(0, len(frees) - len(chunks) * freed // 100)]
    filled = np.delete(filled, kept)
    chunks = np.flatnonzero((filled["op"] == OP_ALLOC) & (filled["order"] == 4))
    gone = np.isin(filled["slot"][chunks], filled["slot"][filled["op"] == OP_FREE])
    still = rng.permutation(chunks[~gone])
    still = still[: len(still) * pinned // 100]
    classes = compiled.classes
    if len(still):
        classes = np.append(classes, classes[filled["cls"][still[0]]] | np.uint32(MODEL_PINNED))
        filled["cls"][still] = len(classes) - 1
    return replace(compiled, ops=np.concatenate([filled, asking]), classes=classes)


def curves(
    designs: str | Design | Sequence[str | Design] = ALL_DESIGNS,
    memory: str | int = "1G",
    *,
    pinned: Sequence[int] = PINNED,
    freed: Sequence[int] = FREED,
    seed: int = 0,
    kernel: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[CurvePoint]:
    """The scenario at every share of pinned chunks (percent of those that stay) and of freed ones.

    Raises ValueError for unknown designs and sizes, and shares outside 0..100 (freed: 75, what is freed now).
    """
    for name, shares, most in (("pinned", pinned, 100), ("freed", freed, 75)):
        for share in shares:
            if not 0 <= share <= most:
                raise ValueError(f"{name} {share}: not in 0..{most} percent")
    chosen = [as_design(d) for d in several(designs, Design)]
    stress = asking("stress", memory, seed)
    asked = asked_in(stress)
    points: list[CurvePoint] = []
    total = len(chosen) * len(freed) * len(pinned)
    for design in chosen:
        both = compacts_for_both(design)
        for of_freed in freed:
            for of_pinned in pinned:
                if progress:
                    progress(f"{design.name}, {of_freed} % freed, {of_pinned} % pinned", len(points), total)
                varied = _varied(stress, asked, of_pinned, of_freed, seed)
                plain = ask(varied, design, asked, False, kernel)
                own = ask(varied, design, asked, True, kernel)
                promoted = ask(varied, both, asked, True, kernel)
                points.append(
                    CurvePoint(
                        design=design.name,
                        pinned=of_pinned,
                        freed=of_freed,
                        free=plain.free,
                        plain=plain.obtained,
                        compacted=own.obtained,
                        promoted=promoted.obtained,
                        pages_moved=promoted.stats["compact_moved"],
                    )
                )
    return points


def curves_text(points: Sequence[CurvePoint]) -> str:
    """Per design and free memory a line: the share of free memory that is obtained, at each share pinned."""
    shares = sorted({point.pinned for point in points})
    heading = "".join(f"{f'{share} %':>8}" for share in shares)
    lines = [f"{'design':24}{'freed':>6}{'free':>10}  {'compaction':12}{heading}   (pinned)"]
    for name, freed in dict.fromkeys((point.design, point.freed) for point in points):
        row = {point.pinned: point for point in points if (point.design, point.freed) == (name, freed)}
        free = row[shares[0]].free
        for way in ("plain", "compacted", "promoted"):
            cells = "".join(f"{100 * getattr(row[share], way) / free:>7.0f}%" for share in shares)
            lines.append(f"{name:24}{freed:>5}%{free >> 20:>6} MiB  {way:12}{cells}")
    return "\n".join(lines) + "\n"
