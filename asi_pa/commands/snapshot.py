"""``asi-pa snapshot``: the state of this machine's memory, without events."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from asi_pa.commands.options import Verbs, add_anonymise, add_verb, trace_output
from asi_pa.errors import GOOD

__all__ = ["add_snapshot"]


def add_snapshot(verbs: Verbs[Any]) -> None:
    """The verb snapshot."""
    parser = add_verb(
        verbs,
        "snapshot",
        _snapshot,
        "take the state of this machine's memory alone",
        """
Takes the state of all memory once, as `asi-pa record` does before it starts, and writes it as a trace
without events. `asi-pa info` shows it: free lists, the kernel's indexes, pageblocks. From Python,
Allocator.from_trace and compile_trace start from it. There is nothing in it to replay: compare and validate
refuse it. Needs root, and a kernel with CONFIG_PROC_PAGE_MONITOR; not perf.

Examples:
  asi-pa snapshot now.trace
  asi-pa snapshot now.trace && asi-pa info now.trace
  asi-pa snapshot --anonymise --description "after a week" mail.trace
""",
    )
    parser.add_argument("output", metavar="OUTPUT", type=trace_output, help="the trace file to write")
    parser.add_argument("--description", metavar="TEXT", default="", help="kept with the state")
    parser.add_argument("--proc", metavar="FOLDER", default="/proc", help="where /proc is (/proc)")
    add_anonymise(parser)


def _snapshot(args: argparse.Namespace) -> int:
    from asi_pa.trace import write_trace
    from asi_pa.trace.anonymous import anonymised
    from asi_pa.trace.record import start_state

    trace = start_state(Path(args.output).stem, description=args.description, proc=args.proc)
    if args.anonymise:
        trace = anonymised(trace)
    size = write_trace(trace, args.output)
    print(f"{args.output}: the state of {len(trace.kpageflags['start']):,} frames, {size} bytes")
    return GOOD
