"""``asi-pa starvation``: when the designs have nothing to give."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
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
  asi-pa starvation --modes --costs mine.toml --json modes.json
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
    parser.add_argument(
        "--costs", metavar="FILE", help="table of costs for the time of moves and scans (docs/use/costs.md)"
    )
    add_executor(parser, "here")
    parser.add_argument("--json", metavar="FILE", type=output, help="write what is shown there too")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def _starvation(args: argparse.Namespace) -> int:
    if (args.modes or args.curves) and args.executor != "here":
        raise ValueError("--executor is for the yields, not together with --modes or --curves")
    show = _modes if args.modes else _curves if args.curves else _yields
    show(args)
    return GOOD


def _modes(args: argparse.Namespace) -> None:
    from asi_pa.experiment.compaction_modes import modes, modes_text
    from asi_pa.experiment.costs import LABEL, load_costs

    costs = load_costs(args.costs)
    kernels = (args.kernel,) if args.kernel else ("7.2", "6.12")
    rows = modes(args.memory, kernels=kernels, seed=args.seed)
    sys.stdout.write(modes_text(rows, costs))
    if args.json:
        found = [{**asdict(row), "modelled_ns": row.modelled_ns(costs)} for row in rows]
        write_json(args.json, {"schema": "asi_pa.compaction_modes/1", "label": LABEL, "rows": found})


def _curves(args: argparse.Namespace) -> None:
    from asi_pa.experiment.starvation import ALL_DESIGNS
    from asi_pa.experiment.starvation_curves import curves, curves_text

    if args.costs:
        raise ValueError("--costs is for the yields and --modes, not together with --curves")
    with Progress(args.quiet) as progress:
        points = curves(
            args.designs or ALL_DESIGNS, args.memory, seed=args.seed, kernel=args.kernel, progress=progress
        )
    sys.stdout.write(curves_text(points))
    if args.json:
        write_json(
            args.json, {"schema": "asi_pa.starvation_curves/1", "rows": [asdict(point) for point in points]}
        )


def _yields(args: argparse.Namespace) -> None:
    from asi_pa.experiment.starvation import ALL_DESIGNS
    from asi_pa.results import starve

    with Progress(args.quiet) as progress:
        found = starve(
            args.designs or ALL_DESIGNS,
            args.memory,
            unmovable=args.unmovable,
            seed=args.seed,
            kernel=args.kernel,
            costs=args.costs,
            executor=args.executor,
            progress=progress,
        )
    sys.stdout.write(str(found))
    if args.json:
        write_json(args.json, found.to_dict())
