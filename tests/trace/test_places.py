"""Free places of a zone that is being made."""

from __future__ import annotations

import numpy as np
import pytest

from asi_pa.trace.blocks import frames_of, free_blocks
from asi_pa.trace.frames import FRAME_FREE, FRAME_HELD, FRAME_PCP
from asi_pa.trace.places import Places
from tests.trace.events import make_trace

START, FRAMES = 0x2000, 4096


def places(state: np.ndarray, held: list[tuple[int, int]], fixed: list[tuple[int, int]]) -> Places:
    trace = make_trace([])
    columns = [
        (np.array([START + at for at, _ in rows], np.uint32), np.array([k for _, k in rows], np.uint8))
        for rows in (held, fixed)
    ]
    block_mt = np.ones(FRAMES >> trace.pageblock_order, np.uint8)
    block_mt[::2] = 0
    return Places(trace, state, block_mt, START, columns[0], lambda: columns[1])


@pytest.mark.parametrize("seed", range(8))
def test_what_stays_free_is_the_buddy_structure(seed: int) -> None:
    rng = np.random.default_rng(seed)
    state = np.where(rng.random(FRAMES) < 0.02, FRAME_HELD, FRAME_FREE).astype(np.uint8)
    found = places(state, [], [])
    free = int(np.count_nonzero(state == FRAME_FREE))
    for order, movable in ((5, True), (3, False), (3, True), (1, False), (0, True), (0, False)):
        count = int(rng.integers(1, 9))
        at = found.take(order, movable, count)
        assert len(at) == count
        assert (at % (1 << order) == 0).all()
        free -= count << order
        assert int(np.count_nonzero(state == FRAME_FREE)) == free
        pfn, size = free_blocks(state == FRAME_FREE, START, found.trace.max_page_order)
        blocks = found.free
        assert sorted(zip(*(column.tolist() for column in blocks), strict=True)) == sorted(
            zip(pfn.tolist(), size.tolist(), strict=True)
        )
    assert found.staying is None


def test_smallest_blocks_of_the_right_type_come_first() -> None:
    state = np.full(FRAMES, FRAME_HELD, np.uint8)
    state[[3, 700]] = FRAME_FREE  # pageblocks 0 (Unmovable) and 1 (Movable)
    state[512 + 64 : 512 + 80] = FRAME_FREE
    found = places(state, [], [])
    assert found.take(0, True, 1).tolist() == [START + 700]
    assert found.take(0, True, 2).tolist() == [START + 512 + 64, START + 512 + 65]
    assert found.take(0, False, 1).tolist() == [START + 3]


def test_others_go_where_nothing_is_free() -> None:
    state = np.full(FRAMES, FRAME_HELD, np.uint8)
    state[8:16] = FRAME_PCP
    state[20:24] = FRAME_FREE
    held = [(at, 0) for at in (*range(8), 16, 17, 18, 19, *range(24, 32))]
    found = places(
        state, held, [(32, 5), (64, 6), (128, 7), (256, 8), (512, 9), (1024, 10), (2048, 10), (3072, 10)]
    )
    # the range of eight pages with the most that nobody holds
    assert found.take(3, True, 1).tolist() == [START + 8]
    assert found.staying is not None
    assert found.staying.all()
    # then the one that half is free
    assert found.take(3, True, 1).tolist() == [START + 16]
    gone = [at for (at, _), stays in zip(held, found.staying, strict=True) if not stays]
    assert gone == [16, 17, 18, 19]
    assert (state[frames_of(np.array([8, 16]), np.array([3, 3], np.uint8))] == FRAME_HELD).all()
    with pytest.raises(ValueError, match="16 MiB are too little for what it frees"):
        found.take(4, True, 4)
