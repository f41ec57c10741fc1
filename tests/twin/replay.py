"""Replay a recorded run of a real kernel through an engine, comparing everything.

``python -m tests.twin.replay FILE...`` does it with the twin.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from asi_pa.designs import as_design
from asi_pa.kernel.gfp import GFP_NAMES, MODEL_LRU, MODEL_PINNED, MODEL_UNSPLITTABLE, Migratetype
from asi_pa.kernel.spec import MachineSpec, PcpSpec, ZoneSpec
from asi_pa.kernel.versions import kernel_profile
from asi_pa.verify.codes import Code

from .dump import first_difference, labelled, tail_of
from .machine import Machine
from .request import decode

__all__ = ["Engine", "Outcome", "Recording", "replay", "request_word"]

#: The columns of ``resx``; the last two mean something for failed allocations only.
_WATCHED = (
    "events so far",
    "live sensitive pages that are mapped",
    "live nonsensitive pages that are not",
)
_WATCHED_OF = {
    "mapped": (
        "mapped blocks of an unmapped type",
        "unmapped blocks of a mapped type",
        "mapped blocks",
        "whole free blocks of the other side",
        "free pages of the other side",
    ),
    "pool": ("pool pages that are present", "pool pages", "absent pages"),
    "queue": ("queued pages", "queued chunks", "present pages"),
}
_MAGIC = 0x504D5544
#: Added to the frame numbers in results that lie in the second zone.
SECOND_ZONE = 0x40000000
#: Words of a dump about compaction, without the skip bits.
_COMPACTION_WORDS = 9
#: What a recorded kernel's name says -> the design.
_DESIGNS = {
    "March 2025": "migratetype/as-posted",
    "September 2025": "freetype/as-posted",
    "unmapped v4": "unmapped/v4",
    "unmapped v2": "unmapped/v2",
    "as posted": "pool/as-posted",
    "as its letter says": "pool/letter",
    "free queue": "rfcv2-queue/as-posted",
}


PcpFields = tuple[int, int, int, int]


class Engine(Protocol):
    """What a replay needs of an engine."""

    def alloc(self, order: int, gfp: int, cpu: int = ...) -> int: ...
    def free(self, pfn: int, order: int, cpu: int = ...) -> None: ...
    def drain(self, cpu: int = ..., zone: int = ...) -> None: ...
    def tick(self, cpu: int = ...) -> int: ...
    def isolate(self, start: int, end: int, mode: int) -> int: ...
    def unisolate(self, start: int, end: int) -> None: ...
    def alloc_contig_range(self, start: int, end: int, cma: bool) -> int: ...
    def free_contig_range(self, start: int, n: int) -> None: ...
    def unreserve_highatomic(self, mt: int, force: bool) -> int: ...
    def take_and_putback(self, freetype: int, min_order: int) -> int: ...
    def shrink_pool(self, pages: int, cpu: int = ...) -> int: ...
    def run_queue(self, cpu: int = ...) -> None: ...
    def dump(self, zone: int = ...) -> npt.NDArray[np.int32]: ...
    def verify(self) -> str | None: ...
    def counters(self, cpu: int = ...) -> tuple[int, int, int]: ...
    def restore(self, zone: int, below_high: bool, boost: int, pcp_fields: Sequence[PcpFields]) -> None: ...


def request_word(flags: int, *, design: bool, compaction: bool = False) -> int:
    """The request word (asi_pa.kernel.gfp) for an allocation's recorded flags; ``design``: not plain Linux;
    ``compaction``: a run of it, whose flags from 256 on are others."""
    gfp = (flags & 3) << 3  # migratetype: __GFP_MOVABLE, __GFP_RECLAIMABLE
    for bit, name in (
        (4, "__GFP_HIGH"),
        (8, "__GFP_KSWAPD_RECLAIM"),
        (16, "__GFP_NOMEMALLOC"),
        (32, "__GFP_COMP"),
        (64, "__GFP_COMP"),
        (128, "__GFP_MEMALLOC"),
        (256, "__GFP_SENSITIVE" if design else "__GFP_DMA32"),
        (512, "__GFP_DIRECT_RECLAIM"),
    ):
        if flags & bit and not (compaction and bit == 256):
            gfp |= GFP_NAMES[name]
    if flags & 64:
        gfp |= MODEL_LRU
    if compaction:
        gfp |= MODEL_PINNED * bool(flags & 256) | MODEL_UNSPLITTABLE * bool(flags & 2048)
        gfp |= GFP_NAMES["__GFP_IO"] * bool(flags & 512)
        gfp |= GFP_NAMES["__GFP_FS"] * (flags & (512 | 1024) == 512)
    return gfp


class Recording:
    """One recorded .npz."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as data:
            self.meta: dict[str, Any] = json.loads(str(data["meta"]))
            self.ops: list[list[int]] = data["ops"].tolist()
            self.results: list[list[int]] = data["res"].tolist()
            self.dump_at: list[int] = data["dump_at"].tolist()
            starts = data["dump_off"].tolist()
            dumps = data["dumps"]
            #: What it recorded beside, where the kernel ran a design: the event log, eight more columns.
            self.events: list[list[int]] = data["events"].tolist() if "events" in data else []
            self.watched: list[list[int]] = data["resx"].tolist() if "resx" in data else []
        self.dumps: list[npt.NDArray[np.int32]] = []
        for at, start, end in zip(self.dump_at, starts, [*starts[1:], len(dumps)], strict=True):
            words = dumps[start:end]
            if words[0] != _MAGIC or words[1] != at or words[2] != len(words):
                raise ValueError(f"{path}: the dump at operation {at} has a bad header")
            self.dumps.append(words[3:])
        self.bypassed = bool(self.meta["pcp_bypassed"])
        self.kernel = str(self.meta["kernel"])
        self.design = _design(self.meta)
        #: A run of compaction: its log in rows of six, its positions in the dumps.
        self.compaction = self.design == "linux" and bool(self.events) and len(self.events[0]) == 6
        #: How dumps end.
        self.tail = "compaction" if self.compaction else tail_of(as_design(self.design))
        self.two_zones = bool(self.meta.get("zone2_managed"))

    def labelled(self, dump: npt.NDArray[np.int32]) -> list[tuple[str, int]]:
        """Every word of a dump with what it says."""
        return list(labelled(dump.tolist(), tail=self.tail))

    def initial_compaction(self) -> tuple[list[int], list[int]]:
        """What compaction kept before the first operation: nine words, the skip bits."""
        blocks = -(-self.meta["spanned"] >> self.meta["pageblock_order"])
        words = self.dumps[0][-(_COMPACTION_WORDS + 1 + blocks) :].tolist()
        return words[:_COMPACTION_WORDS], words[_COMPACTION_WORDS + 1 :]

    def initial(self, zone: int) -> tuple[bool, int, list[PcpFields]]:
        """What boot does not determine, for Engine.restore: it comes from the zone's first dump."""
        words = dict(self.labelled(self.dumps[zone]))
        cpus = ["pcp", *(f"cpu {cpu} pcp" for cpu in range(1, self.meta["nr_cpus"]))]
        fields = [
            (
                words[f"{cpu} high"],
                words[f"{cpu} flags"],
                words[f"{cpu} alloc_factor"],
                words[f"{cpu} free_count"],
            )
            for cpu in cpus
        ]
        return bool(words["zone flags"] & 4), words["watermark_boost"], fields

    def spec(self) -> MachineSpec:
        """The machine, from the header and the dump before the first operation."""
        meta = self.meta
        zones = [_zone_spec(meta, self.labelled(self.dumps[0]), self.bypassed, second=False)]
        if self.two_zones:
            zones.append(_zone_spec(meta, self.labelled(self.dumps[1]), self.bypassed, second=True))
        return MachineSpec(
            zones=tuple(zones),
            cpus=meta["nr_cpus"],
            pageblock_order=meta["pageblock_order"],
            max_page_order=meta["max_page_order"],
            watermark_boost_factor=meta["boost_factor"],
            defrag_mode=bool(meta["defrag_mode"]),
            nofragment=bool(meta["nofragment"]),
            pcp_batch_scale_max=meta["pcp_batch_scale_max"],
        )


def _design(meta: dict[str, Any]) -> str:
    """The design that the recorded kernel ran."""
    named = [design for words, design in _DESIGNS.items() if words in meta["kernel"]]
    return named[0] + "-flags" * bool(meta.get("as_posted_flags")) if named else "linux"


def _zone_spec(
    meta: dict[str, Any], labels: list[tuple[str, int]], bypassed: bool, *, second: bool
) -> ZoneSpec:
    words = dict(labels)
    start = meta["zone2_start_pfn" if second else "zone_start_pfn"]
    spanned = meta["zone2_spanned" if second else "spanned"]
    free = np.zeros(spanned, dtype=bool)
    for label, value in labels:
        if label.startswith("free list") and "entry" in label:
            order = int(label.split("order ")[1].split(",")[0])
            free[value : value + (1 << order)] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (~free).astype(np.int8), [0]])))
    cma = () if second or not meta["cma_pages"] else ((meta["cma_start"], meta["cma_pages"]),)
    reserve = words["lowmem_reserve[ZONE_NORMAL]"]
    return ZoneSpec(
        name="DMA32" if second else "Normal",
        nid=meta["nid"],
        start_pfn=start,
        spanned=spanned,
        holes=tuple((start + int(a), start + int(b)) for a, b in edges.reshape(-1, 2)),
        managed=words["managed"],
        wmark=(words["WMARK_MIN"], words["WMARK_LOW"], words["WMARK_HIGH"], words["WMARK_PROMO"]),
        lowmem_reserve=(0, 0, reserve, reserve),
        pcp=None
        if bypassed
        else PcpSpec(
            batch=words["pcp batch"],
            high_min=words["pcp high_min"],
            high_max=words["pcp high_max"],
            high=words["pcp high"],
            free_high_batch=bool(words["pcp flags"] & 2),
        ),
        stat_threshold=words["stat_threshold"],
        cma=tuple((start + at, start + at + pages) for at, pages in cma),
    )


@dataclass(frozen=True)
class Outcome:
    """How far a replay was exact."""

    operations: int
    exact_operations: int
    dumps: int
    exact_dumps: int
    difference: str | None

    @property
    def exact(self) -> bool:
        return self.difference is None


def replay(
    recording: Recording,
    make: Callable[..., Engine] = Machine,
    *,
    operations: int | None = None,
    verify: bool = False,
) -> Outcome:
    """Replay up to the first difference, or up to ``operations``.

    ``make(spec, design, kernel)`` builds the engine.  ``verify`` checks its invariants at each dump.
    """
    # The worker and the shrinker run when the recording says so, reclaim never.
    design = as_design(recording.design)
    asleep: dict[str, dict[str, Any]] = {"queue": {"queue_delay": 1 << 40}, "pool": {"shrink_batch": 0}}
    design = replace(design, **asleep.get(design.wrapper, {}))
    engine = make(recording.spec(), design, recording.kernel)
    run = _Run(recording, engine)
    total = len(recording.ops) if operations is None else min(operations, len(recording.ops))
    exact_dumps = 0
    next_dump = 0
    for done in range(total + 1):
        while next_dump < len(recording.dumps) and recording.dump_at[next_dump] == done:
            difference = run.compare_dump(next_dump) or (engine.verify() if verify else None)
            if difference:
                where = f"dump {next_dump}, after {done} operations: {difference}"
                return Outcome(total, done, len(recording.dumps), exact_dumps, where)
            exact_dumps += 1
            next_dump += 1
        if done == total:
            break
        difference = run.step(done)
        if difference:
            row = recording.ops[done]
            return Outcome(
                total, done, len(recording.dumps), exact_dumps, f"operation {done} {row}: {difference}"
            )
    difference = run.compare_zeroed() if total == len(recording.ops) else None
    return Outcome(total, total, next_dump, exact_dumps, difference)


class _Run:
    def __init__(self, recording: Recording, engine: Engine) -> None:
        self.recording = recording
        self.engine = engine
        self.start = [zone.start_pfn for zone in recording.spec().zones]
        self.end = [zone.end_pfn for zone in recording.spec().zones]
        for zone in range(len(self.start)):
            engine.restore(zone, *recording.initial(zone))
        #: The twin itself, where there are events and more columns to compare: it lets us look inside.
        self.inside = engine if isinstance(engine, Machine) and recording.watched else None
        if self.inside:
            self.inside.log_events()
        #: The twin itself in a run of compaction, which moves what operations got.
        self.compacts = engine if isinstance(engine, Machine) and recording.compaction else None
        if self.compacts:
            self.compacts.restore_compaction(0, *recording.initial_compaction())
            self.compacts.compactor.rows = []
        self.seen = 0

    def absolute(self, pfn: int) -> int:
        return pfn - SECOND_ZONE + self.start[1] if pfn >= SECOND_ZONE else pfn + self.start[0]

    def relative(self, pfn: int) -> int:
        if pfn < 0:
            return pfn
        return (
            pfn - self.start[0] if self.start[0] <= pfn < self.end[0] else pfn - self.start[1] + SECOND_ZONE
        )

    def step(self, row: int) -> str | None:
        cpu = self.recording.ops[row][5] if len(self.recording.ops[row]) > 5 else 0
        result, *counters = self.recording.results[row]
        for twin in filter(None, (self.inside, self.compacts)):
            twin.zones[0].now = row
        got = self._perform(row, cpu)
        if got is not None and got != result:
            return f"expected {result}, got {got}"
        have = self.engine.counters(cpu)
        names = ("pcp count", "pcp high", "NR_FREE_PAGES")
        skip = 2 if self.recording.bypassed else 0  # without the per-CPU lists only the last one moves
        for name, want, value in list(zip(names, counters, have, strict=True))[skip:]:
            if want != value:
                return f"{name}: expected {want}, got {value}"
        if self.compacts:
            return self._compare_log(self.compacts, row)
        return self._watch(self.inside, row) if self.inside else None

    def _compare_log(self, twin: Machine, row: int) -> str | None:
        """Compaction's rows since the last operation."""
        rows = twin.compactor.rows or []
        for number, got in enumerate(rows[self.seen :], self.seen):
            if [got] != self.recording.events[number : number + 1]:
                return f"event {number}: expected {self.recording.events[number : number + 1]}, got {got}"
        self.seen = len(rows)
        if self.seen < len(self.recording.events) and self.recording.events[self.seen][0] <= row:
            return f"event {self.seen}: expected {self.recording.events[self.seen]}, got nothing"
        return None

    def compare_zeroed(self) -> str | None:
        """The pages that September's flips would have cleared, where a recording counted them."""
        want = self.recording.meta.get("zeroed_pages")
        got = self.inside.counts.pages_zeroed if self.inside else None
        return None if None in (want, got) or want == got else f"pages cleared: expected {want}, got {got}"

    def _watch(self, twin: Machine, row: int) -> str | None:
        """Compare what a recorded design says beside: events and the eight columns."""
        wanted = self.recording.watched[row]
        seen = self.recording.watched[row - 1][0] if row else 0
        zone = twin.zones[0]
        for number, event in enumerate((zone.events or [])[seen:], seen):
            if [list(event)] != self.recording.events[number : number + 1]:
                return f"event {number}: expected {self.recording.events[number : number + 1]}, got {event}"
        names = _WATCHED + _WATCHED_OF[self.recording.tail]
        got = [len(zone.events or ()), twin.counts.exposed_now, twin.counts.hidden_now]
        got += self._watch_pages(twin) if twin.wrapper else self._watch_blocks(twin, row)
        for name, want, value in zip(names, wanted, got, strict=False):
            if want != value:
                return f"{name}: expected {want}, got {value}"
        return None

    @staticmethod
    def _watch_pages(twin: Machine) -> list[int]:
        zone, wrapper = twin.zones[0], twin.wrapper
        assert wrapper is not None
        if twin.tables.design.wrapper == "queue":
            return [sum(1 << order for order in zone.queue.values()), len(zone.queue), len(wrapper.remapped)]
        pool = [(pfn, order) for order, blocks in enumerate(zone.pool) for pfn in blocks]
        pages = sum(1 << order for _, order in pool)
        absent = sum(wrapper.count_remapped(pfn, order) for pfn, order in pool)
        return [pages - absent, pages, len(wrapper.remapped)]

    def _watch_blocks(self, twin: Machine, row: int) -> list[int]:
        zone, tables = twin.zones[0], twin.tables
        types = [zone.type_of(block) for block in zone.all_blocks()]
        pairs = list(zip(zone.block_mapped, (tables.mapped[freetype] for freetype in types), strict=True))
        got = [
            pairs.count((True, False)),
            pairs.count((False, True)),
            sum(zone.block_mapped),
        ]
        code, _, flags = self.recording.ops[row][:3]
        if code == Code.OP_ALLOC and self.recording.results[row][0] < 0:
            got += self._other_side(twin, request_word(flags, design=True))
        return got

    def _other_side(self, twin: Machine, gfp: int) -> list[int]:
        """Whole free blocks, and free pages, that a failed request could not have."""
        zone, tables = twin.zones[0], twin.tables
        mine = tables.mapped[decode(tables, gfp).freetype]
        blocks = pages = 0
        for order, lists in enumerate(zone.free_list):
            for freetype, listed in enumerate(lists):
                if tables.mapped[freetype] != mine and zone.migratetype(freetype) != Migratetype.ISOLATE:
                    pages += len(listed) << order
                    if order >= zone.pageblock_order:
                        blocks += len(listed) << (order - zone.pageblock_order)
        return [blocks, pages]

    def _perform(self, row: int, cpu: int) -> int | None:
        """Do one operation; its result, or None where the recorded one says nothing."""
        engine = self.engine
        code, order, flags, a, b = self.recording.ops[row][:5]
        gfp = request_word(
            flags, design=self.recording.design != "linux", compaction=self.recording.compaction
        )
        if self.compacts and code >= Code.OP_COMPACT_NODE:
            return self._compact(self.compacts, row, gfp, cpu)
        if code == Code.OP_ALLOC:
            return self._owned(row, engine.alloc(order, gfp, cpu))
        if code == Code.OP_FREE:
            self._free(a, cpu)
        elif code == Code.OP_DRAIN:
            engine.drain(cpu)
        elif code == Code.OP_ISOLATE:
            # The recorder of 6.12, which has no modes, always asked for MIGRATE_MOVABLE.
            mode = order if kernel_profile(self.recording.kernel).isolate_is_bit else 2
            return engine.isolate(self.absolute(a), self.absolute(b), mode)
        elif code == Code.OP_UNISOLATE:
            engine.unisolate(self.absolute(a), self.absolute(b))
        elif code == Code.OP_CONTIG:
            return engine.alloc_contig_range(self.absolute(a), self.absolute(b), bool(order))
        elif code == Code.OP_UNRESERVE:
            freetype = flags & 3 if self.recording.design == "linux" else b
            return engine.unreserve_highatomic(freetype, bool(a))
        elif code == Code.OP_TICK:
            return engine.tick(cpu)
        elif code == Code.OP_TAKE:
            return self.relative(engine.take_and_putback(a, b))
        elif code == Code.OP_WORKER:
            engine.run_queue(cpu)
        elif code == Code.OP_SHRINK:
            return engine.shrink_pool(a, cpu) or -1
        elif code != Code.OP_DUMP:
            raise ValueError(f"operation {row}: unknown code {code}")
        return None

    def _owned(self, row: int, pfn: int) -> int:
        """Who got it, where compaction may move it."""
        if self.compacts and pfn >= 0:
            self.compacts.compactor.owners.put(row, pfn)
        return self.relative(pfn)

    def _compact(self, twin: Machine, row: int, gfp: int, cpu: int) -> int | None:
        """An operation of compaction."""
        code, order, _, a, _ = self.recording.ops[row][:5]
        nid = twin.zones[0].spec.nid
        if code == Code.OP_COMPACT_NODE:
            twin.compact_node(nid, bool(a), cpu)
        elif code == Code.OP_COMPACT:
            return twin.compact(order, gfp, a, cpu)
        elif code == Code.OP_DIRECT_COMPACT:
            result, pfn = twin.compact_and_alloc(order, gfp, a, cpu)
            pfn = self._owned(row, pfn)
            twin.compactor.log(14, result, pfn)
            return pfn
        elif code == Code.OP_RESET_SKIP:
            twin.reset_skip_bits()
        elif code == Code.OP_KCOMPACTD:
            twin.kcompactd(nid, order, 2, cpu)
        else:
            raise ValueError(f"operation {row}: unknown code {code}")
        return None

    def _free(self, source: int, cpu: int) -> None:
        code, order, _, a, b = self.recording.ops[source][:5]
        if code == Code.OP_CONTIG:
            self.engine.free_contig_range(self.absolute(a), b - a)
        elif self.compacts:
            for pfn in self.compacts.compactor.owners.pop(source):
                self.engine.free(pfn, self.compacts.zones[0].allocated[pfn].order, cpu)
        else:
            self.engine.free(self.absolute(self.recording.results[source][0]), order, cpu)

    def _pcp_part(self, words: npt.NDArray[np.int32]) -> slice:
        """Where the fields of the per-CPU lists and their number are, in a dump with one CPU."""
        labels = [label for label, _ in labelled(words.tolist(), tail=self.recording.tail)]
        start = labels.index("pcp fields")
        return slice(start, start + 10 + self.recording.meta["nr_pcp_lists"])

    def compare_dump(self, index: int) -> str | None:
        want = self.recording.dumps[index]
        second = int(want[18])
        got = self.compacts.dump(second, compaction=True) if self.compacts else self.engine.dump(second)
        if self.recording.bypassed:
            # The lists are never used: the kernel's fields are as they were at the start.
            got = got.copy()
            first = self.recording.dumps[second]
            got[self._pcp_part(got)] = first[self._pcp_part(first)]
        if np.array_equal(want, got):
            return None
        return first_difference(want.tolist(), got.tolist(), tail=self.recording.tail)


def main(paths: list[str]) -> int:
    exact = True
    for path in paths:
        started = time.perf_counter()
        recording = Recording(Path(path))
        # As posted, the designs break invariants: Sx-g2 has CMA pages on the MOVABLE list.
        outcome = replay(recording, verify=recording.design == "linux")
        exact &= outcome.exact
        print(
            f"{recording.kernel} {recording.meta['name']}: "
            f"operations {outcome.exact_operations}/{len(recording.ops)}, "
            f"dumps {outcome.exact_dumps}/{len(recording.dumps)}, {time.perf_counter() - started:.1f} s"
            + (f": {outcome.difference}" if outcome.difference else ""),
            flush=True,
        )
    return 0 if exact else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
