from typing import Any, final

import numpy as np
import numpy.typing as npt

REASONS: dict[int, str]
EXT_ROW: np.dtype[np.void]

@final
class Reader:
    def __init__(self) -> None: ...
    @property
    def line(self) -> int: ...
    def feed(
        self, data: bytes | bytearray | memoryview, start: int, end: int
    ) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.void], int, int]: ...
    def skip(self) -> None: ...
    def comms(self) -> list[str]: ...
    def gfps(self) -> list[tuple[str, int]]: ...

__test__: dict[str, Any]
