"""Recorded runs of real kernels: every committed one replays exactly, and so does every shared one."""

import multiprocessing
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from asi_pa.designs import DESIGNS
from asi_pa.verify import Replayed, verify_file, verify_recording
from asi_pa.verify.dump import pcp_field_words
from asi_pa.verify.recording import read_recording
from tests.verify.cut_recorded_run import DATA, cut, subset

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("ASI_PA_SHARED") or ROOT.parent / "shared") / "oracle"
COMMITTED = sorted(DATA.rglob("*.npz"))
#: Recorded by the project's own driver (oracle/), no cuts of the sets that `subset.txt` lists.
OWN = ("found", "linux-7.3")


def name_of(path):
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", COMMITTED, ids=name_of)
def test_committed_runs_are_exact(path):
    verdict = verify_file(path)
    assert verdict.difference == ""
    assert verdict.exact
    assert (verdict.ops_exact, verdict.dumps_exact, verdict.events_exact) == (
        verdict.ops,
        verdict.dumps,
        verdict.events,
    )
    assert verdict.ops > 0
    assert verdict.dumps > 0
    assert verdict.at == -1


def test_the_committed_runs_are_those_of_the_list():
    assert sorted(name for name, _ in subset()) == [
        str(p.relative_to(DATA).with_suffix("")) for p in COMMITTED if p.parent.name not in OWN
    ]


def test_what_the_fuzzer_found_is_whole():
    found = [read_recording(path) for path in COMMITTED if path.parent.name == "found"]
    assert found
    for run in found:
        assert "cut_of" not in run.meta
        assert len(run.ops) < 1000


def test_the_committed_runs_are_small_and_of_every_kind():
    assert sum(path.stat().st_size for path in COMMITTED) < 5_000_000
    runs = [read_recording(path) for path in COMMITTED]
    assert {run.kernel.version for run in runs} == {"7.3", "7.2", "6.12"}
    posted = {name for name, design in DESIGNS.items() if design.as_posted and name == design.name}
    assert {run.design.name for run in runs} == {"linux", *posted}
    assert {run.bypassed for run in runs} == {True, False}
    assert {code for run in runs for code in run.ops[:, 0].tolist()} == {
        *(1, 2, 5, 6, 7, 8, 9, 11, 15, 16, 17, 18),
        *(20, 21, 22, 23, 24),
    }


def one(path):
    verdict = verify_file(path)
    return verdict.exact, f"{path}: {verdict.difference}"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded sets are not here")
def test_all_shared_runs_are_exact():
    files = sorted(SHARED.glob("*/*.npz"))
    assert len(files) >= 444
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        wrong = [words for exact, words in pool.map(one, files, chunksize=8) if not exact]
    assert wrong == []


@pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded sets are not here")
def test_the_committed_runs_are_what_the_cutter_makes(tmp_path):
    for name, operations in subset()[::7]:
        cut(SHARED / f"{name}.npz", tmp_path / "cut.npz", operations)
        assert (tmp_path / "cut.npz").read_bytes() == (DATA / f"{name}.npz").read_bytes(), name


def test_a_cut_run_can_be_cut_again(tmp_path):
    run = read_recording(next(path for path in COMMITTED if path.stem == "D4t-1"))
    point = int(run.dump_at[1])
    cut(next(path for path in COMMITTED if path.stem == "D4t-1"), tmp_path / "shorter.npz", point)
    assert len(read_recording(tmp_path / "shorter.npz").ops) == point
    assert verify_file(tmp_path / "shorter.npz").exact
    with pytest.raises(ValueError, match="no dump after 7 operations"):
        cut(tmp_path / "shorter.npz", tmp_path / "no.npz", 7)


# ---------------------------------------------------------------- differences in words


def a_run(stem):
    return read_recording(next(path for path in COMMITTED if path.stem == stem))


def changed(run, name, index, by):
    """The run with one number of an array raised."""
    array = getattr(run, name).copy()
    array[index] += by
    return run.__class__(**(vars(run) | {name: array}))


def test_a_wrong_result_is_named():
    run = a_run("D3n-1")
    row = int(np.flatnonzero((run.ops[:, 0] == 1) & (run.res[:, 0] >= 0))[100])
    verdict = verify_recording(changed(run, "res", (row, 0), 1))
    expected, got = run.res[row, 0] + 1, run.res[row, 0]
    assert verdict.difference.startswith(f"operation {row} (alloc, order ")
    assert verdict.difference.endswith(f": result: expected {expected}, got {got}")
    assert (verdict.ops_exact, verdict.at, verdict.exact) == (len(run.ops) - 1, row, False)


def test_a_wrong_counter_is_named():
    run = a_run("D4t-1")
    assert "operation 77 (" in verify_recording(changed(run, "res", (77, 1), 1)).difference
    assert ": pcp count: expected" in verify_recording(changed(run, "res", (77, 1), 1)).difference
    assert ": pcp high: expected" in verify_recording(changed(run, "res", (77, 2), 1)).difference
    assert ": NR_FREE_PAGES: expected" in verify_recording(changed(run, "res", (77, 3), 1)).difference


def test_the_first_difference_is_the_one_that_is_told():
    run = changed(changed(a_run("D4t-1"), "res", (900, 3), 1), "res", (40, 1), 1)
    verdict = verify_recording(run)
    assert verdict.at == 40
    assert verdict.ops_exact == verdict.ops - 2


@pytest.mark.parametrize(
    ("stem", "index", "words"),
    [
        ("D3n-1", lambda words, shape: 1, "NR_FREE_PAGES"),
        ("D3n-1", lambda words, shape: 6, "zone flags"),
        ("D4t-1", lambda words, shape: pcp_field_words(words, shape)[0].stop - 1, "CPU 0, pcp free_count"),
        ("D11-1", lambda words, shape: pcp_field_words(words, shape)[3].start, "CPU 3, pcp count"),
        ("D11-1", lambda words, shape: pcp_field_words(words, shape)[2].start - 3, "CPU 2, unfolded NR_FREE"),
        ("D4t-1", lambda words, shape: pcp_field_words(words, shape)[0].start - 2, "type of pageblock 127"),
        ("Rx-a1", lambda words, shape: len(words) - 1, "mapped flag of pageblock 31"),
    ],
)
def test_a_wrong_word_of_a_dump_is_named(stem, index, words):
    run = a_run(stem)
    dumps = [dump.copy() for dump in run.dumps]
    dumps[-1][index(dumps[-1], run.shapes[0])] += 1
    verdict = verify_recording(run.__class__(**(vars(run) | {"dumps": dumps})))
    assert verdict.dumps_exact == verdict.dumps - 1
    assert verdict.ops_exact == verdict.ops
    assert words in verdict.difference
    assert f"dump {len(dumps) - 1} " in verdict.difference


def test_a_wrong_event_is_named():
    run = a_run("Rx-c1")
    verdict = verify_recording(changed(run, "events", (1, 4), 1))
    assert verdict.difference.startswith("event 1: expected ")
    assert verdict.events_exact == verdict.events - 1


def test_a_missing_event_is_named():
    run = a_run("Rx-c1")
    verdict = verify_recording(run.__class__(**(vars(run) | {"events": run.events[:-1]})))
    assert ": expected nothing, got " in verdict.difference


def test_cleared_pages_are_compared():
    run = a_run("Sx-a1")
    assert (
        "pages cleared: expected"
        in verify_recording(
            run.__class__(**(vars(run) | {"meta": run.meta | {"zeroed_pages": 77}}))
        ).difference
    )


def test_replay_goes_forward_only():
    replayed = Replayed(a_run("Rx-a1"))
    replayed.run(5)
    for stop in (4, len(replayed.recorded.ops) + 1):
        with pytest.raises(ValueError, match=f"operation {stop} is not in 5"):
            replayed.run(stop)
    for start, end in ((-1, 3), (4, 3), (0, len(replayed.recorded.ops) + 1)):
        with pytest.raises(ValueError, match=rf"operations \[{start}, {end}\) are not among the"):
            replayed.replay.run(start, end)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        verify_file(tmp_path / "none.npz")
    shutil.copy(COMMITTED[0], tmp_path / "a")
    assert verify_file(tmp_path / "a").exact
