"""What is stored with the package is what this version computes: yields, and holes that can be replayed."""

from __future__ import annotations

from typing import Any

import pytest

from asi_pa.designs import DESIGNS
from asi_pa.experiment.stored import load, posted, shows, stored, yields

KEPT = load()
HOLES = [(name, number) for name, found in KEPT["holes"].items() for number in range(len(found))]


def test_every_built_in_design_is_there() -> None:
    names = [name for name, design in DESIGNS.items() if name == design.name]
    assert list(KEPT["yields"]) == names, "run: make stored"
    assert set(KEPT["holes"]) == {name for name in names if DESIGNS[name].protects}
    sound = [name for name in KEPT["holes"] if not DESIGNS[name].as_posted]
    assert [len(KEPT["holes"][name]) for name in sound] == [0] * len(sound)


@pytest.mark.parametrize("name", list(KEPT["yields"]))
def test_yields_computed_again(name: str) -> None:
    assert yields([name]) == {name: KEPT["yields"][name]}, "run: make stored"


@pytest.mark.parametrize(("name", "number"), HOLES)
def test_a_stored_counterexample_still_shows_what_it_showed(name: str, number: int) -> None:
    found: dict[str, Any] = KEPT["holes"][name][number]
    assert shows(found["script"]) == found["shows"], "run: make stored"


def test_a_result_has_the_part_that_is_about_its_designs() -> None:
    assert posted("migratetype/sound") == "migratetype/as-posted"
    assert posted("linux") is None
    part = stored(["linux", "migratetype/sound"])
    assert set(part["yields"]) == {"linux", "migratetype/sound"}
    assert part["holes"] == {"migratetype/sound": 0}
    assert part["holes_as_posted"] == {"migratetype/sound": len(KEPT["holes"]["migratetype/as-posted"])}
    assert 0 < part["yields"]["migratetype/sound"] < part["yields"]["linux"] <= 1
