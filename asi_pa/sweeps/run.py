"""`sweep`: the points that are not there yet, computed and kept one by one."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from typing import Any

import numpy as np

from asi_pa import __version__
from asi_pa.designs import Design
from asi_pa.executors import RETRIES, Opened, carry_out
from asi_pa.experiment.cache import package_hash
from asi_pa.experiment.runs import DEFAULT_DESIGNS
from asi_pa.sweeps.plan import Asked, Need, Piece, Point, Variants, points_of, read_file
from asi_pa.sweeps.result import SweepResult, result_of
from asi_pa.sweeps.store import SCHEMA, Folder, now
from asi_pa.sweeps.work import compute
from asi_pa.trace import Trace

__all__ = ["carry_on", "sweep"]

Progress = Callable[[str, int, int], None]


def sweep(
    traces: str | os.PathLike[str] | Trace | Sequence[str | Trace],
    designs: str | Design | Sequence[str | Design] = DEFAULT_DESIGNS,
    *,
    memory: str | int | Sequence[str | int] = "ample",
    fields: Variants | None = None,
    classifiers: str | Sequence[str] = "rfc",
    seeds: int | Sequence[int] = 1,
    kernel: str | None = None,
    reclaim: str | int | None = None,
    compaction: bool = True,
    fallbacks: bool = True,
    nodes: int | str | Sequence[int | str] = "recorded",
    folder: str | os.PathLike[str] | None = None,
    executor: str | Executor | None = None,
    retries: int = RETRIES,
    progress: Progress | None = None,
) -> SweepResult:
    """Every trace through every design on every size of memory, with every classifier, seed and set of nodes.

    Parameters
    ----------
    traces : bundled traces', workloads' (``stress:2G``), files, Trace objects, one or several; or a TOML file
        (docs/use/sweep.md), which then says everything but ``folder``, ``executor``, ``retries``
    designs : names, ``FILE.py:NAME``, Design objects
    memory : ``"2G"``, bytes, ``"ample"`` (as recorded), ``"1.05x"`` (so many times what linux needs with the
        same trace, classifier and seed)
    fields : by a design of ``designs``: its fields and the values to try, ``{"migratetype": {"unmap_low":
        [0, 512]}}``; every combination stands in its place
    classifiers : rules for sensitivity (docs/use/traces.md)
    seeds : how many (from 0), or which
    kernel, reclaim, compaction, fallbacks : as of ``compare``
    nodes : of the machines: how many, or the CPUs of each, ``"0-3/4-7"``; one or several
    folder : where points are kept, each as soon as it is there; a sweep goes on where it was.  None: nowhere
    executor : an Executor of concurrent.futures, or words for one (docs/use/sweep.md); None: processes
    retries : how often a point is tried again whose worker died
    progress : called with (what, done, of)

    Points that cannot be computed are ``missing`` in the result, with why.  Raises ValueError for what cannot
    be asked, OSError for a folder that cannot be written.
    """
    if isinstance(traces, (str, os.PathLike)) and os.fspath(traces).endswith(".toml"):
        asked = read_file(traces)
    else:
        asked = Asked.of(
            {
                "traces": traces, "designs": designs, "memory": memory, "fields": fields or {},
                "classifiers": classifiers, "seeds": seeds, "kernel": kernel, "reclaim": reclaim,
                "compaction": compaction, "fallbacks": fallbacks, "nodes": nodes,
            }
        )  # fmt: skip
    with ExitStack() as stack:
        name = "" if folder is None else os.fspath(folder)
        place = name or stack.enter_context(tempfile.TemporaryDirectory(prefix="asi_pa-sweep-"))
        return carry_on(asked, Folder(place), name, executor, retries, progress)


def carry_on(
    asked: Asked,
    folder: Folder,
    name: str = "",
    executor: str | Executor | None = None,
    retries: int = RETRIES,
    progress: Progress | None = None,
) -> SweepResult:
    """Computes what a folder lacks of a sweep, and reads it whole."""
    folder.make()
    needs, points = points_of(asked, folder.keep_trace)
    folder.set_aside(point.key for point in points)
    there = set(folder.rows(folder.have()))
    run = _Run(folder, asked, points, there, progress)
    with Opened(executor) as opened:
        run.begin(opened.name)
        try:
            run.find_needs(needs, opened, retries)
            run.compute(opened, retries)
        finally:
            run.end()
    return result_of(folder, folder.meta(), name)


class _Run:
    """One run of a sweep: the points it has to compute, and what it writes into ``meta.json``."""

    def __init__(
        self,
        folder: Folder,
        asked: Asked,
        points: Sequence[Point],
        there: set[str],
        progress: Progress | None,
    ) -> None:
        self.folder, self.asked, self.points, self.there = folder, asked, points, there
        self.lacking = [point for point in points if point.key not in there]
        self.why: dict[str, str] = {}
        self.needed: dict[str, float | None] = {}
        self._progress, self._done, self._total = progress, 0, len(self.lacking)
        self._record: dict[str, Any] = {}
        self._before: list[Any] = []

    def _tell(self, what: str) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(what, self._done, self._total)

    # ------------------------------------------------------------ meta.json

    def begin(self, executor: str) -> None:
        """Writes down what is asked and that a run has begun."""
        try:
            self._before = self.folder.meta()["runs"]
        except (OSError, ValueError):
            self._before = []
        self._record = {
            "began": now(),
            "ended": None,
            "host": socket.gethostname(),
            "executor": executor,
            "python": sys.version.split()[0],
            "numpy": np.__version__,
            "computed": 0,
            "seconds": {},
        }
        self._write()

    def end(self) -> None:
        """Writes down what was computed and what is missing."""
        self._record["ended"] = now()
        self._record["computed"] = len(self._record["seconds"])
        self._write()

    def _write(self) -> None:
        missing = [point for point in self.points if point.key not in self.there]
        self.folder.put_meta(
            {
                "schema": SCHEMA,
                "asi_pa": __version__,
                "package": package_hash(),
                "format": self.folder.form,
                "asked": self.asked.words(),
                "points": [point.words() for point in self.points],
                "missing": [
                    point.words() | {"why": self.why.get(point.key, "not computed yet")} for point in missing
                ],
                "runs": [*self._before, self._record],
            }
        )

    # ------------------------------------------------------------ work

    def find_needs(self, needs: Sequence[Need], opened: Opened, retries: int) -> None:
        """What linux needs, where a point that is lacking hangs on it."""
        wanted = {point.need for point in self.lacking if point.need}
        unknown = []
        for need in needs:
            kept = self.folder.need(need.key)
            if kept is not None:
                self.needed[need.key] = kept["mib"]
            elif need.key in wanted:
                unknown.append(need)
        self._total += len(unknown)

        def done(number: int, found: Mapping[str, Any]) -> None:
            need = unknown[number]
            self.needed[need.key] = found["need"]
            self.folder.put_need(need.key, found["need"])
            self._tell(f"what linux needs for {need.source.label}")

        def failed(number: int, error: Exception) -> None:
            need = unknown[number]
            for point in self.lacking:
                if point.need == need.key:
                    self.why[point.key] = f"what linux needs is not known: {_words(error)}"
            self._tell(f"what linux needs for {need.source.label}")

        pieces = [Piece(package=package_hash(), work=need) for need in unknown]
        carry_out(compute, pieces, opened, done, failed, retries)

    def compute(self, opened: Opened, retries: int) -> None:
        """The points that are lacking."""
        todo = [point for point in self.lacking if not point.need or point.need in self.needed]

        def done(number: int, found: Mapping[str, Any]) -> None:
            point = todo[number]
            self.folder.put(point.key, found["row"])
            self.there.add(point.key)
            self._record["seconds"][point.key] = {"host": found["host"], "seconds": found["seconds"]}
            self._tell(str(point))

        def failed(number: int, error: Exception) -> None:
            point = todo[number]
            self.why[point.key] = _words(error)
            self._tell(str(point))

        pieces = [
            Piece(package=package_hash(), work=point, needed=self.needed.get(point.need)) for point in todo
        ]
        carry_out(compute, pieces, opened, done, failed, retries)


def _words(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, (ValueError, RuntimeError)) else f"{type(error).__name__}: {text}"
