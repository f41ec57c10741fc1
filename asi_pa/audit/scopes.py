"""Which small machines are searched: limits are scaled so that all of the allocator acts in a few pages.

Pageblocks of two or four pages and largest blocks of two pageblocks keep every rule of merging, claiming and
flipping; ``managed`` (of which the kernel reserves 1 % for HIGHATOMIC) and the pcp limits are set so that a
reserve is one pageblock and a refill two pages.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from asi_pa.designs import Design
from asi_pa.kernel.gfp import GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NAMES, GFP_NOWAIT, MODEL_LRU
from asi_pa.kernel.spec import MachineSpec, PcpSpec, ZoneSpec

__all__ = ["Request", "Scope", "scaled", "scopes"]

_SENSITIVE = GFP_NAMES["__GFP_SENSITIVE"]
_COMP = GFP_NAMES["__GFP_COMP"]
_MEMALLOC = GFP_NAMES["__GFP_MEMALLOC"]
_RECLAIMABLE = GFP_NAMES["__GFP_RECLAIMABLE"]
_MOVABLE = GFP_HIGHUSER_MOVABLE & ~GFP_KERNEL
_CONTEXTS = {
    "blocking": GFP_KERNEL,
    "atomic": GFP_ATOMIC,
    "nowait": GFP_NOWAIT,
    "memalloc": GFP_NOWAIT | _MEMALLOC,
}
_KINDS = {"unmovable": 0, "movable": _MOVABLE | _COMP | MODEL_LRU, "reclaimable": _RECLAIMABLE}
_MT = ("unmovable", "movable", "reclaimable")

#: Out of reach of any small zone: requests go on to the slow path, and atomic ones to the reserves.
_FAR = 1 << 12
_PCP = PcpSpec(batch=2, high_min=4, high_max=4)


@dataclass(frozen=True)
class Request:
    """One kind of allocation."""

    gfp: int
    words: str
    """As ``sensitive movable, blocking``."""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """A machine, what is asked of it, and for how much of the time."""

    name: str
    about: str
    machine: MachineSpec
    requests: tuple[Request, ...]
    contig: tuple[int | None, int | None]
    """Requesters of contiguous ranges, protected and unprotected."""
    windows: bool = False
    compaction: bool = False
    share: float = 1.0
    """Of the operations, against the other scopes."""

    def orders(self) -> int:
        """The largest order that is asked for; nothing larger than a pageblock moves."""
        return self.machine.pageblock_order if self.compaction else self.machine.max_page_order


def scaled(design: Design) -> Design:
    """The design with its own thresholds scaled to a few pages, so that they are met."""
    changes: dict[str, int] = {}
    if design.unmap_low:
        changes = {"unmap_low": 2, "unmap_high": 4}
    if design.pool_low:
        changes["pool_low"] = 1
    if design.pool_high:
        changes["pool_high"] = 2
    if design.flip_used == "move":
        changes["flip_free"] = min(design.flip_free, 50)
    if design.map_back:
        changes["map_back"] = 1
    if design.wrapper == "pool":
        changes["shrink_batch"] = min(design.shrink_batch, 1)
    if design.wrapper == "queue":
        changes["queue_delay"] = min(design.queue_delay, 3)
    return replace(design, **changes) if changes else design  # type: ignore[arg-type]


def _requests(design: Design, contexts: Iterable[str], kinds: Iterable[str]) -> tuple[Request, ...]:
    """Every kind of request that the design tells apart, in these contexts."""
    out = []
    for kind in kinds:
        row = design.start[_MT.index(kind)]
        for sensitive in (0, 1):
            freetype = design.freetypes[design.freetype(row[sensitive])]
            if row[0] == row[1] and not design.wrapper and sensitive == freetype.mapped:
                continue  # the label decides, both flags mean the same request
            if design.wrapper and kind != "unmovable" and sensitive != (design.tree == "restricted"):
                continue  # beside unmovable memory only what such a design has most of
            word = "sensitive" if sensitive else "nonsensitive"
            gfp = _KINDS[kind] | (_SENSITIVE if sensitive else 0)
            out += [Request(gfp | _CONTEXTS[c], f"{word} {kind}, {c}") for c in contexts]
    return tuple(out)


def _contig(design: Design) -> tuple[int | None, int | None]:
    """Who asks for contiguous ranges: either kind, as far as the design lets it ask."""
    protected: int | None = GFP_KERNEL | _SENSITIVE
    unprotected: int | None = GFP_KERNEL
    if design.tree == "unrestricted":
        protected = None  # __alloc_contig_verify_gfp_mask() knows no such flag (7.2)
    return protected, unprotected


def _machine(
    blocks: int = 1,
    pageblock_order: int = 1,
    *,
    reserve: int = 0,
    pcp: bool = False,
    cpus: int = 1,
    cma: tuple[tuple[int, int], ...] = (),
) -> MachineSpec:
    """``blocks`` largest blocks of two pageblocks; ``reserve``: pageblocks that HIGHATOMIC may take."""
    pages = 1 << pageblock_order
    zone = ZoneSpec(
        start_pfn=0,
        spanned=blocks * 2 * pages,
        managed=reserve * pages * 100 if reserve else None,
        wmark=(0, _FAR, _FAR, _FAR) if reserve else (0, 0, 0, 0),
        pcp=_PCP if pcp else None,
        cma=cma,
    )
    return MachineSpec(
        zones=(zone,),
        cpus=cpus,
        pageblock_order=pageblock_order,
        max_page_order=pageblock_order + 1,
        watermark_boost_factor=0,
        pcp_batch_scale_max=0,
    )


@dataclass(frozen=True)
class _Plan:
    """A scope before it has a design."""

    name: str
    about: str
    machine: MachineSpec
    contexts: tuple[str, ...]
    kinds: tuple[str, ...] = _MT[:2]
    windows: bool = False
    share: float = 1.0
    compaction: bool = False


_SMALL = "two pageblocks of 2 pages"
#: Those that can be closed first, those with windows and with compaction last.
_PLANS = (
    _Plan("smallest", _SMALL, _machine(), ("blocking", "nowait", "memalloc"), _MT, share=0.3),
    _Plan(
        "cma",
        f"{_SMALL}, one of them CMA",
        _machine(cma=((2, 4),)),
        ("blocking", "nowait"),
        _MT,
        share=0.3,
    ),
    _Plan(
        "reserve",
        "two pageblocks of 4 pages, one for HIGHATOMIC",
        _machine(1, 2, reserve=1),
        ("blocking", "atomic"),
    ),
    _Plan("lists", f"{_SMALL}, pcp lists", _machine(pcp=True), ("blocking", "nowait"), _MT),
    _Plan("four-blocks", "four pageblocks of 2 pages", _machine(2), ("blocking", "nowait"), share=1.5),
    _Plan(
        "four-blocks-cma",
        "four pageblocks of 2 pages, one of them CMA",
        _machine(2, cma=((4, 6),)),
        ("blocking",),
    ),
    _Plan(
        "four-page-blocks",
        "four pageblocks of 4 pages",
        _machine(2, 2),
        ("blocking", "nowait"),
    ),
    _Plan(
        "reserve-lists",
        "four pageblocks of 2 pages, two for HIGHATOMIC, pcp lists",
        _machine(2, reserve=2, pcp=True),
        ("blocking", "atomic"),
    ),
    _Plan("two-cpus", f"{_SMALL}, pcp lists of two CPUs", _machine(pcp=True, cpus=2), ("blocking", "nowait")),
    _Plan(
        "windows",
        f"{_SMALL}, another CPU in the windows",
        _machine(),
        ("blocking", "nowait"),
        _MT,
        True,
        0.5,
    ),
    _Plan(
        "windows-cma",
        f"{_SMALL}, one of them CMA, another CPU in the windows",
        _machine(cma=((2, 4),)),
        ("blocking",),
        _MT[:2],
        True,
        0.3,
    ),
    _Plan(
        "windows-reserve",
        f"{_SMALL}, one for HIGHATOMIC, another CPU in the windows",
        _machine(reserve=1),
        ("blocking", "atomic"),
        _MT[:1],
        True,
    ),
    _Plan(
        "windows-four-blocks",
        "four pageblocks of 2 pages, another CPU in the windows",
        _machine(2),
        ("blocking",),
        _MT[:2],
        True,
        3.0,
    ),
    _Plan(
        "compaction",
        "four pageblocks of 2 pages, compacted",
        _machine(2),
        ("blocking",),
        _MT[:2],
        compaction=True,
    ),
    _Plan(
        "compaction-cma",
        "four pageblocks of 2 pages, one of them CMA, compacted",
        _machine(2, cma=((4, 6),)),
        ("blocking",),
        _MT[:2],
        share=0.5,
        compaction=True,
    ),
)


def scopes(design: Design) -> tuple[Scope, ...]:
    """The searched machines, in the order of `_PLANS`."""
    return tuple(
        Scope(
            name=plan.name,
            about=plan.about,
            machine=plan.machine,
            requests=_requests(design, plan.contexts, plan.kinds),
            contig=_contig(design),
            windows=plan.windows,
            compaction=plan.compaction,
            share=plan.share,
        )
        for plan in _PLANS
    )
