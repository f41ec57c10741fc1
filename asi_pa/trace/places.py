"""Free places for what lost its own, in a zone that is being made (asi_pa.trace.resize)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from asi_pa.trace.blocks import frames_of, free_blocks
from asi_pa.trace.format import Trace
from asi_pa.trace.frames import FRAME_FREE, FRAME_HELD, FRAME_HOLE, FRAME_PCP

__all__ = ["Places"]

_U8 = npt.NDArray[np.uint8]
_U32 = npt.NDArray[np.uint32]
_I64 = npt.NDArray[np.int64]


class Places:
    """The free places of a zone, and those that can be had by evicting what the trace never frees.

    Parameters
    ----------
    trace : for its orders, and its name in an error
    state, block_mt : by frame and by pageblock of the zone from ``start`` on; ``state`` is brought up to date
    pfn, order : what may be evicted; `staying` tells what of it was not
    fixed : what may not: frames and orders, asked for when the first has to go
    """

    def __init__(
        self,
        trace: Trace,
        state: _U8,
        block_mt: _U8,
        start: int,
        others: tuple[_U32, _U8],
        fixed: Callable[[], tuple[_U32, _U8]],
    ) -> None:
        self.trace, self.state, self.block_mt, self.start = trace, state, block_mt, start
        self._pfn, self._order = others
        self._fixed = fixed
        self._free: tuple[_I64, _U8] | None = None
        self._low: _I64 = np.zeros(0, np.int64)
        self._stay: npt.NDArray[np.bool_] | None = None

    @property
    def staying(self) -> npt.NDArray[np.bool_] | None:
        """bool by what may be evicted; None: nothing was."""
        return self._stay

    def take(self, order: int, movable: bool, count: int) -> _I64:
        """``count`` places of an order: free ones, and others emptied for it.  ValueError for too few."""
        lacking = count - self._room(order)
        if lacking > 0:
            self._evict(order, lacking)
            self._free = None
        return self._spots(order, movable, count)

    @property
    def free(self) -> tuple[_I64, _U8]:
        """The free blocks: pfn and order."""
        if self._free is None:
            pfn, size = free_blocks(self.state == FRAME_FREE, self.start, self.trace.max_page_order)
            self._free = pfn.astype(np.int64), size
        return self._free

    def _room(self, order: int) -> int:
        """How many allocations of an order fit into free blocks."""
        size = self.free[1]
        counts = np.bincount(size[size >= order], minlength=order + 1)[order:].astype(np.int64)
        return int((counts << np.arange(len(counts))).sum())

    def _evict(self, order: int, lacking: int) -> None:
        """Room for ``lacking`` allocations of an order, at the cost of others that the trace never frees.

        Emptied are the aligned ranges with the most free frames; pages on per-CPU lists give way as well.
        """
        state, size = self.state, 1 << order
        fixed = state == FRAME_HOLE
        pfn, orders = self._fixed()
        fixed[frames_of(pfn.astype(np.int64) - self.start, orders)] = True
        whole = len(state) // size * size
        room = np.count_nonzero((state == FRAME_FREE)[:whole].reshape(-1, size), axis=1)
        free = room + np.count_nonzero((state == FRAME_PCP)[:whole].reshape(-1, size), axis=1)
        free[room == size] = size + 1
        candidates = np.flatnonzero(~fixed[:whole].reshape(-1, size).any(axis=1) & (free <= size))
        chosen = candidates[np.argsort(-free[candidates], kind="stable")[:lacking]]
        cleared = np.zeros(len(state) + 1, np.int64)
        emptied = frames_of(chosen * size, np.full(len(chosen), order, np.uint8))
        state[emptied[state[emptied] == FRAME_PCP]] = FRAME_FREE
        cleared[emptied + 1] = 1
        before = np.cumsum(cleared)
        if self._stay is None:
            self._stay = np.ones(len(self._pfn), bool)
            self._low = self._pfn.astype(np.int64) - self.start
        low = self._low
        victim = self._stay & (before[low + (1 << self._order.astype(np.int64))] > before[low])
        state[frames_of(low[victim], self._order[victim])] = FRAME_FREE
        self._stay &= ~victim

    def _spots(self, order: int, movable: bool, count: int) -> _I64:
        """``count`` free aligned places: in blocks of the right type, smallest free block first."""
        trace, start = self.trace, self.start
        free, sizes = self.free
        large = np.flatnonzero(sizes >= order)
        pfn, size = free[large], sizes[large]
        block = (pfn >> trace.pageblock_order) - (start >> trace.pageblock_order)
        wrong = (self.block_mt[block] == 1) != movable
        rows = np.lexsort((pfn, size, wrong & (size < trace.pageblock_order)))
        pieces = 1 << (size[rows].astype(np.int64) - order)
        ends = np.cumsum(pieces)
        if not len(ends) or ends[-1] < count:
            lacking = count - (int(ends[-1]) if len(ends) else 0)
            raise ValueError(
                f"{trace.label}: {len(self.state) * 4 >> 10} MiB are too little for what it frees "
                f"({lacking} of order {order})"
            )
        last = int(np.searchsorted(ends, count)) + 1
        rows, pieces, ends = rows[:last], pieces[:last], ends[:last]
        spots: _I64 = np.repeat(pfn[rows] - ((ends - pieces) << order), pieces) + (
            np.arange(int(ends[-1])) << order
        )
        left, spots = spots[count:], spots[:count]
        self.state[frames_of(spots - start, np.full(count, order, np.uint8))] = FRAME_HELD
        self._free = self._without(large[rows], left, order)
        return spots

    def _without(self, gone: npt.NDArray[np.intp], left: _I64, order: int) -> tuple[_I64, _U8]:
        """The free blocks less some; ``left``: places of an order that stay free of the last of these."""
        free, sizes = self.free
        stays = np.ones(len(free), bool)
        stays[gone] = False
        # the places that are left go up to the end of their block: one for each bit of their number
        number, at, pfns, orders = len(left), int(left[0]) if len(left) else 0, [], []
        for bit in range(number.bit_length()):
            if number >> bit & 1:
                pfns.append(at)
                orders.append(order + bit)
                at += 1 << (order + bit)
        return (
            np.concatenate([free[stays], np.array(pfns, np.int64)]),
            np.concatenate([sizes[stays], np.array(orders, np.uint8)]),
        )
