"""Two comparisons side by side: what was asked differently, and which words and numbers differ.

A change of the engine, of a kernel's rules or of a design shows as words and numbers that moved; what says
where and with which command a result was made is told, and is no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from asi_pa.experiment.columns import flat_metrics
from asi_pa.experiment.verdict import short_name
from asi_pa.report.cells import spread_text

__all__ = ["SCHEMA", "differences", "differences_text"]

SCHEMA = "asi_pa.diff/1"
#: Cells and numbers that the text shows of each kind; --full shows all.
SHOWN = 12
#: Digits that may be added to tell two numbers apart: a float has 17.
MOST_DIGITS = 15
Result = Mapping[str, Any]
Rows = list[dict[str, Any]]


def differences(a: Result, b: Result) -> dict[str, Any]:
    """What two results of ``asi-pa compare --json`` say differently.

    Keys: ``same``; ``about`` (what was asked and with what: key, ``a``, ``b``; no difference by itself);
    ``only`` (traces, designs and replays that one of them has); ``verdict`` (sentences of both); ``words``,
    ``cells``, ``curves``, ``claims``, ``stored`` and ``metrics``: what differs, with where it stands, ``a``
    and ``b``.  Times by a clock are not compared.
    """
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "same": False,
        "about": list(_about(a, b)),
        "only": list(_only(a, b)),
        "verdict": {"a": list(a["verdict"]), "b": list(b["verdict"])},
        "words": list(_words(a, b)),
        "cells": list(_cells(a, b)),
        "curves": list(_curves(a, b)),
        "claims": list(_claims(a, b)),
        "stored": list(_stored(a, b)),
        "metrics": list(_metrics(a, b)),
    }
    parts = ("only", "words", "cells", "curves", "claims", "stored", "metrics")
    found["same"] = not any(found[part] for part in parts) and a["verdict"] == b["verdict"]
    return found


def _about(a: Result, b: Result) -> Iterator[dict[str, Any]]:
    for key in (
        "asi_pa",
        "kernel",
        "seed",
        "seeds",
        "quick",
        "classifier",
        "nodes",
        "relief",
        "reference",
        "protagonists",
    ):
        one, other = (_asked(result, key) for result in (a, b))
        if one != other:
            yield {"what": key, "a": one, "b": other}


def _asked(result: Result, key: str) -> Any:
    if key == "nodes":
        return result.get(key, "1")  # there on machines of several nodes only
    return result[key]["words"] if key == "relief" else result[key]


def _names(result: Result) -> dict[str, list[str]]:
    designs = dict.fromkeys(d["design"] for run in result["runs"] for d in run["designs"])
    return {
        "trace": [answer["trace"] for answer in result["answer"]],
        "replay": [f"{run['trace']}/{run['memory']}" for run in result["runs"]],
        "design": list(designs),
    }


def _only(a: Result, b: Result) -> Iterator[dict[str, Any]]:
    one, other = _names(a), _names(b)
    for what in one:
        for side, mine, theirs in (("a", one, other), ("b", other, one)):
            for name in mine[what]:
                if name not in theirs[what]:
                    yield {"what": what, "name": name, "in": side}
    seeds = [{*range(result["seed"], result["seed"] + result["seeds"])} for result in (a, b)]
    for side, more in (("a", seeds[0] - seeds[1]), ("b", seeds[1] - seeds[0])):
        if more:
            yield {"what": "seeds", "name": f"{min(more)} to {max(more)}", "in": side}


def _measures(a: Result, b: Result) -> Iterator[tuple[dict[str, Any], Mapping[str, Any], Mapping[str, Any]]]:
    """Rows of the answers that both have, with where they stand."""
    theirs = {(t["trace"], r["place"], r["measure"]): r for t in b["answer"] for r in t["measures"]}
    for answer in a["answer"]:
        for row in answer["measures"]:
            other = theirs.get((answer["trace"], row["place"], row["measure"]))
            if other is not None:
                where = {"trace": answer["trace"], "place": row["place"], "measure": row["measure"]}
                yield where | {"label": row["label"], "unit": row["unit"]}, row, other


def _words(a: Result, b: Result) -> Iterator[dict[str, Any]]:
    for where, one, other in _measures(a, b):
        for design, word in one["against_reference"].items():
            said = other["against_reference"].get(design)
            if said is not None and said["word"] != word["word"]:
                yield where | {
                    "design": design,
                    "against": a["reference"],
                    "a": word["word"],
                    "b": said["word"],
                }
        mine, theirs = one["against_other"], other["against_other"]
        if a["protagonists"] == b["protagonists"] and mine and theirs and mine["word"] != theirs["word"]:
            first, second = a["protagonists"]
            yield where | {"design": first, "against": second, "a": mine["word"], "b": theirs["word"]}


def _cells(a: Result, b: Result) -> Iterator[dict[str, Any]]:
    for where, one, other in _measures(a, b):
        for design, values in one["values"].items():
            theirs = other["values"].get(design)
            if theirs is not None and a["seed"] == b["seed"]:  # of the seeds that both have
                both = min(len(values), len(theirs))
                values, theirs = values[:both], theirs[:both]
            if theirs is not None and theirs != values:
                yield where | {"design": design, "a": values, "b": theirs}


def _curves(a: Result, b: Result) -> Iterator[dict[str, Any]]:
    theirs = {curve["trace"]: curve for curve in b.get("curves", ())}
    for curve in a.get("curves", ()):
        other = theirs.get(curve["trace"])
        if other is None:
            continue
        for design in curve["shares"]:
            for kind in ("real", "declined"):
                one = dict(zip(curve["mib"], curve["shares"][design][kind], strict=True))
                two = dict(zip(other["mib"], other["shares"].get(design, {}).get(kind, ()), strict=False))
                for mib in sorted(one.keys() & two.keys()):
                    if one[mib] != two[mib]:
                        where = {"trace": curve["trace"], "mib": mib, "kind": kind, "design": design}
                        yield where | {"a": one[mib], "b": two[mib]}


def _claims(a: Result, b: Result) -> Iterator[dict[str, Any]]:
    theirs = {claim["claim"]: claim["verdict"] for claim in b["claims"]}
    for claim in a["claims"]:
        if theirs.get(claim["claim"]) != claim["verdict"]:
            yield {"claim": claim["claim"], "a": claim["verdict"], "b": theirs.get(claim["claim"])}


def _stored(a: Result, b: Result) -> Iterator[dict[str, Any]]:
    one, other = a.get("stored", {}), b.get("stored", {})
    for part in ("yields", "holes", "holes_as_posted"):
        for design in one.get(part, {}).keys() & other.get(part, {}).keys():
            if one[part][design] != other[part][design]:
                yield {"what": part, "design": design, "a": one[part][design], "b": other[part][design]}


def _metrics(a: Result, b: Result) -> Iterator[dict[str, Any]]:
    theirs = {(r["trace"], r["memory"], d["design"]): d for r in b["runs"] for d in r["designs"]}
    for run in a["runs"]:
        for design in run["designs"]:
            other = theirs.get((run["trace"], run["memory"], design["design"]))
            if other is None:
                continue
            where = {"trace": run["trace"], "memory": run["memory"], "design": design["design"]}
            one, two = flat_metrics(design["metrics"]), flat_metrics(other["metrics"])
            one["verify"], two["verify"] = design.get("verify"), other.get("verify")
            for key, value in one.items():
                if value != two[key]:
                    yield where | {"metric": key, "a": value, "b": two[key]}


# ---------------------------------------------------------------- text


def differences_text(found: Mapping[str, Any], names: tuple[str, str], *, full: bool = False) -> str:
    """The same for a terminal, the verdict first; ``names`` are what the two are called."""
    lines = [f"a  {names[0]}", f"b  {names[1]}"]
    for row in found["about"]:
        lines.append(f"   {row['what']}: a {_plain(row['a'])}, b {_plain(row['b'])}")
    lines += ["", *_verdict(found)]
    if found["same"]:
        return "\n".join(
            [*lines, "", "The same: every word, every number of every replay, but for times.", ""]
        )
    for title, rows in (
        ("Only in one", [f"  in {r['in']}: {r['what']} {r['name']}" for r in found["only"]]),
        ("Words that changed", [_word(row) for row in found["words"]]),
        ("Claims that changed", [f"  claim {r['claim']}: {r['a']} -> {r['b']}" for r in found["claims"]]),
        ("Cells that changed, median [least..most]", [_cell(row) for row in found["cells"]]),
        ("Failing requests over memory", [_curve(row) for row in found["curves"]]),
        ("Stored with the package", [_plainly(row, row["what"]) for row in found["stored"]]),
        ("Numbers of replays with the first seed", list(_numbers(found["metrics"]))),
    ):
        lines += _section(title, rows, full)
    return "\n".join([*lines, ""])


def _verdict(found: Mapping[str, Any]) -> Iterator[str]:
    one, other = found["verdict"]["a"], found["verdict"]["b"]
    if one == other:
        yield "The verdict is the same:" if one else "Neither has a verdict (one seed, or sizes as given)."
        yield from (f"  {text}" for text in one)
        return
    yield "The verdict differs:"
    for side, mine, theirs in (("a", one, other), ("b", other, one)):
        for text in mine or ["no verdict"]:
            yield f"{' ' if text in theirs else '*'} {side}: {text}"


def _section(title: str, rows: Sequence[str], full: bool) -> list[str]:
    if not rows:
        return []
    shown = list(rows) if full else list(rows[:SHOWN])
    more = [f"  ... and {len(rows) - len(shown):,} more (--full)"] if len(shown) < len(rows) else []
    return ["", f"{title}: {len(rows):,}", *shown, *more]


def _where(row: Mapping[str, Any]) -> str:
    return f"{row['trace']}, {row['place']}, {row['label']}, {short_name(row['design'])}"


def _word(row: Mapping[str, Any]) -> str:
    return f"  {_where(row)} against {short_name(row['against'])}: {row['a']} -> {row['b']}"


def _cell(row: Mapping[str, Any]) -> str:
    unit = "count" if row["unit"] == "mib" else row["unit"]
    there = [[value for value in row[side] if value is not None] for side in ("a", "b")]
    texts = _apart(there[0], there[1], lambda v, more: spread_text(v, unit, more) if v else "none")
    changed = sum(x != y for x, y in zip(row["a"], row["b"], strict=False)) + abs(
        len(row["a"]) - len(row["b"])
    )
    many = f" ({changed} of {max(len(row['a']), len(row['b']))} seeds)" if len(row["a"]) > 1 else ""
    unit = " MiB" if row["unit"] == "mib" else ""
    if texts[0] == texts[1]:
        return f"  {_where(row)}: {texts[0]}{unit} in both{many}"
    return f"  {_where(row)}: {texts[0]} -> {texts[1]}{unit}{many}"


def _curve(row: Mapping[str, Any]) -> str:
    a, b = _apart(row["a"], row["b"], lambda v, more: "-" if v is None else f"{100 * v:.{3 + more}g} %")
    return f"  {row['trace']}, {row['mib']:,} MiB, {row['kind']}, {short_name(row['design'])}: {a} -> {b}"


def _plainly(row: Mapping[str, Any], what: str) -> str:
    a, b = _apart(row["a"], row["b"], _plain)
    return f"  {what}, {short_name(row['design'])}: {a} -> {b}"


def _numbers(rows: Rows) -> Iterator[str]:
    """Those first that changed most, as a share of what they were."""

    def moved(row: Mapping[str, Any]) -> float:
        a, b = row["a"], row["b"]
        if isinstance(a, str) or isinstance(b, str) or a is None or b is None:
            return float("inf")
        return float(abs(a - b) / max(abs(a), abs(b)))

    for row in sorted(rows, key=moved, reverse=True):
        yield _plainly(row, f"{row['trace']}/{row['memory']}, {row['metric']}")


def _apart(a: Any, b: Any, text: Callable[[Any, int], str]) -> tuple[str, str]:
    """Both as text, with as many more digits as it takes to tell the two apart; as usual where none do."""
    for more in range(MOST_DIGITS):
        one, other = text(a, more), text(b, more)
        if one != other:
            return one, other
    return text(a, 0), text(b, 0)


def _plain(value: Any, more: int = 0) -> str:
    if isinstance(value, float):
        return f"{value:.{6 + more}g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)
