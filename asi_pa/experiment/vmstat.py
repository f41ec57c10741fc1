"""What a recorded machine counted itself: differences of /proc/vmstat over a recording."""

from __future__ import annotations

import os
import re
from pathlib import Path

from asi_pa.schema import parsed

__all__ = ["RECORDED", "read_vmstat"]

#: What is compared: its name here, and the names of the recorded machine's counters that add up to it.
RECORDED: dict[str, tuple[str, ...]] = {
    "direct_compactions": ("compact_stall",),
    "direct_compactions_succeeded": ("compact_success",),
    "pages_moved": ("pgmigrate_success",),
    "pages_reclaimed": ("pgsteal_kswapd", "pgsteal_direct"),
    "migrate_scanned": ("compact_migrate_scanned",),
    "free_scanned": ("compact_free_scanned",),
}
#: How /proc/vmstat begins.
_TEXT = re.compile(rb"\s*nr_\w+ \d+\s")


def read_vmstat(path: str | os.PathLike[str]) -> dict[str, int]:
    """Counters and what each grew by, from a JSON object.

    Raises ValueError that names the file for another form, for a counter that is compared and falls, and
    where none of these is in it; OSError for a file that cannot be read.
    """
    raw = Path(path).read_bytes()
    if _TEXT.match(raw):
        raise ValueError(
            f"{path}: /proc/vmstat itself; wanted is a JSON object with what each counter grew by from the "
            'start of the recording to its end: {"compact_stall": 1662, ...}'
        )
    try:
        read = parsed(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(read, dict) or any(type(value) is not int for value in read.values()):
        raise ValueError(f"{path}: not a JSON object of whole numbers")
    known = [name for names in RECORDED.values() for name in names]
    for name in known:
        if read.get(name, 0) < 0:
            raise ValueError(f"{path}: {name} {read[name]}: such a counter never falls")
    if not any(name in read for name in known):
        raise ValueError(f"{path}: none of the counters that are compared is in it: {', '.join(known)}")
    return read
