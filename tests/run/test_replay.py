"""Replays of compiled operations answer as the same calls, one by one."""

import os
import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("asi_pa.run.replay", reason="the extension modules are not built")

from asi_pa import experiment
from asi_pa.engine.machine import Machine
from asi_pa.kernel.gfp import GFP_NAMES, parse_gfp
from asi_pa.kernel.indexes import unusable_index
from asi_pa.kernel.spec import MachineSpec, PcpSpec, ZoneSpec
from asi_pa.run.replay import Replay
from asi_pa.run.samples import Samples
from asi_pa.trace import compile_trace, load_trace
from asi_pa.trace.compiler import OP
from asi_pa.trace.frames import recorded_zones
from tests.twin.kswapd import KSWAPD_EVERY

SHARED = Path(os.environ.get("ASI_PA_SHARED", Path(__file__).resolve().parents[3] / "shared"))

CLASSES = [
    parse_gfp(words)
    for words in ("GFP_KERNEL", "GFP_HIGHUSER_MOVABLE", "GFP_ATOMIC", "GFP_KERNEL|__GFP_RECLAIMABLE")
] + [GFP_NAMES["GFP_KERNEL"] | GFP_NAMES["__GFP_SENSITIVE"]]


def two_nodes(pcp):
    """Node 0 has DMA32 below Normal, so only its requests carry ALLOC_NOFRAGMENT (alloc_flags_nofragment)."""
    zones = (
        ZoneSpec(name="Normal", nid=0, start_pfn=4096, spanned=512, pcp=pcp),
        ZoneSpec(name="DMA32", nid=0, start_pfn=1024, spanned=128, pcp=pcp),
        ZoneSpec(name="Normal", nid=1, start_pfn=8192, spanned=512, pcp=pcp),
    )
    return MachineSpec(zones=zones, cpus=4, pageblock_order=3, max_page_order=5, cpu_nodes=(0, 0, 1, 1))


def some_operations(rng, n, machine):
    """Operations, and the pfns that calls one by one give; slots of failed allocations stay empty."""
    ops = np.zeros(n, OP)
    pfns = np.full(n, -1, np.int64)
    live: list[int] = []
    for i in range(n):
        cpu = rng.randrange(machine.spec.cpus)
        if live and rng.random() < 0.4:
            slot = live.pop(rng.randrange(len(live)))
            order = int(ops[slot]["order"])
            ops[i] = (2, order, 0, cpu, slot)
            machine.free(int(pfns[slot]), order, cpu)
        else:
            order, cls = rng.choice([0, 0, 0, 1, 2, 3]), rng.randrange(len(CLASSES))
            ops[i] = (1, order, cls, cpu, i)
            pfns[i] = machine.alloc(order, CLASSES[cls], cpu)
            if pfns[i] >= 0:
                live.append(i)
        if (i + 1) % KSWAPD_EVERY == 0:
            machine.run_kswapd(cpu)
    return ops, pfns


@pytest.mark.parametrize("pcp", [None, PcpSpec(batch=3, high_min=12, high_max=40)], ids=["buddy", "pcp"])
@pytest.mark.parametrize("design", ["linux", "freetype/sound", "freetype/as-posted-flags"])
def test_every_node_decodes_for_itself(design, pcp):
    spec = two_nodes(pcp)
    steps, whole = Machine(spec, design, reclaims=True), Machine(spec, design)
    ops, pfns = some_operations(random.Random(5), 3000, steps)
    assert {spec.zones[0].start_pfn <= pfn < spec.zones[0].end_pfn for pfn in pfns[pfns >= 0]} == {
        False,
        True,
    }
    replay = Replay(whole, np.array(CLASSES, np.uint32), len(ops))
    replay.run(ops, 0, 1000)
    replay.run(ops, 1000)
    assert replay.done == len(ops)
    assert replay.failures == (pfns[ops["op"] == 1] < 0).sum()
    for zone in range(len(spec.zones)):
        assert steps.dump(zone).tolist() == whole.dump(zone).tolist()


def test_what_cannot_be_is_named_on_several_nodes_too():
    machine = Machine(two_nodes(None))
    ops = np.zeros(4, OP)
    ops["op"], ops["slot"], ops["cpu"] = 1, range(4), (0, 2, 9, 0)
    with pytest.raises(ValueError, match=r"operation 2 .*cpu 9"):
        Replay(machine, np.array(CLASSES, np.uint32), 4).run(ops)


TRACES = ["redis", "net", *sorted(str(path) for path in (SHARED / "traces").glob("*.npz"))]


@pytest.mark.parametrize("name", TRACES, ids=lambda name: Path(name).stem)
def test_traces_replay_on_the_machine_they_were_recorded_on(name):
    """Its zones with their limits, its CPUs' lists, its kernel; every invariant holds at the end."""
    trace = load_trace(name)
    compiled = compile_trace(trace, recorded=True)
    recorded = recorded_zones(trace)[::-1]
    assert [zone["name"] for zone in recorded] == ["Normal", "DMA32", "DMA"]
    used = set(compiled.ops["cpu"][compiled.ops["op"] != 4].tolist())
    assert compiled.machine.cpus == trace.cpus == len(used)
    assert compiled.kernel == "6.18"
    for zone, spec in zip(recorded, compiled.machine.zones, strict=True):
        assert (zone["name"], zone["spanned"], zone["managed"]) == (spec.name, spec.spanned, spec.managed)
        assert [zone[mark] for mark in ("min", "low", "high")] == list(spec.wmark[:3])
    for design in ("linux", "migratetype/sound", "freetype/as-posted"):
        assert experiment.replay(compiled, design, samples=2)["verify"] == "ok"


def one_zone(pcp):
    """Large enough that most requests find plenty of free pages: they hit."""
    zone = ZoneSpec(name="Normal", start_pfn=1024, spanned=8192, wmark=(64, 96, 128, 160), pcp=pcp)
    return MachineSpec(zones=(zone,), cpus=4, pageblock_order=3, max_page_order=5)


@pytest.mark.parametrize("pcp", [None, PcpSpec(batch=3, high_min=12, high_max=40)], ids=["buddy", "pcp"])
@pytest.mark.parametrize("design", ["linux", "migratetype/as-posted", "freetype/sound", "freetype/as-posted"])
def test_hits_are_what_the_calls_do(design, pcp):
    steps, whole = Machine(one_zone(pcp), design, reclaims=True), Machine(one_zone(pcp), design)
    ops, pfns = some_operations(random.Random(7), 20_000, steps)
    replay = Replay(whole, np.array(CLASSES, np.uint32), len(ops))
    for start in range(0, len(ops), 1500):
        replay.run(ops, start, start + 1500)
        assert whole.verify() is None
    assert replay.allocations == (ops["op"] == 1).sum()
    assert replay.failures == (pfns[ops["op"] == 1] < 0).sum()
    assert steps.dump(0).tolist() == whole.dump(0).tolist()
    assert steps.stats() == whole.stats()


@pytest.mark.parametrize("at", [0, 5, 23, 24, 25, 40, 99])
@pytest.mark.parametrize(
    "bad", [(9, 0, 0, 0, 1), (1, 6, 0, 0, 1), (1, 0, 0, 4, 1), (1, 0, 0, 0, 100), (2, 1, 0, 0, 3)]
)
def test_what_cannot_be_is_named(at, bad):
    ops = np.zeros(100, OP)
    ops["op"], ops["slot"] = 1, np.arange(100)
    ops[at] = bad
    if bad[0] == 2 and at < 4:
        return  # a free of nothing
    replay = Replay(Machine(one_zone(None)), np.array(CLASSES, np.uint32), 100)
    with pytest.raises(ValueError, match=rf"^operation {at} \(op {bad[0]}, order {bad[1]}"):
        replay.run(ops)
    assert replay.done == replay.allocations == at


def test_a_tick_needs_no_slot():
    ops = np.zeros(100, OP)
    ops["op"], ops["slot"] = 1, np.arange(100)
    for at in (0, 10, 30, 31, 99):
        ops[at] = (4, 99, 0, 99, 2**32 - 1)
    replay = Replay(
        Machine(one_zone(PcpSpec(batch=3, high_min=12, high_max=40))), np.array(CLASSES, np.uint32), 100
    )
    replay.run(ops)
    assert (replay.done, replay.allocations) == (100, 95)


@pytest.mark.parametrize("most", [1, 7, 256, 5000])
@pytest.mark.parametrize("design", ["linux", "freetype/sound", "pool/nonsensitive"])
def test_samples_are_what_the_machine_says(design, most):
    machine = Machine(one_zone(None), design)
    ops, _ = some_operations(random.Random(3), 4000, Machine(one_zone(None), design))
    replay = Replay(machine, np.array(CLASSES, np.uint32), len(ops))
    samples = Samples(machine, 0, most)
    expected = []
    for start in [*range(0, len(ops), 400), *range(300)]:  # beyond the first room for samples
        if start % 400 == 0:
            replay.run(ops, start, start + 400)
        samples.sample(start)
        kinds = replay.block_kinds()
        edges = np.linspace(0, len(kinds), min(most, len(kinds)) + 1).astype(int)
        stats, physmap = machine.stats(), machine.physmap
        flushes, leaves, mapped = 0, [0, 0, 0], 0
        if physmap is not None:
            counters = physmap.counters()
            flushes = counters.flushes_ranged + counters.flushes_full
            leaves, mapped = list(physmap.leaf_counts().values()), physmap.mapped_pages()
        expected.append(
            (
                start,
                replay.free_pages().tolist(),
                [stats["flips_s2n"], stats["flips_n2s"]],
                flushes,
                leaves,
                mapped,
                unusable_index(replay.free_blocks(0).tolist(), machine.spec.pageblock_order),
                [np.bincount(kinds[a:b]).argmax() for a, b in pairwise(edges)],
            )
        )
    seen = (
        samples.op,
        samples.free_pages,
        samples.flips,
        samples.flushes,
        samples.leaves,
        samples.mapped_pages,
        samples.unusable_index,
        samples.blocks,
    )
    assert len(samples) == len(expected)
    assert [tuple(row) for row in zip(*(column.tolist() for column in seen), strict=True)] == expected
