"""Machines of several nodes: which node served a request."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from asi_pa.experiment.measured import Measured
from asi_pa.experiment.metrics.entry import Better, Metric

__all__ = ["NODES"]


def _node_metrics() -> Iterator[Metric]:
    """Sums over the nodes; there are as many foreign requests as missed ones."""
    says: dict[str, tuple[str, Better, str]] = {
        "numa_hit": ("on the preferred node", "", "Requests served by the node that they prefer."),
        "numa_miss": ("on another node", "low", "Requests served by another node than the preferred one."),
        "numa_local": ("on the CPU's node", "", "Requests served by the node of the CPU that asked."),
        "numa_other": ("on another CPU's node", "low", "Requests served by a node that the CPU is not on."),
    }
    for key, (label, better, sentence) in says.items():
        yield Metric(
            key,
            "count",
            "count",
            "nodes",
            label,
            better,
            sentence,
            source="`zone_statistics()`, mm/page_alloc.c",
            measure=partial(Measured.numa, key=key),
            screen=key in ("numa_hit", "numa_miss"),
            optional=True,
        )


NODES: tuple[Metric, ...] = (*_node_metrics(),)
