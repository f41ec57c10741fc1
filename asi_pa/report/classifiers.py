"""The table of ``asi-pa compare --classifiers``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from asi_pa.experiment.classifiers import Dependence

__all__ = ["classifiers_text"]


def classifiers_text(rows: Sequence[Dependence]) -> str:
    """Run by run and design by design, a line a classifier."""
    wide = max([len(row.classifier) for row in rows] + [10])
    heads = ("nonsens.", "real", "declined", "huge", "flips", "flushes")
    lines = []
    for (run, design), part in groupby(rows, key=lambda row: (row.run, row.design)):
        lines += ["", f"{run}: {design}", " " * (wide + 2) + "".join(f"{head:>11}" for head in heads)]
        for row in part:
            numbers = (row.real, row.declined, row.huge, row.flips, row.flushes)
            cells = "".join(f"{number:>11,}" for number in numbers)
            lines.append(f"  {row.classifier:<{wide}}{100 * row.nonsensitive:>10.1f}%{cells}")
    lines += ["", "Failed requests by what they mean (docs/use/metrics.md), never to be added up."]
    return "\n".join(lines[1:]) + "\n"
