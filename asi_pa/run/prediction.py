"""The prediction: the model left alone with what callers did, compared with the recorded machine.

Distance between two sets of free lists is half the pages that lie in blocks of the wrong order, as a share of
the free pages, in per cent.  Skill is 1 - distance / (distance if nothing changed at all).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.kernel.indexes import free_pages, suitable_blocks, unusable_index
from asi_pa.run.first_fit import FirstFit
from asi_pa.run.reference import Course, Followed, State, state_of
from asi_pa.run.settle import recorded_free
from asi_pa.trace import CompiledTrace
from asi_pa.trace.compile import OP_ALLOC
from asi_pa.trace.events import EXTFRAG, ZONE_LOCKED
from asi_pa.trace.format import FAILED_PFN

__all__ = ["FreeRun", "distance", "end_distance", "first_fit", "free_run", "horizons", "measured"]

#: Events after which a restarted run is compared.
HORIZONS = (1_000, 10_000, 100_000, 300_000)
TYPES = ("Unmovable", "Movable", "Reclaimable")
_I64 = npt.NDArray[np.int64]


def distance(one: Sequence[int] | _I64, other: Sequence[int] | _I64) -> float:
    """Half the pages in blocks of another order, per cent of the free pages of ``other``.

    Both are free blocks by order.
    """
    orders = np.arange(len(other))
    pages = free_pages([int(n) for n in other])
    wrong = int((np.abs(np.asarray(one, np.int64) - np.asarray(other, np.int64)) << orders).sum())
    return 100 * wrong / 2 / pages if pages else 0.0


@dataclass
class FreeRun:
    """What a run left alone did."""

    states: dict[int, State]
    """By number of events that had happened."""
    pfns: _I64
    """i64[allocations]: the frame that each got; -1 where it failed."""
    fallbacks: list[tuple[int, int, int, int, int]]
    """(operation, order, fallback order, freetype, fallback freetype)."""
    counts: dict[str, int]
    """Blocks ``refilled`` and ``drained``."""


def free_run(
    course: Course, moments: Sequence[int], end: int, progress: Callable[[int, int], None] | None = None
) -> FreeRun:
    """Runs the whole trace, sampling after each of ``moments`` events; counts are those at event ``end``."""
    machine, run = course.start()
    stops = sorted({0, *moments, end, len(course.trace)})
    where = course.operations_at(stops)
    states, pfns, counts = {0: state_of(machine, course.zone)}, [], {}
    at = 0
    for event, stop in zip(stops, where.tolist(), strict=True):
        pfns.append(run.run_and_see(course.compiled.ops, at, stop))
        at = stop
        states[event] = state_of(machine, course.zone)
        if event == end:
            stats = machine.stats()
            counts = {"refilled": stats["pcp_refilled"], "drained": stats["pcp_drained"]}
        if progress:
            progress(event, len(course.trace))
    broken = machine.verify()
    if broken is not None:
        raise AssertionError(f"trace {course.trace.name}: the run broke an invariant: {broken}")
    return FreeRun(states, np.concatenate(pfns), run.extfrags, counts)


def end_distance(
    course: Course, end: int, compiled: CompiledTrace | None = None, kernel: str | None = None,
    operation: int | None = None,
) -> float:  # fmt: skip
    """The distance at event ``end`` to the end's buddyinfo alone, for a start or rules that differ."""
    compiled = compiled or course.compiled
    machine, run = course.start(compiled, kernel)
    stop = int(course.operations_at([end])[0]) if operation is None else operation
    run.run(compiled.ops, 0, stop)
    wanted = recorded_free(course.trace, course.record, "end")
    assert wanted is not None
    return distance(state_of(machine, course.zone).free, wanted)


def first_fit(course: Course, end: int) -> _I64:
    """i64[orders]: free blocks at event ``end`` of a toy that takes the lowest block that fits.

    It begins with the model's start state, pages of per-CPU lists free, and is asked for what the recorded
    zone served.
    """
    spec = course.compiled.machine.zones[course.zone]
    population = course.compiled.population[course.zone]
    toy = FirstFit(spec.start_pfn, spec.end_pfn, course.trace.max_page_order)
    for pfn, order in (
        (population.free_pfn, population.free_order),
        (population.pcp_pfn, population.pcp_order),
    ):
        toy.free(pfn, order)
    slots = np.full(course.compiled.nslots, FAILED_PFN, np.uint32)
    slots[population.held_slot] = population.held_pfn
    inside = (course.pfns >= spec.start_pfn) & (course.pfns < spec.end_pfn)
    stop = int(course.operations_at([end])[0])
    toy.run(course.compiled.ops[:stop], slots, inside.astype(np.uint8))
    return toy.blocks()


def horizons(course: Course, starts: Sequence[tuple[int, Any]]) -> list[dict[str, Any]]:
    """Restarts from recorded states: share of allocations that got the recorded page, after so many events.

    ``starts``: (event, replay in the state at that event).
    """
    shares: dict[int, list[float]] = {length: [] for length in HORIZONS}
    for event, run in starts:
        ends = [event + length for length in HORIZONS if event + length <= len(course.trace)]
        if not ends:
            continue
        where = course.operations_at([event, *ends]).tolist()
        first = int(course.before[where[0]])
        got = run.run_and_see(course.compiled.ops, where[0], where[-1])
        same = got == course.pfns[first : first + len(got)]
        for end, stop in zip(ends, where[1:], strict=True):
            count = int(course.before[stop]) - first
            if count:
                shares[end - event].append(100 * float(same[:count].mean()))
    return [
        {"events": length, "exact_mean": float(np.mean(found)), "exact_min": float(min(found))}
        for length, found in shares.items()
        if found
    ]


def _share(same: npt.NDArray[np.bool_]) -> float | None:
    return 100 * float(same.mean()) if len(same) else None


def _exact(course: Course, run: FreeRun) -> dict[str, Any]:
    """Shares of allocations that got the recorded page, per cent."""
    rows, trace = course.allocs, course.trace
    served = course.pfns != FAILED_PFN
    same = (run.pfns == course.pfns)[served]
    order, cpu = trace.order[rows][served], trace.cpu[rows][served]
    mt = trace.migratetype[rows][served]
    block = trace.pageblock_order
    alike = ((run.pfns >> block) == (course.pfns >> block))[served]
    first = np.flatnonzero(~same)
    diverged = None
    if len(first):
        event = int(rows[served][first[0]])
        diverged = {"event": event, "time": float(trace.time_ns[event]) / 1e9}
    return {
        "exact": {
            "all": _share(same),
            "by_order": {int(k): _share(same[order == k]) for k in np.unique(order)},
            "by_type": {
                trace.migratetypes[k] if 0 <= k < len(trace.migratetypes) else str(k): _share(same[mt == k])
                for k in np.unique(mt).tolist()
            },
            "by_cpu": {int(k): _share(same[cpu == k]) for k in np.unique(cpu)},
        },
        "same_block": _share(alike),
        "first_divergence": diverged,
    }


def _fallbacks(course: Course, run: FreeRun, followed: Followed) -> dict[str, Any]:
    """Fallbacks of both, each with its place in the trace."""
    trace = course.trace

    def entry(event: int, order: int, fallback_order: int, ft: int, other: int) -> dict[str, Any]:
        return {
            "event": event,
            "time": float(trace.time_ns[event]) / 1e9,
            "order": order,
            "fallback_order": fallback_order,
            "type": TYPES[ft] if ft < len(TYPES) else str(ft),
            "from": TYPES[other] if other < len(TYPES) else str(other),
        }

    operations = course.compiled.ops["op"] == OP_ALLOC
    number = np.cumsum(operations) - 1
    return {
        "model": [entry(int(course.allocs[number[op]]), *rest) for op, *rest in run.fallbacks],
        "recorded": [entry(*row) for row in followed.fallbacks],
    }


def _on_the_way(moments: Sequence[int], run: FreeRun, followed: Followed) -> dict[str, Any]:
    """Errors of the free lists' measures at every moment."""
    pairs = [(run.states[k].free.tolist(), followed.states[k].free.tolist()) for k in moments]
    path = [distance(model, recorded) for model, recorded in pairs]
    orders = range(1, len(pairs[0][0])) if pairs else range(0)
    unusable = {}
    for order in orders:
        off = [abs(unusable_index(a, order) - unusable_index(b, order)) for a, b in pairs]
        unusable[order] = {"mean": float(np.mean(off)), "max": float(max(off))}
    large = [(suitable_blocks(a, 9), suitable_blocks(b, 9)) for a, b in pairs if len(a) > 9]
    errors = [100 * abs(a - b) / b for a, b in large if b]
    return {
        "path": {"mean": float(np.mean(path)), "max": float(max(path))} if path else None,
        "unusable": unusable,
        "order9": {"mean": float(np.mean(errors)), "max": float(max(errors))} if errors else None,
    }


def measured(
    course: Course, moments: Sequence[int], run: FreeRun, followed: Followed, restarts: list[dict[str, Any]]
) -> dict[str, Any]:
    """The ``free_run`` part of a result; without ``moments`` there is no first-fit toy beside."""
    end = followed.end_event
    wanted = recorded_free(course.trace, course.record, "end")
    began = recorded_free(course.trace, course.record, "start")
    found = distance(run.states[end].free, followed.states[end].free if wanted is None else wanted)
    baseline = None if wanted is None or began is None else distance(began, wanted)
    toy = None
    if moments:
        toy = distance(first_fit(course, end), followed.states[end].free if wanted is None else wanted)
    whole = course.trace.kind[:end] == ZONE_LOCKED
    served = course.trace.order[:end][whole]
    refilled = int(((served <= 3) | (served == course.trace.pageblock_order)).sum())
    extfrags = int((course.trace.kind[:end] == EXTFRAG).sum())
    fallbacks = _fallbacks(course, run, followed)
    first, last = followed.states[0], followed.states[end]
    model = run.states[end]
    return {
        "end_distance": found,
        "baseline": baseline,
        "skill": None if not baseline else 1 - found / baseline,
        "first_fit": toy,
        "skill_first_fit": 1 - found / toy if toy else None,
        **_on_the_way(moments, run, followed),
        "refills": [run.counts["refilled"], refilled + extfrags],
        "drains": [run.counts["drained"], followed.drained],
        "fallbacks": fallbacks,
        "pcp": [model.pcp.tolist(), last.pcp.tolist()],
        **_exact(course, run),
        "horizon": restarts,
        "blocks": {
            "model": {name: [int(first.blocks[k]), int(model.blocks[k])] for k, name in enumerate(TYPES)},
            "recorded": {name: [int(first.blocks[k]), int(last.blocks[k])] for k, name in enumerate(TYPES)},
        },
    }
