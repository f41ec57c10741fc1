"""Trace text: every form, every trap, and the line that is to blame."""

from __future__ import annotations

import gzip
import lzma
import os
import re
from pathlib import Path

import numpy as np
import pytest

from asi_pa.kernel.gfp import GFP_HIGHUSER_MOVABLE, GFP_NAMES
from asi_pa.trace import Trace, load_trace, write_trace
from asi_pa.trace.text import read_text

COMP = GFP_NAMES["__GFP_COMP"]
PERF = """\
    perf 19364 [001]  2054.572131048:   kmem:mm_page_alloc: page=0x2fbc31 pfn=0x2fbc31 order=0 migratetype=1 \
gfp_flags=GFP_HIGHUSER_MOVABLE|__GFP_COMP
  perf-exec 19366 [000]  2054.572131049:   kmem:mm_page_free: page=0x10 pfn=0x10 order=3
  perf-exec 19366 [000]  2054.672131049:   kmem:mm_page_free_batched: page=0x10 pfn=0x10 order=0
  bash 19376 [000]  2054.7: kmem:mm_page_alloc_extfrag: page=0x270c00 pfn=0x270c00 alloc_order=2 \
fallback_order=8 pageblock_order=9 alloc_migratetype=0 fallback_migratetype=1 fragmenting=8 \
change_ownership=1
  bash 19376 [000]  2054.8: kmem:mm_page_pcpu_drain: page=0x11 pfn=0x11 order=0 migratetype=2
  bash 19376 [000]  2054.8: kmem:mm_page_alloc_zone_locked: page=0x12 pfn=0x12 order=2 migratetype=1 \
percpu_refill=1
"""


def repeated(text: str, times: int) -> str:
    """The text again and again, each time ten seconds later."""
    return "".join(re.sub(r"\b2054\.", f"{2054 + 10 * k}.", text) for k in range(times))


def read(tmp_path: Path, text: str | bytes, name: str = "t.txt") -> Trace:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_text(path)


def test_perf(tmp_path: Path) -> None:
    trace = read(tmp_path, PERF)
    assert trace.kind.tolist() == [0, 1, 2, 5, 4, 3]
    assert trace.pfn.tolist() == [0x2FBC31, 0x10, 0x10, 0x270C00, 0x11, 0x12]
    assert trace.order.tolist() == [0, 3, 0, 8, 0, 2]
    assert trace.migratetype.tolist() == [1, -1, -1, 0, 2, 1]
    assert trace.cpu.tolist() == [1, 0, 0, 0, 0, 0]
    assert trace.time_ns.tolist() == [0, 1, 100000001, 127868952, 227868952, 227868952]
    assert [trace.comms[k] for k in trace.comm] == ["perf", *["perf-exec"] * 2, *["bash"] * 3]
    assert trace.gfps[trace.gfp[0]] == GFP_HIGHUSER_MOVABLE | COMP
    assert trace.ext[["event", "alloc_order", "fallback_order", "alloc_mt", "fallback_mt"]].tolist() == [
        (3, 2, 8, 0, 1)
    ]
    assert (trace.cpus, trace.lost, trace.kernel) == (2, 0, "")


LINE = "{who} [002] {flags}{time}: {event}: {fields}\n"
FREE = "page=0x10 pfn=0x10 order=1"


@pytest.mark.parametrize(
    ("who", "comm"),
    [
        ("bash-19060  ", "bash"), ("kworker/0:0-9774   ", "kworker/0:0"), ("Web Content 4711", "Web Content"),
        ("kworker/u8:2-ev 77", "kworker/u8:2-ev"), ("a-b-c-12", "a-b-c"), ("perf 29154/29154", "perf"),
        ("x[1] y 5", "x[1] y"), ("<...>-17", "<...>"), ("  swapper     0", "swapper"), ("a 1 b-3", "a 1 b"),
        ("bash-19060   (  19060)", "bash"), ("tm:[001] 1.5: x-9", "tm:[001] 1.5: x"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("flags", ["", "..... ", "d..3. ", "dNh1. "])
@pytest.mark.parametrize("event", ["mm_page_free", "kmem:mm_page_free"])
def test_commands(tmp_path: Path, who: str, comm: str, flags: str, event: str) -> None:
    text = LINE.format(who=who, flags=flags, time="12.000001", event=event, fields=FREE)
    trace = read(tmp_path, text)
    assert trace.comms == (comm,)
    assert (trace.pfn[0], trace.order[0], trace.cpu[0]) == (16, 1, 2)


ALLOC = "order=2 migratetype=0 gfp_flags=none"


@pytest.mark.parametrize(
    ("fields", "pfn"),
    [
        (f"page=0x99 pfn=0x99 {ALLOC}", 0x99), (f"page=00000000fb220a8e pfn=99 {ALLOC}", 99),
        (f"page=(nil) pfn=0x0 {ALLOC}", 0xFFFFFFFF), (f"page=(null) pfn=0 {ALLOC}", 0xFFFFFFFF),
        (f"page=0000000000000000 pfn=0x0 {ALLOC}", 0xFFFFFFFF), (f"pfn=-1 {ALLOC}", 0xFFFFFFFF),
        (f"pfn=0xffffffffffffffff {ALLOC}", 0xFFFFFFFF), (f"pfn=18446744073709551615 {ALLOC}", -1),
        ("pfn=0x99 (153) order=0x2 (2) gfp_flags=0x0 (0) migratetype=0x0 (0)", 0x99),
        ("pfn=0x99 order=2 gfp_flags=0x0 migratetype=0", 0x99), (f"page=(____ptrval____) pfn=7 {ALLOC}", 7),
    ],
)  # fmt: skip
def test_frames(tmp_path: Path, fields: str, pfn: int) -> None:
    text = LINE.format(who="a-1", flags="", time="1.5", event="mm_page_alloc", fields=fields)
    if pfn < 0:
        with pytest.raises(ValueError, match="line 1"):
            read(tmp_path, text)
        return
    trace = read(tmp_path, text)
    assert (trace.pfn[0], trace.order[0], trace.migratetype[0], trace.gfps[trace.gfp[0]]) == (pfn, 2, 0, 0)


def test_unknown_gfp_bits_and_windows_lines(tmp_path: Path) -> None:
    text = PERF.replace("__GFP_COMP", "__GFP_COMP|0x2000000").replace("\n", "\r\n")
    trace = read(tmp_path, text)
    assert trace.gfps[trace.gfp[0]] == GFP_HIGHUSER_MOVABLE | COMP | 0x2000000
    assert trace.order.tolist() == [0, 3, 0, 8, 0, 2]


def test_lost_events_are_counted(tmp_path: Path) -> None:
    text = (
        "# entries-in-buffer/entries-written: 10/17   #P:2\n\ncpus=2\n"
        + PERF
        + "CPU:1 [LOST 3 EVENTS]\n"
        + "swapper     0 [000]  2054.9: PERF_RECORD_LOST lost 20\n"
        + "CPU 1 [100 EVENTS DROPPED]\n"
    )
    trace = read(tmp_path, text)
    assert trace.lost == 7 + 3 + 20 + 100
    assert len(trace) == 6


def test_other_events_are_counted(tmp_path: Path) -> None:
    other = "  bash 5 [000] 2055.5:  sched:sched_switch: prev_comm=bash\n"
    trace = read(tmp_path, repeated(PERF + other, 3))
    assert trace.provenance["other_events"] == 3
    assert len(trace) == 18
    assert (np.diff(trace.time_ns.astype(np.int64)) >= 0).all()


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("utter nonsense", "not understood"),
        ("a-1 [000] 1.5: mm_page_free: order=1", "pfn"),
        ("a-1 [000] 1.5: mm_page_free: page=0x1 pfn=zebra order=1", "not understood"),
        ("a-1 [000] 1.5: mm_page_free: page=0x1 pfn=0x1", "order"),
        ("a-1 [000] 1.5: mm_page_free: page=0x1 pfn=0x1 order=77", "order"),
        ("a-1 [000] 1.5: mm_page_free: page=0x1 pfn=0xffffffffffff order=1", "pfn"),
        ("a-1 [000] 1.5: mm_page_alloc: page=0x1 pfn=0x1 order=1 migratetype=1", "missing"),
        (
            "a-1 [000] 1.5: mm_page_alloc: page=0x1 pfn=0x1 order=1 migratetype=1 gfp_flags=GFP_WRONG",
            "GFP_WRONG",
        ),
        (
            "a-1 [000] 1.5: mm_page_alloc: page=0x1 pfn=0x1 order=1 migratetype=500 gfp_flags=none",
            "migratetype",
        ),
        ("a-1 [300] 1.5: mm_page_free: page=0x1 pfn=0x1 order=1", "cpu"),
        ("[000] 1.5: mm_page_free: page=0x1 pfn=0x1 order=1", "missing"),
        ("a-1 [000] 1.5: mm_page_free page=0x1 pfn=0x1 order=1", "not understood"),
        ("a-1 1.5: mm_page_free: page=0x1 pfn=0x1 order=1", "not understood"),
        ("a-1 [000] 1.5: mm_page_free: page=0x1 pfn=0x1 order=1 junk", "not understood"),
        ("a-1 [000] 1.5: mm_page_free: page=0x1 pf", "not understood"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, named: str) -> None:
    with pytest.raises(ValueError, match=rf"t\.txt: line 7: .*{named}"):
        read(tmp_path, PERF + line + "\n" + PERF)
    with pytest.raises(ValueError, match=rf"t\.txt: line 7: .*{named}"):
        read(tmp_path, PERF + line)
    with pytest.raises(ValueError, match=rf"t\.txt: line 1: .*{named}"):
        read(tmp_path, line)


def test_without_events(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no kmem:mm_page events in 1 lines"):
        read(tmp_path, "# tracer: nop\n")
    (tmp_path / "empty").write_bytes(b"")
    for path in (tmp_path / "empty", tmp_path / "missing", tmp_path):
        with pytest.raises(ValueError, match=str(path)):
            load_trace(path)


def test_foreign_binaries(tmp_path: Path) -> None:
    for content, named in (
        (b"PERFILE2" + bytes(100), "perf script"),
        (b"\x17\x08Dtracing6", "trace-cmd report"),
        (b"\x7fELF" + bytes(99), "ELF"),
        (b"\xffELF" + bytes(99), "neither text nor a form that is known"),
        (b"x" * (1 << 20), "longer than"),
    ):
        with pytest.raises(ValueError, match=named):
            read(tmp_path, content)


def test_archives(tmp_path: Path) -> None:
    text = repeated(PERF, 2000).encode()
    plain = read(tmp_path, text)
    for packed in (lzma.compress(text), gzip.compress(text)):
        trace = read(tmp_path, packed)
        np.testing.assert_array_equal(trace.pfn, plain.pfn)
        with pytest.raises(ValueError, match=r"t\.txt"):
            read(tmp_path, packed[: len(packed) // 2])


def test_lines_across_chunks(tmp_path: Path) -> None:
    """Many chunks, one bad line far down: the number is right."""
    text = repeated(PERF, 9000)
    trace = read(tmp_path, text)
    assert len(trace) == 6 * 9000
    assert len(trace.ext) == 9000
    assert trace.ext["event"].tolist() == list(range(3, 54000, 6))
    with pytest.raises(ValueError, match="line 54001"):
        read(tmp_path, text + "x\n" + PERF)
    write_trace(trace, tmp_path / "t.trace")
    np.testing.assert_array_equal(load_trace(tmp_path / "t.trace").time_ns, trace.time_ns)


SHARED = Path(os.environ.get("ASI_PA_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "traces"


@pytest.mark.skipif(not SHARED.is_dir(), reason="no recorded samples at hand")
def test_samples_agree() -> None:
    """trace-cmd and ftrace recorded the same run: what both print is the same."""
    read = {path.name: load_trace(path) for path in SHARED.glob("samples/*30k*")}
    assert {len(trace) for trace in read.values()} == {29988, 29999, 30000}
    ftrace, report = read["ftrace_trace_30k.txt.xz"], read["trace-cmd_report_t_30k.txt.xz"]
    for name in ("kind", "pfn", "order", "cpu", "migratetype"):
        np.testing.assert_array_equal(getattr(ftrace, name), getattr(report, name)[: len(ftrace)])
    assert [ftrace.gfps[k] for k in ftrace.gfp] == [report.gfps[k] for k in report.gfp[: len(ftrace)]]
    assert [ftrace.comms[k] for k in ftrace.comm] == [report.comms[k] for k in report.comm[: len(ftrace)]]
    small = [load_trace(path) for path in SHARED.glob("samples/*.txt") if "hex.txt" not in path.name]
    assert len(small) == 7
    with pytest.raises(ValueError, match="line 13"):
        load_trace(SHARED / "samples" / "ftrace_trace_opt_hex.txt")
