"""Traces: reading, describing, recording, and compiling them to operations."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from asi_pa.arrays import array_names
from asi_pa.trace.classify import DEFAULT_CLASSIFIER, Classifier
from asi_pa.trace.compile import CompiledTrace, Starts, compile_trace, tight_memory
from asi_pa.trace.exact import MAGIC as EXACT
from asi_pa.trace.exact import read_exact
from asi_pa.trace.format import MAGIC, Trace, read_trace, read_trace_file, write_trace
from asi_pa.trace.frames import recorded_zones
from asi_pa.trace.info import describe, describe_text
from asi_pa.trace.initial import Population
from asi_pa.trace.memory import describe_memory, form_name, memory_form
from asi_pa.trace.npz import read_npz
from asi_pa.trace.source import Source, open_source
from asi_pa.trace.time_order import joined, merged
from asi_pa.trace.workloads import DEFAULT_MEMORY, WORKLOADS, workload

__all__ = [
    "DEFAULT_CLASSIFIER",
    "WORKLOADS",
    "Classifier",
    "CompiledTrace",
    "Population",
    "Starts",
    "Trace",
    "bundled_traces",
    "compile_trace",
    "describe",
    "describe_text",
    "load_events",
    "load_input",
    "load_trace",
    "load_traces",
    "merged",
    "read_npz",
    "read_trace",
    "tight_memory",
    "workload",
    "write_trace",
]

#: A line that is an event of ours, roughly: a text with one is a trace.
_EVENT = re.compile(r"\[\d+\].*\d: +(?:kmem:)?mm_page_\w+:")
#: Texts about memory are read whole, so far.
_MOST_TEXT = 1 << 26
_DATA = Path(__file__).resolve().parent.parent / "data"


def bundled_traces() -> dict[str, Path]:
    """The traces that come with the package: name -> file."""
    return {path.stem: path for path in sorted(_DATA.glob("*.trace"))}


def load_trace(path: str | os.PathLike[str]) -> Trace:
    """Read a trace from any file that holds one, or a bundled one or a workload by its name.

    Known are the trace format, recorded ``.npz`` files, and the text that ``perf script``, ``trace-cmd
    report`` and ftrace's ``trace`` file show, plain or packed with gzip, xz, bzip2 or zstd; from a file, a
    pipe or, as ``-``, from standard input.  ``a.txt+b.txt`` puts the pieces of one recording together.  A
    file goes before a bundled trace of the same name.  Raises ValueError naming the file.
    """
    made = load_input(path)
    if isinstance(made, Trace):
        return made
    raise ValueError(
        f"{made['name']}: {form_name(made['form'])}, no trace of events (asi-pa info shows what it says)"
    )


def load_input(path: str | os.PathLike[str]) -> Trace | dict[str, Any]:
    """`load_trace`, or what a text about memory that is no trace says
    (`asi_pa.trace.memory.describe_memory`)."""
    name = os.fspath(path)
    if name != "-" and not os.path.exists(name):
        return _named(name)
    with open_source(path) as source:
        head = source.head()
        if head and not _EVENT.search(head) and memory_form(head):
            encoded = source.as_text().read(_MOST_TEXT)
            return describe_memory(source.name, encoded.decode("utf-8", "replace"))
        return read_any(source)


def load_events(trace: Trace | str | os.PathLike[str]) -> Trace:
    """A Trace, or what `load_trace` reads, that can be replayed; ValueError for a start state alone."""
    return (trace if isinstance(trace, Trace) else load_trace(trace)).needs_events()


def load_traces(paths: Sequence[str | os.PathLike[str]]) -> list[Trace]:
    """`load_trace` of each; texts that are pieces of one recording (``per_cpu/cpuN/trace``) become one
    trace."""
    return joined([load_trace(path) for path in paths])


def _named(name: str) -> Trace:
    """What a name stands for that is no file: a bundled trace, a workload, several files; ValueError
    otherwise."""
    if name in bundled_traces():
        return read_trace(bundled_traces()[name])
    kind, *rest = name.split(":")
    if kind in WORKLOADS and len(rest) < 3:
        memory = rest[0] if rest else DEFAULT_MEMORY
        if len(rest) == 2 and not rest[1].isdecimal():
            raise ValueError(f"{name}: seed {rest[1]!r} is no number")
        return workload(kind, memory, int(rest[1]) if len(rest) == 2 else 0)
    pieces = name.split("+")
    if len(pieces) > 1 and all(os.path.exists(piece) for piece in pieces):
        return merged([load_trace(piece) for piece in pieces])
    names = f"bundled traces: {', '.join(bundled_traces())}; workloads: {', '.join(WORKLOADS)}"
    raise ValueError(f"{name}: {os.strerror(errno.ENOENT)} ({names})")


def read_any(source: Source) -> Trace:
    """The trace in an opened file of any form."""
    trace = replace(_read(source), path=source.name)
    zones = [
        recorded_zones(trace, which) for which in ("start", "end")
    ]  # names those that contradict themselves
    if not len(trace) and not zones[0]:
        raise ValueError(f"{trace.label}: a start state without a populated zone")
    return trace


def _read(source: Source) -> Trace:
    if source.start.startswith(MAGIC[: len(source.start)]):
        return read_trace_file(source.file(), source.name)
    if source.start.startswith(b"PK\x03\x04"):
        return _read_arrays(source)
    if source.start.startswith(b"PAR1"):
        from asi_pa.trace.table import read_parquet

        return read_parquet(source.file(), source.name)
    if source.start.startswith(EXACT):
        return read_exact(source.stream.read(), source.name)
    from asi_pa.trace.text import read_source

    return read_source(source)


def _read_arrays(source: Source) -> Trace:
    file = source.file()
    try:
        names = array_names(file)
    except ValueError as error:
        raise ValueError(f"{source.name}: {error}") from None
    if not names:
        source.refuse_foreign()
    if {"ops", "dumps"} <= set(names):
        raise ValueError(f"{source.name}: a recorded run of the allocator, no trace of events: asi-pa verify")
    return read_npz(file, source.name)
