"""Every number that a replay yields, counted a second time: by the plain-Python twin and from the physmap's
log.

A small trace runs through the twin one operation at a time; what docs/use/metrics.md says in words is counted
between the operations and at the end, and compared with what ``replay`` says, series and pageblock map
included.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

pytest.importorskip("asi_pa.run.replay", reason="the extension modules are not built")

from asi_pa import Allocator
from asi_pa.designs import as_design
from asi_pa.experiment import replay
from asi_pa.kernel.gfp import GFP_NAMES
from asi_pa.physmap.records import Flush, LogOp
from asi_pa.trace import CompiledTrace, Trace, compile_trace, workload
from asi_pa.trace.compile import OP_ALLOC, OP_TICK
from tests.twin import pcp
from tests.twin.machine import Machine
from tests.twin.relief import Replay
from tests.twin.zone import Zone

SAMPLES = 7
PAGES = 512
#: Kinds of the twin's log (Machine.events): a range of pageblocks was mapped, was unmapped.
MAPPED, UNMAPPED = 1, 2
SENSITIVE = GFP_NAMES["__GFP_SENSITIVE"]
DESIGNS = (
    "linux",
    "migratetype",
    "migratetype/eager",
    "freetype/sound",
    "unmapped/v4",
    "rfcv2-queue",
    "per-page",
)


@pytest.fixture(scope="module")
def trace() -> Trace:
    whole = workload("bursts", "32M", 3)
    return whole.with_events(np.arange(len(whole)) < 16000)


@pytest.fixture(scope="module")
def compiled(trace: Trace) -> CompiledTrace:
    """Full enough for failures, fallbacks and flips of both directions."""
    return compile_trace(trace, "share=0.6", memory="24M", seed=5)


@dataclass
class Counted:
    """What the twin was seen to do."""

    requests: Counter[str] = field(default_factory=Counter)
    by_order: Counter[int] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    listed: Counter[str] = field(default_factory=Counter)
    """Requests that a per-CPU list answered."""
    failures: int = 0
    mapped: int = 0
    """Pageblocks that became mapped."""
    unmapped: int = 0
    free: list[dict[str, int]] = field(default_factory=list)
    """Free pages by freetype, at every stop."""
    flips: list[tuple[int, int]] = field(default_factory=list)
    blocks: list[list[str]] = field(default_factory=list)
    """Each pageblock in words, at every stop."""
    pages_mapped: list[int] = field(default_factory=list)


@contextlib.contextmanager
def answers_of_the_lists() -> Iterator[Counter[str]]:
    """Counts the blocks that the twin's per-CPU lists hand out."""
    seen: Counter[str] = Counter()
    alloc = pcp.alloc

    def watched(zone: Zone, order: int, freetype: int, alloc_flags: int) -> int | None:
        found = alloc(zone, order, freetype, alloc_flags)
        seen["answered"] += found is not None
        return found

    pcp.alloc = watched
    try:
        yield seen
    finally:
        pcp.alloc = alloc


class Watched:
    """The twin, looked at between operations."""

    def __init__(self, compiled: CompiledTrace, name: str) -> None:
        boot = Allocator.from_trace(compiled, name)
        self.compiled, self.design = compiled, as_design(name)
        self.machine = Machine(boot.spec, self.design, boot.kernel)
        self.run = Replay(self.machine, compiled.classes.tolist(), compiled.nslots, fallbacks=False)
        self.seen = Counted()
        self.machine.log_events()
        self.at_boot = sum(self.zone.block_mapped)

    @property
    def zone(self) -> Zone:
        (zone,) = self.machine.zones
        return zone

    def operate(self, at: int) -> None:
        row = self.compiled.ops[at : at + 1]
        failures = self.run.failures
        with answers_of_the_lists() as answered:
            self.run.run(row)
        assert self.zone.events is not None
        for _, what, _, pages, aux in self.zone.events:
            # of a range that is mapped, or unmapped, some pageblocks may have been so before
            blocks = pages // PAGES - (aux >> 16)
            if what & 0xFF == MAPPED:
                self.seen.mapped += blocks
            elif what & 0xFF == UNMAPPED:
                self.seen.unmapped += blocks
        self.zone.events.clear()
        assert self.seen.mapped - self.seen.unmapped == sum(self.zone.block_mapped) - self.at_boot
        if int(row["op"][0]) == OP_ALLOC:
            kind = "sensitive" if int(self.compiled.classes[row["cls"][0]]) & SENSITIVE else "nonsensitive"
            self.seen.requests[kind] += 1
            self.seen.by_order[int(row["order"][0])] += 1
            self.seen.failed[kind] += self.run.failures - failures
            self.seen.listed[kind] += answered.total()

    def look(self) -> None:
        """One sample of the series and a row of the map."""
        zone, tables = self.zone, self.machine.tables
        names = [freetype.name for freetype in self.design.freetypes]
        free = dict.fromkeys(names, 0)
        whole = set()
        for order, lists in enumerate(zone.free_list):
            for name, pfns in zip(names, lists, strict=False):
                free[name] += len(pfns) << order
                for pfn in pfns:
                    if order >= zone.pageblock_order:
                        first = (pfn >> zone.pageblock_order) - zone.first_block
                        whole |= set(range(first, first + (1 << order >> zone.pageblock_order)))
        self.seen.free.append(free)
        self.seen.flips.append((self.seen.mapped, self.seen.unmapped))
        words = []
        for block in range(len(zone.block_type)):
            name = names[zone.type_of((zone.first_block + block) << zone.pageblock_order)]
            side = ("mapped" if zone.block_mapped[block] else "unmapped") if tables.tracks else ""
            words.append(f"{'free ' if block in whole else ''}{name} {side}".strip())
        self.seen.blocks.append(words)
        spec = zone.spec
        self.seen.pages_mapped.append(
            sum(self.machine.is_present(pfn) for pfn in range(spec.start_pfn, spec.end_pfn))
            if self.design.tree == "restricted" and self.design.protects
            else 0
        )


def stops_of(compiled: CompiledTrace) -> list[int]:
    """Where ``replay`` looks: as many places as asked for, evenly, first and last included."""
    n = len(compiled.ops)
    return sorted({int(n * k / (SAMPLES - 1)) for k in range(SAMPLES)})


@pytest.fixture(scope="module", params=DESIGNS)
def both(
    request: pytest.FixtureRequest, compiled: CompiledTrace
) -> tuple[dict[str, Any], Watched, list[int]]:
    watched = Watched(compiled, request.param)
    stops = stops_of(compiled)
    watched.look()
    for at in range(len(compiled.ops)):
        watched.operate(at)
        if at + 1 in stops:
            watched.look()
    return replay(compiled, request.param, samples=SAMPLES, fallbacks=False), watched, stops


Both = tuple[dict[str, Any], Watched, list[int]]


def test_requests_and_failures(both: Both) -> None:
    entry, watched, _ = both
    metrics, seen = entry["metrics"], watched.seen
    assert metrics["allocations"] == seen.requests.total()
    assert metrics["allocations_by_order"] == [seen.by_order[order] for order in range(11)]
    assert metrics["requests_by_kind"] == {
        kind: seen.requests[kind] for kind in ("sensitive", "nonsensitive")
    }
    assert metrics["failures_by_kind"] == {kind: seen.failed[kind] for kind in ("sensitive", "nonsensitive")}
    assert metrics["failures"] == watched.run.failures == seen.failed.total() > 0
    huge = sum(count for (_, big), count in watched.run.failed_by_way.items() if big)
    assert metrics["failures_by_group"]["huge"] == huge
    assert sum(metrics["failures_by_group"].values()) == watched.run.failures
    assert sum(metrics["failures_by_cause"].values()) == watched.run.failures
    assert sum(metrics["failures_by_way_out"].values()) == watched.run.failures


def test_requests_that_a_per_cpu_list_answered(both: Both) -> None:
    entry, watched, _ = both
    metrics, seen = entry["metrics"], watched.seen
    kinds = ("sensitive", "nonsensitive")
    assert metrics["pcp_allocations_by_kind"] == {kind: seen.listed[kind] for kind in kinds}
    assert metrics["pcp_share"] == {kind: seen.listed[kind] / seen.requests[kind] for kind in kinds}
    assert metrics["failure_rate"] == {kind: seen.failed[kind] / seen.requests[kind] for kind in kinds}
    assert 0 < seen.listed.total() < seen.requests.total()


def test_causes_and_counters(both: Both) -> None:
    from asi_pa.experiment.metrics import CAUSES, METRICS
    from asi_pa.experiment.metrics import Counter as Counts

    entry, watched, _ = both
    stats = watched.machine.stats()
    causes = entry["metrics"]["failures_by_cause"]
    assert causes == {key: stats[cause.counter] for key, cause in CAUSES.items()}
    counted = 0
    for metric in METRICS:
        if isinstance(metric.measure, Counts) and metric.key in entry["metrics"]:
            expected = sum(stats[name] for name in metric.measure.names) * metric.measure.times
            assert entry["metrics"][metric.key] == expected, metric.key
            counted += 1
    assert counted > 15


def test_flips(both: Both) -> None:
    entry, watched, _ = both
    metrics, seen = entry["metrics"], watched.seen
    if watched.machine.tables.tracks:
        assert (metrics["flips_s2n"], metrics["flips_n2s"]) == (seen.mapped, seen.unmapped)
        assert seen.mapped + seen.unmapped > 0
    else:
        assert metrics["flips_s2n"] == metrics["flips_n2s"] == seen.mapped == seen.unmapped == 0


def test_the_series(both: Both, compiled: CompiledTrace, trace: Trace) -> None:
    entry, watched, stops = both
    series, seen = entry["series"], watched.seen
    assert series["op"] == stops
    # The time of every 1024th operation is known: that of the event that it comes from.
    numbers = np.cumsum(compiled.ops["op"] != OP_TICK) - 1
    events = np.flatnonzero(trace.kind < 2)
    began = [min(stop // 1024, (len(compiled.ops) - 1) // 1024) * 1024 for stop in stops]
    assert series["time_ns"] == [int(trace.time_ns[events[max(int(numbers[at]), 0)]]) for at in began]
    for name, pages in series["free_pages"].items():
        assert pages == [free[name] for free in seen.free], name
    for name in {name for free in seen.free for name, pages in free.items() if pages}:
        assert name in series["free_pages"]
    assert series["flips_s2n"] == [s2n for s2n, _ in seen.flips]
    assert series["flips_n2s"] == [n2s for _, n2s in seen.flips]
    if watched.machine.tables.tracks and entry["tree"] == "restricted":
        assert series["mapped_pages"] == seen.pages_mapped


def test_the_block_map(both: Both) -> None:
    entry, watched, stops = both
    blockmap, seen = entry["blockmap"], watched.seen
    assert blockmap["op"] == stops
    assert blockmap["columns"] == len(watched.zone.block_type)
    for row, words in zip(blockmap["rows"], seen.blocks, strict=True):
        assert [blockmap["legend"][kind] for kind in row] == words


def test_the_state_at_the_end(both: Both) -> None:
    entry, watched, _ = both
    metrics, zone, design = entry["metrics"], watched.zone, watched.design
    free = [sum(len(pfns) for pfns in lists) for lists in zone.free_list]
    pages = sum(count << order for order, count in enumerate(free))
    for order in range(11):
        suitable = sum(count << (at - order) for at, count in enumerate(free) if at >= order)
        unusable = 1000 * (pages - (suitable << order)) // pages if pages else 1000
        assert metrics["unusable_index"][order] == unusable
        if sum(free) and not suitable:
            wanted = 1000 - (1000 + (pages * 1000 >> order)) // sum(free)
        else:
            wanted = -1000 if suitable else 0
        assert metrics["extfrag_index"][order] == wanted
    foreign: Counter[int] = Counter()
    for pfn, used in zone.allocated.items():
        for page in range(pfn, pfn + (1 << used.order)):
            block = page >> zone.pageblock_order
            kind = design.freetypes[zone.type_of(block << zone.pageblock_order)].mt
            foreign[block] += used.migratetype != kind
    assert metrics["foreign_pages"] == foreign.total()
    assert metrics["mixed_blocks"] == sum(count > 0 for count in foreign.values())
    if design.protects and not design.wrapper:
        sides = {"mapped": 0, "unmapped": 0}
        for freetype in design.freetypes:
            sides["mapped" if freetype.mapped else "unmapped"] += watched.seen.free[-1][freetype.name]
        assert metrics["stranded_pages_end"] == sides


def leaves_of(allocator: Allocator, start: int, end: int) -> dict[str, int]:
    """Leaves of the restricted tree by size, found frame by frame."""
    frames = {"4K": 1, "2M": 512, "1G": 512 * 512}
    seen = set()
    for pfn in range(start, end):
        leaf = allocator.physmap.lookup(pfn)
        if leaf is not None and leaf.present:
            seen.add((leaf.level, pfn // frames[leaf.level]))
    sizes = Counter(level for level, _ in seen)
    return {level.lower(): sizes[level] for level in frames}


def test_the_physmaps_log(both: Both, compiled: CompiledTrace) -> None:
    """Flushes, leaf writes and splits, record by record; the series at its stops."""
    entry, watched, stops = both
    metrics = entry["metrics"]
    allocator = Allocator.from_trace(compiled, watched.design)
    flushes, leaves = [], []
    for start, end in zip([0, *stops], stops, strict=False):
        allocator.replay(start, end)
        log = allocator.physmap.log()
        flushes.append(int((log["flush"] != Flush.NONE).sum()))
        leaves.append(leaves_of(allocator, watched.zone.spec.start_pfn, watched.zone.spec.end_pfn))
    if watched.design.tree == "restricted" and watched.design.protects:
        for size in ("4k", "2m", "1g"):
            assert entry["series"]["restricted_leaves"][size] == [each[size] for each in leaves]
            kb = {"4k": 4, "2m": 2048, "1g": 1 << 20}[size]
            assert metrics["direct_map_kb"]["restricted"][size] == leaves[-1][size] * kb
    if not watched.design.protects:
        assert metrics["tlb_flushes_ranged"] == metrics["tlb_flushes_full"] == 0
        return
    # A call's last record carries its flush; what a ranged one takes is what the call unmapped.
    done = log[log["flush"] != Flush.NONE]
    ranged, full = done[done["flush"] == Flush.RANGED], done[done["flush"] == Flush.FULL]
    assert (ranged["count"] <= 33).all()
    assert metrics["tlb_flushes_ranged"] == len(ranged)
    assert metrics["tlb_flushes_full"] == len(full)
    assert metrics["tlb_flushed_pages"] == int(ranged["count"].sum())
    assert metrics["ipis"] == len(done) * (compiled.machine.cpus - 1)
    assert len(done) > 0
    served = metrics["allocations"] - metrics["failures"]
    assert metrics["tlb_flushes_per_1000_allocations"] == pytest.approx(1000 * len(done) / served)
    wrote = log[np.isin(log["op"], (LogOp.MAP, LogOp.UNMAP))]
    for name, level in (("pte", 1), ("pmd", 2), ("pud", 3)):
        assert metrics[f"leaf_writes_{name}"] == int(wrote["count"][wrote["level"] == level].sum()), name
    assert metrics["leaf_splits_2m"] == int(((log["op"] == LogOp.SPLIT) & (log["level"] == 2)).sum())
    assert entry["series"]["flushes"] == flushes
