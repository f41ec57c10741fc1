"""Instructions per pair of allocation and free of order 0 in bursts of 64, counted by callgrind.

``python -m benchmarks.instructions pcp`` runs the pairs; `count` runs that under valgrind.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from asi_pa._replay import Replay

from .bench_pairs import pairs
from .harness import zone_machine
from .limit import Limit
from .streams import CLASSES

__all__ = ["count"]

PAIRS = 1 << 12
BURST = 64
#: The functions that replay operations, as callgrind names them.
LOOPS = ("*run_ops", "__pyx_pf*Limit_*run")


def run(what: str) -> None:
    """The pairs twice: once to warm the lists up."""
    ops = pairs(0, BURST, PAIRS)
    pages = 1 << 16
    state = (
        Limit(pages, BURST)
        if what == "limit"
        else Replay(zone_machine(pages, pcp=what == "pcp"), CLASSES, BURST)
    )
    state.run(ops)
    state.run(ops)


def count(what: str) -> float | None:
    """Instructions per pair of ``what`` ("pcp", "buddy", "limit"); None without valgrind."""
    if shutil.which("valgrind") is None:
        return None
    root = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "out"
        toggles = [f"--toggle-collect={name}" for name in LOOPS]
        subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--collect-atstart=no", *toggles,
             sys.executable, "-m", "benchmarks.instructions", what],
            check=True, capture_output=True, cwd=root, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        found = re.search(r"^totals: (\d+)", out.read_text(), re.M)
    return int(found[1]) / (2 * PAIRS) if found and int(found[1]) > PAIRS else None


if __name__ == "__main__":
    run(sys.argv[1])
