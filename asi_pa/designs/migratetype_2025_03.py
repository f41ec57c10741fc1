"""Sensitivity by migratetype, the RFC of March 2025: UNMOVABLE is two types, and only one is mapped.

Source: msgid 20250313-asi-page-alloc-v1-0-04972e046cea@google.com, patches 6 to 11.
"""

from __future__ import annotations

from dataclasses import replace

from asi_pa.designs.freetypes import Freetype, PcpBank
from asi_pa.designs.table import Design, Proposal
from asi_pa.kernel.gfp import Migratetype

MT = Migratetype

__all__ = ["DESIGNS", "PROPOSAL"]

LETTER = "20250313-asi-page-alloc-v1-0-04972e046cea@google.com"

#: Its cover letter makes the claims that a comparison judges, and names what it is held against.
PROPOSAL = Proposal(letter=LETTER, family="migratetype", page_by_page="per-page", separate_pool="pool")

# Only the nonsensitive UNMOVABLE type is mapped (patch 9); it claims whole blocks only, from 10 down (patch
# 10); sensitive requests never fall back to it but may unmap a block (patch 11).
_MARCH_FREETYPES = (
    Freetype(name="UnmovableSens", mt=MT.UNMOVABLE, fallbacks=("Reclaimable", "Movable")),
    Freetype(
        name="UnmovableNons",
        mt=MT.UNMOVABLE,
        sensitive=False,
        mapped=True,
        fallbacks=("UnmovableSens", "Reclaimable", "Movable"),
        whole_blocks_only=True,
    ),
    Freetype(name="Movable", mt=MT.MOVABLE, fallbacks=("Reclaimable", "UnmovableSens")),
    Freetype(name="Reclaimable", mt=MT.RECLAIMABLE, fallbacks=("UnmovableSens", "Movable")),
    Freetype(name="HighAtomic", mt=MT.HIGHATOMIC),
    Freetype(name="CMA", mt=MT.CMA),
    Freetype(name="Isolate", mt=MT.ISOLATE),
)

MIGRATETYPE_AS_POSTED = Design(
    name="migratetype/as-posted",
    family="migratetype",
    title="migratetype pervasion, RFC of March 2025 as posted",
    source=(f"msgid {LETTER}, patches 6-11",),
    as_posted=True,
    freetypes=_MARCH_FREETYPES,
    start=(("UnmovableNons", "UnmovableSens"), ("Movable", "Movable"), ("Reclaimable", "Reclaimable")),
    pcp_banks=(
        PcpBank(
            types=("UnmovableSens", "UnmovableNons", "Movable", "Reclaimable"),
            thp=(("UnmovableSens", "UnmovableNons", "Reclaimable"), ("Movable",)),
        ),
    ),
    boot="Movable",
    protects="sensitive pages absent from the restricted physmap",
    flips="march",
    label_maps=True,
    mirror=False,
)

# The seed with its TODOs solved: reserves and isolation exist for either mapping, blocks never merge or
# share a pcp list across mappings, map and unmap are explicit, a block is cleared before it is mapped.
MIGRATETYPE_SOUND = replace(
    MIGRATETYPE_AS_POSTED,
    name="migratetype/sound",
    title="migratetype pervasion, RFC of March 2025 made sound",
    as_posted=False,
    compared=4,
    freetypes=(
        *_MARCH_FREETYPES,
        Freetype(name="HighAtomicNons", mt=MT.HIGHATOMIC, sensitive=False, mapped=True),
        Freetype(name="CMANons", mt=MT.CMA, sensitive=False, mapped=True),
        Freetype(name="IsolateNons", mt=MT.ISOLATE, sensitive=False, mapped=True),
    ),
    pcp_banks=(
        PcpBank(
            types=("UnmovableSens", "UnmovableNons", "Movable", "Reclaimable"),
            thp=(("UnmovableSens", "Reclaimable"), ("Movable",), ("UnmovableNons",)),
        ),
    ),
    merge_across=False,
    label_maps=False,
    explicit_maps=True,
    undoes_others_isolation=False,
    putback_by_block=True,
    mirror=True,
    zeroing="flip",
    contig_flips=True,
    compaction_same_side=True,
)

MIGRATETYPE_EAGER = replace(
    MIGRATETYPE_SOUND,
    name="migratetype/eager",
    ours=True,
    title="migratetype/sound, and blocks unmapped ahead of need",
    unmap_low=2048,
    unmap_high=8192,
)

#: In the order of ``asi-pa designs``.
DESIGNS = (MIGRATETYPE_AS_POSTED, MIGRATETYPE_SOUND, MIGRATETYPE_EAGER)
