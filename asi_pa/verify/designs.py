"""Which design a recorded kernel ran, and what its recorder watched after every operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asi_pa.designs import DESIGNS, Design

__all__ = ["design_of", "watched"]

#: A part of the header's ``kernel`` -> the design; the first that fits, plain Linux where none does.
_KERNELS = (
    ("RFC", "migratetype/as-posted"),
    ("September", "freetype/as-posted"),
    ("unmapped v4", "unmapped/v4"),
    ("unmapped v2", "unmapped/v2"),
    ("pool of 2023 as posted", "pool/as-posted"),
    ("pool of 2023 as its letter says", "pool/letter"),
    ("free queue", "rfcv2-queue/as-posted"),
)

_BY_BLOCK = (
    "events logged",
    "live sensitive pages that are mapped",
    "live nonsensitive pages that are unmapped",
    "mapped blocks without the nonsensitive type",
    "blocks of that type that are unmapped",
    "mapped blocks",
    "wholly free pageblocks of the other kind",
    "free pages of the other kind",
)
_BY_PAGE = {
    "pool": ("pool pages that are present", "pool pages", "absent pages"),
    "queue": ("queued pages", "queued chunks", "present pages"),
}


def design_of(meta: Mapping[str, Any]) -> Design:
    """The design that the recorded kernel ran, by the header's ``kernel`` and ``as_posted_flags``."""
    for words, name in _KERNELS:
        if words in meta["kernel"]:
            return DESIGNS[name + "-flags" if meta.get("as_posted_flags") else name]
    return DESIGNS["linux"]


def watched(design: Design) -> tuple[str, ...]:
    """What the eight columns of ``resx`` are in runs of a design; none where it protects nothing."""
    if not design.protects:
        return ()
    if not design.wrapper:
        return _BY_BLOCK
    return (*_BY_BLOCK[:3], *_BY_PAGE[design.wrapper], "TLB flushes", "pages cleared")
