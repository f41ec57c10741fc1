"""What does it cost to change the type of a pageblock, by what is free in it?  (isolation and back)"""

from __future__ import annotations

import numpy as np
import pytest

from asi_pa.run.replay import Replay

from .harness import BIG, free_pages, measure, zone_machine
from .streams import CLASSES, operations

BLOCKS = 1 << (10 if BIG else 6)
PAGES = BLOCKS * 512


@pytest.mark.parametrize("free", ["all free", "every fourth page free"])
def test_isolate_and_back(benchmark, free):
    fill = operations(1, np.arange(PAGES))
    holes = operations(2, np.arange(0, PAGES, 4))

    def make():
        # Pages on the LRU, which isolation lets pass.
        replay = Replay(zone_machine(PAGES, pcp=False), CLASSES | np.uint32(0x40020000), PAGES)
        if free != "all free":
            replay.run(fill)
            replay.run(holes)
        return replay

    def run(replay):
        machine = replay.machine
        start = machine.spec.zones[0].start_pfn
        assert machine.isolate(start, start + PAGES) == 0
        machine.unisolate(start, start + PAGES)
        return replay

    replay = measure(benchmark, f"pageblock isolated and back, {free}", make, run, 2 * BLOCKS)
    assert replay.machine.verify() is None
    assert free_pages(replay) == (PAGES if free == "all free" else len(holes))
