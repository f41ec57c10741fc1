"""What does a chain of splits and merges cost, from one order down to another and back?"""

from __future__ import annotations

import numpy as np
import pytest

from asi_pa.run.replay import Replay

from .bench_pairs import PAIRS, pairs
from .harness import free_pages, measure, zone_machine
from .limit import Limit
from .streams import CLASSES, operations

PAGES = 1 << 14


@pytest.mark.parametrize("contender", ["limit", "buddy"])
@pytest.mark.parametrize("order", [0, 5, 9])
def test_chain(benchmark, order, contender):
    # All is allocated in blocks of order 10 but for one, which every pair splits down and merges up.
    full = PAGES // 1024 - 1
    fill = operations(1, np.arange(1, full + 1))
    fill["order"] = 10
    ops = pairs(order, 1)

    def make():
        if contender == "limit":
            state = Limit(PAGES, full + 1)
        else:
            machine = zone_machine(PAGES, pcp=False)
            machine.restore(0, False, 0)
            state = Replay(
                machine, CLASSES | np.uint32(0x20000), full + 1
            )  # __GFP_MEMALLOC: below watermarks
        state.run(fill)
        return state

    state = measure(
        benchmark,
        f"split and merge, order 10 to {order}",
        make,
        lambda state: state.run(ops) or state,
        len(ops),
        splits=(10 - order) * PAIRS,
    )
    assert state.failures == 0
    assert (state.free_pages() if contender == "limit" else free_pages(state)) == 1024
