"""Who asks, as far as mask and order tell, and what a request's failure means to them.

A trace has no call stacks, but many callers can be told by their masks: first tries that take less when they
fail carry __GFP_NORETRY and no __GFP_DIRECT_RECLAIM, and what else they carry says whose they are.  Read from
Linux 6.18 and 7.2: net/core/sock.c skb_page_frag_refill(), mm/page_frag_cache.c __page_frag_cache_refill(),
mm/slub.c allocate_slab(), net/core/skbuff.c kmalloc_reserve(), mm/huge_memory.c vma_thp_gfp_mask(),
include/linux/gfp_types.h.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from asi_pa.kernel.gfp import GFP_NAMES, MODEL_LRU

__all__ = [
    "CALLERS",
    "GROUPS",
    "PAGE_ALLOC_COSTLY_ORDER",
    "Caller",
    "WayOut",
    "caller_of",
    "fallback_of",
    "group_of",
    "is_huge",
    "way_out",
]

#: include/linux/mmzone.h: above it requests are huge, and a kernel gives up soon.
PAGE_ALLOC_COSTLY_ORDER = 3

_HIGHMEM = GFP_NAMES["__GFP_HIGHMEM"]
_MOVABLE = GFP_NAMES["__GFP_MOVABLE"]
_RECLAIMABLE = GFP_NAMES["__GFP_RECLAIMABLE"]
_HIGH = GFP_NAMES["__GFP_HIGH"]
_IO = GFP_NAMES["__GFP_IO"]
_FS = GFP_NAMES["__GFP_FS"]
_DIRECT_RECLAIM = GFP_NAMES["__GFP_DIRECT_RECLAIM"]
_KSWAPD_RECLAIM = GFP_NAMES["__GFP_KSWAPD_RECLAIM"]
_NOWARN = GFP_NAMES["__GFP_NOWARN"]
_NORETRY = GFP_NAMES["__GFP_NORETRY"]
_COMP = GFP_NAMES["__GFP_COMP"]
_NOMEMALLOC = GFP_NAMES["__GFP_NOMEMALLOC"]
_HARDWALL = GFP_NAMES["__GFP_HARDWALL"]
_THISNODE = GFP_NAMES["__GFP_THISNODE"]
_ZERO = GFP_NAMES["__GFP_ZERO"]


class WayOut(IntEnum):
    """What a failed request leaves its caller."""

    OPPORTUNISTIC = 0
    """It takes less, or nothing: the request was a try."""
    BLOCKING = 1
    """The kernel enters direct reclaim and does not come back without."""
    ATOMIC = 2
    """It may not wait, and it has nothing else: a hard failure."""


#: Of failures that must not be added up: "real" ones have no way out, "declined" tries take less, "huge" ones
#: are of orders above PAGE_ALLOC_COSTLY_ORDER, which a kernel may always refuse.
GROUPS = ("real", "declined", "huge")


def way_out(gfp: int, order: int) -> WayOut:
    """What a request of this mask and order is to its caller when it fails.

    Opportunistic is a try with __GFP_NORETRY of an order above 0, a movable one of order 0 (readahead), and a
    movable one of an order above 0 that may not reclaim (huge pages).  Unmovable __GFP_NORETRY of order 0 is
    SLUB's mask for a request that it repeats without, or has no other way for: blocking or atomic.
    """
    movable = bool(gfp & _MOVABLE)
    if gfp & _NORETRY and (order > 0 or movable):
        return WayOut.OPPORTUNISTIC
    if gfp & _DIRECT_RECLAIM:
        return WayOut.BLOCKING
    return WayOut.OPPORTUNISTIC if movable and order > 0 else WayOut.ATOMIC


def is_huge(order: int) -> bool:
    """Is it an order that a kernel may always refuse?"""
    return order > PAGE_ALLOC_COSTLY_ORDER


def group_of(gfp: int, order: int) -> str:
    """The group of a request: one of ``GROUPS``."""
    if is_huge(order):
        return "huge"
    return "declined" if way_out(gfp, order) is WayOut.OPPORTUNISTIC else "real"


@dataclass(frozen=True)
class Caller:
    """Somebody who can be told by mask and order."""

    name: str
    """As a classifier names it."""
    about: str
    asks: Callable[[int, int], bool]
    """(gfp, order): is the request theirs?  The first of ``CALLERS`` to say so has it."""
    falls_back: Callable[[int, int], int | None] = lambda gfp, order: None
    """(gfp, order): the mask of the single pages that they ask for when the request failed, or None."""


def _first_try(gfp: int, order: int) -> bool:
    """A try for a compound page that takes less when it fails."""
    return bool(order and gfp & _NORETRY and gfp & _COMP and not gfp & (_DIRECT_RECLAIM | _MOVABLE))


def _slab_try(gfp: int, order: int) -> bool:
    """allocate_slab() takes both reclaim bits off a blocking caller's mask, and leaves an atomic one's."""
    if order > PAGE_ALLOC_COSTLY_ORDER or not _first_try(gfp, order):
        return False
    blocking = gfp & _NOMEMALLOC and not gfp & (_KSWAPD_RECLAIM | _HIGH)
    return bool(blocking or gfp & _RECLAIMABLE or (not gfp & (_IO | _FS) and not gfp & _NOMEMALLOC))


def _slab_page(gfp: int, _order: int) -> int:
    if gfp & _NOMEMALLOC and not gfp & (_KSWAPD_RECLAIM | _HIGH):
        gfp |= _DIRECT_RECLAIM | _KSWAPD_RECLAIM
    return gfp & ~(_NORETRY | _NOWARN | _NOMEMALLOC)


def _skb_try(gfp: int, order: int) -> bool:
    """__GFP_IO and __GFP_FS mean something only together with direct reclaim, which was taken off."""
    blocking = gfp & _KSWAPD_RECLAIM and gfp & _IO and gfp & _FS and not gfp & (_RECLAIMABLE | _NOMEMALLOC)
    return bool(order == PAGE_ALLOC_COSTLY_ORDER and _first_try(gfp, order) and blocking)


def _skb_page(gfp: int, _order: int) -> int:
    return (gfp | _DIRECT_RECLAIM) & ~(_COMP | _NORETRY | _NOWARN)


def _skb_head(gfp: int, order: int) -> bool:
    """kmalloc_reserve() adds __GFP_NOMEMALLOC and __GFP_NOWARN, for slab and large kmalloc alike."""
    if gfp & (_MOVABLE | _RECLAIMABLE) or not (gfp & _NOMEMALLOC and gfp & _NOWARN and gfp & _COMP):
        return False
    return bool(order <= PAGE_ALLOC_COSTLY_ORDER and gfp & _KSWAPD_RECLAIM)


def _skb_head_page(gfp: int, order: int) -> int | None:
    return gfp & ~(_NORETRY | _NOWARN | _NOMEMALLOC) if _first_try(gfp, order) else None


def _thp(gfp: int, order: int) -> bool:
    """GFP_TRANSHUGE and GFP_TRANSHUGE_LIGHT."""
    return bool(order > 1 and gfp & _MOVABLE and gfp & _COMP and gfp & _NOMEMALLOC)


def _base_page(gfp: int, _order: int) -> int:
    lost = _COMP | _NORETRY | _NOWARN | _NOMEMALLOC | _THISNODE
    return (gfp | _DIRECT_RECLAIM | _KSWAPD_RECLAIM) & ~lost


def _user(gfp: int, _order: int) -> bool:
    return bool(gfp & _HARDWALL and not gfp & (_MOVABLE | _RECLAIMABLE))


def _vmalloc(gfp: int, _order: int) -> bool:
    """__GFP_HIGHMEM without __GFP_HARDWALL: not for user space, and not through the direct map."""
    return bool(gfp & _HIGHMEM and not gfp & (_MOVABLE | _RECLAIMABLE | _HARDWALL))


def _page_table(gfp: int, order: int) -> bool:
    """pagetable_alloc() adds __GFP_COMP to GFP_PGTABLE_*; other zeroed pages may look like them."""
    return bool(
        order <= 1
        and gfp & _COMP
        and gfp & _ZERO
        and gfp & _DIRECT_RECLAIM
        and not gfp & (_MOVABLE | _RECLAIMABLE | _HARDWALL | _NORETRY)
    )


def _slab_page_or_large(gfp: int, _order: int) -> bool:
    return bool(gfp & _COMP and not gfp & (_MOVABLE | _HARDWALL))


#: Those who can be told, the first that fits first.  __GFP_HARDWALL may be of nobody's asking (cpusets): hand
#: masks without it to them then.
CALLERS: tuple[Caller, ...] = (
    Caller("thp", "transparent huge pages", _thp, _base_page),
    Caller("skb", "network page fragments: skb_page_frag_refill()", _skb_try, _skb_page),
    Caller("slab", "SLUB's first tries: allocate_slab()", _slab_try, _slab_page),
    Caller("skbhead", "heads of network buffers: kmalloc_reserve()", _skb_head, _skb_head_page),
    Caller("user", "pipes and other GFP_USER memory that does not move", _user),
    Caller("vmalloc", "vmalloc, stacks included, as far as it has events", _vmalloc),
    Caller("pagetable", "page tables, and zeroed compound pages like theirs", _page_table),
    Caller("kmalloc", "slabs of least order, large kmalloc, other compound pages", _slab_page_or_large),
)


def caller_of(gfp: int, order: int) -> Caller | None:
    """Whose request this is, or None where mask and order do not tell."""
    for caller in CALLERS:
        if caller.asks(gfp, order):
            return caller
    return None


def fallback_of(gfp: int, order: int) -> int | None:
    """What a known caller asks for instead when this request failed: the word of 2^order single pages.

    None where the caller is not known or takes nothing less.  ``gfp`` is a request word
    (`asi_pa.kernel.gfp`): __GFP_SENSITIVE and MODEL_LRU stay.  The caller would try again for each
    piece; here the pages of one try stand for the same amount of memory.
    """
    caller = caller_of(gfp & ~MODEL_LRU, order)
    return None if caller is None else caller.falls_back(gfp, order)
