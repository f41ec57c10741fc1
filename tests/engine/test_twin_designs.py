"""What the designs add to the allocator, in small scenarios, for the twin and the engine alike."""

from __future__ import annotations

from typing import Any

import pytest

from asi_pa.designs import as_design
from asi_pa.kernel.gfp import GFP_NAMES
from tests.twin import Machine as Twin
from tests.twin.engines import ENGINES, Make, load, small_spec

BASE = 1024
N = GFP_NAMES["GFP_KERNEL"]
S = N | GFP_NAMES["__GFP_SENSITIVE"]
ATOMIC_S = GFP_NAMES["GFP_ATOMIC"] | GFP_NAMES["__GFP_SENSITIVE"]


@pytest.fixture(params=ENGINES)
def make(request: pytest.FixtureRequest) -> Make:
    return load(request.param)


def present(machine: Any, pfn: int) -> bool:
    """In the tree that the design protects."""
    if isinstance(machine, Twin):
        return machine.is_present(pfn)
    return bool(machine.physmap.present(pfn, tree=machine.design.tree))


def counts(machine: Any, *names: str) -> tuple[int, ...]:
    stats = machine.stats()
    return tuple(stats[name] for name in names)


def fill(machine: Any, order: int, gfp: int) -> list[int]:
    pfns = []
    while (pfn := machine.alloc(order, gfp)) >= 0:
        pfns.append(pfn)
    return pfns


@pytest.mark.parametrize("zeroing", ["flip", "dirty", "locked", "none"])
def test_a_claim_clears_as_the_design_says_and_maps(make: Make, zeroing: str) -> None:
    machine = make(small_spec(pages=16, max_page_order=3), f"migratetype/sound:zeroing={zeroing}")
    secret = machine.alloc(0, S)
    machine.free(secret, 0)
    pfns = [machine.alloc(3, N) for _ in range(2)]
    assert sorted(pfns) == [BASE, BASE + 8]
    assert all(present(machine, pfn) for pfn in pfns)
    cleared = {"flip": 16, "locked": 16, "dirty": 1, "none": 0}[zeroing]
    assert counts(machine, "flips_s2n", "pages_zeroed", "exposures") == (2, cleared, 0)
    assert counts(machine, "pages_zeroed_locked", "stale_exposed") == (
        cleared if zeroing == "locked" else 0,
        int(zeroing == "none"),
    )


def test_an_unmap_waits_for_a_flush_and_for_a_request_that_may_block(make: Make) -> None:
    machine = make(small_spec(pages=16, max_page_order=3), "migratetype/sound")
    for pfn in fill(machine, 3, N):
        machine.free(pfn, 3)
    assert machine.alloc(0, ATOMIC_S) == -1
    assert counts(machine, "fail_noblock", "flips_n2s") == (1, 0)
    pfn = machine.alloc(0, S)
    assert not present(machine, pfn)
    assert present(machine, pfn ^ 8)
    assert counts(machine, "flips_n2s", "flush_allocs") == (1, 1)


@pytest.mark.parametrize("design", ["migratetype/sound", "freetype/sound", "linux"])
def test_every_attempt_that_may_not_flip_counts(make: Make, design: str) -> None:
    """One request fails for that cause, once; its fast and its slow path both came to the flip."""
    machine = make(small_spec(pages=16, max_page_order=3), design)
    for pfn in fill(machine, 3, N):
        machine.free(pfn, 3)
    assert machine.alloc(0, S) != -1  # this one may flip
    before = counts(machine, "noblock_refusals", "fail_noblock")
    assert before == (0, 0)
    while machine.alloc(0, ATOMIC_S) != -1:
        pass
    refusals, failures = counts(machine, "noblock_refusals", "fail_noblock")
    if design == "linux":
        assert (refusals, failures) == (0, 0)
    else:
        assert refusals > failures == 1


@pytest.mark.parametrize(("design", "exposed"), [("migratetype/as-posted", 8), ("migratetype/sound", 0)])
def test_a_merge_across_sides_exposes_what_a_sensitive_owner_left(
    make: Make, design: str, exposed: int
) -> None:
    """The recorded sequence Rx-a2 in small."""
    machine = make(small_spec(pages=16), design)
    nonsensitive = machine.alloc(3, N)
    machine.free(nonsensitive, 3)
    sensitive = machine.alloc(3, S)
    neighbour = machine.alloc(3, N)
    machine.free(sensitive, 3)
    machine.free(neighbour, 3)
    assert machine.stats()["stale_exposed"] == exposed
    assert machine.verify() is None


def test_a_contiguous_range_gets_its_caller_s_side(make: Make) -> None:
    machine = make(small_spec(pages=32), "freetype/sound")
    assert machine.alloc_contig_range(BASE + 4, BASE + 12, False, N) == 0
    assert [present(machine, BASE + 8 * block) for block in range(4)] == [True, True, False, False]
    assert counts(machine, "exposures", "pages_zeroed", "flips_s2n") == (0, 16, 2)
    machine.free_contig_range(BASE + 4, 8)
    held = machine.alloc(0, N)
    assert held in range(BASE, BASE + 16)
    # a pageblock in which something stays cannot change sides
    assert machine.alloc_contig_range(held + 1, held + 3, False, S) == -16
    assert machine.verify() is None


def test_unmapping_ahead_spares_requests_the_flush(make: Make) -> None:
    machine = make(small_spec(pages=64), "unmapped/sound:unmap_low=8,unmap_high=16")
    machine.alloc(0, N)
    assert counts(machine, "unmapped_ahead", "flush_allocs") == (2, 0)
    pfn = machine.alloc(0, S)
    assert not present(machine, pfn)
    assert counts(machine, "flush_allocs", "exposures") == (0, 0)


@pytest.mark.parametrize(
    ("design", "cleared"), [("unmapped/v4", 0), ("unmapped/v4:owner_zeroes=yes", 4), ("unmapped/v2", 0)]
)
def test_owners_clear_where_the_design_says_so(make: Make, design: str, cleared: int) -> None:
    machine = make(small_spec(), design)
    before = machine.stats()["pages_zeroed"]
    machine.free(machine.alloc(2, S), 2)
    assert machine.stats()["pages_zeroed"] - before == cleared


# Wrappers


def test_per_page_flushes_each_free(make: Make) -> None:
    machine = make(small_spec(), "per-page")
    pfn = machine.alloc(1, N)
    assert [present(machine, pfn + page) for page in range(3)] == [True, True, False]
    machine.free(pfn, 1)
    assert not present(machine, pfn)
    assert counts(machine, "map_allocs", "flush_frees", "pages_zeroed") == (1, 1, 2)


def test_secretmem_s_pages_come_back_to_the_direct_map(make: Make) -> None:
    machine = make(small_spec(), "per-page:tree=unrestricted")
    pfn = machine.alloc(0, S)
    assert not present(machine, pfn)
    machine.free(pfn, 0)
    assert present(machine, pfn)
    assert machine.alloc(0, N) == pfn
    assert counts(machine, "flush_allocs", "exposures", "stale_exposed") == (1, 0, 0)


def test_the_pool_refills_by_pageblock_and_shrinks_under_pressure(make: Make) -> None:
    machine = make(small_spec(pages=32), "pool/nonsensitive:shrink_batch=4")
    first = machine.alloc(0, N)
    assert counts(machine, "pool_refills", "pool_refill_pages", "pages_zeroed") == (1, 8, 8)
    assert all(present(machine, first + page) for page in range(8))
    assert machine.alloc(0, N) in range(first, first + 8)
    taken = fill(machine, 0, S)
    assert len(taken) == 30
    assert not any(present(machine, pfn) for pfn in taken)
    assert counts(machine, "pool_shrinks", "exposures", "flush_allocs") == (1, 0, 1)
    assert machine.verify() is None


@pytest.mark.parametrize(("design", "found"), [("rfcv2-queue/as-posted", False), ("rfcv2-queue/sound", True)])
def test_queued_pages_are_stuck_as_posted(make: Make, design: str, found: bool) -> None:
    machine = make(small_spec(pages=8, max_page_order=3), as_design(f"{design}:queue_delay=100"))
    pfn = machine.alloc(3, N)
    machine.free(pfn, 3)
    assert machine.counters()[2] == 0
    assert present(machine, pfn)
    assert (machine.alloc(0, S) == pfn) == found
    assert machine.verify() is None


def test_the_log_tells_every_change_of_side(make: Make) -> None:
    machine = make(small_spec(pages=16, max_page_order=3), "migratetype/sound")
    machine.log_events()
    for pfn in fill(machine, 3, N):
        machine.free(pfn, 3)
    machine.alloc(0, S)
    kinds = [row & 0xFF for row in machine.events()[:, 1].tolist()]
    assert kinds == [1, 4, 1, 4, 2, 4]  # map, retype; map, retype; unmap, retype
