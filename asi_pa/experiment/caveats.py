"""What a reader must know before believing a comparison, the worst first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from asi_pa.experiment.study import Subject
from asi_pa.kernel.callers import caller_of
from asi_pa.kernel.gfp import describe_gfp
from asi_pa.trace import CompiledTrace
from asi_pa.trace.compile import OP_ALLOC
from asi_pa.trace.nodes import recorded_nodes

__all__ = ["caveats"]

_MOST = 0.8


def caveats(subjects: Sequence[Subject], result: Mapping[str, Any]) -> list[str]:
    """A line each."""
    lines: list[str] = []
    for subject in subjects:
        lines += _of_recording(subject)
    for subject, trace in zip(subjects, result["answer"], strict=True):
        lines += _of_evidence(subject, trace, result)
    recorded = [subject for subject in subjects if not _synthetic(subject)]
    if recorded and all(subject.trace.cpus <= 2 for subject in recorded):
        lines.append(f"All evidence is recorded on machines of at most 2 CPUs ({_names(recorded)}).")
    return lines


def _names(subjects: Sequence[Subject]) -> str:
    return ", ".join(subject.trace.name for subject in subjects)


def _synthetic(subject: Subject) -> bool:
    return bool(subject.trace.provenance.get("source") == "workload")


def _of_recording(subject: Subject) -> Iterator[str]:
    trace = subject.trace
    if _synthetic(subject):
        yield f"{trace.name}: a made-up workload; nothing of it was recorded."
    if not trace.has_start:
        yield f"{trace.name}: no snapshot of the machine; what was held at the start is not known."
        yield f"{trace.name}: its memory is guessed, {subject.most >> 8:,} MiB."
    elif not subject.most:
        yield f"{trace.name}: only the recorded machine: what it frees has no place in a smaller one."
    if subject.whole.nodes > len(recorded_nodes(trace)):
        yield f"{trace.name}: recorded on one node: how its memory and CPUs are divided is made up."
    if trace.lost:
        yield f"{trace.name}: {trace.lost:,} events were lost in recording."


def _of_evidence(subject: Subject, trace: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[str]:
    name, asked = trace["trace"], trace["requests"]
    floored = trace["floored"].get(result["reference"], 0)
    if floored > result["seeds"] // 2:
        yield f"{name}: too short to fill memory beyond what its start state takes."
    whole = subject.whole
    ops = whole.ops
    counts = np.bincount(ops["cls"][ops["op"] == OP_ALLOC], minlength=len(whole.classes))
    total = int(counts.sum())
    if not total:
        yield f"{name}: it has no request; nothing is tested."
        return
    top = int(counts.argmax())
    if counts[top] >= _MOST * total:
        share = f"{100 * counts[top] / total:.0f} %"
        yield f"{name}: one caller makes {share} of its requests: {_whose(whole, top)}."
    if sum(asked.values()) < 10_000:
        yield f"{name}: only {sum(asked.values()):,} requests."


def _whose(whole: CompiledTrace, cls: int) -> str:
    """The kernel's function that makes most requests of a class, or their mask where it is not known."""
    word = int(whole.classes[cls])
    caller = caller_of(word, int(whole.kinds[OP_ALLOC, cls].argmax()))
    return caller.about.split(": ")[-1] if caller else describe_gfp(word & 0x3FFFFFF)
