"""What callers asked for, where cpusets put __GFP_HARDWALL on every mask.

As soon as a cpuset beside the root's exists (containers, systemd's AllowedCPUs=), prepare_alloc_pages() adds
__GFP_HARDWALL to every request, and mm_page_alloc prints the mask with it (mm/page_alloc.c, 6.12 to 7.2);
after a slow path it prints the caller's own.  The flag then says nothing of user memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from asi_pa.kernel.gfp import GFP_NAMES

__all__ = ["CPUSETS_NOTE", "cpusets_on", "without_hardwall"]

_HARDWALL = GFP_NAMES["__GFP_HARDWALL"]
_DIRECT_RECLAIM = GFP_NAMES["__GFP_DIRECT_RECLAIM"]
_HIGHMEM = GFP_NAMES["__GFP_HIGHMEM"]
_MOVABLE = GFP_NAMES["__GFP_MOVABLE"]

#: What results say of such a trace.
CPUSETS_NOTE = (
    "cpusets put __GFP_HARDWALL on every mask of this trace: unmovable user memory is told by __GFP_HIGHMEM "
    "instead, so GFP_USER memory without it counts as the kernel's, and vmalloc as user memory"
)


def cpusets_on(masks: Sequence[int], requests: npt.NDArray[np.int64]) -> bool:
    """Do masks carry __GFP_HARDWALL that nobody asked for?  ``requests`` by mask, int64[masks].

    GFP_USER may sleep; so an unmovable request that may not (GFP_ATOMIC, GFP_NOWAIT, first tries) has no
    reason to carry it.  Most of them must, for a single caller may hand it on (kmalloc(GFP_USER)).  A trace
    without such requests is judged by all that do not move.
    """
    mask = np.array(masks, np.int64)
    fixed = (mask & _MOVABLE) == 0
    hasty = fixed & ((mask & _DIRECT_RECLAIM) == 0)
    marked = (mask & _HARDWALL) != 0
    asked = int(requests[hasty].sum())
    if asked:
        return 2 * int(requests[hasty & marked].sum()) > asked
    asked = int(requests[fixed].sum())
    return asked > 0 and int(requests[fixed & marked].sum()) == asked


def without_hardwall(mask: int) -> int:
    """A mask of such a trace without the flag, except where __GFP_HIGHMEM says that it is user memory."""
    if mask & _HIGHMEM or mask & _MOVABLE:
        return mask
    return mask & ~_HARDWALL
