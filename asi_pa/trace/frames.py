"""What every frame of a recorded zone was when the trace began.

Two witnesses are heard.  /proc/kpageflags says of each frame whether it was free in the buddy
allocator, on the LRU, slab, part of a compound page.  The trace says what happened to a frame first:
who is freed first was allocated at the start, who is allocated, leaves the buddy lists or is drained from
a per-CPU list first was free.  Where they disagree the trace wins, because the snapshot is read while the
machine runs.  What neither settles:

- frames without a flag that the trace never touches are kernel memory (vmalloc, per-CPU data, drivers ...)
  or lie on a per-CPU list.  The zone's recorded per-CPU counts say how many the latter are; they are taken
  where stray unflagged frames are: first from blocks that hold mostly LRU pages, then from blocks with the
  fewest such frames.
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

from asi_pa.trace.events import ALLOC, EXTFRAG, FREE, FREE_BATCHED, PCPU_DRAIN, ZONE_LOCKED
from asi_pa.trace.format import FAILED_PFN, Trace

__all__ = [
    "FRAME_FREE",
    "FRAME_HELD",
    "FRAME_HOLE",
    "ZoneFrames",
    "first_events",
    "recorded_zones",
    "zone_frames",
]

FRAME_FREE, FRAME_HELD, FRAME_HOLE = range(3)
SECTION = 32768
#: The bits of a snapshot's bytes, `KPF_BITS`.
KPF_BUDDY, KPF_LRU, KPF_ANON, KPF_SLAB = 1, 2, 4, 8
KPF_HEAD, KPF_TAIL, KPF_PGTABLE, KPF_NOPAGE = 16, 32, 64, 128
NOTHING = 255
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
    """u8: FRAME_FREE, FRAME_HELD, FRAME_HOLE."""
    flags: _Bytes
    """u8: the snapshot's bits."""
    block_mt: _Bytes
    """u8 per pageblock, counted from ``start_pfn`` rounded down to a pageblock: 0 U, 1 M, 2 R."""
    notes: dict[str, Any]
    """What was decided, and how well it agrees with what was recorded beside it."""


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


def first_events(trace: Trace, frames: int) -> tuple[_Bytes, npt.NDArray[np.int8]]:
    """What the trace says first of each frame, and the first block type it shows.

    Returns u8[frames] (a kind, or `NOTHING`) and i8[blocks] (the recorded kernel's migratetype, -1 unknown).
    Block types are seen when a page leaves the buddy lists (the list's type), is drained to them
    (its block's type), or is taken by fallback (the fallback's type).
    """
    first = np.full(frames, NOTHING, np.uint8)
    blocks = np.full((frames >> trace.pageblock_order) + 1, -1, np.int8)
    types = trace.migratetype
    if len(trace.ext):
        types = types.copy()
        types[trace.ext["event"].astype(np.intp)] = trace.ext["fallback_mt"].astype(np.int8)
    step = 1 << 18
    for start in range((len(trace) - 1) // step * step, -1, -step):
        kind = trace.kind[start : start + step]
        rows = np.flatnonzero((kind != FREE_BATCHED) & (trace.pfn[start : start + step] != FAILED_PFN))[::-1]
        kind, pfn = kind[rows], trace.pfn[start : start + step][rows].astype(np.int64)
        size = 1 << trace.order[start : start + step][rows].astype(np.int64)
        shown = (kind == ZONE_LOCKED) | (kind == PCPU_DRAIN) | (kind == EXTFRAG)
        block = pfn[shown] >> trace.pageblock_order
        inside = block < len(blocks)
        blocks[block[inside]] = types[start : start + step][rows][shown][inside]
        size[kind == EXTFRAG] = 1
        ends = np.cumsum(size)
        each = np.repeat(pfn - (ends - size), size) + np.arange(ends[-1] if len(ends) else 0)
        inside = (each >= 0) & (each < frames)
        first[each[inside]] = np.repeat(kind, size)[inside]
    return first, blocks


def zone_frames(
    trace: Trace, zone: dict[str, Any], kpf: _Bytes, first: _Bytes, shown: npt.NDArray[np.int8]
) -> ZoneFrames:
    """Decide what each frame of a recorded zone was; ``first`` and ``shown`` come from `first_events`.

    Raises ValueError if the snapshot does not reach to the zone's end.
    """
    start, end = int(zone["start_pfn"]), int(zone["start_pfn"]) + int(zone["spanned"])
    if end > len(kpf):
        raise ValueError(f"{trace.label}: kpageflags end at frame {len(kpf)}, zone {zone['name']} at {end}")
    flags, seen = kpf[start:end], first[start:end]
    pcp = sum(int(cpu["count"]) for cpu in zone.get("cpus", []))
    hole = _holes(flags, seen, end - start - int(zone["managed"]))
    was_free = (seen == ALLOC) | (seen == ZONE_LOCKED) | (seen == PCPU_DRAIN) | (seen == EXTFRAG)
    unflagged = (flags == 0) & ~hole
    free = (((flags & KPF_BUDDY) != 0) & (seen != FREE)) | was_free
    on_pcp = unflagged & was_free
    stray = unflagged & (seen == NOTHING)
    guessed = _stray_pcp(flags, stray, max(pcp - int(on_pcp.sum()), 0), start, trace.pageblock_order)
    free[guessed] = True
    free &= ~hole

    state = np.where(hole, FRAME_HOLE, np.where(free, FRAME_FREE, FRAME_HELD)).astype(np.uint8)
    recorded = _recorded_blocks(trace, zone)
    known = _known_types(trace, shown, start, end)
    block_mt, agreement = block_types(state, flags, known, recorded, start, trace.pageblock_order)
    populated = per_block(state != FRAME_HOLE, start, trace.pageblock_order) > 0
    counts = np.bincount(block_mt[populated], minlength=3)
    notes = {
        "managed": int((~hole).sum()),
        "managed_recorded": int(zone["managed"]),
        "free_pages": int(free.sum()),
        "free_pages_recorded": int(zone.get("free", 0)),
        "pcp_pages_recorded": pcp,
        "pcp_pages_from_trace": int(on_pcp.sum()),
        "pcp_pages_guessed": len(guessed),
        "held_pages": int((state == FRAME_HELD).sum()),
        "used_by_flags_free_by_trace": int((was_free & (flags != 0) & ((flags & KPF_BUDDY) == 0)).sum()),
        "free_by_flags_held_by_trace": int((((flags & KPF_BUDDY) != 0) & (seen == FREE)).sum()),
        "blocks": dict(zip(BLOCK_TYPES, counts.tolist(), strict=True)),
        "blocks_recorded": recorded,
        **agreement,
    }
    return ZoneFrames(str(zone["name"]), start, int((~hole).sum()), state, flags, block_mt, notes)


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


def _stray_pcp(
    flags: _Bytes, stray: npt.NDArray[np.bool_], count: int, start: int, pageblock_order: int
) -> npt.NDArray[np.intp]:
    """``count`` of the stray frames: those likeliest to lie on a per-CPU list."""
    frames = np.flatnonzero(stray)
    block = ((frames + start) >> pageblock_order) - (start >> pageblock_order)
    lru = per_block((flags & KPF_LRU) != 0, start, pageblock_order)
    other = per_block((flags & (KPF_SLAB | KPF_PGTABLE)) != 0, start, pageblock_order)
    strays = per_block(stray, start, pageblock_order)
    order = np.lexsort((strays[block], ~(lru > other)[block]))
    return np.sort(frames[order[:count]])


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
) -> tuple[_Bytes, dict[str, Any]]:
    """A type for each pageblock: what the trace shows, else what the majority of its pages suggests.

    Movable if at least as many pages are on the LRU as are in use otherwise (so also if all is free: memory
    starts movable, memmap_init), else Unmovable.  Unmovable and Reclaimable cannot be told apart by flags:
    of the unmovable ones those with the most slab pages become Reclaimable until the recorded number of
    Reclaimable blocks is reached.  Returns u8[blocks] and what the majority rule got right of the known ones.
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
    agreement = {
        "blocks_shown_by_trace": int(certain.sum()),
        "majority_right": int((certain & ((known == 1) == (majority == 1))).sum()),
    }
    return types, agreement
