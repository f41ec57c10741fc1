"""Random scripts through a kernel and the engine, side by side, until a time is up.

Everything found is kept in the kernel's folder: how many operations were compared (``fuzz.json``), and each
difference as a recorded run of the shortest script that shows it, with the state around it.  A fuzzing that
is started again goes on with the next script.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any

from asi_pa.files import write_atomic
from oracle.compare import Compared, compare
from oracle.qemu import KernelError
from oracle.random_script import random_script
from oracle.recorded import save
from oracle.script import Script
from oracle.shrink import by_rows, shortest
from oracle.source import Source

__all__ = ["Tally", "fuzz", "keep", "read_tally"]


@dataclass
class Tally:
    """What fuzzing of one kernel and seed has come to."""

    kernel: str
    seed: int
    next: int = 0
    """The number of the next script."""
    scripts: int = 0
    operations: int = 0
    """Operations that kernel and engine answered alike."""
    dumps: int = 0
    compactions: int = 0
    events: int = 0
    differences: list[str] = field(default_factory=list)
    """The recorded runs of differences."""
    failures: list[str] = field(default_factory=list)
    """Scripts that the kernel complained about, and what it said."""


def read_tally(path: Path, kernel: str, seed: int) -> Tally:
    """Where the fuzzing of a kernel with a seed stands."""
    if path.exists():
        known: dict[str, Any] = json.loads(path.read_text())
        if str(seed) in known:
            return Tally(**known[str(seed)])
    return Tally(kernel, seed)


def _write(path: Path, tally: Tally) -> None:
    known = json.loads(path.read_text()) if path.exists() else {}
    known[str(tally.seed)] = asdict(tally)
    write_atomic(path, json.dumps(known, indent=1) + "\n")


def fuzz(
    source: Source,
    *,
    seconds: float,
    seed: int = 1,
    rules: str = "",
    most: int = 1,
    place: Path | None = None,
    say: Callable[[str], None] = lambda words: None,
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> tuple[Tally, list[Path]]:
    """Compares scripts for ``seconds``, or until ``most`` differences were found and shrunk.

    place : where the tally and what is found are kept; the kernel's folder unless told otherwise.

    Returns the tally of all fuzzing with this seed, and the recorded runs of what this call found.
    """
    place = place or source.work
    path, found = place / "fuzz.json", place / "found"
    tally = read_tally(path, source.version, seed)
    began, here = monotonic(), []
    while monotonic() - began < seconds:
        k = tally.next
        progress(f"script {k}", int(monotonic() - began), int(seconds))
        script = random_script(seed, k, defrag_mode=source.defrag_mode)
        try:
            compared = compare(source, script, rules)
        except KernelError as error:
            tally.failures.append(f"{script.name}: {error}")
            found.mkdir(exist_ok=True)
            write_atomic(found / f"{script.name}.log", error.log)
            say(f"{script.name}: {error}")
        else:
            if compared.difference:
                say(f"{script.name}: {compared.difference}")
                run = keep(found, source, script, compared, rules, say)
                here.append(run)
                tally.differences.append(run.name)
            else:
                _count(tally, compared)
        tally.next = k + 1
        _write(path, tally)
        if len(here) >= most:
            break
    return tally, here


def _count(tally: Tally, compared: Compared) -> None:
    verdict = compared.verdict
    assert verdict is not None
    tally.scripts += 1
    tally.operations += verdict.ops
    tally.dumps += verdict.dumps
    tally.events += verdict.events
    codes = compared.arrays["ops"][:, 0]
    tally.compactions += int(((codes >= 20) & (codes != 23)).sum())


def keep(
    found: Path,
    source: Source,
    script: Script,
    compared: Compared,
    rules: str,
    say: Callable[[str], None] = lambda words: None,
) -> Path:
    """Shrinks a difference and saves it: NAME.npz, and NAME.txt with the state around it."""
    found.mkdir(exist_ok=True)
    whole = found / f"{script.name}-whole.npz"
    save(whole, compared.arrays)  # so that nothing is lost if the shrinking is interrupted
    best: list[tuple[int, Compared]] = []

    def shows(candidate: Script) -> bool:
        try:
            again = compare(source, candidate, rules)
        except KernelError:
            return False
        if again.difference:
            best.append((len(candidate.ops), again))
        return bool(again.difference)

    start = replace(script, ops=by_rows(compared.arrays)[: compared.at + 1])
    if not shows(start):
        start = replace(script, ops=by_rows(compared.arrays))
    small = shortest(start, shows)
    say(f"{script.name}: {len(script.ops)} operations shrunk to {len(small.ops)}")
    last = best[-1][1] if best else compared
    run = found / f"{script.name}.npz"
    save(run, last.arrays)
    write_atomic(run.with_suffix(".txt"), _explained(run, last))
    return run


def _explained(run: Path, compared: Compared) -> str:
    """What `asi-pa verify --explain` shows."""
    from asi_pa.verify.explain import explain

    words = f"{compared.difference}\n\n"
    if compared.verdict is not None:
        words += explain(run, compared.at)
    return words.rstrip("\n") + "\n"
