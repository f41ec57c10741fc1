"""``asi-pa oracle``: a real kernel built with the driver, recorded, and held against the engine."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asi_pa
from asi_pa.commands.options import Verbs, add_verb, count, output, positive, whole, write_json
from asi_pa.errors import FAILED, GOOD, UNUSABLE, say_error
from asi_pa.progress import Progress

if TYPE_CHECKING:
    from oracle.sets import Recipe
    from oracle.source import Source

__all__ = ["add_oracle"]

HELP = {
    "build": (
        "configure and compile a kernel with the driver",
        """
Copies the kernel aside, adds the driver (lines inserted at named functions; the tree that you name is not
touched), configures it (tinyconfig and a fragment) and compiles it. What is missing on this machine is named
beforehand, by package. An interrupted build goes on.

KERNEL is a tree, a linux-source tarball (Debian: /usr/src/linux-source-7.2.tar.xz), or the package itself.

Examples:
  asi-pa oracle build ~/linux
  asi-pa oracle build /usr/src/linux-source-7.2.tar.xz --jobs 8
""",
    ),
    "record": (
        "record sets on that kernel under QEMU and verify them",
        """
Builds the kernel where it is not built yet, boots it under QEMU once a set (no KVM is needed; a few seconds
each), writes what it answered as a recorded run, and replays that through the engine: "N of N exact". Sets
that were recorded already are verified again and not recorded again. Without SET: the core sets; a SET is a
name (D5-1), a name without a seed (D5) or a shell pattern ('C*').

Examples:
  asi-pa oracle record ~/linux
  asi-pa oracle record linux-source-7.3_7.3~rc7-1~exp1_all.deb 'D*' 'C*' --out recorded-7.3
  asi-pa oracle record ~/vendor-6.6 --rules 6.12
  asi-pa oracle record ~/linux-with-my-series --design mine.py:MINE
  asi-pa oracle record --list
""",
    ),
    "fuzz": (
        "random scripts through kernel and engine until a time is up",
        """
Draws machines and scripts (sizes, watermarks, CPUs, CMA, isolation, pcp limits, compaction), lets the kernel
and the engine answer them, and stops at the first difference, which is shrunk to the shortest script that
shows it and kept as a recorded run with `asi-pa verify --explain` beside it. Goes on where it was stopped.
The exit status is 1 if a difference was found.

Examples:
  asi-pa oracle fuzz ~/linux --minutes 480
  asi-pa oracle fuzz ~/linux --minutes 30 --seed 7 --json fuzz.json
""",
    ),
}


def add_oracle(verbs: Verbs[Any]) -> None:
    """The verb oracle and its three."""
    parser = add_verb(
        verbs,
        "oracle",
        _which,
        "build, record and fuzz a real kernel against the engine (from a checkout)",
        """
The way to make recorded runs, and to try the engine on your own kernel: `build` adds a driver to a copy of
the kernel, `record` boots it under QEMU and verifies what it answered, `fuzz` does so with random scripts.
Works from a checkout of the project. docs/evidence.md says what was recorded so and what is not covered.

Examples:
  asi-pa oracle build ~/linux
  asi-pa oracle record ~/linux
  asi-pa oracle fuzz ~/linux --minutes 480
""",
    )
    parser.set_defaults(parser=parser)
    below = parser.add_subparsers(metavar="build|record|fuzz", parser_class=type(parser))
    for name, run in (("build", _build), ("record", _record), ("fuzz", _fuzz)):
        _options(add_verb(below, name, run, *HELP[name]), name)


def _options(parser: argparse.ArgumentParser, name: str) -> None:
    optional = {"nargs": "?"} if name == "record" else {}
    parser.add_argument("kernel", metavar="KERNEL", help="a tree, tarball or package", **optional)  # type: ignore[arg-type]
    if name == "record":
        parser.add_argument("sets", metavar="SET", nargs="*", help="which sets (default: the core ones)")
        parser.add_argument("--list", action="store_true", help="list the sets, and do nothing else")
        parser.add_argument(
            "--design",
            metavar="FILE.py:NAME",
            help="the design that the kernel has (mm/oracle_design.h in its tree): the X sets, with its log",
        )
        parser.add_argument("--out", metavar="DIR", help="where recorded runs go (default: the work folder)")
    if name == "fuzz":
        parser.add_argument(
            "--minutes",
            metavar="N",
            type=positive(1e6, "a number of minutes"),
            default=10.0,
            help="for how long (10)",
        )
        parser.add_argument("--seed", metavar="N", type=whole, default=1, help="which scripts are drawn (1)")
        parser.add_argument(
            "--differences", metavar="N", type=count, default=1, help="stop after so many differences (1)"
        )
    if name != "build":
        parser.add_argument(
            "--rules", metavar="VERSION", default="", help="compare with the rules of another version"
        )
    parser.add_argument(
        "--work",
        metavar="DIR",
        default=os.environ.get("ASI_PA_ORACLE", "build/oracle"),
        help="the work folder (build/oracle, or what ASI_PA_ORACLE names); a kernel takes 2 GB",
    )
    parser.add_argument("--jobs", metavar="N", type=count, default=0, help="compile with so many (one a CPU)")
    parser.add_argument("--json", metavar="FILE", type=output, help="write what was found there too")


def _which(args: argparse.Namespace) -> int:
    args.parser.print_help(sys.stderr)
    return UNUSABLE


def _checkout() -> None:
    """ValueError unless the package stands in a checkout, whose folder ``oracle`` does the work."""
    root = Path(asi_pa.__file__).resolve().parent.parent
    if not (root / "oracle" / "driver" / "oracle_run.c").exists():
        raise ValueError("asi-pa oracle works from a checkout of the project: the driver is not installed")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))


def _say(words: str) -> None:
    print(words, flush=True)


def _built(args: argparse.Namespace) -> Source:
    from oracle import needs
    from oracle.build import build_kernel

    if args.run is not _build:
        needs.check(needs.FOR_BUILDING + needs.FOR_RECORDING)
        _rules(args)
    with Progress() as progress:
        return build_kernel(args.kernel, Path(args.work), jobs=args.jobs, say=_say, progress=progress)


def _rules(args: argparse.Namespace) -> None:
    """ValueError, before anything is built, for rules or a design that the engine has not."""
    from asi_pa.designs import as_design
    from asi_pa.kernel.versions import kernel_profile

    if args.rules:
        kernel_profile(args.rules)
    if getattr(args, "design", None):
        as_design(args.design)


def _build(args: argparse.Namespace) -> int:
    _checkout()
    source = _built(args)
    print(f"{source.image}: Linux {source.version} with the driver")
    if args.json:
        write_json(args.json, {"kernel": source.version, "image": str(source.image)})
    return GOOD


def _record(args: argparse.Namespace) -> int:
    _checkout()
    if args.list:
        return _list()
    if args.kernel is None:
        raise ValueError("record needs a KERNEL: a tree, a tarball or a package (--list needs none)")
    source = _built(args)
    chosen = _chosen(args, source)
    out = Path(args.out) if args.out else source.work / "recorded"
    out.mkdir(parents=True, exist_ok=True)
    found = [_one(source, recipe, out, args) for recipe in chosen]
    exact = sum(bool(entry["exact"]) for entry in found)
    ops = sum(int(entry["ops"]) for entry in found)
    print(f"{exact} of {len(found)} exact on Linux {source.version} ({ops} operations): {out}")
    if args.json:
        write_json(args.json, {"kernel": source.version, "sets": found})
    if any(entry["failure"] for entry in found):
        return UNUSABLE
    return GOOD if exact == len(found) else FAILED


def _chosen(args: argparse.Namespace, source: Source) -> list[Recipe]:
    """The sets that are asked for, those of a kernel with a design or those of one without."""
    if args.design:
        from oracle.design_sets import choose_for_design

        if not source.design:
            raise ValueError(
                f"{args.kernel}: a kernel with a design brings mm/oracle_design.h (docs/evidence.md)"
            )
        return choose_for_design(args.sets)
    if source.design:
        raise ValueError(
            f"{args.kernel}: has a design (mm/oracle_design.h): say which with --design FILE.py:NAME"
        )
    from oracle.sets import choose

    return choose(args.sets, defrag_mode=source.defrag_mode)


def _list() -> int:
    from oracle.design_sets import design_recipes
    from oracle.sets import CORE, recipes

    for recipe in [*recipes(), *design_recipes()]:
        core = "core" if recipe.name in CORE else ""
        print(f"{recipe.name:8} {core:5} {recipe.setup.zone_kib / 1024:6.0f} MiB  {recipe.description}")
    return GOOD


def _one(source: Source, recipe: Recipe, out: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Records a set where it is not there yet, and verifies it."""
    from asi_pa.designs import as_design
    from asi_pa.verify import verify_file
    from oracle.qemu import KernelError
    from oracle.recorded import record, save

    path = out / f"{recipe.name}.npz"
    entry: dict[str, Any] = {"set": recipe.name, "exact": False, "ops": 0, "difference": "", "failure": ""}
    try:
        if not path.exists():
            kernel = args.rules or source.version
            kernel += f" + {args.design.rpartition(':')[2]}" if args.design else ""
            save(path, record(source.image, recipe.script(), kernel))
        verdict = verify_file(path, as_design(args.design) if args.design else None)
    except KernelError as error:
        path.with_suffix(".log").write_text(error.log)
        entry["failure"] = str(error)
    except ValueError as error:
        entry["failure"] = str(error)
    else:
        entry.update(
            exact=verdict.exact,
            ops=verdict.ops,
            difference=verdict.difference,
            dumps=verdict.dumps,
            at=verdict.at,
        )
        words = verdict.difference and f"; {verdict.difference} (asi-pa verify --explain {verdict.at} {path})"
        print(
            f"{recipe.name}: operations {verdict.ops_exact} of {verdict.ops} exact, "
            f"dumps {verdict.dumps_exact} of {verdict.dumps} exact{words}",
            flush=True,
        )
    if entry["failure"]:
        say_error(f"{recipe.name}: {entry['failure']}")
    return entry


def _fuzz(args: argparse.Namespace) -> int:
    _checkout()
    source = _built(args)
    from asi_pa.kernel.versions import kernel_profile
    from oracle.fuzz import fuzz

    kernel_profile(args.rules or source.version)
    with Progress() as progress:
        tally, found = fuzz(
            source,
            seconds=60 * args.minutes,
            seed=args.seed,
            rules=args.rules,
            most=args.differences,
            say=_say,
            progress=progress,
        )
    print(
        f"Linux {tally.kernel}, seed {tally.seed}: {tally.operations} operations of {tally.scripts} "
        f"scripts alike ({tally.dumps} dumps, {tally.compactions} compactions), "
        f"{len(tally.differences)} differences, {len(tally.failures)} complaints of the kernel"
    )
    _tell(found)
    if args.json:
        write_json(args.json, {**asdict(tally), "found": [str(path) for path in found]})
    return FAILED if found else GOOD


def _tell(found: Sequence[Path]) -> None:
    for path in found:
        print(f"{path}: {path.with_suffix('.txt').read_text().splitlines()[0]}")
