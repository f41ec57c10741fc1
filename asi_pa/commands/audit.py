"""``asi-pa audit``: can a design ever break its promise, and by what shortest sequence?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from asi_pa.commands.options import Verbs, add_verb, check_writable, count, listed, whole, write_json
from asi_pa.progress import Progress

__all__ = ["add_audit"]


def add_audit(verbs: Verbs[Any]) -> None:
    """The verb audit."""
    parser = add_verb(
        verbs,
        "audit",
        _audit,
        "search a design for sequences that break its promise",
        """
Explores every sequence of requests, frees, drains, isolations and contiguous ranges on small machines,
breadth first and then at random, and checks after every step that nothing protected is mapped, nothing
else is missing, and nothing is lost. For each broken invariant and mechanism it shows one shortest
sequence. The exit status is 1 if something was found, 0 with the depth and the number of states if not.

Examples:
  asi-pa audit migratetype/as-posted
  asi-pa audit migratetype --depth 6 --json audit.json
  asi-pa audit my.py:MINE --seconds 30 --scripts counterexamples
""",
    )
    parser.add_argument("design", metavar="DESIGN", help="a name, NAME:FIELD=VALUE,... or FILE.py:NAME")
    parser.add_argument(
        "--depth", metavar="N", type=count, help="operations at most (as deep as time allows)"
    )
    parser.add_argument("--states", metavar="N", type=whole, help="states at most, a machine")
    parser.add_argument("--seconds", metavar="S", type=float, help="time for all searches together (90)")
    parser.add_argument("--seed", metavar="N", type=whole, default=0, help="of the random walk (0)")
    parser.add_argument(
        "--no-liveness",
        action="store_true",
        help="leave out requests that fail beside memory a flip could give",
    )
    parser.add_argument("--only", metavar="NAME,...", type=listed, default=[], help="these machines only")
    parser.add_argument("--json", metavar="FILE", help="write the findings there too")
    parser.add_argument(
        "--scripts", metavar="DIR", help="write each sequence there as a Python script that shows it"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")


def _audit(args: argparse.Namespace) -> int:
    from asi_pa.audit import DEFAULT_SECONDS, audit

    if args.json:
        check_writable(args.json)
    with Progress(args.quiet) as progress:
        result = audit(
            args.design,
            depth=args.depth,
            states=args.states,
            seconds=DEFAULT_SECONDS if args.seconds is None else args.seconds,
            seed=args.seed,
            liveness=not args.no_liveness,
            progress=progress,
            only=args.only,
        )
    print(result.text())
    if args.json:
        write_json(args.json, result.as_dict())
    if args.scripts:
        folder = Path(args.scripts)
        folder.mkdir(parents=True, exist_ok=True)
        for number, finding in enumerate([*result.findings, *result.liveness], 1):
            (folder / f"{number:02}-{finding.invariant}.py").write_text(finding.script(), encoding="utf-8")
    return result.status
