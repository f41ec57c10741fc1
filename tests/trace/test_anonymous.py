"""A trace to be mailed: what names people and machines is gone, what a replay needs is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from asi_pa.trace import load_trace, read_trace, write_trace
from asi_pa.trace.anonymous import anonymised
from asi_pa.trace.format import EVENT_COLUMNS
from asi_pa.trace.ticks import tick_phases


def test_names_are_gone_and_events_stay(tmp_path: Path) -> None:
    trace = replace(
        load_trace("redis"),
        kernel="Linux 6.18.44-mycompany-x1 (builder@host)",
        provenance={
            "source": "recorded here",
            "command": ["secret"],
            "format": "perf",
            "clock": "CLOCK_MONOTONIC ns",
        },
    )
    small = anonymised(trace)
    assert (small.name, small.description, small.kernel) == ("anonymous", "", "Linux 6.18.44")
    assert set(small.comms) <= {"", "kworker"}
    assert small.provenance == {"format": "perf", "clock": "CLOCK_MONOTONIC ns", "anonymised": True}
    for name in EVENT_COLUMNS:
        if name != "comm":
            np.testing.assert_array_equal(getattr(small, name), getattr(trace, name))
    assert tick_phases(small) == tick_phases(trace)
    write_trace(small, tmp_path / "mail.trace")
    assert b"secret" not in (tmp_path / "mail.trace").read_bytes()[:20_000]
    assert read_trace(tmp_path / "mail.trace").comms == small.comms
