from typing import Any, final

import numpy as np
import numpy.typing as npt

from asi_pa.trace.events import EVENTS as EVENTS
from asi_pa.trace.ticks import Ticks

OP: np.dtype[np.void]
HELD_AT_START: np.dtype[np.void]
COUNTERS: tuple[str, ...]

@final
class Compiler:
    def __init__(
        self,
        pairs: npt.NDArray[np.uint8],
        thresholds: npt.NDArray[np.uint64],
        seed: int,
        ncpus: int,
        ticks: Ticks | None = None,
    ) -> None: ...
    def feed(
        self,
        time_ns: npt.NDArray[np.uint64],
        cpu: npt.NDArray[np.uint8],
        kind: npt.NDArray[np.uint8],
        pfn: npt.NDArray[np.uint32],
        order: npt.NDArray[np.uint8],
        gfp: npt.NDArray[np.uint16],
        comm: npt.NDArray[np.uint16],
    ) -> npt.NDArray[np.void]: ...
    @property
    def nslots(self) -> int: ...
    @property
    def live_max(self) -> int: ...
    @property
    def live_end(self) -> int: ...
    def counters(self) -> dict[str, int]: ...
    def stamps(self) -> npt.NDArray[np.uint64]: ...
    def held_at_start(self) -> npt.NDArray[np.void]: ...

__test__: dict[str, Any]
