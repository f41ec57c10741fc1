"""Recorded kernel runs: reading them, replaying them through the engine, and the first difference in words.

A recorded run is an .npz file of operations, answers and state dumps of a real kernel; the format is
described in ``docs/model.md``.  Exact means: every result, the counters after every operation and every word
of every dump are the same.
"""

from __future__ import annotations

import json
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa import gfp as _gfp
from asi_pa.designs import DESIGNS, Design
from asi_pa.kernel import Kernel, kernel_profile
from asi_pa.machine import MachineSpec, PcpSpec, ZoneSpec

__all__ = ["Recorded", "Verdict", "read_recording", "verify_file"]

MAGIC = 0x504D5544
OP_NAMES = {
    1: "alloc",
    2: "free",
    5: "dump",
    6: "drain",
    7: "isolate",
    8: "undo isolate",
    9: "alloc_contig_range",
    11: "unreserve_highatomic",
    15: "tick",
    16: "take and put back",
}
COUNTER_NAMES = ("result", "pcp count", "pcp high", "NR_FREE_PAGES")
WATCHED = (
    "events logged",
    "live sensitive pages that are mapped",
    "live nonsensitive pages that are unmapped",
    "mapped blocks without the nonsensitive type",
    "blocks of that type that are unmapped",
    "mapped blocks",
    "wholly free pageblocks of the other kind",
    "free pages of the other kind",
)
_COUNTERS = (
    "n",
    "NR_FREE_PAGES",
    "NR_FREE_CMA_PAGES",
    "nr_reserved_highatomic",
    "nr_free_highatomic",
    "watermark_boost",
    "zone_flags",
    "wmark_min",
    "wmark_low",
    "wmark_high",
    "wmark_promo",
    "lowmem_reserve",
    "cpu_diff_free",
    "cpu_diff_cma",
    "stat_threshold",
    "managed",
    "cma_pages",
    "nr_isolate_pageblock",
    "second_zone",
)
_PCP_FIELDS = ("n", "count", "high", "high_min", "high_max", "batch", "flags", "alloc_factor", "free_count")


@dataclass(frozen=True)
class Recorded:
    """One recorded run, checked.

    ops : int32 (n, 6), requests : uint32 request words (``ops[:, 2]`` of an allocation indexes them),
    res : int32 (n, 4), resx : int32 (n, 8) or None, events : int32 (m, 5) or None,
    dump_at : int32 (k,), dumps : list of k int32 arrays (without magic, position and length).
    """

    name: str
    meta: dict[str, Any]
    ops: npt.NDArray[np.int32]
    requests: npt.NDArray[np.uint32]
    res: npt.NDArray[np.int32]
    resx: npt.NDArray[np.int32] | None
    events: npt.NDArray[np.int32] | None
    dump_at: npt.NDArray[np.int32]
    dumps: list[npt.NDArray[np.int32]]
    second: npt.NDArray[np.bool_]
    """Which dumps are of the second zone."""
    kernel: Kernel
    design: Design
    machine: MachineSpec


@dataclass
class Verdict:
    """What ``verify_file`` found."""

    name: str
    ops: int = 0
    ops_exact: int = 0
    dumps: int = 0
    dumps_exact: int = 0
    events: int = 0
    events_exact: int = 0
    difference: str = ""
    """The first difference in words; empty when there is none."""
    seconds: float = field(default=0.0, compare=False)

    @property
    def exact(self) -> bool:
        return not self.difference and self.ops == self.ops_exact and self.dumps == self.dumps_exact


def _need(condition: object, why: str) -> None:
    if not condition:
        raise ValueError(why)


def _request_word(flags: int, meta: dict[str, Any]) -> int:
    """The gfp mask and model bits of a recorded request's flags."""
    bits = {
        4: _gfp.GFP_NAMES["__GFP_HIGH"],
        8: _gfp.GFP_NAMES["__GFP_KSWAPD_RECLAIM"],
        16: _gfp.GFP_NAMES["__GFP_NOMEMALLOC"],
        32: _gfp.GFP_NAMES["__GFP_COMP"],
        64: _gfp.GFP_NAMES["__GFP_COMP"] | _gfp.MODEL_LRU,
        128: _gfp.GFP_NAMES["__GFP_MEMALLOC"],
        256: _gfp.GFP_NAMES["__GFP_SENSITIVE" if "resx_fields" in meta else "__GFP_DMA32"],
        512: _gfp.GFP_NAMES["__GFP_DIRECT_RECLAIM"],
    }
    word = (flags & 3) << 3
    for bit, value in bits.items():
        if flags & bit:
            word |= value
    return word


def _free_frames(dump: npt.NDArray[np.int32], spanned: int) -> npt.NDArray[np.bool_]:
    """Which frames are on free lists in a dump."""
    free = np.zeros(spanned, bool)
    at = 1 + int(dump[0])
    orders, types = int(dump[at]), int(dump[at + 1])
    at += 2
    for order in range(orders):
        at += 1
        for _ in range(types):
            n = int(dump[at])
            for frame in dump[at + 1 : at + 1 + n]:
                frame &= 0x3FFFFFFF
                _need(
                    frame + (1 << order) <= spanned, f"a free block of a dump ends beyond the zone: {frame}"
                )
                free[frame : frame + (1 << order)] = True
            at += 1 + n
    return free


def _ranges(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.view(np.int8), [0]))))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _walk_dump(dump: npt.NDArray[np.int32], where: str) -> int:
    """Walks a dump once; the offset of the first CPU's pcp fields.  Raises ValueError."""
    try:
        at = 1 + int(dump[0])
        orders, types = int(dump[at]), int(dump[at + 1])
        _need(0 < orders <= 16 and 0 < types <= 16, f"{where}: {orders} orders and {types} types")
        at += 2
        for order in range(orders):
            total = int(dump[at])
            at += 1
            for _ in range(types):
                n = int(dump[at])
                _need(n >= 0, f"{where}: a list of {n} blocks")
                total -= n
                at += 1 + n
            _need(total == 0, f"{where}: nr_free of order {order} is not the sum of its lists")
        blocks = int(dump[at])
        _need(blocks > 0, f"{where}: {blocks} pageblocks")
        at += 1 + blocks
        _need(int(dump[at]) == 8, f"{where}: no per-CPU fields where they should be")
    except IndexError:
        raise ValueError(f"{where} is cut short") from None
    return at + 1


def read_recording(path: str | Path) -> Recorded:
    """Reads and checks one recorded run.

    Raises ValueError, naming what is wrong, for anything that is not one: wrong or missing arrays, operations
    that free what was never allocated, unknown codes, ranges outside the zone, dumps that contradict the
    header.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {key: data[key] for key in data.files}
    except (zipfile.BadZipFile, ValueError, EOFError, KeyError) as error:
        raise ValueError(f"not a recorded run: {error}") from None
    for key in ("meta", "ops", "res", "dump_at", "dump_off", "dumps"):
        _need(key in arrays, f"not a recorded run: array {key!r} is missing")
    try:
        meta = json.loads(str(arrays["meta"][()]))
    except json.JSONDecodeError as error:
        raise ValueError(f"meta is not JSON: {error}") from None
    for key in (
        "zone_start_pfn",
        "spanned",
        "managed",
        "pageblock_order",
        "max_page_order",
        "migrate_types",
        "kernel",
        "nofragment",
        "stat_threshold",
        "boost_factor",
        "nr_cpus",
        "pcp_bypassed",
        "name",
        "nr_pcp_lists",
    ):
        _need(key in meta, f"meta has no {key!r}")
    _need(1 <= meta["pageblock_order"] <= meta["max_page_order"] < 16, "meta: impossible orders")
    _need(0 < meta["spanned"] < 2**30, f"meta: spanned {meta['spanned']}")
    _need(0 < meta["nr_cpus"] <= 64, f"meta: nr_cpus {meta['nr_cpus']}")
    ops, res = arrays["ops"], arrays["res"]
    for key, columns in (("ops", (5, 6)), ("res", (4,)), ("resx", (8,)), ("events", (5,))):
        if key in arrays:
            a = arrays[key]
            _need(a.dtype == np.int32, f"{key} is {a.dtype}, not int32")
            _need(a.ndim == 2 and a.shape[1] in columns, f"{key} has shape {a.shape}")
    n = len(ops)
    _need(len(res) == n, f"{n} operations but {len(res)} results")
    _need(n == meta.get("n_ops", n), f"meta says {meta.get('n_ops')} operations, there are {n}")
    design = DESIGNS["linux"]
    if "RFC" in meta["kernel"]:
        design = DESIGNS["migratetype/as-posted"]
    elif "September" in meta["kernel"]:
        design = DESIGNS["freetype/as-posted"]
    if meta.get("as_posted_flags"):
        design = DESIGNS["freetype/as-posted-flags"]
    _need(
        len(design.freetypes) == meta["migrate_types"] * (2 if "September" in meta["kernel"] else 1),
        f"meta says {meta['migrate_types']} migratetypes",
    )
    checked, requests = _check_ops(ops, meta, design)
    dump_at, dumps = _check_dumps(arrays, meta, n)
    second = np.array([bool(d[18]) for d in dumps])
    return Recorded(
        name=meta["name"],
        meta=meta,
        ops=checked,
        requests=requests,
        res=res,
        resx=arrays.get("resx"),
        events=arrays.get("events"),
        dump_at=dump_at,
        dumps=dumps,
        second=second,
        kernel=kernel_profile(meta["kernel"]),
        design=design,
        machine=_machine(meta, dumps, second),
    )


def _check_ops(
    ops: npt.NDArray[np.int32], meta: dict[str, Any], design: Design
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint32]]:
    """Operations in the engine's columns (code, order, class, a, b, cpu); the classes' request words."""
    n = len(ops)
    out = np.zeros((n, 6), np.int32)
    out[:, : ops.shape[1]] = ops
    code, order, flags, a, b, cpu = (out[:, i] for i in range(6))

    def refuse(bad: npt.NDArray[np.bool_], why: str) -> None:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise ValueError(f"operation {row}: {why} ({', '.join(str(x) for x in ops[row])})")

    refuse(~np.isin(code, list(OP_NAMES)), "unknown code")
    refuse((cpu < 0) | (cpu >= meta["nr_cpus"]), f"cpu is not in 0..{meta['nr_cpus'] - 1}")
    alloc = code == 1
    refuse(alloc & ((order < 0) | (order > meta["max_page_order"])), "impossible order")
    refuse(alloc & (((flags & 3) == 3) | (flags < 0) | (flags > 1023)), "unknown request flags")
    span = np.isin(code, (7, 8, 9))
    refuse(span & ((a < 0) | (b <= a) | (b > meta["spanned"])), "range outside the zone")
    refuse(
        (code == 16) & ((a < 0) | (a >= len(design.freetypes)) | (b < 0) | (b > meta["max_page_order"])),
        "no such list",
    )
    free = np.flatnonzero(code == 2)
    refuse((code == 2) & ((a < 0) | (a >= np.arange(n))), "frees a later operation or none")
    bad = free[~np.isin(code[a[free]], (1, 9))]
    if len(bad):
        raise ValueError(f"operation {bad[0]}: frees operation {a[bad[0]]}, which allocated nothing")
    rows, _, count = np.unique(a[free], return_index=True, return_counts=True)
    if (count > 1).any():
        row = rows[np.flatnonzero(count > 1)[0]]
        raise ValueError(f"operation {row} is freed more than once")
    unreserve = code == 11
    wanted = np.where("resx_fields" in meta, b, flags & 3) if n else b
    refuse(unreserve & ((wanted < 0) | (wanted >= len(design.freetypes))), "no such freetype")
    words, classes = np.unique(flags[alloc], return_inverse=True)
    out[alloc, 2] = classes
    out[unreserve, 2] = wanted[unreserve]
    return out, np.array([_request_word(int(w), meta) for w in words], np.uint32)


def _check_dumps(
    arrays: dict[str, npt.NDArray[Any]], meta: dict[str, Any], n: int
) -> tuple[npt.NDArray[np.int32], list[npt.NDArray[np.int32]]]:
    dump_at, offsets, words = arrays["dump_at"], arrays["dump_off"], arrays["dumps"]
    _need(
        len(dump_at) == len(offsets) and len(dump_at) > 0,
        f"{len(dump_at)} dump positions, {len(offsets)} offsets",
    )
    _need(words.dtype == np.int32 and words.ndim == 1, "dumps are not int32 words")
    ends = [*(int(x) for x in offsets[1:]), len(words)]
    dumps = []
    for k, (start, end) in enumerate(zip(offsets.tolist(), ends, strict=True)):
        where = f"dump {k}"
        _need(0 <= start < end <= len(words), f"{where} lies outside the array")
        dump = words[start:end]
        _need(len(dump) > 22 and dump[0] == MAGIC, f"{where} does not begin with the magic word")
        _need(
            dump[1] == dump_at[k],
            f"{where} was taken after {dump[1]} operations, the index says {dump_at[k]}",
        )
        _need(0 <= dump_at[k] <= n, f"{where} was taken after {dump_at[k]} of {n} operations")
        _need(dump[2] == len(dump), f"{where} says {dump[2]} words, there are {len(dump)}")
        _need(dump[3] == 18, f"{where} has {dump[3]} counters, not 18")
        _walk_dump(dump[3:], where)
        if not dump[21]:
            _need(dump[18] == meta["managed"], f"{where}: managed is {dump[18]}, meta says {meta['managed']}")
        dumps.append(dump[3:])
    _need((np.diff(dump_at) >= 0).all(), "dumps are not in order")
    return dump_at, dumps


def _zone(dump: npt.NDArray[np.int32], meta: dict[str, Any], second: bool) -> ZoneSpec:
    """The zone that a first dump describes."""
    prefix = "zone2_" if second else ""
    start = meta["zone2_start_pfn" if second else "zone_start_pfn"]
    spanned = meta[prefix + "spanned"]
    holes = _ranges(~_free_frames(dump, spanned))
    words = [int(x) for x in dump]
    pcp = _walk_dump(dump, "dump 0")
    cma: tuple[tuple[int, int], ...] = ()
    if meta.get("cma_pages") and not second:
        cma = ((start + meta["cma_start"], start + meta["cma_start"] + meta["cma_pages"]),)
    return ZoneSpec(
        name="DMA32" if second else "Normal",
        start_pfn=start,
        spanned=spanned,
        holes=tuple((start + a, start + b) for a, b in holes),
        managed=words[15],
        wmark=(words[7], words[8], words[9], words[10]),
        lowmem_reserve=(0, 0, words[11], words[11]),
        pcp=None
        if meta["pcp_bypassed"]
        else PcpSpec(batch=words[pcp + 4], high_min=words[pcp + 2], high_max=words[pcp + 3]),
        stat_threshold=words[14],
        cma=cma,
    )


def _machine(
    meta: dict[str, Any], dumps: list[npt.NDArray[np.int32]], second: npt.NDArray[np.bool_]
) -> MachineSpec:
    zones = [_zone(dumps[0], meta, False)]
    if second.any():
        zones.append(_zone(dumps[int(np.flatnonzero(second)[0])], meta, True))
    return MachineSpec(
        zones=tuple(zones),
        cpus=meta["nr_cpus"],
        pageblock_order=meta["pageblock_order"],
        max_page_order=meta["max_page_order"],
        watermark_boost_factor=meta["boost_factor"],
        defrag_mode=bool(meta.get("defrag_mode")),
        nofragment=bool(meta["nofragment"]),
        pcp_batch_scale_max=meta.get("pcp_batch_scale_max", 5),
    )


# ---------------------------------------------------------------- replay


def _dump_word_in_words(dump: npt.NDArray[np.int32], index: int, design: Design) -> str:
    """Which part of a dump a word index is."""
    counters = _COUNTERS
    if index < len(counters):
        return counters[index]
    at = 1 + int(dump[0])
    orders, types = int(dump[at]), int(dump[at + 1])
    at += 2
    for order in range(orders):
        if index == at:
            return f"nr_free of order {order}"
        at += 1
        for ft in range(types):
            n = int(dump[at])
            name = design.freetypes[ft].name if ft < len(design.freetypes) else str(ft)
            if index == at:
                return f"length of the free list order {order}, {name}"
            if index <= at + n:
                return f"entry {index - at - 1} of the free list order {order}, {name}"
            at += 1 + n
    blocks = int(dump[at])
    if index <= at + blocks:
        return f"type of pageblock {index - at - 1}"
    at += 1 + blocks
    fields = _PCP_FIELDS
    if index < at + len(fields):
        return f"pcp {fields[index - at]}"
    at += len(fields)
    lists = int(dump[at])
    at += 1
    for k in range(lists):
        n = int(dump[at])
        if index <= at + n:
            return f"pcp list {k}, " + ("its length" if index == at else f"entry {index - at - 1}")
        at += 1 + n
    return f"word {index} (further CPUs, or the mapped flags)"


def _initial(machine: Any, rec: Recorded) -> None:
    """What boot does not determine comes from the first dump of each zone."""
    for zone in range(len(rec.machine.zones)):
        dump = rec.dumps[int(np.flatnonzero(rec.second == bool(zone))[0])]
        at = _walk_dump(dump, "dump 0")
        cpus = [[int(x) for x in dump[at : at + 8]]]
        for _ in range(int(dump[at + 8])):
            at += 1 + int(dump[at + 9])
        at += 9
        if rec.machine.cpus > 1:
            at += 1
            for _ in range(rec.machine.cpus - 1):
                cpus.append([int(x) for x in dump[at + 3 : at + 11]])
                at += 11
                for _ in range(int(dump[at])):
                    at += 1 + int(dump[at + 1])
                at += 1
        machine.restore(zone, bool(dump[6] & 4), int(dump[5]), [(c[1], c[5], c[6], c[7]) for c in cpus])


def _mask_bypassed(dump: npt.NDArray[np.int32], rec: Recorded) -> npt.NDArray[np.int32]:
    """A copy without the pcp fields, which say nothing where the lists were held locked for the whole run."""
    at = _walk_dump(dump, "dump")
    out = dump.copy()
    out[at : at + 8] = 0
    return out


def verify_file(path: str | Path) -> Verdict:
    """Replays one recorded run through the engine and compares everything.

    Raises ValueError for a file that is not a recorded run or contradicts itself.
    """
    from asi_pa._machine import Machine
    from asi_pa._oracle import Recording

    rec = read_recording(path)
    began = time.perf_counter()
    machine = Machine(rec.machine, rec.design, rec.kernel)
    _initial(machine, rec)
    watch = rec.resx is not None
    if watch:
        machine.log_events()
    replay = Recording(machine, rec.ops, rec.requests, watch)
    verdict = Verdict(name=rec.name, ops=len(rec.ops), dumps=len(rec.dumps))
    bypassed = bool(rec.meta["pcp_bypassed"])
    first: list[tuple[int, int, str]] = []
    at = 0
    for k, (stop, dump) in enumerate(zip(rec.dump_at.tolist(), rec.dumps, strict=True)):
        replay.run(at, stop)
        at = max(at, stop)
        got = machine.dump(1 if rec.second[k] else 0)
        want = dump
        if bypassed:
            got, want = _mask_bypassed(got, rec), _mask_bypassed(want, rec)
        if np.array_equal(got, want):
            verdict.dumps_exact += 1
        elif len(first) < 1:
            n = min(len(got), len(want))
            differ = np.flatnonzero(got[:n] != want[:n])
            i = int(differ[0]) if len(differ) else n
            what = _dump_word_in_words(want, i, rec.design)
            ours, theirs = (str(x[i]) if i < len(x) else "nothing" for x in (got, want))
            first.append(
                (stop, 1, f"dump {k} after operation {stop - 1}: {what}: expected {theirs}, got {ours}")
            )
    replay.run(at, len(rec.ops))
    _compare_ops(rec, replay, verdict, first)
    if rec.events is not None:
        _compare_events(rec, machine, verdict, first)
    broken = machine.verify()
    if broken is not None:
        first.append((len(rec.ops), 3, f"verify(): {broken}"))
    if first:
        verdict.difference = min(first)[2]
    verdict.seconds = time.perf_counter() - began
    return verdict


def _compare_ops(rec: Recorded, replay: Any, verdict: Verdict, first: list[tuple[int, int, str]]) -> None:
    code = rec.ops[:, 0]
    wrong = replay.answers != rec.res
    wrong[~np.isin(code, (1, 7, 9, 11, 15, 16)), 0] = False
    if rec.meta["pcp_bypassed"]:
        wrong[:, 1:3] = False
    names: tuple[str, ...] = COUNTER_NAMES
    got, want = replay.answers, rec.res
    if rec.resx is not None:
        wrong = np.hstack([wrong, _watched_differences(rec, replay)])
        got, want = np.hstack([got, replay.watched]), np.hstack([want, rec.resx])
        names = COUNTER_NAMES + WATCHED
    bad = wrong.any(axis=1)
    verdict.ops_exact = len(rec.ops) - int(bad.sum())
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        column = int(np.flatnonzero(wrong[row])[0])
        op = OP_NAMES[int(code[row])]
        first.append(
            (
                row,
                0,
                f"operation {row} ({op}, order {rec.ops[row, 1]}): {names[column]}: "
                f"expected {want[row, column]}, got {got[row, column]}",
            )
        )


def _watched_differences(rec: Recorded, replay: Any) -> npt.NDArray[np.bool_]:
    assert rec.resx is not None
    wrong: npt.NDArray[np.bool_] = replay.watched != rec.resx
    failed = (rec.ops[:, 0] == 1) & (rec.res[:, 0] < 0)
    wrong[~failed, 6:] = False
    return wrong


def _compare_events(rec: Recorded, machine: Any, verdict: Verdict, first: list[tuple[int, int, str]]) -> None:
    assert rec.events is not None
    got, want = machine.events(), rec.events
    n = min(len(got), len(want))
    same = (got[:n] == want[:n]).all(axis=1)
    verdict.events, verdict.events_exact = len(want), int(same.sum())
    if len(got) != len(want) or not same.all():
        i = n if same.all() else int(np.flatnonzero(~same)[0])
        ours = got[i].tolist() if i < len(got) else "nothing"
        theirs = want[i].tolist() if i < len(want) else "nothing"
        row = int(want[i][0]) if i < len(want) else len(rec.ops)
        first.append((row, 2, f"event {i}: expected {theirs}, got {ours}"))
