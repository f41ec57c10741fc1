"""Tries that failed where they were recorded: found by mask, order, command and CPU; dropped fallbacks."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("asi_pa.run.replay", reason="the extension modules are not built")

from asi_pa.experiment.runs import replay
from asi_pa.kernel.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, parse_gfp
from asi_pa.trace import CompiledTrace, compile_trace
from asi_pa.trace.compile import asked_for
from asi_pa.trace.tries import recorded_tries
from tests.trace.events import FAILED, make_trace

SKB = parse_gfp("GFP_NOWAIT|__GFP_IO|__GFP_FS|__GFP_NORETRY|__GFP_COMP")
GFPS = (GFP_KERNEL, GFP_HIGHUSER_MOVABLE, SKB)
START = 4096


def page(k: int, *, gfp: int = 0, comm: int = 0, cpu: int = 0) -> tuple[Any, ...]:
    return ("alloc", START + k, 0, gfp, comm, cpu)


def failed_try(*, comm: int = 0, cpu: int = 0) -> tuple[Any, ...]:
    return ("alloc", FAILED, 3, 2, comm, cpu)


def made(events: list[tuple[Any, ...]]) -> CompiledTrace:
    return compile_trace(make_trace(events, gfps=GFPS), memory="64M")


def codes(compiled: CompiledTrace) -> list[int]:
    return [int(op) for op in compiled.ops["op"]]


#: Three pages instead of a try of order 3, other requests between, and the frees.
EVENTS = [
    page(100, comm=1),
    failed_try(),
    page(0),
    page(1, comm=1),
    failed_try(),
    page(2),
    page(3, cpu=1),
    page(4, gfp=1),
    page(5),
    ("free", START, 0),
    ("free", START + 5, 0),
    ("free", START + 2, 0),
    ("free", START + 1, 0),
]


def test_pages_of_the_same_command_cpu_and_kind_are_the_fallback() -> None:
    trace = make_trace(EVENTS, gfps=GFPS)
    (found,) = recorded_tries(trace, asked_for(trace)[0])
    assert (found.event, found.pages) == (1, (2, 5, 8))


def test_operations_hold_the_try_its_pages_and_its_free() -> None:
    compiled = made(EVENTS)
    # the repeated try in between is one whose pages are given back at once
    assert codes(compiled) == [1, 5, 6, 1, 1, 2, 6, 1, 1, 6, 2, 2, 2, 2, 2]
    tried = compiled.ops[1]
    assert (tried["order"], compiled.ops[13]["order"]) == (3, 3)
    assert tried["slot"] == compiled.ops[13]["slot"]
    assert int(tried["slot"]) + 8 <= compiled.nslots
    assert compiled.counts["recorded_tries"] == 1
    assert compiled.repairs["failed_allocs"] == 2


def test_what_is_never_freed_keeps_the_try() -> None:
    assert codes(made(EVENTS[:10])) == [1, 5, 6, 1, 1, 2, 6, 1, 1, 6, 2]


def test_a_try_without_pages_is_none() -> None:
    assert codes(made([failed_try(), page(0, cpu=1)])) == [1, 2, 1]


def test_another_try_on_the_cpu_ends_it() -> None:
    events = [failed_try(), page(0), failed_try(comm=1), page(1), page(2, comm=1)]
    trace = make_trace(events, gfps=GFPS)
    found = recorded_tries(trace, asked_for(trace)[0])
    assert [(each.event, each.pages) for each in found] == [(0, (1,)), (2, (4,))]


def test_a_try_that_succeeds_here_saves_its_pages() -> None:
    compiled = made(EVENTS)
    followed, not_followed = (replay(compiled, samples=2, fallbacks=on)["metrics"] for on in (True, False))
    assert (followed["fallbacks_dropped"], not_followed["fallbacks_dropped"]) == (3, 0)
    assert (followed["allocations"], not_followed["allocations"]) == (6, 8)
    assert sum(followed["requests_by_group"].values()) == sum(followed["allocations_by_order"]) == 6
    assert followed["failures"] == not_followed["failures"] == 0
