"""Recorded runs of real kernels: reading them, and refusing what contradicts itself.

A recorded run is an .npz file of operations, answers and state dumps; ``docs/engine/model.md`` has the
format. What comes out of ``read_recording`` is safe to replay: every code, order, range, row and list in it
has been checked.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from asi_pa.arrays import read_arrays
from asi_pa.designs import Design
from asi_pa.kernel.gfp import Migratetype
from asi_pa.kernel.spec import MachineSpec, PcpSpec, ZoneSpec
from asi_pa.kernel.versions import Kernel, kernel_profile
from asi_pa.schema import parsed
from asi_pa.verify.codes import Code
from asi_pa.verify.designs import design_of, watched
from asi_pa.verify.dump import PCP_FIELDS, DumpShape, ZoneState, check_state, take_apart
from asi_pa.verify.ops import SECOND_ZONE, check_ops, check_results

__all__ = ["Recorded", "read_recording"]

Ints: TypeAlias = npt.NDArray[np.int32]

MAGIC = 0x504D5544

#: The arrays of a file: must they be there?
_ARRAYS = {
    "meta": True,
    "ops": True,
    "res": True,
    "dump_at": True,
    "dump_off": True,
    "dumps": True,
    "resx": False,
    "events": False,
}

#: Every number in ``meta`` that is read: the smallest and the largest value, None where it must be there.
_INTS: dict[str, tuple[int, int, int | None]] = {
    "zone_start_pfn": (0, 3 << 30, None),
    "spanned": (1, SECOND_ZONE - 1, None),
    "managed": (1, SECOND_ZONE - 1, None),
    "pageblock_order": (1, 15, None),
    "max_page_order": (1, 15, None),
    "migrate_types": (1, 16, None),
    "nr_pcp_lists": (1, 64, None),
    "nofragment": (0, 1, None),
    "stat_threshold": (0, 1 << 20, None),
    "boost_factor": (0, 1 << 20, None),
    "nr_cpus": (1, 64, None),
    "pcp_batch_scale_max": (0, 6, 5),
    "defrag_mode": (0, 1, 0),
    "mt_highatomic": (0, 15, -1),
    "mt_cma": (0, 15, -1),
    "mt_isolate": (0, 15, -1),
    "cma_start": (0, SECOND_ZONE - 1, 0),
    "cma_pages": (0, SECOND_ZONE - 1, 0),
    "zone2_start_pfn": (0, 3 << 30, 0),
    "zone2_spanned": (0, SECOND_ZONE - 1, 0),
    "zone2_managed": (0, SECOND_ZONE - 1, 0),
    "n_ops": (1, (1 << 31) - 1, -1),
    "zeroed_pages": (0, 1 << 40, -1),
    "flushes": (0, 1 << 40, -1),
}


@dataclass(frozen=True)
class Recorded:
    """One recorded run, checked."""

    name: str
    description: str
    meta: dict[str, Any]
    recorded_ops: Ints
    """(n, 5) or (n, 6), as recorded."""
    ops: Ints
    """(n, 6) for the engine: code, order, class, a, b, cpu.  An allocation's class indexes ``requests``; an
    unreserve's is the freetype to give."""
    requests: npt.NDArray[np.uint32]
    """Request words (``asi_pa.kernel.gfp``) by class."""
    res: Ints
    """(n, 4): result, pcp count, pcp high, NR_FREE_PAGES."""
    resx: Ints | None
    """(n, 8), what ``watched`` names; None for a design that protects nothing."""
    events: Ints | None
    """(m, 5): changes of mapping and type, laid out as ``Machine.events``; in a run of compaction (m, 6), as
    ``Machine.compaction_events``."""
    dump_at: Ints
    """(k,): how many operations were done before each dump, ascending."""
    dumps: list[Ints]
    """k dumps without magic, position and length."""
    second: npt.NDArray[np.bool_]
    """(k,): which dumps are of the second zone."""
    shapes: tuple[DumpShape, ...]
    """What a dump of each zone looks like."""
    start: tuple[ZoneState, ...]
    """Each zone before the first operation."""
    kernel: Kernel
    design: Design
    machine: MachineSpec

    @property
    def bypassed(self) -> bool:
        """Were the pcp lists out of the way for the whole run?"""
        return bool(self.meta["pcp_bypassed"])

    @property
    def compaction(self) -> bool:
        """Is it a run of compaction, with its log and its positions in the dumps?"""
        return self.shapes[0].compaction

    @property
    def watched(self) -> tuple[str, ...]:
        """The columns of ``resx``."""
        return watched(self.design)


def _need(condition: object, why: str) -> None:
    if not condition:
        raise ValueError(why)


def read_recording(path: str | os.PathLike[str], design: Design | None = None) -> Recorded:
    """Reads and checks one recorded run.

    design : what the recorded kernel ran, where the header names none that is built in.

    Raises ValueError, naming what is wrong, for anything that is not one: wrong or missing arrays, operations
    that free what was never allocated, unknown codes, ranges outside the zone, dumps that contradict the
    header or themselves.  OSError where the file cannot be read.
    """
    arrays = read_arrays(path, _ARRAYS)
    for name, needed in _ARRAYS.items():
        _need(name in arrays or not needed, f"not a recorded run: array {name!r} is missing")
    meta = _meta(arrays.pop("meta"))
    for name, array in arrays.items():
        _need(array.dtype == np.int32, f"array {name!r} is {array.dtype}, not int32")
    design = _design(meta, design)
    kernel = kernel_profile(meta["kernel"])
    compaction = _tells_of_compaction(arrays, design)
    n = _check_tables(arrays, meta, design)
    ops, requests = check_ops(arrays["ops"], meta, design, compaction=compaction)
    check_results(ops, arrays["res"], meta)
    shapes = _shapes(meta, design, compaction=compaction)
    dumps, second, start = _check_dumps(arrays, meta, shapes, n)
    dumped = np.flatnonzero(ops[:, 0] == Code.OP_DUMP)
    missing = dumped[~np.isin(dumped, arrays["dump_at"])]
    _need(not len(missing), f"operation {missing[:1]} is a dump, there is none at that point")
    zones = [_zone(meta, state, second=bool(k)) for k, state in enumerate(start)]
    return Recorded(
        name=meta["name"],
        description=str(meta.get("desc", "")),
        meta=meta,
        recorded_ops=arrays["ops"],
        ops=ops,
        requests=requests,
        res=arrays["res"],
        resx=arrays.get("resx"),
        events=arrays.get("events"),
        dump_at=arrays["dump_at"],
        dumps=dumps,
        second=second,
        shapes=shapes,
        start=start,
        kernel=kernel,
        design=design,
        machine=MachineSpec(
            zones=tuple(zones),
            cpus=meta["nr_cpus"],
            pageblock_order=meta["pageblock_order"],
            max_page_order=meta["max_page_order"],
            watermark_boost_factor=meta["boost_factor"],
            defrag_mode=bool(meta["defrag_mode"]),
            nofragment=bool(meta["nofragment"]),
            pcp_batch_scale_max=meta["pcp_batch_scale_max"],
        ),
    )


# ---------------------------------------------------------------- the header


def _meta(text: npt.NDArray[Any]) -> dict[str, Any]:
    """The header, every value that is used checked for type and range; defaults filled in."""
    _need(
        text.dtype.kind == "U" and text.ndim == 0, f"meta is {text.dtype} of shape {text.shape}, not one text"
    )
    try:
        meta: dict[str, Any] = parsed(str(text[()]))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"meta is not JSON: {error}") from None
    _need(isinstance(meta, dict), "meta is not a JSON object")
    for key in ("name", "kernel"):
        _need(isinstance(meta.get(key), str), f"meta: {key} is {meta.get(key)!r}, not a text")
    _need(meta["name"].isprintable(), f"meta: name is {meta['name']!r}")
    for key in ("pcp_bypassed", "as_posted_flags", "exact_counters"):
        _need(isinstance(meta.get(key, False), bool), f"meta: {key} is {meta.get(key)!r}, not true or false")
    _need("pcp_bypassed" in meta, "meta has no 'pcp_bypassed'")
    for key, (low, high, default) in _INTS.items():
        value: Any = meta.setdefault(key, default)
        _need(value is not None, f"meta has no {key!r}")
        _need(type(value) is int, f"meta: {key} is {value!r}, not a whole number")
        _need(value == default or low <= value <= high, f"meta: {key} {value} is not in {low}..{high}")
    _need(
        meta["pageblock_order"] <= meta["max_page_order"],
        f"meta: pageblock_order {meta['pageblock_order']} is above max_page_order {meta['max_page_order']}",
    )
    _need(
        not meta.get("exact_counters") or not meta["stat_threshold"],
        f"meta: exact_counters, and stat_threshold {meta['stat_threshold']}",
    )
    _check_cma(meta)
    return meta


def _check_cma(meta: dict[str, Any]) -> None:
    start, pages = meta["cma_start"], meta["cma_pages"]
    end = start + pages
    block = (1 << meta["pageblock_order"]) - 1
    _need(
        not pages or end <= meta["spanned"],
        f"meta: CMA range [{start}, {end}) is outside the zone's {meta['spanned']}",
    )
    _need(
        not pages or not (start + meta["zone_start_pfn"] | pages) & block,
        f"meta: CMA range [{start}, {end}) is not made of pageblocks",
    )


def _design(meta: dict[str, Any], given: Design | None) -> Design:
    """The design that the recorded kernel ran; its numbers of types must be the header's."""
    design = given or design_of(meta)
    sides = 2 if "September" in meta["kernel"] else 1
    _need(
        len(design.freetypes) == meta["migrate_types"] * sides,
        f"meta: {meta['migrate_types']} migratetypes, {design.title!r} has {len(design.freetypes) // sides}",
    )
    lists = len(design.pcp_lists(meta["pageblock_order"]))
    _need(
        lists == meta["nr_pcp_lists"], f"meta: {meta['nr_pcp_lists']} pcp lists, {design.title!r} has {lists}"
    )
    for key, mt in (
        ("mt_highatomic", Migratetype.HIGHATOMIC),
        ("mt_cma", Migratetype.CMA),
        ("mt_isolate", Migratetype.ISOLATE),
    ):
        number = [freetype.mt for freetype in design.freetypes].index(mt)
        _need(meta[key] in (-1, number), f"meta: {key} is {meta[key]}, {design.title!r} has {number}")
    return design


# ---------------------------------------------------------------- tables


def _tells_of_compaction(arrays: dict[str, npt.NDArray[Any]], design: Design) -> bool:
    """Plain kernels' runs have events only where they tell of compaction: rows of six."""
    return not design.protects and arrays.get("events", np.zeros(0)).shape[1:] == (6,)


def _check_tables(arrays: dict[str, npt.NDArray[Any]], meta: dict[str, Any], design: Design) -> int:
    """Shapes and lengths of the tables; how many operations there are."""
    for key, columns in (("ops", (5, 6)), ("res", (4,)), ("resx", (8,)), ("events", (5, 6))):
        if key in arrays:
            shape = arrays[key].shape
            _need(len(shape) == 2 and shape[1] in columns, f"array {key!r} has shape {shape}")
    for key in ("dump_at", "dump_off", "dumps"):
        _need(arrays[key].ndim == 1, f"array {key!r} has shape {arrays[key].shape}")
    n = len(arrays["ops"])
    _need(n > 0, "no operations")
    _need(meta["n_ops"] in (-1, n), f"meta says {meta['n_ops']} operations, there are {n}")
    _need(len(arrays["res"]) == n, f"{n} operations, but {len(arrays['res'])} results")
    if not design.protects and not _tells_of_compaction(arrays, design):
        _need("resx" not in arrays and "events" not in arrays, f"{design.title!r} has no events")
        return n
    _need("events" in arrays, f"a run of {design.title!r} without resx and events")
    events = arrays["events"]
    if design.protects:
        _need("resx" in arrays, f"a run of {design.title!r} without resx and events")
        _need(len(arrays["resx"]) == n, f"{n} operations, but {len(arrays['resx'])} rows of resx")
        counted = arrays["resx"][-1, 0]
        _need(counted == len(events), f"resx counts {counted} events, there are {len(events)}")
        _need(events.shape[1] == 5, f"array 'events' has shape {events.shape}")
    rows = events[:, 0]
    _need(
        not len(rows) or (rows.min() >= 0 and rows.max() < n and (np.diff(rows) >= 0).all()),
        "events are not in the order of the operations",
    )
    return n


# ---------------------------------------------------------------- dumps


def _shapes(meta: dict[str, Any], design: Design, *, compaction: bool) -> tuple[DumpShape, ...]:
    zones = [(meta["zone_start_pfn"], meta["spanned"])]
    if meta["zone2_spanned"]:
        zones.append((meta["zone2_start_pfn"], meta["zone2_spanned"]))
    return tuple(
        DumpShape(
            start_pfn=start,
            spanned=spanned,
            pageblock_order=meta["pageblock_order"],
            max_page_order=meta["max_page_order"],
            cpus=meta["nr_cpus"],
            design=design,
            compaction=compaction,
        )
        for start, spanned in zones
    )


def _check_dumps(
    arrays: dict[str, npt.NDArray[Any]], meta: dict[str, Any], shapes: tuple[DumpShape, ...], n: int
) -> tuple[list[Ints], npt.NDArray[np.bool_], tuple[ZoneState, ...]]:
    """The dumps, which are of the second zone, and each zone's state before the first operation."""
    dump_at, offsets, words = arrays["dump_at"], arrays["dump_off"], arrays["dumps"]
    _need(len(dump_at) == len(offsets), f"{len(dump_at)} dump positions, {len(offsets)} offsets")
    _need(len(dump_at) >= len(shapes), "no dump of the state before the first operation")
    _need((np.diff(dump_at) >= 0).all(), "dumps are not in the order of the operations")
    _need(not dump_at[: len(shapes)].any(), "no dump of the state before the first operation")
    _need(dump_at[-1] <= n, f"a dump after {dump_at[-1]} of {n} operations")
    _need(offsets[0] == 0, f"the first dump begins at word {offsets[0]}")
    dumps: list[Ints] = []
    second: list[bool] = []
    start: list[ZoneState] = []
    for k, (begin, end) in enumerate(zip(offsets.tolist(), [*offsets[1:].tolist(), len(words)], strict=True)):
        where = f"dump {k}"
        _need(0 <= begin < end <= len(words), f"{where}: words {begin} to {end} of {len(words)}")
        dump = words[begin:end]
        _need(len(dump) > 22, f"{where} is cut short after {len(dump)} words")
        _need(dump[0] == MAGIC, f"{where} does not begin with the magic word")
        _need(dump[1] == dump_at[k], f"{where} says {dump[1]} operations, the index {dump_at[k]}")
        _need(dump[2] == len(dump), f"{where} says {dump[2]} words, there are {len(dump)}")
        zone = int(dump[21])
        _need(0 <= zone < len(shapes), f"{where} is of zone {zone}, the header has {len(shapes)}")
        try:
            state = take_apart(dump[3:], shapes[zone])
            check_state(state, shapes[zone])
            _check_limits(state, start[zone] if zone < len(start) else None, meta, zone)
        except ValueError as error:
            raise ValueError(f"{where} {error}") from None
        if len(start) < len(shapes):
            _need(zone == len(start), f"{where} is not of zone {len(start)}")
            _check_start(state, meta, where, zone)
            start.append(state)
        dumps.append(dump[3:])
        second.append(zone == 1)
    return dumps, np.array(second), tuple(start)


def _check_limits(state: ZoneState, first: ZoneState | None, meta: dict[str, Any], zone: int) -> None:
    """What never changes in a run, and what the header says of it."""
    said = {
        "managed": meta["zone2_managed" if zone else "managed"],
        "stat_threshold": meta["stat_threshold"],
        "cma_pages": 0 if zone else meta["cma_pages"],
    }
    for name, value in said.items():
        _need(state.counters[name] == value, f"says {name} {state.counters[name]}, the header {value}")
    if first is None:
        return
    for name in ("WMARK_MIN", "WMARK_LOW", "WMARK_HIGH", "WMARK_PROMO", "lowmem_reserve"):
        _need(
            state.counters[name] == first.counters[name],
            f"says {name} {state.counters[name]}, the first dump {first.counters[name]}",
        )
    # Where the pcp lists are out of the way, nothing touches their fields either.
    constant = PCP_FIELDS if meta["pcp_bypassed"] else ("high_min", "high_max", "batch")
    for cpu, (now, then) in enumerate(zip(state.cpus, first.cpus, strict=True)):
        for name in constant:
            _need(
                now.fields[name] == then.fields[name],
                f"says pcp {name} {now.fields[name]} of CPU {cpu}, the first dump {then.fields[name]}",
            )


def _check_start(state: ZoneState, meta: dict[str, Any], where: str, zone: int) -> None:
    """Before the first operation everything that the zone manages is free."""
    free = sum(len(frames) << order for order, row in enumerate(state.lists) for frames in row)
    _need(
        free == state.counters["managed"],
        f"{where}: {free} free pages before the first operation, managed are {state.counters['managed']}",
    )
    for cpu in state.cpus:
        _need(
            cpu.fields["alloc_factor"] <= meta["pcp_batch_scale_max"],
            f"{where}: alloc_factor {cpu.fields['alloc_factor']} before the first operation",
        )
    remapped = len(state.queue) + len(state.remapped_runs) + sum(map(len, state.pool))
    _need(
        not remapped,
        f"{where}: pages in the pool or queue, or mapped unlike others, before the first operation",
    )
    if zone == 0:
        _check_holes(state, meta)


def _check_holes(state: ZoneState, meta: dict[str, Any]) -> None:
    """The header's holes, where it has some, are the frames that are not free at the start."""
    said = meta.get("holes")
    if not said:
        return
    real = _ranges(~_free_frames(state, meta["spanned"]))
    _need(said == [list(pair) for pair in real], "meta: holes are not what the first dump lacks")


def _free_frames(state: ZoneState, spanned: int) -> npt.NDArray[np.bool_]:
    """Which frames are on free lists."""
    edges = np.zeros(spanned + 1, np.int32)
    for order, row in enumerate(state.lists):
        for frames in row:
            edges[frames] += 1
            edges[frames + (1 << order)] -= 1
    return np.cumsum(edges[:-1]).astype(bool)


def _ranges(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.view(np.int8), [0]))))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _zone(meta: dict[str, Any], state: ZoneState, *, second: bool) -> ZoneSpec:
    """The zone that its first dump describes."""
    start = meta["zone2_start_pfn" if second else "zone_start_pfn"]
    spanned = meta["zone2_spanned" if second else "spanned"]
    counters, pcp = state.counters, state.cpus[0].fields
    cma: tuple[tuple[int, int], ...] = ()
    if meta["cma_pages"] and not second:
        cma = ((start + meta["cma_start"], start + meta["cma_start"] + meta["cma_pages"]),)
    reserve = counters["lowmem_reserve"]
    return ZoneSpec(
        name="DMA32" if second else "Normal",
        start_pfn=start,
        spanned=spanned,
        holes=tuple((start + a, start + b) for a, b in _ranges(~_free_frames(state, spanned))),
        managed=counters["managed"],
        wmark=(counters["WMARK_MIN"], counters["WMARK_LOW"], counters["WMARK_HIGH"], counters["WMARK_PROMO"]),
        # The dump has ZONE_NORMAL's only; ZONE_MOVABLE's is the same where that zone is empty.
        lowmem_reserve=(0, 0, reserve, reserve),
        pcp=None
        if meta["pcp_bypassed"]
        else PcpSpec(batch=pcp["batch"], high_min=pcp["high_min"], high_max=pcp["high_max"]),
        stat_threshold=counters["stat_threshold"],
        cma=cma,
    )
