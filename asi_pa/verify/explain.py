"""The state around one operation of a recorded run, expected and ours: ``asi-pa verify --explain N FILE``.

The recording knows every answer, but the whole state only where a dump was taken.  So the columns are: the
nearest dump before, the model's state just before and just after the operation, and the nearest dump after;
where a dump differs from what the model had at that point, the model's stands beside it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asi_pa.designs import Design
from asi_pa.kernel.gfp import MODEL_LRU, describe_gfp
from asi_pa.verify.codes import Code
from asi_pa.verify.dump import BELOW_HIGH, DumpShape, Words, ZoneState, pcp_list_name, take_apart
from asi_pa.verify.ops import OPERATIONS, PRIORITIES, SECOND_ZONE
from asi_pa.verify.recording import Recorded, read_recording
from asi_pa.verify.verdict import ROW_NAMES, Replayed, differing_rows, dump_difference, event_in_words

__all__ = ["explain"]

#: Rows of compaction's log shown before and after the first that differs.
EVENTS = 8
#: Rows shown before and after the operation.
AROUND = 3


@dataclass
class Moment:
    """One column: the zone's state at a point, as recorded or as the model has it."""

    title: str
    state: ZoneState
    unlike_next: bool = False
    """A dump; the model's state at that point is the next column, because it differs."""


class Place:
    """Where every frame of a zone is, in one state of the model."""

    def __init__(self, state: ZoneState, shape: DumpShape, recorded: Recorded, replayed: Replayed) -> None:
        self.state = state
        self.shape = shape
        #: (first frame, order, in words) of everything that is on a list or allocated, ascending.
        self.blocks: list[tuple[int, int, str]] = []
        names = [freetype.name for freetype in shape.design.freetypes]
        for order, row in enumerate(state.lists):
            for freetype, frames in enumerate(row):
                for i, frame in enumerate(frames.tolist()):
                    where = (
                        f"free, order {order}, {names[freetype]} list, {i + 1} of {len(frames)} from its head"
                    )
                    self.blocks.append((frame, 1 << order, where))
        for cpu, its in enumerate(state.cpus):
            for k, frames in enumerate(its.lists):
                for i, frame in enumerate(frames.tolist()):
                    where = f"on CPU {cpu}'s pcp list of {pcp_list_name(shape, k)}, {i + 1} of {len(frames)}"
                    self.blocks.append((frame, 1 << shape.pcp_orders[k], where))
        for order, frames in enumerate(state.pool):
            for i, frame in enumerate(frames.tolist()):
                where = f"in the pool, order {order}, {i + 1} of {len(frames)} from its head"
                self.blocks.append((frame, 1 << order, where))
        for i, (frame, order) in enumerate(state.queue.tolist()):
            where = f"in the free queue, order {order}, {i + 1} of {len(state.queue)} from its head"
            self.blocks.append((frame, 1 << order, where))
        self.blocks += _live(recorded, replayed, shape)
        self.blocks.sort()
        self._starts = np.array([frame for frame, _, _ in self.blocks], np.int64)

    def find(self, frame: int) -> tuple[int, int, str]:
        """(first frame, pages, in words) of what a frame lies in."""
        i = int(np.searchsorted(self._starts, frame, side="right")) - 1
        if i >= 0:
            start, pages, where = self.blocks[i]
            if frame < start + pages:
                return start, pages, where
        return frame, 1, "neither free nor allocated (a hole)"

    def describe(self, frame: int) -> str:
        """A frame in words, with its pageblock."""
        if not 0 <= frame < self.shape.spanned:
            return f"{frame}: not in this zone"
        start, _, where = self.find(frame)
        inside = "" if start == frame else f", inside the block at {start}"
        return f"{frame}: {where}{inside}; {self.pageblock(frame)}"

    def pageblock(self, frame: int) -> str:
        """The pageblock of a frame: its type and what is in it."""
        block = self.shape.block_of(frame)
        size = 1 << self.shape.pageblock_order
        first = ((self.shape.start_pfn + frame) & ~(size - 1)) - self.shape.start_pfn
        pages = {"free": 0, "pcp": 0, "pool": 0, "queued": 0, "allocated": 0}
        for start, n, where in self.blocks:
            overlap = min(start + n, first + size) - max(start, first)
            if overlap > 0:
                pages[_kind(where)] += overlap
        holds = ", ".join(f"{n} {kind}" for kind, n in pages.items() if n)
        name = self.shape.design.freetypes[int(self.state.blocks[block])].name
        mapped = ""
        if self.state.mapped is not None:
            mapped = ", mapped" if self.state.mapped[block] else ", unmapped"
        return f"pageblock {block} ({name}{mapped}): {holds or 'nothing'}"

    def buddies(self, frame: int, order: int) -> list[str]:
        """The buddies that a free of this block meets, up to the first that it cannot merge with."""
        lines = []
        start = self.shape.start_pfn
        while order < self.shape.max_page_order:
            buddy = ((start + frame) ^ (1 << order)) - start
            if not 0 <= buddy < self.shape.spanned:
                lines.append(f"buddy of order {order}: {buddy}, not in the zone")
                break
            at, pages, where = self.find(buddy)
            lines.append(f"buddy of order {order}: {self.describe(buddy)}")
            if at != buddy or pages != 1 << order or not where.startswith("free"):
                break
            frame = min(frame, buddy)
            order += 1
        return lines


def _kind(where: str) -> str:
    """What a frame is, by the beginning of its description."""
    beginnings = {"free": "free", "on CPU": "pcp", "in the pool": "pool", "in the free queue": "queued"}
    return next((kind for words, kind in beginnings.items() if where.startswith(words)), "allocated")


def _live(recorded: Recorded, replayed: Replayed, shape: DumpShape) -> list[tuple[int, int, str]]:
    """What the model has allocated at this point of the replay."""
    if recorded.compaction:
        return [
            (frame, 1 << order, f"allocated with order {order}" + _by(recorded, row, order))
            for frame, order, row in replayed.replay.live().tolist()
        ]
    done = replayed.done
    ops, answers = recorded.ops[:done], replayed.replay.answers[:done, 0]
    second = shape is not recorded.shapes[0]
    freed = set(ops[ops[:, 0] == Code.OP_FREE, 3].tolist())
    live = []
    gave = (ops[:, 0] == Code.OP_ALLOC) | (ops[:, 0] == Code.OP_DIRECT_COMPACT)
    for row in np.flatnonzero(gave & (answers >= 0)).tolist():
        frame = int(answers[row])
        if row not in freed and (frame >= SECOND_ZONE) == second:
            words = f"allocated with order {ops[row, 1]} by operation {row}"
            live.append((frame & ~SECOND_ZONE, 1 << int(ops[row, 1]), words))
    if not second:
        for row in np.flatnonzero((ops[:, 0] == Code.OP_CONTIG) & (answers == 0)).tolist():
            if row not in freed:
                a, b = ops[row, 3:5].tolist()
                live.append((a, b - a, f"allocated by alloc_contig_range in operation {row}"))
    return live


def _by(recorded: Recorded, row: int, order: int) -> str:
    if row < 0:
        return ", a page of a folio that was split"
    split = f", order {recorded.ops[row, 1]} then, split since" if recorded.ops[row, 1] != order else ""
    return f" by operation {row}{split}"


def explain(path: str | os.PathLike[str], n: int, design: Design | None = None) -> str:
    """The state around operation ``n`` of a recorded run, as text of up to about 110 columns.

    design : what the recorded kernel ran, where the header names none that is built in.

    Raises ValueError for a file that is no recorded run and for an operation that it does not have, OSError
    where the file cannot be read.
    """
    recorded = read_recording(path, design)
    if not 0 <= n < len(recorded.ops):
        raise ValueError(f"operation {n} is not in 0..{len(recorded.ops) - 1}")
    replayed = Replayed(recorded)
    zone = _zone_of(recorded, n)
    shape = recorded.shapes[zone]
    of_zone = [k for k, second in enumerate(recorded.second.tolist()) if int(second) == zone]
    earlier = max(k for k in of_zone if recorded.dump_at[k] <= n)
    later = min((k for k in of_zone if recorded.dump_at[k] > n), default=None)

    lines = _title(recorded, zone)
    moments, notes = _at_dump(recorded, replayed, earlier)
    replayed.run(n)
    before = Place(take_apart(replayed.dump(zone), shape), shape, recorded, replayed)
    if recorded.dump_at[earlier] < n:
        moments.append(Moment(f"ours before {n}", before.state))
    stats = replayed.machine.stats()
    events = len(replayed.events())
    replayed.run(n + 1)
    after = Place(take_apart(replayed.dump(zone), shape), shape, recorded, replayed)
    done = {k: value - stats[k] for k, value in replayed.machine.stats().items() if value != stats[k]}
    new_events = replayed.events()[events:]
    if later is None or recorded.dump_at[later] > n + 1:
        moments.append(Moment(f"ours after {n}", after.state))
    if later is not None:
        columns, words = _at_dump(recorded, replayed, later)
        moments += columns
        notes += words
    if replayed.done <= n + AROUND:
        replayed.run(min(n + AROUND + 1, len(recorded.ops)))

    lines += ["", f"operation {n} of {len(recorded.ops)}: {_in_words(recorded, n)}"]
    lines += [*_first_difference(recorded, replayed), *notes, "", *_rows(recorded, replayed, n), ""]
    lines += ["What the model did: " + (", ".join(f"{k} {v:+d}" for k, v in done.items()) or "nothing rare")]
    if recorded.compaction:
        lines += _run(recorded, n, new_events, events)
    elif recorded.events is not None:
        lines += [
            f"  expected event: {event_in_words(e)}" for e in recorded.events[recorded.events[:, 0] == n]
        ]
        lines += [f"  our event:      {event_in_words(e)}" for e in new_events]
    lines += _frames(recorded, replayed, n, before, after)
    lines += ["", *_counters(moments), "", *_free_lists(moments, shape), "", *_pageblocks(moments, shape)]
    lines += ["", *_pcp(moments, shape)]
    if recorded.compaction:
        lines += ["", *_compaction_state(moments)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _run(recorded: Recorded, n: int, ours: Words, before: int) -> list[str]:
    """Compaction's log of the operation: around the first row that differs, with what the run held there."""
    assert recorded.events is not None
    theirs = recorded.events[recorded.events[:, 0] == n]
    both = min(len(theirs), len(ours))
    unlike = np.flatnonzero((theirs[:both] != ours[:both]).any(axis=1))
    at = int(unlike[0]) if len(unlike) else both
    if at == len(theirs) == len(ours):
        shown = [*theirs[:EVENTS], *theirs[max(EVENTS, at - EVENTS) :]]
        lines = [f"  compaction's log, {at} rows, exact:"] if at else []
        lines += [f"    {event_in_words(e)}" for e in shown[:EVENTS]]
        if at > 2 * EVENTS:
            lines.append(f"    ({at - 2 * EVENTS} more)")
        return lines + [f"    {event_in_words(e)}" for e in shown[EVENTS:]]
    lines = [f"  compaction's log differs at row {at} of the operation's {len(theirs)} (ours: {len(ours)}):"]
    lines += [f"    as expected:    {event_in_words(e)}" for e in theirs[max(0, at - EVENTS) : at]]
    lines += [f"    expected event: {event_in_words(e)}" for e in theirs[at : at + EVENTS]]
    lines += [f"    our event:      {event_in_words(e)}" for e in ours[at : at + EVENTS]]
    again = Replayed(recorded)
    again.machine.watch_compaction(before + at)
    again.run(n + 1)
    seen = again.machine.compaction_seen()
    if seen is None:
        return lines
    held = [f"{frame} (order {order})" for order, frame in seen["held"]]
    return [
        *lines,
        f"    before that row: migration scanner at {seen['migrate']}, free scanner at {seen['free']}, "
        f"fast_search_fail {seen['fast_search_fail']}, search_order {seen['search_order']}"
        + (", finishing the pageblock" if seen["finish_pageblock"] else ""),
        f"    isolated, to move in this order: {_some(list(map(str, seen['isolated'])))}",
        f"    held as targets, {seen['held_pages']} pages of {seen['wanted']} wanted: {_some(held)}",
    ]


def _some(words: list[str]) -> str:
    return " ".join(words[:16]) + (f" .. ({len(words)})" if len(words) > 16 else "") if words else "nothing"


def _compaction_state(moments: Sequence[Moment]) -> list[str]:
    """What compaction keeps between runs, and which skip bits differ between a dump and ours beside it."""
    states = [moment.state for moment in moments]
    table = [_heading(moments, "Compaction")]
    for name in states[0].compaction:
        table.append(_compared(moments, name, [str(state.compaction[name]) for state in states]))
    bits = [state.skip for state in states if state.skip is not None]
    table.append(_compared(moments, "skip bits set", [str(int(skip.sum())) for skip in bits]))
    lines = _columns(table)
    for i, moment in enumerate(moments):
        if moment.unlike_next:
            unlike = np.flatnonzero(bits[i] != bits[i + 1]).tolist()
            lines += [
                f"  {moment.title}: skip bits differ in pageblocks {_some(list(map(str, unlike)))}"
            ] * bool(unlike)
    return lines


def _at_dump(recorded: Recorded, replayed: Replayed, k: int) -> tuple[list[Moment], list[str]]:
    """Replays up to dump ``k``: its column, and ours beside it if that differs; the same in a sentence."""
    point, zone = int(recorded.dump_at[k]), int(recorded.second[k])
    replayed.run(point)
    got, want = replayed.dump(zone), recorded.dumps[k]
    state = take_apart(want, recorded.shapes[zone])
    if np.array_equal(got, want):
        return [Moment(f"dump {k} = ours @{point}", state)], [f"dump {k} after {point} operations: exact"]
    ours = take_apart(got, recorded.shapes[zone])
    return (
        [Moment(f"dump {k} @{point}", state, unlike_next=True), Moment(f"ours @{point}", ours)],
        [dump_difference(recorded, k, got).words],
    )


def _zone_of(recorded: Recorded, n: int) -> int:
    """The zone to look at: that of the expected frame."""
    row = int(recorded.ops[n, 3]) if recorded.ops[n, 0] == Code.OP_FREE else n
    return int(len(recorded.shapes) > 1 and recorded.res[row, 0] >= SECOND_ZONE)


def _title(recorded: Recorded, zone: int) -> list[str]:
    spec = recorded.machine.zones[zone]
    pcp = "pcp lists out of the way" if recorded.bypassed else "pcp lists in use"
    return [
        f"{recorded.name}: Linux {recorded.meta['kernel']}; the model: {recorded.design.name}",
        recorded.description or "(no description)",
        f"zone {spec.name}, {spec.spanned} frames from pfn {spec.start_pfn}, {recorded.machine.cpus} CPU(s), "
        f"{pcp}; frames are relative to the zone",
    ]


def _request(recorded: Recorded, row: int) -> str:
    word = int(recorded.requests[recorded.ops[row, 2]])
    lru = ", counts as movable" if word & MODEL_LRU else ""
    return f"order {recorded.ops[row, 1]}, {describe_gfp(word & ~MODEL_LRU)}{lru}"


def _in_words(recorded: Recorded, row: int) -> str:
    """An operation in words."""
    code, order, given, a, b, cpu = recorded.ops[row].tolist()
    words = OPERATIONS[Code(code)].name
    if code == Code.OP_ALLOC:
        words += f" {_request(recorded, row)}"
    elif code == Code.OP_FREE:
        of = "a contiguous range" if recorded.ops[a, 0] == Code.OP_CONTIG else f"order {recorded.ops[a, 1]}"
        words += f" of operation {a} ({of})"
    elif code == Code.OP_ISOLATE:
        words += f" [{a}, {b}), mode {'CMA_ALLOC' if order == 1 else 'OTHER'}"
    elif code in (Code.OP_UNISOLATE, Code.OP_CONTIG):
        words += f" [{a}, {b})" + (" for CMA" if code == Code.OP_CONTIG and order else "")
    elif code == Code.OP_UNRESERVE:
        words += f" to {recorded.design.freetypes[given].name}" + (", forced" if a else "")
    elif code in (Code.OP_COMPACT, Code.OP_DIRECT_COMPACT):
        words += f" {_request(recorded, row)}, priority {PRIORITIES[a]}"
    elif code == Code.OP_COMPACT_NODE:
        words += ", proactive" if a else ""
    elif code == Code.OP_KCOMPACTD:
        words += f" for order {order}"
    elif code == Code.OP_TAKE:
        words += f" of {recorded.design.freetypes[a].name}, order >= {b}"
    return words + (f", CPU {cpu}" if recorded.machine.cpus > 1 else "")


def _first_difference(recorded: Recorded, replayed: Replayed) -> list[str]:
    done = replayed.done
    _, _, differ = differing_rows(recorded, replayed.replay.answers, replayed.replay.watched, 0, done)
    wrong = np.flatnonzero(differ.any(axis=1))
    if not len(wrong):
        return [f"operations 0 to {done - 1}: exact"]
    return [f"the first operation that differs: {wrong[0]}; {len(wrong)} of the first {done} differ"]


def _rows(recorded: Recorded, replayed: Replayed, n: int) -> list[str]:
    """Answers around the operation, expected / ours where they differ."""
    start, stop = max(0, n - AROUND), min(n + AROUND + 1, replayed.done)
    ours, theirs, differ = differing_rows(
        recorded, replayed.replay.answers, replayed.replay.watched, start, stop
    )
    columns = [0, 1, 2, 3] if not recorded.bypassed else [0, 3]
    columns += [c for c in range(4, differ.shape[1]) if differ[:, c].any()]
    names = (*ROW_NAMES, *recorded.watched)
    table = [["", *(names[c] for c in columns), "operation"]]
    for i, row in enumerate(range(start, stop)):
        cells = [f"{theirs[i, c]} / {ours[i, c]} !" if differ[i, c] else f"{theirs[i, c]}" for c in columns]
        table.append([f"{'>' if row == n else ' '} {row}", *cells, _in_words(recorded, row)])
    return ["Answers, expected / ours where they differ (!):", *_columns(table)]


def _frames(recorded: Recorded, replayed: Replayed, n: int, before: Place, after: Place) -> list[str]:
    """The frames that the operation is about: where they were and where they are."""
    code = int(recorded.ops[n, 0])
    row = int(recorded.ops[n, 3]) if code == Code.OP_FREE else n
    of_range = int(recorded.ops[row, 0]) in (Code.OP_CONTIG, Code.OP_ISOLATE, Code.OP_UNISOLATE)
    if of_range:
        first, last = int(recorded.ops[row, 3]), int(recorded.ops[row, 4]) - 1
        interesting = {"first frame of the range": first, "last frame of the range": last}
    elif int(recorded.ops[row, 0]) in (Code.OP_ALLOC, Code.OP_TAKE, Code.OP_DIRECT_COMPACT):
        expected, got = int(recorded.res[row, 0]), int(replayed.replay.answers[row, 0])
        interesting = {"expected frame": expected}
        if got != expected:
            interesting["our frame"] = got
    else:
        return []
    lines = []
    for name, result in interesting.items():
        frame = result & ~SECOND_ZONE
        if result < 0:
            lines += ["", f"{name}: none"]
            continue
        lines += [
            "",
            f"{name} {frame}",
            f"  before: {before.describe(frame)}",
            f"  after:  {after.describe(frame)}",
        ]
        if code == Code.OP_FREE and not of_range:
            lines += [f"  before: {line}" for line in before.buddies(frame, int(recorded.ops[row, 1]))]
    return lines


def _columns(table: Sequence[Sequence[str]]) -> list[str]:
    """Rows as aligned text; the last column is not padded."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table]


def _compared(moments: Sequence[Moment], label: str, cells: Sequence[str]) -> list[str]:
    """A table row; a dump's column that differs from ours beside it is marked."""
    marks = [moment.unlike_next and cells[i + 1] != cells[i] for i, moment in enumerate(moments)]
    return [label, *(cell + " !" * mark for cell, mark in zip(cells, marks, strict=True))]


def _heading(moments: Sequence[Moment], first: str) -> list[str]:
    return [first, *(moment.title for moment in moments)]


def _counters(moments: Sequence[Moment]) -> list[str]:
    states = [moment.state for moment in moments]
    table = [_heading(moments, "Counters")]
    for name in states[0].counters:
        values = [state.counters[name] for state in states]
        cells = [str(value) for value in values]
        if name == "zone flags":
            cells = ["BELOW_HIGH" if value & BELOW_HIGH else "-" for value in values]
        if any(values):
            table.append(_compared(moments, name, cells))
    for mark in ("MIN", "LOW", "HIGH"):
        cells = [str(s.counters[f"WMARK_{mark}"] + s.counters["watermark_boost"]) for s in states]
        table.append(_compared(moments, f"{mark.lower()} mark with boost", cells))
    return _columns(table)


def _heads(frames: Sequence[int]) -> str:
    if not len(frames):
        return "-"
    shown = " ".join(str(frame) for frame in frames[:2])
    return f"{len(frames)}: {shown}" + (" .." if len(frames) > 2 else "")


def _free_lists(moments: Sequence[Moment], shape: DumpShape) -> list[str]:
    """Length and first frames of every list that is not empty everywhere; ``!`` looks at whole lists."""
    states = [moment.state for moment in moments]
    table = [_heading(moments, "Free lists (length: head ..)")]
    for order in range(shape.max_page_order + 1):
        for freetype, named in enumerate(shape.design.freetypes):
            lists = [state.lists[order][freetype].tolist() for state in states]
            if any(lists):
                table.append(_list_row(moments, f"{order:2d} {named.name}", lists))
    return _columns(table)


def _list_row(moments: Sequence[Moment], label: str, lists: Sequence[list[int]]) -> list[str]:
    row = [label]
    for i, (moment, frames) in enumerate(zip(moments, lists, strict=True)):
        unlike = moment.unlike_next and lists[i + 1] != frames
        row.append(_heads(frames) + (_first_unlike(frames, lists[i + 1]) if unlike else ""))
    return row


def _first_unlike(theirs: list[int], ours: list[int]) -> str:
    i = next(
        (i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), min(len(theirs), len(ours))
    )
    return f" ! entry {i}"


def _pageblocks(moments: Sequence[Moment], shape: DumpShape) -> list[str]:
    """How many pageblocks of each type there are, and which differ between a dump and ours beside it."""
    states = [moment.state for moment in moments]
    table = [_heading(moments, "Pageblocks")]
    for freetype, named in enumerate(shape.design.freetypes):
        counts = [int((state.blocks == freetype).sum()) for state in states]
        if any(counts):
            table.append(_compared(moments, named.name, [str(count) for count in counts]))
    lines = _columns(table)
    for i, moment in enumerate(moments):
        if moment.unlike_next:
            unlike = np.flatnonzero(states[i].blocks != states[i + 1].blocks).tolist()
            for block in unlike[:8]:
                names = [shape.design.freetypes[int(states[j].blocks[block])].name for j in (i, i + 1)]
                lines.append(f"  {moment.title}: pageblock {block}: expected {names[0]}, ours {names[1]}")
    return lines


def _pcp(moments: Sequence[Moment], shape: DumpShape) -> list[str]:
    states = [moment.state for moment in moments]
    table = [_heading(moments, "Per-CPU lists")]
    for cpu in range(shape.cpus):
        for name in states[0].cpus[cpu].fields:
            cells = [str(state.cpus[cpu].fields[name]) for state in states]
            table.append(_compared(moments, f"CPU {cpu} {name}", cells))
        for k in range(len(shape.pcp_orders)):
            lists = [state.cpus[cpu].lists[k].tolist() for state in states]
            if any(lists):
                table.append(_list_row(moments, f"  {pcp_list_name(shape, k)}", lists))
    return _columns(table)
