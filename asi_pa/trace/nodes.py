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

from asi_pa.kernel.numa import Nodes
from asi_pa.kernel.sizing import derive
from asi_pa.kernel.spec import MachineSpec, ZoneSpec
from asi_pa.trace.format import Trace
from asi_pa.trace.initial import Population

__all__ = ["boundaries", "check_nodes", "divided"]

#: FAKE_NODE_MIN_SIZE, mm/numa_emulation.c: less is no node.
_LEAST = 8192
Made = tuple[MachineSpec, tuple[Population, ...]]


def check_nodes(trace: Trace, nodes: Nodes) -> None:
    """Raises ValueError, naming the trace, where its CPUs are not those of the nodes."""
    try:
        nodes.of_cpus(trace.cpus)
    except ValueError as error:
        raise ValueError(f"{trace.label}: {error}") from None


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
