"""What relieves a shortage - drains, reclaim of a declared supply, compaction - and replays that have it.

The stand-ins of ``asi_pa.engine.vmscan`` and the operations of ``asi_pa.run.loop``, in plain Python.  A page
that moves needs an owner who can be told, so all of it works on the slots of a replay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from asi_pa.kernel.callers import fallback_of, is_huge, way_out
from asi_pa.kernel.gfp import GFP_NAMES, Migratetype

from . import page_alloc, pcp
from .compaction import ASYNC, FULL, LIGHT, SKIPPED, SUCCESS, room_to_compact
from .fallback import unreserve_highatomic
from .kswapd import KSWAPD_EVERY, SWAP_CLUSTER_MAX
from .machine import Machine
from .request import Request, decode
from .tables import (
    ALLOC_CMA,
    ALLOC_NO_WATERMARKS,
    ALLOC_NOFRAGMENT,
    PAGE_ALLOC_COSTLY_ORDER,
    WMARK_HIGH,
    WMARK_MIN,
)
from .zone import Zone

__all__ = ["Replay"]

DEF_PRIORITY = 12  # include/linux/mmzone.h, 7.2
MAX_RECLAIM_RETRIES = 16  # mm/internal.h, 7.2
MAX_COMPACT_RETRIES = 16  # mm/page_alloc.c, 7.2

_IO = GFP_NAMES["__GFP_IO"]
_NOFAIL = GFP_NAMES["__GFP_NOFAIL"]
_NORETRY = GFP_NAMES["__GFP_NORETRY"]
_RETRY_MAYFAIL = GFP_NAMES["__GFP_RETRY_MAYFAIL"]
_THISNODE = GFP_NAMES["__GFP_THISNODE"]

Found = tuple[Zone, int] | None


class Replay:
    """Operations on slots, as ``asi_pa.run.replay.Replay`` runs them."""

    def __init__(self, machine: Machine, classes: Sequence[int], nslots: int, fallbacks: bool = True) -> None:
        self.machine = machine
        self.classes = [int(word) for word in classes]
        self.fallbacks = fallbacks
        self.requests = [decode(machine.tables, word) for word in classes]
        #: Slots of tries that failed: the pages asked for instead lie in them and those that follow.
        self.in_pages: set[int] = set()
        self.failed_by_way: Counter[tuple[int, bool]] = Counter()
        self.fallbacks_replayed = self.fallbacks_failed = self.fallback_pages = self.dropped = 0
        #: Slot of each CPU's last try that failed where it was recorded.
        self.tried: dict[int, int] = {}
        self.nslots = nslots
        self.owners = machine.compactor.owners
        #: The order that a slot's allocation had, whatever compaction made of it.
        self.orders: dict[int, int] = {}
        #: By node: slots, after how many operations each is there, and its pages.
        self.supply: dict[int, list[tuple[int, int, int]]] = {}
        self.compacts = False
        self.clock = 0
        machine.relief = self.direct_relief
        self.failures = 0
        self.skipped = 0

    def relieve(
        self,
        supply: Sequence[int],
        compacts: bool,
        since: Sequence[int] | None = None,
        pages: Sequence[int] | None = None,
        *,
        nodes: Sequence[int] | None = None,
    ) -> None:
        """Requests that may block reclaim what the slots in ``supply`` hold, in that order, and compact.

        ``since``: after how many operations each is there; ``pages``: how many each has; ``nodes``: whose
        LRU it is on.
        """
        ones, always, first = ([value] * len(supply) for value in (1, -1, 0))
        rows = zip(supply, since or always, pages or ones, nodes or first, strict=True)
        for slot, at, count, nid in rows:
            self.supply.setdefault(nid, []).append((slot, at, count))
        self.compacts = compacts

    # Operations

    def run(self, ops: Any) -> None:
        """Rows of (op, order, class, cpu, slot)."""
        for op, order, cls, cpu, slot in ops.tolist():
            machine = self.machine
            if op == 4:
                self.tick(cpu if cpu < machine.spec.cpus else None)
                self.kswapd(cpu)
            elif op in (1, 5, 6):
                if op == 1 or not self.answered(op, cpu, slot):
                    self.allocate(order, cls, cpu, slot, replay=op != 5)
            elif slot not in self.owners.held:
                self.skipped += 1
            elif op == 2:
                self.free(slot, order, cpu)
            else:
                self.split(slot)
            machine.look_ahead()
            self.clock += 1
            if self.clock % KSWAPD_EVERY == 0 and machine.kswapds.awake:
                self.kswapd(cpu)

    def answered(self, op: int, cpu: int, slot: int) -> bool:
        """Of a recorded try (5) and what was asked for instead (6): is there nothing to ask for?"""
        if op == 5:
            if self.fallbacks:
                self.tried[cpu] = slot
            return not self.fallbacks
        if self.tried.get(cpu) not in self.owners.held:
            return False
        self.forget(slot)
        self.dropped += 1
        return True

    def allocate(self, order: int, cls: int, cpu: int, slot: int, *, replay: bool = True) -> None:
        found = self.machine.request(order, self.requests[cls], cpu)
        self.forget(slot)
        if found is not None:
            self.place(slot, found[1], order)
            return
        word = self.classes[cls]
        self.count_failure(word, order)
        page = fallback_of(word, order) if self.fallbacks and replay else None
        if page is not None and slot + (1 << order) <= self.nslots:
            self.fall_back(slot, 1 << order, page, cpu)

    def forget(self, slot: int) -> None:
        if slot in self.owners.held:
            self.owners.pop(slot)

    def place(self, slot: int, pfn: int, order: int) -> None:
        self.forget(slot)
        self.owners.put(slot, pfn)
        self.orders[slot] = order

    def count_failure(self, word: int, order: int) -> None:
        self.failures += 1
        self.failed_by_way[way_out(word, order), is_huge(order)] += 1

    def fall_back(self, slot: int, pages: int, word: int, cpu: int) -> None:
        """The single pages that a known caller asks for when its try failed."""
        self.fallbacks_replayed += 1
        request = decode(self.machine.tables, word)
        for k in range(pages):
            self.fallback_pages += 1
            found = self.machine.request(0, request, cpu)
            if found is None:
                self.fallbacks_failed += 1
                self.count_failure(word, 0)
                return
            self.place(slot + k, found[1], 0)
            self.in_pages.add(slot)

    def free(self, slot: int, order: int, cpu: int) -> None:
        if slot in self.in_pages:
            self.in_pages.remove(slot)
            for k in range(1 << order):
                if slot + k not in self.owners.held:
                    return
                self.free_one(slot + k, cpu)
        else:
            self.free_one(slot, cpu)

    def free_one(self, slot: int, cpu: int) -> None:
        for pfn in self.owners.pop(slot):
            self.machine.free(pfn, self.machine.zone_of(pfn).allocated[pfn].order, cpu)

    def split(self, slot: int) -> None:
        """split_page (mm/page_alloc.c, 7.2): one allocation becomes 2^order of order 0."""
        if slot in self.in_pages:
            self.in_pages.remove(slot)
            return
        pfns = self.owners.pop(slot)
        order = self.orders[slot]
        if len(pfns) == 1:
            zone = self.machine.zone_of(pfns[0])
            whole = zone.allocated[pfns[0]]
            pfns = list(range(pfns[0], pfns[0] + (1 << order)))
            for pfn in pfns:
                zone.allocated[pfn] = replace(whole, order=0, compound=False)
        for k, pfn in enumerate(pfns):
            self.place(slot + k, pfn, 0)

    def tick(self, one: int | None) -> None:
        """vmstat's worker of one CPU, of every CPU for None (refresh_cpu_vm_stats): differences are folded,
        lists decay."""
        for number in range(len(self.machine.zones)):
            for cpu in range(self.machine.spec.cpus):
                if one in (None, cpu):
                    self.machine.refresh_vm_stats(cpu, number)

    # Reclaim

    def reclaim(self, cpu: int, nid: int, pages: int) -> int:
        """A pass over a node's LRU, in clusters of whole folios (shrink_lruvec, isolate_lru_folios, 7.2)."""
        freed = 0
        for left in range(pages, 0, -SWAP_CLUSTER_MAX):
            got = self.shrink_cluster(cpu, nid, min(left, SWAP_CLUSTER_MAX))
            freed += got
            if not got:
                break
        return freed

    def shrink_cluster(self, cpu: int, nid: int, pages: int) -> int:
        """The next allocations of a node's supply; the workload may have freed them itself."""
        freed, supply = 0, self.supply.get(nid, [])
        while supply and freed < pages and supply[0][1] <= self.clock:
            slot = supply.pop(0)[0]
            if slot not in self.owners.held:
                continue
            pfn = self.owners.held[slot][0]
            if not self.machine.zone_of(pfn).allocated[pfn].lru:
                continue
            freed += 1 << self.orders[slot]
            for page in self.owners.pop(slot):
                zone = self.machine.zone_of(page)
                zone.this_cpu = cpu
                self.machine.release(zone, page, zone.allocated[page].order)
        self.machine.counts.reclaimed += freed
        return freed

    def reclaimable(self, nid: int) -> int:
        """What of a node's supply is there."""
        return sum(pages for _, since, pages in self.supply.get(nid, []) if since <= self.clock)

    def one_pass(self, nid: int) -> int:
        """The first pass over the LRU (get_scan_count, shrink_lruvec, 7.2)."""
        return max(SWAP_CLUSTER_MAX, self.reclaimable(nid) >> DEF_PRIORITY)

    def shrink_zones(self, cpu: int, request: Request) -> int:
        """A pass over the LRU of each node that the request may use (shrink_zones, mm/vmscan.c, 7.2)."""
        machine = self.machine
        zones = machine.zonelists[machine.nodes[cpu]].usable(request)
        nids = list(dict.fromkeys(zone.spec.nid for zone in zones))
        if len({zone.spec.nid for zone in machine.zones}) == 1:
            nids = [machine.zones[0].spec.nid]
        return sum(self.reclaim(cpu, nid, self.one_pass(nid)) for nid in nids)

    def kswapd(self, cpu: int) -> None:
        cpu = cpu if cpu < self.machine.spec.cpus else 0
        self.machine.kswapds.run(
            lambda nid: self.reclaim(self.cpu_on(cpu, nid), nid, self.one_pass(nid)),
            lambda nid, *work: self._kcompactd(self.cpu_on(cpu, nid), nid, *work),
        )

    def cpu_on(self, cpu: int, nid: int) -> int:
        """Where a node's worker runs when it is woken from ``cpu``: on the node, if it has a CPU."""
        nodes = self.machine.nodes
        return cpu if nodes[cpu] == nid or nid not in nodes else nodes.index(nid)

    def _kcompactd(self, cpu: int, nid: int, order: int, highest: int) -> None:
        if self.compacts:
            self.machine.kcompactd(nid, order, highest, cpu)

    def direct_relief(
        self, order: int, request: Request, attempt: Callable[[int], Found], cpu: int, flags: int
    ) -> Found:
        """The rest of __alloc_pages_slowpath (7.2)."""
        return _SlowPath(self, order, request, attempt, cpu, flags).run()

    def drain(self, request: Request, cpu: int) -> None:
        """Pages pinned in the reserve and on per-CPU lists (__alloc_pages_direct_reclaim, 7.2)."""
        self.unreserve(request, cpu, force=False)
        for zone in self.machine.zones:
            for each in range(len(zone.pcp)):
                zone.this_cpu = each
                pcp.drain(zone, each)

    def unreserve(self, request: Request, cpu: int, *, force: bool) -> bool:
        """unreserve_highatomic_pageblock: one pageblock, of the first zone of the list that has one."""
        self.machine.on_cpu(cpu)
        zones = self.machine.zonelists[self.machine.nodes[cpu]].zones
        return any(
            unreserve_highatomic(zone, request.freetype, force)
            for zone in zones
            if zone.spec.zone_idx <= request.highest
        )


class _SlowPath:
    """One request's rounds of reclaim and compaction."""

    def __init__(
        self,
        replay: Replay,
        order: int,
        request: Request,
        attempt: Callable[[int], Found],
        cpu: int,
        flags: int,
    ) -> None:
        self.replay = replay
        self.machine = replay.machine
        self.order = order
        self.costly = order > PAGE_ALLOC_COSTLY_ORDER
        self.request = request
        self.try_with = attempt
        self.cpu = cpu
        self.flags = flags
        self.can_compact = replay.compacts and bool(request.gfp & _IO)
        self.zones = self.machine.zonelists[self.machine.nodes[cpu]].usable(request)
        self.drained = False
        self.priority = LIGHT
        self.result = SKIPPED
        self.retries = self.no_progress = self.progress = 0

    def attempt(self) -> Found:
        self.machine.on_cpu(self.cpu)
        return self.try_with(self.flags)

    def run(self) -> Found:
        """__alloc_pages_slowpath from its first reclaim on."""
        gfp = self.request.gfp
        wanted = self.machine.compaction_order(self.order, self.request, self.flags & ~ALLOC_NOFRAGMENT)
        movable = self.request.migratetype is Migratetype.MOVABLE
        compact_first = self.can_compact and (
            wanted > PAGE_ALLOC_COSTLY_ORDER or (wanted > 0 and not movable)
        )
        self.priority = ASYNC if compact_first else LIGHT
        while True:
            found = self._round(reclaims=not compact_first)
            if found:
                return found
            if compact_first:
                compact_first = False
                if gfp & _NORETRY and gfp & _THISNODE:
                    return None
                if not gfp & _NORETRY:
                    self.priority = LIGHT
            elif gfp & _NORETRY or (self.costly and not (gfp & _RETRY_MAYFAIL and self.can_compact)):
                break
            elif not self._once_more():
                if not (self.machine.spec.defrag_mode and self.flags & ALLOC_NOFRAGMENT):
                    break
                self.flags &= ~ALLOC_NOFRAGMENT
            found = self.attempt()
            if found:
                return found
        if gfp & _NOFAIL:
            self.flags = self.flags & ALLOC_CMA | ALLOC_NO_WATERMARKS
            return self.attempt()
        return None

    def _round(self, *, reclaims: bool) -> Found:
        self.progress = 0
        found = self._reclaim() if reclaims else None
        if found is None and self.can_compact:
            self.machine.on_cpu(self.cpu)
            self.result, found = self.machine.direct_compact(
                self.order, self.request, self.flags, self.priority, self.attempt
            )
            self.machine.compactor.lru.drain()
        return found

    def _reclaim(self) -> Found:
        """__alloc_pages_direct_reclaim; a costly request leaves it to compaction where that is ready."""
        ready = (
            self.costly
            and self.can_compact
            and any(
                room_to_compact(zone, self.order, zone.wmark(WMARK_HIGH), self.request.highest, 0)
                for zone in self.zones
            )
        )
        self.progress = 1 if ready else self.replay.shrink_zones(self.cpu, self.request)
        if not self.progress and self.drained:
            return None
        found = self.attempt()
        if not found and not self.drained:
            self.replay.drain(self.request, self.cpu)
            self.drained = True
            found = self.attempt()
        return found

    def _some_zone_ok(self, order: int, *, reclaimed: bool) -> bool:
        return any(
            page_alloc.watermark_ok(
                zone,
                order,
                zone.wmark(WMARK_MIN),
                self.request.highest,
                self.flags,
                zone.nr_free_pages.read() + self._left(zone) * reclaimed,
            )
            for zone in self.zones
        )

    def _once_more(self) -> bool:
        """should_reclaim_retry, should_compact_retry."""
        self.no_progress = 0 if self.progress and not self.costly else self.no_progress + 1
        left = any(self._left(zone) for zone in self.machine.zones)
        if (
            self.no_progress <= MAX_RECLAIM_RETRIES
            and left
            and self._some_zone_ok(self.order, reclaimed=True)
        ):
            return True
        if self.replay.unreserve(self.request, self.cpu, force=True):
            return True
        return self.progress > 0 and self._compact_more()

    def _left(self, zone: Zone) -> int:
        """What of its node's LRU is reclaimable."""
        return self.replay.reclaimable(zone.spec.nid)

    def _compact_more(self) -> bool:
        if self.order == 0:
            return False
        if not self.can_compact:
            return not self.costly and self._some_zone_ok(0, reclaimed=False)
        if self.result == SKIPPED:
            return any(
                room_to_compact(
                    zone,
                    self.order,
                    zone.wmark(WMARK_MIN),
                    self.request.highest,
                    self._left(zone) // self.order,
                )
                for zone in self.zones
            )
        if self.result == SUCCESS:
            self.retries += 1
            if self.retries <= (MAX_COMPACT_RETRIES // 4 if self.costly else MAX_COMPACT_RETRIES):
                return True
        if self.priority > (LIGHT if self.costly else FULL):
            self.priority -= 1
            self.retries = 0
            return True
        return False
