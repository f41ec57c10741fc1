"""The operations of recorded runs: their codes, what they mean, and which cannot be.

The table of codes and columns is in ``docs/engine/model.md``.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from asi_pa.designs import Design
from asi_pa.kernel.gfp import GFP_NAMES, MODEL_LRU, MODEL_PINNED, MODEL_UNSPLITTABLE, Migratetype

__all__ = ["OP_NAMES", "SECOND_ZONE", "check_ops", "check_results", "request_word"]

Ints: TypeAlias = npt.NDArray[np.int32]

#: Added to a frame number in ``res`` that lies in the second zone.
SECOND_ZONE = 0x40000000

ALLOC, FREE, DUMP, DRAIN, ISOLATE, UNISOLATE, CONTIG, UNRESERVE, TICK, TAKE = 1, 2, 5, 6, 7, 8, 9, 11, 15, 16
COMPACT_NODE, COMPACT, DIRECT_COMPACT, RESET_SKIP, KCOMPACTD = 20, 21, 22, 23, 24
WORKER, SHRINK = 17, 18
OP_NAMES = {
    ALLOC: "alloc",
    FREE: "free",
    DUMP: "dump",
    DRAIN: "drain",
    ISOLATE: "isolate",
    UNISOLATE: "undo isolate",
    CONTIG: "alloc_contig_range",
    UNRESERVE: "unreserve_highatomic",
    TICK: "tick",
    TAKE: "take and put back",
    COMPACT_NODE: "compact_node",
    COMPACT: "try_to_compact_pages",
    DIRECT_COMPACT: "direct compaction",
    RESET_SKIP: "reset_isolation_suitable",
    KCOMPACTD: "kcompactd_do_work",
    WORKER: "queue worker",
    SHRINK: "pool shrinker",
}
#: Only in recorded runs of compaction.
COMPACTION_OPS = (COMPACT_NODE, COMPACT, DIRECT_COMPACT, RESET_SKIP, KCOMPACTD)
#: Operations that a free may name: what they got is given back.
ALLOCATES = (ALLOC, CONTIG, DIRECT_COMPACT)
PRIORITIES = ("full", "light", "async")


def request_word(flags: int, *, sensitivity: bool, compaction: bool = False) -> int:
    """The request word (``asi_pa.kernel.gfp``) of a recorded allocation's flags.

    sensitivity : bit 256 means __GFP_SENSITIVE (runs of a design that protects), not __GFP_DMA32.
    compaction : bit 256 means pinned, there are 1024 (no __GFP_FS) and 2048 (cannot be split), and who may
        reclaim has __GFP_IO and __GFP_FS.
    """
    word = (flags & 3) << 3
    for bit, value in (
        (4, GFP_NAMES["__GFP_HIGH"]),
        (8, GFP_NAMES["__GFP_KSWAPD_RECLAIM"]),
        (16, GFP_NAMES["__GFP_NOMEMALLOC"]),
        (32, GFP_NAMES["__GFP_COMP"]),
        (64, GFP_NAMES["__GFP_COMP"] | MODEL_LRU),
        (128, GFP_NAMES["__GFP_MEMALLOC"]),
        (256, GFP_NAMES["__GFP_SENSITIVE" if sensitivity else "__GFP_DMA32"]),
        (512, GFP_NAMES["__GFP_DIRECT_RECLAIM"]),
    ):
        if flags & bit and not (compaction and bit == 256):
            word |= value
    if compaction:
        if flags & 256:
            word |= MODEL_PINNED
        if flags & 2048:
            word |= MODEL_UNSPLITTABLE
        if flags & 512:
            word |= GFP_NAMES["__GFP_IO"] | (0 if flags & 1024 else GFP_NAMES["__GFP_FS"])
    return word


def check_ops(
    recorded: Ints, meta: dict[str, Any], design: Design, *, compaction: bool = False
) -> tuple[Ints, npt.NDArray[np.uint32]]:
    """Operations in the engine's columns (code, order, class, a, b, cpu); the classes' request words."""
    n = len(recorded)
    ops = np.zeros((n, 6), np.int32)
    ops[:, : recorded.shape[1]] = recorded
    code, order, flags, a, b, cpu = (ops[:, i] for i in range(6))

    def refuse(bad: npt.NDArray[np.bool_], why: str) -> None:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise ValueError(f"operation {row} ({', '.join(map(str, recorded[row]))}): {why}")

    refuse(~np.isin(code, list(OP_NAMES)), "unknown code")
    if not compaction:
        refuse(np.isin(code, COMPACTION_OPS), "compaction in a run whose events do not tell of it")
    refuse((cpu < 0) | (cpu >= meta["nr_cpus"]), f"the CPU is not in 0..{meta['nr_cpus'] - 1}")

    is_alloc = np.isin(code, (ALLOC, COMPACT, DIRECT_COMPACT))
    refuse(
        (is_alloc | (code == KCOMPACTD)) & ((order < 0) | (order > meta["max_page_order"])),
        "impossible order",
    )
    without = 1023 if design.protects else 511 if meta["zone2_spanned"] else 255
    known = np.full(n, without)
    if compaction:
        known = np.where(code == ALLOC, 2048 | 1023, 1024 | 1023)
        refuse(
            (code == ALLOC) & (flags & (256 | 2048) != 0) & (flags & 64 == 0),
            "only movable folios can be pinned",
        )
    refuse(is_alloc & ((flags & ~known != 0) | (flags & 3 == 3)), "unknown request flags")

    is_free = code == FREE
    refuse(is_free & ((a < 0) | (a >= np.arange(n))), "frees a later operation, or none")
    freed = np.where(is_free, a, 0)
    refuse(is_free & ~np.isin(code[freed], ALLOCATES), "frees an operation that allocates nothing")
    first = np.full(n, n)
    np.minimum.at(first, a[is_free], np.flatnonzero(is_free))
    refuse(is_free & (first[freed] < np.arange(n)), "frees what is freed already")

    refuse(np.isin(code, (ISOLATE, UNISOLATE, CONTIG)) & ((a < 0) | (b <= a) | (b > meta["spanned"])),
           f"the range is not inside the zone's {meta['spanned']} frames")  # fmt: skip
    refuse((code == ISOLATE) & ~np.isin(order, (1, 2)), "the mode is neither CMA_ALLOC (1) nor OTHER (2)")
    refuse((code == CONTIG) & ~np.isin(order, (0, 1)), "for CMA (1) or not (0)?")

    refuse(
        np.isin(code, (COMPACT, DIRECT_COMPACT)) & ((a < 0) | (a >= len(PRIORITIES))), "impossible priority"
    )
    refuse((code == COMPACT_NODE) & ~np.isin(a, (0, 1)), "proactive (1) or not (0)?")

    lists = len(design.freetypes)
    refuse((code == TAKE) & ((a < 0) | (a >= lists)), f"the list is not one of the {lists}")
    refuse((code == TAKE) & ((b < 0) | (b > meta["max_page_order"])), "impossible order")
    given = b if design.protects else flags & 3
    plain = [i for i, freetype in enumerate(design.freetypes) if freetype.mt <= Migratetype.RECLAIMABLE]
    refuse((code == UNRESERVE) & ~np.isin(given, plain), "a reserve cannot become that type")
    refuse((code == UNRESERVE) & ~np.isin(a, (0, 1)), "forced (1) or not (0)?")
    refuse((code == WORKER) & (design.wrapper != "queue"), "there is no free queue")
    refuse((code == SHRINK) & (design.wrapper != "pool"), "there is no pool")
    refuse((code == SHRINK) & (a < 0), "fewer pages than none")

    words, classes = np.unique(flags[is_alloc], return_inverse=True)
    requests = [
        request_word(int(word), sensitivity=bool(design.protects), compaction=compaction) for word in words
    ]
    ops[code == UNRESERVE, 2] = given[code == UNRESERVE]
    ops[is_alloc, 2] = classes
    return ops, np.array(requests, np.uint32)


def check_results(ops: Ints, res: Ints, meta: dict[str, Any]) -> None:
    """What the kernel is said to have answered: frames of the zones, and frees of what it gave."""
    code, order = ops[:, 0], ops[:, 1]
    result = res[:, 0].astype(np.int64)
    is_alloc = np.isin(code, (ALLOC, DIRECT_COMPACT))
    end = result + (1 << np.where(is_alloc, order, 0).astype(np.int64))
    inside = (result >= 0) & (end <= meta["spanned"])
    inside |= (result >= SECOND_ZONE) & (end <= SECOND_ZONE + meta["zone2_spanned"])
    wrong = np.flatnonzero(is_alloc & (result != -1) & ~inside)
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(f"operation {row}: the result {result[row]} is outside the zone")
    is_free = np.flatnonzero(code == FREE)
    of = ops[is_free, 3]
    failed = np.where(code[of] == CONTIG, result[of] != 0, result[of] < 0)
    if failed.any():
        row = int(np.flatnonzero(failed)[0])
        raise ValueError(f"operation {is_free[row]} frees what operation {of[row]} did not get")
