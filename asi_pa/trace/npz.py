"""Recorded runs as ``.npz`` files: events of kmem:* beside snapshots of /proc at both ends.

Members: ``ts_delta_ns`` u32 (event i happened at the sum up to i), ``cpu`` u8, ``kind`` u8, ``pfn`` u32,
``order`` u8, ``migratetype`` i8, ``gfp`` u32, ``comm`` u8, ``ext_idx`` u32 and ``ext_*`` per extfrag event,
``kpf_start``/``kpf_end`` u8 per frame, and ``meta``, a JSON text with the machine and the name tables.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from asi_pa.trace.events import KINDS
from asi_pa.trace.format import EXT, KPF_BITS, Trace

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
_META: dict[str, type] = {
    "kernel": str,
    "cpus": int,
    "kinds": list,
    "migratetypes": list,
    "gfp_names": list,
    "comms": list,
}


def holds_arrays(file: IO[bytes]) -> bool:
    """Is this zip archive one of NumPy's?"""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return True  # a damaged one: whoever reads it says so
    finally:
        file.seek(0)
    return any(name.endswith(".npy") for name in names)


def read_npz(file: str | os.PathLike[str] | IO[bytes], path: str | None = None) -> Trace:
    """Read a recorded run; ``path`` stands for an open file in messages.

    Raises ValueError, naming file and member, for anything that does not fit.
    """
    path = str(file) if path is None else path
    try:
        with np.load(file, allow_pickle=False) as archive:
            members = {name: archive[name] for name in archive.files}
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise ValueError(f"{path}: not a readable .npz file ({error})") from None
    meta = _meta(members, path)
    count = len(members["kind"]) if "kind" in members else 0
    columns: dict[str, npt.NDArray[Any]] = {}
    for name, dtype in _COLUMNS.items():
        columns[name] = _member(members, name, dtype, count, path)
    if not count:
        raise ValueError(f"{path}: a trace without events")
    ext = np.zeros(len(members.get("ext_idx", ())), EXT)
    if len(ext):
        ext["event"] = _member(members, "ext_idx", "u4", len(ext), path)
        if int(ext["event"].max()) >= count:
            raise ValueError(f"{path}: ext_idx {int(ext['event'].max())}, the trace has {count} events")
        for name, dtype in _EXT.items():
            ext[name] = _member(members, f"ext_{name}", dtype, len(ext), path)
    kpageflags = {}
    for which in ("start", "end"):
        if f"kpf_{which}" in members:
            if meta.get("kpf_bits") != list(KPF_BITS):
                raise ValueError(f"{path}: meta.kpf_bits is {meta.get('kpf_bits')!r}")
            kpageflags[which] = _member(members, f"kpf_{which}", "u1", len(members[f"kpf_{which}"]), path)

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
    kept = ("zones", "buddyinfo", "pagetypeinfo")
    snapshots = {
        f"{key}_{end}": meta[f"{key}_{end}"]
        for key in kept
        for end in ("start", "end")
        if f"{key}_{end}" in meta
    }
    return Trace(
        name=str(meta.get("name") or Path(path).stem),
        **arrays,
        gfps=tuple(int(value) for value in gfps),
        comms=tuple(meta["comms"]),
        gfp_names={name: int(value) for name, value in meta["gfp_names"]},
        migratetypes=tuple(meta["migratetypes"]),
        kernel=meta["kernel"],
        cpus=meta["cpus"],
        description=str(meta.get("description", "")),
        pageblock_order=int(meta.get("pageblock_order", 9)),
        max_page_order=int(meta.get("max_page_order", 10)),
        page_size=int(meta.get("page_size", 4096)),
        lost=meta.get("lost"),
        ext=ext,
        snapshots=snapshots,
        provenance={
            "source": Path(path).name,
            "format": "npz",
            **{
                key: meta[key]
                for key in ("clock", "thp", "workload_start_ns", "workload_end_ns")
                if key in meta
            },
        },
        kpageflags=kpageflags,
    )


def _member(members: dict[str, Any], name: str, dtype: str, count: int, path: Any) -> npt.NDArray[Any]:
    if name not in members:
        raise ValueError(f"{path}: member {name!r} is missing")
    array: npt.NDArray[Any] = members[name]
    if array.dtype != np.dtype(dtype) or array.shape != (count,):
        raise ValueError(
            f"{path}: member {name!r} is {array.dtype}{list(array.shape)}, expected {dtype}[{count}]"
        )
    return array


def _meta(members: dict[str, Any], path: Any) -> dict[str, Any]:
    if "meta" not in members:
        raise ValueError(f"{path}: member 'meta' is missing")
    try:
        meta = json.loads(str(members["meta"]))
    except ValueError as error:
        raise ValueError(f"{path}: meta is not JSON ({error})") from None
    for name, kind in _META.items():
        if not isinstance(meta, dict) or not isinstance(meta.get(name), kind):
            raise ValueError(f"{path}: meta.{name} is missing or of the wrong type")
    return dict(meta)
