"""The verbs of ``asi-pa``: options, a help that teaches, and the call of the module that does the work."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from asi_pa.errors import FAILED, GOOD, UNUSABLE, in_words, say_error
from asi_pa.progress import Progress

if TYPE_CHECKING:
    from asi_pa.verify import Verdict

__all__ = ["VERBS", "Verbs"]

TRACE_HELP = (
    "a trace file, a recorded .npz, the text of perf, trace-cmd or ftrace, or the name of a bundled trace or "
    "workload (asi-pa info lists them; NAME:MEMORY:SEED sizes a workload)"
)

#: What a parser offers to add verbs to.
Verbs = argparse._SubParsersAction


def _add(
    verbs: Verbs[Any],
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    text: str,
) -> argparse.ArgumentParser:
    """A verb: ``summary`` for the overview, ``text`` (paragraphs, then examples) for its own --help."""
    description, _, examples = text.partition("\nExamples:\n")
    parser = verbs.add_parser(
        name,
        help=summary,
        description=description.strip("\n"),
        epilog=f"examples:\n{examples.rstrip()}" if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return cast(argparse.ArgumentParser, parser)


def _verify(args: argparse.Namespace) -> int:
    verdicts: dict[str, Verdict] = {}
    refused = 0
    for path, outcome in zip(args.files, _verify_all(args.files, args.jobs), strict=True):
        if isinstance(outcome, str):
            refused += 1
            say_error(f"{path}: {outcome}")
            continue
        verdicts[path] = outcome
        print(
            f"{path}: operations {outcome.ops_exact} of {outcome.ops} exact, "
            f"dumps {outcome.dumps_exact} of {outcome.dumps} exact"
            + (f", events {outcome.events_exact} of {outcome.events} exact" if outcome.events else "")
            + (f"; {outcome.difference}" if outcome.difference else ""),
            flush=True,
        )
    exact = sum(verdict.exact for verdict in verdicts.values())
    if len(args.files) > 1:
        ops = sum(verdict.ops for verdict in verdicts.values())
        dumps = sum(verdict.dumps for verdict in verdicts.values())
        print(f"{exact} of {len(args.files)} files exact ({ops} operations, {dumps} dumps)")
    if args.json:
        _write_json(args.json, [_verdict_record(path, verdict) for path, verdict in verdicts.items()])
    if refused:
        return UNUSABLE
    return GOOD if exact == len(args.files) else FAILED


def _verdict_record(path: str, verdict: Verdict) -> dict[str, object]:
    return {"file": path, "exact": verdict.exact, **asdict(verdict)}


def _verify_all(files: Sequence[str], jobs: int) -> Iterator[Verdict | str]:
    """The verdict on each file, in order, or what is wrong with it; several processes at a time."""
    jobs = min(jobs or os.cpu_count() or 1, len(files))
    if jobs < 2:
        yield from map(_verify_one, files)
        return
    with get_context("spawn").Pool(jobs, _ignore_interrupts) as pool:
        yield from pool.imap(_verify_one, files)


def _verify_one(path: str) -> Verdict | str:
    from asi_pa.verify import verify_file

    try:
        return verify_file(path)
    except (ValueError, OSError, ImportError) as error:
        return in_words(error).removeprefix(f"{path}: ")


def _ignore_interrupts() -> None:
    """Ctrl-C is for the parent, which ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _add_verify(verbs: Verbs[Any]) -> None:
    parser = _add(
        verbs,
        "verify",
        _verify,
        "replay recorded kernel runs and compare everything",
        """
Replays runs recorded on real kernels through the engine and compares every result, the counters after
every operation and every word of every state dump. One line a file: how many operations and dumps are
exact, and the first difference in words. The exit status is 0 only if every file is exact, 1 if one is
not, 2 if one cannot be used.

Examples:
  asi-pa verify recorded/D5-1.npz
  asi-pa verify --jobs 2 --json verdicts.json recorded/*.npz
""",
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="a recorded run (.npz)")
    parser.add_argument("--json", metavar="FILE", help="write the verdicts there too")
    parser.add_argument("--jobs", metavar="N", type=_count, default=0, help="processes (default: one a CPU)")


def _convert(args: argparse.Namespace) -> int:
    from asi_pa.trace import load_trace, write_trace

    trace = load_trace(args.input)
    size = write_trace(trace, args.output, pack=args.pack)
    print(f"{args.output}: {len(trace)} events, {size} bytes")
    return GOOD


def _add_convert(verbs: Verbs[Any]) -> None:
    parser = _add(
        verbs,
        "convert",
        _convert,
        "turn a recording into a trace file",
        """
Reads a trace from what recorded it - the text of `perf script`, `trace-cmd report` or ftrace, plain or
compressed, or a recorded .npz file - and writes the column format that NumPy maps without copying.
Every command that takes a trace takes those inputs too; a converted one opens at once.

Examples:
  asi-pa convert recorded.npz workload.trace
  perf script --ns -F comm,tid,cpu,time,event,trace > perf.txt && asi-pa convert perf.txt workload.trace
  asi-pa convert --pack workload.trace small.trace
""",
    )
    parser.add_argument("input", metavar="INPUT", help="the recording, or a bundled trace by name")
    parser.add_argument("output", metavar="OUTPUT", help="the trace file to write")
    parser.add_argument("--pack", action="store_true", help="compress: far smaller, opens more slowly")


def _compare(args: argparse.Namespace) -> int:
    if args.html and find_spec("plotly") is None:
        raise ValueError("--html needs plotly: pip install 'asi_pa[report]'")
    for path in (args.json, args.html):
        if path:
            _check_writable(path)

    from asi_pa.experiment import DEFAULT_DESIGNS, compare
    from asi_pa.report import render_terminal, write_html, write_json
    from asi_pa.trace import bundled_traces

    costs = None
    if args.costs is not None:
        from asi_pa.costs import load_costs

        costs = load_costs(None if args.costs == "default" else args.costs)
    with Progress(args.quiet) as progress:
        result = compare(
            args.traces or list(bundled_traces()),
            args.designs or DEFAULT_DESIGNS,
            memory=args.memory or ("ample", "tight"),
            classifier=args.classifier,
            seed=args.seed,
            kernel=args.kernel,
            samples=args.samples,
            command=args.command_line,
            progress=progress,
        )
    if costs is not None:
        from asi_pa.report import add_modelled_time

        add_modelled_time(result, costs)
    if args.json:
        write_json(result, args.json)
    if args.html:
        write_html(result, args.html)
    sys.stdout.write(render_terminal(result, quiet=args.quiet))
    written = [f"{what}: {path}" for what, path in (("pictures", args.html), ("numbers", args.json)) if path]
    if written and not args.quiet:
        print("\n" + "\n".join(written))
    return _broken(result)


def _broken(result: dict[str, Any]) -> int:
    """FAILED, and a line for each, if a replay ended in a state that contradicts itself."""
    status = GOOD
    for run in result["runs"]:
        for design in run["designs"]:
            if design["verify"] != "ok":
                say_error(f"{run['trace']}, {run['memory']}, {design['design']}: {design['verify']}")
                status = FAILED
    return status


def _check_writable(path: str) -> None:
    """Refuse before hours of work what would be refused after it."""
    target = Path(path)
    if target.is_dir():
        raise ValueError(f"{path}: is a directory")
    place = target if target.exists() else target.resolve().parent
    if not place.exists():
        raise ValueError(f"{path}: no such directory: {place}")
    if not os.access(place, os.W_OK):
        raise ValueError(f"{path}: cannot be written")


def _add_compare(verbs: Verbs[Any]) -> None:
    parser = _add(
        verbs,
        "compare",
        _compare,
        "run traces through designs and show what each did",
        """
Replays the same allocations through every design and shows, side by side, what each design did with
them: failures, flips, page-table writes, TLB flushes, fragmentation, and whether anything protected was
ever exposed; then the four claims of the proposal, with the figures that speak for or against each.
Without a trace: the bundled ones. Without a size: the recorded machine's, and one small enough to hurt.

Examples:
  asi-pa compare
  asi-pa compare redis --html redis.html --json redis.json
  asi-pa compare workload.trace --memory 2G,768M --designs linux,migratetype
  asi-pa compare net --classifier share=0.3 --seed 7 --quiet
  asi-pa compare redis --costs my-machine.toml
  asi-pa compare stress:2G:1 --memory ample
""",
    )
    parser.add_argument("traces", metavar="TRACE", nargs="*", help=TRACE_HELP)
    parser.add_argument(
        "--designs",
        "--design",
        metavar="NAME,...",
        type=_listed,
        action="extend",
        help="which to compare (asi-pa designs lists them); repeatable",
    )
    parser.add_argument(
        "--memory",
        metavar="SIZE,...",
        type=_listed,
        action="extend",
        help="of the modelled machine: 768M, 4G, ..., ample (the recorded one's), tight; repeatable",
    )
    _add_classifier(parser)
    parser.add_argument("--seed", metavar="N", type=_whole, default=0, help="of everything that is drawn (0)")
    parser.add_argument("--kernel", metavar="VERSION", help="whose rules: 7.2, 6.18, 6.12 (the trace's own)")
    parser.add_argument(
        "--costs",
        metavar="FILE",
        help="add modelled time by a table of costs; 'default' is the one that comes along",
    )
    parser.add_argument("--samples", metavar="N", type=_count, default=200, help="points of a series (200)")
    parser.add_argument("--json", metavar="FILE", help="write the whole result there")
    parser.add_argument("--html", metavar="FILE", help="write a page with pictures there")
    parser.add_argument("--quiet", action="store_true", help="the essential rows only, no progress")


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) >= 1 << 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2^64 - 1")
    return int(text)


def _info(args: argparse.Namespace) -> int:
    from asi_pa.trace import Classifier, load_trace
    from asi_pa.trace.info import describe, describe_text

    if not args.traces:
        for name, what in _known_traces():
            print(f"{name:<16}  {what}")
        return GOOD
    classifier = Classifier.parse(args.classifier)
    found = []
    for index, path in enumerate(args.traces):
        found.append(describe(load_trace(path), classifier))
        if not args.json:
            print(("\n" if index else "") + describe_text(found[-1]), flush=True)
    if args.json:
        _write_json(args.json, found)
    return GOOD


def _known_traces() -> Iterator[tuple[str, str]]:
    """Names that need no file, with a line about each."""
    from asi_pa.trace import WORKLOADS, bundled_traces, load_trace

    for name in bundled_traces():
        yield name, f"bundled: {load_trace(name).description}"
    for name, write in WORKLOADS.items():
        first = re.split(r"\.(?:\s|$)", write.__doc__ or "", maxsplit=1)[0]
        yield name, f"workload: {' '.join(first.split())}"


def _add_info(verbs: Verbs[Any]) -> None:
    parser = _add(
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
""",
    )
    parser.add_argument("traces", metavar="TRACE", nargs="*", help=TRACE_HELP)
    _add_classifier(parser)
    parser.add_argument("--json", metavar="FILE", help="write a list of descriptions there instead of text")


def _add_classifier(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--classifier",
        metavar="RULES",
        default="rfc",
        help="which requests are nonsensitive: rfc (default: unmovable ones without __GFP_HARDWALL), "
        "sensitive, nonsensitive, share=P, or rules such as "
        "'comm=redis*:nonsensitive;order>=3:share=0.5;seed=7'",
    )


def _record(args: argparse.Namespace) -> int:
    from asi_pa.trace import write_trace
    from asi_pa.trace.record import record

    _check_writable(args.output)
    command = args.command or None
    name = Path(args.output).stem
    trace = record(name, command, seconds=args.seconds, description=args.description)
    size = write_trace(trace, args.output)
    print(f"{args.output}: {len(trace)} events, {size} bytes, lost: {trace.lost}")
    return GOOD


def _add_record(verbs: Verbs[Any]) -> None:
    parser = _add(
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
    parser.add_argument("output", metavar="OUTPUT", help="the trace file to write")
    parser.add_argument("command", metavar="COMMAND", nargs="*", help="what to run, after --")
    parser.add_argument("--seconds", metavar="N", type=_seconds, help="stop after so long")
    parser.add_argument("--description", metavar="TEXT", default="", help="kept with the trace")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def _listed(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1024")
    return int(text)


def _write_json(path: str, value: object) -> None:
    from asi_pa.report.results import write_atomic

    write_atomic(path, json.dumps(value, indent=1) + "\n")


def _designs(args: argparse.Namespace) -> int:
    from asi_pa.describe import describe_design, diff_designs, list_designs

    if not args.names:
        sys.stdout.write(list_designs())
    elif len(args.names) == 1:
        sys.stdout.write(describe_design(args.names[0]))
    elif len(args.names) == 2:
        sys.stdout.write(diff_designs(*args.names))
    else:
        raise ValueError(f"designs: one name describes, two compare; got {len(args.names)}")
    return GOOD


def _add_designs(verbs: Verbs[Any]) -> None:
    parser = _add(
        verbs,
        "designs",
        _designs,
        "list the designs, print one's tables, or compare two",
        """
Without a name: the built-in designs, one a line. With one: its tables, one fact a line - the kinds of
free list, where requests look first, who may take from whom, how blocks change sides - and the posting
it follows. With two: the lines in which they differ.

Examples:
  asi-pa designs
  asi-pa designs migratetype/as-posted
  asi-pa designs migratetype/as-posted migratetype/sound
""",
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="a design, as the plain list names them")


#: In the order of the overview.
VERBS: tuple[Callable[[Verbs[Any]], None], ...] = (
    _add_compare,
    _add_verify,
    _add_info,
    _add_convert,
    _add_record,
    _add_designs,
)
