"""Kernel profiles: the handful of rules in which Linux versions differ, as data.

Every field names one rule.  ``SOURCES`` says for each where it stands (file and function), which
version changed it and how it was established: by recorded runs of both kernels ("recorded"), or
from mails and memory only ("inferred").
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

__all__ = ["DEFAULT_KERNEL", "KERNELS", "SOURCES", "Kernel", "kernel_profile"]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """The version-dependent rules of the page allocator, one flag each."""

    version: str
    evidence: str
    """"recorded": recorded runs of this kernel replay exactly; "inferred": composed, never checked."""
    free_high_needs_high_min: bool
    """A pcp free of orders 1-3 turns free_high on at free_count >= batch + high_min/2, not batch."""
    pcp_bulk_in_batches: bool
    """A pcp free hands pages back in chunks of at most ``batch``, not in one call."""
    pcp_refill_highatomic: bool
    """An empty pcp list is refilled for ALLOC_HIGHATOMIC requests too."""
    reserve_highatomic_from_pcp: bool
    """A HIGHATOMIC block is reserved after pcp hits too, not only after rmqueue_buddy."""
    highatomic_first_attempt: bool
    """An atomic request above order 0 may use the HIGHATOMIC reserve at its first attempt; only an attempt at
    the MIN mark reserves."""
    free_contig_by_page: bool
    """free_contig_range frees single pages, not the largest aligned chunks."""
    slowpath_always_retries: bool
    """Without direct reclaim the slow path always makes its second attempt."""
    isolate_is_bit: bool
    """MIGRATE_ISOLATE is a bit beside the block's type; otherwise it replaces the type."""
    defrag_mode_retry: bool
    """vm.defrag_mode: a request that may not reclaim gets one more attempt without NOFRAGMENT, and one that
    must not mix types compacts for a pageblock."""
    compact_gap_is_capped: bool
    """Compaction wants a cluster (32 pages) free beyond the mark, not twice the order's pages."""
    compact_block_takes_movable: bool
    """Async direct compaction for a whole pageblock empties MOVABLE blocks, whatever the type asked for."""
    compact_async_gate_without_cma: bool
    """Async compaction above order 3 for who may not use CMA wants its room outside CMA."""
    compact_deferred_fails: bool
    """A direct compaction that was deferred makes no attempt to allocate."""
    compact_cma_needs_flag: bool
    """Direct compaction for who may not use CMA leaves CMA blocks alone."""
    split_ascending: bool
    """A split folio's pages migrate first tail first, not last tail first; the head page is always last."""
    collapse_rox: bool
    """set_memory_rox() makes large leaves of the direct map again (CPA_COLLAPSE)."""
    zone_batchsize_shift: int
    """zone_batchsize starts from managed >> shift (capped), the rest is the same."""


SOURCES: dict[str, str] = {
    "free_high_needs_high_min": "mm/page_alloc.c free_frozen_page_commit; since 6.16; recorded",
    "pcp_bulk_in_batches": "mm/page_alloc.c free_frozen_page_commit; since about 6.19; recorded",
    "pcp_refill_highatomic": "mm/page_alloc.c __rmqueue_pcplist; between 6.12 and 7.2; recorded",
    "reserve_highatomic_from_pcp": (
        "mm/page_alloc.c get_page_from_freelist (6.12), rmqueue_buddy (7.2); recorded"
    ),
    "highatomic_first_attempt": "mm/page_alloc.c rmqueue_buddy; since 7.3; recorded",
    "free_contig_by_page": "mm/page_alloc.c free_contig_range; between 6.12 and 7.2; recorded",
    "slowpath_always_retries": (
        "mm/page_alloc.c __alloc_pages_slowpath; from the two sources, no recorded set notices"
    ),
    "isolate_is_bit": "mm/page_isolation.c, include/linux/pageblock-flags.h; since 6.17; recorded",
    "defrag_mode_retry": (
        "mm/page_alloc.c __alloc_pages_slowpath, __alloc_pages_direct_compact; 7.2 recorded (D3d, C9)"
    ),
    "compact_gap_is_capped": "include/linux/compaction.h compact_gap; between 6.12 and 7.2; recorded",
    "compact_block_takes_movable": (
        "mm/compaction.c suitable_migration_source, fast_find_migrateblock; between 6.12 and 7.2; recorded"
    ),
    "compact_async_gate_without_cma": (
        "mm/compaction.c compaction_suit_allocation_order; between 6.12 and 7.2; recorded"
    ),
    "compact_deferred_fails": "mm/page_alloc.c __alloc_pages_direct_compact; between 6.12 and 7.2; recorded",
    "compact_cma_needs_flag": "mm/compaction.c suitable_migration_source; from the two sources",
    "split_ascending": "mm/huge_memory.c __folio_split; between 6.12 and 7.2; recorded",
    "collapse_rox": "arch/x86/mm/pat/set_memory.c set_memory_rox; since 6.15; from the two sources",
    "zone_batchsize_shift": "mm/page_alloc.c zone_batchsize; from the two sources",
}

KERNELS: dict[str, Kernel] = {
    "7.2": Kernel(
        version="7.2",
        evidence="recorded",
        free_high_needs_high_min=True,
        pcp_bulk_in_batches=True,
        pcp_refill_highatomic=False,
        reserve_highatomic_from_pcp=False,
        highatomic_first_attempt=False,
        free_contig_by_page=False,
        slowpath_always_retries=False,
        isolate_is_bit=True,
        defrag_mode_retry=True,
        compact_gap_is_capped=True,
        compact_block_takes_movable=True,
        compact_async_gate_without_cma=True,
        compact_deferred_fails=True,
        compact_cma_needs_flag=True,
        split_ascending=True,
        collapse_rox=True,
        zone_batchsize_shift=12,
    ),
    # Only the changes dated 6.16 and 6.17 are in; the undated ones are taken as in 6.12.  free_high with
    # high_min / 2 and bulk free in one call have evidence: with 6.12's free_high recorded machines of 6.18
    # are predicted several times worse (docs/use/validation.md).
    "6.18": Kernel(
        version="6.18",
        evidence="inferred",
        free_high_needs_high_min=True,
        pcp_bulk_in_batches=False,
        pcp_refill_highatomic=True,
        reserve_highatomic_from_pcp=True,
        highatomic_first_attempt=False,
        free_contig_by_page=True,
        slowpath_always_retries=True,
        isolate_is_bit=True,
        defrag_mode_retry=False,
        compact_gap_is_capped=False,
        compact_block_takes_movable=False,
        compact_async_gate_without_cma=False,
        compact_deferred_fails=False,
        compact_cma_needs_flag=False,
        split_ascending=False,
        collapse_rox=True,
        zone_batchsize_shift=10,
    ),
    "6.12": Kernel(
        version="6.12",
        evidence="recorded",
        free_high_needs_high_min=False,
        pcp_bulk_in_batches=False,
        pcp_refill_highatomic=True,
        reserve_highatomic_from_pcp=True,
        highatomic_first_attempt=False,
        free_contig_by_page=True,
        slowpath_always_retries=True,
        isolate_is_bit=False,
        defrag_mode_retry=False,
        compact_gap_is_capped=False,
        compact_block_takes_movable=False,
        compact_async_gate_without_cma=False,
        compact_deferred_fails=False,
        compact_cma_needs_flag=False,
        split_ascending=False,
        collapse_rox=False,
        zone_batchsize_shift=10,
    ),
}
# 7.3-rc7: with 7.2's rule 9 of its 35 recorded core sets are not exact.
KERNELS["7.3"] = replace(
    KERNELS["7.2"],
    version="7.3",
    highatomic_first_attempt=True,
)

DEFAULT_KERNEL = "7.2"


def kernel_profile(version: str | Kernel) -> Kernel:
    """The profile for a version: ``"7.2"``, ``"7.2.13"``, ``"7.3-rc7"``, ``"Linux 6.18, x86-64 guest"``.

    Raises ValueError for a version that no profile covers.
    """
    if isinstance(version, Kernel):
        return version
    for word in version.replace(",", " ").split():
        found = re.match(r"\d+\.\d+", word)
        if found and found[0] in KERNELS:
            return KERNELS[found[0]]
    raise ValueError(f"unknown kernel {version!r}: profiles are {', '.join(KERNELS)}")
