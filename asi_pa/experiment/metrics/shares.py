"""Numbers made of a result's metrics, for whoever has a result and no machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["leaf_share_2m", "tlb_flushes"]


def leaf_share_2m(metrics: Mapping[str, Any]) -> float | None:
    """Share (0..1) of the restricted physmap's mapped kB that sits in leaves of 2M or larger.

    None where the design has no restricted physmap or nothing is mapped in it.
    """
    restricted = (metrics.get("direct_map_kb") or {}).get("restricted")
    if not restricted:
        return None
    total = sum(restricted.values())
    return (total - restricted["4k"]) / total if total else None


def tlb_flushes(metrics: Mapping[str, Any]) -> int | None:
    """Ranged and full flushes together."""
    ranged, full = metrics.get("tlb_flushes_ranged"), metrics.get("tlb_flushes_full")
    return None if ranged is None or full is None else ranged + full
