"""How near the model is stands beside a comparison, and bounds what may be called better."""

from __future__ import annotations

from pathlib import Path

from asi_pa.experiment.answer import raised
from asi_pa.experiment.measures import measure_named
from asi_pa.experiment.rule import judge
from asi_pa.run.statement import brief, errors_of, measured_floors
from asi_pa.run.validate import validate

DATA = Path(__file__).resolve().parents[1] / "data" / "validation"


def test_a_difference_below_the_measured_error_is_not_better() -> None:
    mixed = measure_named("mixed")
    ours, theirs = [90.0] * 16, [120.0] * 16
    assert judge(mixed, ours, theirs).word == "better"
    assert judge(raised(mixed, {"mixed": 35.0}), ours, theirs).word == "undecided"
    assert judge(raised(mixed, {"mixed": 60.0}), ours, theirs).word == "equal"
    assert judge(raised(mixed, {"real": 35.0}), ours, theirs).word == "better"
    assert raised(mixed, {"mixed": 1.0}).absolute == mixed.absolute


def test_what_was_measured_fits_a_screen() -> None:
    found = errors_of(validate(DATA / "redis.trace", restarts=0))
    assert measured_floors(found) == {"mixed": found.mixed_blocks}
    assert len(brief(found)) <= 70
    assert brief(None) == "no snapshots, so nothing is known of how near the model is"
    assert measured_floors(None) == {}
