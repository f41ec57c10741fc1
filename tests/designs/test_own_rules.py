"""Fields for what people vary: partly free blocks, large refills, pools by node and with marks, waiting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asi_pa import Allocator, ZoneView
from asi_pa.audit import audit
from asi_pa.designs import Design, as_design
from asi_pa.engine.machine import Machine
from asi_pa.experiment import replay
from asi_pa.kernel.gfp import GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NAMES, MODEL_LRU, MODEL_PINNED
from asi_pa.kernel.sizing import machine as laid_out
from asi_pa.kernel.sizing import single_zone
from asi_pa.trace import compile_trace, workload
from tests.twin.engines import small_spec

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
THREE_QUARTERS = f"{EXAMPLES / 'three_quarters.py'}:THREE_QUARTERS"
NODE_POOLS = f"{EXAMPLES / 'node_pools.py'}:NODE_POOLS"
SENSITIVE = GFP_NAMES["__GFP_SENSITIVE"]
SECRET = GFP_KERNEL | SENSITIVE
USER = GFP_HIGHUSER_MOVABLE | MODEL_LRU
GIB = 1 << 18


def leaks(machine: Machine) -> int:
    stats = machine.stats()
    return int(sum(stats[name] for name in ("exposures", "stale_exposed", "unflushed", "absences")))


def partly_free(design: str, used: int, gfp: int = USER) -> tuple[Machine, list[int]]:
    """Three pageblocks of eight nonsensitive pages: ``used`` of the first in use, six of each other."""
    machine = Machine(small_spec(pages=24, max_page_order=3), design)
    pfns = [machine.alloc(0, gfp) for _ in range(24)]
    # room for what moves is spread over the other two
    assert min(pfns) >= 0
    by_block: dict[int, list[int]] = {}
    for pfn in pfns:
        by_block.setdefault(pfn // 8, []).append(pfn)
    emptied, *others = by_block.values()
    gone = [*emptied[used:], *(pfn for block in others for pfn in block[:2])]
    for pfn in gone:
        machine.free(pfn, 0)
    return machine, [pfn for pfn in pfns if pfn not in gone]


@pytest.mark.parametrize(("used", "flips"), [(1, True), (2, True), (3, False)])
def test_a_block_that_is_three_quarters_free_flips_and_its_pages_move(used: int, flips: bool) -> None:
    machine, held = partly_free("freetype:flip_used=move,flip_free=75", used)
    pfn = machine.alloc(0, SECRET)
    assert (pfn >= 0) == flips
    moves = dict(machine.moved().tolist())
    assert len(moves) == machine.stats()["moved_to_flip"] == (used if flips else 0)
    assert len(machine.moved()) == 0
    for page in [moves.get(page, page) for page in held]:
        machine.free(page, 0)
    assert leaks(machine) == 0
    assert machine.verify() is None


def test_a_script_follows_its_pages_through_the_allocator() -> None:
    """Partly free blocks are emptied by flips: what moved is counted, named, and freed where it is."""
    allocator = Allocator("64M", "freetype:flip_used=move,flip_free=75", single_zone=True)
    held = allocator.alloc_pages_bulk(0, USER, 40_000).tolist()
    kept = held[::8]
    for pfn in set(held) - set(kept):
        allocator.free_pages(pfn)
    allocator.drain()
    assert not len(allocator.moved())
    before = allocator.statistics()
    secret = allocator.alloc_pages_bulk(0, SECRET, 4000)
    assert len(secret) == 4000
    now, moved = allocator.statistics(), allocator.moved()
    flips = now.flips_n2s - before.flips_n2s
    # 64 of each block's 512 pages were in use, and what moved may move again
    assert len(moved) == now.moved_to_flip == now.metrics["pages_moved_to_flip"] >= flips * 64 > 0
    assert moved.shape[1] == 2
    assert moved.dtype == np.int64
    assert not len(allocator.moved())
    where = {pfn: pfn for pfn in kept}
    for was, after in moved.tolist():
        where[after] = where.pop(was)
    assert len(where) == len(kept)
    gone = set(kept) - set(where) - set(secret.tolist())
    with pytest.raises(ValueError, match="free of pfn"):
        allocator.free_pages(min(gone))
    for pfn in where:
        allocator.free_pages(pfn)
    allocator.free_pages_bulk(secret)
    assert leaks(allocator.machine) == 0
    assert allocator.verify() is None


def test_refused_is_what_every_posting_does() -> None:
    machine, _ = partly_free("freetype", 1)
    assert machine.alloc(0, SECRET) < 0
    assert machine.stats()["fail_starvation"] == 1


@pytest.mark.parametrize("gfp", [USER | MODEL_PINNED, GFP_KERNEL])
def test_what_cannot_move_keeps_its_block(gfp: int) -> None:
    machine, _ = partly_free("freetype:flip_used=move,flip_free=50", 1, gfp)
    assert machine.alloc(0, SECRET) < 0
    assert machine.stats()["moved_to_flip"] == 0
    assert machine.verify() is None


def test_a_replay_knows_where_its_pages_went() -> None:
    compiled = compile_trace(workload("bursts", "64M", 3), "share=0.5", memory="40M")
    posted, moved = (replay(compiled, word, samples=2) for word in ("freetype", THREE_QUARTERS))
    assert moved["metrics"]["pages_moved_to_flip"] > 0 == posted["metrics"]["pages_moved_to_flip"]
    starved = [entry["metrics"]["failures_by_cause"]["flip_starvation"] for entry in (posted, moved)]
    assert starved[1] < starved[0] / 4
    assert moved["verify"] == "ok"
    assert not any(moved["metrics"][name] for name in ("leaked_pages", "uncleared_pages", "unflushed_pages"))


# Refills


@pytest.mark.parametrize(("order", "leaf"), [(18, "1G"), (12, "2M"), (9, "2M")])
def test_a_refill_of_the_order_asked_for(order: int, leaf: str) -> None:
    machine = Machine(single_zone("3G", pcp=False), f"pool/sound:refill_order={order},refill_leaves=yes")
    assert machine.alloc(0, SECRET) >= 0
    stats = machine.stats()
    assert (stats["pool_refills"], stats["pool_refill_pages"]) == (1, 1 << order)
    assert machine.physmap is not None
    assert machine.physmap.leaf_counts(tree="unrestricted", present=False)[leaf] > 0
    assert machine.verify() is None
    assert machine.shrink_pool(1 << order) == (1 << order) - 1
    assert leaks(machine) == 0


def test_who_may_not_block_has_no_contiguous_range_made() -> None:
    machine = Machine(single_zone("3G", pcp=False), "pool/sound:refill_order=18")
    assert machine.alloc(0, GFP_ATOMIC | SENSITIVE) >= 0
    assert machine.stats()["pool_refill_pages"] == 1 << 10


def two_nodes(design: str | Design) -> Machine:
    return Machine(laid_out("16G", nodes=2, cpus=2), design)


def test_a_pool_a_node_is_refilled_of_the_node_s_memory() -> None:
    machine = two_nodes(NODE_POOLS)
    border = max(zone.start_pfn for zone in machine.spec.zones if zone.nid == 1)
    for cpu in (0, 1, 0, 1):
        assert (machine.alloc(0, SECRET, cpu) >= border) == cpu
    stats = machine.stats()
    assert (stats["pool_refills"], stats["pool_refill_pages"]) == (2, 2 * GIB)
    assert leaks(machine) == 0
    assert machine.verify() is None


def test_as_posted_the_pool_knows_no_nodes() -> None:
    machine = two_nodes("pool/sound")
    border = max(zone.start_pfn for zone in machine.spec.zones if zone.nid == 1)
    first = machine.alloc(0, SECRET, 1) >= border
    assert (machine.alloc(0, SECRET, 0) >= border) == first
    assert machine.stats()["pool_refills"] == 1


class Asks(Design):
    """A refill by what the zone has."""

    def choose_refill(self, view: ZoneView, order: int) -> int | None:
        assert (view.node, view.zone) == (0, "Normal")
        assert view.counts(freetype="Movable")[view.max_order] > 0
        (head,) = view.free_list("Movable", view.max_order, 1)
        assert view.block_free(head) == view.pageblock_pages
        assert (view.block_type(head), view.block_mapped(head)) == ("Movable", False)
        if order > 5:
            return 5
        return 6 if view.pool_pages() == 0 else None


def test_a_refill_that_a_hook_decides() -> None:
    machine = Machine(single_zone("64M", pcp=False), Asks.based_on("pool/sound", name="asks"))
    assert machine.alloc(0, SECRET) >= 0
    assert machine.stats()["pool_refill_pages"] == 64
    assert machine.alloc(6, SECRET) < 0
    assert machine.stats()["pool_refills"] == 1


class Greedy(Design):
    def choose_refill(self, view: ZoneView, order: int) -> int | None:
        return 19


def test_a_refill_out_of_range_is_refused() -> None:
    machine = Machine(single_zone("64M"), Greedy.based_on("pool/sound", name="greedy"))
    with pytest.raises(ValueError, match=r"'greedy': choose_refill\(\) returned 19, orders are 0 to 18"):
        machine.alloc(0, SECRET)


# Marks, and who waits


def test_marks_keep_the_pool_between_them() -> None:
    machine = Machine(single_zone("64M", pcp=False), "pool/sound:pool_low=600,pool_high=1536")
    pfns = [machine.alloc(0, SECRET) for _ in range(3)]
    stats = machine.stats()
    # the first request waited for its own refill; the worker took the rest
    assert (stats["flush_allocs"], stats["pool_refill_pages"]) == (1, 4 * 512)
    more = [machine.alloc(8, SECRET) for _ in range(20)]
    for pfn in more:
        machine.free(pfn, 8)
    for pfn in pfns:
        machine.free(pfn, 0)
    assert machine.shrink_pool(1 << 20) in range(1536, 2048)
    assert machine.stats()["flush_allocs"] == 1
    assert leaks(machine) == 0


@pytest.mark.parametrize("when", ["eager", "lazy", "timer"])
def test_free_blocks_go_back(when: str) -> None:
    spec = replace(small_spec(pages=64, max_page_order=3), watermark_boost_factor=0)
    machine = Machine(spec, f"unmapped/sound:map_back=1,give_back={when}")
    for pfn in [machine.alloc(3, SECRET) for _ in range(4)]:
        machine.free(pfn, 3)
    assert machine.stats()["flips_s2n"] == 0
    machine.alloc(0, GFP_KERNEL)  # woken by the lists' use
    assert machine.stats()["flips_s2n"] == (3 if when == "eager" else 0)
    machine.refresh_vm_stats()
    machine.drain()
    assert machine.stats()["flips_s2n"] == (0 if when == "lazy" else 3)
    while machine.alloc(3, GFP_KERNEL) >= 0:
        pass
    assert machine.stats()["flips_s2n"] >= 3
    assert leaks(machine) == 0


@pytest.mark.parametrize(("batch", "flushes"), [(1, 4), (2, 2), (3, 2), (0, 1)])
def test_a_worker_flushes_once_a_batch(batch: int, flushes: int) -> None:
    words = f"unmapped/sound:unmap_low=8,unmap_high=32,unmap_batch={batch}"
    machine = Machine(small_spec(pages=64, max_page_order=3), words)
    assert machine.physmap is not None
    before = machine.physmap.counters()
    machine.alloc(0, GFP_KERNEL)
    after = machine.physmap.counters()
    done = after.flushes_ranged + after.flushes_full - before.flushes_ranged - before.flushes_full
    assert (machine.stats()["unmapped_ahead"], done) == (4, flushes)
    assert leaks(machine) == 0


@pytest.mark.parametrize(
    ("who", "served"),
    [
        ("posted", (True, False)),
        ("none", (False, False)),
        ("any", (True, True)),
        ("block", (True, False)),
        ("sensitive", (True, False)),
        ("nonsensitive", (False, False)),
    ],
)
def test_which_requests_may_wait(who: str, served: tuple[bool, bool]) -> None:
    got = []
    for gfp in (SECRET, GFP_ATOMIC | SENSITIVE):
        machine = Machine(small_spec(pages=16, max_page_order=3), f"unmapped/sound:may_wait={who}")
        got.append(machine.alloc(0, gfp) >= 0)
        assert leaks(machine) == 0
    assert tuple(got) == served


# Clearing, and by whom


@pytest.mark.parametrize("who", ["request", "worker"])
def test_who_clears_what_was_sensitive(who: str) -> None:
    """Four blocks held secrets and are free; a user's request maps one of them, before or after a second."""
    spec = replace(small_spec(pages=64, max_page_order=3), watermark_boost_factor=0)
    machine = Machine(spec, f"unmapped/sound:zeroing=dirty,zeroed_by={who},flips_by_any=yes")
    secrets = [machine.alloc(3, SECRET) for _ in range(4)]
    machine.free(secrets[0], 3)
    machine.refresh_vm_stats()
    machine.drain()
    # in the second that passed one block was free; the other three are dirty still
    cleared = 8 if who == "worker" else 0
    assert machine.stats()["pages_zeroed_ahead"] == machine.stats()["pages_zeroed"] == cleared
    for pfn in secrets[1:]:
        machine.free(pfn, 3)
    while machine.alloc(3, GFP_KERNEL) >= 0:
        pass
    stats = machine.stats()
    assert (stats["pages_zeroed"], stats["pages_zeroed_ahead"]) == (32, cleared)
    assert stats["flips_s2n"] >= 4
    assert leaks(machine) == 0
    assert machine.verify() is None


def test_only_what_is_dirty_can_be_cleared_ahead() -> None:
    with pytest.raises(
        ValueError, match=r"zeroed_by 'worker' has no effect: it is read where `zeroing` is dirty"
    ):
        as_design("migratetype/sound:zeroed_by=worker")


# The auditor, and the two designs in comparison


@pytest.mark.parametrize(
    "word",
    [
        THREE_QUARTERS,
        NODE_POOLS,
        "migratetype:flip_used=move,flip_free=50,may_wait=any",
        "ours/two-way:give_back=timer,unmap_low=2,unmap_high=4,unmap_batch=0",
        "pool/nonsensitive:pool_low=1,pool_high=2,refill_order=11",
        "migratetype/sound:zeroing=dirty,zeroed_by=worker",
    ],
)
def test_the_auditor_finds_no_sequence_that_breaks_them(word: str) -> None:
    found = audit(word, depth=4, seconds=8, only=("smallest", "windows"), liveness=False)
    assert [finding.text() for finding in found.findings] == []
    assert found.depth >= 3


@pytest.mark.parametrize("word", [THREE_QUARTERS, NODE_POOLS])
def test_the_examples_are_short_and_replay_soundly(word: str) -> None:
    path = Path(word.rpartition(":")[0])
    assert len(path.read_text().splitlines()) <= 25
    assert as_design(word).protects
    compiled = compile_trace(workload("pagecache", "64M", 3), "share=0.5", memory="56M")
    entry: dict[str, Any] = replay(compiled, word, samples=2, compaction=True)
    assert entry["verify"] == "ok"
    assert not any(entry["metrics"][name] for name in ("leaked_pages", "uncleared_pages", "unflushed_pages"))
