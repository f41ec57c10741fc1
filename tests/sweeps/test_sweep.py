"""Sweeps: the same bytes wherever they run, nothing lost, nothing missing in silence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import asi_pa
from asi_pa import cli
from asi_pa.sweeps import store, work
from asi_pa.sweeps.plan import Asked, read_file
from tests.sweeps.everywhere import coordinator, dask_cluster, files, of_dask, run, spawned, workers_of

DESIGN = "migratetype/as-posted"
RECORDED = str(Path(__file__).resolve().parents[1] / "data" / "validation" / "redis.trace")
ASKED: dict[str, Any] = {
    "traces": ["random:32M", "bulk:32M"],
    "designs": ["linux", "migratetype"],
    "memory": ["ample", "48M", "1.1x"],
    "seeds": 2,
    "fields": {"migratetype": {"zeroing": ["locked", "flip"]}},
}
POINTS = 2 * 3 * 3 * 2


def small(folder=None, executor="here", **changes):
    return asi_pa.sweep(**(ASKED | changes), folder=folder, executor=executor)


def meta(folder):
    return json.loads((Path(folder) / "meta.json").read_text())


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The sweep in one process: its folder, and the result."""
    folder = tmp_path_factory.mktemp("one") / "sweep"
    return folder, small(folder)


# ---------------------------------------------------------------- where it runs does not matter


def test_it_is_whole(one):
    folder, found = one
    assert found.complete
    assert found.broken == ()
    assert len(found.records()) == len(list((folder / "points").iterdir())) == POINTS
    assert not list(folder.rglob("*.part"))
    frame = found.to_pandas()
    assert len(frame.groupby(["trace", "memory", "design", "seed"])) == POINTS
    assert asi_pa.load_sweep(folder).records() == found.records()


def test_a_point_is_a_replay(one):
    row = next(
        r for r in one[1].records() if (r["memory"], r["seed"]) == ("1.1x", 1) and "flip" in r["design"]
    )
    same = asi_pa.replay(
        row["trace"], row["design"], memory="1.1x", seed=1, samples=2, reclaim=None, compaction=True
    )
    assert same.records()[0] | {"trace": row["trace"], "classifier": "rfc"} == row


def test_pandas_reads_the_folder_as_one_table(one):
    import pandas as pd

    folder, found = one
    keys = ["trace", "memory", "design", "seed"]
    whole = pd.read_parquet(folder / "points").sort_values(keys, ignore_index=True)
    ours = found.to_pandas().sort_values(keys, ignore_index=True)
    assert list(whole.columns) == list(ours.columns)
    for name in ("failures", "tlb_flushes", "restricted_2m_share", "unusable_index.9"):
        assert whole[name].tolist() == pytest.approx(ours[name].tolist(), nan_ok=True)


def test_two_processes_give_the_same_bytes(one, tmp_path):
    found = small(tmp_path / "two", "processes:2")
    assert files(tmp_path / "two") == files(one[0])
    assert found.records() == one[1].records()
    here, there = meta(one[0]), meta(tmp_path / "two")
    assert here.pop("runs") != there.pop("runs")
    assert here == there


@pytest.mark.filterwarnings("ignore")
def test_two_dask_workers_give_the_same_bytes(one, tmp_path):
    """Of a sweep; and an audit and a starvation find there what they find here."""
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    with dask_cluster(tmp_path) as (words, _):
        found = small(tmp_path / "dask", words)
        audited = [
            asi_pa.audit_design(DESIGN, depth=2, only="smallest", executor=at) for at in ("here", words)
        ]
        starved = [asi_pa.starve(["linux", DESIGN], "32M", executor=at) for at in ("here", words)]
    assert found.complete
    assert files(tmp_path / "dask") == files(one[0])
    here, there = meta(one[0]), meta(tmp_path / "dask")
    assert len(there["runs"][0]["seconds"]) == POINTS
    assert here | {"runs": []} == there | {"runs": []}
    assert starved[0] == starved[1]
    assert audited[0].findings
    assert audited[0].findings == audited[1].findings


# ---------------------------------------------------------------- nothing is lost


def test_what_is_there_is_not_computed_again(one, tmp_path, monkeypatch):
    folder = tmp_path / "again"
    small(folder, seeds=1)
    before = files(folder)
    loads = []

    def load(word):
        loads.append(word)
        return asi_pa.load_trace(word)

    monkeypatch.setattr(work, "load_trace", load)
    monkeypatch.setattr(work, "_SUBJECTS", work._Few(2))
    monkeypatch.setattr(work, "_STARTS", work._Few(3))
    found = small(folder)
    assert found.complete
    assert loads == ASKED["traces"]  # a trace is compiled once
    assert files(folder) == files(one[0])
    assert before.items() <= files(folder).items()
    runs = meta(folder)["runs"]
    assert [run["computed"] for run in runs] == [POINTS // 2, POINTS // 2]
    assert len(small(folder).records()) == POINTS
    assert meta(folder)["runs"][2]["computed"] == 0


def test_points_that_are_not_asked_for_are_set_aside_and_come_back(tmp_path, monkeypatch):
    folder = tmp_path / "sweep"
    small(folder, memory="ample")
    before = files(folder)
    assert len(small(folder, memory="ample", seeds=[1]).records()) == 6
    assert len(list((folder / "other").iterdir())) == 6
    monkeypatch.setattr("asi_pa.sweeps.run.compute", None)  # nothing is computed any more
    assert len(small(folder, memory="ample").records()) == 12
    assert files(folder) == before


def test_a_damaged_point_is_computed_again(tmp_path):
    folder = tmp_path / "sweep"
    small(folder, memory="ample", seeds=1)
    before = files(folder)
    damaged = sorted((folder / "points").iterdir())[:2]
    damaged[0].write_bytes(b"")
    damaged[1].write_bytes(damaged[1].read_bytes()[:-100])
    assert len(asi_pa.load_sweep(folder).missing) == 2
    assert small(folder, memory="ample", seeds=1).complete
    assert files(folder) == before


@pytest.mark.parametrize(
    ("executor", "victim"),
    [("processes:2", coordinator), ("processes:2", spawned), ("dask", coordinator), ("dask", of_dask)],
)
def test_kill_minus_nine(one, tmp_path, executor, victim):
    """The same bytes as if nobody had died; who asked goes on alone where it lives."""
    asked, folder = tmp_path / "asked.toml", tmp_path / "asked"
    asked.write_text(
        "\n".join(f"{key} = {json.dumps(value)}" for key, value in ASKED.items() if key != "fields")
        + '\n[fields.migratetype]\nzeroing = ["locked", "flip"]\n'
    )
    if executor == "dask":
        pytest.importorskip("distributed", reason="dask.distributed is not installed")
    with workers_of(executor, tmp_path) as (words, workers):
        ran = run(asked, folder, words, workers, victim)
    assert ran.points_at_kill is not None
    assert ran.points_at_kill >= 4
    if victim is coordinator:
        assert (ran.status, ran.again) == (-9, True)
        assert len(meta(folder)["runs"]) == 2
    else:
        assert (ran.status, ran.said, ran.again) == (0, b"", False)
    assert files(folder) == files(one[0])


# ---------------------------------------------------------------- nothing is missing in silence


def test_missing_points_are_named_and_in_no_median(tmp_path):
    found = small(tmp_path / "sweep", traces=RECORDED, designs="linux", fields={}, memory=["4M", "ample"])
    assert [(each.memory, each.seed) for each in found.missing] == [("4M", 0), ("4M", 1)]
    assert "too little" in found.missing[0].why
    assert not found.complete
    table = found.summary("failures", "verify")
    assert [row[1:] for row in table.rows] == [("2 of 2 missing",) * 2, ("0", "ok")]
    assert {each["key"] for each in meta(tmp_path / "sweep")["missing"]} == {m.key for m in found.missing}
    assert "2 missing" in repr(found)
    assert "redis, 4M, linux, rfc, seed 0" in str(found)


def test_a_median_needs_every_seed(one):
    data = one[1].to_dict()
    row = data["rows"].pop()
    point = next(
        p for p in data["points"] if all(p[k] == row[k] for k in ("trace", "memory", "design", "seed"))
    )
    data["missing"].append(point | {"why": "planted"})
    table = asi_pa.SweepResult(data).summary("failures")
    assert [r[1] for r in table.rows if "missing" in r[1]] == ["1 of 2 missing"]
    assert len(table.rows) == POINTS // 2


def test_another_package_at_a_worker_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(work, "package_hash", lambda: "another")
    found = small(tmp_path / "sweep", memory="ample", seeds=1)
    assert len(found.missing) == 6
    assert "is another one" in found.missing[0].why


# ---------------------------------------------------------------- what may be asked


class Own(asi_pa.Design):
    """A design with Python in it."""

    def unmap_ahead(self, view):
        return 0


def test_objects_and_own_designs(tmp_path):
    trace = replace(asi_pa.load_trace("fresh:32M"), name="mine")
    own = Own.based_on("migratetype", name="own", title="own", source=("here",))
    found = asi_pa.sweep(trace, ["linux", own], folder=tmp_path / "sweep", executor="processes:1")
    assert [row["design"] for row in found.records()] == ["linux", "own"]
    assert {row["trace"] for row in found.records()} == {"mine"}
    assert len(list((tmp_path / "sweep" / "traces").iterdir())) == 1


def test_json_lines_where_there_is_no_pyarrow(one, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "find_spec", lambda name: None)
    found = small(tmp_path / "lines", memory=["ample"])
    assert all(path.suffix == ".jsonl" for path in (tmp_path / "lines" / "points").iterdir())
    assert found.records() == [row for row in one[1].records() if row["memory"] == "ample"]


def test_without_a_folder_nothing_is_kept():
    found = asi_pa.sweep("fresh:32M", "linux", executor="here")
    assert found.folder == ""
    assert len(found.to_polars()) == 1


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "letter.txt").touch()
    with pytest.raises(ValueError, match="no sweep's folder"):
        small(tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("traces = ['redis']\ndesigns = ['linux']\nmemry = ['1G']", r"'memry' \(did you mean 'memory'\?\)"),
        ("traces = ['redis']", "traces and designs are needed"),
        ("traces = ['redis']\ndesigns = ['linux']\nseeds = 0", "seeds 0"),
        ("traces = ['redis']\ndesigns = ['linux']\nseeds = [1, 1]", "each once"),
        ("traces = ['redis']\ndesigns = ['linux']\nmemory = [1.5]", "1.5 is not"),
        ("traces = ['redis', 'redis']\ndesigns = ['linux']", "twice"),
        ("traces = ['redis']\ndesigns = ['linux']\ncompaction = 3", "compaction 3"),
        ("traces = ['redis'\n", "asked.toml"),
        ("traces = ['redis']\ndesigns = ['linux']\nfields.linux = 3", "fields.linux"),
        ("traces = 3\ndesigns = ['linux']", "3 is not"),
    ],
)
def test_files_that_cannot_be_meant(tmp_path, text, says):
    path = tmp_path / "asked.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        read_file(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"designs": "linx", "fields": {}}, r"unknown design 'linx' \(did you mean 'linux'\?\)"),
        ({"fields": {"pool": {"refill_order": 3}}}, "'pool' is not among the designs"),
        ({"fields": {"migratetype": {"zeroin": "flip"}}}, "zeroin"),
        ({"memory": "1.05y"}, "1.05x"),
        ({"kernel": "9.9"}, "9.9"),
        ({"classifiers": "rfd"}, "rfd"),
        ({"traces": "nowhere"}, "nowhere"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(changes, says):
    with pytest.raises(ValueError, match=says):
        small(**changes)


def test_a_file_is_read_from_its_own_folder(tmp_path, monkeypatch):
    (tmp_path / "my.trace").write_bytes(Path(RECORDED).read_bytes())
    (tmp_path / "my.toml").write_text("traces = 'my.trace'\ndesigns = 'my.py:MINE'\nseeds = [3]\n")
    (tmp_path / "my.py").write_text("from asi_pa import DESIGNS\nMINE = DESIGNS['linux']\n")
    monkeypatch.chdir("/")
    asked = read_file(tmp_path / "my.toml")
    assert asked.traces == (str(tmp_path / "my.trace"),)
    assert asked.designs == (f"{tmp_path / 'my.py'}:MINE",)
    assert asked.seeds == (3,)


def test_the_command(one, tmp_path, capsys):
    toml = tmp_path / "s.toml"
    toml.write_text("traces = 'fresh:32M'\ndesigns = ['linux', 'pool']\nmemory = ['ample', '32G']\n")
    assert cli.main(["sweep", str(toml), "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "4 points, 0 of them there"
    made = tmp_path / "rows.json"
    words = ["sweep", str(toml), "--executor", "here", "--show", "failures", "--json", str(made)]
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[-1] == f"4 points: {tmp_path / 's' / 'points'}"
    assert len(json.loads(made.read_text())["rows"]) == 4
    assert cli.main(["sweep", str(toml), "--show", "failurs"]) == 2
    assert "did you mean 'failures'" in capsys.readouterr().err
    assert cli.main(["sweep", str(toml), "--executor", "cloud"]) == 2
    assert "cloud" in capsys.readouterr().err


def test_asked_in_words(one):
    assert one[1].asked["seeds"] == (0, 1)
    assert Asked.of({"traces": "redis", "designs": "linux"}).words()["memory"] == ["ample"]
