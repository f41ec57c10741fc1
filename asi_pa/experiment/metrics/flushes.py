"""TLB flushes: how many, of what kind, and for how many requests."""

from __future__ import annotations

from asi_pa.experiment.metrics.entry import Metric

__all__ = ["FLUSHES"]

FLUSHES: tuple[Metric, ...] = (
    Metric(
        "tlb_flushes_per_1000_allocations",
        "number",
        "per1000",
        "flushes",
        "flushes / 1000 served",
        "low",
        "TLB flushes, ranged and full, per thousand requests that got their pages.",
        "1000 (`tlb_flushes_ranged` + `tlb_flushes_full`) / (`allocations` - `failures`): flushes per "
        "thousand requests that got their pages. 0 if none did.",
        measure=lambda m: m.flushes_per_1000(),
        asi=True,
        essential=True,
    ),
    Metric(
        "tlb_flushes",
        "count",
        "count",
        "flushes",
        "",
        "low",
        "",
        "`tlb_flushes_ranged` and `tlb_flushes_full` together.",
        measure=lambda m: m.physmap_count("flushes_ranged") + m.physmap_count("flushes_full"),
        asi=True,
        optional=True,
    ),
    Metric(
        "tlb_flushes_ranged",
        "count",
        "count",
        "flushes",
        "flushes, ranged",
        "low",
        "Flushes of at most tlb_single_page_flush_ceiling (33) pages, entry by entry.",
        "Calls of `flush_tlb_kernel_range()` for at most `tlb_single_page_flush_ceiling` (33) pages, which "
        "are invalidated entry by entry.",
        "arch/x86/mm/tlb.c",
        measure=lambda m: m.physmap_count("flushes_ranged"),
        asi=True,
    ),
    Metric(
        "tlb_flushes_full",
        "count",
        "count",
        "flushes",
        "flushes, full",
        "low",
        "Flushes of a longer range, which the kernel turns into flushes of the whole TLB on every CPU.",
        "Such calls for more pages: the whole TLB of every CPU is flushed. A block has 512 pages, so a "
        "flip's flush is a full one. Every split adds a full flush, as `__split_large_page()` does.",
        "arch/x86/mm/tlb.c, arch/x86/mm/pat/set_memory.c",
        measure=lambda m: m.physmap_count("flushes_full"),
        asi=True,
    ),
    Metric(
        "tlb_flushed_pages",
        "count",
        "pages",
        "flushes",
        "pages in ranged flushes",
        "low",
        "4K pages that the ranged flushes invalidated one by one.",
        "4K pages that the ranged flushes invalidated, together; the cost model needs it. A full flush has "
        "no pages here.",
        measure=lambda m: m.physmap_count("flushed_pages"),
        asi=True,
        screen=False,
        optional=True,
    ),
    Metric(
        "tlb_flushes_other_spaces",
        "count",
        "count",
        "flushes",
        "  also other spaces'",
        "low",
        "Ranged flushes after which every other address space is flushed at its next use: kernel entries "
        "are not global under ASI.",
        "Of `tlb_flushes_ranged`, those of kernels whose entries are not global, as under ASI: INVLPG "
        "reaches the current address space, and every other one is flushed as a whole at its next use. The "
        "cost model needs it.",
        "`flush_tlb_one_kernel()`, arch/x86/mm/tlb.c",
        measure=lambda m: m.physmap_count("flushes_others"),
        asi=True,
        screen=False,
        optional=True,
    ),
    Metric(
        "ipis",
        "count",
        "count",
        "flushes",
        "shootdown IPIs",
        "low",
        "Interrupts sent: flushes times the other CPUs online.",
        "Shootdown interrupts sent: for every flush, one to each other online CPU. 0 on a machine with one "
        "CPU. (A replay's machine has no INVLPGB; docs/engine/physmap.md says which flushes it spares.)",
        measure=lambda m: m.physmap_count("ipis"),
        asi=True,
    ),
    Metric(
        "tlb_flushes_per_1000_able",
        "number?",
        "per1000",
        "flushes",
        "flushes / 1000 able",
        "low",
        "TLB flushes per thousand requests of the kinds that can cause one: where a flush is at stake, how "
        "often it happens.",
        "1000 (`tlb_flushes_ranged` + `tlb_flushes_full`) / the requests of the kinds that can cause a flush "
        "in this design: where pages are mapped one by one (`per-page`, `rfcv2-queue`) the nonsensitive "
        "ones, whose pages are unmapped when they are freed; elsewhere those for unmapped memory, which in "
        "the direct-map designs are the sensitive UNMOVABLE ones only, and of these those that may block (a "
        "pool of unmapped pages asks for all). Failed requests included. `null` where there are none. Most "
        "requests of most traces are not of these kinds, so a share of all requests says little.",
        measure=lambda m: m.flushes_per_1000_able(),
        asi=True,
        essential=True,
    ),
)
