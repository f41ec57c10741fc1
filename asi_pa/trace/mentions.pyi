"""What a trace says first: of each frame and of each pageblock, in one pass over its events."""

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.trace.format import Trace

__all__ = ["NOTHING", "NO_EVENT", "first_mentions"]

NOTHING: int
NO_EVENT: int

def first_mentions(
    trace: Trace,
    types: npt.NDArray[np.int8],
    orders: npt.NDArray[np.uint8],
    shows: Collection[int],
    frames: int,
    end: int,
    costly: int,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint32], npt.NDArray[np.int8]]: ...

__test__: dict[str, Any]
