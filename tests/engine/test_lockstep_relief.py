"""Replays, with and without reclaim and compaction: the engine and its twin, driven together."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("asi_pa.run.replay", reason="the extension modules are not built")

from asi_pa.designs import Design
from asi_pa.engine.machine import Machine
from asi_pa.kernel.gfp import GFP_NAMES, MODEL_PINNED, MODEL_UNSPLITTABLE
from asi_pa.kernel.spec import MachineSpec
from asi_pa.run.replay import Replay
from asi_pa.trace.ops import OP
from tests.engine.test_lockstep import KINDS, LRU, SENSITIVE, SMALL, VARIANTS, machine_spec, request
from tests.twin import Machine as Twin
from tests.twin.dump import first_difference, tail_of
from tests.twin.relief import Replay as TwinReplay

SLOTS = 16000
NORETRY = GFP_NAMES["__GFP_NORETRY"]
#: First tries of known callers: skb_page_frag_refill(), allocate_slab() for who may block and who not, THP.
TRIES = [0x528C0, 0xD20C0, 0xD20D0 | SENSITIVE, 0x52820, 0x3D24CA | SENSITIVE]


def some_spec(rng: random.Random) -> MachineSpec:
    spec = machine_spec(rng)
    # The vmstat differences of zones without per-CPU lists are the last user's, which only the engine knows.
    zones = [zone if zone.pcp else replace(zone, stat_threshold=0) for zone in spec.zones]
    return replace(spec, zones=tuple(zones))


def some_operations(rng: random.Random, spec: MachineSpec, classes: int, n: int) -> npt.NDArray[np.void]:
    """Mostly allocations until the machine is full, then a mixture; splits and ticks now and then."""
    rows = []
    live: dict[int, int] = {}
    split: set[int] = set()
    free = list(range(0, SLOTS, 16))
    rng.shuffle(free)
    for _ in range(n):
        what, cpu = rng.random(), rng.randrange(spec.cpus)
        if what < 0.62 and free:
            order = min(rng.choice([0, 0, 0, 0, 1, 2, 3, 4]), spec.max_page_order)
            slot = free.pop()
            live[slot] = order
            how = rng.choice([1, 1, 1, 5, 6])
            rows.append((how, 0 if how == 6 else order, rng.randrange(classes), cpu, slot))
            live[slot] = rows[-1][1]
        elif what < 0.9 and live:
            slot = rng.choice(list(live))
            rows.append((2, live.pop(slot), 0, cpu, slot))
            if slot // 16 not in split:  # else others may still hold what lies beside it
                free.insert(0, slot)
        elif what < 0.92 and live:
            slot = rng.choice(list(live))
            order = live.pop(slot)
            rows.append((3, order, 0, cpu, slot))
            live |= {slot + k: 0 for k in range(1 << order)}
            split.add(slot // 16)
        elif what > 0.97:
            rows.append((4, 0, 0, rng.choice([cpu, 255]), 0))
    return np.array(rows, OP)


def walk(design: Design, seed: int) -> dict[str, int]:
    """One machine, some thousand operations; the counts at the end."""
    rng = random.Random(seed)
    spec = some_spec(rng)
    kernel = rng.choice(["7.3", "7.2", "6.18", "6.12"])
    twin, compiled = Twin(spec, design, kernel), Machine(spec, design, kernel)
    classes = [request(rng) | LRU * (rng.random() < 0.5) | NORETRY * (rng.random() < 0.2) for _ in range(12)]
    classes += TRIES
    classes += [kind | LRU | SENSITIVE * side | 0xCC0 for kind in KINDS for side in (0, 1)]
    classes = [
        word | MODEL_PINNED * (rng.random() < 0.1) | MODEL_UNSPLITTABLE * (rng.random() < 0.2)
        for word in classes
    ]
    fallbacks = rng.random() < 0.8
    replays: tuple[Any, Any] = (
        TwinReplay(twin, classes, SLOTS, fallbacks),
        Replay(compiled, np.array(classes, np.uint32), SLOTS, fallbacks),
    )
    ops = some_operations(rng, spec, len(classes), 2000)
    share, compacts = rng.choice([0.0, 0.3, 0.9]), rng.random() < 0.8
    supply = [int(slot) for slot in ops["slot"][np.isin(ops["op"], (1, 5, 6))] if rng.random() < share]
    since = sorted(rng.randrange(len(ops)) for _ in supply) if rng.random() < 0.5 else None
    nodes = random.Random(seed).choices([zone.nid for zone in spec.zones], k=len(supply))
    if rng.random() < 0.7:  # otherwise drains, reserves and kswapd are all there is
        for replay in replays:
            replay.relieve(supply, compacts, since, nodes=nodes)
    for start in range(0, len(ops), 50):
        for replay in replays:
            replay.run(ops[start : start + 50])
        for zone in range(len(spec.zones)):
            ours, theirs = twin.dump(zone).tolist(), compiled.dump(zone).tolist()
            assert ours == theirs, first_difference(ours, theirs, tail=tail_of(design))
        assert twin.stats() == Counter(compiled.stats())
        assert twin.numa() == compiled.numa()
        assert twin.flips() == compiled.flips()
        assert [(replay.failures, replay.skipped) for replay in replays][1:] == [
            (replays[0].failures, replays[0].skipped)
        ]
        assert twin.verify() is None or design.flip_cma
        assert compiled.verify() is None or design.flip_cma
    ours = replays[0]
    assert replays[1].dropped == ours.dropped
    assert replays[1].fallbacks() == (ours.fallbacks_replayed, ours.fallbacks_failed, ours.fallback_pages)
    by_way = replays[1].failures_by_way_out()
    assert {
        (way, bool(huge)): by_way[way, huge] for way in range(3) for huge in range(2) if by_way[way, huge]
    } == {key: count for key, count in ours.failed_by_way.items() if count}
    assert sum(ours.failed_by_way.values()) == ours.failures
    return compiled.stats() | {
        "replayed": ours.fallbacks_replayed,
        "fallbacks_failed": ours.fallbacks_failed,
        "dropped": ours.dropped,
    }


@pytest.mark.parametrize("name", [*SMALL, *VARIANTS])
def test_they_agree_about_reclaim_and_compaction(name: str) -> None:
    counts = [walk((SMALL | VARIANTS)[name], seed) for seed in range(8)]
    for what in (
        "reclaimed",
        "compactions",
        "compact_moved",
        "kswapd_wakeups",
        "kcompactd_wakeups",
        "replayed",
        "fallbacks_failed",
        "dropped",
    ):
        assert sum(count[what] for count in counts), what
