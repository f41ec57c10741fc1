"""What the twin counts, under the names of the engine's statistics."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Stats"]


@dataclass
class Stats:
    """One machine's counts; docs/metrics.md says what each means."""

    flips_s2n: int = 0
    flips_n2s: int = 0
    pages_zeroed: int = 0
    pages_zeroed_locked: int = 0
    unmapped_ahead: int = 0
    extfrag_events: int = 0
    extfrag_fragmenting: int = 0
    extfrag_severe: int = 0
    claims_whole: int = 0
    claims_partial: int = 0
    claims_refused: int = 0
    steals: int = 0
    boosts: int = 0
    fail_watermark: int = 0
    fail_no_memory: int = 0
    fail_fragmentation: int = 0
    fail_starvation: int = 0
    fail_noblock: int = 0
    stranded_max: int = 0
    pool_refills: int = 0
    pool_refill_pages: int = 0
    pool_shrinks: int = 0
    pool_hits: int = 0
    exposures: int = 0
    exposed_now: int = 0
    hidden_now: int = 0
    stale_exposed: int = 0
    flush_allocs: int = 0
    map_allocs: int = 0
    flush_frees: int = 0
    slowpath: int = 0
    kswapd_wakeups: int = 0
    pcp_refills: int = 0
    pcp_bulk_frees: int = 0
    pcp_refilled: int = 0
    pcp_drained: int = 0
    pcp_missed_nonsensitive: int = 0
    pcp_missed_sensitive: int = 0
    reserves: int = 0
    unreserves: int = 0
    retypes: int = 0
    noblock_refusals: int = 0
    reclaimed: int = 0
    compactions: int = 0
    compact_success: int = 0
    compact_moved: int = 0

    def __post_init__(self) -> None:
        """Was kswapd woken?  No count, but the whole machine's."""
        self.kswapd_woken = False
