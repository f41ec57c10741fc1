"""Small traces that contradict themselves, drawn: whatever events, on whatever frames, over any start.

python -m tests.run.contradictory [TRACES [FIRST]]      each compiled, settled and followed (20000, from 0)
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.run.settle import Start, tracker_of
from asi_pa.run.start import compile_trace
from asi_pa.run.track import Tracker
from asi_pa.trace import CompiledTrace, Trace, workload
from asi_pa.trace.events import ALLOC, EXTFRAG
from asi_pa.trace.first_events import first_events
from asi_pa.trace.format import EXT, FAILED_PFN
from asi_pa.trace.frames import recorded_zones, zone_frames
from asi_pa.trace.initial import zone_spec
from asi_pa.trace.ticks import all_ticks

#: pageblock_order and max_page_order
_GEOMETRIES = ((9, 10), (9, 10), (9, 9), (7, 10), (8, 9))
_FLAGS = np.array([0, 0, 1, 1, 1, 2, 6, 8, 0x10, 0x20, 0x40, 0x80], np.uint8)
_TYPES = ("Unmovable", "Movable", "Reclaimable")


@cache
def _base() -> Trace:
    return workload("random", "64M")


def trace_of(events: list[tuple[int, int, int]], start: int, spanned: int, **changes: Any) -> Trace:
    """A trace of (kind, pfn, order) each, of CPU 0 and a zone whose frames were free at the start; an extfrag
    event claims."""
    count, base = len(events), _base()
    kind, pfn, order = np.array(events, np.int64).reshape(-1, 3).T
    details = np.zeros(int((kind == EXTFRAG).sum()), EXT)
    details["event"] = np.flatnonzero(kind == EXTFRAG)
    details["alloc_order"], details["fallback_order"] = order[kind == EXTFRAG], base.pageblock_order
    details["fallback_mt"] = 1
    zone = base.snapshots["zones_start"][0]
    zone = zone | {"start_pfn": start, "spanned": spanned, "managed": spanned}
    columns: dict[str, Any] = {
        "time_ns": np.arange(count) * 1_000_000,
        "kind": kind,
        "pfn": pfn,
        "order": order,
        **{name: np.zeros(count) for name in ("cpu", "migratetype", "gfp", "comm")},
    }
    fields: dict[str, Any] = {
        **{name: column.astype(getattr(base, name).dtype) for name, column in columns.items()},
        "ext": details,
        "comms": ("kworker/0",),
        "kpageflags": {"start": np.ones(start + spanned, np.uint8)},
        "snapshots": {"zones_start": [zone]},
    }
    return replace(base, **(fields | changes))


def drawn(seed: int, most: int = 300) -> Trace:
    """A trace of up to so many events."""
    rng = np.random.default_rng(seed)
    count, base = int(rng.integers(1, most)), _base()
    start, spanned = 2048 + int(rng.choice([0, 0, 37, 512, 1027])), int(rng.integers(1100, 6000))
    pageblock_order, max_order = _GEOMETRIES[rng.integers(len(_GEOMETRIES))]
    kind = rng.choice(6, count, p=[0.3, 0.25, 0.05, 0.15, 0.15, 0.1])
    order = np.where(rng.random(count) < 0.5, 0, rng.integers(0, max_order + 1, count))
    pfn = _places(rng, count, start, start + spanned) >> order << order
    if seed % 3 == 0:
        failed = rng.random(count) < 0.02
        pfn[failed], kind[failed] = FAILED_PFN, ALLOC
    fallen = np.flatnonzero(kind == EXTFRAG)
    details = np.zeros(len(fallen), EXT)
    details["event"] = fallen
    for name in ("alloc_order", "fallback_order"):
        details[name] = rng.integers(0, 12, len(fallen))
    if seed % 2:
        details["alloc_order"] = order[fallen]
    for name in ("alloc_mt", "fallback_mt"):
        details[name] = rng.integers(-1, 7, len(fallen))
    gap = int(rng.choice([1000, 3_000_000, 300_000_000]))
    columns = {
        "time_ns": np.cumsum(rng.integers(0, gap, count)),
        "cpu": rng.integers(0, base.cpus, count),
        "migratetype": rng.integers(-1, 7, count),
        "gfp": rng.integers(0, len(base.gfps), count),
    }
    kpageflags, snapshots = _state(rng, start, spanned, max_order + 1, seed % 4 == 0)
    return trace_of(
        list(zip(kind.tolist(), pfn.tolist(), order.tolist(), strict=True)),
        start,
        spanned,
        name=f"contradictory {seed}",
        ext=details,
        pageblock_order=pageblock_order,
        max_page_order=max_order,
        kpageflags=kpageflags,
        snapshots=snapshots,
        **{name: column.astype(getattr(base, name).dtype) for name, column in columns.items()},
    )


def _places(rng: np.random.Generator, count: int, start: int, end: int) -> npt.NDArray[np.int64]:
    """Half of them anywhere, and near to the zone, half of them close together at its start or its end."""
    near = int(rng.choice([64, 700, 1000]))
    first, last = start + rng.integers(0, near, count), end - rng.integers(-5, near, count)
    close = np.where(rng.random(count) < 0.5, first, last)
    return np.where(rng.random(count) < 0.5, rng.integers(start - 30, end + 30, count), close)


def _state(
    rng: np.random.Generator, start: int, spanned: int, orders: int, at_end: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Snapshots of frames, and of the zone."""
    size, end = int(rng.choice([1, 8, 64, 512])), start + spanned
    flags = np.repeat(rng.choice(_FLAGS, end // size + 2), size)[:end]
    zone = _base().snapshots["zones_start"][0]
    cpus = [cpu | {"count": int(rng.integers(0, 600))} for cpu in zone["cpus"]]
    managed = spanned - int(rng.integers(0, 300))
    zone = zone | {"start_pfn": start, "spanned": spanned, "managed": managed, "cpus": cpus}

    def counts(most: int) -> str:
        return " ".join(map(str, rng.integers(0, most, orders)))

    rows = [f"Node    0, zone   Normal, type {name:>12} {counts(20)}\n" for name in _TYPES]
    return {"start": flags} | ({"end": rng.permutation(flags)} if at_end else {}), {
        "zones_start": [zone],
        "buddyinfo_start": {"text": f"Node 0, zone   Normal {counts(30)}\n"},
        "pagetypeinfo_start": {"text": "".join(rows)},
    }


def started(trace: Trace) -> Tracker:
    """Its start state, to be followed."""
    zone, kpf = recorded_zones(trace)[0], trace.kpf("start")
    assert kpf is not None
    frames = zone_frames(trace, zone, kpf, first_events(trace, len(kpf)), end_kpf=trace.kpf("end"))
    spec = zone_spec(zone, frames, trace.cpus)
    return tracker_of(Start.of(trace, frames, all_ticks(trace)), spec, frames.block_mt)


def followed(trace: Trace, step: int = 1) -> Tracker:
    """Followed to its end; AssertionError where a frame is not in one block after every ``step`` events."""
    tracker = started(trace)
    for begin in range(0, len(trace), step):
        tracker.run(trace, begin, min(begin + step, len(trace)))
        broken = tracker.verify()
        assert broken is None, f"{trace.name}, after event {min(begin + step, len(trace)) - 1}: {broken}"
    return tracker


def compiled(trace: Trace, **how: Any) -> CompiledTrace | None:
    """Compiled with its settled start; None where it is refused, which takes one line."""
    try:
        return compile_trace(trace, **how)
    except ValueError as error:
        said = str(error)
    assert said
    assert "\n" not in said
    return None


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    good = ghosts = outside = events = 0
    for seed in range(first, first + count):
        trace = drawn(seed)
        tracker = followed(trace, 16)
        ghosts, outside, events = ghosts + tracker.ghosts, outside + tracker.outside, events + tracker.done
        good += compiled(trace, recorded=seed % 5 != 0) is not None
    print(f"{count:,} traces, {events:,} events: {ghosts:,} of pages elsewhere, {outside:,} of no block")
    print(f"{good:,} traces compiled, {count - good:,} refused in one line")


if __name__ == "__main__":
    main()
