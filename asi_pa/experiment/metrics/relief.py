"""Reclaim and compaction: how often, and what they moved."""

from __future__ import annotations

from asi_pa.experiment.metrics.entry import Counter, Metric

__all__ = ["RELIEF"]

RELIEF: tuple[Metric, ...] = (
    Metric(
        "kswapd_wakeups",
        "count",
        "count",
        "relief",
        "kswapd wake-ups",
        "low",
        "Times a request that entered the slow path, or a watermark boost, had to wake kswapd.",
        "Times kswapd had to be woken, for it was asleep and the node not balanced, or boosted: by a request "
        "that entered the slow path with `__GFP_KSWAPD_RECLAIM`, and by the first such request after a "
        "boost. In the model it runs after every 100th operation (one to five milliseconds of a busy "
        "machine) and at every tick, and sleeps again. It takes the boost away that it found; without a "
        "declared supply it finds nothing to reclaim.",
        "`wakeup_kswapd()`, `balance_pgdat()`, mm/vmscan.c; `rmqueue()`, mm/page_alloc.c",
        measure=Counter("kswapd_wakeups"),
        optional=True,
    ),
    Metric(
        "kcompactd_wakeups",
        "count",
        "count",
        "relief",
        "kcompactd wake-ups",
        "low",
        "Times kswapd ended a boost, or left a request for large blocks to kcompactd.",
        "Times kcompactd was woken: kswapd ended a watermark boost, or a request that may not block found "
        "memory enough and no block of its order. Counted only, it does nothing.",
        "`balance_pgdat()`, `wakeup_kswapd()`, mm/vmscan.c",
        measure=Counter("kcompactd_wakeups"),
        screen=False,
        optional=True,
    ),
    Metric(
        "pages_reclaimed",
        "count",
        "pages",
        "relief",
        "pages reclaimed",
        "low",
        "Pages freed out of the declared supply of page cache (--reclaim).",
        "Pages freed by reclaim, direct or by kswapd, out of the declared supply of page cache, 32 "
        "(SWAP_CLUSTER_MAX) at a time. Reclaim itself is not modelled: no ageing, no dirty pages, no "
        "shrinkers but the pool's.",
        measure=Counter("reclaimed"),
        optional=True,
    ),
    Metric(
        "compactions",
        "count",
        "count",
        "relief",
        "compactions",
        "low",
        "Runs of compaction over a zone (--compaction), deferred attempts not counted.",
        "Runs of the two scanners over a zone, deferred attempts not counted.",
        "`compact_zone()`, mm/compaction.c",
        measure=Counter("compactions"),
        optional=True,
    ),
    Metric(
        "compaction_pages_moved",
        "count",
        "pages",
        "relief",
        "pages moved",
        "low",
        "Pages that those runs moved: what compaction costs.",
        "Pages that those runs moved: what compaction costs. Only allocations on the LRU move.",
        measure=Counter("compact_moved"),
        optional=True,
    ),
    Metric(
        "compaction_scanned_from",
        "count",
        "pages",
        "relief",
        "frames scanned to move from",
        "low",
        "Frames that compaction looked at for pages to move.",
        "Frames that those runs looked at for pages to move, each as often as it was looked at; a free "
        "block that is passed at once counts whole.",
        "`isolate_migratepages_block()`, mm/compaction.c; compact_migrate_scanned of /proc/vmstat",
        measure=Counter("compact_migrate_scanned"),
        optional=True,
    ),
    Metric(
        "compaction_scanned_to",
        "count",
        "pages",
        "relief",
        "frames scanned to move to",
        "low",
        "Frames that compaction looked at for free ones.",
        "Frames that those runs looked at for free ones to move to.",
        "`isolate_freepages_block()`, mm/compaction.c; compact_free_scanned of /proc/vmstat",
        measure=Counter("compact_free_scanned"),
        optional=True,
    ),
)
