"""``asi-pa timeline``: a replay as a Chrome trace, for Perfetto; its memory at a moment as /proc's texts."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from asi_pa.commands.options import (
    TRACE_HELP,
    Verbs,
    add_replay,
    add_verb,
    output,
    scene,
)
from asi_pa.errors import GOOD
from asi_pa.files import write_atomic
from asi_pa.progress import Progress

__all__ = ["TEXTS", "add_timeline"]

#: The texts that --form names (asi_pa.results.texts.FORMS, which is not imported for --help).
TEXTS = ("buddyinfo", "pagetypeinfo", "zoneinfo", "extfrag_index", "unusable_index")


def add_timeline(verbs: Verbs[Any]) -> None:
    """The verb timeline."""
    parser = add_verb(
        verbs,
        "timeline",
        _timeline,
        "a replay over time for Perfetto, or its memory at a moment as /proc prints it",
        """
Replays a trace through one design and writes what it saw over time as Chrome trace JSON: counters of free
pages by freetype, free blocks by order, flushes, flips and failures; instants where pageblocks flipped, the
TLB was flushed, requests failed, fell back, or reclaim and compaction ran. Sampled evenly over the
operations; packed where the name ends in .gz. Open it at ui.perfetto.dev or in chrome://tracing.

With --form buddyinfo, pagetypeinfo, zoneinfo, extfrag_index or unusable_index it prints what /proc and
debugfs would show of the replayed machine, byte for byte as the kernel prints it, at the end or at a moment
(--at): after so many operations, or just after the first or the K-th failure, real, declined, huge, flip,
fallback, flush, refill, compaction, kswapd (failure, flip:3). zoneinfo has the lines that are modelled
(docs/use/api.md).

Examples:
  asi-pa timeline redis -o redis.json.gz --design migratetype --memory 860M
  asi-pa timeline net -o net.json --design pool --samples 5000
  asi-pa timeline redis --form pagetypeinfo --design migratetype --memory 860M
  asi-pa timeline redis --form buddyinfo --recorded --at 0
  asi-pa timeline redis --form unusable_index --design freetype --memory 860M --at flip:3
""",
    )
    parser.add_argument("trace", metavar="TRACE", help=TRACE_HELP)
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=output, help=".json or .json.gz; a text: else standard output"
    )
    parser.add_argument(
        "--form", choices=("perfetto", *TEXTS), default="perfetto", help="what is written (perfetto)"
    )
    parser.add_argument("--at", metavar="MOMENT", help="of a text: operations done, or an event (the end)")
    parser.add_argument("--recorded", action="store_true", help="of a text: the recorded machine's zones")
    add_replay(parser)
    parser.add_argument(
        "--samples", metavar="N", type=_samples, default=1000, help="looks at the state (1000)"
    )


def _samples(text: str) -> int:
    if not text.isdecimal() or not 2 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 2 to 100000")
    return int(text)


def _timeline(args: argparse.Namespace) -> int:
    if args.form != "perfetto":
        return _text(args)
    for option, given in (("--at", args.at is not None), ("--recorded", args.recorded)):
        if given:
            raise ValueError(f"timeline: {option} is of a text, with --form ({', '.join(TEXTS)})")
    if args.output is None:
        raise ValueError("timeline: -o FILE.json or FILE.json.gz is needed")
    from asi_pa.experiment.timeline import timeline, write_timeline

    made_of = scene(args)
    with Progress(args.quiet) as progress:
        made = timeline(
            made_of.compiled,
            made_of.design,
            kernel=made_of.kernel,
            relief=made_of.relief,
            seed=made_of.seed,
            samples=args.samples,
            progress=lambda done, of: progress("replay", done, of),
        )
    write_timeline(made, args.output)
    print(f"{args.output}: {len(made['traceEvents']):,} events")
    return GOOD


def _text(args: argparse.Namespace) -> int:
    """What /proc would show at a moment."""
    from asi_pa.results.texts import texts_of

    made_of = scene(args, args.recorded)
    with Progress(args.quiet) as progress:
        found = texts_of(made_of, args.at, progress)
    text: str = getattr(found, args.form)
    if args.output is None:
        sys.stdout.write(text)
    else:
        write_atomic(args.output, text)
    return GOOD
