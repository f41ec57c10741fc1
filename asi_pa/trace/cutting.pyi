"""What a machine of another size keeps of what the recorded one held, column by column (asi_pa.trace.resize)."""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["KINDS", "bring", "columns", "gather", "kinds_of", "orders_of", "take_over", "tally", "translate"]

KINDS: int

_U8 = npt.NDArray[np.uint8]
_U32 = npt.NDArray[np.uint32]
_I32 = npt.NDArray[np.int32]
_I64 = npt.NDArray[np.int64]

def kinds_of(order: _U8, movable: npt.NDArray[np.bool_], file: npt.NDArray[np.bool_]) -> _U8: ...
def orders_of(kind: _U8) -> _U8: ...
def tally(values: _U8) -> _I64: ...
def translate(values: _U8, table: _U8) -> _U8: ...
def bring(
    pfn: _U32,
    kind: _U8,
    chunk: _I32,
    row: _U32,
    place: _I32,
    start: int,
    chunk_order: int,
    state: _U8,
    out_pfn: _U32,
    out_kind: _U8,
) -> tuple[_U32, _I64]: ...
def gather(
    pfn: _U32,
    kind: _U8,
    begins: _I64,
    chosen: _I64,
    start: int,
    chunk_order: int,
    state: _U8,
    out_pfn: _U32,
    out_kind: _U8,
) -> tuple[int, _I64]: ...
def take_over(
    pfn: _U32,
    kind: _U8,
    hosts: _I64,
    drawn: _I64,
    needs: _U32,
    lacking: _I64,
    row: _U32,
    out_pfn: _U32,
    out_kind: _U8,
) -> int: ...
def columns(
    pfn: _U32,
    kind: _U8,
    known: int,
    slot: _U32,
    next_slot: int,
    block_mt: _U8,
    first_block: int,
    pageblock_order: int,
) -> tuple[_U8, npt.NDArray[np.bool_], _U8, int]: ...

__test__: dict[str, Any]
