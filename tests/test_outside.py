"""The faults outside the engine still apply, each to one place, and name tests that are there."""

from pathlib import Path

from tests.outside import read_faults

ROOT = Path(__file__).resolve().parent.parent


def test_the_list() -> None:
    faults = read_faults()
    assert len(faults) >= 60
    for fault in faults:
        assert fault.applied()
        for name in fault.tests:
            assert (ROOT / name).exists(), name
