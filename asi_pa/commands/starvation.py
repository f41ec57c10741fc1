"""``asi-pa starvation``: when the designs have nothing to give."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from asi_pa.commands.options import (
    Verbs,
    add_designs_options,
    add_executor,
    add_verb,
    output,
    whole,
    write_json,
)
from asi_pa.errors import GOOD
from asi_pa.progress import Progress

__all__ = ["add_starvation"]


def add_starvation(verbs: Verbs[Any]) -> None:
    """The verb starvation."""
    parser = add_verb(
        verbs,
        "starvation",
        _starvation,
        "how much of the scarce kind a fragmented machine yields",
        """
A design that changes whole pageblocks needs a free one. Fills 90 % of memory in chunks of 64 KiB, frees
three of every four, which leaves almost no free pageblock, then asks for the kind of memory that the
design keeps least of until a request fails. The yield stands beside that of a machine whose chunks lie
side by side; once more with compaction as the design asks for it, and promoted to whole pageblocks.

Examples:
  asi-pa starvation
  asi-pa starvation --memory 4G --designs linux,migratetype,unmapped
  asi-pa starvation --unmovable --seed 7
  asi-pa starvation --curves --designs migratetype,unmapped    pinned pages, free memory: when does it starve?
  asi-pa starvation --modes                                     the ways to compact, on 7.2 and 6.12
""",
    )
    add_designs_options(parser)
    parser.add_argument("--memory", metavar="SIZE", default="1G", help="of the machine, 32M to 64G (1G)")
    parser.add_argument("--unmovable", action="store_true", help="chunks that compaction cannot move")
    parser.add_argument("--kernel", metavar="VERSION", help="the rules (the newest)")
    parser.add_argument(
        "--curves", action="store_true", help="over the share of pinned chunks and of free memory"
    )
    parser.add_argument(
        "--modes", action="store_true", help="plain Linux: async, light, full, kcompactd, proactive"
    )
    parser.add_argument("--seed", metavar="N", type=whole, default=0, help="of the workload (0)")
    add_executor(parser, "here")
    parser.add_argument("--json", metavar="FILE", type=output, help="write the yields there too")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def _starvation(args: argparse.Namespace) -> int:
    from asi_pa.experiment import starvation as scenario
    from asi_pa.results import starve

    if (args.modes or args.curves) and (args.json or args.executor != "here"):
        raise ValueError("--json and --executor are for the yields, not together with --modes or --curves")
    designs = args.designs or scenario.ALL_DESIGNS
    if args.modes:
        kernels = (args.kernel,) if args.kernel else ("7.2", "6.12")
        sys.stdout.write(scenario.modes_text(scenario.modes(args.memory, kernels=kernels, seed=args.seed)))
    elif args.curves:
        points = scenario.curves(designs, args.memory, seed=args.seed, kernel=args.kernel)
        sys.stdout.write(scenario.curves_text(points))
    else:
        with Progress(args.quiet) as progress:
            found = starve(
                designs,
                args.memory,
                unmovable=args.unmovable,
                seed=args.seed,
                kernel=args.kernel,
                executor=args.executor,
                progress=progress,
            )
        sys.stdout.write(str(found))
        if args.json:
            write_json(args.json, found.to_dict())
    return GOOD
