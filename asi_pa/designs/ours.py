"""A design of ours, after what the measures show: what v4 of 2026 lacks on a fragmented machine.

Source: msgid 20260726-page_alloc-unmapped-v3-0-6f5729aa9832@google.com and its tree for what is kept; what is
added is nobody's posting.  Free unmapped memory is stranded in v4, because only UNMOVABLE requests may take a
block back, and mapped requests compact for their own order alone.
"""

from __future__ import annotations

from dataclasses import replace

from asi_pa.designs.unmapped_2026 import UNMAPPED_SOUND

__all__ = ["DESIGNS"]

# Any request that may block takes an unmapped block back, both sides compact for a whole block, and free
# unmapped blocks beyond a mark are given back before anybody asks.  No new list, no new place in the
# allocator; the worker is migratetype/eager's.
TWO_WAY = replace(
    UNMAPPED_SOUND,
    name="ours/two-way",
    family="ours",
    ours=True,
    title="unmapped/sound; any request flips back, either side compacts for a block, blocks are given back",
    source=("msgid 20260726-page_alloc-unmapped-v3-0-6f5729aa9832@google.com, and what it lacks: ours",),
    flips_by_any=True,
    compaction="both",
    map_back=8,
)

#: In the order of ``asi-pa designs``.
DESIGNS = (TWO_WAY,)
