"""Terminal, HTML page and JSON file, fed with a made-up result."""

from __future__ import annotations

import base64
import gzip
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asi_pa.designs import COMPARED, as_design
from asi_pa.experiment.costs import load_costs
from asi_pa.experiment.measures import measure_named
from asi_pa.experiment.metrics import GROUPS, METRICS, ROWS, TYPES
from asi_pa.experiment.ranking import best, run_name, value_of
from asi_pa.experiment.rule import judge
from asi_pa.experiment.verdict import sentences, short_name
from asi_pa.report import (
    MissingPlotlyError,
    add_modelled_time,
    read_json,
    render_html,
    render_mail,
    render_screen,
    render_terminal,
    validate,
    write_html,
    write_json,
)
from asi_pa.report.format import delta_text, format_bytes, format_value
from asi_pa.report.palette import design_colours, kind_colours
from asi_pa.report.reference import metrics_text, schema_text
from asi_pa.report.results import load_schema
from asi_pa.report.terminal import wants_colour
from tests.report.compare_result import KINDS, make_result

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def result() -> dict[str, Any]:
    return make_result(traces=("redis",), columns=16, samples=40)


def one(result: dict[str, Any], design: str, run: int = 0) -> dict[str, Any]:
    return next(d for d in result["runs"][run]["designs"] if d["design"] == design)


# Numbers


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "count", "-"),
        (0, "count", "0"),
        (1234567, "count", "1,234,567"),
        (12345678, "count", "12.3M"),
        (0, "bytes", "0"),
        (1536, "bytes", "1.50 KiB"),
        (180 << 20, "bytes", "180 MiB"),
        (2048, "kb", "2.00 MiB"),
        (1.0, "share", "100%"),
        (0.999999, "share", "99.9999%"),
        (0.99986, "share", "99.986%"),
        (0.8, "share", "80.0%"),
        (-1000, "index", "-1.000"),
        (0.1371, "per1000", "0.137"),
        (36_700_000.0, "rate", "36.7M/s"),
    ],
)
def test_numbers(value: float | None, unit: str, text: str) -> None:
    assert format_value(value, unit) == text


@pytest.mark.parametrize(
    ("value", "reference", "unit", "text"),
    [
        (5, 5, "count", "="),
        (0, 0, "count", "="),
        (7, 0, "count", ""),
        (None, 5, "count", ""),
        (112, 100, "count", "+12%"),
        (98, 100, "count", "-2.0%"),
        (100001, 100000, "count", "~"),
        (1300, 100, "count", "x13.0"),
        (0, 100, "count", "-100%"),
        (814, 877, "index", "-0.063"),
    ],
)
def test_differences(value: int | None, reference: int, unit: str, text: str) -> None:
    assert delta_text(value, reference, unit) == text


def test_bytes_never_lose_their_unit() -> None:
    for exponent in range(50):
        assert re.fullmatch(r"[\d.]+ ([KMGT]i)?B", format_bytes(1 << exponent))


# Terminal


@pytest.mark.parametrize("width", [60, 80, 100, 110, 120, 200])
@pytest.mark.parametrize("quiet", [False, True])
def test_terminal_keeps_to_its_width(result: dict[str, Any], width: int, quiet: bool) -> None:
    text = render_terminal(result, width, quiet=quiet, colour=False)
    assert max(map(len, text.splitlines())) <= width
    for name in KINDS:
        assert name.split("/")[0] in text
    assert "\x1b" not in text


def test_terminal_marks_the_best_with_and_without_colour(result: dict[str, Any]) -> None:
    run = result["runs"][0]
    run["designs"] = [d for d in run["designs"] if d["design"] in ("linux", "per-page")]
    result["runs"] = [run]
    run["designs"][0]["metrics"]["mixed_blocks"] = 40
    run["designs"][1]["metrics"]["mixed_blocks"] = 50
    plain = render_terminal(result, 110, colour=False)
    row = next(line for line in plain.splitlines() if "mixed pageblocks" in line)
    assert row.split()[-3:] == ["40*", "50", "+25%"]
    coloured = render_terminal(result, 110, colour=True)
    assert "\x1b[32;1m" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain


def test_terminal_says_what_leaks_and_what_is_broken(result: dict[str, Any]) -> None:
    leaky = one(result, "per-page")
    leaky["metrics"]["leaked_pages"] = 7
    leaky["metrics"]["bytes_zeroed"] = 0
    leaky["verify"] = "free list 3 of order 2: pfn 77 is allocated"
    text = render_terminal(result, 120, colour=False)
    assert re.search(r"leaked pages .* 7!", text)
    assert "per-page breaks its promise" in " ".join(text.split())
    assert "verify() FAILED for per-page: free list 3" in text


def test_unsound_designs_and_linux_cannot_win_what_protection_costs(result: dict[str, Any]) -> None:
    zeroed = next(m for m in METRICS if m.key == "bytes_zeroed")
    designs = result["runs"][0]["designs"]
    assert best(zeroed, designs) == {"pool/nonsensitive", "per-page"}
    one(result, "per-page")["metrics"]["uncleared_pages"] = 1
    assert best(zeroed, designs) == {"pool/nonsensitive"}


def test_a_design_as_posted_is_not_taken_for_sound_where_a_run_meets_no_hole(result: dict[str, Any]) -> None:
    zeroed = next(m for m in METRICS if m.key == "bytes_zeroed")
    posted = one(result, "per-page")
    posted["as_posted"] = True
    assert best(zeroed, result["runs"][0]["designs"]) == {"pool/nonsensitive"}
    text = " ".join(render_terminal(result, 110, colour=False).split())
    assert "per-page as posted: holes that nothing here meets; does not compete." in text
    posted["metrics"]["unflushed_pages"] = 3
    text = " ".join(render_terminal(result, 110, colour=False).split())
    assert "per-page breaks its promise" in text
    assert "as posted" not in text


def test_linux_has_no_violations_and_no_costs_of_protection(result: dict[str, Any]) -> None:
    linux = one(result, "linux")
    linux["metrics"].update(leaked_pages=0, uncleared_pages=0)
    linux["protects"] = ""
    for design in result["runs"][0]["designs"][1:]:
        design["protects"] = "sensitive pages, from the restricted physmap"
    text = render_terminal(result, 110, colour=False)
    rows = {key: next(line for line in text.splitlines() if key in line) for key in ("leaked", "zeroed")}
    assert rows["leaked"].split()[-4:] == ["0", "0", "0", "0"]
    assert rows["zeroed"].split()[1] == "-"
    assert "linux protects nothing" in " ".join(text.split())


def test_quiet_prints_the_essentials(result: dict[str, Any]) -> None:
    loud = render_terminal(result, 110, colour=False)
    quiet = render_terminal(result, 110, quiet=True, colour=False)
    assert len(quiet.splitlines()) < len(loud.splitlines()) / 2
    assert "leaked pages" in quiet
    assert quiet.rstrip().splitlines()[-1].startswith("claim 4: ")


def test_many_designs_stand_below_each_other() -> None:
    names = ("linux", *(f"migratetype/v{i}" for i in range(9)))
    result = make_result(
        designs=names, traces=("redis",), memories=(("ample", 1 << 30),), columns=8, samples=9
    )
    text = render_terminal(result, 120, colour=False)
    lines = text.splitlines()
    assert all(len(line) <= 120 for line in lines)
    starts = [i for i, line in enumerate(lines) if line.startswith("linux ")]
    assert len(starts) > 1
    for start in starts:
        assert [line.split()[0] for line in lines[start : start + len(names)]] == list(names)
    # Every value is there, in the order of the designs.
    assert len(re.findall(r"^migratetype/v8 ", text, re.MULTILINE)) == len(starts)
    assert "difference to linux" not in text


def test_too_narrow_is_refused(result: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="width 40"):
        render_terminal(result, 40)


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    stream: Any = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert wants_colour(stream)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(stream)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_colour(stream)


# JSON


def test_json_comes_back_as_it_was(result: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json(result, path)
    assert read_json(path) == result
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
    assert len(path.read_text().splitlines()) < 4_000


def test_json_takes_numpy_numbers(result: dict[str, Any], tmp_path: Path) -> None:
    one(result, "linux")["metrics"]["mixed_blocks"] = np.int64(7)
    one(result, "linux")["series"]["op"] = np.arange(40, dtype=np.uint32)
    write_json(result, tmp_path / "r.json")
    back = read_json(tmp_path / "r.json")
    assert one(back, "linux")["metrics"]["mixed_blocks"] == 7
    assert one(back, "linux")["series"]["op"] == list(range(40))


def _drop(result: dict[str, Any]) -> None:
    del one(result, "linux")["metrics"]["ipis"]


def _negative(result: dict[str, Any]) -> None:
    one(result, "linux")["metrics"]["failures"] = -1


def _text(result: dict[str, Any]) -> None:
    result["seed"] = "zero"


def _boolean(result: dict[str, Any]) -> None:
    result["seed"] = True


def _version(result: dict[str, Any]) -> None:
    result["schema"] = "asi_pa.compare/1"


def _verdict(result: dict[str, Any]) -> None:
    result["claims"][0]["verdict"] = "perhaps"


def _empty(result: dict[str, Any]) -> None:
    result["runs"] = []


def _leaves(result: dict[str, Any]) -> None:
    one(result, "per-page")["metrics"]["direct_map_kb"]["restricted"] = {"4k": 1}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_drop, r"result\.runs\[0\]\.designs\[0\]\.metrics: 'ipis' is missing"),
        (_negative, r"failures: -1 is below 0"),
        (_text, r"result\.seed: 'zero' is not of type integer"),
        (_boolean, r"result\.seed: True is not of type integer"),
        (_version, r"result\.schema: 'asi_pa.compare/1' instead of 'asi_pa.compare/2'"),
        (_verdict, r"result\.claims\[0\]\.verdict: 'perhaps' is none of"),
        (_empty, r"result\.runs: 0 items"),
        (_leaves, r"restricted: '2m' is missing"),
    ],
)
def test_what_is_not_of_the_schema_is_named_and_not_written(
    result: dict[str, Any], tmp_path: Path, spoil: Any, message: str
) -> None:
    spoil(result)
    with pytest.raises(ValueError, match=message):
        validate(result)
    with pytest.raises(ValueError, match=message):
        write_json(result, tmp_path / "r.json")
    assert not list(tmp_path.iterdir())


def test_nan_is_refused(result: dict[str, Any], tmp_path: Path) -> None:
    one(result, "linux")["metrics"]["replay_seconds"] = float("nan")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(result, tmp_path / "r.json")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', "[" * 100_000])
def test_files_that_hold_no_result_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"bad\.json: "):
        read_json(path)


# Schema and documents


def test_schema_uses_only_what_the_check_understands() -> None:
    known = {
        "$schema", "title", "description", "type", "const", "enum", "minimum", "properties", "required",
        "additionalProperties", "items", "minItems", "maxItems", "anyOf", "$ref", "$defs",
    }  # fmt: skip
    types = {"object", "array", "string", "integer", "number", "boolean", "null"}
    schema = load_schema()

    def walk(rule: dict[str, Any]) -> None:
        assert set(rule) <= known
        names = rule.get("type", [])
        assert {names} <= types if isinstance(names, str) else set(names) <= types
        if "$ref" in rule:
            assert rule["$ref"].removeprefix("#/$defs/") in schema["$defs"]
        assert set(rule.get("required", ())) <= set(rule.get("properties", {})) | set(
            rule.get("required", ())
        )
        below = [
            *rule.get("properties", {}).values(),
            *rule.get("$defs", {}).values(),
            *rule.get("anyOf", ()),
        ]
        below += [rule[key] for key in ("items", "additionalProperties") if isinstance(rule.get(key), dict)]
        for each in below:
            walk(each)

    walk(schema)


def test_documents_made_from_the_table_are_up_to_date() -> None:
    assert (ROOT / "docs/use/metrics.md").read_text() == metrics_text(), "run: make docs"
    assert (ROOT / "docs/use/compare.schema.json").read_text() == schema_text(), "run: make docs"


def test_every_entry_of_the_table_is_whole(result: dict[str, Any]) -> None:
    keys = [metric.key for metric in METRICS]
    assert len(set(keys)) == len(keys)
    metrics = one(result, "per-page")["metrics"]
    for metric in METRICS:
        assert metric.group in GROUPS
        assert metric.definition or metric.sentence
        assert not metric.label or metric.sentence
        assert not metric.type or (metric.type in TYPES and metric.measure is not None)
        # or a part of another entry
        whole = metric.key.split(".")[0]
        assert metric.type or (whole != metric.key and whole in keys)
        assert not metric.label or value_of(metric, metrics) is not None


def test_every_key_of_the_schema_is_in_its_document() -> None:
    text = (ROOT / "docs/use/json-schema.md").read_text()
    schema = load_schema()
    for name in ("run", "design", "series", "blockmap", "claim", "figure", "costs", "cost", "sensitivity"):
        for key in schema["$defs"][name]["properties"]:
            assert f"`{key}`" in text, f"{name}.{key}"
    assert all(f"`{key}`" in text for key in schema["properties"])


# Modelled time


def test_modelled_time_is_shown_under_its_label(result: dict[str, Any], tmp_path: Path) -> None:
    assert "modelled time" not in render_terminal(result, 100, colour=False).lower()
    add_modelled_time(result, load_costs())
    write_json(result, tmp_path / "r.json")
    assert read_json(tmp_path / "r.json") == result
    (time,) = [run["modelled_time"]["linux"] for run in result["runs"] if run_name(run) == "redis/ample"]
    assert time["total"] == time["compaction"]  # what kcompactd looks at; linux maps and unmaps nothing
    for quiet in (False, True):
        text = render_terminal(result, 100, colour=False, quiet=quiet)
        assert max(map(len, text.splitlines())) <= 100
        assert any(line.startswith("redis/ample: linux ") for line in text.splitlines())
        assert "a cost model, not a measurement" in " ".join(text.split())
    pytest.importorskip("plotly")
    page = render_html(result)
    assert "Modelled time: a cost model, not a measurement" in page
    assert all(escape(cost.source) in page for cost in load_costs().table.values())


# HTML


def packed(page: str, name: str) -> str:
    """What the page carries as gzip in base64."""
    (text,) = re.findall(rf'<script type="text/plain" id="{name}">([^<]*)</script>', page)
    return gzip.decompress(base64.b64decode(text)).decode()


def test_page_is_one_file_that_loads_nothing(result: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    path = tmp_path / "page.html"
    write_html(result, path)
    page = path.read_text()
    assert len(page) < 2_500_000
    own = re.sub(r'<script type="text/plain" id="\w+">[^<]*</script>', "", page)
    assert len(own) < len(page) / 2
    assert not re.search(r"(?:src|href)\s*=|@import|https?://", own)
    assert "plotly.js v" in packed(page, "plotly")


def test_page_has_its_tables_without_scripts(result: dict[str, Any]) -> None:
    pytest.importorskip("plotly")
    result["classifier"] = "all </script><b>that</b> is unmovable"
    result["runs"][0]["trace"] = "<redis>"
    page = render_html(result)
    body = page[page.index("<body>") : page.index("<script")]
    assert "<b>that</b>" not in page
    assert "&lt;redis&gt;" in body
    assert "<redis>" not in body
    for metric in ROWS:
        assert f"<code>{metric.key}</code>" in body
    for claim in result["claims"]:
        assert f"Claim {claim['claim']}" in body
    assert result["command"][0] in body


def test_page_holds_the_pictures_of_every_run(result: dict[str, Any]) -> None:
    pytest.importorskip("plotly")
    page = render_html(result)
    graph_objects = pytest.importorskip("plotly.graph_objects")
    assert page.count('id="data-') == len(result["runs"])
    for index in range(len(result["runs"])):
        entry = json.loads(packed(page, f"data-{index}"))
        for figure in entry["figures"].values():
            graph_objects.Figure(figure)  # which checks every property
        assert list(entry["figures"]) == ["blockmap", "leaves", "free", "flushes"]
        names = [trace["meta"]["design"] for trace in entry["figures"]["blockmap"]["data"]]
        assert names == list(KINDS)
        shown = {trace["meta"]["design"] for trace in entry["figures"]["leaves"]["data"]}
        assert shown == set(KINDS) - {"linux"}


def test_page_of_a_result_without_series_still_has_tables(result: dict[str, Any]) -> None:
    pytest.importorskip("plotly")
    for run in result["runs"]:
        for design in run["designs"]:
            del design["series"], design["blockmap"]
    validate(result)
    page = render_html(result)
    assert 'class="metrics"' in page
    assert 'class="plot"' not in page


def test_large_results_keep_the_page_small() -> None:
    pytest.importorskip("plotly")
    names = ("linux", *(f"migratetype/v{i}" for i in range(9)))
    result = make_result(designs=names, columns=512)
    assert len(render_html(result)) < 2_500_000


def test_a_block_map_that_contradicts_itself_is_refused(result: dict[str, Any]) -> None:
    pytest.importorskip("plotly")
    one(result, "linux")["blockmap"]["rows"][3][2] = 200
    with pytest.raises(ValueError, match="linux: the blockmap's rows do not fit its legend"):
        render_html(result)


def test_without_plotly_one_line_says_what_to_do(
    result: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(MissingPlotlyError) as caught:
        write_html(result, tmp_path / "page.html")
    assert str(caught.value) == "the HTML page needs plotly: pip install 'asi_pa[report]'"
    assert isinstance(caught.value, ValueError)
    assert not list(tmp_path.iterdir())


def test_reports_do_not_import_plotly_before_they_need_it() -> None:
    code = "import sys, asi_pa.report; sys.exit('plotly' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# Colours


def test_colours_tell_things_apart() -> None:
    plain = ["Unmovable", "Movable", "Reclaimable", "HighAtomic", "CMA", "Isolate", "hole"]
    other = [f"{name}Nons" for name in ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "Isolate")]
    kinds = [*plain, "UnmovableSens", *other, "free mapped", "free unmapped"]
    colours = kind_colours(kinds)
    assert len(set(colours.values())) == len(kinds)
    designs = ["linux", *(f"design {i}" for i in range(40))]
    assert len(set(design_colours(designs).values())) == len(designs)


# The screen


@pytest.mark.parametrize("traces", [("redis",), ("redis", "net"), ("redis", "net", "gcc", "kernelmem")])
def test_the_answer_fits_one_screen(traces: tuple[str, ...]) -> None:
    names = (*KINDS, *(f"freetype/v{i}" for i in range(9)))
    result = make_result(designs=names, traces=traces, columns=8, samples=9)
    for width in (78, 200, None):
        lines = render_screen(result, width, colour=False).splitlines()
        assert len(lines) <= 45
        assert max(map(len, lines)) <= 78
    narrow = render_screen(result, 60, colour=False).splitlines()
    assert max(map(len, narrow)) <= 60
    mail = render_mail(result)
    assert mail.isascii()
    assert max(map(len, mail.splitlines())) <= 72
    assert len(mail.splitlines()) <= 45
    assert lines[0].startswith("migratetype or pool?")


@pytest.mark.parametrize("traces", [("redis",), ("redis", "net")])
@pytest.mark.parametrize("render", [lambda result: render_screen(result, 78, colour=False), render_mail])
def test_the_screen_has_a_line_for_every_other_design(
    traces: tuple[str, ...], render: Callable[[dict[str, Any]], str]
) -> None:
    """Of the usual comparison: the rows of traces are put together as far as that makes room."""
    names = [as_design(name).name for name in ("linux", *COMPARED)]
    result = make_result(designs=tuple(dict.fromkeys(names)), traces=traces, columns=8, samples=9)
    result["caveats"] = ["One of three that fill a line each."] * 3
    lines = render(result).splitlines()
    assert len(lines) <= 45
    for name in set(names) - {*result["protagonists"], "linux", "ours/two-way"}:
        (line,) = [line for line in lines if line.startswith(f"{short_name(name)} ")]
        assert len(line.split()) >= 7
    assert any(line.startswith("ours (asi_pa's)") for line in lines)


def test_designs_beyond_the_screen_are_named() -> None:
    """Where there is no room for their lines."""
    names = (*KINDS, *(f"freetype/v{i}" for i in range(20)))
    result = make_result(designs=names, traces=("redis", "net"), columns=8, samples=9)
    text = " ".join(render_screen(result, 78, colour=False).split())
    said = text.split("compared, too (--full): ")[1]
    assert said.startswith("freetype/v")
    assert all(f"freetype/v{i}" in text for i in range(20))


def test_the_screen_says_who_is_better_and_in_how_many_seeds(result: dict[str, Any]) -> None:
    (trace,) = result["answer"]
    row = next(r for r in trace["measures"] if (r["measure"], r["place"]) == ("declined", "short"))
    row["values"]["migratetype/sound"] = [0.24] * 15 + [0.53]
    row["values"]["pool/nonsensitive"] = row["values"]["linux"] = [0.0] * 16
    for one, other in (("migratetype/sound", "linux"), ("migratetype/sound", "pool/nonsensitive")):
        word = judge(measure_named("declined"), row["values"][one], row["values"][other])
        made = {"word": word.word, "agree": word.agree, "seeds": word.seeds, "difference": None}
        if other == "linux":
            row["against_reference"][one] = made
        else:
            row["against_other"] = made
    row["against_reference"]["pool/nonsensitive"] = {"word": "equal", "agree": 16, "seeds": 16}
    result["verdict"] = sentences(result)
    text = render_screen(result, 78, colour=False)
    line = next(line for line in text.splitlines() if "requests declined" in line)
    assert line.split()[-7:] == ["24", "[24..53]", "%", "0", "%", "pool", "16/16"]
    said = " ".join(text.split())
    assert "With memory short migratetype declines more of redis's requests than pool and linux." in said


def test_undecided_is_listed_and_one_seed_says_no_word(result: dict[str, Any]) -> None:
    (trace,) = result["answer"]
    row = next(r for r in trace["measures"] if r["measure"] == "price")
    row["values"]["linux"] = [1000] * 16
    row["values"]["migratetype/sound"] = [1000] * 8 + [1036] * 8
    row["against_reference"]["migratetype/sound"]["word"] = "undecided"
    assert "against linux: migratetype undecided on redis; pool" in " ".join(sentences(result))
    result["quick"] = True
    assert sentences(result) == []
    result["verdict"] = []
    for each in trace["measures"]:
        each["against_other"] = None
    text = render_screen(result, 78, colour=False)
    assert "one seed: no words" in text
    assert "undecided" not in text
    quiet = render_screen(result, 78, quiet=True, colour=False)
    assert quiet.startswith("The RFC's claims:")
