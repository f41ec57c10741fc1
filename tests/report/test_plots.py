"""Figures of results: the numbers that they show, what they say is missing, bytes that never differ."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from asi_pa import cli
from asi_pa.designs import DESIGNS
from asi_pa.report import plots, write_json
from asi_pa.report.palette import block_kind, design_colours
from tests.report.compare_result import make_result

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ROOT / "docs" / "engine" / "performance.json"


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return make_result(traces=("redis",), columns=16, samples=40)


@pytest.fixture
def ax() -> Axes:
    return Figure().add_subplot()


SWEEP: list[dict[str, Any]] = [
    {
        "trace": "redis", "memory": f"{mib}M", "memory_bytes": mib << 20, "design": design, "seed": seed,
        "classifier": classifier, "kernel": "6.18",
        "requests_by_group.real": 1000, "failures_by_group.real": (seed + 1) * (1400 - mib) // 100,
        "requests_by_group.declined": 0, "failures_by_group.declined": 0,
        "tlb_flushes_ranged": seed * 10, "tlb_flushes_full": 3,
    }
    for mib in (800, 1000, 1400)
    for design in ("linux", "migratetype/sound")
    for seed in range(3)
    for classifier in ("rfc", "share=0.5")
]  # fmt: skip
STARVED = [
    {"design": "linux", "fresh": 1000, "stressed": 900, "compacted": 950, "promoted": 1000},
    {"design": "freetype/sound", "fresh": 1000, "stressed": 100, "compacted": 400, "promoted": 900},
]


def lines(ax: Axes) -> dict[str, tuple[list[float], list[float]]]:
    """The lines that the legend names: label -> x and y."""
    handles, labels = ax.get_legend_handles_labels()
    return {
        label: (list(handle.get_xdata()), list(handle.get_ydata()))
        for label, handle in zip(labels, handles, strict=True)
    }


def test_failure_rate_of_a_curve(result: dict[str, Any], ax: Axes) -> None:
    assert plots.failure_rate(result, kind="declined", ax=ax) is ax
    curve = result["curves"][0]
    for design, short in (("linux", "linux"), ("migratetype/sound", "migratetype")):
        x, y = lines(ax)[short]
        assert x == curve["mib"]
        assert y == pytest.approx([100 * share for share in curve["shares"][design]["declined"]])
    assert ax.get_title("left") == "redis: requests that may be declined"


def test_failure_rate_of_sizes_has_median_and_range(ax: Axes) -> None:
    rows = [row for row in SWEEP if row["classifier"] == "rfc"]
    plots.failure_rate(rows, ax=ax)
    x, y = lines(ax)["migratetype"]
    assert x == [800, 1000, 1400]
    assert y == pytest.approx([100 * 12 / 1000, 100 * 8 / 1000, 0])
    band = ax.collections[0].get_paths()[0].vertices
    assert np.asarray(band)[:, 1].max() == pytest.approx(100 * 18 / 1000)


def test_flushes_of_a_sweep(ax: Axes) -> None:
    plots.flushes(SWEEP, where={"classifier": "rfc"}, designs=["migratetype"], ax=ax)
    assert lines(ax) == {"migratetype": ([800, 1000, 1400], [13, 13, 13])}


def test_missing_points_of_a_sweep_are_told(ax: Axes) -> None:
    plots.flushes([row for row in SWEEP if row["classifier"] == "rfc"][1:], ax=ax)
    assert ax.get_title("left") == "redis: TLB flushes (1 points missing)"


def test_multiples_of_what_linux_needs_stand_at_their_median(ax: Axes) -> None:
    rows = [
        row
        | {
            "memory": f"{row['memory_bytes'] >> 20}x",
            "memory_bytes": row["memory_bytes"] + (row["seed"] << 20),
        }
        for row in SWEEP
        if row["classifier"] == "rfc"
    ]
    plots.flushes(rows, designs=["migratetype"], ax=ax)
    assert lines(ax) == {"migratetype": ([801, 1001, 1401], [13, 13, 13])}


def test_a_sweep_of_two_classifiers_asks_for_one() -> None:
    with pytest.raises(ValueError, match=r"classifier \(rfc, share=0.5\): choose one with --where"):
        plots.flushes(SWEEP)
    with pytest.raises(ValueError, match="no column 'classifer'"):
        plots.flushes(SWEEP, where={"classifer": "rfc"})


def test_price_is_beyond_linux(result: dict[str, Any], ax: Axes) -> None:
    plots.price(result, designs=["pool"], ax=ax)
    rows = result["answer"][0]["measures"]
    values = next(r["values"] for r in rows if (r["measure"], r["place"]) == ("price", "search"))
    shares = [100 * (a / b - 1) for a, b in zip(values["pool/nonsensitive"], values["linux"], strict=True)]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert sorted(dot.get_xdata()[0] for dot in dots) == pytest.approx(sorted(shares))
    assert {to_hex(dot.get_color()) for dot in dots} == {
        design_colours(["pool/nonsensitive"])["pool/nonsensitive"]
    }
    bar = next(line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_zorder() == 4)
    assert bar.get_xdata()[0] == pytest.approx(median(shares))


def test_unusable_index_over_time(result: dict[str, Any], ax: Axes) -> None:
    plots.unusable_index(result, memory="ample", designs=["linux"], ax=ax)
    series = result["runs"][0]["designs"][0]["series"]
    (y,) = (y for _, y in lines(ax).values())
    assert y == [value / 1000 for value in series["unusable_index"]]


def test_unusable_index_of_a_validation(ax: Axes) -> None:
    free = [[5, 0, 1], [1, 0, 2]]
    told = {
        "trace": "t", "one_step": {},
        "series": {"time": [0.0, 1.0], "free": {"recorded": free, "model": free[::-1]}},
    }  # fmt: skip
    plots.unusable_index(told, order=2, ax=ax)
    assert lines(ax)["recorded"][1] == [0.555, 0.111]
    assert lines(ax)["model"][1] == [0.111, 0.555]


def test_pageblocks_shows_the_map(result: dict[str, Any], ax: Axes) -> None:
    plots.pageblocks(result, design="linux", memory="short", ax=ax)
    rows = np.asarray(result["runs"][1]["designs"][0]["blockmap"]["rows"])
    grid = np.asarray(ax.images[0].get_array())
    assert grid.shape[0] == rows.shape[1]
    # what the map's numbers mean is the same: as many columns of each kind at the start and the end
    for at, edge in ((0, 0), (-1, -1)):
        assert sorted(np.unique(rows[at], return_counts=True)[1]) == sorted(
            np.unique(grid[:, edge], return_counts=True)[1]
        )


def test_leaves_are_stacked(result: dict[str, Any], ax: Axes) -> None:
    plots.leaves(result, design="per-page", memory="short", ax=ax)
    leaves = next(d for d in result["runs"][1]["designs"] if d["design"] == "per-page")["series"][
        "restricted_leaves"
    ]
    top = max(np.asarray(path.vertices)[:, 1].max() for c in ax.collections for path in c.get_paths())
    assert top == pytest.approx(max(np.asarray(leaves["4k"]) / 256 + 2 * np.asarray(leaves["2m"])))
    with pytest.raises(ValueError, match=r"no design 'linux': choose one of"):
        plots.leaves(result, design="linux")


def test_starvation_has_a_mark_for_each_way(ax: Axes) -> None:
    plots.starvation(STARVED, ax=ax)
    marks = {(line.get_marker(), line.get_xdata()[0]) for line in ax.lines if len(line.get_xdata()) == 1}
    assert marks == {("o", 90), ("s", 95), ("^", 100), ("o", 10), ("s", 40), ("^", 90)}
    assert [label.get_text() for label in ax.get_yticklabels()] == ["linux", "freetype"]


def test_speed_says_which_targets_are_met(ax: Axes) -> None:
    rows = [
        {"what": "a", "value": 3.0, "target": 2.0},
        {"what": "b", "value": 30.0, "target": -15.0},
        {"what": "c", "value": 1.0, "target": None},
    ]
    plots.speed({"version": "1", "rows": rows}, ax=ax)
    dots = [(line.get_marker(), line.get_xdata()[0]) for line in ax.lines if len(line.get_xdata()) == 1]
    assert dots == [("D", 1.5), ("o", 0.5)]


def test_without_axes_there_are_new_ones(result: dict[str, Any]) -> None:
    import matplotlib as mpl
    from matplotlib import pyplot

    mpl.use("agg")
    size = mpl.rcParams["font.size"]
    axes = plots.failure_rate(result)
    assert isinstance(axes, Axes)
    assert mpl.rcParams["font.size"] == size
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == list(lines(axes))
    axes.figure.draw_without_rendering()
    assert axes.figure.bbox.contains(*legend.get_window_extent().max)
    pyplot.close(axes.figure)


# ------------------------------------------------------------------ whole figures

SOURCES = {
    "failures": "compare", "price": "compare", "flushes": "sweep", "unusable": "compare",
    "pageblocks": "compare", "leaves": "compare", "starvation": "starvation", "speed": "targets",
}  # fmt: skip


def source(name: str, result: dict[str, Any]) -> Any:
    kinds = {
        "compare": result,
        "sweep": [row for row in SWEEP if row["classifier"] == "rfc"],
        "starvation": STARVED,
        "targets": TARGETS,
    }
    return kinds[SOURCES[name]]


@pytest.mark.parametrize("name", list(plots.PLOTS))
def test_every_figure_is_the_same_bytes_each_time(name: str, result: dict[str, Any], tmp_path: Path) -> None:
    for suffix, start in ((".svg", b"<?xml"), (".pdf", b"%PDF"), (".png", b"\x89PNG")):
        if suffix != ".svg" and name not in ("price", "pageblocks"):
            continue
        made: list[bytes] = []
        for size in ("page", "page"):
            path = tmp_path / f"{len(made)}{suffix}"
            plots.save(plots.sheet(name, source(name, result), size=size), path)
            made.append(path.read_bytes())
        assert made[0] == made[1]
        assert made[0].startswith(start)


def test_another_process_writes_the_same_bytes(result: dict[str, Any], tmp_path: Path) -> None:
    write_json(result, tmp_path / "r.json")
    plots.save(plots.sheet("unusable", result), tmp_path / "here.svg")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "asi_pa",
            "plot",
            "unusable",
            tmp_path / "r.json",
            "-o",
            tmp_path / "there.svg",
        ],
        check=True,
        cwd=ROOT,
        env={"PYTHONHASHSEED": "7", "PATH": "", "HOME": str(tmp_path)},
    )
    assert (tmp_path / "here.svg").read_bytes() == (tmp_path / "there.svg").read_bytes()


def test_sizes(result: dict[str, Any]) -> None:
    assert plots.sheet("price", result).get_figwidth() == 3.4
    assert plots.sheet("price", result, size="page").get_figwidth() == 7.0
    with pytest.raises(ValueError, match="no size 'poster': there are column, page"):
        plots.sheet("price", result, size="poster")


def test_a_folder_of_rows_is_a_sweep(tmp_path: Path) -> None:
    rows = [row for row in SWEEP if row["classifier"] == "rfc"]
    (tmp_path / "points").mkdir()
    for number, row in enumerate(rows):
        (tmp_path / "points" / f"{number:03}.jsonl").write_text(json.dumps(row) + "\n")
    assert list(plots.results_of(tmp_path).rows) == rows
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    (tmp_path / "columns").mkdir()
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "columns" / "rows.parquet")
    assert list(plots.results_of(tmp_path / "columns").rows) == rows


# ------------------------------------------------------------------ colours


def test_a_design_has_one_colour_whatever_it_is_compared_with() -> None:
    names = list(dict.fromkeys(design.name for design in DESIGNS.values()))
    together = design_colours(names)
    assert len(set(together.values())) == len(names)
    for name in names:
        assert design_colours(["my.py:MINE", name])[name] == together[name]


@pytest.mark.parametrize(
    ("kind", "tree", "words"),
    [
        ("UnmovableNons mapped", "restricted", "unmovable, mapped"),
        ("UnmovableSens unmapped", "restricted", "unmovable"),
        ("free Movable unmapped", "restricted", "free"),
        ("free UnmovableNons mapped", "restricted", "free, mapped"),
        ("Movable mapped", "unrestricted", "movable"),
        ("UnmovableUnmapped unmapped", "unrestricted", "unmovable, unmapped"),
        ("Reclaimable", "restricted", "reclaimable"),
        ("HighAtomic", "restricted", "other"),
        ("hole", "restricted", "other"),
    ],
)
def test_kinds_of_pageblocks_in_few_words(kind: str, tree: str, words: str) -> None:
    assert block_kind(kind, tree)[0] == words


def test_two_words_for_pageblocks_never_share_a_colour() -> None:
    kinds = [f"{free}{kind}{side}" for free in ("", "free ") for side in ("", " mapped", " unmapped")
             for kind in ("Unmovable", "Movable", "Reclaimable", "HighAtomic")]  # fmt: skip
    shown = {block_kind(kind, tree) for kind in kinds for tree in ("restricted", "unrestricted")}
    assert len({colour for _, colour in shown}) == len(shown) == len({words for words, _ in shown})


# ------------------------------------------------------------------ the command


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["plot", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_the_command_lists_and_refuses_in_a_line(
    result: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    r, out = str(tmp_path / "r.json"), str(tmp_path / "x.svg")
    write_json(result, r)
    assert cli.main(["plot"]) == 0
    assert all(name in capsys.readouterr().out for name in list(plots.PLOTS)[:1])
    assert "there are failures, price" in refused(capsys, "pie", r, "-o", out)
    assert "`asi-pa compare redis --json r.json` makes some" in refused(capsys, "price")
    assert "-o figure.pdf" in refused(capsys, "price", r)
    assert ".svg, .pdf, .png" in refused(capsys, "price", r, "-o", str(tmp_path / "x.eps"))
    assert "--memory 800M,1G,1200M,1500M" in refused(capsys, "flushes", r, "-o", out)
    assert "python -m benchmarks.targets" in refused(capsys, "speed", r, "-o", out)
    assert "there are redis" in refused(capsys, "failures", r, "-o", out, "--traces", "net")
    assert "no memory '1T'" in refused(capsys, "pageblocks", r, "-o", out, "--memory", "1T")
    (tmp_path / "none.json").write_text("{}")
    assert "no results that figures are made of" in refused(
        capsys, "price", str(tmp_path / "none.json"), "-o", out
    )
    (tmp_path / "bad.json").write_text("{")
    assert "bad.json: " in refused(capsys, "price", str(tmp_path / "bad.json"), "-o", out)
    assert not Path(out).exists()


def test_without_matplotlib_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("asi_pa.report.plots.style.find_spec", lambda _name: None)
    assert "pip install 'asi_pa[plot]'" in refused(
        capsys, "speed", str(TARGETS), "-o", str(tmp_path / "s.svg")
    )


def test_figures_do_not_import_matplotlib_before_they_need_it() -> None:
    code = "import sys, asi_pa.report.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
