"""What every result of the Python API can do: be plain data, a data frame, a table for a paper or a notebook.

A result is made once and never changes: attributes cannot be set, arrays are read-only, mappings refuse new
keys, and ``to_dict()`` is a copy.  ``pandas`` and ``polars`` are asked for when they are needed.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = ["Cell", "Column", "Frozen", "Kind", "Result", "Table", "frozen", "read_only"]

Cell = str | int | float | bool | None
Kind = Literal["text", "whole", "number", "yes or no"]


@dataclass(frozen=True)
class Column:
    """A column of a data frame."""

    name: str
    kind: Kind
    meaning: str
    unit: str = ""


@dataclass(frozen=True)
class Table:
    """A small table that people read: cells are text already, the first column names the rows."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """A table of Markdown; numbers stand right."""
        rows = [[cell.replace("|", "\\|") for cell in row] for row in (self.head, *self.rows)]
        widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(self.head))]
        lines = [
            "| " + " | ".join(f"{c:<{w}}" if i == 0 else f"{c:>{w}}" for i, (c, w) in enumerate(pairs)) + " |"
            for pairs in (list(zip(row, widths, strict=True)) for row in rows)
        ]
        rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths))
        return "\n".join([lines[0], rule + "|", *lines[1:]]) + "\n"

    def latex(self) -> str:
        """A ``table`` environment with booktabs rules; needs ``\\usepackage{booktabs}``."""
        lines = [" & ".join(map(_tex, row)) + r" \\" for row in (self.head, *self.rows)]
        columns = "l" + "r" * (len(self.head) - 1)
        return "\n".join(
            [
                r"\begin{table}",
                r"  \centering",
                rf"  \caption{{{_tex(self.caption)}}}",
                rf"  \begin{{tabular}}{{{columns}}}",
                r"    \toprule",
                f"    {lines[0]}",
                r"    \midrule",
                *(f"    {line}" for line in lines[1:]),
                r"    \bottomrule",
                r"  \end{tabular}",
                r"\end{table}",
                "",
            ]
        )

    def html(self) -> str:
        """A plain table, as notebooks show it."""
        head = "".join(f"<th>{escape(cell)}</th>" for cell in self.head)
        rows = "".join(
            f"<tr><th>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"
            for row in self.rows
        )
        caption = f"<caption>{escape(self.caption)}</caption>"
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(char, char) for char in text)


class Frozen(Mapping[str, Any]):
    """A mapping that refuses new keys; what it holds is frozen, too.  Compares like the dict it was."""

    __slots__ = ("_held",)

    def __init__(self, held: Mapping[str, Any]) -> None:
        self._held = {key: frozen(value) for key, value in held.items()}

    def __getitem__(self, key: str) -> Any:
        return self._held[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def __repr__(self) -> str:
        return repr(self._held)


def frozen(value: Any) -> Any:
    """JSON that cannot change: objects become `Frozen`, lists tuples."""
    if isinstance(value, Mapping):
        return Frozen(value)
    if isinstance(value, (list, tuple)):
        return tuple(frozen(item) for item in value)
    return value


def read_only(values: Any, dtype: npt.DTypeLike = np.int64) -> npt.NDArray[Any]:
    """An array that refuses to be written to."""
    array = np.array(values, dtype)
    array.flags.writeable = False
    return array


class Result(ABC):
    """A result: frozen, made of the plain data that the command line writes as JSON."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.__dict__["_data"] = data

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be deleted")

    def __reduce__(self) -> tuple[type[Self], tuple[dict[str, Any]]]:
        return type(self), (self._held,)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Result):
            return NotImplemented
        return type(self) is type(other) and self._held == other._held

    def __hash__(self) -> int:
        return id(self)

    @property
    def _held(self) -> dict[str, Any]:
        data: dict[str, Any] = self.__dict__["_data"]
        return data

    def to_dict(self) -> dict[str, Any]:
        """The very JSON of the command line, as a copy."""
        return copy.deepcopy(self._held)

    @abstractmethod
    def columns(self) -> tuple[Column, ...]:
        """The columns of the data frame, in order: name, kind, meaning, unit."""

    @abstractmethod
    def records(self) -> list[dict[str, Cell]]:
        """The rows of the data frame, a dict each; None where there is no value."""

    @abstractmethod
    def table(self) -> Table:
        """What a person wants to see, as the table that Markdown, LaTeX and HTML show."""

    def to_pandas(self) -> pd.DataFrame:
        """`records` as a pandas data frame: whole numbers ``int64`` (``Int64`` where some are missing),
        others ``float64`` (missing: NaN), text ``str``.

        Raises ImportError where pandas is not installed.
        """
        pandas = _needed("pandas")
        rows = self.records()
        series = {}
        for column in self.columns():
            values = [row.get(column.name) for row in rows]
            gaps = any(value is None for value in values)
            kind = {
                "text": "str" if not gaps else "object",
                "whole": "Int64" if gaps else "int64",
                "number": "float64",
                "yes or no": "boolean" if gaps else "bool",
            }[column.kind]
            series[column.name] = pandas.Series(values, dtype=kind)
        frame: pd.DataFrame = pandas.DataFrame(series)
        return frame

    def to_polars(self) -> pl.DataFrame:
        """`records` as a polars data frame.  Raises ImportError where polars is not installed."""
        polars = _needed("polars")
        kinds = {
            "text": polars.String,
            "whole": polars.Int64,
            "number": polars.Float64,
            "yes or no": polars.Boolean,
        }
        schema = {column.name: kinds[column.kind] for column in self.columns()}
        rows = [[row.get(name) for name in schema] for row in self.records()]
        frame: pl.DataFrame = polars.DataFrame(rows, schema=schema, orient="row")
        return frame

    def to_markdown(self) -> str:
        """`table` as Markdown."""
        return self.table().markdown()

    def to_latex(self) -> str:
        """`table` as a LaTeX ``table`` with booktabs rules."""
        return self.table().latex()

    def _repr_html_(self) -> str:
        return self.table().html()


def _needed(name: str) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"a {name} data frame needs {name}: pip install {name}") from error
