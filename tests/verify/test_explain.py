"""``asi-pa verify --explain``: what a person needs to find a wrong rule."""

import numpy as np
import pytest

from asi_pa.verify import verify_file
from asi_pa.verify.explain import explain
from tests.verify.cut_recorded_run import DATA, write


def committed(stem):
    return next(DATA.rglob(f"{stem}.npz"))


def changed(tmp_path, stem, name, index, by):
    """A committed run with one number raised."""
    with np.load(committed(stem)) as data:
        arrays = {key: np.array(data[key]) for key in data.files}
    arrays[name][index] += by
    write(tmp_path / f"{stem}.npz", arrays)
    return tmp_path / f"{stem}.npz"


def test_a_wrong_result_is_shown_with_both_frames(tmp_path):
    with np.load(committed("D8-1")) as data:
        ops, res = data["ops"], data["res"]
    row = int(np.flatnonzero((ops[:, 0] == 1) & (ops[:, 1] == 0) & (res[:, 0] >= 0))[700])
    path = changed(tmp_path, "D8-1", "res", (row, 0), 1)
    assert verify_file(path).at == row
    text = explain(path, row)
    expected, got = res[row, 0] + 1, res[row, 0]
    assert f"operation {row} of " in text
    assert f"{expected} / {got} !" in text
    assert f"expected frame {expected}\n" in text
    assert f"our frame {got}\n" in text
    assert f"{got}: allocated with order 0 by operation {row}; pageblock " in text
    assert f"the first operation that differs: {row}; 1 of the first" in text


def test_the_rows_around_it_are_shown():
    lines = explain(committed("D8-1"), 500).splitlines()
    start = lines.index("Answers, expected / ours where they differ (!):")
    rows = lines[start + 2 : start + 9]
    assert [row.replace(">", "").split()[0] for row in rows] == [str(n) for n in range(497, 504)]
    assert [row.startswith(">") for row in rows] == [False, False, False, True, False, False, False]


@pytest.mark.parametrize("n", [0, 1, -1])
def test_both_ends_of_a_run(n):
    last = verify_file(committed("D4t-1")).ops - 1
    text = explain(committed("D4t-1"), n % (last + 1))
    assert "dump 0" in text or n == -1
    assert "BELOW_HIGH" in text


def test_a_dump_that_differs_stands_beside_ours(tmp_path):
    with np.load(committed("D4t-1")) as data:
        begin, at = int(data["dump_off"][1]), int(data["dump_at"][1])
    path = changed(tmp_path, "D4t-1", "dumps", begin + 3 + 5, 512)
    text = explain(path, at - 1)
    assert f"dump 1 @{at}" in text
    assert f"ours @{at}" in text
    assert "watermark_boost" in text
    (line,) = (line for line in text.splitlines() if line.startswith("watermark_boost"))
    assert " ! " in line
    assert "watermark_boost: expected" in text


def test_a_free_shows_the_buddies_that_it_meets():
    with np.load(committed("D3n-1")) as data:
        ops = data["ops"]
    free = int(np.flatnonzero(ops[:, 0] == 2)[200])
    text = explain(committed("D3n-1"), free)
    assert f"free of operation {ops[free, 3]} (order {ops[ops[free, 3], 1]})" in text
    assert "buddy of order" in text


@pytest.mark.parametrize(
    ("stem", "code", "words"),
    [
        ("D8-1", 7, "isolate ["),
        ("D8-1", 8, "undo isolate ["),
        ("D7p-1", 9, "alloc_contig_range ["),
        ("D4t-1", 15, "tick"),
        ("D6-1", 11, "unreserve_highatomic to "),
        ("R4r-1", 16, "take and put back of "),
        ("Rx-a1", 5, "dump"),
    ],
)
def test_every_kind_of_operation_has_words(stem, code, words):
    with np.load(committed(stem)) as data:
        row = int(np.flatnonzero(data["ops"][:, 0] == code)[0])
    assert f": {words}" in explain(committed(stem), row)


def test_events_are_in_words():
    with np.load(committed("Rx-c1")) as data:
        row = int(data["events"][0, 0])
    text = explain(committed("Rx-c1"), row)
    assert "expected event: map of 512 pages" in text
    assert text.count("our event:") == text.count("expected event:")


def test_the_second_zone_is_shown_for_its_frames():
    with np.load(committed("D9-1")) as data:
        row = int(np.flatnonzero((data["ops"][:, 0] == 1) & (data["res"][:, 0] >= 0x40000000))[0])
    text = explain(committed("D9-1"), row)
    assert "zone DMA32, 32768 frames from pfn 491520" in text
    assert f"by operation {row}; pageblock " in text


def test_every_cpu_is_shown():
    text = explain(committed("D11-1"), 900)
    assert all(f"CPU {cpu} count" in text for cpu in range(4))


def test_operations_that_are_not_there(tmp_path):
    for n in (-1, 1 << 40):
        with pytest.raises(ValueError, match=f"operation {n} is not in 0"):
            explain(committed("Rx-a1"), n)
    with pytest.raises(FileNotFoundError):
        explain(tmp_path / "none.npz", 0)
