"""Small traces written by hand, for the tests of asi_pa.trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asi_pa.kernel.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NAMES
from asi_pa.trace import Trace

KIND = {"alloc": 0, "free": 1, "free_batched": 2, "zone_locked": 3, "pcpu_drain": 4, "extfrag": 5}
GFPS = (GFP_KERNEL, GFP_HIGHUSER_MOVABLE)
FAILED = 0xFFFFFFFF


def make_trace(events: Sequence[tuple[Any, ...]], **fields: Any) -> Trace:
    """Events are (kind, pfn, order), perhaps with (gfp index, comm index, cpu, time_ns, migratetype)."""
    defaults = (0, 0, 0, None, -1)
    rows = [(*event, *defaults[len(event) - 3 :]) for event in events]
    times = [1000 * i if row[6] is None else row[6] for i, row in enumerate(rows)]
    return Trace(
        **{
            "name": "made",
            "time_ns": np.array(times, np.uint64),
            "kind": np.array([KIND[row[0]] for row in rows], np.uint8),
            "pfn": np.array([row[1] for row in rows], np.uint32),
            "order": np.array([row[2] for row in rows], np.uint8),
            "gfp": np.array([row[3] for row in rows], np.uint16),
            "comm": np.array([row[4] for row in rows], np.uint16),
            "cpu": np.array([row[5] for row in rows], np.uint8),
            "migratetype": np.array([row[7] for row in rows], np.int8),
            "gfps": GFPS,
            "comms": ("one", "two"),
            "gfp_names": dict(GFP_NAMES),
            "migratetypes": ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "Isolate"),
            "kernel": "Linux 6.18",
            "cpus": 2,
            **fields,
        }
    )
