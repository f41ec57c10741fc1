"""``asi-pa record``: this machine's page allocator, recorded."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from asi_pa.commands.options import Verbs, add_verb, trace_output
from asi_pa.errors import GOOD

__all__ = ["add_record"]


def add_record(verbs: Verbs[Any]) -> None:
    """The verb record."""
    parser = add_verb(
        verbs,
        "record",
        _record,
        "record the page allocator of this machine",
        """
Records the page allocator's trace events with perf while a command runs, for a number of seconds, or
until Ctrl-C, and the state of all memory before and after, without which a trace cannot be replayed
faithfully. The whole machine is recorded. Needs root and the perf program.

Examples:
  asi-pa record build.trace -- make -j8
  asi-pa record idle.trace --seconds 30
""",
    )
    parser.add_argument("output", metavar="OUTPUT", type=trace_output, help="the trace file to write")
    parser.add_argument("command", metavar="COMMAND", nargs="*", help="what to run, after --")
    parser.add_argument("--seconds", metavar="N", type=_seconds, help="stop after so long")
    parser.add_argument("--description", metavar="TEXT", default="", help="kept with the trace")


def _record(args: argparse.Namespace) -> int:
    from asi_pa.trace import write_trace
    from asi_pa.trace.record import record

    command = args.command or None
    name = Path(args.output).stem
    trace = record(name, command, seconds=args.seconds, description=args.description)
    size = write_trace(trace, args.output)
    print(f"{args.output}: {len(trace)} events, {size} bytes, lost: {trace.lost}")
    return GOOD


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value
