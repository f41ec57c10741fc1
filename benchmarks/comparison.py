"""Where the time of a comparison goes: processor time of its threads by what they did.

``python -m benchmarks.comparison [TRACE ...] [--seeds N]`` runs ``compare`` without a cache and prints, for
each part, its seconds, share, how often it was done and how long it takes once; then the same by design.
What is not listed is Python between these parts.  Times are the threads' own: other work on the machine
lengthens them less than the wall clock.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from asi_pa.experiment import comparison, full, probe, rows, runs
from asi_pa.experiment.study import Subject
from asi_pa.trace import Starts, bundled_traces

#: (owner, name, the part, position of a design among the arguments or None)
PARTS: tuple[tuple[Any, str, str, int | None], ...] = (
    (comparison, "load_events", "reading a trace", None),
    (Starts, "__init__", "compiling its events", None),
    (Subject, "of", "its first start state, settled", None),
    (Starts, "recorded", "the recorded machine, settled", None),
    (comparison, "nearness", "how near the model is", None),
    (Starts, "at", "cutting start states", None),
    (probe, "build", "loading machines", 1),
    (rows, "build", "loading machines", 1),
    (runs, "build", "loading machines", 1),
    (rows, "failures", "probes of a search", 1),
    (rows, "measured_at", "measured replays", 1),
    (rows, "measure", "metrics", None),
    (full, "replayed", "replays in full", 1),
)


class Shares:
    """Seconds of processor time by part and by design, each without what is timed inside of it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.times: Counter[str] = Counter()
        self.designs: dict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        self._local = threading.local()

    def timed(self, inner: Callable[..., Any], part: str, place: int | None) -> Callable[..., Any]:
        def outer(*args: Any, **options: Any) -> Any:
            stack: list[float] = self._local.__dict__.setdefault("stack", [])
            stack.append(0.0)
            began = time.thread_time()
            try:
                return inner(*args, **options)
            finally:
                spent = time.thread_time() - began
                own = spent - stack.pop()
                if stack:
                    stack[-1] += spent
                with self._lock:
                    self.seconds[part] += own
                    self.times[part] += 1
                    if place is not None:
                        self.designs[args[place].name] += own

        return outer

    def watch(self) -> None:
        """Every part from now on."""
        for owner, name, part, place in PARTS:
            found = getattr(owner, name)
            if isinstance(owner.__dict__.get(name), classmethod):
                setattr(owner, name, staticmethod(self.timed(found, part, place)))
            else:
                setattr(owner, name, self.timed(found, part, place))


def _most(seconds: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(seconds.items(), key=lambda each: -each[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("traces", metavar="TRACE", nargs="*")
    parser.add_argument("--seeds", type=int, default=comparison.SEEDS)
    parser.add_argument("--page", action="store_true", help="with the curves and series that a page shows")
    options = parser.parse_args()
    shares = Shares()
    shares.watch()
    wall, used = time.perf_counter(), time.process_time()
    traces = options.traces or list(bundled_traces())
    comparison.compare(traces, seeds=options.seeds, samples=200 if options.page else 2)
    wall, used = time.perf_counter() - wall, time.process_time() - used
    print(f"{used:.1f} s of processors, {wall:.1f} s by the clock")
    for part, seconds in _most(shares.seconds):
        share, count = 100 * seconds / used, shares.times[part]
        print(f"{seconds:7.2f} s {share:5.1f} %  {count:5d} x {1000 * seconds / count:7.1f} ms  {part}")
    rest = used - sum(shares.seconds.values())
    print(f"{rest:7.2f} s {100 * rest / used:5.1f} %                      all else")
    for design, seconds in _most(shares.designs):
        print(f"{seconds:7.2f} s {100 * seconds / used:5.1f} %  {design}")


if __name__ == "__main__":
    main()
