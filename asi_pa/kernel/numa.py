"""Nodes: which one a CPU belongs to, and the order in which the others help out.

Source: mm/page_alloc.c build_zonelists, find_next_best_node, node_order (Linux 7.2); distances as in the
ACPI SLIT, 10 for a node itself, 20 for any other unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

from asi_pa.kernel.spec import MachineSpec

__all__ = ["LOCAL_DISTANCE", "REMOTE_DISTANCE", "cpu_nodes", "fallback_order"]

LOCAL_DISTANCE = 10
REMOTE_DISTANCE = 20


def nodes(spec: MachineSpec) -> list[int]:
    """The node numbers that have zones, ascending."""
    return sorted({zone.nid for zone in spec.zones})


def cpu_nodes(spec: MachineSpec) -> tuple[int, ...]:
    """The node of each CPU: as the machine says, or evenly, the first nodes getting what is left over."""
    nids = nodes(spec)
    if spec.cpu_nodes:
        if len(spec.cpu_nodes) != spec.cpus:
            raise ValueError(
                f"cpu_nodes {spec.cpu_nodes}: {spec.cpus} CPUs, {len(spec.cpu_nodes)} nodes given"
            )
        for nid in spec.cpu_nodes:
            if nid not in nids:
                raise ValueError(f"cpu_nodes {spec.cpu_nodes}: node {nid} has no zone")
        return spec.cpu_nodes
    each, rest = divmod(spec.cpus, len(nids))
    return tuple(nid for k, nid in enumerate(nids) for _ in range(each + (k < rest)))


def fallback_order(spec: MachineSpec) -> dict[int, list[int]]:
    """For every node: all nodes in the order in which its requests try them, itself first.

    The nearest comes first; among equals those with a higher number (so that not every node falls back to
    node 0), then those without CPUs, then those that fewer nodes so far have as their first choice.
    """
    nids = nodes(spec)
    distance = _distances(spec.distances, nids)
    with_cpus = set(cpu_nodes(spec))
    load = dict.fromkeys(nids, 0)
    table = {}
    for here in nids:
        order, last = [here], here
        while len(order) < len(nids):
            best = min(
                (nid for nid in nids if nid not in order),
                key=lambda nid: (
                    distance[here, nid] + (nid < here) + (nid in with_cpus),
                    load[nid],
                    nid,
                ),
            )
            if distance[here, best] != distance[here, last]:
                load[best] += 1
            order.append(best)
            last = best
        table[here] = order
    return table


def _distances(rows: Sequence[Sequence[int]], nids: Sequence[int]) -> dict[tuple[int, int], int]:
    if not rows:
        return {(a, b): LOCAL_DISTANCE if a == b else REMOTE_DISTANCE for a in nids for b in nids}
    if len(rows) != len(nids) or any(len(row) != len(nids) for row in rows):
        raise ValueError(f"distances {rows}: expected {len(nids)} rows of {len(nids)}")
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            if (value == LOCAL_DISTANCE) != (i == j) or not LOCAL_DISTANCE <= value <= 255:
                raise ValueError(
                    f"distance {value} from node {nids[i]} to {nids[j]}: 10 to itself, 11 to 255 to others"
                )
    return {(a, b): rows[i][j] for i, a in enumerate(nids) for j, b in enumerate(nids)}
