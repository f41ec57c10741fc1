"""What a figure is drawn from: results in files, in folders, or as Python has them, by what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

from asi_pa.experiment.columns import COLUMNS
from asi_pa.limits import claim
from asi_pa.report.results import SCHEMA, validate
from asi_pa.schema import json_document, json_object, shown

__all__ = ["Results", "Source", "missing", "one_of", "results_of", "run_of"]

#: What holds results: a path, a dict (JSON), an object with ``to_dict()``, a data frame or rows of a sweep.
Source = Any
#: Files of a sweep's folder that hold rows, by suffix.
_ROWS = (".parquet", ".jsonl")


@dataclass(frozen=True)
class Results:
    """Results of one kind.

    ``kind`` is ``compare``, ``sweep``, ``starvation``, ``validation`` or ``targets``; ``name`` is for
    messages.
    """

    kind: str
    name: str
    data: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()
    """Of a sweep: a dict a replay, keyed by docs/use/sweep.md's columns; of starvation: one a design."""

    @property
    def traces(self) -> list[str]:
        """Names of the traces, in order."""
        if self.kind == "compare":
            return [answer["trace"] for answer in self.data["answer"]]
        return list(dict.fromkeys(str(row["trace"]) for row in self.rows if "trace" in row))

    @property
    def runs(self) -> Sequence[Mapping[str, Any]]:
        """Replays with time series, of a comparison."""
        found: Sequence[Mapping[str, Any]] = self.data.get("runs", ()) if self.kind == "compare" else ()
        return found


def missing(results: Results, what: str, command: str) -> ValueError:
    """The error of results without what a figure needs: one line that says which command makes it."""
    return ValueError(f"{results.name}: no {what} in it; `{command}` makes one that has")


def one_of(results: Results, what: str, given: str | None, names: Sequence[str]) -> str:
    """``given`` if it is one of the names, the only one if none is given.  Raises ValueError."""
    if given is None and len(names) == 1:
        return names[0]
    if given is None or given not in names:
        asked = f"no {what} {given!r}" if given is not None else f"several of {what}"
        raise ValueError(f"{results.name}: {asked}: choose one of {', '.join(names)}")
    return given


def run_of(
    results: Results, trace: str | None, memory: str | None, has: str, command: str
) -> Mapping[str, Any]:
    """The replay of a comparison that a figure over time shows.

    ``memory`` is a name such as ``short`` or ``768M``; None: ``short`` where there is one, else the first.
    ``has``: what a design of it must have (``series``, ``blockmap``).
    """
    runs = [run for run in results.runs if any(design.get(has) for design in run["designs"])]
    if not runs:
        raise missing(results, "replay with time series", command)
    trace = one_of(results, "trace", trace, list(dict.fromkeys(run["trace"] for run in runs)))
    sizes = {run["memory"]: run for run in runs if run["trace"] == trace}
    if memory is None:
        memory = "short" if "short" in sizes else next(iter(sizes))
    return sizes[one_of(results, "memory", memory, list(sizes))]


def results_of(source: Source) -> Results:
    """Results of whatever kind.

    ``source`` is a path (a JSON file, or the folder of a sweep), what such a file holds, an object with
    ``to_dict()``, a data frame of pandas or polars with a sweep's rows, or a list of such rows.  Raises
    OSError if a file cannot be read, ValueError naming it if it holds no results that are known.
    """
    if isinstance(source, Results):
        return source
    if isinstance(source, (str, Path)):
        return _of_file(Path(source))
    if hasattr(source, "to_dicts"):  # a data frame of polars
        return _of_rows(source.to_dicts(), "data frame")
    if hasattr(source, "iterrows"):  # one of pandas
        return _of_rows(source.to_dict("records"), "data frame")
    if hasattr(source, "to_dict"):
        source = source.to_dict()
    if isinstance(source, (list, tuple)):
        return _of_rows(source, "rows")
    if isinstance(source, Mapping):
        return _told(source, "result")
    raise ValueError(f"results are a path, a result or its dict, or rows, not {type(source).__name__}")


def _of_file(path: Path) -> Results:
    if path.is_dir():
        return _of_rows(_rows_below(path), str(path))
    data = json_document(path)
    if isinstance(data, list):
        return _of_rows(data, str(path))
    if not isinstance(data, dict):
        raise ValueError(f"{path}: no results of asi-pa")
    if data.get("schema") == SCHEMA:
        try:
            validate(data)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return _told(data, str(path))


def _told(data: Mapping[str, Any], name: str) -> Results:
    """By what a JSON object says."""
    if data.get("schema") == SCHEMA:
        return Results("compare", name, data)
    rows = data.get("rows")
    if isinstance(rows, (list, tuple)) and rows and all(isinstance(row, Mapping) for row in rows):
        if "what" in rows[0]:
            return Results("targets", name, data, rows)
        return _of_rows(rows, name)
    if "one_step" in data and "series" in data:
        return Results("validation", name, data)
    raise ValueError(
        f"{name}: no results that figures are made of: `asi-pa compare --json`, `asi-pa starvation --json`, "
        "`asi-pa validate --json`, the folder of `asi-pa sweep`, docs/engine/performance.json"
    )


def _of_rows(rows: Sequence[Any], name: str) -> Results:
    if rows and all(isinstance(row, Mapping) for row in rows):
        for kind, keys in (
            ("starvation", {"design", "fresh", "stressed"}),
            ("sweep", {"trace", "design", "memory_bytes"}),
        ):
            if all(keys <= row.keys() for row in rows):
                if kind == "sweep":
                    _check_cells(rows, name)
                return Results(kind, name, rows=rows)
    raise ValueError(f"{name}: no rows of a sweep or of starvation")


def _check_cells(rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """Numbers where docs/use/sweep.md has numbers, which may have come from anywhere."""
    for column in COLUMNS:
        wanted: Any = str if column.kind == "text" else Real
        for row in rows:
            value = row.get(column.name)
            if value is not None and not isinstance(value, wanted):
                raise ValueError(f"{name}: {column.name} is {shown(value)}, not {column.kind}")


def _rows_below(folder: Path) -> list[dict[str, Any]]:
    """The rows of a sweep's folder (docs/use/sweep.md), in the order of its files' names."""
    folder = folder / "points" if (folder / "points").is_dir() else folder
    files = sorted(path for suffix in _ROWS for path in folder.glob(f"*{suffix}"))
    if not files:
        raise ValueError(f"{folder}: no {' or '.join(_ROWS)} files: not the folder of a sweep")
    rows: list[dict[str, Any]] = []
    for path in files:
        rows += _parquet_rows(path) if path.suffix == ".parquet" else _json_rows(path)
    return rows


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise ValueError(f"{path}: reading Parquet needs pyarrow: pip install 'asi_pa[sweep]'") from None
    try:
        with path.open("rb") as file:
            table = parquet.ParquetFile(file, pre_buffer=False)
            about = table.metadata
            claim(str(path), 100 * about.num_rows * about.num_columns, path.stat().st_size)
            rows: list[dict[str, Any]] = table.read(use_threads=False).to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {str(error).splitlines()[0]}") from None
    return rows


def _json_rows(path: Path) -> list[dict[str, Any]]:
    rows = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                rows.append(json_object(line, f"{path}, line {number}"))
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8 text") from None
    return rows
