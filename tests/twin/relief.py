"""What relieves a shortage - reclaim of a declared supply, kswapd, compaction - and replays that have it.

The stand-ins of ``asi_pa.engine.vmscan`` and the operations of ``asi_pa.run.loop``, in plain Python.  A page
that moves needs an owner who can be told, so all of it works on the slots of a replay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from asi_pa.kernel.gfp import Migratetype

from . import buddy, page_alloc, pcp
from .fallback import unreserve_highatomic
from .machine import Machine
from .request import Request, decode
from .tables import WMARK_HIGH
from .zone import Allocation, Zone

__all__ = ["Replay"]

SWAP_CLUSTER_MAX = 32  # include/linux/swap.h, 7.2
MAX_RECLAIM_RETRIES = 16  # mm/internal.h, 7.2
COMPACT_MAX_DEFER_SHIFT = 6  # mm/compaction.c, 7.2

Found = tuple[Zone, int] | None


class Deferral:
    """When compaction of a zone is tried again after failures (mm/compaction.c, 7.2)."""

    def __init__(self) -> None:
        self.considered = 0
        self.shift = 0
        self.order_failed = 0

    def deferred(self, order: int) -> bool:
        """compaction_deferred: 2^shift requests are turned away before the next run."""
        if order < self.order_failed:
            return False
        self.considered = min(self.considered + 1, 1 << self.shift)
        return self.considered < 1 << self.shift

    def ended(self, order: int, success: bool) -> None:
        """compaction_defer_reset, defer_compaction."""
        self.considered = 0
        if success:
            self.shift = 0
            self.order_failed = max(self.order_failed, order + 1)
        else:
            self.shift = min(self.shift + 1, COMPACT_MAX_DEFER_SHIFT)
            self.order_failed = min(self.order_failed, order)


class Replay:
    """Operations on slots, as ``asi_pa.run.replay.Replay`` runs them."""

    def __init__(self, machine: Machine, classes: Sequence[int], nslots: int) -> None:
        self.machine = machine
        self.requests = [decode(machine.tables, word) for word in classes]
        self.nslots = nslots
        self.slots: dict[int, int] = {}
        self.owner: dict[int, int] = {}
        self.supply: list[int] = []
        self.compacts = False
        self.relieved = False
        self.deferrals = {id(zone): Deferral() for zone in machine.zones}
        self.failures = 0
        self.skipped = 0

    def relieve(self, supply: Sequence[int], compacts: bool) -> None:
        """Requests that may block reclaim what the slots in ``supply`` hold, in that order, and compact."""
        self.supply = list(supply)
        self.compacts = compacts
        self.relieved = True
        self.machine.relief = self.direct_relief

    # Operations

    def run(self, ops: Any) -> None:
        """Rows of (op, order, class, cpu, slot)."""
        for op, order, cls, cpu, slot in ops.tolist():
            machine = self.machine
            if op == 4:
                self.tick()
                if self.relieved:
                    self.kswapd(cpu if cpu < machine.spec.cpus else 0)
            elif op == 1:
                self.allocate(order, self.requests[cls], cpu, slot)
            elif slot not in self.slots:
                self.skipped += 1
            elif op == 2:
                self.free(slot, cpu)
            else:
                self.split(slot)
            machine.look_ahead()

    def allocate(self, order: int, request: Request, cpu: int, slot: int) -> None:
        found = self.machine.request(order, request, cpu)
        self.slots.pop(slot, None)
        if found is None:
            self.failures += 1
            return
        self.slots[slot] = found[1]
        self.owner[found[1]] = slot

    def free(self, slot: int, cpu: int) -> None:
        pfn = self.slots.pop(slot)
        order = self.machine.zone_of(pfn).allocated[pfn].order
        self.machine.free(pfn, order, cpu)

    def split(self, slot: int) -> None:
        """split_page (mm/page_alloc.c, 7.2): one allocation becomes 2^order of order 0."""
        pfn = self.slots[slot]
        zone = self.machine.zone_of(pfn)
        whole = zone.allocated[pfn]
        for k in range(1 << whole.order):
            zone.allocated[pfn + k] = replace(whole, order=0, compound=False)
            self.slots[slot + k] = pfn + k
            self.owner[pfn + k] = slot + k

    def tick(self) -> None:
        """vmstat's worker: decay_pcp_high of every zone and CPU."""
        for zone in self.machine.zones:
            for cpu, lists in enumerate(zone.pcp):
                if lists.enabled:
                    zone.this_cpu = cpu
                    pcp.tick(zone)

    # Reclaim

    def reclaim(self, cpu: int, pages: int) -> int:
        """The next allocations of the supply; the workload may have freed them itself."""
        freed = 0
        while self.supply and freed < pages:
            slot = self.supply.pop(0)
            pfn = self.slots.get(slot)
            if pfn is None:
                continue
            zone = self.machine.zone_of(pfn)
            used = zone.allocated[pfn]
            if not used.lru:
                continue
            freed += 1 << used.order
            del self.slots[slot]
            zone.this_cpu = cpu
            self.machine.release(zone, pfn, used.order)
        self.machine.counts.reclaimed += freed
        return freed

    def kswapd(self, cpu: int) -> None:
        """balance_pgdat (mm/vmscan.c, 7.2): up to the high watermark, then the boost is over."""
        if not self.machine.counts.kswapd_woken:
            return
        self.machine.counts.kswapd_woken = False
        for zone in self.machine.zones:
            while not page_alloc.watermark_ok(zone, 0, zone.wmark(WMARK_HIGH), zone.spec.zone_idx, 0):
                if not self.reclaim(cpu, SWAP_CLUSTER_MAX):
                    break
            if zone.watermark_boost and self.compacts:
                movable = zone.tables.start(Migratetype.MOVABLE, True)
                self.compact_zone(zone, zone.pageblock_order, movable, sync=True)
            zone.watermark_boost = 0

    def direct_relief(self, order: int, request: Request, attempt: Callable[[], Found], cpu: int) -> Found:
        """The rest of __alloc_pages_slowpath (7.2): compaction, reclaim, the last drops."""
        zones = self.machine.zones
        wanted = self.compaction_order(order, request)
        drained = False
        found: Found = None

        def again() -> Found:
            self.machine.on_cpu(cpu)
            return attempt()

        for _ in range(MAX_RECLAIM_RETRIES):
            progress = 0
            if wanted > 0 and self.compacts:
                for zone in zones:
                    if zone.spec.zone_idx <= request.highest:
                        zone.this_cpu = cpu
                        progress += self.compact_zone(zone, wanted, request.freetype, sync=request.blocks)
                found = again()
                if found:
                    return found
            reclaimed = self.reclaim(cpu, SWAP_CLUSTER_MAX) > 0
            progress += reclaimed
            if reclaimed or not drained:
                found = again()
                if found:
                    return found
            if not drained:
                for zone in zones:  # __alloc_pages_direct_reclaim
                    zone.this_cpu = cpu
                    unreserve_highatomic(zone, request.freetype, False)
                for zone in zones:
                    for each in range(len(zone.pcp)):
                        zone.this_cpu = each
                        pcp.drain(zone, each)
                drained = True
                found = again()
                if found:
                    return found
            if not progress:
                break
        for zone in zones:
            zone.this_cpu = cpu
            if unreserve_highatomic(zone, request.freetype, True):
                found = again()
                if found:
                    return found
        return None

    # Compaction

    def compaction_order(self, order: int, request: Request) -> int:
        """Which order compaction is asked for: as posted the request's, 0 meaning none (flip starvation)."""
        tables = self.machine.tables
        big = self.machine.spec.pageblock_order
        how = tables.design.compaction
        if tables.design.flips == "none" or order > big or how == "order":
            return order
        return big if how == "both" or not tables.mapped[request.freetype] else order

    def finished(self, zone: Zone, order: int, freetype: int) -> bool:
        """__compact_finished: a block of the order that the request, or a flip for it, can have."""
        tables = zone.tables
        return any(
            blocks
            and tables.ordinary(other)
            and (
                other == freetype
                or order >= zone.pageblock_order
                or tables.mapped[other] == tables.mapped[freetype]
            )
            for lists in zone.free_list[order:]
            for other, blocks in enumerate(lists)
        )

    def compact_zone(self, zone: Zone, order: int, freetype: int, *, sync: bool) -> int:
        """compact_zone: blocks from the zone's start on are emptied into others from its end; pages moved."""
        deferral = self.deferrals[id(zone)]
        if order == 0 or self.finished(zone, order, freetype) or deferral.deferred(order):
            return 0
        counts = self.machine.counts
        counts.compactions += 1
        blocks = list(zone.all_blocks())
        source, target, moved = 0, len(blocks), 0
        while source < target:
            block = blocks[source]
            if not self.suits(zone, block, sync):
                source += 1
                continue
            pfn = block
            while pfn < block + zone.pageblock_nr_pages:
                used = zone.allocated.get(pfn)
                if used is None or not self.may_move(used) or used.order >= order:
                    pfn += 1 << zone.buddy.get(pfn, 0)
                    continue
                to, target = self.free_scanner(zone, blocks, source, target, used.order)
                if to is None:
                    counts.compact_moved += moved
                    deferral.ended(order, self.finished(zone, order, freetype))
                    return moved
                self.move(zone, pfn, to)
                moved += 1 << used.order
                pfn += 1 << used.order
            if self.finished(zone, order, freetype):
                counts.compact_success += 1
                break
            source += 1
        deferral.ended(order, source < target)
        counts.compact_moved += moved
        return moved

    def may_move(self, used: Allocation) -> bool:
        """On the LRU; wrappers change mappings page by page, and their odd pages stay where they are."""
        wrapper = self.machine.wrapper
        return used.lru and (wrapper is None or not wrapper.wants_odd(used))

    def suits(self, zone: Zone, block: int, sync: bool) -> bool:
        """suitable_migration_source: asynchronous compaction empties movable blocks only."""
        migratetype = zone.migratetype(zone.type_of(block))
        return migratetype in (Migratetype.MOVABLE, Migratetype.CMA) or (
            sync and migratetype <= Migratetype.RECLAIMABLE
        )

    def free_scanner(
        self, zone: Zone, blocks: list[int], source: int, target: int, order: int
    ) -> tuple[int | None, int]:
        """isolate_freepages: from the end downwards, movable blocks that are not wholly free, of the same
        side of the mapping.  Returns the pfn and where to go on."""
        at = target
        while at > source + 1:
            at -= 1
            start = blocks[at]
            freetype = zone.type_of(start)
            if (
                zone.migratetype(freetype) is Migratetype.MOVABLE
                and zone.is_mapped(start) == zone.is_mapped(blocks[source])
                and zone.buddy.get(start, 0) < zone.pageblock_order
            ):
                for pfn, current in buddy.free_pages_of_block(zone, start):
                    if order <= current < zone.pageblock_order:
                        return buddy.take(zone, pfn, order, current, freetype), at + 1
            if order == 0:
                target = at
        return None, target

    def move(self, zone: Zone, pfn: int, to: int) -> None:
        """migrate_pages of one allocation: same request, same owner, another frame."""
        used = zone.allocated.pop(pfn)
        zone.allocated[to] = used
        zone.set_lru(pfn, used.order, False)
        zone.set_lru(to, used.order, used.lru)
        wrapper = self.machine.wrapper
        if used.sensitive and (wrapper is None or wrapper.odd_present):
            zone.set_dirty(to, 1 << used.order, True)
        slot = self.owner.pop(pfn)
        self.owner[to] = slot
        self.slots[slot] = to
        buddy.free_split(zone, pfn, used.order)
