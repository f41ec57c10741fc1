"""Sets of frames, and the aligned blocks they form."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["frames_of", "free_blocks", "list_order", "runs"]

_U32 = npt.NDArray[np.uint32]
_U8 = npt.NDArray[np.uint8]


def free_blocks(free: npt.NDArray[np.bool_], start: int, max_order: int) -> tuple[_U32, _U8]:
    """The buddy structure of a set of free frames: maximal aligned blocks, by order, then address.

    ``free`` is bool by frame from ``start`` on.  Returns absolute u32 frames and u8 orders.
    """
    size = 1 << max_order
    lead = start % size
    level = np.zeros(-(-(lead + len(free)) // size) * size, bool)
    level[lead : lead + len(free)] = free
    pfns, orders = [], []
    for order in range(max_order):
        whole = level[0::2] & level[1::2]
        left = np.flatnonzero(level & ~np.repeat(whole, 2))
        pfns.append((left << order) + start - lead)
        orders.append(np.full(len(left), order, np.uint8))
        level = whole
    left = np.flatnonzero(level)
    pfns.append((left << max_order) + start - lead)
    orders.append(np.full(len(left), max_order, np.uint8))
    return np.concatenate(pfns).astype(np.uint32), np.concatenate(orders)


def frames_of(pfn: npt.NDArray[np.int64], order: _U8) -> npt.NDArray[np.int64]:
    """Every frame of the given blocks."""
    size = 1 << order.astype(np.int64)
    ends = np.cumsum(size)
    return np.repeat(pfn - (ends - size), size) + np.arange(int(ends[-1]) if len(ends) else 0)


def list_order(pfn: _U32, order: _U8, taken: npt.NDArray[np.uint32], start: int) -> npt.NDArray[np.intp]:
    """Rows of free blocks as they lie on their lists: what is taken first is nearest to the head.

    ``taken``: u32 by frame from ``start`` on, when a frame first leaves the buddy.  Blocks that are never
    taken come last, by address.
    """
    if not len(pfn):
        return np.zeros(0, np.intp)
    sizes = 1 << order.astype(np.int64)
    begins = np.cumsum(sizes) - sizes
    when = np.minimum.reduceat(taken[frames_of(pfn.astype(np.int64), order) - start], begins)
    return np.lexsort((pfn, when, order))


def runs(mask: npt.NDArray[np.bool_], start: int) -> tuple[tuple[int, int], ...]:
    """The half-open ranges where ``mask`` holds; its first element is frame ``start``."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return tuple((int(a) + start, int(b) + start) for a, b in zip(edges[::2], edges[1::2], strict=True))
