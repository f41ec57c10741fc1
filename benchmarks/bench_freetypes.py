"""What does it cost to have more free lists: requests of every class, with each design's freetypes?"""

from __future__ import annotations

import numpy as np
import pytest

from asi_pa.kernel.gfp import GFP_NAMES
from asi_pa.run.replay import Replay

from .bench_pairs import PAIRS, pairs
from .harness import BIG, free_pages, measure, zone_machine
from .streams import CLASSES

PAGES = 1 << (20 if BIG else 14)
#: Each migratetype, nonsensitive and sensitive.
ALL = np.concatenate((CLASSES, CLASSES | np.uint32(GFP_NAMES["__GFP_SENSITIVE"])))


@pytest.mark.parametrize("path", ["pcp", "buddy"])
@pytest.mark.parametrize("design", ["linux", "migratetype", "freetype/as-posted"])
def test_lookup(benchmark, design, path):
    ops = pairs(0, 32)
    ops["cls"] = ops["slot"] % len(ALL)
    replay = measure(
        benchmark,
        f"requests of six classes, {path}",
        lambda: Replay(zone_machine(PAGES, design, pcp=path == "pcp"), ALL, 32),
        lambda replay: replay.run(ops) or replay,
        len(ops),
        freetypes=len(zone_machine(PAGES, design).design.freetypes),
    )
    assert replay.allocations == PAIRS
    assert free_pages(replay) == PAGES
