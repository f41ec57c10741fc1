"""Breaks the model's rules one by one: the committed recorded runs must notice each.

``tests/mutants.toml`` lists the faults.  Each is applied to a private copy of the package; what includes the
changed source is translated and compiled again, and the recorded runs of ``tests/data/oracle`` are replayed
on the copy until one is no longer exact, or the copy crashes, hangs or refuses to run: the fault is noticed.
The runs that noticed it before (``tests/mutants-seen.json``) come first; the tables of
``docs/engine/model.md`` are made of the same file.  Compiled modules and outcomes are kept in
``build/mutants``: a second run, or one after an interruption, does only what is new.

    python tests/mutants.py                 all faults; exit status 1 if one is missed or no longer applies
    python tests/mutants.py expand 'pcp-*'  those whose names match
    python tests/mutants.py --survey        every run for every fault; rewrites mutants-seen.json and tables
    python tests/mutants.py --runs DIR      other recorded runs than the committed ones
    python tests/mutants.py --lockstep      tests/engine/test_lockstep.py instead, for what no run can notice
    python tests/mutants.py --docs          the tables from mutants-seen.json, nothing else
    python tests/mutants.py --list          names and rules
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from time import monotonic
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "asi_pa"
LIST = ROOT / "tests" / "mutants.toml"
SEEN = ROOT / "tests" / "mutants-seen.json"
DOCS = ROOT / "docs" / "engine" / "model.md"
DATA = ROOT / "tests" / "data" / "oracle"
BUILD = ROOT / "build" / "mutants"
#: What a replay of recorded runs loads; everything that these cimport comes along.
ENTRY = ("engine/machine", "verify/replay")
DIRECTIVES: dict[str, bool | int] = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
}
SHARED = f"{PACKAGE}._cyutility"
SUFFIX = EXTENSION_SUFFIXES[0]
#: What a replay spends no time in; all else is optimised where all runs are replayed.
COLD = (
    "engine/boot",
    "engine/free_queue",
    "engine/hooks",
    "engine/machine",
    "engine/per_page",
    "engine/pool",
    "engine/remapped",
    "engine/wrappers",
    "physmap/ops",
    "physmap/physmap",
)
#: Seconds of processor time after which the replay of one recorded run counts as hanging; it takes some 0.02.
PATIENCE = 10
#: So many crashes or hangs of one copy are enough.
CRASHES = 3
NOT_MEASURED = "(not measured)"


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
    needs: str = ""
    """What the faulty line takes from ``_core`` that the file does not."""

    def apply(self, text: str) -> str:
        """The faulty source.  ValueError where the fault does not apply."""
        found = text.count(self.old)
        if found != 1:
            raise ValueError(f"{self.name}: the old text is in {self.file} {found} times, not once")
        if self.old == self.new:
            raise ValueError(f"{self.name}: old and new text are the same")
        if self.needs:
            text = text.replace(
                "from asi_pa._core cimport (", f"from asi_pa._core cimport (\n    {self.needs},", 1
            )
        return text.replace(self.old, self.new)


@dataclass
class Outcome:
    """What the recorded runs said to a mutant."""

    noticed: dict[str, str] = field(default_factory=dict)
    """The first difference in words, or what happened to the process, by run ("linux-7.2/D5-1")."""
    whole: bool = False
    """All runs were replayed, not only those up to the first that noticed."""
    loaded: list[str] = field(default_factory=list)
    """The package's modules that were imported."""
    seconds: float = 0.0


def read_mutants(path: Path = LIST) -> list[Mutant]:
    """The list; ValueError for one that is not as it should be."""
    table = tomllib.loads(path.read_text())
    mutants = [Mutant(**entry) for entry in table["mutant"]]
    names = [mutant.name for mutant in mutants]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"names are used twice: {', '.join(sorted(twice))}")
    return mutants


def read_seen() -> dict[str, list[str]]:
    """Which committed runs noticed which fault in the last survey."""
    return json.loads(SEEN.read_text()) if SEEN.exists() else {}


# ---------------------------------------------------------------- building


def cimported(text: str) -> set[str]:
    """The modules of this package that a Cython source includes, as paths below the package."""
    found = re.findall(rf"^from {PACKAGE}\.([\w.]+) cimport", text, re.MULTILINE)
    return {name.replace(".", "/") for name in found}


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

    def modules(self, entry: Sequence[str] = ENTRY) -> list[str]:
        """The compiled modules that come along with those that a replay loads."""
        found: set[str] = set()
        new = set(entry)
        while new:
            found |= new
            reached = {pxd.removesuffix(".pxd") for name in new for pxd in self.includes(name)}
            new = {name for name in reached if (ROOT / PACKAGE / f"{name}.pyx").exists()} - found
        return sorted(found)

    def key(self, module: str) -> str:
        """A hash of everything that a module's C is made of."""
        parts = [self.text(f"{module}.pyx"), *(self.text(pxd) for pxd in sorted(self.includes(module)))]
        return digest([*parts, json.dumps(DIRECTIVES), LITERAL_OR_COMMENT.pattern, sys.version])


def digest(parts: Iterable[str | bytes]) -> str:
    """A hash of texts."""
    out = hashlib.sha256()
    for part in parts:
        out.update(part.encode() if isinstance(part, str) else part)
        out.update(b"\0")
    return out.hexdigest()[:24]


@cache
def compiler() -> tuple[str, ...]:
    """The C compiler's words without the files."""
    import numpy

    return (
        *shlex.split(os.environ.get("CC", "cc")),
        *("-shared", "-fPIC", "-g0", "-w", "-fno-semantic-interposition"),
        "-Werror=implicit-function-declaration",
        "-DNPY_NO_DEPRECATED_API=NPY_2_0_API_VERSION",
        f"-I{sysconfig.get_path('include')}",
        f"-I{numpy.get_include()}",
    )


def translate(tree: Path, module: str) -> str:
    """The C of one module of a copy of the package."""
    from Cython.Compiler.Main import compile as cython
    from Cython.Compiler.Options import CompilationOptions, default_options

    before = Path.cwd()
    os.chdir(tree)
    try:
        options = CompilationOptions(
            default_options,
            language_level=3,
            compiler_directives=dict(DIRECTIVES),
            shared_utility_qualified_name=SHARED,
        )
        result = cython(f"{PACKAGE}/{module}.pyx", options)
    finally:
        os.chdir(before)
    if result.num_errors:
        raise RuntimeError(f"{module}.pyx could not be translated")
    return (tree / PACKAGE / f"{module}.c").read_text()


#: A string of C, a character, or a comment: Cython's packed strings hold what looks like one.
LITERAL_OR_COMMENT = re.compile(r""""(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+'|/\*.*?\*/""", re.DOTALL)


def plain(text: str) -> str:
    """C without its comments (they quote the source) and without empty lines."""
    text = LITERAL_OR_COMMENT.sub(lambda found: "" if found[0].startswith("/*") else found[0], text)
    return re.sub(r"\n\s*\n+", "\n", text)


PROTOTYPE = re.compile(r"^static CYTHON_INLINE .*\); *\n", re.MULTILINE)
FUNCTION = re.compile(r"^static [^\n;]*?\b(__pyx_f_\w+)\([^\n;]*\) \{\n.*?^\}$", re.DOTALL | re.MULTILINE)


def functions(text: str) -> dict[str, str]:
    """The definitions of C functions in a translation without comments, by name."""
    return {match[1]: match[0] for match in FUNCTION.finditer(text)}


def enclosing(text: str, at: int) -> str | None:
    """The function of a Cython source that a position is in."""
    heads = list(re.finditer(r"^(?:c?p?def|from|ctypedef)\b.*", text[: at + 1], re.MULTILINE))
    found = re.match(r"c?p?def (?:[\w ]*[ *])?(\w+)\(", heads[-1][0]) if heads else None
    return found[1] if found else None


def function_of(mutant: Mutant) -> str | None:
    """The function that a fault is in."""
    text = (ROOT / mutant.file).read_text()
    pairs = zip(mutant.old, mutant.new, strict=False)
    same = next((i for i, (old, new) in enumerate(pairs) if old != new), len(mutant.new))
    return enclosing(text, text.index(mutant.old) + same)


class Builder:
    """Compiled modules, kept by what they are made of."""

    def __init__(self, optimised: bool) -> None:
        self.optimised = optimised
        self.kept = BUILD / "modules"
        self.kept.mkdir(parents=True, exist_ok=True)

    def c_of(self, tree: Path, sources: Sources, module: str, *, keep: bool) -> str:
        """A module's translation without comments."""
        path = self.kept / f"{flat(module)}-{sources.key(module)}.c"
        if path.exists():
            return path.read_text()
        text = plain(translate(tree, module))
        if keep:
            put(path, text)
        return text

    def compiled(self, tree: Path, module: str, text: str) -> Path:
        """The extension module of a translation."""
        level = "-O1" if self.optimised and module not in COLD else "-O0"
        path = self.kept / f"{flat(module)}-{digest([text, level, *compiler()])}.so"
        if not path.exists():
            source, target = tree / f"{flat(module)}.c", tree / f"{flat(module)}.so"
            source.write_text(text)
            words = [*compiler(), level, str(source), "-o", str(target)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{module}.c could not be compiled:\n{done.stderr}")
            shutil.move(target, path.with_suffix(f".{tree.name}"))
            path.with_suffix(f".{tree.name}").replace(path)
        return path

    def make(self, tree: Path, mutant: Mutant | None, entry: Sequence[str] = ENTRY) -> None:
        """A runnable copy of the package with the fault in it."""
        package = tree / PACKAGE
        for path in (ROOT / PACKAGE).rglob("*.p*"):
            if path.suffix in (".py", ".pyx", ".pxd"):
                copy = package / path.relative_to(ROOT / PACKAGE)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)
        os.symlink(ROOT / PACKAGE / f"_cyutility{SUFFIX}", package / f"_cyutility{SUFFIX}")
        changed = {}
        if mutant is not None:
            changed[mutant.file] = mutant.apply((ROOT / mutant.file).read_text())
            (tree / mutant.file).write_text(changed[mutant.file])
        sound, sources = Sources(), Sources(changed)
        modules = sources.modules(entry)
        affected = [module for module in modules if sources.key(module) != sound.key(module)]
        texts = {}
        if mutant is not None and mutant.file.endswith(".pxd"):
            texts = self.splice(tree, mutant, sources, affected)
        for module in modules:
            made = None
            if module in texts:
                with suppress(RuntimeError):
                    made = self.compiled(tree, module, texts[module])
            if made is None:
                text = self.c_of(tree, sources, module, keep=module not in affected)
                made = self.compiled(tree, module, text)
            os.symlink(made, package / f"{module}{SUFFIX}")

    def splice(self, tree: Path, mutant: Mutant, sources: Sources, affected: Sequence[str]) -> dict[str, str]:
        """Translations with a fault in an inline function, made of one translation and the sound ones.

        Every module that includes a .pxd has its own copy of the inline functions, and the copies are alike.
        So one module is translated; where nothing but the one function differs from its sound translation,
        the others' copies are replaced.  What is not exactly so is left to be translated.
        """
        name = function_of(mutant)
        sound = {}
        for module in affected:
            path = self.kept / f"{flat(module)}-{Sources().key(module)}.c"
            if not path.exists():
                return {}
            sound[module] = path.read_text()
        home = str(Path(mutant.file).relative_to(PACKAGE).with_suffix(""))
        found = {module: functions(c).get(f"__pyx_f_{mangled(home)}_{name}") for module, c in sound.items()}
        carriers = [module for module in affected if found[module]]
        if name is None or not carriers:
            return {}
        carrier = min(carriers, key=lambda module: (len(sources.text(f"{module}.pyx")), module))
        old = found[carrier]
        ours = plain(translate(tree, carrier))
        new = functions(ours).get(f"__pyx_f_{mangled(home)}_{name}")
        # Which prototypes there are depends on what is used; where one is missing, the compiler says so.
        bare = [PROTOTYPE.sub("", c) for c in (sound[carrier].replace(old or "\0", new or ""), ours)]
        if old is None or new is None or bare[0] != bare[1]:
            return {carrier: ours}
        return {
            module: sound[module].replace(old, new)
            for module in affected
            if found[module] == old and sound[module].count(old) == 1
        }


def flat(module: str) -> str:
    """A module's path below the package as one word of a file's name."""
    return module.replace("/", ".")


def mangled(module: str) -> str:
    """A module's name as Cython writes it in C."""
    return "_".join(f"{len(part)}{part}" for part in (PACKAGE, *module.split("/")))


def put(path: Path, text: str) -> None:
    """Writes a file at once or not at all."""
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.write_text(text)
    unfinished.replace(path)


# ---------------------------------------------------------------- replaying


def run_name(file: Path) -> str:
    """A committed run's name."""
    return f"{file.parent.name}/{file.stem}"


def replay_here(tree: Path, files: Sequence[Path], to_the_end: bool, out: int) -> None:
    """In a process of its own: one JSON line for each recorded run, until one is not exact."""
    sys.path.insert(0, str(tree))
    from asi_pa.verify import verify_file

    for file in files:
        os.write(out, json.dumps({"begins": run_name(file)}).encode() + b"\n")
        signal.setitimer(signal.ITIMER_PROF, PATIENCE)
        try:
            words = verify_file(file).difference
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
        os.write(out, json.dumps({"run": run_name(file), "words": words}).encode() + b"\n")
        if words and not to_the_end:
            break
    loaded = [name for name in sys.modules if name.split(".")[0] == PACKAGE]
    os.write(out, json.dumps({"loaded": loaded}).encode() + b"\n")


def replay(tree: Path, files: Sequence[Path], to_the_end: bool) -> tuple[list[dict[str, Any]], str]:
    """Every run's line, and what happened to the process if it did not end well."""
    if PACKAGE in sys.modules:
        raise RuntimeError(f"{PACKAGE} has been imported here: the copy would not be")
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        child = os.fork()
        if not child:
            status = 1
            try:
                os.dup2(errors.fileno(), 2)
                replay_here(tree, files, to_the_end, out.fileno())
                status = 0
            except BaseException as error:
                os.write(2, f"{type(error).__name__}: {error}".encode())
            finally:
                os._exit(status)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        errors.seek(0)
        lines = [json.loads(line) for line in out.read().splitlines() if line.endswith(b"}")]
        said = errors.read().decode(errors="replace").strip().splitlines()
    if code == -signal.SIGPROF:
        return lines, f"not done after {PATIENCE} seconds"
    if code < 0:
        return lines, f"killed by {signal.Signals(-code).name}"
    return lines, f"ended with status {code}: {said[-1] if said else ''}" if code else ""


def replay_all(tree: Path, files: Sequence[Path], to_the_end: bool) -> Outcome:
    """All runs, or those up to the first that notices; a crash takes one run with it, not the others.

    RuntimeError for a copy that cannot even be imported: no recorded run noticed anything.
    """
    outcome = Outcome(whole=True)
    left = list(files)
    crashes = 0
    while left and crashes < CRASHES:
        lines, trouble = replay(tree, left, to_the_end)
        if trouble and not lines:
            raise RuntimeError(f"the copy cannot be imported: {trouble}")
        runs = [line for line in lines if "run" in line]
        outcome.loaded += [name for line in lines for name in line.get("loaded", ())]
        outcome.noticed |= {str(line["run"]): str(line["words"]) for line in runs if line["words"]}
        left = left[len(runs) :]
        if trouble:
            crashes += 1
            outcome.noticed[run_name(left[0]) if left else ""] = trouble
            left = left[1:]
        if outcome.noticed and not to_the_end:
            break
    outcome.whole = not left or to_the_end
    return outcome


def try_mutant(mutant: Mutant | None, files: Sequence[Path], to_the_end: bool) -> Outcome:
    """Builds the copy and replays on it."""
    began = monotonic()
    with tempfile.TemporaryDirectory(dir=BUILD, prefix="tree-") as name:
        tree = Path(name)
        # Half a second of optimising is won back only where everything is replayed.
        Builder(to_the_end or mutant is None or bool(mutant.unseen)).make(tree, mutant)
        outcome = replay_all(tree, files, to_the_end or mutant is None)
    outcome.seconds = round(monotonic() - began, 1)
    return outcome


def try_lockstep(mutant: Mutant | None) -> Outcome:
    """Builds the copy and drives it together with the twin, which does not have the fault."""
    began = monotonic()
    test = "engine/test_lockstep.py"
    with tempfile.TemporaryDirectory(dir=BUILD, prefix="tree-") as name:
        tree = Path(name)
        Builder(optimised=True).make(tree, mutant, (*ENTRY, "engine/memory_hotplug"))
        # what these tests import besides, and does not run the rules
        for path in (ROOT / PACKAGE).rglob(f"*{SUFFIX}"):
            if not (copy := tree / path.relative_to(ROOT)).exists():
                copy.symlink_to(path)
        shutil.copytree(ROOT / "tests" / "twin", tree / "tests" / "twin")
        (tree / "tests" / "engine").mkdir()
        for file in ("__init__.py", "engine/__init__.py", test):
            shutil.copy(ROOT / "tests" / file, tree / "tests" / file)
        words = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", f"--rootdir={tree}"]
        # The current directory comes first in sys.path.
        done = subprocess.run(
            [*words, f"tests/{test}"], cwd=tree, capture_output=True, text=True, check=False, timeout=1000
        )
        said = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    outcome = Outcome(whole=True, seconds=round(monotonic() - began, 1))
    if done.returncode:
        outcome.noticed["lockstep"] = (said or [f"status {done.returncode}"])[0]
    return outcome


class Kept:
    """Outcomes of earlier runs, by everything that they depend on."""

    def __init__(self, files: Sequence[Path], loaded: Sequence[str]) -> None:
        self.path = BUILD / "outcomes.json"
        self.known: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            self.known = json.loads(self.path.read_text())
        data = [path.read_bytes() for path in files]
        names = sorted(name.replace(".", "/") for name in loaded)
        paths = [ROOT / f"{name}{end}" for name in names for end in (".py", "/__init__.py")]
        python = [path.read_text() for path in paths if path.exists()]
        sources = Sources()
        compiled = [sources.key(module) for module in sources.modules()]
        self.base = digest([*data, *python, *compiled, Path(__file__).read_text()])

    def key(self, mutant: Mutant) -> str:
        """What the outcome depends on."""
        return digest([self.base, mutant.file, mutant.old, mutant.new])

    def get(self, mutant: Mutant, to_the_end: bool) -> Outcome | None:
        """The outcome, where it is known."""
        known = self.known.get(self.key(mutant))
        outcome = None if known is None else Outcome(**known)
        return outcome if outcome is None or outcome.whole or not to_the_end else None

    def put(self, mutant: Mutant, outcome: Outcome) -> None:
        """Keeps an outcome at once, so that an interrupted run loses nothing."""
        self.known[self.key(mutant)] = vars(outcome) | {"loaded": []}
        put(self.path, json.dumps(self.known))


def in_order(mutant: Mutant, files: Sequence[Path], seen: dict[str, list[str]]) -> list[Path]:
    """The runs that noticed this fault before, then those that noticed most faults; short ones first."""
    mine = set(seen.get(mutant.name, ()))
    most = Counter(run for runs in seen.values() for run in runs)
    size = {file: file.stat().st_size for file in files}

    def rank(file: Path) -> tuple[bool, int, int]:
        name = run_name(file)
        return (name not in mine, size[file] if name in mine else -most[name], size[file])

    return sorted(files, key=rank)


# ---------------------------------------------------------------- the tables of the docs


def families(runs: Iterable[str]) -> str:
    """Runs as the tables name them: D5, D5z, R4 and so on, without kernels and seeds."""
    names = {re.sub(r"-\d+$", "", run.rpartition("/")[2]) for run in runs}
    found = sorted(names, key=lambda name: (name[0] != "D", len(name), name))
    if not found:
        return NOT_MEASURED
    return ", ".join(found[:6]) + f" and {len(found) - 6} more" if len(found) > 7 else ", ".join(found)


def tables(text: str, mutants: Sequence[Mutant], seen: dict[str, list[str]]) -> str:
    """The document as it was measured: which runs notice in its tables, and the list of what none notices."""
    unseen = [mutant for mutant in mutants if mutant.unseen]
    known = {mutant.name: mutant for mutant in mutants}

    def row(match: re.Match[str]) -> str:
        rule, engine, _, name = match.groups()
        mutant = known[name]
        if Path(mutant.file).suffix in (".pyx", ".pxd"):
            engine = f" {Path(mutant.file).stem}.{function_of(mutant)} "
        runs = "none" if mutant.unseen else families(seen.get(name, ()))
        return f"{rule}|{engine}| {runs} | `{name}` |"

    text = re.sub(r"^(\|[^|]*\|[^|]*)\|([^|]*)\|([^|]*)\| `([a-z0-9.-]+)` \|$", row, text, flags=re.MULTILINE)
    found = "".join(f"- {mutant.rule}: {mutant.unseen} (`{mutant.name}`)\n" for mutant in unseen)
    return re.sub(r"(?:^- .*\(`[a-z0-9.-]+`\)\n)+", lambda _: found, text, flags=re.MULTILINE)


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
    runs = list(outcome.noticed)
    shown = " ".join(runs[:6]) + (f" and {len(runs) - 6} more" if len(runs) > 6 else "")
    if mutant.unseen:
        print(f"{mutant.name:{width}}  NOTICED although it says it cannot be: {shown}", flush=True)
        return False
    ends = [words for words in outcome.noticed.values() if words.startswith(("not done", "killed"))]
    words = ends[0] if ends else ""
    print(f"{mutant.name:{width}}  noticed  {' | '.join(x for x in (shown, words) if x)}", flush=True)
    return True


def main(words: Sequence[str]) -> int:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(description="break the model's rules one by one")
    parser.add_argument("names", nargs="*", help="mutants to try, as shell patterns (default: all)")
    parser.add_argument("--list", action="store_true", help="names and rules only")
    parser.add_argument(
        "--survey", action="store_true", help="replay every run for every fault; rewrite tables"
    )
    parser.add_argument("--runs", type=Path, default=DATA, help="replay the recorded runs in this directory")
    parser.add_argument(
        "--lockstep", action="store_true", help="what do the twin's tests notice of the unseen?"
    )
    parser.add_argument("--docs", action="store_true", help="rewrite the tables of docs/engine/model.md only")
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
    seen = read_seen()
    if args.docs:
        DOCS.write_text(tables(DOCS.read_text(), read_mutants(), seen))
        return 0
    whole, broken = [], []
    for mutant in mutants:
        try:
            mutant.apply((ROOT / mutant.file).read_text())
            whole.append(mutant)
        except (ValueError, OSError) as error:
            broken.append(str(error))
    files = sorted(args.runs.rglob("*.npz"))
    BUILD.mkdir(parents=True, exist_ok=True)
    began = monotonic()
    # What every copy needs is imported once: they are made in forked processes.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import Cython.Compiler.Main  # noqa: F401
    import numpy  # noqa: F401

    if args.lockstep:
        candidates: list[Mutant | None] = [None, *(mutant for mutant in whole if mutant.unseen)]
        for candidate in candidates:
            result = try_lockstep(candidate)
            what = result.noticed.get("lockstep", "unseen" if candidate else "they agree")
            print(
                f"{candidate.name if candidate else 'no fault'}: {what} ({result.seconds:.0f} s)", flush=True
            )
        return 0
    # A process for each copy: translations leave memory behind.
    fork = multiprocessing.get_context("fork")
    with fork.Pool(1) as pool:
        sound = pool.apply(try_mutant, (None, files, True))
    if sound.noticed or not files:
        print(f"the model without a fault is not exact: {sound.noticed}", file=sys.stderr)
        return 1
    kept = Kept(files, sound.loaded)
    width = max(len(mutant.name) for mutant in mutants)
    right: list[Mutant] = []
    known = {mutant.name: kept.get(mutant, args.survey) for mutant in whole}
    with fork.Pool(args.jobs, maxtasksperchild=1) as pool:
        waiting = {
            mutant.name: pool.apply_async(try_mutant, (mutant, in_order(mutant, files, seen), args.survey))
            for mutant in whole
            if known[mutant.name] is None
        }
        for mutant in whole:
            outcome = known[mutant.name]
            if outcome is None:
                try:
                    outcome = waiting[mutant.name].get()
                except RuntimeError as error:
                    broken.append(f"{mutant.name}: {error}")
                    continue
                kept.put(mutant, outcome)
            if say(mutant, outcome, width):
                right.append(mutant)
            if args.survey:
                seen[mutant.name] = sorted(run for run in outcome.noticed if run)
    if args.survey and args.runs == DATA:
        names = {mutant.name for mutant in read_mutants()}
        seen = {name: runs for name, runs in sorted(seen.items()) if name in names}
        SEEN.write_text(json.dumps(seen, indent=0, sort_keys=True) + "\n")
        DOCS.write_text(tables(DOCS.read_text(), read_mutants(), seen))
    for line in broken:
        print(line, file=sys.stderr)
    unseen = sum(bool(mutant.unseen) for mutant in right)
    print(
        f"{len(right) - unseen} of {len(mutants) - sum(bool(m.unseen) for m in mutants)} faults noticed by "
        f"{len(files)} recorded runs; {unseen} that none can notice; {(monotonic() - began) / 60:.1f} minutes"
    )
    return 0 if len(right) == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
