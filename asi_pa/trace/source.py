"""What a name on the command line opens: a file, a pipe or standard input, plain or packed; opened once.

What it is, is decided by its first bytes, and they are read again by whoever reads it: nothing is lost of a
pipe.
"""

from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import importlib
import io
import lzma
import os
import re
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, cast

__all__ = ["DAMAGED", "Source", "open_source"]

#: How much is looked at: a tar's magic stands at 257; a page of HTML says so in its first lines.
PEEK = 1 << 16
_PIECE = 1 << 20

#: What packed data raise when they are cut off or damaged.
DAMAGED: tuple[type[Exception], ...] = (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile)

#: First bytes, and what to do with such a file.
_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"PERFILE2", "perf.data: print it with `perf script --ns -F comm,tid,cpu,time,event,trace`"),
    (b"2ELIFREP", "perf.data of a big-endian machine: print it with "
                  "`perf script --ns -F comm,tid,cpu,time,event,trace`"),
    (b"PERFFILE", "perf.data of a perf before 3.x: print it with that perf's `perf script`"),
    (b"\x17\x08Dtraci", "trace-cmd's trace.dat: print it with `trace-cmd report -t`"),
    (b"7z\xbc\xaf\x27\x1c", "7z archive: unpack it with `7z x`"),
    (b"Rar!\x1a\x07", "rar archive: unpack it with `unrar x`"),
    (b"\x04\x22\x4d\x18", "lz4: unpack it with `lz4 -d`"),
    (b"LZIP", "lzip: unpack it with `lzip -d`"),
    (b"]\x00\x00", "lzma: `xz -dc FILE | asi-pa info -`, or unpack it with `unlzma`"),
    # these are unpacked; where one is seen now it was inside another
    (b"\x1f\x8b\x08", "packed twice: unpack it once, `zcat FILE | asi-pa info -`"),
    (b"\xfd7zXZ\x00", "packed twice: unpack it once, `xz -dc FILE | asi-pa info -`"),
    (b"BZh", "packed twice: unpack it once, `bzcat FILE | asi-pa info -`"),
    (b"\x28\xb5\x2f\xfd", "packed twice: unpack it once, `zstd -dc FILE | asi-pa info -`"),
    (b"\x93NUMPY", "one NumPy array (.npy), no trace: a recorded trace is an .npz with all its columns"),
    (b"\x80\x04\x95", "a pickle: it is never unpickled, as that would run what it says"),
    (b"\x89LZO", "lzop: unpack it with `lzop -d`"),
    (b"\x1f\x9d", "compress (.Z): unpack it with `uncompress`"),
    (b"!<arch>", "ar archive: unpack it with `ar x`"),
    (b"\x7fELF", "ELF: a program, a kernel or a core dump, no trace (`crash` reads dumps: its `trace show` "
                 "prints text)"),
    (b"KDUMP   ", "kdump: read it with `crash`; its `trace show` prints the ring buffer"),
    (b"makedumpfile", "makedumpfile's dump: read it with `crash`; its `trace show` prints the ring buffer"),
    (b"SQLite format 3", "SQLite, as Perfetto and perf export it: print the trace itself as text"),
    (b"%PDF", "PDF: the trace itself is needed, as text"),
    (b"\x89PNG", "a picture (PNG): the trace itself is needed, as text"),
    (b"\xff\xd8\xff", "a picture (JPEG): the trace itself is needed, as text"),
    (b"\xc1\x1f\xfc\xc1", "LTTng's binary trace (CTF): it has no pfn; record with perf or ftrace"),
    (b"\xc1\xfc\x1f\xc1", "LTTng's binary trace (CTF): it has no pfn; record with perf or ftrace"),
    (b"\x75\xd1\x1d\x57", "LTTng's metadata (CTF): it has no pfn; record with perf or ftrace"),
    (b"/* CTF ", "LTTng's metadata (CTF): it has no pfn; record with perf or ftrace"),
)  # fmt: skip
_HTML = re.compile(rb"\s*(?:<!DOCTYPE\s+html|<html|<\?xml)", re.IGNORECASE)
_JSON = re.compile(rb"\s*[\[{]\s*[\"{\[]")
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_ZSTD = b"\x28\xb5\x2f\xfd"
#: The end of a frame's magic that is passed over, which pzstd begins with.
_SKIPPED = b"\x2a\x4d\x18"


class _Pushback(io.RawIOBase):
    """A stream whose first bytes were looked at and come again."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._start = b""
        self._at = 0

    def readable(self) -> bool:
        return True

    def peek(self, size: int) -> bytes:
        """The next ``size`` bytes; fewer only where the stream ends before."""
        parts = [self._start[self._at :]]
        there = len(parts[0])
        while there < size and (more := self._stream.read(size - there)):
            parts.append(more)
            there += len(more)
        self._start, self._at = b"".join(parts), 0
        return self._start[:size]

    def readinto(self, buffer: Any) -> int:
        left = len(self._start) - self._at
        if left:
            count = min(left, len(buffer))
            buffer[:count] = self._start[self._at : self._at + count]
            self._at += count
            if self._at == len(self._start):
                self._start, self._at = b"", 0
            return count
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Recoded(io.RawIOBase):
    """A text in another encoding as UTF-8."""

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            data = self._stream.read(len(buffer))
            self._left = self._decoder.decode(data, final=not data).encode("utf-8", "replace")
            if not data:
                break
        count = min(len(self._left), len(buffer))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count


class Source:
    """An opened input: ``start`` is what it begins with, unpacked; ``stream`` reads all of it, once."""

    def __init__(self, name: str, stream: IO[bytes], plain: IO[bytes] | None) -> None:
        self.name = name
        """What stands for it in messages."""
        self._plain = plain
        self._pushback = _Pushback(stream)
        self._copy: IO[bytes] | None = None
        self.start = self._pushback.peek(PEEK)

    def close(self) -> None:
        """The temporary copy goes; what is mapped of it stays."""
        if self._copy is not None:
            with contextlib.suppress(OSError):  # what could not be written was said
                self._copy.close()

    @property
    def stream(self) -> IO[bytes]:
        return cast(IO[bytes], self._pushback)

    def file(self) -> IO[bytes]:
        """The content as a file that can be mapped: itself, or an unnamed temporary copy of a pipe or packed
        file."""
        if self._plain is not None:
            return self._plain
        copy = self._copy = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            while piece := self._pushback.read(_PIECE):
                copy.write(piece)
            copy.flush()
        except OSError as error:
            if error.errno is None:
                raise
            place = tempfile.gettempdir()
            raise ValueError(
                f"{self.name}: temporary copy in {place}: {error.strerror} (TMPDIR names another place)"
            ) from None
        copy.seek(0)
        return copy

    def head(self) -> str:
        """The beginning as text, up to a megabyte; empty for what is none."""
        if _foreign(self.start):
            return ""
        start = self._pushback.peek(_PIECE)
        return start.decode(_encoding(start) or "utf-8-sig", "replace")

    def refuse_foreign(self) -> None:
        """Raises ValueError, with the command that helps, for what is known to be no text."""
        advice = _foreign(self.start)
        if advice:
            raise ValueError(f"{self.name}: {advice}")

    def as_text(self) -> IO[bytes]:
        """The stream without a byte order mark, UTF-16 as UTF-8."""
        if encoding := _encoding(self.start):
            return cast(IO[bytes], _Recoded(self.stream, encoding))
        if self.start.startswith(codecs.BOM_UTF8):
            self._pushback.read(len(codecs.BOM_UTF8))
        return self.stream


def _encoding(start: bytes) -> str | None:
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    for mark in _UTF16:
        if start.startswith(mark) and b"\0" in start[2:64]:  # a command's name may begin with any bytes
            return "utf-16"
    # Without a mark: every second byte of ASCII text is zero.
    head = start[:64]
    for which, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if len(head) >= 16 and not any(head[which::2]) and all(head[1 - which :: 2]):
            return encoding
    return None


def _foreign(start: bytes) -> str | None:
    for magic, advice in _FOREIGN:
        if start.startswith(magic):
            return advice
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip archive: `unzip -p FILE | asi-pa info -` (one member), or unpack it with `unzip`"
    if start[257:262] == b"ustar":
        return "tar archive: `tar -xOf FILE | asi-pa info -` (one member), or unpack it with `tar -xf`"
    if _HTML.match(start):
        return ("HTML or XML, as systrace and Perfetto make it: the trace is the text inside its "
                "<script class=\"trace-data\">; save that, or record ftrace's `trace` file")  # fmt: skip
    if _JSON.match(start):
        return "JSON (Chrome's or Perfetto's trace?): it lacks fields; print ftrace's or perf's text instead"
    if start.startswith(b"\n") and _binary(start):
        return "Perfetto's trace (protobuf): print it with `traceconv systrace FILE` and give that text"
    if _binary(start) and _encoding(start) is None:
        if start.strip(b"\0") and start[:16].isascii() and not _binary(start.replace(b"\0", b"")):
            return "zero bytes in a text (its file system lost them?): `tr -d '\\000' < FILE | asi-pa info -`"
        return f"neither text nor a form that is known: it starts with {start[:8]!r}"
    return None


def _binary(start: bytes) -> bool:
    """Zeros, or more control characters than a command's name could bring into a text."""
    head = start[:256]
    return b"\0" in head or 10 * sum(byte < 9 or 13 < byte < 32 for byte in head) > len(head)


def _zstd() -> tuple[Callable[[IO[bytes]], IO[bytes]] | None, tuple[type[Exception], ...]]:
    """What unpacks zstd here: Python 3.14's own module, else the package zstandard; and what it raises."""
    with contextlib.suppress(ImportError):
        own = importlib.import_module("compression.zstd")
        return (lambda stream: cast(IO[bytes], own.ZstdFile(stream))), (own.ZstdError,)
    with contextlib.suppress(ImportError):
        package = importlib.import_module("zstandard")
        return (lambda stream: cast(IO[bytes], _Zstd(stream, package.ZstdDecompressor()))), (
            package.ZstdError,
        )
    return None, ()


class _Zstd(io.RawIOBase):
    """zstd frames one after the other; EOFError where the last one is cut off, which zstandard's own reader
    takes for the end."""

    #: So much at a time: 4 bytes of a frame may stand for 128 KiB.
    _BITE = 1 << 10

    def __init__(self, stream: IO[bytes], unpacker: Any) -> None:
        self._stream, self._unpacker = stream, unpacker
        self._frame: Any = None
        self._more = b""
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            packed = self._more or self._stream.read(self._BITE)
            if not packed:
                if self._frame is not None:
                    raise EOFError("ended before the end of a zstd frame")
                return 0
            if self._frame is None:
                self._frame = self._unpacker.decompressobj()
            self._left = memoryview(self._frame.decompress(packed))
            self._more = b""
            if self._frame.eof:
                self._more, self._frame = self._frame.unused_data, None
        count = min(len(self._left), len(buffer))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count


def _unpacked(name: str, start: bytes, stream: IO[bytes]) -> IO[bytes] | None:
    """The stream unpacked; None where it is not packed."""
    if start.startswith(b"\xfd7zXZ\x00"):
        return cast(IO[bytes], lzma.open(stream))
    if start.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(stream))
    if start.startswith(b"BZh"):
        return cast(IO[bytes], bz2.open(stream))
    if start.startswith(_ZSTD) or (start[1:4] == _SKIPPED and start[0] >> 4 == 5):
        opened, _ = _zstd()
        if opened is None:
            raise ValueError(f"{name}: zstd: `zstd -dc FILE | asi-pa info -`, or pip install 'asi_pa[zstd]'")
        return opened(stream)
    return None


def damage() -> tuple[type[Exception], ...]:
    """What reading packed data raises where they are cut off or damaged (OSError of bz2 and gzip has no
    errno)."""
    return (*DAMAGED, *_zstd()[1])


@contextlib.contextmanager
def open_source(path: str | os.PathLike[str]) -> Iterator[Source]:
    """Open a file, a pipe, a device or, for ``-``, standard input; unpack gzip, xz, bzip2 and zstd.

    Raises ValueError naming it where it cannot be opened or unpacked, or is empty.
    """
    name = os.fspath(path)
    with contextlib.ExitStack() as stack:
        try:
            raw = _raw(name, stack)
            shown = "standard input" if name == "-" else name
            head = _Pushback(raw)
            start = head.peek(16)
            if not start:
                raise ValueError(f"{shown}: empty file")
            packed = _unpacked(shown, start, cast(IO[bytes], head))
            plain = None
            if packed is None and raw.seekable():
                raw.seek(0)
                plain = raw
                head = _Pushback(raw)
            if packed is not None:
                stack.callback(packed.close)
            try:
                source = Source(shown, packed or cast(IO[bytes], head), plain)
            except damage() as error:
                raise ValueError(f"{shown}: damaged archive ({error})") from None
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror or error}") from None
        stack.callback(source.close)
        try:
            yield source
        except damage() as error:
            raise ValueError(f"{shown}: damaged archive ({error})") from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise ValueError(f"{shown}: damaged archive ({error})") from None  # bzip2 and gzip


def _raw(name: str, stack: contextlib.ExitStack) -> IO[bytes]:
    if name == "-":
        if sys.stdin is None or sys.stdin.closed:
            raise ValueError("standard input is closed")
        return cast(IO[bytes], sys.stdin.buffer)
    return stack.enter_context(open(name, "rb"))
