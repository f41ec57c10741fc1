"""__GFP_UNMAPPED, the series of 2026: memory absent from the direct map itself.

Source: msgid 20260320-page_alloc-unmapped-v2-0-28bf1bd54f41@google.com (v2),
msgid 20260726-page_alloc-unmapped-v3-0-6f5729aa9832@google.com (v3) and v4.
"""

from __future__ import annotations

from dataclasses import replace

from asi_pa.designs.table import Design, Freetype, PcpBank, bank, side
from asi_pa.kernel.gfp import Migratetype

MT = Migratetype

__all__ = ["DESIGNS"]

# One more list, of unmovable memory absent from the direct map itself.  Read in excerpts only;
# inferred: requests of any migratetype may flip an unmapped block back, and the flip's place is September's.
# v2 stays as it was posted, as far as it was read: alloc_contig_range hands a range out with the mapping that
# it has, and page reporting is plain Linux's.
UNMAPPED_V2 = Design(
    name="unmapped/v2",
    family="unmapped",
    title="__GFP_UNMAPPED v2 (March 2026) as posted: absent from the direct map",
    source=("msgid 20260320-page_alloc-unmapped-v2-0-28bf1bd54f41@google.com, read in excerpts",),
    as_posted=True,
    freetypes=(
        *side("", sensitive=False, mapped=True),
        Freetype(name="UnmovableUnmapped", mt=MT.UNMOVABLE),
        Freetype(name="IsolateUnmapped", mt=MT.ISOLATE),
    ),
    start=(("Unmovable", "UnmovableUnmapped"), ("Movable", "Movable"), ("Reclaimable", "Reclaimable")),
    pcp_banks=(bank(), PcpBank(types=("UnmovableUnmapped",), thp=(("UnmovableUnmapped",),))),
    boot="Movable",
    merge_across=False,
    protects="sensitive unmovable pages absent from the direct map",
    tree="unrestricted",
    flips="september",
    explicit_maps=True,
    zeroing="flip",
)

UNMAPPED_V4 = replace(
    UNMAPPED_V2,
    name="unmapped/v4",
    title="__GFP_UNMAPPED v4 (2026) made sound: owners clear, unmapped requests compact for a pageblock",
    as_posted=False,
    compared=7,
    source=("msgid 20260726-page_alloc-unmapped-v3-0-6f5729aa9832@google.com and v4, read second-hand",),
    zeroing="none",
    owner_zeroes=True,
    putback_by_block=True,
    contig_flips=True,
    compaction_same_side=True,
    compaction="unmapped",
)

UNMAPPED_SYMMETRIC = replace(
    UNMAPPED_V4,
    name="unmapped/symmetric",
    ours=True,
    title="__GFP_UNMAPPED v4 made sound, compaction for a pageblock for mapped requests too",
    compaction="both",
)

#: In the order of ``asi-pa designs``.
DESIGNS = (UNMAPPED_V2, UNMAPPED_V4, UNMAPPED_SYMMETRIC)
