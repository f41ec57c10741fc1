"""Random operations on the machines of recorded runs: whatever is well formed leaves every invariant whole.

The recording's answers are made up, so nothing is compared; what matters is that the engine takes any
operations that ``read_recording`` lets through - isolation amid allocations, ranges that overlap, reserves,
page reporting, on several CPUs and in two zones - and that ``verify()`` finds nothing broken on the way.
"""

import json

import numpy as np
import pytest

from asi_pa.verify import Replayed
from asi_pa.verify.recording import read_recording
from tests.verify.cut_recorded_run import DATA, write

MACHINES = ["D3n-1", "D3d-1", "D5s-1", "D6p-1", "D7h-1", "D7p-1", "D8p-1", "D9p-1", "D10p-1", "D11v-1"]
MACHINES += ["R4-1", "R4h-1", "R5-1", "S4-1", "S4w-1", "S5-1", "S9-1"]
#: As posted in September, a flip of a CMA block leaves its tail on another type's list (Sx-g2).
MISPLACED = {"S9-1": "a free block is on the list of another type than its pageblock's"}
BLOCK = 512


def some_range(rng, spanned):
    """A range of frames: mostly whole pageblocks, sometimes with ragged ends."""
    start = int(rng.integers(0, spanned // BLOCK)) * BLOCK
    end = min(spanned, start + BLOCK * int(rng.integers(1, 5)))
    if rng.random() < 0.3:
        start += int(rng.integers(0, BLOCK // 2))
    if rng.random() < 0.3:
        end -= int(rng.integers(0, BLOCK // 4))
    return start, end


def some_operations(rng, n, meta, types, protects):
    """(n, 5): operations that a recording could have."""
    ops = np.zeros((n, 5), np.int32)
    live, isolated = [], []
    orders = rng.choice([0, 1, 2, 3, 4, 5, 8, 9, 10], size=4)
    frees = 0.4 * rng.random()
    bits = [4, 8, 16, 32, 64, 128] + [256, 512] * protects + [256] * bool(meta.get("zone2_spanned"))
    unmixed = [0, 1, 2] if types == 6 else [0, 1, 2, 3] if types == 7 else [0, 1, 2, 6, 7, 8]
    for row in range(n):
        draw = rng.random()
        if draw < 0.5:
            order = int(rng.choice(orders)) if rng.random() < 0.7 else int(rng.integers(0, 11))
            flags = int(rng.integers(0, 3)) | sum(bit for bit in set(bits) if rng.random() < 0.3)
            ops[row] = (1, order, flags, 0, 0)
            live.append(row)
        elif draw < 0.5 + frees and live:
            ops[row] = (2, 0, 0, live.pop(int(rng.integers(len(live)))), 0)
        else:
            code = int(rng.choice([6, 7, 7, 8, 8, 9, 9, 11, 15, 16]))
            start, end = some_range(rng, meta["spanned"])
            if code == 7:
                isolated.append((start, end))
            if code == 8 and isolated and rng.random() < 0.7:
                start, end = isolated.pop()
            if code in (7, 8, 9):
                ops[row] = (code, int(rng.integers(0, 2)) + (code == 7), 0, start, end)
            elif code == 11:
                given = int(rng.choice(unmixed))
                ops[row] = (11, 0, 0 if protects else given, int(rng.integers(0, 2)), given * protects)
            elif code == 16:
                ops[row] = (16, 0, 0, int(rng.integers(0, types)), int(rng.integers(0, 11)))
            else:
                ops[row] = (code, 0, 0, 0, 0)
            if code == 9:
                live.append(row)
    return ops


@pytest.mark.parametrize("stem", MACHINES)
def test_well_formed_operations_break_nothing(tmp_path, stem):
    with np.load(next(DATA.rglob(f"{stem}.npz"))) as data:
        arrays = {name: data[name] for name in data.files}
    meta = json.loads(str(arrays["meta"]))
    zones = 2 if meta.get("zone2_spanned") else 1
    rng = np.random.default_rng([7, *stem.encode()])
    n = 1500
    protects = "resx" in arrays
    types = int(arrays["dumps"][23])
    ops = some_operations(rng, n, meta, types, protects)
    if arrays["ops"].shape[1] == 6:
        ops = np.hstack([ops, rng.integers(0, meta["nr_cpus"], (n, 1), np.int32)])
    meta |= {"n_ops": n}
    made = {
        "meta": np.array(json.dumps(meta)),
        "ops": ops,
        "res": np.zeros((n, 4), np.int32),
        "dump_at": np.zeros(zones, np.int32),
        "dump_off": arrays["dump_off"][:zones],
        "dumps": arrays["dumps"][: arrays["dump_off"][zones]],
    }
    if protects:
        made |= {"resx": np.zeros((n, 8), np.int32), "events": np.zeros((0, 5), np.int32)}
    write(tmp_path / "random.npz", made)
    replayed = Replayed(read_recording(tmp_path / "random.npz"))
    for stop in range(100, n + 1, 100):
        replayed.run(stop)
        broken = replayed.machine.verify()
        assert broken is None or (stem in MISPLACED and MISPLACED[stem] in broken), (
            f"after operation {stop - 1}: {broken}"
        )
    assert (replayed.replay.answers[:, 0] >= 0).any()
