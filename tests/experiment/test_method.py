"""The rule, the search, the cache: what the words of a comparison rest on."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from asi_pa.designs import as_design
from asi_pa.experiment.answer import answer
from asi_pa.experiment.cache import Cache, key_of
from asi_pa.experiment.measures import MEASURES, measure_named
from asi_pa.experiment.probe import Relief
from asi_pa.experiment.rule import agreeing, judge
from asi_pa.experiment.search import lattice, on_lattice, smallest
from asi_pa.experiment.study import Found, Plan
from asi_pa.kernel.gfp import GFP_KERNEL
from asi_pa.trace import load_trace
from asi_pa.trace.classify import Classifier, request_words
from asi_pa.trace.compile import OP_ALLOC, Starts
from asi_pa.trace.ops import OP, count_kinds
from asi_pa.trace.resize import balanced

PRICE = measure_named("price")
DECLINED = measure_named("declined")


# ---------------------------------------------------------------- the rule


def test_sixteen_seeds_need_fourteen() -> None:
    assert [agreeing(n) for n in (1, 4, 7, 8, 16)] == [1, 4, 7, 7, 14]


@pytest.mark.parametrize(
    ("differences", "word"),
    [
        ([0.0] * 16, "equal"),
        ([10.0] * 14 + [500.0] * 2, "equal"),
        ([10.0] * 13 + [500.0] * 3, "undecided"),
        # within the floor (20), but at its edge: other seeds could lie beyond it
        ([20.0] * 16, "undecided"),
        ([0.0] * 9 + [20.0] * 7, "equal"),
        ([40.0] * 14 + [-40.0] * 2, "worse"),
        ([40.0] * 13 + [-40.0] * 3, "undecided"),
        ([-40.0] * 16, "better"),
        # more than a floor (20), less than 1.5 floors: all on one side and still no word
        ([25.0] * 16, "undecided"),
        ([None] * 16, "untested"),
        ([None] + [40.0] * 15, "untested"),
    ],
)
def test_words(differences: list[float | None], word: str) -> None:
    linux = [1000.0] * 16
    mine = [None if d is None else 1000.0 + d for d in differences]
    assert judge(PRICE, mine, linux).word == word
    opposite = {"better": "worse", "worse": "better"}
    assert judge(PRICE, linux, mine).word == opposite.get(word, word)


def test_small_machines_have_a_floor_of_4_mib() -> None:
    assert judge(PRICE, [102.0] * 16, [100.0] * 16).word == "equal"
    assert judge(PRICE, [104.0] * 16, [100.0] * 16).word == "undecided"
    assert judge(PRICE, [108.0] * 16, [100.0] * 16).word == "worse"


def test_exact_values_need_no_median() -> None:
    assert judge(DECLINED, [0.012], [0.0], exact=True).word == "worse"
    assert judge(DECLINED, [0.012], [0.0]).word == "undecided"
    assert judge(measure_named("mixed"), [6], [89], exact=True).word == "better"


@pytest.mark.parametrize("measure", MEASURES, ids=lambda m: m.key)
def test_a_design_against_itself_is_equal(measure: object) -> None:
    values = [random.Random(seed).random() * 900 for seed in range(16)]
    assert judge(measure, values, values).word == "equal"  # type: ignore[arg-type]


def test_a_pool_is_not_worse_than_itself_in_page_tables() -> None:
    """Its page tables on kernelmem with memory short, seeds 0 to 15 and 1,000 to 1,015.

    With a floor of one page they said "worse".
    """
    one = [10, 10, 11, 7, 9, 13, 7, 7, 9, 12, 7, 9, 13, 12, 13, 14]
    other = [8, 1, 10, 7, 7, 9, 6, 2, 8, 8, 8, 7, 9, 5, 6, 8]
    assert judge(measure_named("tables"), one, other).word == "equal"


# ---------------------------------------------------------------- the search


@pytest.mark.parametrize("truth", [2 * 256, 100 * 256, 254 * 256, 256 * 256, 860 * 256, 4000 * 256])
@pytest.mark.parametrize("guess", [2 * 256, 500 * 256, 860 * 256, 4000 * 256])
def test_the_smallest_size_is_found_from_any_guess(truth: int, guess: int) -> None:
    asked: list[int] = []

    def holds(pages: int) -> bool:
        asked.append(pages)
        return pages >= truth

    assert smallest(holds, guess, step=1.02, most=5000 * 256) == truth
    assert all(pages == on_lattice(pages) for pages in asked)
    assert len(set(asked)) == len(asked)
    assert len(asked) < 26


def test_a_search_ends_where_enough_is_known_and_where_nothing_is_large_enough() -> None:
    asked: list[int] = []

    def holds(pages: int) -> bool:
        asked.append(pages)
        return pages >= 855 * 256

    def enough(fails: int, good: int) -> bool:
        return good - fails <= 20 * 256

    assert smallest(holds, 860 * 256, step=1.02, most=5000 * 256, enough=enough) == 860 * 256
    assert len(asked) == 2
    assert smallest(lambda _: False, 860 * 256, step=1.02, most=5000 * 256) is None
    assert lattice(100 * 256) == 512


# ---------------------------------------------------------------- start states


def test_chunks_are_nested_and_balanced() -> None:
    rng = np.random.default_rng(5)
    free = rng.random(2944)
    for seed in range(4):
        order = balanced(free, np.random.default_rng(seed))
        assert sorted(order.tolist()) == list(range(len(free)))
        for n in (50, 150, 700):
            assert abs(free[order[:n]].mean() - free.mean()) < 0.02
    drawn = [balanced(free, np.random.default_rng(seed))[:50].tolist() for seed in range(4)]
    assert len({tuple(each) for each in drawn}) == 4


def test_start_states_of_one_seed_are_nested_and_those_of_all_alike() -> None:
    starts = Starts(load_trace("redis"), Classifier.parse("rfc"))
    free = [starts.at(1000 * 256, seed).population[0].free_pages for seed in range(4)]
    assert max(free) - min(free) < 0.05 * max(free)
    assert starts.at(1000 * 256, 1).population[0].free_pages == free[1]
    grows = [starts.at(mib * 256, 0).population[0].free_pages for mib in (900, 1000, 1100, 1200)]
    assert grows == sorted(grows)
    files = starts.at(1000 * 256, 0).population[0].held_file
    assert 0 < files.sum() < len(files)


# ---------------------------------------------------------------- the cache


def test_what_was_kept_comes_back_and_is_bounded(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=3000)
    assert cache.get("x") is None
    cache.put("x", {"price": 852.0, "short": None})
    assert cache.get("x") == {"price": 852.0, "short": None}
    cache.close()
    assert cache.get("x") is None
    cache = Cache(tmp_path, limit=3000)
    assert cache.get("x") == {"price": 852.0, "short": None}
    for number in range(40):
        cache.put(f"n{number}", np.random.default_rng(number).integers(0, 255, 100).tolist())
    assert cache.get("x") is None
    assert cache.get("n39") is not None
    cache.put("huge", np.random.default_rng(0).integers(0, 255, 10_000).tolist())
    assert cache.get("huge") is None
    cache.close()


def test_a_folder_that_cannot_be_used_is_gone_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        cache = Cache(folder)
        cache.put("x", 1)
        assert cache.get("x") is None
        cache.close()
    (tmp_path / "results.sqlite").write_bytes(b"no database" * 1000)
    cache = Cache(tmp_path)
    cache.put("x", 1)
    assert cache.get("x") is None
    cache.close()


def test_keys_tell_everything_apart() -> None:
    assert key_of("a", ["b"]) == key_of("a", ["b"])
    assert len({key_of("a", "b"), key_of("ab"), key_of(["a", "b"]), key_of("a", None), key_of("a", 0)}) == 5


# ---------------------------------------------------------------- where no seed matters


def test_exact_is_what_no_seed_plays_a_part_in() -> None:
    """On the recorded machine one design reclaims (``drawn``): the others' figures are exact all the same."""
    words = request_words(GFP_KERNEL)
    ops = np.zeros(2, OP)
    ops["op"], ops["cls"] = OP_ALLOC, [0, 1]
    whole = SimpleNamespace(ops=ops, classes=np.array(words, np.uint32), kinds=count_kinds(ops), nodes=1)
    subject = SimpleNamespace(whole=whole, trace=SimpleNamespace(name="made", description=""))
    names = ("linux", "migratetype/sound", "pool/nonsensitive", "freetype/sound")
    plan = Plan(
        designs=tuple(as_design(name) for name in names),
        protagonists=names[1:3],
        seeds=(0, 1),
        relief=Relief(),
    )
    figures = {"leaves": 0.5, "tables": 0, "flushes": 0, "real": 0.0, "declined": None}
    ample = [
        {
            name: {**figures, "mixed": mixed, "drawn": name == "freetype/sound"}
            for name, mixed in zip(names, (100, 4, 89, odd), strict=True)
        }
        for odd in (7, 9)
    ]
    found = answer(plan, subject, Found(rows=[], ample=ample, sizes=[], pages=[]))  # type: ignore[arg-type]
    (row,) = [row for row in found["measures"] if row["measure"] == "mixed"]
    assert row["exact"]
    assert row["against_other"]["word"] == "better"
    # one floor is enough where all is exact, 1.5 of them elsewhere
    ample[0]["pool/nonsensitive"]["mixed"] = ample[1]["pool/nonsensitive"]["mixed"] = 9
    for each in ample:
        each["freetype/sound"]["mixed"] = 105
    found = answer(plan, subject, Found(rows=[], ample=ample, sizes=[], pages=[]))  # type: ignore[arg-type]
    (row,) = [row for row in found["measures"] if row["measure"] == "mixed"]
    assert row["against_other"]["word"] == "better"
    for each in ample:
        each["migratetype/sound"]["drawn"] = True
    found = answer(plan, subject, Found(rows=[], ample=ample, sizes=[], pages=[]))  # type: ignore[arg-type]
    (row,) = [row for row in found["measures"] if row["measure"] == "mixed"]
    assert not row["exact"]
    assert row["against_other"]["word"] == "undecided"
