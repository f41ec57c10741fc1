"""Prepared operation streams, seeded: what every allocator of a comparison runs.

====  ====================================================  ==========  ==============================
name  what                                                  memory      request classes
====  ====================================================  ==========  ==============================
a     order 0, runs of allocations and frees, the last      4 GiB       movable
      allocated freed first (within 16), 50 % full
b     orders 0-10, each half as frequent as the one         4 GiB       movable
      before, freed in random order, 50 % full
c     order 0, freed in random order, 90 % full             4 GiB       movable
d     c on a large machine                                  64 GiB      movable
e     orders 0-3, three migratetypes whose shares drift,    4 GiB       movable, unmovable, reclaimable
      so that they fall back on each other, 95 % full
====  ====================================================  ==========  ==============================

A stream is two arrays of `asi_pa.trace.compiler.OP`: ``fill`` brings an empty zone to its occupancy, ``ops``
is what is measured.  Slots stand for allocations, so that the same arrays run through any allocator.  In b
to e a slot keeps its order; which slots are freed is a sequence without repetition within any window in
which a slot can be empty, and a slot is filled again a fixed number of frees later (`random_churn`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from asi_pa.kernel.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NAMES
from asi_pa.trace.compiler import OP

__all__ = ["FULL", "STREAMS", "Stream", "churn_c", "fill_c", "stream"]

ALLOC, FREE = 1, 2
GIB_PAGES = 1 << 18

#: Request words; an operation's ``cls`` is an index into them.
CLASSES = np.array([GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_KERNEL | GFP_NAMES["__GFP_RECLAIMABLE"]], np.uint32)

#: Pages of each stream's zone at full size.
FULL = {"a": 4 * GIB_PAGES, "b": 4 * GIB_PAGES, "c": 4 * GIB_PAGES, "d": 64 * GIB_PAGES, "e": 4 * GIB_PAGES}

Ops = npt.NDArray[np.void]


@dataclass(frozen=True)
class Stream:
    """Operations for one zone of ``pages`` frames."""

    name: str
    pages: int
    nslots: int
    fill: Ops
    """`OP`[n]: allocations only."""
    ops: Ops
    """`OP`[m]: allocations and frees; occupancy at the end is about that at the start."""
    classes: npt.NDArray[np.uint32]


def operations(op: npt.NDArray[np.uint8] | int, slot: npt.NDArray[np.integer]) -> Ops:
    """`OP`[n] of order 0, class 0, CPU 0."""
    out = np.zeros(len(slot), OP)
    out["op"] = op
    out["slot"] = slot
    return out


def interleaved(frees: int, room: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A random order of ``frees`` frees and as many allocations, at most ``room`` more of either ever."""
    half = max(room, 1)
    rows = -(-frees // half)
    block = np.full((rows, 2 * half), FREE, np.uint8)
    block[:, half:] = ALLOC
    return rng.permuted(block, axis=1).ravel()


def without_repetition(n: int, m: int, window: int, rng: np.random.Generator) -> npt.NDArray[np.uint32]:
    """m numbers below n, any ``window`` consecutive ones different; needs n >= 4 * window."""
    if m < n // 8:
        drawn = np.unique(rng.integers(n, size=m + m // 4 + 64, dtype=np.uint32))
        rng.shuffle(drawn)
        return drawn[:m]
    parts = [rng.permutation(n).astype(np.uint32)]
    while sum(map(len, parts)) < m:
        part = rng.permutation(n).astype(np.uint32)
        # What was drawn just before goes to the end of the next round.
        late = np.isin(part, parts[-1][-window:])
        parts.append(np.concatenate((part[~late], part[late])))
    return np.concatenate(parts)[:m]


def random_churn(live: int, delay: int, frees: int, rng: np.random.Generator) -> Ops:
    """Frees of random slots below ``live`` + ``delay`` and allocations into those ``delay`` frees old.

    At the start slots from ``live`` on are empty.
    """
    total = live + delay
    kinds = interleaved(frees, delay // 2, rng)
    frees = len(kinds) // 2
    drawn = without_repetition(total, frees + delay, 5 * delay, rng)
    # Slots that are empty at the start are filled by the first allocations, not freed before.
    early = np.arange(len(drawn)) < 4 * delay
    freed = drawn[~early | (drawn < live)][:frees]
    slots = np.empty(len(kinds), np.uint32)
    slots[kinds == FREE] = freed
    slots[kinds == ALLOC] = np.concatenate((np.arange(live, total, dtype=np.uint32), freed[: frees - delay]))
    return operations(kinds, slots)


def lifo_churn(live: int, count: int, rng: np.random.Generator, mean: int = 32, slack: int = 16) -> Ops:
    """Runs of allocations on top of ``live`` slots and of frees from the top, shuffled within ``slack``."""
    chunk = 64
    runs = max(1, count // (2 * mean * chunk))
    up = np.minimum(rng.geometric(1 / mean, size=(runs, chunk)), 8 * mean)
    down = rng.permuted(up, axis=1)
    lengths = np.stack((up, down), axis=2).ravel()
    sign = np.tile(np.array([1, -1]), runs * chunk)
    depth = live + np.concatenate(([0], np.cumsum(lengths * sign)))[:-1]
    run = np.repeat(np.arange(len(lengths)), lengths)
    step = np.arange(len(run)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    grows = sign[run] > 0
    order = step + np.where(grows, 0.0, rng.random(len(run)) * slack)
    # Stable within a run: the shuffled position of a free among the frees of its run.
    rank = np.lexsort((order, run))
    slots = depth[run] + np.where(grows, step, -1 - step)
    return operations(np.where(grows, ALLOC, FREE).astype(np.uint8), slots[rank].astype(np.uint32))


def delay_for(slots: int) -> int:
    """How many frees later a slot is filled again: 256, less on small machines."""
    return int(min(256, max(4, slots // 64))) // 2 * 2


def stream_a(pages: int, count: int, rng: np.random.Generator) -> Stream:
    live = pages // 2
    ops = lifo_churn(live, count, rng)
    return Stream("a", pages, pages, operations(ALLOC, np.arange(live)), ops, CLASSES)


def sized(stream: Stream, order: npt.NDArray[np.uint8]) -> Stream:
    """Gives every slot its order."""
    for part in (stream.fill, stream.ops):
        part["order"] = order[part["slot"]]
    return stream


def stream_b(pages: int, count: int, rng: np.random.Generator) -> Stream:
    order = np.minimum(rng.geometric(0.5, size=pages) - 1, 10).astype(np.uint8)
    total = int(np.searchsorted(np.cumsum(1 << order.astype(np.int64)), pages // 2))
    delay = delay_for(total)
    ops = random_churn(total - delay, delay, count // 2, rng)
    return sized(
        Stream("b", pages, total, operations(ALLOC, np.arange(total - delay)), ops, CLASSES), order[:total]
    )


def fill_c(pages: int, chunk: int = 1 << 24) -> Iterator[Ops]:
    """The fill of stream c in pieces, for machines whose whole fill would not fit beside them."""
    total = pages * 9 // 10
    live = total - delay_for(total)
    for start in range(0, live, chunk):
        yield operations(ALLOC, np.arange(start, min(start + chunk, live), dtype=np.uint32))


def churn_c(pages: int, count: int, rng: np.random.Generator) -> Ops:
    """The measured part of stream c."""
    total = pages * 9 // 10
    delay = delay_for(total)
    return random_churn(total - delay, delay, count // 2, rng)


def stream_c(pages: int, count: int, rng: np.random.Generator) -> Stream:
    fill = np.concatenate(list(fill_c(pages)))
    return Stream("c", pages, pages * 9 // 10, fill, churn_c(pages, count, rng), CLASSES)


def stream_e(pages: int, count: int, rng: np.random.Generator) -> Stream:
    order = np.minimum(rng.geometric(0.8, size=pages) - 1, 3).astype(np.uint8)
    total = int(np.searchsorted(np.cumsum(1 << order.astype(np.int64)), pages * 95 // 100))
    delay = delay_for(total)
    ops = random_churn(total - delay, delay, count // 2, rng)
    made = sized(
        Stream("e", pages, total, operations(ALLOC, np.arange(total - delay)), ops, CLASSES), order[:total]
    )
    # The share of movable requests swings about 70 % while filling, about 65 % and wider afterwards, so that
    # by turns more memory of one kind is wanted than its blocks hold; 2 unmovable to 1 reclaimable.
    for part, mean, swing, periods in ((made.fill, 0.7, 0.2, 3), (made.ops, 0.65, 0.3, 2)):
        movable = mean - swing * np.sin(np.arange(len(part)) * (2 * np.pi * periods / max(len(part), 1)))
        draw = rng.random(len(part))
        part["cls"] = np.where(draw < movable, 0, np.where(rng.random(len(part)) < 2 / 3, 1, 2))
    return made


STREAMS: dict[str, Callable[[int, int, np.random.Generator], Stream]] = {
    "a": stream_a,
    "b": stream_b,
    "c": stream_c,
    "d": stream_c,
    "e": stream_e,
}


def stream(name: str, pages: int | None = None, count: int = 1 << 22, seed: int = 1) -> Stream:
    """Stream ``name`` on a zone of ``pages`` frames (None: full size), about ``count`` operations measured.

    Raises ValueError for an unknown name and a zone below 4 MiB.
    """
    if name not in STREAMS:
        raise ValueError(f"stream {name!r}: there are {', '.join(STREAMS)}")
    pages = FULL[name] if pages is None else pages
    if pages < 1024:
        raise ValueError(f"{pages} pages are too few for a stream, 1024 is the least")
    made = STREAMS[name](pages, count, np.random.default_rng([seed, ord(name[0])]))
    return Stream(name, made.pages, made.nslots, made.fill, made.ops, made.classes)
