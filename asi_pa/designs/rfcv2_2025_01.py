"""The free queue of RFCv2, January 2025: free pages unmapped, a per-CPU queue and a worker that flushes.

Source: msgid 20250110-asi-rfc-v2-v2-0-8419288bc805@google.com, patch 14.
"""

from __future__ import annotations

from dataclasses import replace

from asi_pa.designs.per_page import PER_PAGE

__all__ = ["DESIGNS"]

QUEUE_AS_POSTED = replace(
    PER_PAGE,
    name="rfcv2-queue/as-posted",
    family="rfcv2-queue",
    compared=0,
    title="free pages unmapped, per-CPU free queue and worker (RFCv2, January 2025) as posted",
    source=("msgid 20250110-asi-rfc-v2-v2-0-8419288bc805@google.com, patch 14",),
    as_posted=True,
    wrapper="queue",
    zeroing="none",
    undoes_others_isolation=True,
    putback_by_block=False,
)

QUEUE_SOUND = replace(
    QUEUE_AS_POSTED,
    name="rfcv2-queue/sound",
    title="RFCv2's free queue made sound: flushes batched, nonsensitive allocations zeroed",
    as_posted=False,
    compared=6,
    unmap_batch=0,
    may_wait="block",
    zeroing="alloc",
    undoes_others_isolation=False,
    putback_by_block=True,
)

#: In the order of ``asi-pa designs``.
DESIGNS = (QUEUE_AS_POSTED, QUEUE_SOUND)
