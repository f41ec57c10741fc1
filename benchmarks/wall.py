"""What a user waits for: every wall-time target of docs/engine/performance.md from one command.

``python -m benchmarks.wall [--full]`` prints the rows of the table; ``--full`` adds the default comparison
(16 seeds) and the auditor over all designs (some five minutes), and writes the table.  Commands run in
processes of their own with an empty cache folder, then again with what they left there.  Beside the wall
time stands the processor time, which a busy machine changes less.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from asi_pa.designs import as_design
from asi_pa.experiment.runs import build
from asi_pa.experiment.study import Subject
from asi_pa.run.replay import Replay
from asi_pa.run.settle import settled
from asi_pa.trace import Classifier, CompiledTrace, Starts, Trace, load_trace

from . import page
from .auditing import efficiency
from .targets import Row, line, row, write_table

#: MiB that linux needs on the bundled traces, about.
NEEDED = {"net": 612, "redis": 856}
_PAGES = 256
MARKS = ("<!-- waited for: begin -->", "<!-- waited for: end -->")
#: The designs that there were at 4b14e43, when all of them took 21 minutes.
AUDITED = (
    "per-page", "rfcv2-queue/as-posted", "rfcv2-queue/sound", "migratetype/as-posted", "migratetype/sound",
    "migratetype/eager", "freetype/as-posted", "freetype/as-posted-flags", "freetype/sound",
    "unmapped/v2", "unmapped/v4", "unmapped/symmetric", "pool/sound", "pool/nonsensitive",
)  # fmt: skip


def command(verb: str, arguments: Sequence[str], cache: Path) -> tuple[float, float]:
    """Wall and processor seconds of ``asi-pa VERB``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "asi_pa", verb, "--quiet", *arguments],
        check=verb == "compare",  # the auditor's status says what it found
        stdout=subprocess.DEVNULL,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
    )
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def comparisons(full: bool) -> Iterator[Row]:
    """Cold and again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written = ["--html", str(folder / "page.html"), "--json", str(folder / "result.json")]
        asked: list[tuple[str, list[str], float, float]] = [
            ("compare --quick", ["--quick"], 2.5, 1.5),
            ("compare --quick --html --json", ["--quick", *written], 4.0, 4.0),
        ]
        if full:
            asked.append(("compare, 16 seeds", [], 15.0, 1.5))
        for number, (what, arguments, cold, again) in enumerate(asked):
            cache = folder / str(number)
            for when, target in (("cold", cold), ("again", again)):
                wall, used = command("compare", arguments, cache)
                yield row(f"{what}, {when}, s", wall, target, f"{used:.1f} s of processors")
        yield row("the page, MB", (folder / "page.html").stat().st_size / 1e6, 2.5)
        try:
            seen = page.measure(folder / "page.html", 3)
        except FileNotFoundError as error:
            print(error)
            return
        note = f"{seen['used'] / 1000:.1f} s of its thread"
        yield row("the page, its first screen, s", seen["first"] / 1000, 0.5)
        yield row("the page, a run's figures in view, s", seen["drawn"] / 1000, 1.5, note)


def auditor() -> Iterator[Row]:
    """All designs that there were, and what a second job costs."""
    with tempfile.TemporaryDirectory() as name:
        wall, used = command("audit", AUDITED, Path(name))
    yield row("audit of the 14 designs of 4b14e43, minutes", wall / 60, 10.0, f"{used:.0f} s of processors")
    *_, (jobs, seconds, share) = efficiency((1, 2))
    yield row(f"audit, efficiency of {jobs} jobs", share, -0.85, f"{seconds:.1f} s of processors")


def thread_ms(run: Callable[[], Any]) -> float:
    began = time.thread_time()
    run()
    return 1000 * (time.thread_time() - began)


def middle(run: Callable[[int], Any], rounds: int = 7) -> float:
    return statistics.median(thread_ms(partial(run, k)) for k in range(rounds))


def started(compiled: CompiledTrace, seed: int) -> Replay:
    """A machine of design linux in a start state, ready to run."""
    return build(compiled, as_design("linux"), reclaim=None, compaction=True, seed=seed)[1]


def replay_of(runs: list[Replay], compiled: CompiledTrace, number: int) -> None:
    runs[number].run(compiled.ops)


def compile_all(trace: Trace, _: int) -> None:
    """Operations and both machines, settled."""
    starts = Starts(trace, Classifier.parse("rfc", 0), settle=settled)
    starts.at(None, 0)
    starts.recorded()


def parts() -> Iterator[Row]:
    """A start state and the compile of a trace, against a linux replay of it."""
    for name, needed in NEEDED.items():
        trace = load_trace(name)
        subject = Subject.of(trace, "rfc", 0)
        pages = needed * _PAGES
        subject.starts.at(pages, 0)
        cut = middle(partial(subject.starts.at, pages))
        compiled = subject.starts.at(pages, 1)
        built = middle(partial(started, compiled))
        runs = [started(compiled, 1) for _ in range(7)]
        replayed = middle(partial(replay_of, runs, compiled))
        note = (
            f"cut {cut:.1f}, loaded {built:.1f}, replayed {replayed:.1f} ms; every design loads the same cut"
        )
        yield row(f"{name}: cutting a start state, against its replay", cut / replayed, 0.2, note)
        yield row(f"{name}: loading it into a machine, against its replay", built / replayed, 0.2)
        spent = middle(partial(compile_all, trace), 3)
        note = f"{spent:.0f} ms; both machines, settled"
        yield row(f"{name}: compile, all of it, against its replay", spent / replayed, 5.0, note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--full", action="store_true", help="more, and write the table")
    options = parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.1f}, processors: {len(os.sched_getaffinity(0))}")
    rows = []
    for part in (parts(), comparisons(options.full), *([auditor()] if options.full else [])):
        for one in part:
            rows.append(one)
            print(line(one), flush=True)
    if options.full:
        write_table(rows, MARKS)


if __name__ == "__main__":
    main()
