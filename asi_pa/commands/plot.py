"""``asi-pa plot``: a figure for a paper, drawn from results without running anything again."""

from __future__ import annotations

import argparse
from typing import Any

from asi_pa.commands.options import OutputPath, Verbs, add_verb, count, listed, output
from asi_pa.errors import GOOD

__all__ = ["add_plot"]


def add_plot(verbs: Verbs[Any]) -> None:
    """The verb plot."""
    parser = add_verb(
        verbs,
        "plot",
        _plot,
        "a figure for a paper, from results that are there",
        """
Draws one figure of results that an earlier command wrote, and runs nothing again. The suffix of the output
says what it is: .pdf, .svg or .png; the same results give the same bytes. A column is 3.4 inches wide, a
page 7. Colours are safe for colour-blind readers, and a design has the same in every figure. Without a name:
the figures, and the command that makes what each is drawn from (docs/use/gallery.md shows them).

RESULTS is a JSON file of `asi-pa compare`, `starvation`, `validate` or `benchmarks.targets`, or the folder
of an `asi-pa sweep`. Where it lacks what the figure needs, one line says which command makes it.

Examples:
  asi-pa plot
  asi-pa compare redis --json r.json && asi-pa plot price r.json -o price.pdf
  asi-pa plot pageblocks r.json -o blocks.svg --designs linux,migratetype --size page
  asi-pa plot failures sweep-folder -o failures.pdf --where classifier=rfc
  asi-pa plot speed docs/engine/performance.json -o speed.png
""",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="which figure (asi-pa plot lists them)")
    parser.add_argument("results", metavar="RESULTS", nargs="?", help="a JSON file, or the folder of a sweep")
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=_figure, help="figure to write: .pdf, .svg, .png"
    )
    parser.add_argument("--size", default="column", metavar="column|page", help="how wide it is (column)")
    parser.add_argument("--dpi", metavar="N", type=count, default=200, help="dots an inch of a .png (200)")
    parser.add_argument("--traces", metavar="NAME,...", type=listed, help="only these (all)")
    parser.add_argument("--designs", metavar="NAME,...", type=listed, help="only these (all)")
    parser.add_argument(
        "--memory",
        metavar="SIZE",
        help="which replay a figure over time shows: short, ample, 768M ... (short)",
    )
    parser.add_argument(
        "--where",
        metavar="COLUMN=VALUE",
        type=_where,
        action="append",
        default=[],
        help="only such rows of a sweep; repeatable",
    )


def _figure(text: str) -> OutputPath:
    from asi_pa.report.plots.style import SUFFIXES

    if not text.lower().endswith(SUFFIXES):
        raise argparse.ArgumentTypeError(f"{text}: a figure is written as {', '.join(SUFFIXES)}")
    return output(text)


def _where(text: str) -> tuple[str, str]:
    column, equals, value = text.partition("=")
    if not column or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not COLUMN=VALUE")
    return column, value


def _plot(args: argparse.Namespace) -> int:
    from asi_pa.report.plots import PLOTS, Choice, save, sheet
    from asi_pa.report.plots.style import needs_matplotlib

    if args.name is None:
        for plot in PLOTS.values():
            print(f"{plot.name:<11} {plot.help}\n{'':<11} {plot.command}")
        return GOOD
    if args.name not in PLOTS:
        raise ValueError(f"plot: no figure {args.name!r}: there are {', '.join(PLOTS)}")
    if args.results is None:
        raise ValueError(f"plot {args.name}: no results named; `{PLOTS[args.name].command}` makes some")
    if args.output is None:
        raise ValueError(f"plot {args.name}: no output named (-o figure.pdf)")
    needs_matplotlib()
    choice = Choice(args.traces, args.designs, args.memory, dict(args.where))
    save(sheet(args.name, args.results, size=args.size, choice=choice), args.output, dpi=args.dpi)
    return GOOD
