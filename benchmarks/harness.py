"""What the benchmarks share: sizes, machines, contenders side by side, and how a result is recorded.

Sizes are small unless the environment variable ``ASI_PA_BENCH`` is ``full``: so ``make test`` runs every
benchmark once within seconds, ``make bench`` measures at the sizes that the questions are about.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.designs import DESIGNS, Design
from asi_pa.engine.machine import Machine
from asi_pa.experiment import build
from asi_pa.kernel.sizing import single_zone
from asi_pa.run.replay import Replay
from asi_pa.trace import CompiledTrace, compile_trace
from tests.twin import Machine as TwinMachine

from .limit import Limit
from .streams import ALLOC, Ops, Stream, stream

__all__ = [
    "BIG",
    "ROUNDS",
    "Ratio",
    "Twin",
    "alive_pages",
    "compiled_trace",
    "engine",
    "filled_engine",
    "filled_limit",
    "filled_twin",
    "free_pages",
    "interleaved",
    "measure",
    "prepared",
    "running",
    "trace_engine",
    "trace_limit",
    "zone_machine",
]

#: Full sizes asked for.
BIG = os.environ.get("ASI_PA_BENCH", "") == "full"
#: Rounds of a benchmark; its median is what counts.
ROUNDS = 7 if BIG else 1


def prepared(name: str) -> Stream:
    """A stream at the size of this run: full, or 64 MiB (e: 1 GiB, for its watermarks), 16 Ki operations."""
    if BIG:
        return stream(name, count=1 << 21 if name != "d" else 1 << 22)
    return stream(name, pages=1 << (18 if name == "e" else 14), count=1 << 14)


def zone_machine(
    pages: int, design: Design | str = "linux", *, pcp: bool = True, boot: bool = True
) -> Machine:
    """One zone of 7.2, limits derived from its size; ``pcp`` False: every request goes to the buddy."""
    return Machine(single_zone(pages * 4096, pcp=pcp), design, "7.2", boot=boot)


def engine(stream: Stream, design: Design | str = "linux", *, pcp: bool = True) -> Replay:
    """The engine, empty, ready for a stream."""
    return Replay(zone_machine(stream.pages, design, pcp=pcp), stream.classes, stream.nslots)


def filled_engine(stream: Stream, design: Design | str = "linux", *, pcp: bool = True) -> Replay:
    """The engine after the stream's fill."""
    replay = engine(stream, design, pcp=pcp)
    replay.run(stream.fill)
    return replay


def filled_limit(stream: Stream, *, arrays: bool = False) -> Limit:
    """The limit after the stream's fill; ``arrays``: with per-CPU arrays in front."""
    limit = Limit(stream.pages, stream.nslots, arrays=arrays)
    limit.run(stream.fill)
    return limit


class Twin:
    """The engine's twin in plain Python, as far as a stream needs it: allocations and frees by slot."""

    def __init__(self, stream: Stream) -> None:
        self.machine = TwinMachine(single_zone(stream.pages * 4096), "linux", "7.2")
        self.requests = stream.classes.tolist()
        self.held: dict[int, int] = {}

    def run(self, ops: Ops, start: int = 0, end: int | None = None) -> None:
        """Operations [start, end)."""
        for op, order, cls, cpu, slot in ops[start:end].tolist():
            if op == ALLOC:
                self.held[slot] = self.machine.alloc(order, self.requests[cls], cpu)
            else:
                self.machine.free(self.held[slot], order, cpu)


def filled_twin(stream: Stream) -> Twin:
    """The twin after the stream's fill."""
    twin = Twin(stream)
    twin.run(stream.fill)
    return twin


@lru_cache(maxsize=2)
def compiled_trace(name: str) -> CompiledTrace:
    """A bundled trace, compiled for a zone of the recorded size."""
    return compile_trace(name)


def trace_engine(compiled: CompiledTrace, design: Design | str = "linux") -> Replay:
    """The engine in a trace's initial state."""
    return build(compiled, design if isinstance(design, Design) else DESIGNS[design])[1]


def trace_limit(compiled: CompiledTrace, *, arrays: bool = False) -> Limit:
    """The limit in a trace's initial state: the same free blocks, the same allocations held."""
    zone = compiled.population[0]
    # Blocks merge by number, so frame 0 stands for an aligned pfn.
    base = zone.start_pfn >> 10 << 10
    frames = -(-(zone.start_pfn + zone.spanned - base) // 1024) * 1024
    limit = Limit(frames, compiled.nslots, boot=False, arrays=arrays)
    limit.load(
        (zone.free_pfn - np.uint32(base)).astype(np.uint32),
        zone.free_order,
        (zone.held_pfn - np.uint32(base)).astype(np.uint32),
        zone.held_slot,
    )
    return limit


def alive_pages(*parts: npt.NDArray[np.void]) -> int:
    """Pages allocated and not freed after these operations, if none of them failed."""
    return sum(
        int(((1 << part["order"].astype(np.int64)) * np.where(part["op"] == 1, 1, -1)).sum())
        for part in parts
    )


def free_pages(replay: Replay) -> int:
    """Free pages of a one-CPU engine, those on per-CPU lists with them."""
    return int(replay.free_pages().sum()) + replay.machine.counters()[0]


def measure(
    benchmark: Any,
    group: str,
    make: Callable[[], Any],
    run: Callable[[Any], Any],
    operations: int,
    **info: Any,
) -> Any:
    """One benchmark: ``run(make())``, a fresh state for every round; returns the last round's answer."""
    benchmark.group = group
    benchmark.extra_info["operations"] = operations
    benchmark.extra_info.update(info)
    return benchmark.pedantic(run, setup=lambda: ((make(),), {}), rounds=ROUNDS, warmup_rounds=int(BIG))


@dataclass(frozen=True)
class Ratio:
    """Nanoseconds per operation of contenders that ran in turn."""

    operations: int
    ns: dict[str, list[float]]
    """Contender -> one figure per round."""

    def median(self, name: str) -> float:
        return statistics.median(self.ns[name])

    def ratio(self, name: str, base: str) -> float:
        """Median over rounds of one contender's time over another's in the same round."""
        return statistics.median(a / b for a, b in zip(self.ns[name], self.ns[base], strict=True))

    def spread(self, name: str, base: str) -> tuple[float, float]:
        """Smallest and largest of these ratios."""
        pairs = [a / b for a, b in zip(self.ns[name], self.ns[base], strict=True)]
        return min(pairs), max(pairs)


def running(make: Callable[[], Any], ops: Any) -> Callable[[], Callable[[int, int], Any]]:
    """A contender for `interleaved`: a state that ``make`` makes runs parts of ``ops``."""

    def start() -> Callable[[int, int], Any]:
        state = make()
        return lambda a, b: state.run(ops, a, b)

    return start


def interleaved(
    contenders: Mapping[str, Callable[[], Callable[[int, int], Any]]],
    total: int,
    *,
    rounds: int = 5,
    slices: int = 16,
    clock: Callable[[], int] = time.thread_time_ns,
    operations: int | None = None,
    keep: Sequence[str] = (),
) -> Ratio:
    """Runs [0, total) through every contender in ``slices`` turns, ``rounds`` times.

    A contender is a function that builds its state and returns ``run(start, end)``.  Times are this thread's
    processor time, so that what else runs on the machine counts as little as possible.  Each round builds
    the states in another order, so that none has the same place in memory always.  Those in ``keep``
    keep their state from round to round and run the k-th part of the whole in round k.
    """
    ns: dict[str, list[float]] = {name: [] for name in contenders}
    kept = {name: contenders[name]() for name in keep}
    for index in range(rounds):
        names = list(contenders)
        order = names[index % len(names) :] + names[: index % len(names)]
        runs = {name: kept[name] if name in kept else contenders[name]() for name in order}
        spent = dict.fromkeys(runs, 0)
        start, end = (index * total // rounds, (index + 1) * total // rounds) if kept else (0, total)
        gc.disable()
        for k in range(slices):
            a, b = (start + (end - start) * i // slices for i in (k, k + 1))
            for name in order:
                begin = clock()
                runs[name](a, b)
                spent[name] += clock() - begin
            order = order[1:] + order[:1]
        gc.enable()
        done = (end - start) if operations is None else operations
        for name, value in spent.items():
            ns[name].append(value / max(done, 1))
    return Ratio(total if operations is None else operations, ns)
