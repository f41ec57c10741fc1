"""A trace that can be mailed: what it says of the machine's people and names is left out."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from asi_pa.trace.format import Trace

__all__ = ["anonymised"]

#: What is kept of where a trace comes from: how it was recorded, and when what happened in it.
_KEPT = (
    "format",
    "recorder",
    "clock",
    "seconds",
    "began_ns",
    "workload_start_ns",
    "workload_end_ns",
    "thp",
    "recording",
)
#: The kernel's own threads that the start state looks at (`asi_pa.trace.ticks`).
WORKER = "kworker"


def anonymised(trace: Trace) -> Trace:
    """The same events without command names (but that of kernel workers), description, command line and name.

    Of the kernel's version the numbers stay: a local version (``-mycompany``) goes.  Frame numbers, times and
    sizes stay: without them it is no trace.  Rules by command (``comm=``) no longer tell callers apart.
    """
    comms = ("", WORKER)
    table = np.array([name.startswith(WORKER) for name in trace.comms] or [False], np.uint16)
    version = re.match(r"(Linux )?\d+(\.\d+)*", trace.kernel)
    return replace(
        trace,
        name="anonymous",
        description="",
        kernel=version[0] if version else "",
        comms=comms,
        comm=table[np.minimum(trace.comm, len(table) - 1)],
        provenance={key: trace.provenance[key] for key in _KEPT if key in trace.provenance}
        | {"anonymised": True},
    )
