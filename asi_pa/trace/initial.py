"""The initial state: what is held and what is free when the first operation runs.

`recorded_population` rebuilds the recorded machine, zone by zone; `asi_pa.trace.resize` makes one zone of
any size out of it.  Used frames become held allocations of the kind that their flags and their pageblock say:
LRU pages movable requests of users (GFP_HIGHUSER_MOVABLE), others in Reclaimable pageblocks reclaimable slab,
everything else unmovable requests of the kernel (GFP_KERNEL); the classifier says which are sensitive.
Compound pages stay whole, except that what the trace frees has the order it is freed with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.kernel.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NAMES, Migratetype
from asi_pa.kernel.sizing import free_high_batch, lowmem_reserves, stat_threshold
from asi_pa.kernel.spec import MachineSpec, PcpSpec, ZoneSpec
from asi_pa.trace.blocks import frames_of, free_blocks, list_order, pages_of, runs
from asi_pa.trace.classify import Classifier, draw, request_words
from asi_pa.trace.cutting import tally, translate
from asi_pa.trace.events import FREE
from asi_pa.trace.exact import exact_frames
from asi_pa.trace.format import Trace
from asi_pa.trace.frames import (
    FRAME_FREE,
    FRAME_HELD,
    FRAME_HOLE,
    KPF_ANON,
    KPF_HEAD,
    KPF_LRU,
    KPF_TAIL,
    NOTHING,
    FirstEvents,
    ZoneFrames,
    first_events,
    recorded_zones,
    zone_frames,
)
from asi_pa.trace.pcplists import PcpPages

__all__ = [
    "Held",
    "HeldClasses",
    "Population",
    "Settle",
    "Snapshot",
    "finish",
    "held_allocations",
    "populated",
    "recorded_population",
    "zone_spec",
]

_U32 = npt.NDArray[np.uint32]
_U8 = npt.NDArray[np.uint8]
#: (trace, zone's record, kpageflags of the start, first events, kpageflags of the end) -> the zone's frames.
Settle = Callable[[Trace, dict[str, Any], _U8, FirstEvents, _U8 | None], ZoneFrames]


@dataclass(frozen=True, kw_only=True)
class Population:
    """One zone's initial state.

    Frames are absolute; each is in one free block, on one per-CPU list, in one allocation or a hole.
    """

    name: str
    start_pfn: int
    spanned: int
    free_pfn: _U32
    """u32[free blocks], by order; within one in the order of the free lists, as far as the trace shows it."""
    free_order: _U8
    held_pfn: _U32
    """u32[allocations]: those that the trace frees first, then the others, ascending."""
    held_order: _U8
    held_cls: _U8
    """Index into the compiled trace's ``classes``."""
    held_slot: _U32
    block_mt: _U8
    """u8[pageblocks from start_pfn on]: 0 Unmovable, 1 Movable, 2 Reclaimable."""
    held_file: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    """bool[allocations]: pages of files, which reclaim can drop (on the LRU and not anonymous)."""
    holes: tuple[tuple[int, int], ...] = ()
    pcp_pfn: _U32 = field(default_factory=lambda: np.zeros(0, np.uint32))
    """u32[pages on per-CPU lists]: list after list, each from its head to its tail."""
    pcp_order: _U8 = field(default_factory=lambda: np.zeros(0, np.uint8))
    pcp_mt: _U8 = field(default_factory=lambda: np.zeros(0, np.uint8))
    """The list's type: 0 Unmovable, 1 Movable, 2 Reclaimable."""
    pcp_cpu: _U8 = field(default_factory=lambda: np.zeros(0, np.uint8))

    @property
    def free_pages(self) -> int:
        return pages_of(self.free_order)

    @property
    def pcp_pages(self) -> int:
        return pages_of(self.pcp_order)

    @property
    def held_pages(self) -> int:
        return pages_of(self.held_order)


class HeldClasses:
    """Request words of held pages, numbered after those of the trace's own requests."""

    def __init__(self, classifier: Classifier, classes: npt.NDArray[np.uint32]):
        self.classifier = classifier
        self.words = [int(word) for word in classes]

    def index(self, word: int) -> int:
        if word not in self.words:
            if len(self.words) == 256:
                raise ValueError("more than 256 request classes")
            self.words.append(word)
        return self.words.index(word)

    def classify(self, pfn: _U32, order: _U8, movable: npt.NDArray[np.bool_], block_mt: _U8) -> _U8:
        """Classes of held allocations, u8: as if they had been asked for by an unnamed command.

        ``block_mt``: the type of each one's pageblock; what does not move in a Reclaimable one is slab of
        such caches (/proc/kpageflags cannot tell).
        """
        kinds = np.where(movable, np.uint8(0), np.where(block_mt == Migratetype.RECLAIMABLE, 16, 32))
        return self.of_kinds(pfn, (kinds + order).astype(np.uint8))

    def of_kinds(self, pfn: _U32, kinds: _U8) -> _U8:
        """The same from kinds: 16 x (0 movable, 1 slab, 2 other) + order."""
        classes = np.zeros(256, np.uint8)
        drawn: list[tuple[_U32, _U8]] = []
        for kind in np.flatnonzero(tally(kinds)).tolist():
            mask = self._MASKS[kind >> 4]
            share = self.classifier.nonsensitive(mask, "", kind & 15)
            sensitive, nonsensitive = request_words(mask)
            if 0 < share < 1:
                drawn.append(self._draw(np.flatnonzero(kinds == kind), pfn, share, mask))
            else:
                classes[kind] = self.index(nonsensitive if share > 0 else sensitive)
        cls = translate(kinds, classes)
        for rows, words in drawn:
            cls[rows] = words
        return cls

    _MASKS = (GFP_HIGHUSER_MOVABLE, GFP_KERNEL | GFP_NAMES["__GFP_RECLAIMABLE"], GFP_KERNEL)

    def _draw(self, rows: Any, pfn: _U32, share: float, mask: int) -> tuple[Any, _U8]:
        """Rows whose sensitivity is left to chance, and their classes."""
        draws = draw(self.classifier.seed, pfn[rows].astype(np.uint64) + np.uint64(1 << 40))
        odd = draws < np.uint64(share * 4294967296.0)
        cls = np.zeros(len(rows), np.uint8)
        sensitive, nonsensitive = request_words(mask)
        for word, part in ((nonsensitive, odd), (sensitive, ~odd)):
            if part.any():
                cls[part] = self.index(word)
        return rows, cls


@dataclass
class Held:
    """Allocations as columns; ``slot`` -1: not freed by the trace."""

    pfn: npt.NDArray[np.int64]
    order: _U8
    movable: npt.NDArray[np.bool_]
    slot: npt.NDArray[np.int64]
    file: npt.NDArray[np.bool_]
    """On the LRU and not anonymous."""

    def take(self, rows: npt.NDArray[Any]) -> Held:
        """Those rows, given by number or as a mask."""
        at = np.flatnonzero(rows) if rows.dtype == bool else rows
        return Held(
            self.pfn.take(at),
            self.order.take(at),
            self.movable.take(at),
            self.slot.take(at),
            self.file.take(at),
        )

    @staticmethod
    def join(parts: Sequence[Held]) -> Held:
        return Held(
            np.concatenate([part.pfn for part in parts]),
            np.concatenate([part.order for part in parts]),
            np.concatenate([part.movable for part in parts]),
            np.concatenate([part.slot for part in parts]),
            np.concatenate([part.file for part in parts]),
        )


def held_allocations(
    zone: ZoneFrames, freed: npt.NDArray[np.void], max_order: int, pageblock_order: int
) -> Held:
    """The held allocations of a zone: ``freed`` (frames, orders, slots by the trace) and the rest by
    flags."""
    start, flags = zone.start_pfn, zone.flags
    mine = freed[(freed["pfn"] >= start) & (freed["pfn"] < start + len(flags))]
    at = mine["pfn"].astype(np.int64)
    if zone.free is not None and len(mine):
        # Known exactly, and free: the allocation's event is lost, and its free finds nothing.
        held = zone.state[frames_of(at, mine["order"]) - start] == FRAME_HELD
        sizes = 1 << mine["order"].astype(np.int64)
        mine = mine[np.logical_and.reduceat(held, np.cumsum(sizes) - sizes)]
        at = mine["pfn"].astype(np.int64)
    block = (at >> pageblock_order) - (start >> pageblock_order)
    known = (flags[at - start] & ~np.uint8(1)) != 0
    movable = np.where(known, (flags[at - start] & KPF_LRU) != 0, False)
    # No flags any more when the snapshot was read, but free: as the block's other pages.
    movable |= ((flags[at - start] & 1) != 0) & (zone.block_mt[block] == 1)
    file = _of_files(flags[at - start])
    first = Held(at, mine["order"].copy(), movable, mine["slot"].astype(np.int64), file)

    rest = zone.state == FRAME_HELD
    rest[frames_of(at, first.order) - start] = False
    frames = np.flatnonzero(rest)
    # Compound pages: a head and the tails that follow it, all still there.
    kind = flags[frames]
    head = np.flatnonzero((kind & KPF_HEAD) != 0)
    breaks = np.flatnonzero(((kind & KPF_TAIL) == 0) | (np.diff(frames, prepend=-2) != 1))
    run = np.append(breaks, len(frames))
    length = run[np.searchsorted(breaks, head) + 1] - head
    order = np.zeros(len(frames), np.uint8)
    part_of = np.zeros(len(frames), bool)
    exponent = np.frexp(length.astype(np.float64))[1] - 1
    pfn = frames[head] + start
    whole = (length == 1 << exponent) & (exponent <= max_order) & (pfn % (1 << exponent) == 0)
    order[head[whole]] = exponent[whole]
    tails = frames_of(head[whole].astype(np.int64) + 1, exponent[whole].astype(np.uint8))
    # frames_of counts the frame after the last tail too: drop each run's last element.
    ends = np.cumsum(1 << exponent[whole].astype(np.int64)) - 1
    part_of[np.delete(tails, ends) if len(tails) else tails] = True
    rows = np.flatnonzero(~part_of)
    others = Held(
        (frames[rows] + start).astype(np.int64),
        order[rows],
        (kind[rows] & KPF_LRU) != 0,
        np.full(len(rows), -1, np.int64),
        _of_files(kind[rows]),
    )
    return Held.join([first, others])


def _of_files(flags: _U8) -> npt.NDArray[np.bool_]:
    """Which pages reclaim can drop and read again: on the LRU, not anonymous (there is no swap)."""
    return np.asarray((flags & (KPF_LRU | KPF_ANON)) == KPF_LRU)


def finish(
    held: Held,
    state: _U8,
    taken: npt.NDArray[np.uint32],
    pcp: PcpPages,
    zone: ZoneSpec,
    block_mt: _U8,
    words: HeldClasses,
    next_slot: int,
    max_order: int,
    pageblock_order: int,
) -> tuple[Population, int]:
    """A zone's population from its frames' states; ``taken`` as in `list_order`, slots from ``next_slot``."""
    first = _by_slot(held.slot, np.flatnonzero(held.slot >= 0), next_slot)
    rest = _ascending(held.pfn, np.flatnonzero(held.slot < 0))
    held = held.take(np.concatenate([first, rest]))
    slots = held.slot.copy()
    others = np.flatnonzero(slots < 0)
    sizes = 1 << held.order[others].astype(np.int64)
    slots[others] = next_slot + np.cumsum(sizes) - sizes
    next_slot += int(sizes.sum())
    if next_slot >= 0xFFFFFFF0:
        raise ValueError(f"zone {zone.name}: more than 2^32 slots")
    pfn = held.pfn.astype(np.uint32)
    block = (held.pfn >> pageblock_order) - (zone.start_pfn >> pageblock_order)
    population = populated(
        zone, state, taken, pcp, block_mt, max_order,
        held_pfn=pfn,
        held_order=held.order,
        held_cls=words.classify(pfn, held.order, held.movable, block_mt[block]),
        held_slot=slots.astype(np.uint32),
        held_file=held.file,
    )  # fmt: skip
    return population, next_slot


def populated(
    zone: ZoneSpec,
    state: _U8,
    taken: npt.NDArray[np.uint32],
    pcp: PcpPages,
    block_mt: _U8,
    max_order: int,
    **held: npt.NDArray[Any],
) -> Population:
    """A population of what is ``held``, by its columns' names, and what is free; arguments as in `finish`."""
    free_pfn, free_order = free_blocks(state == FRAME_FREE, zone.start_pfn, max_order)
    listed = list_order(free_pfn, free_order, taken, zone.start_pfn)
    return Population(
        name=zone.name,
        start_pfn=zone.start_pfn,
        spanned=zone.spanned,
        free_pfn=free_pfn[listed],
        free_order=free_order[listed],
        block_mt=block_mt,
        holes=zone.holes,
        pcp_pfn=pcp.pfn.astype(np.uint32),
        pcp_order=pcp.order,
        pcp_mt=pcp.mt,
        pcp_cpu=pcp.cpu,
        **held,
    )


def _by_slot(slot: npt.NDArray[np.int64], rows: npt.NDArray[np.intp], end: int) -> npt.NDArray[np.int32]:
    """The rows by slot, of which each has its own, below ``end``."""
    table = np.zeros(end, np.int32)
    table[slot[rows]] = rows + 1
    return table[table > 0] - np.int32(1)


def _ascending(pfn: npt.NDArray[np.int64], rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """The rows by ascending pfn, which they mostly are already."""
    sorted_ = pfn[rows]
    return rows if (sorted_[1:] >= sorted_[:-1]).all() else rows[np.argsort(sorted_, kind="stable")]


def zone_spec(zone: dict[str, Any], frames: ZoneFrames, cpus: int) -> ZoneSpec:
    """Watermarks and per-CPU limits as recorded; what /proc/zoneinfo does not say is derived."""
    marks = [int(zone[key]) for key in ("min", "low", "high")]
    limits = zone.get("cpus") or []
    each = tuple(
        PcpSpec(
            batch=int(cpu["batch"]),
            # kernels before 6.7 have one limit
            high_min=int(cpu.get("high_min", cpu["high"])),
            high_max=int(cpu.get("high_max", cpu["high"])),
            high=frames.high[number] if frames.high else int(cpu["high"]),
            # the recorded machine's caches are not known
            free_high_batch=free_high_batch(MachineSpec.data_cache, int(cpu["batch"])),
        )
        for number, cpu in enumerate(limits)
    )
    return ZoneSpec(
        name=frames.name,
        nid=int(zone.get("nid", 0)),
        start_pfn=frames.start_pfn,
        spanned=len(frames.state),
        holes=runs(frames.state == FRAME_HOLE, frames.start_pfn),
        managed=frames.managed,
        present=int(zone.get("present", frames.managed)),
        wmark=(marks[0], marks[1], marks[2], int(zone.get("promo", 2 * marks[2] - marks[1]))),
        lowmem_reserve=tuple(int(pages) for pages in zone.get("protection", (0, 0, 0, 0))[:4]),
        pcp=each[0] if each else None,
        pcp_cpus=each if len(each) == cpus else (),
        stat_threshold=stat_threshold(frames.managed, cpus),
    )


class Snapshot:
    """The recorded zones with their frames, each decided when it is first asked for.

    A page that left the buddy or a per-CPU list before it was freed was free at the start: somebody got it
    without an event.  Its free finds nothing to free.

    Parameters
    ----------
    trace : Trace
    freed : what the trace frees without having allocated it (`HELD_AT_START`)
    evidence : only so many events are asked what was where (None: all)
    settle : decides what only following the trace can (None: nobody does)
    """

    zones: list[dict[str, Any]]
    """The zones' records, highest first; none without snapshots."""
    freed: npt.NDArray[np.void]
    """What of ``freed`` they held."""

    def __init__(
        self,
        trace: Trace,
        freed: npt.NDArray[np.void],
        evidence: int | None = None,
        settle: Settle | None = None,
    ) -> None:
        self._trace, self._settle = trace, settle
        self._found: dict[int, ZoneFrames] = {}
        kpf = trace.kpf("start")
        self.zones = [] if kpf is None else recorded_zones(trace)[::-1]
        self.freed = freed
        if kpf is None or not self.zones:
            return
        self._kpf, self._end = kpf, trace.kpf("end")
        self._first = first = first_events(trace, len(kpf), evidence)
        known = freed["pfn"] < len(kpf)
        known[known] = np.isin(first.kind[freed["pfn"][known]], (FREE, NOTHING), invert=True)
        self.freed = freed[~known]
        inside = self.freed[self.freed["pfn"] < len(kpf)]
        first.kind[frames_of(inside["pfn"].astype(np.int64), inside["order"])] = FREE

    @classmethod
    def known(cls, trace: Trace, freed: npt.NDArray[np.void], frames: Sequence[ZoneFrames]) -> Snapshot:
        """As it was decided before: what of the frees the zones held, and each zone's frames."""
        made = cls.__new__(cls)
        made._trace, made._settle, made.freed = trace, None, freed
        made._found = dict(enumerate(frames))
        made.zones = recorded_zones(trace)[::-1] if frames else []
        if len(made.zones) != len(frames):
            raise ValueError(f"{trace.label}: {len(frames)} zones for {len(made.zones)}")
        return made

    def largest(self, nid: int | None = None) -> int:
        """The number of zone Normal, or of the largest zone where there is none; of a node or of all."""
        return max(
            (k for k, zone in enumerate(self.zones) if nid in (None, zone.get("nid", 0))),
            key=lambda k: (self.zones[k]["name"] == "Normal", self.zones[k]["managed"]),
        )

    def freed_on(self, nid: int | None) -> npt.NDArray[np.void]:
        """``freed`` of a node; None: all.  What lies in no zone is node 0's."""
        if nid is None:
            return self.freed
        where = np.zeros(len(self.freed), np.int64)
        for zone in self.zones:
            start = int(zone["start_pfn"])
            inside = (self.freed["pfn"] >= start) & (self.freed["pfn"] < start + int(zone["spanned"]))
            where[inside] = int(zone.get("nid", 0))
        found: npt.NDArray[np.void] = self.freed[where == nid]
        return found

    def frames(self, number: int) -> ZoneFrames:
        """The frames of a zone; several threads may ask."""
        if number not in self._found:
            trace, zone, kpf, first, end = self._trace, self.zones[number], self._kpf, self._first, self._end
            if trace.exact is not None:
                self._found[number] = exact_frames(trace, zone, kpf)
            elif self._settle is None:
                self._found[number] = zone_frames(trace, zone, kpf, first, end_kpf=end)
            else:
                self._found[number] = self._settle(trace, zone, kpf, first, end)
        return self._found[number]


def recorded_population(
    trace: Trace, snapshot: Snapshot, words: HeldClasses, next_slot: int
) -> tuple[MachineSpec, tuple[Population, ...], int, dict[str, Any]]:
    """The recorded machine: its zones, highest first, with what each held.

    Returns the machine, the populations in the same order, the number of slots used, and notes.  Raises
    ValueError for a trace without snapshots and for frees outside every zone.
    """
    found = [(zone, snapshot.frames(number)) for number, zone in enumerate(snapshot.zones)]
    freed = snapshot.freed
    if not found:
        raise ValueError(f"{trace.label}: no snapshot of its machine, give a memory size")
    spans = [(frames.start_pfn, frames.start_pfn + len(frames.state)) for _, frames in found]
    outside = np.ones(len(freed), bool)
    for low, high in spans:
        outside &= ~((freed["pfn"] >= low) & (freed["pfn"] < high))
    if outside.any():
        raise ValueError(f"{trace.label}: frees pfn 0x{int(freed['pfn'][outside][0]):x}, outside every zone")
    specs = [zone_spec(zone, frames, trace.cpus) for zone, frames in found]
    for nid in {spec.nid for spec in specs}:
        sizes = [0, 0, 0, 0]
        for spec in specs:
            if spec.nid == nid:
                sizes[spec.zone_idx] = spec.managed or 0
        reserves = lowmem_reserves(sizes)
        specs = [
            replace(spec, lowmem_reserve=reserves[spec.zone_idx])
            if spec.nid == nid and "protection" not in zone
            else spec
            for spec, (zone, _) in zip(specs, found, strict=True)
        ]
    # As a request on node 0 tries them: nodes in order, the highest zone first.
    order = sorted(range(len(specs)), key=lambda k: (specs[k].nid, -specs[k].zone_idx))
    specs, found = [specs[k] for k in order], [found[k] for k in order]
    populations = []
    for spec, (_, frames) in zip(specs, found, strict=True):
        held = held_allocations(frames, freed, trace.max_page_order, trace.pageblock_order)
        population, next_slot = finish(
            held, frames.state, frames.taken, frames.pcp, spec, frames.block_mt, words, next_slot,
            trace.max_page_order, trace.pageblock_order,
        )  # fmt: skip
        if frames.free is not None:  # unlike types do not merge: the blocks as they are
            pfns, orders = frames.free
            rows = np.argsort(orders, kind="stable")
            population = replace(population, free_pfn=pfns[rows], free_order=orders[rows])
        populations.append(population)
    machine = MachineSpec(
        zones=tuple(specs),
        cpus=trace.cpus,
        pageblock_order=trace.pageblock_order,
        max_page_order=trace.max_page_order,
    )
    notes = {
        spec.name + (f"/{spec.nid}" if spec.nid else ""): frames.notes
        for spec, (_, frames) in zip(specs, found, strict=True)
    }
    return machine, tuple(populations), next_slot, notes
