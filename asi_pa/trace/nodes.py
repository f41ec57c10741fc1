"""A start state of several nodes: memory divided by address, CPUs by node.

A trace's frame numbers say on which node memory is, its CPUs on which a request is made.  A machine that was
recorded with several nodes keeps its own (`own_nodes`); one of a single node is divided as the kernel's NUMA
emulation does it with ``numa=fake=N`` (mm/numa_emulation.c split_nodes_interleave, 7.2): in address order, an
equal share of memory each, holes not counted.  Boundaries are multiples of 2^max_page_order frames here, of
32 MiB there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.kernel.numa import ONE_NODE, Nodes, cpulist
from asi_pa.kernel.sizing import derive
from asi_pa.kernel.spec import MachineSpec, ZoneSpec
from asi_pa.trace.events import ALLOC
from asi_pa.trace.format import Trace
from asi_pa.trace.frames import recorded_zones
from asi_pa.trace.initial import Population
from asi_pa.trace.resize import Base

__all__ = ["boundaries", "cpus_by_pfn", "divided", "joined", "of_trace", "recorded_nodes", "shares"]

#: FAKE_NODE_MIN_SIZE, mm/numa_emulation.c: less is no node.
_LEAST = 8192
Made = tuple[MachineSpec, tuple[Population, ...]]


def recorded_nodes(trace: Trace) -> list[int]:
    """The nodes with memory that the snapshot of the start shows, ascending; [0] without one.

    Raises ValueError for numbers with a gap, which are not modelled.
    """
    nids = sorted({int(zone.get("nid", 0)) for zone in recorded_zones(trace)}) or [0]
    if nids != list(range(len(nids))):
        raise ValueError(f"{trace.label}: recorded on nodes {', '.join(map(str, nids))}: not modelled")
    return nids


def of_trace(trace: Trace, asked: Nodes) -> Nodes:
    """The nodes of a trace's machines, as many as were recorded or as were asked for.

    On the nodes that were recorded a CPU is where most pages of its requests came from, unless told
    otherwise.  Raises ValueError, naming the trace, where its CPUs or its own nodes are others.
    """
    own = len(recorded_nodes(trace))
    if asked.count and own > 1 and asked.count != own:
        raise ValueError(f"{trace.label}: nodes {asked.words}: recorded on {own}, and replayed on these")
    if own > 1 and not asked.cpus:
        of_cpus = cpus_by_pfn(trace)
        rows = [tuple(cpu for cpu, its in enumerate(of_cpus) if its == nid) for nid in range(own)]
        asked = Nodes("/".join(map(cpulist, rows)), own, tuple(rows))
    elif not asked.count:
        asked = ONE_NODE
    try:
        asked.of_cpus(trace.cpus)
    except ValueError as error:
        raise ValueError(f"{trace.label}: {error}") from None
    return asked


def cpus_by_pfn(trace: Trace) -> list[int]:
    """The node of each CPU, which served most of its requests; one without any is where the one before is."""
    zones = recorded_zones(trace)
    asked = trace.kind == ALLOC
    pfn, cpu = trace.pfn[asked], trace.cpu[asked]
    counts = np.zeros((trace.cpus, max(int(zone.get("nid", 0)) for zone in zones) + 1), np.int64)
    for zone in zones:
        inside = (pfn >= zone["start_pfn"]) & (pfn < zone["start_pfn"] + zone["spanned"])
        counts[:, int(zone.get("nid", 0))] += np.bincount(cpu[inside], minlength=trace.cpus)[: trace.cpus]
    found: list[int] = []
    for row in counts:
        found.append(int(row.argmax()) if row.any() else found[-1] if found else 0)
    return found


def shares(trace: Trace, bases: Sequence[Base], pages: int | None) -> list[int | None]:
    """How much of ``pages`` each recorded node gets, in proportion to what it had; None: what it had."""
    if pages is None:
        return [None] * len(bases)
    had = [base.found[0][1].managed for base in bases]
    if pages > sum(had):
        raise ValueError(f"{trace.label}: {pages >> 8} MiB are more than its nodes had, {sum(had) >> 8} MiB")
    size = 1 << trace.max_page_order
    parts = [pages * each // sum(had) // size * size for each in had[:-1]]
    return [*parts, min(pages - sum(parts), had[-1])]


def joined(
    parts: Sequence[tuple[MachineSpec, tuple[Population, ...], int, dict[str, Any]]],
    nodes: Nodes,
    kernel: str,
    derives: bool,
) -> tuple[MachineSpec, tuple[Population, ...], dict[str, Any]]:
    """One machine of nodes that were made one by one; ``derives``: its limits are those of a kernel."""
    zones = tuple(replace(made.zones[0], nid=nid) for nid, (made, *_) in enumerate(parts))
    machine = replace(parts[0][0], zones=zones, cpu_nodes=nodes.of_cpus(parts[0][0].cpus))
    notes = {f"node {nid}": note for nid, (*_, note) in enumerate(parts)}
    evicted = sum(note.get("evicted", 0) for *_, note in parts)
    population = tuple(zone for _, of, *_ in parts for zone in of)
    return derive(machine, kernel=kernel) if derives else machine, population, notes | {"evicted": evicted}


def divided(machine: MachineSpec, populations: Sequence[Population], nodes: Nodes, kernel: str) -> Made:
    """The same memory on several nodes: zones cut at `boundaries`, each part with what lies in it.

    Watermarks, reserves and the limits of per-CPU lists are what a kernel computes for such a machine.
    Raises ValueError for too little memory a node and for CPUs that do not fit.
    """
    of_cpus = nodes.of_cpus(machine.cpus)
    edges = boundaries(machine, nodes.count)
    zones, parts = [], []
    for spec, population in zip(machine.zones, populations, strict=True):
        inside = [edge for edge in edges if spec.start_pfn < edge < spec.end_pfn]
        for start, end in zip([spec.start_pfn, *inside], [*inside, spec.end_pfn], strict=True):
            nid = sum(edge <= start for edge in edges)
            part = _zone_part(spec, nid, start, end)
            if part.managed:
                zones.append(part)
                parts.append(_population_part(population, part, machine.pageblock_order))
    order = sorted(range(len(zones)), key=lambda k: (zones[k].nid, -zones[k].zone_idx))
    whole = replace(machine, zones=tuple(zones[k] for k in order), cpu_nodes=of_cpus)
    return derive(whole, kernel=kernel), tuple(parts[k] for k in order)


def boundaries(machine: MachineSpec, count: int) -> list[int]:
    """The pfns at which nodes 1, 2, ... of ``count`` begin.  Raises ValueError for too little memory."""
    edges = _managed_runs(machine.zones)
    total, size = sum(end - start for start, end in edges), 1 << machine.max_page_order
    if total < count * _LEAST:
        raise ValueError(f"nodes {count}: {total >> 8} MiB of memory, a node has 32 MiB at least")
    found = []
    for k in range(1, count):
        share = total * k // count
        for start, end in edges:
            if share < end - start:
                found.append((start + share + size // 2) // size * size)
                break
            share -= end - start
    return found


def _managed_runs(zones: Sequence[ZoneSpec]) -> list[tuple[int, int]]:
    """Ranges of pfns that are no holes, ascending."""
    found = []
    for zone in sorted(zones, key=lambda zone: zone.start_pfn):
        ends = [zone.start_pfn, *(edge for hole in sorted(zone.holes) for edge in hole), zone.end_pfn]
        found += [(a, b) for a, b in zip(ends[::2], ends[1::2], strict=True) if b > a]
    return found


def _zone_part(spec: ZoneSpec, nid: int, start: int, end: int) -> ZoneSpec:
    holes = tuple(_within(spec.holes, start, end))
    managed = end - start - sum(b - a for a, b in holes)
    whole = (start, end) == (spec.start_pfn, spec.end_pfn)
    return replace(
        spec,
        nid=nid,
        start_pfn=start,
        spanned=end - start,
        holes=holes,
        managed=managed,
        present=spec.present if whole else None,
        cma=tuple(_within(spec.cma, start, end)),
        pcp_cpus=(),
    )


def _within(ranges: Sequence[tuple[int, int]], start: int, end: int) -> Iterator[tuple[int, int]]:
    for a, b in ranges:
        if max(a, start) < min(b, end):
            yield max(a, start), min(b, end)


def _population_part(whole: Population, zone: ZoneSpec, pageblock_order: int) -> Population:
    """What of a zone's start state lies in a part of the zone; lists keep their order."""
    start, end = zone.start_pfn, zone.end_pfn

    def rows(pfn: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        return (pfn >= start) & (pfn < end)

    free, held, pcp = rows(whole.free_pfn), rows(whole.held_pfn), rows(whole.pcp_pfn)
    base, last = whole.start_pfn >> pageblock_order, (end - 1) >> pageblock_order
    return replace(
        whole,
        start_pfn=start,
        spanned=end - start,
        holes=zone.holes,
        block_mt=whole.block_mt[(start >> pageblock_order) - base : last - base + 1],
        free_pfn=whole.free_pfn[free],
        free_order=whole.free_order[free],
        held_pfn=whole.held_pfn[held],
        held_order=whole.held_order[held],
        held_cls=whole.held_cls[held],
        held_slot=whole.held_slot[held],
        held_file=whole.held_file[held],
        pcp_pfn=whole.pcp_pfn[pcp],
        pcp_order=whole.pcp_order[pcp],
        pcp_mt=whole.pcp_mt[pcp],
        pcp_cpu=whole.pcp_cpu[pcp],
    )
