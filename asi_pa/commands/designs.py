"""``asi-pa designs`` and ``starvation``: what the designs are, and when they have nothing to give."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from asi_pa.commands.options import Verbs, add_designs_options, add_verb, whole
from asi_pa.errors import GOOD

__all__ = ["add_designs", "add_starvation"]


def add_designs(verbs: Verbs[Any]) -> None:
    parser = add_verb(
        verbs,
        "designs",
        _designs,
        "list the designs, print one's tables, or compare two",
        """
Without a name: the built-in designs, one a line. With one: its tables, one fact a line - the kinds of
free list, where requests look first, who may take from whom, how blocks change sides - and the posting
it follows. With two: the lines in which they differ.

Examples:
  asi-pa designs
  asi-pa designs migratetype/as-posted
  asi-pa designs migratetype/as-posted migratetype/sound
""",
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="a design, as the plain list names them")


def _designs(args: argparse.Namespace) -> int:
    from asi_pa.designs.describe import describe_design, diff_designs, list_designs

    if not args.names:
        sys.stdout.write(list_designs())
    elif len(args.names) == 1:
        sys.stdout.write(describe_design(args.names[0]))
    elif len(args.names) == 2:
        sys.stdout.write(diff_designs(*args.names))
    else:
        raise ValueError(f"designs: one name describes, two compare; got {len(args.names)}")
    return GOOD


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
