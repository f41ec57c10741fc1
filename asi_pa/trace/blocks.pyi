"""Sets of frames, and the aligned blocks they form."""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["frames_of", "free_blocks", "list_order", "pages_of", "ranges", "runs"]

def free_blocks(
    free: npt.NDArray[np.bool_], start: int, max_order: int
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]: ...
def ranges(begins: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]: ...
def pages_of(order: npt.NDArray[np.uint8]) -> int: ...
def frames_of(pfn: npt.NDArray[np.integer[Any]], order: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]: ...
def list_order(
    pfn: npt.NDArray[np.uint32], order: npt.NDArray[np.uint8], taken: npt.NDArray[np.uint32], start: int
) -> npt.NDArray[np.intp]: ...
def runs(mask: npt.NDArray[np.bool_], start: int) -> tuple[tuple[int, int], ...]: ...

__test__: dict[str, Any]
