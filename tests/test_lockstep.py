"""The engine and its twin, driven together through random operations: same answers, same state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from asi_pa.gfp import GFP_NAMES, MODEL_LRU
from asi_pa.machine import MachineSpec, PcpSpec
from tests.twin import Machine as Twin
from tests.twin.dump import first_difference
from tests.twin.engines import small_spec

engine = pytest.importorskip("asi_pa._machine", reason="the extension modules are not built")

BASE = 4096
MAX_ORDER = 4
BLOCK = 8
KINDS = [0, GFP_NAMES["__GFP_MOVABLE"], GFP_NAMES["__GFP_RECLAIMABLE"]]
CONTEXTS = [
    GFP_NAMES["__GFP_NOMEMALLOC"],
    GFP_NAMES["GFP_NOWAIT"],
    GFP_NAMES["GFP_ATOMIC"],
    GFP_NAMES["GFP_KERNEL"],
    GFP_NAMES["__GFP_MEMALLOC"],
]
LRU = GFP_NAMES["__GFP_COMP"] | MODEL_LRU
CPUS = 2

kinds = st.sampled_from(KINDS)
contexts = st.sampled_from(CONTEXTS)
orders = st.integers(0, MAX_ORDER)
cpus = st.integers(0, CPUS - 1)


@st.composite
def specs(draw: st.DrawFn) -> MachineSpec:
    pages = draw(st.sampled_from([61, 128, 1024]))
    low = draw(st.sampled_from([0, pages // 8]))
    holes: tuple[tuple[int, int], ...] = draw(st.sampled_from([(), ((BASE + 13, BASE + 19),)]))
    return small_spec(
        start=BASE,
        pages=pages,
        max_page_order=MAX_ORDER,
        cpus=CPUS,
        holes=holes,
        cma=draw(st.sampled_from([(), ((BASE + 24, BASE + 56),)])),
        wmark=(low, low * 5 // 4, low * 3 // 2, low * 7 // 4),
        lowmem_reserve=(0, 0, draw(st.sampled_from([0, 3])), 3),
        pcp=draw(
            st.sampled_from(
                [None, PcpSpec(batch=3, high_min=12, high_max=40), PcpSpec(batch=2, high_min=9, high_max=9)]
            )
        ),
        stat_threshold=draw(st.sampled_from([0, 3])),
        boost_factor=draw(st.sampled_from([0, 15000])),
        nofragment=draw(st.booleans()),
        defrag_mode=draw(st.booleans()),
    )


class Lockstep(RuleBasedStateMachine):
    """Every rule asks both machines; the invariant compares every word of their states."""

    def __init__(self) -> None:
        super().__init__()
        self.pair: tuple[Any, Any] = (None, None)
        self.held: list[tuple[int, int]] = []
        self.contiguous: list[tuple[int, int]] = []
        self.isolated: list[tuple[int, int]] = []

    def both(self, method: str, *arguments: Any) -> Any:
        """The answer that both give, be it an exception."""
        answers = []
        for machine in self.pair:
            try:
                answers.append(getattr(machine, method)(*arguments))
            except ValueError:
                answers.append("refused")
        assert answers[0] == answers[1], f"{method}{arguments}: twin {answers[0]}, engine {answers[1]}"
        return answers[0]

    @initialize(spec=specs(), kernel=st.sampled_from(["7.2", "6.18", "6.12"]), below_high=st.booleans())
    def build(self, spec: MachineSpec, kernel: str, below_high: bool) -> None:
        self.pair = (Twin(spec, "linux", kernel), engine.Machine(spec, "linux", kernel))
        self.end = spec.zones[0].end_pfn
        for machine in self.pair:
            machine.restore(0, below_high, 0)

    def allocate(self, order: int, gfp: int, cpu: int) -> bool:
        pfn = self.both("alloc", order, gfp, cpu)
        if pfn < 0:
            return False
        self.held.append((pfn, order))
        return True

    @rule(order=orders, kind=kinds, context=contexts, lru=st.booleans(), cpu=cpus)
    def alloc(self, order: int, kind: int, context: int, lru: bool, cpu: int) -> None:
        self.allocate(order, kind | context | LRU * lru, cpu)

    @rule(order=st.integers(0, 2), kind=kinds, context=contexts, lru=st.booleans(), cpu=cpus)
    def fill(self, order: int, kind: int, context: int, lru: bool, cpu: int) -> None:
        for _ in range(40):
            if not self.allocate(order, kind | context | LRU * lru, cpu):
                break

    @precondition(lambda self: self.held)
    @rule(choice=st.randoms(use_true_random=False), count=st.integers(1, 30), cpu=cpus)
    def free(self, choice: Any, count: int, cpu: int) -> None:
        for _ in range(min(count, len(self.held))):
            pfn, order = self.held.pop(choice.randrange(len(self.held)))
            assert self.both("free", pfn, order, cpu) is None

    @rule(offset=st.integers(-2, 140), order=st.integers(-1, MAX_ORDER + 1), cpu=st.integers(-1, CPUS))
    def free_anything(self, offset: int, order: int, cpu: int) -> None:
        pfn = BASE + offset
        if self.both("free", pfn, order, cpu) is not None:
            return
        if (pfn, order) in self.held:
            self.held.remove((pfn, order))
        else:  # a page of a contiguous range: the rest of it stays in use
            self.contiguous = [(at, n) for at, n in self.contiguous if not at <= pfn < at + n]

    @rule(cpu=cpus)
    def drain(self, cpu: int) -> None:
        self.both("drain", cpu)

    @rule(cpu=cpus)
    def tick(self, cpu: int) -> None:
        self.both("tick", cpu)

    @rule(freetype=st.integers(0, 2), force=st.booleans())
    def unreserve(self, freetype: int, force: bool) -> None:
        self.both("unreserve_highatomic", freetype, force)

    @rule(start=st.integers(0, 120), length=st.integers(1, 40), mode=st.sampled_from([1, 2]))
    def isolate(self, start: int, length: int, mode: int) -> None:
        reach = (BASE + start // BLOCK * BLOCK, min(BASE + start + length, self.end))
        if reach[0] < reach[1] and self.both("isolate", *reach, mode) == 0:
            self.isolated.append(reach)

    @precondition(lambda self: self.isolated)
    @rule(choice=st.randoms(use_true_random=False))
    def unisolate(self, choice: Any) -> None:
        self.both("unisolate", *self.isolated.pop(choice.randrange(len(self.isolated))))

    @rule(start=st.integers(0, 120), length=st.integers(1, 40), cma=st.booleans())
    def contiguous_range(self, start: int, length: int, cma: bool) -> None:
        end = min(BASE + start + length, self.end)
        if BASE + start < end and self.both("alloc_contig_range", BASE + start, end, cma) == 0:
            self.contiguous.append((BASE + start, end - BASE - start))

    @precondition(lambda self: self.contiguous)
    @rule(choice=st.randoms(use_true_random=False))
    def free_contiguous(self, choice: Any) -> None:
        self.both("free_contig_range", *self.contiguous.pop(choice.randrange(len(self.contiguous))))

    @rule(freetype=st.integers(0, 5), order=orders)
    def take_and_putback(self, freetype: int, order: int) -> None:
        self.both("take_and_putback", freetype, order)

    @invariant()
    def same_state(self) -> None:
        twin, compiled = self.pair
        if twin is None:
            return
        ours, theirs = twin.dump(), compiled.dump()
        if not np.array_equal(ours, theirs):
            raise AssertionError(first_difference(ours.tolist(), theirs.tolist()))

    def teardown(self) -> None:
        for machine in self.pair:
            assert machine is None or machine.verify() is None


TestLockstep = Lockstep.TestCase
TestLockstep.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    # With a failure in hand add Phase.shrink: minutes of work, and a few steps left to look at.
    phases=[Phase.generate],
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
