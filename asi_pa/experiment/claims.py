"""The four claims of the RFC, each put to the figures of a comparison.

The claims are those of the cover letter "mm: ASI integration for the page allocator" (13 March 2025,
msgid 20250313-asi-page-alloc-v1-0-04972e046cea@google.com).  They are judged on the designs that the
letter proposes (`designs.PROPOSAL`): every variant in the result that is not ours, in every run, and held
against designs that make the same promise.  A figure is a
measured value together with what it is held against; it speaks for the claim, against it, or, as
context, neither way.  The verdict is nothing but a count of them:

* ``holds``: figures for, none against;
* ``fails``: figures against, none for;
* ``mixed``: both;
* ``untested``: neither, because the comparison lacks the design or the designs to hold it against, or
  because nothing happened that the claim is about: no nonsensitive request was served.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from asi_pa.designs import DESIGNS, PROPOSAL, REFERENCE, Design
from asi_pa.experiment.metrics import Number, leaf_share_2m, tlb_flushes
from asi_pa.experiment.ranking import run_name

__all__ = ["CLAIMS", "evaluate_claims"]

#: The claims in our words.
CLAIMS: dict[int, str] = {
    1: "Grouping pages by sensitivity with migratetypes keeps the physmap unfragmented, "
    "so the restricted physmap keeps 2M leaves.",
    2: "Pageblocks are never smaller than a PMD mapping, so no mapping is broken down "
    "and no page table is allocated inside the allocator.",
    3: "Free lists by migratetype already tell mapped pages from unmapped ones, "
    "so unnecessary TLB flushes are minimised.",
    4: "Unlike a separate pool, the allocator's full feature set serves pages of both kinds.",
}

Figure = dict[str, Any]
#: Families that are shown beside the letter's designs.
SCALE = (PROPOSAL.separate_pool, PROPOSAL.page_by_page)


def evaluate_claims(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The ``claims`` list of a result from its ``runs``.

    ``result`` is a dict of the schema asi_pa.compare/1; its own ``claims`` are not read.  Returns one
    dict per claim: ``claim`` (1..4), ``text``, ``verdict`` and ``figures``, each figure with ``run``,
    ``design``, ``metric``, ``value``, ``for`` (True, False, or None for context) and ``says`` (a
    sentence); where it is a comparison also ``against`` (the other design) and ``reference`` (its value).
    """
    makers = {1: _large_leaves, 2: _no_splits, 3: _few_flushes, 4: _both_kinds}
    claims = []
    for number, maker in makers.items():
        figures = [figure for run in result["runs"] for figure in maker(run)]
        claims.append(
            {"claim": number, "text": CLAIMS[number], "verdict": _verdict(figures), "figures": figures}
        )
    return claims


def _verdict(figures: Iterable[Figure]) -> str:
    sides = {figure["for"] for figure in figures} - {None}
    return {(): "untested", (True,): "holds", (False,): "fails"}.get(tuple(sides), "mixed")


def _subjects(run: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The variants of what the letter proposes."""
    for name, metrics in _named(run, PROPOSAL.family):
        design = _built_in(name)
        if design and not design.ours and _tested(metrics):
            yield name, metrics


def _tested(metrics: Mapping[str, Any]) -> bool:
    """Whether anything happened that the claims are about: a nonsensitive request that was served."""
    asked, failed = metrics.get("requests_by_kind"), metrics.get("failures_by_kind")
    return not asked or not failed or asked["nonsensitive"] > failed["nonsensitive"]


def _built_in(word: str) -> Design | None:
    """The design of a result's entry, or the one that it is a variant of; None for a user's own."""
    return DESIGNS.get(word.partition(":")[0])


def _named(run: Mapping[str, Any], family: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(name, metrics) of a family's designs."""
    for design in run["designs"]:
        known = _built_in(design["design"])
        if known and known.family == family:
            yield design["design"], design["metrics"]


def _rivals(run: Mapping[str, Any], design: str, family: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Those of a family that make the same promise as ``design``: what hides less is cheaper for nothing."""
    promises = {d["design"]: d.get("protects") for d in run["designs"]}
    return ((name, m) for name, m in _named(run, family) if promises[name] == promises[design])


def _figure(
    run: Mapping[str, Any],
    design: str,
    metric: str,
    value: Number,
    speaks: bool | None,
    says: str,
    **more: Any,
) -> Figure:
    return {
        "run": run_name(run),
        "design": design,
        "metric": metric,
        "value": value,
        "for": speaks,
        "says": says,
    } | more


def _zero(
    run: Mapping[str, Any], design: str, metrics: Mapping[str, Any], keys: Iterable[str]
) -> Iterator[Figure]:
    """A figure per key that the claim says is 0."""
    for key in keys:
        if (value := metrics.get(key)) is not None:
            yield _figure(run, design, key, value, value == 0, "the claim says 0")


def _context(run: Mapping[str, Any], keys: Iterable[str], families: Iterable[str]) -> Iterator[Figure]:
    """The same metrics of other designs, which prove nothing about this one but show the scale."""
    keys = tuple(keys)
    for family in families:
        for design, metrics in _named(run, family):
            for key in keys:
                if (value := metrics.get(key)) is not None:
                    yield _figure(run, design, key, value, None, "for comparison")


def _large_leaves(run: Mapping[str, Any]) -> Iterator[Figure]:
    """Claim 1: all of what the restricted physmap maps stays in leaves of 2M; none is split.

    A share below 1 already means that some block is mapped with 4K leaves, so the bar is 1.
    """
    for design, metrics in _subjects(run):
        if (share := leaf_share_2m(metrics)) is not None:
            says = "share of the restricted physmap in leaves of 2M or larger; the claim says all"
            yield _figure(run, design, "restricted_2m_share", share, share == 1, says)
        yield from _zero(run, design, metrics, ("leaf_splits_2m",))
    for family in SCALE:
        for design, metrics in _named(run, family):
            if (share := leaf_share_2m(metrics)) is not None:
                yield _figure(run, design, "restricted_2m_share", share, None, "for comparison")
    yield from _context(run, ("leaf_splits_2m",), SCALE)


def _no_splits(run: Mapping[str, Any]) -> Iterator[Figure]:
    """Claim 2: no leaf of either size is split, no table page allocated, no 4K entry written."""
    keys = ("leaf_splits_2m", "leaf_splits_1g", "table_pages_allocated", "leaf_writes_pte")
    for design, metrics in _subjects(run):
        yield from _zero(run, design, metrics, keys)
    yield from _context(run, keys[:3], SCALE)


def _few_flushes(run: Mapping[str, Any]) -> Iterator[Figure]:
    """Claim 3: fewer flushes than the designs without such lists, and none that no flip caused."""
    for design, metrics in _subjects(run):
        for family in (PROPOSAL.page_by_page, PROPOSAL.separate_pool):
            for other, reference in _rivals(run, design, family):
                for key in ("tlb_flushes_per_1000_allocations", "tlb_flushes_per_1000_able"):
                    yield from _compare(run, design, other, key, metrics.get(key), reference.get(key))
        flushes, flips = tlb_flushes(metrics), metrics.get("flips_n2s")
        if flushes is not None and flips is not None:
            says = "pageblocks flipped N -> S: one flush a flip at most"
            yield _figure(run, design, "tlb_flushes", flushes, flushes <= flips, says, reference=flips)


def _both_kinds(run: Mapping[str, Any]) -> Iterator[Figure]:
    """Claim 4: nothing fails that plain Linux served, and nothing fails because of its kind.

    Where the result counts by kind, the failure rates and the share served from per-CPU lists of the
    two kinds are held against what plain Linux gives the same requests.
    """
    for design, metrics in _subjects(run):
        causes = metrics.get("failures_by_cause", {})
        for cause in ("flip_starvation", "no_block_refusal"):
            if (value := causes.get(cause)) is not None:
                says = "requests that failed because of their kind; the claim implies 0"
                yield _figure(run, design, f"failures_by_cause.{cause}", value, value == 0, says)
        for linux, reference in _named(run, REFERENCE):
            yield from _groups(run, design, metrics, linux, reference)
            key = "extfrag_events"
            yield from _compare(run, design, linux, key, metrics.get(key), reference.get(key))
            for kind in ("sensitive", "nonsensitive"):
                mine, theirs = (_share(m, "failures_by_kind", kind) for m in (metrics, reference))
                yield from _compare(run, design, linux, f"failure_rate.{kind}", mine, theirs)
                mine, theirs = (_share(m, "pcp_allocations_by_kind", kind) for m in (metrics, reference))
                yield from _compare(run, design, linux, f"pcp_share.{kind}", mine, theirs, lower=False)
        for other, reference in _rivals(run, design, PROPOSAL.separate_pool):
            yield from _groups(run, design, metrics, other, reference)


def _groups(
    run: Mapping[str, Any],
    design: str,
    metrics: Mapping[str, Any],
    other: str,
    reference: Mapping[str, Any],
) -> Iterator[Figure]:
    """Failures by what they mean, group by group: they are never added up."""
    theirs = reference.get("failures_by_group", {})
    for group, failures in metrics.get("failures_by_group", {}).items():
        yield from _compare(run, design, other, f"failures_by_group.{group}", failures, theirs.get(group))


def _share(metrics: Mapping[str, Any], of: str, kind: str) -> float | None:
    """Of the requests of a kind those that ``of`` counts; None where there were none."""
    part, whole = metrics.get(of, {}).get(kind), metrics.get("requests_by_kind", {}).get(kind)
    return part / whole if whole and part is not None else None


def _compare(
    run: Mapping[str, Any],
    design: str,
    other: str,
    key: str,
    mine: float | None,
    theirs: float | None,
    *,
    lower: bool = True,
) -> Iterator[Figure]:
    """A figure that speaks for the claim if ``design`` is no worse than ``other`` in ``key``."""
    if mine is None or theirs is None:
        return
    speaks = mine <= theirs if lower else mine >= theirs
    relation = "equal to" if mine == theirs else "below" if mine < theirs else "above"
    yield _figure(run, design, key, mine, speaks, f"{relation} {other}", against=other, reference=theirs)
