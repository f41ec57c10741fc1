"""Migration, the batch on its way to the LRU, and who is told (mm/migrate.c, mm/swap.c, 7.2)."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING

from .zone import Zone

if TYPE_CHECKING:
    from .compaction import Run

__all__ = ["EAGAIN", "ENOMEM", "LruBatch", "Owners", "migrate_pages"]

ENOMEM, EAGAIN = 12, 11
ASYNC, SYNC_LIGHT, SYNC = 0, 1, 2
#: NR_MAX_MIGRATE_PAGES_RETRY, NR_MAX_MIGRATE_ASYNC_RETRY, NR_MAX_MIGRATE_SYNC_RETRY.
PASSES, FIRST_PASSES, ALONE_PASSES = 10, 3, 7


class LruBatch:
    """folio_batch lru_add: folios in it cannot be isolated (PAGEVEC_SIZE 31)."""

    def __init__(self) -> None:
        self.folios: list[tuple[Zone, int, int]] = []

    def add(self, zone: Zone, pfn: int, order: int) -> None:
        """folio_add_lru: a full batch, or one with a large folio, is drained."""
        self.folios.append((zone, pfn, order))
        if len(self.folios) == 31 or order:
            self.drain()

    def drain(self) -> None:
        """lru_add_drain."""
        for zone, pfn, order in self.folios:
            zone.set_lru(pfn, order, True)
        self.folios = []


class Owners:
    """Who holds which pages: compaction moves them, and may take a folio apart."""

    def __init__(self) -> None:
        self.held: dict[Hashable, list[int]] = {}
        self.place: dict[int, tuple[Hashable, int]] = {}

    def put(self, owner: Hashable, pfn: int) -> None:
        """The owner holds an allocation."""
        self.held[owner] = [pfn]
        self.place[pfn] = (owner, 0)

    def pop(self, owner: Hashable) -> list[int]:
        """What the owner holds, first page first; it holds nothing from now on."""
        pfns = self.held.pop(owner)
        for pfn in pfns:
            del self.place[pfn]
        return pfns

    def moved(self, old: int, new: int) -> bool:
        """An allocation is somewhere else; False if it is nobody's here."""
        if old not in self.place:
            return False
        owner, k = self.place.pop(old)
        self.held[owner][k] = new
        self.place[new] = (owner, k)
        return True

    def split(self, pfn: int, order: int) -> None:
        """An allocation is 2^order pages now."""
        if pfn in self.place:
            owner, _ = self.place[pfn]
            self.held[owner] = list(range(pfn, pfn + (1 << order)))
            self.place |= {page: (owner, k) for k, page in enumerate(self.held[owner])}


class _Batch:
    """migrate_pages_batch: the lists it leaves."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.failed: list[int] = []
        self.split: list[int] = []
        self.splits = 0
        self.moved = 0

    def order(self, pfn: int) -> int:
        return self.run.zone.allocated[pfn].order

    def migrate(self, folios: list[int], mode: int, passes: int) -> int:
        """-ENOMEM or how many failed; ``folios`` keeps what was not tried."""
        pairs: list[tuple[int, int]] = []
        failed = error = 0
        while folios:
            pfn = folios[0]
            target = self.run.take_target(self.order(pfn))
            if target is not None:
                pairs.append((pfn, target))
            elif self.order(pfn) and self._may_split(pfn):
                self._take_apart(pfn)
                failed += 1
            else:
                error = -ENOMEM
                break
            del folios[0]
        for _ in range(passes):
            pairs = [pair for pair in pairs if not self._move(*pair, mode)]
            if not pairs:
                break
        for pfn, target in pairs:  # migrate_folios_undo
            self.failed.append(pfn)
            self.run.put_target(target, self.order(pfn))
        return error or failed + len(pairs)

    def _may_split(self, pfn: int) -> bool:
        used = self.run.zone.allocated[pfn]
        return not (used.pinned or used.unsplittable)

    def _take_apart(self, pfn: int) -> None:
        """split_folio_to_list: the tails, then the page that was the head."""
        zone, order = self.run.zone, self.order(pfn)
        whole = zone.allocated[pfn]
        for page in range(pfn, pfn + (1 << order)):
            zone.allocated[page] = replace(whole, order=0, compound=False)
        tails = list(range(pfn + 1, pfn + (1 << order)))
        self.split += [*(tails if zone.kernel.split_ascending else tails[::-1]), pfn]
        self.splits += 1
        self.run.owners.split(pfn, order)

    def _move(self, pfn: int, target: int, mode: int) -> bool:
        """migrate_folio_move: the source is free as soon as the folio is moved."""
        run, zone = self.run, self.run.zone
        used = zone.allocated[pfn]
        result = -EAGAIN if used.pinned else 0
        run.log(1, run.shown(pfn), run.shown(target), used.order + 256 * mode, result)
        if result:
            return False
        run.owners.moved(pfn, target)
        run.settle(used, target)
        run.lru.add(zone, target, used.order)
        run.free(pfn, used.order)
        self.moved += 1 << used.order
        run.moved += 1 << used.order
        return True


def migrate_pages(run: Run, folios: list[int]) -> tuple[int, list[int]]:
    """(-ENOMEM or how many failed, what is left in list order) (migrate_pages, migrate_pages_sync, 7.2)."""
    batch = _Batch(run)
    handed = run.wanted
    if run.mode == ASYNC:
        error = batch.migrate(folios, ASYNC, PASSES)
    else:
        error = batch.migrate(folios, ASYNC, FIRST_PASSES)
        if error >= 0:
            failed = batch.splits
            folios, batch.failed = batch.failed, []
            while folios:
                alone = [folios.pop(0)]
                error = batch.migrate(alone, run.mode, ALONE_PASSES)
                batch.failed += alone
                if error < 0:
                    break
                failed += error
            else:
                error = failed
    batch.failed += folios
    pieces, batch.split = batch.split, []
    if pieces and error >= 0:
        error += max(batch.migrate(pieces, ASYNC, 1), 0)
    batch.failed += pieces
    run.log(5, handed, batch.moved, 0, 0)
    return (error if batch.failed else 0), batch.failed
