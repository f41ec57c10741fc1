"""The caller's fallback, replayed: pages for a try that failed, and the groups of failures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("asi_pa.run.replay", reason="the extension modules are not built")

from asi_pa.engine.machine import Machine
from asi_pa.experiment.runs import replay
from asi_pa.kernel.gfp import parse_gfp
from asi_pa.run.replay import Replay
from asi_pa.trace import compile_trace
from asi_pa.trace.ops import OP
from tests.twin.engines import small_spec

KERNEL = parse_gfp("GFP_KERNEL")
SKB = parse_gfp("GFP_NOWAIT|__GFP_IO|__GFP_FS|__GFP_NORETRY|__GFP_COMP")
ATOMIC = parse_gfp("GFP_ATOMIC|__GFP_NORETRY|__GFP_NOWARN|__GFP_COMP")


def operations(*rows: tuple[int, int, int, int, int]) -> Any:
    return np.array(list(rows), OP)


def in_pieces(free: int, classes: list[int], **how: Any) -> tuple[Machine, Replay]:
    """A machine in which ``free`` single pages are free, and no two of them side by side."""
    machine = Machine(small_spec(pages=128))
    run = Replay(machine, np.array([KERNEL, *classes], np.uint32), 1024, **how)
    run.run(operations(*((1, 0, 0, 0, slot) for slot in range(128))))
    assert run.failures == 0
    run.run(operations(*((2, 0, 0, 0, slot) for slot in range(0, 2 * free, 2))))
    return machine, run


def free_pages(run: Replay) -> int:
    return int(run.free_pages().sum())


def test_the_pages_of_a_failed_try_come_and_go_with_it() -> None:
    machine, run = in_pieces(20, [SKB])
    run.run(operations((1, 3, 1, 0, 200)))
    assert run.failures == 1
    assert run.fallbacks() == (1, 0, 8)
    assert free_pages(run) == 12
    assert machine.verify() is None
    run.run(operations((2, 3, 0, 0, 200)))
    assert (free_pages(run), run.skipped) == (20, 0)
    run.run(operations((2, 3, 0, 0, 200)))
    assert run.skipped == 1


def test_a_page_that_is_not_to_be_had_ends_the_request() -> None:
    machine, run = in_pieces(5, [SKB])
    run.run(operations((1, 3, 1, 0, 200)))
    assert run.fallbacks() == (1, 1, 6)
    assert run.failures_by_way_out().tolist() == [[1, 0], [1, 0], [0, 0]], "the try, and a blocking page"
    assert (
        sum(machine.stats()[key] for key in machine.stats() if key.startswith("fail_")) == run.failures == 2
    )
    run.run(operations((2, 3, 0, 0, 200)))
    assert free_pages(run) == 5


def test_a_split_leaves_pages_in_their_slots() -> None:
    _, run = in_pieces(20, [SKB])
    run.run(operations((1, 3, 1, 0, 200), (3, 3, 0, 0, 200)))
    run.run(operations(*((2, 0, 0, 0, 200 + k) for k in range(8))))
    assert (free_pages(run), run.skipped) == (20, 0)


def test_an_atomic_callers_page_is_atomic() -> None:
    _, run = in_pieces(0, [ATOMIC])
    run.run(operations((1, 1, 1, 0, 200)))
    assert run.failures_by_way_out().tolist() == [[1, 0], [0, 0], [1, 0]]


def test_the_switch_leaves_them_out() -> None:
    _, run = in_pieces(20, [SKB], fallbacks=False)
    run.run(operations((1, 3, 1, 0, 200)))
    assert (run.failures, run.fallbacks(), free_pages(run)) == (1, (0, 0, 0), 20)


def test_who_is_not_known_asks_for_nothing_else() -> None:
    _, run = in_pieces(20, [parse_gfp("GFP_KERNEL|__GFP_NORETRY")])
    run.run(operations((1, 3, 1, 0, 200)))
    assert (run.failures, run.fallbacks()) == (1, (0, 0, 0))


@pytest.fixture(scope="module")
def net() -> dict[str, Any]:
    """freetype on net at ample memory: what was called 51,810 failures."""
    compiled = compile_trace("net")
    return {str(on): replay(compiled, "freetype", samples=2, fallbacks=on)["metrics"] for on in (True, False)}


def test_what_freetype_fails_on_net_is_tries(net: dict[str, Any]) -> None:
    without = net["False"]
    assert without["failures_by_group"]["real"] == without["failures_by_group"]["huge"] == 0
    assert without["failures_by_group"]["declined"] == without["failures"] > 50_000
    replayed = net["True"]
    assert replayed["failures_by_group"]["real"] == replayed["fallbacks_failed"] == 0
    assert 0 < replayed["failures_by_group"]["declined"] < 0.6 * without["failures"]


@pytest.mark.parametrize("on", ["True", "False"])
def test_numbers_that_must_add_up(net: dict[str, Any], on: str) -> None:
    m = net[on]
    assert m["failures"] == sum(m["failures_by_cause"].values()) == sum(m["failures_by_group"].values())
    assert m["failures"] == sum(m["failures_by_way_out"].values()) == sum(m["failures_by_kind"].values())
    assert m["allocations"] == sum(m["allocations_by_order"]) == sum(m["requests_by_group"].values())
    assert m["allocations"] == sum(m["requests_by_kind"].values())
    assert m["requests_by_group"]["declined"] == 328_274
