"""The designs: what each switch of the seed's open TODOs does, and that the sound ones expose nothing."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asi_pa import cli
from asi_pa.audit import Meanwhile, audit
from asi_pa.cli import command_line
from asi_pa.designs import DESIGNS, Design, Freetype, PcpBank, as_design
from asi_pa.designs.describe import describe_design, diff_designs, list_designs
from asi_pa.engine.machine import Machine
from asi_pa.engine.types import Compaction, Flips, Zeroing
from asi_pa.engine.wrappers import Wrapper
from asi_pa.experiment import DEFAULT_DESIGNS, compare, replay
from asi_pa.experiment.metrics import ROWS
from asi_pa.experiment.ranking import breaches
from asi_pa.kernel.gfp import GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NAMES, MODEL_LRU, Migratetype
from asi_pa.kernel.sizing import single_zone
from asi_pa.kernel.spec import MachineSpec, PcpSpec, ZoneSpec
from asi_pa.physmap.physmap import Physmap
from asi_pa.report.results import load_schema
from asi_pa.trace import compile_trace, workload

ROOT = Path(__file__).resolve().parents[2]
BASE = 4096
#: Of the small machines: eight pages a block, two blocks the largest buddy.
ORDER, BLOCK = 3, 8
CTX_RESERVE, CTX_UNRESERVE, CTX_CONTIG = 4, 5, 9
MAP, UNMAP, LEFT_MAPPED = 1, 2, 3

SENSITIVE = GFP_NAMES["__GFP_SENSITIVE"]
KERNEL = GFP_KERNEL
SECRET = GFP_KERNEL | SENSITIVE
USER = GFP_HIGHUSER_MOVABLE | SENSITIVE | MODEL_LRU
ATOMIC = GFP_ATOMIC
SECRET_ATOMIC = GFP_ATOMIC | SENSITIVE

FULL = [name for name, design in DESIGNS.items() if name == design.name]
POSTED = [name for name in FULL if DESIGNS[name].as_posted]
SOUND = [name for name in FULL if name not in POSTED and name != "linux"]


def small(
    design: str | Design, blocks: int = 16, *, log: bool = True, kernel: str = "7.2", **zone: Any
) -> Machine:
    """A zone of a few pageblocks without per-CPU lists, so that every request reaches the buddy lists."""
    spec = MachineSpec(
        zones=(ZoneSpec(start_pfn=BASE, spanned=blocks * BLOCK, **zone),),
        pageblock_order=ORDER,
        max_page_order=ORDER + 1,
        nofragment=False,
        watermark_boost_factor=0,
    )
    machine = Machine(spec, design, kernel)
    if log:
        machine.log_events()
    return machine


def trees(machine: Machine) -> Physmap:
    assert machine.physmap is not None
    return machine.physmap


def events(machine: Machine) -> list[dict[str, Any]]:
    """The event log, its numbers in words."""
    names = [ft.name for ft in machine.design.freetypes]
    return [
        {
            "kind": int(word) & 0xFF,
            "ctx": int(word) >> 8 & 0xFF,
            "old": names[int(word) >> 16 & 0xFF],
            "new": names[int(word) >> 24 & 0xFF],
            "pfn": BASE + int(frame),
            "pages": int(pages),
        }
        for _, word, frame, pages, _ in machine.events()
    ]


def leaks(machine: Machine) -> int:
    stats = machine.stats()
    return int(stats["exposures"] + stats["stale_exposed"] + stats["unflushed"] + stats["absences"])


def sides_agree(machine: Machine, pages: dict[int, bool], order: int = 0) -> None:
    """Every allocated page is present in the tree iff its owner may be seen."""
    for pfn, sensitive in pages.items():
        for page in range(pfn, pfn + (1 << order)):
            assert trees(machine).present(page) == (not sensitive), f"pfn {page}"


def healthy(machine: Machine) -> None:
    assert machine.verify() is None
    assert machine.physmap is None or machine.physmap.check() is None


def take_all(machine: Machine, gfp: int, order: int = 0) -> list[int]:
    got = []
    while (pfn := machine.alloc(order, gfp)) >= 0:
        got.append(pfn)
    return got


# ---------------------------------------------------------------- TODO 1: HIGHATOMIC


def pressed(design: str | Design) -> Machine:
    """A machine of 128 blocks on which only requests with reserves still get anything."""
    return small(design, 128, wmark=(512, 1012, 1016, 1020))


def reserved(machine: Machine) -> list[dict[str, Any]]:
    return [event for event in events(machine) if event["ctx"] == CTX_RESERVE]


@pytest.mark.parametrize("design", ["migratetype/sound", "migratetype/eager", "freetype/sound"])
def test_highatomic_reserves_serve_both_sides(design: str) -> None:
    machine = pressed(design)
    open_page, hidden = machine.alloc(0, KERNEL), machine.alloc(0, SECRET)
    take_all(machine, USER)
    nonsensitive, sensitive = machine.alloc(1, ATOMIC), machine.alloc(1, SECRET_ATOMIC)
    assert min(open_page, hidden, nonsensitive, sensitive) >= 0
    sides_agree(machine, {nonsensitive: False, sensitive: True}, 1)
    sides_agree(machine, {open_page: False, hidden: True})
    kinds = {event["new"] for event in reserved(machine)}
    nons = [machine.design.freetypes[machine.design.freetype(name)] for name in kinds if "Nons" in name]
    if design != "freetype/sound":  # September's log has one number for both sides
        assert [(ft.mt, ft.mapped) for ft in nons] == [(Migratetype.HIGHATOMIC, True)]
    assert machine.stats()["reserves"] >= 1
    assert not [event for event in events(machine) if event["kind"] == LEFT_MAPPED]
    assert leaks(machine) == 0
    healthy(machine)


def test_a_nonsensitive_reserve_is_used_by_nonsensitive_requests_only() -> None:
    machine = pressed("migratetype/sound")
    machine.alloc(0, KERNEL)
    take_all(machine, USER)
    first = machine.alloc(1, ATOMIC)
    (event,) = reserved(machine)
    assert event["new"] == "HighAtomicNons"
    block = range(event["pfn"], event["pfn"] + BLOCK)
    rest = take_all(machine, ATOMIC, 1)
    assert first in block
    assert any(pfn in block for pfn in rest)
    assert not any(pfn in block for pfn in take_all(machine, SECRET_ATOMIC, 1))
    assert leaks(machine) == 0
    healthy(machine)


def test_without_a_reserve_of_its_own_the_nonsensitive_side_has_none() -> None:
    machine = pressed("migratetype/sound:reserves_nonsensitive=no")
    machine.alloc(0, KERNEL)
    take_all(machine, USER)
    machine.alloc(1, ATOMIC)
    assert reserved(machine) == []
    assert leaks(machine) == 0


def test_as_posted_relabels_a_mapped_block() -> None:
    machine = pressed("migratetype/as-posted")
    machine.alloc(0, KERNEL)
    take_all(machine, USER)
    machine.alloc(1, ATOMIC)
    (event,) = reserved(machine)
    assert (event["kind"], event["old"], event["new"]) == (LEFT_MAPPED, "UnmovableNons", "HighAtomic")
    # what is reserved there serves a sensitive request with a page that is mapped
    secrets = take_all(machine, SECRET_ATOMIC, 1)
    assert any(trees(machine).present(pfn) for pfn in secrets)
    assert leaks(machine) > 0


# ---------------------------------------------------------------- TODO 2: zeroing


def used_then_flipped(zeroing: str) -> Machine:
    """Three sensitive pages are freed; then one nonsensitive page has their block flipped."""
    machine = small(f"migratetype/sound:zeroing={zeroing}", 1)
    for pfn in [machine.alloc(0, SECRET) for _ in range(3)]:
        machine.free(pfn, 0)
    assert machine.alloc(0, KERNEL) >= 0
    assert machine.stats()["flips_s2n"] == 1
    healthy(machine)
    return machine


@pytest.mark.parametrize(
    ("zeroing", "zeroed", "locked", "readable"),
    [
        ("locked", BLOCK, BLOCK, 0),
        ("flip", BLOCK, 0, 0),
        ("dirty", 3, 0, 0),
        ("alloc", 1, 0, 3),
        ("none", 0, 0, 3),
    ],
)
def test_zeroing(zeroing: str, zeroed: int, locked: int, readable: int) -> None:
    stats = used_then_flipped(zeroing).stats()
    assert stats["pages_zeroed"] == zeroed
    assert stats["pages_zeroed_locked"] == locked
    assert stats["stale_exposed"] == readable
    assert stats["exposures"] == 0


def test_zeroing_at_allocation_leaves_the_window_open_that_zeroing_at_the_flip_closes() -> None:
    compiled = compile_trace(workload("random", "64M"))
    rows = {
        z: replay(compiled, f"migratetype:zeroing={z}")["metrics"]
        for z in ("locked", "flip", "dirty", "alloc")
    }
    assert [rows[z]["uncleared_pages"] == 0 for z in rows] == [True, True, True, False]
    assert rows["locked"]["bytes_zeroed"] == rows["flip"]["bytes_zeroed"] == rows["flip"]["flips_s2n"] << 21
    assert rows["locked"]["bytes_zeroed_locked"] == rows["locked"]["bytes_zeroed"]
    assert rows["flip"]["bytes_zeroed_locked"] == rows["dirty"]["bytes_zeroed_locked"] == 0
    assert 0 < rows["dirty"]["bytes_zeroed"] <= rows["flip"]["bytes_zeroed"]
    assert rows["alloc"]["bytes_zeroed"] > rows["dirty"]["bytes_zeroed"]


@pytest.mark.parametrize(("zeroing", "windows"), [("locked", 0), ("flip", 2), ("dirty", 2), ("alloc", 0)])
def test_a_claim_that_clears_outside_the_lock_lets_others_act(zeroing: str, windows: int) -> None:
    machine = small(f"migratetype/sound:zeroing={zeroing}", 2)
    seen: list[int] = []
    machine.at_window(lambda at, pfn, order: seen.append(pfn))
    pfn = machine.alloc(0, ATOMIC)
    machine.at_window(None)
    assert seen == [pfn] * windows
    assert trees(machine).present(pfn)


@pytest.mark.parametrize("order", [0, 2, ORDER, ORDER + 1])
@pytest.mark.parametrize("window", [1, 2])
@pytest.mark.parametrize("half", [0, 1])
def test_isolation_of_a_block_that_a_claim_holds_lasts(half: int, window: int, order: int) -> None:
    machine = small("migratetype/sound", 2)
    isolated = BASE + half * BLOCK
    with Meanwhile(machine, window, lambda: machine.isolate(isolated, isolated + BLOCK)):
        pfn = machine.alloc(order, KERNEL)
    assert pfn == BASE
    healthy(machine)
    # what was isolated is handed out to nobody until the isolation is undone
    rest = take_all(machine, KERNEL)
    assert not any(isolated <= page < isolated + BLOCK for page in rest)
    machine.unisolate(isolated, isolated + BLOCK)
    rest += take_all(machine, KERNEL)
    assert len(rest) + (1 << order) == 2 * BLOCK
    sides_agree(machine, dict.fromkeys(rest, False))
    assert leaks(machine) == 0
    healthy(machine)


# ---------------------------------------------------------------- TODO 3: map and unmap


def back_and_forth(design: str | Design) -> Machine:
    machine = small(design, 8)
    for _ in range(3):
        for gfp in (KERNEL, SECRET, USER):
            for pfn in take_all(machine, gfp):
                machine.free(pfn, 0)
    return machine


@pytest.mark.parametrize("design", ["migratetype/sound", "migratetype/eager", "freetype/sound"])
def test_map_and_unmap_are_a_pair(design: str) -> None:
    machine = back_and_forth(design)
    log = [event for event in events(machine) if event["kind"] in (MAP, UNMAP, LEFT_MAPPED)]
    mapped: set[int] = set()
    for event in log:
        blocks = set(range(event["pfn"], event["pfn"] + event["pages"], BLOCK))
        if event["kind"] == MAP:
            assert not blocks & mapped, "mapped twice"
            mapped |= blocks
        else:
            assert event["kind"] == UNMAP, "a mapped block was only relabelled"
            assert blocks <= mapped, "unmapped though it was not mapped"
            mapped -= blocks
    stats = machine.stats()
    assert min(stats["flips_s2n"], stats["flips_n2s"]) > 8
    assert stats["flips_s2n"] - stats["flips_n2s"] == len(mapped)
    present = {pfn for pfn in range(BASE, BASE + 8 * BLOCK, BLOCK) if trees(machine).present(pfn)}
    assert present == mapped
    assert trees(machine).counters().redundant == 0
    assert leaks(machine) == 0
    healthy(machine)


def test_a_label_alone_maps_nothing_in_the_sound_design() -> None:
    """Without the operation the claim is a label: the pages it hands out are not there."""
    machine = small("migratetype/sound:explicit_maps=no")
    assert not trees(machine).present(machine.alloc(0, KERNEL))
    assert leaks(machine) > 0


@pytest.mark.parametrize(("first", "kind"), [("secret", MAP), ("kernel", LEFT_MAPPED)])
def test_as_posted_a_merge_maps_or_leaves_mapped(first: str, kind: int) -> None:
    """Two free buddies of unlike kinds merge: the last one freed relabels the other, in either direction."""
    machines = {name: small(name, 2) for name in ("migratetype/as-posted", "migratetype/sound")}
    logs = {}
    for name, machine in machines.items():
        held = {"kernel": machine.alloc(ORDER, KERNEL), "secret": machine.alloc(ORDER, SECRET)}
        before = len(events(machine))
        machine.free(held.pop(first), ORDER)
        machine.free(held.popitem()[1], ORDER)
        logs[name] = [event["kind"] for event in events(machine)[before:] if event["kind"] <= LEFT_MAPPED]
    assert logs == {"migratetype/as-posted": [kind], "migratetype/sound": []}


# ---------------------------------------------------------------- TODO 4: the mirrored physmap


def protected(design: str) -> tuple[Machine, int]:
    machine = Machine(single_zone("64M"), design)
    pfn = machine.alloc(0, KERNEL)
    trees(machine).set_memory_ro(pfn, 1)
    return machine, pfn


@pytest.mark.parametrize("design", ["migratetype/sound", "freetype/sound", "pool", "per-page"])
def test_page_protection_is_mirrored(design: str) -> None:
    machine, pfn = protected(design)
    assert trees(machine).check() is None
    restricted, unrestricted = (trees(machine).lookup(pfn, tree=t) for t in ("restricted", "unrestricted"))
    assert restricted == unrestricted
    assert restricted is not None
    assert restricted.level == "4K"
    tables = trees(machine).counters().tables_allocated
    user = take_all(machine, USER)
    for page in user:
        machine.free(page, 0)
    machine.free(pfn, 0)
    machine.drain()
    take_all(machine, SECRET, 9)
    if not machine.design.wrapper:
        assert trees(machine).counters().tables_allocated == tables, "a flip allocated a page table"
    assert leaks(machine) == 0
    healthy(machine)


@pytest.mark.parametrize(
    "design", ["migratetype/as-posted", "freetype/as-posted", "migratetype/sound:mirror=no"]
)
def test_page_protection_as_posted_differs_between_the_trees(design: str) -> None:
    machine, pfn = protected(design)
    assert "protection differs" in (trees(machine).check() or "")
    leaf = trees(machine).lookup(pfn)
    assert leaf is not None
    assert leaf.level == "2M"


def test_hotplugged_memory_is_hidden_until_somebody_maps_it() -> None:
    for mirror in (True, False):
        physmap = Physmap(0, 1 << 15, mirror=mirror)
        physmap.asi_map(0, 512)
        physmap.hot_remove(0, 1 << 15)
        physmap.hot_add(0, 1 << 15)
        assert physmap.present(0, tree="unrestricted")
        assert physmap.present(0) is not mirror
        assert (physmap.check() is None) or not mirror


# ---------------------------------------------------------------- TODO 5: contiguous ranges


def state(machine: Machine) -> tuple[Any, ...]:
    """What a failure must leave as it was: free pages by list and order, types, mappings."""
    lists = machine.dump()
    blocks = (machine.spec.zones[0].spanned + BLOCK - 1) // BLOCK
    mapped = tuple(trees(machine).present(BASE + i * BLOCK) for i in range(blocks))
    stats = machine.stats()
    return (
        len(lists),
        sorted(lists.tolist()),
        mapped,
        stats["flips_s2n"],
        stats["flips_n2s"],
        leaks(machine),
    )


@pytest.mark.parametrize("design", ["migratetype/sound", "freetype/sound"])
@pytest.mark.parametrize("kernel", ["7.2", "6.12"])
@pytest.mark.parametrize("cma", [False, True])
@pytest.mark.parametrize("gfp", [KERNEL, SECRET], ids=["nonsensitive", "sensitive"])
def test_contiguous_ranges_of_either_kind(design: str, kernel: str, cma: bool, gfp: int) -> None:
    blocks = (BASE + 4 * BLOCK, BASE + 8 * BLOCK)
    machine = small(design, kernel=kernel, cma=(blocks,) if cma else ())
    first = BASE + 4 * BLOCK
    for held in (machine.alloc(0, KERNEL), machine.alloc(0, SECRET)):
        assert held >= 0
    for other in (gfp, gfp, KERNEL, KERNEL, SECRET, SECRET, gfp):  # from either side to either side
        start, end = first + 3, first + 3 * BLOCK + 2
        assert machine.alloc_contig_range(start, end, cma=cma, gfp=other) == 0
        sides_agree(machine, dict.fromkeys(range(start, end), other == SECRET))
        healthy(machine)
        machine.free_contig_range(start, end - start)
        healthy(machine)
        # whoever comes next gets pages of its own side
        for probe in (KERNEL, SECRET, USER):
            got = take_all(machine, probe)
            sides_agree(machine, dict.fromkeys(got, probe != KERNEL))
            for pfn in got:
                machine.free(pfn, 0)
    assert leaks(machine) == 0
    assert any(event["ctx"] == CTX_CONTIG for event in events(machine))


@pytest.mark.parametrize("name", FULL)
def test_page_reporting_while_another_cpu_isolates_part_of_the_block(name: str) -> None:
    """The kernel puts the whole block back under its first pageblock's type; sound designs look at each."""
    machine = small(name, 4)
    boot = machine.design.freetype(machine.design.boot)
    with Meanwhile(machine, 1, lambda: machine.isolate(BASE, BASE + BLOCK)):
        assert machine.take_and_putback(boot, ORDER + 1) == BASE
    if machine.design.putback_by_block:
        healthy(machine)
        machine.unisolate(BASE, BASE + BLOCK)
        assert BASE in take_all(machine, USER, ORDER + 1)
        healthy(machine)
    else:
        assert name == "linux" or name in POSTED
        assert "spans pageblocks of two types" in (machine.verify() or "")


NONS_MOVABLE = GFP_HIGHUSER_MOVABLE | MODEL_LRU


@pytest.mark.parametrize(
    ("design", "holder", "gfp"),
    [
        ("migratetype/sound", USER, KERNEL),
        ("migratetype/sound", SECRET, KERNEL),
        ("migratetype/sound", KERNEL, SECRET),
        ("freetype/sound", USER, KERNEL),
        ("freetype/sound", NONS_MOVABLE, SECRET),
    ],
)
def test_a_range_that_cannot_change_sides_leaves_everything_as_it_was(
    design: str, holder: int, gfp: int
) -> None:
    """The neighbour is free and could flip; the first block holds a page of the other side and cannot."""
    machine = small(design)
    held = machine.alloc(0, holder)
    block = BASE + (held - BASE) // (2 * BLOCK) * 2 * BLOCK
    start, end = (block, block + 4) if held > block + 4 else (block + 4, block + 2 * BLOCK)
    before = state(machine)
    flips = machine.stats()["flips_s2n"] + machine.stats()["flips_n2s"]
    assert machine.alloc_contig_range(start, end, gfp=gfp) == -16
    assert state(machine) == before
    assert machine.stats()["flips_s2n"] + machine.stats()["flips_n2s"] == flips
    if holder & MODEL_LRU:
        # out of the same mixed block, for a request of its side
        assert machine.alloc_contig_range(start, end, gfp=holder) == 0
        sides_agree(machine, dict.fromkeys(range(start, end), bool(holder & SENSITIVE)))
    assert leaks(machine) == 0
    healthy(machine)


@pytest.mark.parametrize("kernel", ["7.2", "6.12"])
@pytest.mark.parametrize("what", ["isolation", "page reporting"])
@pytest.mark.parametrize("design", ["migratetype/sound", "freetype/sound", "unmapped/sound"])
def test_a_block_stays_on_its_side(design: str, what: str, kernel: str) -> None:
    machine = small(design, 8, kernel=kernel)
    nons = machine.alloc(ORDER, KERNEL)
    assert machine.alloc(ORDER, SECRET) >= 0
    machine.free(nons, ORDER)
    if what == "isolation":
        for block in range(BASE, BASE + 8 * BLOCK, BLOCK):
            if machine.isolate(block, block + BLOCK) == 0:
                machine.unisolate(block, block + BLOCK)
            healthy(machine)
    else:
        for number in range(len(machine.design.freetypes)):
            machine.take_and_putback(number, ORDER)
            healthy(machine)
    pages = {pfn: gfp != KERNEL for gfp in (USER, SECRET, KERNEL) for pfn in take_all(machine, gfp)}
    if machine.design.tree == "restricted":
        sides_agree(machine, pages)
    assert leaks(machine) == 0
    healthy(machine)


@pytest.mark.parametrize("design", ["freetype/as-posted", "migratetype/sound:contig_flips=no"])
def test_contiguous_ranges_as_posted_ignore_the_kind(design: str) -> None:
    machine = small(design)
    assert machine.alloc_contig_range(BASE, BASE + BLOCK, gfp=KERNEL) == 0
    assert not trees(machine).present(BASE)
    assert leaks(machine) > 0


# ---------------------------------------------------------------- every design


@pytest.mark.parametrize("name", FULL)
def test_is_data_that_prints(name: str) -> None:
    text = describe_design(name)
    assert f"name: {name}\n" in text
    design = as_design(name)
    assert design.title
    assert design.source
    for ft in design.freetypes:
        assert f"freetypes[{ft.name}]: " in text
    if name != "linux":
        assert diff_designs(name, "linux")
        assert design.protects
    assert all(source.startswith(("msgid 20", "mm/")) for source in design.source)


def test_what_is_as_posted_says_so_wherever_it_is_named() -> None:
    assert POSTED == [
        "rfcv2-queue/as-posted",
        "migratetype/as-posted",
        "freetype/as-posted",
        "freetype/as-posted-flags",
        "unmapped/v2",
        "unmapped/v4",
        "pool/as-posted",
        "pool/letter",
    ]
    lines = {line.split()[0]: line for line in list_designs().splitlines()}
    for name in FULL:
        kind = "as posted" if name in POSTED else "-" if name == "linux" else "sound"
        assert re.fullmatch(rf"{name} +{kind}  +\S.*", lines[name])
        assert ("as posted" in DESIGNS[name].title) == (name in POSTED)
        assert f"as_posted: {'yes' if name in POSTED else 'no'}\n" in describe_design(name)
    for line in re.findall(r"^\| `.*", (ROOT / "docs" / "engine" / "designs.md").read_text(), re.MULTILINE):
        if "`unmapped/v2`" in line:
            assert "as posted" in line
    for name in SOUND:
        assert "as posted" not in audit(name, depth=1, only=("smallest",)).text()
    assert "as posted: it keeps the holes" in audit("unmapped/v2", depth=1, only=("smallest",)).text()


def test_bare_names_mean_sound_variants() -> None:
    bare = {name: design.name for name, design in DESIGNS.items() if name != design.name}
    assert bare == {
        "rfcv2-queue": "rfcv2-queue/sound",
        "migratetype": "migratetype/sound",
        "freetype": "freetype/sound",
        "unmapped": "unmapped/sound",
        "ours": "ours/two-way",
        "pool": "pool/nonsensitive",
    }


def test_compare_shows_every_sound_design() -> None:
    assert set(FULL) - set(DEFAULT_DESIGNS) == {*POSTED}
    assert set(DEFAULT_DESIGNS) < set(FULL)


@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize("trace", ["fragment", "bursts", "stress-unmovable"])
def test_replays_soundly(name: str, trace: str) -> None:
    """With a third of the kernel's requests sensitive, so that the unmapped designs have work, too."""
    compiled = compile_trace(workload(trace, "32M", 3), "type=unmovable:share=0.6", memory="28M")
    entry = replay(compiled, name, samples=2)
    assert entry["verify"] == "ok"
    # A machine of one node counts nothing by node.
    promised = {key for key in load_schema()["$defs"]["metrics"]["properties"] if not key.startswith("numa_")}
    assert set(entry["metrics"]) == promised
    assert entry["as_posted"] == (name in POSTED)
    if name not in POSTED:
        assert not breaches(entry)
    metrics = entry["metrics"]
    # Of the requests that got their pages, which a starved machine's are not all.
    served = metrics["allocations"] - metrics["failures"]
    assert served > 0
    flushes = metrics["tlb_flushes_ranged"] + metrics["tlb_flushes_full"]
    assert metrics["tlb_flushes_per_1000_allocations"] == pytest.approx(1000 * flushes / served)


@pytest.mark.parametrize("name", ["migratetype/as-posted", "rfcv2-queue/as-posted"])
def test_as_posted_shows_its_exposures(name: str) -> None:
    compiled = compile_trace(workload("random", "64M"))
    assert breaches(replay(compiled, name, samples=2))
    assert not breaches(replay(compiled, DESIGNS[name.split("/")[0]], samples=2))


@pytest.mark.parametrize("lists", [True, False])
@pytest.mark.parametrize("order", [0, 1])
def test_flips_before_single_page_steals(lists: bool, order: int) -> None:
    """A mixed block offers pages of another migratetype, a whole block of the other side could flip."""
    counts = {}
    for switch in ("no", "yes"):
        pcp = PcpSpec(batch=2, high_min=4, high_max=4) if lists else None
        machine = small(f"freetype/sound:flip_before_steal={switch}", 4, pcp=pcp)
        for _ in range(4):
            assert machine.alloc(0, NONS_MOVABLE) >= 0
        held = machine.alloc(0, NONS_MOVABLE)  # more than half of its block is in use: no claim
        before = machine.stats()
        pfn = machine.alloc(order, KERNEL)
        stats = machine.stats()
        counts[switch] = (
            stats["steals"] - before["steals"],
            stats["flips_s2n"] - before["flips_s2n"],
            (pfn - held) // BLOCK != 0,
        )
        # what may not block does as ever: it takes a page where it can, and flips nothing
        machine.free(pfn, order)
        machine.drain()
        take_all(machine, ATOMIC, order)
        assert machine.stats()["flips_s2n"] == stats["flips_s2n"]
        assert leaks(machine) == 0
        healthy(machine)
    steals, flips, elsewhere = counts["no"]
    assert steals > 0
    assert (flips, elsewhere) == (0, False)
    assert counts["yes"] == (0, 1, True)


# ---------------------------------------------------------------- design words


def test_a_design_word_changes_fields() -> None:
    design = as_design("migratetype:zeroing=dirty,unmap_low=512,flip_before_steal=yes")
    assert (design.zeroing, design.unmap_low, design.flip_before_steal) == ("dirty", 512, True)
    assert design.name == "migratetype/sound:zeroing=dirty,unmap_low=512,flip_before_steal=yes"
    assert replace(design, name="", zeroing="flip", unmap_low=0, flip_before_steal=False) == replace(
        as_design("migratetype"), name=""
    )


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("migratetypo", "unknown design 'migratetypo'"),
        ("linux:", "'' changes nothing"),
        ("migratetype:zeroing", "'zeroing' changes nothing"),
        ("migratetype:colour=red", "'colour=red' changes nothing"),
        ("migratetype:freetypes=none", "'freetypes=none' changes nothing"),
        ("migratetype:zeroing=later", "zeroing is one of none, locked, flip, dirty, mapped, alloc"),
        ("migratetype:unmap_low=-1", "unmap_low is a number"),
        ("migratetype:unmap_low=many", "unmap_low is a number"),
        ("migratetype:contig_flips=1", "contig_flips is yes or no"),
        ("nowhere.py:MINE", "nowhere.py: no such file"),
    ],
)
def test_words_that_are_no_design(word: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        as_design(word)


def test_a_design_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from asi_pa.designs import Design\n"
        "MINE = Design.based_on('migratetype', name='mine')\n"
        "def make():\n    return MINE\n"
        "THING = 3\n"
    )
    assert as_design(f"{path}:MINE").name == as_design(f"{path}:make").name == "mine"
    for name in ("THING", "ABSENT", ""):
        with pytest.raises(ValueError, match="is not a Design"):
            as_design(f"{path}:{name}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 / 0\n", "line 1: ZeroDivisionError: division by zero"),
        ("def MINE(:\n", "SyntaxError: invalid syntax"),
        ("import sys\nsys.exit(3)\n", "line 2: SystemExit: 3"),
        ("def MINE(x):\n    return x\n", "TypeError: MINE()"),
        ("def MINE():\n    raise KeyError('boo')\n", "line 2: KeyError: 'boo'"),
        ("from asi_pa.designs import Design as MINE\n", "MINE is a class; MINE.based_on("),
    ],
)
def test_a_file_with_an_error_in_it(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {says}")):
        as_design(f"{path}:MINE")


UNMOVABLE = Freetype(name="Unmovable", mt=Migratetype.UNMOVABLE)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"zeroing": "never"}, "zeroing 'never' is not one of none, locked"),
        ({"explicit_maps": 1}, "explicit_maps 1 is neither True nor False"),
        ({"unmap_low": -1}, "unmap_low -1 is not a number"),
        ({"unmap_low": "few"}, "unmap_low 'few' is not a number"),
        ({"unmap_high": 1 << 80}, f"unmap_high {1 << 80} is not a number"),
        ({"freetypes": ()}, "freetypes: 1 to 15"),
        ({"freetypes": ("Unmovable",)}, "freetypes: 1 to 15 of Freetype"),
        ({"freetypes": (UNMOVABLE,) * 2}, "freetypes: two of one name"),
        ({"freetypes": (UNMOVABLE,)}, "freetypes: none has the migratetype ISOLATE"),
        ({"boot": "Nowhere"}, "boot: no freetype 'Nowhere'"),
        ({"start": (("Movable",) * 2,) * 2}, "start has a pair"),
        ({"start": (("Movable", "Sideways"),) * 3}, "start: no freetype 'Sideways'"),
        ({"pcp_banks": (PcpBank(types=("X",), thp=()),)}, "pcp_banks: no freetype 'X'"),
        ({"pcp_banks": (PcpBank(types=(), thp=(("X",),)),)}, "pcp_banks: no freetype 'X'"),
    ],
)
def test_tables_that_the_engine_cannot_run(changes: dict[str, Any], says: str) -> None:
    wrong = replace(as_design("migratetype"), name="wrong", **changes)
    for refuse in (as_design, lambda d: Machine(single_zone("64M"), d), describe_design):
        with pytest.raises(ValueError, match=re.escape(f"design 'wrong': {says}")):
            refuse(wrong)


def test_the_engine_has_a_number_for_every_word() -> None:
    """And no word but those: a Design's choices are the engine's enums."""
    words = {
        "flips": (Flips, "FLIPS_"),
        "zeroing": (Zeroing, "ZERO_"),
        "compaction": (Compaction, "COMPACTS_"),
        "wrapper": (Wrapper, "WRAP_"),
    }
    for field, (enum, prefix) in words.items():
        known = {member.name.removeprefix(prefix).lower().replace("_", "-") for member in enum}
        for word in known:
            base = "pool/sound" if field == "wrapper" else "migratetype"
            assert as_design(f"{base}:{field}={word}" if word != "none" else base) is not None
        with pytest.raises(ValueError, match=f"{field} is one of ") as refused:
            as_design(f"migratetype:{field}=x")
        offered = str(refused.value).partition("is one of ")[2].split(", ")
        assert {word or "none" for word in offered} == known


def test_as_many_freetypes_as_the_engine_has_room_for() -> None:
    base = as_design("linux")
    more = [Freetype(name=f"Movable{i}", mt=Migratetype.MOVABLE) for i in range(10)]
    full = replace(base, name="full", freetypes=(*base.freetypes, *more[:-1]))
    assert len(full.freetypes) == 15
    healthy(Machine(single_zone("64M"), full))
    with pytest.raises(ValueError, match="freetypes: 1 to 15 of Freetype"):
        as_design(replace(full, freetypes=(*base.freetypes, *more)))


def test_fallbacks_that_the_engine_cannot_follow() -> None:
    base = as_design("migratetype")
    for fallbacks, says in ((("Sideways",), "no freetype 'Sideways'"), (("Movable",) * 7, "7, at most 6")):
        kinds = (replace(base.freetypes[0], fallbacks=fallbacks), *base.freetypes[1:])
        with pytest.raises(ValueError, match=f"fallbacks of UnmovableSens: {says}"):
            as_design(replace(base, name="wrong", freetypes=kinds))


# ---------------------------------------------------------------- slow-path decisions in Python


class Eager(Design):
    """Unmaps one block whenever two are whole and fewer than a block is free on the sensitive side."""

    def unmap_ahead(self, view: Any) -> int:
        short = view.free_pages(mapped=False) < view.pageblock_pages
        return int(short and view.whole_blocks(mapped=True) >= 2)


class Highest(Design):
    """Flips the last of the free blocks it is offered."""

    def choose_block(self, view: Any, order: int, freetype: str) -> int | None:
        side = not self.freetypes[self.freetype(freetype)].mapped
        heads = [
            pfn
            for ft in self.freetypes
            if ft.mapped == side and ft.mt <= Migratetype.RECLAIMABLE
            for pfn in view.free_list(ft.name, order)
        ]
        return max(heads, default=None)


class Vague(Design):
    def unmap_ahead(self, view: Any) -> int:
        return "some"  # type: ignore[return-value]


class Failing(Design):
    def unmap_ahead(self, view: Any) -> int:
        raise RuntimeError("no idea")


def mapped_and_free(design: Design) -> Machine:
    """Everything was nonsensitive and is free again."""
    machine = small(design, 8)
    for pfn in take_all(machine, KERNEL):
        machine.free(pfn, 0)
    return machine


def test_unmap_ahead_of_need() -> None:
    machine = mapped_and_free(Eager.based_on("migratetype", name="eager"))
    assert machine.alloc(0, KERNEL) >= 0
    before = machine.stats()
    assert before["unmapped_ahead"] > 0
    pfn = machine.alloc(0, SECRET_ATOMIC)
    sides_agree(machine, {pfn: True})
    after = machine.stats()
    assert after["flush_allocs"] == before["flush_allocs"], "the request itself flushed"
    assert mapped_and_free(as_design("migratetype")).alloc(0, SECRET_ATOMIC) < 0
    assert leaks(machine) == 0
    healthy(machine)


def test_the_built_in_rule_does_the_same_without_python() -> None:
    machine = mapped_and_free(as_design(f"migratetype/sound:unmap_low={BLOCK},unmap_high={2 * BLOCK}"))
    before = machine.stats()["unmapped_ahead"]
    machine.alloc(0, KERNEL)
    assert machine.stats()["unmapped_ahead"] == before + 2
    assert machine.alloc(0, SECRET_ATOMIC) >= 0
    assert leaks(machine) == 0
    healthy(machine)


def test_choose_block() -> None:
    machine = mapped_and_free(Highest.based_on("freetype", name="highest"))
    heads = [BASE + 2 * BLOCK * i for i in range(4)]
    pfn = machine.alloc(ORDER + 1, SECRET)
    assert pfn == heads[-1]
    assert machine.alloc(ORDER + 1, SECRET) == heads[-2]
    sides_agree(machine, {pfn: True}, ORDER + 1)
    assert leaks(machine) == 0
    healthy(machine)


def test_an_exception_in_a_hook_reaches_the_caller() -> None:
    compiled = compile_trace(workload("random", "32M"))
    with pytest.raises(RuntimeError, match="no idea"):
        replay(compiled, Failing.based_on("migratetype", name="failing"), samples=2)


def test_a_hook_that_returns_no_number_says_so() -> None:
    compiled = compile_trace(workload("random", "32M"))
    with pytest.raises(ValueError, match=r"'vague': unmap_ahead\(\) returned 'some', which is no number"):
        replay(compiled, Vague.based_on("migratetype", name="vague"), samples=2)


def test_audits_tell_of_an_exception_in_a_hook() -> None:
    with pytest.raises(RuntimeError, match="no idea"):
        audit(Failing.based_on("migratetype", name="failing"), depth=2, only=("smallest",))


def test_hooks_that_are_not_overridden_cost_nothing() -> None:
    compiled = compile_trace(workload("random", "32M"))
    plain, subclass = (
        replay(compiled, d, samples=2)["metrics"] for d in ("migratetype", Design.based_on("migratetype"))
    )
    same = [key for key in plain if not key.startswith("replay_")]
    assert {key: plain[key] for key in same} == {key: subclass[key] for key in same}
    assert np.isfinite(plain["replay_seconds"])


# ---------------------------------------------------------------- documents and the example


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the examples and, as mine.py, the first file of docs/extend/own-design.md."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    page = (ROOT / "docs" / "extend" / "own-design.md").read_text()
    (tmp_path / "mine.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", ["engine/designs", "extend/own-design", "use/starvation"])
def test_the_documents_commands_are_understood(page: str, newcomer: Path) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text()
    commands = [shlex.split(line)[1:] for line in re.findall(r"^    (asi-pa .*)$", text, re.MULTILINE)]
    assert len(commands) >= 3
    for command in commands:
        args = command_line().parse_args(command)
        for word in [*(getattr(args, "designs", None) or ()), *getattr(args, "names", ())]:
            assert as_design(word)


@pytest.mark.parametrize("page", ["engine/designs", "extend/own-design"])
def test_the_documents_python_runs(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / f"{page}.md").read_text(), re.DOTALL)
    for block in blocks:
        exec(compile(block, f"{page}.md", "exec"), {"__name__": "page"})
    assert len(blocks) == 2
    lines = capsys.readouterr().out.splitlines()
    if page == "engine/designs":
        assert lines[0] == "migratetype (1, 1) None"
        assert lines[1].startswith("migratetype:mirror=no (1, 0) ")
        assert lines[2:] == [
            "migratetype 158 316 632 0",
            "migratetype:contig_flips=no 158 0 0 161792",
            "linux 158 0 0 0",
        ]


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("trace", ["fragment", "pagecache"])
def test_compaction_exposes_nothing(name: str, trace: str) -> None:
    """Half of all requests are of either kind, movable ones too."""
    compiled = compile_trace(workload(trace, "64M", 3), "share=0.5", memory="56M")
    entry = replay(compiled, name, samples=2, compaction=True)
    assert entry["verify"] == "ok"
    assert not breaches(entry)


def test_the_first_step_of_the_walk_through(newcomer: Path) -> None:
    page = " ".join((ROOT / "docs" / "extend" / "own-design.md").read_text().split())
    diff = diff_designs("migratetype", "mine.py:MINE").splitlines()
    assert [line for line in diff if line.startswith(("-freetypes", "+freetypes"))] == [
        "-freetypes[Movable]: mt MOVABLE; sensitive yes; mapped no; "
        "fallbacks Reclaimable, UnmovableSens; whole_blocks_only no",
        "+freetypes[Movable]: mt MOVABLE; sensitive yes; mapped no; "
        "fallbacks Reclaimable; whole_blocks_only no",
    ]
    bare: dict[str, Any] = {"reclaim": 0, "compaction": False, "samples": 2, "seeds": 1}
    (run,) = compare(["redis"], ["migratetype", "mine.py:MINE"], memory=("900M",), **bare)["runs"]
    theirs, ours = (entry["metrics"] for entry in run["designs"][1:])
    less, more = (m["failures_by_group"]["real"] for m in (ours, theirs))
    assert f"{more - less:,} fewer requests without a way out fail, {less:,} for {more:,}." in page
    assert audit("mine.py:MINE", depth=3, only=("smallest", "cma")).status == 0
    mine = as_design("mine.py:MINE")
    loose = tuple(replace(ft, whole_blocks_only=False) for ft in mine.freetypes)
    broken = audit(replace(mine, freetypes=loose), depth=2, only=("cma",), liveness=False)
    assert [(f.operations, f.mechanism) for f in broken.findings] == [
        (2, "partial claim that maps under a live page")
    ]


def test_the_two_examples_in_comparison(newcomer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command of docs/extend/own-design.md carried out, and its table held against the result."""
    page = (ROOT / "docs" / "extend" / "own-design.md").read_text()
    (command,) = re.findall(r"^    asi-pa (compare stress.*node_pools.*)$", page, re.MULTILINE)
    assert cli.main([*shlex.split(command), "--json", "made.json", "--quiet"]) == 0
    (head, *rows) = re.findall(r"^\| (at 80M|stress: .*?|bursts: .*?) \| (.*) \|$", page, re.MULTILINE)
    names = re.findall(r"`(.*?)`", head[1])
    runs = {run["trace"]: run["designs"] for run in json.loads(Path("made.json").read_text())["runs"]}
    labels = {metric.label.strip(): metric.key for metric in ROWS} | {"refills of the pool": "pool_refills"}
    assert len(rows) == 6
    for label, cells in rows:
        trace, _, what = label.partition(": ")
        key, _, part = labels[what].partition(".")
        found = {}
        for design in runs[trace]:
            value = design["metrics"][key]
            found[design["design"]] = value[part] if part else value
            assert design["verify"] == "ok"
            assert design["metrics"]["leaked_pages"] == design["metrics"]["uncleared_pages"] == 0
        found["freetype"] = found["freetype/sound"]
        assert [f"{found[name]:,}" for name in names] == cells.split(" | ")


def test_the_example_is_the_built_in() -> None:
    path = ROOT / "examples" / "hysteresis.py"
    compiled = compile_trace(workload("bursts", "512M"), "gfp!=__GFP_DIRECT_RECLAIM:sensitive", memory="440M")
    sound, eager, example = (
        replay(compiled, word, samples=2)["metrics"]
        for word in ("migratetype", "migratetype/eager", f"{path}:HYSTERESIS")
    )
    same = [key for key in eager if not key.startswith("replay_")]
    assert {key: eager[key] for key in same} == {key: example[key] for key in same}
    assert sound["failures"] > 3 * eager["failures"]
    assert eager["tlb_flushes_full"] < 0.8 * sound["tlb_flushes_full"]


def test_keeping_both_sides_in_stock_serves_atomic_requests() -> None:
    path = ROOT / "examples" / "hysteresis.py"
    compiled = compile_trace(workload("network", "256M"))
    freetype, both = (
        replay(compiled, word, samples=2)["metrics"] for word in ("freetype", f"{path}:BOTH_WAYS")
    )
    assert freetype["failures_by_cause"]["no_block_refusal"] > 1000
    assert both["failures_by_cause"]["no_block_refusal"] == 0
    assert both["leaked_pages"] == both["uncleared_pages"] == 0
