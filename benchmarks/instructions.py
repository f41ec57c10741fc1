"""Instructions an operation, counted by callgrind: pairs of order 0, streams, recorded traces.

``python -m benchmarks.instructions`` counts and prints them; one process runs them all under valgrind.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from asi_pa.run.replay import Replay

from .bench_pairs import pairs
from .harness import compiled_trace, filled_engine, filled_limit, trace_engine, trace_limit, zone_machine
from .limit import Limit
from .streams import CLASSES, Ops, stream

__all__ = ["count", "count_in", "run"]

PAIRS = 1 << 12
BURST = 64
#: Pages of a stream's zone, operations of a stream and of a trace: what valgrind runs in a minute.
PAGES, STREAM, TRACE = 1 << 18, 50_000, 100_000
#: The functions that replay operations, as callgrind names them.
LOOPS = ("*run_ops", "__pyx_pf*Limit_*run")
#: A function that nobody else calls: where it is called, a part of the count ends.
MARK = "getppid"


def cases() -> Iterator[tuple[str, str, Any, Ops]]:
    """What runs where: a name, a contender, its state, the operations to count."""
    pages = 1 << 16
    for name, burst in (("pair", BURST), ("ping-pong pair", 1)):
        ops = pairs(0, burst, PAIRS)
        for contender in ("limit", "buddy", "pcp"):
            machine = zone_machine(pages, pcp=contender == "pcp")
            state = Limit(pages, burst) if contender == "limit" else Replay(machine, CLASSES, burst)
            state.run(ops)  # warms the lists up
            yield name, contender, state, ops
    for name in ("a", "b", "c", "e"):
        made = stream(name, PAGES, STREAM)
        yield name, "limit", filled_limit(made), made.ops
        yield name, "array limit", filled_limit(made, arrays=True), made.ops
        yield name, "buddy", filled_engine(made, pcp=False), made.ops
        yield name, "pcp", filled_engine(made), made.ops
    for name in ("redis", "net"):
        compiled = compiled_trace(name)
        yield name, "limit", trace_limit(compiled), compiled.ops[:TRACE]
        yield name, "array limit", trace_limit(compiled, arrays=True), compiled.ops[:TRACE]
        for design in ("linux", "freetype/as-posted"):
            yield name, design, trace_engine(compiled, design), compiled.ops[:TRACE]


def run(what: Iterator[tuple[str, str, Any, Ops]]) -> None:
    """Every case, between two marks; prints its name and the number of its operations."""
    for name, contender, state, ops in what:
        print(name, contender, len(ops), sep="\t")
        os.getppid()
        state.run(ops)
        os.getppid()


def count_in(root: Path, module: str, *words: str) -> dict[tuple[str, str], float]:
    """Instructions an operation by name and contender, of ``python -m MODULE run WORDS`` in a folder."""
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "out"
        toggles = [f"--toggle-collect={name}" for name in LOOPS]
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--collect-atstart=no", *toggles,
             f"--dump-before={MARK}*", sys.executable, "-m", module, "run", *words],
            check=True, capture_output=True, text=True, cwd=root,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        found = {}
        for k, line in enumerate(done.stdout.splitlines()):
            name, contender, operations = line.split("\t")
            part = out.with_suffix(f".{2 * k + 2}").read_text()
            total = re.search(r"^totals: (\d+)", part, re.M)
            assert total, f"callgrind counted nothing for {name}, {contender}"
            found[name, contender] = int(total[1]) / int(operations)
    return found


@cache
def count() -> dict[tuple[str, str], float]:
    """Instructions an operation by name and contender; empty without valgrind."""
    if shutil.which("valgrind") is None:
        return {}
    return count_in(Path(__file__).resolve().parent.parent, "benchmarks.instructions")


if __name__ == "__main__":
    if sys.argv[1:] == ["run"]:
        run(cases())
    else:
        for (name, contender), instructions in count().items():
            print(f"{name:14} {contender:20} {instructions:8.1f}")
