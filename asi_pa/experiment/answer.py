"""The study of one trace as the answer shows it: each measure by design, and the rule's words for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from asi_pa.designs import REFERENCE
from asi_pa.experiment.measures import MEASURES, Measure
from asi_pa.experiment.probe import requests
from asi_pa.experiment.rows import real_limit
from asi_pa.experiment.rule import Word, judge
from asi_pa.experiment.study import Found, Plan, Subject
from asi_pa.kernel.gfp import GFP_NAMES
from asi_pa.trace import CompiledTrace
from asi_pa.trace.compile import OP_ALLOC

__all__ = ["answer", "raised"]

#: What a search finds; all else is measured where memory is to spare and where it is short.
_SEARCHED = ("price", "roomy")
Values = dict[str, list[Any]]


def raised(measure: Measure, errors: Mapping[str, float]) -> Measure:
    """The measure with a floor no lower than its measured error: less no design is better by."""
    return replace(measure, absolute=max(measure.absolute, errors.get(measure.key, 0)))


def answer(
    plan: Plan, subject: Subject, found: Found, errors: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """An entry of ``answer`` in a result.

    ``errors``: by a measure's key, how far the model was off the recorded machine in it.
    """
    whole = subject.whole
    asked = requests(whole)
    nothing = _untested(whole)
    rows = []
    for place, values_of, drawn in _places(plan, found):
        for measure in (raised(measure, errors or {}) for measure in MEASURES):
            if measure.several and whole.nodes == 1:
                continue
            values = values_of(measure)
            if values is not None:
                if nothing(measure):
                    values = {name: [None] * len(each) for name, each in values.items()}
                rows.append(_row(plan, measure, place, values, drawn))
    return {
        "trace": subject.trace.name,
        "description": subject.trace.description,
        "requests": {"real": asked.real, "declined": asked.declined, "huge": asked.huge},
        "real_limit": real_limit(asked.real),
        "floored": {
            design.name: sum(row[design.name]["floored"] for row in found.rows) for design in plan.designs
        }
        if found.rows
        else {},
        "measures": rows,
    }


def _untested(whole: CompiledTrace) -> Callable[[Measure], bool]:
    """Which measures a trace says nothing about, because it has no request that they are about."""
    ops = whole.ops
    asked = np.bincount(ops["cls"][ops["op"] == OP_ALLOC], minlength=len(whole.classes))[: len(whole.classes)]
    sensitive = (whole.classes & np.uint32(GFP_NAMES["__GFP_SENSITIVE"])) != 0
    mapped = asked[~sensitive].sum() > 0
    return lambda measure: not asked.sum() or (measure.protection and not mapped)


def _places(plan: Plan, found: Found) -> list[Any]:
    """(place, values of a measure by design or None, the designs for which a seed matters)."""
    names = [design.name for design in plan.designs]
    searched = (REFERENCE, *plan.protagonists)

    def of(rows: Sequence[dict[str, Any]], pick: Any) -> Any:
        return lambda measure: {
            n: [pick(row[n], measure.key) for row in rows]
            for n in names
            if measure.key != "roomy" or n in searched
        }

    every = frozenset(names)
    if plan.memory:
        return [
            (size.words, _but_searched(of(found.sizes, lambda row, key, w=size.words: row[w][key])), every)
            for size in plan.memory
        ]
    drawn = frozenset(n for n in names if len(found.ample) > 1 and found.ample[0][n]["drawn"])
    ample = ("ample", _but_searched(of(found.ample, lambda row, key: row[key])), drawn)
    if not found.rows:
        return [ample]
    places = [
        ample,
        ("short", _but_searched(of(found.rows, lambda row, key: (row["short"] or {}).get(key))), every),
    ]
    if not plan.quick:
        search = of(found.rows, lambda row, key: row[key])
        places.append(
            ("search", lambda measure: search(measure) if measure.key in _SEARCHED else None, every)
        )
    return places


def _but_searched(values: Any) -> Any:
    return lambda measure: None if measure.key in _SEARCHED else values(measure)


def _row(plan: Plan, measure: Measure, place: str, values: Values, drawn: Collection[str]) -> dict[str, Any]:
    one, other = plan.protagonists

    def exact(*names: str) -> bool:
        return not any(name in drawn for name in names)

    words = not plan.quick
    return {
        "measure": measure.key,
        "label": measure.label,
        "place": place,
        "unit": measure.unit,
        "better": measure.better,
        "exact": exact(REFERENCE, one, other),
        "values": values,
        "against_reference": {
            name: _plain(judge(measure, values[name], values[REFERENCE], exact=exact(name, REFERENCE)))
            for name in values
            if words and name != REFERENCE
        },
        "against_other": _plain(judge(measure, values[one], values[other], exact=exact(one, other)))
        if words and one in values and other in values
        else None,
    }


def _plain(word: Word) -> dict[str, Any]:
    over = word.difference
    return {
        "word": word.word,
        "agree": word.agree,
        "seeds": word.seeds,
        "difference": None if over is None else [over.median, over.least, over.most],
    }
