"""Two or three sentences that say what the words of the rule say, and no more.

One is about the price in memory, one about requests that are declined, one about the recorded machine, where
no seed matters.  What differs from seed to seed is no part of a sentence: ranges, and how many seeds agree,
stand in the table; other base seeds with the same words give the same sentences.  A word that is undecided
is listed and never argued with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from asi_pa.designs import DESIGNS

__all__ = ["entry", "sentences", "short_name"]

Result = Mapping[str, Any]
Row = Mapping[str, Any]


def short_name(name: str) -> str:
    """``migratetype`` for ``migratetype/sound``: the family alone where that names the design, too."""
    return next((short for short, design in DESIGNS.items() if design.name == name != short), name)


def entry(trace: Mapping[str, Any], measure: str, place: str) -> Row | None:
    """The row of a trace's answer, None if it is not there."""
    for row in trace["measures"]:
        if row["measure"] == measure and row["place"] == place:
            found: Row = row
            return found
    return None


def sentences(result: Result) -> list[str]:
    """The verdict; empty where there are no words (one seed, or sizes given without a search)."""
    if result["quick"]:
        return []
    found = [_price(result), _declined(result), _exact(result)]
    return [text for text in found if text]


def _join(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _sides(result: Result) -> list[str]:
    return [name for name in result["protagonists"] if name != result["reference"]]


# ---------------------------------------------------------------- memory


def _price(result: Result) -> str:
    parts = []
    for name in _sides(result):
        said: dict[str, list[str]] = {}
        for trace in result["answer"]:
            row = entry(trace, "price", "search")
            word = row and row["against_reference"].get(name)
            if row is None or not word or word["word"] == "untested":
                said.setdefault("untested", []).append(trace["trace"])
                continue
            said.setdefault(word["word"], []).append(trace["trace"])
        if set(said) != {"untested"}:
            parts.append(f"{short_name(name)} {_memory_words(said)}")
    if not parts:
        return ""
    return f"Memory needed for requests that must succeed, against linux: {'; '.join(parts)}."


_MEMORY = {
    "equal": "equal on {} (within 2 %)",
    "better": "less on {}",
    "worse": "more on {}",
    "undecided": "undecided on {}",
    "untested": "untested on {}",
}


def _memory_words(said: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(text.format(_join(said[word])) for word, text in _MEMORY.items() if word in said)


# ---------------------------------------------------------------- declined


def _declined(result: Result) -> str:
    parts: list[str] = []
    open_on: dict[str, list[str]] = {name: [] for name in _sides(result)}
    for trace in result["answer"]:
        row = entry(trace, "declined", "short")
        if row is None:
            continue
        words = {name: row["against_reference"].get(name, {}) for name in _sides(result)}
        bad = [name for name, word in words.items() if word.get("word") == "worse"]
        fine = [name for name, word in words.items() if word.get("word") in ("equal", "better")]
        for name in bad:
            than = _join([short_name(n) for n in (*fine, result["reference"])])
            parts.append(f"{short_name(name)} declines more of {trace['trace']}'s requests than {than}")
        for name, word in words.items():
            if word.get("word") == "undecided":
                open_on[name].append(trace["trace"])
    for name, traces in open_on.items():
        if traces:
            parts.append(f"{short_name(name)} is undecided on {_join(traces)} in what it declines")
    return f"With memory short {'; '.join(parts)}." if parts else ""


def _share(value: float) -> str:
    return f"{100 * value:.{0 if value >= 0.1 or value == 0 else 1 if value >= 0.001 else 2}f} %"


# ---------------------------------------------------------------- memory to spare


def _exact(result: Result) -> str:
    """What differs between the two where no seed matters."""
    one, other = result["protagonists"]
    wins: dict[str, list[str]] = {one: [], other: []}
    for measure, text in _WINS.items():
        rows = [(trace["trace"], entry(trace, measure, "ample")) for trace in result["answer"]]
        told = [(trace, row) for trace, row in rows if row and row["exact"] and row["against_other"]]
        told = [(trace, row) for trace, row in told if row["against_other"]["word"] != "untested"]
        words = [row["against_other"]["word"] for _, row in told]
        for name, word, opposite in ((one, "better", "worse"), (other, "worse", "better")):
            if word in words and opposite not in words and "undecided" not in words:
                won = [(trace, row) for trace, row in told if row["against_other"]["word"] == word]
                mine, theirs = (_values([row for _, row in won], who) for who in (name, _other(result, name)))
                on = "" if len(won) == len(told) else f" on {_join([trace for trace, _ in won])}"
                wins[name].append(text.format(mine, theirs) + on)
    parts = [f"{short_name(name)} {_join(texts)}" for name, texts in wins.items() if texts]
    return f"With memory to spare, exactly: {'; '.join(parts)}." if parts else ""


_WINS = {
    "leaves": "keeps more of the restricted map in 2M leaves ({} against {})",
    "flushes": "flushes less ({} against {})",
    "mixed": "mixes fewer pageblocks ({} against {})",
    "declined": "declines fewer requests ({} against {})",
}


def _other(result: Result, name: str) -> str:
    one, other = result["protagonists"]
    return str(other if name == one else one)


def _values(rows: Sequence[Row], name: str) -> str:
    """A design's values on the traces, those that are the same once."""
    return "/".join(dict.fromkeys(_texts(rows, name)))


def _texts(rows: Sequence[Row], name: str) -> Iterator[str]:
    for row in rows:
        value = row["values"][name][0]
        if value is not None:
            yield _share(value) if row["unit"] == "share" else f"{value:,}"
