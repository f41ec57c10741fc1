"""The initial state: what is held and what is free when the first operation runs.

`recorded_population` rebuilds the recorded machine, zone by zone.  `modelled_population` makes one zone of any size
out of the recorded zone Normal:

- chunks of MAX_ORDER frames that were holes vanish, the others close up; so every free block, allocation and
  pageblock keeps its alignment.
- smaller than recorded: a seeded choice of whole chunks stays, so the population shrinks in proportion.  What the
  trace frees is always kept: such an allocation from a chunk that went takes the place (and the fate) of
  another of the same order and class that stayed, and where there are too few of those, of free frames.
- larger than recorded: the rest is free.
- without a snapshot: everything is free except for what the trace frees.

Used frames become held allocations of the kind that their flags say: LRU pages movable requests of users
(GFP_HIGHUSER_MOVABLE), everything else unmovable ones of the kernel (GFP_KERNEL); the classifier says which of
them are sensitive.  Compound pages stay whole, except that what the trace frees has the order it is freed with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from asi_pa.machine import MachineSpec, PcpSpec, ZoneSpec
from asi_pa.sizing import derive, lowmem_reserves, single_zone, stat_threshold

from .classify import Classifier, draw, request_words
from .format import ALLOC, FREE, Trace
from .frames import _HEAD, _LRU, _TAIL, FRAME_FREE, FRAME_HELD, FRAME_HOLE, ZoneFrames, first_events, recorded_zones, zone_frames

__all__ = ["Population", "modelled_population", "recorded_population"]

_U32 = npt.NDArray[np.uint32]
_U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Population:
    """One zone's initial state.  Frames are absolute; each is in one free block, one allocation or a hole."""

    name: str
    start_pfn: int
    spanned: int
    free_pfn: _U32
    """u32[free blocks], ascending within each order."""
    free_order: _U8
    held_pfn: _U32
    """u32[allocations]: those that the trace frees first, then the others, ascending."""
    held_order: _U8
    held_cls: _U8
    """Index into the compiled trace's ``classes``."""
    held_slot: _U32
    block_mt: _U8
    """u8[pageblocks from start_pfn on]: 0 Unmovable, 1 Movable, 2 Reclaimable."""
    holes: tuple[tuple[int, int], ...] = ()

    @property
    def free_pages(self) -> int:
        return int((1 << self.free_order.astype(np.int64)).sum())

    @property
    def held_pages(self) -> int:
        return int((1 << self.held_order.astype(np.int64)).sum())


class _Words:
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

    def classify(self, pfn: _U32, order: _U8, movable: npt.NDArray[np.bool_]) -> _U8:
        """Classes of held allocations, u8: as if they had been asked for by an unnamed command."""
        cls = np.zeros(len(pfn), np.uint8)
        for mask, kind in ((GFP_HIGHUSER_MOVABLE, movable), (GFP_KERNEL, ~movable)):
            for size in np.unique(order[kind]).tolist():
                chosen = kind & (order == size)
                share = self.classifier.nonsensitive(mask, "", size)
                sensitive, nonsensitive = request_words(mask)
                if 0 < share < 1:
                    draws = draw(self.classifier.seed, pfn.astype(np.uint64) + np.uint64(1 << 40))
                    drawn = draws < np.uint64(share * 4294967296.0)
                else:
                    drawn = np.full(len(pfn), share > 0)
                for word, part in ((nonsensitive, chosen & drawn), (sensitive, chosen & ~drawn)):
                    if part.any():
                        cls[part] = self.index(word)
        return cls


@dataclass
class _Held:
    """Allocations as columns; ``slot`` -1: not freed by the trace."""

    pfn: npt.NDArray[np.int64]
    order: _U8
    movable: npt.NDArray[np.bool_]
    slot: npt.NDArray[np.int64]

    def take(self, rows: npt.NDArray[Any]) -> _Held:
        return _Held(self.pfn[rows], self.order[rows], self.movable[rows], self.slot[rows])

    @staticmethod
    def join(parts: Sequence[_Held]) -> _Held:
        return _Held(
            np.concatenate([part.pfn for part in parts]),
            np.concatenate([part.order for part in parts]),
            np.concatenate([part.movable for part in parts]),
            np.concatenate([part.slot for part in parts]),
        )


def free_blocks(free: npt.NDArray[np.bool_], start: int, max_order: int) -> tuple[_U32, _U8]:
    """The buddy structure of a set of free frames: maximal aligned blocks, by order, then address.

    ``free`` is bool by frame from ``start`` on.  Returns absolute u32 frames and u8 orders.
    """
    size = 1 << max_order
    lead = start % size
    level = np.zeros(-(-(lead + len(free)) // size) * size, bool)
    level[lead : lead + len(free)] = free
    pfns, orders = [], []
    for order in range(max_order):
        whole = level[0::2] & level[1::2]
        left = np.flatnonzero(level & ~np.repeat(whole, 2))
        pfns.append((left << order) + start - lead)
        orders.append(np.full(len(left), order, np.uint8))
        level = whole
    left = np.flatnonzero(level)
    pfns.append((left << max_order) + start - lead)
    orders.append(np.full(len(left), max_order, np.uint8))
    return np.concatenate(pfns).astype(np.uint32), np.concatenate(orders)


def _cover(pfn: npt.NDArray[np.int64], order: _U8) -> npt.NDArray[np.int64]:
    """Every frame of the given blocks."""
    size = 1 << order.astype(np.int64)
    ends = np.cumsum(size)
    return np.repeat(pfn - (ends - size), size) + np.arange(int(ends[-1]) if len(ends) else 0)


def _held(zone: ZoneFrames, freed: npt.NDArray[np.void], max_order: int, pageblock_order: int) -> _Held:
    """The held allocations of a zone: ``freed`` (frames, orders, slots by the trace) and the rest by flags."""
    start, flags = zone.start_pfn, zone.flags
    mine = freed[(freed["pfn"] >= start) & (freed["pfn"] < start + len(flags))]
    at = mine["pfn"].astype(np.int64)
    block = (at >> pageblock_order) - (start >> pageblock_order)
    known = (flags[at - start] & ~np.uint8(1)) != 0
    movable = np.where(known, (flags[at - start] & _LRU) != 0, False)
    # No flags any more when the snapshot was read, but free: as the block's other pages.
    movable |= ((flags[at - start] & 1) != 0) & (zone.block_mt[block] == 1)
    first = _Held(at, mine["order"].copy(), movable, mine["slot"].astype(np.int64))

    rest = zone.state == FRAME_HELD
    rest[_cover(at, first.order) - start] = False
    frames = np.flatnonzero(rest)
    # Compound pages: a head and the tails that follow it, all still there.
    kind = flags[frames]
    head = np.flatnonzero((kind & _HEAD) != 0)
    breaks = np.flatnonzero(((kind & _TAIL) == 0) | (np.diff(frames, prepend=-2) != 1))
    run = np.append(breaks, len(frames))
    length = run[np.searchsorted(breaks, head) + 1] - head
    order = np.zeros(len(frames), np.uint8)
    part_of = np.zeros(len(frames), bool)
    exponent = np.frexp(length.astype(np.float64))[1] - 1
    pfn = frames[head] + start
    whole = (length == 1 << exponent) & (exponent <= max_order) & (pfn % (1 << exponent) == 0)
    order[head[whole]] = exponent[whole]
    tails = _cover(head[whole].astype(np.int64) + 1, exponent[whole].astype(np.uint8))
    # _cover counts the frame after the last tail too: drop each run's last element.
    ends = np.cumsum(1 << exponent[whole].astype(np.int64)) - 1
    part_of[np.delete(tails, ends) if len(tails) else tails] = True
    rows = np.flatnonzero(~part_of)
    others = _Held(
        (frames[rows] + start).astype(np.int64),
        order[rows],
        (kind[rows] & _LRU) != 0,
        np.full(len(rows), -1, np.int64),
    )
    return _Held.join([first, others])


def _finish(
    held: _Held,
    free: npt.NDArray[np.bool_],
    zone: ZoneSpec,
    block_mt: _U8,
    words: _Words,
    next_slot: int,
    max_order: int,
) -> tuple[Population, int]:
    rows = np.lexsort((np.where(held.slot < 0, held.pfn, held.slot), held.slot < 0))
    held = held.take(rows)
    slots = held.slot.copy()
    others = np.flatnonzero(slots < 0)
    sizes = 1 << held.order[others].astype(np.int64)
    slots[others] = next_slot + np.cumsum(sizes) - sizes
    next_slot += int(sizes.sum())
    if next_slot >= 0xFFFFFFF0:
        raise ValueError(f"zone {zone.name}: more than 2^32 slots")
    pfn = held.pfn.astype(np.uint32)
    free_pfn, free_order = free_blocks(free, zone.start_pfn, max_order)
    population = Population(
        name=zone.name,
        start_pfn=zone.start_pfn,
        spanned=zone.spanned,
        free_pfn=free_pfn,
        free_order=free_order,
        held_pfn=pfn,
        held_order=held.order,
        held_cls=words.classify(pfn, held.order, held.movable),
        held_slot=slots.astype(np.uint32),
        block_mt=block_mt,
        holes=zone.holes,
    )
    return population, next_slot


def _runs(mask: npt.NDArray[np.bool_], start: int) -> tuple[tuple[int, int], ...]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return tuple((int(a) + start, int(b) + start) for a, b in zip(edges[::2], edges[1::2], strict=True))


def _zone_spec(zone: dict[str, Any], frames: ZoneFrames, cpus: int) -> ZoneSpec:
    """Watermarks and per-CPU limits as recorded; what /proc/zoneinfo does not say is derived."""
    marks = [int(zone[key]) for key in ("min", "low", "high")]
    limits = zone.get("cpus") or []
    pcp = None
    if limits:
        pcp = PcpSpec(
            batch=int(limits[0]["batch"]),
            high_min=int(limits[0]["high_min"]),
            high_max=int(limits[0]["high_max"]),
            high=sum(int(cpu["high"]) for cpu in limits) // len(limits),
        )
    return ZoneSpec(
        name=frames.name,
        start_pfn=frames.start_pfn,
        spanned=len(frames.state),
        holes=_runs(frames.state == FRAME_HOLE, frames.start_pfn),
        managed=frames.managed,
        present=int(zone.get("present", frames.managed)),
        wmark=(marks[0], marks[1], marks[2], 2 * marks[2] - marks[1]),
        pcp=pcp,
        stat_threshold=stat_threshold(frames.managed, cpus),
    )


def _frames(
    trace: Trace, freed: npt.NDArray[np.void], *, largest: bool = False
) -> list[tuple[dict[str, Any], ZoneFrames]]:
    """The recorded zones with their frames, highest first; empty without snapshots.

    ``largest``: only Normal, or the largest zone where there is no Normal.
    """
    kpf = trace.kpf("start")
    zones = recorded_zones(trace)[::-1]
    if kpf is None or not zones:
        return []
    if largest:
        zones = [max(zones, key=lambda zone: (zone["name"] == "Normal", zone["managed"]))]
    first, shown = first_events(trace, len(kpf))
    freed = freed[freed["pfn"] < len(kpf)]
    first[_cover(freed["pfn"].astype(np.int64), freed["order"])] = FREE
    return [(zone, zone_frames(trace, zone, kpf, first, shown)) for zone in zones]


def recorded_population(
    trace: Trace, freed: npt.NDArray[np.void], words: _Words, next_slot: int
) -> tuple[MachineSpec, tuple[Population, ...], int, dict[str, Any]]:
    """The recorded machine: its zones, highest first, with what each held.

    ``freed``: what the trace frees without having allocated it (`HELD_AT_START`).  Returns the machine, the
    populations in the same order, the number of slots used, and notes.  Raises ValueError for a trace without
    snapshots and for frees outside every zone.
    """
    found = _frames(trace, freed)
    if not found:
        raise ValueError(f"trace {trace.name}: no snapshot of its machine, give a memory size")
    spans = [(frames.start_pfn, frames.start_pfn + len(frames.state)) for _, frames in found]
    outside = np.ones(len(freed), bool)
    for low, high in spans:
        outside &= ~((freed["pfn"] >= low) & (freed["pfn"] < high))
    if outside.any():
        raise ValueError(f"trace {trace.name}: frees pfn 0x{int(freed['pfn'][outside][0]):x}, outside every zone")
    sizes = [0, 0, 0, 0]
    specs = [_zone_spec(zone, frames, trace.cpus) for zone, frames in found]
    for spec in specs:
        sizes[spec.zone_idx] = spec.managed or 0
    reserves = lowmem_reserves(sizes)
    specs = [replace(spec, lowmem_reserve=reserves[spec.zone_idx]) for spec in specs]
    populations = []
    for spec, (_, frames) in zip(specs, found, strict=True):
        held = _held(frames, freed, trace.max_page_order, trace.pageblock_order)
        population, next_slot = _finish(
            held, frames.state == FRAME_FREE, spec, frames.block_mt, words, next_slot, trace.max_page_order
        )
        populations.append(population)
    machine = MachineSpec(
        zones=tuple(specs), cpus=trace.cpus, pageblock_order=trace.pageblock_order, max_page_order=trace.max_page_order
    )
    return machine, tuple(populations), next_slot, {frames.name: frames.notes for _, frames in found}


def modelled_population(
    trace: Trace,
    freed: npt.NDArray[np.void],
    words: _Words,
    next_slot: int,
    *,
    pages: int | None,
    peak: int,
    seed: int,
) -> tuple[MachineSpec, tuple[Population, ...], int, dict[str, Any]]:
    """One zone of ``pages`` frames (None: as many as the recorded zone Normal managed).

    ``peak``: most pages alive beyond those at the start; without a snapshot the default size is twice what the
    trace needs.  Returns as `recorded_population`.  Raises ValueError if what the trace frees does not fit.
    """
    found = _frames(trace, freed, largest=True)
    rng = np.random.default_rng(seed)
    chunk = 1 << trace.max_page_order
    if not found:
        needed = peak + int((1 << freed["order"].astype(np.int64)).sum())
        pages = pages or max(-(-2 * needed // chunk) * chunk, 1 << 16)
        machine = single_zone(pages * 4096, cpus=trace.cpus, kernel=trace.kernel or "7.2",
                              pageblock_order=trace.pageblock_order, max_page_order=trace.max_page_order)  # fmt: skip
        zone = machine.zones[0]
        state = np.zeros(pages, np.uint8)
        held, notes = _of_trace(trace, freed), {"snapshot": False}
        displaced = held
        held = held.take(np.zeros(0, np.intp))
        block_mt = np.ones(-(-pages // (1 << trace.pageblock_order)), np.uint8)
    else:
        record, frames = found[0]
        notes = {"snapshot": True, **frames.notes}
        pages = pages or frames.managed
        held, displaced, state, block_mt, chunks = _choose(trace, frames, freed, pages, rng)
        notes["chunks"], notes["chunks_recorded"] = chunks
        start = frames.start_pfn // chunk * chunk
        if pages == frames.managed:
            zone = replace(
                _zone_spec(record, frames, trace.cpus),
                name="Normal", start_pfn=start, spanned=len(state), holes=_runs(state == FRAME_HOLE, start),
                managed=int((state != FRAME_HOLE).sum()), present=int((state != FRAME_HOLE).sum()),
            )  # fmt: skip
            machine = MachineSpec(zones=(zone,), cpus=trace.cpus, pageblock_order=trace.pageblock_order,
                                  max_page_order=trace.max_page_order)  # fmt: skip
        else:
            zone = ZoneSpec(start_pfn=start, spanned=len(state), holes=_runs(state == FRAME_HOLE, start))
            bare = MachineSpec(zones=(zone,), cpus=trace.cpus, pageblock_order=trace.pageblock_order,
                               max_page_order=trace.max_page_order)  # fmt: skip
            machine = derive(bare, kernel=trace.kernel)
            zone = machine.zones[0]
    held, placed = _place(held, displaced, state, block_mt, zone.start_pfn, trace, rng)
    free = state == FRAME_FREE
    notes |= placed | {"modelled_pages": pages}
    population, next_slot = _finish(held, free, zone, block_mt, words, next_slot, trace.max_page_order)
    notes["modelled_free_pages"], notes["modelled_held_pages"] = population.free_pages, population.held_pages
    return machine, (population,), next_slot, notes


def _of_trace(trace: Trace, freed: npt.NDArray[np.void]) -> _Held:
    """Without flags: an allocation was of the kind that the trace mostly asks for in its order."""
    step = slice(0, 1 << 20)
    asked = trace.kind[step] == ALLOC
    movable = np.array([bool((mask >> 3) & 1) for mask in trace.gfps] or [False])[trace.gfp[step][asked]]
    orders = np.minimum(trace.order[step][asked], 31)
    share = np.bincount(orders, movable, minlength=32) * 2 >= np.maximum(np.bincount(orders, minlength=32), 1)
    return _Held(
        freed["pfn"].astype(np.int64), freed["order"].copy(), share[freed["order"]], freed["slot"].astype(np.int64)
    )


def _choose(
    trace: Trace, frames: ZoneFrames, freed: npt.NDArray[np.void], pages: int, rng: np.random.Generator
) -> tuple[_Held, _Held, _U8, _U8, tuple[int, int]]:
    """Chunks of the recorded zone for a zone of ``pages`` frames, and what they hold.

    Returns held allocations that have their place, those that lost it (only such as the trace frees), the
    state by frame, block types, and the number of chunks taken and available.
    """
    chunk, blocks = 1 << trace.max_page_order, 1 << (trace.max_page_order - trace.pageblock_order)
    lead = frames.start_pfn % chunk
    base = frames.start_pfn - lead
    total = -(-(lead + len(frames.state)) // chunk)
    state = np.full(total * chunk, FRAME_HOLE, np.uint8)
    state[lead : lead + len(frames.state)] = frames.state
    block_mt = np.ones(total * blocks, np.uint8)
    first = lead >> trace.pageblock_order
    block_mt[first : first + len(frames.block_mt)] = frames.block_mt
    state, block_mt = state.reshape(total, chunk), block_mt.reshape(total, blocks)

    available = np.flatnonzero((state != FRAME_HOLE).any(axis=1))
    wanted = -(-pages // chunk)
    if pages >= frames.managed:
        chosen = available
    else:
        chosen = np.sort(rng.choice(available, wanted, replace=False))
    new_state = np.zeros((max(wanted, len(chosen)), chunk), np.uint8)
    new_state[: len(chosen)] = state[chosen]
    new_mt = np.ones((len(new_state), blocks), np.uint8)
    new_mt[: len(chosen)] = block_mt[chosen]
    spanned = len(new_state) * chunk if pages == frames.managed else pages
    place = np.full(total, -1, np.int64)
    place[chosen] = np.arange(len(chosen))

    held = _held(frames, freed, trace.max_page_order, trace.pageblock_order)
    elsewhere = freed[(freed["pfn"] < frames.start_pfn) | (freed["pfn"] >= frames.start_pfn + len(frames.state))]
    at = (held.pfn - base) // chunk
    new = place[at] * chunk + (held.pfn - base) % chunk
    stays = (place[at] >= 0) & (new + (1 << held.order.astype(np.int64)) <= spanned)
    gone = held.take(~stays & (held.slot >= 0))
    displaced = _Held.join([gone, _of_trace(trace, elsewhere)])
    flat = new_state.reshape(-1)[:spanned]
    dropped = (place[at] >= 0) & ~stays & (new < spanned)
    flat[np.minimum(_cover(new[dropped], held.order[dropped]), spanned - 1)] = FRAME_FREE
    kept = held.take(stays)
    kept.pfn = new[stays] + base
    mt = new_mt.reshape(-1)[: -(-spanned // (1 << trace.pageblock_order))]
    return kept, displaced, flat, mt, (len(chosen), len(available))


def _place(
    held: _Held, displaced: _Held, state: _U8, block_mt: _U8, start: int, trace: Trace, rng: np.random.Generator
) -> tuple[_Held, dict[str, int]]:
    """Find places for displaced allocations; ``state`` is brought up to date."""
    order_of = np.argsort(displaced.pfn, kind="stable")
    displaced = displaced.take(order_of)
    homeless = np.ones(len(displaced.pfn), bool)
    taken_over = 0
    for order in np.unique(displaced.order).tolist():
        for movable in (False, True):
            need = np.flatnonzero((displaced.order == order) & (displaced.movable == movable))
            hosts = np.flatnonzero((held.slot < 0) & (held.order == order) & (held.movable == movable))
            count = min(len(need), len(hosts))
            if not count:
                continue
            # Neighbours stay neighbours: a run of hosts, from a drawn place on.
            hosts = np.roll(hosts, -int(rng.integers(len(hosts))))[:count]
            held.slot[hosts] = displaced.slot[need[:count]]
            homeless[need[:count]] = False
            taken_over += count
    rest = displaced.take(homeless)
    for order in np.unique(rest.order)[::-1].tolist():
        for movable in (False, True):
            need = np.flatnonzero((rest.order == order) & (rest.movable == movable))
            if len(need):
                rest.pfn[need] = _spots(state, block_mt, start, int(order), movable, len(need), trace)
    notes = {"took_over_places": taken_over, "took_free_places": len(rest.pfn)}
    return _Held.join([held, rest]), notes


def _spots(
    state: _U8, block_mt: _U8, start: int, order: int, movable: bool, count: int, trace: Trace
) -> npt.NDArray[np.int64]:
    """``count`` free aligned places of an order: in blocks of the right type, smallest free block first."""
    pfn, size = free_blocks(state == FRAME_FREE, start, trace.max_page_order)
    large = size >= order
    pfn, size = pfn[large].astype(np.int64), size[large]
    wrong = (block_mt[(pfn >> trace.pageblock_order) - (start >> trace.pageblock_order)] == 1) != movable
    rows = np.lexsort((pfn, size, wrong & (size < trace.pageblock_order)))
    pieces = 1 << (size[rows].astype(np.int64) - order)
    ends = np.cumsum(pieces)
    if not len(ends) or ends[-1] < count:
        lacking = count - (int(ends[-1]) if len(ends) else 0)
        raise ValueError(
            f"trace {trace.name}: {len(state) * 4 >> 10} MiB are too little for what it frees ({lacking} of order {order})"
        )
    last = int(np.searchsorted(ends, count)) + 1
    rows, pieces, ends = rows[:last], pieces[:last], ends[:last]
    spots = np.repeat(pfn[rows] - ((ends - pieces) << order), pieces) + (np.arange(int(ends[-1])) << order)
    spots = spots[:count]
    state[_cover(spots - start, np.full(count, order, np.uint8))] = FRAME_HELD
    return spots
