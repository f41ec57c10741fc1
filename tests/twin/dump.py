"""A zone's complete state as the int32 words of a recorded dump, and those words in words.

The format is that of the recorded runs: everything after a dump's magic, position and length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from asi_pa.designs import Design

from .pcp import PerCpuPages
from .zone import Zone

__all__ = ["dump_zone", "first_difference", "labelled", "tail_of"]

_COUNTERS = (
    "NR_FREE_PAGES",
    "NR_FREE_CMA_PAGES",
    "nr_reserved_highatomic",
    "nr_free_highatomic",
    "watermark_boost",
    "zone flags",
    "WMARK_MIN",
    "WMARK_LOW",
    "WMARK_HIGH",
    "WMARK_PROMO",
    "lowmem_reserve[ZONE_NORMAL]",
    "unfolded NR_FREE_PAGES",
    "unfolded NR_FREE_CMA_PAGES",
    "stat_threshold",
    "managed",
    "cma_pages",
    "nr_isolate_pageblock",
    "second zone",
)
_PCP = ("count", "high", "high_min", "high_max", "batch", "flags", "alloc_factor", "free_count")
_COMPACTION = (
    "cached_free",
    "cached_migrate async",
    "cached_migrate sync",
    "init_migrate",
    "init_free",
    "considered",
    "defer_shift",
    "order_failed",
    "blockskip_flush",
)
_ZONE_BELOW_HIGH = 1 << 2
_ZONE_NORMAL = 2


def tail_of(design: Design) -> str:
    """How a dump ends: "", "mapped", or by the wrapper, "pool", "queue" or "per-page"; runs of compaction end
    with "compaction"."""
    return (design.wrapper or "mapped") if design.protects else ""


def dump_zone(
    zone: Zone, position: int, remapped: set[int] | None = None, *, compaction: bool = False
) -> npt.NDArray[np.int32]:
    """The words for ``zone``, the ``position``-th of its machine; int32, one dimension.

    ``remapped``: pages mapped unlike all others, in designs that map by page.  ``compaction``: with
    what compaction keeps.
    """
    relative = -zone.spec.start_pfn
    words = [
        len(_COUNTERS),
        zone.nr_free_pages.read(),
        zone.nr_free_cma.read(),
        zone.nr_reserved_highatomic,
        zone.nr_free_highatomic,
        zone.watermark_boost,
        _ZONE_BELOW_HIGH * zone.below_high,
        *zone.spec.wmark,
        zone.spec.lowmem_reserve[_ZONE_NORMAL],
        zone.nr_free_pages.diff[0],
        zone.nr_free_cma.diff[0],
        zone.nr_free_pages.threshold,
        zone.managed,
        sum(end - start for start, end in zone.spec.cma),
        zone.nr_isolate_pageblock,
        int(position > 0),
        zone.max_page_order + 1,
        zone.tables.count,
    ]
    for order, lists in enumerate(zone.free_list):
        words.append(zone.nr_free(order))
        for blocks in lists:
            words.append(len(blocks))
            words.extend(pfn + relative for pfn in blocks)
    words.append(len(zone.block_type))
    words.extend(
        zone.type_of((zone.first_block + index) << zone.pageblock_order)
        for index in range(len(zone.block_type))
    )
    words.extend(_pcp_words(zone.pcp[0], relative))
    if len(zone.pcp) > 1:
        words.append(len(zone.pcp) - 1)
    for cpu in range(1, len(zone.pcp)):
        words += [zone.nr_free_pages.diff[cpu], zone.nr_free_cma.diff[cpu]]
        words.extend(_pcp_words(zone.pcp[cpu], relative))
    if zone.tables.tracks:
        words.append(len(zone.block_mapped))
        words.extend(zone.block_mapped)
    if remapped is not None:
        words.extend(_page_words(zone, remapped, relative))
    if compaction:
        state = zone.compact
        positions = [state.cached_free, *state.cached_migrate, state.init_migrate, state.init_free]
        words += [len(_COMPACTION), *(max(-1, pfn + relative) for pfn in positions)]
        words += [state.considered, state.shift, state.order_failed, int(state.flush)]
        words += [len(state.skip), *map(int, state.skip)]
    return np.array(words, dtype=np.int32)


def _page_words(zone: Zone, remapped: set[int], relative: int) -> Iterator[int]:
    wrapper = zone.tables.design.wrapper
    if wrapper == "pool":
        yield len(zone.pool_marks)
        yield from zone.pool_marks
        yield len(zone.pool)
        for blocks in zone.pool:
            yield len(blocks)
            yield from (pfn + relative for pfn in blocks)
    elif wrapper == "queue":
        yield len(zone.queue)
        for pfn, order in reversed(zone.queue.items()):
            yield from (pfn + relative, order)
    pages = sorted(pfn for pfn in remapped if zone.spans(pfn))
    starts = [pfn for pfn in pages if pfn - 1 not in remapped or not zone.spans(pfn - 1)]
    ends = [pfn + 1 for pfn in pages if pfn + 1 not in remapped or not zone.spans(pfn + 1)]
    yield len(starts)
    for start, end in zip(starts, ends, strict=True):
        yield from (start + relative, end - start)


def _pcp_words(pcp: PerCpuPages, relative: int) -> Iterator[int]:
    yield len(_PCP)
    yield from (pcp.count, pcp.high, pcp.high_min, pcp.high_max, pcp.batch)
    yield pcp.prev_free_high_order + 2 * pcp.free_high_batch
    yield from (pcp.alloc_factor, pcp.free_count)
    yield len(pcp.lists)
    for pages in pcp.lists:
        yield len(pages)
        yield from (pfn + relative for pfn in pages)


def labelled(words: Sequence[int], *, tail: str = "") -> Iterator[tuple[str, int]]:
    """Every word of a dump with what it says; ValueError where the dump contradicts itself.

    ``tail``: how the dump ends (``tail_of``).
    """
    source = enumerate(words)

    def take() -> int:
        try:
            return int(next(source)[1])
        except StopIteration:
            raise ValueError(f"dump of {len(words)} words ends early") from None

    def fixed(names: Sequence[str], what: str) -> Iterator[tuple[str, int]]:
        count = take()
        if count != len(names):
            raise ValueError(f"{what}: {count} fields where {len(names)} belong")
        yield what, count
        for name in names:
            yield name, take()

    def pages(name: str, width: int = 1) -> Iterator[tuple[str, int]]:
        count = take()
        yield f"{name}: length", count
        for index in range(count * width):
            yield f"{name}: entry {index}", take()

    def pcp(cpu: str) -> Iterator[tuple[str, int]]:
        yield from fixed([f"{cpu} {name}" for name in _PCP], f"{cpu} fields")
        lists = take()
        yield f"{cpu} lists", lists
        for index in range(lists):
            yield from pages(f"{cpu} list {index}")

    yield from fixed(_COUNTERS, "counters")
    orders, types = take(), take()
    yield "orders", orders
    yield "types", types
    for order in range(orders):
        yield f"nr_free of order {order}", take()
        for freetype in range(types):
            yield from pages(f"free list of order {order}, type {freetype}")
    yield from pages("pageblock types")
    yield from pcp("pcp")
    if tail == "compaction":
        yield from fixed(_COMPACTION, "words of compaction")
        yield from pages("skip bits")
        return
    if tail == "mapped":
        yield from pages("mapped flags")
    if tail == "pool":
        yield from pages("pool marks")
        yield "pool lists", take()
        for order in range(orders):
            yield from pages(f"pool list of order {order}")
    if tail == "queue":
        yield from pages("queue", 2)
    if tail in ("pool", "queue", "per-page"):
        yield from pages("remapped runs", 2)
    if tail:
        return
    further = next(source, None)
    if further is not None:
        yield "further cpus", int(further[1])
        for cpu in range(1, int(further[1]) + 1):
            yield f"cpu {cpu} unfolded NR_FREE_PAGES", take()
            yield f"cpu {cpu} unfolded NR_FREE_CMA_PAGES", take()
            yield from pcp(f"cpu {cpu} pcp")


def first_difference(expected: Sequence[int], got: Sequence[int], *, tail: str = "") -> str | None:
    """The first word in which two dumps differ, or None."""
    for (what, want), have in zip(labelled(expected, tail=tail), got, strict=False):
        if want != int(have):
            return f"{what}: expected {want}, got {int(have)}"
    if len(expected) != len(got):
        return f"length: expected {len(expected)} words, got {len(got)}"
    return None
