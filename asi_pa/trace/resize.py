"""One zone of any size out of a recorded one.

- Chunks of 2^max_page_order frames that were holes vanish, the others close up; so every free block,
  allocation and pageblock keeps its alignment.
- Smaller than recorded: whole chunks stay, chosen by seed so that sizes are nested and balanced in free
  memory (`balanced`); the population shrinks in proportion.  What the trace frees is always kept: such an
  allocation from a chunk that went takes the place (and the fate) of another of the same order and kind that
  stayed, where there are too few of those, of free frames, and at last of frames whose owner the trace never
  frees.
  Watermarks and per-CPU limits are those that a kernel computes for the new size.
- Larger than recorded: the rest is free.  Holes within a chunk become free memory unless the size is the
  recorded one.
- Without a snapshot: everything is free except for what the trace frees.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.kernel.sizing import derive, single_zone
from asi_pa.kernel.spec import MachineSpec, ZoneSpec
from asi_pa.trace.blocks import frames_of, free_blocks, ranges, runs
from asi_pa.trace.events import ALLOC
from asi_pa.trace.format import Trace, profile
from asi_pa.trace.frames import FRAME_FREE, FRAME_HELD, FRAME_HOLE, FRAME_PCP, ZoneFrames
from asi_pa.trace.initial import (
    Held,
    HeldClasses,
    Population,
    Snapshot,
    finish,
    held_allocations,
    zone_spec,
)
from asi_pa.trace.mentions import NO_EVENT
from asi_pa.trace.pcplists import PcpPages

__all__ = ["Base", "balanced", "modelled_population"]

_U8 = npt.NDArray[np.uint8]
_U32 = npt.NDArray[np.uint32]
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Base:
    """What start states of every size are cut out of: the recorded zone's frames and what they hold."""

    found: list[tuple[dict[str, Any], ZoneFrames]]
    """The zone and its record; empty without snapshots."""
    held: Held
    """First what the trace frees, then the rest, ascending."""
    freed: npt.NDArray[np.void]
    """What the trace frees without having allocated it, less what was free at the start all the same."""
    elsewhere: Held
    """What it frees that lies in no zone that is looked at."""
    max_page_order: int
    pageblock_order: int

    @classmethod
    def of(cls, trace: Trace, snapshot: Snapshot, nid: int | None = None) -> Base:
        """The largest zone of a snapshot, or of one of its nodes."""
        freed, orders = snapshot.freed_on(nid), (trace.max_page_order, trace.pageblock_order)
        if not snapshot.zones:
            return cls([], _of_trace(trace, freed[:0]), freed, _of_trace(trace, freed), *orders)
        largest = snapshot.largest(nid)
        frames = snapshot.frames(largest)
        found = [(snapshot.zones[largest], frames)]
        held = held_allocations(frames, freed, *orders)
        outside = (freed["pfn"] < frames.start_pfn) | (freed["pfn"] >= frames.start_pfn + len(frames.state))
        return cls(found, held, freed, _of_trace(trace, freed[outside]), *orders)

    @cached_property
    def chunks(self) -> Chunks:
        """The recorded zone in chunks of 2^max_page_order frames."""
        return Chunks.of(self)


@dataclass(frozen=True)
class Chunks:
    """A recorded zone chunk by chunk, from the frame ``base`` on."""

    base: int
    size: int
    state: _U8
    """u8[chunks, frames]"""
    block_mt: _U8
    """u8[chunks, pageblocks]"""
    taken: _U32
    """u32[chunks, frames]"""
    available: npt.NDArray[np.intp]
    """Chunks that are not all hole."""
    free: npt.NDArray[np.float64]
    """The free share of each of them."""
    freed: npt.NDArray[np.int64]
    """The chunk of each held allocation that the trace frees."""
    movers: Held
    """What the trace frees, of the zone and of elsewhere: all that may lose its place."""
    ascending: npt.NDArray[np.intp]
    """Their order by pfn, of which none is there twice."""
    others: npt.NDArray[np.int64]
    """i64[chunks + 1]: where the others of each chunk begin in the held allocations."""

    @classmethod
    def of(cls, base: Base) -> Chunks:
        """Of what start states are cut out of."""
        frames, size = base.found[0][1], 1 << base.max_page_order
        lead = frames.start_pfn % size
        first = frames.start_pfn - lead
        total = -(-(lead + len(frames.state)) // size)
        blocks = size >> base.pageblock_order

        def whole(column: npt.NDArray[Any], at: int, count: int, empty: int) -> Any:
            filled = np.full(total * count, empty, column.dtype)
            filled[at : at + len(column)] = column
            return filled.reshape(total, count)

        state = whole(frames.state, lead, size, FRAME_HOLE)
        available = np.flatnonzero((state != FRAME_HOLE).any(axis=1))
        chunk = (base.held.pfn - first) >> base.max_page_order
        count = int(np.count_nonzero(base.held.slot >= 0))
        begins = np.searchsorted(chunk[count:], np.arange(total + 1)) + count
        movers = Held.join([base.held.take(np.arange(count)), base.elsewhere])
        return cls(
            first, size, state,
            whole(frames.block_mt, lead >> base.pageblock_order, blocks, 1),
            whole(frames.taken, lead, size, NO_EVENT),
            available, (state[available] == FRAME_FREE).mean(axis=1),
            chunk[:count], movers, np.argsort(movers.pfn), begins.astype(np.int64),
        )  # fmt: skip


@dataclass
class Cut:
    """What a zone is made of: allocations that have their place and those that lost it, and its frames."""

    held: Held
    displaced: Held
    """Only such as the trace frees, ascending."""
    state: _U8
    """By frame of the zone."""
    block_mt: _U8
    taken: _U32
    """By frame: when it is first taken."""
    pcp: PcpPages
    notes: dict[str, Any]


def balanced(free: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """An order of chunks of which every beginning has about the same share of free memory.

    ``free`` is each chunk's free share.  The chunks by free share, equal ones drawn, are dealt out by the
    golden section from a drawn start: the first n are spread evenly over all shares, whatever n is.  So start
    states of one seed are nested in size, and those of all seeds begin with about the same free memory;
    chunks drawn anew for every size made it jump by half (docs/method.md).
    """
    drawn = rng.permutation(len(free))
    rank = np.empty(len(free))
    rank[drawn[np.argsort(free[drawn], kind="stable")]] = np.arange(len(free))
    return np.argsort((rank * _GOLDEN + rng.random()) % 1.0, kind="stable")


def modelled_population(
    trace: Trace,
    base: Base,
    words: HeldClasses,
    next_slot: int,
    *,
    pages: int | None,
    peak: int,
    seed: int,
) -> tuple[MachineSpec, tuple[Population, ...], int, dict[str, Any]]:
    """One zone of ``pages`` frames (None: as many as the recorded zone Normal managed).

    ``peak``: most pages alive beyond those at the start; without a snapshot the default size is twice what
    the trace needs.  Returns as `recorded_population`.  Raises ValueError if what the trace frees does not
    fit.
    """
    rng = np.random.default_rng(seed)
    if base.found:
        pages = pages or base.found[0][1].managed
        cut = _choose(base, pages, rng)
        machine = _cut_machine(trace, base, cut, pages)
    else:
        needed = peak + int((1 << base.freed["order"].astype(np.int64)).sum())
        chunk = 1 << trace.max_page_order
        pages = pages or max(-(-2 * needed // chunk) * chunk, 1 << 16)
        cut = _empty(base, pages)
        machine = single_zone(pages * 4096, cpus=trace.cpus, kernel=profile(trace), **_orders(trace))
    zone = machine.zones[0]
    held, placed = _place(cut, zone.start_pfn, trace, rng)
    population, next_slot = finish(
        held, cut.state, cut.taken, _still_listed(cut.pcp, cut.state, zone.start_pfn), zone, cut.block_mt,
        words, next_slot, trace.max_page_order, trace.pageblock_order,
    )  # fmt: skip
    notes = (
        cut.notes
        | placed
        | {
            "modelled_pages": pages,
            "modelled_free_pages": population.free_pages,
            "modelled_pcp_pages": population.pcp_pages,
            "modelled_held_pages": population.held_pages,
        }
    )
    return machine, (population,), next_slot, notes


def _orders(trace: Trace) -> dict[str, Any]:
    return {"pageblock_order": trace.pageblock_order, "max_page_order": trace.max_page_order}


def _cut_machine(trace: Trace, base: Base, cut: Cut, pages: int) -> MachineSpec:
    """The machine of one zone: at the recorded size with the limits recorded, else with a kernel's."""
    record, frames = base.found[0]
    start = base.chunks.base
    zone = ZoneSpec(start_pfn=start, spanned=len(cut.state), holes=runs(cut.state == FRAME_HOLE, start))
    machine = MachineSpec(zones=(zone,), cpus=trace.cpus, **_orders(trace))
    if pages != frames.managed:
        return derive(machine, kernel=profile(trace))
    spec = zone_spec(record, frames, trace.cpus)
    zone = replace(
        zone, wmark=spec.wmark, pcp=spec.pcp, pcp_cpus=spec.pcp_cpus, stat_threshold=spec.stat_threshold
    )
    return replace(machine, zones=(zone,))


def _empty(base: Base, pages: int) -> Cut:
    """A zone without a snapshot: everything is free; what the trace frees looks for a place."""
    blocks = -(-pages // (1 << base.pageblock_order))
    displaced = base.elsewhere
    return Cut(
        base.held,
        displaced.take(np.argsort(displaced.pfn)),
        np.full(pages, FRAME_FREE, np.uint8),
        np.ones(blocks, np.uint8),
        np.full(pages, NO_EVENT, np.uint32),
        PcpPages.none(),
        {"snapshot": False},
    )


def _of_trace(trace: Trace, freed: npt.NDArray[np.void]) -> Held:
    """Without flags: an allocation was of the kind that the trace mostly asks for in its order."""
    step = slice(0, 1 << 20)
    asked = trace.kind[step] == ALLOC
    movable = np.array([bool((mask >> 3) & 1) for mask in trace.gfps] or [False])[trace.gfp[step][asked]]
    orders = np.minimum(trace.order[step][asked], 31)
    share = np.bincount(orders, movable, minlength=32) * 2 >= np.maximum(np.bincount(orders, minlength=32), 1)
    return Held(
        freed["pfn"].astype(np.int64),
        freed["order"].copy(),
        share[freed["order"]],
        freed["slot"].astype(np.int64),
        np.zeros(len(freed), bool),
    )


def _choose(base: Base, pages: int, rng: np.random.Generator) -> Cut:
    """Chunks of the recorded zone for a zone of ``pages`` frames, and what they hold."""
    frames, whole, size = base.found[0][1], base.chunks, base.chunks.size
    wanted, total = -(-pages // size), len(whole.state)
    if pages >= frames.managed:
        chosen = whole.available
    else:
        chosen = np.sort(whole.available[balanced(whole.free, rng)[:wanted]])
    count = max(wanted, len(chosen))
    spanned = count * size if pages == frames.managed else pages
    place = np.full(total, -1, np.int64)
    place[chosen] = np.arange(len(chosen))

    def cut_out(column: npt.NDArray[Any], empty: int) -> Any:
        made = np.full((count, column.shape[1]), empty, column.dtype)
        np.take(column, chosen, axis=0, out=made[: len(chosen)])
        return made.reshape(-1)

    state = cut_out(whole.state, FRAME_FREE)[:spanned]
    if pages != frames.managed:
        state[state == FRAME_HOLE] = FRAME_FREE
    held, displaced = _held_in(base, chosen, place, state)
    return Cut(
        held,
        displaced,
        state,
        cut_out(whole.block_mt, 1)[: -(-spanned // (1 << base.pageblock_order))],
        cut_out(whole.taken, NO_EVENT)[:spanned],
        _listed(frames.pcp, place, whole.base, size, state),
        {"snapshot": True, **frames.notes, "chunks": len(chosen), "chunks_recorded": len(whole.available)},
    )


def _held_in(
    base: Base, chosen: npt.NDArray[np.intp], place: npt.NDArray[np.int64], state: _U8
) -> tuple[Held, Held]:
    """What is held in the chosen chunks, at its new place; and what the trace frees of the rest, ascending.

    An allocation that the zone's end cuts off is not held; the part inside is free.
    """
    whole, size = base.chunks, base.chunks.size
    begins, ends = whole.others[chosen], whole.others[chosen + 1]
    kept = place[whole.freed] >= 0
    rows = np.concatenate([np.flatnonzero(kept), ranges(begins, ends - begins)])
    held = base.held.take(rows)
    moved = np.concatenate([place[whole.freed[kept]], np.repeat(np.arange(len(chosen)), ends - begins)])
    held.pfn = ((held.pfn - whole.base) & (size - 1)) + moved * size
    gone = np.concatenate([~kept, np.ones(len(base.elsewhere.pfn), bool)])
    over = held.pfn + (1 << held.order.astype(np.int64)) > len(state)
    if over.any():
        cut = over & (held.pfn < len(state))
        state[np.minimum(frames_of(held.pfn[cut], held.order[cut]), len(state) - 1)] = FRAME_FREE
        lost = rows[over]
        gone[lost[lost < len(kept)]] = True
        held = held.take(~over)
    held.pfn += whole.base
    return held, whole.movers.take(whole.ascending[gone[whole.ascending]])


def _listed(pcp: PcpPages, place: npt.NDArray[np.int64], base: int, chunk: int, state: _U8) -> PcpPages:
    """What stays of the per-CPU lists, at its new place; a page that is cut off leaves its list."""
    at = (pcp.pfn - base) // chunk
    new = place[at] * chunk + (pcp.pfn - base) % chunk
    stays = (place[at] >= 0) & (new + (1 << pcp.order.astype(np.int64)) <= len(state))
    cut = (place[at] >= 0) & ~stays & (new < len(state))
    state[np.minimum(frames_of(new[cut], pcp.order[cut]), len(state) - 1)] = FRAME_FREE
    return replace(pcp.take(stays), pfn=new[stays] + base)


def _still_listed(pcp: PcpPages, state: _U8, start: int) -> PcpPages:
    """What no displaced allocation pushed off its list; the rest of a block that was cut into is free."""
    if not len(pcp):
        return pcp
    frames = frames_of(pcp.pfn - start, pcp.order)
    ends = np.cumsum(1 << pcp.order.astype(np.int64))
    whole = np.logical_and.reduceat(state[frames] == FRAME_PCP, np.concatenate([[0], ends[:-1]]))
    gone = pcp.take(~whole)
    cut = frames_of(gone.pfn - start, gone.order)
    state[cut[state[cut] == FRAME_PCP]] = FRAME_FREE
    return pcp.take(whole)


def _place(cut: Cut, start: int, trace: Trace, rng: np.random.Generator) -> tuple[Held, dict[str, int]]:
    """Find places for displaced allocations; ``cut.state`` is brought up to date."""
    held, displaced = cut.held, cut.displaced
    homeless = np.ones(len(displaced.pfn), bool)
    taken_over = 0
    kinds = np.where(held.slot < 0, 2 * held.order + held.movable, np.uint8(255))
    lacking = 2 * displaced.order + displaced.movable
    for kind in np.flatnonzero(np.bincount(lacking, minlength=64)).tolist():
        need, hosts = np.flatnonzero(lacking == kind), np.flatnonzero(kinds == kind)
        count = min(len(need), len(hosts))
        if count:
            # Neighbours stay neighbours: a run of hosts, from a drawn place on.
            hosts = np.roll(hosts, -int(rng.integers(len(hosts))))[:count]
            held.slot[hosts] = displaced.slot[need[:count]]
            homeless[need[:count]] = False
            taken_over += count
    rest = displaced.take(np.flatnonzero(homeless))
    evicted = 0
    if len(rest.pfn):
        held, evicted = _settle_in(held, rest, cut, start, trace)
    notes = {"took_over_places": taken_over, "took_free_places": len(rest.pfn), "evicted": evicted}
    return Held.join([held, rest]), notes


def _settle_in(held: Held, rest: Held, cut: Cut, start: int, trace: Trace) -> tuple[Held, int]:
    """Free places for what found no host, the largest first; what is held then, and how many were evicted."""
    state, evicted = cut.state, 0
    fixed = state == FRAME_HOLE
    staying = held.slot >= 0
    fixed[frames_of(held.pfn[staying] - start, held.order[staying])] = True
    for order in np.unique(rest.order)[::-1].tolist():
        for movable in (False, True):
            need = np.flatnonzero((rest.order == order) & (rest.movable == movable))
            if not len(need):
                continue
            before = len(held.pfn)
            free = free_blocks(state == FRAME_FREE, start, trace.max_page_order)
            lacking = len(need) - _room(free, order)
            if lacking > 0:
                held = _evict(held, state, fixed, start, order, lacking)
                free = free_blocks(state == FRAME_FREE, start, trace.max_page_order)
            evicted += before - len(held.pfn)
            rest.pfn[need] = _spots(free, state, cut.block_mt, start, order, movable, len(need), trace)
            fixed[frames_of(rest.pfn[need] - start, rest.order[need])] = True
    return held, evicted


def _room(free: tuple[_U32, _U8], order: int) -> int:
    """How many allocations of an order fit into free blocks."""
    size = free[1][free[1] >= order].astype(np.int64)
    return int((1 << (size - order)).sum())


def _evict(
    held: Held, state: _U8, fixed: npt.NDArray[np.bool_], start: int, order: int, lacking: int
) -> Held:
    """Make room for ``lacking`` allocations of an order, at the cost of others that the trace never frees.

    Emptied are the aligned ranges with the most free frames; pages on per-CPU lists give way as well.
    """
    size = 1 << order
    whole = len(state) // size * size
    room = np.count_nonzero((state == FRAME_FREE)[:whole].reshape(-1, size), axis=1)
    free = room + np.count_nonzero((state == FRAME_PCP)[:whole].reshape(-1, size), axis=1)
    free[room == size] = size + 1
    candidates = np.flatnonzero(~fixed[:whole].reshape(-1, size).any(axis=1) & (free <= size))
    chosen = candidates[np.argsort(-free[candidates], kind="stable")[:lacking]]
    cleared = np.zeros(len(state) + 1, np.int64)
    emptied = frames_of(chosen * size, np.full(len(chosen), order, np.uint8))
    state[emptied[state[emptied] == FRAME_PCP]] = FRAME_FREE
    cleared[emptied + 1] = 1
    before = np.cumsum(cleared)
    low = held.pfn - start
    victim = before[low + (1 << held.order.astype(np.int64))] > before[low]
    state[frames_of(low[victim], held.order[victim])] = FRAME_FREE
    return held.take(~victim)


def _spots(
    free: tuple[_U32, _U8],
    state: _U8,
    block_mt: _U8,
    start: int,
    order: int,
    movable: bool,
    count: int,
    trace: Trace,
) -> npt.NDArray[np.int64]:
    """``count`` free aligned places of an order: in blocks of the right type, smallest free block first."""
    pfn, size = free
    large = size >= order
    pfn, size = pfn[large].astype(np.int64), size[large]
    wrong = (block_mt[(pfn >> trace.pageblock_order) - (start >> trace.pageblock_order)] == 1) != movable
    rows = np.lexsort((pfn, size, wrong & (size < trace.pageblock_order)))
    pieces = 1 << (size[rows].astype(np.int64) - order)
    ends = np.cumsum(pieces)
    if not len(ends) or ends[-1] < count:
        lacking = count - (int(ends[-1]) if len(ends) else 0)
        raise ValueError(
            f"{trace.label}: {len(state) * 4 >> 10} MiB are too little for what it frees "
            f"({lacking} of order {order})"
        )
    last = int(np.searchsorted(ends, count)) + 1
    rows, pieces, ends = rows[:last], pieces[:last], ends[:last]
    spots: npt.NDArray[np.int64] = np.repeat(pfn[rows] - ((ends - pieces) << order), pieces) + (
        np.arange(int(ends[-1])) << order
    )
    spots = spots[:count]
    state[frames_of(spots - start, np.full(count, order, np.uint8))] = FRAME_HELD
    return spots
