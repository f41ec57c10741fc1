"""Kinds of free lists, and the per-CPU lists that a set of them has.

A *freetype* is the index of a free list: a migratetype and what a design adds to it.
"""

from __future__ import annotations

from dataclasses import dataclass

from asi_pa.kernel.gfp import Migratetype
from asi_pa.names import several

MT = Migratetype

__all__ = ["Freetype", "PcpBank", "bank", "side"]


@dataclass(frozen=True, kw_only=True)
class Freetype:
    """One kind of free list."""

    name: str
    """As /proc/pagetypeinfo would print it."""
    mt: MT
    sensitive: bool = True
    """Whose requests it serves, in designs that tell them apart."""
    mapped: bool = False
    """The label promises: present in the tree that the design protects."""
    fallbacks: tuple[str, ...] = ()
    """Freetypes to claim or steal from, first choice first (fallbacks[] of mm/page_alloc.c)."""
    whole_blocks_only: bool = False
    """Claims wholly free pageblocks only, never steals."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fallbacks", several(self.fallbacks))


@dataclass(frozen=True, kw_only=True)
class PcpBank:
    """The pcp lists of one set of freetypes: low orders by order and type, then the order-9 lists."""

    types: tuple[str, ...]
    thp: tuple[tuple[str, ...], ...]
    """One list each: the freetypes that share an order-9 list."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "types", several(self.types))
        object.__setattr__(self, "thp", tuple(several(names) for names in self.thp))


_FALLBACKS = {
    MT.UNMOVABLE: (MT.RECLAIMABLE, MT.MOVABLE),
    MT.MOVABLE: (MT.RECLAIMABLE, MT.UNMOVABLE),
    MT.RECLAIMABLE: (MT.UNMOVABLE, MT.MOVABLE),
}
_NAMES = {
    MT.UNMOVABLE: "Unmovable",
    MT.MOVABLE: "Movable",
    MT.RECLAIMABLE: "Reclaimable",
    MT.HIGHATOMIC: "HighAtomic",
    MT.CMA: "CMA",
    MT.ISOLATE: "Isolate",
}


def side(
    suffix: str, *, sensitive: bool, mapped: bool, only: tuple[MT, ...] = tuple(MT)
) -> tuple[Freetype, ...]:
    """The migratetypes of one side, falling back among themselves (fallbacks[], mm/page_alloc.c 7.2)."""
    return tuple(
        Freetype(
            name=_NAMES[mt] + suffix,
            mt=mt,
            sensitive=sensitive,
            mapped=mapped,
            fallbacks=tuple(_NAMES[f] + suffix for f in _FALLBACKS.get(mt, ()) if f in only),
        )
        for mt in only
    )


def bank(suffix: str = "") -> PcpBank:
    """The per-CPU lists of one side, as Linux has them (order_to_pindex, mm/page_alloc.c 7.2)."""
    u, m, r = (_NAMES[mt] + suffix for mt in (MT.UNMOVABLE, MT.MOVABLE, MT.RECLAIMABLE))
    return PcpBank(types=(u, m, r), thp=((u, r), (m,)))
