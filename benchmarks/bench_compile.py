"""What does compiling a trace to operations cost, against replaying them?"""

from __future__ import annotations

import pytest

from asi_pa.trace import Classifier, load_trace
from asi_pa.trace.compile import operations
from asi_pa.trace.ticks import seen_ticks

from .harness import compiled_trace, measure, trace_engine


@pytest.mark.parametrize("trace", ["redis", "net"])
@pytest.mark.parametrize("step", ["compile", "replay"])
def test_compile(benchmark, trace, step):
    compiled = compiled_trace(trace)
    loaded = load_trace(trace)
    if step == "compile":
        rule = Classifier.parse("rfc", 0)
        done = measure(
            benchmark,
            f"compile, {trace}",
            lambda: loaded,
            lambda loaded: sum(len(part[0]) for part in operations(loaded, rule, ticks=seen_ticks(loaded))),
            len(loaded),
        )
        assert done == len(compiled.ops)
    else:
        replay = measure(
            benchmark,
            f"compile, {trace}",
            lambda: trace_engine(compiled),
            lambda replay: replay.run(compiled.ops) or replay,
            len(compiled.ops),
        )
        assert replay.done == len(compiled.ops)
