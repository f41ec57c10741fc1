"""Traces as tables that others read: Parquet, in and out, and CSV, out.

A row is an event; its columns are readable without this package: ``time_ns`` (from the first event), ``cpu``,
``event`` and ``migratetype`` (names), ``pfn`` (2^32 - 1: an allocation that failed), ``order``, ``gfp`` (the
mask), ``comm``.  A Parquet file has what else a trace is made of - header, snapshots, details of extfrag
events - in its metadata, the first two as a packed trace file of the first event: nothing is lost.
"""

from __future__ import annotations

import csv
import io
import os
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from asi_pa.files import atomic_file
from asi_pa.limits import claim
from asi_pa.trace.format import EVENT_COLUMNS, EXT, KINDS, Trace, read_trace_file, write_trace

__all__ = ["TABLES", "read_parquet", "write_csv", "write_parquet"]

#: Where a Parquet file keeps the rest of a trace.
_KEY, _EXT = b"asi_pa.trace", b"asi_pa.ext"
_COLUMNS = ("time_ns", "cpu", "event", "pfn", "order", "migratetype", "gfp", "comm")
#: Rows that are turned into text at a time.
_PIECE = 1 << 16


def _parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ValueError("Parquet needs pyarrow: pip install 'asi_pa[sweep]'") from None
    return parquet


def _named(trace: Trace) -> dict[str, tuple[npt.NDArray[Any], list[Any]]]:
    """(number of the name, names) of the columns that are kept as numbers."""
    types = [*trace.migratetypes, ""]  # -1: none
    return {
        "event": (trace.kind, list(KINDS)),
        "migratetype": (np.where(trace.migratetype < 0, len(types) - 1, trace.migratetype), types),
        "gfp": (trace.gfp, list(trace.gfps)),
        "comm": (trace.comm, list(trace.comms)),
    }


def write_parquet(trace: Trace, path: str | os.PathLike[str]) -> int:
    """Write a trace as a Parquet file and return its size in bytes; the file appears when it is complete.

    Raises ValueError without pyarrow.
    """
    parquet = _parquet()
    import pyarrow as pa

    names = _named(trace)
    columns: dict[str, Any] = {}
    for column in _COLUMNS:
        if column == "gfp":
            columns[column] = pa.array(np.array(trace.gfps, np.uint32)[trace.gfp])
        elif column in names:
            numbers, words = names[column]
            columns[column] = pa.DictionaryArray.from_arrays(
                pa.array(numbers.astype(np.int32)), pa.array(words)
            )
        else:
            columns[column] = pa.array(np.ascontiguousarray(getattr(trace, column)))
    with TemporaryDirectory(prefix="asi_pa-") as folder:
        first = Path(folder) / "first.trace"
        one = {name: getattr(trace, name)[:1] for name in EVENT_COLUMNS}
        write_trace(replace(trace, **one, ext=trace.ext[:0]), first, pack=True)
        rest = {_KEY: b64encode(first.read_bytes()), _EXT: b64encode(trace.ext.tobytes())}
        table = pa.table(columns).replace_schema_metadata(rest)
    with atomic_file(path) as file:
        parquet.write_table(table, file, compression="zstd")
    return os.path.getsize(path)


def read_parquet(file: IO[bytes], name: str) -> Trace:
    """Read a trace from a Parquet file that `write_parquet` made.

    Raises ValueError, naming the file, for one without the rest of a trace, or whose rows do not fit it.
    """
    parquet = _parquet()
    import pyarrow as pa

    file.seek(0)
    try:
        table = parquet.read_table(pa.BufferReader(file.read()))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{name}: {str(error).splitlines()[0]}") from None
    rest = (table.schema.metadata or {}).get(_KEY)
    if rest is None or set(_COLUMNS) - set(table.column_names):
        raise ValueError(f"{name}: a Parquet file, but no trace of asi-pa convert")
    trace = _first(rest, name)
    claim(name, 20 * table.num_rows, 20 * table.num_rows)
    columns: dict[str, Any] = {}
    for column, kept in zip(_COLUMNS, EVENT_COLUMNS, strict=True):
        try:
            values = table.column(column)
            if column in _named(trace):
                known = {word: number for number, word in enumerate(_named(trace)[column][1])}
                found = np.array([known[word] for word in values.to_pylist()], np.int64)
                if column == "migratetype":
                    found[found == len(trace.migratetypes)] = -1
            else:
                found = values.to_numpy()
            columns[kept] = found.astype(EVENT_COLUMNS[kept])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{name}: column {column}: {error} does not fit the trace's header") from None
        columns[kept].flags.writeable = False
    ext = np.frombuffer(b64decode(table.schema.metadata.get(_EXT, b"")), EXT)
    if len(ext) and int(ext["event"].max()) >= table.num_rows:
        raise ValueError(f"{name}: extfrag details of an event that it has not")
    return replace(trace, **columns, ext=ext)


def _first(rest: bytes, name: str) -> Trace:
    """The trace of one event that a file's metadata hold."""
    with TemporaryDirectory(prefix="asi_pa-") as folder:
        path = Path(folder) / "first.trace"
        path.write_bytes(b64decode(rest))
        with open(path, "rb") as file:
            return read_trace_file(file, name)


def write_csv(trace: Trace, path: str | os.PathLike[str]) -> int:
    """Write the events as CSV (RFC 4180, UTF-8) and return the size in bytes; snapshots are left out."""
    names = _named(trace)
    with atomic_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text)
        writer.writerow(_COLUMNS)
        for at in range(0, len(trace), _PIECE):
            rows = slice(at, at + _PIECE)
            columns = []
            for column in _COLUMNS:
                if column in names:
                    numbers, words = names[column]
                    columns.append([words[number] for number in numbers[rows].tolist()])
                else:
                    columns.append(getattr(trace, column)[rows].tolist())
            writer.writerows(zip(*columns, strict=True))
        text.detach()
    return os.path.getsize(path)


#: By suffix: how a trace is written as a table.
TABLES: dict[str, Callable[[Trace, str | os.PathLike[str]], int]] = {
    ".parquet": write_parquet,
    ".csv": write_csv,
}
