"""Traces of hosts with cpusets: __GFP_HARDWALL on every mask, of nobody's asking."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from asi_pa.kernel.gfp import GFP_NAMES, parse_gfp
from asi_pa.trace import compile_trace, load_trace
from asi_pa.trace.compile import asked_for, translated
from asi_pa.trace.cpusets import cpusets_on, without_hardwall
from asi_pa.trace.format import Trace

HARDWALL = GFP_NAMES["__GFP_HARDWALL"]
SENSITIVE = GFP_NAMES["__GFP_SENSITIVE"]


def marked(trace: Trace) -> Trace:
    """As prepare_alloc_pages() would have had it printed, had a cpuset been there."""
    theirs = trace.gfp_names["__GFP_HARDWALL"]
    return replace(trace, gfps=tuple(mask | theirs for mask in trace.gfps))


def nonsensitive(trace: Trace, classifier: str = "rfc") -> int:
    compiled = compile_trace(trace, classifier)
    kinds = (compiled.classes & np.uint32(SENSITIVE)) == 0
    return int(kinds[compiled.ops["cls"][compiled.ops["op"] == 1]].sum())


@pytest.mark.parametrize("name", ["redis", "net"])
def test_the_rfcs_rule_says_the_same_on_such_a_host(name: str) -> None:
    trace = load_trace(name)
    before, after = nonsensitive(trace), nonsensitive(marked(trace))
    assert before <= after <= before + 0.001 * len(trace)
    assert before > 1000


def test_results_say_so() -> None:
    trace = load_trace("redis")
    assert "cpusets" not in compile_trace(trace).classifier
    assert "cpusets put __GFP_HARDWALL on every mask" in compile_trace(marked(trace)).classifier
    assert asked_for(trace) == (translated(trace), False)


def test_one_caller_that_hands_it_on_is_no_cpuset() -> None:
    masks = [parse_gfp(text) for text in ("GFP_ATOMIC", "GFP_USER|__GFP_NORETRY|__GFP_COMP", "GFP_USER")]
    masks[1] &= ~GFP_NAMES["__GFP_DIRECT_RECLAIM"]
    assert not cpusets_on(masks, np.array([10, 9, 1000]))
    assert cpusets_on(masks, np.array([10, 11, 0]))


def test_without_hasty_requests_all_that_stay_must_carry_it() -> None:
    masks = [parse_gfp(text) for text in ("GFP_KERNEL", "GFP_USER", "GFP_HIGHUSER_MOVABLE")]
    assert not cpusets_on(masks, np.array([1, 1000, 5]))
    assert cpusets_on(masks, np.array([0, 1000, 5]))
    assert not cpusets_on(masks, np.array([0, 0, 5]))


def test_user_memory_is_told_by_highmem() -> None:
    pipe, user = parse_gfp("GFP_HIGHUSER|__GFP_ACCOUNT"), parse_gfp("GFP_USER")
    assert without_hardwall(pipe) == pipe
    assert without_hardwall(user) == parse_gfp("GFP_KERNEL")
    assert without_hardwall(parse_gfp("GFP_ATOMIC") | HARDWALL) == parse_gfp("GFP_ATOMIC")
