"""From 1 GiB to the largest machine that fits, and a long operation stream in bounded memory.

``python -m benchmarks.scale [--most 4T] [--operations 1e9]``: for each size the time to build it, the time to
fill it to 90 %, stream c on it, and the memory taken; then the operations, made and run a piece at a time.
A 4 TiB machine takes 14 GB with its slots; what does not fit into free memory is left out and said so.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from asi_pa.kernel.sizing import parse_size
from asi_pa.run.replay import Replay

from .harness import zone_machine
from .limit import Memory, set_memory
from .streams import CLASSES, churn_c, fill_c, lifo_churn, operations

__all__ = ["available", "long_stream", "size"]

#: Bytes a frame that a size needs: the engine's arrays, the slots, the prepared operations' pieces.
BYTES = 9 + 4 + 1


def available() -> int:
    """MemAvailable in bytes."""
    with open("/proc/meminfo") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) << 10


def size(gib: int, count: int = 1 << 22) -> str:
    """One size's figures as a line of the table."""
    pages = gib << 18
    start = time.thread_time()
    set_memory(9 * pages)  # in a virtual machine, also what takes the memory from the host
    begin = time.thread_time()
    machine = zone_machine(pages)
    built = time.thread_time()
    replay = Replay(machine, CLASSES, pages * 9 // 10)
    filled, memset = 0, begin - start
    for part in fill_c(pages):
        replay.run(part)
        filled += len(part)
    full = time.thread_time()
    ops = churn_c(pages, min(count, pages), np.random.default_rng(1))
    churn = time.thread_time()
    replay.run(ops)
    end = time.thread_time()
    assert replay.failures == 0
    assert replay.allocations == filled + int((ops["op"] == 1).sum())
    del replay, machine
    chase = Memory(9 * pages)
    start = time.thread_time()
    chase.chase(1 << 20)
    chased = time.thread_time() - start
    return (
        f"| {gib} GiB | {memset:.2f} s | {built - begin:.2f} s | {1e9 * (full - built) / filled:.1f} ns "
        f"| {1e9 * (end - churn) / len(ops):.1f} ns | {1e9 * chased / (1 << 20):.1f} ns |"
    )


def long_stream(total: int, pages: int = 1 << 18, piece: int = 1 << 22) -> tuple[int, float]:
    """At least ``total`` operations of stream a, made a piece at a time: (operations, seconds of replay)."""
    replay = Replay(zone_machine(pages), CLASSES, pages)
    replay.run(operations(1, np.arange(pages // 2)))
    rng = np.random.default_rng(1)
    done, spent = 0, 0.0
    while done < total:
        ops = lifo_churn(pages // 2, piece, rng)
        begin = time.thread_time()
        replay.run(ops)
        spent += time.thread_time() - begin
        done += len(ops)
    assert replay.failures == 0
    assert replay.machine.verify() is None
    return done, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--most", default="4T", help="largest machine (4T)")
    parser.add_argument("--operations", type=float, default=1e9, help="length of the long stream (1e9)")
    options = parser.parse_args()
    print("| machine | memset | built | fill, an allocation | stream c, an operation | chasing, a step |")
    print("|---|---|---|---|---|---|", flush=True)
    gib = 1
    while gib << 30 <= parse_size(options.most):
        if (gib << 18) * BYTES > available():
            print(f"{gib} GiB: needs {(gib << 18) * BYTES >> 30} GiB, {available() >> 30} GiB are available")
        else:
            print(size(gib), flush=True)
        gib *= 4
    done, spent = long_stream(int(options.operations))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{done:,} operations streamed in {spent:.0f} s of replay, {1e9 * spent / done:.1f} ns each;")
    print(f"peak memory of the whole run {peak >> 10} MiB")


if __name__ == "__main__":
    main()
