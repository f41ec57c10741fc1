"""How well the model predicts a recorded machine: `validate`, and what was measured."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from asi_pa.report.validation import validation_text
from asi_pa.run import validate as measured
from asi_pa.run.statement import errors_of, statement_of
from asi_pa.tabular import Cell, Column, Frozen, Result, Table, read_only
from asi_pa.trace import Trace

__all__ = ["States", "ValidateResult", "validate"]

_KEYS = (
    Column("trace", "text", "The trace's name."),
    Column("kernel", "text", "The recorded kernel."),
    Column("profile", "text", "The profile of rules."),
    Column("zone", "text", "The zone that was measured."),
    Column("cpus", "whole", "CPUs of the recorded machine."),
    Column("seconds", "number", "Length of the recording.", "seconds"),
    Column("events", "whole", "Events of the recording.", "count"),
    Column("lost", "whole", "Events that the recorder lost; missing: not known.", "count"),
)
#: (column, path in the JSON): what stands in a row besides.
_NUMBERS = (
    (Column("tracked", "number", "End distance of the recorded decisions carried out.", "percent"),
     ("tracked", "end_distance")),
    (Column("end_distance", "number", "Of the model left alone: free pages in blocks of the wrong order.",
            "percent"), ("free_run", "end_distance")),
    (Column("baseline", "number", "The same if nothing had changed since the start.", "percent"),
     ("free_run", "baseline")),
    (Column("skill", "number", "1 - end_distance / baseline."), ("free_run", "skill")),
    (Column("path_mean", "number", "Distance on the way, mean.", "percent"), ("free_run", "path", "mean")),
    (Column("path_max", "number", "Distance on the way, largest.", "percent"), ("free_run", "path", "max")),
    (Column("same_block", "number", "Allocations from the recorded pageblock.", "percent"),
     ("free_run", "same_block")),
)  # fmt: skip
_I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class States:
    """A machine's memory at n moments, read-only."""

    event: _I64
    """int64[n]: events before it."""
    time: npt.NDArray[np.float64]
    """float64[n]: seconds."""
    free: _I64
    """int64[n, orders]: free blocks by order."""
    pcp: _I64
    """int64[n, cpus]: pages on per-CPU lists."""


class ValidateResult(Result):
    """What `validate` measured; ``print(result)`` is what ``asi-pa validate`` shows."""

    @property
    def trace(self) -> str:
        """The trace's name."""
        return str(self._held["trace"])

    @property
    def profile(self) -> str:
        """The profile of rules."""
        return str(self._held["profile"])

    @property
    def consistent(self) -> bool:
        """Whether the recorded decisions lead to the recorded end; if not the numbers say nothing."""
        return measured.consistent(self._held)

    @property
    def statement(self) -> str:
        """What the numbers say, and what they do not."""
        return statement_of(errors_of(self._held))

    @property
    def end_distance(self) -> float:
        """Per cent of free pages in blocks of the wrong order when the model was left alone to the end."""
        return float(self._held["free_run"]["end_distance"])

    @property
    def one_step(self) -> Frozen:
        """Rules checked one decision at a time: (right, of)."""
        return Frozen(self._held["one_step"])

    @property
    def free_run(self) -> Frozen:
        """The model left alone with what callers did."""
        return Frozen(self._held["free_run"])

    @property
    def sensitivity(self) -> Frozen:
        """End distance with one thing changed; empty unless it was asked for."""
        return Frozen(self._held.get("sensitivity", {}))

    def states(self, of: Literal["model", "recorded"] = "model") -> States:
        """The states that the figure shows, of the ``model`` or as ``recorded``."""
        series = self._held["series"]
        return States(
            read_only(series["event"]),
            read_only(series["time"], np.float64),
            read_only(series["free"][of]),
            read_only(series["pcp"][of]),
        )

    def columns(self) -> tuple[Column, ...]:
        """The recording, then how far the model was off."""
        last = Column("consistent", "yes or no", "The recorded decisions lead to the recorded end.")
        return (*_KEYS, *(column for column, _ in _NUMBERS), last)

    @cached_property
    def _row(self) -> dict[str, Cell]:
        row: dict[str, Cell] = {column.name: self._held[column.name] for column in _KEYS}
        for column, path in _NUMBERS:
            value: Any = self._held
            for key in path:
                value = value[key]
            row[column.name] = value
        return row | {"consistent": self.consistent}

    def records(self) -> list[dict[str, Cell]]:
        """One row."""
        return [dict(self._row)]

    def table(self) -> Table:
        """The row, a line a number, with its unit and meaning."""
        rows = []
        for column, _ in _NUMBERS:
            value, unit = self._row[column.name], " %" if column.unit == "percent" else ""
            rows.append((column.name, "-" if value is None else f"{value:.3g}{unit}", column.meaning))
        caption = f"{self.trace}: how near linux, as modelled, is to the recorded machine"
        return Table(caption, ("", f"rules of {self.profile}", "what"), tuple(rows))

    def __str__(self) -> str:
        return validation_text(self._held)

    def __repr__(self) -> str:
        end = "not consistent" if not self.consistent else f"ends {self.end_distance:.2g} % off the machine"
        return f"<ValidateResult {self.trace}, rules of {self.profile}: {end}>"


def validate(
    trace: Trace | str | os.PathLike[str],
    *,
    kernel: str | None = None,
    sensitivity: bool = False,
    evidence: float | None = None,
    restarts: int = measured.RESTARTS,
    progress: Callable[[str, int, int], None] | None = None,
) -> ValidateResult:
    """Measure how well plain Linux, as modelled, predicts the machine of a trace with snapshots.

    Parameters
    ----------
    trace : a Trace, a file or the name of a bundled one
    kernel : profile; None takes the trace's own
    sensitivity : also measure the end's distance with one thing changed at a time
    evidence : build the start state from this share of the events only, 0 to 1 (None: all)
    restarts : from how many recorded states the run begins anew (``horizon``); 0 takes half the time
    progress : called with (what, events done, of)

    docs/use/validation.md says what the numbers mean.  Raises ValueError for a trace without snapshots of its
    start.
    """
    return ValidateResult(
        measured.validate(
            trace,
            kernel=kernel,
            sensitivity=sensitivity,
            evidence=evidence,
            restarts=restarts,
            progress=progress,
        )
    )
