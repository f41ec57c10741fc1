"""A made-up but plausible result of the schema asi_pa.compare/2, for tests of what reads one.

The numbers come from a seed; they obey what any real result obeys (cumulative series grow, causes add
up to failures, rates follow from their counts) and mean nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.experiment.claims import evaluate_claims
from asi_pa.experiment.measures import MEASURES, Measure
from asi_pa.experiment.metrics import FAILURE_GROUPS, METRICS, WAYS_OUT, leaf_share_2m
from asi_pa.experiment.probe import Relief
from asi_pa.experiment.rule import judge
from asi_pa.experiment.verdict import sentences

SEEDS = 16
BREACHES = [metric.key for metric in METRICS if metric.breach]

LEGEND = [
    "hole",
    "unmovable sensitive",
    "unmovable nonsensitive",
    "movable",
    "reclaimable",
    "highatomic",
    "cma",
    "isolate",
]
KINDS = {
    "linux": ["unmovable", "movable", "reclaimable", "highatomic"],
    "migratetype/sound": [
        "unmovable_sensitive",
        "unmovable_nonsensitive",
        "movable",
        "reclaimable",
        "highatomic",
    ],
    "pool/nonsensitive": ["unmovable", "movable", "reclaimable", "highatomic", "pool"],
    "per-page": ["unmovable", "movable", "reclaimable", "highatomic"],
}
TITLES = {
    "linux": "Linux 6.18, no ASI",
    "migratetype/sound": "Migratetype pervasion (RFC, March 2025), made sound",
    "pool/nonsensitive": "Separate pool of nonsensitive pages (2023, turned to ASI)",
    "per-page": "Per-page mapping, a flush each",
}


def make_result(
    seed: int = 0,
    designs: tuple[str, ...] = tuple(KINDS),
    traces: tuple[str, ...] = ("redis", "kernelmem"),
    memories: tuple[tuple[str, int], ...] = (("ample", 4 << 30), ("short", 768 << 20)),
    columns: int = 256,
    samples: int = 200,
) -> dict[str, Any]:
    """A result with one run per trace and memory size."""
    rng = np.random.default_rng(seed)
    runs = [
        _run(rng, trace, name, size, designs, columns, samples) for trace in traces for name, size in memories
    ]
    sides: list[str] = [name for name in ("migratetype/sound", "pool/nonsensitive") if name in designs]
    sides += [name for name in designs if name not in sides and name != "linux"]
    result: dict[str, Any] = {
        "schema": "asi_pa.compare/2",
        "asi_pa": "0.1.0",
        "command": ["asi-pa", "compare", "--html", "report.html"],
        "kernel": "6.18",
        "seed": seed,
        "seeds": SEEDS,
        "quick": False,
        "classifier": "nonsensitive = migratetype unmovable and no __GFP_HARDWALL; all else sensitive",
        "relief": {"reclaim_bytes": None, "compaction": True, "words": Relief().words()},
        "reference": "linux",
        "protagonists": [*sides, "linux"][:2],
        "answer": [_answer(rng, trace, designs, [*sides, "linux"][:2]) for trace in traces],
        "runs": runs,
        "claims": [],
        "caveats": ["All the evidence is made up."],
        "stored": {
            "yields": {name: float(rng.random()) for name in designs},
            "holes": {name: 0 for name in designs if name != "linux"},
            "holes_as_posted": {"migratetype/sound": 25},
        },
        "curves": [_curve(rng, trace, ["linux", *sides[:2]]) for trace in traces],
    }
    result["claims"] = evaluate_claims(result)
    result["verdict"] = sentences(result)
    return result


def _answer(
    rng: np.random.Generator, trace: str, designs: tuple[str, ...], sides: list[str]
) -> dict[str, Any]:
    """An entry of ``answer``: values of a seed each, and the words that the rule has for them."""
    rows = []
    for place in ("ample", "short", "search"):
        for measure in MEASURES:
            if (measure.take is None) != (place == "search"):
                continue
            exact = place == "ample"
            values: dict[str, list[Any]] = {
                name: [_value(rng, measure, name) for _ in range(1 if exact else SEEDS)] for name in designs
            }
            against = {
                name: _word(measure, values[name], values["linux"], exact)
                for name in designs
                if name != "linux" and "linux" in values
            }
            rows.append(
                {
                    "measure": measure.key,
                    "label": measure.label,
                    "place": place,
                    "unit": measure.unit,
                    "better": measure.better,
                    "exact": exact,
                    "values": values,
                    "against_reference": against,
                    "against_other": _word(measure, values[sides[0]], values[sides[1]], exact)
                    if sides[1] in values
                    else None,
                }
            )
    return {
        "trace": trace,
        "description": "made up",
        "requests": {"real": 250_000, "declined": 40_000, "huge": 2},
        "real_limit": 25,
        "floored": dict.fromkeys(designs, 0),
        "measures": rows,
    }


def _value(rng: np.random.Generator, measure: Measure, design: str) -> float | int | None:
    if measure.protection and design == "linux":
        return None
    if measure.unit == "share":
        return float(rng.random())
    return int(rng.integers(800, 900)) if measure.unit == "mib" else int(rng.integers(90))


def _word(measure: Measure, one: list[Any], other: list[Any], exact: bool) -> dict[str, Any]:
    word = judge(measure, one, other, exact=exact)
    over = word.difference
    return {
        "word": word.word,
        "agree": word.agree,
        "seeds": word.seeds,
        "difference": None if over is None else [float(over.median), float(over.least), float(over.most)],
    }


def _curve(rng: np.random.Generator, trace: str, designs: list[str]) -> dict[str, Any]:
    sizes = [800, 850, 900, 1000]
    shares = {
        name: {key: sorted(rng.random(len(sizes)).tolist())[::-1] for key in ("real", "declined")}
        for name in designs
    }
    return {"trace": trace, "mib": sizes, "seeds": 4, "shares": shares}


def _run(
    rng: np.random.Generator,
    trace: str,
    memory: str,
    size: int,
    designs: tuple[str, ...],
    columns: int,
    samples: int,
) -> dict[str, Any]:
    operations = int(rng.integers(900_000, 1_300_000))
    blocks = np.where(rng.random(columns) < 0.4, 3, rng.choice([1, 3, 4], columns, p=[0.3, 0.6, 0.1]))
    return {
        "trace": trace,
        "memory": memory,
        "memory_bytes": size,
        "description": "recorded on an x86-64 guest, Linux 6.18, 2 CPUs",
        "operations": operations,
        "repairs": {"free_of_free": int(rng.integers(40)), "alloc_of_allocated": int(rng.integers(40))},
        "population": {"pages": size >> 12, "allocated": int((size >> 12) * 0.6), "mixed_blocks": 12},
        "designs": [
            _design(rng, name, operations, size >> 12, memory != "ample", blocks, samples) for name in designs
        ],
    }


def _walk(rng: np.random.Generator, samples: int, start: int, low: int, high: int) -> npt.NDArray[np.int64]:
    steps = rng.normal(0, (high - low) / 60, samples).cumsum()
    return np.asarray(np.clip(start + steps, low, high), dtype=np.int64)


def _growth(rng: np.random.Generator, samples: int, total: int) -> npt.NDArray[np.int64]:
    weights = rng.pareto(1.5, samples)
    weights[0] = 0
    return np.asarray(np.floor(total * weights.cumsum() / weights.sum()), dtype=np.int64)


def _design(
    rng: np.random.Generator,
    name: str,
    operations: int,
    pages: int,
    short: bool,
    start: npt.NDArray[np.int64],
    samples: int,
) -> dict[str, Any]:
    family = name.split("/")[0]
    asi = family != "linux"
    causes = {
        "watermark": int(rng.integers(50, 90)) if short else 0,
        "fragmentation": int(rng.integers(400)) if short else 0,
        "no_memory": 0,
        "flip_starvation": int(rng.integers(5, 60)) if short and family == "migratetype" else 0,
        "no_block_refusal": int(rng.integers(5, 60)) if short and family == "migratetype" else 0,
    }
    failures = sum(causes.values())
    allocations = operations // 2
    served = allocations - failures
    n2s = int(rng.integers(20, 90)) if family == "migratetype" else 0
    s2n = n2s + int(rng.integers(40)) if family == "migratetype" else 0
    refills = int(rng.integers(100, 200)) if family == "pool" else 0
    nonsensitive = allocations // 5
    flushes = {"migratetype": n2s, "pool": refills // 4, "per-page": nonsensitive}.get(family, 0)
    full = 0 if family == "per-page" else flushes
    mapped_2m = {"migratetype": s2n - n2s + 30, "pool": 60}.get(family, 0)
    mapped_4k = {"pool": 4096, "per-page": 30_000}.get(family, 0)
    splits = {"pool": refills, "per-page": 900}.get(family, 0)
    seconds = float(operations / rng.uniform(25e6, 40e6))
    op = np.linspace(0, operations, samples).astype(np.int64)
    time_ns = _growth(rng, samples, 22_000_000_000)
    s2n_series, n2s_series = _growth(rng, samples, s2n), _growth(rng, samples, n2s)
    metrics: dict[str, Any] = {
        "allocations": allocations,
        "allocations_by_order": [allocations - 5555, 5000, 500, 50, 5, 0, 0, 0, 0, 0, 0],
        "failures": failures,
        "failures_by_cause": causes,
        "flips_s2n": s2n,
        "flips_n2s": n2s,
        "leaf_writes_pte": 2 * nonsensitive if family == "per-page" else 0,
        "leaf_writes_pmd": s2n + n2s + refills,
        "leaf_splits_2m": splits,
        "leaf_splits_1g": 0,
        "table_pages_allocated": splits,
        "tlb_flushes_ranged": flushes - full,
        "tlb_flushes_full": full,
        "tlb_flushes_per_1000_allocations": 1000 * flushes / served,
        "tlb_flushed_pages": flushes - full,
        "ipis": flushes,
        "tlb_flushes_per_1000_able": 1000 * flushes / nonsensitive if asi else None,
        "no_block_refusals": 3 * causes["no_block_refusal"],
        "bytes_zeroed": s2n << 21,
        "direct_map_kb": {
            "unrestricted": {"4k": 0, "2m": pages * 4, "1g": 0},
            "restricted": {"4k": 4 * mapped_4k, "2m": 2048 * mapped_2m, "1g": 0} if asi else None,
        },
        "pool_refills": refills,
        "pool_refill_pages": refills * 512,
        **dict.fromkeys(BREACHES, 0 if asi else None),
        "absent_pages": 0 if asi else None,
        "replay_seconds": seconds,
        "replay_ops_per_second": operations / seconds,
    }
    metrics["restricted_2m_share"] = leaf_share_2m(metrics)
    metrics["tlb_flushes"] = flushes
    metrics["failures_by_kind"] = {"sensitive": 1, "nonsensitive": 1}
    return {
        "design": name,
        "title": TITLES.get(name, name),
        "source": [] if not asi else ["msgid 20250313-asi-page-alloc-v1-0-04972e046cea@google.com"],
        "metrics": _metrics(rng, metrics, asi),
        "series": {
            "op": op.tolist(),
            "time_ns": time_ns.tolist(),
            "free_pages": {
                kind: _walk(rng, samples, pages // 9 // (i + 1), 0, pages // 5).tolist()
                for i, kind in enumerate(KINDS[name])
            }
            if name in KINDS
            else {},
            "flushes": _growth(rng, samples, flushes).tolist(),
            "flips_s2n": s2n_series.tolist(),
            "flips_n2s": n2s_series.tolist(),
            "restricted_leaves": {
                "4k": _growth(rng, samples, mapped_4k).tolist(),
                "2m": (30 + s2n_series - n2s_series).clip(0).tolist() if mapped_2m else [0] * samples,
                "1g": [0] * samples,
            },
            "mapped_pages": _walk(rng, samples, pages // 20, 0, pages // 4).tolist(),
            "unusable_index": [(37 * int(at) + 10 * len(name)) % 1000 for at in range(samples)],
        },
        "blockmap": {
            "op": op.tolist(),
            "columns": len(start),
            "legend": LEGEND,
            "rows": _blocks(rng, samples, start, family == "migratetype"),
        },
        "verify": "ok",
    }


def _metrics(rng: np.random.Generator, given: dict[str, Any], protects: bool) -> dict[str, Any]:
    """Every measured metric of the table: what follows from others as given, anything of its type else."""
    made: dict[str, Any] = {}
    for metric in METRICS:
        if metric.type:
            none = {"mapped": 0, "unmapped": 0} if metric.type == "counts by side" else 0
            value = _made_up(rng, metric.type) if protects or not metric.asi else none
            made[metric.key] = given.get(metric.key, value)
    return made


def _made_up(rng: np.random.Generator, kind: str) -> Any:
    if kind == "counts by order":
        return [int(v) for v in np.sort(rng.integers(0, 900, 11))]
    if kind == "index by order":
        return [-1000] * 9 + [int(rng.integers(400, 900)), 911]
    if kind == "counts by side":
        return {"mapped": 300, "unmapped": 4000}
    if kind == "shares by kind":
        return {"sensitive": 0.001, "nonsensitive": 0.002}
    if kind == "counts by group":
        return {group: int(rng.integers(90)) for group in FAILURE_GROUPS}
    if kind == "counts by way out":
        return {way: int(rng.integers(90)) for way in WAYS_OUT}
    if kind == "counts by kind":
        return {"sensitive": 1000, "nonsensitive": 200}  # the same for all
    return int(rng.integers(90))


def _blocks(
    rng: np.random.Generator, samples: int, start: npt.NDArray[np.int64], flips: bool
) -> list[list[int]]:
    now, rows = start.copy(), []
    for _ in range(samples):
        where = rng.integers(0, len(now), 2)
        now[where] = rng.choice([1, 2, 3, 4] if flips else [1, 3, 4], 2)
        rows.append(now.tolist())
    return rows
