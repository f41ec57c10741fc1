"""``asi-pa explain``: the state around one operation of a replay, and why it went so."""

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
    write_json,
)
from asi_pa.errors import GOOD
from asi_pa.progress import Progress

__all__ = ["add_explain"]


def add_explain(verbs: Verbs[Any]) -> None:
    """The verb explain."""
    parser = add_verb(
        verbs,
        "explain",
        _explain,
        "why one request of a replay failed, flipped or fell back",
        """
Replays a trace to one operation and shows what every list held just before and after it: free blocks by
order and type, mapped or not, per-CPU lists, pageblocks, the watermarks' arithmetic, and in sentences why the
request failed, changed pageblocks or took memory of another type.

EVENT is the number of an operation, or what it is the first of: failure, real, declined, huge (failures by
what they mean), flip, fallback (extfrag), flush, refill (of a pool), compaction, kswapd; with :K the K-th.
Memory, seed and relief are those of `asi-pa compare`, so that a number there can be asked for here.

Examples:
  asi-pa explain redis flip --design migratetype --memory 800M
  asi-pa explain redis real:10 --design migratetype --memory 800M
  asi-pa explain net declined --design freetype --memory 1.05x --json why.json
  asi-pa explain redis 342862 --design pool --memory 800M --no-relief
""",
    )
    parser.add_argument("trace", metavar="TRACE", help=TRACE_HELP)
    parser.add_argument("event", metavar="EVENT", help="a number, or a word such as failure or flip:3")
    add_replay(parser)
    parser.add_argument("--json", metavar="FILE", type=output, help="write everything there instead of text")


def _explain(args: argparse.Namespace) -> int:
    from asi_pa.experiment.explain import explained
    from asi_pa.report.explained import explained_text

    with Progress(args.quiet) as progress:
        about = explained(scene(args), args.event, progress)
    if args.json:
        write_json(args.json, about)
    else:
        sys.stdout.write(explained_text(about))
    return GOOD
