"""What scripts without compaction are made of: fills, churns, bursts, and what comes in between.

A profile is three lists of weights, one a migratetype, by order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from oracle.script import (
    ALLOC,
    COMP,
    CONTIG,
    DRAIN,
    FREE,
    FREE_ANY,
    FREE_NEWEST,
    HIGH,
    ISOLATE,
    LRU,
    MEMALLOC,
    MOVABLE,
    NOMEMALLOC,
    TAKE,
    TICK,
    UNISOLATE,
    UNRESERVE,
    Op,
    Writer,
)

Weights: TypeAlias = Sequence[float]
Profile: TypeAlias = Sequence[Weights]
#: (weight, flags) of the kinds of request.
Kinds: TypeAlias = Sequence[tuple[float, int]]
#: Writes something else than allocations and frees now and then; true if it did.
Between: TypeAlias = Callable[[Writer], bool]

SMALL: Profile = [[60, 14, 8, 8, 3, 2, 1, 0.3, 0.2, 0.1, 0]] * 3
ZERO: Profile = [[90, 6, 2, 2, 0, 0, 0, 0, 0, 0.1, 0]] * 3
MIDDLE: Profile = [[20, 10, 8, 8, 6, 6, 5, 4, 3, 2, 1]] * 3
THP: Profile = [SMALL[0], [40, 4, 4, 3, 2, 1, 1, 1, 1, 8, 0.5], SMALL[0]]
PCP: Profile = [
    [70, 12, 8, 8, 0, 0, 0, 0, 0, 0.3, 0],
    [70, 8, 6, 5, 0, 0, 0, 0, 0, 1.5, 0],
    [70, 12, 8, 6, 0, 0, 0, 0, 0, 0.1, 0],
]
BIG: Profile = [
    [60, 14, 8, 8, 6, 5, 4, 3, 2, 2, 1],
    [60, 6, 5, 4, 3, 3, 3, 3, 3, 12, 3],
    [60, 10, 8, 6, 4, 3, 2, 1, 0.6, 0.4, 0.2],
]
HUGE: Profile = [
    [60, 14, 8, 8, 6, 5, 4, 3, 4, 10, 10],
    [50, 6, 5, 4, 3, 3, 3, 3, 6, 60, 20],
    [60, 10, 8, 6, 4, 3, 2, 1, 2, 4, 2],
]
ATOMIC: Profile = [[30, 20, 15, 12, 6, 4, 3, 2, 2, 1.5, 0.3]] * 3
ALL_ORDERS: Weights = [40, 12, 10, 8, 5, 4, 3, 3, 3, 3, 2]
COMMON: Sequence[Profile] = (SMALL, ZERO, MIDDLE, THP)

#: Like GFP_KERNEL that reclaim cannot help: the LOW mark, then MIN.
PLAIN: Kinds = [(1, NOMEMALLOC)]
MIXED: Kinds = [(70, NOMEMALLOC), (15, 0), (10, HIGH), (5, HIGH | NOMEMALLOC)]
ATOMICS: Kinds = [
    (40, NOMEMALLOC),
    (10, 0),
    (40, HIGH),
    (5, HIGH | NOMEMALLOC),
    (5, HIGH | MEMALLOC),
]
TYPES = (3, 6, 1.5)


def pick(w: Writer, weights: Weights) -> int:
    return w.r.choices(range(len(weights)), weights)[0]


def kind(w: Writer, kinds: Kinds) -> int:
    return w.r.choices([flags for _, flags in kinds], [weight for weight, _ in kinds])[0]


def request(
    w: Writer, types: Weights, profile: Profile, kinds: Kinds, lru: float, comp: float = 0.3
) -> tuple[int, int]:
    """(order, flags) of a request."""
    mt = pick(w, types)
    order, flags = pick(w, profile[mt]), mt | kind(w, kinds)
    if mt == MOVABLE and w.r.random() < lru:
        flags |= LRU
    elif w.r.random() < comp:
        flags |= COMP
    return order, flags


def mixed(
    w: Writer,
    n: int,
    types: Weights,
    profile: Profile,
    share: tuple[float, float],
    kinds: Kinds = PLAIN,
    *,
    lru: float = 0.8,
    phase: int = 600,
) -> None:
    """Allocations and frees at random, in phases that raise and lower what is used within ``share``."""
    r, rising, left, since, drift = w.r, True, phase, 0, list(types)
    while len(w) < n:
        used = w.used / w.pages
        there = used >= share[1] if rising else used <= share[0]
        since += 1
        if there:
            left -= 1
        if left <= 0 or since > 4 * phase:
            rising, left, since = not rising, r.randint(phase // 3, phase), 0
            drift = [weight * r.choice((0.3, 1, 1, 3)) for weight in types]
        if r.random() < (0.5 if there else 0.75 if rising else 0.3):
            order, flags = request(w, drift, profile, kinds, lru)
            for _ in range(r.choice((1, 1, 1, 1, 2, 4, 8)) if order < 4 else 1):
                w.alloc(order, flags)
        else:
            for _ in range(r.choice((1, 1, 1, 1, 2, 4, 8))):
                w.free(r.random() < 0.2)


def bursts(
    w: Writer,
    n: int,
    profile: Profile,
    kinds: Kinds = PLAIN,
    *,
    types: Weights = TYPES,
    lru: float = 0.8,
    low: float = 0.1,
    high: float = 0.8,
    longest: int = 400,
    tick: float = 0.0,
    drain: float = 0.0,
    between: Between | None = None,
) -> None:
    """Long runs of like operations: what moves the pcp's high, its alloc factor and its batches."""
    r = w.r
    while len(w) < n:
        if tick and r.random() < tick * 50:
            w.op(TICK)
        if drain and r.random() < drain * 50:
            w.op(DRAIN)
        if between is not None:
            between(w)
        used, length = w.used / w.pages, int(longest ** r.random())
        order, flags = request(w, types, profile, kinds, lru, comp=0)
        if order > 3:
            length = min(length, 12 if order < 9 else 6)
        what = r.random()
        if what < 0.25:  # to and fro
            for _ in range(length):
                w.alloc(order, flags)
                w.free(True)
        elif r.random() < (0.2 if used > high else 0.8 if used < low else 0.5):
            for _ in range(length):
                if r.random() < 0.3:
                    w.alloc(*request(w, types, profile, kinds, 0, comp=0))
                else:
                    w.alloc(order, flags)
        else:
            newest = r.random() < 0.4
            for _ in range(length):
                w.free(newest)


def epochs(
    w: Writer,
    n: int,
    profiles: Sequence[Profile] = COMMON,
    kinds: Kinds = PLAIN,
    *,
    low: tuple[float, float] = (0.3, 0.8),
    high: tuple[float, float] = (0.9, 1.03),
    lru: float = 0.8,
    drift: Weights = (0.02, 0.3, 1, 4),
    types: Weights = TYPES,
    between: Between | None = None,
) -> None:
    """Fills with a mix that drifts, churns, frees part of it: fragments hard."""
    r = w.r
    between = between or (lambda w: False)

    def alloc(weights: Weights, profile: Profile) -> None:
        order, flags = request(w, weights, profile, kinds, lru)
        for _ in range(r.choice((1, 1, 2, 4, 8)) if order < 4 else 1):
            w.alloc(order, flags)

    while len(w) < n:
        profile, start = r.choice(profiles), len(w)
        weights = [weight * r.choice(drift) for weight in types]
        top, bottom = r.uniform(*high), r.uniform(*low)
        while w.used < top * w.pages and len(w) - start < n / 3:
            if between(w):
                continue
            alloc(weights, profile)
            if r.random() < 0.15:
                w.free()
        for _ in range(r.randrange(50, 1500)):
            if between(w):
                continue
            if r.random() < 0.2:
                weights = [weight * r.choice(drift) for weight in types]
            if r.random() < 0.5:
                alloc(weights, profile)
            else:
                for _ in range(r.choice((1, 2, 4))):
                    w.free(r.random() < 0.2)
        newest = r.random()
        newest = 0 if newest < 0.6 else newest
        while w.used > bottom * w.pages and w.used > 0:
            if between(w):
                continue
            w.free(r.random() < newest)
            if r.random() < 0.1:
                alloc(weights, profile)


# ---------------------------------------------------------------- in between


def isolation(pages: int, chance: float = 0.04, most: int = 5, modes: Sequence[int] = (2, 2, 1)) -> Between:
    """Isolates ranges, ragged ones too, and undoes it later."""
    held: list[tuple[int, int]] = []

    def between(w: Writer) -> bool:
        r = w.r
        if r.random() >= chance:
            return False
        if held and r.random() < 0.5:
            a, b = held.pop(r.randrange(len(held)))
            w.op(UNISOLATE, 0, 0, a, b)
            return True
        blocks = pages // 512
        n = r.randint(1, min(most, blocks - 1))
        a = r.randrange(blocks - n) * 512
        b = a + n * 512
        if r.random() < 0.3:
            a += r.randrange(512)
        if r.random() < 0.3:
            b -= r.randrange(min(512, b - a))
        w.op(ISOLATE, r.choice(modes), 0, a, b)
        held.append((a, b))
        return True

    return between


def contiguous(cma: tuple[int, int], chance: float = 0.03) -> Between:
    """alloc_contig_range(): mostly in the CMA region, else below it."""

    def between(w: Writer) -> bool:
        r = w.r
        if r.random() >= chance:
            return False
        inside = r.random() < 0.7
        low, high = (cma[0], cma[0] + cma[1]) if inside else (0, cma[0])
        pages, align = int(2 ** (r.random() * 11)), 1 << r.randrange(11)
        if high - low - pages < align:
            return False
        a = low + r.randrange((high - low - pages) // align) * align
        w.op(CONTIG, int(inside), 0, a, a + pages)
        w.got(0)
        return True

    return between


def unreserving(chance: float = 0.004) -> Between:
    """unreserve_highatomic_pageblock(), forced or not."""

    def between(w: Writer) -> bool:
        if w.r.random() >= chance:
            return False
        w.op(UNRESERVE, 0, w.r.choice((0, 1, 2)), int(w.r.random() < 0.5))
        return True

    return between


def reporting(types: int = 3, chance: float = 0.005) -> Between:
    """A block leaves and comes back, as page reporting does it."""

    def between(w: Writer) -> bool:
        if w.r.random() >= chance:
            return False
        w.op(TAKE, 0, 0, w.r.randrange(types), w.r.choice((9, 9, 10, 5, 0)))
        return True

    return between


def ticking(tick: float = 0.002, drain: float = 0.0005) -> Between:
    """The vmstat worker's decay of the pcp lists, and drains."""

    def between(w: Writer) -> bool:
        x = w.r.random()
        if x < tick:
            w.op(TICK)
        elif x < tick + drain:
            w.op(DRAIN)
        return x < tick + drain

    return between


def each(*parts: Between) -> Between:
    """The first that has something to write."""
    return lambda w: any(part(w) for part in parts)


def on_cpus(ops: Sequence[Op], w: Writer, cpus: int, run: float = 6) -> list[Op]:
    """The operations in runs on several CPUs; in some phases what one allocates others free."""
    out: list[Op] = []
    cpu, apart = 0, False
    for k, op in enumerate(ops):
        if w.r.random() < 1 / run:
            cpu = w.r.randrange(cpus)
        if k % 3000 == 0:
            apart = w.r.random() < 0.3
        where = cpu
        if op[0] not in (ALLOC, DRAIN, TICK, FREE_ANY, FREE_NEWEST, FREE):
            where = 0  # the driver's own CPU
        elif apart:
            where = 1 + cpu % (cpus - 1) if op[0] in (FREE_ANY, FREE_NEWEST, FREE) else 0
        out.append((*op[:5], where))
    return out


def holes(w: Writer, count: int, pages: int) -> tuple[tuple[int, int], ...]:
    """Ranges that firmware might keep, ascending and apart."""
    found: list[tuple[int, int]] = []
    at = 0
    for start in sorted(w.r.sample(range(16, pages - 16), count)):
        length = w.r.choice((1, 1, 2, 3, 8, 17, 64, 100, 300, 700))
        if start > at:
            end = min(start + length, pages - 5)
            if end > start:
                found.append((start, end))
                at = end + 1
    return tuple(found)
