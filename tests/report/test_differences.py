"""Two comparisons side by side: what changed is found where it was changed, and nothing else."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from asi_pa import cli
from asi_pa.report import write_json
from asi_pa.report.differences import differences, differences_text
from tests.report.compare_result import make_result

PARTS = ("only", "words", "cells", "curves", "claims", "stored", "metrics")


@pytest.fixture(scope="module")
def a() -> dict[str, Any]:
    return make_result(traces=("redis",), columns=8, samples=4)


@pytest.fixture
def b(a: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(a)


def changed(found: dict[str, Any]) -> dict[str, int]:
    return {part: len(found[part]) for part in PARTS if found[part]}


def test_the_same_is_the_same_whatever_made_it(a: dict[str, Any], b: dict[str, Any]) -> None:
    b["asi_pa"], b["command"], b["kernel"] = "9.9.9", ["asi-pa", "compare"], "7.2"
    for run in b["runs"]:
        for design in run["designs"]:
            design["metrics"]["replay_seconds"] *= 2
    found = differences(a, b)
    assert found["same"]
    assert changed(found) == {}
    assert [row["what"] for row in found["about"]] == ["asi_pa", "kernel"]
    text = differences_text(found, ("a.json", "b.json"))
    assert "   kernel: a 6.18, b 7.2\n" in text
    assert text.endswith("The same: every word, every number of every replay, but for times.\n")


def test_a_cell_and_its_word(a: dict[str, Any], b: dict[str, Any]) -> None:
    row = next(r for r in b["answer"][0]["measures"] if (r["measure"], r["place"]) == ("price", "search"))
    before = row["values"]["per-page"][3]
    row["values"]["per-page"][3] = before + 100
    row["against_reference"]["per-page"]["word"] = "worse" if a else ""
    word = next(r for r in a["answer"][0]["measures"] if (r["measure"], r["place"]) == ("price", "search"))[
        "against_reference"
    ]["per-page"]["word"]
    found = differences(a, b)
    assert not found["same"]
    (cell,) = found["cells"]
    assert (cell["design"], cell["a"][3], cell["b"][3]) == ("per-page", before, before + 100)
    assert [(w["a"], w["b"]) for w in found["words"]] == ([(word, "worse")] if word != "worse" else [])
    assert "redis, search, memory needed, per-page: " in differences_text(found, ("a", "b"))
    assert "(1 of 16 seeds)" in differences_text(found, ("a", "b"))


def test_a_metric_a_claim_a_yield_a_point(a: dict[str, Any], b: dict[str, Any]) -> None:
    b["runs"][1]["designs"][2]["metrics"]["failures_by_group"]["real"] += 7
    b["claims"][0]["verdict"] = "holds" if a["claims"][0]["verdict"] != "holds" else "fails"
    b["stored"]["yields"]["linux"] = 2.0
    b["curves"][0]["shares"]["linux"]["real"][1] = 0.5
    found = differences(a, b)
    assert changed(found) == {"metrics": 1, "claims": 1, "stored": 1, "curves": 1}
    (metric,) = found["metrics"]
    assert (metric["memory"], metric["metric"]) == ("short", "failures_by_group.real")
    assert metric["b"] - metric["a"] == 7
    text = differences_text(found, ("a", "b"))
    assert "redis/short, failures_by_group.real, pool: " in text
    assert "850 MiB, real, linux: " in text


def test_two_numbers_that_differ_are_shown_with_the_digits_that_tell_them_apart(
    a: dict[str, Any], b: dict[str, Any]
) -> None:
    def cell(result: dict[str, Any], unit: str, values: list[float]) -> None:
        row = next(r for r in result["answer"][0]["measures"] if r["measure"] == "price")
        row["unit"], row["values"]["linux"] = unit, values

    def text() -> str:
        return differences_text(differences(first, b), ("a", "b"), full=True)

    first = copy.deepcopy(a)
    for unit, one, two, shown in (
        ("share", [0.41] * 2, [0.4103] * 2, "41.00 % -> 41.03 %"),
        ("share", [0.41] * 2, [0.43] * 2, "41 % -> 43 %"),
        ("share", [0.004] * 2, [0.0041] * 2, "0.40 % -> 0.41 %"),
        ("share", [0.0] * 2, [0.004] * 2, "0 % -> < 1 %"),
        ("mib", [3000.0] * 2, [3000.25] * 2, "3,000.0 -> 3,000.2 MiB"),
        ("share", [0.1, 0.2, 0.2, 0.3], [0.2, 0.1, 0.2, 0.3], ": 20 [10..30] % in both (2 of 4 seeds)"),
    ):
        cell(first, unit, one)
        cell(b, unit, two)
        assert shown in text()
    first["curves"][0]["shares"]["linux"]["real"][1] = 0.41
    b["curves"][0]["shares"]["linux"]["real"][1] = 0.41 + 1e-15
    assert "real, linux: 41 % -> 41.0000000000001 %" in text()
    first["stored"]["yields"]["linux"], b["stored"]["yields"]["linux"] = 2.0, 2.0000001
    assert "yields, linux: 2 -> 2.0000001" in text()


def test_a_verdict_that_changed_comes_first(a: dict[str, Any], b: dict[str, Any]) -> None:
    b["verdict"] = ["Something else."]
    found = differences(a, b)
    assert not found["same"]
    assert changed(found) == {}
    text = differences_text(found, ("a", "b")).splitlines()
    assert text[3] == "The verdict differs:"
    assert "* b: Something else." in text


def test_what_only_one_has(a: dict[str, Any]) -> None:
    less = make_result(traces=("redis",), columns=8, samples=4, designs=("linux", "migratetype/sound"))
    found = differences(a, less)
    assert {(row["what"], row["name"], row["in"]) for row in found["only"]} == {
        ("design", "pool/nonsensitive", "a"),
        ("design", "per-page", "a"),
    }


def test_of_different_seeds_those_that_both_have_are_compared(a: dict[str, Any], b: dict[str, Any]) -> None:
    b["seeds"] = 4
    for row in b["answer"][0]["measures"]:
        row["values"] = {name: values[:4] for name, values in row["values"].items()}
    assert changed(differences(a, b)) == {"only": 1}
    assert differences(a, b)["only"] == [{"what": "seeds", "name": "4 to 15", "in": "a"}]


def test_long_lists_are_cut_unless_told_not_to(a: dict[str, Any]) -> None:
    other = make_result(seed=1, traces=("redis",), columns=8, samples=4)
    found = differences(a, other)
    short, whole = (differences_text(found, ("a", "b"), full=full) for full in (False, True))
    assert "more (--full)" in short
    assert "more (--full)" not in whole
    assert len(whole.splitlines()) > sum(len(found[part]) for part in PARTS)


def test_the_command(
    a: dict[str, Any], b: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other, out = (str(tmp_path / name) for name in ("a.json", "b.json", "d.json"))
    write_json(a, one)
    b["runs"][0]["designs"][0]["metrics"]["failures"] += 1
    write_json(b, other)
    assert cli.main(["diff", one, one]) == 0
    assert "The same" in capsys.readouterr().out
    assert cli.main(["diff", one, other, "--json", out]) == 1
    assert capsys.readouterr().out == ""
    found = json.loads(Path(out).read_text())
    assert (found["schema"], len(found["metrics"])) == ("asi_pa.diff/1", 1)
    (tmp_path / "no.json").write_text("[]")
    assert cli.main(["diff", one, str(tmp_path / "no.json")]) == 2
    assert "no.json: " in capsys.readouterr().err
