"""Fragmentation: fallbacks, mixed pageblocks, and the two indexes of debugfs."""

from __future__ import annotations

from asi_pa.experiment.metrics.entry import Counter, Metric

__all__ = ["FRAGMENTATION"]

FRAGMENTATION: tuple[Metric, ...] = (
    Metric(
        "extfrag_events",
        "count",
        "count",
        "fragmentation",
        "extfrag events",
        "low",
        "Fallbacks below pageblock_order (mm_page_alloc_extfrag with fragmenting=1).",
        "Fallbacks to another type's memory that fragment: the fallback's order is below pageblock_order. "
        "perf prints `fragmenting` of mm_page_alloc_extfrag wrongly, so it is computed here.",
        "mm_page_alloc_extfrag, include/trace/events/kmem.h",
        measure=Counter("extfrag_fragmenting"),
    ),
    Metric(
        "extfrag_events_severe",
        "count",
        "count",
        "fragmentation",
        "  severe",
        "low",
        "Fallbacks of order 3 or less.",
        "Those with a fallback order of at most 3 (PAGE_ALLOC_COSTLY_ORDER).",
        measure=Counter("extfrag_severe"),
        screen=False,
    ),
    Metric(
        "mixed_blocks",
        "count",
        "blocks",
        "fragmentation",
        "mixed pageblocks",
        "low",
        "Pageblocks at the end with an allocated page whose requested type is not the block's.",
        "Blocks that, at the end, hold at least one allocated page whose requested migratetype differs from "
        "the block's.",
        measure=lambda m: m.mixed[0],
        essential=True,
    ),
    Metric(
        "foreign_pages",
        "count",
        "pages",
        "fragmentation",
        "foreign pages",
        "low",
        "Allocated pages at the end whose requested type is not the block's.",
        "Those pages. `foreign_pages / mixed_blocks` is the degree of mixing.",
        measure=lambda m: m.mixed[1],
        screen=False,
    ),
    Metric(
        "unusable_index",
        "counts by order",
        "index",
        "fragmentation",
        "",
        "",
        "",
        "Per order k, in thousandths: 1000 if F = 0, otherwise 1000 (F - S_k 2^k) / F. 0 means that all free "
        "memory can serve the order, 1000 that none can. At the end of the trace.",
        "`unusable_free_index()`, mm/vmstat.c, in debugfs extfrag/unusable_index",
        measure=lambda m: m.index(unusable=True),
    ),
    Metric(
        "unusable_index.9",
        "",
        "index",
        "fragmentation",
        "unusable index, order 9",
        "low",
        "Share of free memory that cannot serve an order-9 request (debugfs unusable_index).",
    ),
    Metric(
        "extfrag_index",
        "index by order",
        "index",
        "fragmentation",
        "",
        "",
        "",
        "Per order k, in thousandths: 0 if B = 0; -1000 if S_k > 0; otherwise 1000 - (1000 + 1000 F / 2^k) / "
        "B. Toward 0 a failure is lack of memory, toward 1000 it is fragmentation. It may be negative "
        "without being -1000. At the end of the trace.",
        "`__fragmentation_index()`, mm/vmstat.c",
        measure=lambda m: m.index(unusable=False),
    ),
    Metric(
        "extfrag_index.9",
        "",
        "index",
        "fragmentation",
        "extfrag index, order 9",
        "",
        "-1: order 9 is free; near 0: lack of memory; near 1: fragmentation (debugfs extfrag_index).",
        screen=False,
    ),
    Metric(
        "watermark_boosts",
        "count",
        "count",
        "fragmentation",
        "watermark boosts",
        "low",
        "Times a fallback boosted the zone's watermarks (boost_watermark).",
        "Times a fallback raised the zone's watermark boost.",
        "`boost_watermark()`, mm/page_alloc.c",
        measure=Counter("boosts"),
        screen=False,
    ),
)
