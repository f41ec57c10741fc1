"""Page-by-page mapping, as secretmem does it: the bound that needs no design.

Source: mm/secretmem.c and arch/x86/mm/pat/set_memory.c, Linux 7.2.
"""

from __future__ import annotations

from dataclasses import replace

from asi_pa.designs.linux import LINUX

__all__ = ["DESIGNS", "PER_PAGE"]

PER_PAGE = replace(
    LINUX,
    name="per-page",
    family="per-page",
    compared=2,
    title="set_direct_map for every nonsensitive page, a flush each",
    source=("mm/secretmem.c and arch/x86/mm/pat/set_memory.c, Linux 7.2",),
    protects="sensitive pages absent from the restricted physmap",
    wrapper="per-page",
    zeroing="alloc",
    undoes_others_isolation=False,
    putback_by_block=True,
)

#: In the order of ``asi-pa designs``.
DESIGNS = (PER_PAGE,)
