from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from asi_pa.engine.machine import Machine

@disjoint_base
class BulkCalls:
    machine: Machine
    def alloc_pages_bulk(
        self,
        order: npt.ArrayLike,
        gfp: int | str = 3264,
        n: int | None = None,
        out: npt.NDArray[np.uint32] | npt.NDArray[np.uint64] | None = None,
        *,
        cpu: int = 0,
    ) -> npt.NDArray[np.uint32] | npt.NDArray[np.uint64]: ...
    def free_pages_bulk(self, pfns: npt.ArrayLike, order: npt.ArrayLike = 0, *, cpu: int = 0) -> None: ...
    def _how_many(self, orders: npt.ArrayLike | None, out: npt.NDArray[Any] | None) -> int: ...
    def _orders(self, order: npt.ArrayLike, n: int) -> npt.NDArray[np.uint8]: ...

GFP_KERNEL: int

__test__: dict[str, Any]
