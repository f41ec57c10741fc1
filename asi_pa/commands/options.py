"""What the verbs share: how one is added, options that several have, checks and files."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from asi_pa.files import write_atomic

if TYPE_CHECKING:
    from asi_pa.experiment.moment import Scene

__all__ = [
    "TRACE_HELP",
    "OutputPath",
    "Verbs",
    "add_anonymise",
    "add_classifier",
    "add_designs_options",
    "add_executor",
    "add_max_memory",
    "add_no_cache",
    "add_nodes",
    "add_replay",
    "add_verb",
    "count",
    "joined_pieces",
    "listed",
    "output",
    "scene",
    "trace_output",
    "whole",
    "write_json",
]

TRACE_HELP = (
    "a trace file, a recorded .npz, the text of perf, trace-cmd or ftrace (- is standard input; a.txt+b.txt "
    "puts pieces of one recording together), or the name of a bundled trace or "
    "workload (asi-pa info lists them; NAME:MEMORY:SEED sizes a workload)"
)

#: What a parser offers to add verbs to.
Verbs = argparse._SubParsersAction


def add_verb(
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


def add_classifier(parser: argparse.ArgumentParser) -> None:
    """The option --classifier."""
    parser.add_argument(
        "--classifier",
        metavar="RULES",
        default="rfc",
        help="which requests are nonsensitive: rfc (default: unmovable ones without __GFP_HARDWALL), "
        "sensitive, nonsensitive, share=P, or rules such as "
        "'comm=redis*:nonsensitive;order>=3:share=0.5;seed=7'",
    )


def add_anonymise(parser: argparse.ArgumentParser) -> None:
    """The option --anonymise."""
    parser.add_argument(
        "--anonymise",
        action="store_true",
        help="leave out commands, names, description and the kernel's local version: to be mailed",
    )


def add_designs_options(parser: argparse.ArgumentParser) -> None:
    """The options --designs and --design, both into ``designs``; None where neither was given."""
    parser.add_argument(
        "--designs",
        metavar="NAME,...",
        type=listed,
        action="extend",
        help="which ones (asi-pa designs lists them); repeatable",
    )
    parser.add_argument(
        "--design",
        metavar="DESIGN",
        dest="designs",
        action="append",
        help="one (more): a name, NAME:FIELD=VALUE,... for a variant, FILE.py:NAME for your own; repeatable",
    )


def add_executor(parser: argparse.ArgumentParser, default: str | None, otherwise: str = "") -> None:
    """The option --executor; ``otherwise`` says where the work is done without it."""
    parser.add_argument(
        "--executor",
        metavar="WHERE",
        type=_executor,
        default=default,
        help="where the work is done: processes[:N], threads[:N], here, dask://HOST:PORT, mpi "
        f"(docs/use/sweep.md; {otherwise or default})",
    )


def _executor(text: str) -> str:
    from asi_pa.executors import check_executor

    try:
        check_executor(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def add_replay(parser: argparse.ArgumentParser) -> None:
    """What says which one replay is meant: design, memory, classifier, rules, seed, relief; and --quiet."""
    parser.add_argument("--design", metavar="DESIGN", default="linux", help="one, as of compare (linux)")
    parser.add_argument(
        "--memory",
        metavar="SIZE",
        help="768M, 4G, ample, 1.05x of what linux needs (the recorded zone Normal)",
    )
    add_nodes(parser)
    add_classifier(parser)
    add_max_memory(parser)
    parser.add_argument("--kernel", metavar="VERSION", help="whose rules: 7.2, 6.18, 6.12 (the trace's own)")
    parser.add_argument("--seed", metavar="N", type=whole, default=0, help="draws the smaller machine (0)")
    parser.add_argument("--no-relief", action="store_true", help="nothing is reclaimed or compacted")
    add_no_cache(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress")


def scene(args: argparse.Namespace, recorded: bool = False) -> Scene:
    """The replay that the options of `add_replay` and a trace mean."""
    from asi_pa.experiment.cache import opened
    from asi_pa.experiment.moment import Scene
    from asi_pa.experiment.probe import Relief

    with opened(not args.no_cache) as cache:
        return Scene.of(
            args.trace,
            args.design,
            args.memory,
            args.classifier,
            args.kernel,
            Relief.none() if args.no_relief else Relief(),
            args.seed,
            recorded,
            args.nodes,
            cache,
        )


def add_no_cache(parser: argparse._ActionsContainer) -> None:
    """The option --no-cache."""
    parser.add_argument("--no-cache", action="store_true", help="compute everything, keep nothing")


def add_nodes(parser: argparse._ActionsContainer) -> None:
    """The option --nodes."""
    parser.add_argument(
        "--nodes",
        metavar="N",
        type=_nodes,
        default="recorded",
        help="of the machine: how many, as numa=fake=N makes them of one, or the CPUs of each, 0-3/4-7 (as "
        "recorded; docs/use/nodes.md)",
    )


def _nodes(text: str) -> str:
    from asi_pa.kernel.numa import as_nodes

    try:
        return as_nodes(text).words
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_max_memory(parser: argparse.ArgumentParser) -> None:
    """The option --max-memory."""
    parser.add_argument(
        "--max-memory",
        metavar="SIZE",
        type=_size,
        help="what an input's arrays and columns may take, unpacked (512 times the file, 256M at least, 4G "
        "at most)",
    )


def _size(text: str) -> int:
    from asi_pa.kernel.sizing import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def joined_pieces(paths: list[str]) -> list[str]:
    """Texts that are pieces of one recording as one word (``a.txt+b.txt``); all else as it was given."""
    if len(paths) < 2 or not all(os.path.isfile(path) for path in paths):
        return paths
    for path in paths:
        with open(path, "rb") as file:
            if file.read(7) in (b"asi_pa\x01", b"PK\x03\x04\x14\0\0"):
                return paths
    from asi_pa.trace import load_trace
    from asi_pa.trace.time_order import are_pieces

    return ["+".join(paths)] if are_pieces([load_trace(path) for path in paths]) else paths


def listed(text: str) -> list[str]:
    """Type of an option: words with commas between them, one at least."""
    words = [word for word in text.split(",") if word]
    if not words:
        raise argparse.ArgumentTypeError(f"{text!r} names nothing")
    return words


def count(text: str) -> int:
    """Type of an option: how many of something there are to be."""
    if not text.isdecimal() or not 0 < int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1024")
    return int(text)


def whole(text: str) -> int:
    """Type of an option: any whole number that 64 bits hold, a seed for one."""
    if not text.isdecimal() or int(text) >= 1 << 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2^64 - 1")
    return int(text)


def positive(most: float, what: str) -> Callable[[str], float]:
    """Type of an option: a number above 0 and up to ``most``; ``what`` says it in the message."""

    def parsed(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return value

    return parsed


class OutputPath(str):
    """The name of a file that a verb writes."""

    __slots__ = ()


def output(text: str) -> OutputPath:
    """Type of an option: a file to write; refuses before hours of work what would be refused after it."""
    target = Path(text)
    special = target.exists() and not target.is_file()
    place = target if special else Path(os.path.realpath(target)).parent
    if not text:
        raise argparse.ArgumentTypeError("no file is named")
    if text == "-":
        raise argparse.ArgumentTypeError("- names no file (/dev/stdout is standard output)")
    if target.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: is a directory")
    if not place.exists():
        raise argparse.ArgumentTypeError(f"{text}: no such directory: {place}")
    if not os.access(place, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text}: cannot be written")
    return OutputPath(text)


def trace_output(text: str) -> OutputPath:
    """Type of an option: a trace to write, which no pipe and no device can hold."""
    path = output(text)
    if os.path.exists(path) and not os.path.isfile(path):
        raise argparse.ArgumentTypeError(f"{text}: not a regular file")
    return path


def write_json(path: str, value: object) -> None:
    """Write a file that is there whole or not at all."""
    write_atomic(path, json.dumps(value, indent=1) + "\n")
