"""Compiling: who frees whom, what is mended, and that the operations are what the events say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asi_pa.kernel.gfp import GFP_NAMES, MODEL_LRU
from asi_pa.trace import Classifier, compile_trace
from asi_pa.trace.compile import OP_ALLOC, OP_FREE, OP_SPLIT, OP_TICK, operations, tight_memory
from tests.trace.events import FAILED, GFPS, make_trace

SENSITIVE = GFP_NAMES["__GFP_SENSITIVE"]


def ops_of(events: list[tuple[Any, ...]], **fields: Any) -> list[tuple[int, int, int]]:
    """(op, order, slot) of each operation."""
    compiled = compile_trace(make_trace(events, **fields))
    return [(int(op["op"]), int(op["order"]), int(op["slot"])) for op in compiled.ops]


def test_pair_and_slot_reuse() -> None:
    events = [
        ("alloc", 8, 0),
        ("alloc", 16, 3),
        ("free", 8, 0),
        ("alloc", 9, 0),
        ("free", 16, 3),
        ("alloc", 0, 3),
    ]
    assert ops_of(events) == [(1, 0, 0), (1, 3, 1), (2, 0, 0), (1, 0, 0), (2, 3, 1), (1, 3, 1)]


def test_freed_but_never_allocated() -> None:
    compiled = compile_trace(make_trace([("free", 8, 2), ("alloc", 8, 2), ("free", 8, 2), ("free", 3, 0)]))
    population = compiled.population[0]
    first = population.held_slot[:2].tolist()
    assert population.held_order[:2].tolist() == [2, 0]
    assert [(int(op["op"]), int(op["slot"])) for op in compiled.ops] == [
        (OP_FREE, first[0]), (OP_ALLOC, first[0]), (OP_FREE, first[0]), (OP_FREE, first[1])
    ]  # fmt: skip
    assert compiled.counts["held_at_start_pages"] == 5


def test_partial_frees() -> None:
    events = [("alloc", 8, 2), ("free", 9, 0), ("free", 8, 0), ("alloc", 9, 0), ("free", 10, 1)]
    compiled = compile_trace(make_trace(events))
    got = [(int(op["op"]), int(op["order"]), int(op["slot"])) for op in compiled.ops]
    assert got == [(1, 2, 0), (OP_SPLIT, 2, 0), (2, 0, 1), (2, 0, 0), (1, 0, 0), (2, 0, 2), (2, 0, 3)]
    assert compiled.counts["splits"] == 1
    assert compiled.counts["partial_frees"] == 1
    assert compiled.repairs["free_of_other_order"] == 1


def test_repairs_are_counted() -> None:
    events = [
        ("alloc", 8, 0), ("alloc", 8, 0),  # a free went by unseen
        ("free", 8, 0), ("free", 8, 0),  # an allocation went by unseen
        ("alloc", 16, 2), ("alloc", 18, 0),  # in the middle of another
        ("alloc", FAILED, 0), ("free_batched", 18, 0), ("zone_locked", 18, 0),
    ]  # fmt: skip
    compiled = compile_trace(make_trace(events))
    assert compiled.repairs == {
        "alloc_of_allocated": 2, "frees_inserted": 2, "free_of_free_dropped": 1, "free_of_other_order": 0,
        "failed_allocs": 1,
    }  # fmt: skip
    assert compiled.counts["free_batched_ignored"] == 1
    assert [int(op["op"]) for op in compiled.ops] == [1, 2, 1, 2, 1, OP_SPLIT, 2, 1, 1, 2]


def test_ticks() -> None:
    second = 10**9
    events = [
        ("alloc", i, 0, 0, 0, 0, t)
        for i, t in enumerate([5, second, second + 5, 3 * second + 6, 900 * second])
    ]
    compiled = compile_trace(make_trace(events))
    assert compiled.ops["op"].tolist() == [1, 1, OP_TICK, 1, OP_TICK, OP_TICK, 1, *[OP_TICK] * 60, 1]
    assert compiled.counts["ticks"] == 63
    assert compiled.time_ns.tolist() == [5]


def test_times_of_every_1024th_operation() -> None:
    events = [("alloc", i, 0, 0, 0, 0, 10 * i) for i in range(3000)]
    trace = make_trace(events)
    assert compile_trace(trace).time_ns.tolist() == [0, 10240, 20480]
    chunks = [ops for ops, _, _ in operations(trace, Classifier.parse(), chunk=700)]
    assert len(chunks) == 5
    np.testing.assert_array_equal(np.concatenate(chunks), compile_trace(trace).ops)


def test_classes_follow_the_classifier() -> None:
    trace = make_trace([("alloc", i, 0, i % 2, i % 2) for i in range(1000)])
    compiled = compile_trace(trace)
    words = compiled.classes[compiled.ops["cls"]]
    assert (words[::2] == GFPS[0]).all()
    assert (words[1::2] == GFPS[1] | SENSITIVE | MODEL_LRU).all()
    share = compile_trace(trace, "share=0.25", seed=3)
    drawn = (share.classes[share.ops["cls"]] & SENSITIVE) == 0
    assert 180 < drawn.sum() < 320
    np.testing.assert_array_equal(share.ops, compile_trace(trace, "share=0.25;seed=3").ops)
    assert (share.ops != compile_trace(trace, "share=0.25", seed=4).ops).any()
    by_comm = compile_trace(trace, "comm=t*:nonsensitive;sensitive")
    assert (((by_comm.classes[by_comm.ops["cls"]] & SENSITIVE) == 0) == (trace.comm == 1)).all()


@pytest.mark.parametrize(
    ("events", "named"),
    [
        ([("alloc", 1, 1)], "event 0: impossible pfn not aligned"),
        ([("alloc", 0, 0), ("free", 2, 2)], "event 1: impossible pfn not aligned"),
        ([("alloc", 0, 11)], "impossible order"),
        ([("free", FAILED, 0)], "impossible pfn"),
        ([("alloc", 0, 0, 2)], "impossible gfp"),
        ([("alloc", 0, 0, 0, 2)], "impossible comm"),
        ([("alloc", 0, 0, 0, 0, 2)], "impossible cpu"),
    ],
)
def test_impossible_events(events: list[tuple[Any, ...]], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        compile_trace(make_trace(events))


def test_bad_requests() -> None:
    trace = make_trace([("alloc", 0, 0), ("free", 5, 0), *[("free", 1024 * i, 10) for i in range(1, 9)]])
    for arguments, named in (
        ({"memory": "1M"}, "1M"),
        ({"memory": "16M"}, "too little"),
        ({"memory": "64M", "recorded": True}, "64M"),
        ({"recorded": True}, "no snapshot"),
        ({"classifier": "nonsense"}, "nonsense"),
    ):
        with pytest.raises(ValueError, match=named):
            compile_trace(trace, **arguments)
    compiled = compile_trace(trace, memory="64M")
    assert compiled.memory_bytes == 64 << 20
    assert compiled.population[0].held_pages == 8 * 1024 + 1
    assert tight_memory(compiled) == 64 << 20


def test_flags_of_another_kernel_are_translated() -> None:
    # Before 4.8 or so: __GFP_HARDWALL was bit 17, and so on.
    names = {"__GFP_HARDWALL": 1 << 17, "__GFP_MOVABLE": 1 << 3, "__GFP_IO": 1 << 6}
    trace = make_trace(
        [("alloc", 0, 0, 0), ("alloc", 1, 0, 1)], gfps=(1 << 6, 1 << 17 | 1 << 6), gfp_names=names
    )
    compiled = compile_trace(trace)
    words = compiled.classes[compiled.ops["cls"]].tolist()
    assert words == [GFP_NAMES["__GFP_IO"], GFP_NAMES["__GFP_IO"] | GFP_NAMES["__GFP_HARDWALL"] | SENSITIVE]


EVENT = st.tuples(st.sampled_from(["alloc", "free"]), st.integers(0, 31), st.integers(0, 4))


@settings(max_examples=100, deadline=None)
@given(st.lists(EVENT, max_size=60))
def test_operations_do_what_the_events_say(events: list[tuple[str, int, int]]) -> None:
    """Any sequence, however inconsistent: operations are legal, and allocated frames are as last said."""
    events = [(kind, pfn >> order << order, order) for kind, pfn, order in events]
    if not events:
        return
    trace = make_trace(events)
    compiled = compile_trace(trace)
    # One event at a time, so that what an event became is known.
    parts = [ops for ops, _, _ in operations(trace, Classifier.parse(), chunk=1)]
    np.testing.assert_array_equal(np.concatenate(parts), compiled.ops)
    population = compiled.population[0]
    holds = {int(s): int(o) for s, o in zip(population.held_slot, population.held_order, strict=True)}
    # Slot -> frame, learnt from the trace: which frame an operation means follows from the events.
    believed: set[int] = set()
    seen: set[int] = set()
    alive = sum(1 << order for order in holds.values())
    for (kind, pfn, order), ops in zip(events, parts, strict=True):
        frames = set(range(pfn, pfn + (1 << order)))
        at_start = frames - seen if kind == "free" else set()
        expected = len(at_start | (frames & believed))
        freed = allocated = 0
        for op in ops:
            slot, size = int(op["slot"]), int(op["order"])
            if op["op"] == OP_ALLOC:
                assert slot not in holds
                holds[slot] = size
                allocated += 1 << size
            elif op["op"] == OP_FREE:
                assert holds.pop(slot) == size
                freed += 1 << size
            elif op["op"] == OP_SPLIT:
                assert holds.pop(slot) == size
                assert size > 0
                holds |= dict.fromkeys(range(slot, slot + (1 << size)), 0)
        assert freed == expected
        assert allocated == (len(frames) if kind == "alloc" else 0)
        believed = believed - frames | (frames if kind == "alloc" else set())
        seen |= frames
        alive += allocated - freed
        assert sum(1 << order for order in holds.values()) == alive
    assert compiled.counts["end_pages"] == alive - compiled.population[0].held_pages
    # Slots of live allocations do not overlap, and stay below nslots.
    used = [s for slot, size in holds.items() for s in range(slot, slot + (1 << size))]
    assert len(used) == len(set(used))
    assert max(used, default=-1) < compiled.nslots
