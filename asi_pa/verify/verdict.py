"""Replays recorded kernel runs through the engine and finds the first difference, in words.

Exact means: every result, the counters after every operation, every event and every word of every dump are
the same.  ``docs/engine/model.md`` says what each recorded set would notice.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from asi_pa.verify.codes import Code
from asi_pa.verify.dump import BELOW_HIGH, pcp_field_words, word_name
from asi_pa.verify.ops import OPERATIONS, codes_where
from asi_pa.verify.recording import Recorded, read_recording

if TYPE_CHECKING:
    from asi_pa.designs import Design
    from asi_pa.engine.machine import Machine
    from asi_pa.verify.replay import Recording

__all__ = [
    "ROW_NAMES",
    "Difference",
    "Replayed",
    "Verdict",
    "differing_rows",
    "dump_difference",
    "event_in_words",
    "verify_file",
    "verify_recording",
]

Words = npt.NDArray[np.int32]

#: The columns of a row of ``res``; ``Recorded.watched`` names those of ``resx``, which follow.
ROW_NAMES = ("result", "pcp count", "pcp high", "NR_FREE_PAGES")


@dataclass(frozen=True, order=True)
class Difference:
    """Where replay and recording part: after how many operations, what kind (for order), in words."""

    after: int
    rank: int
    words: str


@dataclass
class Verdict:
    """What a replay found."""

    name: str
    ops: int = 0
    ops_exact: int = 0
    dumps: int = 0
    dumps_exact: int = 0
    events: int = 0
    events_exact: int = 0
    difference: str = ""
    """The first difference in words; empty when there is none."""
    at: int = -1
    """The operation where it shows (``asi-pa verify --explain``); -1 when there is none."""
    seconds: float = field(default=0.0, compare=False)

    @property
    def exact(self) -> bool:
        """Is everything the same, and no invariant of the model broken at the end?"""
        return not self.difference


class Replayed:
    """A machine in the state that a recorded run begins with, and the replay on it.

    ``run`` goes on to an operation; ``replay.answers`` (n, 4) and ``replay.watched`` (n, 8) fill up on the
    way.
    """

    machine: Machine
    replay: Recording

    def __init__(self, recorded: Recorded) -> None:
        # Late, so that reading a recording needs no compiled module.
        from asi_pa.engine.machine import Machine
        from asi_pa.verify.replay import Recording

        self.recorded = recorded
        try:
            self.machine = Machine(recorded.machine, recorded.design, recorded.kernel)
        except MemoryError as error:
            raise ValueError(f"the recorded machine does not fit into memory: {error}") from None
        for zone, state in enumerate(recorded.start):
            pcp = [
                (
                    cpu.fields["high"],
                    cpu.fields["flags"],
                    cpu.fields["alloc_factor"],
                    cpu.fields["free_count"],
                )
                for cpu in state.cpus
            ]
            below_high = bool(state.counters["zone flags"] & BELOW_HIGH)
            self.machine.restore(zone, below_high, state.counters["watermark_boost"], pcp)
            if state.skip is not None:
                self.machine.restore_compaction(zone, list(state.compaction.values()), state.skip)
        if recorded.resx is not None:
            self.machine.log_events()
        if recorded.compaction:
            self.machine.log_compaction()
        self.replay = Recording(self.machine, recorded.ops, recorded.requests, recorded.resx is not None)
        self.done = 0

    def run(self, stop: int) -> None:
        """Replays up to, not including, operation ``stop``."""
        if not self.done <= stop <= len(self.recorded.ops):
            raise ValueError(f"operation {stop} is not in {self.done}..{len(self.recorded.ops)}")
        self.replay.run(self.done, stop)
        self.done = stop

    def events(self) -> Words:
        """The log so far, laid out as the recording's ``events``."""
        return self.machine.compaction_events() if self.recorded.compaction else self.machine.events()

    @property
    def flushes(self) -> int:
        """TLB flushes that the design asked for, those of splits of large leaves left out."""
        if self.machine.physmap is None:
            return 0
        counted = self.machine.physmap.counters()
        return counted.flushes_ranged + counted.flushes_full - counted.flushes_split

    def dump(self, zone: int) -> Words:
        """The zone's state now, as the words of a dump."""
        words: Words = self.machine.dump(zone, compaction=self.recorded.compaction)
        if self.recorded.bypassed:
            # The lists were held locked for the whole run: the model has none, and the kernel's fields stayed
            # as they were (read_recording has checked that).
            cpus = self.recorded.start[zone].cpus
            for where, cpu in zip(pcp_field_words(words, self.recorded.shapes[zone]), cpus, strict=True):
                words[where] = list(cpu.fields.values())
        return words


def verify_file(path: str | os.PathLike[str], design: Design | None = None) -> Verdict:
    """Replays one recorded run through the engine and compares everything.

    design : what the recorded kernel ran, where the header names none that is built in.

    Raises ValueError for a file that is not a recorded run or contradicts itself, OSError where it cannot be
    read.
    """
    return verify_recording(read_recording(path, design))


def verify_recording(recorded: Recorded) -> Verdict:
    """``verify_file`` of a run that is in memory."""
    began = time.perf_counter()
    replayed = Replayed(recorded)
    verdict = Verdict(recorded.name, ops=len(recorded.ops), dumps=len(recorded.dumps))
    found: list[Difference] = []
    for k, stop in enumerate(recorded.dump_at.tolist()):
        replayed.run(stop)
        got = replayed.dump(int(recorded.second[k]))
        if np.array_equal(got, recorded.dumps[k]):
            verdict.dumps_exact += 1
        elif not found:
            found.append(dump_difference(recorded, k, got))
    replayed.run(len(recorded.ops))
    found += _compare_rows(recorded, replayed.replay, verdict)
    found += _compare_events(recorded, replayed, verdict)
    for what, said, counted in (
        ("pages cleared", recorded.meta["zeroed_pages"], replayed.machine.stats()["pages_zeroed"]),
        ("TLB flushes", recorded.meta["flushes"], replayed.flushes),
    ):
        if said not in (-1, counted):
            found.append(Difference(len(recorded.ops), 3, f"{what}: expected {said}, got {counted}"))
    broken = replayed.machine.verify()
    if broken is not None:
        found.append(Difference(len(recorded.ops), 4, f"verify() after the last operation: {broken}"))
    if found:
        first = min(found)
        verdict.difference, verdict.at = first.words, max(0, first.after - 1)
    verdict.seconds = time.perf_counter() - began
    return verdict


def dump_difference(recorded: Recorded, k: int, got: Words) -> Difference:
    """The first word of dump ``k`` that the model's state does not have, in words."""
    want, shape = recorded.dumps[k], recorded.shapes[int(recorded.second[k])]
    n = min(len(got), len(want))
    differ = np.flatnonzero(got[:n] != want[:n])
    i = int(differ[0]) if len(differ) else n
    ours, theirs = (str(words[i]) if i < len(words) else "nothing" for words in (got, want))
    stop = int(recorded.dump_at[k])
    where = f"after operation {stop - 1}" if stop else "before the first operation"
    zone = " of the second zone" if recorded.second[k] else ""
    what = word_name(want, i, shape)
    return Difference(stop, 1, f"dump {k}{zone} {where}: {what}: expected {theirs}, got {ours}")


def differing_rows(
    recorded: Recorded, answers: Words, watched: Words, start: int = 0, stop: int | None = None
) -> tuple[Words, Words, npt.NDArray[np.bool_]]:
    """(ours, theirs, whether they differ) of rows ``start`` to ``stop``: the columns of ``ROW_NAMES``.

    What the kernel left undefined differs nowhere: results that mean nothing, pcp columns where the lists
    were out of the way, and free pages of the other kind where no allocation failed.
    """
    rows = slice(start, stop)
    ours, theirs, code = answers[rows], recorded.res[rows], recorded.ops[rows, 0]
    differ = ours != theirs
    differ[~np.isin(code, codes_where(lambda operation: operation.answers)), 0] = False
    if recorded.bypassed:
        differ[:, 1:3] = False
    if recorded.resx is not None:
        beyond = watched[rows] != recorded.resx[rows]
        if not recorded.design.wrapper:
            beyond[(code != Code.OP_ALLOC) | (theirs[:, 0] >= 0), 6:] = False
        differ = np.hstack([differ, beyond])
        ours, theirs = np.hstack([ours, watched[rows]]), np.hstack([theirs, recorded.resx[rows]])
    return ours, theirs, differ


def _compare_rows(recorded: Recorded, replay: Recording, verdict: Verdict) -> list[Difference]:
    ours, theirs, differ = differing_rows(recorded, replay.answers, replay.watched)
    wrong = np.flatnonzero(differ.any(axis=1))
    verdict.ops_exact = len(differ) - len(wrong)
    if not len(wrong):
        return []
    row = int(wrong[0])
    column = int(np.flatnonzero(differ[row])[0])
    code, order = int(recorded.ops[row, 0]), recorded.ops[row, 1]
    name = OPERATIONS[Code(code)].name + (
        f", order {order}" if code in (Code.OP_ALLOC, Code.OP_COMPACT, Code.OP_DIRECT_COMPACT) else ""
    )
    names = (*ROW_NAMES, *recorded.watched)
    expected, got = theirs[row, column], ours[row, column]
    return [
        Difference(row + 1, 0, f"operation {row} ({name}): {names[column]}: expected {expected}, got {got}")
    ]


def _compare_events(recorded: Recorded, replayed: Replayed, verdict: Verdict) -> list[Difference]:
    if recorded.events is None:
        return []
    got, want = replayed.events(), recorded.events
    n = min(len(got), len(want))
    same = (got[:n] == want[:n]).all(axis=1)
    verdict.events, verdict.events_exact = len(want), int(same.sum())
    if len(got) == len(want) and same.all():
        return []
    i = n if same.all() else int(np.flatnonzero(~same)[0])
    ours, theirs = (event_in_words(events[i]) if i < len(events) else "nothing" for events in (got, want))
    row = min(int(events[i][0]) for events in (got, want) if i < len(events))
    return [Difference(row + 1, 2, f"event {i}: expected {theirs}, got {ours}")]


def event_in_words(event: Words) -> str:
    """One row of an event log, in words."""
    if len(event) == 6:
        return _compaction_in_words(*event.tolist())
    row, packed, frame, pages, aux = (int(x) & 0xFFFFFFFF for x in event)
    kind, context, old, new = (packed >> shift & 0xFF for shift in (0, 8, 16, 24))
    what = {
        1: "map",
        2: "unmap",
        3: "silent relabel",
        4: "relabel",
        6: "present page into the pool",
        7: "into the queue",
    }.get(kind, f"kind {kind}")
    types = f" {old} -> {new}" if old or new or kind in (3, 4) else ""
    return f"{what}{types} of {pages} pages at {frame} by operation {row} (context {context}, aux {aux:#x})"


#: The rows of compaction's log: what happened, and its columns.
_COMPACTION_WORDS = {
    1: "move {a} to {b}",
    2: "isolate_migratepages_block {a} to {b}: {c} scanned, {d} isolated",
    3: "isolate_freepages_block {a} to {b}: {c} scanned, {d} isolated",
    4: "fast_isolate_freepages: from {a} on, free scanner at {b}: {c} scanned, {d} isolated",
    5: "migrate_pages: {a} pages handed in, {b} moved",
    6: "a run begins: migration scanner at {a}, free scanner at {b}, {mode}",
    7: "the run ends: migration scanner at {a}, free scanner at {b}, {result}",
    8: "in all {a} scanned for migration, {b} for free pages, fast_search_fail {c}, search_order {d}",
    9: "finished() for order {a}: {answer}",
    10: "compaction_suitable() for order {a}: {answer}",
    11: "deferred for order {a}: considered {b}, defer_shift {c}, order_failed {d}",
    12: "defer_compaction for order {a}: considered {b}, defer_shift {c}, order_failed {d}",
    13: "compaction_defer_reset for order {a}: considered {b}, defer_shift {c}, order_failed {d}",
    14: "direct compaction: {first}, page {b}",
}
#: enum compact_result (include/linux/compaction.h).
_RESULTS = (
    "not suitable",
    "skipped",
    "deferred",
    "no suitable page",
    "continue",
    "complete",
    "partially skipped",
    "contended",
    "success",
)
_MODES = ("async", "sync light", "sync")


def _compaction_in_words(row: int, kind: int, a: int, b: int, c: int, d: int) -> str:
    def named(names: tuple[str, ...], index: int) -> str:
        return names[index] if 0 <= index < len(names) else str(index)

    words = _COMPACTION_WORDS.get(kind, "kind {kind}: {a}, {b}, {c}, {d}").format(
        kind=kind,
        a=a,
        b=b,
        c=c,
        d=d,
        first=named(_RESULTS, a),
        answer=named(_RESULTS, b),
        result=named(_RESULTS, c),
        mode=named(_MODES, c) + (", whole zone" if d else ""),
    )
    if kind == 1:
        words += f", order {c & 255}, {named(_MODES, c >> 8)}" + (f", {d}" if d else "")
    return f"operation {row}: {words}"
