from typing import Any, final

import numpy as np
import numpy.typing as npt

from asi_pa.engine.machine import Machine
from asi_pa.trace.format import Trace
from asi_pa.trace.pcplists import PcpPages
from asi_pa.trace.ticks import Ticks

QUESTION_NAMES: tuple[str, ...]

@final
class Tracker:
    machine: Machine
    untraced: int
    ghosts: int
    refilled: int
    drained: int
    outside: int
    done: int
    nearest: tuple[int, int] | None
    fallbacks: list[tuple[int, int, int, int, int]]
    without_event: list[tuple[int, int, int, int]]
    def __init__(
        self,
        machine: Machine,
        requests: npt.NDArray[np.uint32],
        types: npt.NDArray[np.uint8],
        ticks: Ticks,
    ) -> None: ...
    def load(
        self,
        zone: int,
        free_pfn: npt.NDArray[np.uint32],
        free_order: npt.NDArray[np.uint8],
        pcp: PcpPages,
        block_mt: npt.NDArray[np.uint8],
        guessed: npt.NDArray[np.bool_],
    ) -> None: ...
    def note_lists(self) -> None: ...
    def run(
        self,
        trace: Trace,
        start: int,
        end: int,
        target: npt.NDArray[np.int64] | None = None,
        zone: int = 0,
        latest: bool = False,
    ) -> None: ...
    def one_step(self) -> dict[str, list[int]]: ...
    def free(self, zone: int) -> npt.NDArray[np.int64]: ...
    def typed(self, zone: int) -> npt.NDArray[np.int64]: ...
    def verify(self) -> str | None: ...
    def refuted_types(self, zone: int) -> npt.NDArray[np.uint8]: ...

__test__: dict[str, Any]
