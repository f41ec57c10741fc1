"""The operations of recorded runs: what they mean, and which cannot be.

The table of codes and columns is in ``docs/engine/model.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from asi_pa.designs import Design
from asi_pa.kernel.gfp import GFP_NAMES, MODEL_LRU, MODEL_PINNED, MODEL_UNSPLITTABLE, Migratetype
from asi_pa.verify.codes import Code

__all__ = [
    "OPERATIONS",
    "SECOND_ZONE",
    "Operation",
    "check_ops",
    "check_results",
    "codes_where",
    "request_word",
]

Ints: TypeAlias = npt.NDArray[np.int32]
Refuse: TypeAlias = Callable[[npt.NDArray[np.bool_], str], None]

#: Added to a frame number in ``res`` that lies in the second zone.
SECOND_ZONE = 0x40000000


class Operation(NamedTuple):
    """What is known of a code."""

    name: str
    answers: bool = False
    """Its result means something; that of the others is to be ignored."""
    allocates: bool = False
    """A free may name it: what it got is given back."""
    compaction: bool = False
    """Only in recorded runs of compaction."""


OPERATIONS = {
    Code.OP_ALLOC: Operation("alloc", answers=True, allocates=True),
    Code.OP_FREE: Operation("free"),
    Code.OP_DUMP: Operation("dump"),
    Code.OP_DRAIN: Operation("drain"),
    Code.OP_ISOLATE: Operation("isolate", answers=True),
    Code.OP_UNISOLATE: Operation("undo isolate"),
    Code.OP_CONTIG: Operation("alloc_contig_range", answers=True, allocates=True),
    Code.OP_UNRESERVE: Operation("unreserve_highatomic", answers=True),
    Code.OP_TICK: Operation("tick", answers=True),
    Code.OP_TAKE: Operation("take and put back", answers=True),
    Code.OP_WORKER: Operation("queue worker", answers=True),
    Code.OP_SHRINK: Operation("pool shrinker", answers=True),
    Code.OP_COMPACT_NODE: Operation("compact_node", compaction=True),
    Code.OP_COMPACT: Operation("try_to_compact_pages", answers=True, compaction=True),
    Code.OP_DIRECT_COMPACT: Operation("direct compaction", answers=True, allocates=True, compaction=True),
    Code.OP_RESET_SKIP: Operation("reset_isolation_suitable", compaction=True),
    Code.OP_KCOMPACTD: Operation("kcompactd_do_work", compaction=True),
}
#: Operations that carry a request.
REQUESTS = (Code.OP_ALLOC, Code.OP_COMPACT, Code.OP_DIRECT_COMPACT)
PRIORITIES = ("full", "light", "async")


def codes_where(true: Callable[[Operation], bool]) -> list[int]:
    """The codes of which something is true."""
    return [code for code, operation in OPERATIONS.items() if true(operation)]


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

    def refuse(bad: npt.NDArray[np.bool_], why: str) -> None:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise ValueError(f"operation {row} ({', '.join(map(str, recorded[row]))}): {why}")

    code, flags, cpu = ops[:, 0], ops[:, 2].copy(), ops[:, 5]
    refuse(~np.isin(code, list(OPERATIONS)), "unknown code")
    if not compaction:
        refuse(
            np.isin(code, codes_where(lambda operation: operation.compaction)),
            "compaction in a run whose events do not tell of it",
        )
    refuse((cpu < 0) | (cpu >= meta["nr_cpus"]), f"the CPU is not in 0..{meta['nr_cpus'] - 1}")
    _check_requests(ops, meta, design, refuse, compaction=compaction)
    _check_frees(ops, refuse)
    _check_ranges(ops, meta, refuse)
    given = _check_lists(ops, meta, design, refuse)

    is_alloc = np.isin(code, REQUESTS)
    words, classes = np.unique(flags[is_alloc], return_inverse=True)
    requests = [
        request_word(int(word), sensitivity=bool(design.protects), compaction=compaction) for word in words
    ]
    ops[code == Code.OP_UNRESERVE, 2] = given[code == Code.OP_UNRESERVE]
    ops[is_alloc, 2] = classes
    return ops, np.array(requests, np.uint32)


def _check_requests(
    ops: Ints, meta: dict[str, Any], design: Design, refuse: Refuse, *, compaction: bool
) -> None:
    """Orders, priorities, and flags that are known."""
    code, order, flags, a = (ops[:, i] for i in range(4))
    is_alloc = np.isin(code, REQUESTS)
    refuse(
        (is_alloc | (code == Code.OP_KCOMPACTD)) & ((order < 0) | (order > meta["max_page_order"])),
        "impossible order",
    )
    without = 1023 if design.protects else 511 if meta["zone2_spanned"] else 255
    known = np.full(len(ops), without)
    if compaction:
        known = np.where(code == Code.OP_ALLOC, 2048 | 1023, 1024 | 1023)
        refuse(
            (code == Code.OP_ALLOC) & (flags & (256 | 2048) != 0) & (flags & 64 == 0),
            "only movable folios can be pinned",
        )
    refuse(is_alloc & ((flags & ~known != 0) | (flags & 3 == 3)), "unknown request flags")
    asks = np.isin(code, (Code.OP_COMPACT, Code.OP_DIRECT_COMPACT))
    refuse(asks & ((a < 0) | (a >= len(PRIORITIES))), "impossible priority")
    refuse((code == Code.OP_COMPACT_NODE) & ~np.isin(a, (0, 1)), "proactive (1) or not (0)?")


def _check_frees(ops: Ints, refuse: Refuse) -> None:
    """A free names an operation before it that allocated, once."""
    n, code, a = len(ops), ops[:, 0], ops[:, 3]
    is_free = code == Code.OP_FREE
    refuse(is_free & ((a < 0) | (a >= np.arange(n))), "frees a later operation, or none")
    freed = np.where(is_free, a, 0)
    allocates = codes_where(lambda operation: operation.allocates)
    refuse(is_free & ~np.isin(code[freed], allocates), "frees an operation that allocates nothing")
    first = np.full(n, n)
    np.minimum.at(first, a[is_free], np.flatnonzero(is_free))
    refuse(is_free & (first[freed] < np.arange(n)), "frees what is freed already")


def _check_ranges(ops: Ints, meta: dict[str, Any], refuse: Refuse) -> None:
    code, order, a, b = (ops[:, i] for i in (0, 1, 3, 4))
    is_range = np.isin(code, (Code.OP_ISOLATE, Code.OP_UNISOLATE, Code.OP_CONTIG))
    refuse(
        is_range & ((a < 0) | (b <= a) | (b > meta["spanned"])),
        f"the range is not inside the zone's {meta['spanned']} frames",
    )
    isolates = code == Code.OP_ISOLATE
    refuse(isolates & ~np.isin(order, (1, 2)), "the mode is neither CMA_ALLOC (1) nor OTHER (2)")
    refuse((code == Code.OP_CONTIG) & ~np.isin(order, (0, 1)), "for CMA (1) or not (0)?")


def _check_lists(ops: Ints, meta: dict[str, Any], design: Design, refuse: Refuse) -> Ints:
    """What is done to lists, reserves, pool and queue; the freetypes that reserves are given."""
    code, flags, a, b = (ops[:, i] for i in (0, 2, 3, 4))
    lists = len(design.freetypes)
    refuse((code == Code.OP_TAKE) & ((a < 0) | (a >= lists)), f"the list is not one of the {lists}")
    refuse((code == Code.OP_TAKE) & ((b < 0) | (b > meta["max_page_order"])), "impossible order")
    given = b if design.protects else flags & 3
    plain = [i for i, freetype in enumerate(design.freetypes) if freetype.mt <= Migratetype.RECLAIMABLE]
    refuse((code == Code.OP_UNRESERVE) & ~np.isin(given, plain), "a reserve cannot become that type")
    refuse((code == Code.OP_UNRESERVE) & ~np.isin(a, (0, 1)), "forced (1) or not (0)?")
    refuse((code == Code.OP_WORKER) & (design.wrapper != "queue"), "there is no free queue")
    refuse((code == Code.OP_SHRINK) & (design.wrapper != "pool"), "there is no pool")
    refuse((code == Code.OP_SHRINK) & (a < 0), "fewer pages than none")
    return given.copy()


def check_results(ops: Ints, res: Ints, meta: dict[str, Any]) -> None:
    """What the kernel is said to have answered: frames of the zones, and frees of what it gave."""
    code, order = ops[:, 0], ops[:, 1]
    result = res[:, 0].astype(np.int64)
    is_alloc = np.isin(code, (Code.OP_ALLOC, Code.OP_DIRECT_COMPACT))
    end = result + (1 << np.where(is_alloc, order, 0).astype(np.int64))
    inside = (result >= 0) & (end <= meta["spanned"])
    inside |= (result >= SECOND_ZONE) & (end <= SECOND_ZONE + meta["zone2_spanned"])
    wrong = np.flatnonzero(is_alloc & (result != -1) & ~inside)
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(f"operation {row}: the result {result[row]} is outside the zone")
    is_free = np.flatnonzero(code == Code.OP_FREE)
    of = ops[is_free, 3]
    failed = np.where(code[of] == Code.OP_CONTIG, result[of] != 0, result[of] < 0)
    if failed.any():
        row = int(np.flatnonzero(failed)[0])
        raise ValueError(f"operation {is_free[row]} frees what operation {of[row]} did not get")
