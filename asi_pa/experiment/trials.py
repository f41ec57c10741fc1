"""Whether the method's words stand: a design against itself, and other base seeds (docs/use/method.md).

    python -m asi_pa.experiment.trials [TRACE ...] [--designs A,B] [--tries N] [--seeds N]

A design is compared with itself under another name whose start states and order of reclaim are drawn from
other seeds; *better* or *worse* would be false.  Each of so many base seeds (0, 1,000, ...) is one side of
such a pair with each other one: 7 make 21 tries.  Words against linux that differ between the first two are
listed.  Exit status 1 if a word was false, or a sentence changed.  What was found is kept in the user's cache
folder: stopped, it goes on.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from asi_pa.designs import REFERENCE, as_design
from asi_pa.experiment.answer import answer
from asi_pa.experiment.cache import Cache, cache_folder
from asi_pa.experiment.comparison import SEEDS, nearness, protagonists
from asi_pa.experiment.measures import measure_named
from asi_pa.experiment.probe import Relief
from asi_pa.experiment.rule import judge
from asi_pa.experiment.runs import DEFAULT_DESIGNS
from asi_pa.experiment.study import Plan, Study, Subject
from asi_pa.experiment.verdict import sentences
from asi_pa.progress import Progress
from asi_pa.trace import bundled_traces, load_events

__all__ = ["against_itself", "main", "other_seeds"]

Result = dict[str, Any]


def against_itself(results: Sequence[Result]) -> Iterator[tuple[str, str, str, str, str]]:
    """(trace, place, measure, design, word) of each design in one result against itself in another."""
    for one, other in itertools.combinations(results, 2):
        for a, b in zip(one["answer"], other["answer"], strict=True):
            for mine, theirs in zip(a["measures"], b["measures"], strict=True):
                if mine["exact"] or theirs["exact"]:
                    continue
                for design, values in mine["values"].items():
                    again = theirs["values"][design]
                    if len(values) == len(again):
                        word = judge(measure_named(mine["measure"]), values, again).word
                        yield a["trace"], mine["place"], mine["measure"], design, word


def other_seeds(one: Result, other: Result) -> Iterator[tuple[str, str, str, str, str]]:
    """(trace, measure, design, word, other word) where two base seeds differ in a word against linux."""
    for a, b in zip(one["answer"], other["answer"], strict=True):
        for mine, theirs in zip(a["measures"], b["measures"], strict=True):
            for design, word in mine["against_reference"].items():
                again = theirs["against_reference"][design]["word"]
                if word["word"] != again:
                    yield a["trace"], f"{mine['measure']}, {mine['place']}", design, word["word"], again


def _found(
    subjects: Sequence[Subject], names: Sequence[str], seed: int, seeds: int, cache: Cache, progress: Progress
) -> Result:
    """What of a comparison its words are made of, from one base seed."""
    designs = [as_design(name) for name in names]
    plan = Plan(
        designs=(as_design(REFERENCE), *(d for d in designs if d.name != REFERENCE)),
        protagonists=protagonists(designs if names != DEFAULT_DESIGNS else None),
        seeds=tuple(range(seed, seed + seeds)),
        relief=Relief(),
    )
    study = Study(plan, subjects, cache, lambda what, done, of: progress(f"seed {seed}, {what}", done, of))
    floors = [nearness(subject, cache)["floors"] for subject in subjects]
    result = {
        "answer": [
            answer(plan, *each) for each in zip(subjects, study.run(), floors, strict=True)
        ],
        "protagonists": list(plan.protagonists),
        "reference": REFERENCE,
        "quick": False,
    }  # fmt: skip
    return result | {"verdict": sentences(result)}


def main(arguments: Sequence[str] | None = None) -> int:
    """The trials; 0 if every word stands."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("traces", metavar="TRACE", nargs="*")
    parser.add_argument(
        "--designs", metavar="A,B", help="these (all that compare takes); the two first decide"
    )
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--tries", type=int, default=7, help="base seeds; each pair of them is a try (7)")
    args = parser.parse_args(arguments)
    names = args.designs.split(",") if args.designs else DEFAULT_DESIGNS
    cache = Cache(cache_folder())
    every: list[tuple[str, str, str, str, str]] = []
    changed, sentence = 0, 0
    for name in args.traces or list(bundled_traces()):
        subjects = [Subject.of(load_events(name), "rfc", 0, cache=cache)]
        with Progress() as progress:
            results = [
                _found(subjects, names, 1000 * k, args.seeds, cache, progress) for k in range(args.tries)
            ]
        words = list(against_itself(results))
        every += words
        false = [each for each in words if each[-1] in ("better", "worse")]
        told = ", ".join(f"{word} {n}" for word, n in sorted(Counter(each[-1] for each in words).items()))
        print(
            f"{subjects[0].trace.name}: a design against itself: {len(false)} of {len(words)} false ({told})"
        )
        for each in false:
            print("  " + ", ".join(each))
        differ = list(other_seeds(*results[:2])) if len(results) > 1 else []
        for where, what, design, before, after in differ:
            print(f"  seeds 0 and 1000, {where}, {what}, {design}: {before}, {after}")
        changed += len(differ)
        if len(results) > 1 and results[0]["verdict"] != results[1]["verdict"]:
            sentence += 1
            for result in results[:2]:
                print("\n".join(f"  {line}" for line in result["verdict"]))
    pairs = args.tries * (args.tries - 1) // 2
    wrong = sum(each[-1] in ("better", "worse") for each in every)
    print(f"{pairs} tries: {wrong} of {len(every)} words false")
    print(f"base seeds 0 and 1000: {changed} words differ, the sentences of {sentence} traces")
    return int(bool(wrong or sentence))


if __name__ == "__main__":
    sys.exit(main())
