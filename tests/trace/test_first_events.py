"""What a trace says first of each frame, and what is made of it, against the same said in plain Python."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from asi_pa.trace import Trace, workload
from asi_pa.trace.cutting import orders_of
from asi_pa.trace.events import ALLOC, EXTFRAG, FREE, FREE_BATCHED, PCPU_DRAIN, ZONE_LOCKED
from asi_pa.trace.first_events import FirstEvents, first_events
from asi_pa.trace.format import FAILED_PFN
from asi_pa.trace.frames import FRAME_FREE, FRAME_HELD, FRAME_HOLE, FRAME_PCP, recorded_zones, zone_frames
from asi_pa.trace.initial import held_allocations
from asi_pa.trace.mentions import NO_EVENT, NOTHING
from asi_pa.trace.witness import blank_frames, mark_holes

BUDDY, LRU, ANON, SLAB, HEAD, TAIL, NONE = 1, 2, 4, 8, 16, 32, 128


def drawn(seed: int) -> Trace:
    """Any events in any order, on a machine of 64 MiB whose flags are drawn as well."""
    rng = np.random.default_rng(seed)
    base = workload("random", "64M")
    flags = base.kpf("start")
    assert flags is not None
    start, end, n = int(recorded_zones(base)[0]["start_pfn"]), len(flags), int(rng.integers(1, 1500))
    order = np.where(rng.random(n) < 0.6, 0, rng.integers(0, 11, n))
    low = start if seed % 2 else start - 600
    pfn = (rng.integers(low, start + 3000 if seed % 3 else end + 600, n) >> order) << order
    kind = rng.choice(6, n, p=[0.3, 0.3, 0.05, 0.15, 0.15, 0.05])
    pfn[(kind == ALLOC) & (rng.random(n) < 0.05)] = FAILED_PFN
    fallbacks = np.flatnonzero(kind == EXTFRAG)
    ext = np.zeros(len(fallbacks), base.ext.dtype)
    ext["event"], ext["alloc_order"] = fallbacks, order[fallbacks] // 2
    ext["fallback_mt"] = rng.integers(0, 3, len(fallbacks))
    bits = np.array([0, 0, BUDDY, BUDDY, LRU, LRU | ANON, SLAB, HEAD, TAIL, TAIL, NONE], np.uint8)
    made: dict[str, Any] = {
        "kind": kind,
        "order": order,
        "pfn": pfn,
        "cpu": rng.integers(0, 2, n),
        "time_ns": np.sort(rng.integers(0, 10**9, n)),
        "migratetype": rng.integers(-1, 3, n),
        "gfp": np.zeros(n),
        "comm": np.zeros(n),
    }
    columns = {name: column.astype(getattr(base, name).dtype) for name, column in made.items()}
    frames = np.repeat(rng.choice(bits, -(-end // 32)), 32)[:end]
    frames[start + 2048 : start + 4096] = HEAD
    frames[start + 2049 : start + 4096] = TAIL
    frames[start + 6000 : start + 9100] = 0
    zones = [recorded_zones(base)[0] | {"managed": end - start - 2500}]
    return replace(base, **columns, ext=ext, kpageflags={"start": frames}, snapshots={"zones_start": zones})


def said(trace: Trace, frames: int, until: int) -> FirstEvents:
    """`first_events`, event by event."""
    kind, event = np.full(frames, NOTHING, np.uint8), np.full(frames, NO_EVENT, np.uint32)
    shown: dict[int, tuple[int, int]] = {}
    last: dict[int, int] = {}
    fallbacks = {int(row["event"]): row for row in trace.ext}
    for k in range(until):
        what, pfn, order = int(trace.kind[k]), int(trace.pfn[k]), int(trace.order[k])
        if what == FREE_BATCHED:
            continue
        if order <= 3:
            before = last.get(pfn, -1)
            same = before >= 0 and all(
                getattr(trace, name)[before] == getattr(trace, name)[k] for name in ("order", "cpu")
            )
            if same and what == ALLOC and trace.kind[before] == FREE:
                block = pfn >> trace.pageblock_order
                shown[block] = min(shown.get(block, (until, 0)), (before, int(trace.migratetype[k])))
            last[pfn] = k
        mt = int(trace.migratetype[k])
        if k in fallbacks:
            order, mt = int(fallbacks[k]["alloc_order"]), int(fallbacks[k]["fallback_mt"])
        if pfn == FAILED_PFN:
            continue
        if what in (ZONE_LOCKED, PCPU_DRAIN, EXTFRAG):
            block = pfn >> trace.pageblock_order
            shown[block] = min(shown.get(block, (until, 0)), (k, mt))
        for frame in range(pfn, min(pfn + (1 << order), frames)):
            if event[frame] == NO_EVENT:
                kind[frame], event[frame] = what, k
    types = np.full((frames >> trace.pageblock_order) + 1, -1, np.int8)
    for block, (_, mt) in shown.items():
        if block < len(types):
            types[block] = mt
    return FirstEvents(kind, event, types, until)


@pytest.mark.parametrize("seed", range(12))
def test_one_pass_says_what_every_event_says(seed: int) -> None:
    trace = drawn(seed)
    flags = trace.kpf("start")
    assert flags is not None
    for until in (len(trace), len(trace) // 3, 0):
        found, wanted = first_events(trace, len(flags), until), said(trace, len(flags), until)
        for name in ("kind", "event", "shown"):
            np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), name)


@pytest.mark.parametrize("seed", range(12))
def test_frames_are_what_flags_and_first_events_say(seed: int) -> None:
    trace = drawn(seed)
    zone, flags = recorded_zones(trace)[0], trace.kpf("start")
    assert flags is not None
    first = first_events(trace, len(flags))
    frames = zone_frames(trace, zone, flags, first)
    start = frames.start_pfn
    holes = missing = 0
    for at, state in enumerate(frames.state.tolist()):
        bits, kind, event = int(flags[start + at]), int(first.kind[start + at]), first.event[start + at]
        left = kind in (ZONE_LOCKED, EXTFRAG)
        assert frames.taken[at] == (event if left else NO_EVENT)
        holes += state == FRAME_HOLE
        missing += bool(bits & NONE) and kind == NOTHING
        if state == FRAME_HOLE:
            assert kind == NOTHING
            assert bits in (0, bits | NONE)
        elif state == FRAME_PCP:
            assert kind in (ALLOC, PCPU_DRAIN) or (bits == 0 and kind == NOTHING)
        else:
            assert not (bits & NONE and kind == NOTHING)
            free = left or (bits & BUDDY and kind != FREE)
            assert state == (FRAME_FREE if free else FRAME_HELD)
    room = max(int(zone["spanned"]) - int(zone["managed"]) - missing, 0)
    assert missing <= holes <= missing + room
    assert frames.managed == frames.notes["managed"] == len(frames.state) - holes
    assert frames.notes["free_pages"] == np.count_nonzero(frames.state == FRAME_FREE)
    assert frames.notes["held_pages"] == np.count_nonzero(frames.state == FRAME_HELD)


def test_what_is_blank_is_a_hole_run_by_run_until_none_is_missing() -> None:
    flags, seen = np.zeros(96, np.uint8), np.full(96, NOTHING, np.uint8)
    flags[40], seen[70], flags[90] = SLAB, FREE, NONE
    for missing, wanted in ((0, [90]), (9, [*range(8), 90]), (33, [*range(32), 90]), (99, None)):
        state = mark_holes(flags, seen, missing, (32, 8))
        rows = np.flatnonzero(state == FRAME_HOLE).tolist()
        assert rows == (wanted or [*range(40), *range(48, 64), *range(72, 88), 90])
        assert set(state.tolist()) <= {0, FRAME_HOLE}
    held = np.full(96, FRAME_HELD, np.uint8)
    later = np.zeros(96, np.uint8)
    later[5] = BUDDY
    assert blank_frames(flags, seen, held, None).tolist() == [k for k in range(96) if k not in (40, 70, 90)]
    assert 5 not in blank_frames(flags, seen, held, later)
    with pytest.raises(ValueError, match="columns of different length"):
        blank_frames(flags, seen[1:], held, None)


@pytest.mark.parametrize("seed", range(12))
def test_held_frames_are_allocations(seed: int) -> None:
    trace = drawn(seed)
    zone, flags = recorded_zones(trace)[0], trace.kpf("start")
    assert flags is not None
    frames = zone_frames(trace, zone, flags, first_events(trace, len(flags)))
    start, end = frames.start_pfn, frames.start_pfn + len(frames.state)
    freed = np.zeros(3, [("pfn", "u4"), ("slot", "u4"), ("order", "u1"), ("pad", "u1", 3)])
    freed["pfn"], freed["order"], freed["slot"] = [start + 64, start + 40, end + 8], [3, 0, 0], [7, 5, 9]
    held = held_allocations(frames, freed, trace.max_page_order, trace.pageblock_order)
    assert held.slot.tolist() == [7, 5]
    assert held.freed_pfn.tolist() == [start + 64, start + 40]
    assert orders_of(held.freed_kind).tolist() == [3, 0]
    wanted, at = [], start
    taken = {40, *range(64, 72)}

    def there(frame: int) -> bool:
        return frame < end and frames.state[frame - start] == FRAME_HELD and frame - start not in taken

    while at < end:
        order = 0
        if there(at):
            size = 1
            while flags[at] & HEAD and there(at + size) and flags[at + size] & TAIL:
                size += 1
            if size & (size - 1) == 0 and size <= 1024 and at % size == 0:
                order = size.bit_length() - 1
            wanted.append((at, order, bool(flags[at] & LRU), flags[at] & (LRU | ANON) == LRU))
        at += 1 << order
    kinds = held.kind
    columns = (held.pfn, orders_of(kinds), (kinds & 1).astype(bool), (kinds >> 6).astype(bool))
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == wanted
