"""What a field says of itself: one text for help() and the documentation, refusals that name the nearest."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from asi_pa.designs import DESIGNS, Design, as_design
from asi_pa.designs.fields import about
from asi_pa.designs.table import HOOKS
from asi_pa.report.reference import design_text

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
