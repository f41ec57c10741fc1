from typing import Any, final

import numpy as np
import numpy.typing as npt

from asi_pa.engine.machine import Machine

@final
class Recording:
    answers: npt.NDArray[np.int32]
    watched: npt.NDArray[np.int32]
    def __init__(
        self,
        machine: Machine,
        ops: npt.NDArray[np.int32],
        requests: npt.NDArray[np.uint32],
        watch: bool,
    ) -> None: ...
    def live(self) -> npt.NDArray[np.int32]: ...
    def run(self, start: int, end: int) -> None: ...

__test__: dict[str, Any]
