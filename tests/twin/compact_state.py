"""What compaction keeps of a zone between runs: positions, skip bits, deferral (mm/compaction.c, 7.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asi_pa.kernel.gfp import Migratetype

if TYPE_CHECKING:
    from .zone import Zone

__all__ = ["CompactState", "skip_persistent"]

MAX_DEFER_SHIFT = 6  # COMPACT_MAX_DEFER_SHIFT


def skip_persistent(zone: Zone, pfn: int) -> bool:
    """pageblock_skip_persistent: in a compound page of a pageblock or more."""
    owner = zone.owner_of(pfn)
    if owner is None:
        return False
    used = zone.allocated[owner]
    return used.compound and used.order >= zone.pageblock_order


class CompactState:
    """The fields of struct zone; pfns, -1 where not set."""

    def __init__(self, blocks: int) -> None:
        self.cached_migrate = [-1, -1]
        self.cached_free = -1
        self.init_migrate = -1
        self.init_free = -1
        self.considered = 0
        self.shift = 0
        self.order_failed = 0
        self.flush = False
        self.skip = [False] * blocks

    # Deferral

    def deferred(self, order: int) -> bool:
        """compaction_deferred: 2^shift requests are turned away before the next run."""
        if order < self.order_failed:
            return False
        self.considered = min(self.considered + 1, 1 << self.shift)
        return self.considered < 1 << self.shift

    def failed(self, order: int) -> None:
        """defer_compaction."""
        self.considered = 0
        self.shift = min(self.shift + 1, MAX_DEFER_SHIFT)
        self.order_failed = min(self.order_failed, order)

    def succeeded(self, order: int, *, allocated: bool) -> None:
        """compaction_defer_reset."""
        if allocated:
            self.considered = self.shift = 0
        self.order_failed = max(self.order_failed, order + 1)

    def restarting(self, order: int) -> bool:
        """compaction_restarting."""
        full = self.shift == MAX_DEFER_SHIFT and self.considered >= 1 << self.shift
        return order >= self.order_failed and full

    # Skip bits

    def reset(self, zone: Zone) -> None:
        """__reset_isolation_suitable: from both ends inwards."""
        if not self.flush:
            return
        self.flush = False
        start, end = zone.spec.start_pfn, zone.spec.end_pfn - 1
        low, high = end, start
        m, f = start, end
        sources = targets = False
        while m < f:
            if self._reset_one(zone, m, source=True, target=sources) and m < low:
                sources = True
                low = self.init_migrate = m
                self.cached_migrate = [m, m]
            if self._reset_one(zone, f, source=targets, target=True) and f > high:
                targets = True
                high = self.init_free = self.cached_free = f
            m += zone.pageblock_nr_pages
            f -= zone.pageblock_nr_pages
        if low >= high:
            self.cached_migrate = [m, m]
            self.cached_free = f

    def _reset_one(self, zone: Zone, pfn: int, *, source: bool, target: bool) -> bool:
        """__reset_isolation_pfn: look at every eighth page for one to move, or a place to move to."""
        index = zone.block_index(pfn)
        if skip_persistent(zone, pfn):
            return False
        if source and target and not self.skip[index]:
            return True
        if not source and zone.migratetype(zone.type_of(pfn)) is not Migratetype.MOVABLE:
            return False
        first = max(zone.block_start(pfn), zone.spec.start_pfn)
        last = min(zone.block_start(pfn) + zone.pageblock_nr_pages, zone.spec.end_pfn)
        for page in range(first, last, 8):
            if (source and zone.is_lru(page)) or (target and page in zone.buddy):
                self.skip[index] = False
                return True
        return False
