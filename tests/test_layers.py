"""The rooms of the package, in order: each imports and cimports only what stands above it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: Rooms and lone files from the top down; docs/architecture.md says what each is for.
ROOMS = (
    ("files", "errors", "progress", "limits", "schema", "arrays", "streams", "names", "tabular", "executors"),
    ("kernel",),
    ("physmap",),
    ("designs",),
    ("trace",),
    ("engine", "_core"),
    ("run",),
    ("verify",),
    ("audit",),
    ("experiment",),
    ("allocator",),
    ("report",),
    ("results",),
    ("sweeps",),
    ("commands",),
    ("cli", "__main__"),
)
RANK = {name: rank for rank, names in enumerate(ROOMS) for name in names}
#: Who stands inside the engine above the zone itself, which lies in asi_pa/ under its old name.
ABOVE_THE_ZONE = ("types", "mapping")

IMPORT = re.compile(
    r"^\s*(?:from asi_pa\.(?P<module>[\w.]+) c?import|from asi_pa c?import (?P<names>[\w, ()]+)"
    r"|c?import asi_pa\.(?P<dotted>[\w.]+))",
    re.MULTILINE,
)


def sources() -> list[Path]:
    """Every source of the package, Cython's declarations and stubs included."""
    endings = (".py", ".pyi", ".pyx", ".pxd")
    return sorted(path for path in (ROOT / "asi_pa").rglob("*.p*") if path.suffix in endings)


def targets(text: str) -> list[str]:
    """The modules of the package that a source imports or cimports, without the package's name."""
    found = []
    for match in IMPORT.finditer(text):
        if match["names"]:
            found += [name for name in re.findall(r"\w+", match["names"]) if name in RANK]
        else:
            found.append(match["module"] or match["dotted"])
    return found


def wrong(path: str, text: str) -> list[str]:
    """The imports of a source (path below the package) that lead to a room below its own."""
    room = Path(path).parts[0].partition(".")[0]
    if room == "__init__":
        return []
    return [name for name in targets(text) if RANK[name.partition(".")[0]] > RANK[room]]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT / "asi_pa")))
def test_a_room_imports_what_stands_above_it(path):
    below = path.relative_to(ROOT / "asi_pa")
    assert wrong(str(below), path.read_text()) == []


def test_every_file_stands_in_a_room():
    found = {path.relative_to(ROOT / "asi_pa").parts[0].partition(".")[0] for path in sources()}
    assert found - {"__init__"} == set(RANK)


def test_nothing_is_imported_relatively():
    for path in sources():
        assert not re.search(r"^\s*from \.", path.read_text(), re.MULTILINE), path


def test_the_zone_stands_below_types_and_mapping_alone():
    for path in sources():
        below, found = path.relative_to(ROOT / "asi_pa"), targets(path.read_text())
        engine = {name.partition(".")[2] for name in found if name.startswith("engine.")}
        if below.stem == "_core":
            assert engine <= set(ABOVE_THE_ZONE), below
        if below.parts[0] == "engine" and below.stem in ABOVE_THE_ZONE:
            assert "_core" not in found, below


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("trace/format.py", "from asi_pa.engine.machine import Machine"),
        ("physmap/ops.pyx", "    from asi_pa.engine.pcp cimport pcp_put"),
        ("kernel/gfp.py", "from asi_pa import designs"),
        ("engine/pcp.pxd", "cimport asi_pa.run.hits"),
    ],
)
def test_a_planted_arrow_is_found(path, line):
    text = (ROOT / "asi_pa" / path).read_text()
    assert wrong(path, text) == []
    assert len(wrong(path, f"{text}\n{line}\n")) == 1
