"""What is left when a replay has ended, as the functions that measure look at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from asi_pa.kernel import indexes
from asi_pa.kernel.callers import GROUPS, WayOut, group_of
from asi_pa.kernel.gfp import GFP_NAMES
from asi_pa.trace.ops import Op

if TYPE_CHECKING:
    from asi_pa.engine.machine import Machine
    from asi_pa.physmap.records import PhysmapCounters
    from asi_pa.run.replay import Replay
    from asi_pa.trace import CompiledTrace

__all__ = ["Measured", "grouped"]

_BLOCKS, _MOVABLE, _RECLAIMABLE = (
    GFP_NAMES[name] for name in ("__GFP_DIRECT_RECLAIM", "__GFP_MOVABLE", "__GFP_RECLAIMABLE")
)
_KB = {"4k": 4, "2m": 2048, "1g": 1 << 20}


def grouped(classes: npt.NDArray[np.uint32], requests: npt.NDArray[np.int64]) -> dict[str, int]:
    """Requests, given by class and order, by what their failure would mean (asi_pa.kernel.callers)."""
    found = dict.fromkeys(GROUPS, 0)
    for cls, order in np.argwhere(requests).tolist():
        found[group_of(int(classes[cls]), order)] += int(requests[cls, order])
    return found


@dataclass(frozen=True)
class Measured:
    """A compiled trace, the machine that ran it, and what follows from both."""

    compiled: CompiledTrace
    machine: Machine
    run: Replay
    seconds: float
    """Wall-clock time of the replay."""
    zone: int
    """The zone with most memory: that of the indexes."""

    @cached_property
    def stats(self) -> Mapping[str, int]:
        """The engine's counters by name (``stats_t``)."""
        return self.machine.stats()

    @property
    def nodes(self) -> int:
        """How many the machine has."""
        return self.compiled.nodes

    def numa(self, key: str) -> int:
        """A counter of zone_statistics(), all nodes together."""
        return sum(node[key] for node in self.machine.numa())

    @cached_property
    def requests(self) -> npt.NDArray[np.int64]:
        """Requests that the trace makes, by class and order."""
        made = [Op.OP_ALLOC, Op.OP_INSTEAD] + [Op.OP_TRY] * self.run.replays_tries
        found: npt.NDArray[np.int64] = self.compiled.kinds[made].sum(axis=0)
        return found[: len(self.compiled.classes)]

    @cached_property
    def allocations(self) -> int:
        """Requests, those that failed and those that callers made instead of a try included."""
        return int(self.requests.sum()) + self.extra

    @property
    def served(self) -> int:
        """Requests that got their pages."""
        return self.allocations - self.run.failures

    @cached_property
    def sensitive(self) -> npt.NDArray[np.bool_]:
        """By class of request: what the classifier said."""
        return np.asarray((self.compiled.classes & np.uint32(GFP_NAMES["__GFP_SENSITIVE"])) != 0)

    @cached_property
    def failed_by_class(self) -> npt.NDArray[np.int64]:
        """Failed requests by class of request."""
        return self.run.failures_by_class()[: len(self.compiled.classes)].astype(np.int64)

    @cached_property
    def fallbacks(self) -> tuple[int, int, int]:
        """Tries whose caller's fallback was replayed, in how many a page failed, requests for such pages."""
        return self.run.fallbacks()

    @property
    def extra(self) -> int:
        """Requests for pages that the trace has not, less those that were not made."""
        return self.fallbacks[2] - self.run.dropped

    @cached_property
    def replayed_by_class(self) -> npt.NDArray[np.int64]:
        """Requests that callers made instead of a try, by the try's class."""
        return self.run.replayed_by_class()[: len(self.compiled.classes)]

    def requests_by_group(self) -> dict[str, int]:
        """Requests by what their failure would mean (asi_pa.kernel.callers); replayed ones are real."""
        found = grouped(self.compiled.classes, self.requests)
        found["real"] += self.extra
        return found

    def failures_by_group(self) -> dict[str, int]:
        """Failed requests by what it means."""
        failed = self.run.failures_by_way_out().astype(np.int64)
        declined = int(failed[WayOut.OPPORTUNISTIC, 0])
        return {
            "real": int(failed[:, 0].sum()) - declined,
            "declined": declined,
            "huge": int(failed[:, 1].sum()),
        }

    def failures_by_way_out(self) -> dict[str, int]:
        """Failed requests by what they leave the caller, huge ones included."""
        failed = self.run.failures_by_way_out().sum(axis=1)
        return {way.name.lower(): int(failed[way]) for way in WayOut}

    @cached_property
    def physmap(self) -> PhysmapCounters | None:
        """What the physmap did; None without one."""
        physmap = self.machine.physmap
        return None if physmap is None else physmap.counters()

    def physmap_count(self, name: str) -> int:
        """A counter of the physmap, both trees together; 0 without one."""
        value = getattr(self.physmap, name) if self.physmap else 0
        return sum(value) if isinstance(value, tuple) else value

    def leaf_writes(self, level: int) -> int:
        """Leaf entries of 4K (0), 2M (1) and 1G (2) that were written in both trees."""
        return sum(tree[level] for tree in self.physmap.leaf_writes) if self.physmap else 0

    def requests_by_order(self) -> list[int]:
        """Requests by order, 0 to MAX_PAGE_ORDER."""
        orders: list[int] = self.requests.sum(axis=0)[:11].tolist()
        orders[0] += self.extra
        return orders

    def by_kind(self, by_class: npt.NDArray[np.int64]) -> dict[str, int]:
        """What is counted by class of request, by kind."""
        return {
            "sensitive": int(by_class[self.sensitive].sum()),
            "nonsensitive": int(by_class[~self.sensitive].sum()),
        }

    def requests_by_kind(self) -> dict[str, int]:
        """Requests by what the classifier said of them."""
        return self.by_kind(self.requests.sum(axis=1) + self.replayed_by_class)

    def shares(self, by_kind: Mapping[str, int]) -> dict[str, float | None]:
        """What is counted by kind as a share of its requests."""
        asked = self.requests_by_kind()
        return {kind: count / asked[kind] if asked[kind] else None for kind, count in by_kind.items()}

    def pcp_allocations_by_kind(self) -> dict[str, int]:
        """Allocations that per-CPU lists served: of their orders, neither failed nor served by the buddy."""
        design, spec = self.machine.design, self.machine.spec
        orders = {order for order, _ in design.pcp_lists(spec.pageblock_order)}
        if all(zone.pcp is None for zone in spec.zones):
            orders = set()
        served = self.by_kind(self.requests[:, sorted(orders)].sum(axis=1))
        if 0 in orders:
            replayed = self.by_kind(self.replayed_by_class)
            served = {k: n + replayed[k] for k, n in served.items()}
        if design.wrapper == "pool":
            served["nonsensitive"] = 0  # the pool has no per-CPU lists
        failed = self.by_kind(self.failed_by_class)
        return {k: max(0, n - failed[k] - self.stats[f"pcp_missed_{k}"]) for k, n in served.items()}

    def flushes_per_1000_able(self) -> float | None:
        """TLB flushes per thousand requests that can cause one in this design; None without such requests."""
        design, classes = self.machine.design, self.compiled.classes
        if not design.protects:
            return None
        if design.wrapper in ("per-page", "queue"):
            able = ~self.sensitive
        else:
            able = self.sensitive.copy()
            if design.tree == "unrestricted":
                able &= (classes & np.uint32(_MOVABLE | _RECLAIMABLE)) == 0
            if not (design.wrapper and design.tree == "unrestricted"):
                able &= (classes & np.uint32(_BLOCKS)) != 0
        requests = int(self.requests[able].sum())
        flushes = self.physmap_count("flushes_ranged") + self.physmap_count("flushes_full")
        return 1000 * flushes / requests if requests else None

    def flushes_per_1000(self) -> float:
        """TLB flushes per thousand requests that got their pages."""
        flushes = self.physmap_count("flushes_ranged") + self.physmap_count("flushes_full")
        return 1000 * flushes / self.served if self.served else 0.0

    def stranded(self) -> dict[str, int]:
        """Free pages that only one kind of request can use without a flip, by side."""
        design = self.machine.design
        sides = {"mapped": 0, "unmapped": 0}
        if not design.protects:
            return sides
        *listed, pool = (int(n) for n in self.run.free_pages())
        # what wraps an allocator takes everything else as it is in the tree the design changes
        remapped, usual = ("mapped", "unmapped") if design.tree == "restricted" else ("unmapped", "mapped")
        for pages, freetype in zip(listed, design.freetypes, strict=True):
            side = usual if design.wrapper else "mapped" if freetype.mapped else "unmapped"
            sides[side] += pages
        sides[remapped] += pool
        return sides

    @cached_property
    def mixed(self) -> tuple[int, int]:
        """(pageblocks with a page of another type, such pages), over all zones."""
        zones = [self.run.mixed_blocks(zone) for zone in range(len(self.machine.spec.zones))]
        return sum(blocks for blocks, _ in zones), sum(pages for _, pages in zones)

    def index(self, unusable: bool) -> list[int]:
        """unusable_index or extfrag_index x 1000 of the largest zone, by order."""
        free = self.run.free_blocks(self.zone).tolist()
        one = indexes.unusable_index if unusable else indexes.extfrag_index
        return [one(free, order) for order in range(len(free))]

    def direct_map_kb(self) -> dict[str, Any]:
        """kB mapped by tree and leaf size; None for a tree that is not there."""
        physmap = self.machine.physmap
        if physmap is None:
            return {"unrestricted": dict.fromkeys(_KB, 0), "restricted": None}
        return {
            tree: {k: physmap.leaf_counts(tree=tree)[k.upper()] * kb for k, kb in _KB.items()}
            for tree in ("unrestricted", "restricted")
        }

    def ops_per_second(self) -> float:
        """Operations replayed a second."""
        return len(self.compiled.ops) / self.seconds if self.seconds else 0.0
