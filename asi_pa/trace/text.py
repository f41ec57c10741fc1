"""Trace text: what ``perf script``, ``trace-cmd report`` and ftrace's ``trace`` file print.

Read in chunks; columns are spooled to an unnamed temporary file and mapped, so memory does not grow with the
length of the text.  ``perf script --ns -F comm,tid,cpu,time,event,trace`` is the best form: without ``--ns``
times are cut to microseconds, with other fields left out the line is refused.

Lines that are no page-allocator events: comments (``#``), ``cpus=N`` and blank lines are passed over, other
events are counted, LOST lines add to ``lost``, everything else is an error that names the line.
"""

from __future__ import annotations

import contextlib
import gzip
import lzma
import os
import re
import tempfile
import zlib
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from asi_pa.kernel.gfp import parse_gfp
from asi_pa.trace.classify import TRACE_GFP_NAMES
from asi_pa.trace.format import EVENT_COLUMNS, EXT, Trace
from asi_pa.trace.scanner import REASONS, Reader

__all__ = ["read_stream", "read_text"]

_CHUNK = 1 << 21
_LONGEST_LINE = 1 << 16
#: CONFIG_CMA off, CONFIG_MEMORY_ISOLATION on: text has numbers only, and those up to 2 are the same
#: everywhere.
_MIGRATETYPES = ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "Isolate")
_ENTRIES = re.compile(rb"#\s*entries-in-buffer/entries-written:\s*(\d+)/(\d+)")
_LOST = re.compile(
    rb"PERF_RECORD_LOST(?:_SAMPLES)?\s+lost\s+(\d+)"
    rb"|\[LOST (\d+) EVENTS?\]|\[(\d+) EVENTS? DROPPED\]"
    rb"|^\s*(?:CPU:?\s*\d+\s+)?LOST (\d+) events"
)
_OTHER = re.compile(rb"\S.*\[\d+\].*?\d+(?:\.\d+)?:\s+\S+:?")
_FOREIGN = {
    b"PERFILE2": "perf.data: print it with `perf script --ns -F comm,tid,cpu,time,event,trace`",
    b"\x17\x08Dtraci": "trace-cmd's trace.dat: print it with `trace-cmd report -t`",
}


class _Spool:
    """Event columns on disk while their number is unknown."""

    def __init__(self, directory: str | None) -> None:
        self.files: dict[str, IO[bytes]] = {
            name: tempfile.TemporaryFile(dir=directory)  # noqa: SIM115
            for name in EVENT_COLUMNS
        }
        self.rows = 0
        self.cpus = 0

    def append(self, columns: dict[str, npt.NDArray[Any]]) -> None:
        count = len(columns["kind"])
        if not count:
            return
        self.cpus = max(self.cpus, int(columns["cpu"].max()) + 1)
        for name, file in self.files.items():
            file.write(columns[name].data.cast("B"))
        self.rows += count

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """The columns, mapped: they outlive the files' names and the spool."""
        mapped = {}
        for name, file in self.files.items():
            file.flush()
            mapped[name] = np.asarray(np.memmap(file, EVENT_COLUMNS[name], "r", shape=(self.rows,)))
        return mapped

    def close(self) -> None:
        for file in self.files.values():
            file.close()


def _open(path: Path) -> IO[bytes]:
    with open(path, "rb") as file:
        start = file.read(8)
    for magic, advice in _FOREIGN.items():
        if start.startswith(magic):
            raise ValueError(f"{path}: {advice}")
    if start.startswith(b"\xfd7zXZ"):
        return cast(IO[bytes], lzma.open(path))
    if start.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(path))
    return open(path, "rb")


def read_text(
    path: str | os.PathLike[str],
    *,
    kernel: str = "",
    cpus: int | None = None,
    directory: str | None = None,
) -> Trace:
    """Read trace text, plain or packed with xz or gzip.

    ``kernel`` and ``cpus`` are what the text does not say (default: the model's kernel, as many CPUs as
    seen). ``directory`` takes the temporary files (default: the system's).  Raises ValueError naming file and
    line for a line that is not understood, and for a text without events.
    """
    path = Path(path)
    try:
        with _open(path) as file:
            return read_stream(file, str(path), kernel=kernel, cpus=cpus, directory=directory)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None


def read_stream(
    file: IO[bytes], name: str, *, kernel: str = "", cpus: int | None = None, directory: str | None = None
) -> Trace:
    """`read_text` of an open binary file, which may be a pipe; ``name`` stands for it in messages."""
    reader, spool, ext = Reader(), _Spool(directory), list[npt.NDArray[np.void]]()
    notes = {"lost": 0, "other_events": 0}
    with contextlib.closing(spool):
        try:
            _read(name, file, reader, spool, ext, notes)
        except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{name}: line {reader.line + 1}: damaged archive ({error})") from None
        if not spool.rows:
            raise ValueError(f"{name}: no kmem:mm_page events in {reader.line} lines")
        columns: dict[str, Any] = spool.columns()
    masks = []
    for text, line in reader.gfps():
        try:
            masks.append(parse_gfp(text, TRACE_GFP_NAMES) & 0xFFFFFFFF)
        except ValueError as error:
            raise ValueError(f"{name}: line {line}: {error}") from None
    return Trace(
        name=Path(name).name.split(".")[0] or name,
        **columns,
        gfps=tuple(masks) or (0,),
        comms=tuple(reader.comms()),
        gfp_names=dict(TRACE_GFP_NAMES),
        migratetypes=_MIGRATETYPES,
        kernel=kernel,
        cpus=max(cpus or 1, spool.cpus),
        lost=notes["lost"],
        ext=np.concatenate([np.zeros(0, EXT), *(part.view(EXT) for part in ext)]),
        provenance={
            "source": Path(name).name,
            "format": "text",
            "lines": reader.line,
            "other_events": notes["other_events"],
        },
    )


def _read(
    name: str,
    file: IO[bytes],
    reader: Reader,
    spool: _Spool,
    ext: list[npt.NDArray[np.void]],
    notes: dict[str, int],
) -> None:
    # One buffer for all: what is left of the last line moves to its front.
    buffer = bytearray(_CHUNK + _LONGEST_LINE)
    view = memoryview(buffer)
    left = 0
    while True:
        got = file.readinto(view[left : left + _CHUNK])  # type: ignore[attr-defined]
        end = left + got
        if not got and left:
            buffer[left : left + 1] = b"\n"
            end += 1
        at = 0
        while True:
            columns, rows, at, reason = reader.feed(buffer, at, end)
            spool.append(columns)
            if len(rows):
                ext.append(rows)
            if reason == 0:
                break
            stop = buffer.index(b"\n", at)
            line = bytes(view[at:stop])
            if reason != 1:
                raise _bad(name, reader.line + 1, REASONS[reason], line)
            _other_line(name, reader.line + 1, line, notes)
            reader.skip()
            at = stop + 1
        if not got:
            return
        left = end - at
        if left >= _LONGEST_LINE:
            raise _bad(
                name, reader.line + 1, f"longer than {_LONGEST_LINE} bytes", bytes(view[at : at + 120])
            )
        buffer[:left] = bytes(view[at:end])


def _bad(name: str, number: int, reason: str, line: bytes) -> ValueError:
    shown = line[:120].decode("utf-8", "backslashreplace").strip()
    return ValueError(f"{name}: line {number}: {reason}: {shown!r}")


def _other_line(name: str, number: int, line: bytes, notes: dict[str, int]) -> None:
    text = line.strip()
    if not text or re.fullmatch(rb"cpus=\d+", text) or text.startswith(b"version ="):
        return
    if match := _LOST.search(text):
        notes["lost"] += next(int(group) for group in match.groups() if group)
    elif text.startswith(b"#"):
        if match := _ENTRIES.match(text):
            notes["lost"] += max(int(match[2]) - int(match[1]), 0)
    elif b"\0" in text or not _OTHER.match(text) or b"mm_page_" in text:
        raise _bad(name, number, "not understood", line)
    else:
        notes["other_events"] += 1
