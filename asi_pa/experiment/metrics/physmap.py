"""The physmaps: what they map in which leaves, and what was written and split."""

from __future__ import annotations

from collections.abc import Iterator

from asi_pa.experiment.metrics.entry import Metric
from asi_pa.experiment.metrics.shares import leaf_share_2m

__all__ = ["PHYSMAP"]


def _map_rows() -> Iterator[Metric]:
    """Parts of ``direct_map_kb``."""
    for tree in ("restricted", "unrestricted"):
        for size in ("4k", "2m", "1g"):
            yield Metric(
                f"direct_map_kb.{tree}.{size}",
                "",
                "kb",
                "physmap",
                f"{tree}{'' if tree == 'restricted' else ' span'}, {size.upper()}",
                "",
                f"What the {tree} physmap maps at the end in leaves of {size.upper()} (as DirectMap{size} of "
                "/proc/meminfo)." + " It spans the zones from the first frame to the last, so it is "
                "larger than the machine." * (tree == "unrestricted"),
                asi=tree == "restricted",
                screen=tree == "restricted" and size != "1g",
            )


PHYSMAP: tuple[Metric, ...] = (
    Metric(
        "restricted_2m_share",
        "number?",
        "share",
        "physmap",
        "restricted map in 2M",
        "high",
        "Share of what the restricted physmap maps at the end that sits in leaves of 2M or larger.",
        "(`2m` + `1g`) / (`4k` + `2m` + `1g`) of `direct_map_kb.restricted`. Claim 1 "
        "is about this share. Undefined, shown as `-`, while nothing is mapped.",
        measure=lambda m: leaf_share_2m({"direct_map_kb": m.direct_map_kb()}),
        optional=True,
        asi=True,
        essential=True,
    ),
    Metric(
        "direct_map_kb",
        "kb by tree",
        "kb",
        "physmap",
        "",
        "",
        "",
        "kB mapped at the end, in leaves of `4k`, `2m` and `1g`, for the `unrestricted` and the `restricted` "
        "physmap: leaf counts shifted left by 2, 11 and 20, as DirectMap4k, DirectMap2M and DirectMap1G in "
        "/proc/meminfo. `restricted` is `null` where a design has none.",
        "`arch_report_meminfo()`, arch/x86/mm/pat/set_memory.c",
        measure=lambda m: m.direct_map_kb(),
    ),
    *_map_rows(),
    Metric(
        "leaf_writes_pmd",
        "count",
        "count",
        "physmap",
        "leaf writes, 2M",
        "low",
        "2M leaf entries that map and unmap operations wrote.",
        "Leaf entries of 2M written by map and unmap operations, one per entry. Entries written while a leaf "
        "is split belong to the split and are not counted here.",
        measure=lambda m: m.leaf_writes(1),
        asi=True,
    ),
    Metric(
        "leaf_writes_pte",
        "count",
        "count",
        "physmap",
        "leaf writes, 4K",
        "low",
        "4K leaf entries that map and unmap operations wrote.",
        measure=lambda m: m.leaf_writes(0),
        asi=True,
    ),
    Metric(
        "leaf_writes_pud",
        "count",
        "count",
        "physmap",
        "leaf writes, 1G",
        "low",
        "1G leaf entries that map and unmap operations wrote.",
        measure=lambda m: m.leaf_writes(2),
        asi=True,
        screen=False,
    ),
    Metric(
        "leaf_splits_2m",
        "count",
        "count",
        "physmap",
        "2M leaves split",
        "low",
        "2M leaves replaced by 512 of 4K (direct_map_level2_splits).",
        "2M leaves replaced by 512 of 4K: the kernel's direct_map_level2_splits in /proc/vmstat.",
        measure=lambda m: m.physmap_count("splits_2m"),
        asi=True,
    ),
    Metric(
        "leaf_splits_1g",
        "count",
        "count",
        "physmap",
        "1G leaves split",
        "low",
        "1G leaves replaced by 512 of 2M (direct_map_level3_splits).",
        measure=lambda m: m.physmap_count("splits_1g"),
        asi=True,
        screen=False,
    ),
    Metric(
        "table_pages_allocated",
        "count",
        "pages",
        "physmap",
        "table pages allocated",
        "low",
        "Page-table pages that the replay had to allocate for the physmaps.",
        "Pages allocated to hold page tables of the physmaps. Each split needs one.",
        measure=lambda m: m.physmap_count("tables_allocated"),
        asi=True,
    ),
)
