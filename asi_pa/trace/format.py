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
are always packed, one byte per frame, and decoded when asked for.  A file may have no event if it has the
start's snapshot: a start state alone (``asi-pa snapshot``).
"""

from __future__ import annotations

import json
import lzma
import mmap
import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from asi_pa.files import atomic_file
from asi_pa.kernel.versions import DEFAULT_KERNEL, kernel_profile
from asi_pa.limits import claim
from asi_pa.trace.events import KINDS
from asi_pa.trace.header import TRACE, checked

__all__ = [
    "EVENT_COLUMNS",
    "EXT",
    "FAILED_PFN",
    "KINDS",
    "KPF_BITS",
    "MAGIC",
    "ExactLists",
    "Trace",
    "facts_html",
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
    "time_ns": np.dtype("u8"),
    "cpu": np.dtype("u1"),
    "kind": np.dtype("u1"),
    "pfn": np.dtype("u4"),
    "order": np.dtype("u1"),
    "migratetype": np.dtype("i1"),
    "gfp": np.dtype("u2"),
    "comm": np.dtype("u2"),
}
#: Details of the extfrag events; ``event`` is the row of the event.
EXT = np.dtype(
    [
        ("event", "u8"),
        ("alloc_order", "u1"),
        ("fallback_order", "u1"),
        ("alloc_mt", "i1"),
        ("fallback_mt", "i1"),
        ("change_ownership", "u1"),
        ("pad", "u1", 3),
    ]
)
#: Columns of an exact start state (`ExactLists`).
EXACT_COLUMNS: dict[str, np.dtype[Any]] = {
    "free_pfn": np.dtype("u4"),
    "free_order": np.dtype("u1"),
    "free_type": np.dtype("u1"),
    "pcp_pfn": np.dtype("u4"),
    "pcp_order": np.dtype("u1"),
    "pcp_type": np.dtype("u1"),
    "pcp_cpu": np.dtype("u1"),
    "block_type": np.dtype("u1"),
}
#: Every column that a file may have.
_DTYPES = {
    **EVENT_COLUMNS,
    "ext": EXT,
    "kpf_start": np.dtype("u1"),
    "kpf_end": np.dtype("u1"),
    **{f"exact_{name}": dtype for name, dtype in EXACT_COLUMNS.items()},
}
_ALIGN = 64


def _stored(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Files are little-endian, whatever the machine is."""
    return dtype.newbyteorder("<")


def _native(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    native.flags.writeable = False
    return native


_HEADER_LIMIT = 1 << 26
#: Packed and unpacked in pieces of so many bytes.
_PACKED, _UNPACKED = 1 << 20, 1 << 22


@dataclass(frozen=True, kw_only=True)
class ExactLists:
    """A start state's lists as they were: arrays of `EXACT_COLUMNS`.

    A row a block, list after list, each from its head to its tail; types as ``Trace.migratetypes`` numbers
    them.
    """

    free_pfn: npt.NDArray[np.uint32]
    free_order: npt.NDArray[np.uint8]
    free_type: npt.NDArray[np.uint8]
    pcp_pfn: npt.NDArray[np.uint32]
    pcp_order: npt.NDArray[np.uint8]
    pcp_type: npt.NDArray[np.uint8]
    pcp_cpu: npt.NDArray[np.uint8]
    block_type: npt.NDArray[np.uint8]
    """By pageblock, from frame 0 on."""


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
    exact: ExactLists | None = field(default=None, repr=False)
    """The start's lists as they were, where something read them (`asi_pa.trace.exact`)."""
    path: str = ""
    """The file it was read from, for messages; not kept with it."""

    def __len__(self) -> int:
        return len(self.kind)

    def __repr__(self) -> str:
        return "\n".join(f"{key}: {value}" if key else value for key, value in self._facts())

    def _repr_html_(self) -> str:
        return facts_html(self._facts())

    def _facts(self) -> list[tuple[str, str]]:
        """What it prints of itself."""
        kinds = np.bincount(self.kind, minlength=len(KINDS)).tolist()
        said = ", ".join(f"{n:,} {k}" for k, n in zip(KINDS, kinds, strict=False) if n)
        seconds = float(self.time_ns[-1]) / 1e9 if len(self) else 0.0
        lost = "losses not known" if self.lost is None else f"{self.lost:,} lost"
        states = [which for which in ("start", "end") if which in self.kpageflags]
        return [
            ("", f"<Trace {self.name}: {len(self):,} events in {seconds:.1f} s, {lost}>"),
            ("about", self.description or "-"),
            ("machine", f"{self.kernel}, {self.cpus} CPUs; every frame known at the {' and '.join(states)}"
             if states else f"{self.kernel}, {self.cpus} CPUs; no snapshots"),
            ("events", said or "none"),
        ]  # fmt: skip

    @property
    def label(self) -> str:
        """What messages call it: its file, or its name where it has none."""
        return self.path or f"trace {self.name}"

    @property
    def has_start(self) -> bool:
        """Whether the state of the machine's memory at the start was recorded: its zones, and every frame."""
        return "start" in self.kpageflags and bool(self.snapshots.get("zones_start"))

    def needs_events(self) -> Trace:
        """Itself.  Raises ValueError for a start state alone, of which nothing can be replayed."""
        if not len(self):
            raise ValueError(
                f"{self.label}: a start state alone, without events to replay (asi-pa info shows it, "
                "Allocator.from_trace starts from it)"
            )
        return self

    def kpf(self, which: str) -> npt.NDArray[np.uint8] | None:
        """The kpageflags snapshot ``"start"`` or ``"end"``: one byte per frame from frame 0 on, bits
        `KPF_BITS`.

        Decoded once; None when the trace has none.  Raises ValueError for a damaged one.
        """
        packed = self.kpageflags.get(which)
        if packed is None:
            return None
        if isinstance(packed, np.ndarray):
            return packed
        if which not in self._decoded:
            data, count, where = packed
            self._decoded[which] = _decode(data, np.dtype("u1"), count, "xz", where)
        return self._decoded[which]

    @cached_property
    def _decoded(self) -> dict[str, npt.NDArray[np.uint8]]:
        return {}

    def with_events(self, keep: npt.NDArray[np.bool_], **changes: Any) -> Trace:
        """The same trace with the rows where ``keep`` holds (bool[n]) and other fields changed."""
        position = np.cumsum(keep) - 1
        ext = self.ext[keep[self.ext["event"].astype(np.intp)]].copy()
        ext["event"] = position[ext["event"].astype(np.intp)]
        columns = {name: getattr(self, name)[keep] for name in EVENT_COLUMNS}
        return replace(self, **(columns | {"ext": ext} | changes))


def facts_html(facts: list[tuple[str, str]]) -> str:
    """What an object prints of itself, for a notebook."""
    (_, first), *rest = facts
    rows = "".join(f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in rest)
    return f"<table><caption>{escape(first.strip('<>'))}</caption>{rows}</table>"


def profile(trace: Trace) -> str:
    """The kernel profile that fits the recorded kernel; the default one where none is known to."""
    try:
        return kernel_profile(trace.kernel).version
    except ValueError:
        return DEFAULT_KERNEL


_HEADER_FIELDS = (
    "name", "description", "kernel", "cpus", "pageblock_order", "max_page_order", "page_size", "lost", "gfps",
    "comms", "gfp_names", "migratetypes", "snapshots", "provenance",
)  # fmt: skip


def _encode(array: npt.NDArray[Any], encoding: str) -> bytes:
    # In pieces, as in `_decode`: Ctrl-C is heard between them.
    if encoding == "delta+xz":
        array = np.diff(array, prepend=array.dtype.type(0))
    array = np.ascontiguousarray(array, _stored(array.dtype))
    data = array.view(np.uint8).data if array.size else b""
    packer = lzma.LZMACompressor(preset=6)
    parts = [packer.compress(data[at : at + _PACKED]) for at in range(0, len(data), _PACKED)]
    return b"".join([*parts, packer.flush()])


def _decode(data: Any, dtype: np.dtype[Any], count: int, encoding: str, where: str) -> npt.NDArray[Any]:
    size = count * dtype.itemsize
    claim(where, size, len(data))
    raw = np.empty(size, np.uint8)
    unpacker = lzma.LZMADecompressor()
    at, fed = 0, 0
    try:
        while at < size and not unpacker.eof:
            piece = b""
            if unpacker.needs_input:
                piece = bytes(data[fed : fed + _PACKED])
                fed += len(piece)
            got = unpacker.decompress(piece, max_length=min(size - at, _UNPACKED))
            if not got and not piece and unpacker.needs_input:
                break
            raw[at : at + len(got)] = np.frombuffer(got, np.uint8)
            at += len(got)
        over = b"" if unpacker.eof else unpacker.decompress(bytes(data[fed:]), max_length=1)
    except (lzma.LZMAError, EOFError) as error:
        raise ValueError(f"{where}: damaged ({error})") from None
    if at != size or over or (size and not unpacker.eof):
        raise ValueError(f"{where}: {'more' if at == size else at} bytes unpacked, {size} expected")
    array = _native(raw.view(_stored(dtype)))
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
            raw = data.astype(_stored(dtype), copy=False).view(np.uint8)
            blob = raw.data if encoding == "raw" else _encode(data, encoding)
            count = len(data)
        columns.append({"name": name, "dtype": "ext" if dtype == EXT else _stored(dtype).str, "count": count,
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
    for name, dtype in EXACT_COLUMNS.items() if trace.exact is not None else ():
        add(f"exact_{name}", getattr(trace.exact, name), dtype, "xz")

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
    header = checked(bytes(view[16 : 16 + length]), TRACE, f"{path}: header")
    _check_names(header, path)
    fields = {name: header[name] for name in _HEADER_FIELDS}
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    columns = _map_columns(header["columns"], view, -(-(16 + length) // _ALIGN) * _ALIGN, path)
    columns["kind"] = _numbered(columns["kind"], header["kinds"], path)
    ext = columns.pop("ext")
    kpageflags = {key[4:]: columns.pop(key) for key in list(columns) if key.startswith("kpf_")}
    lists = {key[6:]: columns.pop(key) for key in list(columns) if key.startswith("exact_")}
    if lists and len(lists) < len(EXACT_COLUMNS):
        raise ValueError(f"{path}: column 'exact_{min(EXACT_COLUMNS.keys() - lists.keys())}' is missing")
    exact = ExactLists(**lists) if lists else None
    trace = Trace(**fields, **columns, ext=ext, kpageflags=kpageflags, exact=exact)
    if not len(trace) and not trace.has_start:
        raise ValueError(f"{path}: a trace without events, and no start state either")
    if len(ext) and int(ext["event"].max()) >= len(trace):
        raise ValueError(
            f"{path}: extfrag details of event {int(ext['event'].max())}, the trace has {len(trace)}"
        )
    return trace


def _check_names(header: dict[str, Any], path: Any) -> None:
    if header["kpf_bits"] != list(KPF_BITS):
        raise ValueError(f"{path}: header field 'kpf_bits' is {header['kpf_bits']!r}")
    kinds = header["kinds"]
    if any(kinds.count(kind) > 1 or kind not in KINDS for kind in kinds):
        raise ValueError(f"{path}: header field 'kinds' is {kinds!r}, not names of {', '.join(KINDS)}")


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


def _map_columns(entries: list[dict[str, Any]], view: memoryview, start: int, path: Any) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    claim(f"{path}: what its packed columns unpack to", _promised(entries, path), len(view))
    for entry in entries:
        name, count, offset, length = entry["name"], entry["count"], entry["offset"], entry["bytes"]
        dtype, encoding = _DTYPES[name], entry["encoding"]
        good = entry["dtype"] == ("ext" if dtype == EXT else _stored(dtype).str) and offset % _ALIGN == 0
        good = good and (encoding != "raw" or length == count * dtype.itemsize)
        if not good or name in columns:
            raise ValueError(f"{path}: column {entry!r} contradicts the format")
        if start + offset + length > len(view):
            raise ValueError(f"{path}: truncated in column {name!r} ({len(view)} bytes)")
        data = view[start + offset : start + offset + length]
        if name.startswith("kpf_"):
            columns[name] = (data, count, f"{path}: column {name!r}")
        elif encoding == "raw":
            columns[name] = (
                _native(np.frombuffer(data, _stored(dtype), count)) if count else np.zeros(0, dtype)
            )
        else:
            columns[name] = _decode(data, dtype, count, encoding, f"{path}: column {name!r}")
    missing = [name for name in (*EVENT_COLUMNS, "ext") if name not in columns]
    if missing:
        raise ValueError(f"{path}: column {missing[0]!r} is missing")
    counts = {name: len(columns[name]) for name in EVENT_COLUMNS}
    if len(set(counts.values())) != 1:
        raise ValueError(f"{path}: columns of different length {counts}")
    return columns


def _promised(entries: list[dict[str, Any]], path: Any) -> int:
    """Bytes that the packed columns say they unpack to; ValueError for a column that is none."""
    total = 0
    for entry in entries:
        if entry["name"] not in _DTYPES:
            raise ValueError(f"{path}: column {entry!r} contradicts the format")
        if entry["encoding"] != "raw":
            total += int(entry["count"]) * _DTYPES[entry["name"]].itemsize
    return total
