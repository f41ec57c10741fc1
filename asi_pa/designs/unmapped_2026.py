"""ALLOC_UNMAPPED, the series of 2026: memory absent from the direct map itself.

Source: msgid 20260320-page_alloc-unmapped-v2-0-28bf1bd54f41@google.com (v2) and mm/page_alloc.c of
linux-mm/linux-mm (mm-new) at f42bec4385a4; msgid 20260726-page_alloc-unmapped-v3-0-6f5729aa9832@google.com
(v3) and, for v4 as of August 2026, mm/page_alloc.c of bjackman/linux at e267797c27b1, mm/page_isolation.c at
175b83dc.

One more list, of unmovable memory absent from the direct map itself.  No other migratetype has an unmapped
variant, and the unmapped list falls back to nothing and is nobody's fallback.
"""

from __future__ import annotations

from dataclasses import replace

from asi_pa.designs.freetypes import Freetype, PcpBank, bank, side
from asi_pa.designs.table import Design
from asi_pa.kernel.gfp import Migratetype

MT = Migratetype

__all__ = ["DESIGNS"]

UNMAPPED_V4 = Design(
    name="unmapped/v4",
    family="unmapped",
    title="ALLOC_UNMAPPED v4 (as of August 2026) as posted: absent from the direct map",
    source=(
        "msgid 20260726-page_alloc-unmapped-v3-0-6f5729aa9832@google.com",
        "mm/page_alloc.c of bjackman/linux at e267797c27b1, mm/page_isolation.c at 175b83dc",
    ),
    as_posted=True,
    freetypes=(
        *side("", sensitive=False, mapped=True),
        Freetype(name="UnmovableUnmapped", mt=MT.UNMOVABLE),
    ),
    start=(("Unmovable", "UnmovableUnmapped"), ("Movable", "Movable"), ("Reclaimable", "Reclaimable")),
    pcp_banks=(bank(), PcpBank(types=("UnmovableUnmapped",), thp=(("UnmovableUnmapped",),))),
    boot="Movable",
    merge_across=False,
    protects="sensitive unmovable pages absent from the direct map",
    tree="unrestricted",
    flips="september",
    flips_by_any=False,
    flip_keeps_isolation=True,
    flip_splits=True,
    zeroing="mapped",
    isolates_unmapped=False,
    reports_unmapped=False,
    compaction="unmapped",
)

# March 2026: migratetype alone decides a merge, nothing is cleared, the right not to block is lost with
# reserves (slow path's flags), the slow path keeps the fast one's.
UNMAPPED_V2 = replace(
    UNMAPPED_V4,
    name="unmapped/v2",
    title="__GFP_UNMAPPED v2 (March 2026) as posted: absent from the direct map",
    source=(
        "msgid 20260320-page_alloc-unmapped-v2-0-28bf1bd54f41@google.com",
        "mm/page_alloc.c of linux-mm/linux-mm (mm-new) at f42bec4385a4",
    ),
    blocks_keep_bit=True,
    flip_splits=False,
    zeroing="none",
    keeps_noblock=False,
    slow_keeps_fast=True,
    unmapped_counts=False,
    compaction="order",
)

# v4 without its window: a block is cleared, through another mapping, before it is mapped.  An isolated block
# keeps its bit, so that contiguous ranges and offlining can have free unmapped blocks (flipped), and one that
# was isolated during a flip comes back on its own side.
UNMAPPED_SOUND = replace(
    UNMAPPED_V4,
    name="unmapped/sound",
    compared=7,
    title="ALLOC_UNMAPPED v4 made sound: a block is cleared before it is mapped",
    as_posted=False,
    freetypes=(*UNMAPPED_V4.freetypes, Freetype(name="IsolateUnmapped", mt=MT.ISOLATE)),
    explicit_maps=True,
    isolates_unmapped=True,
    contig_flips=True,
    compaction_same_side=True,
    undoes_others_isolation=False,
    putback_by_block=True,
    zeroing="flip",
)

UNMAPPED_SYMMETRIC = replace(
    UNMAPPED_SOUND,
    name="unmapped/symmetric",
    ours=True,
    title="ALLOC_UNMAPPED v4 made sound, compaction for a pageblock for mapped requests too",
    compaction="both",
)

#: In the order of ``asi-pa designs``.
DESIGNS = (UNMAPPED_V2, UNMAPPED_V4, UNMAPPED_SOUND, UNMAPPED_SYMMETRIC)
