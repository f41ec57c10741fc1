"""What does a pair of allocation and free cost at each order, through the per-CPU lists and without?"""

from __future__ import annotations

import numpy as np
import pytest

from asi_pa.run.replay import Replay

from .harness import BIG, free_pages, measure, zone_machine
from .streams import CLASSES, operations

PAGES = 1 << (20 if BIG else 14)
PAIRS = 1 << (18 if BIG else 10)


def pairs(order: int, burst: int, count: int = PAIRS):
    """``burst`` allocations, then as many frees in reverse, ``count`` pairs in all."""
    up = np.arange(burst)
    slots = np.tile(np.concatenate((up, up[::-1])), count // burst)
    ops = operations(1, slots)
    ops["op"] = np.tile(np.repeat([1, 2], burst), count // burst)
    ops["order"] = order
    return ops


@pytest.mark.parametrize("path", ["pcp", "buddy"])
@pytest.mark.parametrize("order", range(11))
def test_burst(benchmark, order, path):
    ops = pairs(order, 8)
    replay = measure(
        benchmark,
        f"pair, order {order}, bursts of 8",
        lambda: Replay(zone_machine(PAGES, pcp=path == "pcp"), CLASSES, 8),
        lambda replay: replay.run(ops) or replay,
        len(ops),
    )
    assert replay.allocations == PAIRS
    assert replay.failures == 0
    assert free_pages(replay) == PAGES


@pytest.mark.parametrize("path", ["pcp", "buddy"])
def test_ping_pong(benchmark, path):
    ops = pairs(0, 1)
    replay = measure(
        benchmark,
        "pair, order 0, ping-pong",
        lambda: Replay(zone_machine(PAGES, pcp=path == "pcp"), CLASSES, 1),
        lambda replay: replay.run(ops) or replay,
        len(ops),
    )
    assert replay.allocations == PAIRS
    assert free_pages(replay) == PAGES
