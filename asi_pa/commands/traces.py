"""``asi-pa info``, ``convert`` and ``record``: traces."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asi_pa.commands.options import (
    TRACE_HELP,
    Verbs,
    add_classifier,
    add_verb,
    output,
    trace_output,
    write_json,
)
from asi_pa.errors import GOOD

if TYPE_CHECKING:
    from asi_pa.trace import Classifier, Trace

__all__ = ["add_convert", "add_info", "add_record"]


def add_info(verbs: Verbs[Any]) -> None:
    parser = add_verb(
        verbs,
        "info",
        _info,
        "describe a trace",
        """
What a trace holds: the machine and its zones, events and losses, who asked for what, which share of it
the classifier calls nonsensitive, what was alive when, what the compiler had to repair, and whether the
events lead to the recorded end state. Without a trace: the names that need no file.

Examples:
  asi-pa info
  asi-pa info redis
  asi-pa info workload.trace --classifier "comm=nginx*:nonsensitive;rfc"
  asi-pa info recorded/*.npz --json about.json
  zcat ftrace.txt.gz | grep -v sched_switch | asi-pa info -
  asi-pa info /sys/kernel/tracing/per_cpu/cpu*/trace
  asi-pa info dmesg.txt                  (an OOM report; /proc/buddyinfo and its like)
""",
    )
    parser.add_argument("traces", metavar="TRACE", nargs="*", help=TRACE_HELP)
    add_classifier(parser)
    parser.add_argument(
        "--json", metavar="FILE", type=output, help="write a list of descriptions there instead of text"
    )


def _info(args: argparse.Namespace) -> int:
    from asi_pa.trace import Classifier

    if not args.traces:
        if args.json:
            raise ValueError("info: --json describes traces, and none is named")
        for name, what in _known_traces():
            print(f"{name:<16}  {what}")
        return GOOD
    found: list[dict[str, Any]] = []
    for about, words in _described(args.traces, Classifier.parse(args.classifier)):
        if not args.json:
            print(("\n" if found else "") + words, flush=True)
        found.append(about)
    if args.json:
        write_json(args.json, found)
    return GOOD


def _described(paths: Sequence[str], classifier: Classifier) -> Iterator[tuple[dict[str, Any], str]]:
    """What each file says, as numbers and in words; texts that are pieces of one recording are one trace."""
    from asi_pa.trace import load_input
    from asi_pa.trace.info import describe, describe_text
    from asi_pa.trace.memory import memory_text
    from asi_pa.trace.time_order import joined

    def told(traces: list[Trace]) -> Iterator[tuple[dict[str, Any], str]]:
        for trace in joined(traces):
            about = describe(trace, classifier)
            yield about, describe_text(about)

    texts: list[Trace] = []
    for path in paths:
        made = load_input(path)
        if not isinstance(made, dict) and made.provenance.get("format") == "text":
            texts.append(made)
            continue
        yield from told(texts)
        texts = []
        if isinstance(made, dict):
            yield made, memory_text(made)
        else:
            yield from told([made])
    yield from told(texts)


def _known_traces() -> Iterator[tuple[str, str]]:
    """Names that need no file, with a line about each."""
    from asi_pa.trace import WORKLOADS, bundled_traces, load_trace

    for name in bundled_traces():
        yield name, f"bundled: {load_trace(name).description}"
    for name, write in WORKLOADS.items():
        first = re.split(r"\.(?:\s|$)", write.__doc__ or "", maxsplit=1)[0]
        yield name, f"workload: {' '.join(first.split())}"


def add_convert(verbs: Verbs[Any]) -> None:
    parser = add_verb(
        verbs,
        "convert",
        _convert,
        "turn a recording into a trace file",
        """
Reads a trace from what recorded it - the text of `perf script`, `trace-cmd report` or ftrace, plain or
compressed, from a file, a pipe or standard input (-), or a recorded .npz file - and writes the column
format that NumPy maps without copying. Several texts are pieces of one recording and become one trace,
in order of time. Every command that takes a trace takes those inputs too; a converted one opens at once.

Examples:
  asi-pa convert recorded.npz workload.trace
  perf script --ns -F comm,tid,cpu,time,event,trace > perf.txt && asi-pa convert perf.txt workload.trace
  perf script --ns -F comm,tid,cpu,time,event,trace | asi-pa convert - workload.trace
  asi-pa convert per_cpu/cpu*/trace all.trace
  asi-pa convert --pack workload.trace small.trace
""",
    )
    parser.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="the recording, - for standard input, or a bundled trace by name",
    )
    parser.add_argument("output", metavar="OUTPUT", type=trace_output, help="the trace file to write")
    parser.add_argument("--pack", action="store_true", help="compress: far smaller, opens more slowly")
    _add_anonymise(parser)


def _add_anonymise(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--anonymise",
        action="store_true",
        help="leave out commands, names, description and the kernel's local version: to be mailed",
    )


def _convert(args: argparse.Namespace) -> int:
    from asi_pa.trace import load_trace, merged, write_trace
    from asi_pa.trace.anonymous import anonymised

    traces = [load_trace(path) for path in args.inputs]
    trace = traces[0] if len(traces) == 1 else merged(traces)
    if args.anonymise:
        trace = anonymised(trace)
    size = write_trace(trace, args.output, pack=args.pack)
    print(f"{args.output}: {len(trace)} events, {size} bytes")
    return GOOD


def add_record(verbs: Verbs[Any]) -> None:
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
    parser.add_argument("--seconds", metavar="N", type=_seconds, help="stop after so long")
    parser.add_argument("--description", metavar="TEXT", default="", help="kept with the trace")
    parser.add_argument(
        "--buffer",
        metavar="PAGES",
        type=_power,
        default=1024,
        help="perf's buffer of each CPU in pages, a power of two (1024)",
    )
    _add_anonymise(parser)


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


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value
