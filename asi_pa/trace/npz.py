"""Recorded runs as ``.npz`` files: events of kmem:* beside snapshots of /proc at both ends.

Members: ``ts_delta_ns`` u32 (event i happened at the sum up to i), ``cpu`` u8, ``kind`` u8, ``pfn`` u32,
``order`` u8, ``migratetype`` i8, ``gfp`` u32, ``comm`` u8, ``ext_idx`` u32 and ``ext_*`` per extfrag event,
``kpf_start``/``kpf_end`` u8 per frame, and ``meta``, a JSON text with the machine and the name tables.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from asi_pa.arrays import read_arrays
from asi_pa.errors import printable
from asi_pa.trace.events import KINDS
from asi_pa.trace.format import EXT, KPF_BITS, Trace
from asi_pa.trace.header import META, checked

__all__ = ["read_npz"]

_COLUMNS = {
    "ts_delta_ns": "u4",
    "cpu": "u1",
    "kind": "u1",
    "pfn": "u4",
    "order": "u1",
    "migratetype": "i1",
    "gfp": "u4",
    "comm": "u1",
}
_EXT = {
    "alloc_order": "u1",
    "fallback_order": "u1",
    "alloc_mt": "i1",
    "fallback_mt": "u1",
    "change_ownership": "u1",
}
_WANTED = frozenset([*_COLUMNS, "ext_idx", *(f"ext_{name}" for name in _EXT), "kpf_start", "kpf_end", "meta"])


def read_npz(file: str | os.PathLike[str] | IO[bytes], path: str | None = None) -> Trace:
    """Read a recorded run; ``path`` stands for an open file in messages.

    Raises ValueError, naming file and member, for anything that does not fit.
    """
    path = str(file) if path is None else path
    members = _members(file, path)
    meta = _meta(members, path)
    arrays, gfps = _arrays(members, meta, path)
    kept = ("zones", "buddyinfo", "pagetypeinfo")
    snapshots = {
        f"{key}_{end}": meta[f"{key}_{end}"]
        for key in kept
        for end in ("start", "end")
        if f"{key}_{end}" in meta
    }
    return Trace(
        name=str(meta.get("name") or printable(Path(path).stem)),
        **arrays,
        gfps=gfps,
        comms=tuple(meta["comms"]),
        gfp_names=_gfp_names(meta["gfp_names"], path),
        migratetypes=tuple(meta["migratetypes"]),
        kernel=meta["kernel"],
        cpus=meta["cpus"],
        description=str(meta.get("description", "")),
        pageblock_order=int(meta.get("pageblock_order", 9)),
        max_page_order=int(meta.get("max_page_order", 10)),
        page_size=int(meta.get("page_size", 4096)),
        lost=meta.get("lost"),
        ext=_ext(members, len(arrays["kind"]), path),
        snapshots=snapshots,
        provenance={
            "source": printable(Path(path).name),
            "format": "npz",
            **{
                key: meta[key]
                for key in ("clock", "thp", "workload_start_ns", "workload_end_ns")
                if key in meta
            },
        },
        kpageflags=_kpageflags(members, meta, path),
    )


def _members(file: str | os.PathLike[str] | IO[bytes], path: str) -> dict[str, Any]:
    """The arrays that are asked for, each of one dimension but the text."""
    try:
        members = read_arrays(file, _WANTED)
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{path}: {words}") from None
    for name, array in members.items():
        if array.ndim != (name != "meta"):
            raise ValueError(f"{path}: member {name!r} has shape {array.shape}")
    return members


def _arrays(
    members: dict[str, Any], meta: dict[str, Any], path: str
) -> tuple[dict[str, Any], tuple[int, ...]]:
    """(event columns as a Trace has them, distinct gfp masks)."""
    count = len(members["kind"]) if "kind" in members else 0
    columns: dict[str, npt.NDArray[Any]] = {}
    for name, dtype in _COLUMNS.items():
        columns[name] = _member(members, name, dtype, count, path)
    if not count:
        raise ValueError(f"{path}: a trace without events")
    if int(columns["kind"].max()) >= len(meta["kinds"]) or int(columns["comm"].max()) >= len(meta["comms"]):
        raise ValueError(f"{path}: a kind or comm beyond the tables in meta")
    try:
        kinds = np.array([KINDS.index(kind) for kind in meta["kinds"]], np.uint8)
    except ValueError as error:
        raise ValueError(f"{path}: meta.kinds: {error}") from None
    gfps, gfp = np.unique(columns["gfp"], return_inverse=True)
    if len(gfps) > 0x10000:
        raise ValueError(f"{path}: {len(gfps)} distinct gfp masks, at most 65536 can be")
    arrays = {
        "time_ns": np.cumsum(columns["ts_delta_ns"], dtype=np.uint64),
        "cpu": columns["cpu"],
        "kind": kinds[columns["kind"]],
        "pfn": columns["pfn"],
        "order": columns["order"],
        "migratetype": columns["migratetype"],
        "gfp": gfp.astype(np.uint16),
        "comm": columns["comm"].astype(np.uint16),
    }
    for array in arrays.values():
        array.flags.writeable = False
    return arrays, tuple(int(value) for value in gfps)


def _ext(members: dict[str, Any], count: int, path: str) -> npt.NDArray[np.void]:
    """The details of extfrag events."""
    ext = np.zeros(len(members.get("ext_idx", ())), EXT)
    if len(ext):
        ext["event"] = _member(members, "ext_idx", "u4", len(ext), path)
        if int(ext["event"].max()) >= count:
            raise ValueError(f"{path}: ext_idx {int(ext['event'].max())}, the trace has {count} events")
        for name, dtype in _EXT.items():
            ext[name] = _member(members, f"ext_{name}", dtype, len(ext), path)
    return ext


def _kpageflags(members: dict[str, Any], meta: dict[str, Any], path: str) -> dict[str, Any]:
    kpageflags = {}
    for which in ("start", "end"):
        if f"kpf_{which}" in members:
            if meta.get("kpf_bits") != list(KPF_BITS):
                raise ValueError(f"{path}: meta.kpf_bits is {meta.get('kpf_bits')!r}")
            kpageflags[which] = _member(members, f"kpf_{which}", "u1", len(members[f"kpf_{which}"]), path)
    return kpageflags


def _member(members: dict[str, Any], name: str, dtype: str, count: int, path: Any) -> npt.NDArray[Any]:
    if name not in members:
        raise ValueError(f"{path}: member {name!r} is missing")
    array: npt.NDArray[Any] = members[name]
    if array.dtype != np.dtype(dtype) or array.shape != (count,):
        raise ValueError(
            f"{path}: member {name!r} is {array.dtype}{list(array.shape)}, expected {dtype}[{count}]"
        )
    return array


def _gfp_names(pairs: list[list[Any]], path: Any) -> dict[str, int]:
    names = {}
    for name, value in pairs:
        if type(name) is not str or type(value) is not int or not 0 <= value < 1 << 32:
            raise ValueError(f"{path}: meta.gfp_names holds {[name, value]!r}")
        names[name] = value
    return names


def _meta(members: dict[str, npt.NDArray[Any]], path: Any) -> dict[str, Any]:
    if "meta" not in members:
        raise ValueError(f"{path}: member 'meta' is missing")
    text = members["meta"]
    if text.ndim or text.dtype.kind != "U":
        raise ValueError(f"{path}: member 'meta' is {text.dtype} of shape {text.shape}, not one text")
    try:
        words = str(text[()])
    except ValueError as error:
        raise ValueError(f"{path}: meta is no text ({error})") from None
    return checked(words, META, f"{path}: meta")
