"""The list of faults applies to the sources as they are; running it is ``make mutants``."""

import re

import pytest

from tests import mutants
from tests.mutants import (
    DATA,
    DOCS,
    NOT_MEASURED,
    ROOT,
    Mutant,
    Sources,
    chosen,
    enclosing,
    plain,
    read_mutants,
    read_seen,
    run_name,
    tables,
)

MUTANTS = read_mutants()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_fault_applies_once(mutant):
    text = (ROOT / mutant.file).read_text()
    assert mutant.apply(text) != text
    assert mutant.rule
    assert re.fullmatch(r"[a-z0-9.-]+", mutant.name)


def test_there_are_enough():
    assert len([mutant for mutant in MUTANTS if not mutant.unseen]) >= 100


def test_the_docs_name_every_fault():
    text = DOCS.read_text()
    assert [mutant.name for mutant in MUTANTS if f"`{mutant.name}`" not in text] == []


def test_a_fault_that_does_not_apply_is_refused():
    mutant = Mutant("twice", "a rule", "a file", "ab", "c")
    for text in ("", "ab ab"):
        with pytest.raises(ValueError, match=f"{text.count('ab')} times, not once"):
            mutant.apply(text)
    with pytest.raises(ValueError, match="the same"):
        Mutant("same", "a rule", "a file", "ab", "ab").apply("ab")


def test_a_copy_that_cannot_be_imported_is_no_fault_noticed(monkeypatch, tmp_path):
    monkeypatch.setattr(mutants, "replay", lambda *_: ([], "ended with status 1: ImportError"))
    with pytest.raises(RuntimeError, match=r"cannot be imported: .*ImportError"):
        mutants.replay_all(tmp_path, [DATA / "a.npz"], False)


def test_choosing_by_name():
    assert {mutant.name for mutant in chosen(MUTANTS, ["kernel-7.2-*"])} < {m.name for m in MUTANTS}
    with pytest.raises(ValueError, match="no mutant is named nothing"):
        chosen(MUTANTS, ["nothing"])


def test_what_a_change_rebuilds():
    sound = Sources()
    modules = sound.modules()
    engine = {f"engine/{name}" for name in ("pcp", "page_alloc", "page_isolation", "machine")}
    assert {"_core", "verify/replay", *engine} <= set(modules)

    def rebuilt(name):
        changed = Sources({f"asi_pa/{name}": (ROOT / "asi_pa" / name).read_text() + "\n"})
        return {module for module in modules if changed.key(module) != sound.key(module)}

    assert rebuilt("_core.pyx") == {"_core"}
    assert {"_core", "engine/pcp", "verify/replay"} <= rebuilt("_core.pxd")
    assert "physmap/physmap" not in rebuilt("_core.pxd")


def test_the_tables_say_what_was_measured():
    text = DOCS.read_text()
    assert tables(text, MUTANTS, read_seen()) == text, "python tests/mutants.py --docs rewrites them"
    assert NOT_MEASURED not in text


def test_what_was_seen_names_faults_and_runs():
    runs = {run_name(path) for path in DATA.rglob("*.npz")}
    seen = read_seen()
    assert {run for names in seen.values() for run in names} <= runs
    assert set(seen) == {mutant.name for mutant in MUTANTS}
    assert {name for name, names in seen.items() if not names} == {m.name for m in MUTANTS if m.unseen}


def test_comments_go_and_strings_stay():
    text = 'a /* it\'s "b" */ = "x/*\\"y" + \'"\'; /* c */ b = "*/";\n\n\nd'
    assert plain(text) == 'a  = "x/*\\"y" + \'"\';  b = "*/";\nd'


def test_the_position_of_a_fault():
    text = "cdef inline int one(zone_t *z) noexcept nogil:\n    return 1\n\ncdef enum:\n    TWO = 2\n"
    assert enclosing(text, text.index("return")) == "one"
    assert enclosing(text, text.index("TWO")) is None
