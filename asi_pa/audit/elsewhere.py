"""The auditor's units on an executor: other processes, other machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from asi_pa.audit.scopes import scaled
from asi_pa.audit.unit import Unit, UnitResult, search_unit
from asi_pa.designs import DESIGNS, REFERENCE, Design, as_design
from asi_pa.executors import Opened, carry_out

__all__ = ["search_elsewhere"]


@dataclass(frozen=True)
class _Asked:
    """A unit, and the words of its design: a class from a user's file is made anew where the work is done."""

    unit: Unit
    words: str

    def whole(self) -> Unit:
        return replace(self.unit, design=scaled(as_design(self.words))) if self.words else self.unit


def _search(asked: _Asked) -> UnitResult:
    return search_unit(asked.whole())


def search_elsewhere(
    work: Sequence[tuple[str | Design, Unit]],
    executor: str | Executor,
    each: Callable[[int, UnitResult], None],
) -> None:
    """Every unit on an executor; ``each`` is called with its number and its result.

    ``work``: what the caller named, and the unit.  Raises what a unit raises.
    """
    nobody = DESIGNS[REFERENCE]
    asked = [
        _Asked(replace(unit, design=nobody), design) if isinstance(design, str) else _Asked(unit, "")
        for design, unit in work
    ]

    def failed(_: int, error: Exception) -> None:
        raise error

    with Opened(executor) as opened:
        carry_out(_search, asked, opened, each, failed)
