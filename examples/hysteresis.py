"""A design of one's own: unmap ahead of need, with hysteresis.

In the proposal of March 2025 a sensitive request that may not block finds nothing once the unmapped memory is
used up, while whole blocks of mapped memory lie free: turning one over needs a TLB flush, and the flush needs
a context that may wait.  Here somebody else does it earlier.  Whenever the free lists were asked and fewer
than ``LOW`` blocks' worth of unmapped memory is free, whole mapped blocks are unmapped until there are
``HIGH``; the distance between the two keeps blocks from going to and fro.

    asi-pa compare bursts:4G --memory ample --classifier 'gfp!=__GFP_DIRECT_RECLAIM:sensitive' \\
        --design migratetype --design examples/hysteresis.py:HYSTERESIS

docs/extend/own-design.md walks through it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asi_pa.designs import Design

if TYPE_CHECKING:
    from asi_pa.engine.hooks import ZoneView

LOW, HIGH = 4, 16


class Hysteresis(Design):
    """The proposal made sound, and blocks unmapped before a request needs them."""

    def unmap_ahead(self, view: ZoneView) -> int:
        """How many whole free blocks to unmap now."""
        unmapped = view.free_pages(mapped=False) // view.pageblock_pages
        return HIGH - unmapped if unmapped < LOW else 0


class BothWays(Hysteresis):
    """The same, and mapped memory is kept in stock as well, for nonsensitive requests that may not block."""

    def unmap_ahead(self, view: ZoneView) -> int:
        """n > 0 blocks to unmap, or -n blocks to map."""
        mapped = view.free_pages(mapped=True) // view.pageblock_pages
        unmapped = view.free_pages(mapped=False) // view.pageblock_pages
        if unmapped < LOW and mapped > HIGH:
            return HIGH - unmapped
        if mapped < LOW and unmapped > HIGH:
            return mapped - HIGH
        return 0


HYSTERESIS = Hysteresis.based_on("migratetype", name="hysteresis", title="migratetype, blocks unmapped ahead")
BOTH_WAYS = BothWays.based_on("freetype", name="both-ways", title="freetype, blocks flipped ahead both ways")
