"""Flip starvation: how much of the scarce kind a fragmented machine yields, design by design.

The reviewers' scenario for __GFP_UNMAPPED (msgid 20260320-page_alloc-unmapped-v2-0-28bf1bd54f41@google.com
and its review): fill 90 % of memory in chunks of 64 KiB, free three of every four, see that almost no free 2M
block is left, then ask for the scarce kind until a request fails.  The measure is the bytes obtained, against
the same demand on a machine where the surviving chunks lie side by side.

The scarce kind is what a design keeps least of: nonsensitive memory in the restricted tree's designs,
unmapped memory in the direct map's; for designs that protect nothing it is plain kernel memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from asi_pa.designs import DESIGNS, Design, as_design
from asi_pa.experiment import build
from asi_pa.experiment.costs import LABEL, Costs, compaction_time, duration, load_costs
from asi_pa.kernel.gfp import GFP_NAMES
from asi_pa.names import several
from asi_pa.trace import CompiledTrace, compile_trace
from asi_pa.trace.compile import OP_ALLOC, OP_TICK
from asi_pa.trace.workloads import workload

__all__ = [
    "ALL_DESIGNS",
    "Asked",
    "Scene",
    "Starvation",
    "ask",
    "asked_in",
    "asking",
    "compacts_for_both",
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
    modelled_ns: float
    """What moves and scans take by the table of costs: a cost model, not a measurement."""
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
class Asked:
    """What the asking brought, and what the machine was like when it began."""

    obtained: int
    stats: dict[str, int]
    free: int
    free_blocks: int
    blocks: int


def ask(
    compiled: CompiledTrace, design: Design, asked: int, compaction: bool, kernel: str | None = None
) -> Asked:
    """Runs a workload whose last ``asked`` operations ask for the scarce kind, until one of them fails."""
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
    return Asked(obtained * 4096, machine.stats(), free, int((kinds >= 0x80).sum()), len(kinds))


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One design's part of the scenario: a piece of work that an executor can be given."""

    design: str | Design
    memory: str | int
    unmovable: bool = False
    seed: int = 0
    kernel: str | None = None
    costs: Costs = field(default_factory=load_costs)


def _time(stats: Mapping[str, int], costs: Costs) -> float:
    names = ("compact_moved", "compact_migrate_scanned", "compact_free_scanned")
    return compaction_time(costs, *(stats[name] for name in names))


def asked_in(compiled: CompiledTrace) -> int:
    """How many of its last operations ask: the only ones for single pages."""
    return int(np.count_nonzero((compiled.ops["op"] == OP_ALLOC) & (compiled.ops["order"] == 0)))


@lru_cache(maxsize=4)
def asking(name: str, memory: str | int, seed: int) -> CompiledTrace:
    """A workload compiled, the asking at its end: its last operations only where no tick is among them."""
    return _without_ticks(compile_trace(workload(name, memory, seed)))


def starve(scene: Scene) -> Starvation:
    """What the scenario yields.  Raises ValueError for unknown designs and sizes."""
    design, kernel = as_design(scene.design), scene.kernel
    name = "stress-unmovable" if scene.unmovable else "stress"
    stress = asking(name, scene.memory, scene.seed)
    fresh = asking("fresh", scene.memory, scene.seed)
    asked = asked_in(stress)
    baseline = ask(fresh, design, asked, False, kernel)
    plain = ask(stress, design, asked, False, kernel)
    own = ask(stress, design, asked, True, kernel)
    both = ask(stress, compacts_for_both(design), asked, True, kernel)
    return Starvation(
        design=design.name,
        fresh=baseline.obtained,
        stressed=plain.obtained,
        compacted=own.obtained,
        promoted=both.obtained,
        pages_moved=both.stats["compact_moved"],
        frames_scanned=both.stats["compact_migrate_scanned"] + both.stats["compact_free_scanned"],
        modelled_ns=_time(both.stats, scene.costs),
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
    costs: Costs | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Starvation]:
    """The scenario for each design.

    Parameters
    ----------
    memory : size of the machine, 32M to 64G
    unmovable : the chunks cannot be moved, so compaction has nothing to work with
    seed : of the workload
    kernel : profile; None is the newest
    costs : what a moved and a scanned page take; None: the table that comes along

    Raises ValueError for unknown designs and sizes.
    """
    rows, costs = [], costs or load_costs()
    for design in several(designs, Design):
        if progress:
            progress(as_design(design).name)
        rows.append(
            starve(
                Scene(
                    design=design, memory=memory, unmovable=unmovable, seed=seed, kernel=kernel, costs=costs
                )
            )
        )
    return rows


def _without_ticks(compiled: CompiledTrace) -> CompiledTrace:
    return replace(compiled, ops=compiled.ops[compiled.ops["op"] != OP_TICK])


def starvation_text(rows: Sequence[Starvation]) -> str:
    """A table for the terminal: MiB obtained, and the share of what the unfragmented machine yields."""
    names = "".join(f"{name:>17}" for name in ("fragmented", "+ compaction", "+ promotion"))
    lines = [
        f"{'design':24}{'fresh':>10}{names}{'pages moved':>13}{'scanned':>12}{'time':>9}{'deferred':>10}"
    ]
    for row in rows:
        cells = [f"{row.design:24}{row.fresh >> 20:>6} MiB"]
        for value in (row.stressed, row.compacted, row.promoted):
            share = 100 * value / row.fresh if row.fresh else 0.0
            cells.append(f"{value >> 20:>6} MiB {share:>5.0f}%")
        lines.append(
            "".join(cells) + f"{row.pages_moved:>13,}{row.frames_scanned:>12,}"
            f"{duration(row.modelled_ns):>9}{row.deferred:>10,}"
        )
    for row in rows[:1]:
        lines.append(f"{row.design}: {row.free_blocks} of {row.blocks} pageblocks free when the asking began")
    lines.append(f"time: of moves and scans, by the table of costs; {LABEL}")
    return "\n".join(lines).rstrip() + "\n"
