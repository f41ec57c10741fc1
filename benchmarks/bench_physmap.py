"""What do map and unmap cost in the page tables: whole pageblocks, single pages, split leaves?"""

from __future__ import annotations

import pytest

from asi_pa.physmap.physmap import Physmap

from .harness import BIG, measure

BLOCKS = 1 << (12 if BIG else 6)
PAGES = BLOCKS * 512


@pytest.mark.parametrize("step", [512, 1])
def test_map_unmap(benchmark, step):
    # Calls from Python; as many of single pages as of pageblocks, in blocks split beforehand.
    count = BLOCKS

    def make():
        physmap = Physmap(0, PAGES, log_limit=1 << 20)
        if step == 1:
            for block in range(BLOCKS // 512 + 1):
                physmap.map(block * 512, 1, tree="restricted")
        return physmap

    def run(physmap):
        for at in range(count):
            physmap.map(at * step, step, tree="restricted")
        mapped = physmap.mapped_pages()
        for at in range(count):
            physmap.unmap(at * step, step, tree="restricted")
        return mapped

    mapped = measure(benchmark, f"map and unmap, {step} pages a call", make, run, 2 * count)
    assert count * step <= mapped <= count * step + BLOCKS


def test_map_of_everything(benchmark):
    physmap = measure(
        benchmark,
        "map and unmap, all in one call",
        lambda: Physmap(0, PAGES, log_limit=1 << 20),
        lambda physmap: physmap.asi_map(0, PAGES) or physmap.asi_unmap(0, PAGES) or physmap,
        2 * BLOCKS,
    )
    assert physmap.mapped_pages() == 0


def test_split(benchmark):
    def run(physmap):
        for block in range(BLOCKS):
            physmap.map(block * 512, 1, tree="restricted")
        return physmap.leaf_counts()

    leaves = measure(benchmark, "split a 2M leaf", lambda: Physmap(0, PAGES), run, BLOCKS)
    assert leaves["4K"] == BLOCKS
