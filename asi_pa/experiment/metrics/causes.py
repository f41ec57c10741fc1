"""Why a request can fail, and what a failure leaves its caller."""

from __future__ import annotations

from dataclasses import dataclass

from asi_pa.kernel import callers

__all__ = ["CAUSES", "FAILURE_GROUPS", "WAYS_OUT", "Cause"]


@dataclass(frozen=True)
class Cause:
    """Why a request can fail."""

    counter: str
    """In ``stats_t``; count_failure() of asi_pa/engine/page_alloc.pyx moves it."""
    words: str
    """What an OutOfMemoryError says."""
    label: str
    sentence: str
    definition: str
    asi: bool = False


#: Why a request can fail, by the key that results, statistics and errors use.
CAUSES: dict[str, Cause] = {
    "watermark": Cause(
        "fail_watermark",
        "every zone it may use is below its watermark",
        "watermark",
        "Failed because the zone's watermark (with reserves and boost) refused the request.",
        "enough pages, but `__zone_watermark_ok()` (mm/page_alloc.c) refuses the request at its lowest "
        "watermark, reserves and boost included, because of the number of free pages.",
    ),
    "fragmentation": Cause(
        "fail_fragmentation",
        "enough free pages, but no free block of this order that it may take",
        "fragmentation",
        "Failed with enough free pages, none of them in a block large enough.",
        "all that remains: enough free pages of a kind that the request may use, no block of them large "
        "enough.",
    ),
    "no_memory": Cause(
        "fail_no_memory",
        "fewer free pages than it asks for",
        "no memory",
        "Failed with fewer free pages than were asked for.",
        "fewer pages are free than were asked for, wherever they are: on the buddy's lists of any type but "
        "ISOLATE, on per-CPU lists, in a pool or a queue.",
    ),
    "flip_starvation": Cause(
        "fail_starvation",
        "free memory is of the other sensitivity, and no whole pageblock is free to flip",
        "flip starvation",
        "Failed with enough free pages of the other kind and the watermark met, "
        "but without a wholly free pageblock to flip.",
        "the watermark is met and enough pages of the other kind are free, but none of them forms a wholly "
        "free block, so nothing can flip. Reserved pages (HIGHATOMIC) and CMA cannot flip and do not count. "
        "The name is V. Babka's objection, made in review of "
        "msgid 20260320-page_alloc-unmapped-v2-0-28bf1bd54f41@google.com.",
        asi=True,
    ),
    "no_block_refusal": Cause(
        "fail_noblock",
        "a flip would give it a pageblock, but may block, and the request may not",
        "may not block",
        "Failed because only a flip could have helped and the request may not block.",
        "a whole block of the other kind was there to flip, but the request may not block and the design "
        "flips only for those that may (RFC patch 11: ALLOC_ASI_UNMAP needs __GFP_DIRECT_RECLAIM).",
        asi=True,
    ),
}

#: What a failure means, and what it leaves its caller, as results name it.
FAILURE_GROUPS = callers.GROUPS
WAYS_OUT = tuple(way.name.lower() for way in callers.WayOut)
