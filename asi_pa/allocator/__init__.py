"""The allocator to call, and the replay of a trace in one call.

Public: :class:`Allocator` with its statistics and errors, :func:`replay`, and :func:`compare`.
"""

from asi_pa.allocator.api import (
    Allocator,
    MemoryBlock,
    OutOfMemoryError,
    RangeBusyError,
    Statistics,
    compare,
    replay,
)

__all__ = [
    "Allocator",
    "MemoryBlock",
    "OutOfMemoryError",
    "RangeBusyError",
    "Statistics",
    "compare",
    "replay",
]
