"""Plain Linux: what everything is held against.

Source: mm/page_alloc.c, Linux 7.2.
"""

from __future__ import annotations

from asi_pa.designs.freetypes import bank, side
from asi_pa.designs.table import Design

__all__ = ["DESIGNS", "LINUX"]

LINUX = Design(
    name="linux",
    family="linux",
    compared=1,
    title="plain Linux, no ASI",
    source=("mm/page_alloc.c, Linux 7.2",),
    freetypes=side("", sensitive=True, mapped=False),
    start=(("Unmovable",) * 2, ("Movable",) * 2, ("Reclaimable",) * 2),
    pcp_banks=(bank(),),
    boot="Movable",
)

#: In the order of ``asi-pa designs``.
DESIGNS = (LINUX,)
