"""A small trace with a start state: 64 MiB, three quarters of them file pages, and a made-up workload."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from asi_pa.kernel.gfp import GFP_NAMES
from asi_pa.trace import Trace, workload

__all__ = ["small_start"]

PAGES, START = 16384, 0x400000
BUDDY, LRU, SLAB = 1, 2, 8
#: Callers with another way: allocate_slab()'s first try, which does not block, and a movable page.
TRY = sum(GFP_NAMES[name] for name in ("__GFP_KSWAPD_RECLAIM", "__GFP_NORETRY", "__GFP_NOWARN"))
MOVABLE_TRY = TRY | GFP_NAMES["__GFP_HIGHMEM"] | GFP_NAMES["__GFP_MOVABLE"]


def small_start(events: int = 8000) -> Trace:
    """Of every second request of order 3, and of every second movable page, the caller can do without."""
    rng = np.random.default_rng(1)
    flags = np.zeros(START + PAGES, np.uint8)
    zone = flags[START:]
    zone[:] = np.where(rng.random(PAGES) < 0.75, LRU, BUDDY)
    zone.reshape(-1, 1024)[:, :64] = SLAB
    cpu = {"count": 0, "high": 9, "batch": 3, "high_min": 8, "high_max": 80}
    normal = {"name": "Normal", "start_pfn": START, "spanned": PAGES, "managed": PAGES}
    normal |= {"free": int((zone == BUDDY).sum()), "min": 100, "low": 125, "high": 150, "cpus": [cpu, cpu]}
    types = (
        f"Number of blocks type Unmovable Movable Reclaimable\nNode 0, zone   Normal   0   {PAGES >> 9}   0\n"
    )
    whole = workload("bursts", "32M", 3)
    trace = whole.with_events(np.arange(len(whole)) < events)
    second = np.arange(len(trace)) % 4 < 2
    gfp = np.where(second & (trace.order == 3), len(trace.gfps), trace.gfp)
    gfp = np.where(second & (trace.gfp == 0), len(trace.gfps) + 1, gfp)
    return replace(
        trace,
        name="small",
        gfps=(*trace.gfps, TRY, MOVABLE_TRY),
        gfp=np.where(trace.kind == 0, gfp, trace.gfp).astype(np.uint16),
        kpageflags={"start": flags},
        snapshots={"zones_start": [normal], "pagetypeinfo_start": {"text": types}},
    )
