"""A sweep's folder: what was computed, a file a point, each there whole or not at all (docs/use/sweep.md)."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from asi_pa.experiment.columns import COLUMNS
from asi_pa.files import atomic_file, write_atomic
from asi_pa.schema import anything, integer, json_document, listed, one_of, record, shown, text
from asi_pa.tabular import Cell, Kind
from asi_pa.trace import Trace, write_trace

__all__ = ["SCHEMA", "Folder", "Form", "now"]

SCHEMA = "asi_pa.sweep/1"
Form = Literal["parquet", "jsonl"]


def _key(value: Any, where: str) -> None:
    """The name of a point's file, which must not lead out of the folder."""
    if type(value) is not str or not re.fullmatch("[0-9a-f]{8,64}", value):
        raise ValueError(f"{where} is {shown(value)}, not the key of a point")


_WORD = text(4096)
_POINT = {
    "key": _key, "trace": _WORD, "memory": _WORD, "design": _WORD, "classifier": _WORD,
    "seed": integer(0, 2**63),
}  # fmt: skip
#: What ``meta.json`` must have; it may have come from anywhere.
META = record(
    {
        "format": one_of("parquet", "jsonl"),
        "asked": anything,
        "points": listed(record(_POINT, {"nodes": _WORD}), 1 << 22),
        "missing": listed(record(_POINT | {"why": text()}, {"nodes": _WORD}), 1 << 22),
        "runs": listed(anything, 1 << 16),
    }
)
_TYPES: dict[Kind, tuple[type, ...]] = {
    "text": (str,), "whole": (int,), "number": (int, float), "yes or no": (bool,),
}  # fmt: skip


class Folder:
    """The files of a sweep.  Raises OSError where they cannot be written."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.points, self.needs = self.path / "points", self.path / "needs"
        self.form: Form = "parquet" if find_spec("pyarrow") else "jsonl"

    def make(self) -> None:
        """The folder itself.  Raises ValueError for one that holds other things."""
        there = set(os.listdir(self.path)) if self.path.is_dir() else set()
        # a sweep that was refused for what it asks for leaves these
        if there - {"points", "needs", "traces"} and "meta.json" not in there:
            raise ValueError(f"{self.path}: not empty, and no sweep's folder (it has no meta.json)")
        self.points.mkdir(parents=True, exist_ok=True)
        self.needs.mkdir(exist_ok=True)
        for place in (self.path, self.points, self.needs):
            for part in place.glob(".*.part"):
                part.unlink()  # of a run that was killed while it wrote

    # ------------------------------------------------------------ points

    def have(self) -> set[str]:
        """Keys of the points that are there."""
        return {path.stem for path in self.points.glob(f"*.{self.form}")}

    def set_aside(self, wanted: Iterable[str]) -> None:
        """Puts points that are not wanted into ``other``, and takes those back that are."""
        other, wanted = self.path / "other", set(wanted)
        for path in self.points.glob("*.*"):
            if path.suffix[1:] != self.form or path.stem not in wanted:
                other.mkdir(exist_ok=True)
                path.replace(other / path.name)
        for path in other.glob(f"*.{self.form}"):
            if path.stem in wanted:
                path.replace(self.points / path.name)

    def put(self, key: str, row: Mapping[str, Cell]) -> None:
        """Keeps a point."""
        path = self.points / f"{key}.{self.form}"
        if self.form == "jsonl":
            write_atomic(path, json.dumps({c.name: row.get(c.name) for c in COLUMNS}) + "\n")
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = _schema()
        table = pa.Table.from_pydict({name: [row.get(name)] for name in schema.names}, schema=schema)
        with atomic_file(path) as out:
            pq.write_table(table, out, compression="none", use_dictionary=False, write_statistics=False)

    def rows(self, keys: Iterable[str]) -> dict[str, dict[str, Cell]]:
        """Rows by key of those that are there and can be read; one that cannot is put aside."""
        found = {}
        for key in keys:
            path = self.points / f"{key}.{self.form}"
            if not path.exists():
                continue
            try:
                found[key] = _read(path)
            except (ValueError, OSError, KeyError, TypeError):
                other = self.path / "other"
                other.mkdir(exist_ok=True)
                path.replace(other / f"{path.name}.damaged")
        return found

    # ------------------------------------------------------------ what linux needs

    def need(self, key: str) -> dict[str, Any] | None:
        """What was kept."""
        try:
            kept = json_document(self.needs / f"{key}.json")
        except (OSError, ValueError):
            return None
        good = isinstance(kept, dict) and (kept.get("mib", "") is None or type(kept["mib"]) in (int, float))
        return kept if good else None

    def put_need(self, key: str, mib: float | None) -> None:
        """Keeps what linux needs; None: no size is enough."""
        write_atomic(self.needs / f"{key}.json", json.dumps({"mib": mib}) + "\n")

    # ------------------------------------------------------------ traces and what is known

    def keep_trace(self, trace: Trace, hashed: str) -> str:
        """Writes a trace that has no file; returns its path."""
        place = self.path / "traces"
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{hashed}.trace"
        if not path.exists():
            write_trace(trace, path)
        return str(path.resolve())

    def meta(self) -> dict[str, Any]:
        """``meta.json``.  Raises OSError where there is none, ValueError where it is of another schema."""
        path = self.path / "meta.json"
        held = json_document(path)
        if not isinstance(held, dict):
            raise ValueError(f"{path}: no JSON object")
        if held.get("schema") != SCHEMA:
            raise ValueError(f"{path}: schema {held.get('schema')!r}, not {SCHEMA}")
        META(held, os.fspath(path))
        return held

    def put_meta(self, held: Mapping[str, Any]) -> None:
        """Writes it."""
        write_atomic(self.path / "meta.json", json.dumps(held, indent=1) + "\n")


def now() -> str:
    """The moment, as ``meta.json`` has it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _schema() -> Any:
    import pyarrow as pa

    types: dict[Kind, Any] = {
        "text": pa.string(), "whole": pa.int64(), "number": pa.float64(), "yes or no": pa.bool_(),
    }  # fmt: skip
    return pa.schema([(column.name, types[column.kind]) for column in COLUMNS])


def _read(path: Path) -> dict[str, Cell]:
    """The row of a point's file.  Raises ValueError, OSError, KeyError or TypeError for a damaged one."""
    if path.suffix == ".jsonl":
        row = json_document(path)
    else:
        import pyarrow.parquet as pq

        with path.open("rb") as file:
            # One row needs none of Arrow's threads, which a process that ends at once may leave half begun.
            (row,) = pq.ParquetFile(file, pre_buffer=False).read(use_threads=False).to_pylist()
    # what a version before did not have yet is no damage; which point it is has to be there
    found: dict[str, Cell] = {c.name: row[c.name] if c.name in _POINT else row.get(c.name) for c in COLUMNS}
    for column in COLUMNS:
        if found[column.name] is not None and type(found[column.name]) not in _TYPES[column.kind]:
            raise ValueError(f"{path}: {column.name} is {shown(found[column.name])}, not of its kind")
    return found
