"""A start state alone: taken, written, read, shown, started from, and refused where events are needed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import asi_pa
from asi_pa import cli
from asi_pa.trace import describe, describe_text, load_events, load_trace, read_trace, write_trace
from asi_pa.trace.frames import KPF_NOPAGE
from asi_pa.trace.record import start_state
from tests.trace.events import make_trace

_PAGESET = "    cpu: {cpu}\n      count: {count}\n      high: 60\n      batch: 15\n  vm stats threshold: 4\n"
ZONEINFO = (
    """\
Node 0, zone   Normal
  pages free     3064
        min      32
        low      48
        high     64
        spanned  4096
        present  4096
        managed  4096
        protection: (0, 0, 0, 0)
  pagesets
"""
    + _PAGESET.format(cpu=0, count=3)
    + _PAGESET.format(cpu=1, count=2)
    + "  node_unreclaimable:  0\n  start_pfn:           4096\n"
)
PAGETYPEINFO = """\
Page block order: 9
Pages per block:  512

Number of blocks type     Unmovable      Movable  Reclaimable   HighAtomic      Isolate
Node 0, zone   Normal            0            8            0            0            0
"""
#: Bits of /proc/kpageflags.
LRU, SLAB, BUDDY = 1 << 5, 1 << 7, 1 << 10


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A machine of 16 MiB: a block of page cache, one of it and slab, then 8 bare frames, the rest free."""
    folder = tmp_path / "proc"
    folder.mkdir()
    (folder / "zoneinfo").write_text(ZONEINFO)
    (folder / "buddyinfo").write_text("Node 0, zone   Normal 0 0 0 1 1 1 1 1 1 1 2\n")
    (folder / "pagetypeinfo").write_text(PAGETYPEINFO)
    flags = np.zeros(8192, np.uint64)
    flags[4096:4864], flags[4864:5120], flags[5128:] = LRU, SLAB, BUDDY
    (folder / "kpageflags").write_bytes(flags.tobytes())
    return folder


@pytest.fixture
def taken(proc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The file that the command writes."""
    path = tmp_path / "now.trace"
    assert cli.main(["snapshot", str(path), "--proc", str(proc)]) == 0
    assert capsys.readouterr().out == f"{path}: the state of 8,192 frames, {path.stat().st_size} bytes\n"
    return path


def test_it_is_read_back_and_shown(taken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = load_trace(taken)
    assert (len(trace), trace.has_start, trace.cpus, trace.pageblock_order) == (0, True, 2, 9)
    assert trace.migratetypes == ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "Isolate")
    about = describe(trace)
    (zone,) = about["zones"]
    assert (zone["zone"], zone["managed"], zone["watermarks"]) == ("Normal", 4096, [32, 48, 64])
    assert zone["free"] == [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2]
    assert (zone["free_pages"], zone["free_pages_recorded"]) == (3064, 3064)
    # 5 of the 8 pages without a flag are on the two CPUs' lists, as zoneinfo counts them.
    assert (zone["pcp_pages"], zone["pcp_pages_not_located"], zone["held_pages"]) == (5, 0, 1024 + 3)
    assert zone["unusable_index"][:5] == [0, 0, 0, 0, 2]
    assert zone["mixed"] == 1
    assert zone["pageblocks_recorded"]["Movable"] == 8
    assert cli.main(["info", str(taken)]) == 0
    assert capsys.readouterr().out == describe_text(about) + "\n"
    shown = [line.split() for line in describe_text(about).splitlines()]
    assert ["free", "blocks", *"00011111112"] in shown
    assert ["unusable", *map(str, zone["unusable_index"])] in shown
    assert shown[-1][:4] == ["mixed", "1", "pageblocks", "hold"]
    out = taken.with_name("about.json")
    assert cli.main(["info", str(taken), "--json", str(out)]) == 0
    assert json.loads(out.read_text()) == [about]


@pytest.mark.parametrize("recorded", [False, True])
def test_a_machine_starts_from_it(taken: Path, recorded: bool) -> None:
    compiled = asi_pa.compile_trace(taken, recorded=recorded)
    assert len(compiled.ops) == 0
    (population,) = compiled.population
    assert (population.free_pages, population.pcp_pages, population.held_pages) == (3064, 5, 1027)
    made = asi_pa.Allocator.from_trace(str(taken), recorded=recorded)
    assert made.zone_state(0)["managed"] == 4096
    assert made.zone_state(0)["nr_free_pages"] == 3064
    assert made.alloc_pages(10) > 0


@pytest.mark.parametrize(
    "words", [("compare",), ("validate",), ("pressure",), ("explain", "0"), ("convert", "out.csv")]
)
def test_what_needs_events_refuses_it_in_one_line(
    taken: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(taken.parent)
    assert cli.main([words[0], str(taken), *words[1:]]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"asi-pa: error: {taken}: a start state alone, without events")
    assert err.count("\n") == 1
    assert not (taken.parent / "out.csv").exists()


def test_functions_refuse_it_too(proc: Path) -> None:
    trace = start_state("here", description="at rest", proc=str(proc))
    for function in (asi_pa.compare, asi_pa.validate, asi_pa.replay, load_events):
        with pytest.raises(ValueError, match="trace here: a start state alone"):
            function(trace)
    assert describe_text(describe(trace)).startswith("start state   here: at rest\n")


def test_a_file_with_neither_events_nor_a_start_state_is_refused(taken: Path, tmp_path: Path) -> None:
    whole = read_trace(taken)
    path = tmp_path / "less.trace"
    for less in (
        make_trace([]),
        replace(whole, kpageflags={}),
        replace(whole, snapshots={"buddyinfo_start": whole.snapshots["buddyinfo_start"]}),
    ):
        write_trace(less, path)
        with pytest.raises(ValueError, match=r"less\.trace: a trace without events, and no start state"):
            read_trace(path)
    empty = whole.snapshots["zones_start"][0] | {"managed": 0}
    write_trace(replace(whole, snapshots=whole.snapshots | {"zones_start": [empty]}), path)
    with pytest.raises(ValueError, match="without a populated zone"):
        load_trace(path)
    write_trace(replace(whole, kpageflags={"start": np.zeros(5000, np.uint8)}), path)
    with pytest.raises(ValueError, match="kpageflags end at frame 5000"):
        asi_pa.compile_trace(path)


def test_what_cannot_be_taken_is_named(
    proc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (proc / "kpageflags").unlink()
    assert cli.main(["snapshot", str(tmp_path / "x.trace"), "--proc", str(proc)]) == 2
    assert "kpageflags: No such file or directory (recording needs root)" in capsys.readouterr().err
    (proc / "zoneinfo").write_text(ZONEINFO.replace("managed  4096", "managed  0"))
    (proc / "kpageflags").write_bytes(b"")
    assert cli.main(["snapshot", str(tmp_path / "x.trace"), "--proc", str(proc)]) == 2
    assert "no zone with memory" in capsys.readouterr().err
    assert not (tmp_path / "x.trace").exists()


@pytest.mark.parametrize("nopage", [0, 1 << 20], ids=["as in 7.2", "as in 6.12"])
def test_what_is_offline_is_a_hole(proc: Path, nopage: int) -> None:
    """What kpageflags says of frames without a struct page: KPF_NOPAGE, since 7.2 nothing."""
    size = 1 << 15
    text = ZONEINFO.replace("spanned  4096", f"spanned  {4 * size}").replace(
        "present  4096", f"present  {3 * size}"
    )
    (proc / "zoneinfo").write_text(text.replace("start_pfn:           4096", f"start_pfn:           {size}"))
    flags = np.full(5 * size, BUDDY, np.uint64)
    flags[3 * size : 4 * size] = nopage
    flags[2 * size : 2 * size + 700] = 0
    (proc / "kpageflags").write_bytes(flags.tobytes())
    kpf = start_state("here", proc=str(proc)).kpf("start")
    assert kpf is not None
    assert (kpf[3 * size : 4 * size] == KPF_NOPAGE).all()
    assert (kpf == KPF_NOPAGE).sum() == size
    # a zone that lacks nothing: pages that nothing is said of
    (proc / "zoneinfo").write_text(text.replace(f"present  {3 * size}", f"present  {4 * size}"))
    kpf = start_state("here", proc=str(proc)).kpf("start")
    assert kpf is not None
    assert (kpf[3 * size : 4 * size] == KPF_NOPAGE).all() == bool(nopage)
