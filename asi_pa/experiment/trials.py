"""Whether the method's words stand: a design against itself, and other base seeds (docs/use/method.md).

    python -m asi_pa.experiment.trials [TRACE ...] [--seeds N] [--tries N]

A design is compared with itself under another name whose start states and order of reclaim are drawn from
other seeds; *better* or *worse* would be false.  Then everything is compared from two base seeds; words that
differ are listed.  Exit status 1 if a word was false, or a sentence changed.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from asi_pa.designs import REFERENCE
from asi_pa.experiment.cache import Cache, cache_folder
from asi_pa.experiment.comparison import compare
from asi_pa.experiment.measures import measure_named
from asi_pa.experiment.rule import judge
from asi_pa.trace import bundled_traces

__all__ = ["against_itself", "main", "other_seeds"]

Result = dict[str, Any]


def against_itself(results: Sequence[Result]) -> Iterator[tuple[str, str, str, str, str]]:
    """(trace, place, measure, design, word) of each design in one result against itself in another."""
    for one, other in itertools.combinations(results, 2):
        for a, b in zip(one["answer"], other["answer"], strict=True):
            for mine, theirs in zip(a["measures"], b["measures"], strict=True):
                if mine["exact"]:
                    continue
                for design, values in mine["values"].items():
                    word = judge(measure_named(mine["measure"]), values, theirs["values"][design]).word
                    yield a["trace"], mine["place"], mine["measure"], design, word


def other_seeds(one: Result, other: Result) -> Iterator[tuple[str, str, str, str, str]]:
    """(trace, measure, design, word, other word) where two base seeds differ in a word against linux."""
    for a, b in zip(one["answer"], other["answer"], strict=True):
        for mine, theirs in zip(a["measures"], b["measures"], strict=True):
            for design, word in mine["against_reference"].items():
                again = theirs["against_reference"][design]["word"]
                if word["word"] != again:
                    yield a["trace"], f"{mine['measure']}, {mine['place']}", design, word["word"], again


def main(arguments: Sequence[str] | None = None) -> int:
    """The trials; 0 if every word stands."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("traces", metavar="TRACE", nargs="*")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--tries", type=int, default=4, help="base seeds; pairs of them are compared")
    args = parser.parse_args(arguments)
    traces = args.traces or list(bundled_traces())
    cache = Cache(cache_folder())
    results = [
        compare(traces, seed=1000 * k, seeds=args.seeds, samples=2, cache=cache) for k in range(args.tries)
    ]
    words = list(against_itself(results))
    false = [each for each in words if each[-1] in ("better", "worse")]
    print(f"a design against itself: {len(false)} of {len(words)} words false")
    for each in false:
        print("  " + ", ".join(each))
    changed = list(other_seeds(results[0], results[1])) if len(results) > 1 else []
    every = sum(len(row["against_reference"]) for t in results[0]["answer"] for row in t["measures"])
    print(f"base seeds 0 and 1000: {len(changed)} of {every} words against {REFERENCE} differ")
    for where, what, design, before, after in changed:
        print(f"  {where}, {what}, {design}: {before}, {after}")
    same = len(results) < 2 or results[0]["verdict"] == results[1]["verdict"]
    for result in results[:2]:
        print("\n".join(result["verdict"]) + "\n")
    return int(bool(false) or not same)


if __name__ == "__main__":
    sys.exit(main())
