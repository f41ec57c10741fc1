"""A trace through one design: `replay`, and what it measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from asi_pa.designs import Design
from asi_pa.experiment.columns import COLUMNS, flat_metrics
from asi_pa.experiment.metrics import ROWS, Number
from asi_pa.experiment.points import compiled_at
from asi_pa.experiment.probe import Relief
from asi_pa.experiment.ranking import shown
from asi_pa.experiment.runs import SAMPLES
from asi_pa.experiment.runs import replay as replay_compiled
from asi_pa.experiment.sizes import as_size
from asi_pa.kernel.numa import as_nodes
from asi_pa.kernel.sizing import parse_size
from asi_pa.report.format import format_bytes, format_value
from asi_pa.tabular import Cell, Column, Frozen, Result, Table, read_only
from asi_pa.trace import DEFAULT_CLASSIFIER, Classifier, CompiledTrace, Trace, load_events

__all__ = ["Blockmap", "NodeCounts", "ReplayResult", "Series", "metric_table", "replay"]

_I64 = npt.NDArray[np.int64]
Tree = Literal["restricted", "unrestricted"]


@dataclass(frozen=True)
class Series:
    """What was looked at every so many operations; arrays of one length n, read-only, int64."""

    op: _I64
    """Operations done."""
    time_ns: _I64
    """Of the trace, from its start."""
    free_pages: Mapping[str, _I64]
    """By freetype ("pool": the pool's), those that were ever above 0."""
    flushes: _I64
    """TLB flushes so far."""
    flips_s2n: _I64
    flips_n2s: _I64
    """Pageblocks so far."""
    restricted_leaves: Mapping[str, _I64]
    """By size of leaf ("4k", "2m", "1g"); empty without a restricted physmap."""
    mapped_pages: _I64
    """Present in the restricted physmap; empty without one."""


@dataclass(frozen=True)
class Blockmap:
    """Kinds of pageblocks over time, of the zone with most memory."""

    op: _I64
    """Operations done, a row of the map each."""
    legend: tuple[str, ...]
    """Kind by number."""
    rows: npt.NDArray[np.uint8]
    """uint8[samples, columns]: the kind that most pageblocks of a column have."""


@dataclass(frozen=True)
class NodeCounts:
    """A node of a machine that has several, at the end of a replay."""

    node: int
    cpus: str
    """As the kernel lists them: ``0-3,8``; empty for a node without CPUs."""
    pages: int
    """Managed."""
    mapped_blocks: int
    """Pageblocks that are mapped where the design maps by pageblock: what flips left at the end."""
    free_pages: int
    """On the free lists."""
    pool_pages: int
    """In the pool of a design that has one."""
    numa_hit: int
    """Requests that it served and that prefer it (zone_statistics(), mm/page_alloc.c), ..."""
    numa_miss: int
    """... that prefer another node, ..."""
    numa_foreign: int
    """... and those that prefer it and another served."""
    numa_local: int
    """Requests that it served for its own CPUs, ..."""
    numa_other: int
    """... and for others'."""
    flips_s2n: int = 0
    """Pageblocks of its memory that were mapped in the replay, ..."""
    flips_n2s: int = 0
    """... and that were unmapped; both 0 in a result of a version that did not count them by node."""


class ReplayResult(Result):
    """A trace through one design: an entry of a comparison's ``runs``."""

    def __init__(self, data: dict[str, Any], run: Mapping[str, Any] | None = None) -> None:
        super().__init__(data)
        self.__dict__["_run"] = dict(run or {})

    def __reduce__(self) -> Any:
        return type(self), (self._held, self._of)

    @property
    def _of(self) -> dict[str, Any]:
        run: dict[str, Any] = self.__dict__["_run"]
        return run

    @property
    def trace(self) -> str:
        """The trace's name."""
        return str(self._of.get("trace", ""))

    @property
    def memory(self) -> str:
        """The size as it was asked for."""
        return str(self._of.get("memory", ""))

    @property
    def memory_bytes(self) -> int:
        """Managed memory of the machine."""
        return int(self._of.get("memory_bytes", 0))

    @property
    def kernel(self) -> str:
        """The profile of rules."""
        return str(self._of.get("kernel", ""))

    @property
    def classifier(self) -> str:
        """What decided which requests are sensitive."""
        return str(self._of.get("classifier", ""))

    @property
    def seed(self) -> int:
        """Drew the machine, and what is reclaimed first."""
        return int(self._of.get("seed", 0))

    @property
    def design(self) -> str:
        """The design's name."""
        return str(self._held["design"])

    @property
    def title(self) -> str:
        """What the design is, in a line."""
        return str(self._held["title"])

    @property
    def protects(self) -> str:
        """What the design promises; empty: nothing."""
        return str(self._held["protects"])

    @property
    def as_posted(self) -> bool:
        """Whether the design keeps the holes that it was posted with."""
        return bool(self._held["as_posted"])

    @property
    def tree(self) -> Tree:
        """The physmap that the design changes."""
        return "restricted" if self._held["tree"] == "restricted" else "unrestricted"

    @property
    def source(self) -> tuple[str, ...]:
        """Message-ids or files that the design follows."""
        return tuple(self._held["source"])

    @property
    def verify(self) -> str:
        """ "ok", or what is broken in the state at the end."""
        return str(self._held["verify"])

    @cached_property
    def metrics(self) -> Frozen:
        """Every number (docs/use/metrics.md), nested as in JSON."""
        return Frozen(self._held["metrics"])

    @cached_property
    def _flat(self) -> dict[str, Cell]:
        return flat_metrics(self._held["metrics"])

    def value(self, column: str) -> Number | None:
        """A number by its column, such as ``failures_by_group.real``; None where the design has none.

        Raises KeyError for no such column.
        """
        if column not in self._flat:
            raise KeyError(f"no metric {column!r}: docs/use/metrics.md lists them")
        found = self._flat[column]
        return found if isinstance(found, (int, float)) else None

    @cached_property
    def series(self) -> Series:
        """Over time."""
        held = self._held["series"]
        empty: dict[str, Any] = {}
        return Series(
            op=read_only(held["op"]),
            time_ns=read_only(held["time_ns"]),
            free_pages=Frozen({key: read_only(row) for key, row in held["free_pages"].items()}),
            flushes=read_only(held["flushes"]),
            flips_s2n=read_only(held["flips_s2n"]),
            flips_n2s=read_only(held["flips_n2s"]),
            restricted_leaves=Frozen(
                {key: read_only(row) for key, row in held.get("restricted_leaves", empty).items()}
            ),
            mapped_pages=read_only(held.get("mapped_pages", ())),
        )

    @cached_property
    def blockmap(self) -> Blockmap:
        """Pageblocks over time."""
        held = self._held["blockmap"]
        return Blockmap(read_only(held["op"]), tuple(held["legend"]), read_only(held["rows"], np.uint8))

    @cached_property
    def nodes(self) -> tuple[NodeCounts, ...]:
        """What was on each node at the end; empty on a machine of one."""
        return tuple(NodeCounts(**node) for node in self._held.get("nodes", ()))

    @property
    def _nodes(self) -> str:
        """As they were asked for; how many, where they are as recorded."""
        asked = self._of.get("nodes", "recorded")
        return str(len(self._held.get("nodes", ())) or 1) if asked == "recorded" else str(asked)

    def columns(self) -> tuple[Column, ...]:
        """`asi_pa.experiment.columns.COLUMNS`."""
        return COLUMNS

    def records(self) -> list[dict[str, Cell]]:
        """One row."""
        keys: dict[str, Cell] = {
            "trace": self.trace,
            "memory": self.memory,
            "memory_bytes": self.memory_bytes,
            "nodes": self._nodes,
            "design": self.design,
            "classifier": self.classifier,
            "kernel": self.kernel,
            "seed": self.seed,
            "verify": self.verify,
        }
        return [keys | self._flat]

    def table(self) -> Table:
        """Every metric that has a row in the terminal's tables."""
        return metric_table([self], f"{self.trace}, {self.memory or format_bytes(self.memory_bytes)}")

    def __repr__(self) -> str:
        place = ", ".join(filter(None, (self.trace, self.memory or format_bytes(self.memory_bytes))))
        asked, failed = self.value("allocations") or 0, self.value("failures") or 0
        return f"<ReplayResult {self.design}: {place}; {asked:,} requests, {failed:,} failed; {self.verify}>"


def metric_table(designs: list[ReplayResult], caption: str) -> Table:
    """Replays side by side, a row for each metric of the terminal's tables that one of them has."""
    rows = []
    for metric in ROWS:
        if not metric.screen or metric.group == "speed":
            continue
        values = [shown(metric, each._held) for each in designs]
        if any(value is not None for value in values):
            rows.append((metric.label.strip(), *(format_value(value, metric.unit) for value in values)))
    return Table(caption, ("", *(each.design for each in designs)), tuple(rows))


def replay(
    trace: str | os.PathLike[str] | Trace | CompiledTrace,
    design: str | Design = "linux",
    *,
    memory: str | int | None = None,
    classifier: str | Classifier = DEFAULT_CLASSIFIER,
    recorded: bool = False,
    seed: int = 0,
    nodes: int | str = "recorded",
    kernel: str | None = None,
    samples: int = SAMPLES,
    reclaim: str | int | None = 0,
    compaction: bool = False,
    fallbacks: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> ReplayResult:
    """Runs a trace through one design and measures it.

    Parameters
    ----------
    trace : a name of ``asi_pa.bundled_traces()``, a workload's, a path, a Trace or a CompiledTrace
    design : a design's name, ``NAME:FIELD=VALUE``, ``FILE.py:NAME``, or a Design
    memory, classifier, recorded, seed, nodes : as of ``compile_trace``; not for a CompiledTrace, except the
        seed.  What linux needs (``"1.05x"``) is found with the kernel and the relief of this replay
    kernel : profile; None takes the trace's own
    samples : points of the time series
    reclaim, compaction : what relieves a shortage: page cache that may be freed (a size; None: the file pages
        of the recorded machine), and compaction
    fallbacks : where a try of a known caller fails, the pages follow that it would ask for instead
    progress : called with (operations done, of)

    Requests that fail are counted, not raised.  Raises ValueError for a trace, design or size that cannot be.
    """
    relief = Relief(parse_size(reclaim) if isinstance(reclaim, str) else reclaim, compaction, fallbacks)
    size = None if memory is None else as_size(memory)
    if isinstance(trace, CompiledTrace):
        if memory is not None or recorded or nodes != "recorded":
            raise ValueError("memory, recorded and nodes are settled when a trace is compiled")
        compiled = trace
    else:
        compiled = compiled_at(
            load_events(trace), classifier, memory, seed, recorded=recorded, nodes=nodes, kernel=kernel,
            relief=relief,
        )  # fmt: skip
    told: dict[str, Any] = {} if progress is None else {"progress": progress}
    data = replay_compiled(
        compiled, design, kernel=kernel, samples=samples, seed=seed, **relief.options(), **told
    )
    return ReplayResult(
        data,
        {
            "trace": compiled.name,
            "memory": size.words if size else format_bytes(compiled.memory_bytes).replace(" ", ""),
            "memory_bytes": compiled.memory_bytes,
            "nodes": as_nodes(nodes).words,
            "kernel": kernel or compiled.kernel,
            "classifier": compiled.classifier,
            "seed": seed,
        },
    )
