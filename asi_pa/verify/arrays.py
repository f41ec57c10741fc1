"""Arrays out of an .npz file that somebody else wrote: nothing is unpickled, trusted or read past its end."""

from __future__ import annotations

import math
import os
import struct
import zipfile
import zlib
from collections.abc import Container
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["read_arrays"]

#: Larger arrays are refused before they are unpacked.
MOST_BYTES = 1 << 30


def read_arrays(path: str | os.PathLike[str], names: Container[str]) -> dict[str, npt.NDArray[Any]]:
    """Those of the named arrays that the file has, read-only.

    Raises ValueError for anything that is not an intact .npz file (zip members stored or deflated, each in
    version 1 or 2 of NumPy's format and exactly as long as its own header says, no Python objects), OSError
    where the file cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            return {name: _array(archive, info, name) for name, info in members.items() if name in names}
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, struct.error, ValueError) as error:
        raise ValueError(f"not an intact .npz file: {error}") from None


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> npt.NDArray[Any]:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"array {name!r} is compressed by method {info.compress_type}")
    if info.file_size > MOST_BYTES:
        raise ValueError(f"array {name!r} of {info.file_size} bytes")
    packed = archive.read(info)
    text = BytesIO(packed)
    version = np.lib.format.read_magic(text)
    if version == (1, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(text)
    elif version == (2, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(text)
    else:
        raise ValueError(f"array {name!r} is in version {version} of NumPy's format")
    if dtype.hasobject:
        raise ValueError(f"array {name!r} holds Python objects")
    there = len(packed) - text.tell()
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0:
        raise ValueError(f"array {name!r} has the negative shape {shape}")
    if size != there:
        raise ValueError(f"array {name!r} of shape {shape} has {there} bytes, not {size}")
    flat = np.frombuffer(packed, dtype, offset=text.tell())
    return flat.reshape(shape, order="F" if fortran_order else "C")
