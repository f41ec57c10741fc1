"""``asi-pa compare``: traces through designs, and which of two is better on what."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from asi_pa.commands.options import (
    TRACE_HELP,
    Verbs,
    add_classifier,
    add_designs_options,
    add_max_memory,
    add_no_cache,
    add_nodes,
    add_verb,
    count,
    joined_pieces,
    listed,
    output,
    whole,
)
from asi_pa.errors import FAILED, GOOD, say_error
from asi_pa.progress import Progress
from asi_pa.report.formats import FORMATS, ready

__all__ = ["add_compare"]


def add_compare(verbs: Verbs[Any]) -> None:
    parser = add_verb(
        verbs,
        "compare",
        _compare,
        "which of two designs is better on what, on one screen",
        """
Replays the same allocations through every design and answers on one screen which of two designs is better
on what: large leaves and page tables of the restricted map, mixed pageblocks, TLB flushes, the memory that
requests need which must succeed, the share of the others that is declined, the yield of a fragmented
machine, holes that the auditor found. 16 seeds draw the machine that is smaller than the recorded one; a
word is said where 14 of them agree (docs/use/method.md). Everybody else has a line below.

A design with more pcp types than Linux (migratetype) has higher watermarks, as khugepaged asks for pageblocks
by their number; migratetype:khugepaged_mended=yes shows it without that side effect.

Without a trace: the bundled ones. Without a design: migratetype against the pool. With one: against linux;
with more: the first two against each other. What was computed is kept in the user's cache folder, so that a
second look is instant and a stopped run goes on.

Examples:
  asi-pa compare
  asi-pa compare --mail
  asi-pa compare redis --html redis.html --json redis.json
  asi-pa compare workload.trace --designs freetype,migratetype
  asi-pa compare net --classifier share=0.3 --seed 7 --quiet
  asi-pa compare redis --memory 2G,900M --designs linux,migratetype --full
  asi-pa compare stress:2G:1 --quick --design migratetype:zeroing=dirty
  asi-pa compare redis --no-relief
  asi-pa compare redis --nodes 2
  asi-pa compare net --memory 600M --classifiers rfc rfc,skb=sensitive share=0.5
""",
    )
    parser.add_argument("traces", metavar="TRACE", nargs="*", help=TRACE_HELP)
    add_designs_options(parser)
    add_classifier(parser)
    add_max_memory(parser)
    parser.add_argument(
        "--classifiers",
        metavar="RULES",
        nargs="+",
        help="several: a table of how failures, flips and flushes depend on what is nonsensitive, with one "
        "seed, instead of the comparison",
    )
    parser.add_argument(
        "--kernel", metavar="VERSION", help="whose rules: 7.3, 7.2, 6.18, 6.12 (the trace's own)"
    )
    _add_method(parser)
    _add_output(parser)


def _add_method(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how it is compared")
    group.add_argument("--seeds", metavar="N", type=count, default=16, help="how many (16)")
    group.add_argument("--seed", metavar="N", type=whole, default=0, help="the first of them (0)")
    group.add_argument(
        "--quick", action="store_true", help="one seed, two sizes of memory, no words: for a first look"
    )
    group.add_argument(
        "--memory",
        metavar="SIZE,...",
        type=listed,
        action="extend",
        help="replay these sizes, without a search: 768M, 4G, ..., ample (as recorded), 1.05x (so many times "
        "what linux needs, found for each trace and seed); repeatable",
    )
    add_nodes(group)
    group.add_argument(
        "--reclaim",
        metavar="SIZE",
        help="page cache that reclaim may free when memory is short (the recorded machine's own file pages)",
    )
    group.add_argument(
        "--compaction",
        action="store_true",
        help="requests that may block compact (they do unless told not to)",
    )
    group.add_argument(
        "--no-relief", action="store_true", help="the bare allocator: nothing is reclaimed or compacted"
    )
    group.add_argument(
        "--fresh",
        action="store_true",
        help="yields and holes of these designs now, not as stored with this version (minutes)",
    )
    group.add_argument(
        "--no-fallbacks",
        action="store_true",
        help="where a try of a known caller fails, do not replay the pages it would ask for instead",
    )
    add_no_cache(group)


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is shown")
    group.add_argument(
        "--full", action="store_true", help="every table of every run, and the claims' figures"
    )
    group.add_argument("--mail", action="store_true", help="72 columns of plain ASCII, ready to paste")
    group.add_argument("--quiet", action="store_true", help="verdict and claims alone, no progress")
    group.add_argument(
        "--costs",
        metavar="FILE",
        help="add modelled time by a table of costs; 'default' is the one that comes along",
    )
    group.add_argument("--samples", metavar="N", type=count, default=200, help="points of a series (200)")
    for form in FORMATS:
        group.add_argument(f"--{form.NAME}", metavar="FILE", type=output, help=form.HELP)


def _compare(args: argparse.Namespace) -> int:
    written = [(form, path) for form in FORMATS if (path := getattr(args, form.NAME))]
    for form, _ in written:
        ready(form)
    if args.no_relief and (args.reclaim is not None or args.compaction):
        raise ValueError("--no-relief leaves no room for --reclaim and --compaction")
    if args.quick and args.memory:
        raise ValueError("--quick chooses its sizes; --memory names others")
    if args.memory and "tight" in args.memory:
        raise ValueError("--memory tight is gone: without a size the memory that linux needs is searched")

    from asi_pa.experiment.cache import Cache, cache_folder
    from asi_pa.experiment.comparison import compare
    from asi_pa.trace import bundled_traces

    if args.classifiers:
        return _by_classifier(args)
    costs = None
    if args.costs is not None:
        from asi_pa.experiment.costs import load_costs

        costs = load_costs(None if args.costs == "default" else args.costs)
    cache = Cache(None if args.no_cache else cache_folder())
    try:
        with Progress(args.quiet) as progress:
            result = compare(
                joined_pieces(args.traces) or list(bundled_traces()),
                args.designs,
                classifier=args.classifier,
                seeds=args.seeds,
                quick=args.quick,
                samples=args.samples if written else 2,
                command=args.command_line,
                progress=progress,
                cache=cache,
                **_how(args),
            )
            _add_stored(result, args, progress)
    finally:
        cache.close()
    if costs is not None:
        from asi_pa.report import add_modelled_time

        add_modelled_time(result, costs)
    for form, path in written:
        form.write(result, path)
    sys.stdout.write(_text(result, args))
    if written and not args.quiet:
        print("\n".join(f"{form.NAME}: {path}" for form, path in written))
    return _broken(result)


def _add_stored(result: dict[str, Any], args: argparse.Namespace, progress: Progress) -> None:
    """Yields and holes, as stored or computed now."""
    from asi_pa.designs import as_design
    from asi_pa.experiment import stored

    designs = [as_design(word) for word in args.designs or ()]
    names = [design["design"] for design in result["runs"][0]["designs"]]
    kept = None
    if args.fresh:
        asked = designs or [as_design(name) for name in result["protagonists"]]
        kept = stored.fresh(asked, progress)
    result["stored"] = stored.stored(names, kept)


def _text(result: dict[str, Any], args: argparse.Namespace) -> str:
    from asi_pa.report import render_mail, render_screen, render_terminal

    if args.mail:
        return render_mail(result)
    text = render_screen(result, quiet=args.quiet)
    if args.full and not args.quiet:
        text += "\n" + render_terminal(result)
    elif "costs" in result:
        from asi_pa.report.modelled_time import modelled_terminal

        text += "\n" + modelled_terminal(result, 78) + "\n"
    return text


def _how(args: argparse.Namespace) -> dict[str, Any]:
    """What a comparison is made of besides traces, designs and classifiers."""
    from asi_pa.kernel.sizing import parse_size

    reclaim = 0 if args.no_relief else None
    if args.reclaim is not None:
        reclaim = parse_size(args.reclaim)
    return {
        "memory": args.memory or (),
        "seed": args.seed,
        "nodes": args.nodes,
        "kernel": args.kernel,
        "reclaim": reclaim,
        "compaction": not args.no_relief,
        "fallbacks": not args.no_fallbacks,
    }


def _by_classifier(args: argparse.Namespace) -> int:
    """The table of --classifiers."""
    from asi_pa.experiment.classifiers import by_classifier
    from asi_pa.report.classifiers import classifiers_text
    from asi_pa.trace import bundled_traces

    others = [form.NAME for form in FORMATS if getattr(args, form.NAME)]
    others += ["costs"] * (args.costs is not None) + ["classifier"] * (args.classifier != "rfc")
    if others:
        raise ValueError(f"--classifiers prints a table of its own: not together with --{others[0]}")
    with Progress(args.quiet) as progress:
        rows = by_classifier(
            args.traces or list(bundled_traces()),
            args.designs,
            args.classifiers,
            samples=2,
            seeds=1,
            quick=not args.memory,
            progress=progress,
            **_how(args),
        )
    sys.stdout.write(classifiers_text(rows))
    broken = [row for row in rows if row.verify != "ok"]
    for row in broken:
        say_error(f"{row.run}, {row.design}, {row.classifier}: {row.verify}")
    return FAILED if broken else GOOD


def _broken(result: dict[str, Any]) -> int:
    """FAILED, and a line for each, if a replay ended in a state that contradicts itself."""
    status = GOOD
    for run in result["runs"]:
        for design in run["designs"]:
            if design["verify"] != "ok":
                say_error(f"{run['trace']}, {run['memory']}, {design['design']}: {design['verify']}")
                status = FAILED
    return status
