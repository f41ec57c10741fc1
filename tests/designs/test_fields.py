"""What a field says of itself: one text for help() and the documentation, refusals that name the nearest."""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from asi_pa.designs import DESIGNS, Design, as_design
from asi_pa.designs.fields import about
from asi_pa.designs.table import HOOKS
from asi_pa.engine.machine import Machine
from asi_pa.kernel.gfp import GFP_KERNEL, GFP_NAMES
from asi_pa.report.reference import design_text
from tests.twin.engines import small_spec

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_and_help_have_the_text_of_every_field() -> None:
    page = (ROOT / "docs/extend/fields.md").read_text()
    assert page == design_text(), "run: make docs"
    shown = " ".join((inspect.getdoc(Design) or "").split())
    for field in fields(Design):
        assert about(field).text in page, field.name
        assert about(field).text in shown, field.name
        assert f"| `{field.name}` |" in page


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("migratetype:zeroin=no", "'zeroin=no' changes nothing of migratetype/sound: did you mean zeroing?"),
        ("migratetype:zeroing=dirt", "zeroing is one of none, .*: did you mean dirty?"),
        ("migratetype:refill_order=4", "refill_order 4 has no effect: it is read where `wrapper` is pool"),
        ("linux:flips=march", "flips 'march' has no effect: it is read where pageblocks' labels"),
        ("linux:wrapper=pool", "wrapper 'pool' has no effect: it is read where `protects`"),
        ("pool/sound:zeroing=flip", "zeroing 'flip' has no effect: .* `wrapper` is not pool"),
        ("migratetype:queue_delay=9", "queue_delay 9 has no effect: it is read where `wrapper` is queue"),
        ("migratetype:unmap_high=9", "unmap_high 9 has no effect: it is read where `unmap_low`"),
        ("migratetype:unmap_low=9,unmap_high=8", "unmap_high 8 has no effect: it is below unmap_low 9"),
        ("rfcv2-queue/sound:queue_delay=0", "queue_delay is a number from 1 to 2.62"),
    ],
)  # fmt: skip
def test_a_word_is_refused_by_name(word: str, says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("?", r"\?")):
        as_design(word)


def test_a_field_that_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'unmap_lo' is no field of a design: did you mean unmap_low\?"):
        Design.based_on("migratetype", name="mine", unmap_lo=3)


def test_every_field_of_the_built_in_designs_has_an_effect() -> None:
    for design in DESIGNS.values():
        assert as_design(replace(design, title="the same")) is not None


def _class(name: str, value: Any) -> type[Design]:
    return type("Mine", (Design,), {name: value})


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("unmap_ahed", r"Mine.unmap_ahed is no hook of a design: did you mean unmap_ahead\?"),
        ("chose_block", r"Mine.chose_block is no hook of a design: did you mean choose_block\?"),
        ("xyzzy", r"Mine.xyzzy is no hook of a design \(there are unmap_ahead, choose_block"),
        ("refill_order", r"Mine.refill_order: fields are given .* Mine.based_on\(DESIGN, refill_order=...\)"),
    ],
)
def test_a_method_that_is_no_hook_is_refused(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        _class(name, lambda _self, _view: 0)


def test_what_helps_a_hook_begins_with_an_underscore() -> None:
    made = _class("_marks", (1, 2)).based_on("migratetype", name="mine")
    assert as_design(made) is made


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_nobody_asks_is_refused(hook: str) -> None:
    mine = _class(hook, lambda _self, *_: None).based_on("linux", name="mine")
    with pytest.raises(
        ValueError, match=re.escape(f"design 'mine': {hook}() has no effect: it is asked where ")
    ):
        as_design(mine)


def test_a_design_is_called_by_its_name() -> None:
    """In f-strings, and as pytest's ``ids=str``."""
    assert str(as_design("freetype:flip_used=move,flip_free=75")).startswith("freetype")
    assert f"{as_design('linux')}" == "linux"


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("unmap_low", float("nan"), r"unmap_low nan is not a number from 0 to 2\^62"),
        ("unmap_low", True, "unmap_low True is not a number"),
        ("unmap_low", "512", "unmap_low '512' is not a number"),
        ("unmap_low", -1, "unmap_low -1 is not a number"),
        ("unmap_low", 1 << 70, "unmap_low 1180591620717411303424 is not a number"),
        ("flip_free", 75.0, "flip_free 75.0 is not a number from 1 to 100"),
        ("contig_flips", 1, "contig_flips 1 is neither True nor False"),
        ("zeroing", None, "zeroing None is no text"),
        ("title", 5, "title 5 is no text"),
        ("name", "", "name '': something that can be printed"),
        ("name", "two\nlines", "name 'two.nlines': something that can be printed"),
        ("protects", None, "protects None is no text"),
        ("source", [1], r"source \(1,\) is no tuple of texts"),
        ("freetypes", None, "freetypes: 1 to 15 of Freetype"),
        ("pcp_banks", (), "pcp_banks: a tuple of PcpBank, one at least"),
        ("pcp_banks", None, "pcp_banks: a tuple of PcpBank"),
        ("start", None, "start has a pair of names for each of three migratetypes"),
        ("start", "abc", "start has a pair of names for each of three migratetypes"),
        ("boot", "Movabel", "boot: no freetype 'Movabel'"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused_by_name(field: str, value: Any, says: str) -> None:
    with pytest.raises(ValueError, match=f"^design .*: {says}"):
        as_design(replace(as_design("migratetype"), **{"name": "mine", field: value}))


def test_one_name_stands_for_several() -> None:
    """Where a comma was forgotten, too: a text is no tuple of its letters."""
    base = as_design("migratetype")
    one: dict[str, Any] = {"fallbacks": "Reclaimable"}
    changed: dict[str, Any] = {"source": "a letter", "name": "mine"}
    kinds = tuple(replace(kind, **one) if kind.name == "Movable" else kind for kind in base.freetypes)
    made = as_design(replace(base, freetypes=kinds, **changed))
    assert made.source == ("a letter",)
    assert made.freetypes[made.freetype("Movable")].fallbacks == ("Reclaimable",)


def test_a_field_is_given_once() -> None:
    with pytest.raises(ValueError, match="'unmap_low=6': unmap_low is given twice"):
        as_design("migratetype:unmap_low=5,unmap_low=6")


def test_a_file_of_designs_is_asked_for_one() -> None:
    with pytest.raises(ValueError, match=r"^mine.py: which of its designs\? mine.py:NAME$"):
        as_design("mine.py")


async def _later(_self: Any, _view: Any) -> int:
    return 0


def _many(_self: Any, _view: Any) -> Any:
    yield 0


@pytest.mark.parametrize(
    ("hook", "made", "says"),
    [
        ("unmap_ahead", lambda _self: 0, r"it is called as unmap_ahead\(view\): too many positional"),
        ("choose_block", lambda _s, _v, _order: 0, r"called as choose_block\(view, order, freetype\): "),
        ("choose_refill", lambda _s, _v, _o, _p: 0, r"as choose_refill\(view, order\): missing a required"),
        ("unmap_ahead", staticmethod(lambda: 0), r"called as unmap_ahead\(view\): too many positional"),
        ("unmap_ahead", 5, r"it is called as unmap_ahead\(view\) and returns a number"),
        ("unmap_ahead", _later, r"it is called as unmap_ahead\(view\) and returns a number"),
        ("unmap_ahead", _many, r"it is called as unmap_ahead\(view\) and returns a number"),
    ],
)  # fmt: skip
def test_a_hook_that_cannot_be_called_is_refused_where_it_is_written(hook: str, made: Any, says: str) -> None:
    with pytest.raises(ValueError, match=f"^Mine.{hook}: .*{says}"):
        _class(hook, made)


def test_other_ways_to_write_a_hook() -> None:
    for made in (staticmethod(lambda _view: 0), lambda _self, _view, _more=3: 0, lambda _self, *_any: 0):
        assert as_design(_class("unmap_ahead", made).based_on("migratetype", name="mine"))


@pytest.mark.parametrize(
    ("hook", "made", "error", "says"),
    [
        ("unmap_ahead", lambda _s, _v: 10**30, ValueError, "unmap_ahead.. returned 10+, which is too large"),
        ("unmap_ahead", lambda _s, _v: 1.5, ValueError, "unmap_ahead.. returned 1.5, which is no number"),
        ("unmap_ahead", lambda _s, _v: sys.exit(3), RuntimeError, "'mine': unmap_ahead.. raised SystemExit"),
        ("unmap_ahead", lambda _s, v: v.freepages(), AttributeError, "did you mean free_pages"),
        ("unmap_ahead", lambda _s, v: v.free_pages(mapped="yes"), ValueError, "mapped 'yes' is neither True"),
        ("unmap_ahead", lambda _s, v: v.counts(freetype="Mov"), ValueError, r"no freetype 'Mov' \(there are"),
        ("unmap_ahead", lambda _s, v: v.block_free(1 << 60), ValueError, "is not in "),
        ("choose_block", lambda *_: "pfn", ValueError, "choose_block.. returned 'pfn', which is no number"),
    ],
)  # fmt: skip
def test_what_a_hook_does_wrong_reaches_the_caller(
    hook: str, made: Any, error: type[Exception], says: str
) -> None:
    machine = Machine(small_spec(pages=64), _class(hook, made).based_on("freetype", name="mine"))

    def fill_and_flip() -> None:
        for pfn in [machine.alloc(0, GFP_KERNEL) for _ in range(48)]:
            machine.free(pfn, 0)
        for _ in range(32):
            machine.alloc(0, GFP_KERNEL | GFP_NAMES["__GFP_SENSITIVE"])

    with pytest.raises(error, match=says):
        fill_and_flip()
