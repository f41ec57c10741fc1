"""Files other than traces that may have come from anywhere: results in JSON, what a sweep or costs ask for in
TOML, a sweep's folder, traces in Parquet. One line that names the file, exit status 2, or read as it is."""

from __future__ import annotations

import bz2
import codecs
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("asi_pa.run.replay", reason="the extension modules are not built")

from asi_pa import cli, schema
from asi_pa.trace.source import open_source
from tests.report.compare_result import make_result

Capture = pytest.CaptureFixture[str]
SWEEP = 'traces = ["bursts:32M"]\ndesigns = ["linux"]\nmemory = ["24M"]\n'


def refused(capsys: Capture, named: str | Path, *command: object) -> str:
    assert cli.main([str(word) for word in command]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("asi-pa: error: ")
    assert err.count("\n") == 1
    assert str(named) in err
    assert err.rstrip("\n").isprintable()
    return err


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("documents") / "good.json"
    made = make_result(traces=("redis",), memories=(("ample", 1 << 30),), columns=8, samples=5)
    path.write_text(json.dumps(made))
    return path


# ---------------------------------------------------------------- JSON and TOML

#: Texts that are no JSON object, or not one of ours.
TEXTS = [b"", b"null", b"[]", b"{", b"[" * 100_000, b'{"schema": []}', b'{"schema": "asi_pa.compare/2"}',
         b"1" * 10_000, b"\xff\xfe\x00", b'{"schema": "\\ud800"}', b'{"\x1b[31m": 1}',
         b'{"schema": "a", "schema": "b"}']  # fmt: skip


@pytest.mark.parametrize("data", TEXTS, ids=range(len(TEXTS)))
def test_what_is_no_result(result: Path, tmp_path: Path, capsys: Capture, data: bytes) -> None:
    bad = tmp_path / "bad.json"
    bad.write_bytes(data)
    refused(capsys, bad, "diff", result, bad)
    refused(capsys, bad, "diff", bad, result)
    refused(capsys, bad, "plot", "price", bad, "-o", tmp_path / "x.svg")


def test_half_a_surrogate_pair_in_a_result(result: Path, tmp_path: Path, capsys: Capture) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(result.read_text().replace('"linux"', '"lin\\ud800ux"', 1))
    assert "surrogate" in refused(capsys, bad, "diff", result, bad)


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_byte_order_mark_is_passed_over(result: Path, tmp_path: Path, capsys: Capture, mark: bytes) -> None:
    marked, asked = tmp_path / "r.json", tmp_path / "s.toml"
    marked.write_bytes(mark + result.read_bytes())
    assert cli.main(["diff", str(result), str(marked)]) == 0
    asked.write_bytes(mark + SWEEP.encode())
    assert cli.main(["sweep", str(asked), "--dry-run"]) == 0


@pytest.mark.parametrize(
    "command",
    [["diff", "/dev/zero", "/dev/zero"], ["plot", "price", "/dev/zero", "-o", "x.svg"],
     ["sweep", "/dev/zero", "--dry-run"], ["compare", "bursts:32M", "--quick", "--costs", "/dev/zero"]],
)  # fmt: skip
def test_an_endless_file(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str]
) -> None:
    monkeypatch.setattr(schema, "JSON_MOST", 1 << 20)
    monkeypatch.chdir(tmp_path)
    assert "more than 1 MiB" in refused(capsys, "/dev/zero", *command)


@pytest.mark.parametrize(
    "text",
    ["x = " + "[" * 5000, "seeds = " + "9" * 5000, "=", "fields = 1", 'fields = ["linux"]',
     "[fields]\nlinux = 1", "\x00", '"\\u001b[31m" = 1', "seeds = 1e400", "traces = nan"],
)  # fmt: skip
def test_what_no_sweep_can_mean(tmp_path: Path, capsys: Capture, text: str) -> None:
    asked, costs = tmp_path / "s.toml", tmp_path / "c.toml"
    asked.write_text(SWEEP + text + "\n")
    refused(capsys, asked, "sweep", asked, "--dry-run")
    costs.write_text(text + "\n")
    refused(capsys, costs, "compare", "bursts:32M", "--quick", "--costs", costs)


# ---------------------------------------------------------------- a sweep's folder


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("swept")
    (place / "s.toml").write_text(SWEEP)
    assert cli.main(["sweep", str(place / "s.toml"), "--executor", "here", "--quiet"]) == 0
    return place


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other(path: Path) -> None:
    path.write_bytes(b"[1]" if path.suffix == ".json" else b"PAR1PAR1")


@pytest.mark.parametrize("damage", [emptied, halved, other])
def test_a_damaged_folder(
    swept: Path, tmp_path: Path, capsys: Capture, damage: Callable[[Path], None]
) -> None:
    """A point is computed again; a figure names the file."""
    folder = tmp_path / "f"
    shutil.copytree(swept / "s", folder)
    (point,) = (folder / "points").iterdir()
    damage(point)
    refused(capsys, point, "plot", "failures", folder, "-o", tmp_path / "x.svg")
    damage(folder / "meta.json")
    words = ["sweep", str(swept / "s.toml"), "--folder", str(folder), "--executor", "here", "--quiet"]
    assert cli.main(words) == 0
    assert point.stat().st_size == next((swept / "s" / "points").iterdir()).stat().st_size


@pytest.mark.parametrize(
    ("where", "new"),
    [("points", [{"key": "../../victim"}]), ("points", 1), ("missing", [1]), ("format", "exe"), ("runs", {})],
)
def test_what_a_folder_says_of_itself_is_checked(swept: Path, tmp_path: Path, where: str, new: Any) -> None:
    from asi_pa import load_sweep

    folder = tmp_path / "f"
    shutil.copytree(swept / "s", folder)
    held = json.loads((folder / "meta.json").read_text())
    if where == "points" and isinstance(new, list):
        new = [held["points"][0] | new[0]]
    (folder / "meta.json").write_text(json.dumps(held | {where: new}))
    with pytest.raises(ValueError, match=r"meta\.json\." + where):
        load_sweep(folder)


def test_a_figure_of_any_folder_looks_into_that_alone(tmp_path: Path, capsys: Capture) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "x.jsonl").write_text("{}\n")
    refused(capsys, tmp_path, "plot", "failures", tmp_path, "-o", tmp_path / "x.svg")
    for line in ("[1]", "{", '{"trace": 1, "design": "linux", "memory_bytes": 1}', "[" * 9999):
        (tmp_path / "x.jsonl").write_text(line + "\n")
        refused(capsys, tmp_path, "plot", "failures", tmp_path, "-o", tmp_path / "x.svg")


# ---------------------------------------------------------------- names


def test_names_that_are_not_utf_8_in_every_verb(result: Path, tmp_path: Path, capsys: Capture) -> None:
    def odd(name: str) -> str:
        return os.fsdecode(os.fsencode(tmp_path) + b"/\xff" + name.encode())

    shutil.copy(result, odd("r.json"))
    (tmp_path / "s.toml").write_text(SWEEP)
    shutil.copy(tmp_path / "s.toml", odd("s.toml"))
    for command in (
        ["diff", odd("r.json"), str(result), "--json", odd("d.json")],
        ["plot", "price", odd("r.json"), "-o", odd("x.svg")],
        ["sweep", odd("s.toml"), "--folder", odd("f"), "--executor", "here", "--json", odd("rows.json")],
        ["explain", "bursts:32M", "5", "--memory", "24M", "--json", odd("e.json")],
        ["timeline", "bursts:32M", "--memory", "24M", "-o", odd("t.json")],
        ["convert", "bursts:32M", odd("b.parquet")],
        ["info", odd("b.parquet")],
    ):
        assert cli.main(command) == 0, command
    assert cli.main(["plot", "price", odd("none.json"), "-o", odd("x.svg")]) == 2
    assert "\\xffnone.json" in capsys.readouterr().err


def drained(path: Path) -> None:
    """Reads all of a file."""
    with open_source(path) as source:
        while source.stream.read(1 << 16):
            pass


def test_a_name_that_is_there_twice_and_a_packed_state_that_is_damaged(
    tmp_path: Path, capsys: Capture
) -> None:
    """Not the last one, without a word; and a file's name, not a checksum alone."""
    assert schema.parsed('{"a": [{"b": 1}], "b": 2}') == {"a": [{"b": 1}], "b": 2}
    for words in ('{"a": 1, "a": 1}', '[{"b": {"a": 1, "c": 2, "a": 3}}]'):
        with pytest.raises(ValueError, match="'a' is there twice"):
            schema.parsed(words)
    with pytest.raises(ValueError, match="a number of thousands of digits"):
        schema.parsed("9" * 5000)
    many = bytearray(bz2.compress(np.random.default_rng(0).bytes(2_000_000)))  # blocks of 900,000
    many[-50_000] ^= 1
    (tmp_path / "x.bz2").write_bytes(many)
    with pytest.raises(ValueError, match=r"x\.bz2: damaged archive"):
        drained(tmp_path / "x.bz2")
    packed = bytearray((Path(__file__).parent / "data" / "start" / "7.2.13.json.gz").read_bytes())
    packed[len(packed) // 2] ^= 1
    path = tmp_path / "state.json.gz"
    path.write_bytes(packed)
    assert "damaged archive" in refused(capsys, path, "info", path)
