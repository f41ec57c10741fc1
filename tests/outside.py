"""Breaks what lies outside the engine, line by line: the tests named for a fault must notice it.

``tests/outside.toml`` lists the faults: readers, headers, limits, outputs, the numbers of a replay.  Each is
applied to a copy of the package in ``build/outside``; a changed Cython source is compiled there alone.  The
test that noticed it before (``tests/outside-seen.json``, brought up to date by every run) comes first; what
notices a fault has to pass without it.  (The engine's rules have their own list, ``tests/mutants.toml``.)

    python tests/outside.py             all faults; exit status 1 if one survives or no longer applies
    python tests/outside.py 'merged-*'  those whose names match
    python tests/outside.py --sample N  every N-th, as CI does
"""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "tests" / "outside.toml"
SEEN = ROOT / "tests" / "outside-seen.json"
PLACE = ROOT / "build" / "outside"
PATIENCE = 600


@dataclass(frozen=True)
class Fault:
    """``old`` is in ``file`` exactly once and becomes ``new``; one of ``tests`` must fail then."""

    name: str
    file: str
    old: str
    new: str
    tests: list[str]

    def applied(self) -> str:
        """The faulty source; ValueError where the fault does not apply."""
        text = (ROOT / self.file).read_text()
        if text.count(self.old) != 1 or self.old == self.new:
            raise ValueError(
                f"{self.name}: the old text is in {self.file} {text.count(self.old)} times, not once"
            )
        return text.replace(self.old, self.new)


def read_faults() -> list[Fault]:
    """The list; ValueError for a name that is there twice."""
    faults = [Fault(**entry) for entry in tomllib.loads(LIST.read_text())["mutant"]]
    names = [fault.name for fault in faults]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"names are used twice: {', '.join(sorted(twice))}")
    return faults


def prepare() -> None:
    """A copy of package and tests, as they are now, built modules included."""
    PLACE.mkdir(parents=True, exist_ok=True)
    for name in ("asi_pa", "tests"):
        shutil.rmtree(PLACE / name, ignore_errors=True)
        shutil.copytree(ROOT / name, PLACE / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "Makefile"):
        shutil.copy2(ROOT / name, PLACE / name)
    for name in ("docs", "examples"):
        if not (PLACE / name).exists():
            (PLACE / name).symlink_to(ROOT / name)


def first_failure(tests: Sequence[str]) -> str | None:
    """The first of these tests that fails in the copy; None if all pass, or one is not there."""
    words = ["-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=PLACE,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return "a hang"
    if done.returncode in (0, 4, 5):
        return None
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    # pytest shortens nothing but what follows " - "; a parameter may hold that, too
    return failed[0].split(" ", 1)[1].split(" - ")[0] if failed else f"exit status {done.returncode}"


def noticed(fault: Fault, before: str | None = None) -> str | None:
    """What noticed the fault: the first test that failed, that of ``before`` first; None if none did."""
    target = PLACE / fault.file
    sound = [target, *target.parent.glob(f"{target.stem}.*")] if target.suffix == ".pyx" else [target]
    kept = {path: path.read_bytes() for path in sound}
    target.write_text(fault.applied())
    try:
        if target.suffix == ".pyx":
            only = str(Path(fault.file).relative_to("asi_pa").with_suffix(""))
            environment = {**os.environ, "ASI_PA_ONLY": only, "CFLAGS": "-O1"}
            build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
            subprocess.run(build, cwd=PLACE, env=environment, check=True, capture_output=True)
        return (first_failure([before]) if before else None) or first_failure(fault.tests)
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


def main() -> int:
    words = sys.argv[1:]
    faults = read_faults()
    if words[:1] == ["--sample"]:
        faults = faults[:: int(words[1])]
    elif words:
        faults = [fault for fault in faults if any(fnmatch.fnmatch(fault.name, word) for word in words)]
    prepare()
    survived = []
    seen: dict[str, str] = json.loads(SEEN.read_text())
    known = sorted({seen[fault.name] for fault in faults if fault.name in seen})
    if known and (broken := first_failure(known)):
        raise SystemExit(f"{broken} fails without a fault")
    for fault in faults:
        by = noticed(fault, seen.get(fault.name))
        if by is not None and by != seen.get(fault.name) and "::" in by and first_failure([by]):
            raise SystemExit(f"{by} fails without {fault.name}")
        print(f"{fault.name}: {by or 'SURVIVED'}", flush=True)
        if by is None:
            survived.append(fault.name)
        elif "::" in by:
            seen[fault.name] = by
            SEEN.write_text(json.dumps(dict(sorted(seen.items())), indent=0) + "\n")
    print(f"{len(faults) - len(survived)} of {len(faults)} faults outside the engine are noticed")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
