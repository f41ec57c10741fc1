"""The same operations do the same, whoever asks: a replay, the Allocator's single and bulk calls, the
Machine.

Every built-in design, and one whose slow path is Python.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("asi_pa.allocator.allocator", reason="the extension modules are not built")

from asi_pa import DESIGNS, Allocator
from asi_pa.allocator import OutOfMemoryError
from asi_pa.designs import Design
from asi_pa.trace import CompiledTrace, compile_trace, workload
from asi_pa.trace.compile import OP_ALLOC, OP_FREE, OP_TICK


class Ahead(Design):
    """Keeps a reserve of unmapped blocks, and chooses the blocks that flip itself."""

    def unmap_ahead(self, view: Any) -> int:
        unmapped = view.free_pages(mapped=False) // view.pageblock_pages
        return 8 - unmapped if unmapped < 2 else 0

    def choose_block(self, view: Any, order: int, freetype: str) -> int | None:
        return max(view.free_list(freetype, order), default=None)


#: Rules that no posting has, and the counter that shows that the trace comes upon them.
OWN_RULES = {
    "freetype:flip_used=move,flip_free=50": "moved_to_flip",
    "unmapped/sound:flip_used=move,flip_free=40,may_wait=any": "moved_to_flip",
    "unmapped/sound:unmap_low=512,unmap_high=2048,unmap_batch=3": "unmapped_ahead",
    "ours/two-way:unmap_low=512,unmap_high=4096,map_back=1,give_back=lazy": "flips_s2n",
    "pool/sound:refill_order=12,pool_by_node=yes": "pool_refills",
    "pool/sound:pool_low=600,pool_high=1536,give_back=lazy": "pool_refills",
    "migratetype/sound:zeroing=dirty,zeroed_by=worker": "flips_s2n",
    "rfcv2-queue/sound:may_wait=any,unmap_batch=3": "map_allocs",
}


def _designs() -> list[str | Design]:
    own = Ahead.based_on("migratetype", name="own-ahead", title="a reserve in Python")
    marks: list[str | Design] = [name for name, design in DESIGNS.items() if name == design.name]
    return [*marks, *OWN_RULES, "migratetype:unmap_low=2048,unmap_high=8192", own]


@pytest.fixture(scope="module")
def compiled() -> CompiledTrace:
    """Kernel and user memory in turn, full enough for failures and flips of both directions."""
    trace = compile_trace(workload("bursts", "32M", 3), "share=0.6", memory="24M", seed=5)
    assert set(np.unique(trace.ops["op"][:30000]).tolist()) <= {OP_ALLOC, OP_FREE, OP_TICK}
    return trace


Alloc = Callable[[int, int, int], int]
Free = Callable[[int, int, int], None]


def single(allocator: Allocator) -> tuple[Alloc, Free]:
    def alloc(order: int, gfp: int, cpu: int) -> int:
        try:
            return allocator.alloc_pages(order, gfp, cpu=cpu)
        except OutOfMemoryError:
            return -1

    return alloc, lambda pfn, order, cpu: allocator.free_pages(pfn, order, cpu=cpu)


def bulk(allocator: Allocator) -> tuple[Alloc, Free]:
    def alloc(order: int, gfp: int, cpu: int) -> int:
        got = allocator.alloc_pages_bulk(order, gfp, 1, cpu=cpu)
        return int(got[0]) if len(got) else -1

    return alloc, lambda pfn, order, cpu: allocator.free_pages_bulk(np.array([pfn]), order, cpu=cpu)


def machine(allocator: Allocator) -> tuple[Alloc, Free]:
    """The machine has no operations of its own to count: its caller lets kswapd run after every 100th."""
    engine, done = allocator.machine, 0

    def counted(cpu: int) -> None:
        nonlocal done
        done += 1
        if done % 100 == 0:
            engine.run_kswapd(cpu)

    def alloc(order: int, gfp: int, cpu: int) -> int:
        pfn = engine.alloc(order, gfp, cpu)
        counted(cpu)
        return pfn

    def free(pfn: int, order: int, cpu: int) -> None:
        engine.free(pfn, order, cpu)
        counted(cpu)

    return alloc, free


def play(allocator: Allocator, trace: CompiledTrace, alloc: Alloc, free: Free) -> list[int]:
    """The trace's operations by calls; the frees of what never got pages, which nobody calls."""
    slots: dict[int, int] = {}
    idle = []
    moves = allocator.design.flip_used == "move"
    for at, (op, order, cls, cpu, slot) in enumerate(trace.ops.tolist()):
        if op == OP_ALLOC:
            pfn = alloc(order, int(trace.classes[cls]), cpu)
            for before, after in allocator.moved().tolist() if moves else ():
                owner = next(owner for owner, page in slots.items() if page == before)
                slots[owner] = after
            if pfn >= 0:
                slots[slot] = pfn
        elif op == OP_FREE and slot in slots:
            free(slots.pop(slot), order, cpu)
        elif op == OP_FREE:
            idle.append(at)
        elif op == OP_TICK:
            allocator.tick()
    return idle


MOST = 12000


@pytest.mark.parametrize("design", _designs(), ids=lambda design: getattr(design, "name", design))
def test_every_way_to_ask(compiled: CompiledTrace, design: str | Design) -> None:
    # kswapd's turn comes by the number of operations: only those that a caller makes are replayed.
    ops = compiled.ops[:MOST][compiled.ops["op"][:MOST] != OP_TICK]
    trial = Allocator.from_trace(compiled, design)
    idle = play(trial, replace(compiled, ops=ops), *single(trial))
    trace = replace(compiled, ops=np.delete(ops, idle))
    replayed = Allocator.from_trace(trace, design)
    replayed.replay(0, len(trace.ops))
    dump, stats = replayed.machine.dump(), replayed.machine.stats()
    log = [tuple(record) for record in replayed.physmap.log()]
    for way in (single, bulk, machine):
        called = Allocator.from_trace(trace, design)
        assert play(called, trace, *way(called)) == []
        assert called.machine.stats() == stats, way.__name__
        assert (called.machine.dump() == dump).all(), way.__name__
        assert [tuple(record) for record in called.physmap.log()] == log, way.__name__
        assert called.verify() is None
    if design in OWN_RULES:
        assert stats[OWN_RULES[str(design)]] > 0


def test_the_workload_puts_the_worker_to_work(compiled: CompiledTrace) -> None:
    """Otherwise the comparison above would not notice that nobody calls it."""
    for design in ("migratetype/eager", _designs()[-1], _designs()[-2]):
        allocator = Allocator.from_trace(compiled, design)
        play(allocator, replace(compiled, ops=compiled.ops[:MOST]), *single(allocator))
        assert allocator.machine.stats()["unmapped_ahead"] > 0, design


def test_what_a_callback_raises_surfaces() -> None:
    """In the window where a step drops the zone lock, whoever asked."""

    def window(at: int, pfn: int, order: int) -> None:
        raise RuntimeError(f"seen at {at}")

    allocator = Allocator("64M", "migratetype", single_zone=True)
    allocator.machine.at_window(window)
    with pytest.raises(RuntimeError, match="seen at"):
        allocator.alloc_pages(0, 0xCC0)  # nothing is mapped yet: the first one flips
    allocator.machine.at_window(None)
    allocator.alloc_pages(0, 0x100CCA | 1 << 31)
    allocator.machine.at_window(window)
    with pytest.raises(RuntimeError, match="seen at"):
        allocator.alloc_pages_bulk(0, 0xCC0, 14000)
