"""Breaks the model's rules one by one: the committed recorded runs must notice each.

``tests/mutants.toml`` lists the faults.  Each is applied to a private copy of the package; what includes the
changed source is compiled again, and the recorded runs of ``tests/data/oracle`` are replayed on the copy.  A
fault is noticed when a run is no longer exact, or when the copy crashes, hangs or refuses to run.  Compiled
modules and outcomes are kept in ``build/mutants``: a second run, or one after an interruption, does only what
is new.

    python tests/mutants.py                 all faults; exit status 1 if one is missed or no longer applies
    python tests/mutants.py expand 'pcp-*'  those whose names match
    python tests/mutants.py --list          names and rules
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from threading import Lock

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "asi_pa"
LIST = ROOT / "tests" / "mutants.toml"
DATA = ROOT / "tests" / "data" / "oracle"
BUILD = ROOT / "build" / "mutants"
#: What a replay of recorded runs loads; everything that these cimport comes along.
ENTRY = ("_machine", "_oracle")
DIRECTIVES = "boundscheck=False,wraparound=False,cdivision=True,initializedcheck=False"
SUFFIX = EXTENSION_SUFFIXES[0]
#: What a replay spends its time in.
HOT = ("_core", "_pcp", "_page_alloc", "_isolation", "_oracle")
#: Seconds after which a replay of the recorded runs counts as hanging.
PATIENCE = 120


@dataclass(frozen=True)
class Mutant:
    """A one-line fault: ``old`` is in ``file`` exactly once and becomes ``new``."""

    name: str
    rule: str
    file: str
    old: str
    new: str
    unseen: str = ""
    """Why no recorded run can notice; empty for a fault that must be noticed."""

    def apply(self, text: str) -> str:
        """The faulty source.  ValueError where the fault does not apply."""
        found = text.count(self.old)
        if found != 1:
            raise ValueError(f"{self.name}: the old text is in {self.file} {found} times, not once")
        if self.old == self.new:
            raise ValueError(f"{self.name}: old and new text are the same")
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Outcome:
    """What the recorded runs said to a mutant."""

    noticed: dict[str, str]
    """The first difference in words by run; under "" what happened to the process as a whole."""


def read_mutants(path: Path = LIST) -> list[Mutant]:
    """The list; ValueError for one that is not as it should be."""
    table = tomllib.loads(path.read_text())
    mutants = [Mutant(**entry) for entry in table["mutant"]]
    names = [mutant.name for mutant in mutants]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"names are used twice: {', '.join(sorted(twice))}")
    return mutants


# ---------------------------------------------------------------- building


def cimported(text: str) -> set[str]:
    """The modules of this package that a Cython source includes."""
    return set(re.findall(rf"^from {PACKAGE}\.(\w+) cimport", text, re.MULTILINE))


class Sources:
    """The package's Cython sources, with one file changed or none."""

    def __init__(self, changed: dict[str, str] | None = None) -> None:
        self.changed = changed or {}

    def text(self, name: str) -> str:
        """A file of the package by name; "" where there is none."""
        path = f"{PACKAGE}/{name}"
        if path in self.changed:
            return self.changed[path]
        file = ROOT / path
        return file.read_text() if file.exists() else ""

    def includes(self, module: str) -> set[str]:
        """The .pxd files that a module's translation reads, directly or through another."""
        found: set[str] = set()
        new = {module} | cimported(self.text(f"{module}.pyx"))
        while new:
            found |= new
            new = {name for pxd in new for name in cimported(self.text(f"{pxd}.pxd"))} - found
        return {f"{name}.pxd" for name in found}

    def modules(self) -> list[str]:
        """The compiled modules that a replay loads."""
        found: set[str] = set()
        new = set(ENTRY)
        while new:
            found |= new
            reached = {pxd.removesuffix(".pxd") for name in new for pxd in self.includes(name)}
            new = {name for name in reached if (ROOT / PACKAGE / f"{name}.pyx").exists()} - found
        return sorted(found)

    def key(self, module: str) -> str:
        """A hash of everything that a module is made of."""
        parts = [self.text(f"{module}.pyx"), *(self.text(pxd) for pxd in sorted(self.includes(module)))]
        return digest([*parts, DIRECTIVES, sys.version])


def digest(parts: Iterable[str | bytes]) -> str:
    """A hash of texts."""
    out = hashlib.sha256()
    for part in parts:
        out.update(part.encode() if isinstance(part, str) else part)
        out.update(b"\0")
    return out.hexdigest()[:24]


@cache
def compiler() -> list[str]:
    """The C compiler's words without the files."""
    import numpy

    return [
        *shlex.split(os.environ.get("CC", "cc")),
        *("-shared", "-fPIC", "-g0", "-w", "-fno-semantic-interposition"),
        "-DNPY_NO_DEPRECATED_API=NPY_2_0_API_VERSION",
        f"-I{sysconfig.get_path('include')}",
        f"-I{numpy.get_include()}",
    ]


def run(words: Sequence[str | Path], cwd: Path) -> None:
    """A command that must succeed."""
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{Path(words[0]).name} failed:\n{done.stdout}{done.stderr}")


def build(tree: Path, modules: Sequence[str]) -> None:
    """Compiles modules of a copy of the package in place."""
    cython = [sys.executable, "-m", "cython", "-3", f"--shared={PACKAGE}._cyutility", "-X", DIRECTIVES]
    run([*cython, *(f"{PACKAGE}/{module}.pyx" for module in modules)], tree)
    for module in modules:
        # What only builds and dumps machines is compiled faster than it would win by running faster.
        level = "-O1" if module in HOT else "-O0"
        target = f"{PACKAGE}/{module}{SUFFIX}"
        run([*compiler(), level, f"{PACKAGE}/{module}.c", "-o", target], tree)


def make_tree(tree: Path, mutant: Mutant | None) -> None:
    """A runnable copy of the package with the fault in it."""
    package = tree / PACKAGE
    package.mkdir(parents=True)
    for path in (ROOT / PACKAGE).iterdir():
        if path.suffix in (".py", ".pyx", ".pxd"):
            shutil.copy(path, package)
    changed = {}
    if mutant is not None:
        changed[mutant.file] = mutant.apply((ROOT / mutant.file).read_text())
        (tree / mutant.file).write_text(changed[mutant.file])
    os.symlink(ROOT / PACKAGE / f"_cyutility{SUFFIX}", package / f"_cyutility{SUFFIX}")
    sources = Sources(changed)
    kept = {module: BUILD / "modules" / f"{module}-{sources.key(module)}.so" for module in sources.modules()}
    missing = [module for module, path in kept.items() if not path.exists()]
    if missing:
        build(tree, missing)
    for module, path in kept.items():
        target = package / f"{module}{SUFFIX}"
        if module in missing:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(f".{os.getpid()}-{tree.name}")
            shutil.move(target, unfinished)
            unfinished.replace(path)
        os.symlink(path, target)


# ---------------------------------------------------------------- replaying


def replay_here(files: Sequence[str]) -> None:
    """In a process of its own, with the copy first in sys.path: one JSON line for each recorded run."""
    from asi_pa.verify import verify_file

    for file in files:
        print(json.dumps({"begins": file}), flush=True)
        try:
            verdict = verify_file(file)
            at, words = verdict.at, verdict.difference
        except Exception as error:
            at, words = 0, f"{type(error).__name__}: {error}"
        print(json.dumps({"file": file, "at": at, "words": words}), flush=True)


def replay(tree: Path, files: Sequence[Path]) -> tuple[list[dict[str, object]], str]:
    """Every run's line, and what happened to the process if it did not end well."""
    words = [sys.executable, "-B", __file__, "--replay", str(tree), *map(str, files)]
    with tempfile.TemporaryFile("w+") as out:
        trouble = ""
        try:
            done = subprocess.run(words, stdout=out, stderr=subprocess.PIPE, timeout=PATIENCE, check=False)
            if done.returncode:
                trouble = f"ended with status {done.returncode}"
                if done.returncode > 0:
                    trouble += ": " + done.stderr.decode(errors="replace").strip().splitlines()[-1]
        except subprocess.TimeoutExpired:
            trouble = f"not done after {PATIENCE} seconds"
        out.seek(0)
        lines = [json.loads(line) for line in out.read().splitlines() if line.endswith("}")]
    if trouble and lines and "begins" in lines[-1]:
        trouble += f" in {Path(lines[-1]['begins']).stem}"
    return [line for line in lines if "file" in line], trouble


def try_mutant(mutant: Mutant | None, files: Sequence[Path]) -> Outcome:
    """Builds the copy and replays everything on it."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD, prefix="tree-") as name:
        tree = Path(name)
        make_tree(tree, mutant)
        lines, trouble = replay(tree, files)
    noticed = {Path(str(line["file"])).stem: str(line["words"]) for line in lines if line["words"]}
    if trouble:
        noticed[""] = trouble
    return Outcome(noticed)


class Kept:
    """Outcomes of earlier runs, by everything that they depend on."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.path = BUILD / "outcomes.json"
        self.lock = Lock()
        self.known: dict[str, dict[str, str]] = {}
        if self.path.exists():
            self.known = json.loads(self.path.read_text())
        data = [path.read_bytes() for path in files]
        code = [path.read_text() for path in sorted((ROOT / PACKAGE).glob("*.p*")) if path.suffix != ".pyi"]
        self.base = digest([*data, *code, Path(__file__).read_text()])

    def key(self, mutant: Mutant) -> str:
        """What the outcome depends on."""
        return digest([self.base, mutant.file, mutant.old, mutant.new])

    def get(self, mutant: Mutant) -> Outcome | None:
        """The outcome, where it is known."""
        noticed = self.known.get(self.key(mutant))
        return None if noticed is None else Outcome(noticed)

    def put(self, mutant: Mutant, outcome: Outcome) -> None:
        """Keeps an outcome at once, so that an interrupted run loses nothing."""
        with self.lock:
            self.known[self.key(mutant)] = outcome.noticed
            unfinished = self.path.with_suffix(".new")
            unfinished.write_text(json.dumps(self.known))
            unfinished.replace(self.path)


# ---------------------------------------------------------------- the command


def chosen(mutants: Sequence[Mutant], patterns: Sequence[str]) -> list[Mutant]:
    """Those whose names match; all without patterns."""
    picked = [m for m in mutants if not patterns or any(fnmatch.fnmatch(m.name, p) for p in patterns)]
    if not picked:
        raise ValueError(f"no mutant is named {' or '.join(patterns)}")
    return picked


def say(mutant: Mutant, outcome: Outcome, width: int) -> bool:
    """One line for a mutant; is it as it should be?"""
    if not outcome.noticed:
        what = f"unseen   {mutant.unseen}" if mutant.unseen else f"MISSED   {mutant.rule}"
        print(f"{mutant.name:{width}}  {what}", flush=True)
        return bool(mutant.unseen)
    if mutant.unseen:
        print(f"{mutant.name:{width}}  NOTICED although it says it cannot be", flush=True)
        return False
    runs = [name for name in outcome.noticed if name]
    shown = " ".join(runs[:6]) + (f" and {len(runs) - 6} more" if len(runs) > 6 else "")
    trouble = outcome.noticed.get("", "")
    print(f"{mutant.name:{width}}  noticed  {' | '.join(x for x in (shown, trouble) if x)}", flush=True)
    return True


def main(words: Sequence[str]) -> int:
    """The command; see the module's docstring."""
    if words[:1] == ["--replay"]:
        sys.path[:1] = [words[1]]
        replay_here(words[2:])
        return 0
    parser = argparse.ArgumentParser(description="break the model's rules one by one")
    parser.add_argument("names", nargs="*", help="mutants to try, as shell patterns (default: all)")
    parser.add_argument("--list", action="store_true", help="names and rules only")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 4), help="mutants at a time")
    args = parser.parse_args(words)
    try:
        mutants = chosen(read_mutants(), args.names)
    except (ValueError, TypeError) as error:
        parser.error(str(error))
    if args.list:
        for mutant in mutants:
            print(f"{mutant.name}: {mutant.rule} ({mutant.file})")
        return 0
    broken = []
    for mutant in mutants:
        try:
            mutant.apply((ROOT / mutant.file).read_text())
        except (ValueError, OSError) as error:
            broken.append(str(error))
    files = sorted(DATA.rglob("*.npz"))
    sound = try_mutant(None, files)
    if sound.noticed or not files:
        print(f"the model without a fault is not exact: {sound.noticed}", file=sys.stderr)
        return 1
    kept = Kept(files)
    width = max(len(mutant.name) for mutant in mutants)
    missed = 0

    def one(mutant: Mutant) -> Outcome:
        outcome = kept.get(mutant)
        if outcome is None:
            outcome = try_mutant(mutant, files)
            kept.put(mutant, outcome)
        return outcome

    whole = [mutant for mutant in mutants if not any(line.startswith(f"{mutant.name}:") for line in broken)]
    with ThreadPoolExecutor(args.jobs) as pool:
        for mutant, outcome in zip(whole, pool.map(one, whole), strict=True):
            missed += not say(mutant, outcome, width)
    for line in broken:
        print(line, file=sys.stderr)
    unseen = sum(bool(mutant.unseen) for mutant in whole)
    print(
        f"{len(whole) - missed - unseen} of {len(mutants) - unseen} faults noticed by {len(files)} recorded "
        f"runs; {unseen} that none can notice"
    )
    return 1 if missed or broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
