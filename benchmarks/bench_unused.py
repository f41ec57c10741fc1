"""Do features that are there and unused cost anything?  (stream a, movable requests only)"""

from __future__ import annotations

import pytest

from asi_pa.engine.machine import Machine
from asi_pa.kernel.sizing import single_zone
from asi_pa.run.replay import Replay

from .harness import alive_pages, free_pages, measure, prepared


def machine(feature: str, pages: int) -> Machine:
    """A machine with one feature more than the plain one."""
    size, block = pages * 4096, 512 * 4096
    if feature == "cma":
        return Machine(single_zone(size, cma=block))
    if feature == "eight CPUs":
        return Machine(single_zone(size, cpus=8))
    if feature == "event log":
        made = Machine(single_zone(size))
        made.log_events()
        return made
    if feature == "design with a physmap":
        return Machine(single_zone(size), "migratetype")
    return Machine(single_zone(size))


@pytest.mark.parametrize("feature", ["plain", "cma", "eight CPUs", "event log", "design with a physmap"])
def test_unused(benchmark, feature):
    stream = prepared("a")

    def make():
        replay = Replay(machine(feature, stream.pages), stream.classes, stream.nslots)
        replay.run(stream.fill)
        return replay

    replay = measure(
        benchmark, "unused features", make, lambda replay: replay.run(stream.ops) or replay, len(stream.ops)
    )
    assert replay.failures == 0
    assert free_pages(replay) == stream.pages - alive_pages(stream.fill, stream.ops)
