"""``asi-pa audit``: can a design ever break its promise, and by what shortest sequence?"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asi_pa.commands.options import Verbs, add_executor, add_verb, count, listed, output, whole, write_json
from asi_pa.progress import Progress

if TYPE_CHECKING:
    from asi_pa.audit import AuditResult

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
Several designs, or --all built-in ones, make a table, a line for each; the limits hold for each. The work
is shared out over all processors, and comes out the same on any number of them.

Examples:
  asi-pa audit migratetype/as-posted
  asi-pa audit migratetype --depth 6 --json audit.json
  asi-pa audit my.py:MINE --operations 20000000 --scripts counterexamples
  asi-pa audit --all
""",
    )
    parser.add_argument(
        "designs", metavar="DESIGN", nargs="*", help="a name, NAME:FIELD=VALUE,... or FILE.py:NAME"
    )
    parser.add_argument("--all", action="store_true", help="every built-in design that protects something")
    parser.add_argument(
        "--depth", metavar="N", type=count, help="longest sequence, in operations (as the other limits allow)"
    )
    parser.add_argument("--states", metavar="N", type=whole, help="states at most, a machine")
    parser.add_argument(
        "--operations", metavar="N", type=count, help="carried out and checked, a design (150,000,000)"
    )
    parser.add_argument(
        "--seconds",
        metavar="S",
        type=float,
        help="of processor time, a design, instead: how far that comes depends on the machine",
    )
    parser.add_argument(
        "--jobs", metavar="N", type=count, help="threads (as many as there are processors): the same result"
    )
    add_executor(parser, None, "threads of this process")
    parser.add_argument("--seed", metavar="N", type=whole, default=0, help="of the random walk (0)")
    parser.add_argument(
        "--no-liveness",
        action="store_true",
        help="leave out requests that fail beside memory a flip could give",
    )
    parser.add_argument("--only", metavar="NAME,...", type=listed, default=[], help="these machines only")
    parser.add_argument("--json", metavar="FILE", type=output, help="write the findings there too")
    parser.add_argument(
        "--scripts",
        metavar="DIR",
        help="write each sequence there as a Python script that shows it (several designs: a directory each)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")


def _audit(args: argparse.Namespace) -> int:
    from asi_pa.audit import audit_table, audits
    from asi_pa.designs import DESIGNS, as_design

    words = list(args.designs)
    if args.all:
        words += [name for name, design in DESIGNS.items() if name == design.name and design.protects]
    if not words:
        raise ValueError("audit: no design named (asi-pa designs lists them; --all takes every one)")
    chosen = [as_design(word) for word in words]
    for design in chosen:
        if not design.protects:
            raise ValueError(f"design {design.name!r} protects nothing, there is nothing to audit")
    if args.scripts:
        Path(args.scripts).mkdir(parents=True, exist_ok=True)
    so_far: list[AuditResult] = []

    def each(result: AuditResult) -> None:
        so_far.append(result)
        if len(words) > 1 and not args.quiet:
            print(audit_table(so_far).splitlines()[-1], file=sys.stderr, flush=True)

    with Progress(args.quiet) as progress:
        results = audits(
            words,
            depth=args.depth,
            states=args.states,
            operations=args.operations,
            seconds=args.seconds,
            seed=args.seed,
            liveness=not args.no_liveness,
            progress=progress,
            only=args.only,
            jobs=args.jobs,
            executor=args.executor,
            each=each,
        )
    print(results[0].text() if len(results) == 1 else audit_table(results))
    if args.json:
        made = [result.as_dict() for result in results]
        write_json(args.json, made[0] if len(made) == 1 else {"schema": "asi_pa.audits/1", "audits": made})
    if args.scripts:
        for result in results:
            folder = Path(args.scripts)
            _write_scripts(folder if len(results) == 1 else folder / _file_name(result.design_word), result)
    return max(result.status for result in results)


def _file_name(word: str) -> str:
    return re.sub(r"[^\w.=-]+", "-", word)


def _write_scripts(folder: Path, result: AuditResult) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, finding in enumerate([*result.findings, *result.liveness], 1):
        (folder / f"{number:02}-{finding.invariant}.py").write_text(finding.script(), encoding="utf-8")
