"""Neighbours of the field's inputs: one option, one tool or one accident away from what tests/data/field has.

Each is read and counted, or refused in one line that names the line or the form and what helps.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("asi_pa.trace.scanner", reason="the extension modules are not built")

from asi_pa import cli, compile_trace, load_trace
from tests.trace.test_field import FREE, PAIR, Capture, counts, one, refused, text, words

#: As perf script prints the same two events.
PERF = "".join(
    line.replace("   app-5     [000] ..... ", "app     5/5     [000] ").replace("mm_page", "kmem:mm_page")
    for line in PAIR.splitlines(keepends=True)
)
LATER = PAIR.replace(" 10.0", " 20.0").replace(" 12.0", " 22.0")


def between(line: str) -> str:
    return PAIR.replace("\n", f"\n{line}\n", 1)


def with_(old: str, new: str, content: str = PAIR) -> str:
    assert old in content
    return content.replace(old, new)


#: name -> content of what is read as the two events that it is, and nothing lost
READ: dict[str, str] = {
    "perf": PERF,
    "perf --header": "# ========\n# os release : 6.18\n# event : name = kmem:mm_page_alloc, id = { 1 }\n#\n"
    + PERF,
    "perf -F +period": with_(": kmem", ":          1 kmem", PERF),
    "perf -F +cgroup": with_("[000]", "[000] /user.slice", PERF),
    "perf --reltime": with_("10.000001", "0.000000", with_("12.000001", "2.000000", PERF)),
    "perf record, interrupted": "^C[ perf record: Woken up 1 times to write data ]\n" + PERF,
    "perf's warnings": "Warning:\n1 out of order events recorded.\nFound 2 unknown events!\n\n"
    "Is this an older tool processing a perf.data\n" + PERF,
    "tabs": with_("   app-5     [000] ..... ", "\tapp-5\t[000]\t.....\t", with_(" pfn", "\tpfn")),
    "perf, tabs": with_("     ", "\t", PERF),
    "trailing spaces": with_("\n", "   \t \n"),
    "trace-cmd": "cpus=4\n" + with_(".....", "   "),
    "trace-cmd, version": "version = 7\ncpus=4\n" + with_(".....", "   "),
    "tgid": with_("app-5     [", "app-5     (      5) ["),
    "no tgid": with_("app-5     [", "app-5     (-----) ["),
    "four flags": with_(".....", "d..2"),
    "no flags": with_(".....", ""),
    "preempt-rt flags": with_(".....", "d..h2.1"),
    "buffer started": between("##### CPU 2 buffer started ####"),
    "two dumps": "# tracer: nop\n#\n" + PAIR,
    "function": "   app-5     [000] ..... 9.0: __alloc_pages <-alloc_pages_mpol\n" + PAIR,
    "fields in another order": with_(
        "pfn=0x8100 order=0 migratetype=0 gfp_flags=GFP_KERNEL",
        "gfp_flags=GFP_KERNEL migratetype=0 order=0 pfn=0x8100",
    ),
    "decimal pfn": with_("pfn=0x8100", "pfn=33024"),
    "trace-cmd -R": with_("GFP_KERNEL", "0xcc0"),
    "no migratetype": with_(" migratetype=0", ""),
    "bpftrace": "Attaching 2 probes...\n" + PAIR,
    "markdown": "```text\n" + PAIR + "```\n",
    "html": "<pre>\n" + PAIR + "</pre>\n",
    "blank lines": "\n\n" + PAIR + "\n\n\n",
    "crlf": with_("\n", "\r\n"),
}

#: content -> part of the line that refuses it
REFUSED: dict[str, tuple[str | bytes, str]] = {
    "ip, sym": (
        with_("order=0\n", "order=0 ffffffff8123e32e __free+0x1 ([k])\n"),
        "line 2: a field is missing or not "
        "understood ('ffffffff8123e32e' is no KEY=VALUE: print it with `perf script",
    ),
    "no cpu": (with_("[000] ", "", PERF), "no [CPU] before the time"),
    "no comm": (
        with_("app     5/5     ", "", PERF),
        "line 1: COMM-PID or COMM PID before the [CPU] is missing",
    ),
    "no tid": (with_("     5/5 ", "", PERF), "line 1: COMM-PID or COMM PID before the [CPU] is missing"),
    "--deltatime": (with_(" 12.0", " +2.0", PERF), "line 2: not understood (times are differences"),
    "a date": (with_(" 12.0", " 2026-11-28 10:00:02.0", PERF), "times of day"),
    "a guest": (with_("app  ", "VM:1 app  ", PERF), "line 1: a guest's event"),
    "csv": ("comm,tid,cpu,time,event,trace\n" + PERF, "line 1: not understood (CSV"),
    "several files": (
        "host: " + with_("   app-5     [000] ..... 12", "guest:    app-5     [000] ..... 12"),
        "a name before every command",
    ),
    "verbose": (
        "     app     5 0 0 00000000 00000000 [000a0e5a] 10000.001ms (+0.0ms): mm_page_alloc\n",
        "options/verbose",
    ),
    "function_graph": (" 0)   1.5 us    |  }\n" + PAIR, "line 1: not understood (function_graph's output"),
    "lttng, seconds": ("[1732790591.1] (+0.000001) box kmem_mm_page_alloc: { cpu_id = 0 }\n", "LTTng"),
    "lttng, colours": (
        "\x1b[32m[14:03:11.1]\x1b[0m (+?.?) box kmem_mm_page_alloc: { cpu_id = 0 }\n",
        "LTTng",
    ),
    "ticks": (with_("10.000001", "10000001"), "times are ticks"),
    "comma": (with_("10.000001", "10,000001"), "line 1: not understood (a time with a comma"),
    "thousands": (with_("10.000001", "1,010.000001"), "line 1: not understood (a time with a comma"),
    "below zero": (with_("10.000001", "-1.000001"), "line 1: not understood"),
    "no fraction": (with_("10.000001", "10."), "line 1: not understood"),
    "500 years": (with_("10.000001", "99999999999.0"), "line 1: time beyond 500 years"),
    "carriage returns": (with_("\n", "\r"), "its lines end with a carriage return alone"),
    "cut in a name": (
        with_("\n", "\n", FREE + PAIR.split("\n")[0][:-4]),
        "line 2: unknown gfp flag 'GFP_KE'",
    ),
    "cut in a field": (PAIR[:-4], "line 2: a field is missing or not understood ('orde' is no KEY=VALUE"),
    "order=11": (with_("order=0", "order=11"), "line 1: order above 10"),
    "order=-1": (
        with_("order=0", "order=-1"),
        "line 1: a field is missing or not understood ('order=-1' is no whole",
    ),
    "order=": (with_("order=0", "order="), "'order=' is no whole number"),
    "order=1e3": (with_("order=0", "order=1e3"), "'order=1e3' is no whole number"),
    "order=2^67": (with_("order=0", "order=99999999999999999999"), "is no whole number"),
    "order twice": (with_("order=0", "order=0 order=3"), "order= stands there twice"),
    "pfn twice": (with_("order=0", "pfn=0x9999 order=0"), "pfn= stands there twice"),
    "no gfp": (with_(" gfp_flags=GFP_KERNEL", ""), "gfp_flags= is missing"),
    "gfp, spaces": (with_("GFP_KERNEL", "GFP_KERNEL | __GFP_ZERO"), "'|' is no KEY=VALUE"),
    "gfp, 33 bits": (with_("GFP_KERNEL", "0x1ffffffff"), "line 1: unknown gfp flag '0x1ffffffff'"),
    "pfn, 33 bits": (
        with_("0x8100", "0x100000000"),
        "line 1: pfn above 0xfffffffe: the model ends at 16 TiB",
    ),
    "pfn, comma": (with_("0x8100", "33,024"), "'pfn=33,024' is no whole number"),
    "pfn, bare hex": (with_("0x8100", "81fa"), "'pfn=81fa' is no whole number"),
    "pfn of a free": (
        with_(
            "12.000001: mm_page_free: page=00000000a1b2c3d4 pfn=0x8100",
            "12.000001: mm_page_free: page=00000000a1b2c3d4 pfn=-1",
        ),
        "line 2: no usable pfn",
    ),
    "cpu 4095": (with_("[000]", "[4095]"), "line 1: cpu number above 255"),
    "cpu -1": (with_("[000]", "[-1]"), "line 1: not understood"),
    "a log": (
        "".join(f"Nov 28 12:00:00 box bash[77]: {line}\n" for line in PAIR.splitlines()),
        "line 1: a log's prefix before the command",
    ),
    "a log, iso": (
        "".join(f"2026-11-28T12:00:00+00:00 box bash: {line}\n" for line in PAIR.splitlines()),
        "line 1: a log's prefix before the command",
    ),
    "dmesg": (
        "".join(f"[   12.345678] {line}\n" for line in PAIR.splitlines()),
        "line 1: a kernel message's time",
    ),
    "html": (with_("app", "&lt;idle&gt;"), "line 1: HTML's way of writing a character"),
    "a new line in a command": (with_("app", "a\nb"), "line 1: not understood: 'a'"),
    "losses without end": (between("CPU:3 [LOST 99999999999999999999999 EVENTS]"), "line 2: not understood"),
    "zeros at the end": (PAIR.encode() + bytes(4096), "zero bytes in a text"),
    "a long line": (PAIR + "x" * 70000 + "\n", "line 3: "),
    "gzip twice": (gzip.compress(gzip.compress(PAIR.encode())), "packed twice"),
    "xz in gzip": (gzip.compress(lzma.compress(PAIR.encode())), "packed twice"),
    "gzip, cut": (gzip.compress(PAIR.encode())[:-9], "damaged archive"),
    "gzip, more": (gzip.compress(PAIR.encode()) + b"garbage", "damaged archive"),
    "gzip of nothing": (gzip.compress(b""), "empty file"),
    "xz, cut": (lzma.compress(PAIR.encode())[:-12], "damaged archive"),
    "bzip2, cut": (bz2.compress(PAIR.encode())[:-8], "damaged archive"),
    "lzma": (lzma.compress(PAIR.encode(), format=lzma.FORMAT_ALONE), "xz -dc FILE"),
    "pickle": (pickle.dumps({"a": 1}), "a pickle"),
    "npy": (b"\x93NUMPY\x01\x00v\x00{'descr': '<u4'}" + b" " * 90, "one NumPy array"),
    "trace.dat.gz": (gzip.compress(b"\x17\x08\x44tracing7\0\0\x08" + bytes(64)), "trace-cmd report -t"),
    "no file": (b"", "empty file"),
    "no line": ("\n\n", "no kmem:mm_page events in 2 lines"),
    "json": ("[1,2,3]", "line 1: not understood"),
}

#: A line about losses -> (events lost, places without a number)
LOSSES = {
    "CPU:1 [LOST 3 EVENTS]": (3, 0),
    "CPU 1 [3 EVENTS DROPPED]": (3, 0),
    "[LOST 1 EVENT]": (1, 0),
    "CPU:0 [EVENTS DROPPED]": (0, 1),
    "CPU:1 LOST 7 events": (7, 0),
    "Lost 7 events": (7, 0),
    "Possibly lost 7 events": (7, 0),
    "*** LOST 7 EVENTS ***": (7, 0),
    "Warning: 3 events lost": (3, 0),
    "WARNING: 12 samples were dropped": (12, 0),
    "3 out of 40 events were discarded for this reason.": (3, 0),
    "PERF_RECORD_LOST_SAMPLES lost 7": (7, 0),
    "app 5 [000] 11.0: PERF_RECORD_LOST lost 7": (7, 0),
    "Processed 100 samples and lost 20.00%!": (0, 1),
    "Processed 100 events and lost 3 chunks!": (0, 3),
}

COMMANDS = (
    "a b c",
    "a:b",
    "a[0]",
    "[000]",
    "(sd-pam)",
    "a (b) c",
    "<...>",
    "",
    "5",
    "-5",
    "a-5",
    "x=1",
    "#x",
    "a%b",
    "é",
    "a\tb",
    "mm_page_alloc:",
    "kworker/u16:3+ev",
)


@pytest.mark.parametrize("name", READ)
def test_what_is_read(tmp_path: Path, name: str) -> None:
    about = one(tmp_path, text(tmp_path, READ[name]))
    assert (*counts(about), about["lost"], list(about["allocations"]["by_comm"])) == (1, 1, 0, 0, ["app"])
    assert list(about["allocations"]["by_gfp"]) == ["GFP_KERNEL"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(tmp_path: Path, capsys: Capture, name: str) -> None:
    content, says = REFUSED[name]
    message = refused(capsys, "info", text(tmp_path, content))
    assert "t.txt: " in message
    assert says in message


@pytest.mark.parametrize("line", LOSSES)
def test_losses(tmp_path: Path, line: str) -> None:
    about = one(tmp_path, text(tmp_path, between(line)))
    lost, places = LOSSES[line]
    assert (about["lost"], about["provenance"].get("lost_places", 0)) == (lost + places, places)
    assert counts(about) == (1, 1, 0)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(tmp_path: Path, command: str) -> None:
    """A command without a name made the scanner read far beyond its line."""
    for content in (PAIR, PERF):
        about = one(tmp_path, text(tmp_path, content.replace("app", command)))
        assert (*counts(about), list(about["allocations"]["by_comm"])) == (1, 1, 0, [command])


def test_a_command_of_any_bytes(tmp_path: Path) -> None:
    """Not even one that begins like UTF-16."""
    about = one(tmp_path, text(tmp_path, PERF.encode().replace(b"app", b"\xff\xfe")))
    assert list(about["allocations"]["by_comm"]) == ["\\xff\\xfe"]


@pytest.mark.parametrize(
    ("page", "fails"),
    [
        ("(nil)", 1),
        ("null", 1),
        ("NULL", 1),
        ("0", 1),
        ("(____ptrval____)", 0),
        ("(efault)", 0),
        ("ffffea0", 0),
    ],
)
def test_words_for_no_page(tmp_path: Path, page: str, fails: int) -> None:
    old = "page=00000000a1b2c3d4 pfn=0x8100 order=0 migratetype"
    line = PAIR.split("\n")[0].replace(old, f"page={page} pfn=0 order=0 migratetype") + "\n"
    assert one(tmp_path, text(tmp_path, line))["allocations"]["failed"] == fails


@pytest.mark.parametrize(
    ("digits", "seconds"),
    [("12.1", 2.1), ("12.000000001", 2.000000001), ("12.12345", 2.12345)],
)
def test_digits_of_times(tmp_path: Path, digits: str, seconds: float) -> None:
    content = with_("12.000001", digits, with_("10.000001", "10.000000000"))
    assert one(tmp_path, text(tmp_path, content))["seconds"] == pytest.approx(seconds, abs=1e-10)


def test_packed_pieces_one_after_the_other(tmp_path: Path) -> None:
    for pack in (gzip.compress, lzma.compress, bz2.compress):
        about = one(tmp_path, text(tmp_path, pack(PAIR.encode()) + pack(LATER.encode())))
        assert counts(about) == (2, 2, 0)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="the standard library's zstd")
def test_zstd_frames(tmp_path: Path, capsys: Capture) -> None:
    """Frames in a row, one that is passed over, and one that is cut off: zstandard's reader takes that for
    the end."""
    compressor = pytest.importorskip("zstandard").ZstdCompressor()
    first, second = compressor.compress(PAIR.encode()), compressor.compress(LATER.encode())
    for content in (first + second, b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + first + second):
        assert counts(one(tmp_path, text(tmp_path, content))) == (2, 2, 0)
    much = compressor.compress("".join(with_("0x8100", hex(pfn)) for pfn in range(1, 9000)).encode())
    for content in (first[:-9], first + second[:-9], much[: len(much) // 2]):
        assert "damaged archive (ended before the end of a zstd frame)" in refused(
            capsys, "info", text(tmp_path, content)
        )


def test_a_last_line_without_end_is_said(tmp_path: Path, capsys: Capture) -> None:
    """An order of 10 of which the 0 was lost is an order of 1."""
    path = text(tmp_path, PAIR[:-1])
    assert one(tmp_path, path)["provenance"]["last_line_without_end"] is True
    assert "the last line has no end" in words(capsys, path)
    assert "last_line_without_end" not in one(tmp_path, text(tmp_path, PAIR))["provenance"]


def test_prefixes_are_told_when_they_are_met(tmp_path: Path, capsys: Capture) -> None:
    """Not after the last line, which may be 40 GB away."""
    content = "t.txt:" + PAIR.replace("\n", " x=" + "y" * 60000 + "\n") * 40 + "nonsense\n"
    assert "line 1: a file's name before the command" in refused(capsys, "info", text(tmp_path, content))
    content = (
        content.replace("t.txt:", "", 1) + "t.txt:" + PAIR
    )  # not in the first of the pieces it is read in
    content = content.replace("nonsense\n", "")
    assert "line 81: a file's name before the command" in refused(capsys, "info", text(tmp_path, content))


@pytest.mark.parametrize("place", [".", "/dev/null"])
def test_what_is_no_file(capsys: Capture, place: str) -> None:
    assert f"{place}: " in refused(capsys, "info", place)


def test_what_was_read_is_written_and_read_again(tmp_path: Path) -> None:
    """Whatever number of losses a text claims."""
    path = text(tmp_path, between("\n".join(["CPU:3 [LOST 999999999999999999 EVENTS]"] * 9)))
    assert cli.main(["convert", str(path), str(tmp_path / "t.trace")]) == 0
    assert one(tmp_path, tmp_path / "t.trace")["lost"] == 1 << 62
    assert np.iinfo(np.int64).max > 1 << 62


def test_a_frame_that_does_not_fit_its_order_is_read_and_not_replayed(tmp_path: Path) -> None:
    trace = load_trace(text(tmp_path, with_("order=0", "order=10")))
    assert trace.pfn[0] & 1023
    with pytest.raises(ValueError, match="event 0: impossible pfn not aligned to its order"):
        compile_trace(trace)
