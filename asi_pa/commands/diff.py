"""``asi-pa diff``: two comparisons side by side."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from asi_pa.commands.options import Verbs, add_verb, output, write_json
from asi_pa.errors import FAILED, GOOD

__all__ = ["add_diff"]


def add_diff(verbs: Verbs[Any]) -> None:
    """The verb diff."""
    parser = add_verb(
        verbs,
        "diff",
        _diff,
        "two comparisons side by side: which words and numbers changed",
        """
Reads two results of `asi-pa compare --json` and shows what differs, the verdict's sentences first, then
words of the rule, cells, claims, curves and the numbers of every replay: what a change of the engine, of a
kernel's rules or of a design did. Version, command and options are told, and are no difference by themselves;
times by a clock are not compared.

The exit status is 0 if they are the same, 1 if they differ, 2 if one cannot be used.

Examples:
  asi-pa compare redis --json a.json; asi-pa compare redis --kernel 7.2 --json b.json
  asi-pa diff a.json b.json
  asi-pa diff before.json after.json --full
  asi-pa diff before.json after.json --json changed.json && echo nothing changed
""",
    )
    parser.add_argument("a", metavar="A", help="a result of asi-pa compare --json")
    parser.add_argument("b", metavar="B", help="another")
    parser.add_argument(
        "--full", action="store_true", help="all that differs, not the first dozen of each kind"
    )
    parser.add_argument("--json", metavar="FILE", type=output, help="write everything there instead of text")


def _diff(args: argparse.Namespace) -> int:
    from asi_pa.report import read_json
    from asi_pa.report.differences import differences, differences_text

    found = differences(read_json(args.a), read_json(args.b))
    if args.json:
        write_json(args.json, found)
    else:
        sys.stdout.write(differences_text(found, (args.a, args.b), full=args.full))
    return GOOD if found["same"] else FAILED
