"""The Python API in one place: an allocator to call, traces to replay, designs to compare.

docs/use/api.md is its tour.

from asi_pa.allocator.api import Allocator, OutOfMemoryError
allocator = Allocator("4G", "migratetype", cpus=4)
pfn = allocator.alloc_pages(0, parse_gfp("GFP_KERNEL"))
allocator.free_pages(pfn)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asi_pa.allocator.allocator import Allocator
from asi_pa.allocator.hotplug import MemoryBlock
from asi_pa.allocator.refusals import OutOfMemoryError, RangeBusyError
from asi_pa.allocator.statistics import Statistics
from asi_pa.designs import Design
from asi_pa.experiment import SAMPLES, compare
from asi_pa.experiment import replay as replay_compiled
from asi_pa.run.start import compile_trace
from asi_pa.trace import CompiledTrace, Trace

__all__ = [
    "Allocator",
    "MemoryBlock",
    "OutOfMemoryError",
    "RangeBusyError",
    "Statistics",
    "compare",
    "replay",
]


def no_progress(_done: int, _total: int) -> None:
    """Says nothing."""


def replay(
    trace: str | Trace | CompiledTrace,
    design: str | Design = "linux",
    *,
    memory: str | int | None = None,
    classifier: str = "rfc",
    recorded: bool = False,
    seed: int = 0,
    kernel: str | None = None,
    samples: int = SAMPLES,
    reclaim: str | int = 0,
    compaction: bool = False,
    fallbacks: bool = True,
    progress: Callable[[int, int], None] = no_progress,
) -> dict[str, Any]:
    """Runs a trace through one design and measures it.

    Parameters
    ----------
    trace : a name of ``asi_pa.bundled_traces()``, a path, a Trace or a CompiledTrace
    design : a design's name or a Design
    memory, classifier, recorded, seed : how it is compiled (docs/use/traces.md); not for a CompiledTrace
    kernel : profile; None takes the trace's own
    samples : points of the time series
    reclaim, compaction : what relieves a shortage: page cache that may be freed (a size), and compaction
    fallbacks : where a try of a known caller fails, the pages follow that it would ask for instead
    progress : called with (operations done, of)

    Returns the design's entry of a result: ``metrics`` (docs/use/metrics.md), ``series``, ``blockmap``,
    ``verify``.  Requests that fail are counted, not raised.  ValueError for a trace, design or size that
    cannot be.
    """
    if not isinstance(trace, CompiledTrace):
        trace = compile_trace(trace, classifier, memory=memory, recorded=recorded, seed=seed)
    elif memory is not None or recorded:
        raise ValueError("memory and recorded are settled when a trace is compiled")
    return replay_compiled(
        trace,
        design,
        kernel=kernel,
        samples=samples,
        reclaim=reclaim,
        compaction=compaction,
        fallbacks=fallbacks,
        seed=seed,
        progress=progress,
    )
