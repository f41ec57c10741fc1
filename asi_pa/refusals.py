"""What the allocator answers when it cannot: no memory for a request, a range that is in use."""

from __future__ import annotations

import errno

from asi_pa.gfp import describe_gfp

__all__ = ["CAUSES", "OutOfMemoryError", "RangeBusyError"]

#: Why a request can fail, in words, by the key that statistics use.
CAUSES = {
    "watermark": "every zone it may use is below its watermark",
    "no_memory": "fewer free pages than it asks for",
    "fragmentation": "enough free pages, but no free block of this order that it may take",
    "flip_starvation": "free memory is of the other sensitivity, and no whole pageblock is free to flip",
    "no_block_refusal": "a flip would give it a pageblock, but may block, and the request may not",
}


class OutOfMemoryError(MemoryError):
    """The model has no memory for a request; a kernel would now reclaim, or fail.

    Attributes
    ----------
    order : int
    gfp : int
        The request word.
    cause : str
        A key of ``Statistics.failures_by_cause``: "watermark", "no_memory", "fragmentation",
        "flip_starvation" or "no_block_refusal" (docs/metrics.md).
    """

    def __init__(self, order: int, gfp: int, cause: str) -> None:
        super().__init__(order, gfp, cause)
        self.order = order
        self.gfp = gfp
        self.cause = cause

    def __str__(self) -> str:
        mode = f"mode:0x{self.gfp:x}({describe_gfp(self.gfp)})"
        return f"page allocation failure: order:{self.order}, {mode}: {CAUSES[self.cause]}"


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
