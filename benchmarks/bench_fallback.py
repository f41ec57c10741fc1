"""What do claims and steals cost, against an allocation from the own lists?"""

from __future__ import annotations

import numpy as np
import pytest

from asi_pa.run.replay import Replay

from .harness import BIG, free_pages, measure, zone_machine
from .streams import CLASSES, operations

BLOCKS = 1 << (10 if BIG else 6)
PAGES = BLOCKS * 512


def allocations(count: int, order: int, cls: int, first: int = 0):
    ops = operations(1, np.arange(first, first + count))
    ops["order"] = order
    ops["cls"] = cls
    return ops


@pytest.mark.parametrize("kind", ["own", "claim"])
def test_claim_of_whole_blocks(benchmark, kind):
    # Memory boots movable: unmovable requests of order 9 claim a buddy of order 10 every other time.
    count = BLOCKS * 3 // 4
    ops = allocations(count, 9, 0 if kind == "own" else 1)
    replay = measure(
        benchmark,
        "pageblock from own lists or claimed",
        lambda: Replay(zone_machine(PAGES, pcp=False), CLASSES, count),
        lambda replay: replay.run(ops) or replay,
        count,
    )
    assert replay.failures == 0
    assert replay.machine.stats()["claims_whole"] == (0 if kind == "own" else -(-count // 2))
    assert free_pages(replay) == PAGES - count * 512


@pytest.mark.parametrize("kind", ["own", "steal"])
def test_steal(benchmark, kind):
    # A third of every block is free and the rest on the LRU: too much movable memory to claim the block.
    fill = allocations(PAGES, 0, 0)
    free = operations(2, np.arange(0, PAGES, 3))
    count = len(free) // 2
    ops = allocations(count, 0, 0 if kind == "own" else 1, PAGES)

    def make():
        machine = zone_machine(PAGES, pcp=False)
        replay = Replay(machine, CLASSES | np.uint32(0x40020000), 2 * PAGES)
        replay.run(fill)
        replay.run(free)
        return replay

    replay = measure(
        benchmark, "page from own lists or stolen", make, lambda replay: replay.run(ops) or replay, count
    )
    stats = replay.machine.stats()
    assert replay.failures == 0
    assert stats["steals"] == (0 if kind == "own" else count)
    assert free_pages(replay) == len(free) - count
