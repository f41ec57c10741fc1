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
#: Bytes that an event takes while a Parquet file is read.
_ROW = 64
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
        made = parquet.ParquetFile(file, pre_buffer=False)
        rest = (made.schema_arrow.metadata or {}).get(_KEY)
        if rest is None or set(_COLUMNS) - set(made.schema_arrow.names):
            raise ValueError(f"{name}: a Parquet file, but no trace of asi-pa convert")
        claim(name, _ROW * made.metadata.num_rows, os.fstat(file.fileno()).st_size)
        table = made.read(columns=list(_COLUMNS), use_threads=False)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{name}: not an intact Parquet file: {str(error).splitlines()[0]}") from None
    trace = _first(rest, name)
    columns: dict[str, Any] = {}
    for column, kept in zip(_COLUMNS, EVENT_COLUMNS, strict=True):
        try:
            known = _named(trace).get(column)
            values = table.column(column)
            found = _numbers(values) if known is None else _numbered(values, known[1])
            if column == "migratetype":
                found = np.where(found == len(trace.migratetypes), -1, found)
            columns[kept] = _fitting(found, EVENT_COLUMNS[kept])
        except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"{name}: column {column}: {why} does not fit the trace's header") from None
        columns[kept].flags.writeable = False
    ext = _details(made.schema_arrow.metadata.get(_EXT, b""), name)
    if len(ext) and int(ext["event"].max()) >= table.num_rows:
        raise ValueError(f"{name}: extfrag details of an event that it has not")
    return replace(trace, **columns, ext=ext)


def _numbers(values: Any) -> npt.NDArray[Any]:
    """A column of whole numbers."""
    if values.null_count:
        raise ValueError("a cell without a number")
    found: npt.NDArray[Any] = values.to_numpy()
    if found.dtype.kind not in "iu":
        raise ValueError(f"{values.type}")
    return found


def _numbered(values: Any, names: list[Any]) -> npt.NDArray[np.int64]:
    """A column of names as their numbers; KeyError for one that is not known."""
    known = {word: number for number, word in enumerate(names)}
    parts = [np.zeros(0, np.int64)]
    for chunk in values.chunks:
        if chunk.null_count:
            raise ValueError("a cell without a name")
        chunk = chunk if hasattr(chunk, "dictionary") else chunk.dictionary_encode()
        table = np.array([known[word] for word in chunk.dictionary.to_pylist()], np.int64)
        parts.append(table[chunk.indices.to_numpy(zero_copy_only=False)])
    return np.concatenate(parts)


def _fitting(found: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Numbers as a trace keeps them; ValueError for one that it has no room for."""
    room = np.iinfo(dtype)
    if len(found) and not room.min <= int(found.min()) <= int(found.max()) <= room.max:
        beyond = int(found.max()) if int(found.max()) > room.max else int(found.min())
        raise ValueError(f"{beyond}")
    return found.astype(dtype)


def _details(packed: bytes, name: str) -> npt.NDArray[np.void]:
    """The details of extfrag events that a file's metadata hold."""
    data = _unpacked(packed, name)
    if len(data) % EXT.itemsize:
        raise ValueError(f"{name}: extfrag details that are cut off")
    return np.frombuffer(data, EXT)


def _unpacked(packed: bytes, name: str) -> bytes:
    try:
        return b64decode(packed, validate=True)
    except ValueError as error:
        raise ValueError(f"{name}: its metadata: {error}") from None


def _first(rest: bytes, name: str) -> Trace:
    """The trace of one event that a file's metadata hold."""
    with TemporaryDirectory(prefix="asi_pa-") as folder:
        path = Path(folder) / "first.trace"
        path.write_bytes(_unpacked(rest, name))
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
