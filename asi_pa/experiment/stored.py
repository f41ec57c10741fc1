"""Yields of a fragmented machine and holes found by the auditor, stored with the package by ``make stored``.

Both take minutes and hang on no trace.  A test computes the yields again and replays every stored
counterexample, so that a change of the engine or of a design shows.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from asi_pa.audit import AuditResult, audits
from asi_pa.designs import DESIGNS, Design
from asi_pa.experiment.starvation import starvation
from asi_pa.files import write_atomic

__all__ = ["FILE", "fresh", "holes", "load", "make", "posted", "shows", "stored", "yields"]

FILE = "stored.json"
Holes = list[dict[str, Any]]


def load() -> dict[str, Any]:
    """What is stored: ``yields`` (bytes obtained by design) and ``holes`` (counterexamples by design)."""
    text = (files("asi_pa") / "data" / FILE).read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def posted(design: str) -> str | None:
    """The design's form as it was posted: ``migratetype/as-posted`` of ``migratetype/sound``."""
    family = DESIGNS[design].family if design in DESIGNS else None
    return next((n for n, d in DESIGNS.items() if d.as_posted and d.family == family and n != design), None)


def yields(designs: Sequence[str | Design]) -> dict[str, dict[str, int]]:
    """What a fragmented machine of 1 GiB gives of the scarce kind, and the same machine unfragmented."""
    return {row.design: {"fresh": row.fresh, "fragmented": row.stressed} for row in starvation(designs)}


def holes(result: AuditResult) -> Holes:
    """Broken promises by invariant and mechanism, each with its script and whether that, alone, shows it."""
    scripts = [finding.script() for finding in result.findings]
    return [
        {"invariant": f.invariant, "mechanism": f.mechanism, "script": script, "shows": shows(script)}
        for f, script in zip(result.findings, scripts, strict=True)
    ]


def shows(script: str) -> bool:
    """Whether a counterexample, run alone, ends in saying that the promise is broken."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(script, "counterexample", "exec"), {"__name__": "__main__"})
    except SystemExit as ended:
        return ended.code == 1
    return False


def stored(designs: Sequence[str], kept: dict[str, Any] | None = None) -> dict[str, Any]:
    """The part of a result: yields as shares, and numbers of holes of designs and of their posted forms."""
    known = load()
    kept = known if kept is None else kept
    holes = {name: len(found) for name, found in kept["holes"].items()}
    before = {name: len(found) for name, found in known["holes"].items()}
    return {
        "yields": {
            name: row["fragmented"] / row["fresh"]
            for name, row in kept["yields"].items()
            if name in designs and row["fresh"]
        },
        "holes": {name: holes[name] for name in designs if name in holes},
        "holes_as_posted": {n: before[p] for n in designs if (p := posted(n)) is not None and p in before},
    }


def fresh(
    designs: Sequence[Design], progress: Callable[[str, int, int], None] = lambda _what, _done, _of: None
) -> dict[str, Any]:
    """The same, computed now, for these designs alone."""
    protecting = [design for design in designs if design.protects]
    found = audits(protecting, progress=progress)
    return {"yields": yields(designs), "holes": {result.design.name: holes(result) for result in found}}


def make(path: str) -> None:
    """Compute everything for every built-in design and write the file."""
    names = [name for name, design in DESIGNS.items() if name == design.name]

    def each(result: AuditResult) -> None:
        print(f"{result.design_word}: {len(result.findings)} holes", file=sys.stderr, flush=True)

    found = audits([name for name in names if DESIGNS[name].protects], each=each)
    made = {"yields": yields(names), "holes": {result.design_word: holes(result) for result in found}}
    write_atomic(path, json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    make(str(Path(__file__).resolve().parent.parent / "data" / FILE))
