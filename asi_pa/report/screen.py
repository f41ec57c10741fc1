"""The answer on one screen: question, measures that decide, verdict, everybody else, how it was counted.

At most 45 lines of 78 columns; ``mail`` is 72 columns of plain ASCII, ready to paste.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from asi_pa.experiment.verdict import entry, short_name
from asi_pa.report.cells import better_text, number, price_shares, value_text
from asi_pa.report.evidence import count
from asi_pa.report.terminal import wants_colour

__all__ = ["LINES", "MAIL", "WIDTH", "render_mail", "render_screen"]

WIDTH, MAIL, LINES = 78, 72, 45
_LEAST = 60
#: The rows: (place, measures), in order, and what is above them.
PLACES = {
    "ample": ("memory to spare (the recorded machine)", ("leaves", "tables", "mixed", "flushes", "remote")),
    "short": ("memory short (1.05 times what linux needs)", ("flushes", "declined", "remote")),
    "search": ("the smallest memory, beyond linux's", ("price", "roomy")),
}
_BOLD, _DIM = "1", "2"

Result = Mapping[str, Any]


def render_screen(
    result: Result, width: int | None = None, *, quiet: bool = False, colour: bool | None = None
) -> str:
    """The screen as text of at most ``width`` columns (None: the terminal's, at most 78).

    ``quiet``: verdict and claims alone.  ``colour`` None: where the output is a terminal.
    """
    if width is None:
        width = shutil.get_terminal_size((WIDTH, 24)).columns
    paint = wants_colour() if colour is None else colour
    return _Screen(result, min(max(width, _LEAST), WIDTH), paint).text(quiet)


def render_mail(result: Result) -> str:
    """The same for a mail: 72 columns, plain ASCII."""
    text = _Screen(result, MAIL, False).text(False)
    return text.encode("ascii", "replace").decode()


class _Screen:
    def __init__(self, result: Result, width: int, colour: bool) -> None:
        self.result, self.width, self.colour = result, width, colour
        self.sides: list[str] = result["protagonists"]
        self.better = 17
        self.value = 19 if width >= WIDTH else 17 if width >= MAIL else 13
        self.label = width - 2 * self.value - self.better - 2

    def text(self, quiet: bool) -> str:
        if quiet:
            return "\n".join([*self._verdict(), self._claims()]) + "\n"
        others, end = self._others(), [self._claims(), *self._how()]
        rows = self._by_word()
        for joined in range(len(rows) + 1):
            lines = [*self._head().splitlines(), *self._table(rows[:joined]), "", *self._verdict()]
            room = LINES - len(lines) - len(end)
            if len(others) <= room:
                break
        below = self._fitted(others, room)
        gap = [""] * bool(below and len(below) < room)
        return "\n".join([*lines, *gap, *below, *end]) + "\n"

    def _by_word(self) -> list[tuple[str, str]]:
        """The rows of several lines, those first that lose least when put together: with one word for all."""
        words: dict[tuple[str, str], set[str]] = {}
        for trace in self.result["answer"]:
            for row in trace["measures"]:
                said = better_text(row, self.sides).split(" ")[0]
                words.setdefault((row["place"], row["measure"]), set()).add(said)
        places = {place: measures for place, _, measures in self._places()}
        long = [
            (place, measure)
            for place, measure in words
            if measure in places[place] and len([*self._rows(place, measure, together=False)]) > 1
        ]
        return sorted(long, key=lambda row: len(words[row]))

    def _fitted(self, others: list[str], room: int) -> list[str]:
        """A line each, as many as there is room for, and the names of the rest."""
        names = self._other_names()
        for shown in range(len(names), -1, -1):
            rest = [_told(name) for name in names[shown:]]
            said = self._wrap(f"compared, too (--full): {', '.join(rest)}").splitlines() if rest else []
            lines = [*others[: shown + 1 if shown else 0], *said]
            if len(lines) <= room:
                return lines
        return [self._short(f"{len(names)} other designs: --full")]

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and text else text

    def _wrap(self, text: str, indent: str = "") -> str:
        return textwrap.fill(text, self.width, subsequent_indent=indent, break_on_hyphens=False)

    def _short(self, text: str) -> str:
        """One line of it; a long word (a gfp mask) is cut where the line ends, not left out."""
        if len(text) <= self.width:
            return text
        cut = text[: self.width - 4]
        words = cut.rpartition(" ")[0]
        return (words if len(cut) - len(words) < 16 else cut) + " ..."

    # ------------------------------------------------------------ above

    def _head(self) -> str:
        result = self.result
        names = [short_name(name) for name in self.sides]
        nodes = f"; nodes {result['nodes']}" if "nodes" in result else ""
        traces = ", ".join(trace["trace"] for trace in result["answer"])
        first, count = result["seed"], result["seeds"]
        seeds = f"{count} seeds from {first}: median [least..most], n/{count} agree"
        if result["quick"]:
            seeds = f"one seed: no words; seed {first}"
        return "\n".join(
            [
                self._paint(self._wrap(f"{names[0]} or {names[1]}?  asi-pa compare: {traces}"), _BOLD),
                self._wrap(f"Linux {result['kernel']} rules{nodes}; {result['relief']['words']}"),
                self._short(f"{seeds}; asi_pa {result['asi_pa']}"),
                *(self._short(f"! {line}") for line in result["caveats"][:3]),
            ]
        )

    # ------------------------------------------------------------ the table

    def _line(self, label: str, one: str, other: str, better: str) -> str:
        right = f" {other:>{self.value - 1}}"
        room = max(self.label + 2 * self.value - len(right) - len(one), 1)
        label = label if len(label) < room else label[: max(room - 2, 0)] + "."
        cells = f"{label:<{room}}{one}{right}"
        return f"{cells}  {better[: self.better]}"[: self.width].rstrip()

    def _table(self, together: Sequence[tuple[str, str]]) -> list[str]:
        """Its lines; ``together``: (place, measure) of those that have one for all traces."""
        one, other = (short_name(name)[: self.value - 1] for name in self.sides)
        better = "" if self.result["quick"] else "better"
        rows: list[str] = []
        for place, title, measures in self._places():
            found = [r for m in measures for r in self._rows(place, m, (place, m) in together)]
            if found:
                rows += [self._paint(title, _DIM), *found]
        names = [trace["trace"] for trace in self.result["answer"]]
        values = f"values: {', '.join(names)}" if len(names) == 2 else ""
        if len(names) > 2:
            values = f"medians of {len(names)} traces"
        return [self._paint(self._line(values, one, other, better), _BOLD), *rows, *self._stored()]

    def _places(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        there = dict.fromkeys(row["place"] for t in self.result["answer"] for row in t["measures"])
        for place in there:
            if place in PLACES and len(there) <= len(PLACES):
                yield place, *PLACES[place]
            else:
                yield place, f"memory {place}", ("leaves", "mixed", "flushes", "declined", "remote")

    def _rows(self, place: str, measure: str, together: bool) -> Iterator[str]:
        """A line a trace; two with the same word and no ranges share one, more than two are put together."""
        reference = self.result["reference"]
        found = []
        for trace in self.result["answer"]:
            row = entry(trace, measure, place)
            if row is not None:
                one, other = (value_text(row, side, reference) for side in self.sides)
                cells = (one, other, better_text(row, self.sides))
                if measure != "roomy" or set(cells[:2]) != {"-"}:
                    found.append((trace["trace"], row, cells))
        if not found or (measure == "roomy" and self._as_price(found)):
            return
        if len(found) > 2 or (together and len(found) > 1):
            yield self._together([row for _, row, _ in found])
            return
        label = f"  {found[0][1]['label']}"
        every = [cells for _, _, cells in found]
        if len(set(every)) == 1:
            yield self._line(label, *every[0])
        elif len({c[2] for c in every}) == 1 and not any("[" in text for c in every for text in c[:2]):
            one, other = (", ".join(c[i] for c in every) for i in (0, 1))
            yield self._line(label, one, other, every[0][2])
        else:
            for name, _, each in found:
                yield self._line(f"{label}: {name}", *each)

    def _as_price(self, found: Sequence[tuple[str, Mapping[str, Any], Any]]) -> bool:
        """Whether what declines little needs no more memory than what must succeed: no line of its own."""
        for name, row, _ in found:
            trace = next(t for t in self.result["answer"] if t["trace"] == name)
            price = entry(trace, "price", "search")
            if price is None or any(row["values"][s] != price["values"][s] for s in self.sides):
                return False
        return True

    def _together(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """One line for many traces: the range of the medians, and who is better on how many."""
        cells = []
        for side in self.sides:
            values = [v for row in rows if (v := _middle(row, side, self.result["reference"])) is not None]
            unit = "percent" if rows[0]["unit"] == "mib" else rows[0]["unit"]
            low, high = (number(f(values), unit) if values else "-" for f in (min, max))
            sign = " %" if values and unit in ("share", "percent") else ""
            cells.append((low if low == high else f"{low}..{high}") + sign)
        words = [better_text(row, self.sides).split(" ")[0] for row in rows]
        won = {word: words.count(word) for word in words if word}
        wins = ", ".join(f"{word} {n}" for word, n in won.items())
        if len(wins) > self.better:
            wins = ", ".join(f"{word[:5]}{'.' * (len(word) > 5)} {n}" for word, n in won.items())
        both = ": both" if len(rows) == 2 else ""
        return self._line(f"  {rows[0]['label']}{both}", cells[0], cells[1], wins[: self.better])

    def _stored(self) -> Iterator[str]:
        stored = self.result.get("stored")
        if not stored:
            return
        shares = [stored["yields"].get(side) for side in self.sides]
        if any(share is not None for share in shares):
            texts = ["-" if share is None else f"{100 * share:.0f} %" for share in shares]
            better = _better_share(shares, self.sides)
            yield self._line("yield of a fragmented machine", texts[0], texts[1], better)
        texts = [_holes(stored, side) for side in self.sides]
        if any(text != "-" for text in texts):
            yield self._line("holes found: posted -> mended", texts[0], texts[1], "")

    # ------------------------------------------------------------ below

    def _verdict(self) -> list[str]:
        return [line for text in self.result["verdict"] for line in self._wrap(text).splitlines()]

    def _other_names(self) -> list[str]:
        if self.result["answer"][0]["measures"][0]["place"] not in PLACES:
            return []
        names = [design["design"] for design in self.result["runs"][0]["designs"]]
        return [name for name in names if name not in (*self.sides, self.result["reference"])]

    def _others(self) -> list[str]:
        names = self._other_names()
        if not names:
            return []
        heads = ("2M map", "flushes", "decline", "memory", "yield", "holes")
        each = max(8, (self.width - max(17, *(len(_told(name)) + 1 for name in names))) // len(heads))
        stub = self.width - each * len(heads)
        title = f"{'others, at worst'[: stub - 1]:<{stub}}" + "".join(f"{h:>{each}}" for h in heads)
        lines = [self._paint(title, _BOLD)]
        for name in names:
            text = "".join(f"{cell:>{each}}" for cell in self._other(name))
            lines.append(f"{_told(name)[: stub - 1]:<{stub}}{text}")
        return lines

    def _other(self, name: str) -> list[str]:
        """Worst medians over the traces: where memory is short, and of the search."""
        stored = self.result.get("stored") or {"yields": {}, "holes": {}}
        cells = []
        for measure, place in (
            ("leaves", "short"),
            ("flushes", "short"),
            ("declined", "short"),
            ("price", "search"),
        ):
            rows = [row for trace in self.result["answer"] if (row := entry(trace, measure, place))]
            values = [v for row in rows if (v := _middle(row, name, self.result["reference"])) is not None]
            if not values:
                cells.append("-")
                continue
            worst = min(values) if rows[0]["better"] == "high" else max(values)
            unit = "percent" if rows[0]["unit"] == "mib" else rows[0]["unit"]
            cells.append(number(worst, unit) + (" %" if unit in ("percent", "share") else ""))
        share, found = stored["yields"].get(name), stored["holes"].get(name)
        cells.append("-" if share is None else f"{100 * share:.0f} %")
        cells.append("-" if found is None else str(found))
        return cells

    def _claims(self) -> str:
        parts = []
        for claim in self.result["claims"]:
            for_, against = count(claim, True), count(claim, False)
            tail = f" ({for_}:{against})" if claim["verdict"] == "mixed" else ""
            parts.append(f"{claim['claim']} {claim['verdict']}{tail}")
        return self._short(f"The RFC's claims: {', '.join(parts)}.")

    def _how(self) -> list[str]:
        rule = self.result["classifier"].split(" (")[0]
        near = self.result.get("nearness") or [
            "Rules are exact (asi-pa verify); how near a whole run is to a kernel: not measured."
        ]
        lines = [
            "A model's counts, not measured time.  Declined: the caller takes less.",
            *near[:2],
            *near[2:][-1:],
            f"Who is sensitive is declared ({rule}): --classifier asks with others.",
            "more: --full every table   --html FILE pictures   docs/use/method.md how",
        ]
        return [self._short(line) for line in lines]


def _middle(row: Mapping[str, Any], design: str, reference: str) -> float | None:
    if design not in row["values"]:
        return None
    if row["unit"] == "mib":
        shares = price_shares(row, design, reference)
        return median(shares) if shares and len(shares) == len(row["values"][design]) else None
    values = [v for v in row["values"][design] if v is not None]
    return median(values) if values else None


def _told(name: str) -> str:
    """A design's name for somebody who has not read the list: whose "ours" is."""
    short = short_name(name)
    return "ours (asi_pa's)" if short == "ours" else short


def _better_share(shares: Sequence[float | None], sides: Sequence[str]) -> str:
    one, other = shares
    if one is None or other is None:
        return ""
    return "equal" if abs(one - other) <= 0.02 else short_name(sides[one < other])


def _holes(stored: Mapping[str, Any], side: str) -> str:
    posted, sound = stored["holes_as_posted"].get(side), stored["holes"].get(side)
    if posted is None and sound is None:
        return "-"
    return " -> ".join("-" if found is None else str(found) for found in (posted, sound))
