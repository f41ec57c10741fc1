"""A trace as a machine of two nodes would have recorded it: made with the model, start state and pfns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.engine.machine import Machine
from asi_pa.kernel.gfp import MODEL_LRU
from asi_pa.kernel.procfs import BuddyZone, buddyinfo
from asi_pa.run.replay import Replay
from asi_pa.trace import CompiledTrace, Trace, compile_trace, load_trace
from asi_pa.trace.blocks import frames_of
from asi_pa.trace.events import ALLOC, FREE
from asi_pa.trace.ops import Op

__all__ = ["two_node_trace"]


def two_node_trace(cpus: str = "1/0", operations: int = 60_000) -> Trace:
    """The beginning of redis, of which 1 GiB was on two nodes with those CPUs."""
    compiled = compile_trace(load_trace("redis"), memory="1G", nodes=cpus)
    machine = Machine(compiled.machine, "linux", compiled.kernel, boot=False)
    run = Replay(machine, compiled.classes, compiled.nslots)
    for zone, population in enumerate(compiled.population):
        run.populate(zone, population)
    events = _events(compiled, run, operations)
    base = load_trace("redis")
    n = len(events["pfn"])
    columns: dict[str, Any] = {
        "time_ns": np.arange(n, dtype=np.uint64) * 1000,
        "comm": np.zeros(n, np.uint8),
        "migratetype": np.zeros(n, np.int8),
        **events,
    }
    assert set(columns) == {"time_ns", "cpu", "kind", "pfn", "order", "gfp", "comm", "migratetype"}
    return replace(
        base,
        name="two-nodes",
        **{name: column.astype(getattr(base, name).dtype) for name, column in columns.items()},
        ext=base.ext[:0],
        gfps=tuple(int(word) & 0x3FFFFFF for word in compiled.classes),
        snapshots={
            "zones_start": [_record(compiled, k) for k in range(len(compiled.machine.zones))],
            "buddyinfo_start": {"text": buddyinfo(_lists(compiled))},
        },
        kpageflags={"start": _flags(compiled)},
        provenance={},
    )


def _events(compiled: CompiledTrace, run: Replay, operations: int) -> dict[str, npt.NDArray[Any]]:
    rows = []
    for number, op in enumerate(compiled.ops[:operations]):
        kind, slot = int(op["op"]), int(op["slot"])
        if kind == Op.OP_SPLIT:
            break  # who frees the parts would not be known
        held = run.held(slot) if kind == Op.OP_FREE else -1
        run.run(compiled.ops, number, number + 1)
        if kind == Op.OP_ALLOC and (held := run.held(slot)) >= 0:
            rows.append((ALLOC, held, op["order"], op["cpu"], op["cls"]))
        elif kind == Op.OP_FREE and held >= 0:
            rows.append((FREE, held, op["order"], op["cpu"], 0))
    names = ("kind", "pfn", "order", "cpu", "gfp")
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def _record(compiled: CompiledTrace, number: int) -> dict[str, Any]:
    zone, population = compiled.machine.zones[number], compiled.population[number]
    assert zone.pcp is not None
    counts = np.bincount(population.pcp_cpu, 1 << population.pcp_order.astype(np.int64), 2).astype(int)
    limits = {"batch": zone.pcp.batch, "high_min": zone.pcp.high_min, "high_max": zone.pcp.high_max}
    return {
        "name": zone.name, "nid": zone.nid, "start_pfn": zone.start_pfn, "spanned": zone.spanned,
        "present": zone.spanned, "managed": zone.managed, "free": population.free_pages,
        "min": zone.wmark[0], "low": zone.wmark[1], "high": zone.wmark[2], "promo": zone.wmark[3],
        "cpus": [limits | {"count": int(count), "high": zone.pcp.high_min} for count in counts],
    }  # fmt: skip


def _lists(compiled: CompiledTrace) -> list[BuddyZone]:
    return [
        BuddyZone(nid=spec.nid, name=spec.name, free=tuple(np.bincount(zone.free_order, minlength=11)))
        for spec, zone in zip(compiled.machine.zones, compiled.population, strict=True)
    ]


def _flags(compiled: CompiledTrace) -> npt.NDArray[np.uint8]:
    """Bits of `KPF_BITS`: 1 free, 2 on the LRU, 4 anonymous, 16 and 32 head and tail."""
    flags = np.zeros(max(zone.end_pfn for zone in compiled.machine.zones), np.uint8)
    for zone in compiled.population:
        flags[frames_of(zone.free_pfn.astype(np.int64), zone.free_order)] = 1
        lru = (compiled.classes[zone.held_cls] & np.uint32(MODEL_LRU)) != 0
        kinds = np.where(zone.held_file, 2, np.where(lru, 6, 0)).astype(np.uint8)
        sizes = 1 << zone.held_order.astype(np.int64)
        frames = frames_of(zone.held_pfn.astype(np.int64), zone.held_order)
        flags[frames] = np.repeat(kinds | np.where(sizes > 1, 32, 0).astype(np.uint8), sizes)
        heads = zone.held_pfn[sizes > 1]
        flags[heads] = (flags[heads] & 6) | 16
    return flags
