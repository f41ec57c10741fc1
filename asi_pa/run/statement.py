"""The line beside a comparison: how well the model was measured to predict this trace's machine.

Measured once for a trace and kept for the life of the process.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from asi_pa.run.validate import consistent, validate
from asi_pa.trace import CompiledTrace, Trace, load_events

__all__ = ["OTHERS", "Errors", "brief", "errors", "errors_of", "measured_floors", "statement", "statement_of"]

#: By content of the trace: its name, length, and the sums of two columns.
_KNOWN: dict[tuple[Any, ...], Errors | None] = {}
OTHERS = "Nothing recorded says how near other designs, price and flushes are."
NOTHING = "Nothing recorded says how well this trace's machine is predicted (no snapshots of it)."
INCONSISTENT = (
    "Nothing is known of how well this trace's machine is predicted: what was recorded does not lead to its "
    "own end state."
)


@dataclass(frozen=True, kw_only=True)
class Errors:
    """What was measured for a trace; the differences below which nothing is better."""

    end_distance: float
    """Per cent of free pages in blocks of the wrong order at the end."""
    baseline: float | None
    """The same if nothing had changed since the start."""
    fallbacks: tuple[int, int]
    """By the model, recorded."""
    unusable: dict[int, float]
    """By order: largest error on the way of the unusable index x 1000."""
    order9: float | None
    """Largest error on the way of the order-9 pages available, per cent."""
    blocks: dict[str, int]
    """By migratetype: error of the change in pageblocks from start to end."""
    consistent: bool
    """Whether following the trace leads to its own end state; if not the numbers say nothing."""

    @property
    def mixed_blocks(self) -> int:
        """Largest error in pageblocks of one type: what a difference in mixed blocks has to exceed."""
        return max(self.blocks.values(), default=0)


def errors_of(result: dict[str, Any]) -> Errors:
    """The measured errors in a result of `validate`."""
    run = result["free_run"]
    model, recorded = run["blocks"]["model"], run["blocks"]["recorded"]
    return Errors(
        end_distance=run["end_distance"],
        baseline=run["baseline"],
        fallbacks=(len(run["fallbacks"]["model"]), len(run["fallbacks"]["recorded"])),
        unusable={int(order): found["max"] for order, found in run["unusable"].items()},
        order9=run["order9"]["max"] if run["order9"] else None,
        blocks={
            name: abs((model[name][1] - model[name][0]) - (recorded[name][1] - recorded[name][0]))
            for name in model
        },
        consistent=consistent(result),
    )


def statement_of(found: Errors | None) -> str:
    """The line, in words that go no further than what was measured."""
    if found is None:
        return NOTHING
    if not found.consistent:
        return INCONSISTENT
    unchanged = "" if found.baseline is None else f" (no change: {found.baseline:.2g} %)"
    model, recorded = found.fallbacks
    of = f"{model} of {recorded}" if model <= recorded else f"{model} for {recorded} recorded"
    fallbacks = f", {of} fallbacks"
    if not recorded:
        fallbacks = f", {model} fallbacks where none were made" if model else ", no fallbacks as recorded"
    return (
        f"Left alone, the linux model ends with {found.end_distance:.2g} % of free pages in blocks of the "
        f"wrong order{unchanged}{fallbacks}; nothing recorded says how well the other designs are predicted, "
        "and for price, declined requests and flushes nothing is known."
    )


def measured_floors(found: Errors | None) -> dict[str, float]:
    """By the key of a comparison's measure, the error measured in it; empty where nothing is known."""
    return {"mixed": float(found.mixed_blocks)} if found is not None and found.consistent else {}


def brief(found: Errors | None) -> str:
    """`statement_of` in at most 70 columns, for a screen; `OTHERS` belongs after it."""
    if found is None:
        return "no snapshots, so nothing is known of how near the model is"
    if not found.consistent:
        return "the recording contradicts its own end, so nothing is known"
    unchanged = "" if found.baseline is None else f" (unchanged: {found.baseline:.2g} %)"
    return f"modelled linux ends {found.end_distance:.2g} % off the machine{unchanged}"


def errors(trace: Trace | str | os.PathLike[str], compiled: CompiledTrace | None = None) -> Errors | None:
    """What was measured for a trace, now or before in this process; None where it has no snapshots.

    ``compiled``: the same as recorded, where it was compiled already.
    """
    trace = load_events(trace)
    last = int(trace.time_ns[-1]) if len(trace) else 0
    states = (*sorted(map(str, trace.snapshots)), *sorted(map(str, trace.kpageflags)))
    key = (trace.name, len(trace), int(trace.pfn.sum()), last, states)
    if key not in _KNOWN:
        try:
            _KNOWN[key] = errors_of(validate(trace, restarts=0, way=False, compiled=compiled))
        except ValueError:
            _KNOWN[key] = None
    return _KNOWN[key]


def statement(trace: Trace | str | os.PathLike[str]) -> str:
    """The line beside a comparison on this trace."""
    return statement_of(errors(trace))
