"""How an answer depends on what counts as nonsensitive: the same comparison under several classifiers.

One caller can decide it: network page fragments are nine tenths of what the trace ``net`` asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from asi_pa.experiment.comparison import compare
from asi_pa.experiment.metrics import tlb_flushes
from asi_pa.trace import Classifier

__all__ = ["Dependence", "by_classifier"]


@dataclass(frozen=True)
class Dependence:
    """One design on one run under one classifier."""

    run: str
    """As ``net, 600M``."""
    classifier: str
    """Its text."""
    design: str
    nonsensitive: float
    """Share of the requests that it calls nonsensitive."""
    real: int
    declined: int
    huge: int
    flips: int
    """Pageblocks, either way."""
    flushes: int
    verify: str
    """"ok", or what is broken at the end."""


def by_classifier(
    traces: Sequence[Any], designs: Sequence[Any] | None, classifiers: Sequence[str], **how: Any
) -> list[Dependence]:
    """``compare`` once a classifier; further keywords are ``compare``'s.

    Rows come run by run, design by design, in the order in which classifiers were given.  Raises ValueError
    for a classifier that is not understood, before anything runs, and for what ``compare`` refuses.
    """
    for text in classifiers:
        Classifier.parse(text)
    rows = []
    for text in classifiers:
        for run in compare(traces, designs, classifier=text, **how)["runs"]:
            rows += [_row(run, text, entry) for entry in run["designs"]]
    at = {row: i for i, row in enumerate(dict.fromkeys((row.run, row.design) for row in rows))}
    return sorted(rows, key=lambda row: at[row.run, row.design])


def _row(run: dict[str, Any], classifier: str, entry: dict[str, Any]) -> Dependence:
    m = entry["metrics"]
    kinds = m["requests_by_kind"]
    return Dependence(
        run=f"{run['trace']}, {run['memory']}",
        classifier=classifier,
        design=entry["design"],
        nonsensitive=kinds["nonsensitive"] / max(1, sum(kinds.values())),
        **m["failures_by_group"],
        flips=m["flips_s2n"] + m["flips_n2s"],
        flushes=tlb_flushes(m) or 0,
        verify=entry["verify"],
    )
