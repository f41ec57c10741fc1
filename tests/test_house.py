"""What holds for every source: lengths of functions, names that tests may use, structs from dicts."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("asi_pa.engine.machine", reason="the extension modules are not built")

import asi_pa.engine.boot
import asi_pa.engine.machine
from asi_pa.designs import Design
from asi_pa.engine.machine import Machine
from asi_pa.kernel.sizing import single_zone
from asi_pa.kernel.versions import Kernel

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 70
DEFINED = re.compile(r"^(?P<indent> *)(?:def|cpdef|cdef)\b[^=#]*?\b(?P<name>\w+)\(")


def python_functions(text: str) -> Iterator[tuple[str, int]]:
    """(name, lines) of each function of a Python source."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def cython_functions(text: str) -> Iterator[tuple[str, int]]:
    """(name, lines) of each function of a Cython source, from its first line to the last that is indented."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        found = DEFINED.match(line)
        if found is None or " class " in line:
            continue
        head = number
        while head < len(lines) - 1 and not lines[head].partition("#")[0].rstrip().endswith(
            (":", "nogil", ")")
        ):
            head += 1
        if not lines[head].partition("#")[0].rstrip().endswith(":"):
            continue  # a declaration
        last = head
        for at in range(head + 1, len(lines)):
            if lines[at].strip() and len(lines[at]) - len(lines[at].lstrip()) <= len(found["indent"]):
                break
            last = at if lines[at].strip() else last
        yield found["name"], last - number + 1


def too_long(path: Path) -> list[str]:
    functions = python_functions if path.suffix == ".py" else cython_functions
    return [name for name, lines in functions(path.read_text()) if lines > LONGEST]


def test_no_function_is_longer_than_a_screen_or_two() -> None:
    endings = (".py", ".pyx", ".pxd")
    long = {
        str(path.relative_to(ROOT)): too_long(path)
        for path in sorted((ROOT / "asi_pa").rglob("*"))
        if path.suffix in endings
    }
    assert {path: names for path, names in long.items() if names} == {}


@pytest.mark.parametrize(
    ("suffix", "head"),
    [
        (".py", "def f(\n    a: int,\n) -> None:"),
        (".pyx", "cdef inline int f(int a,\n                  int b) noexcept nogil:"),
        (".pyx", "    cdef void f(self) noexcept nogil:"),
        (".pyx", "def f(self, a=(1, 2)):"),
    ],
)
def test_a_long_function_is_found(tmp_path: Path, suffix: str, head: str) -> None:
    indent = " " * (len(head) - len(head.lstrip()) + 4)
    path = tmp_path / f"long{suffix}"
    for lines, names in ((LONGEST, []), (LONGEST + 1, ["f"])):
        body = "\n".join([head, *[f"{indent}pass"] * (lines - head.count("\n") - 1)])
        path.write_text(body + "\n\n\n" + "x = 1\n")
        assert too_long(path) == names


# ---------------------------------------------------------------- tests


def private_imports(text: str) -> list[str]:
    """Names with a leading underscore that a source imports from the package, and modules with one."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "asi_pa":
            names = [*(node.module or "").split(".")[1:], *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names if alias.name.startswith("asi_pa.")
                     for part in alias.name.split(".")[1:]]  # fmt: skip
        else:
            continue
        found += [name for name in names if name.startswith("_") and name not in ("_core", "__version__")]
    return found


def test_tests_import_no_private_names() -> None:
    for path in sorted((ROOT / "tests").rglob("*.py")):
        assert private_imports(path.read_text()) == [], path
    assert private_imports("from asi_pa.cli import main, _parser\nimport asi_pa._hidden") == [
        "_parser",
        "_hidden",
    ]


# ---------------------------------------------------------------- structs from dicts


def scalars_of(struct: str) -> set[str]:
    """The names of a struct's scalars in engine/types.pxd."""
    text = (ROOT / "asi_pa" / "engine" / "types.pxd").read_text()
    body = text.partition(f"cdef struct {struct}:\n")[2]
    body = re.split(r"^\S", body, maxsplit=1, flags=re.MULTILINE)[0]
    return set(re.findall(r"^    (?:int|bint|u?int\d+_t) (\w+)(?!\[|\w)", body, re.MULTILINE))


def without(name: str) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {key: item for key, item in asdict(value).items() if key != name}


@pytest.mark.parametrize("name", [field.name for field in fields(Kernel)])
def test_a_kernel_without_a_field_that_the_engine_asks_for(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A struct is filled from a dict: what is missing raises, nothing is 0 by default."""
    monkeypatch.setattr(asi_pa.engine.machine, "asdict", without(name))
    if name in scalars_of("kernel_t"):
        with pytest.raises(ValueError, match=name):
            Machine(single_zone("16M"), "linux")
    else:
        assert Machine(single_zone("16M"), "linux").verify() is None


def test_every_scalar_of_the_struct_is_a_field_of_a_kernel() -> None:
    assert scalars_of("kernel_t") <= {field.name for field in fields(Kernel)}
    assert len(scalars_of("kernel_t")) > 10


#: In pages where a design gives a multiple: set beside the other fields.
SIZES = {"refill_order", "unmap_high"}


@pytest.mark.parametrize(
    "name", sorted(scalars_of("design_t") & {field.name for field in fields(Design)} - SIZES)
)
def test_a_design_without_a_field_that_the_engine_asks_for(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(
        asi_pa.engine.boot, "fields", lambda design: [field for field in fields(design) if field.name != name]
    )
    with pytest.raises(ValueError, match=name):
        Machine(single_zone("16M"), "linux")
