"""A trace that contradicts itself ends nothing: it is followed, counted, and every frame stays in one
block."""

import pytest

pytest.importorskip("asi_pa.run.track", reason="the extension modules are not built")

from asi_pa.trace.events import ALLOC, EXTFRAG, FREE, PCPU_DRAIN, ZONE_LOCKED
from asi_pa.trace.ticks import all_ticks
from tests.run.contradictory import compiled, drawn, followed, trace_of

START, SPANNED = 2048, 4096 + 100
END = START + SPANNED


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_drawn_events_leave_every_frame_in_one_block(first: int) -> None:
    ghosts = outside = 0
    for seed in range(first, first + 100):
        tracker = followed(drawn(seed), 8)
        ghosts, outside = ghosts + tracker.ghosts, outside + tracker.outside
    assert ghosts > 1000
    assert outside > 100


def test_drawn_traces_are_compiled_and_settled_or_refused_in_one_line() -> None:
    good = [compiled(drawn(seed), recorded=seed % 5 != 0) for seed in range(300)]
    assert 100 < sum(each is not None for each in good) < 300


@pytest.mark.parametrize("kind", [ALLOC, FREE, PCPU_DRAIN, ZONE_LOCKED, EXTFRAG])
@pytest.mark.parametrize("within", range(0, 8, 3))
def test_a_part_of_a_block_on_a_per_cpu_list_takes_it_off(kind: int, within: int) -> None:
    at = START + 512
    later = [(FREE, at, 3), (ALLOC, at, 3), (FREE, at + 8, 3), (PCPU_DRAIN, at + 8, 3)]
    tracker = followed(
        trace_of([(ALLOC, at, 3), (FREE, at, 3), (kind, at + within, 0), *later], START, SPANNED)
    )
    assert tracker.ghosts >= 1
    assert tracker.outside == 0


@pytest.mark.parametrize("kind", [ALLOC, FREE, PCPU_DRAIN, ZONE_LOCKED, EXTFRAG])
def test_a_block_across_the_end_of_its_zone_is_none(kind: int) -> None:
    whole, across = (kind, END - 4, 2), (kind, START + 4096, 7)
    tracker = followed(trace_of([(kind, START + 4096, 10), whole, across, whole], START, SPANNED))
    assert tracker.outside == 2


def test_a_fallback_of_another_order_than_its_event_is_none() -> None:
    trace = trace_of([(EXTFRAG, START + 1, 0), (EXTFRAG, START + 600, 3)], START, SPANNED)
    trace.ext["alloc_order"][0] = 4
    tracker = followed(trace)
    assert tracker.outside == 1
    assert [(event, order) for event, order, *_ in tracker.fallbacks] == [(1, 3)]


def test_a_fallback_that_is_passed_over_keeps_its_details() -> None:
    events = [(EXTFRAG, START, 0), (EXTFRAG, START + 600, 3)]
    trace = trace_of(events, START, SPANNED)
    trace.order[0] = trace.max_page_order + 1
    tracker = followed(trace, len(trace))
    assert [(event, order) for event, order, *_ in tracker.fallbacks] == [(1, 3)]


def test_a_drained_block_of_unlike_pageblocks_is_not_merged() -> None:
    at = START + 1024
    trace = trace_of([(PCPU_DRAIN, at + 512, 0), (PCPU_DRAIN, at, 10), (ALLOC, at + 512, 9)], START, SPANNED)
    trace.migratetype[0] = 1
    followed(trace)


def test_a_trace_between_two_ticks_has_none() -> None:
    trace = trace_of([(PCPU_DRAIN, START, 0), (FREE, START, 0)], START, SPANNED)
    assert len(all_ticks(trace).time_ns) == 0


def test_frees_across_the_end_are_outside_every_zone() -> None:
    assert compiled(trace_of([(FREE, START + 4096, 7)], START, SPANNED), recorded=True) is None
    assert compiled(trace_of([(FREE, END - 4, 2)], START, SPANNED), recorded=True) is not None
