"""Scripts at random: a machine that is drawn, and operations of every kind that fits it.

Script ``k`` of a seed is the same on every machine.  What is never drawn is what no recorded run can show
exactly, and docs/evidence.md lists it: alloc_contig_range() where pages would have to be moved, sleeping
operations while counters lag, and compaction on several CPUs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from oracle import folios, phases
from oracle.phases import Between, Kinds
from oracle.script import DMA32, HIGH, KSWAPD, NOMEMALLOC, Script, Setup, Writer

__all__ = ["random_script"]

MIB = 1024
BLOCK = 512
#: A boot costs as much as some 100,000 operations.
SMALLEST, LARGEST = 150_000, 1_200_000
#: Dumps in a script: each may be half a megabyte.
DUMPS = 60


def random_script(seed: int, k: int, *, defrag_mode: bool = True, operations: int = 0) -> Script:
    """Script ``k`` of a seed.

    defrag_mode : may vm.defrag_mode be set?  (kernels since 6.16)
    operations : about how many; 0 draws that too.
    """
    r = random.Random(f"oracle {seed} {k}")
    name = f"fuzz-{seed}-{k}"
    if r.random() < 0.3:
        n = operations or LARGEST
        setup, w, words = _with_compaction(r, name, defrag_mode, n)
        return Script(name, setup, w.ops[:n], words)
    n = operations or int(SMALLEST * (LARGEST / SMALLEST) ** r.random())
    setup = replace(_machine(r, defrag_mode), dump_every=max(500, n // r.randrange(5, DUMPS)))
    w = Writer(name, _room(setup))
    words = _phases(r, w, n, setup)
    ops = w.ops[:n]
    if setup.cpus > 1:
        ops = phases.on_cpus(ops, w, setup.cpus, r.choice((2, 6, 50, 300)))
    return Script(name, setup, ops, words)


def _room(setup: Setup) -> int:
    held = sum(b - a for a, b in setup.holes)
    return setup.pages - held + (31744 if setup.two_zones else 0)


def _marks(r: random.Random, pages: int) -> tuple[int, int, int] | None:
    """Watermarks: the kernel's, none, low ones, or such that much of the zone is a reserve."""
    kind = r.choices(("natural", "none", "low", "high"), (5, 2, 2, 1))[0]
    if kind == "natural":
        return None
    if kind == "none":
        return 0, 0, 0
    low = r.randrange(1, 400) if kind == "low" else r.randrange(pages // 10, pages // 2)
    step = r.randrange(1, max(2, low // 2))
    return low, low + step, low + 2 * step


def _limits(r: random.Random) -> tuple[int, int, int] | None:
    """pcp limits as another machine has them."""
    if r.random() < 0.5:
        return None
    batch = r.choice((1, 2, 7, 31, 63))
    low = r.randrange(batch, 20 * batch + 2)
    return low, low if r.random() < 0.2 else low + r.randrange(1, 40 * batch + 2), batch


def _cma(r: random.Random, pages: int) -> tuple[int, int]:
    """Some pageblocks of the zone's middle or end."""
    blocks = pages // BLOCK
    if blocks < 4:
        return 0, 0
    n = r.randrange(1, max(2, blocks // 2))
    return r.randrange(1, blocks - n) * BLOCK, n * BLOCK


def _machine(r: random.Random, defrag_mode: bool) -> Setup:
    """A machine for everything but compaction."""
    kib = r.choice((8, 16, 32, 64, 64, 64, 128, 256, 256, 512)) * MIB
    ragged = r.random() < 0.25
    if ragged:
        kib += r.randrange(1, 512) * 8  # QEMU rounds to that
    pages = kib >> 2
    cpus = r.choice((2, 3, 4, 4)) if r.random() < 0.3 else 1
    two = r.random() < 0.15
    cma = _cma(r, pages) if not ragged and r.random() < 0.3 else (0, 0)
    kept = phases.holes(Writer(f"holes {r.random()}", 0), r.randrange(1, 40), pages) if ragged else ()
    return Setup(
        zone_kib=kib,
        bypass=cpus == 1 and r.random() < 0.4,
        exact=r.random() < 0.7,
        cpus=cpus,
        wmark=_marks(r, pages),
        boost=r.choice((None, None, None, 0, 0, r.randrange(500, 30000))),
        defrag_mode=defrag_mode and r.random() < 0.12,
        pcp=_limits(r),
        small_cache=r.random() < 0.3,
        cma=cma,
        holes=kept,
        dma32=two or r.random() < 0.25,
        two_zones=two,
    )


def _kinds(r: random.Random, setup: Setup, sleeps: bool) -> Kinds:
    kinds: list[Kinds] = [phases.PLAIN, phases.MIXED, phases.MIXED, phases.ATOMICS]
    if not sleeps and setup.cpus == 1:
        # kswapd is woken and cannot run: preemption is off until the end, and there is no other CPU
        kinds += [
            [(40, NOMEMALLOC | KSWAPD), (20, HIGH | KSWAPD), (10, KSWAPD), (30, NOMEMALLOC)],
            [(50, NOMEMALLOC), (50, NOMEMALLOC | KSWAPD)],
        ]
    drawn = r.choice(kinds)
    return [*drawn, (15, NOMEMALLOC | DMA32)] if setup.two_zones else drawn


def _between(r: random.Random, setup: Setup) -> tuple[Between, bool, bool]:
    """(what happens in between, does it isolate, does it sleep)."""
    parts: list[Between] = []
    sleeps = bool(setup.cma[1]) and setup.exact and r.random() < 0.7
    isolates = not sleeps and setup.pages >= 4 * BLOCK and r.random() < 0.3
    if sleeps:
        parts.append(phases.contiguous(setup.cma, r.choice((0.003, 0.03))))
    if isolates:
        most = max(1, setup.pages // BLOCK // 4)
        parts.append(phases.isolation(setup.pages // BLOCK * BLOCK, r.choice((0.002, 0.02)), min(5, most)))
    if r.random() < 0.4:
        parts.append(phases.unreserving())
    if r.random() < 0.3:
        parts.append(phases.reporting())
    if r.random() < 0.5:
        parts.append(phases.ticking())
    return phases.each(*parts), isolates, sleeps


def _phases(r: random.Random, w: Writer, n: int, setup: Setup) -> str:
    """Writes the operations; what they are, in words."""
    between, isolates, sleeps = _between(r, setup)
    lru = 0.0 if sleeps else r.choice((0.0, 0.5, 0.8, 1.0))
    words = []
    while len(w) < n:
        kinds = _kinds(r, setup, sleeps)
        end = min(n, len(w) + r.randrange(4000, 80000))
        types = [r.choice((0.05, 0.3, 1, 3, 8)) for _ in range(3)]
        kind = r.choices(("epochs", "bursts", "mixed"), (6, 3, 1))[0]
        if kind == "epochs":
            low = r.uniform(0.05, 0.8)
            profiles = r.choice((phases.COMMON, (phases.BIG, phases.MIDDLE, phases.THP), (phases.ATOMIC,)))
            top = r.uniform(low + 0.1, 1.02)
            phases.epochs(
                w,
                end,
                profiles,
                kinds,
                low=(low / 2, low),
                high=(top, top + 0.03),
                lru=lru,
                types=types,
                drift=r.choice(((0.02, 0.3, 1, 4), (0.3, 1, 2), (1,))),
                between=between,
            )
        elif kind == "bursts":
            profile = r.choice((phases.PCP, phases.BIG, phases.SMALL))
            high = r.uniform(0.4, 1.0)
            phases.bursts(
                w, end, profile, kinds, lru=lru, high=high, longest=r.choice((40, 400, 3000)), between=between
            )
        else:
            share = (r.uniform(0.1, 0.4), r.uniform(0.5, 1.0))
            profile = r.choice((phases.MIDDLE, phases.HUGE, [phases.ALL_ORDERS] * 3))
            phases.mixed(w, end, types, profile, share, kinds, lru=lru, phase=r.choice((100, 600)))
        words.append(kind)
    with_ = [word for word, is_ in (("isolation", isolates), ("alloc_contig_range", sleeps)) if is_]
    return ", ".join(words) + (f"; with {' and '.join(with_)}" if with_ else "")


# ---------------------------------------------------------------- compaction


def _with_compaction(r: random.Random, name: str, defrag_mode: bool, n: int) -> tuple[Setup, Writer, str]:
    mib = r.choice((16, 32, 32, 64, 64, 64, 128))
    pages = mib << 8
    setup = Setup(
        zone_kib=mib * MIB,
        bypass=r.random() < 0.6,
        exact=r.random() < 0.8,
        compaction=True,
        wmark=_marks(r, pages) if r.random() < 0.6 else r.choice(((60, 80, 100), (0, 0, 0), None)),
        boost=r.choice((None, None, 0)),
        defrag_mode=defrag_mode and r.random() < 0.15,
        pcp=_limits(r),
        cma=_cma(r, pages) if r.random() < 0.2 else (0, 0),
        dump_every=r.choice((0, 2000, 5000)),
    )
    w = folios.folio_writer(name, pages)
    fresh: tuple[Callable[[Writer], None], ...] = (folios.comb, folios.short_of_memory, folios.at_the_mark)
    others: tuple[Callable[[Writer], None], ...] = (
        folios.amid,
        folios.scattered,
        folios.priorities,
        folios.whole_zone,
        folios.deferred,
        folios.direct,
    )
    first = r.choice((*fresh, *others))
    words = [first.__name__]
    first(w)
    for part in _drawn(r, others):
        if len(w) < n:
            part(w)
            words.append(part.__name__)
    return setup, w, "compaction: " + ", ".join(words)


def _drawn(r: random.Random, parts: Sequence[Callable[[Writer], None]]) -> list[Callable[[Writer], None]]:
    return [r.choice(parts) for _ in range(r.randrange(3, 12))]
