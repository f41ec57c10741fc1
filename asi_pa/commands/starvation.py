"""``asi-pa starvation``: when the designs have nothing to give."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from asi_pa.commands.options import Verbs, add_designs_options, add_verb, whole
from asi_pa.errors import GOOD

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
""",
    )
    add_designs_options(parser)
    parser.add_argument("--memory", metavar="SIZE", default="1G", help="of the machine, 32M to 64G (1G)")
    parser.add_argument("--unmovable", action="store_true", help="chunks that compaction cannot move")
    parser.add_argument("--seed", metavar="N", type=whole, default=0, help="of the workload (0)")


def _starvation(args: argparse.Namespace) -> int:
    from asi_pa.experiment.starvation import ALL_DESIGNS, starvation, starvation_text

    rows = starvation(args.designs or ALL_DESIGNS, args.memory, unmovable=args.unmovable, seed=args.seed)
    sys.stdout.write(starvation_text(rows))
    return GOOD
