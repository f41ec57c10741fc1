"""Every value of an answer, found a second time, as docs/use/method.md says it in words.

What a measure is at a size is taken from a replay of its own (whose numbers test_second_count.py counts with
the twin); what a search found is tried at its border; words, curves, claims and full runs are made again from
the values.
"""

from __future__ import annotations

from statistics import median
from typing import Any

import pytest

pytest.importorskip("asi_pa.run.replay", reason="the extension modules are not built")

from asi_pa.designs import DESIGNS
from asi_pa.experiment import measures, replay, rows
from asi_pa.experiment.comparison import compare
from asi_pa.experiment.probe import Failures, Relief, requests
from asi_pa.experiment.runs import build
from asi_pa.run.settle import settled
from asi_pa.trace import Classifier, CompiledTrace, Starts
from tests.experiment.small_start import small_start

NAMES = ("linux", "migratetype/sound", "pool/nonsensitive")
RULE = "share=0.6"
BASE, SEEDS = 1, 3
FEW = 1000
MIB = 256  # pages

Key = tuple[str | None, str, int, int]


@pytest.fixture(scope="module", autouse=True)
def few() -> Any:
    """So small a trace has not ten thousand requests that a caller can do without."""
    assert measures.LEAST_DECLINABLE == 10_000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "LEAST_DECLINABLE", FEW)
        patch.setattr(rows, "LEAST_DECLINABLE", FEW)
        yield


@pytest.fixture(scope="module")
def starts() -> Starts:
    return Starts(small_start(), Classifier.parse(RULE, BASE), settle=settled)


class Again:
    """Replays of their own, each once."""

    def __init__(self, starts: Starts) -> None:
        self.starts = starts
        self.kept: dict[Key, dict[str, Any]] = {}
        self.sizes: dict[tuple[int, int], CompiledTrace] = {}

    def at(self, pages: int, seed: int) -> CompiledTrace:
        if (pages, seed) not in self.sizes:
            made = self.starts.at(pages, seed) if pages else self.starts.recorded()
            self.sizes[pages, seed] = made
        return self.sizes[pages, seed]

    def entry(self, kernel: str | None, design: str, pages: int, seed: int) -> dict[str, Any]:
        key = (kernel, design, pages, seed)
        if key not in self.kept:
            self.kept[key] = replay(
                self.at(pages, seed),
                design,
                kernel=kernel,
                samples=3,
                reclaim=None,
                compaction=True,
                seed=seed,
            )
        return self.kept[key]

    def values(self, kernel: str | None, design: str, pages: int, seed: int) -> dict[str, Any]:
        """The measures in words: docs/use/method.md, Measures."""
        entry = self.entry(kernel, design, pages, seed)
        metrics = entry["metrics"]
        asked, failed = metrics["requests_by_group"], metrics["failures_by_group"]
        found: dict[str, Any] = {
            "mixed": metrics["mixed_blocks"],
            "real": failed["real"] / asked["real"],
            "declined": failed["declined"] / asked["declined"] if asked["declined"] >= FEW else None,
        }
        leaves = metrics["direct_map_kb"]["restricted"] or {}
        mapped = sum(leaves.values())
        protects = bool(entry["protects"])
        found["leaves"] = (leaves["2m"] + leaves["1g"]) / mapped if mapped and protects else None
        found["tables"] = metrics["table_pages_allocated"] if protects else None
        flushes = metrics["tlb_flushes_ranged"] + metrics["tlb_flushes_full"]
        found["flushes"] = flushes if protects else None
        return found

    def fits(self, pages: int, seed: int) -> bool:
        try:
            return not self.at(pages, seed).initial.get("evicted")
        except ValueError:
            return False

    def serves(self, kernel: str | None, design: str, pages: int, seed: int) -> bool:
        """At most max(10, 0.01 %) real failures."""
        if not self.fits(pages, seed):
            return False
        metrics = self.entry(kernel, design, pages, seed)["metrics"]
        whole = self.starts.at(None, BASE)
        asked = replay(whole, "linux", samples=2)["metrics"]["requests_by_group"]["real"]
        return bool(metrics["failures_by_group"]["real"] <= max(10, asked // 10_000))

    def declines_little(self, kernel: str | None, design: str, pages: int, seed: int) -> bool:
        metrics = self.entry(kernel, design, pages, seed)["metrics"]
        few = metrics["failures_by_group"]["declined"] <= metrics["requests_by_group"]["declined"] / 100
        return bool(few) and self.serves(kernel, design, pages, seed)


@pytest.fixture(scope="module")
def again(starts: Starts) -> Again:
    return Again(starts)


Case = tuple[str | None, dict[str, Any]]


@pytest.fixture(scope="module", params=[None, "6.12"])
def found(request: pytest.FixtureRequest) -> Case:
    made = compare(
        small_start(), NAMES, classifier=RULE, seed=BASE, seeds=SEEDS, samples=3, kernel=request.param
    )
    return request.param, made


def rows_of(result: dict[str, Any], place: str) -> dict[str, dict[str, Any]]:
    (trace,) = result["answer"]
    return {row["measure"]: row for row in trace["measures"] if row["place"] == place}


def check_values(table: dict[str, dict[str, Any]], design: str, at: int, values: dict[str, Any]) -> None:
    for measure in ("leaves", "tables", "mixed", "flushes", "real", "declined"):
        assert table[measure]["values"][design][at] == values[measure], (measure, design, at)


# ---------------------------------------------------------------- values


def test_on_the_recorded_machine(found: Case, again: Again) -> None:
    kernel, result = found
    table = rows_of(result, "ample")
    for name in NAMES:
        for at in range(len(table["mixed"]["values"][name])):
            check_values(table, name, at, again.values(kernel, name, 0, BASE + at))
    assert len(table["mixed"]["values"]["linux"]) == SEEDS
    # a fault in which seed or kernel is forgotten has to show
    pool = table["flushes"]["values"]["pool/nonsensitive"]
    assert len(set(pool)) > 1
    other = "6.12" if kernel is None else None
    assert pool != [again.values(other, "pool/nonsensitive", 0, BASE + at)["flushes"] for at in range(SEEDS)]


def short_of(price: float) -> int:
    """1.05 times what linux needs, a multiple of 2 MiB (4 MiB from 256 MiB on)."""
    step = 2 if price * 1.05 < 256 else 4
    return round(1.05 * price / step) * step * MIB


def test_where_memory_is_short(found: Case, again: Again) -> None:
    kernel, result = found
    table, price = rows_of(result, "short"), rows_of(result, "search")["price"]["values"]["linux"]
    for at in range(SEEDS):
        pages = short_of(price[at])
        for name in NAMES:
            check_values(table, name, at, again.values(kernel, name, pages, BASE + at))
    other = "6.12" if kernel is None else None
    here, there = (
        [again.values(k, "pool/nonsensitive", short_of(price[at]), BASE + at) for at in range(SEEDS)]
        for k in (kernel, other)
    )
    assert here != there


def test_the_memory_that_is_needed(found: Case, again: Again) -> None:
    kernel, result = found
    price = rows_of(result, "search")["price"]["values"]
    for name in NAMES:
        for at in range(SEEDS):
            seed, needed, linux = BASE + at, price[name][at], price["linux"][at]
            assert needed % 2 == 0
            pages = round(needed * MIB)
            assert again.serves(kernel, name, pages, seed), (name, seed)
            lower = [pages - 2 * MIB]
            if name != "linux" and needed <= linux:  # no use in looking closer: as much as linux
                close = max(0.02 * linux, 4) * MIB
                lower = [p for p in range(pages - 2 * MIB, 0, -2 * MIB) if linux * MIB - p <= close] or lower
            assert any(not again.serves(kernel, name, p, seed) for p in lower), (name, seed)
    assert len({tuple(values) for values in price.values()}) == 3


def test_the_memory_on_which_little_is_declined(found: Case, again: Again) -> None:
    kernel, result = found
    table = rows_of(result, "search")
    price, roomy = table["price"]["values"], table["roomy"]["values"]
    for name in NAMES:
        for at in range(SEEDS):
            seed, enough, linux = BASE + at, roomy[name][at], price["linux"][at]
            assert enough >= price[name][at]
            assert again.declines_little(kernel, name, round(enough * MIB), seed), (name, seed)
            if enough > price[name][at]:
                close = max(0.02 * enough, (enough - linux) / 5, 2) + 2
                lower = [p for p in range(2, round(close) + 1, 2) if enough - p >= price[name][at]]
                assert any(
                    not again.declines_little(kernel, name, round((enough - p) * MIB), seed) for p in lower
                ), (name, seed, enough)


def test_one_in_a_hundred_may_be_declined(starts: Starts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which 30 MiB serve, and one more than a hundredth is declined below 40 MiB."""
    whole = starts.at(None, BASE)
    asked = requests(whole).declined

    def failures(compiled: CompiledTrace, *_: Any, **__: Any) -> Failures:
        mib = compiled.memory_bytes >> 20
        return Failures(0 if mib >= 30 else 999, asked // 100 + (mib < 40), 0)

    monkeypatch.setattr(rows, "failures", failures)
    seed = rows.SeedStarts(starts, whole, BASE, 64 * MIB)
    row = rows.linux_row(seed, DESIGNS["linux"], None, Relief(), 36 * MIB)
    assert row["price"] == 30
    assert row["roomy"] in (40, 42)  # it may end early, within 2 % or a fifth of what is beyond linux


def test_at_sizes_that_are_given(again: Again) -> None:
    sizes = {"24M": 24 * MIB, "ample": 0, "1.1x": None}
    made = compare(
        small_start(),
        NAMES,
        classifier=RULE,
        seed=BASE,
        seeds=2,
        samples=2,
        memory=list(sizes),
        kernel="6.12",
    )
    for at in range(2):
        for name in NAMES:
            for words in ("24M", "ample"):
                values = again.values("6.12", name, sizes[words] or 0, BASE + at)
                check_values(rows_of(made, words), name, at, values)
    times = next(run for run in made["runs"] if run["memory"] == "1.1x")
    pages = times["memory_bytes"] // 4096
    for name in NAMES:
        check_values(rows_of(made, "1.1x"), name, 0, again.values("6.12", name, pages, BASE))
    enough = [again.serves("6.12", "linux", p, BASE) for p in range(0, 64 * MIB, 2 * MIB)]
    borders = [at * 2 for at in range(1, len(enough)) if enough[at] and not enough[at - 1]]
    assert pages in [round(1.1 * mib / 2) * 2 * MIB for mib in borders]


# ---------------------------------------------------------------- what is made of the values

#: Floors: a share of the larger value, and at least so much (docs/use/method.md, The rule).
FLOORS = {
    "leaves": (0.0, 0.02), "tables": (0.1, 8), "mixed": (0.1, 4), "flushes": (0.1, 8), "price": (0.02, 4),
    "roomy": (0.02, 4), "real": (0.0, 0.001), "declined": (0.0, 0.01),
}  # fmt: skip


def word_for(measure: str, mine: list[Any], theirs: list[Any], exact: bool) -> str:
    if None in mine or None in theirs:
        return "untested"
    share, least = FLOORS[measure]
    floors = [max(share * max(a, b), least) for a, b in zip(mine, theirs, strict=True)]
    over = [a - b if measure == "leaves" else b - a for a, b in zip(mine, theirs, strict=True)]
    n = len(over)
    enough, middle, floor = n - n // 8, median(over), median(floors)
    for word, side in (("better", 1), ("worse", -1)):
        if sum(d * side > 0 for d in over) >= enough and middle * side > (1 if exact else 1.5) * floor:
            return word
    near = sum(abs(d) <= f for d, f in zip(over, floors, strict=True)) >= enough
    return "equal" if near and abs(middle) <= (1 if exact else 0.5) * floor else "undecided"


def words_for(measure: str, mine: list[Any], theirs: list[Any]) -> set[str]:
    """The word; of values in which no seed has a part, perhaps, that of one exact value."""
    exact = len({*mine}) == len({*theirs}) == 1
    return {word_for(measure, mine, theirs, each) for each in {False, exact}}


def test_words(found: Case) -> None:
    _, result = found
    (trace,) = result["answer"]
    words = set()
    for row in trace["measures"]:
        values = row["values"]
        for name, word in row["against_reference"].items():
            wanted = words_for(row["measure"], values[name], values["linux"])
            assert word["word"] in wanted, (row["measure"], row["place"], name)
            words.add(word["word"])
        one, other = result["protagonists"]
        assert row["against_other"]["word"] in words_for(row["measure"], values[one], values[other])
    assert {"better", "worse", "equal", "untested"} <= words


def test_curves(found: Case, again: Again) -> None:
    kernel, result = found
    (curve,) = result["curves"]
    assert len(curve["mib"]) >= 4
    assert curve["seeds"] == SEEDS
    for name in NAMES:
        for key in ("real", "declined"):
            for mib, share in zip(curve["mib"], curve["shares"][name][key], strict=True):
                each = [again.values(kernel, name, mib * MIB, BASE + at)[key] for at in range(SEEDS)]
                assert share == median(each), (name, key, mib)


def test_full_runs(found: Case, again: Again) -> None:
    kernel, result = found
    price = rows_of(result, "search")["price"]["values"]["linux"][0]
    places = {"ample": 0, "short": short_of(price)}
    assert [run["memory"] for run in result["runs"]] == list(places)
    for run in result["runs"]:
        assert [entry["design"] for entry in run["designs"]] == list(NAMES)
        for entry in run["designs"]:
            pages = places[run["memory"]]
            mine = again.entry(kernel, entry["design"], pages, BASE)
            assert entry["series"] == mine["series"]
            assert entry["blockmap"] == mine["blockmap"]
            for key, value in mine["metrics"].items():
                assert key.startswith("replay_") or entry["metrics"][key] == value, key
            assert run["memory_bytes"] == again.at(pages, BASE).memory_bytes


def test_claims(found: Case) -> None:
    """A claim's figures are those of the runs."""
    _, result = found
    metrics = {
        (f"{run['trace']}/{run['memory']}", entry["design"]): entry["metrics"]
        for run in result["runs"]
        for entry in run["designs"]
    }
    checked = 0
    for claim in result["claims"]:
        for figure in claim["figures"]:
            of = metrics[figure["run"], figure["design"]]
            metric = figure["metric"]
            if metric == "tlb_flushes":
                assert figure["value"] == of["tlb_flushes_ranged"] + of["tlb_flushes_full"]
            elif metric.startswith(("failure_rate.", "pcp_share.")):
                name, kind = metric.split(".")
                assert figure["value"] == of[name][kind]
            elif metric in of:
                assert figure["value"] == of[metric], metric
            else:
                continue
            checked += 1
            if figure.get("against"):
                theirs = metrics[figure["run"], figure["against"]]
                if metric in theirs:
                    assert figure["reference"] == theirs[metric]
    assert checked > 20


# ---------------------------------------------------------------- what can be reclaimed


def test_the_seed_draws_what_is_reclaimed_first(starts: Starts) -> None:
    """File pages of the start state, all of them in the end, in another order with another seed."""
    compiled = starts.at(24 * MIB, BASE)
    (population,) = compiled.population
    files = set(population.held_slot[population.held_file & (population.held_order == 0)].tolist())
    gone: dict[int, set[int]] = {}
    for seed in (0, 1, 2):
        _, run, _ = build(compiled, DESIGNS["linux"], reclaim=None, compaction=True, seed=seed)
        at = 0
        for stop in range(200, len(compiled.ops), 200):
            run.run(compiled.ops, at, stop)
            at = stop
            if run.supply_used > 300:
                break
        missing = {slot for slot in files if run.held(slot) < 0}
        gone[seed] = missing
        assert 300 < len(missing) < len(files) / 2
    assert len(gone[0] & gone[1]) < 0.8 * len(gone[0])
    assert len(gone[1] & gone[2]) < 0.8 * len(gone[1])
