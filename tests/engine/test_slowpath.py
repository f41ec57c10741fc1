"""What follows when a request found nothing: drains, kswapd, and the causes of failures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("asi_pa.run.replay", reason="the extension modules are not built")

from asi_pa.engine.machine import Machine
from asi_pa.kernel.gfp import GFP_NAMES, parse_gfp
from asi_pa.kernel.spec import PcpSpec
from asi_pa.run.replay import Replay
from asi_pa.trace.ops import OP
from tests.twin.engines import small_spec

KERNEL = parse_gfp("GFP_KERNEL")
NOWAIT = GFP_NAMES["GFP_NOWAIT"]
ATOMIC = GFP_NAMES["GFP_ATOMIC"]
USER = parse_gfp("GFP_HIGHUSER_MOVABLE") | GFP_NAMES["__GFP_SENSITIVE"]
SENSITIVE = GFP_NAMES["__GFP_SENSITIVE"]
PCP = PcpSpec(batch=3, high_min=40, high_max=40)


def fill(machine: Any, gfp: int, order: int = 0, cpu: int = 0) -> list[int]:
    """Allocates until a request fails."""
    pfns = []
    while (pfn := machine.alloc(order, gfp, cpu)) >= 0:
        pfns.append(pfn)
    return pfns


def one_failure(machine: Any, order: int, gfp: int, cpu: int = 0) -> set[str]:
    """The causes that one failing request counts."""
    before = machine.stats()
    assert machine.alloc(order, gfp, cpu) == -1
    after = machine.stats()
    return {key for key in after if key.startswith("fail_") and after[key] > before[key]}


def operations(*rows: tuple[int, int, int, int, int]) -> Any:
    return np.array(list(rows), OP)


# ---------------------------------------------------------------- before a blocking request fails


def replay_of(machine: Machine, classes: list[int], nslots: int = 4096) -> Replay:
    return Replay(machine, np.array(classes, np.uint32), nslots)


def test_a_blocking_request_has_the_pages_on_other_cpus_lists() -> None:
    """drain_all_pages() in __alloc_pages_direct_reclaim(), whether or not anything can be reclaimed."""
    machine = Machine(small_spec(pages=128, cpus=2, pcp=PCP))
    replay = replay_of(machine, [KERNEL, NOWAIT])
    replay.run(operations(*((1, 0, 0, 0, slot) for slot in range(120))))
    replay.run(operations(*((2, 0, 0, 1, slot) for slot in range(20))))
    assert machine.counters(1)[0] == 20
    waits_not = operations(*((1, 0, 1, 0, 200 + i) for i in range(20)))
    replay.run(waits_not)
    assert replay.failures > 0, "who may not block cannot wait for a drain"
    failed = replay.failures
    replay.run(operations(*((1, 0, 0, 0, 300 + i) for i in range(20))))
    assert replay.failures == failed
    assert machine.counters(1)[0] == 0


def with_a_reserve(design: str = "linux", filler: int = KERNEL) -> tuple[Machine, Replay]:
    """A machine at its lowest watermark, and a pageblock reserved for HIGHATOMIC that is wholly free."""
    machine = Machine(small_spec(pages=1024, wmark=(40, 50, 60, 70)), design)
    replay = replay_of(machine, [KERNEL, ATOMIC, filler])
    slots = iter(range(1024))
    while not replay.failures:
        replay.run(operations((1, 0, 2, 0, next(slots))))
    replay.run(operations((1, 1, 1, 0, 2000), (2, 1, 0, 0, 2000)))
    assert machine.stats()["reserves"] == 1
    return machine, replay


def test_a_blocking_request_has_the_highatomic_reserve_in_the_end() -> None:
    """unreserve_highatomic_pageblock(force=true) before the OOM killer (should_reclaim_retry)."""
    machine, replay = with_a_reserve()
    replay.run(operations(*((2, 0, 0, 0, slot) for slot in range(4))))
    failed = replay.failures
    replay.run(operations((1, 0, 0, 0, 3000)))
    assert replay.failures == failed
    assert machine.stats()["unreserves"] == 1
    assert machine.verify() is None


# ---------------------------------------------------------------- boosts


def mixed_up(design: str = "linux") -> tuple[Machine, Replay]:
    """A machine whose unmovable requests claim parts of movable pageblocks, each with a boost."""
    machine = Machine(
        small_spec(pages=1024, boost_factor=15000, wmark=(32, 40, 48, 56)),
        design,
    )
    replay = replay_of(machine, [KERNEL, USER])
    replay.run(operations(*((1, 0, 1, 0, slot) for slot in range(800))))
    replay.run(operations(*((2, 0, 0, 0, slot) for slot in range(0, 800, 2))))
    while not machine.stats()["boosts"]:
        slot = 1000 + replay.allocations
        replay.run(operations((1, 0, 0, 0, slot)))
    return machine, replay


BOOST = 6  # of the counters in a dump


def test_a_boost_ends() -> None:
    """rmqueue() wakes kswapd; balance_pgdat() takes the boost away and wakes kcompactd."""
    machine, replay = mixed_up()
    assert machine.dump(0)[BOOST - 1] > 0
    assert machine.stats()["kswapd_wakeups"] == 1
    replay.run(operations(*((2, 0, 0, 0, slot) for slot in range(1, 202, 2))))
    assert machine.dump(0)[BOOST - 1] == 0
    assert machine.stats()["kcompactd_wakeups"] == 1
    assert machine.verify() is None


# ---------------------------------------------------------------- causes


def crowded(design: str, pieces: int) -> Any:
    """Every second page of the other kind is free, and ``pieces`` single pages of the requester's own."""
    machine = Machine(small_spec(pages=512), design)
    own = [machine.alloc(0, KERNEL) for _ in range(2 * pieces)]
    filled = fill(machine, USER) + fill(machine, KERNEL)
    for pfn in own[::2] + filled[::2]:
        machine.free(pfn, 0)
    return machine


@pytest.mark.parametrize("design", ["migratetype/sound", "freetype/sound"])
@pytest.mark.parametrize("pieces", [0, 12])
def test_want_of_a_whole_block_is_called_so(design: str, pieces: int) -> None:
    """However many pages of its own kind lie in pieces: the other kind has enough and no whole block."""
    machine = crowded(design, pieces)
    assert one_failure(machine, 3, KERNEL) == {"fail_starvation"}


def test_highatomic_blocks_are_nothing_to_flip() -> None:
    """A wholly free one of the other kind stands by, and pieces of the own."""
    machine, replay = with_a_reserve("migratetype/sound", USER)
    for kind in (0, SENSITIVE):
        fill(machine, GFP_NAMES["__GFP_MEMALLOC"] | kind, 2)
    replay.run(operations(*((2, 0, 0, 0, slot) for slot in range(0, 600, 4))))
    assert one_failure(machine, 2, NOWAIT | SENSITIVE) == {"fail_fragmentation"}


def test_pages_on_per_cpu_lists_are_free_memory() -> None:
    """`no_memory`: fewer pages are free than were asked for, wherever they are."""
    machine = Machine(small_spec(pages=128, cpus=2, pcp=PCP))
    held = fill(machine, KERNEL)
    for pfn in held[:20]:
        machine.free(pfn, 0, 1)
    assert machine.counters(1)[0] == 20
    assert one_failure(machine, 0, NOWAIT) == {"fail_watermark"}


def test_no_memory_is_no_memory() -> None:
    machine = Machine(small_spec(pages=128))
    fill(machine, KERNEL)
    assert one_failure(machine, 0, NOWAIT) == {"fail_no_memory"}
