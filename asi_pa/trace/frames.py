"""What every frame of a recorded zone was when the trace began.

Two witnesses are heard.  /proc/kpageflags says of each frame whether it was free in the buddy
allocator, on the LRU, slab, part of a compound page.  The trace says what happened to a frame first:
who is freed first was allocated at the start, who is allocated, leaves the buddy lists or is drained from
a per-CPU list first was free.  Where they disagree the trace wins, because the snapshot is read while the
machine runs.  What neither settles:

- frames without a flag that the trace never touches are kernel memory (vmalloc, per-CPU data, drivers ...)
  or lie on a per-CPU list (`asi_pa.trace.pcplists`).
- block types (see `block_types`).
- memory that was never plugged in looks like kernel memory: no flags.  It comes in whole sections of 32768
frames
  (SECTION_SIZE_BITS, x86-64), and `managed` says how many there are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.trace.blocks import frames_of
from asi_pa.trace.events import ALLOC, EXTFRAG, FREE, FREE_BATCHED, PCPU_DRAIN, ZONE_LOCKED
from asi_pa.trace.format import FAILED_PFN, Trace
from asi_pa.trace.pcplists import COSTLY_ORDER, PcpPages, pcp_at_start, pcp_unseen

__all__ = [
    "FRAME_FREE",
    "FRAME_HELD",
    "FRAME_HOLE",
    "FRAME_PCP",
    "FirstEvents",
    "ZoneFrames",
    "first_events",
    "recorded_zones",
    "zone_frames",
]

FRAME_FREE, FRAME_HELD, FRAME_HOLE, FRAME_PCP = range(4)
SECTION = 32768
#: The bits of a snapshot's bytes, `KPF_BITS`.
KPF_BUDDY, KPF_LRU, KPF_ANON, KPF_SLAB = 1, 2, 4, 8
KPF_HEAD, KPF_TAIL, KPF_PGTABLE, KPF_NOPAGE = 16, 32, 64, 128
NOTHING = 255
NO_EVENT = 0xFFFFFFFF
#: Block types of the model: `asi_pa.kernel.gfp.Migratetype` up to RECLAIMABLE.
BLOCK_TYPES = ("Unmovable", "Movable", "Reclaimable")

_Bytes = npt.NDArray[np.uint8]


@dataclass
class ZoneFrames:
    """A zone's frames at the start of the trace, all arrays by frame (or block) from ``start_pfn`` on."""

    name: str
    start_pfn: int
    managed: int
    state: _Bytes
    """u8: FRAME_FREE (in the buddy), FRAME_HELD, FRAME_HOLE, FRAME_PCP (on a per-CPU list)."""
    flags: _Bytes
    """u8: the snapshot's bits."""
    block_mt: _Bytes
    """u8 per pageblock, counted from ``start_pfn`` rounded down to a pageblock: 0 U, 1 M, 2 R."""
    guessed: npt.NDArray[np.bool_]
    """bool per pageblock: no event shows its type."""
    taken: npt.NDArray[np.uint32]
    """u32: the event with which the frame left the buddy first; `NO_EVENT`: none."""
    pcp: PcpPages
    """The per-CPU lists, absolute frames."""
    notes: dict[str, Any]
    """What was decided, and how well it agrees with what was recorded beside it."""
    not_located: tuple[int, ...] = ()
    """Pages of each CPU's lists for which no place was found."""
    high: tuple[int, ...] = ()
    """``high`` of each CPU at event 0; empty: as recorded."""
    free: tuple[npt.NDArray[np.uint32], _Bytes] | None = None
    """Absolute frames and orders of the free blocks, each list in order, where that is known exactly."""


def recorded_zones(trace: Trace, which: str = "start") -> list[dict[str, Any]]:
    """The populated zones of the snapshot in order of address.

    Raises ValueError for a zone entry without the numbers that are needed.
    """
    zones = []
    for zone in trace.snapshots.get(f"zones_{which}", []):
        try:
            if not zone["managed"]:
                continue
            if (
                min(zone["managed"], zone["spanned"], zone["start_pfn"] + 1) <= 0
                or zone["managed"] > zone["spanned"]
            ):
                raise ValueError
            if zone["start_pfn"] + zone["spanned"] > FAILED_PFN:
                raise ValueError
            if min(zone[key] for key in ("free", "min", "low", "high")) < 0:
                raise ValueError
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{trace.label}: zone {zone.get('name')!r} contradicts itself") from None
        zones.append(zone)
    return sorted(zones, key=lambda zone: int(zone["start_pfn"]))


@dataclass(frozen=True)
class FirstEvents:
    """What a trace says first of each frame and each pageblock."""

    kind: _Bytes
    """u8[frames]: the kind of the first event but free_batched that covers the frame, or `NOTHING`."""
    event: npt.NDArray[np.uint32]
    """u32[frames]: its number, `NO_EVENT` where there is none."""
    shown: npt.NDArray[np.int8]
    """i8[blocks]: the recorded kernel's migratetype when first shown, -1 unknown."""
    events: int
    """How many events were looked at."""


def first_events(trace: Trace, frames: int, until: int | None = None) -> FirstEvents:
    """What the trace says first of each of ``frames`` frames; ``until``: in its first so many events.

    Block types are seen when a page leaves the buddy lists (the list's type), is drained to them
    (its block's type), is taken by fallback (the fallback's type), or is handed out again by the CPU that
    freed it: a free puts it on the list of its block's type, a request takes it from the list of its own.
    """
    first = np.full(frames, NOTHING, np.uint8)
    event = np.full(frames, NO_EVENT, np.uint32)
    blocks = np.full((frames >> trace.pageblock_order) + 1, -1, np.int8)
    when = np.full(len(blocks), NO_EVENT, np.uint32)
    types, orders = trace.migratetype, trace.order
    if len(trace.ext):
        types, orders = types.copy(), orders.copy()
        rows = trace.ext["event"].astype(np.intp)
        types[rows] = trace.ext["fallback_mt"].astype(np.int8)
        orders[rows] = trace.ext["alloc_order"]
    end = len(trace) if until is None else min(until, len(trace))
    step = 1 << 18
    for start in range(max(end - 1, 0) // step * step, -1, -step):
        part = slice(start, min(start + step, end))
        kind = trace.kind[part]
        usable = (kind != FREE_BATCHED) & (trace.pfn[part] != FAILED_PFN)
        rows = np.flatnonzero(usable & (orders[part] <= trace.max_page_order))[::-1]
        kind, pfn = kind[rows], trace.pfn[part][rows].astype(np.int64)
        size = 1 << orders[part][rows].astype(np.int64)
        shown = (kind == ZONE_LOCKED) | (kind == PCPU_DRAIN) | (kind == EXTFRAG)
        block = pfn[shown] >> trace.pageblock_order
        inside = block < len(blocks)
        blocks[block[inside]] = types[part][rows][shown][inside]
        when[block[inside]] = (rows[shown][inside] + start).astype(np.uint32)
        ends = np.cumsum(size)
        each = np.repeat(pfn - (ends - size), size) + np.arange(ends[-1] if len(ends) else 0)
        inside = (each >= 0) & (each < frames)
        first[each[inside]] = np.repeat(kind, size)[inside]
        event[each[inside]] = np.repeat((rows + start).astype(np.uint32), size)[inside]
    block, at, mt = _reused(trace, end)
    earlier = (block < len(blocks)) & (at < when[np.minimum(block, len(when) - 1)])
    blocks[block[earlier]] = mt[earlier]
    return FirstEvents(first, event, blocks, end)


def _reused(
    trace: Trace, end: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int8]]:
    """Pages that the CPU that freed them hands out again: block, the free's event, type; the latest first.

    Of orders whose lists tell the three types apart.
    """
    kind = trace.kind[:end]
    rows = np.flatnonzero((kind != FREE_BATCHED) & (trace.order[:end] <= COSTLY_ORDER))
    rows = rows[np.argsort(trace.pfn[rows], kind="stable")]
    before, after = rows[:-1], rows[1:]
    pairs = (kind[before] == FREE) & (kind[after] == ALLOC)
    for column in (trace.pfn, trace.order, trace.cpu):
        pairs &= column[before] == column[after]
    before, after = before[pairs], after[pairs]
    latest = np.argsort(-before)
    before, after = before[latest], after[latest]
    return (
        trace.pfn[before].astype(np.int64) >> trace.pageblock_order,
        before.astype(np.int64),
        trace.migratetype[after],
    )


def zone_frames(
    trace: Trace,
    zone: dict[str, Any],
    kpf: _Bytes,
    first: FirstEvents,
    *,
    end_kpf: _Bytes | None = None,
    moment: int | None = None,
) -> ZoneFrames:
    """Decide what each frame of a recorded zone was when the trace began; ``first`` from `first_events`.

    ``end_kpf``: the end's snapshot, by frame; ``moment``: how many events had happened when the start's was
    read (None: not known).  Raises ValueError if the snapshot does not reach to the zone's end.
    """
    start, end = int(zone["start_pfn"]), int(zone["start_pfn"]) + int(zone["spanned"])
    if end > len(kpf):
        raise ValueError(f"{trace.label}: kpageflags end at frame {len(kpf)}, zone {zone['name']} at {end}")
    flags, seen, event = kpf[start:end], first.kind[start:end], first.event[start:end]
    hole = _holes(flags, seen, end - start - int(zone["managed"]))
    left_buddy = (seen == ZONE_LOCKED) | (seen == EXTFRAG)
    located = pcp_at_start(trace, zone, first, flags, moment)
    on_pcp = np.zeros(len(flags), bool)
    on_pcp[frames_of(located.pages.pfn - start, located.pages.order)] = True
    free = (((flags & KPF_BUDDY) != 0) & (seen != FREE)) | left_buddy
    free &= ~(hole | on_pcp)

    state = np.where(hole, FRAME_HOLE, np.where(free, FRAME_FREE, FRAME_HELD)).astype(np.uint8)
    state[on_pcp] = FRAME_PCP
    recorded = _recorded_blocks(trace, zone)
    known = _known_types(trace, first.shown, start, end)
    block_mt, agreement = block_types(
        state, flags, known, recorded, start, trace.pageblock_order, trace.max_page_order
    )
    untouched = (flags == 0) & (seen == NOTHING) & (state == FRAME_HELD)
    if end_kpf is not None and len(end_kpf) >= end:
        untouched &= end_kpf[start:end] == 0
    unseen = pcp_unseen(trace, zone, located, untouched, block_mt, start)
    state[frames_of(unseen.pfn - start, unseen.order)] = FRAME_PCP
    whole = unseen.take(unseen.order == trace.pageblock_order)
    block_mt[(whole.pfn >> trace.pageblock_order) - (start >> trace.pageblock_order)] = whole.mt
    pcp = located.joined(unseen)
    populated = per_block(state != FRAME_HOLE, start, trace.pageblock_order) > 0
    counts = np.bincount(block_mt[populated], minlength=3)
    recorded_pcp = int(sum(max(count, 0) for count in located.counts))
    missing = tuple(
        max(count - pcp.take(pcp.cpu == cpu).pages, 0) for cpu, count in enumerate(located.counts)
    )
    notes = {
        "managed": int((~hole).sum()),
        "managed_recorded": int(zone["managed"]),
        "free_pages": int(free.sum()),
        "free_pages_recorded": int(zone.get("free", 0)),
        "pcp_pages_recorded": recorded_pcp,
        "pcp_pages_from_trace": int(on_pcp.sum()),
        "pcp_pages_guessed": int((1 << unseen.order.astype(np.int64)).sum()),
        "pcp_pages_not_located": sum(missing),
        "held_pages": int((state == FRAME_HELD).sum()),
        "used_by_flags_free_by_trace": int(((left_buddy | on_pcp) & (flags & ~np.uint8(1) != 0)).sum()),
        "free_by_flags_held_by_trace": int((((flags & KPF_BUDDY) != 0) & (seen == FREE)).sum()),
        "blocks": dict(zip(BLOCK_TYPES, counts.tolist(), strict=True)),
        "blocks_recorded": recorded,
        **agreement,
    }
    taken = np.where(left_buddy, event, np.uint32(NO_EVENT))
    return ZoneFrames(
        str(zone["name"]), start, int((~hole).sum()), state, flags, block_mt, known < 0, taken, pcp, notes,
        missing,
    )  # fmt: skip


def _holes(flags: _Bytes, seen: _Bytes, missing: int) -> npt.NDArray[np.bool_]:
    """Frames never handed to the allocator: those without a page, then blank sections, then blank chunks."""
    hole: npt.NDArray[np.bool_] = ((flags & KPF_NOPAGE) != 0) & (seen == NOTHING)
    missing -= int(hole.sum())
    blank = (flags == 0) & (seen == NOTHING)
    for size in (SECTION, 1024):
        count = len(flags) // size
        whole = (blank & ~hole)[: count * size].reshape(count, size).all(axis=1)
        chosen = np.flatnonzero(whole)[: max(missing, 0) // size]
        hole[: count * size].reshape(count, size)[chosen] = True
        missing -= len(chosen) * size
    return hole


def per_block(mask: npt.NDArray[np.bool_], start: int, pageblock_order: int) -> npt.NDArray[np.int64]:
    """How many frames of each pageblock are in ``mask``, which counts from ``start`` on."""
    size = 1 << pageblock_order
    lead = start % size
    if lead or len(mask) % size:
        padded = np.zeros(-(-(lead + len(mask)) // size) * size, bool)
        padded[lead : lead + len(mask)] = mask
        mask = padded
    counts: npt.NDArray[np.int64] = np.count_nonzero(mask.reshape(-1, size), axis=1)
    return counts


def _recorded_blocks(trace: Trace, zone: dict[str, Any]) -> dict[str, int]:
    """Pageblocks by type from the recorded pagetypeinfo; empty when there is none."""
    text = trace.snapshots.get("pagetypeinfo_start", {}).get("text", "")
    _, _, table = text.partition("Number of blocks type")
    names = table.partition("\n")[0].split()
    match = re.search(
        rf"^Node\s+{int(zone.get('nid', 0))}, zone\s+{re.escape(str(zone['name']))}\s+([\d ]+)$",
        table,
        re.MULTILINE,
    )
    if not match:
        return {}
    return dict(zip(names, (int(word) for word in match[1].split()), strict=False))


def _known_types(trace: Trace, shown: npt.NDArray[np.int8], start: int, end: int) -> npt.NDArray[np.int8]:
    """The zone's blocks in the model's types, -1 where the trace does not show one of them."""
    table = np.full(256, -1, np.int8)
    for number, name in enumerate(trace.migratetypes):
        if name in BLOCK_TYPES:
            table[number] = BLOCK_TYPES.index(name)
    order = trace.pageblock_order
    first, last = start >> order, (end - 1) >> order
    known = np.full(last - first + 1, -1, np.int8)
    part = shown[first : last + 1]
    known[: len(part)] = table[part.view(np.uint8)]
    return known


def block_types(
    state: _Bytes,
    flags: _Bytes,
    known: npt.NDArray[np.int8],
    recorded: dict[str, int],
    start: int,
    pageblock_order: int,
    max_order: int,
) -> tuple[_Bytes, dict[str, Any]]:
    """A type for each pageblock: what the trace shows, else what the majority of its pages suggests.

    Movable if at least as many pages are on the LRU as are in use otherwise (so also if all is free: memory
    starts movable, memmap_init), else Unmovable.  Unmovable and Reclaimable cannot be told apart by flags:
    of the unmovable ones those with the most slab pages become Reclaimable until the recorded number of
    Reclaimable blocks is reached.  The pageblocks of one free block have one type: they lie on one list.
    Returns u8[blocks] and what the majority rule got right of the known ones.
    """
    held = state == FRAME_HELD
    lru = per_block(held & ((flags & KPF_LRU) != 0), start, pageblock_order)
    other = per_block(held, start, pageblock_order) - lru
    slab = per_block(held & ((flags & KPF_SLAB) != 0), start, pageblock_order)
    majority = (lru >= other).astype(np.uint8)
    certain = known >= 0
    types = np.where(certain, known, majority).astype(np.uint8)
    short = recorded.get("Reclaimable", 0) - int((types == 2).sum())
    candidates = np.flatnonzero(~certain & (types == 0) & (slab > 0))
    if short > 0:
        types[candidates[np.argsort(-slab[candidates], kind="stable")[:short]]] = 2
    if max_order > pageblock_order:
        _alike(types, certain, per_block(state == FRAME_FREE, start, pageblock_order), start,
               pageblock_order, max_order)  # fmt: skip
    agreement = {
        "blocks_shown_by_trace": int(certain.sum()),
        "majority_right": int((certain & ((known == 1) == (majority == 1))).sum()),
    }
    return types, agreement


def _alike(
    types: _Bytes,
    certain: npt.NDArray[np.bool_],
    free: npt.NDArray[np.int64],
    start: int,
    pageblock_order: int,
    max_order: int,
) -> None:
    """The pageblocks of a free block of ``max_order`` get the type of the first one that is certain."""
    size, first = 1 << (max_order - pageblock_order), start >> pageblock_order
    lead = -first % size
    count = (len(types) - lead) // size
    whole = (free[lead : lead + count * size].reshape(count, size) == 1 << pageblock_order).all(axis=1)
    rows = np.flatnonzero(whole)
    group = types[lead : lead + count * size].reshape(count, size)
    sure = certain[lead : lead + count * size].reshape(count, size)[rows]
    group[rows] = group[rows, sure.argmax(axis=1)][:, None]
