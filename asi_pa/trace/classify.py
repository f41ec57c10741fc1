"""Classifiers: from what a trace says of an allocation to what the allocator is asked.

Sensitivity is in no trace event, so it has to be declared.  A `Classifier` is a short text; it gives
every allocation the probability of being *nonsensitive*, from gfp mask, order and command name, and
a seeded draw decides where that is neither 0 nor 1.  The text and its meaning travel with every result.

The text is a list of rules separated by ``;``.  The first rule that applies decides; where none
does, the rule of the RFC of March 2025 does (msgid 20250313-asi-page-alloc-v1-0-04972e046cea@google.com,
patch 6): a request is sensitive if it carries __GFP_SENSITIVE, which GFP_USER and what is derived from it and
reclaimable slabs do; in a trace __GFP_HARDWALL stands in for it, which GFP_USER sets and nobody else asks
for (but see `asi_pa.trace.cpusets`)::

    rfc                             the RFC's rule: nonsensitive = asked for Unmovable, without __GFP_HARDWALL
    rfc,CALLER=VERDICT,...          the same, but for callers that can be told (`asi_pa.kernel.callers`)
    nonsensitive    sensitive       all requests
    share=0.3                       each request is nonsensitive with probability 0.3
    CONDITION,...:VERDICT           one of the above where every condition holds
    seed=7                          the seed of the draws (otherwise the caller's)

Callers are ``skb``, ``skbhead``, ``slab`` (first tries), ``kmalloc``, ``pagetable``, ``user``, ``vmalloc``
and ``thp``, and besides them whole types: ``movable``, ``reclaimable``; each is sensitive, nonsensitive or
share=P, as in ``rfc,skb=sensitive,user=share=0.5``.

Conditions: ``comm=GLOB``, ``order=N``, ``order>=N``, ``order<=N``, ``gfp=NAME|NAME`` (all of these bits set),
``gfp!=NAME|NAME`` (not all of them set), ``type=unmovable|movable|reclaimable`` (one of them).  For example
``comm=redis*:nonsensitive;order>=3,type=unmovable:share=0.5;rfc``.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from asi_pa.kernel.callers import CALLERS, caller_of
from asi_pa.kernel.gfp import GFP_NAMES, MODEL_LRU, parse_gfp
from asi_pa.trace.format import Trace
from asi_pa.trace.gfp_names import TRACE_GFP_NAMES

__all__ = ["DEFAULT_CLASSIFIER", "Classifier", "request_words", "translated"]

DEFAULT_CLASSIFIER = "rfc"
HARDWALL = GFP_NAMES["__GFP_HARDWALL"]
MOVABLE = GFP_NAMES["__GFP_MOVABLE"]
RECLAIMABLE = GFP_NAMES["__GFP_RECLAIMABLE"]
SENSITIVE = GFP_NAMES["__GFP_SENSITIVE"]
_TYPES = {"unmovable": 0, "movable": 1, "reclaimable": 2}
#: gfp mask, comm, order -> does the condition hold?
_Condition = Callable[[int, str, int], bool]


def _rfc(mask: int) -> float:
    return 0.0 if mask & (HARDWALL | MOVABLE | RECLAIMABLE | SENSITIVE) else 1.0


def request_words(mask: int) -> tuple[int, int]:
    """The request words of a recorded mask as (sensitive, nonsensitive).

    Movable requests get MODEL_LRU: their pages count as movable while they are allocated.
    """
    word = mask & ~(SENSITIVE | MODEL_LRU)
    if mask & MOVABLE:
        word |= MODEL_LRU
    return word | SENSITIVE, word


def translated(trace: Trace) -> list[int]:
    """The trace's gfp masks in the bits of `asi_pa.gfp`: kernels number their flags differently."""
    moves = [
        (value, GFP_NAMES[name])
        for name, value in trace.gfp_names.items()
        if name.startswith("__GFP_") and name in GFP_NAMES and value and not value & (value - 1)
    ]
    if all(theirs == ours for theirs, ours in moves):
        return list(trace.gfps)
    known = sum({theirs for theirs, _ in moves})
    return [
        sum({ours for theirs, ours in moves if mask & theirs}) if mask & known else 0 for mask in trace.gfps
    ]


@dataclass(frozen=True)
class Classifier:
    """A parsed classifier: ``Classifier.parse("rfc")``.

    ``describe()`` is the sentence that results carry.
    """

    text: str
    seed: int
    rules: tuple[tuple[tuple[_Condition, ...], str], ...]

    @classmethod
    def parse(cls, text: str | Classifier = DEFAULT_CLASSIFIER, seed: int = 0) -> Classifier:
        """Parse a classifier's text; ``seed`` is used unless the text names one.

        Raises ValueError for a text without rules, and naming the rule that is not understood.
        """
        if isinstance(text, Classifier):
            return text
        if not text.strip(" ;"):
            raise ValueError(f"classifier {text!r}: no rule")
        rules = []
        for rule in (part.strip() for part in text.split(";")):
            if not rule:
                continue
            if match := re.fullmatch(r"seed=(\d+)", rule):
                seed = int(match[1])
                continue
            conditions, _, verdict = rule.rpartition(":")
            _verdict(verdict, 0, 0, rule)
            parsed = tuple(_condition(part.strip(), rule) for part in conditions.split(",") if part.strip())
            if conditions and not parsed:
                raise ValueError(f"classifier rule {rule!r}: no condition before ':'")
            rules.append((parsed, verdict))
        return cls(text.strip(), seed, tuple(rules))

    def describe(self) -> str:
        """One line that says what the classifier does, seed included."""
        text = self.text
        if not self.rules or self.rules[-1][0]:
            text += ("; " if self.rules else "") + "rfc" * bool(self.rules)
        note = "rfc: nonsensitive = asked for Unmovable without __GFP_HARDWALL"
        drawn = any(verdict.startswith("share") for _, verdict in self.rules)
        return f"{text} ({note}{f'; draws seeded with {self.seed}' if drawn else ''})"

    def nonsensitive(self, mask: int, comm: str = "", order: int = 0) -> float:
        """The probability that such a request is nonsensitive."""
        for conditions, verdict in self.rules:
            if all(condition(mask, comm, order) for condition in conditions):
                return _verdict(verdict, mask, order, verdict)
        return _rfc(mask)

    def table(
        self, gfps: Sequence[int], comms: Sequence[str], orders: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
        """The classifier over a trace's name tables, as arrays for the compiler.

        Returns ``pairs`` u8[gfps, 2] (class if sensitive, class if nonsensitive), ``thresholds`` u64[gfps,
        comms, orders] (a 32-bit draw below it is nonsensitive; 0 never, 2^32 always), ``classes`` u32[k]
        (request words). Raises ValueError for more than 256 classes.
        """
        thresholds = np.empty((len(gfps), len(comms), orders), np.uint64)
        for i, mask in enumerate(gfps):
            if not self.rules:
                thresholds[i] = np.uint64(_rfc(mask) * 4294967296.0)
                continue
            for j, comm in enumerate(comms if self.rules[0][0] else comms[:1]):
                for order in range(orders):
                    thresholds[i, j, order] = np.uint64(self.nonsensitive(mask, comm, order) * 4294967296.0)
            if not self.rules[0][0]:  # without a condition, it decides on every command alike
                thresholds[i] = thresholds[i, :1]
        words = [request_words(mask) for mask in gfps]
        possible = [
            word
            for i, pair in enumerate(words)
            for word, used in zip(pair, (thresholds[i] < 1 << 32, thresholds[i] > 0), strict=True)
            if used.any()
        ]
        classes = np.unique(np.array(possible, np.uint32))
        if len(classes) > 256:
            raise ValueError(f"classifier {self.text!r}: {len(classes)} request classes, at most 256 can be")
        index = {int(word): i for i, word in enumerate(classes)}
        pairs = np.array([[index.get(word, 0) for word in pair] for pair in words], np.uint8).reshape(-1, 2)
        return pairs, thresholds, classes


#: What a rule may set beside callers: whole migratetypes.
_TYPE_BITS = {"movable": MOVABLE, "reclaimable": RECLAIMABLE}


@functools.lru_cache(maxsize=64)
def _settings(verdict: str, rule: str) -> dict[str, float]:
    """``rfc,CALLER=VERDICT,...``: the probability of being nonsensitive by caller."""
    names = [caller.name for caller in CALLERS] + list(_TYPE_BITS)
    found = {}
    for part in verdict.split(",")[1:]:
        name, equals, how = part.strip().partition("=")
        if not equals or name not in names:
            raise ValueError(
                f"classifier rule {rule!r}: {part.strip()!r} is not CALLER=VERDICT; callers are "
                f"{', '.join(names)}"
            )
        if how == "rfc" or how.startswith("rfc,"):
            raise ValueError(f"classifier rule {rule!r}: {name} is sensitive, nonsensitive or share=P")
        found[name] = _verdict(how, 0, 0, rule)
    return found


def _set_rfc(verdict: str, mask: int, order: int, rule: str) -> float:
    settings = _settings(verdict, rule)
    caller = caller_of(mask, order)
    if caller is not None and caller.name in settings:
        return settings[caller.name]
    for name, bit in _TYPE_BITS.items():
        if mask & bit and name in settings:
            return settings[name]
    return _rfc(mask)


def _verdict(verdict: str, mask: int, order: int, rule: str) -> float:
    if verdict == "rfc":
        return _rfc(mask)
    if verdict.startswith("rfc,"):
        return _set_rfc(verdict, mask, order, rule)
    if verdict in ("sensitive", "nonsensitive"):
        return float(verdict == "nonsensitive")
    if match := re.fullmatch(r"share=([0-9.]+)", verdict):
        try:
            share = float(match[1])
        except ValueError:
            share = 2.0
        if share <= 1:
            return share
        raise ValueError(f"classifier rule {rule!r}: share must lie between 0 and 1")
    raise ValueError(
        f"classifier rule {rule!r}: {verdict!r} is none of rfc, rfc,CALLER=VERDICT, sensitive, "
        "nonsensitive, share=P"
    )


def _condition(text: str, rule: str) -> _Condition:
    match = re.fullmatch(r"(comm|order|gfp|type)(>=|<=|!=|=)(.+)", text)
    if not match:
        raise ValueError(f"classifier rule {rule!r}: condition {text!r} is not understood")
    key, operator, value = match.groups()
    if key == "comm" and operator == "=":
        return lambda mask, comm, order: fnmatch.fnmatchcase(comm, value)
    if key == "order" and operator != "!=" and value.isdigit():
        number = int(value)
        if operator == "=":
            return lambda mask, comm, order: order == number
        if operator == ">=":
            return lambda mask, comm, order: order >= number
        return lambda mask, comm, order: order <= number
    if key == "gfp" and operator in ("=", "!="):
        try:
            bits = parse_gfp(value, TRACE_GFP_NAMES)
        except ValueError as error:
            raise ValueError(f"classifier rule {rule!r}: {error}") from None
        wanted = operator == "="
        return lambda mask, comm, order: (mask & bits == bits) == wanted
    if key == "type" and operator == "=":
        try:
            types = {_TYPES[name] for name in value.split("|")}
        except KeyError as error:
            raise ValueError(f"classifier rule {rule!r}: no type {error}") from None
        return lambda mask, comm, order: (mask >> 3) & 3 in types
    raise ValueError(f"classifier rule {rule!r}: condition {text!r} is not understood")


def draw(seed: int, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """32-bit draws, one per number: the same number and seed always give the same draw (splitmix64's
    mixer)."""
    salt = np.uint64(seed * 0xD1B54A32D192ED03 & 0xFFFFFFFFFFFFFFFF)
    mixed = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + salt
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (mixed ^ (mixed >> np.uint64(31))) >> np.uint64(32)
