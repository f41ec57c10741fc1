"""A separate pool of pages, the prototype of March 2023.

Source: msgid 20230308094106.227365-1-rppt@kernel.org, 5 patches.
"""

from __future__ import annotations

from dataclasses import replace

from asi_pa.designs.linux import LINUX

__all__ = ["DESIGNS"]

POOL = replace(
    LINUX,
    name="pool/nonsensitive",
    family="pool",
    compared=3,
    title="separate pool of nonsensitive pages, prototype of 2023 turned to the ASI question",
    source=("msgid 20230308094106.227365-1-rppt@kernel.org, 5 patches",),
    protects="sensitive pages absent from the restricted physmap",
    wrapper="pool",
    undoes_others_isolation=False,
    putback_by_block=True,
)

POOL_SOUND = replace(
    POOL,
    name="pool/sound",
    compared=8,
    title="separate pool of pages absent from the direct map, prototype of 2023 made sound",
    protects="sensitive unmovable pages absent from the direct map",
    tree="unrestricted",
)

POOL_AS_POSTED = replace(
    POOL_SOUND,
    name="pool/as-posted",
    compared=0,
    title="separate pool of pages absent from the direct map, prototype of 2023 as posted",
    source=("msgid 20230308094106.227365-1-rppt@kernel.org, patches 1 and 3",),
    as_posted=True,
    pool_by_mark=True,
    refill_unmaps="request",
    pool_clears=False,
    shrink_counts=False,
    undoes_others_isolation=True,
    putback_by_block=False,
)

POOL_LETTER = replace(
    POOL_AS_POSTED,
    name="pool/letter",
    title="separate pool of 2023 as posted, but a refill unmaps the whole chunk, as its letter says",
    refill_unmaps="chunk",
)

#: In the order of ``asi-pa designs``.
DESIGNS = (POOL_AS_POSTED, POOL_LETTER, POOL_SOUND, POOL)
