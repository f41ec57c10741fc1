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


def changed(trace: Trace, path: Path, column: str, cells: list[object]) -> None:
    """A Parquet file with other cells in a column."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    write_parquet(trace, path)
    table = parquet.read_table(path)
    at = table.column_names.index(column)
    parquet.write_table(table.set_column(at, column, pa.array(cells)), path)


@pytest.mark.parametrize("column", ["time_ns", "cpu", "event", "pfn", "order", "migratetype", "gfp", "comm"])
@pytest.mark.parametrize("cell", [None, -1, 1 << 40, 1.5, "other", [1], True])
def test_a_cell_that_a_trace_has_no_room_for(trace: Trace, tmp_path: Path, column: str, cell: object) -> None:
    """Refused with file and column: 300 is not taken for 44."""
    few = trace.with_events(np.arange(len(trace)) < 20)
    path = tmp_path / "t.parquet"
    changed(few, path, column, [cell] * 20)
    if (column, cell) == ("time_ns", 1 << 40):  # 18 minutes
        assert len(load_trace(path)) == 20
        return
    with pytest.raises(ValueError, match=rf"t\.parquet: column {column}: .* does not fit the trace's header"):
        load_trace(path)


def test_numbers_of_another_width_are_read(trace: Trace, tmp_path: Path) -> None:
    few = trace.with_events(np.arange(len(trace)) < 20)
    changed(few, tmp_path / "t.parquet", "order", few.order.astype(int).tolist())
    assert np.array_equal(load_trace(tmp_path / "t.parquet").order, few.order)


@pytest.mark.parametrize(
    ("key", "value"),
    [("asi_pa.trace", b""), ("asi_pa.trace", b"!"), ("asi_pa.ext", b"QUJD"), ("asi_pa.ext", b"!")],
)
def test_damaged_metadata_name_the_file(trace: Trace, tmp_path: Path, key: str, value: bytes) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "t.parquet"
    write_parquet(trace, path)
    table = parquet.read_table(path)
    parquet.write_table(table.replace_schema_metadata(table.schema.metadata | {key.encode(): value}), path)
    with pytest.raises(ValueError, match=r"t\.parquet"):
        load_trace(path)


def test_rows_are_weighed_before_they_are_unpacked(trace: Trace, tmp_path: Path) -> None:
    """A hundred million rows that are all alike take two megabytes."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "bomb.parquet"
    write_parquet(trace.with_events(np.arange(len(trace)) < 1), path)
    table = parquet.read_table(path)
    many = pa.table(
        [column.take(pa.array(np.zeros(1 << 20, np.int64))) for column in table.columns], table.schema
    )
    with parquet.ParquetWriter(path, many.schema, compression="zstd") as out:
        for _ in range(10):
            out.write_table(many)
    with pytest.raises(ValueError, match=r"bomb\.parquet needs \d+ bytes of memory"):
        load_trace(path)
