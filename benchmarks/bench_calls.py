"""What does a call from Python cost over an empty method with the same signature?"""

from __future__ import annotations

import pytest

from asi_pa.kernel.gfp import GFP_HIGHUSER_MOVABLE

from .harness import BIG, measure, zone_machine
from .limit import Empty

PAIRS = 1 << (18 if BIG else 10)


def run_pairs(state) -> int:
    """An allocation and its free, ``PAIRS`` times; the last frame."""
    alloc, free, gfp = state.alloc, state.free, GFP_HIGHUSER_MOVABLE
    pfn = 0
    for _ in range(PAIRS):
        pfn = alloc(0, gfp)
        free(pfn, 0)
    return pfn


def run_empty(state) -> int:
    """The same with methods that do nothing."""
    alloc, free, gfp = state.alloc, state.free, GFP_HIGHUSER_MOVABLE
    pfn = 1 << 20
    for _ in range(PAIRS):
        alloc(0, gfp)
        free(pfn, 0)
    return pfn


@pytest.mark.parametrize("contender", ["empty", "pcp", "buddy"])
def test_pair(benchmark, contender):
    pages = 1 << 18
    pfn = measure(
        benchmark,
        "alloc and free from Python",
        Empty if contender == "empty" else lambda: zone_machine(pages, pcp=contender == "pcp"),
        run_empty if contender == "empty" else run_pairs,
        PAIRS,
    )
    assert pfn == 1 << 20
