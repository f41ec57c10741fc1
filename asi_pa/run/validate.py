"""How well the model predicts the machine that a trace was recorded on.

`validate` follows the trace (the recorded decisions carried out, the model's compared first), then leaves the
model alone with what callers did, and compares the two.  docs/use/validation.md says what the numbers mean.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from asi_pa.engine.machine import Machine
from asi_pa.kernel.indexes import free_pages
from asi_pa.kernel.versions import KERNELS
from asi_pa.run.prediction import HORIZONS, distance, end_distance, free_run, horizons, measured
from asi_pa.run.reference import Course, Followed, follow, untraced
from asi_pa.run.replay import Replay
from asi_pa.run.settle import recorded_free
from asi_pa.run.untraced import with_untraced
from asi_pa.trace import CompiledTrace, Trace, load_events
from asi_pa.trace.compile import OP_TICK
from asi_pa.trace.ticks import tick_phases, wheel_of

__all__ = ["CONSISTENT", "SCHEMA", "consistent", "validate"]

SCHEMA = "asi_pa.validate/1"
#: Per cent of free pages by which the tracked state may miss the end's buddyinfo.
CONSISTENT = 0.1
MOMENTS = 100
RESTARTS = 6
Progress = Callable[[str, int, int], None]


def validate(
    trace: Trace | str | os.PathLike[str],
    *,
    kernel: str | None = None,
    sensitivity: bool = False,
    evidence: float | None = None,
    restarts: int = RESTARTS,
    way: bool = True,
    progress: Progress | None = None,
    compiled: CompiledTrace | None = None,
) -> dict[str, Any]:
    """Measure how well plain Linux, as modelled, predicts the machine of a trace with snapshots.

    Parameters
    ----------
    trace : a Trace, a file or the name of a bundled one
    kernel : profile; None takes the trace's own
    sensitivity : also measure the end's distance with one thing changed at a time
    evidence : build the start state from this share of the events only, 0 to 1 (None: all)
    restarts : from how many recorded states the run begins anew (``horizon``); 0 takes half the time
    way : look at the free lists 100 times on the way, and let a first-fit toy run beside; without, nothing is
        known of either, in half the time
    progress : called with (what, events done, of)
    compiled : the trace as `compile_trace` with ``recorded`` makes it, where it was compiled already

    Returns a dict of schema ``asi_pa.validate/1`` (docs/use/validation.md); distances are per cent of free
    pages.  Raises ValueError for a trace without snapshots of its start.
    """
    trace = load_events(trace)
    report = progress or (lambda _what, _done, _of: None)
    if evidence is not None and not 0 < evidence <= 1:
        raise ValueError(f"evidence {evidence}: not a share of the events, above 0 and up to 1")
    report("start state", 0, len(trace))
    known = len(trace) if evidence is None else max(int(evidence * len(trace)), 1)
    course = Course(
        trace,
        kernel=kernel,
        evidence=None if evidence is None else known,
        compiled=compiled if evidence is None else None,
    )
    moments = sorted({int(k) for k in np.linspace(0, len(trace), MOMENTS + 1)[1:]}) if way else []
    starts: list[tuple[int, Replay]] = []

    begins = _restart_events(len(trace), restarts)
    later = {event + length for event in begins for length in HORIZONS if event + length <= len(trace)}
    course.operations_at(sorted({0, *moments, *begins, *later, len(trace)}))

    def visit(machine: Machine, event: int) -> None:
        starts.append((event, _restart(course, machine, event)))

    followed = follow(
        course,
        moments,
        (begins, visit),
        lambda done, of: report("following", done, of),
    )
    again = horizons(course, starts)
    alone = with_untraced(course, [row for row in followed.without_event if row[0] < known])
    run = free_run(alone, moments, followed.end_event, lambda done, of: report("left alone", done, of))
    result = _recording(course, followed) | {
        "start": _start(course),
        "tracked": _tracked(course, followed),
        "one_step": _one_step(followed),
        "free_run": measured(alone, moments, run, followed, again),
        "series": _series(course, moments, run.states, followed.states),
    }
    if sensitivity and recorded_free(trace, course.record, "end") is not None:
        fewer = {"untraced_left_out": end_distance(course, followed.end_event)}
        result["sensitivity"] = fewer | _sensitivity(alone, followed.end_event, report)
    return result


def consistent(result: dict[str, Any]) -> bool:
    """Whether the tracked state is the recorded one where the end's buddyinfo was read; so without one."""
    off = result["tracked"]["end_distance"]
    return off is None or off <= CONSISTENT


def _restart_events(events: int, restarts: int) -> list[int]:
    """Where runs are restarted: evenly over what leaves them room."""
    last = events - min(HORIZONS[-2], events // 2)
    return sorted({int(k) for k in np.linspace(0, last, restarts + 1)[1:]})


def _restart(course: Course, machine: Machine, event: int) -> Replay:
    fresh = Machine(course.compiled.machine, "linux", course.kernel, boot=False)
    run = Replay(fresh, course.compiled.classes, course.compiled.nslots, fallbacks=False)
    run.take_over(machine, course.slots_at(int(course.operations_at([event])[0])))
    return run


def _recording(course: Course, followed: Followed) -> dict[str, Any]:
    """What was recorded, and by which rules it is run."""
    trace = course.trace
    return {
        "schema": SCHEMA,
        "trace": trace.name,
        "kernel": trace.kernel,
        "profile": course.kernel,
        "cpus": trace.cpus,
        "zone": str(course.record["name"]),
        "seconds": float(trace.time_ns[-1]) / 1e9,
        "events": len(trace),
        "lost": trace.lost,
        "read_at": {"start": course.notes.get("read_at"), "end": followed.end_event},
    }


def _start(course: Course) -> dict[str, Any]:
    notes = course.notes
    wheel = wheel_of(course.trace)
    located = notes["pcp_pages_from_trace"] + notes["pcp_pages_guessed"]
    return {
        "blocks_off": notes.get("blocks_off"),
        "blocks": notes.get("blocks_listed"),
        "typed_off": notes.get("typed_off"),
        "pcp": {
            "recorded": notes["pcp_pages_recorded"],
            "located": located,
            "not_located": notes["pcp_pages_not_located"],
        },
        "types_refuted": notes.get("types_refuted"),
        "ticks": [
            {"cpu": tick.cpu, "phase": tick.phase_ns / 1e9, "seen": tick.seen}
            for tick in tick_phases(course.trace)
        ],
        "timer": None if wheel is None else {"hz": wheel.hz, "on_time": wheel.on_time},
        "block_types": {"decided": notes["blocks"], "recorded": notes["blocks_recorded"]},
    }


def _tracked(course: Course, followed: Followed) -> dict[str, Any]:
    wanted = recorded_free(course.trace, course.record, "end")
    if wanted is None:
        return {"end_distance": None}
    return {"end_distance": distance(followed.states[followed.end_event].free, wanted)}


def _one_step(followed: Followed) -> dict[str, Any]:
    found: dict[str, Any] = {
        key: followed.one_step[key] for key in ("refill_page", "refill_size", "alloc_page", "drain_page")
    }
    found["fallback"] = {key: followed.one_step[key] for key in ("own_empty", "block")}
    return found | {"untraced_allocs": followed.untraced, "ghosts": followed.ghosts}


def _series(course: Course, moments: list[int], model: Any, recorded: Any) -> dict[str, Any]:
    """What the figure shows: free blocks by order and pages on per-CPU lists at each moment, of both."""
    at = [0, *moments]
    times = course.trace.time_ns
    return {
        "event": at,
        "time": [float(times[min(event, len(times) - 1)]) / 1e9 for event in at],
        "free": {
            "model": [model[event].free.tolist() for event in at],
            "recorded": [recorded[event].free.tolist() for event in at],
        },
        "pcp": {
            "model": [model[event].pcp.tolist() for event in at],
            "recorded": [recorded[event].pcp.tolist() for event in at],
        },
        "free_pages": [free_pages(recorded[event].free.tolist()) for event in at],
    }


# ---------------------------------------------------------------- one thing changed at a time


def _sensitivity(course: Course, end: int, report: Progress) -> dict[str, float]:
    """The end's distance with one rule or one piece of knowledge changed."""
    compiled = course.compiled
    changed: dict[str, Callable[[], float]] = {
        "no_ticks": lambda: _without_ticks(course, end),
        "high_not_tuned": lambda: end_distance(course, end, _with_high(compiled, tuned=False)),
        "average_high": lambda: end_distance(course, end, _with_high(compiled, average=True)),
        "one_cpu": lambda: end_distance(course, end, _on_one_cpu(compiled)),
        "no_pcp_pages": lambda: end_distance(course, end, _without_pcp_pages(compiled)),
        "lists_by_address": lambda: end_distance(course, end, _by_address(compiled)),
    }
    for version in KERNELS:
        if version != course.kernel:
            changed[f"kernel_{version}"] = partial(end_distance, course, end, kernel=version)
    for share in (0.001, 0.01):
        changed[f"lost_{100 * share:g}_percent"] = partial(_with_lost, course, end, share)
    found = {}
    for number, (name, measure) in enumerate(changed.items()):
        report(f"sensitivity: {name}", number, len(changed))
        found[name] = measure()
    return found


def _without_ticks(course: Course, end: int) -> float:
    ops = course.compiled.ops
    keep = ops["op"] != OP_TICK
    before = int(keep[: int(course.operations_at([end])[0])].sum())
    return end_distance(course, end, replace(course.compiled, ops=ops[keep]), operation=before)


def _with_high(compiled: CompiledTrace, *, average: bool = False, tuned: bool = True) -> CompiledTrace:
    """Every CPU's ``high`` the mean of all, or fixed where it was."""
    zones = []
    for zone in compiled.machine.zones:
        each = zone.pcp_cpus
        if average and each:
            mean = sum(pcp.high or 0 for pcp in each) // len(each)
            each = tuple(replace(pcp, high=mean) for pcp in each)
        if not tuned:
            each = tuple(replace(pcp, high_min=pcp.high or 0, high_max=pcp.high or 0) for pcp in each)
        zones.append(replace(zone, pcp_cpus=each))
    return replace(compiled, machine=replace(compiled.machine, zones=tuple(zones)))


def _on_one_cpu(compiled: CompiledTrace) -> CompiledTrace:
    ops = compiled.ops.copy()
    ops["cpu"][ops["op"] != OP_TICK] = 0
    return replace(compiled, ops=ops)


def _without_pcp_pages(compiled: CompiledTrace) -> CompiledTrace:
    """Pages of per-CPU lists are free in the buddy instead, as blocks of their order at the lists' ends."""
    population = tuple(
        replace(
            zone,
            free_pfn=np.concatenate([zone.free_pfn, zone.pcp_pfn]),
            free_order=np.concatenate([zone.free_order, zone.pcp_order]),
            **{key: getattr(zone, key)[:0] for key in ("pcp_pfn", "pcp_order", "pcp_mt", "pcp_cpu")},
        )
        for zone in compiled.population
    )
    return replace(compiled, population=population)


def _by_address(compiled: CompiledTrace) -> CompiledTrace:
    """The free lists by address, and each per-CPU list too."""
    population = []
    for zone in compiled.population:
        free = np.lexsort((zone.free_pfn, zone.free_order))
        pcp = np.lexsort((zone.pcp_pfn, zone.pcp_mt, zone.pcp_order, zone.pcp_cpu))
        population.append(
            replace(
                zone,
                free_pfn=zone.free_pfn[free],
                free_order=zone.free_order[free],
                **{k: getattr(zone, k)[pcp] for k in ("pcp_pfn", "pcp_order", "pcp_mt", "pcp_cpu")},
            )
        )
    return replace(compiled, population=tuple(population))


def _with_lost(course: Course, end: int, share: float, burst: int = 100) -> float:
    """Events lost in bursts, drawn with a fixed seed; the start state is built from what is left."""
    trace = course.trace
    rng = np.random.default_rng(0)
    keep = np.ones(len(trace), bool)
    for start in rng.integers(
        0, max(len(trace) - burst, 1), max(int(share * len(trace) / burst), 1)
    ).tolist():
        keep[start : start + burst] = False
    thinned = Course(trace.with_events(keep), kernel=course.kernel)
    return end_distance(with_untraced(thinned, untraced(thinned)), int(keep[:end].sum()))
