"""One operation of a replay: the state just before and after it, and why it went as it did.

The replay runs to the operation with the compiled loop, and then is looked at; what happened is what the
engine's counters, its log of fallbacks and the lists say, nothing is worked out beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asi_pa import __version__
from asi_pa.designs import Design
from asi_pa.engine.machine import Machine
from asi_pa.experiment.metrics import CAUSES
from asi_pa.experiment.moment import Scene, flushes
from asi_pa.experiment.probe import Relief
from asi_pa.kernel.callers import caller_of, group_of
from asi_pa.kernel.gfp import MODEL_LRU, describe_gfp
from asi_pa.run import look
from asi_pa.run.replay import Replay
from asi_pa.trace import CompiledTrace, Trace
from asi_pa.trace.compile import STAMP_EVERY
from asi_pa.trace.ops import Op
from asi_pa.verify.dump import DumpShape, ZoneState, pcp_list_name, take_apart

__all__ = ["SCHEMA", "explain", "explained"]

SCHEMA = "asi_pa.explain/1"
_REQUESTS = (Op.OP_ALLOC, Op.OP_TRY, Op.OP_INSTEAD)
#: Bits of a request word that are the model's, not the caller's.
_MODELS = 0xF0000000


def explain(
    trace: Trace | str,
    event: str | int,
    design: str | Design = "linux",
    *,
    memory: str | int | None = None,
    classifier: str = "rfc",
    kernel: str | None = None,
    relief: Relief | None = None,
    seed: int = 0,
    nodes: int | str = "recorded",
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """The state around one operation of a replay, and why it went so.

    Parameters
    ----------
    event : the operation's number, or what it is the first or the K-th of: ``failure``, ``failure:K``, and
        likewise the other words of `asi_pa.experiment.moment`
    memory : as of ``compile_trace``; None: the recorded zone Normal
    relief : None: as `asi-pa compare` has it: the recorded machine's file pages, and compaction
    seed : draws the machine, and what is reclaimed first
    nodes : of the machine: how many, or the CPUs of each
    progress : called with (what, done, of)

    Returns a dict of plain data (JSON): docs/use/explain.md.  Raises ValueError for an event that does not
    come, and for whatever cannot be.
    """
    return explained(
        Scene.of(trace, design, memory, classifier, kernel, relief, seed, nodes=nodes), event, progress
    )


def explained(
    scene: Scene, event: str | int, progress: Callable[[str, int, int], None] | None = None
) -> dict[str, Any]:
    """`explain`, of a replay that is made already."""
    compiled, number = scene.compiled, scene.operation(event, progress)
    run = scene.at(number)
    about = {
        "schema": SCHEMA,
        "asi_pa": __version__,
        "trace": compiled.name,
        "memory_bytes": compiled.memory_bytes,
        "design": scene.design.name,
        "kernel": scene.kernel or compiled.kernel,
        "classifier": compiled.classifier,
        "relief": scene.relief.words(),
        "seed": scene.seed,
        "event": str(event),
        "operation": number,
        "operations": len(compiled.ops),
        "time_ns": _time(compiled, number),
    }
    return about | _around(run, compiled, number)


def _time(compiled: CompiledTrace, operation: int) -> int:
    """Trace time at the operation, from the trace's start, as far as it is known (every 1024th)."""
    stamps = compiled.time_ns
    if not len(stamps):
        return 0
    return int(stamps[min(operation // STAMP_EVERY, len(stamps) - 1)] - stamps[0])


# ---------------------------------------------------------------- before, and after


def _zone_names(machine: Machine) -> list[str]:
    zones = machine.spec.zones
    several = len({zone.nid for zone in zones}) > 1
    return [f"{zone.name} of node {zone.nid}" if several else zone.name for zone in zones]


class _Seen:
    """The zones of a machine at one moment."""

    def __init__(self, machine: Machine) -> None:
        self.shapes = [
            DumpShape(
                start_pfn=zone.start_pfn,
                spanned=zone.spanned,
                pageblock_order=machine.spec.pageblock_order,
                max_page_order=machine.spec.max_page_order,
                cpus=machine.spec.cpus,
                design=machine.design,
            )
            for zone in machine.spec.zones
        ]
        self.states = [take_apart(machine.dump(i), shape) for i, shape in enumerate(self.shapes)]
        self.names = _zone_names(machine)

    def zone_of(self, pfn: int) -> int:
        """The zone that a pfn lies in."""
        inside = (s.start_pfn <= pfn < s.start_pfn + s.spanned for s in self.shapes)
        return next(i for i, yes in enumerate(inside) if yes)

    def place(self, pfn: int) -> str:
        """Where a frame is, in words."""
        number = self.zone_of(pfn)
        shape, state = self.shapes[number], self.states[number]
        frame = pfn - shape.start_pfn
        zone = f"zone {self.names[number]}, " if len(self.names) > 1 else ""
        return f"{zone}{_place(state, shape, frame)}; its pageblock is {_block(state, shape, frame)}"


def _place(state: ZoneState, shape: DumpShape, frame: int) -> str:
    def found(frames: Any, order: int) -> int | None:
        inside = np.flatnonzero((frames <= frame) & (frame < frames + (1 << order)))
        return int(inside[0]) if len(inside) else None

    for order, row in enumerate(state.lists):
        for number, frames in enumerate(row):
            if (at := found(frames, order)) is not None:
                name = shape.design.freetypes[number].name
                return f"free, order {order}, {name} list, {at + 1} of {len(frames)} from its head"
    for cpu, its in enumerate(state.cpus):
        for k, frames in enumerate(its.lists):
            if (at := found(frames, shape.pcp_orders[k])) is not None:
                return f"on CPU {cpu}'s list of {pcp_list_name(shape, k)}, {at + 1} of {len(frames)}"
    for order, frames in enumerate(state.pool):
        if found(frames, order) is not None:
            return f"in the pool, order {order}"
    for start, order in state.queue.tolist():
        if start <= frame < start + (1 << order):
            return f"in the free queue, order {order}"
    return "allocated"


def _block(state: ZoneState, shape: DumpShape, frame: int) -> str:
    block = shape.block_of(frame)
    name = shape.design.freetypes[int(state.blocks[block])].name
    if state.mapped is None:
        return name
    return f"{name}, {'mapped' if state.mapped[block] else 'unmapped'}"


def _zone(before: _Seen, after: _Seen, number: int, cpu: int) -> dict[str, Any]:
    """What a zone held, before and after: pages of lists by order, and pageblocks."""
    one, other, shape = before.states[number], after.states[number], before.shapes[number]

    def free(state: ZoneState) -> dict[str, list[int]]:
        return {
            freetype.name: [len(row[k]) for row in state.lists]
            for k, freetype in enumerate(shape.design.freetypes)
        }

    def pcp(state: ZoneState) -> dict[str, int]:
        if cpu >= len(state.cpus):
            return {}
        return {pcp_list_name(shape, k): len(frames) for k, frames in enumerate(state.cpus[cpu].lists)}

    def blocks(state: ZoneState) -> dict[str, int]:
        found: dict[str, int] = {}
        for block, kind in enumerate(state.blocks.tolist()):
            name = shape.design.freetypes[kind].name
            if state.mapped is not None:
                name += " mapped" if state.mapped[block] else " unmapped"
            found[name] = found.get(name, 0) + 1
        return dict(sorted(found.items()))

    def both(of: Callable[[ZoneState], Any]) -> dict[str, Any]:
        return {"before": of(one), "after": of(other)}

    return {
        "zone": before.names[number],
        "number": number,
        "free_blocks": both(free),
        "pcp": both(pcp),
        "pcp_fields": both(lambda state: state.cpus[cpu].fields if cpu < len(state.cpus) else {}),
        "pool": both(lambda state: [len(frames) for frames in state.pool]),
        "queue": both(lambda state: len(state.queue)),
        "pageblocks": both(blocks),
    }


def _around(run: Replay, compiled: CompiledTrace, number: int) -> dict[str, Any]:
    """Runs the operation and says what there was, what it asked for, and what came of it."""
    machine, op = run.machine, compiled.ops[number]
    kind, order, cpu, slot = Op(op["op"]), int(op["order"]), int(op["cpu"]), int(op["slot"])
    asks = kind in _REQUESTS
    gfp = int(compiled.classes[int(op["cls"])]) if asks else 0
    before, stats = _Seen(machine), machine.stats()
    flushed, replayed = flushes(machine), run.fallbacks()
    held = run.held(slot) if kind in (Op.OP_FREE, Op.OP_SPLIT) else -1
    asked = _request(machine, order, gfp, cpu) if asks else None
    failures = run.failures
    run.run_and_see(compiled.ops, number, number + 1)
    after, now = _Seen(machine), machine.stats()
    pfn = run.held(slot) if asks else held
    causes = [key for key, cause in CAUSES.items() if now[cause.counter] > stats[cause.counter]]
    zones = asked["zones"] if asked else [before.zone_of(pfn)] if pfn >= 0 else []
    return {
        "what": kind.name.removeprefix("OP_"),
        "order": order,
        "cpu": cpu,
        "slot": slot,
        "request": asked,
        "pfn": pfn,
        "failed": run.failures > failures,
        "cause": causes[0] if causes else None,
        "was": before.place(pfn) if pfn >= 0 else None,
        "is": after.place(pfn) if pfn >= 0 else None,
        "counters": {key: value - stats[key] for key, value in now.items() if value != stats[key]},
        "flushes": flushes(machine) - flushed,
        "caller_fell_back": run.fallbacks()[2] - replayed[2],
        "fallbacks": [_fallback(row, machine.design) for row in run.extfrags],
        "zones": [_zone(before, after, zone, cpu) for zone in zones],
        "freetypes": [{"name": ft.name, "mapped": ft.mapped} for ft in machine.design.freetypes],
        "pageblock_order": machine.spec.pageblock_order,
    }


def _request(machine: Machine, order: int, gfp: int, cpu: int) -> dict[str, Any]:
    """What is asked for, and each zone's watermarks before."""
    asked = look.request(machine, order, gfp, cpu)
    caller, names = caller_of(gfp, order), _zone_names(machine)
    marks = [
        {
            "zone": names[zone],
            "fast": look.watermark(machine, zone, order, gfp, cpu),
            "slow": look.watermark(machine, zone, order, gfp, cpu, slow=True),
        }
        for zone in asked["zones"]
    ]
    return asked | {
        "gfp": gfp & ~_MODELS,
        "gfp_words": describe_gfp(gfp & ~_MODELS),
        "lru": bool(gfp & MODEL_LRU),
        "freetype": machine.design.freetypes[asked["freetype"]].name,
        "caller": caller.name if caller is not None else None,
        "group": group_of(gfp, order),
        "watermarks": marks,
    }


def _fallback(row: Sequence[int], design: Design) -> dict[str, Any]:
    """An entry of the engine's log of fallbacks (trace_mm_page_alloc_extfrag)."""
    _, order, fallback_order, freetype, other = row
    names = [ft.name for ft in design.freetypes]
    return {
        "order": order,
        "fallback_order": fallback_order,
        "freetype": names[freetype],
        "from": names[other],
    }
