"""Every cell of the screen, the tables and the page, read back and held against the result's numbers.

What a cell says is worked out here from the values, in words as docs/use/method.md has them; how it is laid
out is nobody's business here.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
from html import unescape
from statistics import median
from typing import Any

import numpy as np
import pytest

from asi_pa.experiment.measures import measure_named
from asi_pa.experiment.metrics import ROWS
from asi_pa.experiment.rule import judge
from asi_pa.report import render_html, render_mail, render_screen, render_terminal
from tests.report.compare_result import KINDS, make_result
from tests.report.reading import Shown, Tables, numbers, shows, spread, value_at

SIDES = ("migratetype/sound", "pool/nonsensitive")
SHORT = {"migratetype/sound": "migratetype", "pool/nonsensitive": "pool", "per-page": "per-page"}
#: What stands above the rows of each place.
TITLES = {"ample": "memory to spare", "short": "memory short", "search": "smallest memory"}
ON_SCREEN = [
    ("ample", "leaves"), ("ample", "tables"), ("ample", "mixed"), ("ample", "flushes"),
    ("short", "flushes"), ("short", "declined"), ("search", "price"), ("search", "roomy"),
]  # fmt: skip


@pytest.fixture(scope="module", params=[0, 1, 2])
def result(request: pytest.FixtureRequest) -> dict[str, Any]:
    return make_result(request.param, traces=("redis",), columns=16, samples=40)


def row_of(result: dict[str, Any], place: str, measure: str, trace: int = 0) -> dict[str, Any]:
    rows = result["answer"][trace]["measures"]
    (found,) = [row for row in rows if (row["place"], row["measure"]) == (place, measure)]
    return found  # type: ignore[no-any-return]


def said(row: dict[str, Any], design: str) -> list[float] | None:
    """A design's values as a cell tells them: per cent, and memory beyond linux's of the same seed."""
    values, linux = row["values"].get(design), row["values"]["linux"]
    if values is None or None in values:
        return None
    if row["unit"] == "mib":
        return [100 * (mine / theirs - 1) for mine, theirs in zip(values, linux, strict=True)]
    return [100 * value if row["unit"] == "share" else value for value in values]


def holds(text: str, values: list[float] | None) -> bool:
    """Whether a cell tells the median and the range of these values."""
    told = spread(text)
    if isinstance(told, str):
        return values is None if told == "-" else told == "< 1 %" and values is not None and max(values) < 1
    if values is None:
        return False
    wanted = (median(values), min(values), max(values))
    return all(shown.stands_for(value) for shown, value in zip(told, wanted, strict=True))


def who(row: dict[str, Any]) -> str:
    """Who is better and in how many seeds."""
    word = row["against_other"]
    if word["word"] not in ("better", "worse"):
        return str(word["word"])
    name = SHORT[SIDES[0] if word["word"] == "better" else SIDES[1]]
    return name if row["exact"] else f"{name} {word['agree']}/{word['seeds']}"


def cells_in(line: str, label: str) -> tuple[list[str], str]:
    """The cells of a line after its label, and what follows them."""
    rest = " " + line.strip()[len(label) :].lstrip(":") + " "
    pattern = r"\s(< 1 %|-|none|[+-]?\d[\d,.]*(?: \[[^\]]*\])?(?: %)?)(?=\s)"
    found = list(re.finditer(pattern, rest))[:2]
    return [each[1] for each in found], rest[found[-1].end() :].strip()


def lines_of(text: str, place: str) -> list[str]:
    """The lines of a screen that stand under a place's title."""
    lines = text.splitlines()
    titles = [at for at, line in enumerate(lines) if any(title in line for title in TITLES.values())]
    start = next(at for at in titles if TITLES[place] in lines[at])
    end = next((at for at in range(start + 1, len(lines)) if not lines[at].startswith("  ")), len(lines))
    return lines[start + 1 : end]


# ---------------------------------------------------------------- the screen


@pytest.mark.parametrize("mail", [False, True])
def test_the_two_on_the_screen(result: dict[str, Any], mail: bool) -> None:
    text = render_mail(result) if mail else render_screen(result, 78, colour=False)
    one, other = text.splitlines()[0].split("?")[0].split(" or ")
    assert (one, other) == (SHORT[SIDES[0]], SHORT[SIDES[1]])
    seen = 0
    for place, measure in ON_SCREEN:
        row = row_of(result, place, measure)
        lines = [line for line in lines_of(text, place) if line.strip().startswith(row["label"][:20])]
        if not lines:
            assert measure == "roomy"
            continue
        (line,) = lines
        cells, better = cells_in(line, row["label"])
        for cell, side in zip(cells, SIDES, strict=True):
            assert holds(cell, said(row, side)), (place, measure, side, line)
        assert better == who(row), line
        seen += 1
    assert seen >= 7


def test_how_many_seeds_agree() -> None:
    """Fourteen of sixteen, counted here; page and screen say so."""
    result = make_result(7, traces=("redis",), columns=8, samples=9)
    row = row_of(result, "short", "flushes")
    row["values"][SIDES[0]] = [900, 910] + [100 + n for n in range(14)]
    row["values"][SIDES[1]] = [500 + n for n in range(16)]
    one, other = row["values"][SIDES[0]], row["values"][SIDES[1]]
    agree = sum(mine < theirs for mine, theirs in zip(one, other, strict=True))
    word = judge(measure_named("flushes"), one, other)
    row["against_other"] = {"word": word.word, "agree": word.agree, "seeds": word.seeds, "difference": None}
    assert agree == 14
    lines = [line for line in lines_of(render_screen(result, 78, colour=False), "short") if "flushes" in line]
    assert lines[0].endswith("migratetype 14/16")
    pytest.importorskip("plotly")
    assert '<span class="tag">migratetype 14/16</span>' in render_html(result)


def test_two_traces_on_the_screen() -> None:
    result = make_result(3, traces=("redis", "net"), columns=8, samples=9)
    text = render_screen(result, 78, colour=False)
    for at, trace in enumerate(("redis", "net")):
        for place, measure in ON_SCREEN[4:7]:
            row = row_of(result, place, measure, at)
            label = f"{row['label']}: {trace}"
            lines = [line for line in lines_of(text, place) if line.strip().startswith(label)]
            if not lines:  # narrower than the label and its cells: the label is cut
                assert sum(line.strip().startswith(row["label"][:12]) for line in lines_of(text, place)) == 2
                continue
            cells, better = cells_in(lines[0], label)
            for cell, side in zip(cells, SIDES, strict=True):
                assert holds(cell, said(row, side)), lines[0]
            assert better == who(row)


def test_many_traces_are_ranges_of_medians() -> None:
    names = ("redis", "net", "gcc", "kernelmem")
    result = make_result(4, traces=names, columns=8, samples=9)
    text = render_screen(result, 78, colour=False)
    for place, measure in ON_SCREEN:
        rows = [row_of(result, place, measure, at) for at in range(len(names))]
        (line,) = [line for line in lines_of(text, place) if line.strip().startswith(rows[0]["label"][:12])]
        line = line.strip()[len(rows[0]["label"]) :].replace(" %", "")
        ranges = re.findall(r"([+-]?\d[\d,]*(?:\.\d+)?)(?:\.\.([+-]?\d[\d,]*(?:\.\d+)?))?(?= |$)", line)
        for (low, high), side in zip(ranges, SIDES, strict=False):
            middles = [median(values) for row in rows if (values := said(row, side)) is not None]
            assert Shown(low).stands_for(min(middles)), (line, middles)
            assert Shown(high or low).stands_for(max(middles)), (line, middles)


def test_every_other_design_has_its_worst_medians() -> None:
    names = (*KINDS, "freetype/sound", "unmapped/sound")
    result = make_result(5, designs=names, traces=("redis", "net"), columns=8, samples=9)
    lines = render_screen(result, 78, colour=False).splitlines()
    head = next(at for at, line in enumerate(lines) if re.search(r"2M.*flushes.*decline.*memory", line))
    titles = re.findall(r"2M|flushes|decline|memory|yield|holes", lines[head])
    columns = {
        "2M": ("short", "leaves", min), "flushes": ("short", "flushes", max),
        "decline": ("short", "declined", max), "memory": ("search", "price", max),
    }  # fmt: skip
    for name, short in (
        ("per-page", "per-page"),
        ("freetype/sound", "freetype"),
        ("unmapped/sound", "unmapped"),
    ):
        line = next(line for line in lines[head + 1 :] if line.startswith(short))
        cells = re.findall(r"(?<= )(-(?= |$)|[+-]?\d[\d,]*(?:\.\d+)?)", line[len(short) :])
        assert len(cells) == len(titles), line
        for cell, title in zip(cells, titles, strict=True):
            if title in columns:
                place, measure, worst = columns[title]
                rows = [row_of(result, place, measure, at) for at in (0, 1)]
                value = worst(median(values) for row in rows if (values := said(row, name)) is not None)
            else:
                stored = result["stored"]
                value = 100 * stored["yields"][name] if title == "yield" else stored["holes"][name]
            assert Shown(cell).stands_for(value), (line, title, value)


def test_what_hangs_on_no_trace(result: dict[str, Any]) -> None:
    text = render_screen(result, 78, colour=False)
    line = next(line for line in text.splitlines() if line.startswith("yield"))
    yields = [100 * result["stored"]["yields"][side] for side in SIDES]
    shown = numbers(line)[:2]
    assert all(number.stands_for(value) for number, value in zip(shown, yields, strict=True))
    better = line.split("%")[-1].strip()
    assert better == ("equal" if abs(yields[0] - yields[1]) <= 2 else SHORT[SIDES[yields[0] < yields[1]]])
    line = next(line for line in text.splitlines() if line.startswith("holes"))
    assert [int(number) for number in numbers(line)[-3:]] == [25, 0, 0]


def test_claims_are_counted(result: dict[str, Any]) -> None:
    text = " ".join(render_screen(result, 78, colour=False).split())
    for claim in result["claims"]:
        for_ = sum(figure["for"] is True for figure in claim["figures"])
        against = sum(figure["for"] is False for figure in claim["figures"])
        verdict = "mixed" if for_ and against else "holds" if for_ else "fails"
        assert claim["verdict"] == verdict
        counts = f" ({for_}:{against})" if verdict == "mixed" else ""
        assert f"{claim['claim']} {verdict}{counts}" in text


WORDS = ("better", "worse", "equal", "undecided")
MEMORY = {
    "equal": r"equal on [^;.]*\b{}\b", "better": r"less on [^;.]*\b{}\b",
    "worse": r"more on [^;.]*\b{}\b", "undecided": r"undecided on [^;.]*\b{}\b",
}  # fmt: skip


def test_the_sentences_say_the_words() -> None:
    """Words drawn for two traces and two designs: each is in the sentence of its design."""
    from asi_pa.experiment.verdict import sentences

    rng = np.random.default_rng(8)
    result = make_result(6, traces=("redis", "net"), columns=8, samples=9)
    for _ in range(30):
        words = {(at, side): str(rng.choice(WORDS)) for at in (0, 1) for side in SIDES}
        declined = {(at, side): str(rng.choice(WORDS)) for at in (0, 1) for side in SIDES}
        for (at, side), word in words.items():
            row_of(result, "search", "price", at)["against_reference"][side]["word"] = word
        for (at, side), word in declined.items():
            row_of(result, "short", "declined", at)["against_reference"][side]["word"] = word
        said_ = sentences(result)
        memory = next(text for text in said_ if "must succeed" in text)
        short = next((text for text in said_ if text.startswith("With memory short")), "")
        for at, trace in enumerate(("redis", "net")):
            for side in SIDES:
                (part,) = [p for p in memory.split(";") if re.search(rf"\b{SHORT[side]}\b", p)]
                clauses = re.split(r", (?=equal|less|more|undecided|untested)", part)
                told = [w for w in WORDS for c in clauses if re.search(MEMORY[w].format(trace), c)]
                assert told == [words[at, side]], (memory, trace, side)
                more = re.search(rf"{SHORT[side]} declines more of {trace}'s", short) is not None
                open_ = re.search(rf"{SHORT[side]} is undecided on [^;]*\b{trace}\b", short) is not None
                assert (more, open_) == (
                    declined[at, side] == "worse",
                    declined[at, side] == "undecided",
                ), (short, trace, side)


# ---------------------------------------------------------------- the tables


def best_of(metric: Any, designs: list[dict[str, Any]]) -> set[str]:
    """Whose value is best: what protects nothing, leaks or is as posted does not compete where protection
    costs."""
    values = {}
    for design in designs:
        metrics = design["metrics"]
        breached = any(metrics.get(m.key) for m in ROWS if m.breach)
        if metric.asi and (design["design"] == "linux" or breached or design.get("as_posted")):
            continue
        value = value_at(metrics, metric.key)
        if value is not None:
            values[design["design"]] = value
    if not metric.better or len(set(values.values())) < 2:
        return set()
    top = min(values.values()) if metric.better == "low" else max(values.values())
    return {name for name, value in values.items() if value == top}


def shown_of(metric: Any, design: dict[str, Any]) -> Any:
    if metric.asi and not metric.breach and design["design"] == "linux":
        return None
    return value_at(design["metrics"], metric.key)


_VALUE = re.compile(
    r"(?<=\s)(-|\d[\d,]*(?:\.\d+)?(?: [KMGT]?i?B|%|[kMG]?/s|[kMG])?|-1\.000)([*!](?=[ +\-=x~])|(?=\s))"
)


def test_the_tables_of_the_terminal(result: dict[str, Any]) -> None:
    parts = render_terminal(result, 200, colour=False).split("\n\n")
    checked = 0
    for run, part in zip(result["runs"], parts[1:], strict=False):
        designs = run["designs"]
        for metric in ROWS:
            lines = [line for line in part.splitlines() if line[9:].startswith(metric.label)]
            lines = [line for line in lines if line[9 + len(metric.label) :][:1] in (" ", "")]
            if not lines:
                continue
            found = _VALUE.findall(" " + lines[0][9 + len(metric.label) :] + "  ")
            assert len(found) == len(designs), lines[0]
            best = best_of(metric, designs)
            for (text, mark), design in zip(found, designs, strict=True):
                assert shows(text, shown_of(metric, design), metric.unit), (metric.key, lines[0])
                assert (mark == "*") == (design["design"] in best), (metric.key, lines[0])
            checked += 1
    assert checked > 30


def test_what_is_the_same_for_all(result: dict[str, Any]) -> None:
    text = render_terminal(result, 200, colour=False)
    said_ = re.findall(r"the same for all: ((?:.|\n  )*)", text)
    assert len(said_) == len(result["runs"])
    for run, line in zip(result["runs"], said_, strict=True):
        for entry in " ".join(line.split()).split("; "):
            (metric,) = [
                m for m in ROWS if re.fullmatch(re.escape(m.label.strip()) + r" [^ ]+(?: \w+)?", entry)
            ][:1]
            value = entry[len(metric.label.strip()) + 1 :]
            for design in run["designs"]:
                if not metric.asi or design["design"] != "linux":
                    assert shows(value, value_at(design["metrics"], metric.key), metric.unit), entry


# ---------------------------------------------------------------- the page


@pytest.fixture(scope="module")
def page(result: dict[str, Any]) -> str:
    pytest.importorskip("plotly")
    return render_html(result)


def section(page: str, title: str) -> str:
    start = page.index(f"<summary>{title}")
    return page[start : page.find('<details class="section">', start)]


def test_all_designs_on_the_page(result: dict[str, Any], page: str) -> None:
    rows = [row for row in Tables(section(page, "All designs")).rows if len(row) > 2]
    names = list(KINDS)
    assert ["".join(texts) for _, texts in rows[0][1:]] == names
    found = {texts[0]: cells for (_, texts), *cells in rows[1:]}
    for row in result["answer"][0]["measures"]:
        cells = found.pop(f"{row['label']}, {row['place']}")
        for (_, texts), name in zip(cells, names, strict=True):
            assert holds(texts[0], said(row, name)), (row["label"], row["place"], name, texts)
            word = row["against_reference"].get(name, {}).get("word", "")
            assert texts[1:] == ([word] if word not in ("", "untested") else [])
    assert not found


def test_every_run_on_the_page(result: dict[str, Any], page: str) -> None:
    panels = re.split(r'<details class="panel" id="run-\d+">', page)[1:]
    assert len(panels) == len(result["runs"])
    for run, panel in zip(result["runs"], panels, strict=True):
        designs = run["designs"]
        rows = Tables(panel).rows
        found = {"".join(cells[0][1]): cells[1:] for cells in rows if len(cells) == len(designs) + 1}
        for metric in ROWS:
            values = [shown_of(metric, design) for design in designs]
            if all(value is None for value in values):
                continue
            best = best_of(metric, designs)
            for (kind, texts), value, design in zip(
                found[metric.label.strip()], values, designs, strict=True
            ):
                assert shows(texts[0], value, metric.unit), (metric.key, texts)
                assert (kind == "best") == (design["design"] in best), metric.key
        orders = [row for row in rows if len(row) == 12]
        keys = ("allocations_by_order", "unusable_index", "extfrag_index")
        wanted = [(key, design) for key in keys for design in designs]
        assert ["".join(texts) for _, texts in orders[0]] == ["order", *map(str, range(11))]
        for row, (key, design) in zip(orders[1:], wanted, strict=True):
            assert "".join(row[0][1]) == design["design"]
            unit = "count" if key == "allocations_by_order" else "index"
            for (_, texts), value in zip(row[1:], design["metrics"][key], strict=True):
                assert shows(texts[0], value, unit), (key, texts, value)


def test_claims_on_the_page(result: dict[str, Any], page: str) -> None:
    rows = [row for row in Tables(section(page, "The RFC's four claims")).rows if len(row) == 6]
    body = [row for row in rows if "".join(row[1][1]) != "run"]
    figures = [
        figure
        for claim in result["claims"]
        for figure in sorted(claim["figures"], key=lambda f: (f["for"] is None, f["for"]))
    ]
    units = {metric.key: metric.unit for metric in ROWS}
    assert len(body) == len(figures)
    for row, figure in zip(body, figures, strict=True):
        side = {True: "for", False: "against", None: "context"}[figure["for"]]
        texts = ["".join(cell) for _, cell in row]
        assert texts[:4] == [side, figure["run"], figure["design"], figure["metric"]]
        share = figure["metric"].startswith(("failure_rate.", "pcp_share."))
        unit = "share" if share else units.get(figure["metric"], "count")
        assert shows(texts[4], figure["value"], unit), texts
        if "reference" in figure:
            assert shows(row[5][1][0], figure["reference"], unit), texts


def unpacked(page: str, name: str) -> str:
    (text,) = re.findall(rf'<script type="text/plain" id="{name}">([^<]*)</script>', page)
    return gzip.decompress(base64.b64decode(text)).decode()


def plain(values: Any) -> Any:
    """A figure's numbers: a list, or plotly's base64 of an array."""
    if isinstance(values, dict):
        made = np.frombuffer(base64.b64decode(values["bdata"]), np.dtype(values["dtype"]).newbyteorder("<"))
        if "shape" in values:
            made = made.reshape([int(n) for n in str(values["shape"]).split(",")])
        return made.tolist()
    return values


def test_the_deeper_pictures(result: dict[str, Any], page: str) -> None:
    """Lines, layers and block maps hold the series, design by design."""
    for index, run in enumerate(result["runs"]):
        entry = json.loads(unpacked(page, f"data-{index}"))
        series = {design["design"]: design["series"] for design in run["designs"]}
        seen = set()
        for picture, figure in entry["figures"].items():
            for trace in figure["data"]:
                name = trace["meta"]["design"]
                mine = series[name]
                if picture == "blockmap":
                    of = next(d["blockmap"] for d in run["designs"] if d["design"] == name)
                    kinds = [kind for kind, _ in entry["legends"]["blockmap"]]
                    z = np.array(plain(trace["z"]))
                    assert z.shape == (16, 40)
                    shown = [[kinds[code] for code in column] for column in z.T]
                    assert shown == [[of["legend"][code] for code in row] for row in of["rows"]]
                    continue
                y = plain(trace["y"])
                if picture == "free":
                    wanted = [round(pages * 4 / 1024, 2) for pages in mine["free_pages"][trace["name"]]]
                elif picture == "leaves":
                    size = trace["name"].split()[0].lower()
                    mib = {"4k": 4 / 1024, "2m": 2, "1g": 1024}[size]
                    wanted = [round(n * mib, 2) for n in mine["restricted_leaves"][size]]
                elif trace["yaxis"] == "y":
                    wanted = mine["flushes"]
                else:
                    wanted = [a + b for a, b in zip(mine["flips_s2n"], mine["flips_n2s"], strict=True)]
                assert np.allclose(y, wanted, atol=0.0051), (picture, name, trace["name"])
                seen.add(picture)
        assert seen == {"free", "leaves", "flushes"}
        for design, card in zip(run["designs"], entry["designs"], strict=True):
            mine = series[design["design"]]
            assert card["design"] == design["design"]
            assert card["series"]["op"] == mine["op"]
            seconds = [(at - mine["time_ns"][0]) / 1e9 for at in mine["time_ns"]]
            assert np.allclose(card["series"]["s"], seconds, atol=1e-6)
            now = {label: values for label, _, values in card["now"]}
            assert now["free"] == [sum(at) for at in zip(*mine["free_pages"].values(), strict=True)]
            if "flushes so far" in now:
                assert now["flushes so far"] == mine["flushes"]


def test_the_small_pictures(result: dict[str, Any], page: str) -> None:
    """Every text beside a mark tells its values; dots and lines lie where their values do."""
    cards = re.split(r'<figure class="card pic', page)[1:]
    titles = [unescape(re.findall("<h3>(.*?)<", card)[0]) for card in cards]
    measures = {
        "declined, memory short": ("short", "declined"), "flushes, memory short": ("short", "flushes"),
        "2M leaves": ("ample", "leaves"), "Mixed pageblocks": ("ample", "mixed"),
    }  # fmt: skip
    seen = 0
    for title, card in zip(titles, cards, strict=True):
        for words, (place, measure) in measures.items():
            if words in title:
                row = row_of(result, place, measure)
                tag = unescape(re.findall('class="tag">(.*?)<', card)[0])
                assert tag == who(row)
                told = [unescape(text) for text in re.findall("<b>(.*?)</b>", card)]
                wanted = [values for s in (*SIDES, "linux") if (values := said(row, s)) is not None]
                assert len(told) == len(wanted)
                assert all(holds(text, values) for text, values in zip(told, wanted, strict=True))
                widths = [float(width) for width in re.findall(r"--w:([\d.]+)%", card)]
                largest = max(max(values) for values in wanted) or 1
                assert np.allclose(widths, [100 * median(v) / largest for v in wanted], atol=0.06), title
                seen += 1
        if title.startswith("Memory needed"):
            row = row_of(result, "search", "price")
            shares = [share for side in SIDES for share in said(row, side) or []]
            at = [float(x) for x in re.findall(r'<circle[^>]* cx="([\d.]+)"', card)]
            assert len(at) == len(shares)
            slope, base = np.polyfit(shares, at, 1)
            assert slope > 0
            assert np.allclose(at, slope * np.array(shares) + base, atol=0.11)
            texts = [unescape(t) for t in re.findall("<text[^>]*>(.*?)</text>", card)]
            for side in SIDES:
                (text,) = [t for t in texts if t.startswith(f"{SHORT[side]}, redis: ")]
                assert holds(text.split(": ")[1], said(row, side))
            seen += 1
    assert seen == 5


def test_the_curves(result: dict[str, Any], page: str) -> None:
    """A point a size, as far right as its logarithm and as high as the share's."""
    (curve,) = result["curves"]
    card = next(card for card in re.split(r"<figure ", page) if "Requests that fail" in card)
    lines = re.findall(r'<g class="(\w)"><polyline points="([^"]*)"', card)
    order = {"l": "linux", "a": SIDES[0], "b": SIDES[1]}
    assert len(lines) == 6
    for key, of in zip(("real", "declined"), (lines[:3], lines[3:]), strict=True):
        xs: list[float] = []
        ys: list[float] = []
        sizes: list[float] = []
        shares: list[float] = []
        assert {mark for mark, _ in of} == set(order)
        for mark, points in of:
            for point, mib, share in zip(
                points.split(), curve["mib"], curve["shares"][order[mark]][key], strict=True
            ):
                x, y = map(float, point.split(","))
                for into, value in ((xs, x), (ys, y), (sizes, math.log10(mib)), (shares, math.log10(share))):
                    into.append(value)
        for at, what, sign in ((xs, sizes, 1), (ys, shares, -1)):
            slope, base = np.polyfit(what, at, 1)
            assert slope * sign > 0
            assert np.allclose(at, slope * np.array(what) + base, atol=0.11)
