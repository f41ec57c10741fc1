"""``asi-pa verify``: recorded kernel runs against the engine."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from asi_pa.commands.options import Verbs, add_max_memory, add_verb, count, output, whole, write_json
from asi_pa.errors import FAILED, GOOD, UNUSABLE, in_words, say_error
from asi_pa.limits import state_limit, stated_limit

if TYPE_CHECKING:
    from asi_pa.designs import Design
    from asi_pa.verify import Verdict

__all__ = ["add_verify"]


def add_verify(verbs: Verbs[Any]) -> None:
    parser = add_verb(
        verbs,
        "verify",
        _verify,
        "replay recorded kernel runs and compare everything",
        """
Replays runs recorded on real kernels through the engine and compares every result, the counters after
every operation and every word of every state dump. One line a file: how many operations and dumps are
exact, and the first difference in words. The exit status is 0 only if every file is exact, 1 if one is
not, 2 if one cannot be used. --explain shows what a person needs to find the wrong rule: the state
around one operation, expected and ours side by side.

Examples:
  asi-pa verify recorded/D5-1.npz
  asi-pa verify --explain 1204 recorded/D5-1.npz
  asi-pa verify --jobs 2 --json verdicts.json recorded/*.npz
  asi-pa verify --design mine.py:MINE recorded/X-1.npz
""",
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="a recorded run (.npz)")
    parser.add_argument(
        "--explain", metavar="N", type=whole, help="show the state around operation N, expected and ours"
    )
    parser.add_argument(
        "--design",
        metavar="DESIGN",
        help="what the recorded kernels ran, where their headers name none that is built in: FILE.py:NAME",
    )
    parser.add_argument("--json", metavar="FILE", type=output, help="write the verdicts there too")
    add_max_memory(parser)
    parser.add_argument("--jobs", metavar="N", type=count, default=0, help="processes (default: one a CPU)")


def _verify(args: argparse.Namespace) -> int:
    if args.explain is not None:
        return _explain(args)
    verdicts: list[tuple[str, Verdict]] = []
    refused = 0
    for path, outcome in zip(args.files, _verify_all(args.files, args.jobs, args.design), strict=True):
        if isinstance(outcome, str):
            refused += 1
            say_error(f"{path}: {outcome}")
            continue
        verdicts.append((path, outcome))
        print(
            f"{path}: operations {outcome.ops_exact} of {outcome.ops} exact, "
            f"dumps {outcome.dumps_exact} of {outcome.dumps} exact"
            + (f", events {outcome.events_exact} of {outcome.events} exact" if outcome.events else "")
            + (f"; {outcome.difference} (verify --explain {outcome.at})" if outcome.difference else ""),
            flush=True,
        )
    exact = sum(verdict.exact for _, verdict in verdicts)
    if len(args.files) > 1:
        ops = sum(verdict.ops for _, verdict in verdicts)
        dumps = sum(verdict.dumps for _, verdict in verdicts)
        print(f"{exact} of {len(args.files)} files exact ({ops} operations, {dumps} dumps)")
    if args.json:
        write_json(args.json, [_verdict_record(path, verdict) for path, verdict in verdicts])
    if refused:
        return UNUSABLE
    return GOOD if exact == len(args.files) else FAILED


def _explain(args: argparse.Namespace) -> int:
    from asi_pa.verify.explain import explain

    if len(args.files) > 1:
        raise ValueError(f"--explain shows one operation of one file, not of {len(args.files)}")
    try:
        print(explain(args.files[0], args.explain, _design(args.design)))
    except ValueError as error:
        raise ValueError(f"{args.files[0]}: {error}") from None
    return GOOD


def _verdict_record(path: str, verdict: Verdict) -> dict[str, object]:
    return {"file": path, "exact": verdict.exact, **asdict(verdict)}


def _design(words: str | None) -> Design | None:
    from asi_pa.designs import as_design

    return None if words is None else as_design(words)


def _verify_all(files: Sequence[str], jobs: int, design: str | None) -> Iterator[Verdict | str]:
    """The verdict on each file, in order, or what is wrong with it; several processes at a time."""
    _design(design)  # a word that names none is refused here, once
    one = partial(_verify_one, design=design)
    jobs = min(jobs or os.cpu_count() or 1, len(files))
    if jobs < 2:
        yield from map(one, files)
        return
    # Ctrl-C is for this process, which ends the workers: they inherit that it is ignored.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        pool = get_context("spawn").Pool(jobs, state_limit, (stated_limit(),))
    finally:
        signal.signal(signal.SIGINT, before)
    with pool:
        yield from pool.imap(one, files)


def _verify_one(path: str, design: str | None = None) -> Verdict | str:
    from asi_pa.verify import verify_file

    try:
        return verify_file(path, _design(design))
    except (ValueError, OSError, ImportError) as error:
        return in_words(error).removeprefix(f"{path}: ")
