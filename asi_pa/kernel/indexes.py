"""The kernel's fragmentation metrics, to the digit, and the small ones defined beside them.

``free`` is always the number of free blocks of each order, index 0 first, as /proc/buddyinfo has
them.  Divisions floor on unsigned integers, as the kernel's do; every result is an int.
Sources: mm/vmstat.c (fill_contig_page_info, __fragmentation_index, extfrag_for_order,
unusable_free_index), mm/compaction.c (fragmentation_score_zone, fragmentation_score_wmark), Linux 7.2.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "directmap_kb",
    "directmap_text",
    "extfrag_for_order",
    "extfrag_index",
    "free_pages",
    "index_text",
    "is_fragmenting",
    "is_severe",
    "proactive_marks",
    "suitable_blocks",
    "unusable_index",
]


def _checked(free: Sequence[int], order: int) -> None:
    if not 0 <= order < len(free):
        raise ValueError(f"order {order}: expected 0 to {len(free) - 1}")


def free_pages(free: Sequence[int]) -> int:
    """Free pages in all: the sum of n_o 2^o."""
    return sum(int(count) << order for order, count in enumerate(free))


def suitable_blocks(free: Sequence[int], order: int) -> int:
    """How many allocations of ``order`` the free blocks hold: the sum of n_o 2^(o-order), o >= order."""
    _checked(free, order)
    return sum(int(count) << (at - order) for at, count in enumerate(free) if at >= order)


def extfrag_index(free: Sequence[int], order: int) -> int:
    """Fragmentation index x 1000 (__fragmentation_index).

    -1000: such a request would succeed; 0: nothing is free at all.  Otherwise toward 0 a failure is
    for lack of memory, toward 1000 for fragmentation; it may be negative.
    """
    suitable = suitable_blocks(free, order)
    blocks = sum(int(count) for count in free)
    if blocks == 0:
        return 0
    if suitable > 0:
        return -1000
    return 1000 - (1000 + (free_pages(free) * 1000 >> order)) // blocks


def unusable_index(free: Sequence[int], order: int) -> int:
    """Share x 1000 of the free memory that is in blocks too small for ``order`` (unusable_free_index).

    1000 where nothing is free.
    """
    suitable = suitable_blocks(free, order)
    pages = free_pages(free)
    return 1000 if pages == 0 else 1000 * (pages - (suitable << order)) // pages


def extfrag_for_order(free: Sequence[int], order: int) -> int:
    """The same share in per cent, 0 where nothing is free (extfrag_for_order).

    Proactive compaction's score of a zone is this at the huge-page order.
    """
    suitable = suitable_blocks(free, order)
    pages = free_pages(free)
    return 0 if pages == 0 else 100 * (pages - (suitable << order)) // pages


def proactive_marks(proactiveness: int = 20) -> tuple[int, int]:
    """Low and high mark of proactive compaction, per cent (fragmentation_score_wmark).

    ``proactiveness`` is vm.compaction_proactiveness, 0 to 100; ValueError outside.
    """
    if not 0 <= proactiveness <= 100:
        raise ValueError(f"proactiveness {proactiveness}: expected 0 to 100")
    low = max(100 - proactiveness, 5)
    return low, min(low + 10, 100)


def index_text(values: Sequence[int], width: int = 1) -> str:
    """Values x 1000 as debugfs prints extfrag_index (``width`` 2) and unusable_index, one a column.

    The formats are ``%2d.%03d`` and ``%d.%03d`` of quotient and remainder in C, which truncate toward zero,
    so -500 prints as ``0.-500`` and -7 as ``0.-07``.  Each value is followed by a space, as in debugfs.
    Source: extfrag_show_print() and unusable_show_print(), mm/vmstat.c, 6.12 to 7.3.
    """
    text = ""
    for value in values:
        sign = -1 if value < 0 else 1
        whole, rest = divmod(abs(value), 1000)
        text += f"{sign * whole:{width}d}.{sign * rest:03d} "
    return text


def is_fragmenting(fallback_order: int, pageblock_order: int = 9) -> bool:
    """Whether a fallback mixes pageblocks: it takes less than a whole one (mm_page_alloc_extfrag)."""
    return fallback_order < pageblock_order


def is_severe(fallback_order: int) -> bool:
    """Whether an extfrag event counts as severe: the block taken is of order 3 or less."""
    return fallback_order <= 3


def directmap_kb(leaves_4k: int, leaves_2m: int, leaves_1g: int) -> dict[str, int]:
    """Leaf counts as kB by leaf size, keys ``4k``, ``2m``, ``1g`` (arch_report_meminfo, x86)."""
    return {"4k": leaves_4k << 2, "2m": leaves_2m << 11, "1g": leaves_1g << 20}


def directmap_text(leaves_4k: int, leaves_2m: int, leaves_1g: int) -> str:
    """The DirectMap lines of /proc/meminfo (arch_report_meminfo, arch/x86/mm/pat/set_memory.c)."""
    kb = directmap_kb(leaves_4k, leaves_2m, leaves_1g)
    sizes = (("4k", "4k"), ("2M", "2m"), ("1G", "1g"))
    return "".join(f"DirectMap{size}:    {kb[key]:8d} kB\n" for size, key in sizes)
