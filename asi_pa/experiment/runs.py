"""One compiled trace through one design: the machine in its initial state, the replay, what it did.

Metrics are defined in docs/use/metrics.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.designs import COMPARED, REFERENCE, Design, as_design
from asi_pa.engine.machine import Machine
from asi_pa.experiment.measured import Measured
from asi_pa.experiment.metrics import measure
from asi_pa.kernel.gfp import MODEL_LRU
from asi_pa.kernel.numa import cpu_nodes, cpulist
from asi_pa.kernel.sizing import parse_size, raised_for
from asi_pa.run.replay import Replay
from asi_pa.run.samples import Samples
from asi_pa.trace import CompiledTrace

__all__ = ["DEFAULT_DESIGNS", "SAMPLES", "Series", "build", "replay", "replayed", "supply_of"]

#: What ``compare`` shows unless asked otherwise.
DEFAULT_DESIGNS = COMPARED
#: Points of a time series.
SAMPLES = 200
_COLUMNS = 256


def _no_progress(_done: int, _total: int) -> None:
    pass


class Series:
    """What is looked at every so many operations."""

    def __init__(self, machine: Machine, compiled: CompiledTrace):
        self.machine, self.compiled = machine, compiled
        self.names = [ft.name for ft in machine.design.freetypes]
        # the zone with most memory is the one the map shows
        self.zone = max(range(len(machine.spec.zones)), key=lambda i: machine.spec.zones[i].spanned)
        self.samples = Samples(machine, self.zone, _COLUMNS)
        self.sample = self.samples.sample

    def series(self) -> dict[str, Any]:
        samples = self.samples
        free, op, flips = samples.free_pages, samples.op, samples.flips
        stamps = self.compiled.time_ns
        at = np.minimum(op // 1024, max(len(stamps) - 1, 0))
        out: dict[str, Any] = {
            "op": op.tolist(),
            "time_ns": stamps[at].tolist() if len(stamps) else [0] * len(op),
            "free_pages": {
                name: free[:, i].tolist() for i, name in enumerate([*self.names, "pool"]) if free[:, i].any()
            },
            "flushes": samples.flushes.tolist(),
            "flips_s2n": flips[:, 0].tolist(),
            "flips_n2s": flips[:, 1].tolist(),
            "unusable_index": samples.unusable_index.tolist(),
        }
        if self.machine.physmap is not None:
            leaves = samples.leaves
            out["restricted_leaves"] = {k: leaves[:, i].tolist() for i, k in enumerate(("4k", "2m", "1g"))}
            out["mapped_pages"] = samples.mapped_pages.tolist()
        return out

    def blockmap(self) -> dict[str, Any]:
        """Block kinds over time, numbered by what occurs."""
        grid = self.samples.blocks
        occurs = np.bincount(grid.ravel(), minlength=256) > 0
        number = np.cumsum(occurs) - 1
        legend = []
        for kind in np.flatnonzero(occurs).tolist():
            ft = self.machine.design.freetypes[kind & 0x3F]
            words = ["free"] if kind & 0x80 else []
            words.append(ft.name)
            if self.machine.design.protects and not self.machine.design.wrapper:
                words.append("mapped" if kind & 0x40 else "unmapped")
            legend.append(" ".join(words))
        return {
            "op": self.samples.op.tolist(),
            "columns": int(grid.shape[1]),
            "legend": legend,
            "rows": number[grid].tolist(),
        }


def supply_of(
    compiled: CompiledTrace, size: int | None, seed: int
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
    """Slots of single pages of the initial state that reclaim may free, in an order drawn from the seed, and
    the node of each.

    ``size`` None: every page of a file that the recorded machine had there; else so many bytes of what is on
    the LRU.
    """
    if (size, seed) in compiled.supplies:
        return compiled.supplies[size, seed]
    if size is None:
        slots = [p.held_slot[p.held_file & (p.held_order == 0)] for p in compiled.population]
    else:
        lru = (compiled.classes & np.uint32(MODEL_LRU)) != 0
        slots = [p.held_slot[lru[p.held_cls] & (p.held_order == 0)] for p in compiled.population]
    every = np.concatenate(slots)
    nids = np.array([zone.nid for zone in compiled.machine.zones], np.uint8)
    drawn = np.random.default_rng(seed).permutation(len(every))[: None if size is None else size // 4096]
    found = every[drawn].astype(np.uint32), np.repeat(nids, [len(of) for of in slots])[drawn]
    compiled.supplies[size, seed] = found
    return found


def build(
    compiled: CompiledTrace,
    design: Design,
    kernel: str | None = None,
    *,
    reclaim: int | None = 0,
    compaction: bool = False,
    seed: int = 0,
    fallbacks: bool = True,
    log: bool = True,
) -> tuple[Machine, Replay, dict[str, Any]]:
    """A machine in the trace's initial state: (machine, replay ready to run, notes on the state).

    ``reclaim``: bytes that reclaim may free; None: the pages of files that the recorded machine had.  Its
    watermarks are the design's own (``sizing.raised_for``).  ``log``: the physmap keeps its log of every
    change, which takes a third of the time of a design that maps page by page.
    """
    profile = kernel or compiled.kernel
    spec = raised_for(compiled.machine, design.khugepaged_pcptypes, kernel=profile)
    machine = Machine(spec, design, profile, boot=False)
    if machine.physmap is not None and not log:
        machine.physmap.stop_log()
    run = Replay(machine, compiled.classes, compiled.nslots, fallbacks)
    notes: dict[str, Any] = {"blocks": 0, "mapped_blocks": 0, "mixed_blocks": 0, "displaced": 0}
    for zone, population in enumerate(compiled.population):
        for key, value in run.populate(zone, population).items():
            notes[key] += value
    relieved = reclaim is None or reclaim > 0 or compaction
    if relieved:
        supply, nodes = supply_of(compiled, reclaim, seed)
        run.relieve(supply, compaction, nodes=nodes)
    notes["lost"] = run.place_displaced()
    if relieved:
        run.settle()
    return machine, run, notes


def replay(
    compiled: CompiledTrace,
    design: str | Design = REFERENCE,
    *,
    kernel: str | None = None,
    samples: int = SAMPLES,
    reclaim: str | int | None = 0,
    compaction: bool = False,
    seed: int = 0,
    fallbacks: bool = True,
    progress: Callable[[int, int], None] = _no_progress,
) -> dict[str, Any]:
    """Runs a compiled trace through one design.

    Returns the design's entry of a result: ``design``, ``title``, ``protects``, ``tree``, ``as_posted``,
    ``source``, ``metrics``, ``series`` and ``blockmap`` (``samples`` points), ``population`` and ``verify``
    ("ok", or the first broken invariant), and on a machine of several nodes ``nodes`` (`by_node`).
    ``reclaim`` is the supply of page cache that may be freed (a size; None: the recorded machine's own file
    pages), ``compaction`` lets requests that may block compact; with neither, a request fails where the
    kernel would begin to reclaim. ``seed`` draws the supply. ``fallbacks``: where a try of a known caller
    fails, the pages follow that it would ask for instead (``asi_pa.kernel.callers``). ``progress`` is called
    with (operations done, of).
    """
    return replayed(
        compiled, as_design(design), kernel=kernel, samples=samples,
        reclaim=parse_size(reclaim) if isinstance(reclaim, str) else reclaim,
        compaction=compaction, seed=seed, fallbacks=fallbacks, progress=progress,
    )[0]  # fmt: skip


def replayed(
    compiled: CompiledTrace,
    design: Design,
    *,
    kernel: str | None,
    samples: int,
    progress: Callable[[int, int], None] = _no_progress,
    **how: Any,
) -> tuple[dict[str, Any], Replay]:
    """What `replay` returns, and the replay itself; ``how``: as for `build`."""
    machine, run, population = build(compiled, design, kernel, log=False, **how)
    series = Series(machine, compiled)
    n = len(compiled.ops)
    stops = np.unique(np.linspace(0, n, max(samples, 2)).astype(int)).tolist()
    series.sample(0)
    seconds, at = 0.0, 0
    for stop in stops[1:]:
        began = time.perf_counter()
        run.run(compiled.ops, at, stop)
        seconds += time.perf_counter() - began
        at = stop
        series.sample(stop)
        progress(stop, n)
    broken = machine.verify()
    if broken is None and machine.physmap is not None:
        broken = machine.physmap.check()
    made = {
        "design": design.name,
        "title": design.title,
        "protects": design.protects,
        "as_posted": design.as_posted,
        "tree": design.tree,
        "source": list(design.source),
        "metrics": measure(Measured(compiled, machine, run, seconds, series.zone)),
        "series": series.series(),
        "blockmap": series.blockmap(),
        "population": population,
        "verify": broken or "ok",
    }
    return made | ({"nodes": by_node(compiled, run)} if compiled.nodes > 1 else {}), run


def by_node(compiled: CompiledTrace, run: Replay) -> list[dict[str, Any]]:
    """What a replay left on each node: the ``nodes`` of a design's entry, of a machine that has several."""
    zones, of_cpus = compiled.machine.zones, cpu_nodes(compiled.machine)
    mapped = [int(np.count_nonzero(run.block_kinds(k) & 0x40)) for k in range(len(zones))]
    return [
        {
            "node": nid,
            "cpus": cpulist([cpu for cpu, its in enumerate(of_cpus) if its == nid]),
            "pages": sum(zone.managed or 0 for zone in zones if zone.nid == nid),
            "mapped_blocks": sum(n for n, zone in zip(mapped, zones, strict=True) if zone.nid == nid),
            **counts,
        }
        for nid, counts in enumerate(run.counts_by_node())
    ]
