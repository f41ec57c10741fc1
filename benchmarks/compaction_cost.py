"""What the running kernel's compaction takes: ns for a page moved, for a frame looked at by either scanner.

    sudo python -m benchmarks.compaction_cost [--rounds 6] [--memory 512] [--json FILE]

Needs root, a kernel with CONFIG_COMPACTION and tracefs, and memory: takes MEMORY MiB of pages of 4 KiB, gives
three quarters back in pieces of 64 KiB and writes to /proc/sys/vm/compact_memory.  The tracepoints of
compaction part the time into stretches, each of which ends with one thing done:

- mm_compaction_isolate_migratepages that took none: the scanner of sources looked at nr_scanned frames;
- mm_compaction_isolate_freepages: the scanner of targets did;
- mm_compaction_migratepages: nr_migrated pages were unmapped, copied and mapped again;
- mm_compaction_isolate_migratepages that took some: *take*, with the scan in it.

/proc/self/pagemap tells, before and after, which pages were this process's own: anonymous, mapped once.  A
batch of which less than half was own is *others*: whatever else the machine held.  Half of the rounds have a
second thread that touches the pages meanwhile: another CPU to be interrupted, and faults that wait.

A stretch in which the CPU did something else (more than ten medians) is left out and counted.  The table of
costs (asi_pa/data/costs.toml) has its defaults from here.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import platform
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

TRACEFS = Path("/sys/kernel/tracing")
COMPACT = Path("/proc/sys/vm/compact_memory")
EVENTS = ("begin", "isolate_migratepages", "isolate_freepages", "migratepages")
PAGE, PIECE = 4096, 65536
MADV_DONTNEED, MADV_NOHUGEPAGE = 4, 15
LINE = re.compile(r"-(?P<pid>\d+) +\[\d+\] \S+ +(?P<at>\d+): mm_compaction_(?P<what>\w+): (?P<rest>.*)")
NUMBERS = re.compile(r"0x[0-9a-f]+|\d+")
PFNS = npt.NDArray[np.int64]


@dataclass
class Found:
    """Stretches by what they ended with: (ns, units) each."""

    stretches: dict[str, list[tuple[float, int]]] = field(default_factory=dict)

    def add(self, what: str, ns: float, units: int) -> None:
        if units > 0:
            self.stretches.setdefault(what, []).append((ns, units))


@contextmanager
def traced(kib: int = 32768) -> Iterator[Path]:
    """An instance of tracefs of our own, with the events on and a clock in cycles."""
    place = TRACEFS / "instances" / f"asi-pa-{os.getpid()}"
    place.mkdir()
    try:
        (place / "tracing_on").write_text("0")
        (place / "trace_clock").write_text("x86-tsc")
        (place / "buffer_size_kb").write_text(str(kib))
        for event in EVENTS:
            (place / "events/compaction" / f"mm_compaction_{event}" / "enable").write_text("1")
        yield place
    finally:
        (place / "tracing_on").write_text("0")
        place.rmdir()


def own_pfns(address: int, length: int) -> PFNS:
    """The frames of a mapping of ours, 0 where there is none (admin-guide/mm/pagemap)."""
    with open("/proc/self/pagemap", "rb") as file:
        file.seek(address // PAGE * 8)
        words = np.frombuffer(file.read(length // PAGE * 8), np.uint64)
    present = words >> np.uint64(63) != 0
    return np.where(present, words & np.uint64((1 << 55) - 1), np.uint64(0)).astype(np.int64)


@contextmanager
def touching(memory: mmap.mmap, step: int, wanted: bool) -> Iterator[None]:
    """A second thread that reads the pages until the end, if it is wanted."""
    over = threading.Event()

    def run() -> None:
        total = 0
        while not over.is_set():
            for at in range(0, len(memory), step):
                total += memory[at]

    thread = threading.Thread(target=run, daemon=True)
    if wanted:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if wanted:
            thread.join()


def one_round(mib: int, touched: bool) -> tuple[list[tuple[int, str, list[int]]], PFNS, float, float]:
    """One compaction: its events (cycles, name, numbers), our frames that moved, seconds, cycles a second."""
    memory = mmap.mmap(-1, mib << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(MADV_NOHUGEPAGE)
    for at in range(0, len(memory), PAGE):
        memory[at] = 1
    for at in range(0, len(memory), 4 * PIECE):
        memory.madvise(MADV_DONTNEED, at, 3 * PIECE)
    address = np.frombuffer(memory, np.uint8).ctypes.data
    before = own_pfns(address, len(memory))
    with traced() as place, touching(memory, 4 * PIECE, touched):
        (place / "tracing_on").write_text("1")
        start = time.monotonic()
        (place / "trace_marker").write_text("start")
        COMPACT.write_text("1")
        (place / "trace_marker").write_text("end")
        seconds = time.monotonic() - start
        (place / "tracing_on").write_text("0")
        text = (place / "trace").read_text()
    after = own_pfns(address, len(memory))
    moved = before[(before != after) & (before > 0) & (after > 0)]
    marks = [int(at) for at in re.findall(r"(\d+): tracing_mark_write", text)]
    events = [
        (int(m["at"]), m["what"], [int(n, 0) for n in NUMBERS.findall(m["rest"])])
        for m in LINE.finditer(text)
        if int(m["pid"]) == os.getpid()
    ]
    return events, np.sort(moved), seconds, (marks[-1] - marks[0]) / seconds


def stretches_of(
    events: list[tuple[int, str, list[int]]], moved: PFNS, hertz: float, found: Found, touched: bool
) -> None:
    """Takes one compaction's time apart."""
    whose, last = "others", events[0][0] if events else 0
    for at, what, numbers in events:
        ns, last = (at - last) * 1e9 / hertz, at
        if what == "isolate_migratepages":
            start, end, scanned, taken = numbers
            if not taken:
                found.add("scan_from", ns, scanned)
                continue
            ours = int(np.searchsorted(moved, end) - np.searchsorted(moved, start))
            whose = "own" if 2 * ours >= taken else "others"
            found.add("take", ns, taken)
        elif what == "isolate_freepages":
            found.add("scan_to", ns, numbers[2])
        elif what == "migratepages":
            name = f"{whose}, touched" if whose == "own" and touched else whose
            found.add(f"move: {name}", ns, numbers[0])


def summary(stretches: list[tuple[float, int]]) -> dict[str, float]:
    """Mean, tenth and ninetieth hundredth of the ns a unit; ``left_out`` stretches the CPU was away in."""
    ns, units = (np.array(column, float) for column in zip(*stretches, strict=True))
    each = ns / units
    kept = each <= 10 * np.median(each)
    low, middle, high = np.quantile(each[kept], [0.1, 0.5, 0.9])
    return {
        "ns": float(ns[kept].sum() / units[kept].sum()),
        "p10": float(low),
        "median": float(middle),
        "p90": float(high),
        "units": int(units[kept].sum()),
        "left_out": int((~kept).sum()),
    }


def main() -> int:
    """Measures, prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--memory", type=int, default=512, metavar="MIB")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    if os.geteuid() != 0 or not COMPACT.exists() or not (TRACEFS / "instances").is_dir():
        print(f"compaction_cost: needs root, CONFIG_COMPACTION and tracefs at {TRACEFS}", file=sys.stderr)
        return 2
    found, total, pages = Found(), 0.0, 0
    for number in range(args.rounds):
        touched = number % 2 == 1
        events, moved, seconds, hertz = one_round(args.memory, touched)
        stretches_of(events, moved, hertz, found, touched)
        total += seconds
        pages += sum(numbers[0] for _, what, numbers in events if what == "migratepages")
    rows: dict[str, Any] = {name: summary(each) for name, each in sorted(found.stretches.items())}
    machine = f"{platform.release()}, {os.cpu_count()} CPUs"
    print(f"{machine}; {args.rounds} compactions, {total:.2f} s, {pages:,} pages moved")
    print(f"{'ns each':24}{'mean':>9}{'10 %':>9}{'median':>9}{'90 %':>9}{'of':>12}{'left out':>10}")
    for name, row in rows.items():
        cells = "".join(f"{row[key]:>9,.1f}" for key in ("ns", "p10", "median", "p90"))
        print(f"{name:24}{cells}{row['units']:>12,}{row['left_out']:>10}")
    if args.json:
        Path(args.json).write_text(json.dumps({"kernel": platform.release(), "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
