"""A start state as it was exactly: every free list and per-CPU list in order, every pageblock's type.

contrib/start_state.py takes one of a live kernel or a dump with drgn and writes it as JSON; here that becomes
a Trace without events.  What /proc leaves to be found by events or by majorities (`asi_pa.trace.frames`) is
known then.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.kernel.gfp import GFP_KERNEL
from asi_pa.kernel.procfs import BuddyZone, buddyinfo
from asi_pa.limits import claim
from asi_pa.schema import integer, listed, one_of, record, text
from asi_pa.trace.blocks import frames_of
from asi_pa.trace.format import EVENT_COLUMNS, ExactLists, Trace
from asi_pa.trace.frames import (
    BLOCK_TYPES,
    FRAME_FREE,
    FRAME_HELD,
    FRAME_HOLE,
    FRAME_PCP,
    KPF_NOPAGE,
    ZoneFrames,
    per_block,
    recorded_zones,
)
from asi_pa.trace.gfp_names import TRACE_GFP_NAMES
from asi_pa.trace.header import MACHINE, ORDERS, ZONE, checked
from asi_pa.trace.mentions import NO_EVENT
from asi_pa.trace.pcplists import PcpPages

__all__ = ["MAGIC", "begin_with", "exact_frames", "read_exact"]

SCHEMA = "asi_pa.start/1"
#: How such a file begins.
MAGIC = b'{"schema":"asi_pa.start/'
_PFN = integer(0, (1 << 32) - 1)
_TYPE = integer(0, 126)
_HEAD = record(
    {
        "schema": one_of(SCHEMA),
        **{key: check for key, check in MACHINE.items() if key != "comms"},
        **ORDERS,
        "zones": listed(ZONE, 4096, 1),
        "free": listed(listed(lambda _value, _where: None, 4, 4), 1 << 20),
        "pcp": listed(listed(lambda _value, _where: None, 5, 5), 1 << 20),
        "blocks": listed(_TYPE, 1 << 24),
        "frames": text(1 << 31),
        "torn": listed(text(), 1 << 20),
    }
)
#: Types that have blocks of their own in a start state; where the others' pages are taken to be.
_AS_TYPE = {"HighAtomic": 0}


def read_exact(data: bytes, path: str) -> Trace:
    """The trace without events that such a file says.  Raises ValueError naming file and fault."""
    about = checked(data, _HEAD, path)
    types = len(about["migratetypes"])
    if any(number >= types for number in about["blocks"]):
        raise ValueError(f"{path}: blocks has a type beyond the {types} migratetypes")
    frames = _frames(about, path)
    free = _columns(about, "free", ("type", "order"), path)
    pcp = _columns(about, "pcp", ("cpu", "type", "order"), path)
    exact = ExactLists(
        free_pfn=free["pfn"], free_order=free["order"], free_type=free["type"],
        pcp_pfn=pcp["pfn"], pcp_order=pcp["order"], pcp_type=pcp["type"], pcp_cpu=pcp["cpu"],
        block_type=np.array(about["blocks"], np.uint8),
    )  # fmt: skip
    events: dict[str, Any] = {name: np.zeros(0, dtype) for name, dtype in EVENT_COLUMNS.items()}
    trace = Trace(
        name="start",
        **events,
        gfps=(GFP_KERNEL,),  # tables of names are never empty, events or not
        comms=("",),
        gfp_names=dict(TRACE_GFP_NAMES),
        migratetypes=tuple(about["migratetypes"]),
        kernel=about["kernel"],
        cpus=about["cpus"],
        **{key: about[key] for key in ORDERS},
        snapshots={"zones_start": about["zones"]},
        kpageflags={"start": frames},
        exact=exact,
        provenance={
            "source": "drgn",
            "format": "exact start state",
            "recorder": "contrib/start_state.py",
            "torn": len(about["torn"]),
        },
        path=path,
    )
    _check(trace, frames)
    return trace


def begin_with(trace: Trace, start: Trace, moment_ns: int) -> Trace:
    """A trace's events from a moment on, beginning with the exact state that was taken of its machine then.

    Parameters
    ----------
    trace : a recording whose machine was stopped and dumped while it went on
    start : what `read_exact` read of the dump
    moment_ns : when that was, by the trace's clock (``time_ns``); of ``asi-pa record`` CLOCK_MONOTONIC less
        ``provenance["began_ns"]``

    What was snapped at the recording's end stays.  Raises ValueError where ``start`` is no exact state, or of
    another machine.
    """
    if start.exact is None or len(start):
        raise ValueError(f"{start.label}: no exact start state alone")
    for key in ("cpus", "page_size", "pageblock_order", "max_page_order", "migratetypes"):
        if getattr(trace, key) != getattr(start, key):
            raise ValueError(
                f"{start.label}: {key} {getattr(start, key)}, of {trace.label} it is {getattr(trace, key)}"
            )
    first = int(np.searchsorted(trace.time_ns, np.uint64(moment_ns)))
    columns: dict[str, Any] = {name: getattr(trace, name)[first:] for name in EVENT_COLUMNS}
    columns["time_ns"] = columns["time_ns"] - np.uint64(moment_ns)
    ext = trace.ext[trace.ext["event"] >= first].copy()
    ext["event"] -= first
    ended = {key: trace.kpageflags[key] for key in ("end",) if key in trace.kpageflags}
    return replace(
        trace,
        **columns,
        ext=ext,
        exact=start.exact,
        kpageflags=ended | {"start": start.kpageflags["start"]},
        snapshots={
            key: _later(was, moment_ns) for key, was in trace.snapshots.items() if key.endswith("_end")
        }
        | {
            "zones_start": start.snapshots["zones_start"],
            "buddyinfo_start": {"text": _buddyinfo(start), "trace_ns": [0, 0]},
        },
    )


def _later(snapshot: Any, moment_ns: int) -> Any:
    """A snapshot with its stamps by a clock that began at the moment."""
    if not isinstance(snapshot, dict) or "trace_ns" not in snapshot:
        return snapshot
    return snapshot | {"trace_ns": [int(stamp) - moment_ns for stamp in snapshot["trace_ns"]]}


def _buddyinfo(start: Trace) -> str:
    """What /proc/buddyinfo would have shown of the lists."""
    exact, zones = start.exact, []
    assert exact is not None
    for zone in start.snapshots["zones_start"]:
        first, end = zone["start_pfn"], zone["start_pfn"] + zone["spanned"]
        orders = exact.free_order[(exact.free_pfn >= first) & (exact.free_pfn < end)]
        free = np.bincount(orders, minlength=start.max_page_order + 1).tolist()
        zones.append(BuddyZone(int(zone["nid"]), str(zone["name"]), free))
    return buddyinfo(zones)


def _frames(about: dict[str, Any], path: str) -> npt.NDArray[np.uint8]:
    end = max(int(zone.get("start_pfn", 0)) + int(zone.get("spanned", 0)) for zone in about["zones"])
    claim(f"{path}: frames", end, len(about["frames"]))
    try:
        packed = base64.b64decode(about["frames"], validate=True)
        raw = zlib.decompressobj().decompress(packed, end + 1)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"{path}: frames: damaged ({error})") from None
    if len(raw) != end:
        raise ValueError(f"{path}: frames has {len(raw)} bytes, the zones end at frame {end}")
    return np.frombuffer(raw, np.uint8)


def _columns(about: dict[str, Any], key: str, names: tuple[str, ...], path: str) -> dict[str, Any]:
    """A table of lists as columns: a row a block, list after list."""
    most = {
        "type": len(about["migratetypes"]) - 1,
        "order": about["max_page_order"],
        "cpu": about["cpus"] - 1,
    }
    parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in ("pfn", *names)}
    for number, (zone, *kind, pfns) in enumerate(about[key]):
        where = f"{path}: {key}[{number}]"
        integer(0, len(about["zones"]) - 1)(zone, f"{where}: zone")
        listed(_PFN, 1 << 32)(pfns, f"{where}: pfns")
        parts["pfn"].append(np.array(pfns, np.uint32))
        for name, value in zip(names, kind, strict=True):
            integer(0, most[name])(value, f"{where}: {name}")
            parts[name].append(np.full(len(pfns), value, np.uint8))
    empty = {name: np.zeros(0, np.uint32 if name == "pfn" else np.uint8) for name in parts}
    return {name: np.concatenate([empty[name], *each]) for name, each in parts.items()}


def _check(trace: Trace, kpf: npt.NDArray[np.uint8]) -> None:
    """Numbers are in their ranges, no frame is on two lists, and each block lies whole in a zone."""
    exact = trace.exact
    assert exact is not None
    spans = [(zone["start_pfn"], zone["start_pfn"] + zone["spanned"]) for zone in recorded_zones(trace)]
    end = max((high for _, high in spans), default=0)
    if end > len(kpf):
        raise ValueError(f"{trace.label}: frames end at {len(kpf)}, the zones at {end}")
    if len(exact.block_type) < -(-end >> trace.pageblock_order):
        raise ValueError(f"{trace.label}: {len(exact.block_type)} block types, the zones end at frame {end}")
    types = len(trace.migratetypes)
    orders = trace.max_page_order + 1
    below = {"free_type": types, "pcp_type": types, "block_type": types, "pcp_cpu": trace.cpus}
    for name, least in (below | {"free_order": orders, "pcp_order": orders}).items():
        column = getattr(exact, name)
        if len(column) and int(column.max()) >= least:
            raise ValueError(f"{trace.label}: {name} {int(column.max())} is not below {least}")
    for key in ("free", "pcp"):
        if len({len(getattr(exact, name)) for name in vars(exact) if name.startswith(f"{key}_")}) > 1:
            raise ValueError(f"{trace.label}: columns of {key} lists of different length")
    seen = np.zeros(len(kpf), np.uint8)
    for pfn, order in ((exact.free_pfn, exact.free_order), (exact.pcp_pfn, exact.pcp_order)):
        size = np.int64(1) << order.astype(np.int64)
        first, inside = pfn.astype(np.int64), np.zeros(len(pfn), bool)
        for low, high in spans:
            inside |= (first >= low) & (first + size <= high)
        bad = np.flatnonzero(~inside | (first % size != 0))
        if len(bad):
            at = int(bad[0])
            block = f"pfn {int(pfn[at])}, order {int(order[at])}"
            raise ValueError(f"{trace.label}: {block} is on a list and no block of a zone")
        np.add.at(seen, frames_of(pfn, order), 1)
    if (seen > 1).any():
        raise ValueError(f"{trace.label}: frame {int(np.argmax(seen > 1))} is on two lists")


def exact_frames(trace: Trace, zone: dict[str, Any], kpf: npt.NDArray[np.uint8]) -> ZoneFrames:
    """A recorded zone's frames as the lists say; the counterpart of `asi_pa.trace.frames.zone_frames`.

    A start state knows blocks of three types: those of HighAtomic are taken as Unmovable, of CMA and Isolate
    as Movable (``notes`` counts them).
    """
    exact = trace.exact
    assert exact is not None
    _check(trace, kpf)
    start, end = int(zone["start_pfn"]), int(zone["start_pfn"]) + int(zone["spanned"])
    flags = kpf[start:end]
    state = np.where(flags & KPF_NOPAGE, FRAME_HOLE, FRAME_HELD).astype(np.uint8)
    rows = np.flatnonzero((exact.free_pfn >= start) & (exact.free_pfn < end))
    free_pfn, free_order = exact.free_pfn[rows], exact.free_order[rows]
    state[frames_of(free_pfn, free_order) - start] = FRAME_FREE
    mine = (exact.pcp_pfn >= start) & (exact.pcp_pfn < end)
    table = _table(trace)
    pcp = PcpPages(
        exact.pcp_pfn.astype(np.int64), exact.pcp_order, table[exact.pcp_type], exact.pcp_cpu
    ).take(np.flatnonzero(mine))
    state[frames_of(pcp.pfn - start, pcp.order)] = FRAME_PCP
    order = trace.pageblock_order
    types = exact.block_type[start >> order : ((end - 1) >> order) + 1]
    populated = per_block(state != FRAME_HOLE, start, order) > 0
    counts = np.bincount(types[populated], minlength=len(trace.migratetypes)).tolist()
    recorded = dict(zip(trace.migratetypes, counts, strict=True))
    built = np.bincount(table[types[populated]], minlength=3).tolist()
    managed = int((state != FRAME_HOLE).sum())
    # A place in its list for each block, as the event that takes it first (asi_pa.trace.blocks.list_order).
    taken = np.full(end - start, NO_EVENT, np.uint32)
    taken[free_pfn - start] = np.arange(len(free_pfn))
    notes = {
        "managed": managed,
        "managed_recorded": int(zone["managed"]),
        "free_pages": int((state == FRAME_FREE).sum()),
        "free_pages_recorded": int(zone["free"]),
        "pcp_pages_recorded": sum(int(cpu.get("count", 0)) for cpu in zone.get("cpus", ())),
        "pcp_pages_from_trace": pcp.pages,
        "pcp_pages_guessed": 0,
        "pcp_pages_not_located": 0,
        "held_pages": int((state == FRAME_HELD).sum()),
        "used_by_flags_free_by_trace": 0,
        "free_by_flags_held_by_trace": 0,
        "blocks": dict(zip(BLOCK_TYPES, built, strict=True)),
        "blocks_recorded": recorded,
        "blocks_shown_by_trace": int(populated.sum()),
        "majority_right": 0,
    }
    return ZoneFrames(
        str(zone["name"]), start, managed, state, flags, table[types], np.zeros(len(types), bool), taken, pcp,
        notes, (0,) * trace.cpus, free=(free_pfn, free_order),
    )  # fmt: skip


def _table(trace: Trace) -> npt.NDArray[np.uint8]:
    """The model's type of each of the recorded kernel's."""
    return np.array(
        [
            BLOCK_TYPES.index(name) if name in BLOCK_TYPES else _AS_TYPE.get(name, 1)
            for name in trace.migratetypes
        ],
        np.uint8,
    )
