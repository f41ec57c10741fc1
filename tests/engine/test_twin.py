"""The rules in small scenarios, for the twin and the engine alike, and recorded runs replayed in part."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asi_pa.kernel.gfp import GFP_NAMES, MODEL_LRU
from asi_pa.kernel.spec import MachineSpec, PcpSpec, ZoneSpec
from tests.twin import Machine
from tests.twin.dump import first_difference, labelled
from tests.twin.engines import ENGINES, Make, load, small_spec
from tests.twin.replay import Recording, replay

UNMOVABLE = GFP_NAMES["__GFP_NOMEMALLOC"]
MOVABLE = UNMOVABLE | GFP_NAMES["__GFP_MOVABLE"]
RECLAIMABLE = UNMOVABLE | GFP_NAMES["__GFP_RECLAIMABLE"]
LRU = MOVABLE | GFP_NAMES["__GFP_COMP"] | MODEL_LRU
ATOMIC = GFP_NAMES["GFP_ATOMIC"]
U, M, R, HIGHATOMIC, CMA, ISOLATE = range(6)
BASE = 1024


@pytest.fixture(params=ENGINES)
def make(request: pytest.FixtureRequest) -> Make:
    return load(request.param)


def state(machine: Any, zone: int = 0) -> dict[str, int]:
    """A dump by label."""
    return dict(labelled(machine.dump(zone).tolist()))


def free_list(machine: Any, order: int, freetype: int) -> list[int]:
    """Relative pfns, head first."""
    words = state(machine)
    name = f"free list of order {order}, type {freetype}"
    return [words[f"{name}: entry {index}"] for index in range(words[f"{name}: length"])]


def block_types(machine: Any) -> list[int]:
    words = state(machine)
    return [words[f"pageblock types: entry {i}"] for i in range(words["pageblock types: length"])]


def pcp_list(machine: Any, index: int) -> list[int]:
    words = state(machine)
    return [words[f"pcp list {index}: entry {i}"] for i in range(words[f"pcp list {index}: length"])]


def sound(machine: Any) -> None:
    assert machine.verify() is None


# Boot


def test_boot_hands_over_aligned_chunks_around_holes(make: Make) -> None:
    machine = make(small_spec(pages=32, holes=((BASE + 3, BASE + 5),)))
    assert free_list(machine, 0, M) == [2, 5]
    assert free_list(machine, 1, M) == [0, 6]
    assert free_list(machine, 3, M) == [8]
    assert free_list(machine, 4, M) == [16]
    assert machine.counters() == (0, 0, 30)
    sound(machine)


def test_boot_frees_cma_blocks_last_to_the_head(make: Make) -> None:
    machine = make(small_spec(cma=((BASE + 64, BASE + 96),)))
    assert free_list(machine, 4, M) == [0, 16, 32, 48, 96, 112]
    assert free_list(machine, 4, CMA) == [80, 64]
    assert state(machine)["NR_FREE_CMA_PAGES"] == 32
    sound(machine)


# Split and merge


def test_split_gives_upper_halves_to_the_heads(make: Make) -> None:
    machine = make(small_spec(pages=32))
    assert machine.alloc(0, MOVABLE) == BASE
    assert [free_list(machine, order, M) for order in range(5)] == [[1], [2], [4], [8], [16]]
    sound(machine)


def test_merge_restores_the_pristine_lists(make: Make) -> None:
    machine = make(small_spec(pages=32))
    pfns = [machine.alloc(0, MOVABLE) for _ in range(32)]
    assert pfns == list(range(BASE, BASE + 32))
    for pfn in reversed(pfns):
        machine.free(pfn, 0)
    assert sorted(free_list(machine, 4, M)) == [0, 16]
    assert machine.counters()[2] == 32
    sound(machine)


def test_a_likely_merge_goes_to_the_tail(make: Make) -> None:
    machine = make(small_spec(pages=32))
    for _ in range(32):
        machine.alloc(0, MOVABLE)
    machine.free(BASE + 8, 0)
    machine.free(BASE + 2, 0)
    machine.free(BASE + 3, 0)  # order 1 at 2: its parent's buddy [4, 8) is in use
    machine.free(BASE + 0, 0)  # the parent [0, 2) has its buddy [2, 4) free: likely to merge
    assert free_list(machine, 0, M) == [8, 0]
    assert free_list(machine, 1, M) == [2]
    sound(machine)


def test_blocks_above_a_pageblock_are_freed_in_pieces(make: Make) -> None:
    machine = make(small_spec(pages=32))
    first, second = machine.alloc(4, MOVABLE), machine.alloc(4, MOVABLE)
    machine.free(second, 4)
    machine.free(first, 4)
    assert free_list(machine, 4, M) == [0, 16]
    sound(machine)


# Fallbacks


def test_claiming_a_whole_block_retypes_all_its_pageblocks(make: Make) -> None:
    machine = make(small_spec(pages=32, boost_factor=15000, wmark=(1, 2, 3, 4)))
    assert machine.alloc(0, UNMOVABLE) == BASE
    assert block_types(machine) == [U, U, M, M]
    assert [free_list(machine, order, U) for order in range(4)] == [[1], [2], [4], [8]]
    assert state(machine)["watermark_boost"] == 0
    sound(machine)


@pytest.mark.parametrize(("gfp", "claims"), [(LRU, False), (MOVABLE, True)])
def test_a_partial_claim_needs_half_of_the_block_free_or_alike(make: Make, gfp: int, claims: bool) -> None:
    """In a movable block, pages off the LRU count as alike for a reclaimable request."""
    machine = make(small_spec(pages=8, max_page_order=3))
    assert [machine.alloc(0, gfp) for _ in range(5)] == list(range(BASE, BASE + 5))
    assert machine.alloc(0, RECLAIMABLE) == BASE + 5
    assert block_types(machine) == [R if claims else M]
    assert free_list(machine, 1, R if claims else M) == [6]
    sound(machine)


def test_stealing_takes_the_smallest_and_leaves_the_rest(make: Make) -> None:
    machine = make(small_spec(pages=16, pageblock_order=4))
    for _ in range(9):
        machine.alloc(0, LRU)
    # free: 9, [10, 12), [12, 16); movable pages are not alike for an unmovable request, 7 < 8
    assert machine.alloc(0, UNMOVABLE) == BASE + 9
    assert machine.alloc(0, UNMOVABLE) == BASE + 10
    assert free_list(machine, 0, M) == [11]
    assert block_types(machine) == [M]
    sound(machine)


def test_refused_claims_boost_the_watermark(make: Make) -> None:
    machine = make(
        small_spec(pages=64, pageblock_order=4, boost_factor=15000, wmark=(0, 0, 20, 0)),
    )
    held = [machine.alloc(0, LRU) for _ in range(64)]
    for pfn in held[:7]:
        machine.free(pfn, 0)
    assert machine.alloc(0, UNMOVABLE) == BASE + 6
    # one attempt per order that has a block: 2, 1, 0; then the steal
    assert state(machine)["watermark_boost"] == 30
    sound(machine)


def test_nofragment_falls_back_only_after_the_first_pass(make: Make) -> None:
    machine = make(small_spec(pages=16, pageblock_order=4, nofragment=True))
    for _ in range(9):
        machine.alloc(0, LRU)
    assert machine.alloc(0, UNMOVABLE) == BASE + 9
    sound(machine)


# Watermarks


def test_watermarks_bound_each_kind_of_request(make: Make) -> None:
    """Left when the request fails: MIN for plain ones, less with each reserve (gfp_to_alloc_flags)."""
    left = {}
    for name, gfp in (
        ("plain", UNMOVABLE),
        ("nowait", GFP_NAMES["GFP_NOWAIT"]),
        ("high", UNMOVABLE | GFP_NAMES["__GFP_HIGH"]),
        ("atomic", ATOMIC),
        ("memalloc", GFP_NAMES["__GFP_MEMALLOC"]),
    ):
        machine = make(small_spec(wmark=(40, 50, 60, 70)))
        while machine.alloc(0, gfp) >= 0:
            pass
        left[name] = machine.counters()[2]
        assert state(machine)["zone flags"] == 4
        sound(machine)
    assert left == {"plain": 40, "nowait": 40, "high": 20, "atomic": 15, "memalloc": 0}


def test_lowmem_reserve_counts_by_the_request_zone(make: Make) -> None:
    spec = MachineSpec(
        zones=(
            ZoneSpec(start_pfn=4096, spanned=16),
            ZoneSpec(name="DMA32", start_pfn=1024, spanned=16, lowmem_reserve=(0, 0, 6, 6)),
        ),
        pageblock_order=3,
        max_page_order=4,
        watermark_boost_factor=0,
    )
    machine = make(spec)
    pfns = [machine.alloc(0, MOVABLE) for _ in range(27)]
    assert pfns[:16] == list(range(4096, 4112))
    assert pfns[16:26] == list(range(1024, 1034))
    assert pfns[26] == -1
    assert machine.alloc(0, MOVABLE | GFP_NAMES["__GFP_DMA32"]) == 1034
    sound(machine)


def test_the_lagging_counter_folds_when_it_leaves_its_bounds(make: Make) -> None:
    machine = make(small_spec(stat_threshold=2))
    seen = []
    for _ in range(4):
        machine.alloc(0, MOVABLE)
        seen.append((machine.counters()[2], state(machine)["unfolded NR_FREE_PAGES"]))
    assert seen == [(128, -1), (128, -2), (125, 0), (125, -1)]
    sound(machine)


# HIGHATOMIC


def test_highatomic_reserves_one_block_and_gives_it_back(make: Make) -> None:
    machine = make(small_spec(pages=1024, wmark=(300, 1024, 1024, 1024)))
    assert machine.alloc(1, ATOMIC) == BASE
    words = state(machine)
    assert words["nr_reserved_highatomic"] == 8
    assert words["nr_free_highatomic"] == 6
    assert block_types(machine)[:2] == [HIGHATOMIC, U]
    assert machine.unreserve_highatomic(U, False) == 0
    assert machine.unreserve_highatomic(U, True) == 1
    assert state(machine)["nr_reserved_highatomic"] == 0
    assert block_types(machine)[:2] == [U, U]
    sound(machine)


# Per-CPU lists

PCP = PcpSpec(batch=2, high_min=8, high_max=32)


def test_pcp_refills_in_order_and_frees_to_the_head(make: Make) -> None:
    machine = make(small_spec(pcp=PCP))
    assert machine.alloc(0, MOVABLE) == BASE
    assert machine.counters() == (1, 10, 126)
    assert pcp_list(machine, M) == [1]
    machine.free(BASE, 0)
    assert pcp_list(machine, M) == [0, 1]
    machine.drain()
    assert machine.counters()[0::2] == (0, 128)
    sound(machine)


def test_pcp_refills_grow_while_allocations_go_on(make: Make) -> None:
    machine = make(small_spec(pcp=PCP))
    factors = []
    for _ in range(14):
        machine.alloc(0, MOVABLE)
        words = state(machine)
        factors.append((words["pcp alloc_factor"], words["pcp count"]))
    assert factors[::2] == [(1, 1), (2, 3), (2, 1), (3, 7), (3, 5), (3, 3), (3, 1)]
    sound(machine)


def test_pcp_tick_lets_high_decay(make: Make) -> None:
    machine = make(small_spec(pcp=PcpSpec(batch=2, high_min=8, high_max=32, high=32)))
    assert machine.tick() == 1
    assert machine.counters()[1] == 28
    for _ in range(20):
        machine.tick()
    assert machine.tick() == 0
    assert machine.counters()[1] == 8


def test_each_cpu_has_its_own_lists(make: Make) -> None:
    machine = make(small_spec(pcp=PCP, cpus=2))
    first = machine.alloc(0, MOVABLE, 0)
    second = machine.alloc(0, MOVABLE, 1)
    assert (first, second) == (BASE, BASE + 2)
    machine.free(first, 0, 1)
    assert machine.counters(0)[0] == 1
    assert machine.counters(1)[0] == 2
    sound(machine)


# Isolation


@pytest.mark.parametrize("kernel", ["7.2", "6.12"])
def test_isolated_pages_do_not_count_and_come_back(make: Make, kernel: str) -> None:
    machine = make(small_spec(pages=32), "linux", kernel)
    assert machine.isolate(BASE + 8, BASE + 16, 2) == 0
    assert block_types(machine) == [M, ISOLATE, M, M]
    assert machine.counters()[2] == 24
    assert free_list(machine, 3, ISOLATE) == [8]
    assert machine.isolate(BASE + 8, BASE + 16, 2) == -16
    machine.unisolate(BASE + 8, BASE + 16)
    assert free_list(machine, 4, M) == [16, 0]
    assert machine.counters()[2] == 32
    sound(machine)


def test_the_type_beneath_isolation_survives_since_6_17(make: Make) -> None:
    after = {}
    for kernel in ("7.2", "6.12"):
        machine = make(small_spec(pages=32), "linux", kernel)
        machine.free(machine.alloc(0, UNMOVABLE), 0)
        assert machine.isolate(BASE, BASE + 8, 2) == 0
        machine.unisolate(BASE, BASE + 8)
        after[kernel] = block_types(machine)
        sound(machine)
    # 6.12 made it MOVABLE, and merging with its buddy took that one along
    assert after == {"7.2": [U, U, M, M], "6.12": [M, M, M, M]}


@pytest.mark.parametrize(("gfp", "result"), [(UNMOVABLE, -16), (MOVABLE, -16), (LRU, 0)])
def test_only_movable_pages_may_be_isolated(make: Make, gfp: int, result: int) -> None:
    machine = make(small_spec(pages=32))
    machine.alloc(0, gfp)
    before = machine.dump()
    assert machine.isolate(BASE, BASE + 8, 2) == result
    assert np.array_equal(before, machine.dump()) == (result != 0)
    sound(machine)


@pytest.mark.parametrize(("kernel", "order"), [("7.2", 2), ("6.12", 0)])
def test_contiguous_ranges_are_exact_and_freed_in_the_kernel_s_way(
    make: Make, kernel: str, order: int
) -> None:
    machine = make(small_spec(pages=32, pcp=PcpSpec(batch=2, high_min=16, high_max=16)), "linux", kernel)
    assert machine.alloc_contig_range(BASE + 4, BASE + 8, False) == 0
    assert machine.counters()[2] == 28
    assert free_list(machine, 2, M) == [0]
    sound(machine)
    machine.free_contig_range(BASE + 4, 4)
    assert [len(pcp_list(machine, 3 * o + M)) for o in range(3)] == [4 * (order == 0), 0, int(order == 2)]
    assert machine.alloc_contig_range(BASE + 4, BASE + 8, False) == 0  # drains
    assert machine.alloc_contig_range(BASE + 6, BASE + 10, False) == -16
    sound(machine)


def test_taking_and_putting_back_makes_large_blocks_movable(make: Make) -> None:
    machine = make(small_spec(pages=32))
    machine.free(machine.alloc(3, UNMOVABLE), 3)
    assert block_types(machine) == [U, U, M, M]
    assert machine.take_and_putback(U, 4) == BASE
    assert block_types(machine) == [M, M, M, M]
    assert free_list(machine, 4, M) == [16, 0]
    assert machine.take_and_putback(U, 0) == -1
    sound(machine)


# Refusals


def test_refused_calls_change_nothing(make: Make) -> None:
    machine = make(small_spec(pcp=PCP, holes=((BASE + 120, BASE + 128),)))
    pfn = machine.alloc(2, MOVABLE)
    freed = machine.alloc(0, MOVABLE)
    machine.free(freed, 0)
    before = machine.dump()
    for bad_pfn, order in (
        (pfn, 1),  # wrong order
        (pfn + 1, 0),  # inside an allocation
        (freed, 0),  # twice
        (BASE + 64, 0),  # never allocated
        (BASE + 120, 3),  # a hole
        (BASE - 1, 0),  # in no zone
        (BASE + 128, 0),
    ):
        with pytest.raises(ValueError, match=str(bad_pfn)):
            machine.free(bad_pfn, order)
    for order in (-1, 5):
        with pytest.raises(ValueError, match=str(order)):
            machine.alloc(order, MOVABLE)
        with pytest.raises(ValueError, match=str(order)):
            machine.free(pfn, order)
    with pytest.raises(ValueError, match="MOVABLE"):
        machine.alloc(0, MOVABLE | RECLAIMABLE)
    with pytest.raises(ValueError, match="1"):
        machine.alloc(0, MOVABLE, 1)
    assert np.array_equal(before, machine.dump())
    sound(machine)


def test_unknown_designs_and_kernels_are_named(make: Make) -> None:
    with pytest.raises(ValueError, match="nonsense"):
        make(small_spec(), "nonsense")
    with pytest.raises(ValueError, match=r"1\.0"):
        make(small_spec(), "linux", "1.0")


# The twin's auditor notices damage


def damaged(what: str) -> Machine:
    machine = Machine(small_spec(pcp=PCP))
    machine.alloc(0, MOVABLE)
    zone = machine.zones[0]
    if what == "lost":
        del zone.allocated[BASE]
    elif what == "twice":
        zone.pcp[0].lists[M].append(BASE)
    elif what == "list":
        zone.free_list[1][R][BASE + 2] = zone.free_list[1][M].pop(BASE + 2)
    elif what == "counter":
        zone.nr_free_pages.folded += 1
    elif what == "pcp":
        zone.pcp[0].count += 1
    elif what == "mark":
        zone.buddy[BASE] = 0
    return machine


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("lost", "belong to nothing"),
        ("twice", "overlaps"),
        ("list", "pageblock of type"),
        ("counter", "NR_FREE_PAGES"),
        ("pcp", "pcp count"),
        ("mark", "buddy marks"),
    ],
)
def test_verify_names_what_is_broken(what: str, words: str) -> None:
    assert words in (damaged(what).verify() or "")


def test_first_difference_speaks_words() -> None:
    machine = Machine(small_spec())
    before = machine.dump().tolist()
    machine.alloc(0, MOVABLE)
    assert first_difference(before, before) is None
    assert first_difference(before, machine.dump().tolist()) == "NR_FREE_PAGES: expected 128, got 127"
    with pytest.raises(ValueError, match="ends early"):
        list(labelled(before[:-1]))


# Recorded runs, in part


def recorded(group: str, name: str) -> Path:
    """A recorded run: one of the project's own, or of the whole collection where that is at hand."""
    here = Path(__file__).parents[1]
    shared = os.environ.get("ASI_PA_SHARED")
    folders = (here / "data", Path(shared) if shared else here.parents[1] / "shared")
    for folder in folders:
        path = folder / "oracle" / group / f"{name}.npz"
        if path.is_file():
            return path
    pytest.skip(f"no recorded run {name} of {group} here")


@pytest.mark.parametrize(
    ("kernel", "name"),
    [
        ("7.2", "D2n-1"),
        ("7.2", "D3d-1"),
        ("7.2", "D3v-1"),
        ("7.2", "D4g-1"),
        ("7.2", "D5s-1"),
        ("7.2", "D6q-1"),
        ("7.2", "D7p-1"),
        ("7.2", "D8p-1"),
        ("7.2", "D9p-1"),
        ("7.2", "D10z-1"),
        ("7.2", "D11v-1"),
        ("6.12", "D5s-1"),
        ("6.12", "D6p-1"),
        ("6.12", "D7p-1"),
        ("6.12", "D8-1"),
    ],
)
def test_the_twin_repeats_a_recorded_kernel(kernel: str, name: str) -> None:
    recording = Recording(recorded(f"linux-{kernel}", name))
    outcome = replay(recording, operations=4000, verify=True)
    assert outcome.difference is None
    assert outcome.exact_operations == min(4000, len(recording.ops)) >= 1000
    assert outcome.exact_dumps >= 2


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("rfc-2025-03", "R4n-1"),
        ("rfc-2025-03", "R5p-1"),
        ("rfc-2025-03", "R6h-1"),
        ("rfc-2025-03", "R4r-1"),
        ("freetype-2025-09", "S4-1"),
        ("freetype-2025-09", "S4w-1"),
        ("freetype-2025-09", "S6m-1"),
        ("freetype-2025-09", "S9-1"),
    ],
)
def test_the_twin_repeats_a_recorded_design(folder: str, name: str) -> None:
    outcome = replay(Recording(recorded(folder, name)), operations=3000, verify=True)
    assert outcome.difference is None
    assert outcome.exact_dumps >= 2


def test_the_auditor_finds_the_cma_pages_that_a_flip_misplaces() -> None:
    """September 2025 as posted: a flipped CMA block's tail goes to the requester's lists."""
    recording = Recording(recorded("freetype-2025-09", "Sx-g2"))
    assert replay(recording).exact
    broken = replay(recording, verify=True).difference
    assert broken is not None
    assert "on list MovableNons lies in a pageblock of type CMANons" in broken
