from typing import Any, final

import numpy as np
import numpy.typing as npt

@final
class FirstFit:
    def __init__(self, start: int, end: int, max_order: int) -> None: ...
    def free(self, pfns: npt.NDArray[Any], orders: npt.NDArray[np.uint8]) -> None: ...
    def run(
        self, ops: npt.NDArray[np.void], slots: npt.NDArray[np.uint32], serves: npt.NDArray[np.uint8]
    ) -> None: ...
    def blocks(self) -> npt.NDArray[np.int64]: ...

__test__: dict[str, Any]
