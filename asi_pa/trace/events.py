"""The trace events, one entry each: what prints them, what a line must say, what becomes of them.

The text scanner, the compiler, the recorder, the file format and ``asi-pa info`` all go by this table.  An
event's number in the ``kind`` column is its place here; files keep the names, so that new ones go to the end.
Source: include/trace/events/kmem.h, 6.18.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ALLOC",
    "EVENTS",
    "EXTFRAG",
    "FREE",
    "FREE_BATCHED",
    "KINDS",
    "PCPU_DRAIN",
    "ZONE_LOCKED",
    "Event",
]


@dataclass(frozen=True, kw_only=True)
class Event:
    """One tracepoint of the kernel."""

    kind: str
    """Its name in trace files and in ``asi-pa info``."""
    tracepoint: str
    """Its name in the kernel's group kmem."""
    formerly: tuple[str, ...] = ()
    """What older kernels call it."""
    needs: tuple[str, ...] = ("order",)
    """What a line must say besides its pfn: "order", "gfp" (which is kept) and "fallback" (alloc_order,
    fallback_order, alloc_migratetype, fallback_migratetype: a row of `EXT`, whose order is the event's)."""
    fails: bool = False
    """No page, or a pfn of -1, is an allocation that failed; of other events it is an error."""
    becomes: str = ""
    """What the compiler makes of it: "alloc", "free", or nothing: the allocator's own doing."""
    counted: bool = False
    """Of those that become nothing: the compiler counts them."""
    recorded: bool = True
    """`asi-pa record` asks for it."""


EVENTS: tuple[Event, ...] = (
    Event(kind="alloc", tracepoint="mm_page_alloc", needs=("order", "gfp"), fails=True, becomes="alloc"),
    # Before 3.3 (b413d48aa706) a free was one of these two, never both.
    Event(
        kind="free",
        tracepoint="mm_page_free",
        formerly=("mm_page_free_direct", "mm_pagevec_free"),
        becomes="free",
    ),
    # Repeats a free.
    Event(kind="free_batched", tracepoint="mm_page_free_batched", needs=(), counted=True, recorded=False),
    Event(kind="zone_locked", tracepoint="mm_page_alloc_zone_locked"),
    Event(kind="pcpu_drain", tracepoint="mm_page_pcpu_drain"),
    Event(kind="extfrag", tracepoint="mm_page_alloc_extfrag", needs=("fallback",)),
)

KINDS: tuple[str, ...] = tuple(event.kind for event in EVENTS)
ALLOC, FREE, FREE_BATCHED, ZONE_LOCKED, PCPU_DRAIN, EXTFRAG = (
    KINDS.index(kind) for kind in ("alloc", "free", "free_batched", "zone_locked", "pcpu_drain", "extfrag")
)
