"""The public functions and their results: typed, frozen, and the same numbers in every form."""

from __future__ import annotations

import inspect
import json
import pickle
import pydoc
import re
from pathlib import Path

import numpy as np
import pytest

import asi_pa
from asi_pa.experiment.columns import COLUMNS, METRIC_COLUMNS, flat_metrics
from asi_pa.experiment.metrics import METRICS, metric
from asi_pa.experiment.sizes import as_size
from asi_pa.names import perhaps, several
from asi_pa.tabular import Frozen, Result, Table
from tests.api import everything

SMALL = "stress:32M"
RECORDED = str(Path(__file__).resolve().parents[1] / "data" / "validation" / "redis.trace")


@pytest.fixture(scope="module")
def replayed():
    return asi_pa.replay(SMALL, "migratetype", samples=4, seed=3)


@pytest.fixture(scope="module")
def compared():
    return asi_pa.compare(SMALL, "migratetype", seeds=2, samples=3)


@pytest.fixture(scope="module")
def results(replayed, compared):
    starved = asi_pa.starve("migratetype", "32M", seed=[0, 1])
    audited = asi_pa.audit_design(["migratetype", "pool"], depth=1, only="smallest")
    return [replayed, compared, compared.replays, starved, audited]


def test_the_whole_api_runs_and_is_named(capsys):
    everything.main()
    assert "<CompareResult stress: linux, migratetype/sound; 1 seed>" in capsys.readouterr().out
    text = Path(everything.__file__).read_text()
    for name in asi_pa.__all__:
        assert re.search(rf"asi_pa\.{name}\b", text), name


def test_only_what_is_public_is_listed():
    assert dir(asi_pa) == sorted(asi_pa.__all__)


@pytest.mark.parametrize("name", ["alloc_pages", "free_pages", "alloc_pages_bulk", "alloc_contig_range"])
def test_calls_have_signatures_in_help(name):
    call = getattr(asi_pa.Allocator, name)
    assert len(inspect.signature(call).parameters) >= 3
    first = pydoc.plain(pydoc.render_doc(call)).splitlines()[2]
    assert first.startswith(f"{name}(self")
    assert "gfp=3264" in first or name == "free_pages"
    assert "--" not in (call.__doc__ or "").splitlines()


def test_masks_by_name():
    a = asi_pa.Allocator("64M", single_zone=True)
    for words in ("GFP_KERNEL", "GFP_KERNEL|__GFP_ZERO", "GFP_HIGHUSER_MOVABLE|__GFP_SENSITIVE", "none"):
        a.free_pages(a.alloc_pages(0, words))
    a.free_pages_bulk(a.alloc_pages_bulk(0, "GFP_ATOMIC", 5))
    start = a.spec.zones[0].start_pfn
    a.alloc_contig_range(start, start + 512, "GFP_USER")
    with pytest.raises(ValueError, match=r"unknown gfp flag 'GFP_KERNL': did you mean GFP_KERNEL\?"):
        a.alloc_pages(0, gfp="GFP_KERNL")
    with pytest.raises(ValueError, match="0x18"):
        a.alloc_pages(0, "__GFP_MOVABLE|__GFP_RECLAIMABLE")
    with pytest.raises(TypeError):
        a.alloc_pages(0, 1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        a.alloc_pages("GFP_KERNEL")  # type: ignore[arg-type]


# ---------------------------------------------------------------- results


def test_every_result_has_every_form(results):
    for result in results:
        rows = result.records()
        names = [column.name for column in result.columns()]
        assert len(set(names)) == len(names)
        assert all(column.meaning or column.name in flat_metrics({}) for column in result.columns())
        assert all(set(row) <= set(names) for row in rows)
        pandas, polars = result.to_pandas(), result.to_polars()
        assert list(pandas.columns) == polars.columns == names
        assert len(pandas) == len(polars) == len(rows) > 0
        for at, row in enumerate(polars.to_dicts()):
            assert row == {name: rows[at].get(name) for name in names}
            for name in names:
                value = pandas[name].iloc[at]
                assert row[name] is None or value == row[name], name
        table = result.table()
        assert all(len(row) == len(table.head) for row in table.rows)
        assert result.to_markdown().count("\n") == len(table.rows) + 2
        assert result.to_latex().count(r"\\") == len(table.rows) + 1
        assert result._repr_html_().count("<tr>") == len(table.rows) + 1
        assert len(repr(result)) < 200
        assert json.loads(json.dumps(result.to_dict())) == result.to_dict()
        assert pickle.loads(pickle.dumps(result)) == result


def test_results_are_frozen(results, replayed):
    for result in results:
        with pytest.raises(AttributeError, match="frozen"):
            result.verify = "no"
        with pytest.raises(AttributeError, match="frozen"):
            del result.verify
        copied = result.to_dict()
        copied.clear()
        assert result.to_dict()
    with pytest.raises(TypeError):
        replayed.metrics["failures"] = 0
    with pytest.raises(TypeError):
        replayed.metrics["failures_by_group"]["real"] = 0
    for array in (replayed.series.op, replayed.blockmap.rows, *replayed.series.free_pages.values()):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_a_replay_says_what_it_is(replayed):
    assert (replayed.trace, replayed.design, replayed.seed) == ("stress", "migratetype/sound", 3)
    assert replayed.memory_bytes == 32 << 20
    assert replayed.value("failures") == replayed.metrics["failures"] > 0
    assert replayed.value("failures_by_group.real") == replayed.metrics["failures_by_group"]["real"]
    assert replayed.value("unusable_index.9") == replayed.metrics["unusable_index"][9]
    assert replayed.value("direct_map_kb.restricted.2m") is not None
    assert asi_pa.replay(SMALL, samples=2).value("direct_map_kb.restricted.2m") is None
    with pytest.raises(KeyError, match="no_such"):
        replayed.value("no_such")
    assert len(replayed.series.op) == len(replayed.series.flushes) == len(replayed.blockmap.rows) == 4
    assert replayed.series.op.dtype == np.int64
    assert len(replayed.blockmap.legend) == replayed.blockmap.rows.max() + 1


def test_a_comparison_is_that_of_the_command(compared):
    from asi_pa.report.results import validate as check_schema

    check_schema(compared.to_dict())
    assert compared.designs == ("linux", "migratetype/sound")
    assert compared.seeds == range(2)
    rows = compared.records()
    assert {row["seed"] for row in rows if row["memory"] == "short"} == {0, 1}
    for row in compared.measures:
        for design, values in row.values.items():
            for seed, value in zip(compared.seeds, values, strict=False):
                same = [r for r in rows if (r["memory"], r["design"], r["seed"]) == (row.place, design, seed)]
                assert [r.get(row.measure) for r in same] == [value]
    assert compared.runs[0]["migratetype"] == compared.runs[0]["migratetype/sound"]
    with pytest.raises(KeyError, match="pool"):
        compared.runs[0]["pool"]
    assert len(compared.replays.records()) == sum(len(run.designs) for run in compared.runs)
    assert str(compared).count("\n") > 10
    assert {claim.number for claim in compared.claims} == {1, 2, 3, 4}


def test_several_seeds_and_executors_give_the_same(results):
    again = asi_pa.starve("migratetype", "32M", seed=[0, 1], executor="threads:2")
    assert again == results[3]
    assert [row["seed"] for row in again.records()] == [0, 1]


def test_an_audit_of_two(results):
    audited = results[4]
    assert audited.designs == ("migratetype", "pool")
    assert audited.to_dict()["schema"] == "asi_pa.audits/1"
    broken = asi_pa.audit_design("migratetype/as-posted", depth=2, only=["smallest"])
    assert broken.to_dict()["schema"] == "asi_pa.audit/1"
    assert not broken.sound
    hole = broken.findings[0]
    assert len(hole.sequence) >= 1
    assert "Machine(spec, design)" in hole.script
    assert broken.records()[0]["findings"] == len(broken.findings)
    elsewhere = asi_pa.audit_design(
        "migratetype/as-posted", depth=2, only=["smallest"], executor="processes:1"
    )
    assert elsewhere.findings == broken.findings


def test_a_validation():
    assert everything.validated(RECORDED) < 1
    found = asi_pa.validate(RECORDED, restarts=0)
    assert found.consistent
    assert found.records()[0]["end_distance"] == found.end_distance
    assert found.to_pandas().shape == (1, len(found.columns()))
    assert "redis" in repr(found)
    states = found.states()
    assert len(states.event) == len(states.time) == len(states.free) == len(states.pcp)
    assert "end_distance" in found.to_markdown()


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="protects nothing"):
        asi_pa.audit_design("linux")
    with pytest.raises(ValueError, match=r"unknown design 'migratype' \(did you mean 'migratetype'\?\)"):
        asi_pa.compare("redis", "migratype")
    with pytest.raises(ValueError, match="executor 'proceses'"):
        asi_pa.starve("linux", "32M", executor="proceses")
    with pytest.raises(ValueError, match="settled"):
        asi_pa.replay(asi_pa.compile_trace(SMALL), memory="ample")


# ---------------------------------------------------------------- sizes, names, tables


def test_multiples_of_what_linux_needs():
    found = asi_pa.compare(RECORDED, memory=["1.05x", "ample"], designs="pool", seeds=1, samples=2)
    assert [run.memory for run in found.runs] == ["1.05x", "ample"]
    same = asi_pa.replay(RECORDED, "pool", memory="1.05x", samples=2, reclaim=None, compaction=True)
    assert same.memory_bytes == found.runs[0].memory_bytes < found.runs[1].memory_bytes
    assert flat_metrics(same.metrics) == flat_metrics(found.runs[0]["pool"].metrics)


@pytest.mark.parametrize("words", ["0x", "1.05 y", "ampel", "x", "-1x", "1000x", ""])
def test_sizes_that_cannot_be(words):
    with pytest.raises(ValueError, match=r"1\.05x|multiple"):
        as_size(words)


def test_sizes_in_words():
    assert as_size("Ample").words == "ample"
    assert (as_size("1.05x").times, as_size("2G").pages, as_size(1 << 30).pages) == (1.05, 1 << 19, 1 << 18)
    assert as_size("1x").of(lambda: 100.0, 1 << 20) == 100 << 8
    assert as_size("9x").of(lambda: 100.0, 1 << 16) == 1 << 16
    with pytest.raises(ValueError, match="no size of this trace"):
        as_size("1x").of(lambda: None, 1 << 20)


def test_one_for_several():
    assert several("redis") == ("redis",)
    assert several(3, int) == (3,)
    assert several(["a", "b"]) == ("a", "b")
    assert perhaps("freetyp", list(asi_pa.DESIGNS)) == " (did you mean 'freetype'?)"
    assert perhaps("xyzzy", list(asi_pa.DESIGNS)) == ""


def test_every_metric_but_the_clocks_has_its_columns():
    of = {column.name.split(".")[0] for column in METRIC_COLUMNS}
    assert of == {entry.key for entry in METRICS if entry.type and entry.group != "speed"}
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)
    assert metric("failures").unit == next(c.unit for c in COLUMNS if c.name == "failures")


def test_tables_escape_what_they_hold():
    table = Table("50 % of a_b", ("x|y", "<b>"), (("a&b", r"\c"),))
    assert r"x\|y" in table.markdown()
    assert r"50 \% of a\_b" in table.latex()
    assert r"a\&b & \textbackslash{}c \\" in table.latex()
    assert "<th>a&amp;b</th>" in table.html()
    assert "<b>" not in table.html()


def test_frozen_is_equal_to_what_it_was():
    held = {"a": [1, {"b": 2}]}
    assert Frozen(held)["a"] == (1, {"b": 2})
    assert dict(Frozen({"a": 1})) == {"a": 1} == Frozen({"a": 1})


def test_traces_and_designs_print_themselves():
    trace, compiled = asi_pa.load_trace(SMALL), asi_pa.compile_trace(SMALL)
    for thing in (trace, compiled, asi_pa.DESIGNS):
        assert len(repr(thing).splitlines()) <= 5
        assert thing._repr_html_().startswith("<table>")
    assert "<Trace stress:" in repr(trace)
    assert "32 MiB in Normal" in repr(compiled)
    assert "migratetype/sound" in repr(asi_pa.DESIGNS)
    assert repr(asi_pa.DESIGNS["linux"]).startswith("<Design linux: plain Linux, no ASI; freetypes Unm")


def test_a_data_frame_library_that_is_missing_is_named(monkeypatch, replayed):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        replayed.to_pandas()


def test_results_share_one_base(results):
    assert all(isinstance(result, Result) for result in results)
