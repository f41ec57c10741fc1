"""How much faster than a compiled regular expression is the reader of trace text?"""

from __future__ import annotations

import functools
import sys

import pytest

from asi_pa.trace import load_trace

from .harness import BIG, measure
from .text import perf_text, read_with_regex

EVENTS = 1 << (18 if BIG else 12)

text = functools.lru_cache(perf_text)


@pytest.mark.parametrize("contender", ["regex", "reader"])
def test_reader(benchmark, contender, tmp_path):
    data = text("redis", EVENTS)
    file = tmp_path / "perf.txt"
    file.write_bytes(data)
    expected = read_with_regex(data)
    assert expected[0] > EVENTS // 2

    def read(_):
        if contender == "regex":
            return read_with_regex(file.read_bytes())
        trace = load_trace(file)
        return len(trace), int(trace.pfn.astype("u8").sum())

    found = measure(
        benchmark, "text of perf script", lambda: None, read, expected[0], bytes=len(data), python=sys.version
    )
    assert found == expected
