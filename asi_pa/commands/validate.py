"""``asi-pa validate``: how well the model predicts the machine that a trace was recorded on."""

from __future__ import annotations

import argparse
from typing import Any

from asi_pa.commands.options import TRACE_HELP, Verbs, add_verb, output, positive, write_json
from asi_pa.errors import FAILED, GOOD, say_error
from asi_pa.files import write_atomic
from asi_pa.progress import Progress

__all__ = ["add_validate"]


def add_validate(verbs: Verbs[Any]) -> None:
    """The verb validate."""
    parser = add_verb(
        verbs,
        "validate",
        _validate,
        "predict the machine that a trace was recorded on, and measure how well",
        """
Builds the machine's state at the start of a recorded trace, then runs it twice. First every recorded
decision is carried out, and the model's is compared with it in that very state: which page a refill takes,
how many, which one the caller gets, which one is drained, whom a fallback claims from. Then the model is left
alone with what callers did, and its free lists are compared with the recorded ones: at 100 moments, and at
the end with /proc/buddyinfo. A trace needs the snapshots that `asi-pa record` takes.

The exit status is 1, and no statement is made, where the recorded decisions do not lead to the recorded end
(events lost, compaction, another zone): such a trace says nothing about the model.

Examples:
  asi-pa validate redis.npz
  asi-pa validate --sensitivity --json validated.json recorded/*.npz
  asi-pa validate --figure redis.svg redis.npz
  asi-pa validate --vmstat press-thp.vmstat.json press-thp.trace   # a machine short of memory: two readings
  asi-pa validate --evidence 0.2 redis.npz   # start state from the first fifth of the events alone
""",
    )
    parser.add_argument("traces", metavar="TRACE", nargs="+", help=TRACE_HELP)
    parser.add_argument("--kernel", metavar="VERSION", help="profile of rules (default: the trace's own)")
    parser.add_argument(
        "--sensitivity",
        action="store_true",
        help="what each part of the model is worth: one changed at a time",
    )
    parser.add_argument(
        "--evidence",
        metavar="SHARE",
        type=positive(1, "a share of the events, above 0 and up to 1"),
        help="start state from this share of the events only, 0 to 1",
    )
    parser.add_argument(
        "--vmstat",
        metavar="FILE",
        help="differences of /proc/vmstat over the recording (JSON; one trace): "
        "what the machine counted, beside both readings of `asi-pa pressure`",
    )
    parser.add_argument(
        "--figure", metavar="FILE", type=output, help="the state over time as SVG (one trace)"
    )
    parser.add_argument("--json", metavar="FILE", type=output, help="write the results there too")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def _validate(args: argparse.Namespace) -> int:
    from asi_pa.experiment.pressure import pressure
    from asi_pa.experiment.vmstat import read_vmstat
    from asi_pa.report.validation import validation_text
    from asi_pa.report.validation_figure import validation_svg
    from asi_pa.run.statement import INCONSISTENT, errors_of, statement_of
    from asi_pa.run.validate import consistent, validate
    from asi_pa.trace import load_trace

    if args.figure and len(args.traces) > 1:
        raise ValueError(f"--figure shows one trace, not {len(args.traces)}")
    if args.vmstat and len(args.traces) > 1:
        raise ValueError(f"--vmstat is of one trace, not of {len(args.traces)}")
    vmstat = read_vmstat(args.vmstat) if args.vmstat else None
    results: list[dict[str, Any]] = []
    status = GOOD
    for number, path in enumerate(args.traces):
        with Progress(args.quiet) as progress:
            result = validate(
                path,
                kernel=args.kernel,
                sensitivity=args.sensitivity,
                evidence=args.evidence,
                progress=progress,
            )
        if vmstat is not None:
            result["pressure"] = pressure(load_trace(path), kernel=args.kernel, vmstat=vmstat)
        results.append(result)
        print(("\n" if number else "") + validation_text(result))
        if consistent(result):
            print("\n" + statement_of(errors_of(result)), flush=True)
        else:
            status = FAILED
            off = result["tracked"]["end_distance"]
            say_error(f"{path}: {INCONSISTENT} Off {off:.2g} % of free pages: {_why(result)}.")
    if args.json:
        write_json(args.json, results[0] if len(results) == 1 else results)
    if args.figure:
        write_atomic(args.figure, validation_svg(results[0]))
    return status


def _why(result: dict[str, Any]) -> str:
    """What makes a trace contradict itself, as far as it shows."""
    steps = result["one_step"]
    if result["lost"]:
        return f"{result['lost']:,} events were lost"
    asked = steps["refill_page"][1] + steps["drain_page"][1] + steps["alloc_page"][1]
    if steps["ghosts"] > 0.001 * asked:
        return f"{steps['ghosts']:,} pages moved without an event (compaction, or events lost)"
    return "pages moved without an event"
