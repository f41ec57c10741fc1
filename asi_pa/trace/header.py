"""What the headers of trace files must look like: the JSON of a .trace, the ``meta`` of a recorded .npz.

Nothing of a header is used before it has been held against these; what the columns hold is checked where it
is used.
"""

from __future__ import annotations

from typing import Any

from asi_pa.schema import (
    Check,
    all_of,
    anything,
    integer,
    json_object,
    listed,
    mapping,
    nullable,
    number,
    one_of,
    record,
    text,
)

__all__ = ["MACHINE", "META", "ORDERS", "TRACE", "ZONE", "checked"]

_PAGES = integer(0, 1 << 40)
_U32 = integer(0, (1 << 32) - 1)
_CPU = record({"count": _PAGES, "high": _PAGES, "batch": _PAGES}, {"high_min": _PAGES, "high_max": _PAGES})
ZONE = record(
    {"name": text(64), "managed": _PAGES},
    # what a populated zone must have besides, `recorded_zones` asks for
    {"start_pfn": _PAGES, "spanned": _PAGES, "free": _PAGES, "min": _PAGES, "low": _PAGES, "high": _PAGES,
     "nid": integer(0, 1023), "present": _PAGES, "boost": _PAGES, "promo": _PAGES, "cma": _PAGES,
     "protection": listed(_PAGES, 16), "cpus": listed(_CPU, 8192)},
)  # fmt: skip
_PROC = record({"text": text(1 << 22)}, {"t0": number(0, 2.0**64), "t1": number(0, 2.0**64)})
_PROC_NAMES = ("buddyinfo", "pagetypeinfo")
_SNAPSHOTS: dict[str, Check] = {
    **{f"zones_{end}": listed(ZONE, 4096) for end in ("start", "end")},
    **{f"{name}_{end}": _PROC for name in _PROC_NAMES for end in ("start", "end")},
}
_CUTS = listed(record({}), 1024)
#: What of a trace's provenance the package itself reads; the rest travels with it.
_PROVENANCE = all_of(
    anything,
    record(
        {},
        {"source": text(), "format": text(), "recorder": text(), "cuts": _CUTS,
         "began_ns": integer(-(1 << 63), (1 << 64) - 1), "mobility_grouping": text(),
         **dict.fromkeys(("lost_places", "other_events", "stack_lines", "remarks", "merged", "lines",
                          "time_steps_back", "first_step_back"), integer(0, 1 << 62))},
    ),
)  # fmt: skip
MACHINE: dict[str, Check] = {
    "kernel": text(1024),
    "cpus": integer(1, 256),
    "migratetypes": listed(text(64), 127),
    "comms": listed(text(1024), 1 << 16),
}
ORDERS: dict[str, Check] = {
    "pageblock_order": integer(0, 20),
    "max_page_order": integer(0, 20),
    "page_size": one_of(4096, 8192, 16384, 65536),
}
_COLUMN = record(
    {"name": text(64), "dtype": text(64), "count": integer(0, 1 << 48), "offset": integer(0, 1 << 60),
     "bytes": integer(0, 1 << 60), "encoding": one_of("raw", "xz", "delta+xz")}
)  # fmt: skip
#: The header of a .trace file.
TRACE = record(
    {
        **MACHINE,
        **ORDERS,
        "name": text(1 << 12),
        "description": text(),
        "lost": nullable(integer(0, 1 << 62)),
        "gfps": listed(_U32, 1 << 16, 1),
        "gfp_names": mapping(_U32, 4096),
        "snapshots": record({}, _SNAPSHOTS),
        "provenance": _PROVENANCE,
        "kinds": listed(text(64), 256),
        "kpf_bits": listed(text(64), 8),
        "columns": listed(_COLUMN, 64),
    }
)
_GFP_PAIR = listed(anything, 2, 2)
#: ``meta`` of a recorded .npz.
META = record(
    {**MACHINE, "kinds": listed(text(64), 256), "gfp_names": listed(_GFP_PAIR, 4096)},
    {
        **ORDERS,
        **_SNAPSHOTS,
        "name": text(1 << 12),
        "description": text(),
        "lost": nullable(integer(0, 1 << 62)),
        "kpf_bits": listed(text(64), 8),
        "clock": text(),
        "thp": text(),
        "workload_start_ns": integer(0, (1 << 64) - 1),
        "workload_end_ns": integer(0, (1 << 64) - 1),
    },
)


def checked(data: bytes | str, schema: Check, where: str) -> dict[str, Any]:
    """The header in a JSON text, held against its schema; ValueError, led by ``where``, if it does not
    fit."""
    header = json_object(data, where)
    schema(header, where)
    return header
