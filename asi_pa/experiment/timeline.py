"""A replay as a Chrome trace, which Perfetto and chrome://tracing show.

The format is the JSON object form of Google's "Trace Event Format": ``traceEvents``, each with ``ph``,
``ts`` (microseconds), ``pid``, ``name``; counters (``"C"``) have numbers in ``args``, instants (``"i"``) a
scope ``s``, metadata (``"M"``) the names of processes and threads.  ``problems`` checks that shape.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from asi_pa import __version__
from asi_pa.designs import Design, as_design
from asi_pa.engine.machine import Machine
from asi_pa.experiment.probe import Relief
from asi_pa.experiment.runs import build
from asi_pa.files import atomic_file
from asi_pa.run.recorded import typed_free
from asi_pa.run.replay import Replay
from asi_pa.trace import CompiledTrace
from asi_pa.trace.compile import STAMP_EVERY

__all__ = ["problems", "timeline", "write_timeline"]

#: Counters of the engine that are shown as instants when they move: name -> words.
_INSTANTS = {
    "flips_s2n": "flip to nonsensitive",
    "flips_n2s": "flip to sensitive",
    "extfrag_events": "fallback (extfrag)",
    "kswapd_wakeups": "kswapd woken",
    "compactions": "compaction",
    "pool_refills": "pool refill",
}
_PID = 1
_EVENTS = 1
Event = dict[str, Any]


def timeline(
    compiled: CompiledTrace,
    design: str | Design = "linux",
    *,
    kernel: str | None = None,
    relief: Relief | None = None,
    seed: int = 0,
    samples: int = 1000,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Runs a compiled trace through one design and looks at it ``samples`` times, evenly over operations.

    Counters by sample: free pages by freetype, free blocks by order, TLB flushes, flips and failures so far.
    Instants: what happened since the sample before (flips, flushes, failures, fallbacks ...), and how often.
    ``relief`` None: as `asi-pa compare`.  Raises ValueError for what cannot be.
    """
    chosen = as_design(design)
    options = (Relief() if relief is None else relief).options()
    machine, run, _ = build(compiled, chosen, kernel, seed=seed, **options)
    events: list[Event] = [
        {"ph": "M", "pid": _PID, "name": "process_name", "args": {"name": f"{compiled.name}: {chosen.name}"}},
        {"ph": "M", "pid": _PID, "tid": _EVENTS, "name": "thread_name", "args": {"name": "what happened"}},
    ]
    stops = np.unique(np.linspace(0, len(compiled.ops), max(samples, 2)).astype(int)).tolist()
    before, at = _counts(machine, run), 0
    for stop in stops:
        run.run(compiled.ops, at, stop)
        now, when = _counts(machine, run), _micros(compiled, stop)
        events += _instants(before, now, when)
        events += _counters(machine, run, now, when)
        before, at = now, stop
        if progress is not None:
            progress(stop, len(compiled.ops))
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "made by": f"asi_pa {__version__}",
            "trace": compiled.name,
            "design": chosen.name,
            "kernel": kernel or compiled.kernel,
            "memory_bytes": compiled.memory_bytes,
            "operations": len(compiled.ops),
        },
    }


def _micros(compiled: CompiledTrace, operation: int) -> float:
    """Trace time in microseconds, between the stamps (every 1024th operation) in proportion."""
    stamps = compiled.time_ns
    if not len(stamps):
        return float(operation)
    known = np.arange(len(stamps)) * STAMP_EVERY
    return round(float(np.interp(operation, known, (stamps - stamps[0]).astype(np.float64))) / 1000, 3)


def _counts(machine: Machine, run: Replay) -> dict[str, int]:
    """What instants are made of, so far."""
    stats = machine.stats()
    physmap = machine.physmap.counters() if machine.physmap is not None else None
    return {name: stats[name] for name in _INSTANTS} | {
        "failures": run.failures,
        "flushes": 0 if physmap is None else physmap.flushes_ranged + physmap.flushes_full,
    }


def _instants(before: Mapping[str, int], now: Mapping[str, int], when: float) -> Iterator[Event]:
    words = _INSTANTS | {"failures": "request failed", "flushes": "TLB flush"}
    for name, text in words.items():
        if now[name] > before[name]:
            yield {
                "ph": "i", "s": "t", "pid": _PID, "tid": _EVENTS, "ts": when, "name": text, "cat": name,
                "args": {"count": now[name] - before[name]},
            }  # fmt: skip


def _counters(machine: Machine, run: Replay, now: Mapping[str, int], when: float) -> Iterator[Event]:
    zones = range(len(machine.spec.zones))
    free = np.sum([typed_free(machine, zone) for zone in zones], axis=0, dtype=np.int64)
    pages = free @ (1 << np.arange(free.shape[1]))
    by_type = {ft.name: int(n) for ft, n in zip(machine.design.freetypes, pages, strict=True)}
    pool = int(run.free_pages()[-1])
    tracks: dict[str, dict[str, int]] = {
        "free pages by freetype": by_type | ({"pool": pool} if machine.design.wrapper == "pool" else {}),
        "free blocks by order": {f"order {order}": int(n) for order, n in enumerate(free.sum(axis=0))},
        "failed requests": {"so far": now["failures"]},
    }
    if machine.design.protects:
        tracks["TLB flushes"] = {"so far": now["flushes"]}
        tracks["pageblocks flipped"] = {"so far": now["flips_s2n"] + now["flips_n2s"]}
    for name, args in tracks.items():
        yield {"ph": "C", "pid": _PID, "ts": when, "name": name, "args": args}


def write_timeline(made: Mapping[str, Any], path: str | Path) -> None:
    """Write it, whole or not at all; packed where the name ends in ``.gz``, the same bytes each time."""
    text = json.dumps(made, separators=(",", ":")).encode() + b"\n"
    with atomic_file(path) as file:
        file.write(gzip.compress(text, 9, mtime=0) if str(path).endswith(".gz") else text)


# ---------------------------------------------------------------- the format

_NEEDS: dict[str, dict[str, tuple[type, ...]]] = {
    "M": {"pid": (int,), "name": (str,), "args": (dict,)},
    "C": {"pid": (int,), "name": (str,), "ts": (int, float), "args": (dict,)},
    "i": {"pid": (int,), "tid": (int,), "name": (str,), "ts": (int, float), "s": (str,), "args": (dict,)},
}


def problems(made: Any) -> list[str]:
    """What in a JSON object is not of the Trace Event Format, a line each; empty where all of it is."""
    if not isinstance(made, dict) or not isinstance(made.get("traceEvents"), list):
        return ["no object with a list 'traceEvents'"]
    found = (
        [] if made.get("displayTimeUnit", "ms") in ("ms", "ns") else ["displayTimeUnit is neither ms nor ns"]
    )
    last = 0.0
    for number, event in enumerate(made["traceEvents"]):
        wanted = _NEEDS.get(event.get("ph", "")) if isinstance(event, dict) else None
        if wanted is None:
            found.append(f"event {number}: no phase that is known")
            continue
        found += [
            f"event {number}: {key} is {event.get(key)!r}"
            for key, kinds in wanted.items()
            if not isinstance(event.get(key), kinds) or isinstance(event.get(key), bool)
        ]
        if event["ph"] == "C":
            args = event.get("args") or {"": None}
            bad = [k for k, v in args.items() if isinstance(v, bool) or not isinstance(v, (int, float))]
            found += [f"event {number}: counter {key!r} is no number" for key in bad]
        if event["ph"] == "i" and event.get("s") not in ("g", "p", "t"):
            found.append(f"event {number}: scope {event.get('s')!r} is none of g, p, t")
        if event["ph"] != "M":
            if event.get("ts", 0) < last:
                found.append(f"event {number}: goes back in time")
            last = event.get("ts", 0)
    return found
