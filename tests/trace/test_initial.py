"""The initial state: made-up zones frame by frame, and the recorded ones where they are at hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from asi_pa.kernel.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NAMES, MODEL_LRU
from asi_pa.trace import CompiledTrace, Population, Trace, compile_trace, load_trace
from asi_pa.trace.blocks import frames_of, free_blocks
from tests.trace.events import make_trace

BUDDY, LRU, SLAB, HEAD, TAIL, NOPAGE = 1, 2, 8, 16, 32, 128
SENSITIVE = GFP_NAMES["__GFP_SENSITIVE"]
START = 0x40000
SIZE = 8 * 1024


def kpageflags() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Eight chunks: free, LRU, slab, mixed, slab and unflagged, THP, free, blank (a hole)."""
    flags = np.zeros(START + SIZE, np.uint8)
    zone = flags[START:].reshape(8, 1024)
    zone[0] = BUDDY
    zone[1] = LRU
    zone[2] = SLAB
    zone[3, :100], zone[3, 100:512], zone[3, 512:] = LRU, BUDDY, SLAB
    zone[3, 200] = 0
    zone[4, :512] = SLAB
    zone[5] = LRU | TAIL
    zone[5, ::512] = LRU | HEAD
    zone[6] = BUDDY
    return flags


def made(events: list[tuple[Any, ...]], **zone: Any) -> Trace:
    cpu = {"count": 1, "high": 9, "batch": 3, "high_min": 8, "high_max": 80}
    normal = {"name": "Normal", "start_pfn": START, "spanned": SIZE, "managed": SIZE - 1024, "free": 2460}
    zones = [normal | {"min": 10, "low": 20, "high": 30, "cpus": [cpu, cpu]} | zone]
    text = "Number of blocks type Unmovable Movable Reclaimable\nNode 0, zone   Normal   4   9   1\n"
    snapshots = {"zones_start": zones, "pagetypeinfo_start": {"text": text}}
    return make_trace(events, kpageflags={"start": kpageflags()}, snapshots=snapshots)


def check_partition(compiled: CompiledTrace) -> None:
    """Each frame lies in exactly one of: free block, per-CPU list, allocation, hole; slots are distinct."""
    for population, zone in zip(compiled.population, compiled.machine.zones, strict=True):
        assert (population.start_pfn, population.spanned) == (zone.start_pfn, zone.spanned)
        count = np.zeros(population.spanned, np.int64)
        for pfn, order in (
            (population.free_pfn, population.free_order),
            (population.held_pfn, population.held_order),
            (population.pcp_pfn, population.pcp_order),
        ):
            assert (pfn % (1 << order.astype(np.uint32)) == 0).all()
            frames = frames_of(pfn.astype(np.int64), order) - zone.start_pfn
            count += np.bincount(frames, minlength=population.spanned)
        for start, end in population.holes:
            count[start - zone.start_pfn : end - zone.start_pfn] += 1
        assert (count == 1).all()
        assert int(population.held_cls.max(initial=0)) < len(compiled.classes)
        blocks = (zone.start_pfn + zone.spanned - 1 >> 9) - (zone.start_pfn >> 9) + 1
        assert len(population.block_mt) == blocks
        check_maximal(population)
    slots = np.concatenate(
        [frames_of(p.held_slot.astype(np.int64), p.held_order) for p in compiled.population]
    )
    used = np.bincount(slots, minlength=1)
    assert used.max() <= 1
    assert len(used) <= compiled.nslots


def check_maximal(population: Population) -> None:
    for order in range(10):
        pfn = population.free_pfn[population.free_order == order]
        assert not np.isin(pfn ^ (1 << order), pfn).any()


def test_flags_become_a_population() -> None:
    compiled = compile_trace(made([("alloc", START, 0)]))
    check_partition(compiled)
    population = compiled.population[0]
    assert compiled.memory_bytes == 7 * 4 << 20
    assert population.holes == ()
    words = {
        int(pfn): (int(order), int(compiled.classes[cls]))
        for pfn, order, cls in zip(
            population.held_pfn, population.held_order, population.held_cls, strict=True
        )
    }
    movable = GFP_HIGHUSER_MOVABLE | SENSITIVE | MODEL_LRU
    assert words[START + 1024] == (0, movable)
    # the fifth pageblock is Reclaimable: its slab is of reclaimable caches, which the RFC calls sensitive
    assert words[START + 2048] == (0, GFP_KERNEL | GFP_NAMES["__GFP_RECLAIMABLE"] | SENSITIVE)
    assert words[START + 2048 + 512] == (0, GFP_KERNEL)
    assert words[START + 4096] == (0, GFP_KERNEL)
    assert words[START + 5 * 1024] == (9, movable)
    assert words[START + 5 * 1024 + 512] == (9, movable)
    # U: slab and unflagged; R: one slab block, as recorded; M: the rest, free blocks included.
    assert population.block_mt.tolist() == [1, 1, 1, 1, 2, 0, 1, 0, 0, 0, 1, 1, 1, 1]
    # Two pages are said to be on per-CPU lists: the stray one in the LRU block; the other is not located,
    # as a whole pageblock without flags would be one of order 9.
    assert compiled.initial["pcp_pages_guessed"] == 1
    assert compiled.initial["pcp_pages_not_located"] == 1
    assert START + 3 * 1024 + 200 not in words
    assert (population.free_pages, population.pcp_pages) == (1024 + 411 + 1024, 1)
    assert (population.pcp_pfn.tolist(), population.pcp_mt.tolist()) == ([START + 3 * 1024 + 200], [1])
    assert compiled.machine.zones[0].wmark == (10, 20, 30, 40)


def test_the_trace_overrules_the_snapshot() -> None:
    lru, slab, free, plain = START + 1024, START + 2048, START, START + 5000
    events = [
        ("alloc", lru, 0),  # flagged as used, but allocated: was free, on a per-CPU list
        ("free", free + 4, 2),  # flagged as free, but freed: was held
        ("free", slab + 8, 3),  # an order that flags do not show
        ("alloc", plain, 0),  # unflagged, but allocated: was on a per-CPU list
        ("zone_locked", slab + 512, 9, 0, 0, 0, None, 2),  # and its block is reclaimable
    ]
    compiled = compile_trace(made(events))
    check_partition(compiled)
    population = compiled.population[0]
    held = dict(zip(population.held_pfn.tolist(), population.held_order.tolist(), strict=True))
    assert lru not in held
    assert plain not in held
    assert held[free + 4] == 2
    assert held[slab + 8] == 3
    assert population.held_pfn[:2].tolist() == [free + 4, slab + 8]
    assert population.held_slot[:2].tolist() == [int(compiled.ops["slot"][1]), int(compiled.ops["slot"][2])]
    assert population.block_mt[5] == 2
    assert population.block_mt[4] == 0
    assert compiled.initial["blocks_shown_by_trace"] == 1
    assert compiled.initial["pcp_pages_from_trace"] == 2
    assert {lru, plain} <= set(population.pcp_pfn.tolist())
    assert compiled.initial["pcp_pages_guessed"] == 1


def test_recorded_machine_keeps_its_holes() -> None:
    compiled = compile_trace(made([("free", START + 1024, 0)], protection=[0, 0, 7, 8, 9]), recorded=True)
    check_partition(compiled)
    zone = compiled.machine.zones[0]
    assert zone.holes == ((START + 7 * 1024, START + SIZE),)
    assert zone.managed == SIZE - 1024
    assert zone.lowmem_reserve == (0, 0, 7, 8)
    assert zone.pcp is not None
    assert (zone.pcp.batch, zone.pcp.high_min, zone.pcp.high_max, zone.pcp.high) == (3, 8, 80, 9)


@pytest.mark.parametrize("pages", [512, 1024, 3000, 4096, 7 * 1024, 20 * 1024])
def test_other_sizes_keep_what_the_trace_frees(pages: int) -> None:
    events = [("free", START + 1024 + i, 0) for i in range(40)] + [("free", START + 5 * 1024, 9)] * (
        pages > 512
    )
    for seed in range(5):
        compiled = compile_trace(made(events), memory=pages * 4096, seed=seed)
        check_partition(compiled)
        population = compiled.population[0]
        assert population.spanned == pages
        mine = dict(zip(population.held_slot.tolist(), population.held_order.tolist(), strict=True))
        for op in compiled.ops:
            assert mine[int(op["slot"])] == op["order"]
        again = compile_trace(made(events), memory=pages * 4096, seed=seed)
        np.testing.assert_array_equal(population.held_pfn, again.population[0].held_pfn)
    if pages > 7 * 1024:
        assert population.free_pages > pages - 7 * 1024


def test_free_blocks_are_the_buddy_structure() -> None:
    rng = np.random.default_rng(1)
    for start in (0, 1, 513, 4096):
        free = rng.random(5000) < 0.9
        free[1024:3072] = True
        pfn, order = free_blocks(free, start, 10)
        covered = np.zeros(5000, bool)
        covered[frames_of(pfn.astype(np.int64), order) - start] = True
        np.testing.assert_array_equal(covered, free)
        blocks = set(zip(pfn.tolist(), order.tolist(), strict=True))
        assert not any((p ^ 1 << k, k) in blocks for p, k in blocks if k < 10)
        assert 10 in order.tolist()


@pytest.mark.parametrize(
    ("zone", "named"),
    [
        ({"managed": 2 * SIZE}, "contradicts itself"),
        ({"spanned": -1}, "contradicts itself"),
        ({"start_pfn": "x"}, "contradicts itself"),
        ({"start_pfn": START + 1024}, "kpageflags end"),
    ],
)
def test_contradicting_zones(zone: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        compile_trace(made([("free", START, 0)], **zone))


def test_free_outside_every_zone() -> None:
    with pytest.raises(ValueError, match="0x100"):
        compile_trace(made([("free", 0x100, 0)]), recorded=True)
    # The one modelled zone takes it in.
    compiled = compile_trace(made([("free", 0x100, 0)]))
    check_partition(compiled)


@pytest.mark.parametrize(("name", "most"), [("redis", 0.01), ("net", 0.01)])
def test_bundled(name: str, most: float) -> None:
    trace = load_trace(name)
    compiled = compile_trace(trace)
    check_partition(compiled)
    notes = compiled.initial
    assert notes["managed"] == notes["managed_recorded"]
    recorded = notes["free_pages_recorded"] + notes["pcp_pages_recorded"]
    located = notes["pcp_pages_from_trace"] + notes["pcp_pages_guessed"]
    assert located + notes["pcp_pages_not_located"] == notes["pcp_pages_recorded"]
    assert abs(notes["free_pages"] + located - recorded) < 0.01 * recorded
    blocks = sum(abs(notes["blocks"][key] - notes["blocks_recorded"][key]) for key in notes["blocks"])
    assert blocks < 0.03 * sum(notes["blocks"].values())
    assert notes["majority_right"] > 0.99 * notes["blocks_shown_by_trace"]
    assert sum(compiled.repairs.values()) < 1000
    check_partition(compile_trace(trace, memory="1200M"))
