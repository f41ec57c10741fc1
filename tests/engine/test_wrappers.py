"""The parameters of the designs that wrap the allocator: the pool's refills, the queue's flushes."""

from __future__ import annotations

import pytest

from asi_pa.engine.machine import Machine
from asi_pa.kernel.gfp import GFP_KERNEL, GFP_NAMES
from asi_pa.kernel.sizing import single_zone

SENSITIVE = GFP_NAMES["__GFP_SENSITIVE"]


def leaves_of(machine: Machine) -> dict[str, int]:
    assert machine.physmap is not None
    return machine.physmap.leaf_counts()


def pool(words: str) -> Machine:
    return Machine(single_zone("64M", pcp=False), f"pool/nonsensitive{words}")


@pytest.mark.parametrize(("words", "leaves"), [("", (512, 0)), (":refill_leaves=yes", (0, 1))])
def test_a_refill_keeps_its_2m_leaf_only_when_mapped_at_once(words: str, leaves: tuple[int, int]) -> None:
    machine = pool(words)
    machine.alloc(0, GFP_KERNEL)
    found = leaves_of(machine)
    assert (found["4K"], found["2M"]) == leaves
    assert machine.verify() is None


@pytest.mark.parametrize(("words", "order"), [("", 9), (":refill_order=4", 4), (":refill_order=0", 2)])
def test_a_refill_has_the_order_asked_for_or_the_request_s(words: str, order: int) -> None:
    machine = pool(words)
    assert machine.alloc(2, GFP_KERNEL) >= 0
    assert machine.stats()["pool_refill_pages"] == 1 << order
    # As posted, what is larger than a pageblock is never there.
    assert machine.alloc(10, GFP_KERNEL) < 0


def test_a_shrunk_leaf_is_split_where_the_pool_keeps_a_part() -> None:
    machine = pool(":refill_leaves=yes")
    kept = machine.alloc(0, GFP_KERNEL)
    machine.shrink_pool(1)
    found = leaves_of(machine)
    assert (found["4K"], found["2M"]) == (511, 0)
    assert machine.physmap is not None
    assert machine.physmap.present(kept)
    assert machine.verify() is None


@pytest.mark.parametrize(("batch", "flushes"), [(1, 5), (2, 3), (0, 1)])
def test_the_queue_s_worker_flushes_once_a_batch(batch: int, flushes: int) -> None:
    machine = Machine(single_zone("64M"), f"rfcv2-queue/sound:queue_delay=1000,unmap_batch={batch}")
    for pfn in [machine.alloc(0, GFP_KERNEL) for _ in range(5)]:
        machine.free(pfn, 0)
    physmap = machine.physmap
    assert physmap is not None
    before = physmap.counters()
    machine.run_queue()
    after = physmap.counters()
    ranged = after.flushes_ranged - before.flushes_ranged
    full = after.flushes_full - before.flushes_full
    assert (ranged, full) == ((flushes, 0) if batch == 1 else (0, flushes))
    assert physmap.leaf_counts()["4K"] == 0
    assert machine.verify() is None
