"""What a zone holds at the start, allocation by allocation, in one pass over its frames."""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["kinds_freed", "rest_of"]

_U8 = npt.NDArray[np.uint8]
_U32 = npt.NDArray[np.uint32]

def kinds_freed(flags: _U8, pfn: _U32, order: _U8, block_mt: _U8, start: int, block_order: int) -> _U8: ...
def rest_of(
    flags: _U8, state: _U8, pfn: _U32, order: _U8, start: int, max_order: int
) -> tuple[_U32, _U8]: ...

__test__: dict[str, Any]
