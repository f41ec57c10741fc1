"""The two witnesses of a recorded zone's frames heard, in a pass each: flags, and what events say first."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.trace.format import Trace

__all__ = ["COUNTS", "blank_frames", "decide", "emptied_lists", "first_from_lists", "mark_holes"]

COUNTS: tuple[str, ...]
_U8 = npt.NDArray[np.uint8]
_U32 = npt.NDArray[np.uint32]

def mark_holes(flags: _U8, seen: _U8, missing: int, sizes: Sequence[int]) -> _U8: ...
def decide(
    flags: _U8, seen: _U8, event: _U32, state: _U8, start: int, block_order: int
) -> tuple[_U32, npt.NDArray[np.int64]]: ...
def blank_frames(flags: _U8, seen: _U8, state: _U8, flags_after: _U8 | None) -> npt.NDArray[np.int64]: ...
def first_from_lists(
    trace: Trace,
    flags: _U8,
    seen: _U8,
    event: _U32,
    start: int,
    served: Collection[int],
    cpus: int,
    late: int,
    hidden: int,
) -> npt.NDArray[np.int64]: ...
def emptied_lists(
    trace: Trace, event: _U32, events: int, start: int, end: int, types: _U8, costly: int
) -> npt.NDArray[np.bool_]: ...

__test__: dict[str, Any]
