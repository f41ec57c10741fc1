"""A replay as Chrome trace JSON: the documented shape, and the replay's own numbers."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asi_pa import cli
from asi_pa.designs import as_design
from asi_pa.experiment.probe import Relief
from asi_pa.experiment.runs import build
from asi_pa.experiment.timeline import problems, timeline, write_timeline
from asi_pa.run.start import compile_trace
from asi_pa.trace import CompiledTrace

TRACE = "stress:64M:1"


@pytest.fixture(scope="module")
def compiled() -> CompiledTrace:
    return compile_trace(TRACE)


@pytest.fixture(scope="module")
def made(compiled: CompiledTrace) -> dict[str, Any]:
    return timeline(compiled, "migratetype", relief=Relief.none(), samples=50)


def counters(made: dict[str, Any], name: str) -> list[dict[str, int]]:
    return [event["args"] for event in made["traceEvents"] if event["ph"] == "C" and event["name"] == name]


def test_it_has_the_shape_of_the_trace_event_format(made: dict[str, Any]) -> None:
    assert problems(made) == []
    assert {event["ph"] for event in made["traceEvents"]} == {"M", "C", "i"}
    assert json.loads(json.dumps(made)) == made


def test_counters_are_the_replays(compiled: CompiledTrace, made: dict[str, Any]) -> None:
    design = as_design("migratetype")
    machine, run, _ = build(compiled, design)
    stops = np.unique(np.linspace(0, len(compiled.ops), 50).astype(int)).tolist()
    by_type, by_order = counters(made, "free pages by freetype"), counters(made, "free blocks by order")
    assert len(by_type) == len(by_order) == len(stops)
    for stop, pages, blocks in zip(stops, by_type, by_order, strict=True):
        run.run(compiled.ops, run.done, stop)
        assert list(pages.values()) == run.free_pages()[: len(design.freetypes)].tolist()
        assert list(blocks.values()) == run.free_blocks(0).tolist()
    assert counters(made, "failed requests")[-1]["so far"] == run.failures > 0
    stats = machine.stats()
    assert counters(made, "pageblocks flipped")[-1]["so far"] == stats["flips_s2n"] + stats["flips_n2s"] > 0


def test_instants_add_up(made: dict[str, Any]) -> None:
    instants: dict[str, int] = {}
    for event in made["traceEvents"]:
        if event["ph"] == "i":
            instants[event["cat"]] = instants.get(event["cat"], 0) + event["args"]["count"]
    assert instants["failures"] == counters(made, "failed requests")[-1]["so far"]
    flips = instants.get("flips_s2n", 0) + instants.get("flips_n2s", 0)
    assert flips == counters(made, "pageblocks flipped")[-1]["so far"]


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ({"ph": "Q"}, "no phase that is known"),
        ({"ph": "C", "pid": 1, "ts": 1.0, "name": "x", "args": {"a": "3"}}, "counter 'a' is no number"),
        ({"ph": "C", "pid": 1, "ts": 1.0, "name": "x", "args": {}}, "counter '' is no number"),
        ({"ph": "i", "pid": 1, "tid": 1, "ts": 1.0, "name": "x", "s": "z", "args": {}}, "scope 'z'"),
        ({"ph": "i", "pid": "1", "tid": 1, "ts": 1.0, "name": "x", "s": "t", "args": {}}, "pid is '1'"),
        ({"ph": "i", "pid": 1, "tid": 1, "ts": -1.0, "name": "x", "s": "t", "args": {}}, "goes back in time"),
    ],
)
def test_what_is_not_of_the_format_is_named(event: dict[str, Any], says: str) -> None:
    assert any(says in problem for problem in problems({"traceEvents": [event]}))
    assert problems([]) == ["no object with a list 'traceEvents'"]


def test_a_packed_file_is_the_same_bytes_each_time(made: dict[str, Any], tmp_path: Path) -> None:
    for name in ("a.json.gz", "b.json.gz", "c.json"):
        write_timeline(made, tmp_path / name)
    packed = (tmp_path / "a.json.gz").read_bytes()
    assert packed == (tmp_path / "b.json.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "c.json").read_bytes()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "t.json"
    words = [
        "timeline",
        TRACE,
        "-o",
        str(out),
        "--design",
        "pool",
        "--samples",
        "20",
        "--no-relief",
        "--quiet",
    ]
    assert cli.main(words) == 0
    assert problems(json.loads(out.read_text())) == []
    assert cli.main(["timeline", TRACE, "-o", str(out), "--samples", "1"]) == 2
    assert "not a number from 2 to 100000" in capsys.readouterr().err
