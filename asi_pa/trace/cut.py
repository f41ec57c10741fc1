"""Making a trace small enough to travel: what can go without a replay noticing, and a shorter run.

The bundled traces were made by this module (``python -m asi_pa.trace.cut SOURCE TARGET``) from full
recordings.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import Any

import numpy as np

from asi_pa.trace import load_trace
from asi_pa.trace.events import FREE_BATCHED
from asi_pa.trace.format import Trace, write_trace

__all__ = ["cut"]


def cut(
    trace: Trace, *, end_ns: int | None = None, drop_batched: bool = True, microseconds: bool = True
) -> Trace:
    """A smaller copy of a trace; what was done is added to its provenance.

    ``end_ns``: events from this time on go, and with them the snapshots of the end, which no longer fit.
    (Events at the start cannot go: the snapshot of the start would not fit.)  ``drop_batched``: free_batched
    events go; each repeats a free.  ``microseconds``: times are cut to microseconds, as perf prints them
    without ``--ns``. Raises ValueError if nothing would be left.
    """
    keep = np.ones(len(trace), bool)
    done: dict[str, Any] = {"events_before": len(trace)}
    changes: dict[str, Any] = {}
    if end_ns is not None:
        keep &= trace.time_ns < end_ns
        done["end_ns"] = end_ns
        changes["snapshots"] = {
            key: value for key, value in trace.snapshots.items() if not key.endswith("_end")
        }
        changes["kpageflags"] = {key: value for key, value in trace.kpageflags.items() if key != "end"}
    if drop_batched:
        batched = trace.kind == FREE_BATCHED
        done["free_batched_dropped"] = int((keep & batched).sum())
        keep &= ~batched
    if not keep.any():
        raise ValueError(f"{trace.label}: nothing left before {end_ns} ns")
    small = trace.with_events(keep, **changes)
    if microseconds:
        done["times"] = "cut to microseconds"
        small = replace(small, time_ns=small.time_ns // np.uint64(1000) * np.uint64(1000))
    cuts = [*trace.provenance.get("cuts", []), done]
    return replace(small, provenance=trace.provenance | {"cuts": cuts})


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m asi_pa.trace.cut", description=cut.__doc__)
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--end", type=float, metavar="SECONDS", help="keep events before this time")
    parser.add_argument("--keep-batched", action="store_true", help="keep free_batched events")
    parser.add_argument("--ns", action="store_true", help="keep times in nanoseconds")
    options = parser.parse_args(arguments)
    try:
        trace = cut(
            load_trace(options.source),
            end_ns=None if options.end is None else int(options.end * 1e9),
            drop_batched=not options.keep_batched,
            microseconds=not options.ns,
        )
        size = write_trace(trace, options.target, pack=True)
    except ValueError as error:
        print(f"cut: {error}", file=sys.stderr)
        return 2
    print(f"{options.target}: {len(trace)} events, {size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
