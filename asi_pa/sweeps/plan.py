"""What a sweep asks for: from a file or from arguments to its points, each with a key of its own.

A point is a trace, a size of memory, a classifier, a seed and a design.  Its key is a hash of all that its
row hangs on: the trace's content, the configuration, and the package's own files.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import product
from pathlib import Path
from typing import Any

from asi_pa.designs import Design, as_design
from asi_pa.experiment.cache import design_words, key_of, package_hash, trace_hash
from asi_pa.experiment.probe import Relief
from asi_pa.experiment.sizes import Size, as_size
from asi_pa.kernel.numa import Nodes, as_nodes
from asi_pa.kernel.sizing import parse_size
from asi_pa.kernel.versions import kernel_profile
from asi_pa.names import perhaps, several
from asi_pa.schema import toml_document
from asi_pa.trace import DEFAULT_CLASSIFIER, Classifier, Trace, bundled_traces, load_events
from asi_pa.trace.nodes import of_trace, recorded_nodes
from asi_pa.trace.workloads import WORKLOADS

__all__ = ["Asked", "Need", "Piece", "Point", "Source", "points_of", "read_file"]

#: Another number, and no point of before is taken for one of now.
_FORM = 1
Values = str | int | bool | Sequence[str | int | bool]
Variants = Mapping[str, Mapping[str, Values]]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a sweep asks for, as it was written."""

    traces: tuple[str | Trace, ...]
    designs: tuple[str | Design, ...]
    memory: tuple[str | int, ...] = ("ample",)
    classifiers: tuple[str, ...] = (DEFAULT_CLASSIFIER,)
    seeds: tuple[int, ...] = (0,)
    fields: Variants = field(default_factory=dict)
    """By design of ``designs``: fields, and the values that are tried in every combination in its place."""
    kernel: str | None = None
    reclaim: str | int | None = None
    compaction: bool = True
    fallbacks: bool = True
    nodes: tuple[int | str, ...] = ("recorded",)

    @classmethod
    def of(cls, given: Mapping[str, Any], where: str = "") -> Asked:
        """From arguments or a file's table: one stands for several, a number of seeds for the first so many.

        Raises ValueError for a key that is none, and for what is of the wrong type.
        """
        known = [each.name for each in fields(cls)]
        for key in given:
            if key not in known:
                near = perhaps(key, known)
                raise ValueError(f"{where}unknown key {key!r}{near}: keys are {', '.join(known)}")
        values = dict(given)
        for key, *types in (("traces", Trace), ("designs", Design), ("memory", int), ("classifiers",),
                            ("nodes", int)):  # fmt: skip
            if key in values:
                values[key] = _listed(values[key], key, (str, *types), where)
        if not values.get("traces") or not values.get("designs"):
            raise ValueError(f"{where}traces and designs are needed, one of each at least")
        values["seeds"] = _seeds(values.get("seeds", 1), where)
        _check_fields(values.get("fields", {}), where)
        for key, kinds in (("kernel", (str,)), ("reclaim", (str, int)), ("compaction", (bool,)),
                           ("fallbacks", (bool,))):  # fmt: skip
            if values.get(key) is not None and not isinstance(values[key], kinds):
                raise ValueError(
                    f"{where}{key} {values[key]!r}: not {' or '.join(k.__name__ for k in kinds)}"
                )
        for each in values.get("nodes", ()):
            as_nodes(each)
        return cls(**values)

    @property
    def relief(self) -> Relief:
        """What relieves a shortage."""
        size = parse_size(self.reclaim) if isinstance(self.reclaim, str) else self.reclaim
        return Relief(size, self.compaction, self.fallbacks)

    def words(self) -> dict[str, Any]:
        """For ``meta.json``."""
        return {
            "traces": [each.name if isinstance(each, Trace) else str(each) for each in self.traces],
            "designs": [each.name if isinstance(each, Design) else each for each in self.designs],
            "fields": {
                name: {k: list(_values(v)) for k, v in of.items()} for name, of in self.fields.items()
            },
            "memory": [as_size(each).words for each in self.memory],
            "classifiers": list(self.classifiers),
            "seeds": list(self.seeds),
            "kernel": self.kernel,
            "reclaim": self.relief.reclaim,
            "compaction": self.compaction,
            "fallbacks": self.fallbacks,
            "nodes": [as_nodes(each).words for each in self.nodes],
        }


def _listed(given: Any, key: str, types: tuple[type, ...], where: str) -> tuple[Any, ...]:
    if isinstance(given, os.PathLike):
        given = str(given)
    made = several(given, *types) if isinstance(given, (*types, Iterable)) else (given,)
    made = tuple(str(each) if isinstance(each, os.PathLike) else each for each in made)
    for each in made:
        if not isinstance(each, types) or isinstance(each, bool):
            raise ValueError(f"{where}{key}: {each!r} is not {' or '.join(t.__name__ for t in types)}")
    if len(set(map(_name, made))) < len(made):
        raise ValueError(f"{where}{key}: one of them twice")
    return made


def _check_fields(given: Any, where: str) -> None:
    if not isinstance(given, Mapping):
        raise ValueError(f"{where}fields: not a table of designs")
    for name, of in given.items():
        if not isinstance(of, Mapping):
            raise ValueError(f"{where}fields.{name}: not a table of fields and their values")


def _name(each: Any) -> Any:
    return id(each) if isinstance(each, (Trace, Design)) else each


def _seeds(given: Any, where: str) -> tuple[int, ...]:
    if isinstance(given, int) and not isinstance(given, bool):
        if not 1 <= given <= 4096:
            raise ValueError(f"{where}seeds {given}: how many, 1 to 4096, or a list of them")
        return tuple(range(given))
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ValueError(f"{where}seeds {given!r}: how many, or a list of them")
    made = tuple(given)
    if not made or any(type(each) is not int or each < 0 for each in made) or len(set(made)) < len(made):
        raise ValueError(f"{where}seeds: whole numbers from 0 up, each once")
    return made


def _values(given: Values) -> tuple[str | int | bool, ...]:
    return (given,) if isinstance(given, (str, int)) else tuple(given)


def read_file(path: str | os.PathLike[str]) -> Asked:
    """What a TOML file asks for; its relative paths begin at its own folder.

    Raises OSError where it cannot be read, ValueError naming it for what is in it.
    """
    where, folder = f"{os.fspath(path)}: ", Path(path).resolve().parent
    table = toml_document(path)
    asked = Asked.of(table, where)
    return Asked.of(
        {each.name: getattr(asked, each.name) for each in fields(asked)}
        | {
            "traces": [_located(str(word), folder) for word in asked.traces],
            "designs": [_located_design(str(word), folder) for word in asked.designs],
            "fields": {_located_design(name, folder): of for name, of in asked.fields.items()},
        },
        where,
    )


def _located(word: str, folder: Path) -> str:
    return str(folder / word) if (folder / word).is_file() else word


def _located_design(word: str, folder: Path) -> str:
    file, colon, rest = word.partition(":")
    return f"{_located(file, folder)}{colon}{rest}" if file.endswith(".py") else word


# ---------------------------------------------------------------- pieces of work


@dataclass(frozen=True, kw_only=True)
class Source:
    """A trace as a worker finds it: a bundled one's or a workload's name, or a file."""

    word: str
    label: str
    """What rows call it."""
    hash: str
    nodes: tuple[str, ...]
    """Those of its machines, as the column ``nodes`` has them."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """What linux needs, for sizes that are multiples of it."""

    key: str
    source: Source
    classifier: str
    kernel: str | None
    relief: Relief
    seed: int
    nodes: str


@dataclass(frozen=True, kw_only=True)
class Point:
    """One replay."""

    key: str
    source: Source
    size: Size
    design: str | bytes
    """Words, or a Design pickled."""
    name: str
    """The design's."""
    classifier: str
    kernel: str | None
    relief: Relief
    seed: int
    nodes: str
    need: str = ""
    """The key of what linux needs, where the size is a multiple."""

    def words(self) -> dict[str, Any]:
        """For ``meta.json``."""
        return {
            "key": self.key,
            "trace": self.source.label,
            "memory": self.size.words,
            "nodes": self.nodes,
            "design": self.name,
            "classifier": self.classifier,
            "seed": self.seed,
        }

    def __str__(self) -> str:
        nodes = "" if self.nodes == "1" else f", nodes {self.nodes}"
        place = f"{self.source.label}, {self.size.words}{nodes}"
        return f"{place}, {self.name}, {self.classifier}, seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What an executor is given."""

    package: str
    """The package's hash, which a worker's own has to be."""
    work: Need | Point
    needed: float | None = None
    """What linux needs, MiB, where the point's size is a multiple."""


def _sources(traces: Sequence[str | Trace], kept: Any, nodes: Sequence[Nodes]) -> Iterator[Source]:
    """``kept(trace, hash)`` puts a Trace that has no file where workers find it, and returns the path."""
    for each in traces:
        trace = load_events(each)
        words = tuple(_nodes_of(trace, asked) for asked in nodes)
        for word in words:
            if words.count(word) > 1:
                raise ValueError(f"{trace.label}: nodes {', '.join(a.words for a in nodes)}: two mean {word}")
        hashed = trace_hash(trace)
        word, label = str(each), trace.name
        if isinstance(each, Trace):
            word = kept(trace, hashed)
        elif each in bundled_traces() or each.partition(":")[0] in WORKLOADS:
            label = each
        else:
            word = "+".join(str(Path(part).resolve()) for part in each.split("+"))
        yield Source(word=word, label=label, hash=hashed, nodes=words)


def _nodes_of(trace: Trace, asked: Nodes) -> str:
    """As they were asked for, or how many were recorded.  Raises ValueError for what the trace cannot be."""
    of_trace(trace, asked)
    return asked.words if asked.count else str(len(recorded_nodes(trace)))


def _designs(asked: Asked) -> Iterator[tuple[str | bytes, Design]]:
    """What a worker makes it of, and the design; fields in every combination in their design's place."""
    for name in asked.fields:
        if name not in asked.designs:
            raise ValueError(f"fields.{name}: {name!r} is not among the designs")
    for each in asked.designs:
        if isinstance(each, Design):
            yield _pickled(as_design(each)), each
            continue
        varied = asked.fields.get(each, {})
        for values in product(*map(_values, varied.values())):
            changes = ",".join(f"{key}={_word(value)}" for key, value in zip(varied, values, strict=True))
            word = f"{each}{',' if ':' in each else ':'}{changes}" if changes else each
            yield word, as_design(word)


def _word(value: str | int | bool) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _pickled(design: Design) -> bytes:
    """By value where cloudpickle is installed, so that a class of a notebook reaches a worker, too."""
    try:
        from cloudpickle import dumps
    except ImportError:
        return pickle.dumps(design)
    made: bytes = dumps(design)
    return made


def points_of(asked: Asked, kept: Any) -> tuple[list[Need], list[Point]]:
    """The points, trace by trace, size by size, and what linux has to be known to need before.

    Raises ValueError for a trace, design, size, classifier or kernel that cannot be, before any work.
    """
    sizes = [as_size(each) for each in asked.memory]
    for text in asked.classifiers:
        Classifier.parse(text)
    kernel, relief = asked.kernel, asked.relief
    if kernel is not None:
        kernel_profile(kernel)
    designs = list(_designs(asked))
    names = [design.name for _, design in designs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"designs: two are {name!r}")
    sources = list(_sources(asked.traces, kept, [as_nodes(each) for each in asked.nodes]))
    labels = [source.label for source in sources]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"traces: two are called {label!r}, rows could not be told apart")
    needs: dict[str, Need] = {}
    points = []
    machines = [(source, words) for source in sources for words in source.nodes]
    for (source, nodes), text, size, seed in product(machines, asked.classifiers, sizes, asked.seeds):
        what = text, kernel, relief.options(), seed, nodes
        common = [_FORM, package_hash(), source.hash, source.label, *what]
        need = ""
        if size.times:
            need = key_of("need", common)[:32]
            needs[need] = Need(
                key=need, source=source, classifier=text, kernel=kernel, relief=relief, seed=seed, nodes=nodes
            )
        for made_of, design in designs:
            key = key_of("point", common, size.words, design.name, design_words(design))[:32]
            points.append(
                Point(
                    key=key, source=source, size=size, design=made_of, name=design.name, classifier=text,
                    kernel=kernel, relief=relief, seed=seed, need=need, nodes=nodes,
                )
            )  # fmt: skip
    return list(needs.values()), points
