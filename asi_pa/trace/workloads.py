"""Synthetic workloads: named, seeded traces that age an allocator in a way that one can reason about.

A workload is a `Trace` like a recorded one, on one zone whose frames are all free at first; frame numbers in
its events only say who frees whom.  `load_trace` takes ``NAME``, ``NAME:MEMORY`` and ``NAME:MEMORY:SEED``
(``stress:4G``). User memory is GFP_HIGHUSER_MOVABLE, kernel memory GFP_KERNEL and its relatives, so by the
default classifier user memory is sensitive and kernel memory is not.

``bulk``, ``repeat``, ``random`` and ``fragment`` follow the evaluation of LLFree (L. Wrenger et al., "LLFree:
Scalable and Optionally-Persistent Page-Frame Allocation", USENIX ATC 2023), with the two kinds of memory
added.  ``stress`` is the recipe from the discussion of __GFP_UNMAPPED (msgid
20260320-page_alloc-unmapped-v2-0-28bf1bd54f41@google.com and its review): fragment, then ask for the scarce
kind until nothing comes; what was obtained is compared with ``fresh``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.kernel.gfp import (
    GFP_ATOMIC,
    GFP_HIGHUSER,
    GFP_HIGHUSER_MOVABLE,
    GFP_KERNEL,
    GFP_KERNEL_ACCOUNT,
    GFP_NAMES,
)
from asi_pa.kernel.sizing import parse_size, single_zone
from asi_pa.kernel.versions import DEFAULT_KERNEL
from asi_pa.trace.format import EVENT_COLUMNS, Trace

__all__ = ["DEFAULT_MEMORY", "WORKLOADS", "workload"]

DEFAULT_MEMORY = "1G"
_CPUS = 2
_EVENT_NS = 2000
_MIB = 1 << 8
_ZERO, _COMP, _RECLAIMABLE = (GFP_NAMES[f"__GFP_{name}"] for name in ("ZERO", "COMP", "RECLAIMABLE"))
_GFPS = (
    GFP_HIGHUSER_MOVABLE | _ZERO,  # anonymous memory
    GFP_HIGHUSER_MOVABLE | GFP_NAMES["__GFP_WRITE"],  # page cache
    GFP_KERNEL,
    GFP_KERNEL_ACCOUNT | _ZERO,  # page tables, kernel stacks
    GFP_KERNEL | _RECLAIMABLE | _COMP,  # dentries, inodes
    GFP_ATOMIC | _COMP | GFP_NAMES["__GFP_NOWARN"],  # receive buffers
    GFP_HIGHUSER | GFP_NAMES["__GFP_ACCOUNT"],  # pipe buffers: sensitive, unmovable
)
ANON, CACHE, KERNEL, TABLES, INODES, ATOMIC, PIPE = range(7)

_Frames = npt.NDArray[np.int64]


class _Script:
    """Collects events; frames are handed out upwards, never twice."""

    def __init__(self, pages: int, seed: int) -> None:
        self.pages = pages
        self.rng = np.random.default_rng(seed)
        self.next = 0
        self.now = 0
        self.parts: list[dict[str, npt.NDArray[Any]]] = []

    def _add(self, kind: int, pfn: _Frames, order: Any, gfp: Any, comm: int, cpu: Any) -> None:
        n = len(pfn)
        columns = {
            "time_ns": self.now + _EVENT_NS * np.arange(n),
            "cpu": self.rng.integers(0, _CPUS, n) if cpu is None else cpu,
            "kind": kind,
            "pfn": pfn,
            "order": order,
            "migratetype": -1,
            "gfp": gfp,
            "comm": comm,
        }
        self.parts.append({k: np.full(n, columns[k], dtype) for k, dtype in EVENT_COLUMNS.items()})
        self.now += _EVENT_NS * n

    def alloc(self, count: int, order: int, gfp: Any, *, comm: int = 0, cpu: Any = None) -> _Frames:
        """``count`` allocations; ``gfp`` is an index into the masks, or one for each."""
        size = 1 << order
        first = -(-self.next // size) * size
        self.next = first + count * size
        frames = first + size * np.arange(count)
        self._add(0, frames, order, gfp, comm, cpu)
        return frames

    def free(self, frames: _Frames, order: int, *, comm: int = 0, cpu: Any = None) -> None:
        self._add(1, frames, order, 0, comm, cpu)

    def drawn(self, count: int, user: float) -> npt.NDArray[np.int64]:
        """Masks for ``count`` pages: anonymous with probability ``user``, otherwise the kernel's."""
        return np.where(self.rng.random(count) < user, ANON, KERNEL)


def _bulk(s: _Script) -> None:
    """Half of memory is allocated page by page and freed in the same order; user and kernel memory in
    turn."""
    for turn in range(6):
        s.free(s.alloc(s.pages // 2, 0, KERNEL if turn % 2 else ANON, cpu=0), 0, cpu=0)


def _repeat(s: _Script) -> None:
    """Half of memory is user memory; then every CPU allocates and frees one page, again and again."""
    s.alloc(s.pages // 2, 0, ANON)
    for turn in range(40):
        for cpu in range(_CPUS):
            frames = s.alloc(2500, 0, ANON if turn % 4 == 0 else KERNEL, cpu=cpu)
            part = s.parts.pop()
            s.free(frames, 0, cpu=cpu)
            other = s.parts.pop()
            # alloc, free, alloc, free ...
            s.parts.append({k: np.stack([part[k], other[k]], axis=1).ravel() for k in part})
            s.parts[-1]["time_ns"].sort()


def _random(s: _Script) -> None:
    """Half of memory is allocated page by page, a quarter of it by the kernel, and freed in random order."""
    for _ in range(5):
        frames = s.alloc(s.pages // 2, 0, s.drawn(s.pages // 2, 0.75))
        s.free(s.rng.permutation(frames), 0)


def _fragment(s: _Script) -> None:
    """90 % of memory in single pages, a quarter of them the kernel's; then random ones are exchanged."""
    count = s.pages * 9 // 10
    kinds = s.drawn(count, 0.75)
    frames = s.alloc(count, 0, kinds)
    batch = max(count // 100, 1)
    for _ in range(150):
        chosen = s.rng.choice(count, batch, replace=False)
        s.free(frames[chosen], 0)
        kinds[chosen] = s.drawn(batch, 0.75)
        frames[chosen] = s.alloc(batch, 0, kinds[chosen])


def _forks(s: _Script) -> None:
    """A fork/exit server: processes of drawn size live for a drawn number of forks; exit frees everything.

    A process is a kernel stack (order 2), page tables, anonymous pages, some page cache that stays behind.
    """
    alive: list[tuple[int, _Frames, _Frames, _Frames]] = []
    held, cache = 0, np.zeros(0, np.int64)
    for turn in range(1200):
        pages = int(min(s.rng.lognormal(5.3, 0.8), s.pages // 64))
        cpu = int(s.rng.integers(_CPUS))
        while alive and (alive[0][0] <= turn or held > s.pages * 6 // 10):
            _, stack, tables, anon = alive.pop(0)
            s.free(anon, 0, comm=1, cpu=cpu)
            s.free(tables, 0, comm=1, cpu=cpu)
            s.free(stack, 2, comm=1, cpu=cpu)
            held -= len(anon) + len(tables) + 4
        stack = s.alloc(1, 2, TABLES, comm=0, cpu=cpu)
        tables = s.alloc(4 + pages // 200, 0, TABLES, comm=0, cpu=cpu)
        anon = s.alloc(pages, 0, ANON, comm=1, cpu=cpu)
        cache = np.concatenate([cache, s.alloc(pages // 20, 0, CACHE, comm=1, cpu=cpu)])
        if len(cache) > s.pages // 5:
            s.free(cache[: s.pages // 50], 0, comm=2, cpu=cpu)
            cache = cache[s.pages // 50 :]
        held += pages + len(tables) + 4
        alive.append((turn + 1 + int(s.rng.geometric(0.003)), stack, tables, anon))
        alive.sort(key=lambda process: process[0])


def _pagecache(s: _Script) -> None:
    """A file server: page cache fills memory, the oldest goes when 92 % are full; bursts of kernel memory.

    A burst of single pages and order-3 slabs comes all at once and is freed some time later, in random order.
    """
    cache = s.alloc(s.pages * 7 // 10, 0, CACHE, comm=0)
    slabs: list[tuple[int, int, _Frames]] = []
    used = len(cache)
    step = max(s.pages // 256, 64)
    for turn in range(160):
        cache = np.concatenate([cache, s.alloc(step, 0, CACHE, comm=0)])
        used += step
        inodes = s.alloc(step // 16, 0, INODES, comm=0)
        slabs.append((turn + int(s.rng.integers(5, 60)), 0, inodes))
        used += len(inodes)
        if turn % 8 == 7:
            single, large = s.alloc(step * 2, 0, KERNEL, comm=1), s.alloc(step // 8, 3, KERNEL, comm=1)
            slabs += [(turn + 5, 0, single), (turn + int(s.rng.integers(5, 30)), 3, large)]
            used += len(single) + 8 * len(large)
        for due, order, frames in [slab for slab in slabs if slab[0] <= turn]:
            s.free(s.rng.permutation(frames), order, comm=1)
            used -= len(frames) << order
            slabs.remove(next(slab for slab in slabs if slab[2] is frames and slab[0] == due))
        excess = used - s.pages * 92 // 100
        if excess > 0:
            s.free(cache[:excess], 0, comm=2)
            cache = cache[excess:]
            used -= excess


def _network(s: _Script) -> None:
    """Network bursts in atomic context beside user memory that fills 85 %.

    Buffers of orders 0 and 3 are asked for without the right to block; most are freed by the other CPU soon,
    some are kept for long; between bursts user memory comes and goes.
    """
    user = s.alloc(s.pages * 85 // 100, 0, ANON)
    kept: list[tuple[int, _Frames]] = []
    burst = max(s.pages // 400, 32)
    for turn in range(150):
        cpu = turn % _CPUS
        small = s.alloc(burst, 0, ATOMIC, comm=1, cpu=cpu)
        large = s.alloc(burst // 8, 3, ATOMIC, comm=1, cpu=cpu)
        s.free(small[: burst * 9 // 10], 0, comm=1, cpu=1 - cpu)
        s.free(large[: burst // 10], 3, comm=1, cpu=1 - cpu)
        kept += [(0, small[burst * 9 // 10 :]), (3, large[burst // 10 :])]
        while sum(len(frames) << order for order, frames in kept) > s.pages // 50:
            order, frames = kept.pop(int(s.rng.integers(len(kept))))
            s.free(frames, order, comm=1, cpu=cpu)
        chosen = s.rng.choice(len(user), burst, replace=False)
        s.free(user[chosen], 0)
        user[chosen] = s.alloc(burst, 0, ANON)


def _bursts(s: _Script) -> None:
    """Kernel memory comes and goes in bulk, user memory grows into what it left; network bursts in atomic
    context all along.

    User memory swings between 35 % and 80 % of memory, kernel memory between nothing and 35 %.  A burst asks
    for single pages and order-3 buffers without the right to block, and frees them at once.
    """
    parts, burst = 64, max(s.pages // 2000, 16)

    def interrupt(cpu: int) -> None:
        small, large = (
            s.alloc(burst, 0, ATOMIC, comm=1, cpu=cpu),
            s.alloc(burst // 8, 3, ATOMIC, comm=1, cpu=cpu),
        )
        s.free(small, 0, comm=1, cpu=cpu)
        s.free(large, 3, comm=1, cpu=cpu)

    def grow(share: float, gfp: int) -> _Frames:
        grown = []
        for part in range(parts):
            grown.append(s.alloc(int(s.pages * share) // parts, 0, gfp))
            interrupt(part % _CPUS)
        return np.concatenate(grown)

    s.alloc(s.pages * 35 // 100, 0, ANON)
    for _ in range(4):
        s.free(grow(0.35, KERNEL), 0)
        s.free(grow(0.45, ANON), 0)


def _ask(s: _Script) -> None:
    """The scarce kind, page by page in steps of 128 MiB, until all of memory has been asked for."""
    for start in range(0, s.pages, 128 * _MIB):
        s.alloc(min(128 * _MIB, s.pages - start), 0, KERNEL, comm=1, cpu=0)


def _stressed(s: _Script, gfp: int) -> None:
    frames = s.alloc(s.pages * 9 // 10 // 16, 4, gfp, cpu=0)
    s.free(frames[np.arange(len(frames)) % 4 != 3], 4, cpu=0)
    _ask(s)


def _stress(s: _Script) -> None:
    """90 % of memory in user chunks of 64 KiB, three of four freed, then kernel memory until nothing comes.

    Pages obtained: the asked ones (all of memory) less the failures.  The chunks are movable.
    """
    _stressed(s, ANON)


def _stress_unmovable(s: _Script) -> None:
    """``stress`` with chunks that nothing can move (pipe buffers: sensitive, unmovable)."""
    _stressed(s, PIPE)


def _fresh(s: _Script) -> None:
    """What ``stress`` is measured against: a quarter of its chunks, side by side; then the same is asked
    for."""
    s.alloc(s.pages * 9 // 10 // 16 // 4, 4, ANON, cpu=0)
    _ask(s)


#: name -> what writes it; the first sentence of its docstring is the description.
WORKLOADS: dict[str, Callable[[_Script], None]] = {
    "bulk": _bulk,
    "repeat": _repeat,
    "random": _random,
    "fragment": _fragment,
    "forks": _forks,
    "pagecache": _pagecache,
    "network": _network,
    "bursts": _bursts,
    "stress": _stress,
    "stress-unmovable": _stress_unmovable,
    "fresh": _fresh,
}
_COMMS = {
    "forks": ("server", "worker", "kswapd0"),
    "pagecache": ("fileserver", "kernel", "kswapd0"),
    "network": ("application", "ksoftirqd"),
    "bursts": ("application", "ksoftirqd"),
    "stress": ("stress", "asker"),
    "stress-unmovable": ("stress", "asker"),
    "fresh": ("stress", "asker"),
}


def workload(name: str, memory: str | int = DEFAULT_MEMORY, seed: int = 0) -> Trace:
    """A workload for a zone of ``memory`` bytes.

    Raises ValueError for an unknown name and for less than 32 MiB (or more than 64 GiB: use streams for
    that).
    """
    if name not in WORKLOADS:
        raise ValueError(f"unknown workload {name!r}: there are {', '.join(WORKLOADS)}")
    pages = parse_size(memory) // 4096
    if not 32 * _MIB <= pages <= 64 << 18:
        raise ValueError(f"workload {name}: memory {memory!r} is not between 32M and 64G")
    if seed < 0:
        raise ValueError(f"workload {name}: seed {seed} is negative")
    script = _Script(pages, seed)
    write = WORKLOADS[name]
    write(script)
    parts = script.parts
    columns: dict[str, Any] = {key: np.concatenate([part[key] for part in parts]) for key in EVENT_COLUMNS}
    for column in columns.values():
        column.flags.writeable = False
    spec = single_zone(memory, cpus=_CPUS)
    zone = spec.zones[0]
    assert zone.pcp is not None
    limits = {"count": 0, "high": zone.pcp.high_min, "batch": zone.pcp.batch,
              "high_min": zone.pcp.high_min, "high_max": zone.pcp.high_max}  # fmt: skip
    low, high, promo = zone.wmark[1:]
    recorded = {"name": "Normal", "start_pfn": zone.start_pfn, "spanned": pages, "present": pages,
                "managed": pages, "free": pages, "min": zone.wmark[0], "low": low, "high": high,
                "promo": promo, "cpus": [limits] * _CPUS}  # fmt: skip
    flags = np.zeros(zone.start_pfn + pages, np.uint8)
    flags[zone.start_pfn :] = 1
    return Trace(
        name=name,
        description=" ".join((write.__doc__ or "").split()).partition(". ")[0].rstrip("."),
        **columns,
        gfps=_GFPS,
        comms=_COMMS.get(name, ("load",)),
        gfp_names=dict(GFP_NAMES),
        migratetypes=("Unmovable", "Movable", "Reclaimable", "HighAtomic", "CMA", "Isolate"),
        kernel=f"Linux {DEFAULT_KERNEL}",
        cpus=_CPUS,
        lost=0,
        snapshots={"zones_start": [recorded]},
        kpageflags={"start": flags},
        provenance={"source": "workload", "format": "synthetic", "memory_bytes": pages * 4096, "seed": seed},
    )
