"""A start state alone, a trace without events (``asi-pa snapshot``): what ``asi-pa info`` says of it.

It is described as it is built: each zone's free lists with the kernel's indexes of them, what is held and on
per-CPU lists, its pageblocks.  Without events nothing shows which page lies on which per-CPU list, nor a
pageblock's type: both are the builder's decision (docs/use/traces.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asi_pa.errors import printable
from asi_pa.trace.blocks import free_blocks
from asi_pa.trace.compiler import HELD_AT_START
from asi_pa.trace.format import Trace
from asi_pa.trace.frames import FRAME_FREE, FRAME_HELD, KPF_LRU, ZoneFrames, per_block
from asi_pa.trace.initial import Snapshot
from asi_pa.trace.memory import zone_lines, zone_lists

__all__ = ["START_STATE", "describe_start", "start_text"]

#: The ``form`` of such a description.
START_STATE = "start state"


def describe_start(trace: Trace) -> dict[str, Any]:
    """Describe a trace's start state.

    Keys: ``name``, ``form`` (`START_STATE`), ``description``, ``kernel``, ``cpus``, ``provenance`` and
    ``zones``, a list of dicts in order of address: ``node``, ``zone``, ``free`` (blocks by order),
    ``free_pages``, ``blocks``, ``unusable_index`` and ``extfrag_index`` (x 1000, by order), ``managed``,
    ``held_pages``, ``pcp_pages``, ``pcp_pages_not_located``, ``free_pages_recorded``, ``watermarks`` (min,
    low, high; pages), ``pageblocks`` (by type, as built), ``pageblocks_recorded`` (as pagetypeinfo said) and
    ``mixed`` (pageblocks that hold pages on the LRU and others), ``exact``
    (lists and types are as they were, `asi_pa.trace.exact`).  Raises ValueError for a trace that has no
    start state.
    """
    if not trace.has_start:
        raise ValueError(f"{trace.label}: no snapshots, the start state is not known")
    snapshot = Snapshot(trace, np.zeros(0, HELD_AT_START))
    zones = [
        _zone(trace, zone, snapshot.frames(number)) for number, zone in reversed([*enumerate(snapshot.zones)])
    ]
    return {
        "name": trace.name,
        "form": START_STATE,
        "description": trace.description,
        "kernel": trace.kernel,
        "cpus": trace.cpus,
        "page_kb": trace.page_size >> 10,
        "zones": zones,
        "provenance": trace.provenance,
    }


def _zone(trace: Trace, zone: dict[str, Any], frames: ZoneFrames) -> dict[str, Any]:
    _, orders = frames.free or free_blocks(frames.state == FRAME_FREE, frames.start_pfn, trace.max_page_order)
    free = np.bincount(orders, minlength=trace.max_page_order + 1).tolist()
    held, lru = frames.state == FRAME_HELD, (frames.flags & KPF_LRU) != 0
    movable = per_block(held & lru, frames.start_pfn, trace.pageblock_order) > 0
    other = per_block(held & ~lru, frames.start_pfn, trace.pageblock_order) > 0
    notes = frames.notes
    return zone_lists(
        int(zone.get("nid", 0)),
        frames.name,
        free,
        managed=frames.managed,
        held_pages=int(held.sum()),
        pcp_pages=frames.pcp.pages,
        pcp_pages_not_located=notes["pcp_pages_not_located"],
        free_pages_recorded=int(zone["free"]),
        watermarks=[int(zone[mark]) for mark in ("min", "low", "high")],
        pageblocks=notes["blocks"],
        pageblocks_recorded=notes["blocks_recorded"],
        mixed=int((movable & other).sum()),
        exact=trace.exact is not None,
    )


def start_text(about: dict[str, Any]) -> str:
    """`describe_start` for a terminal: a table for each zone."""
    words = f": {about['description']}" if about["description"] else ""
    lines = [
        f"{'start state':<13} {about['name']}{words}",
        f"{'kernel':<13} {about['kernel'] or 'not known'}, {about['cpus']} CPUs",
        f"{'events':<13} none: nothing to replay; Allocator.from_trace starts from it",
    ]
    for zone in about["zones"]:
        low = "/".join(str(mark) for mark in zone["watermarks"])
        recorded = zone["pageblocks_recorded"]
        said = ", ".join(f"{name} {count:,}" for name, count in recorded.items() if count)
        lines += ["", *zone_lines(zone, about["page_kb"])]
        lines += [
            f"{'recorded':<13} {zone['free_pages_recorded']:,} free pages; pageblocks {said or 'not known'}",
            f"{'pages':<13} {zone['managed']:,} managed, {zone['held_pages']:,} held, {zone['pcp_pages']:,} "
            f"on per-CPU lists ({zone['pcp_pages_not_located']:,} more not located), min/low/high {low}",
            f"{'mixed':<13} {zone['mixed']:,} pageblocks hold pages on the LRU and others",
        ]
        if zone["exact"]:
            lines.append(f"{'exact':<13} lists in order, per-CPU lists and types of pageblocks as they were")
    return "\n".join(printable(line) for line in lines)
