"""The comparison itself: every trace and seed through every design, on all processors, kept as it comes.

One *task* is a trace and a seed: linux is searched first, the other designs beside it on the same start
states.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from statistics import median
from typing import Any

from asi_pa.designs import REFERENCE, Design
from asi_pa.executors import processors
from asi_pa.experiment.cache import Cache, design_words, key_of, package_hash, trace_hash
from asi_pa.experiment.probe import Relief
from asi_pa.experiment.rows import (
    MIB,
    Measure,
    Row,
    SeedStarts,
    design_row,
    linux_needs,
    linux_row,
    measured_at,
    short_pages,
)
from asi_pa.experiment.search import on_lattice
from asi_pa.experiment.sizes import Size
from asi_pa.experiment.starts import kept_starts
from asi_pa.kernel.numa import RECORDED, Nodes
from asi_pa.trace import DEFAULT_CLASSIFIER, Classifier, CompiledTrace, Starts, Trace, tight_memory
from asi_pa.trace.nodes import of_trace

__all__ = ["Found", "Plan", "Study", "Subject", "at_size"]

#: Sizes of the curves of failing requests, as multiples of what the reference needs; and their seeds.
CURVE = (0.9, 0.95, 0.98, 1.0, 1.03, 1.1, 1.2, 1.5)
CURVE_SEEDS = 3
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be compared, and how."""

    designs: tuple[Design, ...]
    """With the reference among them, first."""
    protagonists: tuple[str, str]
    seeds: tuple[int, ...]
    relief: Relief
    classifier: str = "rfc"
    kernel: str | None = None
    memory: tuple[Size, ...] = ()
    """Sizes to replay instead of a search."""
    quick: bool = False
    nodes: Nodes = RECORDED
    """Of every machine."""
    threads: int = 0
    """0: as many as there are processors."""


@dataclass
class Subject:
    """A trace, compiled once."""

    trace: Trace
    starts: Starts
    hash: str
    most: int
    """Pages of the recorded zone, the largest size of a search; 0: no smaller machine can be made of it."""
    guess: int
    """Where the search for linux begins."""
    whole: CompiledTrace
    """On the recorded zone: its requests are the same on every size."""

    @cached_property
    def ample(self) -> CompiledTrace:
        """The recorded machine, with its zones where they are known; no seed has a part in it."""
        return self.starts.recorded() if self.trace.has_start and self.most else self.whole

    @property
    def as_recorded(self) -> CompiledTrace | None:
        """The same for those who ask for the usual classifier and nodes; None where others were asked for.

        And where the trace frees what no zone of it has: smaller machines can be made of it all the same.
        """
        usual = self.starts.classifier.text == DEFAULT_CLASSIFIER
        try:
            usual = usual and self.starts.nodes == of_trace(self.trace, RECORDED)
            return self.ample if usual and self.trace.has_start and self.most else None
        except ValueError:
            return None

    @property
    def kernel(self) -> str:
        """The profile that fits the recorded kernel."""
        return self.whole.kernel

    @classmethod
    def of(
        cls,
        trace: Trace,
        classifier: str | Classifier,
        seed: int,
        nodes: int | str | Nodes = RECORDED,
        cache: Cache | None = None,
    ) -> Subject:
        """Raises ValueError for a trace that cannot be compiled, or not for so many nodes.

        ``cache``: where compiled traces are.
        """
        hashed = trace_hash(trace)
        starts = kept_starts(trace, Classifier.parse(classifier, seed), nodes, cache, hashed)
        try:
            whole = starts.at(None, seed)
        except ValueError:
            # what it frees has no place in one zone: only the recorded machine is left
            return cls(trace, starts, hashed, 0, 0, starts.recorded())
        pages = sum(zone.free_pages + zone.held_pages for zone in whole.population)
        return cls(trace, starts, hashed, pages, tight_memory(whole) // 4096, whole)


class _Task:
    """One trace and seed."""

    def __init__(
        self,
        plan: Plan,
        subject: Subject,
        seed: int,
        cache: Cache,
        stopped: threading.Event,
        measure: Measure | None,
    ):
        self.plan, self.subject, self.seed, self.cache, self.stopped = plan, subject, seed, cache, stopped
        self._measure = measure
        self._starts: SeedStarts | None = None
        self._linux: Row | None = None

    def _kept(self, design: Design, what: Any, make: Callable[[SeedStarts], Row]) -> Row:
        """The row from the cache, or made and kept there."""
        plan, relief = self.plan, self.plan.relief
        key = key_of(
            "row", package_hash(), self.subject.hash, plan.classifier, plan.kernel, self.seed,
            relief.options(), design_words(design), what, plan.nodes.words,
        )  # fmt: skip
        found: Row | None = self.cache.get(key)
        if found is None:
            if self.stopped.is_set():
                raise KeyboardInterrupt
            if self._starts is None:
                subject = self.subject
                self._starts = SeedStarts(
                    subject.starts, subject.whole, self.seed, subject.most, self._measure
                )
            found = make(self._starts)
            self.cache.put(key, found)
        return found

    def linux(self, guess: int) -> Row:
        """The reference's row."""
        design, plan, stop = self.plan.designs[0], self.plan, self.stopped.is_set
        if self._linux is None:
            self._linux = self._kept(
                design,
                ["search", guess],
                lambda starts: linux_row(starts, design, plan.kernel, plan.relief, guess, stop),
            )
        return self._linux

    def run(self, guess: int, tell: Callable[[str], None]) -> dict[str, Row]:
        """A row for each design; ``tell`` is called with the name of each that is done."""
        plan, stop = self.plan, self.stopped.is_set
        linux = self.linux(guess)
        rows = {plan.designs[0].name: linux}
        tell(plan.designs[0].name)
        for design in plan.designs[1:]:
            if plan.quick:
                what, make = ["short", linux["price"]], self._short(design, linux)
            else:
                what = ["search", linux["price"], design.name in plan.protagonists]
                make = self._search(design, linux, stop)
            rows[design.name] = self._kept(design, what, make)
            tell(design.name)
        return rows

    def _search(self, design: Design, linux: Row, stop: Callable[[], bool]) -> Callable[[SeedStarts], Row]:
        plan = self.plan
        roomy = design.name in plan.protagonists  # what takes longest, and the others' lines have no room for
        return lambda starts: design_row(starts, design, plan.kernel, plan.relief, linux, stop, roomy=roomy)

    def _short(self, design: Design, linux: Row) -> Callable[[SeedStarts], Row]:
        plan = self.plan

        def make(starts: SeedStarts) -> Row:
            pages = starts.most if linux["price"] is None else min(short_pages(linux["price"]), starts.most)
            short = starts.measured(pages, design, plan.kernel, plan.relief)
            return {"price": None, "roomy": None, "floored": False, "short": short}

        return make

    def needs(self) -> float | None:
        """What the reference needs with this seed, MiB."""
        design, plan, stop = self.plan.designs[0], self.plan, self.stopped.is_set
        guess = self.subject.guess

        def make(starts: SeedStarts) -> Row:
            return {"price": linux_needs(starts, design, plan.kernel, plan.relief, guess, stop)}

        found: float | None = self._kept(design, ["needs", guess], make)["price"]
        return found

    def at_memory(self, tell: Callable[[str], None]) -> tuple[list[int], dict[str, Row]]:
        """The plan's sizes in pages, and rows of measures by design and by the size's words."""
        plan = self.plan
        sizes = [size.of(self.needs, self.subject.most) for size in plan.memory]
        rows = self.at_sizes(sizes, tell)
        named = [(size.words, str(pages)) for size, pages in zip(plan.memory, sizes, strict=True)]
        return sizes, {name: {words: row[key] for words, key in named} for name, row in rows.items()}

    def at_sizes(
        self,
        sizes: Sequence[int],
        tell: Callable[[str], None],
        designs: Sequence[Design] = (),
        *,
        fitting: bool = False,
    ) -> dict[str, Row]:
        """Rows of measures at given sizes (pages; 0: the recorded machine), by design (none named: all).

        ``fitting``: a size that what the trace frees does not fit has an empty row; it is ValueError else.
        """
        chosen = designs or self.plan.designs
        rows: dict[str, Row] = {design.name: {} for design in chosen}
        for pages in sizes:
            state = _Lazy(self.subject, pages, self.seed, fitting)
            for design in chosen:
                make = self._measuring(design, state, pages)
                rows[design.name][str(pages)] = self._kept(design, ["at", pages, fitting], make)
                if pages == sizes[-1]:
                    tell(design.name)
        return rows

    def _measuring(self, design: Design, state: _Lazy, pages: int) -> Callable[[SeedStarts], Row]:
        def make(_: SeedStarts) -> Row:
            compiled = state.compiled
            if compiled is None:
                return {}
            if self._measure is not None:
                return self._measure(pages, compiled, design)
            return measured_at(compiled, design, self.plan.kernel, self.plan.relief, self.seed)

        return make


class _Lazy:
    """A start state that is made when the first design asks for it, once."""

    def __init__(self, subject: Subject, pages: int, seed: int, fitting: bool) -> None:
        self._subject, self._pages, self._seed, self._fitting = subject, pages, seed, fitting

    @cached_property
    def compiled(self) -> CompiledTrace | None:
        """None where it does not fit, and that is allowed."""
        try:
            made = at_size(self._subject, self._pages, self._seed)
        except ValueError:
            if self._fitting:
                return None
            raise
        return None if self._fitting and made.initial.get("evicted") else made


def at_size(subject: Subject, pages: int, seed: int) -> CompiledTrace:
    """The start state of a size; 0: the recorded machine, with its zones where they are known."""
    if pages:
        return subject.starts.at(pages, seed)
    return subject.ample


@dataclass
class Found:
    """What a study found of one trace."""

    rows: list[dict[str, Row]]
    """By seed, then by design: searches and measures where memory is short.  Empty with sizes given."""
    ample: list[dict[str, Row]]
    """By seed, then by design: measures on the recorded machine; one where no seed matters.  The rows
    of designs in which a seed played no part (not ``drawn``) are the first seed's."""
    sizes: list[dict[str, Row]]
    """By seed, by design, by the size's words, where sizes were given."""
    pages: list[int]
    """These sizes with the first seed."""


class Study:
    """Runs a plan on subjects; ``measure``: who takes the first seed's measures (`FullRuns`)."""

    def __init__(
        self,
        plan: Plan,
        subjects: Sequence[Subject],
        cache: Cache,
        progress: Progress | None,
        measure: Callable[[Subject, int, CompiledTrace, Design], Row] | None = None,
    ):
        self.plan, self.subjects, self.cache = plan, subjects, cache
        self._measure = measure
        self._progress = progress
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._done = 0
        per = len(plan.designs) * (len(plan.seeds) + (2 if not plan.memory else 0))
        self._total = per * len(subjects)

    def _tell(self, what: str) -> None:
        with self._lock:
            self._done += 1
            if self._progress is not None:
                self._progress(what, min(self._done, self._total), self._total)

    def run(self) -> list[Found]:
        """Everything, in the order of the subjects.  Interrupted, it ends soon, and what was done is kept."""
        with ThreadPoolExecutor(self.plan.threads or processors()) as pool:
            try:
                return self._run(pool)
            except BaseException:
                self._stopped.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def curve(self, subject: Subject, needed: float) -> dict[str, Any]:
        """Shares of failing requests over memory, of the reference and the two: medians of some seeds.

        ``needed`` is what the reference needs, MiB.  Sizes on which the start state does not fit are left
        out.
        """
        plan = self.plan
        chosen = [d for d in plan.designs if d.name in (REFERENCE, *plan.protagonists)]
        wanted = sorted({min(on_lattice(needed * MIB * step), subject.most) for step in CURVE})
        seeds = plan.seeds[:CURVE_SEEDS]
        with ThreadPoolExecutor(plan.threads or processors()) as pool:
            futures = [
                pool.submit(
                    self._task(subject, seed, shown=False).at_sizes,
                    wanted,
                    lambda _: None,
                    chosen,
                    fitting=True,
                )
                for seed in seeds
            ]
            try:
                rows = [future.result() for future in futures]
            except BaseException:
                self._stopped.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        sizes = [p for p in wanted if all(row[REFERENCE][str(p)] for row in rows)]
        return {
            "trace": subject.trace.name,
            "mib": [pages // MIB for pages in sizes],
            "seeds": len(seeds),
            "shares": {
                design.name: {
                    key: [_middle([row[design.name][str(p)][key] for row in rows]) for p in sizes]
                    for key in ("real", "declined")
                }
                for design in chosen
            },
        }

    def _task(self, subject: Subject, seed: int, *, shown: bool = True) -> _Task:
        """``shown``: the first seed's replays are shown in full."""
        measure = None
        if shown and self._measure is not None and seed == self.plan.seeds[0]:
            measure = partial(self._measure, subject)
        return _Task(self.plan, subject, seed, self.cache, self._stopped, measure)

    def _spare(
        self, pool: ThreadPoolExecutor, subject: Subject, tell: Callable[[str], None], one: dict[str, Row]
    ) -> list[dict[str, Row]]:
        """Measures on the recorded machine: every seed's of the designs in which a seed plays a part.

        One entry where a second seed gives the same figures for these, too.
        """
        plan = self.plan
        first = {name: row["0"] for name, row in one.items()}
        drawn = [design for design in plan.designs if first[design.name]["drawn"]]
        for design in plan.designs:
            if design not in drawn:
                tell(design.name)  # another seed's, which would be the same

        def of(seeds: Sequence[int]) -> list[dict[str, Row]]:
            made = [pool.submit(self._task(subject, seed).at_sizes, (0,), tell, drawn) for seed in seeds]
            return [{name: row["0"] for name, row in future.result().items()} for future in made]

        if not drawn or all(row == first[name] for name, row in of([plan.seeds[0] + 1])[0].items()):
            return [first]
        return [first | row for row in of(plan.seeds)]

    def _run(self, pool: ThreadPoolExecutor) -> list[Found]:
        plan = self.plan
        named = [(s, lambda what, s=s: self._tell(f"{s.trace.name}, {what}")) for s in self.subjects]
        if plan.memory:
            sized = [
                [pool.submit(self._task(s, seed).at_memory, tell) for seed in plan.seeds] for s, tell in named
            ]
            made = [[future.result() for future in futures] for futures in sized]
            return [Found([], [], [rows for _, rows in of], of[0][0]) for of in made]
        base = plan.seeds[0]
        begun = [self._task(s, base) for s, _ in named]
        first = [pool.submit(task.linux, task.subject.guess) if task.subject.most else None for task in begun]
        ample = [pool.submit(self._task(s, base).at_sizes, (0,), tell) for s, tell in named]
        waiting: list[list[Future[dict[str, Row]]]] = []
        for (s, tell), task, linux in zip(named, begun, first, strict=True):
            if linux is None:
                waiting.append([])
                continue
            needed = linux.result()["price"]
            guess = s.guess if needed is None else round(needed * MIB)
            others = [self._task(s, seed) for seed in plan.seeds[1:]]
            waiting.append(
                [
                    pool.submit(task.run, s.guess, tell),
                    *(pool.submit(other.run, guess, tell) for other in others),
                ]
            )
        found = []
        for (s, tell), futures, one in zip(named, waiting, ample, strict=True):
            rows = [future.result() for future in futures]
            found.append(Found(rows, self._spare(pool, s, tell, one.result()), [], []))
        return found


def _middle(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return median(there) if there else None
