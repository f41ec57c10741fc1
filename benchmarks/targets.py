"""Every target of docs/engine/performance.md from one command: measured ratios as JSON and as the document's
table.

``python -m benchmarks.targets`` measures (about five minutes and 6 GB; ``--most 64G`` for a smaller machine),
writes docs/engine/performance.json and docs/engine/growth.svg and puts the table between the marks in
docs/engine/performance.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from asi_pa import __version__
from asi_pa.allocator import Allocator
from asi_pa.audit import audit
from asi_pa.audit.scopes import Scope, scaled, scopes
from asi_pa.designs import DESIGNS, Design, as_design
from asi_pa.engine.machine import Machine
from asi_pa.experiment import SAMPLES, Series, build
from asi_pa.kernel.gfp import GFP_HIGHUSER_MOVABLE
from asi_pa.kernel.sizing import parse_size
from asi_pa.run.replay import OP, Replay
from asi_pa.trace import Classifier, load_trace
from asi_pa.trace.compile import operations as compiled_operations
from asi_pa.trace.text import read_text

from .bench_calls import PAIRS, run_empty
from .bench_unused import machine
from .harness import (
    Ratio,
    compiled_trace,
    filled_engine,
    filled_limit,
    filled_twin,
    interleaved,
    running,
    trace_engine,
    trace_limit,
    zone_machine,
)
from .instructions import count
from .limit import Empty, Memory, copy_memory, set_memory
from .peers import PEERS, filled_peer, library
from .streams import CLASSES, Stream, churn_c, delay_for, fill_c, stream
from .text import perf_text, read_with_regex

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "engine" / "performance.md"
RESULTS = DOCUMENT.with_suffix(".json")
PLOT = DOCUMENT.with_name("growth.svg")
MARKS = ("<!-- measured: begin -->", "<!-- measured: end -->")
ROUNDS = 9
#: Bytes of a small zone's lists and arrays, generously.
STATE = 4096
#: Instructions of Linux 7.2 for a pair, in bursts and where each splits and merges up to the largest order;
#: and the share of them that ours are to stay below.
KERNEL = {
    ("pair", "pcp"): (640, 0.2),
    ("pair", "buddy"): (960, 0.2),
    ("ping-pong pair", "buddy"): (1900, None),
}
#: Nanoseconds an operation of the engine where the peers were measured first (4b14e43, one quiet machine).
ELSEWHERE = {"a": 5.8, "b": 13.5, "c": 15.2}

Row = dict[str, Any]


def row(what: str, value: float | None, target: float | None, note: str = "") -> Row:
    return {"what": what, "value": value, "target": target, "note": note}


def spread(ratio: Ratio, name: str, base: str) -> str:
    low, high = ratio.spread(name, base)
    return f"{ratio.median(name):.1f} against {ratio.median(base):.1f} ns; {low:.2f} to {high:.2f}"


def counted(name: str, contender: str, base: str = "limit") -> str:
    """The instructions of an operation, for a note; nothing without valgrind."""
    found = count()
    if (name, contender) not in found:
        return ""
    return f"; {found[name, contender]:.0f} instructions, the {base} {found[name, base]:.0f}"


def streams() -> Iterator[Row]:
    """Replay against the limits: the buddy against the bare one, per-CPU lists against that with arrays."""
    targets = {"a": (1.3, 1.6), "b": (1.3, 1.2), "c": (1.3, 1.4), "d": (None, None), "e": (None, None)}
    for name, (buddy, pcp) in targets.items():
        made = stream(name, count=ROUNDS << 19)
        contenders = {
            "limit": running(partial(filled_limit, made), made.ops),
            "array limit": running(partial(filled_limit, made, arrays=True), made.ops),
            "buddy": running(partial(filled_engine, made, pcp=False), made.ops),
            "pcp": running(partial(filled_engine, made), made.ops),
        }
        there, missing = peers_for(name)
        contenders |= {peer: running(partial(filled_peer, peer, made), made.ops) for peer in there}
        found = interleaved(contenders, len(made.ops), rounds=ROUNDS, keep=list(contenders))
        for path, base, target in (
            ("buddy", "limit", buddy),
            ("pcp", "array limit", pcp),
            ("pcp", "limit", None),
        ):
            note = spread(found, path, base) + counted(name, path, base)
            yield row(f"stream {name}, {path}, against the {base}", found.ratio(path, base), target, note)
        for peer in there:
            what = f"stream {name}, pcp, against {peer}"
            yield row(what, found.ratio("pcp", peer), 1.0, spread(found, "pcp", peer))
        for peer in missing:
            took = f"{PEERS[peer].elsewhere[name]} ns where the engine took {ELSEWHERE[name]}"
            note = f"not built here; elsewhere {took}"
            yield row(f"stream {name}, pcp, against {peer}", None, 1.0, note)


def peers_for(stream_name: str) -> tuple[list[str], list[str]]:
    """The peers that are built, and those that are not, for a stream that they were measured on."""
    names = [name for name, source in PEERS.items() if stream_name in source.elsewhere]
    return [n for n in names if library(n).exists()], [n for n in names if not library(n).exists()]


def twin() -> Row:
    """The same rules in plain Python, on a zone of 256 MiB."""
    made = stream("a", 1 << 16, 1 << 15)
    contenders = {
        "engine": running(partial(filled_engine, made), made.ops),
        "twin": running(partial(filled_twin, made), made.ops),
    }
    found = interleaved(contenders, len(made.ops), slices=1)
    note = f"{found.median('engine'):.1f} against {found.median('twin'):,.0f} ns"
    return row("stream a, pcp, times faster than plain Python", found.ratio("twin", "engine"), None, note)


def instructions() -> Iterator[Row]:
    """Instructions per pair, against a fifth of the kernel's."""
    for (name, path), (kernel, target) in KERNEL.items():
        found, what = count(), f"instructions a {name}, {path}, against Linux"
        if found:
            ours, limit = (2 * found[name, contender] for contender in (path, "limit"))
            yield row(what, ours / kernel, target, f"{ours:.0f} instructions, the limit {limit:.0f}")
        else:
            yield row(what, None, target, "needs valgrind")


def traces() -> Iterator[Row]:
    """Recorded traces: the limit, Linux, the designs."""
    designs = ("migratetype", "freetype/as-posted")
    for name in ("redis", "net"):
        compiled = compiled_trace(name)
        contenders = {"limit": running(partial(trace_limit, compiled), compiled.ops)}
        for design in ("linux", *designs):
            contenders[design] = running(partial(trace_engine, compiled, design), compiled.ops)
        found = interleaved(contenders, len(compiled.ops), rounds=5)
        note = spread(found, "linux", "limit") + counted(name, "linux")
        yield row(f"trace {name}, linux, against the limit", found.ratio("linux", "limit"), 1.25, note)
        for design in designs:
            note = spread(found, design, "linux") + counted(name, design)
            yield row(f"trace {name}, {design}, against linux", found.ratio(design, "linux"), 1.15, note)


def features() -> Iterator[Row]:
    """Features that are there and unused, against a machine without; per-CPU lists, against none."""
    made = stream("a", count=1 << 19)
    contenders = {
        name: running(partial(filled_feature, name, made), made.ops)
        for name in ("plain", "cma", "eight CPUs", "event log", "design with a physmap")
    }
    contenders["no pcp"] = running(partial(filled_engine, made, pcp=False), made.ops)
    # Every round builds its machines anew: a twentieth either way depends on where their memory lies.
    found = interleaved(contenders, len(made.ops), rounds=5 * ROUNDS)
    note = spread(found, "plain", "no pcp")
    yield row("stream a, pcp, against buddy", found.ratio("plain", "no pcp"), 1.0, note)
    for name in list(contenders)[1:-1]:
        note, target = spread(found, name, "plain"), 1.15 if name.startswith("design") else 1.05
        yield row(f"stream a, {name}, unused, against without", found.ratio(name, "plain"), target, note)


def tracked() -> Row:
    """A tracked design with its physmap on a large machine, against Linux there."""
    pages = 1 << 24
    made = stream("c", pages=pages, count=ROUNDS << 18)
    contenders = {
        name: running(partial(filled_engine, made, name), made.ops) for name in ("linux", "migratetype")
    }
    found = interleaved(contenders, len(made.ops), rounds=ROUNDS, keep=list(contenders))
    note = spread(found, "migratetype", "linux")
    what = "stream c, 64 GiB, migratetype with its physmap, against linux"
    return row(what, found.ratio("migratetype", "linux"), 1.2, note)


def filled_feature(name: str, made: Stream) -> Replay:
    state = Replay(machine(name, made.pages), made.classes, made.nslots)
    state.run(made.fill)
    return state


def seconds(run: Callable[[], Any], clock: Callable[[], float] = time.thread_time) -> float:
    gc.collect()
    begin = clock()
    run()
    return clock() - begin


def medians(
    *runs: Callable[[], Any],
    rounds: int = 5,
    clock: Callable[[], float] = time.thread_time,
    pick: Callable[[list[float]], float] = statistics.median,
) -> list[float]:
    """Median seconds of each, in turn, or what else to ``pick``."""
    spent: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, times in zip(runs, spent, strict=True):
            times.append(seconds(run, clock))
    return [pick(times) for times in spent]


def clock_seconds() -> float:
    """What looking at the thread's clock takes: a call of the system, as long as what is measured here."""
    return statistics.median(-(time.thread_time() - time.thread_time()) for _ in range(1000))


def observation() -> Iterator[Row]:
    """Samples of everything that a comparison shows, against the replay between; last as often as it does.

    Both without the clock's own time.
    """
    compiled = compiled_trace("net")
    for every in (100_000, len(compiled.ops) // SAMPLES):
        shares, costs, per_op = [], [], []
        for _ in range(5):
            machine, run, _notes = build(compiled, DESIGNS["linux"])
            series = Series(machine, compiled)
            series.sample(0)
            replayed = sampled = 0.0
            clock = clock_seconds()
            stops = [*range(0, len(compiled.ops), every), len(compiled.ops)]
            for start, stop in pairwise(stops):
                begin = time.thread_time()
                run.run(compiled.ops, start, stop)
                middle = time.thread_time()
                series.sample(stop)
                replayed += middle - begin - clock
                sampled += time.thread_time() - middle - clock
            shares.append(1 + sampled / replayed)
            costs.append(1e6 * sampled / (len(stops) - 1))
            per_op.append(1e9 * replayed / len(compiled.ops))
        note = f"{statistics.median(costs):.1f} us a sample, {statistics.median(per_op):.0f} ns an operation"
        yield row(f"observation every {every:,} operations (net)", statistics.median(shares), 1.05, note)


def growth(most: int) -> Iterator[Row]:
    """Stream c from 1 GiB up, against pointer chasing over the same footprint."""
    base: dict[str, float] = {}
    gib = 1
    while gib << 30 <= most:
        pages = gib << 18
        begin = time.thread_time()
        machine = zone_machine(pages)
        built = time.thread_time() - begin
        total = pages * 9 // 10
        state = Replay(machine, CLASSES, total)
        for part in fill_c(pages):
            state.run(part)
        ops = churn_c(pages, min(1 << 22, 8 * (total - delay_for(total))), np.random.default_rng(1))
        times = []
        for k in range(5):
            a, b = (len(ops) * i // 5 for i in (k, k + 1))
            times.append(seconds(partial(state.run, ops, a, b)) / (b - a))
        engine = 1e9 * statistics.median(times)
        del state, machine, ops
        memory = Memory(9 * pages)
        chase = 1e9 * medians(partial(memory.chase, 1 << 20))[0] / (1 << 20)
        del memory
        base = base or {"engine": engine, "chase": chase}
        note = f"{engine:.1f} ns an operation, chasing {chase:.1f} ns a step; zone built in {built:.2f} s"
        against = (engine / base["engine"]) / (chase / base["chase"])
        point = {"gib": gib, "engine_ns": engine, "chasing_ns": chase}
        yield row(f"growth from 1 GiB to {gib} GiB, against chasing's", against, 1.0, note) | point
        gib *= 4


def calls() -> Row:
    """A pair from Python, against two empty calls."""
    made = Allocator("1G", single_zone=True)
    empty, pair = medians(lambda: run_empty(Empty()), lambda: allocator_pairs(made), rounds=101)
    note = f"{1e9 * pair / PAIRS:.0f} ns, two empty calls {1e9 * empty / PAIRS:.0f} ns"
    return row("alloc_pages + free_pages from Python, against two empty calls", pair / empty, 2.0, note)


def allocator_pairs(made: Allocator) -> None:
    alloc, free = made.alloc_pages, made.free_pages
    for _ in range(PAIRS):
        free(alloc(0, GFP_HIGHUSER_MOVABLE), 0)


def bulk() -> Row:
    """Arrays of 4096 pages at a time through the bulk calls, against a replay of the same operations."""
    n, times = 4096, 64
    slots = np.arange(n)
    ops = np.zeros(2 * n, compiled_trace("redis").ops.dtype)
    ops["op"], ops["slot"] = np.repeat([1, 2], n), np.tile(slots, 2)
    pages = 1 << 18
    run = Replay(zone_machine(pages), CLASSES, n)
    made = Allocator(pages * 4096, single_zone=True)
    out = np.empty(n, np.uint32)

    def with_bulk() -> None:
        for _ in range(times):
            made.free_pages_bulk(made.alloc_pages_bulk(0, GFP_HIGHUSER_MOVABLE, n, out), 0)

    def with_replay() -> None:
        for _ in range(times):
            run.run(ops)

    bulked, replayed = medians(with_bulk, with_replay)
    return row("bulk calls, against replay", bulked / replayed, 1.3)


def memory() -> Row:
    """What a machine of 64 GiB with both physmaps takes, from the address space of a new process."""
    pages = 1 << 24
    code = (
        "from benchmarks.harness import zone_machine\n"
        "def data(): return next(int(l.split()[1]) for l in open('/proc/self/status') if 'VmData' in l)\n"
        f"before = data(); made = zone_machine({pages}, 'migratetype'); print((data() - before) * 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    return row("bytes a frame, engine and both physmaps", int(done.stdout) / pages, 10.0, "64 GiB")


def building() -> Row:
    pages = 1 << 22
    built, memset = medians(lambda: zone_machine(pages), lambda: set_memory(9 * pages))
    note = f"16 GiB in {1000 * built:.1f} ms, memset {1000 * memset:.1f} ms"
    return row("building a zone, against memset of its bytes", built / memset, 2.0, note)


def drain(loaded: Any) -> None:
    for _part in compiled_operations(loaded, Classifier.parse("rfc", 0)):
        pass


def replay_one(built: list[Any], ops: Any) -> None:
    built.pop().run(ops)


def compiling() -> Iterator[Row]:
    for name in ("redis", "net"):
        compiled, loaded = compiled_trace(name), load_trace(name)
        built = [trace_engine(compiled) for _ in range(5)]
        compile_time, replay_time = medians(partial(drain, loaded), partial(replay_one, built, compiled.ops))
        yield row(f"compiling {name}, against its replay", compile_time / replay_time, 3.0)


def reading() -> Row:
    """Text of perf script."""
    path = ROOT / "build" / "benchmarks" / "perf.txt"
    data = perf_text("redis", 1 << 17)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    try:
        regex, reader = medians(lambda: read_with_regex(path.read_bytes()), lambda: len(read_text(path)))
    finally:
        path.unlink()
    note = f"{len(data) / reader / 1e6:.0f} MB/s"
    return row("text reader, times faster than a regular expression", regex / reader, -15.0, note)


def threads() -> Row:
    """Two replays at once, wall time, against the same two one after the other; the best of many rounds."""
    made = stream("a", count=1 << 22)
    states = [filled_engine(made) for _ in range(2)]
    load = os.getloadavg()[0]

    def run(workers: int) -> None:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda state: state.run(made.ops), states))

    one, two = medians(lambda: run(1), lambda: run(2), rounds=31, clock=time.perf_counter, pick=min)
    note = f"{1000 * two:.0f} ms, one after the other {1000 * one:.0f} ms; load before {load:.1f}"
    return row("two replays in two threads, times one", one / two, -1.8, note)


def imports() -> Row:
    def load(name: str) -> None:
        subprocess.run([sys.executable, "-c", f"import {name}"], check=True)

    ours, numpy = medians(lambda: load("asi_pa"), lambda: load("numpy"), rounds=9, clock=time.perf_counter)
    return row("import asi_pa, against import numpy", ours / numpy, 1.2)


def auditing() -> Iterator[Row]:
    """An operation that the auditor carries out and checks, against four of the engine's and a copy.

    The auditor has two threads; so has the engine, before the audit and after it.
    """
    design = as_design("migratetype")
    engines = small_machines(design)
    found = audit(design, operations=30_000_000, jobs=2)
    engine = statistics.median(engines + small_machines(design))
    rate = found.states_per_second
    yield row("audit, states a second", None, None, f"{rate:,.0f} states a second of processor time")
    checked = 1e9 * sum(s.seconds for s in found.searched) / found.transitions
    copy = 1e9 * medians(partial(copy_memory, STATE, 1 << 16))[0] / (1 << 16)
    note = f"{checked:.0f} ns an operation; the engine's {engine:.0f}, a copy of {STATE} bytes {copy:.0f}"
    yield row(
        "audit, an operation, against 4 of the engine and a copy", checked / (4 * engine + copy), 1.0, note
    )


def small_machines(design: Design) -> list[float]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda scope: small_machine(scope, scaled(design)), scopes(design)))


def small_machine(scope: Scope, design: Design, count: int = 1 << 17) -> float:
    """Nanoseconds of an operation on one of the auditor's machines: orders 0 to 2, all its requests."""
    random = np.random.default_rng(1)
    held: dict[int, int] = {}
    ops = np.zeros(count, OP)
    for k, slot in enumerate(random.integers(0, 8, count).tolist()):
        order = held.pop(slot, None)
        freed = order is not None
        if order is None:
            order = held[slot] = int(random.integers(0, 3))
        ops[k] = (2 if freed else 1, order, 0 if freed else random.integers(len(scope.requests)), 0, slot)
    requests = np.array([request.gfp for request in scope.requests], np.uint32)
    state = Replay(Machine(scope.machine, design), requests, 8)
    return 1e9 * seconds(partial(state.run, ops)) / count


def measure(most: int) -> list[Row]:
    rows: list[Row] = []
    parts: list[Callable[[], Row | Iterator[Row]]] = [
        streams, tracked, twin, features, instructions, traces, observation, lambda: growth(most), calls,
        bulk, memory, building, compiling, reading, threads, auditing, imports,
    ]  # fmt: skip
    for part in parts:
        found = part()
        for one in [found] if isinstance(found, dict) else found:
            rows.append(one)
            print(line(one), flush=True)
    return rows


def line(one: Row) -> str:
    """A row of the table; a negative target is one to reach, not to stay below."""
    value, target = one["value"], one["target"]
    met = ""
    if value is not None and target is not None:
        met = "yes" if (value >= -target if target < 0 else value <= target) else "no"
    bound = "" if target is None else f">= {-target:g}" if target < 0 else f"<= {target:g}"
    shown = "" if value is None else f"{value:.2f}"
    return f"| {one['what']} | {bound} | {shown} | {met} | {one['note']} |"


def table(rows: list[Row]) -> str:
    head = "| what | target | measured | met | figures |\n|---|---|---|---|---|\n"
    return head + "\n".join(line(one) for one in rows) + "\n"


def write_table(rows: list[Row], marks: tuple[str, str]) -> None:
    """Between two marks of docs/engine/performance.md."""
    begin, end = marks
    text = DOCUMENT.read_text()
    before, after = text.split(begin)[0], text.split(end)[1]
    DOCUMENT.write_text(f"{before}{begin}\n{table(rows)}{end}{after}")


def plot(points: list[Row]) -> None:
    """The growth curve: nanoseconds an operation by size of the machine."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    rcParams["svg.hashsalt"] = "asi_pa"
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    sizes = [one["gib"] for one in points]
    axes.plot(sizes, [one["engine_ns"] for one in points], "o-", label="replay of stream c, pcp lists on")
    axes.plot(sizes, [one["chasing_ns"] for one in points], "s--", label="pointer chasing, same footprint")
    axes.set_xscale("log", base=4)
    axes.set_xticks(sizes, [f"{size >> 10} TiB" if size >= 1024 else f"{size} GiB" for size in sizes])
    axes.set(xlabel="memory of the machine", ylabel="ns an operation, ns a step", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(PLOT, metadata={"Date": None})


def processor() -> str:
    for text in Path("/proc/cpuinfo").read_text().splitlines():
        if text.startswith("model name"):
            return text.split(":", 1)[1].strip()
    return platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--most", default="1T", help="largest machine of the growth curve (1T)")
    parser.add_argument("--json", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = measure(parse_size(options.most))
    cpus = len(os.sched_getaffinity(0))
    result = {
        "version": __version__,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "machine": {"processor": processor(), "system": platform.release(), "cpus": cpus},
        "rows": rows,
    }
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    plot([one for one in rows if "gib" in one])
    write_table(rows, MARKS)


if __name__ == "__main__":
    main()
