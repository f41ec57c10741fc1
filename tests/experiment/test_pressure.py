"""A trace of a machine under pressure, read in two ways: what the modelled reading leaves out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asi_pa.cli import main
from asi_pa.experiment.pressure import is_page_cache, kswapd_runs, modelled_reading, pressure_text
from asi_pa.kernel.callers import fallback_of
from asi_pa.kernel.gfp import GFP_NAMES
from asi_pa.run.reference import Course
from asi_pa.trace import Trace, load_trace
from asi_pa.trace.compile import OP_ALLOC, asked_for
from asi_pa.trace.events import ALLOC
from asi_pa.trace.format import FAILED_PFN, KINDS, KPF_BITS
from asi_pa.trace.tries import recorded_tries

DATA = Path(__file__).resolve().parents[1] / "data" / "validation"
PIECE, VMSTAT = DATA / "press.trace", DATA / "press.vmstat.json"

MOVABLE = GFP_NAMES["__GFP_MOVABLE"]
READAHEAD = GFP_NAMES["__GFP_NORETRY"] | GFP_NAMES["__GFP_NOWARN"]
CACHE, ANON, KERNEL = MOVABLE | READAHEAD, MOVABLE, 0
COMMS = ("kswapd0", "kcompactd0", "user")
SWAPPER, COMPACTOR, USER = range(3)


@pytest.mark.parametrize(
    ("gfp", "cache"),
    [
        (MOVABLE | READAHEAD, True),
        (MOVABLE | GFP_NAMES["__GFP_WRITE"], True),
        (READAHEAD, False),
        (MOVABLE | READAHEAD | GFP_NAMES["__GFP_NOMEMALLOC"], False),
        (MOVABLE, False),
    ],
)
def test_what_counts_as_page_cache(gfp: int, cache: bool) -> None:
    assert is_page_cache(gfp) == cache


def trace_of(*rows: tuple[str, int, int, int, int]) -> Trace:
    """A trace of (kind, pfn, order, index of the mask, who); frames 0 to 63 are there, 0 to 7 page cache."""
    flags = np.full(64, 1 << KPF_BITS.index("BUDDY"), np.uint8)
    flags[:8] = 1 << KPF_BITS.index("LRU")
    kinds, pfns, orders, gfps, comms = zip(*rows, strict=True)
    n = len(rows)
    return Trace(
        name="small",
        time_ns=np.arange(n, dtype=np.uint64),
        cpu=np.zeros(n, np.uint8),
        kind=np.array([KINDS.index(kind) for kind in kinds], np.uint8),
        pfn=np.array(pfns, np.uint32),
        order=np.array(orders, np.uint8),
        migratetype=np.zeros(n, np.int8),
        gfp=np.array(gfps, np.uint16),
        comm=np.array(comms, np.uint16),
        gfps=(CACHE, ANON, KERNEL),
        comms=COMMS,
        gfp_names=dict(GFP_NAMES),
        migratetypes=("Unmovable", "Movable", "Reclaimable"),
        kernel="7.2",
        cpus=1,
        kpageflags={"start": flags},
    )


def rows_of(trace: Trace) -> list[tuple[str, int]]:
    return [(KINDS[kind], pfn) for kind, pfn in zip(trace.kind.tolist(), trace.pfn.tolist(), strict=True)]


def test_reclaimed_page_cache_is_left_out() -> None:
    reading = modelled_reading(
        trace_of(
            ("alloc", 16, 0, 0, USER),
            ("alloc", 17, 0, 1, USER),
            ("free", 16, 0, 0, SWAPPER),
            ("free", 17, 0, 0, USER),
            ("free", 3, 0, 0, USER),
        )
    )
    (first, at), (second, anon), (third, freed) = rows_of(reading.trace)
    assert (first, second, third, freed) == ("alloc", "alloc", "free", anon)
    assert at != anon
    assert (reading.reclaimed, reading.reclaimed_by_kswapd) == (2, 1)
    assert reading.start_order == [3]


def test_a_moved_page_comes_back_when_its_target_is_freed() -> None:
    reading = modelled_reading(
        trace_of(
            ("alloc", 16, 0, 1, USER),
            ("free", 16, 0, 0, COMPACTOR),
            ("alloc", 16, 0, 2, USER),
            ("free", 40, 0, 0, USER),
            ("free", 41, 0, 0, USER),
            ("free", 42, 0, 0, SWAPPER),
        )
    )
    (_, moved), (_, other), (kind, freed) = rows_of(reading.trace)
    assert kind == "free"
    assert freed == moved != other
    assert reading.moved_by_kcompactd == reading.targets_matched == reading.targets_unmatched == 1
    assert reading.targets == reading.reclaimed_by_kswapd == 1


def test_a_failed_request_is_made_and_given_back() -> None:
    reading = modelled_reading(trace_of(("alloc", FAILED_PFN, 3, 2, USER)))
    (first, at), (second, back) = rows_of(reading.trace)
    assert (first, second) == ("alloc", "free")
    assert at == back
    assert at % 8 == 0
    assert reading.failed_requests == 1


def test_frames_of_one_reading_are_never_shared() -> None:
    rows = [("alloc", 16, 2, 0, USER), ("free", 16, 2, 0, SWAPPER)] * 5
    found = [pfn for _, pfn in rows_of(modelled_reading(trace_of(*rows)).trace)]
    assert len(set(found)) == len(found) == 5


def test_a_trace_without_flags_is_refused() -> None:
    with pytest.raises(ValueError, match="without kpageflags"):
        modelled_reading(replace(trace_of(("alloc", 16, 0, 0, USER)), kpageflags={}))


@pytest.mark.parametrize("verb", ["pressure", "validate"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[1]", "not a JSON object of whole numbers"),
        (b'{"compact_stall": 1.5}', "not a JSON object of whole numbers"),
        (b'{"compact_stall": true}', "not a JSON object of whole numbers"),
        (b'{"compact_stall": 16', "not JSON: "),
        (b"\xff\xfe\x00", "not JSON: "),
        (b"[" * 100_000, "not JSON: "),
        (b"", "not JSON: "),
        (b"nr_free_pages 6124\ncompact_stall 4\n", "/proc/vmstat itself; wanted is a JSON object"),
        (b'{"compact_stall": -3}', "compact_stall -3: such a counter never falls"),
        (b'{"nr_free_pages": -3}', "none of the counters that are compared is in it: compact_stall, "),
        (None, "No such file or directory"),
    ],
)
def test_counters_that_cannot_be_used(
    verb: str, text: bytes | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "vmstat.json"
    if text is not None:
        path.write_bytes(text)
    assert main([verb, str(PIECE), "--vmstat", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert words in line


def test_every_request_is_one_where_a_machine_is_predicted() -> None:
    """A try that failed, and what its caller asked for instead: each is an operation of its own there."""
    trace = load_trace(PIECE)
    masks = asked_for(trace)[0]
    (failed, *_) = np.flatnonzero((trace.kind == ALLOC) & (trace.pfn == FAILED_PFN)).tolist()
    huge = next(i for i, mask in enumerate(masks) if fallback_of(mask, 9) is not None)
    gfp, order, comm = trace.gfp.copy(), trace.order.copy(), trace.comm.copy()
    gfp[failed], order[failed] = huge, 9
    later = (trace.kind == ALLOC) & (trace.order == 0) & (trace.cpu == trace.cpu[failed])
    pages = failed + np.flatnonzero(later[failed:])[:20]
    gfp[pages], comm[pages] = huge, comm[failed]
    trace = replace(trace, gfp=gfp, order=order, comm=comm)
    (made,) = [each for each in recorded_tries(trace, masks) if each.event == failed]
    assert set(pages) <= set(made.pages)
    course = Course(trace)
    assert len(course.allocs) == np.count_nonzero(course.compiled.ops["op"] == OP_ALLOC)
    assert course.operations_at([len(trace)]) == len(course.compiled.ops)


def test_validate_puts_both_readings_beside_the_counters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first 0.2 s of a machine short of memory; the counters are those of the whole recording."""
    trace = load_trace(PIECE)
    path = tmp_path / "found.json"
    status = main(["validate", "--quiet", "--vmstat", str(VMSTAT), "--json", str(path), str(PIECE)])
    assert status in (0, 1)  # as its moved pages lead to its end or not
    found = json.loads(path.read_text())["pressure"]
    counted = json.loads(VMSTAT.read_text())
    recorded = found["recorded"]
    assert recorded["requests_failed"] == np.count_nonzero(trace.pfn[trace.kind == ALLOC] == FAILED_PFN) > 0
    assert recorded["direct_compactions"] == counted["compact_stall"]
    assert recorded["pages_moved"] == counted["pgmigrate_success"]
    assert recorded["pages_reclaimed"] == counted["pgsteal_kswapd"] + counted["pgsteal_direct"]
    assert found["as_recorded"]["pages_reclaimed"] == found["as_recorded"]["direct_compactions"] == 0
    left_out = found["found"]["reclaimed"]
    assert 0.5 * left_out < found["modelled"]["pages_reclaimed"] < 2 * left_out
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.strip().startswith("pages moved")]
    assert line.split()[2:] == [
        f"{counted['pgmigrate_success']:,}",
        "0",
        f"{found['modelled']['pages_moved']:,}",
    ]


def test_text() -> None:
    counts = {"requests_failed": 3, "pages_moved": 4000}
    names = ("reclaimed", "reclaimed_by_kswapd", "moved_by_kcompactd", "targets", "targets_matched")
    result = {
        "trace": "t",
        "design": "linux",
        "kernel": "7.2",
        "memory_bytes": 1 << 30,
        "recorded": {"requests_failed": 2},
        "as_recorded": counts,
        "modelled": counts,
        "found": dict.fromkeys([*names, "targets_unmatched"], 5),
        "kswapd": {"runs": 2, "pages": 4600.0, "ms": 1.4, "allocations": 4.0},
    }
    lines = pressure_text(result).splitlines()
    assert lines[0] == "t, linux, 7.2, 1024 MiB"
    assert lines[3].split() == ["pages", "moved", "-", "4,000", "4,000"]
    assert "2 times, for 1.4 ms and 4,600 pages, while others made 4 allocations" in lines[-1]
    assert json.loads(json.dumps(result)) == result
    result["kswapd"] = {"runs": 0}
    assert "kswapd ran" not in pressure_text(result)


def test_runs_of_the_recorded_kswapd() -> None:
    trace = trace_of(
        ("free", 1, 2, 0, SWAPPER),
        ("alloc", 16, 0, 0, USER),
        ("free", 5, 0, 0, SWAPPER),
        ("alloc", 17, 0, 0, USER),
        ("free", 6, 0, 0, SWAPPER),
        ("free", 7, 0, 0, USER),
    )
    trace.time_ns[:] = [0, 1000, 3000, 4000, 5_000_000, 5_000_001]
    assert kswapd_runs(trace) == {"runs": 2, "pages": 3.0, "ms": 0.0015, "allocations": 0.5}
    assert kswapd_runs(trace_of(("alloc", 16, 0, 0, USER))) == {"runs": 0}
