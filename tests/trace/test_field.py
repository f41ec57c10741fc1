"""Inputs as people have them (tests/data/field, a folder a case), and others of their kinds."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("asi_pa.trace.scanner", reason="the extension modules are not built")

from asi_pa import cli
from asi_pa.kernel import procfs
from asi_pa.trace import load_trace
from asi_pa.trace.memory import describe_memory

FIELD = Path(__file__).parents[1] / "data" / "field"
NO_REPAIRS = {
    "alloc_of_allocated": 0,
    "free_of_free_dropped": 0,
    "free_of_other_order": 0,
    "partial_frees": 0,
}

Capture = pytest.CaptureFixture[str]


def case(number: str) -> Path:
    (folder,) = FIELD.glob(f"{number}-*")
    return folder


def info(tmp_path: Path, *paths: str | Path) -> list[dict[str, Any]]:
    about = tmp_path / "about.json"
    assert cli.main(["info", "--json", str(about), *map(str, paths)]) == 0
    return list(json.loads(about.read_text()))


def one(tmp_path: Path, *paths: str | Path) -> dict[str, Any]:
    (about,) = info(tmp_path, *paths)
    return about


def words(capsys: Capture, *paths: str | Path) -> str:
    assert cli.main(["info", *map(str, paths)]) == 0
    return capsys.readouterr().out


def refused(capsys: Capture, *command: str | Path) -> str:
    """The one line of a command that must be refused."""
    assert cli.main([str(word) for word in command]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("asi-pa: error: ")
    assert err.count("\n") == 1
    assert len(err) < 600
    return err


def counts(about: dict[str, Any]) -> tuple[int, int, int]:
    return about["events"]["alloc"], about["events"]["free"], about["lifetimes"]["end_pages"]


def text(tmp_path: Path, content: str | bytes, name: str = "t.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


HEAD = "   app-5     [000] ..... "
ALLOC = HEAD + "10.000001: mm_page_alloc: page=00000000a1b2c3d4 pfn=0x8100 order=0 migratetype=0 "
FREE = HEAD + "12.000001: mm_page_free: page=00000000a1b2c3d4 pfn=0x8100 order=0\n"
PAIR = ALLOC + "gfp_flags=GFP_KERNEL\n" + FREE


# ---------------------------------------------------------------- silent wrong answers


def test_every_page_is_zero(tmp_path: Path) -> None:
    about = one(tmp_path, case("01") / "hitrace.txt")
    assert (about["allocations"]["total"], about["allocations"]["pages"], about["allocations"]["failed"]) == (
        4,
        525,
        1,
    )
    lives = about["lifetimes"]
    assert (lives["held_at_start_pages"], lives["peak_pages"], lives["end_pages"]) == (0, 13, 4)
    assert about["events"]["free"] == 2


@pytest.mark.parametrize("page", ["0000000000000000", "(null)", "(nil)", "0x0"])
@pytest.mark.parametrize(
    ("pfn", "failed"), [("0", 1), ("0x0", 1), ("-1", 1), ("0xffffffffffffffff", 1), ("0x8100", 0)]
)
def test_null_pages(tmp_path: Path, page: str, pfn: str, failed: int) -> None:
    line = (
        ALLOC.replace("page=00000000a1b2c3d4 pfn=0x8100", f"page={page} pfn={pfn}") + "gfp_flags=GFP_KERNEL\n"
    )
    assert one(tmp_path, text(tmp_path, line))["allocations"]["failed"] == failed


def test_pipes(tmp_path: Path) -> None:
    """A named pipe, process substitution and standard input, written line by line, plain and packed."""
    content = gzip.decompress((case("02") / "big.txt.gz").read_bytes())
    plain = one(tmp_path, text(tmp_path, content))
    assert (sum(plain["events"].values()), *counts(plain)) == (3000, 1628, 1372, 465)
    assert plain["lifetimes"]["held_at_start_pages"] == 0
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def write(packed: bytes, piece: int) -> None:
        with open(fifo, "wb", buffering=0) as out:
            for at in range(0, len(packed), piece):
                out.write(packed[at : at + piece])

    for packed, piece in (
        (content, 97), (content, 1 << 20), (gzip.compress(content), 5), (lzma.compress(content), 1000),
        (bz2.compress(content), 1000),
    ):  # fmt: skip
        writer = threading.Thread(target=write, args=(packed, piece))
        writer.start()
        about = one(tmp_path, fifo)
        writer.join()
        for key in ("events", "allocations", "lifetimes", "seconds", "lost"):
            assert about[key] == plain[key]


def test_standard_input(tmp_path: Path) -> None:
    content = gzip.decompress((case("02") / "big.txt.gz").read_bytes())
    for name in ("-", "/dev/stdin"):
        done = subprocess.run(
            [sys.executable, "-m", "asi_pa", "info", name], input=content, capture_output=True, check=True
        )
        assert b"3,000 events, lost: 0\n" in done.stdout
    path = text(tmp_path, content)
    with path.open("rb") as file:
        made = subprocess.run(
            [sys.executable, "-m", "asi_pa", "convert", "-", str(tmp_path / "a.trace")],
            stdin=file,
            check=True,
        )
    assert made.returncode == 0
    assert len(load_trace(tmp_path / "a.trace")) == 3000


def test_a_trace_file_through_a_pipe(tmp_path: Path) -> None:
    assert cli.main(["convert", str(case("22") / "rt.txt"), str(tmp_path / "a.trace")]) == 0
    packed = text(tmp_path, lzma.compress((tmp_path / "a.trace").read_bytes()), "a.trace.xz")
    assert counts(one(tmp_path, packed)) == (3, 2, 1)


def test_pieces_of_one_recording(tmp_path: Path) -> None:
    folder = case("03")
    pieces = [folder / "cpu0.txt", folder / "cpu1.txt"]
    whole = text(tmp_path, b"".join(piece.read_bytes() for piece in pieces))
    made = tmp_path / "a.trace"
    assert cli.main(["convert", *map(str, pieces), str(made)]) == 0
    for given in ([whole], pieces, pieces[::-1], [f"{pieces[0]}+{pieces[1]}"], [made]):
        about = one(tmp_path, *given)
        assert counts(about) == (4, 4, 0)
        assert about["lifetimes"]["peak_pages"] == 7
        assert {key: about["lifetimes"][key] for key in NO_REPAIRS} == NO_REPAIRS
        assert about["seconds"] == pytest.approx(3.3999)
    assert one(tmp_path, whole)["provenance"]["time_steps_back"] == 1
    # two recordings of the same CPU are two
    assert len(info(tmp_path, pieces[0], pieces[0])) == 2


def test_a_text_on_its_head_and_one_that_cannot_be_ordered(tmp_path: Path, capsys: Capture) -> None:
    lines = gzip.decompress((case("02") / "big.txt.gz").read_bytes()).splitlines(keepends=True)
    plain = one(tmp_path, text(tmp_path, b"".join(lines)))
    about = one(tmp_path, text(tmp_path, b"".join(reversed(lines))))
    assert about["lifetimes"] == plain["lifetimes"]
    assert about["provenance"]["time_steps_back"] == 2999
    twice = text(tmp_path, b"".join(lines + lines))
    assert re.search(
        r"t\.txt: line 300\d: time runs backwards, and 3000 times", refused(capsys, "info", twice)
    )


# ---------------------------------------------------------------- what the recorders say


@pytest.mark.parametrize("name", ["trace.txt", "report.txt"])
def test_losses_without_a_number(tmp_path: Path, capsys: Capture, name: str) -> None:
    about = one(tmp_path, case("04") / name)
    assert (*counts(about), about["lost"], about["provenance"]["lost_places"]) == (1, 1, 0, 1, 1)
    assert "lost: at least 1 (an unknown number in 1 place)" in words(capsys, case("04") / name)


@pytest.mark.parametrize(("name", "stacks"), [("perf.txt", 5), ("ftrace.txt", 6), ("report.txt", 3)])
def test_call_stacks(tmp_path: Path, name: str, stacks: int) -> None:
    about = one(tmp_path, case("05") / name)
    assert (*counts(about), about["provenance"]["stack_lines"]) == (1, 1, 0, stacks)


def test_a_command_that_looks_like_an_address(tmp_path: Path) -> None:
    line = "    cafe 6429 [000] 22.5: kmem:mm_page_free: page=0x1 pfn=0x1 order=0\n"
    other = "    beef 6429 [000] 22.6: sched:sched_wakeup: comm=x\n"
    about = one(tmp_path, text(tmp_path, line + other + line.replace("22.5", "22.7")))
    assert (about["events"]["free"], about["provenance"]["other_events"]) == (2, 1)
    assert "stack_lines" not in about["provenance"]


def test_remarks_of_the_tools(tmp_path: Path) -> None:
    report, perf = info(tmp_path, case("06") / "report.txt"), info(tmp_path, case("06") / "perf.txt")
    for (about,), lost in ((report, 0), (perf, 3)):
        assert (*counts(about), about["cpus"], about["lost"]) == (1, 1, 0, 3, lost)


def test_event_names_before_3_3(tmp_path: Path) -> None:
    assert counts(one(tmp_path, case("07") / "direct.txt")) == (1, 1, 0)
    line = FREE.replace("mm_page_free:", "mm_pagevec_free:").replace("order=0", "order=0 cold=0")
    assert counts(one(tmp_path, text(tmp_path, ALLOC + "gfp_flags=GFP_KERNEL\n" + line))) == (1, 1, 0)


# ---------------------------------------------------------------- gfp masks


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("g1", "__GFP_HIGH|__GFP_COMP"), ("g2", "GFP_KERNEL|__GFP_RECLAIMABLE"), ("g3", "GFP_KERNEL"),
        ("g4", "GFP_HIGHUSER_MOVABLE"), ("g5", "GFP_NOFS|__GFP_RETRY_MAYFAIL"),
        ("g6", "GFP_KERNEL|__GFP_ZERO"), ("g7", "GFP_NOFS"),
        ("g8", "GFP_HIGHUSER_MOVABLE|__GFP_ZERO"), ("g9", "GFP_HIGHUSER_MOVABLE"),
    ],
)  # fmt: skip
def test_names_of_other_kernels(tmp_path: Path, name: str, means: str) -> None:
    about = one(tmp_path, case("08") / f"{name}.txt")
    assert counts(about) == (1, 1, 0)
    assert list(about["allocations"]["by_gfp"]) == [means]


@pytest.mark.parametrize(
    ("mask", "type_", "says"),
    [
        ("0xcc0", 0, None), ("3264", 0, None), ("0x100cca", 1, None), ("0xcd0", 2, None), ("0x2800", 0, None),
        ("0xd0", 0, "2.6.32 to 4.3"), ("0x200da", 1, "2.6.32 to 4.3"), ("0x24200ca", 1, "4.4 to 4.12"),
        ("0x14000c0", 0, "4.13 and 4.14"), ("0x6200ca", 1, "4.15 to 5.0"), ("GFP_KERNEL", 1, "migratetype= "
                                                                                             "is not"),
        ("GFP_KERNEL|__GFP_RECLAIMABLE", 1, "migratetype= is not"), ("0xcc0", 2, "migratetype= is not"),
        ("GFP_KERNEL|0x80000", 0, "another kernel"), ("GFP_KERNEL|0x2000000", 0, None),
        ("GFP_KERNEL|__GFP_WHATEVER", 0, "unknown gfp flag '__GFP_WHATEVER'"), ("GFP_KERNEL|", 0, "unknown "
                                                                                                  "gfp flag "
                                                                                                  "''"),
    ],
)  # fmt: skip
def test_masks_are_believed_or_refused_at_once(
    tmp_path: Path, capsys: Capture, mask: str, type_: int, says: str | None
) -> None:
    line = ALLOC.replace("migratetype=0", f"migratetype={type_}") + f"gfp_flags={mask}\n"
    path = text(tmp_path, PAIR + line.replace("10.0", "13.0") + FREE + "nonsense that comes later\n")
    if says is None:
        assert "line 5" in refused(capsys, "info", path)
    else:
        message = refused(capsys, "info", path)
        assert "t.txt: line 3: " in message
        assert says in message


def test_mobility_grouping_off(tmp_path: Path, capsys: Capture) -> None:
    """Every event says Unmovable, whatever its mask: named.  Where another event knows better: refused."""
    movable = ALLOC + "gfp_flags=GFP_HIGHUSER_MOVABLE\n"
    path = text(tmp_path, PAIR + movable.replace("10.0", "13.0") + FREE.replace("12.0", "14.0"))
    assert one(tmp_path, path)["provenance"]["mobility_grouping"] == "off"
    assert "grouping is off" in words(capsys, path)
    typed = movable.replace("10.0", "15.0").replace("migratetype=0", "migratetype=1")
    text(tmp_path, path.read_text() + typed)
    assert "line 3: migratetype= is not what the gfp mask asks for" in refused(capsys, "info", path)


# ---------------------------------------------------------------- limits


def test_limits_are_named(tmp_path: Path, capsys: Capture) -> None:
    assert "turin.txt: line 3: cpu number above 255" in refused(capsys, "info", case("10") / "turin.txt")
    for name, order in (("arm64-64k", 13), ("arm64-16k", 11)):
        for verb in (["info"], ["compare", "--memory", "4G", "--designs", "linux", "--quiet"]):
            message = refused(capsys, *verb, case("11") / f"{name}.txt")
            assert "line 2: order above 10: the model is one of 4 KiB pages with orders 0 to 10" in message
            assert f"order={order}" in message
    assert "pages         taken as 4 KiB" in words(capsys, text(tmp_path, PAIR))


# ---------------------------------------------------------------- other events, neighbouring forms


@pytest.mark.parametrize(("name", "others"), [("marker", 1), ("vendor", 2), ("openat", 1)])
def test_other_events_that_mention_ours(tmp_path: Path, name: str, others: int) -> None:
    about = one(tmp_path, case("13") / f"{name}.txt")
    assert (*counts(about), about["provenance"]["other_events"]) == (1, 1, 0, others)


@pytest.mark.parametrize(
    "line",
    [
        "  sh-7 [001] ..... 11.0: tracing_mark_write: app-5 [000] ..... 10.0: mm_page_free: pfn=1 order=0\n",
        "  sh-7 [001] ..... 11.0: bprint: f: [LOST 7 EVENTS]\n", "sh 7 [001] 11.0: vendor:mm_page_free: "
                                                                 "what=1\n",
        "sh 7 [001] 11.0: sched:sched_switch: prev_comm=x [120] R ==> next_comm=y:7 [120]\n",
        "  sh-7 [001] ..... 11.0: do_sys_open <-__x64_sys_openat\n",
    ],
)  # fmt: skip
def test_an_event_is_ours_by_its_name(tmp_path: Path, line: str) -> None:
    about = one(tmp_path, text(tmp_path, ALLOC + "gfp_flags=GFP_KERNEL\n" + line + FREE))
    assert (*counts(about), about["provenance"]["other_events"], about["lost"]) == (1, 1, 0, 1, 0)


@pytest.mark.parametrize("damage", ["pfn=0x81", "order=", "mm_page_free", "[000]", "10.0", ": page"])
def test_a_damaged_line_of_ours_is_an_error(tmp_path: Path, capsys: Capture, damage: str) -> None:
    line = FREE.replace("12.0", "10.0").replace(damage, "", 1)
    assert "t.txt: line 3: " in refused(capsys, "info", text(tmp_path, PAIR + line + PAIR))


@pytest.mark.parametrize(("name", "made"), [("period", (1, 0, 1)), ("tsdiff", (1, 1, 0))])
def test_readable_neighbours(tmp_path: Path, name: str, made: tuple[int, int, int]) -> None:
    assert counts(one(tmp_path, case("14") / f"{name}.txt")) == made


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("perftrace", "line 1: not understood (perf trace output: use perf record"),
        ("latency", "line 4: not understood (latency format: `echo 0 > options/latency-format`"),
        (
            "tsc",
            "line 2: not understood (times are ticks (trace_clock x86-tsc or counter): record with `echo "
            "mono",
        ),
        ("lttng", "line 1: not understood (LTTng's text"),
    ],
)
def test_neighbouring_forms_are_named(capsys: Capture, name: str, says: str) -> None:
    assert f"{name}.txt: {says}" in refused(capsys, "info", case("14") / f"{name}.txt")


# ---------------------------------------------------------------- encodings, containers


@pytest.mark.parametrize("name", ["bom", "utf16", "bom-first-line", "mail", "grep"])
def test_texts_that_went_through_other_hands(tmp_path: Path, name: str) -> None:
    about = one(tmp_path, case("17") / f"{name}.txt")
    assert counts(about) == (1, 1, 0)
    assert list(about["allocations"]["by_comm"]) == ["app"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    about = one(tmp_path, text(tmp_path, PAIR.replace("\n", "\r\n").encode(encoding)))
    assert (*counts(about), list(about["allocations"]["by_comm"])) == (1, 1, 0, ["app"])


@pytest.mark.parametrize("prefix", ["> ", ">> ", "> > ", "7:", "trace.txt:12:", "/tmp/a b:3:"])
def test_prefixes(tmp_path: Path, capsys: Capture, prefix: str) -> None:
    path = text(tmp_path, "".join(prefix + line for line in PAIR.splitlines(keepends=True)))
    if " b" in prefix:  # a name with a space is no prefix that could be told from a command
        with contextlib.suppress(AssertionError):
            assert "app" not in one(tmp_path, path)["allocations"]["by_comm"]
        return
    assert list(one(tmp_path, path)["allocations"]["by_comm"]) == ["app"]
    text(tmp_path, "".join("t.txt:" + line for line in PAIR.splitlines(keepends=True)))
    assert "use grep -h" in refused(capsys, "info", path)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("t.zip", "`unzip -p"), ("t.tgz", "`tar -xOf"), ("systrace.html", "HTML"), ("t.pftrace", "traceconv "
                                                                                                 "systrace"),
        ("s390-perf.data", "perf script"), ("core.json", "JSON"),
    ],
)  # fmt: skip
def test_containers_are_named(capsys: Capture, name: str, says: str) -> None:
    message = refused(capsys, "info", case("18") / name)
    assert f"{name}: " in message
    assert says in message


def test_packed_texts(tmp_path: Path) -> None:
    assert counts(one(tmp_path, case("18") / "t.bz2")) == (1, 1, 0)
    pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "zstandard")
    assert counts(one(tmp_path, case("18") / "t.zst")) == (1, 1, 0)
    shutil.copy(case("18") / "t.zst", tmp_path / "no-ending")
    assert counts(one(tmp_path, tmp_path / "no-ending")) == (1, 1, 0)


def test_zstd_without_its_package(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    assert "`zstd -dc FILE | asi-pa info -`" in refused(capsys, "info", case("18") / "t.zst")


# ---------------------------------------------------------------- texts about memory


def test_an_oom_report(tmp_path: Path, capsys: Capture) -> None:
    about = one(tmp_path, case("19") / "oom.txt")
    (zone,) = about["zones"]
    assert (zone["free_pages"], zone["blocks"]) == (9082, 2908)
    assert zone["unusable_index"] == [0, 133, 316, 545, 774, 897, 943, 957, 971, 1000, 1000]
    assert zone["extfrag_index"] == [-1000] * 9 + [994, 997]
    shown = [line.split() for line in words(capsys, case("19") / "oom.txt").splitlines()]
    for name, key in (("unusable", "unusable_index"), ("extfrag", "extfrag_index")):
        assert [name, *map(str, zone[key])] in shown
    message = refused(capsys, "compare", case("19") / "oom.txt")
    assert "Mem-Info of an OOM report" in message
    damaged = (case("19") / "oom.txt").read_text().replace("830*8kB", "831*8kB")
    assert "line 7: the lists do not add up" in refused(capsys, "info", text(tmp_path, damaged))


def test_an_oom_report_of_64k_pages() -> None:
    line = "Node 0 Normal: 2*64kB (U) 0*128kB 1*256kB (C) = 384kB\n"
    about = describe_memory("x", "Nov 28 12:00:00 box kernel: [  1.5] Mem-Info:\n" + line)
    assert about["page_kb"] == 64
    assert about["zones"][0]["free"] == [2, 0, 1]


def test_proc_texts(tmp_path: Path) -> None:
    buddy = one(tmp_path, case("20") / "buddyinfo.txt")
    assert [(zone["zone"], zone["free"][10]) for zone in buddy["zones"]] == [("DMA", 2), ("Normal", 203)]
    (types,) = one(tmp_path, case("20") / "pagetypeinfo.txt")["zones"]
    assert list(types["pageblocks"].values()) == [33, 959, 32, 0, 0]
    assert list(types["mixed_pageblocks"].values()) == [6, 71, 3, 0, 0]
    lines = (
        "Node 0, zone   Normal",
        "  pages free     2954",
        "        min      512",
        "        protection: (0, 0)",
    )
    zones = one(tmp_path, text(tmp_path, "\n".join(lines) + "\n"))["zones"]
    assert zones == [{"node": 0, "zone": "Normal", "pages": {"free": 2954, "min": 512}}]
    owner = "Page allocated via order 3, mask 0xd20c0(GFP_KERNEL), pid 1, tgid 1 (x), ts 5 ns\n"
    owner += "PFN 4096 type Unmovable Block 8 type\n"
    assert one(tmp_path, text(tmp_path, owner * 2))["counts"] == {
        "allocations": 2,
        "pages": 16,
        "by_order": {"3": 2},
        "by_type": {"Unmovable": 2},
        "by_gfp": {"GFP_KERNEL": 2},
    }


def test_pagetypeinfo_with_page_owner() -> None:
    content = (case("20") / "pagetypeinfo.txt").read_text()
    types = procfs.parse_pagetypeinfo(content)
    assert (tuple(types.zones[0].blocks), types.zones[0].mixed) == ((33, 959, 32, 0, 0), (6, 71, 3, 0, 0))
    assert procfs.parse_pagetypeinfo(procfs.pagetypeinfo(types)) == types
    with pytest.raises(ValueError, match="line 14: other types"):
        procfs.parse_pagetypeinfo(content.replace("mixed blocks    Unmovable", "mixed blocks    Unmoved"))


def test_zoneinfo_of_4_9() -> None:
    with pytest.raises(ValueError, match="line 9: not a line of zoneinfo"):
        procfs.parse_zoneinfo((case("21") / "zoneinfo.txt").read_text())


# ---------------------------------------------------------------- what was right and stays so


def test_patched_fields_and_long_flags(tmp_path: Path) -> None:
    about = one(tmp_path, case("22") / "rt.txt")
    assert counts(about) == (3, 2, 1)
    assert set(about["allocations"]["by_comm"]) == {"<...>", "kworker/u16:3+ev", "irq/123-eth0-rx-0"}
    assert "GFP_HIGHUSER|__GFP_ZERO" in about["allocations"]["by_gfp"]


def test_cut_in_the_middle(capsys: Capture) -> None:
    message = refused(capsys, "info", case("25") / "cut.txt")
    assert "cut.txt: line 3: " in message
    assert "the recording was cut off" in message


# ---------------------------------------------------------------- comparisons


@pytest.mark.parametrize("name", ["only-free", "only-failed"])
def test_no_verdict_without_evidence(capsys: Capture, name: str) -> None:
    """Nothing was allocated: no claim was put to the test."""
    command = ["compare", str(case("26") / f"{name}.txt"), "--memory", "256M", "--quiet", "--no-cache"]
    assert cli.main(command) == 0
    out = capsys.readouterr().out
    assert "1 untested, 2 untested, 3 untested, 4 untested" in out
    assert "holds" not in out


def test_pieces_are_compared_as_one(tmp_path: Path) -> None:
    about = tmp_path / "r.json"
    pieces = [str(case("03") / f"cpu{k}.txt") for k in range(2)]
    how = ["--memory", "64M", "--designs", "linux", "--quiet", "--no-cache", "--json", str(about)]
    assert cli.main(["compare", *pieces, *how]) == 0
    traces = {run["trace"] for run in json.loads(about.read_text())["runs"]}
    assert traces == {"cpu0+cpu1"}


def test_what_comes_through_a_pipe_is_known_by_more_than_its_first_bytes(
    tmp_path: Path, capsys: Capture
) -> None:
    """A tar's magic stands at 257, a text about memory may begin with anything."""
    tar = gzip.decompress((case("18") / "t.tgz").read_bytes())
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for content, says in ((tar, "tar archive"), ((case("18") / "systrace.html").read_bytes(), "HTML")):
        writer = threading.Thread(target=fifo.write_bytes, args=(content,))
        writer.start()
        assert says in refused(capsys, "info", fifo)
        writer.join()
    writer = threading.Thread(target=fifo.write_bytes, args=((case("19") / "oom.txt").read_bytes(),))
    writer.start()
    assert "Mem-Info" in words(capsys, fifo)
    writer.join()
