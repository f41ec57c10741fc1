"""Trace text: what ``perf script``, ``trace-cmd report`` and ftrace's ``trace`` file print.

Read in chunks; columns are spooled to an unnamed temporary file and mapped, so memory does not grow with the
length of the text.  ``perf script --ns -F comm,tid,cpu,time,event,trace`` is the best form: without ``--ns``
times are cut to microseconds, with other fields left out the line is refused.

What a line may be beside an event is in `text_lines`, what a gfp text means in `gfp_names`; events whose
times run backwards are put in order by `time_order`.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from asi_pa.errors import printable
from asi_pa.trace.format import EVENT_COLUMNS, EXT, Trace
from asi_pa.trace.gfp_names import TRACE_GFP_NAMES, asked_type, trace_gfp
from asi_pa.trace.scanner import ASKS_GFP, OTHER, REASONS, Reader
from asi_pa.trace.source import Source, damage, open_source
from asi_pa.trace.text_lines import Notes, other_line, wrong_command, wrong_field
from asi_pa.trace.time_order import Columns, in_order

__all__ = ["read_source", "read_stream", "read_text"]

_CHUNK = 1 << 21
_LONGEST_LINE = 1 << 16
#: CONFIG_CMA off, CONFIG_MEMORY_ISOLATION on: text has numbers only, and those up to 2 are the same
#: everywhere.
_MIGRATETYPES = ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "Isolate")
#: What trace-cmd report puts before the lines of several files.
_NAME_BEFORE = re.compile(r"[\w-]+: +\S")


class _Spool:
    """Event columns on disk while their number is unknown."""

    def __init__(self, directory: str | None) -> None:
        self.directory = directory
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
        with self._naming():
            for name, file in self.files.items():
                file.write(columns[name].data.cast("B"))
        self.rows += count

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """The columns, mapped: they outlive the files' names and the spool."""
        mapped = {}
        with self._naming():
            for file in self.files.values():
                file.flush()
        for name, file in self.files.items():
            mapped[name] = np.asarray(np.memmap(file, EVENT_COLUMNS[name], "r", shape=(self.rows,)))
        return mapped

    def close(self) -> None:
        for file in self.files.values():
            with contextlib.suppress(OSError):  # what could not be written was said
                file.close()

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        """A full disk is said to be that of the temporary files."""
        try:
            yield
        except OSError as error:
            place = self.directory or tempfile.gettempdir()
            raise ValueError(
                f"temporary files in {place}: {error.strerror} (TMPDIR names another place)"
            ) from None


def read_text(
    path: str | os.PathLike[str],
    *,
    kernel: str = "",
    cpus: int | None = None,
    directory: str | None = None,
) -> Trace:
    """Read trace text, plain or packed with gzip, xz, bzip2 or zstd; ``-`` is standard input.

    ``kernel`` and ``cpus`` are what the text does not say (default: the model's kernel, as many CPUs as
    seen). ``directory`` takes the temporary files (default: the system's).  Raises ValueError naming file and
    line for a line that is not understood, and for a text without events.
    """
    with open_source(path) as source:
        return read_source(source, kernel=kernel, cpus=cpus, directory=directory)


def read_source(
    source: Source, *, kernel: str = "", cpus: int | None = None, directory: str | None = None
) -> Trace:
    """`read_text` of what is open already."""
    source.refuse_foreign()
    return read_stream(source.as_text(), source.name, kernel=kernel, cpus=cpus, directory=directory)


def read_stream(
    file: IO[bytes], name: str, *, kernel: str = "", cpus: int | None = None, directory: str | None = None
) -> Trace:
    """`read_text` of an open binary file, which may be a pipe; ``name`` stands for it in messages."""
    with contextlib.closing(_Spool(directory)) as spool:
        reading = _Reading(name, spool)
        try:
            reading.run(file)
        except damage() as error:
            raise ValueError(f"{name}: line {reading.reader.line + 1}: damaged archive ({error})") from None
        except OSError as error:
            if error.errno is None:  # bzip2 and gzip
                raise ValueError(
                    f"{name}: line {reading.reader.line + 1}: damaged archive ({error})"
                ) from None
            raise ValueError(f"{name}: {error.strerror}") from None
        columns, ext, steps = reading.in_order()
        reader, notes = reading.reader, reading.notes
        provenance: dict[str, Any] = {
            "source": printable(Path(name).name),
            "format": "text",
            "lines": reader.line,
            "other_events": notes.other_events,
        } | steps
        counted = {
            "lost_places": notes.lost_places,
            "remarks": notes.remarks,
            "stack_lines": reader.stacks + notes.stacks,
        }
        provenance |= {key: value for key, value in counted.items() if value}
        if reader.untyped:
            provenance["mobility_grouping"] = "off"
        if reading.endless:
            provenance["last_line_without_end"] = True
        return Trace(
            name=printable(Path(name).name.split(".")[0] or name),
            **columns,
            gfps=tuple(reading.masks) or (0,),
            comms=tuple(text for text, _ in reader.comms()),
            gfp_names=dict(TRACE_GFP_NAMES),
            migratetypes=_MIGRATETYPES,
            kernel=kernel,
            cpus=max(cpus or 1, spool.cpus),
            lost=min(notes.lost + notes.lost_places, 1 << 62),  # what a file has room for
            ext=ext,
            provenance=provenance,
        )


class _Reading:
    """One text on its way into columns."""

    def __init__(self, name: str, spool: _Spool) -> None:
        self.name, self.spool = name, spool
        self.reader, self.notes = Reader(), Notes()
        self.ext: list[npt.NDArray[np.void]] = []
        self.masks: list[int] = []
        self.commands = 0
        self.endless = False
        """The last line, an event, has no end: whether it was cut off cannot be told."""

    def run(self, file: IO[bytes]) -> None:
        # One buffer for all: what is left of the last line moves to its front.
        buffer = bytearray(_CHUNK + _LONGEST_LINE)
        view = memoryview(buffer)
        left = 0
        while True:
            got = file.readinto(view[left : left + _CHUNK])  # type: ignore[attr-defined]
            end = left + got
            cut = not got and left > 0
            rows = self.spool.rows
            if cut:
                buffer[left : left + 1] = b"\n"
                end += 1
            at = self._lines(buffer, end, cut)
            self.endless = cut and self.spool.rows > rows
            self._commands()
            if not got:
                break
            left = end - at
            if left >= _LONGEST_LINE:
                line = bytes(view[at : at + 120])
                raise self._bad(self.reader.line + 1, f"longer than {_LONGEST_LINE} bytes", line)
            buffer[:left] = bytes(view[at:end])
        self._whole()

    def _lines(self, buffer: bytearray, end: int, cut: bool) -> int:
        """The whole lines of ``buffer[:end]``; where they end."""
        at = 0
        reader = self.reader
        while True:
            columns, rows, at, reason = reader.feed(buffer, at, end)
            self.spool.append(columns)
            if len(rows):
                self.ext.append(rows)
            if reason == 0:
                return at
            stop = buffer.index(b"\n", at)
            line = bytes(memoryview(buffer)[at:stop])
            if reason == ASKS_GFP:
                index, text = reader.new_gfp()
                try:
                    self.masks.append(trace_gfp(text))
                except ValueError as error:
                    why = f"{error}{_CUT if cut else ''}"
                    raise ValueError(f"{self.name}: line {reader.line + 1}: {why}") from None
                reader.know_gfp(index, asked_type(self.masks[index]))
                continue
            wrong = REASONS[reason] if reason != OTHER else other_line(line, self.notes)
            if wrong is not None:
                if reason == _FIELD:
                    wrong += f" ({wrong_field(line)})"
                if line.rstrip(b"\r").count(b"\r"):
                    wrong += "; its lines end with a carriage return alone: tr '\\r' '\\n'"
                elif cut and reader.line:
                    wrong += _CUT
                raise self._bad(reader.line + 1, wrong, line)
            reader.skip()
            at = stop + 1

    def _bad(self, number: int, reason: str, line: bytes) -> ValueError:
        shown = line[:120].decode("utf-8", "backslashreplace").strip()
        return ValueError(f"{self.name}: line {number}: {reason}: {shown!r}")

    def _commands(self) -> None:
        """Looks at commands when they are new: a prefix that is taken for their part fools a classifier."""
        comms = self.reader.comms()
        for comm, line in comms[self.commands :]:
            if wrong := wrong_command(comm):
                raise ValueError(f"{self.name}: line {line}: {wrong}")
        self.commands = len(comms)

    def _whole(self) -> None:
        """What only the whole text shows to be wrong."""
        reader, notes = self.reader, self.notes
        comms = [comm for comm, _ in reader.comms()]
        if len(comms) > 1 and all(_NAME_BEFORE.match(comm) for comm in comms):
            raise ValueError(
                f"{self.name}: a name before every command ({comms[0]!r}): trace-cmd report of one file "
                "at a time"
            )
        if not self.spool.rows:
            other = f", {notes.other_events} other events" if notes.other_events else ""
            raise ValueError(f"{self.name}: no kmem:mm_page events in {reader.line} lines{other}")
        if reader.untyped and reader.typed:
            raise ValueError(
                f"{self.name}: line {reader.untyped_line}: {REASONS[_CONTRADICTS]} ({reader.untyped} "
                f"allocations say "
                f"Unmovable against their masks, {reader.typed} say Movable or Reclaimable with them)"
            )

    def in_order(self) -> tuple[Columns, npt.NDArray[np.void], dict[str, Any]]:
        """Columns and extfrag rows in order of time, and what to say of it."""
        reader = self.reader
        ext = np.concatenate([np.zeros(0, EXT), *(part.view(EXT) for part in self.ext)])
        columns: Columns = self.spool.columns()
        about: dict[str, Any] = {"began_ns": reader.first_ns}
        if not reader.steps_back:
            return columns, ext, about
        where = f"{self.name}: line {reader.step_back_line}"
        columns, ext, began = in_order(columns, ext, reversed_text=not reader.steps_forth, where=where)
        about["began_ns"] = reader.first_ns + began
        return (
            columns,
            ext,
            about | {"time_steps_back": reader.steps_back, "first_step_back": reader.step_back_line},
        )


_CONTRADICTS = next(code for code, words in REASONS.items() if words.startswith("migratetype="))
_FIELD = next(code for code, words in REASONS.items() if words.startswith("a field"))
_CUT = "; the last line, and it has no end: the recording was cut off"
