"""The sets that recorded runs are made of: a name, the machine, the operations, one line for the reader.

``D`` sets are the allocator without compaction, ``C`` and ``S`` sets compaction; the number after the dash
is the seed.  The letters say what is varied; ``docs/evidence.md`` has them in a table.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from oracle import folios, phases
from oracle.folios import ASYNC, FULL, LIGHT, folio_writer
from oracle.script import (
    COMP,
    COMPACT_NODE,
    DIRECT,
    DIRECT_COMPACT,
    DMA32,
    KSWAPD,
    NOMEMALLOC,
    UNMOVABLE,
    UNSPLITTABLE,
    Op,
    Script,
    Setup,
    Writer,
)

__all__ = ["CORE", "Recipe", "choose", "matching", "recipes"]

MIB = 1024
SEEDS = (1, 2)
#: What ``make oracle`` records: every rule once, in a few minutes.
CORE = (
    *("D1-1", "D2-1", "D3-1", "D3n-1", "D3v-1", "D3d-1", "D3z-1", "D4t-1", "D4g-1", "D5-1", "D5n-1", "D5v-1"),
    *("D5z-1", "D6-1", "D6p-1", "D7-1", "D7p-1", "D8-1", "D8p-1", "D9p-1", "D10p-1", "D10z-1", "D11v-1"),
    *("D12-1", "C1-1", "C3-1", "C5-1", "C6-1", "C7-1", "C9-1", "C12-1", "C13-1", "C15-1", "C16-1", "C18-1"),
)

#: Writes a script's operations; pages of the zone and the seed are given.
Write = Callable[[int, int], Sequence[Op]]


@dataclass(frozen=True)
class Recipe:
    """A set that can be made: its operations are written when they are asked for."""

    name: str
    setup: Setup
    write: Write
    description: str
    seed: int

    @property
    def needs_defrag_mode(self) -> bool:
        """Is it for kernels that have vm.defrag_mode only?"""
        return self.setup.defrag_mode

    def script(self) -> Script:
        ops = self.write(self.seed, self.setup.pages)
        return Script(self.name, self.setup, ops, self.description)


def _plain(n: int, *args: object, room: object = None, **more: object) -> Write:
    """Operations of ``phases.epochs``."""

    def write(seed: int, pages: int) -> Sequence[Op]:
        w = Writer(f"plain {seed} {n} {sorted(more)}", room if isinstance(room, int) else pages)
        phases.epochs(w, n, *args, **more)  # type: ignore[arg-type]
        return w.ops[:n]

    return write


def _bursts(n: int, profile: phases.Profile, kinds: phases.Kinds = phases.PLAIN, **more: float) -> Write:
    def write(seed: int, pages: int) -> Sequence[Op]:
        w = Writer(f"bursts {seed} {n} {sorted(more)}", pages)
        phases.bursts(w, n, profile, kinds, **more)  # type: ignore[arg-type]
        return w.ops[:n]

    return write


def _mixed(n: int, types: phases.Weights, profile: phases.Profile, share: tuple[float, float]) -> Write:
    def write(seed: int, pages: int) -> Sequence[Op]:
        w = Writer(f"mixed {seed} {n}", pages)
        phases.mixed(w, n, types, profile, share, phase=300 if pages < 1 << 18 else 2000)
        return w.ops[:n]

    return write


def _cpus(write: Write, run: float = 6) -> Write:
    def spread(seed: int, pages: int) -> Sequence[Op]:
        return phases.on_cpus(write(seed, pages), Writer(f"cpus {seed}", pages), 4, run)

    return spread


def _folios(write: Callable[..., None], **more: object) -> Write:
    def written(seed: int, pages: int) -> Sequence[Op]:
        w = folio_writer(f"{write.__name__} {seed} {sorted(more)}", pages)
        write(w, **more)
        return w.ops

    return written


def _isolated(n: int) -> Write:
    def write(seed: int, pages: int) -> Sequence[Op]:
        w = Writer(f"isolation {seed}", pages)
        phases.epochs(
            w,
            n,
            (phases.SMALL, phases.MIDDLE, phases.THP),
            between=phases.isolation(pages),
            lru=0.999,
            low=(0.05, 0.4),
            high=(0.4, 0.85),
            types=(0.1, 8, 0.05),
            drift=(0.3, 1, 2),
        )
        return w.ops[:n]

    return write


def _contiguous(
    n: int, cma: tuple[int, int], kinds: phases.Kinds = phases.PLAIN, full: bool = False
) -> Write:
    def write(seed: int, pages: int) -> Sequence[Op]:
        w = Writer(f"contiguous {seed}", pages)
        low, high = ((0.2, 0.7), (0.9, 1.02)) if full else ((0.05, 0.3), (0.2, 0.6))
        between = phases.contiguous(cma)
        phases.epochs(w, n, phases.COMMON, kinds, between=between, lru=0, low=low, high=high)
        return w.ops[:n]

    return write


ATOMIC = (phases.ATOMIC, phases.MIDDLE, phases.SMALL)
ALL = (phases.BIG, phases.MIDDLE, phases.THP, phases.SMALL)
PCP = (phases.ZERO, phases.PCP)
FEW = {"low": (0.2, 0.5), "high": (0.5, 0.8)}
ZONED = (*phases.MIXED[:3], (15, NOMEMALLOC | DMA32))
EXHAUSTED: dict[str, Any] = {"wmark": (0, 0, 0), "boost": 0}
DEFRAG = [(50, NOMEMALLOC), (50, NOMEMALLOC | KSWAPD)]


def _small(**more: object) -> Setup:
    return Setup(zone_kib=64 * MIB, bypass=True, dump_every=2000, **more)  # type: ignore[arg-type]


def _big(mib: int = 256, **more: object) -> Setup:
    return Setup(zone_kib=mib * MIB, **more)  # type: ignore[arg-type]


#: name -> setup, operations, description; pcp: whether the per-CPU lists are in the way of requests.
PLAIN: dict[str, tuple[Setup, Write, str]] = {
    "D1": (
        _small(),
        _mixed(10000, (0, 1, 0), [phases.ALL_ORDERS] * 3, (0.15, 0.75)),
        "movable only, orders 0-10, light",
    ),
    "D2": (_small(), _plain(20000, **FEW), "three migratetypes, light"),
    "D3": (_small(), _plain(40000, phases.COMMON, phases.MIXED), "high pressure, boosting, gfp mix"),
    "D3n": (_small(dma32=True), _plain(40000, phases.COMMON, phases.MIXED), "like D3, NOFRAGMENT first"),
    "D3v": (
        replace(_small(), exact=False),
        _plain(40000, phases.COMMON, phases.MIXED),
        "like D3, natural vmstat threshold",
    ),
    "D3d": (_small(defrag_mode=True), _plain(40000, phases.COMMON, DEFRAG), "like D3, vm.defrag_mode=1"),
    "D3z": (_small(**EXHAUSTED), _plain(40000), "to exhaustion, watermarks 0, boost off"),
    "D4": (_big(), _plain(40000, PCP, low=(0.2, 0.5), high=(0.4, 0.8)), "pcp, orders 0-3 and 9, light"),
    "D4b": (_big(), _bursts(60000, phases.PCP, high=0.7, longest=5000), "pcp, long runs"),
    "D4t": (
        _big(),
        _bursts(60000, phases.PCP, high=0.7, longest=2000, tick=0.004, drain=0.0002),
        "pcp, long runs, ticks and drains",
    ),
    "D4c": (
        _big(1024, pcp=(400, 1500, 63)),
        _bursts(60000, phases.PCP, high=0.7, longest=2000, tick=0.002),
        "pcp limits of a machine with many CPUs",
    ),
    "D4f": (
        _big(1024, pcp=(378, 378, 63)),
        _bursts(40000, phases.PCP, high=0.7, longest=1000),
        "pcp with a fixed high",
    ),
    "D4g": (
        _big(small_cache=True, pcp=(252, 1500, 63)),
        _bursts(60000, phases.PCP, high=0.7, longest=2000, tick=0.002),
        "pcp, PCPF_FREE_HIGH_BATCH clear",
    ),
    "D5": (_big(), _plain(60000, ALL, phases.MIXED), "pcp, all orders, until failures"),
    "D5n": (_big(64, dma32=True), _plain(40000, phases.COMMON, phases.MIXED), "like D5, NOFRAGMENT first"),
    "D5v": (
        _big(exact=False),
        _plain(60000, ALL[:3], phases.MIXED),
        "like D5, natural vmstat threshold",
    ),
    "D5z": (_big(64, **EXHAUSTED), _plain(40000), "pcp, to exhaustion, watermarks 0, boost off"),
    "D6": (
        _big(bypass=True),
        _plain(
            40000, ATOMIC, phases.ATOMICS, low=(0.6, 0.9), high=(0.95, 1.02), between=phases.unreserving()
        ),
        "HIGHATOMIC reserve and unreserve",
    ),
    "D6p": (
        _big(),
        _plain(
            40000, ATOMIC, phases.ATOMICS, low=(0.6, 0.9), high=(0.95, 1.02), between=phases.unreserving()
        ),
        "like D6, pcp",
    ),
    "D6q": (
        _big(wmark=(32768, 36864, 40960)),
        _plain(
            40000, ATOMIC, phases.ATOMICS, low=(0.3, 0.5), high=(0.6, 0.95), between=phases.unreserving(0.002)
        ),
        "like D6p, raised watermarks",
    ),
    "D7": (
        _big(bypass=True, cma=(16384, 16384)),
        _contiguous(20000, (16384, 16384)),
        "CMA, alloc_contig_range, free_contig_range",
    ),
    "D7h": (
        _small(cma=(8192, 4096)),
        _contiguous(40000, (8192, 4096), phases.MIXED, full=True),
        "CMA under pressure",
    ),
    "D7p": (_big(cma=(16384, 16384)), _contiguous(20000, (16384, 16384)), "like D7, pcp"),
    "D8": (_small(), _isolated(20000), "isolation and undo amid allocations"),
    "D8p": (_big(64), _isolated(20000), "like D8, pcp"),
    "D9": (
        _small(two_zones=True),
        _plain(40000, ALL[1:], ZONED, room=16384 + 31744, low=(0.3, 0.7), high=(0.7, 1.03)),
        "two zones of a node, lowmem reserve",
    ),
    "D9p": (
        _big(64, two_zones=True),
        _plain(40000, ALL[1:], ZONED, room=16384 + 31744, low=(0.3, 0.7), high=(0.7, 1.03)),
        "like D9, pcp",
    ),
    "D11": (
        _big(cpus=4),
        _cpus(_plain(60000, PCP, low=(0.2, 0.5), high=(0.4, 0.8))),
        "4 CPUs, light, orders 0-3 and 9",
    ),
    "D11c": (
        _big(cpus=4, pcp=(252, 900, 63)),
        _cpus(_bursts(60000, phases.PCP, high=0.7, longest=2000, tick=0.002, drain=0.0002), 300),
        "4 CPUs, long runs, ticks and drains",
    ),
    "D11v": (
        _big(cpus=4, exact=False),
        _cpus(_plain(60000, ALL, phases.MIXED)),
        "4 CPUs, all orders, natural vmstat threshold",
    ),
    "D12": (
        _big(64),
        _plain(
            40000,
            phases.COMMON,
            phases.MIXED,
            between=phases.each(phases.reporting(), phases.ticking(), phases.unreserving()),
        ),
        "page reporting, ticks, drains, unreserves",
    ),
}
#: Ragged zones: the end of the last pageblock is missing, and firmware kept holes.
RAGGED: dict[str, tuple[dict[str, object], phases.Kinds, str]] = {
    "D10": ({"bypass": True}, phases.MIXED, "ragged zone with holes"),
    "D10z": ({"bypass": True, **EXHAUSTED}, phases.PLAIN, "like D10, to exhaustion"),
    "D10p": ({}, phases.MIXED, "like D10, pcp"),
}


def _compaction(mib: object = 64, **more: object) -> Setup:
    return Setup(zone_kib=int(str(mib)) * MIB, compaction=True, dump_every=0, **more)  # type: ignore[arg-type]


OFF: dict[str, Any] = {"bypass": True}
FOLIOS: dict[str, tuple[Setup, Write, str]] = {
    "C1": (_compaction(**OFF), _folios(folios.whole_zone), "the whole zone, single movable pages"),
    "C2": (_compaction(**OFF), _folios(folios.direct), "direct, order 9, async"),
    "C3": (_compaction(**OFF), _folios(folios.scattered), "unmovable pages scattered"),
    "C4": (
        _compaction(**OFF),
        _folios(folios.scattered, fillings=(folios.FOLIOS, folios.WHOLE)),
        "folios of orders 0-3, some that cannot be split",
    ),
    "C5": (_compaction(**OFF), _folios(folios.priorities), "priorities in turn, pinned folios"),
    "C6": (_compaction(**OFF), _folios(folios.amid), "positions, skip bits, deferral, kcompactd"),
    "C7": (_compaction(), _folios(folios.amid), "like C6, pcp"),
    "C8": (
        _compaction(256),
        _folios(
            folios.direct,
            orders=(9, 9, 9, 10, 5),
            priorities=(ASYNC, LIGHT),
            filling=folios.CLUSTERS,
            each=6,
            codes=(DIRECT_COMPACT,),
            churns=(1, 40, 400),
            left=(0.5, 0.9),
        ),
        "direct with capture, pcp",
    ),
    "C9": (_compaction(defrag_mode=True, **OFF), _folios(folios.amid, n=60), "vm.defrag_mode=1"),
    "C10": (_compaction(exact=False), _folios(folios.amid, n=60), "pcp, natural vmstat threshold"),
    "C11": (
        _compaction(wmark=(1500, 2200, 2900), boost=0, **OFF),
        _folios(folios.amid, n=80),
        "raised watermarks: gates",
    ),
    "C12": (_compaction(**OFF), _folios(folios.deferred), "deferral to its end"),
    "C13": (_compaction(**OFF), _folios(folios.amid, n=80, fillings=(folios.LARGE,)), "large folios"),
    "C14": (
        _compaction(**EXHAUSTED, **OFF),
        _folios(folios.amid, n=80, fillings=(folios.SINGLE, folios.SCATTERED, folios.EVERYTHING)),
        "to exhaustion",
    ),
    "C15": (_compaction(**EXHAUSTED, **OFF), _folios(folios.comb), "combs: no block of the order asked for"),
    "C16": (
        _compaction(wmark=(60, 80, 100), boost=0, **OFF),
        _folios(folios.at_the_mark),
        "at the watermark: isolation is refused half way",
    ),
    "C17": (_compaction(**EXHAUSTED), _folios(folios.comb), "like C15, pcp"),
    "C18": (
        _compaction(32, **EXHAUSTED, **OFF),
        _folios(folios.short_of_memory),
        "short of memory, not fragmented",
    ),
    "C19": (
        _compaction(32, wmark=(60, 80, 100), **OFF),
        _folios(folios.at_the_mark, first=5, fillings=(folios.EVERYTHING, folios.SCATTERED)),
        "like C16 with boosting",
    ),
    "C20": (
        _compaction(),
        _folios(
            folios.amid,
            n=70,
            every=10,
            fillings=(folios.SPARSE,),
            top=(0.3, 0.98),
            nofs=0,
            left=(0.05, 0.4),
        ),
        "sparse blocks with many pinned folios",
    ),
    "C21": (
        _compaction(32, defrag_mode=True, pcp=(297, 481, 31)),
        _folios(folios.amid, n=70, orders=(1, 2, 3, 3, 9), fillings=(folios.SCATTERED, folios.FEW)),
        "vm.defrag_mode=1, small orders, pcp",
    ),
}


def _requests(*priorities: int) -> list[Op]:
    flags = UNMOVABLE | DIRECT | COMP
    return [(DIRECT_COMPACT, 9, flags, priority, 0, 0) for _ in range(250) for priority in priorities]


#: docs/use/starvation.md: what follows the fill, flags of the chunks, what it is.
STARVED: dict[str, tuple[list[Op], int, str]] = {
    "S1": ([(COMPACT_NODE, 0, 0, 0, 0, 0)], 0, "the starved gigabyte, then compact_memory"),
    "S2": (_requests(ASYNC, LIGHT), 0, "..., then pageblocks by direct compaction, async and light"),
    "S3": (_requests(LIGHT), 0, "..., light"),
    "S4": (_requests(ASYNC, LIGHT), UNSPLITTABLE, "like S2, chunks that cannot be split"),
    "S5": ([(COMPACT_NODE, 0, 0, 0, 0, 0)], UNSPLITTABLE, "like S1, chunks that cannot be split"),
    "S6": (_requests(LIGHT, FULL), 0, "like S3, each followed by priority full"),
}


def recipes() -> Iterator[Recipe]:
    """All sets."""
    for seed in SEEDS:
        for name, (setup, write, words) in (PLAIN | FOLIOS).items():
            yield Recipe(f"{name}-{seed}", setup, write, words, seed)
        for name, (more, kinds, words) in RAGGED.items():
            kept = phases.holes(Writer(f"holes {seed}", 0), 40, 16384 + 260)
            setup = Setup(zone_kib=64 * MIB + 1040, holes=kept, **more)  # type: ignore[arg-type]
            write = _plain(40000, phases.COMMON, kinds, room=16384 - 2500)
            yield Recipe(f"{name}-{seed}", setup, write, words, seed)
    for name, (tail, flags, words) in STARVED.items():
        setup = _compaction(1024)
        yield Recipe(f"{name}-1", setup, _starved(tail, flags), words, 1)


def _starved(tail: list[Op], flags: int) -> Write:
    return lambda seed, pages: folios.starved(pages, tail, flags)


def choose(patterns: Sequence[str], *, defrag_mode: bool) -> list[Recipe]:
    """The sets whose names match (shell patterns; a name without a seed means all seeds), CORE for none.

    defrag_mode : does the kernel have vm.defrag_mode?  Sets that need it are left out where not.

    Raises ValueError for a pattern that no set matches.
    """
    chosen = matching(list(recipes()), patterns or CORE)
    return [recipe for recipe in chosen if defrag_mode or not recipe.needs_defrag_mode]


def matching(known: Sequence[Recipe], patterns: Sequence[str]) -> list[Recipe]:
    """Those that a pattern names.  ValueError for a pattern that names none."""
    for pattern in patterns:
        if not any(_matches(recipe.name, pattern) for recipe in known):
            raise ValueError(f"no set is named {pattern!r}: asi-pa oracle record --list shows them")
    return [recipe for recipe in known if any(_matches(recipe.name, pattern) for pattern in patterns)]


def _matches(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) or name.rpartition("-")[0] == pattern
