"""The sets for a kernel with a design: plain and protected requests, that may block and that may not.

Where the design's types and lists are those of Linux plus one or two, these try every path: claims, merges,
reserves, exhaustion, the per-CPU lists.  ``asi-pa oracle record --design`` records them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oracle import phases
from oracle.phases import Kinds
from oracle.script import DIRECT, HIGH, LRU, MEMALLOC, MOVABLE, NOMEMALLOC, PROTECTED, TICK, Op, Setup, Writer
from oracle.sets import EXHAUSTED, MIB, SEEDS, Recipe, Write, matching

__all__ = ["choose_for_design", "design_recipes"]

#: Like GFP_KERNEL, GFP_NOWAIT and GFP_ATOMIC, each protected or plain.
BLOCKING: Kinds = [(1, NOMEMALLOC | DIRECT), (1, NOMEMALLOC | DIRECT | PROTECTED)]
KINDS: Kinds = [
    *((35, NOMEMALLOC | DIRECT), (35, NOMEMALLOC | DIRECT | PROTECTED)),
    *((6, 0), (6, PROTECTED), (8, HIGH), (8, HIGH | PROTECTED), (2, HIGH | MEMALLOC)),
]
ATOMICS: Kinds = [
    *((20, NOMEMALLOC | DIRECT), (20, NOMEMALLOC | DIRECT | PROTECTED)),
    *((20, HIGH), (20, HIGH | PROTECTED), (5, 0), (5, PROTECTED)),
]


def _in_turn(seed: int, pages: int) -> Sequence[Op]:
    """Every kind, type and order in turn, allocated and freed, then all of them held together."""
    w = Writer(seed, pages)
    for held in (False, True):
        for order in range(11):
            for mt in range(3):
                for _, kind in KINDS:
                    w.alloc(order, mt | kind | (LRU if mt == MOVABLE and order < 10 else 0))
                    if not held:
                        w.free(newest=True)
                w.op(TICK)
    while w.used:
        w.free()
    return w.ops


def _epochs(n: int, kinds: Kinds, **more: Any) -> Write:
    def write(seed: int, pages: int) -> Sequence[Op]:
        w = Writer(f"design {seed} {n} {sorted(more)}", pages)
        profiles = (phases.SMALL, phases.MIDDLE, phases.THP, phases.BIG)
        phases.epochs(w, n, profiles, kinds, **more)
        return w.ops[:n]

    return write


def _setup(mib: int = 64, **more: Any) -> Setup:
    return Setup(zone_kib=mib * MIB, design=True, dump_every=1000, **more)


LIGHT = {"low": (0.1, 0.4), "high": (0.5, 0.8)}
SETS: dict[str, tuple[Setup, Write, str]] = {
    "X1": (_setup(bypass=True), _in_turn, "every kind and order in turn"),
    "X1b": (_setup(), _in_turn, "like X1, pcp"),
    "X3": (_setup(bypass=True), _epochs(10000, BLOCKING, **LIGHT), "light"),
    "X4": (_setup(bypass=True), _epochs(20000, KINDS), "high pressure"),
    "X4n": (_setup(bypass=True, dma32=True), _epochs(20000, KINDS), "like X4, NOFRAGMENT first"),
    "X4z": (_setup(bypass=True, **EXHAUSTED), _epochs(20000, BLOCKING), "to exhaustion, watermarks 0"),
    "X4h": (
        _setup(256, bypass=True),
        _epochs(20000, ATOMICS, low=(0.6, 0.9), high=(0.95, 1.02)),
        "HIGHATOMIC reserves",
    ),
    "X4r": (_setup(bypass=True), _epochs(10000, KINDS, between=phases.reporting()), "page reporting"),
    "X5": (_setup(256), _epochs(20000, BLOCKING, between=phases.ticking(), **LIGHT), "pcp, light, ticks"),
    "X6": (_setup(), _epochs(20000, KINDS), "pcp, high pressure"),
    "X6z": (_setup(**EXHAUSTED), _epochs(20000, BLOCKING), "pcp, to exhaustion"),
}


def design_recipes() -> list[Recipe]:
    """All sets for designs."""
    return [
        Recipe(f"{name}-{seed}", setup, write, words, seed)
        for seed in SEEDS
        for name, (setup, write, words) in SETS.items()
    ]


def choose_for_design(patterns: Sequence[str]) -> list[Recipe]:
    """The sets whose names match, those with seed 1 for no pattern.  ValueError as ``sets.choose``."""
    return matching(design_recipes(), patterns or ("X*-1",))
