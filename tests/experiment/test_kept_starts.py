"""Verbs that replay one trace take it compiled from the cache, all in one place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asi_pa import cli
from asi_pa.experiment import points, starts
from asi_pa.experiment.cache import Cache, opened, trace_hash
from asi_pa.experiment.probe import Relief
from asi_pa.trace import Classifier, Trace, load_trace

DATA = Path(__file__).resolve().parents[1] / "data" / "validation"
SMALL = "bursts:32M"
SIZE = ("--memory", "28M", "--quiet")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main([*words]) == 0
    return capsys.readouterr().out


def test_what_one_verb_compiled_the_others_take(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    explain = ("explain", SMALL, "400", *SIZE)
    text = ("timeline", SMALL, "--form", "buddyinfo", *SIZE)
    file = ("timeline", SMALL, "-o", str(tmp_path / "x.json"), *SIZE)
    uncached = [said(capsys, *verb, "--no-cache") for verb in (explain, text, file)]
    drawn = (tmp_path / "x.json").read_bytes()
    assert not (tmp_path / "cache").exists()
    first = said(capsys, *explain)

    def nobody(*_args: Any, **_how: Any) -> None:
        raise ValueError("compiled again")

    monkeypatch.setattr(starts, "Starts", nobody)
    assert [first, said(capsys, *text), said(capsys, *file)] == uncached
    assert (tmp_path / "x.json").read_bytes() == drawn
    assert said(capsys, *explain) == first
    assert cli.main([*text, "--no-cache"]) == 2
    assert "compiled again" in capsys.readouterr().err


def test_what_linux_needs_is_found_with_the_relief_that_was_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Relief] = []

    def needed(_subject: Any, _seed: int, _kernel: str | None, relief: Relief) -> float:
        asked.append(relief)
        return 26.0

    monkeypatch.setattr(points, "needs", needed)
    words = (SMALL, "--memory", "1.05x", "--quiet")
    for more, relief in (((), Relief()), (("--no-relief",), Relief.none())):
        asked.clear()
        said(capsys, "explain", *words[:1], "400", *words[1:], *more)
        said(capsys, "timeline", *words, "-o", str(tmp_path / "x.json"), *more)
        said(capsys, "timeline", *words, "--form", "buddyinfo", *more)
        assert asked == [relief] * 3


def test_another_trace_has_another_key() -> None:
    trace = load_trace(DATA / "redis.trace")
    types = trace.migratetype.copy()
    types[-1] += 1
    ext = np.zeros(1, trace.ext.dtype)
    others: list[Trace] = [
        replace(trace, migratetype=types),
        replace(trace, ext=ext),
        replace(trace, migratetypes=(*trace.migratetypes, "More")),
        replace(trace, provenance=trace.provenance | {"workload_start_ns": 7}),
    ]
    assert len({trace_hash(each) for each in (trace, *others)}) == 5
    assert trace_hash(replace(trace, path="elsewhere")) == trace_hash(trace)


def test_only_the_whole_evidence_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace, rule = load_trace(SMALL), Classifier.parse("rfc")
    with opened(Cache(tmp_path)) as cache:
        starts.kept_starts(trace, rule, cache=cache, evidence=100)
        made = starts.kept_starts(trace, rule, cache=cache)
        monkeypatch.setattr(starts, "Starts", None)
        again = starts.kept_starts(trace, rule, cache=cache)
        np.testing.assert_array_equal(made.recorded().ops, again.recorded().ops)
        with pytest.raises(TypeError):
            starts.kept_starts(trace, rule, cache=cache, evidence=100)
    with opened(False) as none, pytest.raises(TypeError):
        starts.kept_starts(trace, rule, cache=none)
