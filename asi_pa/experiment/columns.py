"""The columns of a data frame of replays, made from the table of metrics: one row a replay.

`KEYS` say which replay it is; then every number of ``metrics`` (`asi_pa.experiment.metrics.METRICS`) has a
column whose name is its path, dots between the parts: ``failures_by_group.real``, ``unusable_index.9``,
``direct_map_kb.restricted.2m``.  What was measured with a clock is left out: a row is the same on every
machine.  docs/use/metrics.md lists them (``make docs``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from asi_pa.experiment.metrics import METRICS, TYPES, Metric
from asi_pa.tabular import Cell, Column, Kind

__all__ = ["COLUMNS", "KEYS", "METRIC_COLUMNS", "flat_metrics"]

KEYS: tuple[Column, ...] = (
    Column("trace", "text", "The trace's or workload's name."),
    Column("memory", "text", "The size as it was asked for: 768M, ample, 1.05x."),
    Column("memory_bytes", "whole", "Managed memory of the machine.", "bytes"),
    Column("nodes", "text", "Of the machine: how many, or the CPUs of each as they were asked for, 0-3/4-7."),
    Column("design", "text", "The design's name, changed fields included."),
    Column("classifier", "text", "What decided which requests are sensitive."),
    Column("kernel", "text", "The profile of rules."),
    Column("seed", "whole", "Drew the smaller machine, and what is reclaimed first."),
    Column("verify", "text", '"ok", or what is broken in the state at the end.'),
)

#: Orders that "by order" has: 0 to MAX_PAGE_ORDER.
_ORDERS = tuple(str(order) for order in range(11))


def _parts(type_: str) -> list[tuple[str, ...]]:
    """The paths below a value of a type, to the numbers in it."""
    if type_.endswith("by order"):
        return [(order,) for order in _ORDERS]
    if type_ == "kb by tree":
        return [(tree, size) for tree in TYPES[type_]["required"] for size in ("4k", "2m", "1g")]
    return [(name,) for name in TYPES[type_].get("required", ())] or [()]


def _kind(metric: Metric) -> Kind:
    return "number" if metric.type.startswith(("number", "shares")) else "whole"


def _columns() -> Iterator[Column]:
    labels = {metric.key: metric.sentence for metric in METRICS}
    for metric in METRICS:
        if not metric.type or metric.group == "speed":
            continue
        for path in _parts(metric.type):
            name = ".".join((metric.key, *path))
            meaning = labels.get(name) or metric.sentence or metric.definition
            yield Column(name, _kind(metric), meaning, metric.unit)


METRIC_COLUMNS: tuple[Column, ...] = tuple(_columns())
#: All of them, in order.
COLUMNS = KEYS + METRIC_COLUMNS


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if value is None:
            return None
        if isinstance(value, Mapping):
            value = value.get(key)
        else:
            value = value[int(key)] if int(key) < len(value) else None
    return value


def flat_metrics(metrics: Mapping[str, Any]) -> dict[str, Cell]:
    """The ``metrics`` of a result by column; None for what is not there."""
    found: dict[str, Cell] = {}
    for column in METRIC_COLUMNS:
        key, *path = column.name.split(".")
        found[column.name] = _at(metrics.get(key), tuple(path))
    return found
