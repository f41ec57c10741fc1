"""Freetypes, the series of September 2025: every migratetype exists in both kinds.

Source: msgid 20250924-b4-asi-page-alloc-v1-0-2d861768041f@google.com, patches 11, 12, 16, 18.
"""

from __future__ import annotations

from dataclasses import replace

from asi_pa.designs.freetypes import bank, side
from asi_pa.designs.table import Design

__all__ = ["DESIGNS"]

# Nonsensitive first, as the series numbers them.
FREETYPE_AS_POSTED = Design(
    name="freetype/as-posted",
    family="freetype",
    title="freetypes, series of September 2025 as posted",
    source=("msgid 20250924-b4-asi-page-alloc-v1-0-2d861768041f@google.com, patches 11, 12, 16, 18",),
    as_posted=True,
    freetypes=(
        *side("Nons", sensitive=False, mapped=True),
        *side("Sens", sensitive=True, mapped=False),
    ),
    start=(
        ("UnmovableNons", "UnmovableSens"),
        ("MovableNons", "MovableSens"),
        ("ReclaimableNons", "ReclaimableSens"),
    ),
    pcp_banks=(bank("Nons"), bank("Sens")),
    boot="MovableSens",
    merge_across=False,
    protects="sensitive pages absent from the restricted physmap",
    flips="september",
    zeroing="flip",
    flip_cma=True,
    keeps_noblock=False,
    mirror=False,
)

FREETYPE_AS_POSTED_FLAGS = replace(
    FREETYPE_AS_POSTED,
    name="freetype/as-posted-flags",
    title="freetypes of September 2025 as posted, slow-path flags exactly as in patch 16",
    slow_keeps_fast=True,
)

# The two defects repaired: may-block is decided by gfp (Sx-g1), a flip leaves CMA alone (Sx-g2); and
# alloc_contig_range gives its caller the mapping it asked for.
FREETYPE_SOUND = replace(
    FREETYPE_AS_POSTED,
    name="freetype/sound",
    title="freetypes of September 2025 made sound",
    as_posted=False,
    compared=5,
    keeps_noblock=True,
    flip_cma=False,
    explicit_maps=True,
    undoes_others_isolation=False,
    putback_by_block=True,
    mirror=True,
    contig_flips=True,
    compaction_same_side=True,
)

#: In the order of ``asi-pa designs``.
DESIGNS = (FREETYPE_AS_POSTED, FREETYPE_AS_POSTED_FLAGS, FREETYPE_SOUND)
