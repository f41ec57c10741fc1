"""A trace compiled with the start state that every replay begins from: settled by following the trace."""

from __future__ import annotations

import os
from collections.abc import Callable

from asi_pa.run.settle import settled
from asi_pa.trace import DEFAULT_CLASSIFIER, Classifier, CompiledTrace, Trace
from asi_pa.trace.compile import compile_trace as compile_events

__all__ = ["compile_trace"]


def compile_trace(
    trace: Trace | str | os.PathLike[str],
    classifier: str | Classifier = DEFAULT_CLASSIFIER,
    *,
    memory: str | int | None = None,
    recorded: bool = False,
    seed: int = 0,
    nodes: int | str = "recorded",
    evidence: int | None = None,
    tries: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> CompiledTrace:
    """Compile a trace: its operations, its machine and the start state.

    As `asi_pa.trace.compile_trace`, and where the trace has snapshots its recorded decisions are carried out
    to find when they were read, which types pageblocks had and what ``high`` each CPU's lists began with
    (`asi_pa.run.settle`).  Raises ValueError as it does.
    """
    return compile_events(
        trace,
        classifier,
        memory=memory,
        recorded=recorded,
        seed=seed,
        nodes=nodes,
        evidence=evidence,
        settle=settled,
        tries=tries,
        progress=progress,
    )
