"""What came of a sweep, and a sweep's folder read again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

from asi_pa.experiment.columns import COLUMNS
from asi_pa.report.format import format_value
from asi_pa.sweeps.store import SCHEMA, Folder
from asi_pa.tabular import Cell, Column, Frozen, Result, Table

__all__ = ["MissingPoint", "SweepResult", "load_sweep", "result_of"]

#: What the table of a sweep shows unless asked otherwise.
SHOWN = (
    "failures_by_group.real",
    "failures_by_group.declined",
    "tlb_flushes",
    "restricted_2m_share",
    "mixed_blocks",
)
_UNITS = {column.name: column.unit for column in COLUMNS}
_GROUP = ("trace", "memory", "nodes", "classifier", "design")
_NODES = _GROUP.index("nodes")
#: Parts of a row's name that are left out where they are the same everywhere.
_USUAL = (_NODES, _GROUP.index("classifier"))


@dataclass(frozen=True)
class MissingPoint:
    """A point that is not there."""

    key: str
    trace: str
    memory: str
    design: str
    classifier: str
    seed: int
    why: str
    nodes: str = "1"

    def __str__(self) -> str:
        nodes = "" if self.nodes == "1" else f", nodes {self.nodes}"
        place = f"{self.trace}, {self.memory}{nodes}"
        return f"{place}, {self.design}, {self.classifier}, seed {self.seed}: {self.why}"


class SweepResult(Result):
    """A sweep: a row a point; points that are missing are named and in no mean."""

    @cached_property
    def missing(self) -> tuple[MissingPoint, ...]:
        """Points that are not there, and why."""
        return tuple(MissingPoint(**each) for each in self._held["missing"])

    @property
    def complete(self) -> bool:
        """Every point is there."""
        return not self._held["missing"]

    @property
    def asked(self) -> Frozen:
        """What was asked for."""
        return Frozen(self._held["asked"])

    @property
    def folder(self) -> str:
        """Where the points are; empty where they were not kept."""
        return str(self._held["folder"])

    @property
    def broken(self) -> tuple[str, ...]:
        """Points whose replay ended in a state that contradicts itself."""
        return tuple(
            f"{row['trace']}, {row['memory']}, {row['design']}, seed {row['seed']}: {row['verify']}"
            for row in self._held["rows"]
            if row["verify"] != "ok"
        )

    def columns(self) -> tuple[Column, ...]:
        """`asi_pa.experiment.columns.COLUMNS` (docs/use/metrics.md)."""
        return COLUMNS

    def records(self) -> list[dict[str, Cell]]:
        """A row for each point that is there."""
        return [dict(row) for row in self._held["rows"]]

    def summary(self, *columns: str) -> Table:
        """Medians over the seeds, a row for each trace, memory, nodes, classifier and design.

        Where a seed is missing the row says so instead.  Raises KeyError for no such column.
        """
        names = columns or SHOWN
        for name in names:
            if name not in _UNITS:
                raise KeyError(f"no column {name!r}: docs/use/metrics.md lists them")
        groups: dict[tuple[Any, ...], list[Mapping[str, Cell]]] = {}
        gone: dict[tuple[Any, ...], int] = {}
        for each in self._held["points"]:
            group = _group(each)
            groups.setdefault(group, [])
            gone.setdefault(group, 0)
        for row in self._held["rows"]:
            groups[_group(row)].append(row)
        for lost in self._held["missing"]:
            gone[_group(lost)] += 1
        usual = {k for k in _USUAL if len({group[k] for group in groups}) == 1}
        rows = []
        for group, found in groups.items():
            named = (f"nodes {part}" if k == _NODES else str(part) for k, part in enumerate(group))
            label = ", ".join(part for k, part in enumerate(named) if k not in usual)
            seeds = len(found) + gone[group]
            if gone[group]:
                cells = [f"{gone[group]} of {seeds} missing"] * len(names)
            else:
                cells = [_middle([row[name] for row in found], _UNITS[name]) for name in names]
            rows.append((label, *cells))
        seeds = len(self._held["asked"]["seeds"])
        caption = f"Medians of {seeds} seeds" if seeds > 1 else f"Seed {self._held['asked']['seeds'][0]}"
        return Table(caption, ("", *names), tuple(rows))

    def table(self) -> Table:
        """`summary` of what matters most."""
        return self.summary()

    def __str__(self) -> str:
        lines = [self.to_markdown().rstrip(), f"{len(self._held['rows'])} points"]
        if self.missing:
            lines[-1] += f", {len(self.missing)} missing:"
            lines += [f"  {each}" for each in self.missing]
        return "\n".join(lines) + "\n"

    def __repr__(self) -> str:
        asked, gone = self._held["asked"], len(self._held["missing"])
        return (
            f"<SweepResult {', '.join(asked['traces'])}: {len(self._held['rows'])} points"
            f"{f', {gone} missing' if gone else ''}>"
        )


def _group(of: Mapping[str, Any]) -> tuple[Any, ...]:
    """Whose medians are taken together; a sweep of an older version has machines as recorded."""
    return tuple(of.get(key) or "" for key in _GROUP)


def _middle(values: Sequence[Cell], unit: str) -> str:
    numbers = [value for value in values if isinstance(value, (int, float))]
    if len(numbers) < len(values) or not numbers:
        texts = {str(value) for value in values}
        return texts.pop() if len(texts) == 1 and texts != {"None"} else "-"
    middle = median(numbers)
    whole = middle == int(middle) and all(isinstance(number, int) for number in numbers)
    return format_value(int(middle) if whole else middle, unit)


def result_of(folder: Folder, held: Mapping[str, Any], name: str) -> SweepResult:
    """From what is in a folder; ``held`` is its ``meta.json``."""
    rows = folder.rows(point["key"] for point in held["points"])
    why = {each["key"]: each["why"] for each in held["missing"]}
    return SweepResult(
        {
            "schema": SCHEMA,
            "folder": name,
            "asked": held["asked"],
            "points": held["points"],
            "rows": [rows[point["key"]] for point in held["points"] if point["key"] in rows],
            "missing": [
                point | {"why": why.get(point["key"], "not computed yet")}
                for point in held["points"]
                if point["key"] not in rows
            ],
        }
    )


def load_sweep(folder: str | os.PathLike[str]) -> SweepResult:
    """What a sweep's folder holds, of a finished sweep or one that is under way.

    Raises OSError where there is none, ValueError for another schema.
    """
    there = Folder(folder)
    held = there.meta()
    there.form = held["format"]
    return result_of(there, held, os.fspath(folder))
