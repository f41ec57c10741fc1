"""Nodes: which one a CPU belongs to, and the order in which the others help out.

Source: mm/page_alloc.c build_zonelists, find_next_best_node, node_order (Linux 7.2); distances as in the
ACPI SLIT, 10 for a node itself, 20 for any other unless told otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from asi_pa.kernel.spec import MachineSpec

__all__ = [
    "LOCAL_DISTANCE",
    "MAX_NODES",
    "ONE_NODE",
    "RECORDED",
    "REMOTE_DISTANCE",
    "Nodes",
    "as_nodes",
    "cpu_nodes",
    "cpulist",
    "fallback_order",
]

LOCAL_DISTANCE = 10
REMOTE_DISTANCE = 20
#: The engine's limit.
MAX_NODES = 8

_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class Nodes:
    """How many nodes a machine is to have, and whose CPUs are whose."""

    words: str
    """As it was written: ``2``, or the CPUs of each node, ``0-3/4-7``; ``recorded``."""
    count: int
    """0: as many as were recorded."""
    cpus: tuple[tuple[int, ...], ...] = ()
    """Of each node, as /sys/devices/system/node/node*/cpulist has them; empty: evenly spread."""

    def of_cpus(self, cpus: int) -> tuple[int, ...]:
        """The node of each of so many CPUs.  Raises ValueError where they are fewer, or others."""
        if not self.cpus:
            if self.count > cpus:
                have = "1 CPU" if cpus == 1 else f"{cpus} CPUs"
                lone = "/".join(["0" if cpus == 1 else f"0-{cpus - 1}", *[""] * (self.count - 1)])
                raise ValueError(
                    f"nodes {self.words}: the machine has {have}, and the CPU of a request says its node "
                    f"({lone} makes nodes without CPUs)"
                )
            each, rest = divmod(cpus, self.count)
            return tuple(nid for nid in range(self.count) for _ in range(each + (nid < rest)))
        found = {cpu: nid for nid, row in enumerate(self.cpus) for cpu in row}
        for cpu in range(cpus):
            if cpu not in found:
                raise ValueError(f"nodes {self.words}: CPU {cpu} is on none of them")
        if len(found) > cpus:
            raise ValueError(f"nodes {self.words}: CPU {max(found)}, but the machine has {cpus} CPUs")
        return tuple(found[cpu] for cpu in range(cpus))


ONE_NODE = Nodes("1", 1)
#: The nodes of the recorded machine, one for most.
RECORDED = Nodes("recorded", 0)


def as_nodes(given: Nodes | int | str) -> Nodes:
    """``2``, ``"2"``, ``"recorded"``, or the CPUs of each node, ``"0-3/4-7"``; ``"0-7/"``: one without CPUs.

    Raises ValueError for anything else, and for more nodes than the engine has room for.
    """
    if isinstance(given, Nodes):
        return given
    words = str(given).replace(" ", "")
    if words == RECORDED.words:
        return RECORDED
    if words.isdecimal():
        made = Nodes(words, int(words))
    elif "/" in words:
        rows = tuple(_cpus(row, words) for row in words.split("/"))
        every = [cpu for row in rows for cpu in row]
        if not every or len(set(every)) < len(every):
            raise ValueError(f"nodes {words}: {'a CPU is on two of them' if every else 'no CPU'}")
        made = Nodes(words, len(rows), rows)
    else:
        raise ValueError(
            f"nodes {words!r}: how many, the CPUs of each with / between such as 0-3/4-7, or recorded"
        )
    if not 1 <= made.count <= MAX_NODES:
        raise ValueError(f"nodes {words}: a machine has 1 to {MAX_NODES}")
    return made


def _cpus(text: str, words: str) -> tuple[int, ...]:
    """The CPUs of a list such as ``0-3,8``, the form of cpulist_parse() (lib/bitmap-str.c)."""
    found: list[int] = []
    for part in text.split(",") if text else ():
        match = _RANGE.fullmatch(part)
        first, last = (0, -1) if match is None else (int(match[1]), int(match[2] or match[1]))
        if not first <= last < 4096:
            raise ValueError(f"nodes {words}: {part!r} is no range of CPUs, such as 0-3")
        found.extend(range(first, last + 1))
    return tuple(found)


def cpulist(cpus: Sequence[int]) -> str:
    """CPUs in ascending order as the kernel lists them: ``0-3,8``."""
    parts: list[list[int]] = []
    for cpu in cpus:
        if parts and parts[-1][-1] == cpu - 1:
            parts[-1][1:] = [cpu]
        else:
            parts.append([cpu])
    return ",".join("-".join(map(str, part)) for part in parts)


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
