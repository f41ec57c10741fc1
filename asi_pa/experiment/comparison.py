"""The whole comparison as one result: plain data of schema ``asi_pa.compare/2`` (docs/use/json-schema.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from asi_pa import __version__
from asi_pa.designs import DESIGNS, PROPOSAL, REFERENCE, Design, as_design
from asi_pa.executors import processors
from asi_pa.experiment.answer import answer
from asi_pa.experiment.cache import Cache, design_words, key_of, package_hash
from asi_pa.experiment.caveats import caveats
from asi_pa.experiment.claims import evaluate_claims
from asi_pa.experiment.full import FullRuns, Place
from asi_pa.experiment.probe import Relief
from asi_pa.experiment.rows import short_pages
from asi_pa.experiment.runs import DEFAULT_DESIGNS, SAMPLES
from asi_pa.experiment.sizes import as_size
from asi_pa.experiment.study import Found, Plan, Study, Subject
from asi_pa.experiment.verdict import sentences
from asi_pa.kernel.numa import RECORDED, Nodes, as_nodes
from asi_pa.kernel.sizing import parse_size
from asi_pa.kernel.versions import kernel_profile
from asi_pa.names import several
from asi_pa.run.statement import OTHERS, brief, errors, measured_floors
from asi_pa.trace import Trace, bundled_traces, load_events

__all__ = ["SCHEMA", "SEEDS", "compare", "nearness", "protagonists"]

SCHEMA = "asi_pa.compare/2"
#: Seeds of a comparison; with fewer the rule has less to go by.
SEEDS = 16

Progress = Callable[[str, int, int], None]


def protagonists(designs: Sequence[Design] | None) -> tuple[str, str]:
    """The two designs whose question is answered: the proposal and the pool, or the first two of a choice.

    One design stands against linux.
    """
    if designs is None:
        return DESIGNS[PROPOSAL.family].name, DESIGNS[PROPOSAL.separate_pool].name
    names = [design.name for design in designs]
    others = [name for name in names if name != REFERENCE]
    if len(others) < 2:
        return (others[0] if others else REFERENCE, REFERENCE)
    return others[0], others[1]


def compare(
    traces: str | Trace | Iterable[str | Trace],
    designs: str | Design | Sequence[str | Design] | None = None,
    *,
    memory: str | int | Sequence[str | int] = (),
    classifier: str = "rfc",
    seed: int = 0,
    seeds: int = SEEDS,
    quick: bool = False,
    nodes: int | str | Nodes = RECORDED,
    kernel: str | None = None,
    samples: int = SAMPLES,
    reclaim: str | int | None = None,
    compaction: bool = True,
    fallbacks: bool = True,
    command: Sequence[str] = (),
    progress: Progress | None = None,
    cache: Cache | None = None,
    threads: int = 0,
) -> dict[str, Any]:
    """Traces through designs, compared by the method of docs/method.md.

    Parameters
    ----------
    traces : names of bundled traces, files, or Trace objects
    designs : design names or Design objects; None: the usual ones, with migratetype against the pool;
        the reference, linux, is always among them
    memory : sizes to replay instead of a search, such as ``"2G"`` or bytes; ``"ample"``: as recorded;
        ``"1.05x"``: so many times what linux needs, found for each trace and seed
    classifier : rules for sensitivity (docs/use/traces.md)
    seed, seeds : the first seed, and how many; they draw which part of the machine a smaller one keeps, and
        what is reclaimed first
    quick : one seed, two sizes, no words
    nodes : of every machine: how many, or the CPUs of each, ``"0-3/4-7"``; as recorded (docs/use/nodes.md)
    kernel : profile; None takes the trace's own
    samples : points of the time series of the replays that ``runs`` shows; with 2 the curves of requests
        that fail over memory are left out, too
    reclaim, compaction : what relieves a shortage: bytes of page cache (None: the file pages that the
        recorded machine had; 0: none), and whether requests that may block compact
    fallbacks : as in ``replay``
    progress : called with (what, steps done, of)
    cache : where what was computed is kept; None: nowhere
    threads : 0: as many as there are processors

    Returns the result.  Raises ValueError for what cannot be.
    """
    plan = _plan(
        designs,
        memory=memory,
        classifier=classifier,
        seeds=range(seed, seed + (1 if quick else seeds)),
        quick=quick,
        nodes=as_nodes(nodes),
        kernel=kernel,
        relief=Relief(parse_size(reclaim) if isinstance(reclaim, str) else reclaim, compaction, fallbacks),
        threads=threads,
    )
    items, cache = several(traces, Trace), cache or Cache()
    if not items:
        raise ValueError("no traces to compare on")
    key = _whole_key(plan, items, samples)
    found: dict[str, Any] | None = cache.get(key) if key else None
    if found is None:
        loaded = [load_events(item) for item in items]
        found = _compared(plan, loaded, samples, progress, cache)
        if key:
            cache.put(key, found)
    return found | {"command": list(command)}


def _plan(
    designs: str | Design | Sequence[str | Design] | None,
    *,
    memory: str | int | Sequence[str | int],
    seeds: Sequence[int],
    kernel: str | None,
    **more: Any,
) -> Plan:
    """What the arguments of ``compare`` ask for.  Raises ValueError for what cannot be."""
    chosen = None if designs is None else [as_design(d) for d in several(designs, Design)]
    if chosen == []:
        raise ValueError("no designs to compare")
    if not 1 <= len(seeds) <= 1024:
        raise ValueError(f"{len(seeds)} seeds: give 1 to 1024")
    if kernel is not None:
        kernel_profile(kernel)
    every = [as_design(d) for d in DEFAULT_DESIGNS] if chosen is None else chosen
    return Plan(
        designs=(as_design(REFERENCE), *(d for d in every if d.name != REFERENCE)),
        protagonists=protagonists(chosen),
        seeds=tuple(seeds),
        kernel=kernel,
        memory=tuple(as_size(size) for size in several(memory, int)),
        **more,
    )


def _whole_key(plan: Plan, items: Sequence[str | Trace], samples: int) -> str | None:
    """The key of a whole result, from the files' bytes alone; None where an input is no file."""
    hashes = []
    for item in items:
        path = Path(str(item))
        if isinstance(item, Trace) or not (path.is_file() or str(item) in bundled_traces()):
            return None
        path = path if path.is_file() else bundled_traces()[str(item)]
        with path.open("rb") as file:  # of any size
            hashed = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20))
        hashes.append([str(item), hashed.hexdigest()])
    return key_of(
        "whole", package_hash(), hashes, samples, plan.protagonists, plan.seeds, plan.relief.options(),
        plan.classifier, plan.kernel, [size.words for size in plan.memory], plan.quick,
        [design_words(d) for d in plan.designs], plan.nodes.words,
    )  # fmt: skip


def _compared(
    plan: Plan,
    traces: Sequence[Trace],
    samples: int,
    progress: Progress | None,
    cache: Cache,
) -> dict[str, Any]:
    with ThreadPoolExecutor(plan.threads or processors()) as pool:

        def subject(trace: Trace) -> Subject:
            return Subject.of(trace, plan.classifier, plan.seeds[0], plan.nodes, cache)

        subjects = list(pool.map(subject, traces))
        measured = [pool.submit(nearness, subject, cache) for subject in subjects]
        full = FullRuns(plan, samples, cache)
        study = Study(plan, subjects, cache, progress, full.measured)
        found = study.run()
    runs = full.runs(_places(plan, subjects, found), progress)
    near = [each.result() for each in measured]
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "asi_pa": __version__,
        "command": [],
        "kernel": ", ".join(sorted({plan.kernel or subject.kernel for subject in subjects})),
        "seed": plan.seeds[0],
        "seeds": len(plan.seeds),
        "quick": plan.quick,
        "classifier": subjects[0].starts.classifier.describe(),
        "relief": {
            "reclaim_bytes": plan.relief.reclaim,
            "compaction": plan.relief.compaction,
            "fallbacks": plan.relief.fallbacks,
            "words": plan.relief.words(),
        },
        **({"nodes": plan.nodes.words} if any(s.whole.nodes > 1 for s in subjects) else {}),
        "reference": REFERENCE,
        "protagonists": list(plan.protagonists),
        "answer": [answer(plan, s, f, of["floors"]) for s, f, of in zip(subjects, found, near, strict=True)],
        "runs": runs,
        "claims": [],
    }
    if samples > 2 and not plan.memory:
        needed = [of.rows[0][REFERENCE]["price"] if of.rows else None for of in found]
        result["curves"] = [study.curve(s, n) for s, n in zip(subjects, needed, strict=True) if n]
    result["nearness"] = [
        *(f"{s.trace.name}: {of['line']}" for s, of in zip(subjects, near, strict=True)),
        OTHERS,
    ]
    result["claims"] = evaluate_claims(result)
    result["verdict"] = sentences(result)
    result["caveats"] = caveats(subjects, result)
    return result


def nearness(subject: Subject, cache: Cache) -> dict[str, Any]:
    """How near the linux model was measured to be to a trace's machine: a ``line``, and ``floors``."""
    key = key_of("nearness", package_hash(), subject.hash)
    found: dict[str, Any] | None = cache.get(key)
    if found is None:
        measured = errors(subject.trace, subject.as_recorded)
        found = {"line": brief(measured), "floors": measured_floors(measured)}
        cache.put(key, found)
    return found


def _places(plan: Plan, subjects: Sequence[Subject], found: Sequence[Found]) -> list[Place]:
    """The sizes at which replays are shown in full."""
    places: list[Place] = []
    for subject, of in zip(subjects, found, strict=True):
        if plan.memory:
            places += [(subject, s.words, p) for s, p in zip(plan.memory, of.pages, strict=True)]
            continue
        places.append((subject, "ample", 0))
        if of.rows:
            needed = of.rows[0][REFERENCE]["price"]
            pages = subject.most if needed is None else min(short_pages(needed), subject.most)
            places.append((subject, "short", pages))
    return places
