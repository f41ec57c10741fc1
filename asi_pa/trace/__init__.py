"""Traces: reading, describing, recording, and compiling them to operations."""

from __future__ import annotations

import os
from pathlib import Path

from asi_pa.trace.classify import DEFAULT_CLASSIFIER, Classifier
from asi_pa.trace.compile import CompiledTrace, compile_trace, tight_memory
from asi_pa.trace.format import MAGIC, Trace, read_trace, write_trace
from asi_pa.trace.info import describe, describe_text
from asi_pa.trace.initial import Population
from asi_pa.trace.npz import read_npz
from asi_pa.trace.workloads import DEFAULT_MEMORY, WORKLOADS, workload

__all__ = [
    "DEFAULT_CLASSIFIER",
    "WORKLOADS",
    "Classifier",
    "CompiledTrace",
    "Population",
    "Trace",
    "bundled_traces",
    "compile_trace",
    "describe",
    "describe_text",
    "load_trace",
    "read_npz",
    "read_trace",
    "tight_memory",
    "workload",
    "write_trace",
]

_DATA = Path(__file__).resolve().parent.parent / "data"


def bundled_traces() -> dict[str, Path]:
    """The traces that come with the package: name -> file."""
    return {path.stem: path for path in sorted(_DATA.glob("*.trace"))}


def load_trace(path: str | os.PathLike[str]) -> Trace:
    """Read a trace from any file that holds one, or a bundled one or a workload by its name.

    Known are the trace format, recorded ``.npz`` files, and the text that ``perf script``, ``trace-cmd
    report`` and ftrace's ``trace`` file show, plain or compressed with xz or gzip.  A file goes before a
    bundled trace of the same name.  Raises ValueError naming the file.
    """
    file = Path(path)
    if not file.exists():
        if str(path) in bundled_traces():
            return read_trace(bundled_traces()[str(path)])
        name, *rest = str(path).split(":")
        if name in WORKLOADS and len(rest) < 3:
            memory = rest[0] if rest else DEFAULT_MEMORY
            if len(rest) == 2 and not rest[1].isdecimal():
                raise ValueError(f"{path}: seed {rest[1]!r} is no number")
            return workload(name, memory, int(rest[1]) if len(rest) == 2 else 0)
    try:
        with open(file, "rb") as handle:
            start = handle.read(16)
    except OSError as error:
        names = f"bundled traces: {', '.join(bundled_traces())}; workloads: {', '.join(WORKLOADS)}"
        raise ValueError(f"{path}: {error.strerror} ({names})") from None
    if not start:
        raise ValueError(f"{path}: empty file")
    if start.startswith(MAGIC[: len(start)]):
        return read_trace(file)
    if start.startswith(b"PK\x03\x04"):
        return read_npz(file)
    from asi_pa.trace.text import read_text

    return read_text(file)
