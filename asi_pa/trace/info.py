"""What is in a trace: numbers for ``asi-pa info``, as a dict and as text."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.errors import printable
from asi_pa.kernel.gfp import describe_gfp
from asi_pa.trace.classify import DEFAULT_CLASSIFIER, Classifier
from asi_pa.trace.compile import asked_for, operations, translated
from asi_pa.trace.events import ALLOC, FREE, KINDS
from asi_pa.trace.format import FAILED_PFN, Trace
from asi_pa.trace.frames import recorded_zones
from asi_pa.trace.start_state import START_STATE, describe_start, start_text

__all__ = ["describe", "describe_text"]

_TYPES = ("unmovable", "movable", "reclaimable")
_CHUNK = 1 << 20
_REPAIRS = ("alloc_of_allocated", "free_of_free_dropped", "free_of_other_order", "partial_frees")


def describe(trace: Trace, classifier: str | Classifier = DEFAULT_CLASSIFIER) -> dict[str, Any]:
    """Describe a trace.

    Keys: ``name``, ``description``, ``kernel``, ``cpus``, ``seconds``, ``lost`` (events; None: unknown),
    ``events`` (by kind), ``allocations`` (``by_order`` list, ``by_type`` of the request, ``by_gfp`` and
    ``by_comm`` most frequent first, ``failed``, ``pages``, ``cannot_block``), ``nonsensitive`` (expected
    share of ``allocations`` and ``pages`` by ``classifier``), ``lifetimes`` (what the compiler resolved:
    ``held_at_start``, ``peak_pages``, ``end_pages``, repairs), ``zones`` (as recorded), ``snapshots``,
    ``end_state`` (how many frames of the end's snapshot the trace predicts) and ``provenance``; of a start
    state alone those of `describe_start`.  Raises
    ValueError for a trace that contradicts itself.
    """
    rule = Classifier.parse(classifier)
    if not len(trace):
        return describe_start(trace)
    kinds, asked, failed = _counted(trace)
    masks = translated(trace)
    thresholds = (
        rule.table(asked_for(trace)[0], trace.comms or ("",), 11)[1].astype(np.float64) / 4294967296.0
    )
    sizes = 1 << np.arange(32)
    nonsensitive = asked[:, :, :11] * thresholds
    total, pages = int(asked.sum()), int((asked * sizes).sum())
    by_gfp = asked.sum(axis=(1, 2))
    by_comm = asked.sum(axis=(0, 2))
    by_type = [sum(int(by_gfp[i]) for i, mask in enumerate(masks) if (mask >> 3) & 3 == k) for k in range(3)]
    by_order = asked.sum(axis=(0, 1)).tolist()
    compiler = [part[1] for part in operations(trace, rule)][-1]
    counters = compiler.counters()
    held = compiler.held_at_start()
    return {
        "name": trace.name,
        "form": "trace",
        "description": trace.description,
        "kernel": trace.kernel,
        "cpus": trace.cpus,
        "seconds": float(trace.time_ns[-1]) / 1e9,
        "lost": trace.lost,
        "events": dict(zip(KINDS, kinds.tolist(), strict=True)),
        "allocations": {
            "total": total,
            "pages": pages,
            "failed": failed,
            "cannot_block": sum(int(by_gfp[i]) for i, mask in enumerate(masks) if not mask & 0x400),
            "by_order": by_order[: trace.max_page_order + 1],
            "by_type": dict(zip(_TYPES, by_type, strict=True)),
            "by_gfp": _top({describe_gfp(mask): int(by_gfp[i]) for i, mask in enumerate(masks)}),
            "by_comm": _top({name: int(by_comm[i]) for i, name in enumerate(trace.comms)}),
        },
        "classifier": rule.describe(),
        "nonsensitive": {
            "allocations": float(nonsensitive.sum() / total) if total else 0.0,
            "pages": float((nonsensitive * sizes[:11]).sum() / pages) if pages else 0.0,
        },
        "lifetimes": {
            "held_at_start": len(held),
            "held_at_start_pages": int((1 << held["order"].astype(np.int64)).sum()),
            "peak_pages": compiler.live_max,
            "end_pages": compiler.live_end,
            **counters,
        },
        "zones": recorded_zones(trace),
        "snapshots": sorted([*trace.snapshots, *(f"kpageflags_{which}" for which in trace.kpageflags)]),
        "end_state": end_state(trace),
        "provenance": trace.provenance,
    }


def _counted(trace: Trace) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
    """(events by kind, requests by gfp, command and order, those of them that failed)."""
    kinds = np.zeros(len(KINDS), np.int64)
    asked = np.zeros((len(trace.gfps), max(len(trace.comms), 1), 32), np.int64)
    failed = 0
    for start in range(0, len(trace), _CHUNK):
        part = slice(start, start + _CHUNK)
        kind = trace.kind[part]
        counts = np.bincount(kind, minlength=len(KINDS))
        if len(counts) > len(KINDS):
            raise ValueError(f"{trace.label}: impossible kind {len(counts) - 1}")
        kinds += counts
        rows = np.flatnonzero(kind == ALLOC)
        where: tuple[npt.NDArray[Any], ...]
        where = (trace.gfp[part][rows], trace.comm[part][rows], trace.order[part][rows])
        names = ("gfp index", "comm index", "order")
        for k, what in enumerate(names):
            index, size = where[k], asked.shape[k]
            if len(index) and int(index.max()) >= size:
                raise ValueError(f"{trace.label}: impossible {what} {int(index.max())}")
        np.add.at(asked, where, 1)
        failed += int((trace.pfn[part][rows] == FAILED_PFN).sum())
    return kinds, asked, failed


def _top(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(((key, n) for key, n in counts.items() if n), key=lambda item: -item[1]))


def end_state(trace: Trace) -> dict[str, int] | None:
    """Frames whose state at the end the trace predicts, against the snapshot of the end.

    A frame is free if its last event freed it, held if it was allocated last; of a frame without event
    nothing is said.  Returns ``frames`` (predicted ones) and ``wrong``; None without a snapshot.
    """
    kpf = trace.kpf("end")
    if kpf is None:
        return None
    last = np.full(len(kpf), 255, np.uint8)
    for start in range(0, len(trace), _CHUNK):
        part = slice(start, start + _CHUNK)
        kind = trace.kind[part]
        rows = np.flatnonzero(((kind == ALLOC) | (kind == FREE)) & (trace.pfn[part] < len(kpf)))
        size = 1 << trace.order[part][rows].astype(np.int64)
        ends = np.cumsum(size)
        frames: npt.NDArray[np.int64] = np.repeat(
            trace.pfn[part][rows].astype(np.int64) - (ends - size), size
        )
        frames += np.arange(len(frames))
        inside = frames < len(kpf)
        last[frames[inside]] = np.repeat(kind[rows], size)[inside]
    buddy = (kpf & 1) != 0
    # A free frame may lie on a per-CPU list, without any flag; a held one may have none either.
    wrong = ((last == FREE) & ~buddy & (kpf != 0)) | ((last == ALLOC) & buddy)
    return {"frames": int((last != 255).sum()), "wrong": int(wrong.sum())}


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _lost(count: int | None, places: int) -> str:
    """Lost events in words; ``places`` is how often a recorder said that it lost some and not how many."""
    if count is None:
        return "not known"
    if not places:
        return str(count)
    return f"at least {count} (an unknown number in {places} place{'s' * (places > 1)})"


def _remarks(source: dict[str, Any]) -> list[tuple[str, str]]:
    """What a reader of the text should know beside its events."""
    rows = []
    passed = [
        f"{source[key]:,} {words}"
        for key, words in (("other_events", "other events"), ("stack_lines", "lines of call stacks"),
                           ("remarks", "remarks of the tools"))
        if source.get(key)
    ]  # fmt: skip
    if passed:
        rows.append(("passed over", ", ".join(passed)))
    if source.get("merged"):
        rows.append(
            ("order", f"{source['merged']} texts, pieces of one recording, put together in order of time")
        )
    if source.get("time_steps_back"):
        steps = source["time_steps_back"]
        rows.append(("order", f"time ran backwards at {steps:,} place{'s' * (steps != 1)}"
                     + (f", first at line {source['first_step_back']}" if "first_step_back" in source else "")
                     + ": the events were put in order of time"))  # fmt: skip
    if source.get("mobility_grouping") == "off":
        rows.append(("mobility", "grouping is off on the recorded machine: every request says Unmovable, "
                                 "whatever its "
                                 "mask asks for; the masks are replayed"))  # fmt: skip
    if source.get("last_line_without_end"):
        rows.append(("end", "the last line has no end: whether it was cut off, and a number in it with it, "
                            "cannot be told"))  # fmt: skip
    if source.get("format") == "text":
        rows.append(("pages", "taken as 4 KiB: a text does not say how large they are"))
    return rows


def describe_text(about: dict[str, Any]) -> str:
    """`describe` for a terminal: about thirty lines."""
    if about["form"] == START_STATE:
        return start_text(about)
    asked, lives, events = about["allocations"], about["lifetimes"], about["events"]
    total = asked["total"]
    source = about["provenance"]
    lost = _lost(about["lost"], source.get("lost_places", 0))
    rows = [
        ("trace", f"{about['name']}: {about['description']}" if about["description"] else about["name"]),
        ("kernel", f"{about['kernel'] or 'not known'}, {about['cpus']} CPUs"),
        ("length", f"{about['seconds']:.3f} s, {sum(events.values()):,} events, lost: {lost}"),
        ("events", ", ".join(f"{kind} {count:,}" for kind, count in events.items() if count)),
        ("allocations", f"{total:,} of {asked['pages']:,} pages, {asked['failed']} failed"),
        ("by order", "  ".join(f"{k}: {n:,}" for k, n in enumerate(asked["by_order"]) if n)),
        ("by type", ", ".join(f"{name} {_share(n, total)}" for name, n in asked["by_type"].items())),
        ("cannot block", _share(asked["cannot_block"], total)),
        ("nonsensitive", f"{100 * about['nonsensitive']['allocations']:.1f} % of allocations, "
                         f"{100 * about['nonsensitive']['pages']:.1f} % of pages"),
        ("classifier", about["classifier"]),
        ("alive", f"{lives['held_at_start_pages']:,} pages freed that were there before, at most "
                  f"{lives['peak_pages']:+,} pages, at the end {lives['end_pages']:+,}"),
        ("repairs", ", ".join(f"{key} {lives[key]}" for key in _REPAIRS)),
    ]  # fmt: skip
    rows += [("gfp", f"{_share(n, total):>7}  {name}") for name, n in list(asked["by_gfp"].items())[:6]]
    rows += [("command", f"{_share(n, total):>7}  {name}") for name, n in list(asked["by_comm"].items())[:5]]
    several = len({zone.get("nid", 0) for zone in about["zones"]}) > 1
    for zone in about["zones"]:
        node = f"node {zone['nid']} " if several else ""
        rows.append(("zone", f"{node}{zone['name']:<7} {zone['managed'] * 4 >> 10:,} MiB managed, "
                             f"{_share(zone['free'], zone['managed'])} free, min/low/high "
                             f"{zone['min']}/{zone['low']}/{zone['high']}"))  # fmt: skip
    rows.append(("snapshots", ", ".join(about["snapshots"]) or "none: the initial state is not known"))
    if about["end_state"]:
        wrong, frames = about["end_state"]["wrong"], about["end_state"]["frames"]
        rows.append(("end state", f"{wrong:,} of {frames:,} frames are not what the events say"))
    rows += _remarks(source)
    where = [f"{key} {source[key]}" for key in ("source", "format", "recorder") if key in source]
    rows.append(("source", ", ".join(where)))
    previous, lines = "", []
    for key, value in ((key, printable(value)) for key, value in rows):
        lines.append(f"{key if key != previous else '':<13} {value}")
        previous = key
    return "\n".join(lines)
