"""An exact start state: read out of a kernel's memory by the drgn script, read here, and started from."""

from __future__ import annotations

import base64
import gzip
import importlib.util
import json
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import asi_pa
from asi_pa import cli
from asi_pa.experiment import build
from asi_pa.kernel.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NAMES
from asi_pa.kernel.procfs import parse_buddyinfo
from asi_pa.trace import describe, load_trace, read_trace, write_trace
from asi_pa.trace.events import ALLOC, FREE
from asi_pa.trace.exact import begin_with, read_exact
from asi_pa.trace.format import EVENT_COLUMNS, Trace
from asi_pa.verify.dump import DumpShape, ZoneState, take_apart

SCRIPT = Path(__file__).resolve().parents[2] / "contrib" / "start_state.py"
BUDDY, LRU, ANON, SLAB, HEAD, TAIL, _TABLE, NONE = (1 << bit for bit in range(8))
NAMES = ["Unmovable", "Movable", "Reclaimable", "HighAtomic", "Isolate"]


def used(seed: int = 0) -> asi_pa.Allocator:
    """An allocator that has been used: lists of many blocks, in an order that no address gives."""
    rng = np.random.default_rng(seed)
    made = asi_pa.Allocator("64M", single_zone=True, cpus=2)
    masks = ("GFP_KERNEL", "GFP_HIGHUSER_MOVABLE", "GFP_KERNEL|__GFP_RECLAIMABLE")
    held: list[tuple[int, int]] = []
    for _ in range(6000):
        if len(held) > 40 and rng.random() < 0.47:
            pfn, order = held.pop(int(rng.integers(len(held))))
            made.free_pages(pfn, order, cpu=int(rng.integers(2)))
        else:
            order = int(rng.choice([0, 0, 0, 1, 2, 3, 5]))
            pfn = made.alloc_pages(order, masks[int(rng.integers(3))], cpu=int(rng.integers(2)))
            held.append((pfn, order))
    return made


def zone_of(allocator: asi_pa.Allocator) -> ZoneState:
    """Its lists, taken apart."""
    zone = allocator.spec.zones[0]
    shape = DumpShape(
        start_pfn=zone.start_pfn, spanned=zone.spanned, pageblock_order=9, max_page_order=10,
        cpus=allocator.spec.cpus, design=allocator.design,
    )  # fmt: skip
    return take_apart(allocator.machine.dump(0), shape)


def state_of(allocator: asi_pa.Allocator) -> dict[str, Any]:
    """What the script would have written of it."""
    zone, state = allocator.spec.zones[0], zone_of(allocator)
    start, end = zone.start_pfn, zone.end_pfn
    frames = np.zeros(end, np.uint8)
    frames[:start] = NONE
    free = [
        [0, mt, order, (row + start).tolist()]
        for order, rows in enumerate(state.lists)
        for mt, row in enumerate(rows)
        if len(row)
    ]
    pcp = []
    for cpu, part in enumerate(state.cpus):
        for index, row in enumerate(part.lists):
            order, mt = divmod(index, 3) if index < 12 else (9, index - 12)
            if len(row):
                pcp.append([0, cpu, mt, order, (row + start).tolist()])
    held = np.ones(end - start, bool)
    for rows in (free, [[0, mt, order, pfns] for _, _, mt, order, pfns in pcp]):
        for _, _, order, pfns in rows:
            for pfn in pfns:
                held[pfn - start : pfn - start + (1 << order)] = False
                if rows is free:
                    frames[pfn : pfn + (1 << order)] = BUDDY
    kinds = np.array([LRU, LRU | ANON, SLAB, 0], np.uint8)
    frames[start:][held] = kinds[np.arange(int(held.sum())) % 4]
    compound = np.flatnonzero(
        held[::4].repeat(4) & held[1::4].repeat(4) & held[2::4].repeat(4) & held[3::4].repeat(4)
    )
    for frame in compound[::4][:8]:
        frames[start + frame : start + frame + 4] = [LRU | HEAD, *([LRU | TAIL] * 3)]
    blocks = [1] * (start >> 9) + state.blocks.tolist()
    marks = dict(zip(("min", "low", "high", "promo"), zone.wmark, strict=True))
    return {
        "schema": "asi_pa.start/1", "kernel": "Linux 7.2.13", "cpus": 2, "page_size": 4096,
        "pageblock_order": 9, "max_page_order": 10, "migratetypes": NAMES,
        "zones": [{
            "name": "Normal", "nid": 0, "start_pfn": start, "spanned": zone.spanned, "present": zone.spanned,
            "managed": zone.spanned, "free": allocator.zone_state(0)["nr_free_pages"], "boost": 0, **marks,
            "protection": [0, 0, 0, 0],
            "cpus": [{name: part.fields[name] for name in ("count", "high", "batch", "high_min", "high_max")}
                     for part in state.cpus],
        }],
        "free": free, "pcp": pcp, "blocks": blocks,
        "frames": base64.b64encode(zlib.compress(frames.tobytes(), 6)).decode(), "torn": [],
    }  # fmt: skip


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    return state_of(used())


def text(state: dict[str, Any]) -> bytes:
    return json.dumps(state, separators=(",", ":")).encode()


def test_a_machine_starts_with_these_very_lists(
    state: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, stored = tmp_path / "state.json.gz", tmp_path / "state.trace"
    path.write_bytes(gzip.compress(text(state)))
    assert cli.main(["convert", str(path), str(stored)]) == 0
    capsys.readouterr()
    was = zone_of(used())
    for source in (path, stored):
        made = asi_pa.Allocator.from_trace(str(source), recorded=True)
        now = zone_of(made)
        assert [[row.tolist() for row in rows] for rows in now.lists] == [
            [row.tolist() for row in rows] for rows in was.lists
        ]
        assert now.blocks.tolist() == was.blocks.tolist()
        assert [[row.tolist() for row in cpu.lists] for cpu in now.cpus] == [
            [row.tolist() for row in cpu.lists] for cpu in was.cpus
        ]
        assert [cpu.fields["high"] for cpu in now.cpus] == [cpu.fields["high"] for cpu in was.cpus]
        assert made.verify() is None
    # without what is exact the order is only by address
    assert any(row.tolist() != sorted(row.tolist()) for rows in was.lists for row in rows)
    (zone,) = describe(load_trace(path))["zones"]
    assert zone["free"] == [sum(len(row) for row in rows) for rows in was.lists]
    assert cli.main(["info", str(stored)]) == 0
    assert "lists in order, per-CPU lists and types of pageblocks as they were" in capsys.readouterr().out


def test_any_size_can_be_cut_out_of_it(state: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(text(state))
    compiled = asi_pa.compile_trace(str(path), memory="40M")
    assert compiled.memory_bytes == 40 << 20
    assert compiled.population[0].free_pages > 0


def test_blocks_of_unlike_types_stay_apart(state: dict[str, Any], tmp_path: Path) -> None:
    """A reserve's free block beside a movable one: one block to whoever knows frames only."""
    start = state["zones"][0]["start_pfn"]
    frames = np.full(start + 2048, NONE, np.uint8)
    frames[start:] = BUDDY
    zone = state["zones"][0] | {"spanned": 2048, "managed": 2048, "present": 2048, "free": 2048}
    small = state | {
        "zones": [zone], "pcp": [], "frames": base64.b64encode(zlib.compress(frames.tobytes())).decode(),
        "free": [[0, 1, 9, [start]], [0, 3, 9, [start + 512]], [0, 1, 10, [start + 1024]]],
        "blocks": [1] * (start >> 9) + [1, 3, 1, 1],
    }  # fmt: skip
    trace = read_exact(text(small), "x")
    write_trace(trace, tmp_path / "x.trace")
    again = read_trace(tmp_path / "x.trace")
    assert again.exact is not None
    assert again.exact.free_type.tolist() == [1, 3, 1]
    compiled = asi_pa.compile_trace(again, recorded=True)
    assert compiled.population[0].free_order.tolist() == [9, 9, 10]
    assert compiled.initial["Normal"]["blocks_recorded"]["HighAtomic"] == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": "asi_pa.start/2"}, "schema is 'asi_pa.start/2'"),
        ({"frames": "eJw="}, "frames"),
        ({"frames": "!"}, "frames: damaged"),
        ({"blocks": []}, "0 block types, the zones end at frame"),
        ({"blocks": [7]}, "type beyond the 5 migratetypes"),
        ({"free": [[0, 1, 0, [1048576]], [0, 1, 1, [1048576]]]}, "frame 1048576 is on two lists"),
        ({"free": [[0, 1, 3, [1048577]]]}, "pfn 1048577, order 3 is on a list and no block of a zone"),
        ({"free": [[0, 1, 3, [8]]]}, "pfn 8, order 3"),
        ({"free": [[0, 9, 3, [1048576]]]}, r"free\[0\]: type is 9"),
        ({"pcp": [[0, 2, 0, 0, [1048576]]]}, r"pcp\[0\]: cpu is 2"),
        ({"zones": []}, "zones is"),
    ],
)
def test_what_contradicts_itself_is_refused(
    state: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        read_exact(text(state | change), "state.json")


# ---------------------------------------------------------------- events after it


def recording(start: Trace, lost: bool = False) -> tuple[Trace, list[int]]:
    """What the machine did, as a recording begun a little earlier: pages of a CPU's list taken and freed.

    One event lies before the state was taken.  ``lost``: the allocation of the first page is missing.
    """
    exact = start.exact
    assert exact is not None
    single = exact.pcp_order == 0
    kind = 3 * exact.pcp_cpu.astype(np.int64) + exact.pcp_type
    most = int(np.bincount(kind[single]).argmax())
    pages = exact.pcp_pfn[single & (kind == most)][:4].tolist()
    free = [pages[2], pages[0]]
    taken = [*([] if lost else pages[:1]), *pages[1:]]
    kinds = [FREE] + [ALLOC] * len(taken) + [FREE] * len(free)
    columns: dict[str, Any] = {name: np.zeros(len(kinds), dtype) for name, dtype in EVENT_COLUMNS.items()}
    columns["kind"] = np.array(kinds, np.uint8)
    columns["pfn"] = np.array([pages[0], *taken, *free], np.uint32)
    columns["cpu"][:], columns["migratetype"][:] = divmod(most, 3)
    columns["time_ns"] = np.arange(len(kinds), dtype=np.uint64) * np.uint64(1000) + np.uint64(500)
    snapshots = {"buddyinfo_end": {"text": "", "trace_ns": [9000, 9500]}, "zones_end": []}
    mask = (GFP_KERNEL, GFP_HIGHUSER_MOVABLE, GFP_KERNEL | GFP_NAMES["__GFP_RECLAIMABLE"])[most % 3]
    columns["gfp"][:] = 1
    gfps, comms = (0, mask), ("sh",)
    return replace(
        start, **columns, name="it", gfps=gfps, comms=comms, exact=None, snapshots=snapshots
    ), pages


def test_events_begin_with_it(state: dict[str, Any]) -> None:
    start = read_exact(text(state), "state.json")
    trace, pages = recording(start)
    made = begin_with(trace, start, 1000)
    assert len(made) == len(trace) - 1
    assert made.time_ns.tolist() == [500 + 1000 * k for k in range(len(made))]
    assert made.snapshots["buddyinfo_end"]["trace_ns"] == [8000, 8500]
    zone = zone_of(used())
    (row,) = parse_buddyinfo(made.snapshots["buddyinfo_start"]["text"])
    assert list(row.free) == [sum(len(part) for part in parts) for parts in zone.lists]
    compiled = asi_pa.compile_trace(made, recorded=True)
    machine, run, _ = build(compiled, asi_pa.DESIGNS["linux"], None)
    assert run.run_and_see(compiled.ops).tolist() == pages
    assert (run.failures, run.skipped) == (0, 0)
    assert machine.verify() is None


def test_a_free_without_its_allocation_finds_nothing(state: dict[str, Any]) -> None:
    """The state is believed: what it has on a list was not held, whatever the events begin with."""
    start = read_exact(text(state), "state.json")
    trace, pages = recording(start, lost=True)
    compiled = asi_pa.compile_trace(begin_with(trace, start, 1000), recorded=True)
    machine, run, _ = build(compiled, asi_pa.DESIGNS["linux"], None)
    assert run.run_and_see(compiled.ops).tolist() == pages[:3]
    assert (run.failures, run.skipped) == (0, 1)
    assert machine.verify() is None


def test_states_of_other_machines_are_refused(state: dict[str, Any]) -> None:
    start = read_exact(text(state), "state.json")
    trace, _ = recording(start)
    for other, words in (
        (replace(start, cpus=3), "state.json: cpus 3, of state.json it is 2"),
        (replace(start, migratetypes=("Unmovable",)), "migratetypes"),
        (trace, "no exact start state alone"),
    ):
        with pytest.raises(ValueError, match=words):
            begin_with(trace, other, 1000)


# ---------------------------------------------------------------- the script


def script() -> Any:
    """contrib/start_state.py as a module."""
    spec = importlib.util.spec_from_file_location("start_state", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def image(state: dict[str, Any], request: pytest.FixtureRequest) -> Any:
    pytest.importorskip("drgn", reason="drgn is not installed")
    from tests.trace.kernel_image import Image

    return Image(state, request.param)


@pytest.mark.parametrize("image", [False, True], ids=["as in 6.12", "as in 7.2"], indirect=True)
def test_the_script_reads_all_of_it_out_of_a_kernels_memory(state: dict[str, Any], image: Any) -> None:
    found = script().take(image.prog)
    for key, value in state.items():
        assert found[key] == value, key
    assert found.keys() == state.keys()


@pytest.mark.parametrize("image", [True], ids=["as in 7.2"], indirect=True)
def test_a_list_that_does_not_hold_together_is_named(
    state: dict[str, Any], image: Any, tmp_path: Path
) -> None:
    """As on a running kernel: a page of the list is somewhere else by the time its link is read."""
    _, mt, order, pfns = max(state["free"], key=lambda row: len(row[3]))
    at = (pfns[1] - image.first) * 64 + 8
    kept = bytes(image.pages[at : at + 16])
    image.pages[at : at + 16] = bytes(16)
    out = tmp_path / "torn.json"
    script().main(image.prog, [str(out)])
    image.pages[at : at + 16] = kept
    found = json.loads(out.read_text())
    assert found["torn"] == [f"zone 0: free list of order {order}, {NAMES[mt]}"]
    assert [0, mt, order, pfns] not in found["free"]
    assert load_trace(out).provenance["torn"] == 1


def test_a_block_met_on_two_lists_is_on_the_later(state: dict[str, Any], tmp_path: Path) -> None:
    """As on a running kernel: pages of a per-CPU list are drained before the free lists are read."""
    (zone, cpu, mt, order, pfns), *_ = state["pcp"]
    free = [[0, 1, 0, [pfns[0] ^ 1]], [0, 1, order + 1, [pfns[-1] & ~1 << order]], [0, 1, 0, []]]
    rows = [[zone, cpu, mt, order, list(pfns)], *free]
    end = state["zones"][0]["start_pfn"] + state["zones"][0]["spanned"]
    taken = {pfns[-1] & ~1 << order, (pfns[-1] & ~1 << order) + 1}
    gone = [pfn for pfn in pfns if pfn in taken]
    assert script().keep_apart(rows, end) == len(gone) + (free[0][3] != [pfns[0] ^ 1])
    assert rows[0][-1] == [pfn for pfn in pfns if pfn not in taken]


@pytest.mark.parametrize("image", [True], ids=["as in 7.2"], indirect=True)
def test_what_was_met_twice_is_told_and_read(
    state: dict[str, Any], image: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    module, out = script(), tmp_path / "twice.json"
    lists = module.pcp_lists
    page = state["free"][0][3][0]

    def before_it_was_freed(*args: Any) -> Any:
        found = list(lists(*args))
        found[0][-1].append(page)
        yield from found

    monkeypatch.setattr(module, "pcp_lists", before_it_was_freed)
    module.main(image.prog, [str(out)])
    assert json.loads(out.read_text())["torn"] == ["2 blocks on two lists"]
    assert capsys.readouterr().out.endswith("; changed while it was read: 2 blocks on two lists\n")
    assert load_trace(out).provenance["torn"] == 1


def test_outside_drgn_it_says_how_it_is_run() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "x.json"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "start_state.py: it runs in drgn: drgn [-c VMCORE -s VMLINUX] contrib/start_state.py OUTPUT\n"
    )


@pytest.mark.parametrize("image", [True], ids=["as in 7.2"], indirect=True)
def test_what_cannot_be_is_one_line(image: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import drgn

    module = script()

    class Torn(module.Kernel):  # type: ignore[misc,name-defined]
        def page(self, pfn: int) -> int:
            return 0x1000

    for prog, out, words, kernel in (
        (
            drgn.Program(drgn.Platform(drgn.Architecture.X86_64)),
            "x.json",
            "no debug information of this very kernel?",
            module.Kernel,
        ),
        (image.prog, "none/x.json", f"{tmp_path}/none/x.json: No such file or directory", module.Kernel),
        (image.prog, "x.json", "cannot be read, is the dump whole?", Torn),
    ):
        module.Kernel = kernel
        with pytest.raises(SystemExit) as ended:
            module.main(prog, [str(tmp_path / out)])
        said = capsys.readouterr().err
        assert ended.value.code == 2
        assert words in said
        assert said.count("\n") == 1
