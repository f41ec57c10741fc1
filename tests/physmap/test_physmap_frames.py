"""The physmap against a reference that knows only single frames, and its log against itself."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from asi_pa.physmap.physmap import Physmap
from asi_pa.physmap.records import PAGE_OFFSET, Cause, LogOp, PageBit

TREES = ("unrestricted", "restricted")
SIZES = {"4K": 1, "2M": 2, "1G": 3}
BLOCK = 512
GIB = 1 << 18


class Reference:
    """Every frame by itself: the level of its leaf, presence, RW and NX, in both trees."""

    def __init__(self, start: int, pages: int, max_leaf: str, mirror: bool, skip: bool) -> None:
        self.start, self.pages, self.mirror, self.skip = start, pages, mirror, skip
        self.level = np.ones((2, pages), np.int8)
        self.bits = {
            "present": np.array([[True] * pages, [False] * pages]),
            "rw": np.ones((2, pages), bool),
            "nx": np.ones((2, pages), bool),
            "dirty": np.ones((2, pages), bool),
        }
        self.exists = np.ones((2, pages), bool)
        self.writes = np.zeros((2, 4), int)
        self.splits = np.zeros((2, 4), int)
        for tree, most in ((0, SIZES[max_leaf]), (1, min(SIZES[max_leaf], 2))):
            for level in range(2, most + 1):
                span = 1 << 9 * (level - 1)
                first = -(-start // span) * span
                for pfn in range(first, start + pages - span + 1, span):
                    self.level[tree, pfn - start : pfn - start + span] = level

    def leaf(self, tree: int, at: int) -> slice:
        span = 1 << 9 * (int(self.level[tree, at]) - 1)
        base = (at + self.start) // span * span - self.start
        return slice(base, base + span)

    def split(self, tree: int, at: int) -> None:
        leaf = self.leaf(tree, at)
        self.splits[tree, self.level[tree, at]] += 1
        self.level[tree, leaf] -= 1

    def change(self, tree: int, at: int, n: int, **bits: bool) -> int:
        """Write leaves that differ, splitting those that reach out of the range; leaves written."""
        wrote = 0
        end = at + n
        while at < end:
            leaf = self.leaf(tree, at)
            if self.exists[tree, at] and any(self.bits[b][tree, at] != value for b, value in bits.items()):
                if leaf.start < at or leaf.stop > end:
                    self.split(tree, at)
                    continue
                for bit, value in bits.items():
                    self.bits[bit][tree, leaf] = value
                self.writes[tree, self.level[tree, at]] += 1
                wrote += 1
            at = min(leaf.stop, end)
        return wrote

    def asi_map(self, at: int, n: int) -> None:
        end = at + n
        while at < end:
            block = min(end, (at + self.start) // BLOCK * BLOCK + BLOCK - self.start)
            self.map_within_block(at, block)
            at = block

    def map_within_block(self, at: int, end: int) -> None:
        whole = end - at == BLOCK
        levels = self.level[:, at]
        if whole and self.skip and levels[0] != levels[1]:
            return
        if levels[1] == 2:
            if whole and levels[0] >= 2:
                self.copy(at, end, 2)
                return
            if not whole and self.bits["present"][1, at]:
                return
            self.split(1, at)
        self.copy(at, end, 1)

    def copy(self, at: int, end: int, level: int) -> None:
        for values in self.bits.values():
            values[1, at:end] = values[0, at:end]
        self.writes[1, level] += 1 if level == 2 else end - at


def assert_same(physmap: Physmap, ref: Reference) -> None:
    """Every leaf of both trees, found by walking from the PGD, is what the reference says."""
    for tree, name in enumerate(TREES):
        found, at = [], 0
        while at < ref.pages:
            steps = physmap.walk(PAGE_OFFSET + ((ref.start + at) << 12), tree=name)
            level = 5 - len(steps)
            found.append((at, level, steps[-1].entry))
            span = 1 << 9 * (level - 1)
            at = (at + ref.start) // span * span + span - ref.start
        first = np.array([leaf[0] for leaf in found])
        level_of = np.array([leaf[1] for leaf in found])
        entries = np.array([leaf[2] for leaf in found], np.uint64)
        pages = np.diff(first, append=ref.pages)
        for bit in ref.bits:
            mask = PageBit[bit.upper()]
            value = np.repeat((entries & np.uint64(mask)) != 0, pages)
            assert np.array_equal(value, ref.bits[bit][tree]), (name, bit)
        assert np.array_equal(np.repeat(level_of, pages), ref.level[tree])
        assert np.array_equal((entries >> np.uint64(12)) & np.uint64((1 << 40) - 1), first + ref.start)
        assert np.array_equal((entries & np.uint64(PageBit.PSE)) != 0, level_of > 1)
        present = (entries & np.uint64(PageBit.PRESENT)) != 0
        assert not (entries & np.uint64(PageBit.GLOBAL)).any()
        assert physmap.mapped_pages(tree=name) == pages[present].sum()
        for size, level in SIZES.items():
            assert physmap.leaf_counts(tree=name, present=False)[size] == (level_of == level).sum()
            assert physmap.leaf_counts(tree=name)[size] == (present & (level_of == level)).sum()
    counters = physmap.counters()
    for tree in range(2):
        assert counters.leaf_writes[tree] == tuple(ref.writes[tree, 1:])
        assert (counters.splits_2m[tree], counters.splits_1g[tree]) == tuple(ref.splits[tree, 2:])
        assert counters.tables_allocated[tree] == ref.splits[tree].sum()
    assert counters.flushes_split == ref.splits.sum()


PAGES = GIB + 3 * BLOCK + 5
START = GIB - BLOCK - 7

#: Places where something happens: the ragged start, block edges, the 1G leaf's edges, the ragged end.
PLACES = st.sampled_from([0, 7, 7 + BLOCK, 7 + 2 * BLOCK, 7 + GIB, 7 + BLOCK + GIB, 7 + 2 * BLOCK + GIB])
LENGTHS = st.sampled_from([1, 2, 33, 34, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, GIB])
OPS = st.sampled_from(["map", "unmap", "asi_map", "asi_unmap", "ro", "rw", "nx", "x"])
STEPS = st.lists(st.tuples(OPS, PLACES, st.sampled_from([0, 0, 0, 1, -1]), LENGTHS), min_size=8, max_size=16)


def run(physmap: Physmap, ref: Reference, steps: list[tuple[str, int, int, int]]) -> None:
    for op, place, nudge, length in steps:
        at = max(0, (place + nudge) % ref.pages)
        n = min(length, ref.pages - at)
        apply(physmap, ref, op, at, n)
        trouble = physmap.check()
        assert trouble is None or not ref.mirror
        assert trouble is None or "protection differs" in trouble or "absent from" in trouble
    assert_same(physmap, ref)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(STEPS, st.sampled_from(["4K", "2M"]), st.booleans(), st.booleans())
def test_against_frames(
    steps: list[tuple[str, int, int, int]], max_leaf: str, mirror: bool, skip: bool
) -> None:
    start, pages = START + GIB - 3 * BLOCK, 6 * BLOCK + 5
    physmap = Physmap(start, pages, max_leaf=max_leaf, mirror=mirror, as_posted_skip=skip, cpus=3)
    run(physmap, Reference(start, pages, max_leaf, mirror, skip), steps)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(STEPS, st.booleans(), st.booleans())
def test_against_frames_with_a_1g_leaf(
    steps: list[tuple[str, int, int, int]], mirror: bool, skip: bool
) -> None:
    physmap = Physmap(START, PAGES, max_leaf="1G", mirror=mirror, as_posted_skip=skip, cpus=3)
    run(physmap, Reference(START, PAGES, "1G", mirror, skip), steps)


def apply(physmap: Physmap, ref: Reference, op: str, at: int, n: int) -> None:
    pfn = ref.start + at
    before = physmap.counters()
    if op == "asi_map":
        physmap.map(pfn, n, tree="restricted")
        ref.asi_map(at, n)
        flushes = 0
    elif op == "map":
        physmap.map(pfn, n)
        ref.change(0, at, n, present=True, rw=True)
        flushes = 0
    elif op == "asi_unmap":
        physmap.unmap(pfn, n, tree="restricted")
        ref.change(1, at, n, present=False)
        flushes = 1
    elif op == "unmap":
        physmap.unmap(pfn, n)
        if ref.mirror:
            ref.change(1, at, n, present=False)
        ref.change(0, at, n, present=False, rw=False, dirty=False)
        flushes = 1
    else:
        ro = {"rw": False, "dirty": False}
        bits = {"ro": ro, "rw": {"rw": True}, "nx": {"nx": True}, "x": {"nx": False}}
        getattr(physmap, f"set_memory_{op}")(pfn, n)
        wrote = ref.change(1, at, n, **bits[op]) if ref.mirror else 0
        wrote += ref.change(0, at, n, **bits[op])
        flushes = int(wrote > 0)
    after = physmap.counters()
    full = after.flushes_full - before.flushes_full - (after.flushes_split - before.flushes_split)
    ranged = after.flushes_ranged - before.flushes_ranged
    assert (ranged, full) == ((flushes, 0) if n <= 33 else (0, flushes))
    all_flushes = after.flushes_full + after.flushes_ranged
    assert after.ipis == 2 * all_flushes
    assert after.flushes_others == after.flushes_ranged


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 7), st.integers(1, 5)), min_size=8, max_size=30))
def test_log_replays_to_the_same_tree(steps: list[tuple[bool, int, int]]) -> None:
    """The log alone, applied to a fresh physmap, gives the restricted tree."""
    first, second = Physmap(0, 8 * BLOCK), Physmap(0, 8 * BLOCK)
    for mapping, block, n in steps:
        n = min(n, 8 - block)
        (first.asi_map if mapping else first.asi_unmap)(block * BLOCK, n * BLOCK, Cause.FLIP)
    for record in first.log():
        assert record["cause"] == Cause.FLIP
        assert record["tree"] == 1
        assert record["level"] == 2
        if record["count"]:
            operation = second.asi_map if record["op"] == LogOp.MAP else second.asi_unmap
            operation(int(record["pfn"]), int(record["count"]) * BLOCK)
    for pfn in range(0, 8 * BLOCK, BLOCK):
        assert first.lookup(pfn) == second.lookup(pfn)
