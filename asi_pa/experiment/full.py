"""The replays that a result shows in full: every design with the first seed, at each size that is compared.

Each is made once.  A study that asks for its measures first has them from the same replay.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asi_pa.designs import Design
from asi_pa.executors import processors
from asi_pa.experiment.cache import Cache, design_words, key_of, package_hash
from asi_pa.experiment.measures import taken
from asi_pa.experiment.runs import replayed
from asi_pa.experiment.study import Plan, Subject, at_size
from asi_pa.trace import CompiledTrace

__all__ = ["FullRuns", "Place"]

Progress = Callable[[str, int, int], None]
Run = dict[str, Any]
#: A subject, the words and the pages of a size (0: the recorded machine).
Place = tuple[Subject, str, int]


class FullRuns:
    """Replays of a plan's first seed, with ``samples`` points of their series."""

    def __init__(self, plan: Plan, samples: int, cache: Cache) -> None:
        self.plan, self.samples, self.cache = plan, samples, cache
        self._made: dict[tuple[str, int, str], tuple[dict[str, Any], bool]] = {}
        self._states: dict[tuple[str, int], CompiledTrace] = {}

    def measured(
        self, subject: Subject, pages: int, compiled: CompiledTrace, design: Design
    ) -> dict[str, Any]:
        """The measures of one, as `asi_pa.experiment.rows.measured_at` takes them."""
        entry, drawn = self._one(subject, pages, compiled, design)
        return {**taken(entry["metrics"], bool(design.protects)), "drawn": drawn}

    def _one(
        self, subject: Subject, pages: int, compiled: CompiledTrace, design: Design
    ) -> tuple[dict[str, Any], bool]:
        """A design's entry of a result, and whether what the seed draws played a part in it."""
        key = (subject.hash, pages, design.name)
        if key not in self._made:
            self._states[subject.hash, pages] = compiled
            entry, run = replayed(
                compiled, design, kernel=self.plan.kernel, samples=self.samples, seed=self.plan.seeds[0],
                **self.plan.relief.options(),
            )  # fmt: skip
            self._made[key] = entry, run.supply_used > 0
        return self._made[key]

    def runs(self, places: Sequence[Place], progress: Progress | None) -> list[Run]:
        """All designs at each place, on all processors: the ``runs`` of a result."""
        plan, done, stopped = self.plan, [0], threading.Event()
        total = len(places) * len(plan.designs)

        def tell_or_stop() -> None:
            if stopped.is_set():
                raise KeyboardInterrupt
            done[0] += 1
            if progress is not None:
                progress("replays in full", done[0], total)

        with ThreadPoolExecutor(plan.threads or processors()) as pool:
            made = [pool.submit(self._run, place, tell_or_stop) for place in places]
            try:
                return [future.result() for future in made]
            except BaseException:
                stopped.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _run(self, place: Place, tell: Callable[[], None]) -> Run:
        plan, (subject, name, pages) = self.plan, place
        key = key_of(
            "run", package_hash(), subject.hash, plan.classifier, plan.kernel, plan.seeds[0], pages,
            self.samples, plan.relief.options(), [design_words(design) for design in plan.designs],
            plan.nodes.words,
        )  # fmt: skip
        kept: Run | None = self.cache.get(key)
        if kept is not None:
            return kept | {"memory": name}
        compiled = self._states.get((subject.hash, pages)) or at_size(subject, pages, plan.seeds[0])
        entries = []
        for design in plan.designs:
            entries.append(dict(self._one(subject, pages, compiled, design)[0]))
            tell()
        population = {entry["design"]: entry.pop("population") for entry in entries}
        made = {
            "trace": compiled.name,
            "memory": name,
            "memory_bytes": compiled.memory_bytes,
            "description": str(compiled.source.get("description", "")),
            "operations": len(compiled.ops),
            "repairs": compiled.repairs,
            "population": {
                "pages free": sum(p.free_pages for p in compiled.population),
                "pages held": sum(p.held_pages for p in compiled.population),
                "mixed blocks": population[plan.designs[0].name]["mixed_blocks"],
                **{f"displaced, {k}": p["displaced"] for k, p in population.items() if p["displaced"]},
                **{f"lost, {k}": p["lost"] for k, p in population.items() if p["lost"]},
            },
            "designs": entries,
        }
        self.cache.put(key, made)
        return made
