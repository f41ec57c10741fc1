"""Flip starvation: `starve`, and what a fragmented machine yields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from asi_pa.designs import Design, as_design
from asi_pa.executors import Opened, carry_out
from asi_pa.experiment import starvation as scenario
from asi_pa.experiment.costs import load_costs
from asi_pa.kernel.sizing import parse_size
from asi_pa.names import several
from asi_pa.tabular import Cell, Column, Result, Table

__all__ = ["SCHEMA", "StarveResult", "starve"]

SCHEMA = "asi_pa.starvation/1"
_COLUMNS = (
    Column("trace", "text", "The workload: stress, or stress-unmovable."),
    Column("memory", "text", "Size of the machine, as it was asked for."),
    Column("memory_bytes", "whole", "The same.", "bytes"),
    Column("design", "text", "The design's name."),
    Column("kernel", "text", "The profile of rules; empty: the newest."),
    Column("seed", "whole", "Of the workload."),
    Column("fresh", "whole", "Obtained before the first failure on the unfragmented machine.", "bytes"),
    Column("stressed", "whole", "The same, fragmented, without compaction.", "bytes"),
    Column("compacted", "whole", "With compaction for the order that the design asks for.", "bytes"),
    Column("promoted", "whole", "With compaction for a pageblock whenever a flip could help.", "bytes"),
    Column("pages_moved", "whole", "By that last one.", "pages"),
    Column("frames_scanned", "whole", "By its two scanners.", "pages"),
    Column("modelled_ns", "number", "Moves and scans by a table of costs: modelled, not measured.", "ns"),
    Column("deferred", "whole", "Its direct compactions that were turned away after failures.", "count"),
    Column("free_blocks", "whole", "Wholly free pageblocks when the asking began ...", "blocks"),
    Column("blocks", "whole", "... of so many.", "blocks"),
)


class StarveResult(Result):
    """How much of the scarce kind a fragmented machine yields, design by design (docs/use/starvation.md)."""

    @cached_property
    def rows(self) -> tuple[scenario.Starvation, ...]:
        """A row for each memory size, seed and design."""
        names = scenario.Starvation.__dataclass_fields__
        return tuple(
            scenario.Starvation(**{k: v for k, v in row.items() if k in names}) for row in self._held["rows"]
        )

    def columns(self) -> tuple[Column, ...]:
        """Which row it is, then what was obtained and what it took."""
        return _COLUMNS

    def records(self) -> list[dict[str, Cell]]:
        """A row for each memory size, seed and design."""
        return [dict(row) for row in self._held["rows"]]

    def table(self) -> Table:
        """MiB obtained, and the share of what the unfragmented machine yields."""
        rows = []
        for row in self._held["rows"]:
            cells = [f"{row['fresh'] >> 20} MiB"]
            for key in ("stressed", "compacted", "promoted"):
                share = 100 * row[key] / row["fresh"] if row["fresh"] else 0.0
                cells.append(f"{row[key] >> 20} MiB, {share:.0f} %")
            rows.append((f"{row['design']}, {row['memory']}, seed {row['seed']}", *cells))
        head = ("", "fresh", "fragmented", "+ compaction", "+ promotion")
        return Table("Obtained of the scarce kind before the first failure", head, tuple(rows))

    def __str__(self) -> str:
        return scenario.starvation_text(self.rows)

    def __repr__(self) -> str:
        names = dict.fromkeys(row["design"] for row in self._held["rows"])
        sizes = dict.fromkeys(row["memory"] for row in self._held["rows"])
        return f"<StarveResult {', '.join(names)}; {', '.join(sizes)}; {len(self._held['rows'])} rows>"


def starve(
    designs: str | Design | Sequence[str | Design] = scenario.ALL_DESIGNS,
    memory: str | int | Sequence[str | int] = "1G",
    *,
    unmovable: bool = False,
    seed: int | Sequence[int] = 0,
    kernel: str | None = None,
    costs: str | Path | None = None,
    executor: str | Executor | None = "here",
    progress: Callable[[str, int, int], None] | None = None,
) -> StarveResult:
    """How much of the scarce kind a fragmented machine yields (docs/use/starvation.md).

    Parameters
    ----------
    designs : one or several; every built-in one by its full name
    memory : size of the machine, 32M to 64G, or several
    unmovable : the chunks cannot be moved, so compaction has nothing to work with
    seed : of the workload, or several
    kernel : profile; None is the newest
    costs : a table of costs (docs/use/costs.md); None: the one that comes along
    executor : an Executor of concurrent.futures, or words for one (docs/use/sweep.md)
    progress : called with (what, done, of)

    Raises ValueError for unknown designs and sizes and a table of costs that is wrong, OSError for one that
    cannot be read.
    """
    chosen, table_of_costs = several(designs, Design), load_costs(costs)
    sizes = several(memory, int)
    seeds = (seed,) if isinstance(seed, int) else tuple(seed)
    for design in chosen:
        as_design(design)
    scenes = [
        scenario.Scene(
            design=design, memory=size, unmovable=unmovable, seed=each, kernel=kernel, costs=table_of_costs
        )
        for size, each, design in product(sizes, seeds, chosen)
    ]
    rows: list[dict[str, Any]] = [{} for _ in scenes]
    count = [0]

    def done(number: int, row: scenario.Starvation) -> None:
        scene = scenes[number]
        rows[number] = {
            "trace": "stress-unmovable" if unmovable else "stress",
            "memory": str(scene.memory),
            "memory_bytes": parse_size(scene.memory),
            "kernel": kernel or "",
            "seed": scene.seed,
            **asdict(row),
        }
        count[0] += 1
        if progress is not None:
            progress(row.design, count[0], len(scenes))

    def failed(_: int, error: Exception) -> None:
        raise error

    with Opened(executor) as opened:
        carry_out(scenario.starve, scenes, opened, done, failed)
    return StarveResult({"schema": SCHEMA, "unmovable": unmovable, "rows": rows})
