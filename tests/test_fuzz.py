"""A short form of `make fuzz`: the same damaged inputs on every machine."""

import pytest

pytest.importorskip("asi_pa.trace.scanner", reason="the extension modules are not built")

from tests.fuzz import READERS, fuzz


@pytest.mark.parametrize("name", READERS)
def test_damaged_inputs_are_refused_in_words(name: str) -> None:
    assert fuzz(name, 150, derandomize=True) >= 150
