"""Compiling a trace: from what was recorded to operations that a replay runs.

Who frees whom is resolved once, here, so that a replay needs no frame numbers of the recorded machine.  The
rules:

================================  ===========================================  ============================
the trace                         becomes                                      counted as
================================  ===========================================  ============================
alloc                             ALLOC into a slot
free of what was allocated        FREE of its slot
free of what it never mentioned   FREE of what is there at the start           ``held_at_start``
free of a part                    SPLIT into single pages, once; FREE of each  ``partial_frees``, ``splits``
free of several allocations       FREE of each                                 ``free_of_other_order``
alloc of frames still allocated   FREE of what is in the way first             ``alloc_of_allocated``
free of frames already free       nothing: its allocation went by unseen       ``free_of_free_dropped``
alloc that failed (pfn -1)        ALLOC, and FREE of what it got here          ``failed_allocs``
free_batched                      nothing: repeats a free                      ``free_batched_ignored``
zone_locked, pcpu_drain, extfrag  nothing: the allocator's own doing
a second of the trace's time      TICK of each CPU (at most 60 for a gap)      ``ticks``
================================  ===========================================  ============================

With snapshots of the start a TICK stands where the trace shows that CPU's worker to have run, or at its phase
(`asi_pa.trace.ticks`); else of all CPUs at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.kernel.numa import RECORDED, Nodes, as_nodes
from asi_pa.kernel.sizing import parse_size
from asi_pa.kernel.spec import MachineSpec
from asi_pa.trace.classify import DEFAULT_CLASSIFIER, Classifier, translated
from asi_pa.trace.compiler import Compiler
from asi_pa.trace.cpusets import CPUSETS_NOTE, cpusets_on, without_hardwall
from asi_pa.trace.events import ALLOC
from asi_pa.trace.format import Trace, facts_html, profile
from asi_pa.trace.initial import HeldClasses, Population, Settle, Snapshot, recorded_population
from asi_pa.trace.nodes import divided, joined, of_trace, recorded_nodes, shares
from asi_pa.trace.ops import OP, Op, count_kinds
from asi_pa.trace.resize import Base, modelled_population
from asi_pa.trace.ticks import Ticks, seen_ticks
from asi_pa.trace.tries import insert_tries, recorded_tries

__all__ = [
    "OP",
    "OP_ALLOC",
    "OP_FREE",
    "OP_SPLIT",
    "OP_TICK",
    "STAMP_EVERY",
    "CompiledTrace",
    "Events",
    "Starts",
    "asked_for",
    "compile_trace",
    "operations",
    "tight_memory",
    "translated",
]

OP_ALLOC, OP_FREE, OP_SPLIT, OP_TICK = (int(Op[f"OP_{name}"]) for name in ("ALLOC", "FREE", "SPLIT", "TICK"))
#: ``time_ns[k]`` is the time of operation k * STAMP_EVERY.
STAMP_EVERY = 1024
_CHUNK = 1 << 19
_REPAIRS = (
    "alloc_of_allocated",
    "frees_inserted",
    "free_of_free_dropped",
    "free_of_other_order",
    "failed_allocs",
)


@dataclass(frozen=True, kw_only=True)
class CompiledTrace:
    """Operations, the machine they run on and its initial state: all that a replay needs."""

    name: str
    ops: npt.NDArray[np.void]
    """`OP`[n]: op (`Op`), order, cls (index into ``classes``), slot, and cpu (of a tick 255: all of them)."""
    classes: npt.NDArray[np.uint32]
    """u32: request words (`asi_pa.kernel.gfp`)."""
    nslots: int
    """Slots are 0 .. nslots - 1; an allocation of order k owns the 2^k slots from its own on."""
    time_ns: npt.NDArray[np.uint64]
    """u64: time of every `STAMP_EVERY`-th operation, the first included, in ns from the trace's start."""
    population: tuple[Population, ...]
    """The initial state, zone by zone as in ``machine.zones``."""
    machine: MachineSpec
    kernel: str
    """The kernel profile that fits the recorded kernel."""
    classifier: str
    """What decided on sensitivity, in words."""
    repairs: dict[str, int]
    """Inconsistencies of the trace mended on the way, events each."""
    counts: dict[str, int] = field(default_factory=dict)
    """Events and operations: allocs, frees, splits, partial_frees, held_at_start, ticks, peak_pages (most
    pages alive beyond those at the start), end_pages (the same at the end) ..."""
    initial: dict[str, Any] = field(default_factory=dict)
    """How the initial state was decided and how it agrees with what was recorded."""
    source: dict[str, Any] = field(default_factory=dict)
    """Provenance of the trace."""

    @cached_property
    def kinds(self) -> npt.NDArray[np.int64]:
        """i64[`Op`, cls, order]: how many operations of each kind there are (`asi_pa.trace.ops`)."""
        return count_kinds(self.ops)

    @cached_property
    def supplies(self) -> dict[tuple[int | None, int], tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]]:
        """Orders of reclaim that were drawn for this start state, and nodes, by size and seed."""
        return {}

    def __repr__(self) -> str:
        return "\n".join(f"{key}: {value}" if key else value for key, value in self._facts())

    def _repr_html_(self) -> str:
        return facts_html(self._facts())

    def _facts(self) -> list[tuple[str, str]]:
        """What it prints of itself."""
        held = sum(zone.held_pages for zone in self.population)
        free = sum(zone.free_pages for zone in self.population)
        several = self.nodes > 1
        zones = ", ".join(zone.name + f" of node {zone.nid}" * several for zone in self.machine.zones)
        return [
            ("", f"<CompiledTrace {self.name}: {len(self.ops):,} operations, rules of {self.kernel}>"),
            ("machine", f"{self.memory_bytes >> 20:,} MiB in {zones}, {self.machine.cpus} CPUs"),
            ("at the start", f"{held:,} pages held, {free:,} free"),
            ("classifier", self.classifier),
        ]

    @property
    def nodes(self) -> int:
        """How many the machine has."""
        return len({zone.nid for zone in self.machine.zones})

    @property
    def memory_bytes(self) -> int:
        """Managed memory of the machine in bytes."""
        return sum(zone.spanned - sum(b - a for a, b in zone.holes) for zone in self.machine.zones) * 4096


def asked_for(trace: Trace) -> tuple[list[int], bool]:
    """The masks as callers asked for them, and whether cpusets had put __GFP_HARDWALL on all of them."""
    masks = translated(trace)
    requests = np.bincount(trace.gfp[trace.kind == ALLOC], minlength=len(masks))[: len(masks)]
    if not cpusets_on(masks, requests):
        return masks, False
    return [without_hardwall(mask) for mask in masks], True


def operations(
    trace: Trace,
    classifier: Classifier,
    *,
    chunk: int = _CHUNK,
    cuts: Sequence[int] | None = None,
    ticks: Ticks | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[npt.NDArray[np.void], Compiler, npt.NDArray[np.uint32]]]:
    """Compile chunk by chunk: yields (`OP`[k], the compiler, request classes) for every ``chunk`` events.

    ``cuts``: lengths of the chunks, in events, where they are to be of different length.  ``ticks``: when
    each CPU's vmstat worker runs (None: all every second).  Memory grows with the frames that the trace
    touches, not with its length.  Raises ValueError naming trace and event for an event that cannot be.
    """
    masks, _ = asked_for(trace)
    pairs, thresholds, classes = classifier.table(masks, trace.comms or ("",), 11)
    compiler = Compiler(pairs, thresholds, classifier.seed, trace.cpus, ticks)
    lengths = cuts or [min(chunk, len(trace) - start) for start in range(0, len(trace), chunk)] or [0]
    start = 0
    for length in lengths:
        part = slice(start, start + length)
        try:
            ops = compiler.feed(
                trace.time_ns[part], trace.cpu[part], trace.kind[part], trace.pfn[part], trace.order[part],
                trace.gfp[part], trace.comm[part],
            )  # fmt: skip
        except ValueError as error:
            raise ValueError(f"{trace.label}: {error}") from None
        yield ops, compiler, classes
        start += length
        if progress:
            progress(start, len(trace))


def compile_trace(
    trace: Trace | str | os.PathLike[str],
    classifier: str | Classifier = DEFAULT_CLASSIFIER,
    *,
    memory: str | int | None = None,
    recorded: bool = False,
    seed: int = 0,
    nodes: int | str | Nodes = RECORDED,
    evidence: int | None = None,
    settle: Settle | None = None,
    tries: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> CompiledTrace:
    """Compile a trace: its operations, its machine and the initial state.

    The machine is one zone of ``memory`` bytes (``"768M"``; None: as much as the recorded zone Normal
    managed), or with ``recorded`` the zones of the recorded machine as they were.  ``seed`` draws what the
    classifier leaves to chance and which part of the recorded memory a smaller zone keeps.  ``nodes``: how
    many, or the CPUs of each (``"0-3/4-7"``): memory is divided by address (`asi_pa.trace.nodes`), and a
    request is made on the node of its CPU.  ``evidence``: the start state is built from the first so many
    events only (None: all).  ``settle`` decides what in it only following the trace can (`asi_pa.run.settle`;
    `asi_pa.compile_trace` always does).  Without ``tries`` every event is an operation of its own, so what
    was asked for instead of a failed try is always asked for (`asi_pa.trace.tries`).  ``progress(done,
    events)`` is called now and then.  Raises ValueError for a trace that contradicts itself, an impossible
    size, and ``recorded`` together with ``memory`` or for a trace without snapshots.
    """
    if not isinstance(trace, Trace):
        from asi_pa.trace import load_trace

        trace = load_trace(trace)
    if recorded and memory is not None:
        raise ValueError(f"memory {memory!r}: the recorded machine has the size that it has")
    if trace.max_page_order > 10 or trace.pageblock_order > trace.max_page_order:
        orders = f"pageblock_order {trace.pageblock_order}, max_page_order {trace.max_page_order}"
        raise ValueError(f"{trace.label}: {orders}")
    pages = None if memory is None else parse_size(memory) // 4096
    if pages is not None and pages < 1 << trace.pageblock_order:
        raise ValueError(f"memory {memory!r}: less than one pageblock")
    rule = Classifier.parse(classifier, seed)
    how: dict[str, Any] = {"evidence": evidence, "settle": settle, "tries": tries, "progress": progress}
    starts = Starts(trace, rule, nodes=nodes, **how)
    return starts.recorded() if recorded else starts.at(pages, seed)


@dataclass(frozen=True, kw_only=True)
class Events:
    """A trace's events as operations, before anything is decided about a start state."""

    ops: npt.NDArray[np.void]
    classes: npt.NDArray[np.uint32]
    stamps: npt.NDArray[np.uint64]
    nslots: int
    freed: npt.NDArray[np.void]
    """What the trace frees without having allocated it (`HELD_AT_START`)."""
    counters: dict[str, int]
    """The compiler's, with ``peak_pages`` and ``end_pages``, and how many tries were recorded."""

    @classmethod
    def of(
        cls,
        trace: Trace,
        classifier: Classifier,
        evidence: int | None,
        tries: bool,
        progress: Callable[[int, int], None] | None,
    ) -> Events:
        """Raises ValueError for events that cannot be."""
        ticks = seen_ticks(trace, evidence) if trace.has_start else None
        parts = list(operations(trace, classifier, ticks=ticks, progress=progress))
        compiler, classes = parts[-1][1:]
        ops, stamps, nslots = np.concatenate([part[0] for part in parts]), compiler.stamps(), compiler.nslots
        found = recorded_tries(trace, asked_for(trace)[0]) if tries else []
        if found:
            ops, came, nslots = insert_tries(trace, ops, found, nslots)
            stamps = stamps[np.minimum(came[::STAMP_EVERY] // STAMP_EVERY, len(stamps) - 1)]
        counters = {
            **compiler.counters(),
            "recorded_tries": len(found),
            "peak_pages": compiler.live_max,
            "end_pages": compiler.live_end,
        }
        return cls(
            ops=ops, classes=classes, stamps=stamps, nslots=nslots, freed=compiler.held_at_start(),
            counters=counters,
        )  # fmt: skip


class Starts:
    """A trace compiled once, and its start states: of any size and seed, cut out of the recorded one.

    Parameters
    ----------
    trace : Trace
    classifier : Classifier
    nodes : of the machines: how many, or the CPUs of each
    evidence : the start states are built from the first so many events only (None: all)
    settle : decides what in them only following the trace can (`asi_pa.run.settle`)
    tries : failed tries and what was asked for instead are found (`asi_pa.trace.tries`)
    progress : called with (events done, of) while the trace is compiled
    known : its events and its zones at the start as compiled before (`asi_pa.trace.kept`)

    Raises ValueError for a trace that contradicts itself.  May be used by several threads at once.
    """

    def __init__(
        self,
        trace: Trace,
        classifier: Classifier,
        *,
        nodes: int | str | Nodes = RECORDED,
        evidence: int | None = None,
        settle: Settle | None = None,
        tries: bool = True,
        progress: Callable[[int, int], None] | None = None,
        known: tuple[Events, Snapshot] | None = None,
    ) -> None:
        if trace.max_page_order > 10 or trace.pageblock_order > trace.max_page_order:
            orders = f"pageblock_order {trace.pageblock_order}, max_page_order {trace.max_page_order}"
            raise ValueError(f"{trace.label}: {orders}")
        self.trace, self.classifier = trace, classifier
        self.nodes = of_trace(trace, as_nodes(nodes))
        self._own = len(recorded_nodes(trace)) > 1
        self._evidence = evidence
        self._settle = settle if len(trace) else None  # a start state alone has nothing to follow
        self.events = known[0] if known else Events.of(trace, classifier, evidence, tries, progress)
        self.events.ops.flags.writeable = False
        if known:
            self.snapshot = known[1]

    @cached_property
    def snapshot(self) -> Snapshot:
        """The recorded zones at the start."""
        return Snapshot(self.trace, self.events.freed, self._evidence, self._settle)

    @cached_property
    def _cpusets(self) -> bool:
        return asked_for(self.trace)[1]

    @cached_property
    def _base(self) -> Base:
        return Base.of(self.trace, self.snapshot)

    @cached_property
    def _bases(self) -> list[Base]:
        return [Base.of(self.trace, self.snapshot, nid) for nid in range(self.nodes.count)]

    def at(self, pages: int | None = None, seed: int = 0) -> CompiledTrace:
        """One zone of so many pages (None: as many as the recorded zone Normal managed), a part a node."""
        words, events = HeldClasses(self.classifier, self.events.classes), self.events
        slots = events.nslots
        how: dict[str, Any] = {"peak": events.counters["peak_pages"], "seed": seed}
        if not self._own:
            made = modelled_population(self.trace, self._base, words, slots, pages=pages, **how)
            return self._compiled(words, *made)
        parts = []
        for base, part in zip(self._bases, shares(self.trace, self._bases, pages), strict=True):
            parts.append(modelled_population(self.trace, base, words, slots, pages=part, **how))
            slots = parts[-1][2]
        machine, population, notes = joined(parts, self.nodes, profile(self.trace), pages is not None)
        return self._compiled(words, machine, population, slots, notes)

    def recorded(self) -> CompiledTrace:
        """The recorded machine's zones as they were.  ValueError for a trace without snapshots."""
        words = HeldClasses(self.classifier, self.events.classes)
        made = recorded_population(self.trace, self.snapshot, words, self.events.nslots)
        return self._compiled(words, *made)

    def _compiled(
        self,
        words: HeldClasses,
        machine: MachineSpec,
        population: tuple[Population, ...],
        nslots: int,
        initial: dict[str, Any],
    ) -> CompiledTrace:
        trace, ops, freed = self.trace, self.events.ops, self.events.freed
        if self._own:
            machine = replace(machine, cpu_nodes=self.nodes.of_cpus(machine.cpus))
        elif self.nodes.count > 1:
            machine, population = divided(machine, population, self.nodes, profile(trace))
        counters = dict(self.events.counters)
        repairs = {name: counters.pop(name) for name in _REPAIRS}
        ends = {name: counters[name] for name in ("peak_pages", "end_pages")}
        counts = {
            "events": len(trace),
            "operations": len(ops),
            "recorded_tries": counters.pop("recorded_tries"),
            **{name: count for name, count in counters.items() if name not in ends},
            "ticks": self._ticks,
            "held_at_start": len(freed),
            "held_at_start_pages": int((1 << freed["order"].astype(np.int64)).sum()),
            **ends,
        }
        return CompiledTrace(
            name=trace.name,
            ops=ops,
            classes=np.array(words.words, np.uint32),
            nslots=nslots,
            time_ns=self.events.stamps,
            population=population,
            machine=machine,
            kernel=profile(trace),
            classifier=self.classifier.describe() + (f"; {CPUSETS_NOTE}" if self._cpusets else ""),
            repairs=repairs,
            counts=counts,
            initial=initial,
            source={
                "trace": trace.name,
                "description": trace.description,
                "kernel": trace.kernel,
                "lost": trace.lost,
            }
            | trace.provenance,
        )

    @cached_property
    def _ticks(self) -> int:
        return int((self.events.ops["op"] == OP_TICK).sum())


def tight_memory(compiled: CompiledTrace, occupancy: float = 0.97) -> int:
    """A memory size in bytes in which the trace's peak fills ``occupancy`` of a machine that shrank in
    proportion.

    The initial population shrinks with the memory (but what the trace frees stays), the trace's own demand
    does not; so there is a size at which both together fill the zone.  A multiple of 4 MiB, at least 64 MiB.
    """
    held = sum(zone.held_pages for zone in compiled.population)
    whole = sum(zone.free_pages for zone in compiled.population) + held
    peak = max(compiled.counts["peak_pages"], 1)
    freed = compiled.counts["held_at_start_pages"]
    # Smallest s with max(s * held / whole, freed) + peak <= occupancy * s.
    sizes = [(freed + peak) / occupancy]
    if occupancy > held / whole:
        sizes.append(peak / (occupancy - held / whole))
    pages = min(max(sizes), whole)
    return max(-(-int(pages) // 1024) * 1024, 16384) * 4096
