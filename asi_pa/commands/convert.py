"""``asi-pa convert``: a recording becomes a trace file."""

from __future__ import annotations

import argparse
import os
from typing import Any

from asi_pa.commands.options import Verbs, add_anonymise, add_max_memory, add_verb, trace_output
from asi_pa.errors import GOOD

__all__ = ["add_convert"]


def add_convert(verbs: Verbs[Any]) -> None:
    """The verb convert."""
    parser = add_verb(
        verbs,
        "convert",
        _convert,
        "turn a recording into a trace file",
        """
Reads a trace from what recorded it - the text of `perf script`, `trace-cmd report` or ftrace, plain or
compressed, from a file, a pipe or standard input (-), or a recorded .npz file - and writes the column
format that NumPy maps without copying. Several texts are pieces of one recording and become one trace,
in order of time. An output named .parquet or .csv is a table for other programs, a row an event: the first
loses nothing and is read like any trace, the second has the events alone. Every command that takes a trace
takes those inputs too; a converted one opens at once.

Examples:
  asi-pa convert recorded.npz workload.trace
  perf script --ns -F comm,tid,cpu,time,event,trace > perf.txt && asi-pa convert perf.txt workload.trace
  perf script --ns -F comm,tid,cpu,time,event,trace | asi-pa convert - workload.trace
  asi-pa convert per_cpu/cpu*/trace all.trace
  asi-pa convert --pack workload.trace small.trace
  asi-pa convert workload.trace workload.parquet
""",
    )
    parser.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="the recording, - for standard input, or a bundled trace by name",
    )
    parser.add_argument("output", metavar="OUTPUT", type=trace_output, help="the trace file to write")
    add_max_memory(parser)
    parser.add_argument("--pack", action="store_true", help="compress: far smaller, opens more slowly")
    add_anonymise(parser)


def _convert(args: argparse.Namespace) -> int:
    from asi_pa.trace import load_trace, merged, write_trace
    from asi_pa.trace.anonymous import anonymised
    from asi_pa.trace.table import TABLES

    table = TABLES.get(os.path.splitext(args.output)[1].lower())
    if table is not None and args.pack:
        raise ValueError(f"{args.output}: --pack is of trace files, not of tables")
    traces = [load_trace(path) for path in args.inputs]
    trace = traces[0] if len(traces) == 1 else merged(traces)
    if args.anonymise:
        trace = anonymised(trace)
    size = (
        table(trace.needs_events(), args.output) if table else write_trace(trace, args.output, pack=args.pack)
    )
    print(f"{args.output}: {len(trace)} events, {size} bytes")
    return GOOD
