"""What the fields of a design cost one that does not use them: instructions with their tests and without.

``python -m benchmarks.unused_fields [DESIGN...]`` makes a copy of the sources below build/, takes the tests
of these fields and of hooks out of the engine, builds it (some minutes), and counts both by callgrind on
two traces.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .harness import compiled_trace, trace_engine
from .instructions import TRACE, count_in, run
from .streams import Ops

__all__ = ["EDITS", "without"]

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "build" / "without-fields"
#: What a copy is built of and counted with.
TREES = ("asi_pa", "benchmarks", "tests/twin")
FILES = ("setup.py", "pyproject.toml", "README.md", "tests/__init__.py")
#: Designs that use none of the fields; between them every part of the engine that tests one.
DESIGNS = ("linux", "migratetype", "freetype", "unmapped", "pool", "rfcv2-queue")
WORKER = "        if z.design.looks_ahead:\n            z.ahead_due |= z.design.looks_ahead & AHEAD_NOW\n"
#: (file below asi_pa/, what tests a field or a hook, what stands there without): each is there once.
EDITS = (
    # unmap_low, map_back, pool_low, pool_high, give_back, unmap_ahead(): a worker is woken, and runs
    ("engine/page_alloc.pyx", WORKER + "    if flags & ALLOC_HIGHATOMIC", "    if flags & ALLOC_HIGHATOMIC"),
    ("engine/page_alloc.pyx", "    if mm.design.looks_ahead & AHEAD_BACK_LAZY:", "    if False:"),
    ("engine/pcp.pyx", WORKER.replace("        ", "    ", 1).replace("            ", "        "), ""),
    ("engine/pcp.pyx", "    if z.design.looks_ahead & AHEAD_BACK_TIMER:", "    if False:"),
    ("run/loop.pyx", "step_ahead if mm.design.looks_ahead else step", "step"),
    ("run/hits.pyx", " and not mm.design.looks_ahead", ""),
    ("_core.pyx", "z.nr_free_cma > 0 or z.design.looks_ahead != 0", "z.nr_free_cma > 0"),
    # zeroed_by
    ("engine/pcp.pyx", "    if z.design.clears_ahead:", "    if False:"),
    # may_wait
    ("engine/page_alloc.pyx", "may_wait(d, rq, rq.block)", "rq.block"),
    ("engine/pool.pyx", "pfn < 0 and may_wait(&mm.design, rq, True):", "pfn < 0:"),
    ("engine/pool.pyx", "pfn < 0 and may_wait(&mm.design, rq, True) and", "pfn < 0 and"),
    ("engine/free_queue.pyx", "may_wait(&mm.design, rq, False)", "False"),
    # flip_free, flip_used, choose_block()
    (
        "engine/flip.pyx",
        "    if frame == NIL and z.evacuate != NULL and big == z.pageblock_order:",
        "    if False:",
    ),
    ("engine/flip.pyx", "    if z.choose != NULL:", "    if False:"),
    # pool_low, pool_high and pool_by_node, of a pool; choose_refill()
    ("engine/wrappers.pyx", "        if design.looks_ahead or design.pool_by_node:", "        if False:"),
    ("engine/pool.pyx", "    if z.refill != NULL:", "    if False:"),
    # unmap_batch of the free queue
    (
        "engine/free_queue.pyx",
        "    cdef int64_t batch = mm.design.unmap_batch,",
        "    cdef int64_t batch = 1,",
    ),
)


def cases(designs: Sequence[str]) -> Iterator[tuple[str, str, Any, Ops]]:
    """The first operations of two traces, in every design."""
    for name in ("redis", "net"):
        compiled = compiled_trace(name)
        for design in designs:
            yield name, design, trace_engine(compiled, design), compiled.ops[:TRACE]


def without(name: str, text: str) -> str:
    """A source of the engine without what tests the fields.  ValueError where an edit does not apply once."""
    for path, old, new in EDITS:
        if path == name:
            if text.count(old) != 1:
                raise ValueError(f"{path}: {text.count(old)} times: {old!r}")
            text = text.replace(old, new)
    return text


def copy() -> Path:
    """The sources without the tests, built."""
    for tree in TREES:
        skip = shutil.ignore_patterns("*.so", "*.c", "__pycache__")
        shutil.copytree(ROOT / tree, COPY / tree, dirs_exist_ok=True, ignore=skip)
    for file in FILES:
        shutil.copy(ROOT / file, COPY / file)
    for name in {path for path, _, _ in EDITS}:
        (COPY / "asi_pa" / name).write_text(without(name, (ROOT / "asi_pa" / name).read_text()))
    subprocess.run([sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"], cwd=COPY, check=True)
    return COPY


def main(designs: Sequence[str]) -> None:
    """Prints both counts and what the fields add."""
    bare = copy()
    here, there = (count_in(root, "benchmarks.unused_fields", *designs) for root in (ROOT, bare))
    for (name, design), instructions in here.items():
        less = there[name, design]
        more = 100 * (instructions / less - 1)
        print(f"{name:8} {design:14} {instructions:9.2f} {less:9.2f} {more:+7.3f} %")


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        run(cases(sys.argv[2:]))
    else:
        main(sys.argv[1:] or DESIGNS)
