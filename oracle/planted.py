"""Does the fuzzer find a fault?  A fault of tests/mutants.toml is planted in a copy of the engine.

    python -m oracle.planted KERNEL NAME [MINUTES]

The copy is built apart (as ``tests/mutants.py`` builds it); what is found goes to ``planted/NAME`` in the
kernel's folder, and the tally of the sound engine is left alone.  The exit status is 0 if the fault was
found.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def build_copy(name: str, tree: Path) -> None:
    """The package with the fault in it, and what the fuzzer needs beside it."""
    from tests import mutants

    mutant = next((mutant for mutant in mutants.read_mutants() if mutant.name == name), None)
    if mutant is None:
        raise ValueError(f"no fault is named {name!r}: python tests/mutants.py --list")
    mutants.BUILD.mkdir(parents=True, exist_ok=True)
    mutants.Builder(optimised=True).make(tree, mutant)
    os.symlink(ROOT / "oracle", tree / "oracle")


def fuzz_copy(kernel: str, work: str, place: str, minutes: float, seed: int) -> int:
    """In a process of its own, whose ``asi_pa`` is the copy."""
    from oracle.build import build_kernel
    from oracle.fuzz import fuzz

    source = build_kernel(kernel, Path(work))
    target = source.work / "planted" / place
    target.mkdir(parents=True, exist_ok=True)
    tally, found = fuzz(
        source, seconds=60 * minutes, seed=seed, place=target, say=lambda words: print(words, flush=True)
    )
    print(
        f"{place}: {tally.operations} operations alike, {'found: ' + str(found[0]) if found else 'not found'}"
    )
    return 0 if found else 1


def main(words: Sequence[str]) -> int:
    """The command; see the module's docstring."""
    if not 2 <= len(words) <= 3:
        print(__doc__, file=sys.stderr)
        return 2
    kernel, name = words[:2]
    minutes = float(words[2]) if len(words) > 2 else 10.0
    work = os.environ.get("ASI_PA_ORACLE", str(ROOT / "build" / "oracle"))
    with tempfile.TemporaryDirectory(prefix="asi-pa-planted-") as folder:
        tree = Path(folder)
        build_copy(name, tree)
        arguments = f"{kernel!r}, {work!r}, {name!r}, {minutes}, 1"
        call = f"from oracle.planted import fuzz_copy; exit(fuzz_copy({arguments}))"
        environment = {**os.environ, "PYTHONPATH": str(tree)}
        return subprocess.run([sys.executable, "-c", call], cwd=tree, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
