"""What does a flip cost, each way, against an allocation without one?"""

from __future__ import annotations

import numpy as np
import pytest

from asi_pa.kernel.gfp import GFP_KERNEL, GFP_NAMES
from asi_pa.run.replay import Replay

from .harness import BIG, measure, zone_machine
from .streams import operations

BLOCKS = 1 << (10 if BIG else 6)
PAGES = BLOCKS * 512
SENSITIVE = GFP_KERNEL | GFP_NAMES["__GFP_SENSITIVE"]


def rounds(turns: int, cls: tuple[int, int]):
    """Most of memory allocated in blocks of one class and freed, then of the other, ``turns`` times."""
    count = BLOCKS * 3 // 4
    slots = np.tile(np.arange(count), 2 * turns)
    ops = operations(1, slots)
    ops["op"] = np.tile(np.repeat([1, 2], count), turns)
    ops["cls"] = np.repeat(np.resize(cls, turns), 2 * count)
    ops["order"] = 9
    return ops


@pytest.mark.parametrize("kinds", ["one kind", "in turn"])
@pytest.mark.parametrize("design", ["migratetype", "freetype/as-posted"])
def test_flips(benchmark, design, kinds):
    ops = rounds(4, (0, 1) if kinds == "in turn" else (1, 1))
    replay = measure(
        benchmark,
        f"pageblocks of one kind or of both in turn, {design}",
        lambda: Replay(
            zone_machine(PAGES, design, pcp=False), np.array([GFP_KERNEL, SENSITIVE], np.uint32), PAGES
        ),
        lambda replay: replay.run(ops) or replay,
        len(ops),
    )
    stats = replay.machine.stats()
    flips = stats["flips_s2n"] + stats["flips_n2s"]
    if kinds == "one kind":
        assert flips == 0
    else:
        # At least the part of memory that one kind alone cannot leave to the other, each turn.
        assert flips >= 3 * BLOCKS // 2
        assert stats["exposures"] == 0
    assert replay.failures == 0
