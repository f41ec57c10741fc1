"""The shortest script that still shows a difference.

Whether a candidate shows one is asked of a kernel and an engine, a boot each time; so the script is first cut
behind the difference, then halved as long as its end shows one, and only then taken apart in pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from oracle.recorded import Arrays
from oracle.script import ALLOC, CONTIG, DIRECT_COMPACT, FREE, Op, Script, Setup

__all__ = ["by_rows", "shortest", "simpler", "without"]

FREE_CODE = 2
GIVES = (ALLOC, CONTIG, DIRECT_COMPACT)

#: Does this script show a difference?
Shows = Callable[[Script], bool]


def by_rows(arrays: Arrays) -> list[Op]:
    """A recorded run's operations as a script that asks for the same: every free says what it frees."""
    ops: list[Op] = []
    for row in arrays["ops"].tolist():
        code, order, flags, a, b = row[:5]
        cpu = row[5] if len(row) > 5 else 0
        ops.append((FREE, 0, 0, a, 0, cpu) if code == FREE_CODE else (code, order, flags, a, b, cpu))
    return ops


def without(ops: Sequence[Op], start: int, stop: int) -> list[Op]:
    """The script without operations ``start`` to ``stop``, and without the frees of what they allocated."""
    row_of: dict[int, int] = {}
    left: list[Op] = []
    for row, op in enumerate(ops):
        if start <= row < stop:
            continue
        if op[0] == FREE:
            if op[3] not in row_of:
                continue
            left.append((*op[:3], row_of[op[3]], *op[4:]))
            continue
        row_of[row] = len(left)
        left.append(op)
    return left


def simpler(setup: Setup) -> Iterator[Setup]:
    """The same machine with one thing less."""
    if setup.cpus > 1:
        yield replace(setup, cpus=1)
    if setup.two_zones:
        yield replace(setup, two_zones=False)
    if setup.dma32 and not setup.two_zones:
        yield replace(setup, dma32=False)
    for name, plain in (
        ("exact", True),
        ("bypass", True),
        ("defrag_mode", False),
        ("small_cache", False),
        ("pcp", None),
        ("boost", 0),
        ("wmark", (0, 0, 0)),
        ("holes", ()),
        ("cma", (0, 0)),
    ):
        if getattr(setup, name) != plain and not (name == "bypass" and setup.cpus > 1):
            yield replace(setup, **{name: plain})  # type: ignore[arg-type]


def shortest(script: Script, shows: Shows, tries: int = 200) -> Script:
    """The smallest script found with ``tries`` questions; ``script`` itself is taken to show a difference."""
    left = [tries]

    def asked(candidate: Script) -> bool:
        left[0] -= 1
        return bool(candidate.ops) and shows(candidate)

    script = _prefix(script, asked, left)
    size = max(1, len(script.ops) // 2)
    while left[0] > 0:
        smaller = _taken_apart(script, size, asked, left)
        if len(smaller.ops) == len(script.ops):
            if size == 1:
                break
            size = max(1, size // 2)
        else:
            script = smaller
            size = min(size, max(1, len(script.ops) // 2))
    changed = True
    while changed and left[0] > -20:
        changed = False
        for setup in simpler(script.setup):
            candidate = replace(script, setup=setup, ops=_on_cpus_of(script.ops, setup))
            if asked(candidate):
                script, changed = candidate, True
                break
    return script


def _on_cpus_of(ops: Sequence[Op], setup: Setup) -> Sequence[Op]:
    return ops if setup.cpus > 1 else [(*op[:5], 0) for op in ops]


def _prefix(script: Script, asked: Shows, left: list[int]) -> Script:
    """The shortest beginning that shows a difference at its end, by halving."""
    low, high = 0, len(script.ops)
    while high - low > 1 and left[0] > 0:
        middle = (low + high) // 2
        if asked(replace(script, ops=script.ops[:middle])):
            high = middle
        else:
            low = middle
    return replace(script, ops=script.ops[:high])


def _taken_apart(script: Script, size: int, asked: Shows, left: list[int]) -> Script:
    """What is left when every piece of ``size`` operations that is not needed is gone, from the end on."""
    stop = len(script.ops)
    while stop > 0 and left[0] > 0:
        start = max(0, stop - size)
        candidate = replace(script, ops=without(script.ops, start, stop))
        if len(candidate.ops) < len(script.ops) and asked(candidate):
            script = candidate
        stop = min(start, len(script.ops))
    return script
