"""``asi-pa timeline``: a replay as a Chrome trace, for Perfetto."""

from __future__ import annotations

import argparse
from typing import Any

from asi_pa.commands.options import (
    TRACE_HELP,
    Verbs,
    add_replay,
    add_verb,
    output,
)
from asi_pa.errors import GOOD
from asi_pa.progress import Progress

__all__ = ["add_timeline"]


def add_timeline(verbs: Verbs[Any]) -> None:
    """The verb timeline."""
    parser = add_verb(
        verbs,
        "timeline",
        _timeline,
        "a replay over time, as a trace that Perfetto and chrome://tracing open",
        """
Replays a trace through one design and writes what it saw over time as Chrome trace JSON: counters of free
pages by freetype, free blocks by order, flushes, flips and failures; instants where pageblocks flipped, the
TLB was flushed, requests failed, fell back, or reclaim and compaction ran. Sampled evenly over the
operations; packed where the name ends in .gz. Open it at ui.perfetto.dev or in chrome://tracing.

Examples:
  asi-pa timeline redis -o redis.json.gz --design migratetype --memory 860M
  asi-pa timeline net -o net.json --design pool --samples 5000
""",
    )
    parser.add_argument("trace", metavar="TRACE", help=TRACE_HELP)
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=output, required=True, help=".json or .json.gz"
    )
    add_replay(parser)
    parser.add_argument(
        "--samples", metavar="N", type=_samples, default=1000, help="looks at the state (1000)"
    )


def _samples(text: str) -> int:
    if not text.isdecimal() or not 2 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 2 to 100000")
    return int(text)


def _timeline(args: argparse.Namespace) -> int:
    from asi_pa.experiment.points import compile_trace
    from asi_pa.experiment.probe import Relief
    from asi_pa.experiment.timeline import timeline, write_timeline

    compiled = compile_trace(
        args.trace, args.classifier, memory=args.memory, seed=args.seed, nodes=args.nodes
    )
    with Progress(args.quiet) as progress:
        made = timeline(
            compiled,
            args.design,
            kernel=args.kernel,
            relief=Relief.none() if args.no_relief else Relief(),
            seed=args.seed,
            samples=args.samples,
            progress=lambda done, of: progress("replay", done, of),
        )
    write_timeline(made, args.output)
    print(f"{args.output}: {len(made['traceEvents']):,} events")
    return GOOD
