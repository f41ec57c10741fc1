"""Very long runs: the allocator against the twin, a state machine of calls, and a stream of operations
without end.

    python tests/soak.py twin STEPS     a seeded driver asks both for the same; dumps are compared every 1000
    steps python tests/soak.py machine STEPS  hypothesis' state machine of allocator calls, checked after each
    python tests/soak.py stream STEPS   operations in bounded memory, `verify()` at the end

Each resumes where it was interrupted (build/soak holds how far it came, and the seed of every stretch):
stretches of 10,000 steps (stream: 10 million) are independent, numbered, and seeded by their number.
"""

from __future__ import annotations

import json
import random
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from asi_pa import DESIGNS, Allocator
from asi_pa.allocator import OutOfMemoryError
from asi_pa.designs import as_design
from asi_pa.engine.machine import Machine as Engine
from asi_pa.kernel.gfp import parse_gfp
from tests.twin.machine import Machine

PLACE = Path(__file__).resolve().parent.parent / "build" / "soak"
MASKS = [
    parse_gfp(words)
    for words in (
        "GFP_KERNEL",
        "GFP_KERNEL|__GFP_SENSITIVE",
        "GFP_HIGHUSER_MOVABLE|__GFP_SENSITIVE",
        "GFP_ATOMIC",
        "GFP_KERNEL|__GFP_RECLAIMABLE|__GFP_SENSITIVE",
    )
]
NAMES = [name for name, design in DESIGNS.items() if name == design.name]


def twin(number: int) -> int:
    """10,000 steps of one design on a machine of 24 MiB, asked of both."""
    rng = random.Random(number)
    name = NAMES[number % len(NAMES)]
    spec = Allocator("24M", name, single_zone=True, cpus=2).spec
    machine = Engine(spec, name)  # without direct reclaim, as the twin is without a replay around it
    other = Machine(spec, as_design(name), machine.kernel)
    live: list[tuple[int, int]] = []
    for step in range(10_000):
        cpu = rng.randrange(2)
        what = rng.random()
        if live and (what < 0.46 or len(live) > 3000):
            pfn, order = live.pop(rng.randrange(len(live)))
            machine.free(pfn, order, cpu)
            other.free(pfn, order, cpu)
        elif what < 0.995:
            order, gfp = rng.choice([0, 0, 0, 0, 1, 2, 3, 9]), rng.choice(MASKS)
            got = machine.alloc(order, gfp, cpu)
            assert got == other.alloc(order, gfp, cpu), (number, step)
            if got >= 0:
                live.append((got, order))
        else:
            machine.drain(cpu)
            other.drain(cpu)
        if step % 1000 == 999:
            assert (machine.dump() == np.array(other.dump())).all(), (number, step)
            assert machine.verify() is None
    return 10_000


class Calls(RuleBasedStateMachine):
    """Any calls in any order: what is refused changes nothing, and nothing is ever broken."""

    def __init__(self) -> None:
        super().__init__()
        self.allocator = Allocator("24M", "migratetype", single_zone=True, cpus=2)
        self.live: list[tuple[int, int]] = []

    @rule(order=st.integers(-1, 11), mask=st.sampled_from(MASKS), cpu=st.integers(-1, 2))
    def alloc(self, order: int, mask: int, cpu: int) -> None:
        try:
            self.live.append((self.allocator.alloc_pages(order, mask, cpu=cpu), order))
        except (OutOfMemoryError, ValueError):
            return

    @rule(n=st.integers(0, 600), mask=st.sampled_from(MASKS))
    def bulk(self, n: int, mask: int) -> None:
        self.live += [(int(pfn), 0) for pfn in self.allocator.alloc_pages_bulk(0, mask, n)]

    @rule(which=st.integers(0, 1 << 20), order=st.integers(0, 10))
    def free(self, which: int, order: int) -> None:
        if not self.live:
            return
        pfn, mine = self.live[which % len(self.live)]
        try:
            self.allocator.free_pages(pfn, order)
        except ValueError:
            assert order != mine
        else:
            assert order == mine
            self.live.remove((pfn, mine))

    @rule(cpu=st.one_of(st.none(), st.integers(0, 1)))
    def drain(self, cpu: int | None) -> None:
        self.allocator.drain(cpu)

    @rule()
    def tick(self) -> None:
        self.allocator.tick()

    @invariant()
    def sound(self) -> None:
        assert self.allocator.verify() is None


def machine(number: int) -> int:
    """Some 10,000 steps of the state machine."""
    steps = 100
    run_state_machine_as_test(
        Calls,
        settings=settings(
            max_examples=100,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )
    return 100 * steps


def stream(number: int) -> int:
    """Ten million operations in bulk calls on one allocator, verified at the end."""
    rng = np.random.default_rng(number)
    allocator = Allocator("256M", NAMES[number % len(NAMES)], single_zone=True)
    done, held = 0, []
    while done < 10_000_000:
        got = allocator.alloc_pages_bulk(0, MASKS[int(rng.integers(len(MASKS)))], 4096)
        done += len(got)
        held.append(got)
        if len(held) > 8 or len(got) < 4096:
            gone = held.pop(int(rng.integers(len(held))))
            allocator.free_pages_bulk(gone)
            done += len(gone)
    assert allocator.verify() is None
    return done


KINDS: dict[str, tuple[Callable[[int], int], int]] = {
    "twin": (twin, 10_000),
    "machine": (machine, 10_000),
    "stream": (stream, 10_000_000),
}


def main() -> int:
    name, wanted = sys.argv[1], int(float(sys.argv[2]))
    one, size = KINDS[name]
    PLACE.mkdir(parents=True, exist_ok=True)
    state = PLACE / f"{name}.json"
    reached: dict[str, Any] = (
        json.loads(state.read_text()) if state.exists() else {"stretches": 0, "steps": 0}
    )
    while reached["steps"] < wanted:
        reached["steps"] += one(reached["stretches"])
        reached["stretches"] += 1
        state.write_text(json.dumps(reached))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(
        f"{name}: {reached['steps']:,} steps in {reached['stretches']} stretches of {size:,}, peak {peak} MiB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
