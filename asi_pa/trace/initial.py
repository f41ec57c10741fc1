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

from asi_pa.kernel.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NAMES
from asi_pa.kernel.sizing import free_high_batch, lowmem_reserves, stat_threshold
from asi_pa.kernel.spec import MachineSpec, PcpSpec, ZoneSpec
from asi_pa.trace.blocks import frames_of, free_blocks, list_order, pages_of, runs
from asi_pa.trace.classify import Classifier, draw, request_words
from asi_pa.trace.cutting import columns, tally, translate
from asi_pa.trace.events import FREE
from asi_pa.trace.exact import exact_frames
from asi_pa.trace.first_events import FirstEvents, first_events
from asi_pa.trace.format import Trace
from asi_pa.trace.frames import (
    FRAME_FREE,
    FRAME_HELD,
    FRAME_HOLE,
    ZoneFrames,
    recorded_zones,
    zone_frames,
)
from asi_pa.trace.holding import kinds_freed, rest_of
from asi_pa.trace.mentions import NOTHING
from asi_pa.trace.pcplists import PcpPages

__all__ = [
    "Held",
    "HeldClasses",
    "Population",
    "Settle",
    "Snapshot",
    "finish",
    "held_allocations",
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

    def of_kinds(self, pfn: _U32, kinds: _U8) -> _U8:
        """Classes of held allocations, u8: as if they had been asked for by an unnamed command.

        ``kinds``: 16 x (0 movable, 1 slab, 2 other) + order; what does not move in a Reclaimable pageblock is
        slab of such caches (/proc/kpageflags cannot tell).
        """
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


@dataclass(frozen=True)
class Held:
    """Allocations: what the trace frees, and the rest, ascending (kinds: `asi_pa.trace.cutting`)."""

    freed_pfn: _U32
    freed_kind: _U8
    slot: _U32
    """Of what the trace frees; each has its own."""
    pfn: _U32
    kind: _U8


def held_allocations(
    zone: ZoneFrames, freed: npt.NDArray[np.void], max_order: int, pageblock_order: int
) -> Held:
    """The held allocations of a zone: ``freed`` (frames, orders, slots by the trace) and the rest by
    flags."""
    start, flags = zone.start_pfn, zone.flags
    mine = freed[(freed["pfn"] >= start) & (freed["pfn"] < start + len(flags))]
    if zone.free is not None and len(mine):
        # Known exactly, and free: the allocation's event is lost, and its free finds nothing.
        frames = frames_of(mine["pfn"], mine["order"]) - start
        held = frames < len(zone.state)
        held[held] = zone.state[frames[held]] == FRAME_HELD
        sizes = 1 << mine["order"].astype(np.int64)
        mine = mine[np.logical_and.reduceat(held, np.cumsum(sizes) - sizes)]
    pfn, order = mine["pfn"].copy(), mine["order"].copy()
    kind = kinds_freed(flags, pfn, order, zone.block_mt, start, pageblock_order)
    return Held(pfn, kind, mine["slot"].copy(), *rest_of(flags, zone.state, pfn, order, start, max_order))


def finish(
    zone: ZoneSpec,
    frames: tuple[_U8, _U32, _U8],
    held: tuple[_U32, _U8, _U32],
    pcp: PcpPages,
    words: HeldClasses,
    next_slot: int,
    max_order: int,
    pageblock_order: int,
) -> tuple[Population, int]:
    """A zone's population, and the next slot.

    ``frames``: states, `ZoneFrames.taken`, types of pageblocks; ``held``: frames and kinds, first of what the
    trace frees by slots, then of the rest, ascending, which gets slots from ``next_slot`` on, and the slots
    of the former.
    """
    (state, taken, block_mt), (pfn, kind, known) = frames, held
    slot = np.empty(len(pfn), np.uint32)
    slot[: len(known)] = known
    order, file, kinds, next_slot = columns(
        pfn, kind, len(known), slot, next_slot, block_mt, zone.start_pfn >> pageblock_order, pageblock_order
    )
    if next_slot >= 0xFFFFFFF0:
        raise ValueError(f"zone {zone.name}: more than 2^32 slots")
    free_pfn, free_order = free_blocks(state == FRAME_FREE, zone.start_pfn, max_order)
    listed = list_order(free_pfn, free_order, taken, zone.start_pfn)
    population = Population(
        name=zone.name,
        start_pfn=zone.start_pfn,
        spanned=zone.spanned,
        free_pfn=free_pfn[listed],
        free_order=free_order[listed],
        held_pfn=pfn,
        held_order=order,
        held_cls=words.of_kinds(pfn, kinds),
        held_slot=slot,
        held_file=file,
        block_mt=block_mt,
        holes=zone.holes,
        pcp_pfn=pcp.pfn.astype(np.uint32),
        pcp_order=pcp.order,
        pcp_mt=pcp.mt,
        pcp_cpu=pcp.cpu,
    )
    return population, next_slot


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
        self._held: dict[int, Held] = {}
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
        frames = frames_of(inside["pfn"].astype(np.int64), inside["order"])
        first.kind[frames[frames < len(kpf)]] = FREE

    @classmethod
    def known(cls, trace: Trace, freed: npt.NDArray[np.void], frames: Sequence[ZoneFrames]) -> Snapshot:
        """As it was decided before: what of the frees the zones held, and each zone's frames."""
        made = cls.__new__(cls)
        made._trace, made._settle, made.freed = trace, None, freed
        made._found, made._held = dict(enumerate(frames)), {}
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

    def held(self, number: int) -> Held:
        """What a zone holds."""
        if number not in self._held:
            orders = self._trace.max_page_order, self._trace.pageblock_order
            self._held[number] = held_allocations(self.frames(number), self.freed, *orders)
        return self._held[number]


def recorded_population(
    trace: Trace, snapshot: Snapshot, words: HeldClasses, next_slot: int
) -> tuple[MachineSpec, tuple[Population, ...], int, dict[str, Any]]:
    """The recorded machine: its zones, highest first, with what each held.

    Returns the machine, the populations in the same order, the number of slots used, and notes.  Raises
    ValueError for a trace without snapshots and for frees outside every zone.
    """
    found = [
        (zone, snapshot.frames(number), snapshot.held(number)) for number, zone in enumerate(snapshot.zones)
    ]
    freed = snapshot.freed
    if not found:
        raise ValueError(f"{trace.label}: no snapshot of its machine, give a memory size")
    spans = [(frames.start_pfn, frames.start_pfn + len(frames.state)) for _, frames, _ in found]
    outside = np.ones(len(freed), bool)
    ends = freed["pfn"].astype(np.int64) + (1 << freed["order"].astype(np.int64))
    for low, high in spans:
        outside &= ~((freed["pfn"] >= low) & (ends <= high))
    if outside.any():
        raise ValueError(f"{trace.label}: frees pfn 0x{int(freed['pfn'][outside][0]):x}, outside every zone")
    specs = [zone_spec(zone, frames, trace.cpus) for zone, frames, _ in found]
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
            for spec, (zone, _, _) in zip(specs, found, strict=True)
        ]
    # As a request on node 0 tries them: nodes in order, the highest zone first.
    order = sorted(range(len(specs)), key=lambda k: (specs[k].nid, -specs[k].zone_idx))
    specs, found = [specs[k] for k in order], [found[k] for k in order]
    populations = []
    for spec, (_, frames, held) in zip(specs, found, strict=True):
        rows = np.argsort(held.slot, kind="stable")
        allocated = (
            np.concatenate([held.freed_pfn[rows], held.pfn]),
            np.concatenate([held.freed_kind[rows], held.kind]),
            held.slot[rows],
        )
        population, next_slot = finish(
            spec, (frames.state, frames.taken, frames.block_mt), allocated, frames.pcp, words, next_slot,
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
        for spec, (_, frames, _) in zip(specs, found, strict=True)
    }
    return machine, tuple(populations), next_slot, notes
