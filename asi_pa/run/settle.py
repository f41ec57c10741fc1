"""What only following the trace can settle of a start state: when the snapshot was read, which types blocks
had, what ``high`` was.

The recorded decisions are carried out on the model's lists (`asi_pa.run.track`).  The state that is nearest
to /proc/buddyinfo is the one that was read.  A refill that split a large block proves that the lists of
smaller blocks of its type were empty: free blocks that the start state has there belong to pageblocks of
another type.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.engine.machine import Machine
from asi_pa.kernel.procfs import MIGRATETYPE_NAMES
from asi_pa.kernel.spec import MachineSpec, ZoneSpec
from asi_pa.run.track import Tracker
from asi_pa.trace.blocks import free_blocks, list_order
from asi_pa.trace.classify import request_words, translated
from asi_pa.trace.first_events import FirstEvents
from asi_pa.trace.format import Trace, profile
from asi_pa.trace.frames import FRAME_FREE, ZoneFrames, recorded_zones, zone_frames
from asi_pa.trace.initial import zone_spec
from asi_pa.trace.ticks import Ticks, all_ticks

__all__ = [
    "Start",
    "busiest",
    "freetypes",
    "high_at_start",
    "recorded_free",
    "recorded_moment",
    "recorded_types",
    "refuted",
    "requests",
    "settled",
    "snapshot_moment",
    "tracker_of",
]

#: A snapshot of the start without a stamp is looked for in so much of the trace.
_WINDOW_NS = 3_000_000_000
#: A stamp is right within this.
_STAMP_NS = 50_000_000
#: Of the trace from one end to the other.
_PASSES = 2
_PASSES_HIGH = 6
_I64 = npt.NDArray[np.int64]


def requests(trace: Trace) -> npt.NDArray[np.uint32]:
    """u32[gfps]: the request words of plain Linux for a trace's gfp masks."""
    return np.array([request_words(mask)[1] & 0xFFFFFFFF for mask in translated(trace)], np.uint32)


def freetypes(trace: Trace) -> npt.NDArray[np.uint8]:
    """u8[256]: the freetype of design linux for each migratetype of the recorded kernel; 255: none."""
    table = np.full(256, 255, np.uint8)
    for number, name in enumerate(trace.migratetypes):
        if name in MIGRATETYPE_NAMES:
            table[number] = MIGRATETYPE_NAMES.index(name)
    return table


def busiest(trace: Trace, zone: dict[str, Any]) -> bool:
    """Whether most of a trace's events lie in this zone; of several nodes, most of its node's."""
    zones = recorded_zones(trace)
    beside = [each for each in zones if each.get("nid", 0) == zone.get("nid", 0)]
    total = sum(_events(trace, each) for each in beside) if len(beside) < len(zones) else len(trace)
    return _events(trace, zone) * 2 > total


def _events(trace: Trace, zone: dict[str, Any]) -> int:
    start, end = int(zone["start_pfn"]), int(zone["start_pfn"]) + int(zone["spanned"])
    return int(((trace.pfn >= start) & (trace.pfn < end)).sum())


def recorded_free(trace: Trace, zone: dict[str, Any], which: str) -> _I64 | None:
    """i64[orders]: free blocks of a zone as buddyinfo counted them; None: not there."""
    found = trace.snapshots.get(f"buddyinfo_{which}")
    text = found.get("text", "") if isinstance(found, dict) else ""
    name = re.escape(str(zone["name"]))
    match = re.search(rf"^Node\s+{int(zone.get('nid', 0))}, zone\s+{name}\s+([\d ]+)$", text, re.MULTILINE)
    if not match:
        return None
    counts = np.array([int(word) for word in match[1].split()], np.int64)
    return counts if len(counts) == trace.max_page_order + 1 else None


def recorded_types(trace: Trace, zone: dict[str, Any], which: str) -> _I64 | None:
    """i64[freetypes, orders]: free blocks of a zone by type as pagetypeinfo counted them; None: not there.

    A count that the kernel cut off (">100000") is not there either.
    """
    found = trace.snapshots.get(f"pagetypeinfo_{which}")
    text = found.get("text", "") if isinstance(found, dict) else ""
    counts = np.zeros((len(MIGRATETYPE_NAMES), trace.max_page_order + 1), np.int64)
    name = re.escape(str(zone["name"]))
    pattern = rf"^Node\s+{int(zone.get('nid', 0))}, zone\s+{name}, type\s+(\w+)\s+([\d >]+)$"
    rows = re.findall(pattern, text, re.MULTILINE)
    for kind, numbers in rows:
        words = numbers.split()
        if kind not in MIGRATETYPE_NAMES or len(words) != counts.shape[1] or ">" in numbers:
            return None
        counts[MIGRATETYPE_NAMES.index(kind)] = [int(word) for word in words]
    return counts if rows else None


def recorded_moment(trace: Trace, which: str, what: str = "buddyinfo") -> tuple[int, int] | None:
    """The events between which a snapshot was read, where it is stamped with the trace's clock; else None."""
    found = trace.snapshots.get(f"{what}_{which}")
    if not isinstance(found, dict) or "trace_ns" not in found:
        return None
    stamps = found["trace_ns"]
    low, high = max(int(stamps[0]) - _STAMP_NS, 0), max(int(stamps[1]) + _STAMP_NS, 0)
    first, last = np.searchsorted(trace.time_ns, np.array([low, high], np.uint64))
    return int(first), int(last)


@dataclass(frozen=True)
class Start:
    """A zone's start state as a tracker loads it; its free blocks in the order of their lists."""

    trace: Trace
    frames: ZoneFrames
    ticks: Ticks
    pfn: npt.NDArray[np.uint32]
    order: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, trace: Trace, frames: ZoneFrames, ticks: Ticks) -> Start:
        pfn, order = free_blocks(frames.state == FRAME_FREE, frames.start_pfn, trace.max_page_order)
        rows = list_order(pfn, order, frames.taken, frames.start_pfn)
        return cls(trace, frames, ticks, pfn[rows], order[rows])


def tracker_of(start: Start, spec: ZoneSpec, block_mt: npt.NDArray[np.uint8]) -> Tracker:
    """A tracker of one zone in the start state; what is held is not told apart."""
    trace, frames = start.trace, start.frames
    machine = Machine(
        MachineSpec(
            zones=(replace(spec, nid=0, holes=()),),
            cpus=trace.cpus,
            pageblock_order=trace.pageblock_order,
            max_page_order=trace.max_page_order,
        ),
        "linux",
        profile(trace),
        boot=False,
    )
    tracker = Tracker(machine, requests(trace), freetypes(trace), start.ticks)
    tracker.load(0, start.pfn, start.order, frames.pcp, block_mt, frames.guessed)
    return tracker


def settled(
    trace: Trace,
    zone: dict[str, Any],
    kpf: npt.NDArray[np.uint8],
    first: FirstEvents,
    end_kpf: npt.NDArray[np.uint8] | None,
) -> ZoneFrames:
    """A zone's frames, with the moment of its snapshot and its block types settled by following the trace."""
    frames = zone_frames(trace, zone, kpf, first, end_kpf=end_kpf)
    spec = zone_spec(zone, frames, trace.cpus)
    wanted = recorded_free(trace, zone, "start")
    if wanted is None or not busiest(trace, zone):
        return frames
    ticks = all_ticks(trace)
    moment = snapshot_moment(Start.of(trace, frames, ticks), spec, wanted)
    frames = zone_frames(trace, zone, kpf, first, end_kpf=end_kpf, moment=moment)
    start = Start.of(trace, frames, ticks)
    frames = refuted(start, zone, spec, moment, wanted)
    return replace(frames, high=high_at_start(replace(start, frames=frames), zone, spec, moment))


def snapshot_moment(start: Start, spec: ZoneSpec, wanted: _I64) -> int:
    """How many events had happened when buddyinfo was read at the start."""
    trace = start.trace
    stamped = recorded_moment(trace, "start")
    latest = int(trace.time_ns[0]) + _WINDOW_NS
    if 0 < int(trace.provenance.get("workload_start_ns") or 0) < latest:
        latest = int(trace.provenance["workload_start_ns"])
    until = stamped[1] if stamped else int(np.searchsorted(trace.time_ns, np.uint64(latest)))
    until = max(min(until, len(trace)), 1)
    tracker = tracker_of(start, spec, start.frames.block_mt)
    first = min(stamped[0], until) if stamped else 0
    tracker.run(trace, 0, first)
    # Nothing moves the free lists while a machine waits for its work to begin, but its frees lengthen the
    # per-CPU lists: snapshots are read just before the work.
    tracker.run(trace, first, until, wanted, latest=stamped is None)
    assert tracker.nearest is not None
    return int(tracker.nearest[0])


def refuted(start: Start, zone: dict[str, Any], spec: ZoneSpec, moment: int, wanted: _I64) -> ZoneFrames:
    """The same frames with block types that no event of the trace refutes.

    A type is given up only if that brings the free blocks by order and type nearer to pagetypeinfo.
    """
    trace, frames = start.trace, start.frames
    typed = recorded_types(trace, zone, "start")
    block_mt, changed = frames.block_mt.copy(), 0
    per_order = _free_by_block(trace, frames)
    for number in range(_PASSES + 1):
        tracker = tracker_of(start, spec, block_mt)
        tracker.run(trace, 0, moment)
        had = tracker.typed(0)
        if typed is None or number == _PASSES:
            break
        if not _can_gain(block_mt, frames.guessed, per_order, had - typed):
            break
        tracker.run(trace, moment, len(trace))
        moved = _retype(block_mt, tracker.refuted_types(0), per_order, had, typed)
        changed += moved
        if not moved:
            break
    notes = frames.notes | {
        "read_at": moment,
        "blocks_off": int(np.abs(had.sum(axis=0) - wanted).sum()),
        "blocks_listed": int(wanted.sum()),
        "typed_off": None if typed is None else int(np.abs(had - typed).sum()),
        "types_refuted": changed,
    }
    return replace(frames, block_mt=block_mt, notes=notes)


def high_at_start(start: Start, zone: dict[str, Any], spec: ZoneSpec, moment: int) -> tuple[int, ...]:
    """``high`` of each CPU at event 0, so that following the trace leads to what zoneinfo showed.

    A tick before zoneinfo was read had lowered it already.  Pages that were not located are in neither the
    lists nor their limit: what counts is how far one is from the other.
    """
    trace, frames = start.trace, start.frames
    limits = zone.get("cpus") or []
    if len(limits) != trace.cpus:
        return ()
    wanted = [int(cpu["high"]) - missing for cpu, missing in zip(limits, frames.not_located, strict=True)]
    high = list(wanted)
    for _ in range(_PASSES_HIGH):
        each = tuple(replace(pcp, high=value) for pcp, value in zip(spec.pcp_cpus, high, strict=True))
        tracker = tracker_of(start, replace(spec, pcp_cpus=each), frames.block_mt)
        tracker.run(trace, 0, moment)
        short = [aim - tracker.machine.counters(k)[1] for k, aim in enumerate(wanted)]
        if not any(short):
            break
        # A tick takes an eighth: what is short after it was more before.
        high = [
            max(min(value + off + off // 7, pcp.high_max), pcp.high_min)
            for value, off, pcp in zip(high, short, spec.pcp_cpus, strict=True)
        ]
    return tuple(high)


def _free_by_block(trace: Trace, frames: ZoneFrames) -> _I64:
    """i64[pageblocks, orders]: free blocks of the start, those that span several pageblocks in the first."""
    pfn, order = free_blocks(frames.state == FRAME_FREE, frames.start_pfn, trace.max_page_order)
    blocks, orders = len(frames.block_mt), trace.max_page_order + 1
    block = (pfn.astype(np.int64) >> trace.pageblock_order) - (frames.start_pfn >> trace.pageblock_order)
    counts: _I64 = np.bincount(block * orders + order, minlength=blocks * orders).reshape(blocks, orders)
    return counts


def _can_gain(
    block_mt: npt.NDArray[np.uint8], guessed: npt.NDArray[np.bool_], per_order: _I64, off: _I64
) -> bool:
    """Whether any guessed block's type, given up, would bring the counts nearer to the recorded ones.

    ``off``: i64[freetypes, orders], by how much they are too many.  Where none would, no event needs to be
    followed to know that none is given up.
    """
    rows = np.flatnonzero(guessed & per_order.any(axis=1))
    counts, old = per_order[rows], block_mt[rows]
    without = np.abs(off[old] - counts).sum(axis=1) - np.abs(off[old]).sum(axis=1)
    for new in range(3):
        gain = -without - np.abs(off[new] + counts).sum(axis=1) + np.abs(off[new]).sum()
        if (gain[old != new] > 0).any():
            return True
    return False


def _retype(
    block_mt: npt.NDArray[np.uint8], bits: npt.NDArray[np.uint8], per_order: _I64, had: _I64, typed: _I64
) -> int:
    """Gives refuted blocks the type that brings the counts nearest to the recorded ones; how many changed."""
    off = had - typed
    moved = 0
    for block in np.flatnonzero(bits & (1 << block_mt)).tolist():
        old, counts = int(block_mt[block]), per_order[block]
        best, best_gain = old, 0
        for new in range(3):
            if bits[block] >> new & 1:
                continue
            before = np.abs(off[old]).sum() + np.abs(off[new]).sum()
            after = np.abs(off[old] - counts).sum() + np.abs(off[new] + counts).sum()
            if before - after > best_gain:
                best, best_gain = new, int(before - after)
        if best != old:
            off[old] -= counts
            off[best] += counts
            block_mt[block] = best
            moved += 1
    return moved
