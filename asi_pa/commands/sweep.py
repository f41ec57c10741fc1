"""``asi-pa sweep``: many traces, designs, sizes, classifiers and seeds, on one machine or many."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from asi_pa.commands.options import Verbs, add_executor, add_max_memory, add_verb, output, write_json
from asi_pa.errors import FAILED, GOOD, say_error
from asi_pa.progress import Progress

__all__ = ["add_sweep"]


def add_sweep(verbs: Verbs[Any]) -> None:
    """The verb sweep."""
    parser = add_verb(
        verbs,
        "sweep",
        _sweep,
        "many traces, designs, sizes, classifiers and seeds; a folder of Parquet files",
        """
Replays every trace of a file through every design of it, on every size of memory, with every classifier and
seed, and keeps each point as soon as it is there: a sweep that was stopped, or killed, goes on where it was.
The folder's points/ is a Parquet data set (JSON lines without pyarrow), one row a point, with the columns of
docs/use/metrics.md; meta.json says where it comes from. Points that could not be computed are named, the exit
status is 1 then. docs/use/sweep.md has the keys of the file, which looks like this:

  traces = ["redis", "stress:2G"]
  designs = ["linux", "migratetype", "pool"]
  memory = ["ample", "1.05x", "1G"]
  seeds = 3

  [fields.migratetype]
  zeroing = ["locked", "flip"]

Examples:
  asi-pa sweep main.toml
  asi-pa sweep main.toml --folder results --executor processes:8
  asi-pa sweep main.toml --executor dask://head:8786
  mpiexec -n 64 python -m mpi4py.futures -m asi_pa sweep main.toml --executor mpi
  asi-pa sweep main.toml --dry-run
""",
    )
    parser.add_argument("file", metavar="FILE.toml", help="what is asked for")
    parser.add_argument("--folder", metavar="DIR", help="where points are kept (FILE without .toml)")
    add_executor(parser, "processes")
    parser.add_argument(
        "--retries", metavar="N", type=int, choices=range(17), default=2,
        help="how often a point is tried again whose worker died (2)",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="name the points that are lacking, and stop")
    parser.add_argument("--show", metavar="COLUMN,...", help="columns of the table that is printed")
    parser.add_argument("--json", metavar="FILE", type=output, help="write the rows there too")
    add_max_memory(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress and no table")


def _sweep(args: argparse.Namespace) -> int:
    from asi_pa.experiment.columns import COLUMNS
    from asi_pa.sweeps.plan import read_file
    from asi_pa.sweeps.run import carry_on
    from asi_pa.sweeps.store import Folder

    known = [column.name for column in COLUMNS]
    shown = args.show.split(",") if args.show else []
    for name in shown:
        if name not in known:
            from asi_pa.names import perhaps

            raise ValueError(f"--show: no column {name!r}{perhaps(name, known)} (docs/use/metrics.md)")
    asked = read_file(args.file)
    folder = Folder(args.folder or Path(args.file).with_suffix(""))
    if args.dry_run:
        return _dry(asked, folder)
    with Progress(args.quiet) as progress:
        found = carry_on(asked, folder, str(folder.path), args.executor, args.retries, progress)
    if not args.quiet:
        sys.stdout.write(found.summary(*shown).markdown())
        print(f"{len(found.records())} points: {folder.points}")
    if args.json:
        write_json(args.json, found.to_dict())
    for missing in found.missing:
        say_error(f"missing: {missing}")
    for broken in found.broken:
        say_error(broken)
    return FAILED if found.missing or found.broken else GOOD


def _dry(asked: Any, folder: Any) -> int:
    from asi_pa.sweeps.plan import points_of

    points = points_of(asked, folder.keep_trace)[1]
    there = folder.have()
    for point in points:
        if point.key not in there:
            print(point)
    print(f"{len(points)} points, {sum(point.key in there for point in points)} of them there")
    return GOOD
