"""kswapd: who wakes it, and what it does when it runs (mm/vmscan.c, 7.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .stats import Stats
from .tables import WMARK_HIGH
from .zone import Zone

__all__ = ["KSWAPD_EVERY", "Kswapds"]

#: It runs after every so many operations, where it was woken, and at every tick.
KSWAPD_EVERY = 100
SWAP_CLUSTER_MAX = 32  # include/linux/swap.h, 7.2


class Kswapds:
    """The kswapd of every node: what each was woken for, (order, highest zone)."""

    def __init__(
        self,
        zones: Sequence[Zone],
        stats: Stats,
        watermark_ok: Callable[[Zone, int, int, int, int], bool],
    ) -> None:
        self.zones = zones
        self.stats = stats
        self.watermark_ok = watermark_ok
        self.wanted: dict[int, tuple[int, int]] = {}
        self.awake: set[int] = set()
        #: What kcompactd of each node was woken for.
        self.compact: dict[int, tuple[int, int]] = {}

    def _eligible(self, nid: int, highest: int) -> list[Zone]:
        return [zone for zone in self.zones if zone.spec.nid == nid and zone.spec.zone_idx <= highest]

    def _balanced(self, nid: int, order: int, highest: int) -> bool:
        """pgdat_balanced: one zone above its high watermark is enough."""
        zones = [zone for zone in self._eligible(nid, highest) if zone.managed > 0]
        return not zones or any(
            self.watermark_ok(zone, order, zone.wmark(WMARK_HIGH), highest, 0) for zone in zones
        )

    def wakeup(self, zone: Zone, blocks: bool, order: int, highest: int) -> None:
        """wakeup_kswapd: not where there is memory enough, boost included."""
        if zone.managed <= 0:
            return
        nid = zone.spec.nid
        order_before, highest_before = self.wanted.get(nid, (0, 0))
        self.wanted[nid] = (max(order, order_before), max(highest, highest_before))
        if nid in self.awake:
            return
        boosted = any(each.watermark_boost for each in self._eligible(nid, highest))
        if self._balanced(nid, order, highest) and not boosted:
            if not blocks:
                self._wakeup_kcompactd(nid, order, highest)
            return
        self.awake.add(nid)
        self.stats.kswapd_wakeups += 1

    def _wakeup_kcompactd(self, nid: int, order: int, highest: int) -> None:
        """wakeup_kcompactd: it runs when kswapd next does, or sleeps."""
        if order:
            self.stats.kcompactd_wakeups += 1
            before = self.compact.get(nid, (0, 0))
            self.compact[nid] = (max(order, before[0]), max(highest, before[1]))

    def run(self, reclaim: Callable[[int], int], compact: Callable[[int, int, int], None]) -> None:
        """All that are awake balance their nodes, then kcompactd works for those who woke it.

        ``reclaim(nid)`` frees some, if it can; ``compact(nid, order, highest zone)`` is kcompactd's work.
        """
        for nid in sorted({zone.spec.nid for zone in self.zones}):
            if nid in self.awake:
                order, highest = self.wanted.pop(nid)
                self.awake.discard(nid)
                self._balance(nid, order, highest, reclaim)
                self._try_to_sleep(nid, order, highest)
            work = self.compact.pop(nid, None)
            if work:
                compact(nid, *work)

    def _try_to_sleep(self, nid: int, order: int, highest: int) -> None:
        """kswapd_try_to_sleep: what is balanced is compacted from now on."""
        if self._balanced(nid, order, highest):
            for zone in self.zones:
                if zone.spec.nid == nid:
                    zone.compact.reset(zone)
            self._wakeup_kcompactd(nid, order, highest)

    def _balance(self, nid: int, order: int, highest: int, reclaim: Callable[[int], int]) -> None:
        """balance_pgdat: up to the high watermark, or for the boost; then the boost it found is over."""
        boosts = {id(zone): zone.watermark_boost for zone in self._eligible(nid, highest)}
        boosted = pending = sum(boosts.values())
        freed = 0
        while True:
            if not self._balanced(nid, order, highest):
                pending = 0
            elif pending <= 0:
                break
            got = reclaim(nid)
            if not got:
                break
            pending -= got
            freed += got
            if order and freed >= 2 << order:
                order = 0
        for zone in self._eligible(nid, highest):
            zone.watermark_boost -= min(zone.watermark_boost, boosts[id(zone)])
        if boosted:
            self._wakeup_kcompactd(nid, self.zones[0].pageblock_order, highest)
