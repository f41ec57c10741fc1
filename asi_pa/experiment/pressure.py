"""A trace of a machine under pressure, read in two ways, beside what that machine's own counters said.

*Recorded*: the trace's frees as they are.  Reclaim and compaction have happened already, so a model that
relieves as well relieves twice.

*Modelled*: what reclaim freed is left out, and the model reclaims and compacts by itself; only so can another
size of memory be compared.  Frames then mean nothing any more, so every allocation of the trace gets a frame
of its own, above all memory (`modelled_reading`):

- a page-cache page that is freed was reclaimed.  Page cache is what a mapping's readahead or write asks for,
  and at the start what is on the LRU and not anonymous.  (Truncation looks the same; a trace does not say.)
- a page that kcompactd frees was moved: its owner keeps it, and has it back when a frame is freed that
  nobody allocated, in the order in which they went.
- a frame that is freed although nobody allocated it was the target of a move.
- a request that failed is made, too; if the model can serve it, the caller gives the page back at once. Where
  one fails that did not, the known callers' fallback follows (`asi_pa.kernel.callers`).

Direct compaction frees its sources in the name of whoever asked, which no event tells from a free of its own:
these owners lose their pages early, and their targets are reported as unmatched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.designs import Design, as_design
from asi_pa.engine.machine import Machine
from asi_pa.experiment.vmstat import RECORDED
from asi_pa.kernel.gfp import GFP_NAMES
from asi_pa.kernel.sizing import parse_size
from asi_pa.run.replay import Replay
from asi_pa.trace import Trace, compile_trace
from asi_pa.trace.compile import translated
from asi_pa.trace.format import EXT, FAILED_PFN, KINDS, KPF_BITS
from asi_pa.trace.nodes import recorded_nodes

__all__ = [
    "Reading",
    "is_page_cache",
    "kswapd_runs",
    "modelled_reading",
    "pressure",
    "pressure_text",
]

_ALLOC, _FREE, _BATCHED, _EXTFRAG = (
    KINDS.index(kind) for kind in ("alloc", "free", "free_batched", "extfrag")
)
_MOVABLE = GFP_NAMES["__GFP_MOVABLE"]
_READAHEAD = GFP_NAMES["__GFP_NORETRY"] | GFP_NAMES["__GFP_NOWARN"]
_WRITE = GFP_NAMES["__GFP_WRITE"]
_NOMEMALLOC = GFP_NAMES["__GFP_NOMEMALLOC"]

#: What a frame holds, as far as the trace tells.
_NOTHING, _CACHE, _OTHER = 0, 1, 2

#: Operations between two chances of kswapd to run.  It has a CPU as soon as it is woken: on the recorded
#: machine its runs took 1.4 ms and freed 4,600 pages, and the others made 4 allocations meanwhile (medians;
#: `kswapd_runs`).
_KSWAPD_EVERY = 1


def is_page_cache(gfp: int) -> bool:
    """Does a mapping ask so: readahead_gfp_mask() (include/linux/pagemap.h) or a write (mm/filemap.c)?"""
    if not gfp & _MOVABLE:
        return False
    return bool(gfp & _WRITE) or (gfp & _READAHEAD == _READAHEAD and not gfp & _NOMEMALLOC)


@dataclass
class Reading:
    """A trace without what reclaim freed, and what was found on the way (pages)."""

    trace: Trace
    reclaimed: int = 0
    """Page cache that was freed, left out."""
    reclaimed_by_kswapd: int = 0
    moved_by_kcompactd: int = 0
    """Freed by kcompactd: sources of moves."""
    targets: int = 0
    """Freed, though nobody allocated them: targets of moves that were page cache, left out."""
    targets_matched: int = 0
    """... that gave an owner back what kcompactd had moved."""
    targets_unmatched: int = 0
    failed_requests: int = 0
    start_order: list[int] = field(default_factory=list)
    """Frames of the start's page cache in the order in which the recorded kernel freed them."""


class _Frames:
    """Where every allocation is in the new numbering."""

    def __init__(self, trace: Trace) -> None:
        flags = trace.kpf("start")
        if flags is None:
            raise ValueError(f"trace {trace.name}: without kpageflags nobody knows what was page cache")
        top = int(trace.pfn[trace.pfn != FAILED_PFN].max(initial=0)) + 1024
        size = max(len(flags), top)
        self.holds = np.zeros(size, np.uint8)
        lru, anon = (1 << KPF_BITS.index(name) for name in ("LRU", "ANON"))
        free, absent = (1 << KPF_BITS.index(name) for name in ("BUDDY", "NOPAGE_OFFLINE_RESERVED"))
        self.holds[: len(flags)] = np.where(flags & (free | absent) == 0, _OTHER, _NOTHING)
        self.holds[: len(flags)][(flags & lru != 0) & (flags & anon == 0)] = _CACHE
        self.at_start_cache = self.holds == _CACHE
        self.new = np.arange(size, dtype=np.int64)
        self.next = -(-size // 1024) * 1024

    def fresh(self, order: int) -> int:
        """A frame that nobody has, aligned to the order."""
        pages = 1 << order
        at = -(-self.next // pages) * pages
        self.next = at + pages
        if self.next > FAILED_PFN:
            raise ValueError("the trace allocates more than fits 32-bit frame numbers")
        return at

    def allocated(self, pfn: int, order: int, cache: bool) -> int:
        """The new frame of an allocation."""
        at, pages = self.fresh(order), 1 << order
        self.holds[pfn : pfn + pages] = _CACHE if cache else _OTHER
        self.new[pfn : pfn + pages] = range(at, at + pages)
        return at


def modelled_reading(trace: Trace, progress: Callable[[int, int], None] | None = None) -> Reading:
    """The trace with what reclaim freed left out, every allocation in a frame of its own.

    Raises ValueError for a trace without kpageflags at its start.
    """
    frames, reading = _Frames(trace), Reading(trace)
    cache_gfp = np.array([is_page_cache(gfp) for gfp in translated(trace)] or [False])
    swapper = np.array([comm.startswith("kswapd") for comm in trace.comms] or [False])
    compactor = np.array([comm.startswith("kcompactd") for comm in trace.comms] or [False])
    rows: list[int] = []
    pfns: list[int] = []
    kinds: list[int] = []
    away: deque[tuple[int, int]] = deque()
    kept = np.flatnonzero(np.isin(trace.kind, (_ALLOC, _FREE, _BATCHED)))
    columns = zip(
        kept.tolist(),
        trace.kind[kept].tolist(),
        trace.pfn[kept].tolist(),
        trace.order[kept].tolist(),
        trace.gfp[kept].tolist(),
        trace.comm[kept].tolist(),
        strict=True,
    )
    for n, (i, kind, pfn, order, gfp, comm) in enumerate(columns):
        if progress and n % 65536 == 0:
            progress(n, len(kept))
        if kind == _ALLOC:
            failed = pfn == FAILED_PFN
            at = frames.fresh(order) if failed else frames.allocated(pfn, order, bool(cache_gfp[gfp]))
            rows.append(i)
            pfns.append(at)
            kinds.append(_ALLOC)
            if failed:
                reading.failed_requests += 1
                rows.append(i)
                pfns.append(at)
                kinds.append(_FREE)
            continue
        freed = _freed(frames, reading, away, pfn, order, bool(swapper[comm]), bool(compactor[comm]))
        if freed is not None:
            rows.append(i)
            pfns.append(freed)
            kinds.append(_FREE)
    at_rows = np.array(rows, np.int64)
    reading.trace = replace(
        trace,
        time_ns=trace.time_ns[at_rows],
        cpu=trace.cpu[at_rows],
        kind=np.array(kinds, np.uint8),
        pfn=np.array(pfns, np.uint32),
        order=trace.order[at_rows],
        migratetype=trace.migratetype[at_rows],
        gfp=trace.gfp[at_rows],
        comm=trace.comm[at_rows],
        ext=np.zeros(0, EXT),
    )
    return reading


def _freed(
    frames: _Frames,
    reading: Reading,
    away: deque[tuple[int, int]],
    pfn: int,
    order: int,
    by_kswapd: bool,
    by_kcompactd: bool,
) -> int | None:
    """The frame whose owner gives it back, in the new numbering; None where that is nobody's doing."""
    pages = 1 << order
    holds, new = int(frames.holds[pfn]), int(frames.new[pfn])
    frames.holds[pfn : pfn + pages] = _NOTHING
    frames.new[pfn : pfn + pages] = range(pfn, pfn + pages)
    if by_kcompactd:
        reading.moved_by_kcompactd += pages
        if holds == _OTHER:
            away.append((new, order))
        return None
    if holds == _CACHE:
        reading.reclaimed += pages
        reading.reclaimed_by_kswapd += pages if by_kswapd else 0
        if frames.at_start_cache[pfn]:
            reading.start_order.append(pfn)
        return None
    if holds == _NOTHING:
        if by_kswapd:
            reading.targets += pages
            reading.reclaimed += pages
            reading.reclaimed_by_kswapd += pages
            return None
        if away and away[0][1] == order:
            reading.targets_matched += pages
            return away.popleft()[0]
        reading.targets_unmatched += pages
        return None
    return new


_Supply = tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint64], npt.NDArray[np.int64]]


def _supply(compiled: Any, reading: Reading) -> _Supply:
    """Slots of page cache in LRU order, after how many operations each is there, how many pages it has.

    First the start's, those first that the recorded kernel freed first, then the trace's own as they come.
    """
    rank = {pfn: i for i, pfn in enumerate(reading.start_order)}
    flags = reading.trace.kpf("start")
    assert flags is not None
    lru, anon = (1 << KPF_BITS.index(name) for name in ("LRU", "ANON"))
    slots: list[tuple[int, int, int]] = []
    for population in compiled.population:
        held = population.held_pfn
        inside = held < len(flags)
        mask = np.zeros(len(held), bool)
        mask[inside] = (flags[held[inside]] & lru != 0) & (flags[held[inside]] & anon == 0)
        where, order = population.held_slot[mask].tolist(), population.held_order[mask].tolist()
        for pfn, slot, of_order in zip(held[mask].tolist(), where, order, strict=True):
            slots.append((rank.get(pfn, len(rank) + pfn), slot, 1 << of_order))
    slots.sort()
    start = np.array([slot for _, slot, _ in slots], np.uint32)
    classes = np.array([is_page_cache(int(word)) for word in compiled.classes])
    ops = compiled.ops
    own = np.flatnonzero((ops["op"] == 1) & classes[ops["cls"]])
    since = np.concatenate([np.zeros(len(start), np.uint64), own.astype(np.uint64) + 1])
    pages = np.concatenate([[pages for *_, pages in slots], 1 << ops["order"][own].astype(np.int64)])
    return np.concatenate([start, ops["slot"][own]]), since, pages.astype(np.int64)


def kswapd_runs(trace: Trace, pause: int = 2_000_000) -> dict[str, float]:
    """What the recorded kswapd did at a time: medians of its runs, which a ``pause`` (ns) parts.

    ``runs`` (how many), ``pages`` that it freed, ``ms`` that it took, ``allocations`` of others meanwhile.
    """
    swapper = np.array([comm.startswith("kswapd") for comm in trace.comms] or [False])
    freed = np.flatnonzero(swapper[trace.comm] & np.isin(trace.kind, (_FREE, _BATCHED)))
    if not len(freed):
        return {"runs": 0}
    times = trace.time_ns[freed].astype(np.int64)
    first = np.flatnonzero(np.concatenate([[True], np.diff(times) > pause]))
    last = np.append(first[1:], len(freed)) - 1
    pages = np.concatenate([[0], np.cumsum(np.int64(1) << trace.order[freed].astype(np.int64))])
    made = np.cumsum(trace.kind == _ALLOC)
    return {
        "runs": len(first),
        "pages": float(np.median(pages[last + 1] - pages[first])),
        "ms": float(np.median(times[last] - times[first])) / 1e6,
        "allocations": float(np.median(made[freed[last]] - made[freed[first]])),
    }


def _counts(machine: Machine, run: Replay, failed: int) -> dict[str, int]:
    stats = machine.stats()
    return {
        "requests_failed": failed,
        "direct_compactions": stats["compact_stall"],
        "direct_compactions_succeeded": stats["compact_stall_success"],
        "pages_moved": stats["compact_moved"],
        "pages_reclaimed": stats["reclaimed"],
        "fallbacks": stats["extfrag_events"],
        "migrate_scanned": stats["compact_migrate_scanned"],
        "free_scanned": stats["compact_free_scanned"],
    }


def pressure(
    trace: Trace,
    design: str | Design = "linux",
    *,
    memory: str | int | None = None,
    kernel: str | None = None,
    vmstat: dict[str, int] | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Both readings of a trace, and what was recorded.

    Parameters
    ----------
    memory : a size for the modelled reading; None is the recorded machine with its zones
    vmstat : differences of /proc/vmstat over the recording

    Returns ``recorded``, ``as_recorded`` and ``modelled``, each with the counts that are known, and what the
    modelled reading left out, ``found`` (pages).  Raises ValueError for a trace without snapshots.
    """
    chosen = as_design(design)
    say = progress or (lambda _: None)
    allocs = trace.kind == _ALLOC
    recorded: dict[str, int] = {
        "requests_failed": int((allocs & (trace.pfn == FAILED_PFN)).sum()),
        "fallbacks": int((trace.kind == _EXTFRAG).sum()),
    }
    for name, parts in RECORDED.items():
        if vmstat is not None and all(part in vmstat for part in parts):
            recorded[name] = sum(vmstat[part] for part in parts)
    nodes = len(recorded_nodes(trace))
    if nodes > 1:
        raise ValueError(f"{trace.label}: recorded on {nodes} nodes, whose LRU lists are not told apart")
    say("as recorded")
    plain = compile_trace(trace.needs_events(), recorded=True)
    machine, run = _machine(plain, chosen, kernel, fallbacks=False)
    run.run(plain.ops)
    as_recorded = _counts(machine, run, run.failures)
    del machine, run, plain
    say("leaving out what reclaim freed")
    reading = modelled_reading(trace)
    size = parse_size(memory) if isinstance(memory, str) else memory
    compiled = compile_trace(reading.trace, recorded=size is None, memory=size)
    machine, run = _machine(compiled, chosen, kernel, fallbacks=True)
    supply, since, pages = _supply(compiled, reading)
    run.relieve(supply, True, since, pages, kswapd_every=_KSWAPD_EVERY)
    say("reclaiming and compacting")
    run.run(compiled.ops)
    found = {
        name: getattr(reading, name)
        for name in (
            "reclaimed",
            "reclaimed_by_kswapd",
            "moved_by_kcompactd",
            "targets",
            "targets_matched",
            "targets_unmatched",
        )
    }
    return {
        "trace": trace.name,
        "design": chosen.name,
        "kernel": kernel or compiled.kernel,
        "memory_bytes": compiled.memory_bytes,
        "recorded": recorded,
        "as_recorded": as_recorded,
        "modelled": _counts(machine, run, run.failures),
        "found": found,
        "kswapd": kswapd_runs(trace),
    }


def _machine(compiled: Any, design: Design, kernel: str | None, *, fallbacks: bool) -> tuple[Machine, Replay]:
    machine = Machine(compiled.machine, design, kernel or compiled.kernel, boot=False)
    run = Replay(machine, compiled.classes, compiled.nslots, fallbacks)
    for zone, population in enumerate(compiled.population):
        run.populate(zone, population)
    run.place_displaced()
    return machine, run


def pressure_text(result: dict[str, Any]) -> str:
    """A table for the terminal."""
    names = list(dict.fromkeys([*result["recorded"], *result["modelled"]]))
    lines = [
        f"{result['trace']}, {result['design']}, {result['kernel']}, {result['memory_bytes'] >> 20} MiB",
        f"{'':30}{'recorded':>12}{'as recorded':>14}{'modelled':>12}",
    ]
    for name in names:
        cells = [
            f"{result[part][name]:,}" if name in result[part] else "-"
            for part in ("recorded", "as_recorded", "modelled")
        ]
        lines.append(f"{name.replace('_', ' '):30}{cells[0]:>12}{cells[1]:>14}{cells[2]:>12}")
    found = result["found"]
    lines.append(
        f"left out: {found['reclaimed']:,} pages that reclaim freed, {found['reclaimed_by_kswapd']:,} by "
        f"kswapd; {found['moved_by_kcompactd']:,} that kcompactd moved"
    )
    lines.append(
        f"targets of moves: {found['targets']:,} reclaimed later, {found['targets_matched']:,} matched with "
        f"an owner, {found['targets_unmatched']:,} not"
    )
    runs = result["kswapd"]
    if runs["runs"]:
        lines.append(
            f"the recorded kswapd ran {runs['runs']:,} times, for {runs['ms']:.1f} ms and "
            f"{runs['pages']:,.0f} pages, while others made {runs['allocations']:,.0f} allocations (medians)"
        )
    return "\n".join(lines) + "\n"
