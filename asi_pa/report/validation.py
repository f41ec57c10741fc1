"""A validation for a terminal: the recorded machine beside the model's prediction."""

from __future__ import annotations

from typing import Any

from asi_pa.experiment.pressure import pressure_text
from asi_pa.kernel.indexes import suitable_blocks, unusable_index

__all__ = ["validation_text"]

_NAMES = {
    "untraced_left_out": "without the allocations that have no event",
    "no_ticks": "without the vmstat worker's ticks",
    "high_not_tuned": "`high` of the per-CPU lists not tuned",
    "average_high": "every CPU begins with the average `high`",
    "one_cpu": "everything on CPU 0",
    "no_pcp_pages": "pages of per-CPU lists free in the buddy at the start",
    "lists_by_address": "lists ordered by address",
}


def validation_text(result: dict[str, Any]) -> str:
    """The result of ``asi_pa.validate`` in about forty lines of at most 110 columns."""
    lost = "events lost: not known" if result["lost"] is None else f"{result['lost']:,} events lost"
    lines = [
        f"{result['trace']}  {result['kernel']}, {result['cpus']} CPUs, zone {result['zone']}, "
        f"{result['seconds']:.1f} s, {result['events']:,} events, {lost}",
        "",
        *_start(result),
        "",
        *_one_step(result["one_step"]),
        "",
        *_prediction(result),
    ]
    if "sensitivity" in result:
        lines += ["", *_sensitivity(result)]
    if "pressure" in result:
        lines += ["", *_pressure(result["pressure"])]
    return "\n".join(lines)


def _pressure(found: dict[str, Any]) -> list[str]:
    """What the machine counted, beside both readings of the trace."""
    _, *rows = pressure_text(found).splitlines()
    return ["under pressure, two readings (docs/use/pressure.md)", *(f"  {row}".rstrip() for row in rows)]


def _start(result: dict[str, Any]) -> list[str]:
    start, pcp = result["start"], result["start"]["pcp"]
    off = "the start's buddyinfo was not followed"
    if start["blocks_off"] is not None:
        off = f"free blocks off {start['blocks_off']:,} of {start['blocks']:,}"
        if start["typed_off"] is not None:
            off += f", by type {start['typed_off']:,}"
    ticks = ", ".join(
        f"CPU {tick['cpu']} {tick['phase']:.3f} s ({tick['seen']} seen)" for tick in start["ticks"]
    )
    if start["timer"] is not None:
        ticks += f"; HZ {start['timer']['hz']}, {start['timer']['on_time']} of them on time"
    tracked = result["tracked"]["end_distance"]
    end = "no buddyinfo of the end" if tracked is None else f"off {tracked:.3f} % of free pages at its end"
    return [
        "start state",
        f"  {off}; read after {result['read_at']['start'] or 0:,} events",
        f"  per-CPU lists: {pcp['located']:,} of {pcp['recorded']:,} pages located, "
        f"{pcp['not_located']:,} not",
        f"  ticks: {ticks}",
        f"  the recorded decisions carried out: {end} (event {result['read_at']['end']:,})",
    ]


def _one_step(found: dict[str, Any]) -> list[str]:
    words = {
        "refill_page": "page that leaves the buddy",
        "refill_size": "size of a refill",
        "alloc_page": "page handed out from a per-CPU list",
        "drain_page": "page drained to the buddy",
    }
    lines = ["rules, one step at a time (the recorded state before every decision)"]
    rows = [(words[key], *found[key]) for key in words]
    rows.append(("fallback: own lists empty", *found["fallback"]["own_empty"]))
    rows.append(("fallback: the block taken", *found["fallback"]["block"]))
    for label, hits, asked in rows:
        share = f"{100 * hits / asked:6.2f} %" if asked else "     - "
        lines.append(f"  {label:<38}{share}  ({hits:,} of {asked:,})")
    lines.append(
        f"  allocations without an event {found['untraced_allocs']:,}; "
        f"pages that were elsewhere {found['ghosts']:,}"
    )
    return lines


def _number(value: float | None, unit: str = " %") -> str:
    return "-" if value is None else f"{value:.3g}{unit}"


def _row(label: str, recorded: str, model: str, rest: str = "") -> str:
    return f"  {label:<36}{recorded:>14}{model:>14}  {rest}".rstrip()


def _ratio(pair: list[int]) -> str:
    model, recorded = pair
    return f"ratio {model / recorded:.3f}" if recorded else ""


def _prediction(result: dict[str, Any]) -> list[str]:
    run, series = result["free_run"], result["series"]
    path, exact = run["path"], run["exact"]
    skill = "" if run["skill"] is None else f"skill {100 * run['skill']:.0f} %"
    fallbacks = run["fallbacks"]
    model, recorded = series["free"]["model"][-1], series["free"]["recorded"][-1]
    lines = [
        f"{'prediction, the model left alone':<38}{'recorded':>14}{'model':>14}",
        _row("end: pages in blocks of wrong order", "", _number(run["end_distance"]),
             f"nothing changes {_number(run['baseline'])}  {skill}"),
    ]  # fmt: skip
    toy = "" if run["skill_first_fit"] is None else f"skill {100 * run['skill_first_fit']:.0f} %"
    lines.append(_row("  a first-fit toy", "", _number(run["first_fit"]), toy))
    if path:
        lines.append(_row("on the way, mean / max", "", f"{path['mean']:.2f}/{path['max']:.2f} %"))
    lines += [
        _row("refilled blocks", f"{run['refills'][1]:,}", f"{run['refills'][0]:,}", _ratio(run["refills"])),
        _row("drained blocks", f"{run['drains'][1]:,}", f"{run['drains'][0]:,}", _ratio(run["drains"])),
        _row("fallbacks", str(len(fallbacks["recorded"])), str(len(fallbacks["model"]))),
        _row("pages on per-CPU lists", f"{sum(run['pcp'][1]):,}", f"{sum(run['pcp'][0]):,}"),
        _row("order-9 pages available", f"{suitable_blocks(recorded, 9):,}", f"{suitable_blocks(model, 9):,}",
             f"worst {_number(run['order9']['max'])} on the way" if run["order9"] else ""),
    ]  # fmt: skip
    for order in (3, 9):
        worst = run["unusable"].get(order)
        if worst:
            lines.append(
                _row(
                    f"unusable index x 1000, order {order}",
                    str(unusable_index(recorded, order)),
                    str(unusable_index(model, order)),
                    f"worst {worst['max']:.0f} on the way",
                )
            )
    for name, (began, ended) in run["blocks"]["recorded"].items():
        model_change = run["blocks"]["model"][name][1] - run["blocks"]["model"][name][0]
        lines.append(_row(f"{name} pageblocks, change", f"{ended - began:+d}", f"{model_change:+d}"))
    lines.append(
        f"  same page {_number(exact['all'])}, same pageblock {_number(run['same_block'])}"
        + _diverged(run["first_divergence"])
    )
    if run["horizon"]:
        parts = [f"{found['exact_mean']:.0f} % after {found['events']:,}" for found in run["horizon"]]
        lines.append(f"  restarted on the way, same page: {', '.join(parts)} events")
    return lines


def _diverged(first: dict[str, Any] | None) -> str:
    if first is None:
        return "; never another"
    return f"; the first other one at event {first['event']:,} ({first['time']:.3f} s)"


def _sensitivity(result: dict[str, Any]) -> list[str]:
    lines = ["end: pages in blocks of wrong order, one thing changed"]
    rows = [("as modelled", result["free_run"]["end_distance"]), *result["sensitivity"].items()]
    for name, value in rows:
        words = _NAMES.get(name, name)
        if name.startswith("kernel_"):
            words = f"the rules of Linux {name[7:]}"
        if name.startswith("lost_"):
            words = f"{name.split('_')[1]} % of the events lost, in bursts"
        lines.append(f"  {words:<56}{_number(value):>10}")
    return lines
