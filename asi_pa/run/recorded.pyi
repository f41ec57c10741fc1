from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.engine.machine import Machine

def typed_free(machine: Machine, zone: int) -> npt.NDArray[np.int64]: ...
def pcp_counts(machine: Machine, zone: int) -> npt.NDArray[np.int64]: ...
def block_counts(machine: Machine, zone: int) -> npt.NDArray[np.int64]: ...

__test__: dict[str, Any]
