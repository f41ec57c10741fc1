"""Every number of a comparison, an entry each: what it is called, what it means, and how it is measured.

``METRICS`` is the table, a file here for each kind of number.  ``key`` of an entry is its path in a result's
``metrics``; the JSON schema, the tables, the page, docs/use/metrics.md (``make docs``), the allocator's
``Statistics`` and the tests' made-up result are all made from it.  To add a metric from a counter of the
engine, add an entry with ``measure=Counter("name_in_stats_t")`` in the file of its kind; nothing else has to
change.  What a measuring function may look at is ``asi_pa.experiment.measured.Measured``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from asi_pa.experiment.measured import Measured
from asi_pa.experiment.metrics.causes import CAUSES, FAILURE_GROUPS, WAYS_OUT, Cause
from asi_pa.experiment.metrics.entry import Better, Counter, Metric, Number
from asi_pa.experiment.metrics.failures import FAILURES
from asi_pa.experiment.metrics.flushes import FLUSHES
from asi_pa.experiment.metrics.fragmentation import FRAGMENTATION
from asi_pa.experiment.metrics.groups import GROUPS, Group
from asi_pa.experiment.metrics.kinds import KINDS
from asi_pa.experiment.metrics.nodes import NODES
from asi_pa.experiment.metrics.physmap import PHYSMAP
from asi_pa.experiment.metrics.pool import POOL
from asi_pa.experiment.metrics.relief import RELIEF
from asi_pa.experiment.metrics.shares import leaf_share_2m, tlb_flushes
from asi_pa.experiment.metrics.speed import SPEED
from asi_pa.experiment.metrics.types import TYPES
from asi_pa.experiment.metrics.work import WORK

__all__ = [
    "CAUSES",
    "FAILURE_GROUPS",
    "GROUPS",
    "METRICS",
    "ROWS",
    "TYPES",
    "WAYS_OUT",
    "Better",
    "Cause",
    "Counter",
    "Group",
    "Metric",
    "Number",
    "leaf_share_2m",
    "measure",
    "metric",
    "tlb_flushes",
]

METRICS: tuple[Metric, ...] = (
    *WORK,
    *FAILURES,
    *RELIEF,
    *KINDS,
    *PHYSMAP,
    *FLUSHES,
    *FRAGMENTATION,
    *NODES,
    *POOL,
    *SPEED,
)

#: The rows of the tables.
ROWS = tuple(entry for entry in METRICS if entry.label)


def metric(key: str) -> Metric:
    """The entry of a key.  Raises KeyError, naming it, if there is none."""
    for entry in METRICS:
        if entry.key == key:
            return entry
    raise KeyError(f"no metric {key!r}")


def measure(measured: Measured, keys: Collection[str] = ()) -> dict[str, Any]:
    """All of them after a replay, or only some: the ``metrics`` of a result."""
    there = measured.nodes > 1
    return {
        m.key: m.measure(measured)
        for m in METRICS
        if m.measure and (not keys or m.key in keys) and (there or m.group != "nodes")
    }
