"""Operations: what the compiler makes of a trace, and what a replay runs."""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

class Op(IntEnum):
    """Codes of operations."""

    OP_ALLOC = 1
    OP_FREE = 2
    OP_SPLIT = 3
    OP_TICK = 4
    OP_TRY = 5
    OP_INSTEAD = 6

OP: np.dtype[np.void]

def count_kinds(ops: npt.NDArray[np.void]) -> npt.NDArray[np.int64]: ...
