"""Traces as tables: nothing is lost through Parquet, and CSV says what the events say."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from asi_pa import cli
from asi_pa.trace import load_trace
from asi_pa.trace.format import EVENT_COLUMNS, KINDS, Trace
from asi_pa.trace.table import write_csv, write_parquet


@pytest.fixture(scope="module")
def trace() -> Trace:
    return load_trace("stress:32M:1")


def same(one: Trace, other: Trace) -> None:
    for column in EVENT_COLUMNS:
        assert np.array_equal(getattr(one, column), getattr(other, column)), column
        assert getattr(one, column).dtype == getattr(other, column).dtype
    assert np.array_equal(one.ext, other.ext)
    for name in ("name", "description", "kernel", "cpus", "gfps", "comms", "gfp_names", "snapshots", "lost"):
        assert getattr(one, name) == getattr(other, name), name
    mine, theirs = one.kpf("start"), other.kpf("start")
    assert mine is not None
    assert theirs is not None
    assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("name", ["stress:32M:1", "net"])
def test_parquet_and_back(name: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    there = load_trace(name)
    size = write_parquet(there, tmp_path / "t.parquet")
    assert size == (tmp_path / "t.parquet").stat().st_size
    same(there, load_trace(tmp_path / "t.parquet"))


def test_others_read_the_columns(trace: Trace, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_parquet(trace, tmp_path / "t.parquet")
    rows = parquet.read_table(tmp_path / "t.parquet").slice(0, 3).to_pylist()
    for i, row in enumerate(rows):
        assert row["event"] == KINDS[trace.kind[i]]
        assert row["gfp"] == trace.gfps[trace.gfp[i]]
        assert row["comm"] == trace.comms[trace.comm[i]]
        assert (row["pfn"], row["order"]) == (int(trace.pfn[i]), int(trace.order[i]))


def test_csv(trace: Trace, tmp_path: Path) -> None:
    write_csv(trace, tmp_path / "t.csv")
    with open(tmp_path / "t.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(trace)
    assert [int(row["pfn"]) for row in rows] == trace.pfn.tolist()
    assert [row["event"] for row in rows] == [KINDS[kind] for kind in trace.kind.tolist()]
    assert {int(row["gfp"]) for row in rows} <= set(trace.gfps)


def test_convert_goes_by_the_suffix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    a, b, c = (str(tmp_path / name) for name in ("a.parquet", "b.trace", "c.csv"))
    for words in (["stress:32M:1", a], [a, b], [b, c]):
        assert cli.main(["convert", *words]) == 0
    same(load_trace("stress:32M:1"), load_trace(b))
    capsys.readouterr()
    assert cli.main(["info", c]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_foreign_parquet_file_is_named(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    parquet.write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"x\.parquet: a Parquet file, but no trace"):
        load_trace(tmp_path / "x.parquet")
    (tmp_path / "y.parquet").write_bytes(b"PAR1" + bytes(40))
    with pytest.raises(ValueError, match=r"y\.parquet: "):
        load_trace(tmp_path / "y.parquet")
