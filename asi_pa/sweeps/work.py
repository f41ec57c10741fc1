"""What a worker does: a trace is compiled once and a start state made once, while the same are asked for."""

from __future__ import annotations

import pickle
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from asi_pa.designs import Design, as_design
from asi_pa.experiment.cache import opened, package_hash, trace_hash
from asi_pa.experiment.columns import flat_metrics
from asi_pa.experiment.points import needs, start_at
from asi_pa.experiment.runs import replay
from asi_pa.experiment.study import Subject
from asi_pa.sweeps.plan import Need, Piece, Point
from asi_pa.trace import CompiledTrace, load_trace

__all__ = ["compute"]

_T = TypeVar("_T")


class _Few:
    """The last few things that were made, by key; each is made by one thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._held: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any, make: Callable[[], _T]) -> _T:
        """The thing, made now if it is not there."""
        with self._lock:
            if key not in self._held:
                self._held[key] = make()
                if len(self._held) > self._most:
                    self._held.popitem(last=False)
            self._held.move_to_end(key)
            found: _T = self._held[key]
            return found


_SUBJECTS = _Few(2)
_STARTS = _Few(3)


def _subject(work: Need | Point) -> Subject:
    def make() -> Subject:
        trace = load_trace(work.source.word)
        if trace_hash(trace) != work.source.hash:
            raise ValueError(f"{work.source.word}: another trace than the one that was asked for")
        with opened(True) as cache:
            return Subject.of(trace, work.classifier, 0, work.nodes, cache)

    return _SUBJECTS.get((work.source.hash, work.classifier, work.nodes), make)


def compute(piece: Piece) -> dict[str, Any]:
    """The result of a piece: ``need`` (MiB or None) or ``row``; with ``seconds`` and ``host``.

    Raises ValueError for a size that cannot be, and where the worker's package is another one.
    """
    if package_hash() != piece.package:
        raise ValueError(f"the asi_pa of {socket.gethostname()} is another one than that of the sweep")
    began, work = time.perf_counter(), piece.work
    subject = _subject(work)
    found: dict[str, Any]
    if isinstance(work, Need):
        found = {"need": needs(subject, work.seed, work.kernel, work.relief)}
    else:
        found = {"row": _row(work, subject, piece.needed)}
    return found | {"seconds": time.perf_counter() - began, "host": socket.gethostname()}


def _row(point: Point, subject: Subject, needed: float | None) -> dict[str, Any]:
    def start() -> CompiledTrace:
        return start_at(subject, point.size, point.seed, point.kernel, point.relief, needed)

    size = point.size.words, needed if point.size.times else None
    compiled = _STARTS.get((point.source.hash, point.classifier, point.nodes, size, point.seed), start)
    design: Design = as_design(point.design) if isinstance(point.design, str) else pickle.loads(point.design)
    made = replay(compiled, design, kernel=point.kernel, samples=2, seed=point.seed, **point.relief.options())
    return {
        "trace": point.source.label,
        "memory": point.size.words,
        "memory_bytes": compiled.memory_bytes,
        "nodes": point.nodes,
        "design": point.name,
        "classifier": point.classifier,
        "kernel": point.kernel or compiled.kernel,
        "seed": point.seed,
        "verify": made["verify"],
        **flat_metrics(made["metrics"]),
    }
