"""Scripts: a zone, how the machine is set up, and operations; packed for the driver.

An operation is six numbers: code, order, flags, a, b, CPU (docs/engine/model.md, "Recorded runs").  Which
block a free of any live block frees is decided by the kernel as it goes; a recorded run says which it was.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["NATURAL", "Op", "Script", "Setup", "Writer"]

Op: TypeAlias = tuple[int, int, int, int, int, int]

#: What the kernel computes stays.
NATURAL = 0xFFFFFFFF
MAGIC, VERSION = 0x4C43524F, 3
PAGE = 4096
#: The driver's table of what is live and its list take 36 bytes an operation of 64 MiB.
MAX_OPS = 1_500_000
MAX_HOLES = 256

ALLOC, FREE_ANY, FREE_NEWEST, FREE, DUMP, DRAIN = 1, 2, 3, 4, 5, 6
ISOLATE, UNISOLATE, CONTIG, UNRESERVE, TICK, TAKE = 7, 8, 9, 11, 15, 16
COMPACT_NODE, COMPACT, DIRECT_COMPACT, RESET_SKIP, KCOMPACTD = 20, 21, 22, 23, 24
FREES = (FREE_ANY, FREE_NEWEST, FREE)

UNMOVABLE, MOVABLE, RECLAIMABLE = 0, 1, 2
HIGH, KSWAPD, NOMEMALLOC, COMP, LRU, MEMALLOC = 4, 8, 16, 32, 64, 128
#: The same bit, by what kind of run it is in.
DMA32 = PINNED = PROTECTED = 256
DIRECT, NOFS, UNSPLITTABLE = 512, 1024, 2048


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The machine around the operations.  Sizes are KiB or pages as their names say."""

    zone_kib: int
    bypass: bool = False
    """The pcp lists are out of the way: their lock is held for the whole run."""
    exact: bool = True
    """The stat threshold is 0: counters do not lag."""
    cpus: int = 1
    """1 or up to 4; with more than one every operation runs on the CPU it names."""
    wmark: tuple[int, int, int] | None = None
    """MIN, LOW and HIGH in pages; None: as the kernel computes them."""
    boost: int | None = None
    """vm.watermark_boost_factor."""
    defrag_mode: bool = False
    pcp: tuple[int, int, int] | None = None
    """high_min, high_max and batch, as another machine has them."""
    small_cache: bool = False
    """PCPF_FREE_HIGH_BATCH is clear."""
    cma: tuple[int, int] = (0, 0)
    """First frame and pages."""
    holes: tuple[tuple[int, int], ...] = ()
    """Half-open ranges of frames that are never handed over, ascending."""
    dma32: bool = False
    """The node has a DMA32 zone, which makes the first pass carry ALLOC_NOFRAGMENT."""
    two_zones: bool = False
    """That zone has memory too."""
    compaction: bool = False
    """Movable pages are real folios, and compaction is logged."""
    design: bool = False
    """The kernel's design is logged."""
    dump_every: int = 4000

    @property
    def pages(self) -> int:
        """Frames that the zone spans."""
        return self.zone_kib >> 2

    @property
    def mode(self) -> int:
        """The driver's mode bits (enum oracle_mode)."""
        bits = (
            self.bypass,
            self.exact,
            self.defrag_mode,
            self.two_zones,
            self.cpus > 1,
            self.small_cache,
            self.compaction,
            self.design,
        )
        return sum(1 << i for i, bit in enumerate(bits) if bit)


@dataclass(frozen=True)
class Script:
    """A name, what it is about, the machine and the operations."""

    name: str
    setup: Setup
    ops: Sequence[Op] = field(repr=False)
    description: str = ""

    def packed(self) -> bytes:
        """What the driver finds at ``ORACLE_IN``.  ValueError for more than it has room for."""
        setup = self.setup
        if not 0 < len(self.ops) <= MAX_OPS:
            raise ValueError(f"{len(self.ops)} operations: a script has 1 to {MAX_OPS}")
        if len(setup.holes) > MAX_HOLES:
            raise ValueError(f"{len(setup.holes)} holes: a zone has up to {MAX_HOLES}")
        header = struct.pack(
            "<15I",
            *(MAGIC, VERSION, len(self.ops), setup.mode),
            *(setup.wmark or (NATURAL,) * 3),
            NATURAL if setup.boost is None else setup.boost,
            *setup.cma,
            setup.dump_every,
            *(setup.pcp or (0, 0, 0)),
            len(setup.holes),
        )
        header += b"".join(struct.pack("<2I", *hole) for hole in setup.holes)
        return header.ljust(PAGE, b"\0") + self._ops().tobytes()

    def _ops(self) -> npt.NDArray[np.void]:
        row = np.dtype(
            [("code", "u1"), ("order", "u1"), ("flags", "<u2"), ("a", "<u4"), ("b", "<u4"), ("cpu", "<u4")]
        )
        table = np.asarray(self.ops, np.int64)
        packed = np.zeros(len(table), row)
        for i, name in enumerate(row.names or ()):
            packed[name] = table[:, i]
        return packed


class Writer:
    """Writes operations down and keeps count of what is probably allocated."""

    def __init__(self, seed: int | str, pages: int, *, room: float = 1.02, base: int = 0) -> None:
        self.r = random.Random(seed)
        self.ops: list[Op] = []
        self.pages = pages
        self.used = 0
        self.room = room
        """An allocation that would fill more than this share of the zone is taken to fail."""
        self.base = base
        """Flags of every allocation."""
        self._live: list[int] = []

    def __len__(self) -> int:
        return len(self.ops)

    def alloc(self, order: int, flags: int = 0) -> None:
        self.ops.append((ALLOC, order, flags | self.base, 0, 0, 0))
        if self.used + (1 << order) <= self.pages * self.room:
            self.got(order)

    def got(self, order: int) -> None:
        """Something else than ``alloc`` allocated this."""
        self._live.append(order)
        self.used += 1 << order

    def free(self, newest: bool = False) -> None:
        """Frees any live block, or the newest."""
        if not self._live:
            return
        k = len(self._live) - 1 if newest else self.r.randrange(len(self._live))
        self.used -= 1 << self._live[k]
        self._live[k] = self._live[-1]
        self._live.pop()
        self.ops.append((FREE_NEWEST if newest else FREE_ANY, 0, 0, self.r.getrandbits(31), 0, 0))

    def free_row(self, row: int) -> None:
        """Frees what an operation allocated; what ``used`` says is not right after it."""
        self.ops.append((FREE, 0, 0, row, 0, 0))

    def op(self, code: int, order: int = 0, flags: int = 0, a: int = 0, b: int = 0) -> None:
        self.ops.append((code, order, flags, a, b, 0))

    def forget(self, live: int) -> None:
        """So many single pages are live, as far as frees of any are concerned."""
        self._live = [0] * live
        self.used = live
