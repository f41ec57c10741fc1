"""Three groups of requests whose failures mean different things and are never added up.

======== =========================================================================================
real     of order 3 or less, and the caller has no other way: it may block, and a kernel reclaims
         until it kills, or it is atomic
declined of order 3 or less with another way: ``__GFP_NORETRY`` of orders 1 to 3, or movable and of
         order 0 (readahead); the caller takes smaller pages, or fewer
huge     of more than order 3 (PAGE_ALLOC_COSTLY_ORDER, include/linux/mmzone.h): no kernel tries hard
======== =========================================================================================

Callers with another way: skb_page_frag_refill() (net/core/sock.c), allocate_slab() (mm/slub.c),
page_cache_ra_unbounded() (mm/readahead.c).  SLUB asks again for order 0 without NORETRY, so such a request
counts as real.  Linux 6.18.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from asi_pa.kernel.gfp import GFP_NAMES
from asi_pa.trace.ops import Op

__all__ = ["GROUPS", "group_of", "split_classes"]

GROUPS = ("real", "declined", "huge")
_NORETRY = GFP_NAMES["__GFP_NORETRY"]
_MOVABLE = GFP_NAMES["__GFP_MOVABLE"]
_COSTLY_ORDER = 3


def group_of(word: int, order: int) -> str:
    """The group of a request word and order."""
    if order > _COSTLY_ORDER:
        return "huge"
    if word & _NORETRY and (order > 0 or word & _MOVABLE):
        return "declined"
    return "real"


def split_classes(
    ops: npt.NDArray[np.void], classes: npt.NDArray[np.uint32]
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.uint32], tuple[str, ...]]:
    """Number classes of requests so that each is of one group; the engine counts failures by class.

    Returns the operations, the request words (a class whose orders are of several groups is there once for
    each) and the group of each class, empty for one that nothing asks for.  Raises ValueError for more than
    256 classes.
    """
    alloc = ops["op"] == int(Op.OP_ALLOC)
    pairs = ops["cls"].astype(np.int64) * 16 + np.minimum(ops["order"], 15)
    seen = np.bincount(pairs[alloc], minlength=256 * 16)
    words, groups = [int(word) for word in classes], [""] * len(classes)
    number = np.arange(256 * 16) >> 4
    for cls, word in enumerate(classes.tolist()):
        made: dict[str, int] = {}
        for order in np.flatnonzero(seen[cls * 16 : cls * 16 + 16]).tolist():
            group = group_of(word, order)
            if group not in made:
                made[group] = cls if not made else len(words)
                if made[group] == cls:
                    groups[cls] = group
                else:
                    words.append(word)
                    groups.append(group)
            number[cls * 16 + order] = made[group]
    if len(words) > 256:
        raise ValueError("more than 256 request classes")
    if len(words) > len(classes):
        ops = ops.copy()
        ops["cls"][alloc] = number[pairs[alloc]].astype(np.uint8)
    return ops, np.array(words, np.uint32), tuple(groups)
