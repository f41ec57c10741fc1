"""A moment of a replay: by the number of an operation, or as the K-th failure, flip, flush ...

A replay is run to it with the compiled loop, and then can be looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from asi_pa.designs import Design, as_design
from asi_pa.engine.machine import Machine
from asi_pa.experiment.cache import Cache
from asi_pa.experiment.points import compiled_at
from asi_pa.experiment.probe import Relief
from asi_pa.experiment.runs import build
from asi_pa.kernel.callers import WayOut
from asi_pa.run.replay import Replay
from asi_pa.trace import CompiledTrace, Trace, load_events

__all__ = ["WORDS", "Scene", "flushes"]

#: Operations between two looks at the counters, while an event is searched.
_STRIDE = 4096
Told = Callable[[str, int, int], None]


def _failed(run: Replay, _stats: dict[str, int], group: str) -> int:
    ways = run.failures_by_way_out().astype(np.int64)
    declined = int(ways[WayOut.OPPORTUNISTIC, 0])
    return {"real": int(ways[:, 0].sum()) - declined, "declined": declined, "huge": int(ways[:, 1].sum())}[
        group
    ]


#: What an event may be called: counted so far in a replay, whose counters are given.
WORDS: dict[str, Callable[[Replay, dict[str, int]], int]] = {
    "failure": lambda run, _: run.failures,
    "real": lambda run, stats: _failed(run, stats, "real"),
    "declined": lambda run, stats: _failed(run, stats, "declined"),
    "huge": lambda run, stats: _failed(run, stats, "huge"),
    "flip": lambda _, stats: stats["flips_s2n"] + stats["flips_n2s"],
    "fallback": lambda _, stats: stats["extfrag_events"],
    "refill": lambda _, stats: stats["pool_refills"],
    "flush": lambda run, _: flushes(run.machine),
    "compaction": lambda _, stats: stats["compactions"],
    "kswapd": lambda _, stats: stats["kswapd_wakeups"],
}


def flushes(machine: Machine) -> int:
    """TLB flushes so far."""
    counters = machine.physmap.counters() if machine.physmap is not None else None
    return 0 if counters is None else counters.flushes_ranged + counters.flushes_full


@dataclass(frozen=True)
class Scene:
    """What a replay is made of, so that it can be made again."""

    compiled: CompiledTrace
    design: Design
    kernel: str | None
    relief: Relief
    seed: int

    @classmethod
    def of(
        cls,
        trace: Trace | str,
        design: str | Design,
        memory: str | int | None,
        classifier: str,
        kernel: str | None,
        relief: Relief | None,
        seed: int,
        recorded: bool = False,
        nodes: int | str = "recorded",
        cache: Cache | None = None,
    ) -> Scene:
        """As `asi-pa compare` makes one; ``relief`` None: its own; ``cache``: where compiled traces are.

        Raises ValueError for what cannot be.
        """
        chosen = as_design(design)
        relief = Relief() if relief is None else relief
        compiled = compiled_at(
            load_events(trace), classifier, memory, seed, recorded=recorded, nodes=nodes, kernel=kernel,
            relief=relief, cache=cache,
        )  # fmt: skip
        return cls(compiled, chosen, kernel, relief, seed)

    def at(self, operations: int) -> Replay:
        """A replay of which so many operations are done."""
        options = self.relief.options()
        _, run, _ = build(self.compiled, self.design, self.kernel, seed=self.seed, **options)
        run.run(self.compiled.ops, 0, operations)
        return run

    def operation(self, event: str | int, progress: Told | None = None) -> int:
        """The number of the operation that an event is: its own number, or a word of `WORDS`, with ``:K``.

        Raises ValueError for one that does not come.
        """
        operations = len(self.compiled.ops)
        text = str(event).replace(",", "")
        match = re.fullmatch(r"([a-z]+)(?::(\d+))?", text)
        if match and match[1] in WORDS:
            which = int(match[2] or 1)
            if not which:
                raise ValueError(f"event {event}: the first is {match[1]}:1")
            return self._found(match[1], which, progress)
        if not text.isdecimal():
            words = ", ".join(WORDS)
            raise ValueError(f"event {event!r} is neither the number of an operation nor one of {words} (:K)")
        if int(text) >= operations:
            last = operations - 1
            raise ValueError(f"event {event}: the replay has {operations:,} operations, 0 to {last:,}")
        return int(text)

    def _found(self, word: str, which: int, progress: Told | None) -> int:
        """The operation in which the ``which``-th happens."""
        count, ops = WORDS[word], self.compiled.ops
        run = self.at(0)
        begun = count(run, run.machine.stats())  # while the start state was made
        for at in range(0, len(ops), _STRIDE):
            run.run(ops, at, at + _STRIDE)
            if progress is not None:
                progress(f"looking for {word} {which}", min(at + _STRIDE, len(ops)), len(ops))
            if count(run, run.machine.stats()) - begun >= which:
                break
        else:
            found = count(run, run.machine.stats()) - begun
            raise ValueError(f"{word} {which:,} does not come: {found:,} in {len(ops):,} operations")
        run = self.at(at)
        while count(run, run.machine.stats()) - begun < which:
            run.run(ops, at, at + 1)
            at += 1
        return at - 1
