"""``audit``: all scopes of a design within a budget, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.audit.recorded import recorded_run
from asi_pa.audit.scopes import Scope, scaled, scopes
from asi_pa.audit.script import script
from asi_pa.audit.search import Search
from asi_pa.audit.shrink import shrink
from asi_pa.audit.steps import Step, as_dicts, count_operations, sentence
from asi_pa.audit.words import (
    LIVENESS,
    invariant_name,
    invariant_words,
    mechanism_base,
    mechanism_words,
)
from asi_pa.designs import Design, as_design
from asi_pa.engine.machine import Machine

__all__ = ["DEFAULT_SECONDS", "AuditResult", "Finding", "Searched", "audit"]

SCHEMA = "asi_pa.audit/1"
DEFAULT_SECONDS = 90.0
#: States kept of a scope; about 100 bytes each.
DEFAULT_STATES = 3_000_000
#: Operations of a random walk.
WALK = 200
#: Of a scope's time, what random walks get.
WALK_SHARE = 0.2
#: Walks made with one seed, and seconds between looks at the clock and at Ctrl-C.
CHUNK = 500
SLICE = 1.0

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Searched:
    """How far a scope was searched."""

    scope: Scope
    depth: int
    """Every sequence of this many operations was tried."""
    closed: bool
    """Every reachable state was met: longer sequences lead nowhere new."""
    states: int
    """Distinct states, up to symmetry."""
    transitions: int
    """Operations carried out and checked, those of random walks included."""
    seconds: float
    """Of CPU time."""
    stopped: str
    """"closed", "depth", "states", "seconds" or "memory"."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.scope.name,
            "about": self.scope.about,
            "depth": self.depth,
            "closed": self.closed,
            "states": self.states,
            "transitions": self.transitions,
            "seconds": round(self.seconds, 3),
            "stopped": self.stopped,
        }


def _count(operations: int) -> str:
    return "1 operation" if operations == 1 else f"{operations} operations"


@dataclass(kw_only=True)
class Finding:
    """One broken invariant, by one mechanism, and the shortest sequence that shows it."""

    invariant: str
    words: str
    """The invariant as a sentence about what is wrong."""
    mechanism: str
    operations: int
    """Of the sequence, those of another CPU in windows included."""
    sequence: list[Step]
    """One dict an operation (``asi_pa.audit.steps.as_dicts``)."""
    pfn: int
    """A page that shows it."""
    scope: Scope
    minimal: bool
    """No shorter sequence exists in the scope; False: from a random walk, shortened."""
    liveness: bool
    """It breaks no promise of protection."""
    result: AuditResult = field(repr=False)

    @property
    def recorded(self) -> str:
        """A recorded kernel run that shows the same (``asi-pa verify``); empty where there is none."""
        return recorded_run(self.result.design.name, self.invariant, self.mechanism)

    def script(self) -> str:
        """A Python script that runs the sequence and exits with 1 when the invariant breaks."""
        return script(self)

    def text(self) -> str:
        """The finding as lines for a terminal."""
        cpus = self.scope.machine.cpus
        how = "" if self.minimal else ", from a random walk"
        if self.recorded:
            how += f"; recorded: {self.recorded}"
        lines = [
            f"{self.words}",
            f"  by: {self.mechanism}  ({_count(self.operations)}, {self.scope.name}{how})",
        ]
        lines += [f"  {number:3}. {sentence(step, cpus)}" for number, step in enumerate(self.sequence, 1)]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "invariant": self.invariant,
            "mechanism": self.mechanism,
            "operations": self.operations,
            "sequence": self.sequence,
            "words": self.words,
            "pfn": self.pfn,
            "scope": self.scope.name,
            "minimal": self.minimal,
            "recorded": self.recorded,
            "script": self.script(),
        }


@dataclass(kw_only=True)
class AuditResult:
    """What an audit found, and how far it looked."""

    design: Design
    design_word: str
    """As the caller named it."""
    seed: int
    findings: list[Finding] = field(default_factory=list)
    """Broken promises, by invariant and then shortest first."""
    liveness: list[Finding] = field(default_factory=list)
    """Requests that fail beside usable memory, or that flip although they may not block."""
    searched: list[Searched] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def depth(self) -> int:
        """Every sequence of this many operations was tried, in every scope."""
        open_ended = [s.depth for s in self.searched if not s.closed]
        return min(open_ended or [s.depth for s in self.searched], default=0)

    @property
    def states(self) -> int:
        """Distinct states met, over all scopes."""
        return sum(s.states for s in self.searched)

    @property
    def transitions(self) -> int:
        """Operations carried out and checked."""
        return sum(s.transitions for s in self.searched)

    @property
    def states_per_second(self) -> float:
        """States met in a second of one CPU."""
        return self.states / max(sum(s.seconds for s in self.searched), 1e-9)

    @property
    def exhaustive(self) -> bool:
        """Every reachable state of every scope was met."""
        return all(s.closed for s in self.searched)

    @property
    def status(self) -> int:
        """Exit status: 1 if a promise can be broken, else 0.  Liveness findings do not count."""
        return int(bool(self.findings))

    def as_dict(self) -> dict[str, Any]:
        """For JSON: schema asi_pa.audit/1, explained in docs/use/audit.md."""
        return {
            "schema": SCHEMA,
            "design": self.design_word,
            "as_posted": self.design.as_posted,
            "protects": self.design.protects,
            "seed": self.seed,
            "depth": self.depth,
            "exhaustive": self.exhaustive,
            "states": self.states,
            "transitions": self.transitions,
            "seconds": round(self.seconds, 3),
            "states_per_second": round(self.states_per_second),
            "searched": [s.as_dict() for s in self.searched],
            "findings": [f.as_dict() for f in self.findings],
            "liveness": [f.as_dict() for f in self.liveness],
        }

    def text(self) -> str:
        """The whole result for a terminal."""
        parts = [f"{self.design_word}: {self.design.title}", f"promise: {self.design.protects}"]
        if self.design.as_posted:
            parts.append("as posted: it keeps the holes that it was posted with")
        if self.findings:
            parts.append(f"\nBROKEN, in {len(self.findings)} ways:")
            parts += [f"\n{f.text()}" for f in self.findings]
        else:
            parts.append("\nno sequence found that breaks it")
        if self.liveness:
            parts.append("\nLiveness: no promise is broken, but")
            parts += [f"\n{f.text()}" for f in self.liveness]
        parts.append("\n" + self._table())
        return "\n".join(parts)

    def _table(self) -> str:
        """What was searched."""
        rows = [("searched", "depth", "states", "operations", "")]
        for s in self.searched:
            depth = "all" if s.closed else str(s.depth)
            rows.append((s.scope.name, depth, f"{s.states:,}", f"{s.transitions:,}", s.scope.about))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            "  ".join(
                [row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in range(1, 4)), row[4]]
            ).rstrip()
            for row in rows
        ]
        closed = sum(s.closed for s in self.searched)
        whole = f"every reachable state of {closed} of {len(self.searched)} small machines"
        if not self.exhaustive:
            whole += f", every sequence of {_count(self.depth)} and more (see depth) of the others"
        lines += [
            whole,
            f"{self.states:,} states, {self.transitions:,} operations checked in {self.seconds:.0f} s: "
            f"{self.states_per_second:,.0f} states and {self._rate():,.0f} operations a second of one CPU",
        ]
        return "\n".join(lines)

    def _rate(self) -> float:
        return self.transitions / max(sum(s.seconds for s in self.searched), 1e-9)


# ---------------------------------------------------------------- the search of one scope

_Raw = tuple[int, int, int, "npt.NDArray[np.void]", "npt.NDArray[np.int64]", bool]
"""invariant, mechanism, frame, steps, results, minimal"""


def _search(
    scope: Scope,
    design: Design,
    depth: int,
    states: int,
    seconds: float,
    seed: int,
    liveness: bool,
    stop: Event,
) -> tuple[Searched, list[_Raw]]:
    """Explores one scope breadth first, then walks at random from where that ended."""
    until = time.monotonic() + seconds
    machine = Machine(scope.machine, design)
    search = Search(
        machine,
        [(request.gfp, 0, scope.machine.max_page_order) for request in scope.requests],
        scope.contig,
        windows=scope.windows,
        liveness=liveness,
        ticks=scope.machine.zones[0].pcp is not None,
    )
    explore_until = until - seconds * WALK_SHARE
    while not stop.is_set():
        left = explore_until - time.monotonic()
        search.explore(depth, states, min(left, SLICE))
        machine.raise_hook_error()
        if search.stopped != "seconds" or left <= SLICE:
            break
    stopped = search.stopped
    raw: list[_Raw] = []
    walks = 0 if search.closed else max(search.transitions // (4 * WALK), 50)
    chunk = 0
    while walks > 0 and not stop.is_set() and time.monotonic() < until:
        walked = search.walk(
            seed << 20 | chunk, WALK, min(until - time.monotonic(), SLICE), min(walks, CHUNK)
        )
        machine.raise_hook_error()
        chunk += 1
        walks -= CHUNK
        if walked is None:
            continue
        number, path, walk = walked
        invariant, mechanism, frame, _ = search.findings()[number]
        steps = shrink(search, np.concatenate([path, walk]), (invariant, mechanism), until)
        raw.append((invariant, mechanism, frame, steps, search.replay(steps)[1], False))
    raw += [
        (invariant, mechanism, frame, steps, search.replay(steps)[1], True)
        for invariant, mechanism, frame, steps in search.findings()
        if steps is not None
    ]
    searched = Searched(
        scope=scope,
        depth=search.depth,
        closed=search.closed,
        states=search.states,
        transitions=search.transitions,
        seconds=search.seconds,
        stopped=stopped,
    )
    return searched, raw


def _choose(found: list[tuple[Scope, _Raw]]) -> list[tuple[Scope, _Raw]]:
    """The shortest for each pair; one in a window only where the same mechanism needs a window."""
    best: dict[tuple[int, int], tuple[Scope, _Raw]] = {}
    for scope, raw in found:
        pair = raw[0], raw[1]
        if pair not in best or count_operations(raw[3]) < count_operations(best[pair][1][3]):
            best[pair] = scope, raw
    return [
        best[pair]
        for pair in best
        if pair[1] == mechanism_base(pair[1]) or (pair[0], mechanism_base(pair[1])) not in best
    ]


def audit(
    design: str | Design,
    *,
    depth: int | None = None,
    states: int | None = None,
    seconds: float = DEFAULT_SECONDS,
    seed: int = 0,
    liveness: bool = True,
    progress: Progress | None = None,
    only: tuple[str, ...] = (),
) -> AuditResult:
    """Can this design ever break its promise?

    Parameters
    ----------
    design : str or Design
        A built-in name, or FILE.py:NAME.
    depth : int, optional
        Longest sequence, in operations; None: as far as the time allows.
    states : int, optional
        Most states of a scope; None: 3,000,000.
    seconds : float
        For everything, on two CPUs.
    seed : int
        Of the random walks beyond the exhaustive depth.
    liveness : bool
        Look for failures beside usable memory as well.
    progress : callable, optional
        Called as (what, done, of) after each scope.
    only : tuple of str
        Names of scopes; empty: all.

    Raises ValueError for an unknown design or scope, one that protects nothing, and numbers that cannot be.
    How far a search comes depends on the machine's speed, unless ``depth`` or ``states`` ends it before.
    """
    chosen = as_design(design)
    if not chosen.protects:
        raise ValueError(f"design {chosen.name!r} protects nothing, there is nothing to audit")
    for what, least in (("depth", depth), ("states", states)):
        if least is not None and least < 1:
            raise ValueError(f"{what} {least} is not at least 1")
    if not seconds > 0:
        raise ValueError(f"seconds {seconds} is not above 0")
    small = scaled(chosen)
    todo = _chosen_scopes(small, only)
    result = AuditResult(
        design=chosen, design_word=design if isinstance(design, str) else chosen.name, seed=seed
    )
    start = time.monotonic()

    def search(scope: Scope, slice_: float, stop: Event) -> tuple[Searched, list[_Raw]]:
        return _search(scope, small, depth or 1000, states or DEFAULT_STATES, slice_, seed, liveness, stop)

    done = _search_all(todo, search, start + seconds, progress)
    result.seconds = time.monotonic() - start
    found: list[tuple[Scope, _Raw]] = []
    for scope in todo:
        searched, raw = done[scope.name]
        result.searched.append(searched)
        found += [(scope, one_raw) for one_raw in raw]
    for scope, raw_finding in _choose(found):
        _add(result, small, scope, raw_finding)
    for findings in (result.findings, result.liveness):
        findings.sort(key=lambda f: (f.invariant, f.operations, f.mechanism))
    return result


def _chosen_scopes(design: Design, only: tuple[str, ...]) -> list[Scope]:
    every = list(scopes(design))
    names = [scope.name for scope in every]
    for name in only:
        if name not in names:
            raise ValueError(f"unknown scope {name!r}: scopes are {', '.join(names)}")
    return [scope for scope in every if not only or scope.name in only]


def _search_all(
    todo: list[Scope],
    search: Callable[[Scope, float, Event], tuple[Searched, list[_Raw]]],
    deadline: float,
    progress: Progress | None,
) -> dict[str, tuple[Searched, list[_Raw]]]:
    """The scopes by name, each searched within its share of the time, two at once."""
    lock, stop = Lock(), Event()
    left = [sum(scope.share for scope in todo)]
    done: dict[str, tuple[Searched, list[_Raw]]] = {}

    def one(scope: Scope) -> None:
        """A scope gets its share of what is left, on each of two CPUs."""
        with lock:
            remaining = max(deadline - time.monotonic(), 0.05)
            slice_ = min(remaining, 2 * remaining * scope.share / left[0])
            left[0] -= scope.share
        answer = search(scope, slice_, stop)
        with lock:
            done[scope.name] = answer
            if progress is not None:
                progress("audit", len(done), len(todo))

    with ThreadPoolExecutor(2) as pool:
        try:
            for future in [pool.submit(one, scope) for scope in todo]:
                future.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return done


def _add(result: AuditResult, design: Design, scope: Scope, raw: _Raw) -> None:
    invariant, mechanism, frame, steps, results, minimal = raw
    finding = Finding(
        invariant=invariant_name(invariant),
        words=invariant_words(invariant, design.tree),
        mechanism=mechanism_words(invariant, mechanism),
        operations=count_operations(steps),
        sequence=as_dicts(steps, results, scope, design),
        pfn=frame,
        scope=scope,
        minimal=minimal,
        liveness=invariant in LIVENESS,
        result=result,
    )
    (result.liveness if finding.liveness else result.findings).append(finding)
