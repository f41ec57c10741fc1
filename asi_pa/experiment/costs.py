"""The cost model: counts turned into modelled time, through a table of costs that the user owns.

Counts are what the model knows; time is only as good as the table.  Everything here carries the label
``LABEL``, and ``sensitivity`` says how far the ranking of designs hangs on each cost.  The defaults are
in data/costs.toml, each with its source; docs/use/costs.md has the formulas.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from asi_pa.schema import toml_document

__all__ = [
    "LABEL",
    "Cost",
    "Costs",
    "ModelledTime",
    "SensitivityRow",
    "compaction_time",
    "duration",
    "load_costs",
    "modelled_time",
    "modelled_time_text",
    "rank",
    "sensitivity",
    "sensitivity_text",
]

LABEL = "modelled time: a cost model, not a measurement"
SCHEMA = "asi_pa.costs/1"
MAX_CPUS = 1 << 20


@dataclass(frozen=True)
class Cost:
    """One cost: a number, its unit, and where the number comes from."""

    value: float
    unit: str
    source: str


@dataclass(frozen=True)
class Costs:
    """A whole table of costs and the machine it is for."""

    table: Mapping[str, Cost]
    cpus: int
    """Online CPUs, all of which a flush reaches."""
    invlpgb: bool
    """The processor broadcasts invalidations; no interrupts are sent."""

    def __getitem__(self, name: str) -> float:
        return self.table[name].value

    def scaled(self, name: str, factor: float) -> Costs:
        """The same table with one cost multiplied."""
        cost = self.table[name]
        return replace(self, table={**self.table, name: replace(cost, value=cost.value * factor)})


@dataclass(frozen=True)
class ModelledTime:
    """Modelled time of one design in ns, by where it goes; the sum of CPU time over all CPUs."""

    leaf_writes: float
    leaf_splits: float
    table_pages: float
    flush_caller: float
    """On the CPU that flushes: invalidation and TLB refill."""
    shootdown_wait: float
    """On the CPU that flushes: sending interrupts and waiting for the last answer."""
    flush_others: float
    """On all other CPUs: taking the interrupt, invalidation and TLB refill."""
    zeroing: float
    compaction: float = 0.0
    """Frames looked at, pages moved."""
    label: str = field(default=LABEL, compare=False)

    PARTS = (
        "leaf_writes",
        "leaf_splits",
        "table_pages",
        "flush_caller",
        "shootdown_wait",
        "flush_others",
        "zeroing",
        "compaction",
    )

    @property
    def caller(self) -> float:
        """What the allocating and freeing CPUs spend or wait for."""
        return self.total - self.flush_others

    @property
    def total(self) -> float:
        """CPU time of all CPUs together."""
        return math.fsum(getattr(self, part) for part in self.PARTS)

    def as_dict(self) -> dict[str, float | str]:
        """Parts, ``caller``, ``total`` (ns) and the label, for JSON."""
        parts: dict[str, float | str] = {part: getattr(self, part) for part in self.PARTS}
        return {**parts, "caller": self.caller, "total": self.total, "label": self.label}


@dataclass(frozen=True)
class SensitivityRow:
    """How the ranking of designs answers to one cost."""

    cost: str
    value: float
    unit: str
    rankings: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
    """Designs, cheapest first: with the cost divided by the factor, as it is, multiplied by it."""

    @property
    def changes(self) -> bool:
        """Whether the order of any two designs depends on this cost within the factor."""
        return len(set(self.rankings)) > 1


def _number(where: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{where}: {value!r} is not a number")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{where}: {value!r} is not a finite number >= 0")
    return float(value)


def _entry(where: str, raw: object, default: Cost | None, origin: str) -> Cost:
    """A cost from ``name = number`` or ``name = {value, unit, source}``."""
    if not isinstance(raw, dict):
        raw = {"value": raw}
    unknown = set(raw) - {"value", "unit", "source"}
    if unknown:
        raise ValueError(f"{where}: unknown key {min(unknown)!r}")
    if "value" not in raw:
        raise ValueError(f"{where}: no value")
    for key in ("unit", "source"):
        if not isinstance(raw.get(key, ""), str):
            raise ValueError(f"{where}.{key}: {raw[key]!r} is not a text")
    unit = str(raw.get("unit", default.unit if default else ""))
    if default and unit != default.unit:
        raise ValueError(f"{where}: unit {unit!r}, but this cost is in {default.unit!r}")
    return Cost(_number(where, raw["value"]), unit, str(raw.get("source", origin)))


def _machine(origin: str, raw: object) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise ValueError(f"{origin}: machine is not a table")
    unknown = set(raw) - {"cpus", "invlpgb"}
    if unknown:
        raise ValueError(f"{origin}: unknown machine.{min(unknown)}")
    if "cpus" in raw:
        _check_cpus(f"{origin}: machine.cpus", raw["cpus"])
    if not isinstance(raw.get("invlpgb", False), bool):
        raise ValueError(f"{origin}: machine.invlpgb {raw['invlpgb']!r} is not true or false")
    return raw


def _check_cpus(where: str, cpus: object) -> int:
    if isinstance(cpus, bool) or not isinstance(cpus, int) or not 1 <= cpus <= MAX_CPUS:
        raise ValueError(f"{where} {cpus!r}: not a number of CPUs from 1 to {MAX_CPUS}")
    return cpus


def _checked(data: dict[str, Any], origin: str) -> dict[str, Any]:
    unknown = set(data) - {"schema", "machine", "costs"}
    if unknown:
        raise ValueError(f"{origin}: unknown key {min(unknown)!r} (known: schema, machine, costs)")
    if data.get("schema", SCHEMA) != SCHEMA:
        raise ValueError(f"{origin}: schema {data['schema']!r}, expected {SCHEMA!r}")
    if not isinstance(data.get("costs", {}), dict):
        raise ValueError(f"{origin}: costs is not a table")
    return data


def load_costs(path: str | Path | None = None) -> Costs:
    """The default costs, overridden by those of a TOML file.

    The file may have ``[machine]`` with ``cpus`` and ``invlpgb``, and ``[costs]`` with ``name = number``
    or ``name = {value = ..., source = "..."}``.  Raises ValueError that names file and key for anything
    else, OSError for a file that cannot be read.
    """
    origin = "costs.toml"
    text = resources.files("asi_pa").joinpath("data", origin).read_text("utf-8")
    data = _checked(tomllib.loads(text), origin)
    machine = dict(_machine(origin, data["machine"]))
    table = {name: _entry(f"{origin}: {name}", raw, None, "") for name, raw in data["costs"].items()}
    if path is not None:
        origin = str(path)
        data = _checked(toml_document(path), origin)
        machine.update(_machine(origin, data.get("machine", {})))
        for name, raw in data.get("costs", {}).items():
            if name not in table:
                raise ValueError(f"{origin}: unknown cost {name!r} (known: {', '.join(table)})")
            table[name] = _entry(f"{origin}: costs.{name}", raw, table[name], f"given in {origin}")
    if table["clock_ghz"].value == 0:
        raise ValueError(f"{origin}: clock_ghz is 0")
    return Costs(table, machine["cpus"], machine["invlpgb"])


def compaction_time(costs: Costs, moved: int, scanned_from: int, scanned_to: int) -> float:
    """Modelled time in ns of pages that compaction moved and of frames that its two scanners looked at."""
    scanned = costs["compact_scan_from_ns"] * scanned_from + costs["compact_scan_to_ns"] * scanned_to
    return costs["compact_move_ns"] * moved + scanned


def modelled_time(metrics: Mapping[str, Any], costs: Costs, cpus: int | None = None) -> ModelledTime:
    """Modelled time in ns of what a design did, from its metrics.

    Reads leaf_writes_pte, leaf_writes_pmd, leaf_writes_pud, leaf_splits_2m, leaf_splits_1g,
    table_pages_allocated, tlb_flushes_ranged, tlb_flushes_full, tlb_flushed_pages (4K pages of the
    ranged flushes; one each where it is missing), tlb_flushes_other_spaces (0 where it is missing),
    bytes_zeroed, flips_s2n, and compaction_pages_moved, compaction_scanned_from and compaction_scanned_to
    (0 where they are missing).  The first seven, bytes_zeroed and flips_s2n must be there (KeyError).
    ``cpus`` overrides the table's; shootdowns are computed from flushes and CPUs, not from the metric
    ``ipis``, so that CPUs can be swept.
    """
    cpus = costs.cpus if cpus is None else _check_cpus("cpus", cpus)
    others = cpus - 1
    writes = sum(metrics[f"leaf_writes_{level}"] for level in ("pte", "pmd", "pud"))
    splits = metrics["leaf_splits_2m"] + metrics["leaf_splits_1g"]
    ranged, full = metrics["tlb_flushes_ranged"], metrics["tlb_flushes_full"]
    pages = metrics.get("tlb_flushed_pages", ranged)
    cycles = costs["flush_base_cycles"] * (ranged + full)
    cycles += costs["invlpg_cycles"] * pages + costs["tlb_refill_cycles"] * full
    # What a ranged flush spares is the current address space's; the others' entries go at their next use.
    elsewhere = metrics.get("tlb_flushes_other_spaces", 0) * min(1.0, costs["other_spaces_share"])
    cycles += costs["tlb_refill_cycles"] * elsewhere
    flush = cycles / costs["clock_ghz"]
    interrupted = ranged + full if others and not costs.invlpgb else 0
    wait = (costs["ipi_base_ns"] + costs["ipi_per_cpu_ns"] * others) * interrupted
    large = min(metrics["bytes_zeroed"] >> 21, metrics["flips_s2n"])
    small = (metrics["bytes_zeroed"] - (large << 21)) / 4096
    return ModelledTime(
        leaf_writes=costs["leaf_write_ns"] * writes,
        leaf_splits=costs["leaf_split_ns"] * splits,
        table_pages=costs["table_page_ns"] * metrics["table_pages_allocated"],
        flush_caller=flush,
        shootdown_wait=wait,
        flush_others=others * flush + costs["ipi_receive_ns"] * interrupted * others,
        zeroing=costs["zero_2m_ns"] * large + costs["zero_4k_ns"] * small,
        compaction=compaction_time(
            costs,
            *(metrics.get(f"compaction_{what}", 0) for what in ("pages_moved", "scanned_from", "scanned_to")),
        ),
    )


def rank(designs: Mapping[str, Mapping[str, Any]], costs: Costs, cpus: int | None = None) -> tuple[str, ...]:
    """Designs by modelled total, cheapest first; equal ones by name."""
    totals = {name: modelled_time(metrics, costs, cpus).total for name, metrics in designs.items()}
    return tuple(sorted(totals, key=lambda name: (totals[name], name)))


def sensitivity(
    designs: Mapping[str, Mapping[str, Any]], costs: Costs, cpus: int | None = None, factor: float = 10.0
) -> list[SensitivityRow]:
    """How the ranking changes when each cost, and the number of CPUs, is divided and multiplied.

    ``designs`` maps names to metrics as ``modelled_time`` reads them.  One row per cost in the table's
    order, then ``cpus`` (rounded, at least 1).  ValueError unless factor > 1.
    """
    if not (math.isfinite(factor) and factor > 1):
        raise ValueError(f"factor {factor!r}: not a finite number > 1")
    cpus = costs.cpus if cpus is None else _check_cpus("cpus", cpus)
    base = rank(designs, costs, cpus)
    rows = []
    for name, cost in costs.table.items():
        low = rank(designs, costs.scaled(name, 1 / factor), cpus)
        high = rank(designs, costs.scaled(name, factor), cpus)
        rows.append(SensitivityRow(name, cost.value, cost.unit, (low, base, high)))
    fewer, more = max(1, round(cpus / factor)), min(MAX_CPUS, round(cpus * factor))
    sweep = (rank(designs, costs, fewer), base, rank(designs, costs, more))
    rows.append(SensitivityRow("cpus", cpus, "CPUs online", sweep))
    return rows


def duration(value: float) -> str:
    """So many ns with three digits, as ns, us, ms or s."""
    for limit, unit in ((1e3, "ns"), (1e6, "us"), (1e9, "ms")):
        if value < limit:
            return f"{value / limit * 1e3:.3g} {unit}"
    return f"{value / 1e9:.4g} s"


def modelled_time_text(times: Mapping[str, ModelledTime]) -> str:
    """A table, designs as columns, under the label; ends with a newline."""
    width = max([len(name) for name in times] + [10])
    lines = [f"{LABEL} (sum over all CPUs)"]
    lines.append(" " * 16 + "".join(f"  {name:>{width}}" for name in times))
    for part in (*ModelledTime.PARTS, "caller", "total"):
        cells = "".join(f"  {duration(getattr(time, part)):>{width}}" for time in times.values())
        lines.append(f"{part.replace('_', ' '):16}{cells}")
    return "\n".join(lines) + "\n"


def sensitivity_text(rows: list[SensitivityRow], factor: float = 10.0) -> str:
    """One line per cost: ``same ranking``, or the three rankings; ends with a newline."""
    lines = [f"{LABEL}; ranking when one cost is divided or multiplied by {factor:g}"]
    for row in rows:
        head = f"{row.cost:18}{row.value:>9g}  "
        if not row.changes:
            lines.append(f"{head}same ranking")
            continue
        for mark, ranking in zip((f"/{factor:g}", "as is", f"x{factor:g}"), row.rankings, strict=True):
            lines.append(f"{head}{mark:>6}: {' < '.join(ranking)}")
            head = " " * len(head)
    return "\n".join(lines) + "\n"
