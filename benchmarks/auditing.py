"""What the auditor's time is spent on, counted in instructions by callgrind; and what more jobs cost.

``python -m benchmarks.auditing`` prints, for three designs on four machines each, the share of an operation
that each part of the search has, then the processor time of one audit by 1, 2 and 4 jobs (`EFFICIENCY`).
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from asi_pa.audit import audit
from asi_pa.audit.scopes import scaled, scopes
from asi_pa.audit.search import Search
from asi_pa.designs import as_design
from asi_pa.engine.machine import Machine

DESIGNS = ("migratetype", "freetype/as-posted", "per-page")
MACHINES = ("lists", "four-blocks", "four-page-blocks", "windows-four-blocks")
#: States of each machine.
STATES = 12_000
#: The audit whose processor time is taken.
EFFICIENCY = {"design": "migratetype/as-posted", "operations": 20_000_000}

#: Function, as callgrind names it without Cython's prefix -> what it is for; the first that matches.
PARTS = (
    ("canonical form", r"audit_4hash_|audit_5state_put|asi_pa_hash128"),
    ("table of states", r"audit_3met_|audit_7explore_(new_node|more_room)|realloc"),
    ("known states", r"memcmp|audit_5state_(fingerprint|same_image)|asi_pa_print|"
                     r"audit_7explore_(try_step|find_sibling|is_parent|keep_state|expand)"),
    ("copies", r"memcpy|memmove|memset|audit_5state_(pack|unpack|load|save|relist|home)"),
    ("checks", r"audit_5check_|engine_5check_|audit_4step_(take_masks|remember|absent)|present_frames"),
    ("operations", r"."),
)  # fmt: skip


def run() -> None:
    """The searches; prints how many operations they made."""
    made = 0
    for design in DESIGNS:
        small = scaled(as_design(design))
        for scope in scopes(small):
            if scope.name not in MACHINES:
                continue
            requests = [(request.gfp, 0, scope.orders()) for request in scope.requests]
            ticks = scope.machine.zones[0].pcp is not None
            machine = Machine(scope.machine, small)
            search = Search(machine, requests, scope.contig, windows=scope.windows, ticks=ticks)
            search.explore(1000, STATES, 1e9)
            made += search.transitions
    print(made)


def shares() -> tuple[int, Counter[str]]:
    """Operations, and instructions by part."""
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "out"
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--collect-atstart=no",
             "--toggle-collect=*explore_expand_level", sys.executable, "-m", "benchmarks.auditing", "run"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        listed = subprocess.run(
            ["callgrind_annotate", "--threshold=100", "--auto=no", str(out)],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
    parts: Counter[str] = Counter()
    for line in listed.splitlines():
        found = re.match(r"\s*([\d,]+) \([ \d.]+%\)\s+\S+?:(\S+)", line)
        if found:
            parts[next(part for part, names in PARTS if re.search(names, found[2]))] += int(
                found[1].replace(",", "")
            )
    return int(done.stdout), parts


def efficiency(jobs: Sequence[int] = (1, 2, 4)) -> Iterator[tuple[int, float, float]]:
    """(jobs, seconds of processor time, the first's as a share of them) of the same audit by several jobs."""
    alone = None
    for count in jobs:
        result = audit(**EFFICIENCY, jobs=count)  # type: ignore[arg-type]
        alone = alone or result.seconds
        yield count, result.seconds, alone / result.seconds


if __name__ == "__main__":
    if sys.argv[1:] == ["run"]:
        run()
    else:
        operations, parts = shares()
        whole = sum(parts.values())
        print(f"{operations:,} operations, {whole / operations:,.0f} instructions each")
        for part, count in parts.most_common():
            print(f"{part:16} {count / whole:5.1%}")
        for jobs, seconds, share in efficiency():
            print(f"{jobs} jobs: {seconds:6.2f} s of processor time; one job's is {share:.2f} of that")
