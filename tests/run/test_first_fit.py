"""The toy that predictions are held against, beside a list of frames in Python."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("asi_pa.run.first_fit", reason="the extension modules are not built")

from asi_pa.run.first_fit import FirstFit
from asi_pa.trace.compiler import OP
from asi_pa.trace.ops import Op

START, FRAMES, MAX_ORDER = 0x300, 300, 6
NOWHERE = 0xFFFFFFFF


def blocks_of(free: set[int]) -> list[int]:
    """Free blocks by order: the largest aligned ones."""
    left, counts = set(free), [0] * (MAX_ORDER + 1)
    for order in range(MAX_ORDER, -1, -1):
        size = 1 << order
        for head in range(START // size * size, START + FRAMES, size):
            if all(pfn in left for pfn in range(head, head + size)):
                counts[order] += 1
                left -= set(range(head, head + size))
    return counts


def lowest(free: set[int], order: int) -> int:
    size = 1 << order
    for head in range(-(-START // size) * size, START + FRAMES, size):
        if all(pfn in free for pfn in range(head, head + size)):
            return head
    return NOWHERE


@pytest.mark.parametrize("seed", range(3))
def test_it_takes_the_lowest_block_that_fits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    free = set(range(START, START + FRAMES - 60))
    toy = FirstFit(START, START + FRAMES, MAX_ORDER)
    toy.free(np.array(sorted(free)), np.zeros(len(free), np.uint8))
    assert toy.blocks().tolist() == blocks_of(free)
    slots = np.full(8000, NOWHERE, np.uint32)
    live: list[tuple[int, int]] = []
    nslots = 0
    for _ in range(150):
        kind = rng.choice([Op.OP_ALLOC, Op.OP_FREE, Op.OP_SPLIT], p=[0.55, 0.35, 0.1])
        if kind == Op.OP_ALLOC or not live:
            order = int(rng.integers(0, 5))
            serves = bool(rng.random() < 0.95)
            op, wanted = (Op.OP_ALLOC, order, nslots), lowest(free, order) if serves else NOWHERE
            toy.run(np.array([(op[0], order, 0, 0, nslots)], OP), slots, np.array([serves], np.uint8))
            assert slots[nslots] == wanted
            if wanted != NOWHERE:
                free -= set(range(wanted, wanted + (1 << order)))
                live.append((nslots, order))
            nslots += 1 << order
            continue
        slot, order = live.pop(int(rng.integers(len(live))))
        pfn = int(slots[slot])
        toy.run(np.array([(kind, order, 0, 0, slot)], OP), slots, np.zeros(0, np.uint8))
        if kind == Op.OP_FREE:
            free |= set(range(pfn, pfn + (1 << order)))
        else:
            assert slots[slot : slot + (1 << order)].tolist() == list(range(pfn, pfn + (1 << order)))
            live += [(slot + k, 0) for k in range(1 << order)]
        assert toy.blocks().tolist() == blocks_of(free)
    assert any(order for _, order in live)


def test_what_cannot_be_is_refused() -> None:
    toy = FirstFit(START, START + FRAMES, MAX_ORDER)
    slots = np.full(4, NOWHERE, np.uint32)
    for pfns, orders in (([START + 1], [1]), ([0], [0]), ([START], [MAX_ORDER + 1]), ([START], [])):
        with pytest.raises(ValueError, match=r"no block of these frames|orders of"):
            toy.free(np.array(pfns), np.array(orders, np.uint8))
    for op in ((Op.OP_ALLOC, 0, 0, 0, 4), (Op.OP_SPLIT, 3, 0, 0, 0), (Op.OP_FREE, 9, 0, 0, 0)):
        with pytest.raises(ValueError, match=r"not there|above 6"):
            toy.run(np.array([op], OP), slots, np.ones(1, np.uint8))
    with pytest.raises(ValueError, match="no range"):
        FirstFit(5, 5, 3)
