"""What runs operations touches no Python object: read in the C that Cython made of it.

From the loop on, every function that is named in the body of one that is reached is reached, in whatever
module it is, and so is what is put into the pointers that the engine calls through.  A design's decisions
written in Python (``engine/hooks.pyx``) are put into others: they are Python's by purpose.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "asi_pa"
#: Where operations are run from: a replay, bulk calls, recorded runs' and the auditor's machines call these.
ROOTS = ("run_ops", "alloc_many", "free_many", "mark_many", "design_alloc", "design_free")
#: Pointers that the engine calls through, and that only the engine fills.
POINTERS = ("relief", "evacuate", "alloc", "keep", "shrink", "work", "balance")
#: Functions that must be among those reached, or nothing was looked at.
KNOWN = (
    "step", "learn_alloc", "free_from_tail", "pcp_refill", "pcp_freed", "pcp_make_room", "rmqueue_slow",
    "rmqueue_steal", "merge_blocks", "get_page_from_freelist", "mm_alloc", "kswapd", "direct_relief",
    "compact_zone", "rmqueue_flip", "blocks_map", "physmap_map", "evacuate_block", "pool_alloc", "queue_keep",
)  # fmt: skip
OBJECT = re.compile(r"\bPy_(?!ssize_t\b)\w+|\bPy[A-Z]\w+|\b__Pyx_\w+|\b__pyx_(?:empty|builtin|n_s|mstate)\w*")
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
HEAD = re.compile(r"^static [^;={}]*?\b(__pyx_f_\w+)\([^;{}]*\) \{$", re.MULTILINE)
NAME = re.compile(r"\b__pyx_f_\w+")


def bodies(text: str) -> dict[str, str]:
    """C functions of a module's own code by name, without comments."""
    text = COMMENT.sub("", text)
    found = {}
    for head in HEAD.finditer(text):
        end = text.index("\n}\n", head.end())
        found[head[1]] = text[head.end() : end]
    return found


def put_into_pointers(text: str) -> set[str]:
    """Functions that are put into one of the engine's pointers."""
    pattern = rf"(?:->|\.)(?:{'|'.join(POINTERS)}) = (?:\([^;]*?\))?(__pyx_f_\w+);"
    return set(re.findall(pattern, COMMENT.sub("", text)))


def reached(functions: dict[str, str], roots: set[str]) -> set[str]:
    todo, seen = list(roots), set(roots)
    while todo:
        for name in NAME.findall(functions[todo.pop()]):
            if name in functions and name not in seen:
                seen.add(name)
                todo.append(name)
    return seen


def objects(functions: dict[str, str], names: set[str]) -> list[str]:
    """Where a Python object or a call of Python's is, in these functions."""
    return sorted(f"{name}: {word}" for name in names for word in set(OBJECT.findall(functions[name])))


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """The C of every module, as built from the sources that are here."""
    found = {}
    for source in sorted(PACKAGE.rglob("*.pyx")):
        made = source.with_suffix(".c")
        if not made.exists():
            pytest.skip(f"{made.name} is not here: the package was built elsewhere")
        found[str(source.relative_to(PACKAGE))] = made.read_text()
    return found


def test_what_runs_operations_touches_no_python_object(texts: dict[str, str]) -> None:
    functions: dict[str, str] = {}
    for text in texts.values():
        # an inline function of a .pxd is in the C of every module that calls it
        functions |= bodies(text)
    roots = {name for name in functions if name.endswith(tuple(f"_{root}" for root in ROOTS))}
    assert len(roots) == len(ROOTS)
    for text in texts.values():
        roots |= put_into_pointers(text)
    names = reached(functions, roots)
    missing = [known for known in KNOWN if not any(name.endswith(f"_{known}") for name in names)]
    assert not missing, f"not reached: {missing}"
    assert objects(functions, names) == []


FOOLED = """
cdef object kept = []

cdef int quiet(int n) noexcept nogil:
    return n + 1

cdef int loud(int n) noexcept nogil:
    with gil:
        kept.append(n)
    return n

cdef int caller(int n, int how) noexcept nogil:
    return quiet(n) if how else middle(n)

cdef int middle(int n) noexcept nogil:
    return loud(n)

def run(int n):
    return caller(n, 0)
"""


def test_a_python_object_two_calls_away_is_found(tmp_path: Path) -> None:
    compiler = pytest.importorskip("Cython.Compiler.Main")
    source = tmp_path / "fooled.pyx"
    source.write_text(FOOLED)
    compiler.compile_single(str(source), compiler.CompilationOptions(language_level=3), "fooled")
    functions = bodies(source.with_suffix(".c").read_text())
    assert {name.rpartition("_")[2] for name in functions} == {"quiet", "loud", "caller", "middle"}
    (caller,) = (name for name in functions if name.endswith("caller"))
    (quiet,) = (name for name in functions if name.endswith("quiet"))
    assert objects(functions, reached(functions, {quiet})) == []
    found = objects(functions, reached(functions, {caller}))
    assert found
    assert all("loud" in line for line in found)
