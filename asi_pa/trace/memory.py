"""What a text about memory says that is no trace: Mem-Info of an OOM report, /proc's texts, page_owner.

People attach these to bug reports far more often than traces.  For each zone with free lists the kernel's own
indexes are computed (`asi_pa.kernel.indexes`).  Sources: mm/show_mem.c show_free_areas(), mm/vmstat.c,
mm/page_owner.c, Linux 7.2.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from asi_pa.kernel.indexes import extfrag_index, free_pages, unusable_index
from asi_pa.kernel.procfs import parse_buddyinfo, parse_pagetypeinfo, parse_zoneinfo

__all__ = ["describe_memory", "memory_form", "memory_text", "zone_lines", "zone_lists"]

#: Where dmesg, journalctl and syslog put times: before the kernel's own words.
_PREFIX = re.compile(r"^(?:.*? kernel: ?)?(?:<\d>)?(?:\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?)?")
_LISTS = re.compile(r"Node (\d+) (\w+): ((?:\d+\*\d+kB(?: \([UMEHCIx]+\))? )+)= (\d+)kB")
_MARKS = re.compile(r"Node (\d+) (\w+) free:(\d+)kB (.*)")
#: What begins as free lists do.
_LISTED = re.compile(r"Node \d+ \w+: \d+\*\d+kB")
_CHUNK = re.compile(r"(\d+)\*(\d+)kB")
#: No zone has as many pages.
_MOST = 1 << 52
_OWNER = re.compile(
    r"Page allocated via order (\d+), (?:migratetype (\w+), )?(?:gfp_)?mask (0x[0-9a-f]+)(\(\S*?\))?"
)
_BUDDY = re.compile(r"^.*?Node\s+\d+,\s+zone\s+\w+(?:\s+\d+){2,}\s*$", re.MULTILINE)
#: A line of buddyinfo, whatever prompt or prefix is before it, damaged or not.
_BUDDY_LINE = re.compile(r"Node\s+\d+,\s+zone\s+\w+(?:\s.*)?$")

_NAMES = {
    "Mem-Info": "Mem-Info of an OOM report or page allocation failure",
    "buddyinfo": "/proc/buddyinfo",
    "pagetypeinfo": "/proc/pagetypeinfo",
    "zoneinfo": "/proc/zoneinfo",
    "page_owner": "a page_owner dump",
}


def memory_form(text: str) -> str | None:
    """Which of these a text is (a key such as ``buddyinfo``), None for none."""
    text = text.replace("\r\n", "\n")
    if "Page block order:" in text and "Free pages count per migrate type" in text:
        return "pagetypeinfo"
    if re.search(r"^Node \d+, zone +\w+\n(?:.*\n)*?  pages free +\d+$", text, re.MULTILINE):
        return "zoneinfo"
    if _BUDDY.search(text):
        return "buddyinfo"
    if _OWNER.search(text):
        return "page_owner"
    if _LISTS.search(text) or "Mem-Info:" in text:
        return "Mem-Info"
    return None


def form_name(form: str) -> str:
    """A form in words."""
    return _NAMES[form]


def describe_memory(name: str, text: str) -> dict[str, Any]:
    """What such a text says.

    Keys: ``name``, ``form``, ``page_kb``, ``zones`` (a list of dicts: ``node``, ``zone``, ``free``
    blocks by order, ``free_pages``, ``blocks``, ``unusable_index`` and ``extfrag_index`` x 1000 by
    order, and what else the form says of the zone), ``counts`` (of a page_owner dump).  Raises
    ValueError naming the line that does not fit.
    """
    text = text.replace("\r\n", "\n")
    form = memory_form(text)
    if form is None:
        raise ValueError(f"{name}: no text about memory that is known ({', '.join(_NAMES.values())})")
    about: dict[str, Any] = {"name": name, "form": form, "page_kb": 4, "zones": [], "counts": {}}
    try:
        _READERS[form](text, about)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return about


def zone_lists(node: int, zone: str, free: Sequence[int], **more: Any) -> dict[str, Any]:
    """A zone with its free blocks by order, the kernel's indexes by order (x 1000), and ``more`` of it."""
    if free_pages(free) > _MOST:
        raise ValueError(
            f"node {node}, zone {zone}: {free_pages(free):,} free pages are more than any machine has"
        )
    orders = range(len(free))
    return {
        "node": node,
        "zone": zone,
        "free": list(free),
        "free_pages": free_pages(free),
        "blocks": sum(free),
        "unusable_index": [unusable_index(free, order) for order in orders],
        "extfrag_index": [extfrag_index(free, order) for order in orders],
        **more,
    }


def _mem_info(text: str, about: dict[str, Any]) -> None:
    marks: dict[tuple[int, str], dict[str, int]] = {}
    listed: set[tuple[int, str]] = set()
    report = 0
    for number, line in enumerate(text.splitlines(), 1):
        words = _PREFIX.sub("", line, count=1)
        if words.startswith("Mem-Info:"):
            _all_listed(marks, listed)
            report, marks, listed = report + 1, {}, set()
        elif match := _LISTS.search(words):
            node, zone = int(match[1]), match[2]
            chunks = [(int(count), int(size)) for count, size in _CHUNK.findall(match[3])]
            page = chunks[0][1]
            if [size for _, size in chunks] != [page << order for order in range(len(chunks))]:
                raise ValueError(f"line {number}: sizes that do not double: {line.strip()!r}")
            if sum(count * size for count, size in chunks) != int(match[4]):
                raise ValueError(f"line {number}: the lists do not add up to {match[4]} kB: {line.strip()!r}")
            about["page_kb"] = page
            listed.add((node, zone))
            more: dict[str, Any] = {"kb": marks.get((node, zone), {})} | (
                {"report": report} if report > 1 else {}
            )
            about["zones"].append(zone_lists(node, zone, [count for count, _ in chunks], **more))
        elif _LISTED.search(words):
            raise ValueError(f"line {number}: free lists that are damaged or cut off: {line.strip()!r}")
        elif match := _MARKS.search(words):
            values = {key: int(value) for key, value in re.findall(r"(\w+):(\d+)[kK]B", match[4])}
            marks[int(match[1]), match[2]] = {"free": int(match[3])} | values
    if not about["zones"]:
        raise ValueError("Mem-Info without free lists (lines such as 'Node 0 Normal: 1210*4kB (UME) ...')")
    _all_listed(marks, listed)


def _all_listed(marks: dict[tuple[int, str], Any], listed: set[tuple[int, str]]) -> None:
    """ValueError where a zone of a report has marks and no free lists: show_free_areas() prints both."""
    for node, zone in marks:
        if (node, zone) not in listed and listed:
            raise ValueError(f"node {node}, zone {zone}: no free lists: the report was cut off")


def _pasted(text: str) -> str:
    """Without prompts, prefixes and indentation, line for line."""
    found = (_BUDDY_LINE.search(line) for line in text.splitlines())
    return "\n".join(match[0].strip() if match else "" for match in found)


def _again(about: dict[str, Any], node: int, zone: str) -> dict[str, Any]:
    """``report`` of a zone that was there before: several texts in a row."""
    before = sum((known["node"], known["zone"]) == (node, zone) for known in about["zones"])
    return {"report": before + 1} if before else {}


def _buddyinfo(text: str, about: dict[str, Any]) -> None:
    for zone in parse_buddyinfo(_pasted(text)):
        more = _again(about, zone.nid, zone.name)
        about["zones"].append(zone_lists(zone.nid, zone.name, tuple(zone.free), **more))


def _pagetypeinfo(text: str, about: dict[str, Any]) -> None:
    types = parse_pagetypeinfo(text)
    for zone in types.zones:
        total = [sum(row[order] for row in zone.free) for order in range(len(zone.free[0]))]
        free = {name: list(row) for name, row in zip(types.migratetypes, zone.free, strict=True)}
        more: dict[str, Any] = {
            "free_by_type": free,
            "pageblocks": dict(zip(types.migratetypes, zone.blocks, strict=True)),
        }
        if zone.mixed is not None:
            more["mixed_pageblocks"] = dict(zip(types.migratetypes, zone.mixed, strict=True))
        about["zones"].append(zone_lists(zone.nid, zone.name, total, **more))


def _zoneinfo(text: str, about: dict[str, Any]) -> None:
    for zone in parse_zoneinfo(text):
        more = _again(about, zone.nid, zone.name)
        about["zones"].append({"node": zone.nid, "zone": zone.name, "pages": dict(zone.pages), **more})


def _page_owner(text: str, about: dict[str, Any]) -> None:
    orders: Counter[int] = Counter()
    types: Counter[str] = Counter()
    masks: Counter[str] = Counter()
    for match in _OWNER.finditer(text):
        orders[int(match[1])] += 1
        types[match[2] or "?"] += 1
        masks[(match[4] or match[3]).strip("()")] += 1
    for block in re.finditer(r"^PFN .*? type (\w+) Block ", text, re.MULTILINE):
        types[block[1]] += 1
    types.pop("?", None)
    about["counts"] = {
        "allocations": orders.total(),
        "pages": sum(count << order for order, count in orders.items()),
        "by_order": dict(sorted(orders.items())),
        "by_type": dict(types.most_common()),
        "by_gfp": dict(masks.most_common(12)),
    }


_READERS: dict[str, Callable[[str, dict[str, Any]], None]] = {
    "Mem-Info": _mem_info,
    "buddyinfo": _buddyinfo,
    "pagetypeinfo": _pagetypeinfo,
    "zoneinfo": _zoneinfo,
    "page_owner": _page_owner,
}


def memory_text(about: dict[str, Any]) -> str:
    """`describe_memory` for a terminal: a table for each zone."""
    lines = [f"{'memory':<13} {about['name']}: {form_name(about['form'])}, no trace of events"]
    if about["page_kb"] != 4:
        lines.append(f"{'pages':<13} of {about['page_kb']} KiB")
    for key, value in about["counts"].items():
        shown = value if not isinstance(value, dict) else ", ".join(f"{k}: {n:,}" for k, n in value.items())
        lines.append(f"{key.replace('_', ' '):<13} {shown}")
    for zone in about["zones"]:
        lines += ["", *zone_lines(zone, about["page_kb"])]
    return "\n".join(lines)


def zone_lines(zone: dict[str, Any], page_kb: int) -> list[str]:
    """A zone of `describe_memory` or `zone_lists` for a terminal."""
    report = f"report {zone['report']}, " if "report" in zone else ""
    title = f"{'zone':<13} {report}node {zone['node']}, {zone['zone']}"
    if "free" not in zone:
        pages = zone["pages"]
        return [title, f"{'pages':<13} " + ", ".join(f"{key} {value:,}" for key, value in pages.items())]
    free = zone["free_pages"]
    lines = [f"{title}: {free:,} free pages ({free * page_kb >> 10:,} MiB) in {zone['blocks']:,} blocks"]
    if zone.get("kb"):
        wanted = ("managed", "min", "low", "high", "boost", "free_cma")
        shown = [f"{key} {zone['kb'][key]:,}" for key in wanted if key in zone["kb"]]
        lines.append(f"{'kB':<13} " + ", ".join(shown))
    rows: list[tuple[str, Sequence[int]]] = [
        ("order", range(len(zone["free"]))),
        ("free blocks", zone["free"]),
    ]
    rows += [(f"  {name}", row) for name, row in zone.get("free_by_type", {}).items() if any(row)]
    rows += [("unusable", zone["unusable_index"]), ("extfrag", zone["extfrag_index"])]
    width = max(len(str(value)) for _, row in rows for value in row) + 2
    lines += [f"{name:<13}" + "".join(f"{value:>{width}}" for value in row) for name, row in rows]
    for key, words in (("pageblocks", "pageblocks"), ("mixed_pageblocks", "mixed")):
        if key in zone:
            lines.append(
                f"{words:<13} " + ", ".join(f"{name} {count:,}" for name, count in zone[key].items())
            )
    lines.append("              unusable: of the free pages, per mille in blocks too small for the order; "
                 "extfrag: why a "
                 "request would fail,")  # fmt: skip
    lines.append(
        "              toward 0 for lack of memory, toward 1000 for fragmentation (-1000: it would not fail)"
    )
    return lines
