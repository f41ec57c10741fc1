"""Recorded runs of compaction: what is refused, and what the log and ``--explain`` say in words."""

from __future__ import annotations

import json

import numpy as np
import pytest

from asi_pa.verify.explain import explain
from asi_pa.verify.recording import read_recording
from asi_pa.verify.verdict import event_in_words, verify_file
from tests.verify.cut_recorded_run import DATA, write

RUN = DATA / "compaction-7.2" / "C13-1.npz"


def arrays_of(path):
    with np.load(path) as data:
        arrays = {name: np.array(data[name], order="C") for name in data.files}
    return arrays, json.loads(str(arrays.pop("meta")))


def changed(tmp_path, arrays, meta):
    write(tmp_path / "changed.npz", {"meta": np.array(json.dumps(meta)), **arrays})
    return tmp_path / "changed.npz"


@pytest.mark.parametrize(
    ("code", "column", "value", "why"),
    [
        (20, 3, 2, "proactive"),
        (21, 3, 3, "impossible priority"),
        (22, 3, -1, "impossible priority"),
        (22, 1, 11, "impossible order"),
        (24, 1, 11, "impossible order"),
        (21, 2, 4096, "unknown request flags"),
        (1, 2, 256, "only movable folios"),
        (1, 2, 4096, "unknown request flags"),
    ],
)
def test_operations_that_cannot_be(tmp_path, code, column, value, why):
    arrays, meta = arrays_of(RUN)
    row = int(np.flatnonzero(arrays["ops"][:, 0] == code)[0])
    arrays["ops"][row, column] = value
    with pytest.raises(ValueError, match=f"operation {row} .*{why}"):
        read_recording(changed(tmp_path, arrays, meta))


def test_without_its_log_a_run_of_compaction_is_refused(tmp_path):
    arrays, meta = arrays_of(RUN)
    del arrays["events"]
    with pytest.raises(ValueError, match="compaction in a run whose events do not tell of it"):
        read_recording(changed(tmp_path, arrays, meta))


@pytest.mark.parametrize(("word", "value"), [(1, 1 << 20), (6, 99), (8, -2)])
def test_positions_that_cannot_be(tmp_path, word, value):
    arrays, meta = arrays_of(RUN)
    blocks = meta["spanned"] >> meta["pageblock_order"]
    end = int(arrays["dump_off"][1])
    arrays["dumps"][end - blocks - 1 - 10 + word] = value
    with pytest.raises(ValueError, match=r"dump 0 has compact_"):
        read_recording(changed(tmp_path, arrays, meta))


def test_skip_bits_that_are_none(tmp_path):
    arrays, meta = arrays_of(RUN)
    arrays["dumps"][int(arrays["dump_off"][1]) - 1] = 2
    with pytest.raises(ValueError, match="skip bit that is neither 0 nor 1"):
        read_recording(changed(tmp_path, arrays, meta))


def test_every_row_of_the_log_has_words():
    arrays, _ = arrays_of(RUN)
    kinds = set()
    for event in arrays["events"]:
        words = event_in_words(event)
        assert words.startswith(f"operation {event[0]}: ")
        assert "kind" not in words
        kinds.add(int(event[1]))
    assert kinds >= {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14}
    assert event_in_words(np.array([3, 1, 40, 50, 2 + 256, -11])) == (
        "operation 3: move 40 to 50, order 2, sync light, -11"
    )
    assert event_in_words(np.array([3, 7, 40, 50, 5, 0])).endswith("free scanner at 50, complete")
    assert "kind 99" in event_in_words(np.array([3, 99, 0, 0, 0, 0]))


def test_a_difference_is_shown_with_what_the_run_held(tmp_path):
    arrays, meta = arrays_of(RUN)
    moves = np.flatnonzero(arrays["events"][:, 1] == 1)
    at = int(moves[len(moves) // 2])
    arrays["events"][at, 3] += 1
    path = changed(tmp_path, arrays, meta)
    verdict = verify_file(path)
    row = int(arrays["events"][at, 0])
    assert not verdict.exact
    assert verdict.at == row
    assert f"event {at}: expected operation {row}: move" in verdict.difference
    text = explain(path, row)
    assert "compaction's log differs at row" in text
    assert "migration scanner at" in text
    assert "held as targets" in text
    assert "isolated, to move in this order" in text
    assert "compact_cached_free_pfn" in text


def test_an_exact_run_is_shown_too():
    arrays, _ = arrays_of(RUN)
    row = int(arrays["events"][arrays["events"][:, 1] == 6][0, 0])
    text = explain(RUN, row)
    assert "rows, exact" in text
    assert "a run begins" in text
    assert "skip bits set" in text
