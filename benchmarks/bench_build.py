"""What does it cost to build a machine, against memset of its bytes?"""

from __future__ import annotations

import pytest

from .harness import BIG, measure, zone_machine
from .limit import set_memory

GIB = 4 if BIG else 1


@pytest.mark.parametrize("contender", ["memset", "linux", "migratetype"])
def test_build(benchmark, contender):
    pages = GIB << 18

    def run(_):
        return set_memory(9 * pages) if contender == "memset" else zone_machine(pages, contender)

    built = measure(benchmark, f"a zone of {GIB} GiB", lambda: None, run, pages)
    if contender == "memset":
        assert built == 0xFF
    else:
        assert built.counters()[2] == pages
