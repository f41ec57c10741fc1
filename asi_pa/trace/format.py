"""The trace format: one file of columns that NumPy maps without copying.

::

    offset 0     magic, 8 bytes "asi_pa\\x01\\n"
           8     length of the header in bytes, little-endian u64
          16     header, JSON in UTF-8: where the trace comes from, the machine, the name tables,
                 and under "columns" name, dtype, count, offset, bytes and encoding of each column
    offset of a column: a multiple of 64 from the start of the file

Every event is one row of eight columns (`EVENT_COLUMNS`).  ``gfp`` and ``comm`` are indices into
tables of the header, so a row takes 20 bytes.  A column's encoding is ``raw`` (mapped), ``xz`` or
``delta+xz`` (decoded into memory when the file is opened): the traces that travel with the package
are packed, those that a recording or a conversion writes are mapped.  Snapshots of /proc/kpageflags
are always packed, one byte per frame, and decoded when asked for.
"""

from __future__ import annotations

import json
import lzma
import mmap
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from asi_pa.files import atomic_file
from asi_pa.kernel.versions import DEFAULT_KERNEL, kernel_profile
from asi_pa.trace.events import KINDS

__all__ = [
    "EVENT_COLUMNS",
    "EXT",
    "FAILED_PFN",
    "KINDS",
    "KPF_BITS",
    "MAGIC",
    "Trace",
    "read_trace",
    "read_trace_file",
    "write_trace",
]

MAGIC = b"asi_pa\x01\n"
#: ``pfn`` of an allocation that failed.
FAILED_PFN = 0xFFFFFFFF
#: What the bits of a snapshot's bytes mean, lowest first.
KPF_BITS = ("BUDDY", "LRU", "ANON", "SLAB", "HEAD", "TAIL", "PGTABLE", "NOPAGE_OFFLINE_RESERVED")

EVENT_COLUMNS: dict[str, np.dtype[Any]] = {
    "time_ns": np.dtype("<u8"),
    "cpu": np.dtype("u1"),
    "kind": np.dtype("u1"),
    "pfn": np.dtype("<u4"),
    "order": np.dtype("u1"),
    "migratetype": np.dtype("i1"),
    "gfp": np.dtype("<u2"),
    "comm": np.dtype("<u2"),
}
#: Details of the extfrag events; ``event`` is the row of the event.
EXT = np.dtype(
    [
        ("event", "<u8"),
        ("alloc_order", "u1"),
        ("fallback_order", "u1"),
        ("alloc_mt", "i1"),
        ("fallback_mt", "i1"),
        ("change_ownership", "u1"),
        ("pad", "u1", 3),
    ]
)
_ALIGN = 64
_HEADER_LIMIT = 1 << 28


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A recorded run of the page allocator: events as columns, and what is known of the machine.

    Event columns are read-only arrays of equal length n (dtypes in `EVENT_COLUMNS`): ``time_ns``
    (from the first event), ``cpu``, ``kind`` (index into `KINDS`), ``pfn`` (head frame, `FAILED_PFN`
    for an allocation that failed), ``order``, ``migratetype`` (index into ``migratetypes``, -1 none;
    of an allocation the type *asked for*), ``gfp`` (index into ``gfps``), ``comm`` (index into
    ``comms``).  ``ext`` has one `EXT` row per extfrag event.
    """

    name: str
    time_ns: npt.NDArray[np.uint64]
    cpu: npt.NDArray[np.uint8]
    kind: npt.NDArray[np.uint8]
    pfn: npt.NDArray[np.uint32]
    order: npt.NDArray[np.uint8]
    migratetype: npt.NDArray[np.int8]
    gfp: npt.NDArray[np.uint16]
    comm: npt.NDArray[np.uint16]
    gfps: tuple[int, ...]
    """Distinct gfp masks."""
    comms: tuple[str, ...]
    """Distinct command names."""
    gfp_names: dict[str, int]
    """Flag names of the recorded kernel, as its trace events print them."""
    migratetypes: tuple[str, ...]
    """Migratetype names of the recorded kernel; the numbers depend on its configuration."""
    kernel: str
    cpus: int
    description: str = ""
    pageblock_order: int = 9
    max_page_order: int = 10
    page_size: int = 4096
    lost: int | None = None
    """Events the recorder lost; None: not known."""
    ext: npt.NDArray[np.void] = field(default_factory=lambda: np.zeros(0, EXT))
    snapshots: dict[str, Any] = field(default_factory=dict)
    """``zones_start``/``zones_end`` (list of dicts in the manner of /proc/zoneinfo), ``buddyinfo_*`` and
    ``pagetypeinfo_*`` (text and times), as recorded; empty when nothing but events is known."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """How this trace came to be: source, recorder, conversions, cuts."""
    kpageflags: dict[str, Any] = field(default_factory=dict, repr=False)
    """``start``/``end``: packed snapshots; use `kpf`."""

    def __len__(self) -> int:
        return len(self.kind)

    def kpf(self, which: str) -> npt.NDArray[np.uint8] | None:
        """The kpageflags snapshot ``"start"`` or ``"end"``: one byte per frame from frame 0 on, bits
        `KPF_BITS`.

        Decoded on every call; None when the trace has none.  Raises ValueError for a damaged one.
        """
        packed = self.kpageflags.get(which)
        if packed is None:
            return None
        if isinstance(packed, np.ndarray):
            return packed
        data, count, where = packed
        return _decode(data, np.dtype("u1"), count, "xz", where)

    def with_events(self, keep: npt.NDArray[np.bool_], **changes: Any) -> Trace:
        """The same trace with the rows where ``keep`` holds (bool[n]) and other fields changed."""
        position = np.cumsum(keep) - 1
        ext = self.ext[keep[self.ext["event"].astype(np.intp)]].copy()
        ext["event"] = position[ext["event"].astype(np.intp)]
        columns = {name: getattr(self, name)[keep] for name in EVENT_COLUMNS}
        return replace(self, **(columns | {"ext": ext} | changes))


def profile(trace: Trace) -> str:
    """The kernel profile that fits the recorded kernel; the default one where none is known to."""
    try:
        return kernel_profile(trace.kernel).version
    except ValueError:
        return DEFAULT_KERNEL


_HEADER_FIELDS: dict[str, type | tuple[type, ...]] = {
    "name": str, "description": str, "kernel": str, "cpus": int, "pageblock_order": int,
    "max_page_order": int, "page_size": int, "lost": (int, type(None)), "gfps": list, "comms": list,
    "gfp_names": dict, "migratetypes": list, "snapshots": dict, "provenance": dict,
}  # fmt: skip


def _encode(array: npt.NDArray[Any], encoding: str) -> bytes:
    if encoding == "delta+xz":
        array = np.diff(array, prepend=array.dtype.type(0))
    return lzma.compress(np.ascontiguousarray(array).tobytes(), preset=6)


def _decode(data: Any, dtype: np.dtype[Any], count: int, encoding: str, where: str) -> npt.NDArray[Any]:
    try:
        raw = lzma.LZMADecompressor().decompress(bytes(data), max_length=count * dtype.itemsize + 1)
    except lzma.LZMAError as error:
        raise ValueError(f"{where}: damaged ({error})") from None
    if len(raw) != count * dtype.itemsize:
        raise ValueError(f"{where}: {len(raw)} bytes unpacked, {count * dtype.itemsize} expected")
    array: npt.NDArray[Any] = np.frombuffer(raw, dtype)
    if encoding == "delta+xz":
        array = np.cumsum(array, dtype=dtype)
        array.flags.writeable = False
    return array


def write_trace(trace: Trace, path: str | os.PathLike[str], *, pack: bool = False) -> int:
    """Write a trace file and return its size in bytes; ``pack`` compresses the event columns too.

    The file appears under its name only when it is complete: an interrupted write leaves nothing.
    """
    path = Path(path)
    columns: list[dict[str, Any]] = []
    blobs: list[Any] = []

    def add(name: str, array: Any, dtype: np.dtype[Any], encoding: str) -> None:
        if isinstance(array, tuple):  # a packed snapshot, as `read_trace` found it
            blob, count = array[0], array[1]
        else:
            data = np.ascontiguousarray(array, dtype)
            # A view, not a copy: columns of any size pass through.
            blob = data.view(np.uint8).data if encoding == "raw" else _encode(data, encoding)
            count = len(data)
        columns.append({"name": name, "dtype": "ext" if dtype == EXT else dtype.str, "count": count,
                        "offset": 0, "bytes": len(blob), "encoding": encoding})  # fmt: skip
        blobs.append(blob)

    for name, dtype in EVENT_COLUMNS.items():
        add(
            name,
            getattr(trace, name),
            dtype,
            "raw" if not pack else "delta+xz" if name == "time_ns" else "xz",
        )
    add("ext", trace.ext, EXT, "raw")
    for which, packed in trace.kpageflags.items():
        add(f"kpf_{which}", packed, np.dtype("u1"), "xz")

    header: dict[str, Any] = {name: getattr(trace, name) for name in _HEADER_FIELDS}
    header["kinds"], header["kpf_bits"] = KINDS, KPF_BITS
    header["columns"] = columns
    # Offsets count from the first 64-byte boundary after the header, so its length does not depend on them.
    offset = 0
    for column in columns:
        column["offset"] = offset
        offset += -(-column["bytes"] // _ALIGN) * _ALIGN
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    start = -(-(16 + len(text)) // _ALIGN) * _ALIGN
    try:
        with atomic_file(path) as out:
            out.write(MAGIC + len(text).to_bytes(8, "little") + text)
            for column, blob in zip(columns, blobs, strict=True):
                out.seek(start + column["offset"])
                out.write(blob)
            out.truncate(start + offset)
    except OSError as error:
        raise ValueError(f"{path}: cannot write ({error.strerror})") from None
    return start + offset


def read_trace(path: str | os.PathLike[str]) -> Trace:
    """Map a trace file.  Raw columns are views of the file, which stays mapped as long as they live.

    Raises ValueError, naming the file, when it is empty, truncated, no trace file, or its header
    contradicts itself.  What the columns hold is checked where it is used.
    """
    try:
        with open(path, "rb") as file:
            return read_trace_file(file, os.fspath(path))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None


def read_trace_file(file: IO[bytes], path: str) -> Trace:
    """`read_trace` of an open file; ``path`` stands for it in messages."""
    size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise ValueError(f"{path}: empty file")
    view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if bytes(view[: len(MAGIC)]) != MAGIC[:size]:
        raise ValueError(f"{path}: not an asi_pa trace (starts with {bytes(view[:8])!r})")
    length = int.from_bytes(view[8:16], "little")
    if size < 16 or (length <= _HEADER_LIMIT and 16 + length > size):
        raise ValueError(f"{path}: truncated in the header ({size} bytes)")
    if length > _HEADER_LIMIT:
        raise ValueError(f"{path}: header length {length} is impossible")
    try:
        header = json.loads(bytes(view[16 : 16 + length]))
    except ValueError as error:
        raise ValueError(f"{path}: header is not JSON ({error})") from None
    fields = _check_header(header, path)
    columns = _map_columns(header, view, -(-(16 + length) // _ALIGN) * _ALIGN, path)
    columns["kind"] = _numbered(columns["kind"], header["kinds"], path)
    ext = columns.pop("ext")
    kpageflags = {key[4:]: columns.pop(key) for key in list(columns) if key.startswith("kpf_")}
    trace = Trace(**fields, **columns, ext=ext, kpageflags=kpageflags)
    if len(ext) and int(ext["event"].max()) >= len(trace):
        raise ValueError(
            f"{path}: extfrag details of event {int(ext['event'].max())}, the trace has {len(trace)}"
        )
    return trace


def _check_header(header: Any, path: Any) -> dict[str, Any]:
    if not isinstance(header, dict):
        raise ValueError(f"{path}: header is no JSON object")
    fields: dict[str, Any] = {}
    for name, kind in _HEADER_FIELDS.items():
        if name not in header or not isinstance(header[name], kind) or isinstance(header[name], bool):
            raise ValueError(f"{path}: header field {name!r} is missing or of the wrong type")
        value = header[name]
        fields[name] = tuple(value) if isinstance(value, list) else value
    if header.get("kpf_bits") != list(KPF_BITS):
        raise ValueError(f"{path}: header field 'kpf_bits' is {header.get('kpf_bits')!r}")
    kinds = header.get("kinds")
    if not isinstance(kinds, list) or any(kinds.count(kind) > 1 or kind not in KINDS for kind in kinds):
        raise ValueError(f"{path}: header field 'kinds' is {kinds!r}, not names of {', '.join(KINDS)}")
    for mask in fields["gfps"]:
        if not isinstance(mask, int) or not 0 <= mask < 1 << 32:
            raise ValueError(f"{path}: header field 'gfps' holds {mask!r}")
    for name in ("comms", "migratetypes"):
        for value in fields[name]:
            if not isinstance(value, str):
                raise ValueError(f"{path}: header field {name!r} holds {value!r}")
    for flag, mask in fields["gfp_names"].items():
        if not isinstance(mask, int):
            raise ValueError(f"{path}: header field 'gfp_names' gives {flag!r} the value {mask!r}")
    for name, low, high in (("cpus", 1, 256), ("pageblock_order", 0, 20), ("max_page_order", 0, 20)):
        if not low <= fields[name] <= high:
            raise ValueError(f"{path}: header field {name!r} is {fields[name]}, not {low}..{high}")
    return fields


def _numbered(kind: npt.NDArray[np.uint8], names: list[str], path: Any) -> npt.NDArray[np.uint8]:
    """The column as `KINDS` numbers it; the file's own names may be fewer, or stand in another order."""
    if names == list(KINDS):
        return kind
    if len(kind) and int(kind.max()) >= len(names):
        raise ValueError(f"{path}: header field 'kinds' names no kind {int(kind.max())}")
    if names == list(KINDS[: len(names)]):
        return kind
    numbered = np.array([KINDS.index(name) for name in names], np.uint8)[kind]
    numbered.flags.writeable = False
    return numbered


def _map_columns(header: dict[str, Any], view: memoryview, start: int, path: Any) -> dict[str, Any]:
    known = {**EVENT_COLUMNS, "ext": EXT, "kpf_start": np.dtype("u1"), "kpf_end": np.dtype("u1")}
    columns: dict[str, Any] = {}
    entries = header.get("columns")
    if not isinstance(entries, list):
        raise ValueError(f"{path}: header field 'columns' is missing or of the wrong type")
    for entry in entries:
        try:
            name, count, offset, length = entry["name"], entry["count"], entry["offset"], entry["bytes"]
            dtype, encoding = known[name], entry["encoding"]
            good = (
                entry["dtype"] == ("ext" if dtype == EXT else dtype.str) and min(count, offset, length) >= 0
            )
            good = good and offset % _ALIGN == 0 and (encoding != "raw" or length == count * dtype.itemsize)
        except (KeyError, TypeError):
            good = False
        if not good or name in columns or encoding not in ("raw", "xz", "delta+xz"):
            raise ValueError(f"{path}: column {entry!r} contradicts the format")
        if start + offset + length > len(view):
            raise ValueError(f"{path}: truncated in column {name!r} ({len(view)} bytes)")
        data = view[start + offset : start + offset + length]
        if name.startswith("kpf_"):
            columns[name] = (data, count, f"{path}: column {name!r}")
        elif encoding == "raw":
            columns[name] = np.frombuffer(data, dtype, count) if count else np.zeros(0, dtype)
        else:
            columns[name] = _decode(data, dtype, count, encoding, f"{path}: column {name!r}")
    missing = [name for name in (*EVENT_COLUMNS, "ext") if name not in columns]
    if missing:
        raise ValueError(f"{path}: column {missing[0]!r} is missing")
    counts = {name: len(columns[name]) for name in EVENT_COLUMNS}
    if len(set(counts.values())) != 1:
        raise ValueError(f"{path}: columns of different length {counts}")
    if not counts["kind"]:
        raise ValueError(f"{path}: a trace without events")
    return columns
