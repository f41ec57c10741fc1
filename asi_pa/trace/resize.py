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

from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.kernel.sizing import derive, single_zone
from asi_pa.kernel.spec import MachineSpec, ZoneSpec
from asi_pa.trace.blocks import frames_of, runs
from asi_pa.trace.cutting import KINDS, bring, gather, kinds_of, orders_of, take_over
from asi_pa.trace.events import ALLOC
from asi_pa.trace.format import Trace, profile
from asi_pa.trace.frames import FRAME_FREE, FRAME_HOLE, FRAME_PCP, ZoneFrames
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
from asi_pa.trace.places import Places

__all__ = ["Base", "balanced", "modelled_population"]

_U8 = npt.NDArray[np.uint8]
_U32 = npt.NDArray[np.uint32]
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Movers:
    """What the trace frees, of the zone and of elsewhere, ascending: it has a place on every machine."""

    pfn: _U32
    kind: _U8
    """`asi_pa.trace.cutting`."""
    chunk: npt.NDArray[np.int32]
    """-1: it lies in no zone that is looked at."""
    slot: _U32
    """Of all of them, ascending."""
    row: _U32
    """Where each one's slot is among these."""

    @classmethod
    def of(
        cls, held: Held | None, elsewhere: npt.NDArray[np.void], kinds: _U8, first: int, order: int
    ) -> Movers:
        """``first``: the frame that the chunks, of 2^order frames, begin with."""
        pfn, kind, slot = elsewhere["pfn"], kinds, elsewhere["slot"]
        chunk = np.full(len(pfn), -1, np.int32)
        if held is not None:
            chunk = np.concatenate(
                [((held.freed_pfn.astype(np.int64) - first) >> order).astype(np.int32), chunk]
            )
            pfn, kind, slot = (
                np.concatenate(both)
                for both in ((held.freed_pfn, pfn), (held.freed_kind, kind), (held.slot, slot))
            )
        rows = np.argsort(pfn)
        slot = slot[rows]
        sorted_ = np.argsort(slot)
        row = np.empty(len(rows), np.uint32)
        row[sorted_] = np.arange(len(rows), dtype=np.uint32)
        return cls(pfn[rows], kind[rows], chunk[rows], slot[sorted_], row)


@dataclass(frozen=True)
class Base:
    """What start states of every size are cut out of: the recorded zone's frames and what they hold."""

    found: list[tuple[dict[str, Any], ZoneFrames]]
    """The zone and its record; empty without snapshots."""
    freed: npt.NDArray[np.void]
    """What the trace frees without having allocated it, less what was free at the start all the same."""
    movers: Movers
    others: tuple[_U32, _U8]
    """What the zone holds besides, ascending: frames and kinds."""
    max_page_order: int
    pageblock_order: int

    @classmethod
    def of(cls, trace: Trace, snapshot: Snapshot, nid: int | None = None) -> Base:
        """The largest zone of a snapshot, or of one of its nodes."""
        freed, orders = snapshot.freed_on(nid), (trace.max_page_order, trace.pageblock_order)
        if not snapshot.zones:
            movers = Movers.of(None, freed, _kinds_of(trace, freed), 0, orders[0])
            return cls([], freed, movers, (np.zeros(0, np.uint32), np.zeros(0, np.uint8)), *orders)
        largest = snapshot.largest(nid)
        frames = snapshot.frames(largest)
        found = [(snapshot.zones[largest], frames)]
        held = snapshot.held(largest) if nid is None else held_allocations(frames, freed, *orders)
        outside = (freed["pfn"] < frames.start_pfn) | (freed["pfn"] >= frames.start_pfn + len(frames.state))
        first = frames.start_pfn >> orders[0] << orders[0]
        movers = Movers.of(held, freed[outside], _kinds_of(trace, freed[outside]), first, orders[0])
        return cls(found, freed, movers, (held.pfn, held.kind), *orders)

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
    pfn: _U32
    """Of what the trace does not free, ascending."""
    kind: _U8
    begins: npt.NDArray[np.int64]
    """i64[chunks + 1]: where each chunk's begin."""
    dealt: dict[int, tuple[npt.NDArray[np.intp], np.random.Generator]] = field(default_factory=dict)
    """By seed: the chunks as `balanced` deals them out, and the generator behind it."""

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
        pfn, kind = base.others
        return cls(
            first, size, state,
            whole(frames.block_mt, lead >> base.pageblock_order, blocks, 1),
            whole(frames.taken, lead, size, NO_EVENT),
            available, (state[available] == FRAME_FREE).mean(axis=1),
            pfn, kind, np.searchsorted(pfn, first + np.arange(total + 1) * size).astype(np.int64),
        )  # fmt: skip

    def order(self, seed: int) -> tuple[npt.NDArray[np.intp], np.random.Generator]:
        """The chunks in the order in which a seed's machines keep them, and the generator to go on with."""
        if seed not in self.dealt:
            rng = np.random.default_rng(seed)
            self.dealt[seed] = self.available[balanced(self.free, rng)], rng
        order, rng = self.dealt[seed]
        return order, deepcopy(rng)


@dataclass
class Cut:
    """What a zone is made of."""

    chosen: npt.NDArray[np.int64]
    """The chunks that stay, ascending."""
    place: npt.NDArray[np.int32]
    """By chunk: where it went, -1 if it did not stay."""
    state: _U8
    """By frame of the zone."""
    block_mt: _U8
    taken: _U32
    """By frame: when it is first taken."""
    notes: dict[str, Any]


@dataclass
class Allocations:
    """What a zone holds: first the trace's (`Movers`) by their slots, then the others, ascending."""

    pfn: _U32
    kind: _U8
    """`asi_pa.trace.cutting`."""
    movers: int
    """How many of the first."""
    without: _U32
    """Numbers of `Movers` that have no place, by kind and ascending."""
    lacking: npt.NDArray[np.int64]
    """How many these are, by kind."""
    hosts: npt.NDArray[np.int64]
    """How many others there are, by kind."""


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
        managed = base.found[0][1].managed
        pages = pages or managed
        chosen = base.chunks.available
        if pages < managed:
            order, rng = base.chunks.order(seed)
            chosen = np.sort(order[: -(-pages // base.chunks.size)])
        cut = _choose(base, pages, chosen)
        machine = _cut_machine(trace, base, cut, pages)
    else:
        needed = peak + int((1 << base.freed["order"].astype(np.int64)).sum())
        chunk = 1 << trace.max_page_order
        pages = pages or max(-(-2 * needed // chunk) * chunk, 1 << 16)
        cut = _empty(base, pages)
        machine = single_zone(pages * 4096, cpus=trace.cpus, kernel=profile(trace), **_orders(trace))
    zone = machine.zones[0]
    held = _held(base, cut, zone.start_pfn)
    pcp = _listed(base, cut) if base.found else PcpPages.none()
    placed = _place(held, base.movers, cut, zone.start_pfn, trace, rng)
    pcp = _still_listed(pcp, cut.state, zone.start_pfn)
    population, next_slot = finish(
        zone, (cut.state, cut.taken, cut.block_mt), (held.pfn, held.kind, base.movers.slot), pcp, words,
        next_slot, base.max_page_order, base.pageblock_order,
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
    zone = ZoneSpec(start_pfn=start, spanned=len(cut.state))
    machine = MachineSpec(zones=(zone,), cpus=trace.cpus, **_orders(trace))
    if pages != frames.managed:
        return derive(machine, kernel=profile(trace))  # its holes are free
    spec = zone_spec(record, frames, trace.cpus)
    zone = replace(
        zone, holes=runs(cut.state == FRAME_HOLE, start), wmark=spec.wmark, pcp=spec.pcp,
        pcp_cpus=spec.pcp_cpus, stat_threshold=spec.stat_threshold,
    )  # fmt: skip
    return replace(machine, zones=(zone,))


def _empty(base: Base, pages: int) -> Cut:
    """A zone without a snapshot: everything is free; what the trace frees looks for a place."""
    blocks = -(-pages // (1 << base.pageblock_order))
    return Cut(
        np.zeros(0, np.int64),
        np.zeros(0, np.int32),
        np.full(pages, FRAME_FREE, np.uint8),
        np.ones(blocks, np.uint8),
        np.full(pages, NO_EVENT, np.uint32),
        {"snapshot": False},
    )


def _kinds_of(trace: Trace, freed: npt.NDArray[np.void]) -> _U8:
    """Without flags: an allocation was of the kind that the trace mostly asks for in its order."""
    if not len(freed):
        return np.zeros(0, np.uint8)
    step = slice(0, 1 << 20)
    asked = trace.kind[step] == ALLOC
    movable = np.array([bool((mask >> 3) & 1) for mask in trace.gfps] or [False])[trace.gfp[step][asked]]
    orders = np.minimum(trace.order[step][asked], 31)
    share = np.bincount(orders, movable, minlength=32) * 2 >= np.maximum(np.bincount(orders, minlength=32), 1)
    return kinds_of(freed["order"], share[freed["order"]], np.zeros(len(freed), bool))


def _choose(base: Base, pages: int, chosen: npt.NDArray[np.intp]) -> Cut:
    """A zone of ``pages`` frames out of the chosen chunks of the recorded one."""
    frames, whole, size = base.found[0][1], base.chunks, base.chunks.size
    wanted, total = -(-pages // size), len(whole.state)
    count = max(wanted, len(chosen))
    spanned = count * size if pages == frames.managed else pages
    place = np.full(total, -1, np.int32)
    place[chosen] = np.arange(len(chosen))

    def cut_out(column: npt.NDArray[Any], empty: int) -> Any:
        made = np.empty((count, column.shape[1]), column.dtype)
        np.take(column, chosen, axis=0, out=made[: len(chosen)], mode="clip")
        made[len(chosen) :] = empty
        return made.reshape(-1)

    state = cut_out(whole.state, FRAME_FREE)[:spanned]
    if pages != frames.managed:
        state[state == FRAME_HOLE] = FRAME_FREE
    return Cut(
        chosen.astype(np.int64),
        place,
        state,
        cut_out(whole.block_mt, 1)[: -(-spanned // (1 << base.pageblock_order))],
        cut_out(whole.taken, NO_EVENT)[:spanned],
        {"snapshot": True, **frames.notes, "chunks": len(chosen), "chunks_recorded": len(whole.available)},
    )


def _held(base: Base, cut: Cut, start: int) -> Allocations:
    """What is held in the chosen chunks, at its new place.

    An allocation that the zone's end cuts off is not held; the part inside is free.
    """
    movers, order = base.movers, base.max_page_order
    known, most = len(movers.pfn), 0
    if base.found:
        begins = base.chunks.begins
        most = int((begins[cut.chosen + 1] - begins[cut.chosen]).sum())
    pfn, kind = np.empty(known + most, np.uint32), np.empty(known + most, np.uint8)
    without, lacking = bring(
        movers.pfn, movers.kind, movers.chunk, movers.row, cut.place, start, order, cut.state, pfn, kind
    )
    count, hosts = 0, np.zeros(KINDS, np.int64)
    if base.found:
        whole = base.chunks
        count, hosts = gather(
            whole.pfn, whole.kind, whole.begins, cut.chosen, start, order, cut.state, pfn[known:],
            kind[known:],
        )  # fmt: skip
    return Allocations(pfn[: known + count], kind[: known + count], known, without, lacking, hosts)


def _listed(base: Base, cut: Cut) -> PcpPages:
    """What stays of the per-CPU lists, at its new place; a page that is cut off leaves its list."""
    pcp, first, size, state = base.found[0][1].pcp, base.chunks.base, base.chunks.size, cut.state
    chunk = (pcp.pfn - first) >> base.max_page_order
    here = cut.place[chunk] >= 0
    pcp, chunk = pcp.take(here), chunk[here]
    new = cut.place[chunk].astype(np.int64) * size + (pcp.pfn & (size - 1))
    stays = new + (1 << pcp.order.astype(np.int64)) <= len(state)
    gone = ~stays & (new < len(state))
    if gone.any():
        state[np.minimum(frames_of(new[gone], pcp.order[gone]), len(state) - 1)] = FRAME_FREE
    return replace(pcp.take(stays), pfn=new[stays] + first)


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
    held: Allocations, movers: Movers, cut: Cut, start: int, trace: Trace, rng: np.random.Generator
) -> dict[str, int]:
    """Finds places for what lost its own; ``held`` and ``cut.state`` are brought up to date."""
    lacking, known = held.lacking, held.movers
    taken, drawn = np.minimum(lacking, held.hosts), np.zeros(KINDS, np.int64)
    for kind in np.flatnonzero(taken).tolist():
        # Neighbours stay neighbours: a run of hosts, from a drawn place on.
        drawn[kind] = rng.integers(held.hosts[kind])
    count = known + take_over(
        held.pfn[known:], held.kind[known:], held.hosts, drawn, held.without, lacking, movers.row, held.pfn,
        held.kind,
    )  # fmt: skip
    held.pfn, held.kind = held.pfn[:count], held.kind[:count]
    ends = np.cumsum(lacking)
    rest = {
        kind: held.without[ends[kind] - lacking[kind] + taken[kind] : ends[kind]]
        for kind in np.flatnonzero(lacking > taken).tolist()
    }
    evicted = _settle_in(held, rest, movers, cut, start, trace) if rest else 0
    return {
        "took_over_places": int(taken.sum()),
        "took_free_places": int((lacking - taken).sum()),
        "evicted": evicted,
    }


def _settle_in(
    held: Allocations, rest: dict[int, _U32], movers: Movers, cut: Cut, start: int, trace: Trace
) -> int:
    """Free places for what found no host, by kind, the largest first; how many were evicted for it."""
    known = held.movers
    homeless = np.zeros(known, bool)
    for numbers in rest.values():
        homeless[movers.row[numbers]] = True

    def fixed() -> tuple[_U32, _U8]:
        rows = np.flatnonzero(~homeless)
        return held.pfn[rows], orders_of(held.kind[rows])

    others = held.pfn[known:], orders_of(held.kind[known:])
    places = Places(trace, cut.state, cut.block_mt, start, others, fixed)
    for kind in sorted(rest, key=lambda kind: (-(kind >> 1), kind & 1)):
        numbers = rest[kind]
        rows = movers.row[numbers]
        held.pfn[rows] = places.take(kind >> 1, bool(kind & 1), len(numbers))
        held.kind[rows] = movers.kind[numbers]
        homeless[rows] = False
    if places.staying is None:
        return 0
    rows = np.concatenate([np.arange(known), known + np.flatnonzero(places.staying)])
    held.pfn, held.kind = held.pfn[rows], held.kind[rows]
    return int(np.count_nonzero(~places.staying))
