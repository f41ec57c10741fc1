"""Values of metrics design by design: which a table shows, which compete, which is best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from asi_pa.designs import REFERENCE
from asi_pa.experiment.metrics import METRICS, Metric, Number

__all__ = [
    "as_posted",
    "best",
    "breaches",
    "competes",
    "is_breach",
    "protects",
    "run_name",
    "shown",
    "value_of",
]


def value_of(metric: Metric, metrics: Mapping[str, Any]) -> Number | None:
    """The row's value for one design, None where the design has none."""
    node: Any = metrics
    for part in metric.key.split("."):
        if isinstance(node, Mapping):
            node = node.get(part)
        elif isinstance(node, Sequence) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            return None
    return node if isinstance(node, (int, float)) else None


def protects(design: Mapping[str, Any]) -> bool:
    """Whether a design (an entry of ``runs[].designs``) protects anything at all."""
    if "protects" in design:
        return bool(design["protects"])
    return design["design"] != REFERENCE and design["metrics"]["leaked_pages"] is not None


def breaches(design: Mapping[str, Any]) -> bool:
    """Whether a design broke its promise: pages leaked, mapped uncleared or handed out before the flush.

    In the direct-map designs a page that is absent from its owner is one, too: an oops.
    """
    metrics = design["metrics"]
    oops = design.get("tree") == "unrestricted" and metrics.get("absent_pages")
    return bool(oops or any(metrics.get(entry.key) for entry in METRICS if entry.breach))


def is_breach(metric: Metric, design: Mapping[str, Any]) -> bool:
    """Whether this row is where a design broke its promise."""
    oops = metric.key == "absent_pages" and design.get("tree") == "unrestricted"
    return (metric.breach or oops) and bool(design["metrics"].get(metric.key))


def as_posted(design: Mapping[str, Any]) -> bool:
    """Whether a design keeps the holes that it was posted with, also where a run meets none of them."""
    return bool(design.get("as_posted"))


def shown(metric: Metric, design: Mapping[str, Any]) -> Number | None:
    """A row's value for a design; None where the row is about protection and the design has none.

    Broken promises are the exception: a design that protects nothing breaks none, and the 0
    (or the missing number) is shown as it is.
    """
    if metric.asi and not protects(design) and not metric.breach:
        return None
    return value_of(metric, design["metrics"])


def competes(metric: Metric, design: Mapping[str, Any]) -> bool:
    """Whether a design can be the best of a row: in rows of protection costs only sound ones can."""
    if not metric.asi:
        return True
    return protects(design) and not breaches(design) and not as_posted(design)


def best(metric: Metric, designs: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Names of the designs that are best in a row; empty when nobody stands out."""
    values = {
        d["design"]: v
        for d in designs
        if competes(metric, d) and (v := value_of(metric, d["metrics"])) is not None
    }
    if not metric.better or len(values) < 2 or len(set(values.values())) == 1:
        return frozenset()
    top = (min if metric.better == "low" else max)(values.values())
    return frozenset(name for name, value in values.items() if value == top)


def run_name(run: Mapping[str, Any]) -> str:
    """``redis/short``: how claims and tables name a run."""
    return f"{run['trace']}/{run['memory']}"
