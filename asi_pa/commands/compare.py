"""``asi-pa compare``: traces through designs, and what each did."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from asi_pa.commands.options import (
    TRACE_HELP,
    Verbs,
    add_classifier,
    add_designs_options,
    add_verb,
    count,
    listed,
    output,
    whole,
)
from asi_pa.errors import FAILED, GOOD, say_error
from asi_pa.progress import Progress
from asi_pa.report.formats import FORMATS, ready

__all__ = ["add_compare"]


def add_compare(verbs: Verbs[Any]) -> None:
    parser = add_verb(
        verbs,
        "compare",
        _compare,
        "run traces through designs and show what each did",
        """
Replays the same allocations through every design and shows, side by side, what each design did with
them: failures, flips, page-table writes, TLB flushes, fragmentation, and whether anything protected was
ever exposed; then the four claims of the proposal, with the figures that speak for or against each.
Without a trace: the bundled ones. Without a size: the recorded machine's, and one small enough to hurt.
Without a design: plain Linux, page-by-page mapping, and every sound design.

Examples:
  asi-pa compare
  asi-pa compare redis --html redis.html --json redis.json
  asi-pa compare workload.trace --memory 2G,768M --designs linux,migratetype
  asi-pa compare net --classifier share=0.3 --seed 7 --quiet
  asi-pa compare redis --costs my-machine.toml
  asi-pa compare stress:2G:1 --memory ample --design migratetype:zeroing=dirty
  asi-pa compare redis --memory tight --reclaim 64M --compaction
""",
    )
    parser.add_argument("traces", metavar="TRACE", nargs="*", help=TRACE_HELP)
    add_designs_options(parser)
    parser.add_argument(
        "--memory",
        metavar="SIZE,...",
        type=listed,
        action="extend",
        help="of the modelled machine: 768M, 4G, ..., ample (the recorded one's), tight; repeatable",
    )
    add_classifier(parser)
    parser.add_argument("--seed", metavar="N", type=whole, default=0, help="of everything that is drawn (0)")
    parser.add_argument("--kernel", metavar="VERSION", help="whose rules: 7.2, 6.18, 6.12 (the trace's own)")
    parser.add_argument(
        "--reclaim",
        metavar="SIZE",
        help="page cache of the trace's initial state that reclaim may free when memory is short (none)",
    )
    parser.add_argument(
        "--compaction", action="store_true", help="requests that may block compact before they fail"
    )
    parser.add_argument(
        "--no-fallbacks",
        action="store_true",
        help="where a try of a known caller fails, do not replay the pages it would ask for instead",
    )
    parser.add_argument(
        "--costs",
        metavar="FILE",
        help="add modelled time by a table of costs; 'default' is the one that comes along",
    )
    parser.add_argument("--samples", metavar="N", type=count, default=200, help="points of a series (200)")
    for form in FORMATS:
        parser.add_argument(f"--{form.NAME}", metavar="FILE", type=output, help=form.HELP)
    parser.add_argument("--quiet", action="store_true", help="the essential rows only, no progress")


def _compare(args: argparse.Namespace) -> int:
    written = [(form, path) for form in FORMATS if (path := getattr(args, form.NAME))]
    for form, _ in written:
        ready(form)

    from asi_pa.experiment import DEFAULT_DESIGNS, compare
    from asi_pa.kernel.sizing import parse_size
    from asi_pa.report import render_terminal
    from asi_pa.trace import bundled_traces

    costs = None
    if args.costs is not None:
        from asi_pa.experiment.costs import load_costs

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
            reclaim=parse_size(args.reclaim) if args.reclaim is not None else 0,
            compaction=args.compaction,
            fallbacks=not args.no_fallbacks,
            command=args.command_line,
            progress=progress,
        )
    if costs is not None:
        from asi_pa.report import add_modelled_time

        add_modelled_time(result, costs)
    for form, path in written:
        form.write(result, path)
    sys.stdout.write(render_terminal(result, quiet=args.quiet))
    if written and not args.quiet:
        print("\n" + "\n".join(f"{form.NAME}: {path}" for form, path in written))
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
