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
    putback_by_block=True,
)

POOL_UNMAPPED = replace(
    POOL,
    name="pool/unmapped",
    compared=8,
    title="separate pool of pages absent from the direct map, prototype of 2023",
    protects="sensitive unmovable pages absent from the direct map",
    tree="unrestricted",
)

#: In the order of ``asi-pa designs``.
DESIGNS = (POOL_UNMAPPED, POOL)
