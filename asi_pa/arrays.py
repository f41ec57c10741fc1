"""Arrays out of an .npz file that somebody else wrote: nothing is unpickled, trusted or read past its end.

The one place where the package opens .npz files.  What nobody asks for is not unpacked; what is asked for is
weighed before, all of it together (`asi_pa.limits`).
"""

from __future__ import annotations

import ast
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Container
from contextlib import nullcontext
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from asi_pa.limits import claim

__all__ = ["array_names", "read_arrays"]

_MAGIC = b"\x93NUMPY"
#: Longer headers of NumPy's format than anyone writes.
_LONGEST_HEADER = 1 << 16
_DTYPE = re.compile(r"[<>|=]?(?:[biu][1248]|f[248]|[SU]\d{1,9})")
#: What reading a damaged archive raises; OSError for a position that cannot be.
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, struct.error, ValueError, NotImplementedError,
    OverflowError, OSError,
)  # fmt: skip


def _opened(file: str | os.PathLike[str] | IO[bytes]) -> Any:
    return open(file, "rb") if isinstance(file, (str, os.PathLike)) else nullcontext(file)


def array_names(file: str | os.PathLike[str] | IO[bytes]) -> list[str]:
    """The names of the arrays in an .npz file; none for another zip archive.

    ValueError for a damaged archive, OSError where the file cannot be read.
    """
    with _opened(file) as opened:
        try:
            with zipfile.ZipFile(opened) as archive:
                names = archive.namelist()
        except _DAMAGED as error:
            raise ValueError(f"not an intact .npz file: {error}") from None
    return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]


def read_arrays(
    file: str | os.PathLike[str] | IO[bytes], names: Container[str]
) -> dict[str, npt.NDArray[Any]]:
    """Those of the named arrays that the file has, read-only.

    Raises ValueError for anything that is not an intact .npz file (zip members stored or deflated, each in
    version 1 or 2 of NumPy's format and exactly as long as its own header says, no Python objects), and for
    one that wants more memory than is allowed; OSError where the file cannot be read.
    """
    with _opened(file) as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(0)
        try:
            with zipfile.ZipFile(opened) as archive:
                members: dict[str, zipfile.ZipInfo] = {}
                for info in archive.infolist():
                    name = info.filename.removesuffix(".npy")
                    if name in names and name in members:
                        raise ValueError(f"array {name!r} is there twice")
                    if name in names:
                        members[name] = info
                claim("what its arrays unpack to", sum(info.file_size for info in members.values()), size)
                return {name: _array(archive, info, name) for name, info in members.items()}
        except _DAMAGED as error:
            raise ValueError(f"not an intact .npz file: {error}") from None


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> npt.NDArray[Any]:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"array {name!r} is compressed by method {info.compress_type}")
    packed = archive.read(info)
    if len(packed) != info.file_size:
        raise ValueError(f"array {name!r} has {len(packed)} bytes, not {info.file_size}")
    dtype, fortran_order, shape, start = _npy_header(packed, name)
    there = len(packed) - start
    size = math.prod(shape) * dtype.itemsize
    if size != there:
        raise ValueError(f"array {name!r} of shape {shape} has {there} bytes, not {size}")
    flat = np.frombuffer(packed, dtype, offset=start) if size else np.zeros(math.prod(shape), dtype)
    flat = flat.astype(flat.dtype.newbyteorder("="), copy=False)  # files may be of another byte order
    flat.flags.writeable = False
    return flat.reshape(shape, order="F" if fortran_order else "C")


def _npy_header(packed: bytes, name: str) -> tuple[np.dtype[Any], bool, tuple[int, ...], int]:
    """dtype, order, shape and where the data begin, of NumPy's format (numpy.lib.format), versions 1 and
    2."""
    where = f"array {name!r}"
    if packed[:6] != _MAGIC:
        raise ValueError(f"{where} does not begin as NumPy's format does")
    version = (packed[6], packed[7]) if len(packed) > 7 else (0, 0)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{where} is in version {version} of NumPy's format")
    begin = 10 if version == (1, 0) else 12
    length = int.from_bytes(packed[8:begin], "little")
    if length > _LONGEST_HEADER or begin + length > len(packed):
        raise ValueError(f"{where} has a header of {length} bytes")
    try:
        head = ast.literal_eval(packed[begin : begin + length].decode("latin1").strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        head = None
    if not isinstance(head, dict) or set(head) != {"descr", "fortran_order", "shape"}:
        raise ValueError(f"{where} has a header that is none")
    descr, order, shape = head["descr"], head["fortran_order"], head["shape"]
    if not isinstance(descr, str) or not _DTYPE.fullmatch(descr):
        objects = isinstance(descr, str) and "O" in descr
        raise ValueError(
            f"{where} holds " + ("Python objects" if objects else f"{str(descr)[:40]!r}, not numbers")
        )
    if not isinstance(order, bool) or not isinstance(shape, tuple) or len(shape) > 8:
        raise ValueError(f"{where} has a header that is none")
    if any(type(extent) is not int or not 0 <= extent < 1 << 48 for extent in shape):
        negative = any(type(extent) is int and extent < 0 for extent in shape)
        raise ValueError(f"{where} has the {'negative' if negative else 'impossible'} shape {shape}")
    try:
        return np.dtype(descr), order, shape, begin + length
    except TypeError:
        raise ValueError(f"{where} holds {descr!r}, which NumPy does not know") from None
