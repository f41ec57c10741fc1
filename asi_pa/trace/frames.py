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
from asi_pa.trace.first_events import FirstEvents
from asi_pa.trace.format import FAILED_PFN, Trace
from asi_pa.trace.pcplists import PcpPages, pcp_at_start, pcp_unseen
from asi_pa.trace.witness import COUNTS, blank_frames, decide, mark_holes

__all__ = [
    "FRAME_FREE",
    "FRAME_HELD",
    "FRAME_HOLE",
    "FRAME_PCP",
    "ZoneFrames",
    "recorded_zones",
    "zone_frames",
]

FRAME_FREE, FRAME_HELD, FRAME_HOLE, FRAME_PCP = range(4)
SECTION = 32768
#: The bits of a snapshot's bytes, `KPF_BITS`.
KPF_BUDDY, KPF_LRU, KPF_ANON, KPF_SLAB = 1, 2, 4, 8
KPF_HEAD, KPF_TAIL, KPF_PGTABLE, KPF_NOPAGE = 16, 32, 64, 128
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
    missing = end - start - int(zone["managed"])
    state = mark_holes(flags, seen, missing, (SECTION, 1024))
    located = pcp_at_start(trace, zone, first, flags, moment)
    state[frames_of(located.pages.pfn - start, located.pages.order)] = FRAME_PCP
    taken, per = decide(flags, seen, event, state, start, trace.pageblock_order)
    counts_of = dict(zip(COUNTS, per.T, strict=True))
    pages = {name: int(column.sum()) for name, column in counts_of.items()}
    recorded = _recorded_blocks(trace, zone)
    known = _known_types(trace, first.shown, start, end)
    block_mt, agreement = block_types(
        counts_of, known, recorded, start, trace.pageblock_order, trace.max_page_order
    )
    later = end_kpf[start:end] if end_kpf is not None and len(end_kpf) >= end else None
    unseen = pcp_unseen(
        trace, zone, located, lambda: blank_frames(flags, seen, state, later), block_mt, first
    )
    state[frames_of(unseen.pfn - start, unseen.order)] = FRAME_PCP
    whole = unseen.take(unseen.order == trace.pageblock_order)
    block_mt[(whole.pfn >> trace.pageblock_order) - (start >> trace.pageblock_order)] = whole.mt
    pcp = located.joined(unseen)
    populated = counts_of["populated"] > 0
    counts = np.bincount(block_mt[populated], minlength=3)
    recorded_pcp = int(sum(max(count, 0) for count in located.counts))
    lacking = tuple(
        max(count - pcp.take(pcp.cpu == cpu).pages, 0) for cpu, count in enumerate(located.counts)
    )
    notes = {
        "managed": pages["populated"],
        "managed_recorded": int(zone["managed"]),
        "free_pages": pages["free"],
        "free_pages_recorded": int(zone.get("free", 0)),
        "pcp_pages_recorded": recorded_pcp,
        "pcp_pages_from_trace": pages["pcp"],
        "pcp_pages_guessed": unseen.pages,
        "pcp_pages_not_located": sum(lacking),
        "held_pages": pages["held"] - unseen.pages,
        "used_by_flags_free_by_trace": pages["overruled_used"],
        "free_by_flags_held_by_trace": pages["overruled_free"],
        "blocks": dict(zip(BLOCK_TYPES, counts.tolist(), strict=True)),
        "blocks_recorded": recorded,
        **agreement,
    }
    return ZoneFrames(
        str(zone["name"]), start, pages["populated"], state, flags, block_mt, known < 0, taken, pcp, notes,
        lacking,
    )  # fmt: skip


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
    per: dict[str, npt.NDArray[np.int64]],
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
    ``per``: pages of each pageblock by `COUNTS`.  Returns u8[blocks] and what the majority rule got right of
    the known ones.
    """
    lru, slab = per["lru"], per["slab"]
    other = per["held"] - lru
    majority = (lru >= other).astype(np.uint8)
    certain = known >= 0
    types = np.where(certain, known, majority).astype(np.uint8)
    short = recorded.get("Reclaimable", 0) - int((types == 2).sum())
    candidates = np.flatnonzero(~certain & (types == 0) & (slab > 0))
    if short > 0:
        types[candidates[np.argsort(-slab[candidates], kind="stable")[:short]]] = 2
    if max_order > pageblock_order:
        _alike(types, certain, per["free"], start, pageblock_order, max_order)
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
