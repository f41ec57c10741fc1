"""Can a design ever break its promise: `audit_design`, and what the search found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from asi_pa.audit import audits
from asi_pa.designs import Design
from asi_pa.names import several
from asi_pa.tabular import Cell, Column, Result, Table, frozen

__all__ = ["AuditResult", "Hole", "audit_design"]

_COLUMNS = (
    Column("design", "text", "As the caller named it."),
    Column("as_posted", "yes or no", "It keeps the holes that it was posted with."),
    Column("seed", "whole", "Of the random walks."),
    Column("findings", "whole", "Broken promises, by mechanism.", "count"),
    Column("liveness", "whole", "Failures beside usable memory, by mechanism.", "count"),
    Column("depth", "whole", "Every sequence of this many operations was tried.", "count"),
    Column("exhaustive", "yes or no", "Every reachable state of every small machine was met."),
    Column("states", "whole", "Distinct states.", "count"),
    Column("transitions", "whole", "Operations carried out and checked.", "count"),
    Column("seconds", "number", "Of processor time.", "seconds"),
)


@dataclass(frozen=True)
class Hole:
    """One broken invariant, by one mechanism, and the shortest sequence that shows it."""

    design: str
    invariant: str
    words: str
    """The invariant as a sentence about what is wrong."""
    mechanism: str
    operations: int
    """Of the sequence."""
    sequence: tuple[Mapping[str, Any], ...]
    pfn: int
    """A page that shows it."""
    scope: str
    """The small machine."""
    minimal: bool
    """No shorter sequence exists there."""
    recorded: str
    """A recorded kernel run that shows the same; empty where there is none."""
    script: str
    """A Python script that runs the sequence; exit status 1 when the invariant breaks."""
    liveness: bool
    """It breaks no promise of protection."""


class AuditResult(Result):
    """What the search found of one design or several (docs/use/audit.md)."""

    @property
    def _audits(self) -> list[dict[str, Any]]:
        audits: list[dict[str, Any]] = self._held.get("audits") or [self._held]
        return audits

    @property
    def designs(self) -> tuple[str, ...]:
        """As the caller named them."""
        return tuple(each["design"] for each in self._audits)

    @cached_property
    def findings(self) -> tuple[Hole, ...]:
        """Broken promises of all designs, by design, invariant, then shortest first."""
        return tuple(self._holes("findings"))

    @cached_property
    def liveness(self) -> tuple[Hole, ...]:
        """Requests that fail beside usable memory, or that flip although they may not block."""
        return tuple(self._holes("liveness"))

    def _holes(self, which: str) -> list[Hole]:
        return [
            Hole(design=each["design"], liveness=which == "liveness", **frozen(found))
            for each in self._audits
            for found in each[which]
        ]

    @property
    def sound(self) -> bool:
        """No promise of any of them was broken."""
        return not any(each["findings"] for each in self._audits)

    def columns(self) -> tuple[Column, ...]:
        """The design, what was found, and how far the search came."""
        return _COLUMNS

    def records(self) -> list[dict[str, Cell]]:
        """A row for each design."""
        counted = ("findings", "liveness")
        return [
            {c.name: len(each[c.name]) if c.name in counted else each[c.name] for c in _COLUMNS}
            for each in self._audits
        ]

    def table(self) -> Table:
        """A row for each design."""
        names = ("findings", "liveness", "depth", "exhaustive", "states", "transitions")
        rows = [(str(row["design"]), *(_cell(row[name]) for name in names)) for row in self.records()]
        return Table("Sequences that break a design's promise", ("design", *names), tuple(rows))

    def __repr__(self) -> str:
        said = (
            f"{row['design']} {'broken in ' + str(row['findings']) + ' ways' if row['findings'] else 'sound'}"
            f" to depth {row['depth']}"
            for row in self.records()
        )
        return f"<AuditResult {'; '.join(said)}>"


def _cell(value: Cell) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}"


def audit_design(
    designs: str | Design | Sequence[str | Design],
    *,
    depth: int | None = None,
    states: int | None = None,
    operations: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    liveness: bool = True,
    only: str | Sequence[str] = (),
    executor: str | Executor | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> AuditResult:
    """Can these designs ever break their promise?

    Parameters
    ----------
    designs : a design's name, FILE.py:NAME or a Design, or several
    depth : longest sequence, in operations; None: as far as the other limits allow
    states : most states of a small machine; None: 3,000,000
    operations : of each design at most; None: 150,000,000, or no limit where there are ``seconds``
    seconds : of processor time, of each design at most
    seed : of the random walks beyond the exhaustive depth
    liveness : look for failures beside usable memory as well
    only : names of small machines; none: all
    executor : an Executor of concurrent.futures, or words for one (docs/use/sweep.md); a design on a small
        machine is a piece of work.  None: this process's threads, on all processors
    progress : called with (what, small machines done, of)

    Raises ValueError for an unknown design or small machine, for a design that protects nothing, and for
    numbers that cannot be.  The result is the same for every executor, unless ``seconds`` are given: then how
    far a search comes depends on the machine's speed.
    """
    found = audits(
        several(designs, Design),
        depth=depth,
        states=states,
        operations=operations,
        seconds=seconds,
        seed=seed,
        liveness=liveness,
        only=several(only),
        executor=executor,
        progress=progress,
    )
    made = [result.as_dict() for result in found]
    return AuditResult(made[0] if len(made) == 1 else {"schema": "asi_pa.audits/1", "audits": made})
