"""``asi-pa designs``: what the designs are."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from asi_pa.commands.options import Verbs, add_verb
from asi_pa.errors import GOOD

__all__ = ["add_designs"]


def add_designs(verbs: Verbs[Any]) -> None:
    """The verb designs."""
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
