"""``asi-pa info``: what a trace holds."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from asi_pa.commands.options import (
    TRACE_HELP,
    Verbs,
    add_classifier,
    add_max_memory,
    add_verb,
    output,
    write_json,
)
from asi_pa.errors import GOOD

if TYPE_CHECKING:
    from asi_pa.trace import Classifier, Trace

__all__ = ["add_info"]


def add_info(verbs: Verbs[Any]) -> None:
    """The verb info."""
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
    add_max_memory(parser)
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
