from typing import Any, final

import numpy as np
import numpy.typing as npt

from asi_pa.engine.machine import Machine

@final
class Samples:
    op: npt.NDArray[np.int64]
    free_pages: npt.NDArray[np.int64]
    flips: npt.NDArray[np.int64]
    flushes: npt.NDArray[np.int64]
    leaves: npt.NDArray[np.int64]
    mapped_pages: npt.NDArray[np.int64]
    unusable_index: npt.NDArray[np.int64]
    blocks: npt.NDArray[np.uint8]
    def __init__(self, machine: Machine, zone: int, most: int) -> None: ...
    def __len__(self) -> int: ...
    def sample(self, op: int) -> None: ...

__test__: dict[str, Any]
