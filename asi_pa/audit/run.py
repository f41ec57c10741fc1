"""``audit``: all scopes of designs within a budget, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from asi_pa.audit.elsewhere import search_elsewhere
from asi_pa.audit.pool import search_units
from asi_pa.audit.result import AuditResult, add_finding
from asi_pa.audit.scopes import Scope, scaled, scopes
from asi_pa.audit.steps import count_operations
from asi_pa.audit.unit import Raw, Unit, UnitResult
from asi_pa.audit.words import mechanism_base
from asi_pa.designs import Design, as_design
from asi_pa.executors import processors
from asi_pa.names import several

__all__ = ["DEFAULT_OPERATIONS", "audit", "audits", "gather", "units"]

#: Carried out and checked for one design, over all its scopes.
DEFAULT_OPERATIONS = 150_000_000
#: States kept of a scope; about 200 bytes each.
DEFAULT_STATES = 3_000_000
#: Deeper than any search comes.
_DEEPEST = 1000

Progress = Callable[[str, int, int], None]


def units(
    design: str | Design,
    *,
    depth: int | None = None,
    states: int | None = None,
    operations: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    liveness: bool = True,
    only: Sequence[str] = (),
) -> list[Unit]:
    """The work of one design's audit, a unit for each scope, with its share of the operations and seconds.

    Each is searched by ``asi_pa.audit.unit.search_unit``, in any process; ``gather`` makes the results one.
    Arguments and errors are those of `audit`.
    """
    chosen = as_design(design)
    if not chosen.protects:
        raise ValueError(f"design {chosen.name!r} protects nothing, there is nothing to audit")
    for what, least in (("depth", depth), ("states", states), ("operations", operations)):
        if least is not None and least < 1:
            raise ValueError(f"{what} {least} is not at least 1")
    if seconds is not None and not seconds > 0:
        raise ValueError(f"seconds {seconds} is not above 0")
    if operations is None and seconds is None:
        operations = DEFAULT_OPERATIONS
    small = scaled(chosen)
    todo = _chosen_scopes(small, only)
    whole = sum(scope.share for scope in todo)
    return [
        Unit(
            design=small,
            scope=scope,
            depth=depth or _DEEPEST,
            states=states or DEFAULT_STATES,
            operations=None if operations is None else max(int(operations * scope.share / whole), 1),
            seconds=None if seconds is None else seconds * scope.share / whole,
            seed=seed,
            liveness=liveness,
        )
        for scope in todo
    ]


def _chosen_scopes(design: Design, only: Sequence[str]) -> list[Scope]:
    every = list(scopes(design))
    names = [scope.name for scope in every]
    for name in only:
        if name not in names:
            raise ValueError(f"unknown scope {name!r}: scopes are {', '.join(names)}")
    return [scope for scope in every if not only or scope.name in only]


def gather(design: str | Design, work: Sequence[Unit], results: Sequence[UnitResult]) -> AuditResult:
    """The results of a design's `units`, in their order, as one."""
    chosen = as_design(design)
    word = design if isinstance(design, str) else chosen.name
    result = AuditResult(design=chosen, design_word=word, seed=work[0].seed)
    found: list[tuple[Scope, Raw]] = []
    for unit, one in zip(work, results, strict=True):
        result.searched.append(one.searched)
        found += [(unit.scope, raw) for raw in one.raw]
    for scope, raw in _choose(found):
        add_finding(result, work[0].design, scope, raw)
    for findings in (result.findings, result.liveness):
        findings.sort(key=lambda f: (f.invariant, f.operations, f.mechanism))
    return result


def _choose(found: list[tuple[Scope, Raw]]) -> list[tuple[Scope, Raw]]:
    """The shortest for each pair; one in a window only where the same mechanism needs a window."""
    best: dict[tuple[int, int], tuple[Scope, Raw]] = {}
    for scope, raw in found:
        pair = raw.invariant, raw.mechanism
        if pair not in best or count_operations(raw.steps) < count_operations(best[pair][1].steps):
            best[pair] = scope, raw
    return [
        best[pair]
        for pair in best
        if pair[1] == mechanism_base(pair[1]) or (pair[0], mechanism_base(pair[1])) not in best
    ]


def audits(
    designs: Sequence[str | Design],
    *,
    depth: int | None = None,
    states: int | None = None,
    operations: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    liveness: bool = True,
    progress: Progress | None = None,
    only: str | Sequence[str] = (),
    jobs: int | None = None,
    executor: str | Executor | None = None,
    each: Callable[[AuditResult], None] | None = None,
) -> list[AuditResult]:
    """Several designs audited at once: one pool of threads over all their scopes.

    ``executor``: where it is done instead, in the words of `asi_pa.executors`.  ``each`` is called with a
    design's result as soon as it and those before it are done.  The other arguments and the errors are those
    of `audit`.
    """
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs {jobs} is not at least 1")
    if jobs is not None and executor is not None:
        raise ValueError("jobs are threads of this process, and an executor is somewhere else: one of them")
    only = several(only)
    work = [
        units(
            design,
            depth=depth,
            states=states,
            operations=operations,
            seconds=seconds,
            seed=seed,
            liveness=liveness,
            only=only,
        )
        for design in designs
    ]
    todo = [unit for one in work for unit in one]
    done: dict[int, UnitResult] = {}
    results: list[AuditResult] = []

    def unit_done(number: int, unit_result: UnitResult) -> None:
        done[number] = unit_result
        if progress is not None:
            progress("audit", len(done), len(todo))
        while len(results) < len(designs):
            first = sum(len(one) for one in work[: len(results)])
            own = work[len(results)]
            if not all(first + i in done for i in range(len(own))):
                break
            results.append(gather(designs[len(results)], own, [done[first + i] for i in range(len(own))]))
            if each is not None:
                each(results[-1])

    if executor is None:
        search_units(todo, jobs or processors(), unit_done)
    else:
        named = [(design, unit) for design, own in zip(designs, work, strict=True) for unit in own]
        search_elsewhere(named, executor, unit_done)
    return results


def audit(
    design: str | Design,
    *,
    depth: int | None = None,
    states: int | None = None,
    operations: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    liveness: bool = True,
    progress: Progress | None = None,
    only: str | Sequence[str] = (),
    jobs: int | None = None,
) -> AuditResult:
    """Can this design ever break its promise?

    Parameters
    ----------
    design : str or Design
        A built-in name, or FILE.py:NAME.
    depth : int, optional
        Longest sequence, in operations; None: as far as the other limits allow.
    states : int, optional
        Most states of a scope; None: 3,000,000.
    operations : int, optional
        Carried out and checked at most, over all scopes by their shares; None: 150,000,000, or no limit
        where there are ``seconds``.
    seconds : float, optional
        Of processor time at most, over all scopes by their shares.
    seed : int
        Of the random walks beyond the exhaustive depth.
    liveness : bool
        Look for failures beside usable memory as well.
    progress : callable, optional
        Called as (what, done, of) after each scope.
    only : sequence of str
        Names of scopes; empty: all.
    jobs : int, optional
        Threads; None: as many as there are processors.

    Raises ValueError for an unknown design or scope, one that protects nothing, and numbers that cannot be.
    The result is the same for every number of jobs and on every machine, unless ``seconds`` are given: then
    how far the search comes depends on the machine's speed.
    """
    return audits(
        [design],
        depth=depth,
        states=states,
        operations=operations,
        seconds=seconds,
        seed=seed,
        liveness=liveness,
        progress=progress,
        only=only,
        jobs=jobs,
    )[0]
