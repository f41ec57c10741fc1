"""What scripts of compaction are made of: folios, thinning, combs, and compactions of every caller.

Every function writes rounds of one kind; the orders, types and priorities are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from oracle.script import (
    ALLOC,
    COMP,
    COMPACT,
    COMPACT_NODE,
    DIRECT,
    DIRECT_COMPACT,
    DUMP,
    FREE_ANY,
    KCOMPACTD,
    LRU,
    MOVABLE,
    NOFS,
    NOMEMALLOC,
    PINNED,
    RECLAIMABLE,
    RESET_SKIP,
    UNMOVABLE,
    UNSPLITTABLE,
    Op,
    Writer,
)

#: (weight, order, flags) of what memory is filled with.
Filling: TypeAlias = Sequence[tuple[float, int, int]]
FULL, LIGHT, ASYNC = 0, 1, 2
ANY = (ASYNC, ASYNC, LIGHT, LIGHT, FULL)
M, U, R = MOVABLE | LRU, UNMOVABLE, RECLAIMABLE

SINGLE: Filling = [(1, 0, M)]
FOLIOS: Filling = [(10, 0, M), (3, 1, M), (2, 2, M), (2, 3, M)]
WHOLE: Filling = [(weight, order, flags | UNSPLITTABLE) for weight, order, flags in FOLIOS]
SCATTERED: Filling = [(12, 0, M), (1, 0, U), (0.5, 0, R), (0.3, 1, U), (0.1, 3, U | COMP), (0.2, 0, MOVABLE)]
FEW: Filling = [(40, 0, M), (0.3, 0, U), (0.1, 0, R)]
EVERYTHING: Filling = [
    *((10, 0, M), (2, 1, M), (1, 2, M), (1, 3, M), (0.2, 4, M), (0.03, 9, M), (0.3, 0, M | PINNED)),
    *((1, 0, U), (0.5, 0, R), (0.2, 2, U | COMP), (0.1, 3, R)),
]
PINS: Filling = [(30, 0, M), (1, 0, M | PINNED), (0.5, 1, M | PINNED), (1, 1, M)]
LARGE: Filling = [
    *((10, 0, M), (2, 1, M), (2, 2, M), (2, 3, M), (1, 4, M), (0.5, 5, M), (0.3, 6, M), (0.2, 7, M)),
    *((0.1, 8, M), (0.05, 9, M), (1, 2, M | UNSPLITTABLE), (0.5, 3, M | UNSPLITTABLE)),
    *((0.1, 5, M | UNSPLITTABLE), (0.1, 3, M | PINNED), (0.2, 1, U)),
]
CLUSTERS: Filling = [(6, 0, M), (1, 2, M), (1, 4, M), (0.5, 6, M), (0.3, 0, U), (0.1, 0, R)]
SPARSE: Filling = [(6, 0, M), (1, 0, M | PINNED), (0.5, 1, M), (0.3, 0, U)]


def folio_writer(seed: int | str, pages: int) -> Writer:
    """A writer as these scripts need it."""
    return Writer(seed, pages, room=0.985, base=NOMEMALLOC)


def one(w: Writer, filling: Filling) -> None:
    _, order, flags = w.r.choices(filling, [part[0] for part in filling])[0]
    w.alloc(order, flags)


def fill(w: Writer, share: float, filling: Filling) -> None:
    while w.used < min(share, 0.98) * w.pages:
        one(w, filling)


def thin(w: Writer, share: float) -> None:
    while w.used > share * w.pages and w.used:
        w.free()


def churn(w: Writer, n: int, filling: Filling) -> None:
    for _ in range(n):
        if w.r.random() < 0.5:
            one(w, filling)
        else:
            w.free(w.r.random() < 0.15)


def refill(w: Writer, first: bool, filling: Filling, top: float = 0.96) -> None:
    fill(w, top if first else min(top, w.used / w.pages + w.r.uniform(0.1, 0.35)), filling)


def dump(w: Writer) -> None:
    w.op(DUMP)


def compact(w: Writer, orders: Sequence[int], types: Sequence[int], priorities: Sequence[int]) -> None:
    """A direct compaction, with or without an allocation at its end."""
    code = w.r.choice((DIRECT_COMPACT, COMPACT))
    w.op(code, w.r.choice(orders), w.r.choice(types) | DIRECT | COMP, w.r.choice(priorities))


def whole_zone(w: Writer, rounds: int = 3) -> None:
    """compact_memory after a random fill with single movable pages."""
    r = w.r
    for k in range(rounds):
        first = k == 0
        fill(w, r.uniform(0.7, 0.97) if first else min(0.95, w.used / w.pages + r.uniform(0.05, 0.3)), SINGLE)
        thin(w, r.uniform(0.35, 0.6) if first else w.used / w.pages * r.uniform(0.6, 0.9))
        for _ in range(1 + (r.random() < 0.4)):
            dump(w)
            w.op(COMPACT_NODE)
        dump(w)


def direct(
    w: Writer,
    *,
    orders: Sequence[int] = (9,),
    priorities: Sequence[int] = (ASYNC,),
    filling: Filling = SINGLE,
    each: int = 9,
    codes: Sequence[int] = (DIRECT_COMPACT, DIRECT_COMPACT, COMPACT),
    left: tuple[float, float] = (0.3, 0.9),
    churns: Sequence[int] = (1, 5, 40),
) -> None:
    """Direct compaction again and again after a fill that was thinned out."""
    r = w.r
    for k in range(2):
        refill(w, k == 0, filling)
        thin(w, max(0.2, w.used / w.pages * r.uniform(*left)))
        dump(w)
        for _ in range(each):
            code, order = r.choice(codes), r.choice(orders)
            w.op(code, order, MOVABLE | DIRECT | COMP, r.choice(priorities))
            if code == DIRECT_COMPACT:
                w.got(order)
            dump(w)
            if r.random() < 0.4:
                churn(w, r.choice(churns), filling)


def scattered(w: Writer, fillings: Sequence[Filling] = (SCATTERED, FEW)) -> None:
    """The whole zone and direct, orders, types and priorities drawn."""
    r = w.r
    for k in range(3):
        filling = r.choice(fillings)
        refill(w, k == 0, filling, 0.97)
        thin(w, w.used / w.pages * r.uniform(0.3, 0.9))
        dump(w)
        for _ in range(5):
            if r.random() < 0.4:
                w.op(COMPACT_NODE)
            else:
                compact(w, (9, 9, 4, 7, 3), (MOVABLE, MOVABLE, U, R), (ASYNC, LIGHT, FULL))
            dump(w)
            churn(w, r.choice((0, 10, 60)), filling)


def priorities(w: Writer) -> None:
    """The slow path's priorities in turn, with pinned folios."""
    r = w.r
    for k in range(3):
        filling = r.choice((PINS, EVERYTHING, SINGLE))
        refill(w, k == 0, filling, 0.98)
        thin(w, w.used / w.pages * r.uniform(0.4, 0.94))
        dump(w)
        for _ in range(2):
            order, mt = r.choice((9, 9, 10, 5, 2)), r.choice((MOVABLE, MOVABLE, U))
            for priority in r.choice(((ASYNC, LIGHT, FULL), (LIGHT, LIGHT, FULL), (ASYNC, ASYNC, LIGHT))):
                compact(w, (order,), (mt,), (priority,))
                dump(w)
            churn(w, r.choice((0, 20, 200)), filling)
        if r.random() < 0.5:
            w.op(COMPACT_NODE)
            dump(w)


def amid(
    w: Writer,
    n: int = 90,
    *,
    fillings: Sequence[Filling] = (SINGLE, SCATTERED, EVERYTHING, FEW, LARGE),
    every: int = 6,
    nofs: float = 0.05,
    top: tuple[float, float] = (0.85, 0.98),
    left: tuple[float, float] = (0.5, 0.95),
    orders: Sequence[int] = (9, 9, 9, 1, 2, 3, 4, 5, 6, 7, 8, 10),
) -> None:
    """Compactions of every caller amid allocations and frees: positions, skip bits, deferral."""
    r, k, first = w.r, 0, True
    while k < n:
        filling = r.choice(fillings)
        share = r.uniform(*top)
        fill(w, share if first else min(share, w.used / w.pages + r.uniform(0.05, 0.3)), filling)
        thin(w, w.used / w.pages * r.uniform(*left))
        first = False
        for _ in range(r.randrange(8, 30)):
            k += 1
            x, order = r.random(), r.choice(orders)
            if x < 0.07:
                w.op(COMPACT_NODE, a=int(r.random() < 0.3))
            elif x < 0.15:
                w.op(RESET_SKIP)
            elif x < 0.3:
                w.op(KCOMPACTD, order)
            else:
                code = r.choice((COMPACT, DIRECT_COMPACT, DIRECT_COMPACT))
                flags = r.choice((MOVABLE, MOVABLE, MOVABLE, U, R)) | DIRECT | COMP
                flags |= NOFS if r.random() < nofs else 0
                zero = code == DIRECT_COMPACT and r.random() < 0.02
                w.op(code, 0 if zero else order, flags, r.choice(ANY))
            if k % every == 0:
                dump(w)
            churn(w, r.choice((0, 2, 20, 100, 200)), filling)
            if r.random() < 0.1:
                thin(w, w.used / w.pages * r.uniform(0.7, 1))


def deferred(w: Writer, n: int = 700) -> None:
    """Deferral to its end: nothing can be made, and requests keep coming."""
    r = w.r
    fill(w, 0.97, [*PINS, (4, 0, U)])
    thin(w, r.uniform(0.6, 0.85))
    dump(w)
    order, mt = r.choice((9, 8, 9)), MOVABLE
    for k in range(n):
        x = r.random()
        if x < 0.02:
            order, mt = r.choice((9, 9, 8, 10, 7)), r.choice((MOVABLE, MOVABLE, U))
        if x < 0.03:
            w.op(RESET_SKIP)
        elif x < 0.07:
            w.op(KCOMPACTD, order)
        else:
            compact(w, (order,), (mt,), (LIGHT,) * 18 + (ASYNC, FULL))
        if r.random() < 0.02:
            churn(w, r.choice((5, 50, 400)), PINS)
        if k % 35 == 34:
            dump(w)


def comb(w: Writer, n: int = 60, every: int = 6, pinned: float = 0.01) -> None:
    """Filled to the end, then freed so that no block of an order is left; small orders by every caller."""
    r = w.r
    tooth, share = r.choice((1, 2, 3, 3, 4, 5, 6, 7)), r.uniform(0.1, 0.6)
    for _ in range(r.choice((0, 100, 700))):
        w.alloc(0, U)
        w.alloc(0, R)
    rows: list[int | None] = []
    large = r.random() < 0.5
    while len(rows) < w.pages:
        if large and r.random() < 0.002:  # 32 pages in larger folios, kept
            order = r.randrange(1, 6)
            for _ in range(32 >> order):
                w.alloc(order, r.choice((M, M | UNSPLITTABLE, MOVABLE | COMP, MOVABLE)))
            rows += [None] * 32
            continue
        for _ in range(32):
            rows.append(len(w))
            w.alloc(0, M | (PINNED if r.random() < pinned else 0))
    for k in range(0, len(rows), 1 << tooth):
        group = rows[k : k + (1 << tooth)]
        keep = r.choice(group)
        for row in group:
            if row is not None and row != keep and r.random() < share:
                w.free_row(row)
    w.forget(1000)
    dump(w)
    for k in range(n):
        x, order = r.random(), max(1, min(10, tooth + r.choice((0, 0, 0, 1, 1, 2, 3))))
        if x < 0.03:
            w.op(COMPACT_NODE)
        elif x < 0.06:
            w.op(RESET_SKIP)
        elif x < 0.15:
            w.op(KCOMPACTD, order)
        else:
            compact(w, (order,), (MOVABLE, MOVABLE, U, R), ANY)
        if k % every == 0:
            dump(w)
        for _ in range(r.choice((0, 0, 3, 10))):
            w.alloc(min(10, r.choice((tooth, tooth, tooth + 1, tooth + 2))), r.choice((MOVABLE, U, R)))
        for _ in range(r.choice((0, 0, 1, 4, 30))):
            w.alloc(r.choice((0, 0, 1)), r.choice((M, M, U, M | PINNED)))
            _free_any(w)


def _free_any(w: Writer) -> None:
    """Whatever is live, also where nobody knows how much that is."""
    w.ops.append((FREE_ANY, 0, 0, w.r.getrandbits(31), 0, 0))


def short_of_memory(w: Writer, n: int = 60, every: int = 6) -> None:
    """Whole groups of pages free and nothing else: the fragmentation index."""
    r = w.r
    for _ in range(w.pages):
        w.alloc(0, M)
    dump(w)
    for k in range(n):
        power = r.choice((3, 4, 5, 6, 7, 8))
        for _ in range(r.randrange(1, 7)):
            at = r.randrange(w.pages >> power) << power
            for row in range(at, at + (1 << power)):
                w.free_row(row)
        for _ in range(r.choice((0, 0, 3, 20))):
            _free_any(w)
        order = min(10, power + r.choice((1, 1, 2, 3)))
        if r.random() < 0.15:
            w.op(KCOMPACTD, order)
        else:
            compact(w, (order,), (MOVABLE, MOVABLE, U), (ASYNC, ASYNC, LIGHT, FULL))
        if k % every == 0:
            dump(w)
        for _ in range(r.choice((0, 30, 300, 1000))):
            w.alloc(0, M)


def at_the_mark(
    w: Writer, n: int = 60, every: int = 6, first: int = 0, fillings: Sequence[Filling] = ()
) -> None:
    """Filled until nothing comes, a few pages freed: isolation is refused half way."""
    r = w.r
    filling = r.choice(fillings or (SINGLE, FOLIOS, EVERYTHING))
    for _ in range(w.pages + 200):
        one(w, filling)
    for _ in range(150):
        w.alloc(0, M)
    w.forget(1000)
    for _ in range(first):
        _free_any(w)
    for k in range(n):
        for _ in range(r.choice((0, 3, 10, 30, 60))):
            _free_any(w)
        x, order = r.random(), r.choice((1, 2, 3, 3, 4, 5, 9))
        if x < 0.15:
            w.op(COMPACT_NODE)
        elif x < 0.2:
            w.op(RESET_SKIP)
        elif x < 0.3:
            w.op(KCOMPACTD, order)
        else:
            compact(w, (order,), (MOVABLE, MOVABLE, U), (ASYNC, LIGHT, LIGHT, FULL))
        if k % every == 0:
            dump(w)
        for _ in range(r.choice((0, 0, 10, 60))):
            w.alloc(0, M)


def starved(pages: int, tail: Sequence[Op], flags: int = 0) -> list[Op]:
    """docs/use/starvation.md: 90 % of memory in chunks of 64 KiB, three of four freed; then ``tail``."""
    n = pages * 9 // 10 // 16
    chunk: Op = (ALLOC, 4, M | NOMEMALLOC | flags, 0, 0, 0)
    freed: list[Op] = [(4, 0, 0, k, 0, 0) for k in range(n) if k % 4 != 3]
    mark: Op = (DUMP, 0, 0, 0, 0, 0)
    return [chunk] * n + freed + [mark, *tail, mark]
