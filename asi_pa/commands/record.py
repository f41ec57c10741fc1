"""``asi-pa record``: this machine's page allocator, recorded."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from asi_pa.commands.options import Verbs, add_anonymise, add_verb, positive, trace_output
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
faithfully. The whole machine is recorded. Needs root and the perf program. At the end it says what
recording cost; it warns when perf's buffers or the disk are about to be full. `asi-pa validate` says
whether the trace is sound and how well the model predicts this machine.

Examples:
  asi-pa record build.trace -- make -j8
  asi-pa record idle.trace --seconds 30
  asi-pa record --anonymise --buffer 4096 mail.trace -- ./load
""",
    )
    parser.add_argument("output", metavar="OUTPUT", type=trace_output, help="the trace file to write")
    parser.add_argument("command", metavar="COMMAND", nargs="*", help="what to run, after --")
    parser.add_argument(
        "--seconds", metavar="N", type=positive(1e6, "a number of seconds"), help="stop after so long"
    )
    parser.add_argument("--description", metavar="TEXT", default="", help="kept with the trace")
    parser.add_argument(
        "--buffer",
        metavar="PAGES",
        type=_power,
        default=1024,
        help="perf's buffer of each CPU in pages, a power of two (1024)",
    )
    add_anonymise(parser)


def _record(args: argparse.Namespace) -> int:
    from asi_pa.trace import write_trace
    from asi_pa.trace.anonymous import anonymised
    from asi_pa.trace.record import EVENT_COST_US, record

    trace = record(
        Path(args.output).stem,
        args.command or None,
        seconds=args.seconds,
        description=args.description,
        buffer_pages=args.buffer,
        warn=lambda words: print(f"asi-pa: warning: {words}", file=sys.stderr, flush=True),
    )
    cost, seconds = trace.provenance["recording"], trace.provenance["seconds"]
    if args.anonymise:
        trace = anonymised(trace)
    size = write_trace(trace, args.output)
    print(f"{args.output}: {len(trace)} events, {size} bytes, lost: {trace.lost}")
    spent = EVENT_COST_US * len(trace) / 1e6
    share = 100 * (spent + cost["perf_cpu_seconds"]) / max(seconds * trace.cpus, 1e-3)
    print(
        f"recording cost: perf {cost['perf_cpu_seconds']:.1f} s of CPU time, events about {spent:.1f} s "
        f"({EVENT_COST_US} us each), {share:.1f} % of {trace.cpus} CPUs; "
        f"{cost['perf_data_bytes'] / 1e6:.0f} MB while it ran"
    )
    if trace.lost:
        print(
            f"asi-pa: warning: {trace.lost} events were lost: record again with --buffer {2 * args.buffer}",
            file=sys.stderr,
        )
    return GOOD


def _power(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 1 << 20 or int(text) & (int(text) - 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not a power of two up to {1 << 20}")
    return int(text)
