"""The verdicts follow the figures, whichever way the figures are turned."""

from __future__ import annotations

from typing import Any

import pytest

from asi_pa.experiment.claims import CLAIMS, evaluate_claims
from tests.report.compare_result import make_result

SEED = "migratetype/sound"


def verdicts(result: dict[str, Any]) -> dict[int, str]:
    return {claim["claim"]: claim["verdict"] for claim in evaluate_claims(result)}


def metrics(result: dict[str, Any], design: str, run: int = 0) -> dict[str, Any]:
    return next(d["metrics"] for d in result["runs"][run]["designs"] if d["design"] == design)


@pytest.fixture
def result() -> dict[str, Any]:
    """One ample run in which the seed is at least as good as everything else in every figure."""
    result = make_result(traces=("redis",), memories=(("ample", 1 << 30),), columns=8, samples=5)
    linux, seed = metrics(result, "linux"), metrics(result, SEED)
    none = {"real": 0, "declined": 0, "huge": 0}
    for design in ("linux", SEED, "pool/nonsensitive"):
        metrics(result, design)["failures_by_group"] = dict(none)
    seed["extfrag_events"] = linux["extfrag_events"]
    for design in ("pool/nonsensitive", "per-page"):
        metrics(result, design).update(tlb_flushes_per_1000_allocations=50.0, tlb_flushes_per_1000_able=90.0)
    return result


def test_all_hold_where_every_figure_speaks_for_them(result: dict[str, Any]) -> None:
    claims = evaluate_claims(result)
    assert [claim["claim"] for claim in claims] == [1, 2, 3, 4]
    assert [claim["text"] for claim in claims] == list(CLAIMS.values())
    assert {claim["verdict"] for claim in claims} == {"holds"}
    for claim in claims:
        assert all(figure["for"] in (True, None) for figure in claim["figures"])
        assert all(figure["run"] == "redis/ample" for figure in claim["figures"])


@pytest.mark.parametrize(
    ("metric", "value", "broken"),
    [
        ("leaf_splits_2m", 1, {1, 2}),
        ("leaf_splits_1g", 1, {2}),
        ("table_pages_allocated", 3, {2}),
        ("leaf_writes_pte", 1, {2}),
        ("direct_map_kb", {"restricted": {"4k": 4, "2m": 2048, "1g": 0}}, {1}),
        ("tlb_flushes_per_1000_allocations", 51.0, {3}),
        ("tlb_flushes_per_1000_able", 91.0, {3}),
        ("tlb_flushes_ranged", 10**6, {3}),
        ("failures_by_group", {"real": 1, "declined": 0, "huge": 0}, {4}),
        ("failures_by_group", {"real": 0, "declined": 1, "huge": 0}, {4}),
        ("failures_by_group", {"real": 0, "declined": 0, "huge": 1}, {4}),
        ("extfrag_events", 10**6, {4}),
        ("failures_by_cause", {"flip_starvation": 1, "no_block_refusal": 0}, {4}),
        ("failures_by_cause", {"flip_starvation": 0, "no_block_refusal": 1}, {4}),
    ],
)
def test_one_bad_figure_makes_its_claims_mixed(
    result: dict[str, Any], metric: str, value: Any, broken: set[int]
) -> None:
    metrics(result, SEED)[metric] = value
    assert verdicts(result) == {claim: "mixed" if claim in broken else "holds" for claim in CLAIMS}


def test_a_claim_fails_when_nothing_speaks_for_it(result: dict[str, Any]) -> None:
    metrics(result, SEED).update(
        leaf_splits_2m=9, leaf_splits_1g=1, table_pages_allocated=9, leaf_writes_pte=4096
    )
    assert verdicts(result)[2] == "fails"


def test_one_run_is_enough_to_mix(result: dict[str, Any]) -> None:
    bad = make_result(seed=1, traces=("redis",), memories=(("short", 1 << 28),), columns=8, samples=5)
    metrics(bad, SEED)["leaf_splits_1g"] = 1
    result["runs"] += bad["runs"]
    (claim,) = (c for c in evaluate_claims(result) if c["claim"] == 2)
    assert claim["verdict"] == "mixed"
    assert [f["run"] for f in claim["figures"] if f["for"] is False] == ["redis/short"]


def test_without_the_seed_nothing_is_tested(result: dict[str, Any]) -> None:
    for run in result["runs"]:
        run["designs"] = [d for d in run["designs"] if d["design"] != SEED]
    assert set(verdicts(result).values()) == {"untested"}


def test_without_rivals_a_comparison_proves_nothing(result: dict[str, Any]) -> None:
    for run in result["runs"]:
        run["designs"] = [d for d in run["designs"] if d["design"] == SEED]
    claims = evaluate_claims(result)
    assert not any("against" in figure for claim in claims for figure in claim["figures"])


def test_service_by_kind_is_held_against_plain_linux(result: dict[str, Any]) -> None:
    seed, linux = metrics(result, SEED), metrics(result, "linux")
    for values, failed, served in ((linux, 0, 800), (seed, 5, 600)):
        values["requests_by_kind"] = {"sensitive": 0, "nonsensitive": 1000}
        values["failures_by_kind"] = {"sensitive": 0, "nonsensitive": failed}
        values["pcp_allocations_by_kind"] = {"sensitive": 0, "nonsensitive": served}
    figures = {f["metric"]: f for f in evaluate_claims(result)[3]["figures"]}
    assert figures["failure_rate.nonsensitive"]["value"] == 0.005
    assert figures["failure_rate.nonsensitive"]["for"] is False
    assert figures["pcp_share.nonsensitive"]["value"] == 0.6
    assert figures["pcp_share.nonsensitive"]["reference"] == 0.8
    assert figures["pcp_share.nonsensitive"]["for"] is False
    assert "failure_rate.sensitive" not in figures  # nobody asked, so there is no rate


def test_every_variant_of_the_seed_is_judged(result: dict[str, Any]) -> None:
    posted = make_result(seed=2, designs=("migratetype/as-posted",), columns=8, samples=5)["runs"][0][
        "designs"
    ]
    result["runs"][0]["designs"] += posted
    judged = {f["design"] for f in evaluate_claims(result)[1]["figures"] if f["for"] is not None}
    assert judged == {SEED, "migratetype/as-posted"}


def test_nothing_mapped_is_no_evidence_for_large_leaves(result: dict[str, Any]) -> None:
    metrics(result, SEED)["direct_map_kb"] = {"restricted": {"4k": 0, "2m": 0, "1g": 0}}
    shares = [f for f in evaluate_claims(result)[0]["figures"] if f["metric"] == "restricted_2m_share"]
    assert [f["design"] for f in shares if f["for"] is not None] == []
