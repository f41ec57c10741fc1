"""Flip starvation: how much of the scarce kind a fragmented machine yields, design by design.

The reviewers' scenario for __GFP_UNMAPPED (msgid 20260320-page_alloc-unmapped-v2-0-28bf1bd54f41@google.com
and its review): fill 90 % of memory in chunks of 64 KiB, free three of every four, see that almost no free 2M
block is left, then ask for the scarce kind until a request fails.  The measure is the bytes obtained, against
the same demand on a machine where the surviving chunks lie side by side.

The scarce kind is what a design keeps least of: nonsensitive memory in the restricted tree's designs,
unmapped memory in the direct map's; for designs that protect nothing it is plain kernel memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from asi_pa.designs import DESIGNS, Design, as_design
from asi_pa.experiment import build
from asi_pa.kernel.gfp import GFP_NAMES, GFP_NOWAIT, MODEL_PINNED
from asi_pa.names import several
from asi_pa.run.replay import Replay
from asi_pa.trace import CompiledTrace, compile_trace
from asi_pa.trace.compile import OP_ALLOC, OP_FREE, OP_TICK
from asi_pa.trace.ops import OP
from asi_pa.trace.workloads import workload

__all__ = [
    "ALL_DESIGNS",
    "FREED",
    "PINNED",
    "CurvePoint",
    "Mode",
    "Scene",
    "Starvation",
    "curves",
    "curves_text",
    "modes",
    "modes_text",
    "starvation",
    "starvation_text",
    "starve",
]

#: Every built-in one, by its full name.
ALL_DESIGNS = tuple(name for name, design in DESIGNS.items() if name == design.name)
_STEP = 1024
_SENSITIVE = np.uint32(GFP_NAMES["__GFP_SENSITIVE"])
_MOBILITY = np.uint32(GFP_NAMES["__GFP_MOVABLE"] | GFP_NAMES["__GFP_RECLAIMABLE"])


@dataclass(frozen=True)
class Starvation:
    """One design's yield, in bytes obtained before the first failure."""

    design: str
    fresh: int
    """On the unfragmented machine."""
    stressed: int
    """Fragmented, without compaction."""
    compacted: int
    """Fragmented, with compaction for the order that the design asks for."""
    promoted: int
    """Fragmented, with compaction for a pageblock whenever a flip could help."""
    pages_moved: int
    """By that last one."""
    frames_scanned: int
    """By its two scanners."""
    deferred: int
    """Direct compactions of it that were turned away after failures."""
    free_blocks: int
    """Wholly free pageblocks when the asking began, of ``blocks``."""
    blocks: int


def compacts_for_both(design: Design) -> Design:
    """The design with compaction for a whole block whoever asks, where it flips at all."""
    return design if design.flips == "none" else replace(design, compaction="both")


def _for(compiled: CompiledTrace, design: Design) -> CompiledTrace:
    """The workload with the scarce kind of this design: in the direct map's designs the asker wants unmapped
    memory, and what fills the machine wants none of it."""
    if design.tree != "unrestricted":
        return compiled
    unmovable = (compiled.classes & _MOBILITY) == 0
    classes = np.where(unmovable, compiled.classes ^ _SENSITIVE, compiled.classes).astype(np.uint32)
    return replace(compiled, classes=classes)


@dataclass(frozen=True)
class _Asked:
    """What the asking brought, and what the machine was like when it began."""

    obtained: int
    stats: dict[str, int]
    free: int
    free_blocks: int
    blocks: int


def _ask(
    compiled: CompiledTrace, design: Design, asked: int, compaction: bool, kernel: str | None = None
) -> _Asked:
    machine, run, _ = build(_for(compiled, design), design, kernel, compaction=compaction)
    start = len(compiled.ops) - asked
    run.run(compiled.ops, 0, start)
    kinds = run.block_kinds()
    free = int(run.free_pages().sum()) * 4096
    for at in range(start, len(compiled.ops), _STEP):
        before = run.failures
        run.run(compiled.ops, at, min(at + _STEP, len(compiled.ops)))
        if run.failures > before:
            break
    broken = machine.verify()
    if broken is not None:
        raise RuntimeError(f"{design.name}: {broken}")
    obtained = run.allocations - run.failures - int((compiled.ops["op"][:start] == OP_ALLOC).sum())
    return _Asked(obtained * 4096, machine.stats(), free, int((kinds >= 0x80).sum()), len(kinds))


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One design's part of the scenario: a piece of work that an executor can be given."""

    design: str | Design
    memory: str | int
    unmovable: bool = False
    seed: int = 0
    kernel: str | None = None


@lru_cache(maxsize=4)
def _asking(name: str, memory: str | int, seed: int) -> CompiledTrace:
    """A workload compiled, the asking at its end: its last operations only where no tick is among them."""
    return _without_ticks(compile_trace(workload(name, memory, seed)))


def starve(scene: Scene) -> Starvation:
    """What the scenario yields.  Raises ValueError for unknown designs and sizes."""
    design, kernel = as_design(scene.design), scene.kernel
    name = "stress-unmovable" if scene.unmovable else "stress"
    stress = _asking(name, scene.memory, scene.seed)
    fresh = _asking("fresh", scene.memory, scene.seed)
    asked = int(np.count_nonzero((stress.ops["op"] == OP_ALLOC) & (stress.ops["order"] == 0)))
    baseline = _ask(fresh, design, asked, False, kernel)
    plain = _ask(stress, design, asked, False, kernel)
    own = _ask(stress, design, asked, True, kernel)
    both = _ask(stress, compacts_for_both(design), asked, True, kernel)
    return Starvation(
        design=design.name,
        fresh=baseline.obtained,
        stressed=plain.obtained,
        compacted=own.obtained,
        promoted=both.obtained,
        pages_moved=both.stats["compact_moved"],
        frames_scanned=both.stats["compact_migrate_scanned"] + both.stats["compact_free_scanned"],
        deferred=both.stats["compact_deferred"],
        free_blocks=plain.free_blocks,
        blocks=plain.blocks,
    )


def starvation(
    designs: str | Design | Sequence[str | Design] = ALL_DESIGNS,
    memory: str | int = "1G",
    *,
    unmovable: bool = False,
    seed: int = 0,
    kernel: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Starvation]:
    """The scenario for each design.

    Parameters
    ----------
    memory : size of the machine, 32M to 64G
    unmovable : the chunks cannot be moved, so compaction has nothing to work with
    seed : of the workload
    kernel : profile; None is the newest

    Raises ValueError for unknown designs and sizes.
    """
    rows = []
    for design in several(designs, Design):
        if progress:
            progress(as_design(design).name)
        rows.append(
            starve(Scene(design=design, memory=memory, unmovable=unmovable, seed=seed, kernel=kernel))
        )
    return rows


def _without_ticks(compiled: CompiledTrace) -> CompiledTrace:
    return replace(compiled, ops=compiled.ops[compiled.ops["op"] != OP_TICK])


def starvation_text(rows: Sequence[Starvation]) -> str:
    """A table for the terminal: MiB obtained, and the share of what the unfragmented machine yields."""
    names = "".join(f"{name:>17}" for name in ("fragmented", "+ compaction", "+ promotion"))
    lines = [f"{'design':24}{'fresh':>10}{names}{'pages moved':>13}{'scanned':>12}{'deferred':>10}"]
    for row in rows:
        cells = [f"{row.design:24}{row.fresh >> 20:>6} MiB"]
        for value in (row.stressed, row.compacted, row.promoted):
            share = 100 * value / row.fresh if row.fresh else 0.0
            cells.append(f"{value >> 20:>6} MiB {share:>5.0f}%")
        lines.append("".join(cells) + f"{row.pages_moved:>13,}{row.frames_scanned:>12,}{row.deferred:>10,}")
    for row in rows[:1]:
        lines.append(f"{row.design}: {row.free_blocks} of {row.blocks} pageblocks free when the asking began")
    return "\n".join(lines).rstrip() + "\n"


# ---------------------------------------------------------------- when does it starve?

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
    progress: Callable[[str], None] | None = None,
) -> list[CurvePoint]:
    """The scenario at every share of pinned chunks (percent of those that stay) and of freed ones.

    Raises ValueError for unknown designs and sizes, and shares outside 0..100 (freed: 75, what is freed now).
    """
    for name, shares, most in (("pinned", pinned, 100), ("freed", freed, 75)):
        for share in shares:
            if not 0 <= share <= most:
                raise ValueError(f"{name} {share}: not in 0..{most} percent")
    chosen = [as_design(d) for d in several(designs, Design)]
    stress = _asking("stress", memory, seed)
    asked = int(np.count_nonzero((stress.ops["op"] == OP_ALLOC) & (stress.ops["order"] == 0)))
    points = []
    for design in chosen:
        both = compacts_for_both(design)
        for of_freed in freed:
            for of_pinned in pinned:
                if progress:
                    progress(f"{design.name}, {of_freed} % freed, {of_pinned} % pinned")
                varied = _varied(stress, asked, of_pinned, of_freed, seed)
                plain = _ask(varied, design, asked, False, kernel)
                own = _ask(varied, design, asked, True, kernel)
                promoted = _ask(varied, both, asked, True, kernel)
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


# ---------------------------------------------------------------- the ways to compact

#: name -> priority of a direct compaction, None for the others.
_MODES: dict[str, int | None] = {
    "async": 2,
    "light": 1,
    "full": 0,
    "kcompactd": None,
    "proactive": None,
    "compact_memory": None,
}


@dataclass(frozen=True)
class Mode:
    """What one way to compact makes of the fragmented machine, on plain Linux."""

    mode: str
    kernel: str
    blocks: int
    """Pageblocks obtained (direct), or free at the end."""
    asked: int
    """How many were asked for, or how often it ran."""
    pages_moved: int
    migrate_scanned: int
    free_scanned: int
    deferred: int


def modes(memory: str | int = "1G", *, kernels: Sequence[str] = ("7.2", "6.12"), seed: int = 0) -> list[Mode]:
    """The scenario's machine, then an unmovable pageblock over and over by each way to compact.

    Direct compaction (as __alloc_pages_direct_compact does it, capture included) is asked as often as there
    are pageblocks; kcompactd runs whenever somebody who may not compact found none; the others run once.
    """
    stress = _asking("stress", memory, seed)
    asked = int(np.count_nonzero((stress.ops["op"] == OP_ALLOC) & (stress.ops["order"] == 0)))
    return [_mode(stress, asked, mode, kernel) for kernel in kernels for mode in _MODES]


def _kcompactd(compiled: CompiledTrace, run: Replay, start: int, block: int, times: int) -> int:
    """Pageblocks for somebody who may not compact himself, kcompactd running whenever there was none."""
    rows = np.zeros(1, OP)
    rows["op"], rows["order"], rows["cls"] = OP_ALLOC, block, len(compiled.classes) - 1
    got = 0
    for slot in compiled.ops["slot"][start : start + times].tolist():
        rows["slot"] = slot
        for attempt in range(2):
            if attempt:
                run.kcompactd(block)
            failures = run.failures
            run.run(rows)
            if run.failures == failures:
                got += 1
                break
    return got


def _mode(compiled: CompiledTrace, asked: int, mode: str, kernel: str) -> Mode:
    nowait = np.uint32(GFP_NOWAIT)
    compiled = replace(compiled, classes=np.append(compiled.classes, nowait))
    machine, run, _ = build(compiled, as_design("linux"), kernel, compaction=True)
    start = len(compiled.ops) - asked
    run.run(compiled.ops, 0, start)
    block = compiled.machine.pageblock_order
    nblocks = len(run.block_kinds())
    before, times, got = machine.stats(), 1, 0
    priority = _MODES[mode]
    if priority is not None:
        times, cls = nblocks, int(compiled.ops["cls"][start])
        for slot in compiled.ops["slot"][start : start + times].tolist():
            got += run.direct_compact(block, cls, slot, priority)[1] >= 0
    elif mode == "kcompactd":
        times = nblocks
        got = _kcompactd(compiled, run, start, block, times)
    else:
        run.compact_node(proactive=mode == "proactive")
    after = machine.stats()
    if mode in ("proactive", "compact_memory"):
        got = int((run.block_kinds() >= 0x80).sum())
    done = {name: after[name] - before[name] for name in after}
    return Mode(
        mode,
        kernel,
        got,
        times,
        done["compact_moved"],
        done["compact_migrate_scanned"],
        done["compact_free_scanned"],
        done["compact_deferred"],
    )


def modes_text(rows: Sequence[Mode]) -> str:
    """A table for the terminal."""
    names = ("pageblocks", "asked", "pages moved", "scanned: from", "to", "deferred")
    lines = [f"{'kernel':8}{'way':16}" + "".join(f"{name:>14}" for name in names)]
    for row in rows:
        cells = (
            row.blocks,
            row.asked,
            row.pages_moved,
            row.migrate_scanned,
            row.free_scanned,
            row.deferred,
        )
        lines.append(f"{row.kernel:8}{row.mode:16}" + "".join(f"{cell:>14,}" for cell in cells))
    return "\n".join(lines) + "\n"
