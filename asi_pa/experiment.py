"""Experiments: the same operations through every design, and what each did with them, as one result.

``replay`` runs one compiled trace through one design; ``compare`` runs traces through designs at several
memory sizes.  The result is plain data (schema ``asi_pa.compare/1``, docs/json-schema.md); metrics are
defined in docs/metrics.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa import __version__, metrics
from asi_pa._machine import Machine
from asi_pa._replay import Replay
from asi_pa._series import Samples
from asi_pa.designs import Design, as_design
from asi_pa.gfp import GFP_NAMES, MODEL_LRU
from asi_pa.kernel import kernel_profile
from asi_pa.sizing import parse_size, raised_for
from asi_pa.trace import CompiledTrace, Trace, compile_trace, load_trace, tight_memory

__all__ = ["DEFAULT_DESIGNS", "SAMPLES", "compare", "replay"]

#: What ``compare`` shows unless asked otherwise: no ASI, the page-wise bound, and the sound designs; a pool
#: against migratetypes first.
DEFAULT_DESIGNS = (
    "linux",
    "per-page",
    "pool/nonsensitive",
    "migratetype/sound",
    "migratetype/eager",
    "freetype/sound",
    "rfcv2-queue/sound",
    "unmapped/v4",
    "unmapped/symmetric",
    "pool/unmapped",
)
#: Points of a time series.
SAMPLES = 200
_COLUMNS = 256
_OP_ALLOC = 1


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


def _supply(compiled: CompiledTrace, size: int, seed: int) -> npt.NDArray[np.uint32]:
    """Slots of page-cache allocations of the initial state that reclaim may free, drawn from the seed."""
    lru = (compiled.classes & np.uint32(MODEL_LRU)) != 0
    slots = [p.held_slot[lru[p.held_cls] & (p.held_order == 0)] for p in compiled.population]
    drawn = np.random.default_rng(seed).permutation(np.concatenate(slots))
    return drawn[: size // 4096].astype(np.uint32)


def build(
    compiled: CompiledTrace,
    design: Design,
    kernel: str | None = None,
    *,
    reclaim: int = 0,
    compaction: bool = False,
    seed: int = 0,
) -> tuple[Machine, Replay, dict[str, Any]]:
    """A machine in the trace's initial state: (machine, replay ready to run, notes on the state).

    Its watermarks are the design's own (``sizing.raised_for``).
    """
    profile = kernel or compiled.kernel
    spec = raised_for(compiled.machine, design.khugepaged_pcptypes, kernel=profile)
    machine = Machine(spec, design, profile, boot=False)
    run = Replay(machine, compiled.classes, compiled.nslots)
    notes: dict[str, Any] = {"blocks": 0, "mapped_blocks": 0, "mixed_blocks": 0, "displaced": 0}
    for zone, population in enumerate(compiled.population):
        for key, value in run.populate(zone, population).items():
            notes[key] += value
    if reclaim or compaction:
        run.relieve(_supply(compiled, reclaim, seed), compaction)
    notes["lost"] = run.place_displaced()
    return machine, run, notes


def replay(
    compiled: CompiledTrace,
    design: str | Design = "linux",
    *,
    kernel: str | None = None,
    samples: int = SAMPLES,
    reclaim: str | int = 0,
    compaction: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] = _no_progress,
) -> dict[str, Any]:
    """Runs a compiled trace through one design.

    Returns the design's entry of a result: ``design``, ``title``, ``protects``, ``as_posted``, ``source``,
    ``metrics``, ``series`` and ``blockmap`` (``samples`` points), ``population`` and ``verify`` ("ok", or
    the first broken invariant).  ``reclaim`` is the supply of page cache that may be freed (a size),
    ``compaction`` lets requests that may block compact; with neither, a request fails where the kernel would
    begin to reclaim.  ``seed`` draws the supply.  ``progress`` is called with (operations done, of).
    """
    design = as_design(design)
    size = parse_size(reclaim) if isinstance(reclaim, str) else reclaim
    machine, run, population = build(compiled, design, kernel, reclaim=size, compaction=compaction, seed=seed)
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
    return {
        "design": design.name,
        "title": design.title,
        "protects": design.protects,
        "as_posted": design.as_posted,
        "source": list(design.source),
        "metrics": _metrics(compiled, machine, run, seconds, series),
        "series": series.series(),
        "blockmap": series.blockmap(),
        "population": population,
        "verify": broken or "ok",
    }


def _metrics(
    compiled: CompiledTrace, machine: Machine, run: Replay, seconds: float, series: Series
) -> dict[str, Any]:
    s = machine.stats()
    ops = compiled.ops
    alloc = ops["op"] == _OP_ALLOC
    allocations = int(alloc.sum())
    sensitive = (compiled.classes & np.uint32(GFP_NAMES["__GFP_SENSITIVE"])) != 0
    by_class = np.bincount(ops["cls"][alloc], minlength=len(compiled.classes))[: len(compiled.classes)]
    failed = run.failures_by_class()[: len(compiled.classes)].astype(np.int64)
    physmap = machine.physmap
    out: dict[str, Any] = {
        "allocations": allocations,
        "allocations_by_order": np.bincount(ops["order"][alloc], minlength=11).tolist(),
        "failures": run.failures,
        "failures_by_cause": {
            "watermark": s["fail_watermark"],
            "fragmentation": s["fail_fragmentation"],
            "no_memory": s["fail_no_memory"],
            "flip_starvation": s["fail_starvation"],
            "no_block_refusal": s["fail_noblock"],
        },
        "requests_by_kind": _kinds(by_class, sensitive),
        "failures_by_kind": _kinds(failed, sensitive),
        "pcp_allocations_by_kind": _pcp_allocations(compiled, machine, run, alloc, sensitive, s),
        "flips_s2n": s["flips_s2n"],
        "flips_n2s": s["flips_n2s"],
        "flush_free_hit_ratio": 1 - (s["flush_allocs"] + s["map_allocs"]) / allocations
        if allocations
        else None,
        "no_block_refusals": s["fail_noblock"],
        "stranded_pages_max": s["stranded_max"],
        "stranded_pages_end": _stranded(machine, run),
        "bytes_zeroed": s["pages_zeroed"] * 4096,
        "extfrag_events": s["extfrag_fragmenting"],
        "extfrag_events_severe": s["extfrag_severe"],
        "pool_refills": s["pool_refills"],
        "pool_refill_pages": s["pool_refill_pages"],
        "pool_shrinks": s["pool_shrinks"],
        "exposure_violations": s["exposures"] + s["stale_exposed"],
        "watermark_boosts": s["boosts"],
        "kswapd_wakeups": s["kswapd_wakeups"],
        "pages_reclaimed": s["reclaimed"],
        "compactions": s["compactions"],
        "compaction_pages_moved": s["compact_moved"],
        "blocks_unmapped_ahead": s["unmapped_ahead"],
        "bytes_zeroed_locked": s["pages_zeroed_locked"] * 4096,
        "replay_seconds": seconds,
        "replay_ops_per_second": len(ops) / seconds if seconds else 0.0,
    }
    out.update(_physmap_metrics(physmap, allocations))
    zones = range(len(machine.spec.zones))
    mixed = [run.mixed_blocks(zone) for zone in zones]
    out["mixed_blocks"] = sum(m[0] for m in mixed)
    out["foreign_pages"] = sum(m[1] for m in mixed)
    free = run.free_blocks(series.zone).tolist()
    out["unusable_index"] = [metrics.unusable_index(free, k) for k in range(len(free))]
    out["extfrag_index"] = [metrics.extfrag_index(free, k) for k in range(len(free))]
    return out


def _pcp_allocations(
    compiled: CompiledTrace,
    machine: Machine,
    run: Replay,
    alloc: npt.NDArray[np.bool_],
    sensitive: npt.NDArray[np.bool_],
    stats: dict[str, int],
) -> dict[str, int]:
    """Allocations that the per-CPU lists served: of their orders, neither failed nor served by the buddy."""
    design, spec = machine.design, machine.spec
    orders = {order for order, _ in design.pcp_lists(spec.pageblock_order)}
    if all(zone.pcp is None for zone in spec.zones):
        orders = set()
    eligible = alloc & np.isin(compiled.ops["order"], list(orders))
    kind = sensitive[compiled.ops["cls"][eligible]]
    served = {"sensitive": int(kind.sum()), "nonsensitive": int((~kind).sum())}
    if design.wrapper == "pool":
        served["nonsensitive"] = 0  # the pool has no per-CPU lists
    failed = _kinds(run.failures_by_class()[: len(sensitive)].astype(np.int64), sensitive)
    return {k: max(0, n - failed[k] - stats[f"pcp_missed_{k}"]) for k, n in served.items()}


def _kinds(by_class: npt.NDArray[np.int64], sensitive: npt.NDArray[np.bool_]) -> dict[str, int]:
    return {"sensitive": int(by_class[sensitive].sum()), "nonsensitive": int(by_class[~sensitive].sum())}


def _stranded(machine: Machine, run: Replay) -> int:
    """Free pages that only one kind of request can use without a flip: the smaller side."""
    design = machine.design
    if not design.protects:
        return 0
    pages = run.free_pages()
    mapped = sum(int(pages[i]) for i, ft in enumerate(design.freetypes) if ft.mapped) + int(pages[-1])
    return min(mapped, int(pages.sum()) - mapped)


def _physmap_metrics(physmap: Any, allocations: int) -> dict[str, Any]:
    if physmap is None:
        zero = dict.fromkeys(
            (
                "leaf_writes_pte",
                "leaf_writes_pmd",
                "leaf_writes_pud",
                "leaf_splits_2m",
                "leaf_splits_1g",
                "table_pages_allocated",
                "tlb_flushes_ranged",
                "tlb_flushes_full",
                "tlb_flushed_pages",
                "ipis",
            ),
            0,
        )
        return {
            **zero,
            "tlb_flushes_per_1000_allocations": 0.0,
            "direct_map_kb": {"unrestricted": {"4k": 0, "2m": 0, "1g": 0}, "restricted": None},
        }
    c = physmap.counters()
    flushes = c.flushes_ranged + c.flushes_full
    writes = [sum(tree[level] for tree in c.leaf_writes) for level in range(3)]
    size = {"4k": 4, "2m": 2048, "1g": 1 << 20}
    kb = {
        tree: {k: physmap.leaf_counts(tree=tree)[k.upper()] * size[k] for k in size}
        for tree in ("unrestricted", "restricted")
    }
    return {
        "leaf_writes_pte": writes[0],
        "leaf_writes_pmd": writes[1],
        "leaf_writes_pud": writes[2],
        "leaf_splits_2m": sum(c.splits_2m),
        "leaf_splits_1g": sum(c.splits_1g),
        "table_pages_allocated": sum(c.tables_allocated),
        "tlb_flushes_ranged": c.flushes_ranged,
        "tlb_flushes_full": c.flushes_full,
        "tlb_flushed_pages": c.flushed_pages,
        "ipis": c.ipis,
        "tlb_flushes_per_1000_allocations": 1000 * flushes / allocations if allocations else 0.0,
        "direct_map_kb": kb,
    }


def _memory_name(memory: int) -> str:
    for unit, shift in (("T", 40), ("G", 30), ("M", 20)):
        if memory >= 1 << shift and not memory & ((1 << (shift - 4)) - 1):
            return f"{memory / (1 << shift):g}{unit}"
    return f"{memory >> 10}K"


def _compile(trace: Trace, memory: str | int, classifier: str, seed: int) -> CompiledTrace:
    """The trace on a machine of a size; "ample" is the recorded one, with its zones, where they are known."""
    if memory == "ample":
        known = bool(trace.snapshots.get("zones_start")) and "start" in trace.kpageflags
        return compile_trace(trace, classifier, seed=seed, recorded=known)
    if memory == "tight":
        whole = compile_trace(trace, classifier, seed=seed)
        return compile_trace(trace, classifier, memory=tight_memory(whole), seed=seed)
    size = parse_size(memory) if isinstance(memory, str) else memory
    return compile_trace(trace, classifier, memory=size, seed=seed)


def compare(
    traces: Iterable[str | Trace],
    designs: Sequence[str | Design] = DEFAULT_DESIGNS,
    *,
    memory: Sequence[str | int] = ("ample", "tight"),
    classifier: str = "rfc",
    seed: int = 0,
    kernel: str | None = None,
    samples: int = SAMPLES,
    reclaim: str | int = 0,
    compaction: bool = False,
    command: Sequence[str] = (),
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Every trace at every memory size through every design.

    Parameters
    ----------
    traces : names of bundled traces, files, or Trace objects
    designs : design names or Design objects
    memory : sizes such as ``"2G"`` or bytes; ``"ample"`` is the recorded machine with its zones, per-CPU
        limits and CPUs, ``"tight"`` one zone of the size at which the trace's peak nearly fills a
        machine that shrank in proportion
    classifier : rules for sensitivity (docs/traces.md)
    seed : of everything that is drawn
    kernel : profile; None takes the trace's own
    reclaim, compaction : what relieves a shortage, as in ``replay``
    progress : called with (what, operations done, of)

    Returns the result as a dict of schema ``asi_pa.compare/1``.  Raises ValueError for what cannot be.
    """
    from asi_pa.claims import evaluate_claims

    chosen = [as_design(d) for d in designs]
    if not chosen:
        raise ValueError("no designs to compare")
    if kernel is not None:
        kernel_profile(kernel)
    supply = parse_size(reclaim) if isinstance(reclaim, str) else reclaim
    runs = []
    kernels, texts = [], []
    for item in traces:
        trace = item if isinstance(item, Trace) else load_trace(item)
        for size in memory:
            compiled = _compile(trace, size, classifier, seed)
            kernels.append(kernel or compiled.kernel)
            texts.append(compiled.classifier)
            relief = {"reclaim": supply, "compaction": compaction, "seed": seed}
            runs.append(_run(compiled, str(size), chosen, kernel, samples, relief, progress))
    if not runs:
        raise ValueError("no traces to compare on")
    result: dict[str, Any] = {
        "schema": "asi_pa.compare/1",
        "asi_pa": __version__,
        "command": list(command),
        "kernel": ", ".join(sorted(set(kernels))),
        "seed": seed,
        "classifier": texts[0],
        "relief": {"reclaim_bytes": supply, "compaction": compaction},
        "runs": runs,
        "claims": [],
    }
    result["claims"] = evaluate_claims(result)
    return result


def _run(
    compiled: CompiledTrace,
    memory: str,
    designs: Sequence[Design],
    kernel: str | None,
    samples: int,
    relief: dict[str, Any],
    progress: Callable[[str, int, int], None] | None,
) -> dict[str, Any]:
    entries = []
    population: dict[str, Any] = {}
    for design in designs:
        what = f"{compiled.name}, {memory}, {design.name}"
        report = (lambda done, of, what=what: progress(what, done, of)) if progress else _no_progress
        entry = replay(compiled, design, kernel=kernel, samples=samples, progress=report, **relief)
        population[design.name] = entry.pop("population")
        entries.append(entry)
    first = population[designs[0].name]
    return {
        "trace": compiled.name,
        "memory": memory if memory in ("ample", "tight") else _memory_name(compiled.memory_bytes),
        "memory_bytes": compiled.memory_bytes,
        "description": str(compiled.source.get("description", "")),
        "operations": len(compiled.ops),
        "repairs": compiled.repairs,
        "population": {
            "pages free": sum(p.free_pages for p in compiled.population),
            "pages held": sum(p.held_pages for p in compiled.population),
            "mixed blocks": first["mixed_blocks"],
            **{f"displaced, {k}": p["displaced"] for k, p in population.items() if p["displaced"]},
            **{f"lost, {k}": p["lost"] for k, p in population.items() if p["lost"]},
        },
        "designs": entries,
    }
