"""The search's numbers in words: operations, invariants, mechanisms, as ``audit/step.pxd`` numbers them."""

from __future__ import annotations

from asi_pa.verify.codes import Code

__all__ = ["LIVENESS", "OPERATIONS", "invariant_name", "invariant_words", "mechanism_base", "mechanism_words"]

#: Code of an operation -> its name in findings.
OPERATIONS = {
    Code.OP_ALLOC: "alloc",
    Code.OP_FREE: "free",
    Code.OP_DRAIN: "drain",
    Code.OP_ISOLATE: "isolate",
    Code.OP_UNISOLATE: "unisolate",
    Code.OP_CONTIG: "alloc_contig_range",
    Code.OP_FREE_CONTIG: "free_contig_range",
    Code.OP_UNRESERVE: "unreserve_highatomic",
    Code.OP_TICK: "tick",
    Code.OP_TAKE: "take_and_putback",
    Code.OP_SHRINK: "shrink_pool",
    Code.OP_WORKER: "run_queue",
    Code.OP_COMPACT_NODE: "compact_memory",
    Code.OP_DIRECT_COMPACT: "direct_compact",
}

_EXPOSED, _HIDDEN, _STALE, _LABEL, _LOST, _UNFLUSHED, _CMA, _LOCKED, _PHYSMAP = range(1, 10)
_FAILURE, _FLUSH, _STRANDED = 16, 17, 18

#: Invariants that break no promise of protection: a request fails, or waits where it must not.
LIVENESS = frozenset((_FAILURE, _FLUSH, _STRANDED))

_INVARIANTS = {
    _EXPOSED: ("protected-page-present", "an allocated protected page is present in the {tree} tree"),
    _HIDDEN: ("unprotected-page-absent", "an allocated unprotected page is absent from the {tree} tree"),
    _STALE: ("stale-data-mapped", "a page is mapped in the {tree} tree that still holds protected data"),
    _LABEL: ("label-mapping", "a pageblock's label and its mapping disagree"),
    _LOST: ("lost-or-twice", "lists, counters and page states disagree: something is lost, or there twice"),
    _UNFLUSHED: ("handed-out-unflushed", "a protected page is handed out before its flush completed"),
    _CMA: ("cma-lost", "a pageblock of CMA is none any more"),
    _LOCKED: ("flush-under-lock", "a TLB flush is asked for under the zone lock, interrupts off"),
    _PHYSMAP: ("marks-page-tables", "the pageblocks' marks and the {tree} tree's entries disagree"),
    _FAILURE: ("fails-beside-usable", "a request fails beside memory that a flip could have given"),
    _STRANDED: ("stranded-block", "a request fails while a wholly free block of the other mapping exists"),
    _FLUSH: ("nonblocking-flips", "a request that may not block flips a pageblock, or waits for a flush"),
}

# why a block's type or mapping changed: CTX_* of engine/types.pxd, and the auditor's own 15
_CONTEXTS = {
    0: "mapping",
    1: "claim",
    2: "partial claim",
    3: "merge",
    4: "reserve",
    5: "unreserve",
    6: "flip",
    7: "page reporting",
    8: "flip",
    9: "contiguous range",
    10: "pool refill",
    11: "pool shrinker",
    12: "page",
    13: "queue worker",
    14: "populating",
    15: "isolation",
}
_DETAILS = {
    0x400: "pcplist that mixes: a page that a refill put there",
    0x401: "pcplist that mixes: a page that a free put there",
    0x402: "reserve of the wrong kind: asked first",
    0x403: "reserve of the wrong kind: asked last",
    0x404: "contiguous range handed out as it was found",
    0x405: "CMA of the wrong kind",
    0x406: "free list that serves the wrong kind",
    0x407: "page handed out without its mapping changed",
    0x408: "merge of unlike blocks: the page was on another list than its block's",
    0x409: "flip that maps before it clears",
    0x40A: "compaction that moves a page to a block of the other mapping",
    0x410: "pool refill that leaves part of its chunk as it was",
    0x411: "free into the pool by the mark of a block that is only partly the pool's",
    0x412: "free into the pool by the mark of a block that the shrinker gave back",
}
_FAILURES = {
    2: "whole blocks stood by, none large enough",
    3: "free pages stood by in partly used blocks",
    5: "the pool had pages",
    6: "the free queue had pages",
}
_WINDOWS = {
    1: "after a block was taken to flip it",
    2: "while its flush is under way",
    3: "before its new label is set",
    4: "while page reporting holds a block",
    5: "after a range was isolated",
    6: "before a mapped block is cleared",
}


def invariant_name(invariant: int) -> str:
    """Its short name in JSON and tables."""
    return _INVARIANTS[invariant][0]


def invariant_words(invariant: int, tree: str) -> str:
    """What is broken, as a sentence; ``tree`` is the one that the design protects."""
    return _INVARIANTS[invariant][1].format(tree=tree)


def mechanism_base(mechanism: int) -> int:
    """The mechanism without the window that another CPU acted in."""
    return mechanism & 0x7FF


def mechanism_words(invariant: int, mechanism: int) -> str:
    """By what it broke."""
    words = _without_window(invariant, mechanism_base(mechanism))
    if mechanism & 0x8000:
        where = _WINDOWS.get(mechanism >> 11 & 7, "in a window")
        words += f", another CPU acting {where}"
    return words


def _without_window(invariant: int, mechanism: int) -> str:
    family, detail = mechanism & 0x700, mechanism & 0xFF
    if mechanism in _DETAILS:
        return _DETAILS[mechanism]
    if family == 0x500:
        return f"{OPERATIONS[Code(detail)]} leaves a broken state"
    if family == 0x600:
        kind = "protected" if detail & 0x10 else "unprotected"
        return f"{_FAILURES[detail & 0xF]} ({kind} request)"
    if family == 0x700:
        kind = "a protected" if detail & 0x10 else "an unprotected"
        may = "may" if detail & 0x20 else "may not"
        return f"{kind} {('unmovable', 'movable', 'reclaimable')[detail & 3]} request that {may} block"
    context = _CONTEXTS.get(detail, "change")
    if family == 0x100:
        return (
            "reserve of the wrong kind: a mapped block relabelled"
            if detail == 4
            else f"{context} that relabels"
        )
    if invariant == _STALE:
        return f"{context} that maps" if detail in (3, 4, 7) else f"{context} without zeroing"
    if invariant == _LOCKED:
        return f"{context} that unmaps under the lock"
    if invariant == _FLUSH:
        return f"{context} that unmaps" if family == 0x300 else f"{context} that maps"
    verb = "that maps" if family == 0x200 else "that unmaps"
    return f"unreserve under a live page ({verb})" if detail == 5 else f"{context} {verb} under a live page"
