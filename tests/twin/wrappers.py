"""Designs that wrap the allocator and change the mapping page by page.

Their *remapped* pages are those whose mapping differs from all other memory's: in the restricted tree the
nonsensitive ones (present there), in the unrestricted tree the sensitive unmovable ones (absent there).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from asi_pa.kernel.gfp import GFP_NAMES, Migratetype

from . import buddy
from .flip import ZoneView
from .isolation import IsolateMode
from .mapping import Context, Kind, log
from .page_alloc import Zonelist, fast_flags, get_page_from_freelist, watermark_ok
from .request import Request, decode, may_wait
from .stats import Stats
from .tables import WMARK_LOW, Tables
from .zone import Allocation, Zone

__all__ = ["PerPage", "Pool", "Queue", "Wrapper", "wrap"]

SENSITIVE, THISNODE = GFP_NAMES["__GFP_SENSITIVE"], GFP_NAMES["__GFP_THISNODE"]
#: The allocator beneath: a request's pages, or None.
Allocate = Callable[[int, Request], tuple[Zone, int] | None]
#: Its way back: through the per-CPU lists, or not.
Free = Callable[[Zone, int, int], None]


class Wrapper:
    """What the three have in common: the remapped pages and the audit."""

    def __init__(self, tables: Tables, stats: Stats, zones: list[Zone], below: Allocate, free: Free) -> None:
        self.design = tables.design
        self.stats = stats
        self.zones = zones
        self.below = below
        self.free_below = free
        #: Pages whose mapping was changed.
        self.remapped: set[int] = set()
        #: In the restricted tree the remapped pages are the present ones.
        self.remapped_present = tables.design.tree == "restricted"

    def wants_remapped(self, request: Request | Allocation) -> bool:
        if self.remapped_present:
            return not request.sensitive
        return request.sensitive and request.migratetype is Migratetype.UNMOVABLE

    def holds_secrets(self, request: Request | Allocation) -> bool:
        """Are its pages among those that the design keeps out of the tree?"""
        return self.wants_remapped(request) != self.remapped_present

    def is_present(self, pfn: int) -> bool:
        """In the tree that the design changes."""
        return (pfn in self.remapped) == self.remapped_present

    def set_remapped(self, pfn: int, order: int, remapped: bool) -> None:
        """set_direct_map_*_noflush of every page (arch/x86/mm/pat/set_memory.c, 7.2)."""
        pages = range(pfn, pfn + (1 << order))
        if remapped:
            self.remapped.update(pages)
        else:
            self.remapped.difference_update(pages)

    def change(
        self, zone: Zone, pfn: int, order: int, remapped: bool, ctx: Context, old: int = 0, new: int = 0
    ) -> None:
        """``set_remapped``, with a row in the event log: ``old`` and ``new`` are the orders that it tells."""
        pages = range(pfn, pfn + (1 << order))
        present = remapped == self.remapped_present
        already = sum(self.is_present(page) == present for page in pages)
        stale = sum(zone.count_dirty(page, 1) for page in pages if present and not self.is_present(page))
        self.stats.stale_exposed += stale * (ctx is Context.SHRINK)
        log(zone, Kind.MAP if present else Kind.UNMAP, ctx, old, new, pfn, len(pages), stale | already << 16)
        self.set_remapped(pfn, order, remapped)

    def count_remapped(self, pfn: int, order: int) -> int:
        return sum(page in self.remapped for page in range(pfn, pfn + (1 << order)))

    def clear(self, zone: Zone, pfn: int, order: int) -> None:
        self.stats.pages_zeroed += 1 << order
        zone.set_dirty(pfn, 1 << order, False)

    def audited(self, zone: Zone, pfn: int, order: int, request: Request) -> tuple[Zone, int]:
        """Are the pages mapped as they should be, and free of others' secrets where they can be read?"""
        wrong = self.count_wrong(pfn, order, request)
        if self.holds_secrets(request):
            self.stats.exposures += wrong
            self.stats.exposed_now += wrong
            zone.set_dirty(pfn, 1 << order, True)
        else:
            self.stats.absences += wrong
            self.stats.hidden_now += wrong
            self.stats.stale_exposed += zone.count_dirty(pfn, 1 << order)
        return zone, pfn

    def count_wrong(self, pfn: int, order: int, owner: Request | Allocation) -> int:
        """Pages of an owner's whose mapping is not what the owner must have."""
        remapped = self.count_remapped(pfn, order)
        return (1 << order) - remapped if self.wants_remapped(owner) else remapped

    def forget(self, zone: Zone, pfn: int, order: int) -> None:
        """The running totals of live, wrongly mapped pages forget a freed one."""
        owner = zone.allocated[pfn]
        wrong = self.count_wrong(pfn, order, owner)
        if self.holds_secrets(owner):
            self.stats.exposed_now -= wrong
        else:
            self.stats.hidden_now -= wrong

    def contiguous(self, zone: Zone, start: int, end: int, request: Request) -> None:
        """A contiguous range that was just allocated gets the mapping of its kind."""
        if self.wants_remapped(request):
            for pfn in range(start, end):
                if self.remapped_present:
                    self.clear(zone, pfn, 0)
                self.set_remapped(pfn, 0, True)
        wrong = sum(self.count_wrong(pfn, 0, request) for pfn in range(start, end))
        if self.holds_secrets(request):
            self.stats.exposures += wrong
            self.stats.exposed_now += wrong
        else:
            self.stats.absences += wrong
            self.stats.hidden_now += wrong
        if self.holds_secrets(request):
            zone.set_dirty(start, end - start, True)

    def alloc(self, order: int, request: Request) -> tuple[Zone, int] | None:
        raise NotImplementedError

    def free(self, zone: Zone, pfn: int, order: int) -> None:
        raise NotImplementedError


class PerPage(Wrapper):
    """Map or unmap single pages, a flush each time, as secretmem does today (mm/secretmem.c, 7.2)."""

    def alloc(self, order: int, request: Request) -> tuple[Zone, int] | None:
        found = self.below(order, request)
        return found and self.handed_out(*found, order, request)

    def handed_out(self, zone: Zone, pfn: int, order: int, request: Request) -> tuple[Zone, int]:
        if self.wants_remapped(request):
            if self.design.zeroing != "none":
                self.clear(zone, pfn, order)
            self.change(zone, pfn, order, True, Context.PAGE_MAP)
            if self.remapped_present:
                self.stats.map_allocs += 1
            else:
                self.stats.flush_allocs += 1
        return self.audited(zone, pfn, order, request)

    def free(self, zone: Zone, pfn: int, order: int) -> None:
        self.forget(zone, pfn, order)
        if self.wants_remapped(zone.allocated[pfn]):
            if self.remapped_present:
                self.stats.flush_frees += 1  # the caller waits for the flush itself
            else:
                self.clear(zone, pfn, order)  # secretmem_free_folio
            self.set_remapped(pfn, order, False)
        self.free_below(zone, pfn, order)


class Queue(PerPage):
    """RFCv2's free queue: freed nonsensitive pages wait for a worker that unmaps and flushes them.

    msgid 20250110-asi-rfc-v2-v2-0-8419288bc805@google.com, patch 14.
    """

    def __init__(self, tables: Tables, stats: Stats, zones: list[Zone], below: Allocate, free: Free) -> None:
        super().__init__(tables, stats, zones, below, free)
        self.now = 0
        #: When the worker runs; None: nothing waits.
        self.due: int | None = None

    def alloc(self, order: int, request: Request) -> tuple[Zone, int] | None:
        self.now += 1
        if self.due is not None and self.now >= self.due:
            self.work()
        found = self.below(order, request)
        waits = may_wait(self.design, request.blocks, request.sensitive, posted=False)
        if found is None and waits and self.due is not None:
            # It waits for the worker.  As posted the pages are stuck.
            self.work()
            self.stats.flush_allocs += 1
            found = self.below(order, request)
        return found and self.handed_out(*found, order, request)

    def free(self, zone: Zone, pfn: int, order: int) -> None:
        self.now += 1
        self.forget(zone, pfn, order)
        if not self.wants_remapped(zone.allocated[pfn]):
            self.free_below(zone, pfn, order)
            return
        zone.give_back(pfn, order)
        zone.queue[pfn] = order
        waiting = sum(len(other.queue) for other in self.zones)
        log(zone, Kind.QUEUED, Context.OTHER, 0, 0, pfn, 1 << order, waiting)
        if self.due is None:
            self.due = self.now + self.design.queue_delay

    def work(self) -> None:
        """The worker: so many chunks are unmapped and flushed together; they go past the per-CPU lists."""
        self.due = None
        waiting = [(zone, *chunk) for zone in self.zones for chunk in reversed(zone.queue.items())]
        batch = self.design.unmap_batch or len(waiting) or 1
        for start in range(0, len(waiting), batch):
            for zone, pfn, order in waiting[start : start + batch]:
                self.change(zone, pfn, order, False, Context.WORKER)
            for zone, pfn, order in waiting[start : start + batch]:
                del zone.queue[pfn]
                buddy.free_split(zone, pfn, order)


class Pool(Wrapper):
    """The separate pool: the remapped pages have free lists of their own, refilled a pageblock at a time.

    msgid 20230308094106.227365-1-rppt@kernel.org.  A page belongs to the pool when it is remapped; as
    posted, when its pageblock is marked.
    """

    machine: Any
    """Whose CPUs and nodes they are, and its contiguous ranges."""

    def alloc(self, order: int, request: Request) -> tuple[Zone, int] | None:
        if self.wants_remapped(request):
            found = self._get(order, request)
            self.stats.pool_hits += found is not None
            self.zones[0].lists_used()
        else:
            found = self.below(order, request)
            if found is None and request.blocks:
                # Direct reclaim calls the shrinker, a batch at a time.
                while found is None and self.shrink(self.design.shrink_batch):
                    found = self.below(order, request)
                self.stats.flush_allocs += found is not None and self.remapped_present
        return found and self.audited(*found, order, request)

    def _get(self, order: int, request: Request) -> tuple[Zone, int] | None:
        """From the pool, refilled if need be; with a pool a node from the own node's first."""
        may = may_wait(self.design, request.blocks, request.sensitive, posted=True)
        places: list[tuple[int | None, Request]] = [(None, request)]
        if self.design.pool_by_node:
            own = replace(request, this_node=True, gfp=request.gfp | THISNODE)
            node = self.machine.nodes[self.machine.cpu]
            places = [(node, own)] if request.this_node else [(node, own), (None, request)]
        for node, asked in places:
            found = self.take(order, request, node)
            if found is None and may and self.refill(order, asked):
                found = self.take(order, request, node)
            if found:
                return found
        return None

    def free(self, zone: Zone, pfn: int, order: int) -> None:
        self.forget(zone, pfn, order)
        marked = self._marks(zone)[self._block(zone, pfn)]
        owns = marked if self.design.pool_by_mark else pfn in self.remapped
        if not owns:
            self.free_below(zone, pfn, order)
            return
        zone.give_back(pfn, order)
        wrong = (1 << order) - self.count_remapped(pfn, order)
        if wrong:
            log(zone, Kind.POOLED, Context.OTHER, 0, 0, pfn, 1 << order, wrong << 16)
        self.add(zone, pfn, order)
        self.zones[0].back_due |= zone.tables.gives_back == "eager"

    @staticmethod
    def _marks(zone: Zone) -> list[bool]:
        return zone.pool_marks

    @staticmethod
    def _block(zone: Zone, pfn: int) -> int:
        return (pfn >> zone.pageblock_order) - zone.first_block

    def add(self, zone: Zone, pfn: int, order: int) -> None:
        """Buddies merge inside the pool as in the allocator."""
        while order < zone.max_page_order and pfn ^ (1 << order) in zone.pool[order]:
            del zone.pool[order][pfn ^ (1 << order)]
            pfn &= ~(1 << order)
            order += 1
        self.push(zone, pfn, order)

    def push(self, zone: Zone, pfn: int, order: int) -> None:
        zone.pool[order][pfn] = None
        zone.pool[order].move_to_end(pfn, last=False)

    def take(self, order: int, request: Request, node: int | None) -> tuple[Zone, int] | None:
        """The smallest order that fits, split; the pool knows no zones, every zone's share is asked."""
        for current in range(order, self.zones[0].max_page_order + 1):
            for zone in self.zones:
                if node not in (None, zone.spec.nid) or not zone.pool[current]:
                    continue
                pfn, _ = zone.pool[current].popitem(last=False)
                while current > order:
                    current -= 1
                    self.push(zone, pfn + (1 << current), current)
                zone.hand_out(pfn, order, request)
                return zone, pfn
        return None

    def _first_order(self, order: int) -> int:
        """Of the chunk that a refill begins with."""
        home: Zone = self.machine.zonelists[self.machine.nodes[self.machine.cpu]].zones[0]
        if home.tables.asks_refill:
            chosen: int | None = self.design.choose_refill(cast(Any, ZoneView(home)), order)
            if chosen is not None:
                return chosen
        wanted = max(0, self.design.refill_order + home.pageblock_order - 9)
        most: int = max(wanted, home.pageblock_order)
        return min(max(order, wanted), most)

    def _chunk(self, order: int, request: Request, worker: bool) -> tuple[Zone, int] | None:
        zonelist = self.machine.zonelists[self.machine.nodes[self.machine.cpu]]
        if order > self.zones[0].max_page_order:
            return self._contiguous_chunk(order, request, zonelist) if worker or request.blocks else None
        if worker:
            spec = self.machine.spec
            flags = fast_flags(zonelist, request, spec)
            return get_page_from_freelist(zonelist, order, request, flags, spec)
        return self.below(order, request)

    def _contiguous_chunk(self, order: int, request: Request, zonelist: Zonelist) -> tuple[Zone, int] | None:
        """alloc_contig_pages (mm/page_alloc.c, 7.2): the first aligned range that is free already."""
        pages = 1 << order
        for zone in zonelist.usable(request):
            mark = zone.wmark(WMARK_LOW) + pages - 1
            if not watermark_ok(zone, 0, mark, request.highest, 0):
                continue
            start = -(-zone.spec.start_pfn // pages) * pages
            for pfn in range(start, zone.spec.end_pfn - pages + 1, pages):
                if not self._is_free(zone, pfn, pfn + pages):
                    continue
                cpu = self.machine.cpu
                self.machine.on_cpu(0)
                result = self.machine.take_range(zone, pfn, pfn + pages, IsolateMode.OTHER, request)
                self.machine.on_cpu(cpu)
                if result == 0:
                    return zone, pfn
        return None

    @staticmethod
    def _is_free(zone: Zone, pfn: int, end: int) -> bool:
        listed = {
            page: size
            for cpu in zone.pcp
            for (size, _), pfns in zip(zone.tables.pcp_lists, cpu.lists, strict=True)
            for page in pfns
        }
        while pfn < end:
            order = zone.buddy.get(pfn, listed.get(pfn))
            if order is None or not zone.tables.ordinary(zone.type_of(pfn)):
                return False
            pfn += 1 << order
        return pfn == end

    def refill(self, order: int, request: Request, *, worker: bool = False) -> bool:
        """A zeroed chunk from the allocator, or an order less at a time down to the request's."""
        for current in range(self._first_order(order), order - 1, -1):
            found = self._chunk(current, request, worker)
            if found is None:
                continue
            zone, pfn = found
            self.stats.pool_refills += 1
            self.stats.pool_refill_pages += 1 << current
            self.clear(zone, pfn, current)
            changed = order if self.design.refill_unmaps == "request" else current
            self.change(zone, pfn, changed, True, Context.REFILL, current, order)
            if not worker:
                self.stats.map_allocs += self.remapped_present
                self.stats.flush_allocs += not self.remapped_present
            for block in zone.blocks(pfn, current):
                self._marks(zone)[self._block(zone, block)] = True
            self._add_chunk(zone, pfn, current)
            return True
        return False

    def _add_chunk(self, zone: Zone, pfn: int, order: int) -> None:
        if order <= zone.max_page_order:
            zone.give_back(pfn, order)
            self.add(zone, pfn, order)
            return
        for page in range(pfn, pfn + (1 << order)):
            zone.give_back(page, 0)
        piece = 1 << zone.max_page_order
        for start in range(pfn + (1 << order) - piece, pfn - 1, -piece):
            self.add(zone, start, zone.max_page_order)

    def balance(self) -> None:
        """The worker that keeps to the marks, of each node's pool or of the machine's one."""
        stock = any(zone.stock_due for zone in self.zones)
        back = any(zone.back_due for zone in self.zones)
        if not stock and not back:
            return
        by_node = self.design.pool_by_node
        for node in sorted(set(self.machine.nodes)) if by_node else [None]:
            self._keep_marks(node, stock, back)
        for zone in self.zones:
            zone.stock_due = zone.back_due = False  # what the worker itself took wakes nobody

    def _pages(self, node: int | None) -> int:
        return sum(
            len(blocks) << order
            for zone in self.zones
            if node in (None, zone.spec.nid)
            for order, blocks in enumerate(zone.pool)
        )

    def _keep_marks(self, node: int | None, stock: bool, back: bool) -> None:
        design, before = self.design, self.machine.cpu
        self.machine.on_cpu(0 if node is None else self.machine.nodes.index(node))
        if back and design.pool_high:
            for order in range(self.zones[0].max_page_order, self.zones[0].pageblock_order - 1, -1):
                for zone in self.zones:
                    while (
                        node in (None, zone.spec.nid)
                        and zone.pool[order]
                        and self._pages(node) - (1 << order) >= design.pool_high
                    ):
                        pfn, _ = zone.pool[order].popitem(last=False)
                        self._release(zone, pfn, order)
        if stock and self._pages(node) < design.pool_low:
            word = 0 if self.remapped_present else SENSITIVE
            request = decode(self.machine.tables, word | (0 if node is None else THISNODE))
            while self._pages(node) < max(design.pool_low, design.pool_high):
                if not self.refill(0, request, worker=True):
                    break
        self.machine.on_cpu(before)

    def shrink(self, pages: int) -> int:
        """The shrinker, lowest order first; as posted it takes the running total off the rest."""
        total = 0
        for order in range(self.zones[0].max_page_order + 1):
            gone = 0
            for zone in self.zones:
                while gone < pages and zone.pool[order]:
                    pfn, _ = zone.pool[order].popitem(last=False)
                    self._release(zone, pfn, order)
                    gone += 1 << order
            total += gone
            spent = gone if self.design.shrink_counts else total
            if spent >= pages:
                break
            pages -= spent
        self.stats.pool_shrinks += total > 0
        return total

    def _release(self, zone: Zone, pfn: int, order: int) -> None:
        """A chunk goes back to the tails of the buddy's lists; what held secrets is cleared if all is
        well.
        """
        if self.design.pool_clears and not self.remapped_present:
            self.clear(zone, pfn, order)
        self.change(zone, pfn, order, False, Context.SHRINK, order)
        if order == zone.pageblock_order:
            self._marks(zone)[self._block(zone, pfn)] = False
        piece = min(order, zone.pageblock_order)
        for start in range(pfn, pfn + (1 << order), 1 << piece):
            buddy.free_one(zone, start, piece, zone.type_of(start), to_tail=True)


def wrap(tables: Tables, stats: Stats, zones: list[Zone], below: Allocate, free: Free) -> Wrapper | None:
    """The wrapper a design names, if any."""
    kinds = {"per-page": PerPage, "queue": Queue, "pool": Pool}
    kind = kinds.get(tables.design.wrapper)
    return kind and kind(tables, stats, zones, below, free)
