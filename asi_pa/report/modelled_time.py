"""Modelled time beside the counts: what a table of costs makes of them (``compare --costs``).

Only results that ask for it carry any; the numbers are those of :mod:`asi_pa.experiment.costs` and always
wear its label, because they are as good as the costs and no better.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from html import escape
from typing import Any

from asi_pa.experiment.costs import LABEL, Costs, ModelledTime, duration, modelled_time, sensitivity
from asi_pa.experiment.ranking import run_name

__all__ = ["FACTOR", "add_modelled_time", "modelled_page", "modelled_terminal"]

#: Each cost is divided and multiplied by this to see whether the ranking of designs hangs on it.
FACTOR = 10.0

Run = Mapping[str, Any]


def add_modelled_time(result: dict[str, Any], costs: Costs) -> None:
    """Put ``costs`` into a result, in place, and ``modelled_time`` and ``sensitivity`` into its runs.

    Times are ns, sums over all CPUs; rankings name designs, cheapest first.  Raises KeyError if a design
    lacks one of the counts that :func:`asi_pa.experiment.costs.modelled_time` reads.
    """
    result["costs"] = {
        "label": LABEL,
        "cpus": costs.cpus,
        "invlpgb": costs.invlpgb,
        "factor": FACTOR,
        "table": {
            name: {"value": cost.value, "unit": cost.unit, "source": cost.source}
            for name, cost in costs.table.items()
        },
    }
    for run in result["runs"]:
        metrics = {d["design"]: d["metrics"] for d in run["designs"]}
        run["modelled_time"] = {name: modelled_time(m, costs).as_dict() for name, m in metrics.items()}
        run["sensitivity"] = [
            {
                "cost": row.cost,
                "value": row.value,
                "unit": row.unit,
                "rankings": [list(r) for r in row.rankings],
            }
            for row in sensitivity(metrics, costs, factor=FACTOR)
        ]


def modelled_terminal(result: Mapping[str, Any], width: int) -> str:
    """Total per run and design, and which costs the ranking hangs on; empty without modelled time."""
    if "costs" not in result:
        return ""
    lines = textwrap.wrap(_title(result["costs"]), width)
    for run in result["runs"]:
        totals = run["modelled_time"]
        order = sorted(totals, key=lambda name: (totals[name]["total"], name))
        glued = [f"{name} {duration(totals[name]['total'])}".replace(" ", "\xa0") for name in order]
        text = f"{run_name(run)}: " + " < ".join(glued)
        lines += [line.replace("\xa0", " ") for line in textwrap.wrap(text, width, subsequent_indent="  ")]
        text = (
            f"  other ranking if x or / {result['costs']['factor']:g}: {', '.join(_decisive(run)) or 'never'}"
        )
        lines += textwrap.wrap(text, width, subsequent_indent="    ")
    return "\n".join(lines)


def modelled_page(result: Mapping[str, Any]) -> str:
    """A section with the parts of the time per run, the sensitivity and the costs; empty without any."""
    if "costs" not in result:
        return ""
    runs = "".join(_parts(run) + _sensitivity(run, result["costs"]["factor"]) for run in result["runs"])
    costs = "".join(
        f'<tr><th>{escape(name)}</th><td>{cost["value"]:g}</td><td class="text">{escape(cost["unit"])}</td>'
        f'<td class="text">{escape(cost["source"])}</td></tr>'
        for name, cost in result["costs"]["table"].items()
    )
    return f"""<section class="modelled"><h2>Modelled time</h2>
<p>{escape(_title(result["costs"]))}. Counts are the result; this is what a table of costs makes of them.</p>
{runs}
<details><summary>the costs and where they come from</summary><div class="scroll"><table class="metrics">
<tbody>{costs}</tbody></table></div></details></section>"""


def _title(costs: Mapping[str, Any]) -> str:
    machine = f"{costs['cpus']} CPUs online, {'INVLPGB' if costs['invlpgb'] else 'shootdown IPIs'}"
    return f"{costs['label'][0].upper()}{costs['label'][1:]} ({machine}; CPU time of all CPUs together)"


def _decisive(run: Run) -> list[str]:
    return [row["cost"] for row in run["sensitivity"] if len({tuple(r) for r in row["rankings"]}) > 1]


def _parts(run: Run) -> str:
    times = run["modelled_time"]
    head = "".join(f"<th>{escape(name).replace('/', '<br>/')}</th>" for name in times)
    rows = "".join(
        f"<tr><th>{part.replace('_', ' ')}</th>"
        + "".join(f"<td>{duration(time[part])}</td>" for time in times.values())
        + "</tr>"
        for part in (*ModelledTime.PARTS, "caller", "total")
    )
    return (
        f'<h3>{escape(run_name(run))}</h3><div class="scroll"><table class="metrics plain">'
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _sensitivity(run: Run, factor: float) -> str:
    decisive = _decisive(run)
    if not decisive:
        return f'<p class="caption">No cost changes the ranking when divided or multiplied by {factor:g}.</p>'
    rows = "".join(
        f"<tr><th>{escape(row['cost'])}</th>"
        + "".join(f'<td class="text">{escape(" < ".join(ranking))}</td>' for ranking in row["rankings"])
        + "</tr>"
        for row in run["sensitivity"]
        if row["cost"] in decisive
    )
    return (
        f"<details><summary>{len(decisive)} of {len(run['sensitivity'])} costs change the ranking</summary>"
        f'<div class="scroll"><table class="metrics plain"><thead><tr><th></th><th>/ {factor:g}</th>'
        f"<th>as it is</th><th>x {factor:g}</th></tr></thead><tbody>{rows}</tbody></table></div></details>"
    )
