"""What the allocator answers when it cannot: no memory for a request, a range that is in use."""

from __future__ import annotations

import errno

from asi_pa.experiment.metrics import CAUSES
from asi_pa.kernel.gfp import describe_gfp

__all__ = ["OutOfMemoryError", "RangeBusyError"]


class OutOfMemoryError(MemoryError):
    """The model has no memory for a request; a kernel would now reclaim, or fail.

    Attributes
    ----------
    order : int
    gfp : int
        The request word.
    cause : str
        A key of ``Statistics.failures_by_cause``, such as "watermark" (docs/use/metrics.md).
    """

    def __init__(self, order: int, gfp: int, cause: str) -> None:
        super().__init__(order, gfp, cause)
        self.order = order
        self.gfp = gfp
        self.cause = cause

    def __str__(self) -> str:
        mode = f"mode:0x{self.gfp:x}({describe_gfp(self.gfp)})"
        return f"page allocation failure: order:{self.order}, {mode}: {CAUSES[self.cause].words}"


class RangeBusyError(OSError):
    """A range of frames cannot be had because some of it is in use (errno EBUSY).

    Attributes
    ----------
    start, end : int
        The range of pfns.
    pfn : int
        The first frame in the way.
    """

    def __init__(self, start: int, end: int, pfn: int, why: str) -> None:
        super().__init__(errno.EBUSY, f"pfns [{start}, {end}) are busy: pfn {pfn}: {why}")
        self.start = start
        self.end = end
        self.pfn = pfn
        self.why = why

    def __reduce__(self) -> tuple[type, tuple[int, int, int, str]]:
        return type(self), (self.start, self.end, self.pfn, self.why)
