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
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.kernel.sizing import derive, single_zone
from asi_pa.kernel.spec import MachineSpec, ZoneSpec
from asi_pa.trace.blocks import frames_of, free_blocks, runs
from asi_pa.trace.events import ALLOC
from asi_pa.trace.format import Trace, profile
from asi_pa.trace.frames import FRAME_FREE, FRAME_HELD, FRAME_HOLE, FRAME_PCP, NO_EVENT, ZoneFrames
from asi_pa.trace.initial import (
    Held,
    HeldClasses,
    Population,
    Settle,
    finish,
    held_allocations,
    snapshot_frames,
    zone_spec,
)
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
    freed: npt.NDArray[np.void]
    """What the trace frees without having allocated it, less what was free at the start all the same."""

    @classmethod
    def of(cls, trace: Trace, freed: npt.NDArray[np.void], settle: Settle | None = None) -> Base:
        """``freed``: what the trace frees without having allocated it; ``settle`` as of `snapshot_frames`."""
        found, freed = snapshot_frames(trace, freed, largest=True, settle=settle)
        if not found:
            return cls([], _of_trace(trace, freed[:0]), freed)
        held = held_allocations(found[0][1], freed, trace.max_page_order, trace.pageblock_order)
        return cls(found, held, freed)


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
    freed: npt.NDArray[np.void],
    words: HeldClasses,
    next_slot: int,
    *,
    pages: int | None,
    peak: int,
    seed: int,
    base: Base | None = None,
    settle: Settle | None = None,
) -> tuple[MachineSpec, tuple[Population, ...], int, dict[str, Any]]:
    """One zone of ``pages`` frames (None: as many as the recorded zone Normal managed).

    ``peak``: most pages alive beyond those at the start; without a snapshot the default size is twice what
    the trace needs.  Returns as `recorded_population`.  Raises ValueError if what the trace frees does not
    fit.
    """
    base = base or Base.of(trace, freed, settle)
    found, freed = base.found, base.freed
    rng = np.random.default_rng(seed)
    orders: dict[str, Any] = {
        "pageblock_order": trace.pageblock_order,
        "max_page_order": trace.max_page_order,
    }
    chunk = 1 << trace.max_page_order
    notes: dict[str, Any] = {"snapshot": bool(found)}
    if found:
        record, frames = found[0]
        notes |= frames.notes
        pages = pages or frames.managed
        held, displaced, state, block_mt, taken, pcp, chunks = _choose(
            trace, frames, freed, pages, base.held, rng
        )
        notes["chunks"], notes["chunks_recorded"] = chunks
        start = frames.start_pfn // chunk * chunk
        zone = ZoneSpec(start_pfn=start, spanned=len(state), holes=runs(state == FRAME_HOLE, start))
        machine = MachineSpec(zones=(zone,), cpus=trace.cpus, **orders)
        if pages == frames.managed:
            spec = zone_spec(record, frames, trace.cpus)
            zone = replace(
                zone,
                wmark=spec.wmark,
                pcp=spec.pcp,
                pcp_cpus=spec.pcp_cpus,
                stat_threshold=spec.stat_threshold,
            )
            machine = replace(machine, zones=(zone,))
        else:
            machine = derive(machine, kernel=profile(trace))
    else:
        needed = peak + int((1 << freed["order"].astype(np.int64)).sum())
        pages = pages or max(-(-2 * needed // chunk) * chunk, 1 << 16)
        machine = single_zone(pages * 4096, cpus=trace.cpus, kernel=profile(trace), **orders)
        state = np.full(pages, FRAME_FREE, np.uint8)
        displaced = _of_trace(trace, freed)
        held = displaced.take(np.zeros(0, np.intp))
        taken, pcp = np.full(pages, NO_EVENT, np.uint32), PcpPages.none()
        block_mt = np.ones(-(-pages // (1 << trace.pageblock_order)), np.uint8)
    zone = machine.zones[0]
    held, placed = _place(held, displaced, state, block_mt, zone.start_pfn, trace, rng)
    pcp = _still_listed(pcp, state, zone.start_pfn)
    population, next_slot = finish(
        held, state, taken, pcp, zone, block_mt, words, next_slot,
        trace.max_page_order, trace.pageblock_order,
    )  # fmt: skip
    notes |= placed | {
        "modelled_pages": pages,
        "modelled_free_pages": population.free_pages,
        "modelled_pcp_pages": population.pcp_pages,
        "modelled_held_pages": population.held_pages,
    }
    return machine, (population,), next_slot, notes


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


def _choose(
    trace: Trace,
    frames: ZoneFrames,
    freed: npt.NDArray[np.void],
    pages: int,
    held: Held,
    rng: np.random.Generator,
) -> tuple[Held, Held, _U8, _U8, _U32, PcpPages, tuple[int, int]]:
    """Chunks of the recorded zone for a zone of ``pages`` frames, and what they hold.

    Returns held allocations that have their place, those that lost it (only such as the trace frees), the
    state by frame, block types, when frames are taken first, the pages on per-CPU lists, and the number of
    chunks taken and available.
    """
    chunk, blocks = 1 << trace.max_page_order, 1 << (trace.max_page_order - trace.pageblock_order)
    lead = frames.start_pfn % chunk
    base = frames.start_pfn - lead
    total = -(-(lead + len(frames.state)) // chunk)
    state: _U8 = np.full(total * chunk, FRAME_HOLE, np.uint8)
    state[lead : lead + len(frames.state)] = frames.state
    block_mt: _U8 = np.ones(total * blocks, np.uint8)
    first = lead >> trace.pageblock_order
    block_mt[first : first + len(frames.block_mt)] = frames.block_mt
    state, block_mt = state.reshape(total, chunk), block_mt.reshape(total, blocks)

    available = np.flatnonzero((state != FRAME_HOLE).any(axis=1))
    wanted = -(-pages // chunk)
    if pages >= frames.managed:
        chosen = available
    else:
        free = (state[available] == FRAME_FREE).mean(axis=1)
        chosen = np.sort(available[balanced(free, rng)[:wanted]])
    new_state = np.zeros((max(wanted, len(chosen)), chunk), np.uint8)
    new_state[: len(chosen)] = state[chosen]
    new_mt = np.ones((len(new_state), blocks), np.uint8)
    new_mt[: len(chosen)] = block_mt[chosen]
    spanned = len(new_state) * chunk if pages == frames.managed else pages
    place = np.full(total, -1, np.int64)
    place[chosen] = np.arange(len(chosen))

    elsewhere = freed[
        (freed["pfn"] < frames.start_pfn) | (freed["pfn"] >= frames.start_pfn + len(frames.state))
    ]
    at = (held.pfn - base) // chunk
    new = place[at] * chunk + (held.pfn - base) % chunk
    stays = (place[at] >= 0) & (new + (1 << held.order.astype(np.int64)) <= spanned)
    gone = held.take(~stays & (held.slot >= 0))
    displaced = Held.join([gone, _of_trace(trace, elsewhere)])
    flat = new_state.reshape(-1)[:spanned]
    if pages != frames.managed:
        flat[flat == FRAME_HOLE] = FRAME_FREE
    dropped = (place[at] >= 0) & ~stays & (new < spanned)
    flat[np.minimum(frames_of(new[dropped], held.order[dropped]), spanned - 1)] = FRAME_FREE
    kept = held.take(stays)
    kept.pfn = new[stays] + base
    mt = new_mt.reshape(-1)[: -(-spanned // (1 << trace.pageblock_order))]
    old: _U32 = np.full(total * chunk, NO_EVENT, np.uint32)
    old[lead : lead + len(frames.taken)] = frames.taken
    taken: _U32 = np.full(len(new_state) * chunk, NO_EVENT, np.uint32)
    taken[: len(chosen) * chunk] = old.reshape(total, chunk)[chosen].reshape(-1)
    pcp = _listed(frames.pcp, place, base, chunk, flat)
    return kept, displaced, flat, mt, taken[:spanned], pcp, (len(chosen), len(available))


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


def _place(
    held: Held,
    displaced: Held,
    state: _U8,
    block_mt: _U8,
    start: int,
    trace: Trace,
    rng: np.random.Generator,
) -> tuple[Held, dict[str, int]]:
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
    fixed = state == FRAME_HOLE
    fixed[frames_of(held.pfn[held.slot >= 0] - start, held.order[held.slot >= 0])] = True
    evicted = 0
    for order in np.unique(rest.order)[::-1].tolist():
        for movable in (False, True):
            need = np.flatnonzero((rest.order == order) & (rest.movable == movable))
            if not len(need):
                continue
            before = len(held.pfn)
            held = _evict(held, state, fixed, start, int(order), len(need))
            evicted += before - len(held.pfn)
            rest.pfn[need] = _spots(state, block_mt, start, int(order), movable, len(need), trace)
            fixed[frames_of(rest.pfn[need] - start, rest.order[need])] = True
    notes = {"took_over_places": taken_over, "took_free_places": len(rest.pfn), "evicted": evicted}
    return Held.join([held, rest]), notes


def _evict(held: Held, state: _U8, fixed: npt.NDArray[np.bool_], start: int, order: int, count: int) -> Held:
    """Make room for ``count`` allocations of an order, at the cost of others that the trace never frees.

    Nothing happens if there is room.  Emptied are the aligned ranges with the most free frames; pages on
    per-CPU lists give way as well.
    """
    size = 1 << order
    whole = len(state) // size * size
    room = np.count_nonzero((state == FRAME_FREE)[:whole].reshape(-1, size), axis=1)
    lacking = count - int((room == size).sum())
    free = room + np.count_nonzero((state == FRAME_PCP)[:whole].reshape(-1, size), axis=1)
    free[room == size] = size + 1
    candidates = np.flatnonzero(~fixed[:whole].reshape(-1, size).any(axis=1) & (free <= size))
    if lacking <= 0:
        return held
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
