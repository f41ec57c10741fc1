from collections.abc import Sequence
from typing import Any, final

import numpy as np
import numpy.typing as npt

from asi_pa.engine.machine import Machine

STEP_DTYPE: np.dtype[np.void]

@final
class Batch:
    seconds: float
    def __init__(self, *args: object, **kwargs: object) -> None: ...

@final
class Search:
    MAX_WALK: int
    closed: bool
    seconds: float
    stopped: str
    def __init__(
        self,
        machine: Machine,
        requests: Sequence[tuple[int, int, int]],
        contig: tuple[int | None, int | None] = (None, None),
        *,
        isolation: bool = True,
        report: bool = True,
        ticks: bool = False,
        windows: bool = False,
        liveness: bool = True,
        symmetry: bool = True,
        orbits: bool = False,
        compaction: bool = False,
    ) -> None: ...
    @property
    def depth(self) -> int: ...
    @property
    def states(self) -> int: ...
    @property
    def orbits(self) -> int: ...
    @property
    def transitions(self) -> int: ...
    @property
    def state_bytes(self) -> int: ...
    @property
    def frontier(self) -> int: ...
    def explore(self, max_depth: int, max_states: int, seconds: float, max_operations: int = ...) -> bool: ...
    def collect(self, of: Search, first: int, n: int) -> Batch: ...
    def merge(self, batch: Batch, max_states: int, max_operations: int = ...) -> bool: ...
    def walk(
        self, seed: int, length: int, walks: int, of: Search | None = None
    ) -> tuple[list[tuple[int, int, int, npt.NDArray[np.void]]], int, float]: ...
    def replay(
        self, steps: npt.NDArray[np.void], owners: npt.NDArray[np.int32] | None = None
    ) -> tuple[list[tuple[int, int, int]], npt.NDArray[np.int64]]: ...
    def findings(self) -> list[tuple[int, int, int, npt.NDArray[np.void]]]: ...

__test__: dict[str, Any]
