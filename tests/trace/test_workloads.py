"""Workloads: consistent, seeded, and what their descriptions promise."""

from __future__ import annotations

import numpy as np
import pytest

from asi_pa.trace import WORKLOADS, compile_trace, load_trace, workload


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload(name: str) -> None:
    trace = workload(name, "64M", 1)
    compiled = compile_trace(trace)
    assert sum(compiled.repairs.values()) == 0
    assert compiled.counts["held_at_start"] == 0
    assert compiled.memory_bytes == 64 << 20
    assert compiled.population[0].held_pages == 0
    assert compiled.population[0].free_pages == 1 << 14
    assert len(trace.description.split()) > 5
    if not name.startswith(("stress", "fresh")):
        assert 0.1 * (1 << 14) < compiled.counts["peak_pages"] < 1 << 14
    again = load_trace(f"{name}:64M:1")
    np.testing.assert_array_equal(trace.pfn, again.pfn)
    np.testing.assert_array_equal(trace.cpu, again.cpu)


def test_seed_matters() -> None:
    one, two = workload("forks", "64M", 1), workload("forks", "64M", 2)
    assert len(one) != len(two) or (one.pfn != two.pfn).any()


def test_stress_leaves_no_block_free() -> None:
    trace = workload("stress", "256M")
    ask = int(np.flatnonzero(trace.comm == 1)[0])
    kept = np.setdiff1d(
        trace.pfn[:ask][trace.kind[:ask] == 0], trace.pfn[:ask][trace.kind[:ask] == 1], assume_unique=True
    )
    blocks = np.unique(kept >> 9)
    assert len(blocks) == -(-int((trace.kind[:ask] == 0).sum()) * 16 // 512)
    assert (trace.order[ask:] == 0).all()
    assert len(trace) - ask == 1 << 16


@pytest.mark.parametrize(
    ("text", "named"),
    [("stress:1M", "1M"), ("stress:1T", "1T"), ("stress:x", "x"), ("stress:64M:-1", "-1"),
     ("stres", "workloads"), ("stress:1G:1:1", "workloads")],
)  # fmt: skip
def test_bad_names(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        load_trace(text)
    with pytest.raises(ValueError, match="unknown workload"):
        workload("nothing")
