"""What does a whole recorded trace cost with each design, against the limit?"""

from __future__ import annotations

import pytest

from .harness import BIG, compiled_trace, measure, trace_engine, trace_limit

DESIGNS = ("limit", "array limit", "linux", "migratetype", "freetype/as-posted", "pool", "per-page")
COUNT = None if BIG else 1 << 14


@pytest.mark.parametrize("trace", ["redis", "net"])
@pytest.mark.parametrize("design", DESIGNS)
def test_replay(benchmark, trace, design):
    compiled = compiled_trace(trace)
    count = len(compiled.ops) if COUNT is None else COUNT

    def make():
        if design.endswith("limit"):
            return trace_limit(compiled, arrays=design != "limit")
        return trace_engine(compiled, design)

    state = measure(
        benchmark,
        f"trace {trace}",
        make,
        lambda state: state.run(compiled.ops, 0, count) or state,
        count,
        kernel=compiled.kernel,
    )
    if design.endswith("limit"):
        assert state.free_pages() > 0
    else:
        assert state.allocations == int((compiled.ops["op"][:count] == 1).sum())
        assert state.machine.verify() is None
