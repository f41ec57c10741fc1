"""Compaction on machines with unmapped blocks: a sound design's pages never change sides."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

pytest.importorskip("asi_pa.run.replay", reason="the extension modules are not built")

from asi_pa.designs import DESIGNS
from asi_pa.engine.machine import Machine
from asi_pa.kernel.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NAMES, MODEL_LRU
from asi_pa.run.replay import Replay
from asi_pa.trace.compiler import OP
from tests.twin.engines import small_spec

SENSITIVE = GFP_NAMES["__GFP_SENSITIVE"]
USER = GFP_HIGHUSER_MOVABLE | MODEL_LRU
CLASSES = np.array([USER, USER | SENSITIVE, GFP_KERNEL, GFP_KERNEL | SENSITIVE], np.uint32)
SLOTS = 4096
#: Designs that change whole pageblocks.
TRACKING = sorted({d.name for d in DESIGNS.values() if d.protects and not d.wrapper})


def fill(design: str, seed: int, kernel: str = "7.2") -> tuple[Machine, Replay, random.Random]:
    """A machine of 64 pageblocks, full of pages of every kind, most of them given back."""
    rng = random.Random(seed)
    machine = Machine(small_spec(pages=2048, pageblock_order=5, max_page_order=6), design, kernel)
    run = Replay(machine, CLASSES, SLOTS)
    run.relieve(np.zeros(0, np.uint32))
    rows = [(1, rng.choice([0, 0, 0, 1, 2]), rng.choice([0, 1, 1, 1, 2, 3]), 0, 4 * s) for s in range(1000)]
    rows += [(2, rows[i][1], 0, 0, 4 * i) for i in rng.sample(range(1000), 700)]
    run.run(np.array(rows, OP))
    return machine, run, rng


def compact(run: Replay, rng: random.Random) -> None:
    """Every way to compact, for every kind of request."""
    for slot in range(4001, 4041):
        order = rng.choice([3, 5, 5, 6])
        run.direct_compact(order, rng.randrange(4), slot, rng.choice([0, 1, 2]))
    run.kcompactd(5)
    run.compact_node()


def wrongly_mapped(machine: Any) -> int:
    """Live pages on the wrong side."""
    stats = machine.stats()
    return int(stats["exposed_now"] + stats["hidden_now"])


@pytest.mark.parametrize("kernel", ["7.2", "6.12"])
@pytest.mark.parametrize("design", [d for d in TRACKING if DESIGNS[d].compaction_same_side])
def test_a_sound_design_moves_pages_within_their_side(design: str, kernel: str) -> None:
    moved = 0
    for seed in range(8):
        machine, run, rng = fill(design, seed, kernel)
        assert wrongly_mapped(machine) == 0
        compact(run, rng)
        assert wrongly_mapped(machine) == 0
        assert machine.stats()["exposures"] == 0
        assert machine.verify() is None
        moved += machine.stats()["compact_moved"]
    assert moved > 100


def test_every_sound_design_does() -> None:
    sound = {d for d in TRACKING if not DESIGNS[d].as_posted}
    assert {d for d in TRACKING if DESIGNS[d].compaction_same_side} == sound


def test_as_posted_a_page_may_move_to_the_other_side() -> None:
    """The scanners look at migratetypes only; September's movable memory exists on both sides."""
    exposed = []
    for seed in range(8):
        machine, run, rng = fill("freetype/as-posted", seed)
        before = machine.stats()["exposures"]
        compact(run, rng)
        exposed.append(machine.stats()["exposures"] - before)
    assert sum(exposed) > 0


def test_what_a_replay_cannot_compact() -> None:
    machine = Machine(small_spec(pages=2048, pageblock_order=5, max_page_order=6), "linux")
    run = Replay(machine, CLASSES, SLOTS)
    with pytest.raises(ValueError, match="before relieve"):
        run.direct_compact(5, 0, 0, 1)
    run.relieve(np.zeros(0, np.uint32))
    for bad in ((7, 0, 0, 1), (5, 4, 0, 1), (5, 0, SLOTS, 1), (5, 0, 0, 3)):
        with pytest.raises(ValueError, match=r"order|out of range"):
            run.direct_compact(*bad)
    with pytest.raises(ValueError, match="order"):
        run.kcompactd(7)
    with pytest.raises(ValueError, match="since"):
        run.relieve(np.zeros(2, np.uint32), True, np.array([3, 1], np.uint64))
