"""Designs compared: `compare`, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from asi_pa.designs import Design
from asi_pa.experiment import comparison
from asi_pa.experiment.cache import Cache, opened
from asi_pa.experiment.columns import COLUMNS, KEYS
from asi_pa.experiment.measures import MEASURES
from asi_pa.experiment.runs import SAMPLES
from asi_pa.report import render_screen, write_html, write_json
from asi_pa.report.cells import value_text
from asi_pa.results.replayed import ReplayResult
from asi_pa.tabular import Cell, Column, Frozen, Result, Table, frozen
from asi_pa.trace import Trace

__all__ = ["Claim", "CompareResult", "Judged", "MeasureRow", "Run", "compare"]

Said = Literal["better", "worse", "equal", "undecided", "untested"]
#: Keys of a row that are known without a replay in full.
_KEYS = ("trace", "memory", "nodes", "design", "classifier", "kernel", "seed")


@dataclass(frozen=True)
class Judged:
    """How one design stands to another in a measure (docs/use/method.md)."""

    word: Said
    agree: int
    """Seeds that say so ..."""
    seeds: int
    """... of so many."""
    difference: tuple[float, float, float] | None
    """First minus second: median, least, most."""

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Judged:
        """From its JSON."""
        over = data["difference"]
        return cls(data["word"], data["agree"], data["seeds"], None if over is None else tuple(over))


@dataclass(frozen=True)
class MeasureRow:
    """A measure of a trace at a place."""

    trace: str
    measure: str
    label: str
    place: str
    """ample, short, search, or a size that was asked for."""
    unit: Literal["share", "count", "pages", "blocks", "mib"]
    better: Literal["low", "high"]
    exact: bool
    """No seed matters: one value."""
    values: Mapping[str, tuple[float | None, ...]]
    """By design, a value a seed."""
    against_reference: Mapping[str, Judged]
    """By design, against linux."""
    against_other: Judged | None
    """The first protagonist against the second."""


@dataclass(frozen=True)
class Claim:
    """A claim of the RFC, judged by the figures of all runs."""

    number: int
    text: str
    verdict: Literal["holds", "fails", "mixed", "untested"]
    figures: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Run:
    """Every design on one trace and memory size with the first seed, replayed in full."""

    trace: str
    memory: str
    """ample, short, or the size that was asked for."""
    memory_bytes: int
    operations: int
    designs: tuple[ReplayResult, ...]

    def __getitem__(self, design: str) -> ReplayResult:
        """The replay of a design, by its full or its short name.  Raises KeyError."""
        for each in self.designs:
            if each.design == design:
                return each
        for each in self.designs:
            if each.design.partition("/")[0] == design:
                return each
        raise KeyError(f"{design!r} is not among {', '.join(each.design for each in self.designs)}")


class CompareResult(Result):
    """A comparison.  ``print(result)`` is the screen of ``asi-pa compare``."""

    @property
    def traces(self) -> tuple[str, ...]:
        """Names."""
        return tuple(entry["trace"] for entry in self._held["answer"])

    @property
    def designs(self) -> tuple[str, ...]:
        """Full names, the reference first."""
        return tuple(entry["design"] for entry in self._held["runs"][0]["designs"])

    @property
    def protagonists(self) -> tuple[str, str]:
        """The two whose question is answered."""
        one, other = self._held["protagonists"]
        return one, other

    @property
    def kernel(self) -> str:
        """The profile of rules, or several."""
        return str(self._held["kernel"])

    @property
    def classifier(self) -> str:
        """What decided which requests are sensitive."""
        return str(self._held["classifier"])

    @property
    def seeds(self) -> range:
        """Those of the values, in order."""
        return range(self._held["seed"], self._held["seed"] + self._held["seeds"])

    @property
    def nodes(self) -> str:
        """Of every machine, as they were asked for."""
        return str(self._held.get("nodes", "1"))

    @property
    def quick(self) -> bool:
        """One seed, no words."""
        return bool(self._held["quick"])

    @property
    def verdict(self) -> tuple[str, ...]:
        """The answer in sentences; empty where there are no words."""
        return tuple(self._held["verdict"])

    @property
    def caveats(self) -> tuple[str, ...]:
        """What to know before believing it, the worst first."""
        return tuple(self._held["caveats"])

    @property
    def nearness(self) -> tuple[str, ...]:
        """How near the model is to the recorded kernel."""
        return tuple(self._held["nearness"])

    @cached_property
    def measures(self) -> tuple[MeasureRow, ...]:
        """Every measure of every trace and place."""
        return tuple(
            MeasureRow(
                trace=entry["trace"],
                **{k: row[k] for k in ("measure", "label", "place", "unit", "better", "exact")},
                values=frozen(row["values"]),
                against_reference=Frozen(
                    {name: Judged.of(word) for name, word in row["against_reference"].items()}
                ),
                against_other=None if row["against_other"] is None else Judged.of(row["against_other"]),
            )
            for entry in self._held["answer"]
            for row in entry["measures"]
        )

    @cached_property
    def claims(self) -> tuple[Claim, ...]:
        """The RFC's four claims."""
        return tuple(
            Claim(claim["claim"], claim["text"], claim["verdict"], frozen(claim["figures"]))
            for claim in self._held["claims"]
        )

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Replays in full with the first seed, by trace and memory."""
        return tuple(
            Run(
                run["trace"],
                run["memory"],
                run["memory_bytes"],
                run["operations"],
                tuple(ReplayResult(design, self._of_run(run)) for design in run["designs"]),
            )
            for run in self._held["runs"]
        )

    def _of_run(self, run: Mapping[str, Any]) -> dict[str, Any]:
        keys = {key: run[key] for key in ("trace", "memory", "memory_bytes")}
        same = {key: self._held[key] for key in ("kernel", "classifier", "seed")}
        return keys | same | {"nodes": self.nodes}

    @cached_property
    def _recorded_nodes(self) -> dict[str, str]:
        """How many, by trace, where they are as recorded."""
        if self.nodes != "recorded":
            return {}
        return {run.trace: str(len(run.designs[0].nodes) or 1) for run in self.runs}

    def columns(self) -> tuple[Column, ...]:
        """What says which row it is, then a column for every measure (docs/use/method.md)."""
        keys = tuple(column for column in KEYS if column.name in _KEYS)
        measures = (m for m in MEASURES if not m.several or self.nodes != "1")
        return keys + tuple(Column(m.key, "number", m.meaning, m.unit) for m in measures)

    def records(self) -> list[dict[str, Cell]]:
        """A row for each trace, place, design and seed; what no seed matters for has one, of the first."""
        rows: dict[tuple[str, str, str, int], dict[str, Cell]] = {}
        for row in self.measures:
            for design, values in row.values.items():
                for seed, value in zip(self.seeds, values, strict=False):
                    keys: dict[str, Cell] = {
                        "trace": row.trace,
                        "memory": row.place,
                        "nodes": self._recorded_nodes.get(row.trace, self.nodes),
                        "design": design,
                        "classifier": self.classifier,
                        "kernel": self.kernel,
                        "seed": seed,
                    }
                    found = rows.setdefault((row.trace, row.place, design, seed), keys)
                    found[row.measure] = value
        return list(rows.values())

    @property
    def replays(self) -> Replays:
        """The replays in full, as a table of their own: every metric, the first seed."""
        return Replays(self._held)

    def table(self) -> Table:
        """Every measure of every trace and place: medians and ranges, as on the screen."""
        rows, names = [], self.designs
        for entry in self._held["answer"]:
            for row in entry["measures"]:
                label = f"{entry['trace']}, {row['place']}: {row['label']}"
                rows.append((label, *(value_text(row, name, self._held["reference"]) for name in names)))
        many = f"medians of {len(self.seeds)} seeds and their range"
        said = many if len(self.seeds) > 1 else f"seed {self.seeds[0]}"
        caption = f"{', '.join(self.traces)}: {said}"
        return Table(caption, ("", *names), tuple(rows))

    def to_html(self, path: str | PathLike[str]) -> None:
        """Writes the page of ``asi-pa compare --html`` (needs plotly)."""
        write_html(self.to_dict(), Path(path))

    def to_json(self, path: str | PathLike[str]) -> None:
        """Writes the file of ``asi-pa compare --json``."""
        write_json(self._held, Path(path))

    def __str__(self) -> str:
        return render_screen(self._held, 78, colour=False)

    def __repr__(self) -> str:
        seeds = "1 seed" if len(self.seeds) == 1 else f"{len(self.seeds)} seeds"
        return f"<CompareResult {', '.join(self.traces)}: {', '.join(self.designs)}; {seeds}>"

    def _repr_html_(self) -> str:
        said = "".join(f"<p>{escape(line)}</p>" for line in self.verdict)
        return said + self.table().html()


class Replays(Result):
    """The ``runs`` of a comparison as a table: a row for each trace, memory and design, every metric."""

    @cached_property
    def _all(self) -> tuple[ReplayResult, ...]:
        return tuple(design for run in CompareResult(self._held).runs for design in run.designs)

    def columns(self) -> tuple[Column, ...]:
        """`asi_pa.experiment.columns.COLUMNS`."""
        return COLUMNS

    def records(self) -> list[dict[str, Cell]]:
        """A row for each trace, memory and design."""
        return [row for each in self._all for row in each.records()]

    def table(self) -> Table:
        """The requests that fail, the flushes and the leaves of each."""
        names = ("failures_by_group.real", "failures_by_group.declined", "tlb_flushes", "mixed_blocks")
        rows = [
            (
                f"{each.trace}, {each.memory}, {each.design}",
                *("-" if (v := each.value(name)) is None else f"{v:,}" for name in names),
            )
            for each in self._all
        ]
        return Table("Replays in full, first seed", ("", *names), tuple(rows))

    def __repr__(self) -> str:
        return f"<Replays {len(self._all)} in full>"


def _named_traces(traces: str | PathLike[str] | Trace | Iterable[str | Trace]) -> tuple[str | Trace, ...]:
    """The traces given, however they are; the bundled ones where none is."""
    from asi_pa.names import several
    from asi_pa.trace import bundled_traces

    given = (str(traces),) if isinstance(traces, PathLike) else several(traces, Trace)
    return given or tuple(bundled_traces())


def compare(
    traces: str | PathLike[str] | Trace | Iterable[str | Trace] = (),
    designs: str | Design | Sequence[str | Design] | None = None,
    *,
    memory: str | int | Sequence[str | int] = (),
    classifier: str = "rfc",
    seed: int = 0,
    seeds: int = comparison.SEEDS,
    quick: bool = False,
    nodes: int | str = "recorded",
    kernel: str | None = None,
    samples: int = SAMPLES,
    reclaim: str | int | None = None,
    compaction: bool = True,
    fallbacks: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
    cache: Cache | bool = False,
    threads: int = 0,
) -> CompareResult:
    """Traces through designs, compared by the method of docs/use/method.md.

    Parameters
    ----------
    traces : a bundled trace's name, a file, a Trace, or several; none: the bundled ones
    designs : a design's name or a Design, or several; None: the usual ones, with migratetype against the
        pool.  With one: against linux, which is always among them
    memory : sizes to replay instead of a search: ``"2G"``, bytes, ``"ample"`` (as recorded), ``"1.05x"`` (so
        many times what linux needs, found for each trace and seed)
    classifier : rules for sensitivity (docs/use/traces.md)
    seed, seeds : the first seed, and how many; they draw which part of the machine a smaller one keeps, and
        what is reclaimed first
    quick : one seed, two sizes, no words
    nodes : of every machine: how many, or the CPUs of each, ``"0-3/4-7"``; as recorded (docs/use/nodes.md)
    kernel : profile; None takes the trace's own
    samples : points of the time series of the replays that ``runs`` shows; with 2 the curves of requests that
        fail over memory are left out, too
    reclaim, compaction : what relieves a shortage: page cache that may be freed (a size; None: the file pages
        that the recorded machine had; 0: none), and whether requests that may block compact
    fallbacks : as in ``replay``
    progress : called with (what, steps done, of)
    cache : True: what was computed is kept in the user's cache folder, as by the command line; or a Cache
    threads : 0: as many as there are processors

    Raises ValueError for what cannot be.
    """
    with opened(cache) as kept:
        return CompareResult(
            comparison.compare(
                _named_traces(traces),
                designs,
                memory=memory,
                classifier=classifier,
                seed=seed,
                seeds=seeds,
                quick=quick,
                nodes=nodes,
                kernel=kernel,
                samples=samples,
                reclaim=reclaim,
                compaction=compaction,
                fallbacks=fallbacks,
                progress=progress,
                cache=kept,
                threads=threads,
            )
        )
