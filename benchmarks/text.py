"""Text of a bundled trace as ``perf script`` prints it, and a regular expression that reads it in Python."""

from __future__ import annotations

import re

import numpy as np

from asi_pa.kernel.gfp import describe_gfp
from asi_pa.trace import load_trace

__all__ = ["LINE", "perf_text", "read_with_regex"]

LINE = re.compile(
    rb"^\s*(?P<comm>.+?)\s+(?P<tid>\d+)\s+\[(?P<cpu>\d+)\]\s+(?P<s>\d+)\.(?P<ns>\d+):\s+"
    rb"kmem:mm_page_(?P<event>alloc|free):\s+(?:page=\S+\s+)?pfn=(?P<pfn>0x[0-9a-f]+)\s+order=(?P<order>\d+)"
    rb"(?:\s+migratetype=(?P<mt>-?\d+)\s+gfp_flags=(?P<gfp>\S+))?"
)


def perf_text(name: str, events: int) -> bytes:
    """The first allocations and frees of a bundled trace, a line each."""
    trace = load_trace(name)
    usable = np.flatnonzero((trace.kind <= 1) & (trace.pfn != 0xFFFFFFFF))[:events]
    lines = []
    for i in usable.tolist():
        kind = int(trace.kind[i])
        seconds, ns = divmod(int(trace.time_ns[i]), 10**9)
        comm = trace.comms[int(trace.comm[i])] or "swapper"
        pfn = int(trace.pfn[i])
        what = f"page={0xFFFFEA0000000000 + 64 * pfn:#x} pfn={pfn:#x} order={int(trace.order[i])}"
        if kind == 0:
            gfp = describe_gfp(int(trace.gfps[int(trace.gfp[i])]))
            what += f" migratetype={max(int(trace.migratetype[i]), 0)} gfp_flags={gfp}"
        lines.append(
            f"{comm:>16} {100 + int(trace.comm[i])} [{int(trace.cpu[i]):03d}] {seconds:6d}.{ns:09d}: "
            f"kmem:mm_page_{'free' if kind else 'alloc'}: {what}\n"
        )
    return "".join(lines).encode()


def read_with_regex(text: bytes) -> tuple[int, int]:
    """(events, sum of their frame numbers), read line by line with a compiled regular expression."""
    match = LINE.match
    events = total = 0
    gfps: dict[bytes | None, int] = {}
    comms: dict[bytes, int] = {}
    for line in text.splitlines():
        found = match(line)
        if found is None:
            continue
        comm, _tid, cpu, seconds, ns, event, pfn, order, _mt, gfp = found.groups()
        comms.setdefault(comm, len(comms))
        gfps.setdefault(gfp, len(gfps))
        int(cpu), int(seconds) * 10**9 + int(ns), event == b"alloc", int(order)
        total += int(pfn, 16)
        events += 1
    return events, total
