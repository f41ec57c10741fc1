"""Exact start states of real kernels: what contrib/start_state.py took of a dump is what the kernel printed.

tests/data/start: Debian's kernels in QEMU, two nodes, four CPUs, CMA, a zone Movable, a block of memory
offline, after a minute of work; the three texts of /proc as they were when the machine was stopped for the
dump (docs/evidence.md says how).
"""

from __future__ import annotations

import base64
import gzip
import json
import tarfile
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import asi_pa
from asi_pa.kernel.procfs import parse_buddyinfo, parse_pagetypeinfo, parse_zoneinfo
from asi_pa.trace import load_trace
from asi_pa.verify.dump import DumpShape, take_apart

DATA = Path(__file__).resolve().parents[1] / "data" / "start"
KERNELS = sorted(path.name.removesuffix(".json.gz") for path in DATA.glob("*.json.gz"))
SECTION, NONE = 1 << 15, 1 << 7


@dataclass
class Machine:
    """A state and what its kernel printed."""

    path: Path
    state: dict[str, Any]
    printed: dict[str, str]

    @property
    def zones(self) -> list[tuple[int, str]]:
        return [(zone["nid"], zone["name"]) for zone in self.state["zones"]]

    @property
    def frames(self) -> npt.NDArray[np.uint8]:
        return np.frombuffer(zlib.decompress(base64.b64decode(self.state["frames"])), np.uint8)


@pytest.fixture(scope="module", params=KERNELS)
def machine(request: pytest.FixtureRequest) -> Machine:
    path = DATA / f"{request.param}.json.gz"
    printed = {}
    with tarfile.open(DATA / f"{request.param}.proc.tar.xz") as tar:
        for name in tar.getnames():
            file = tar.extractfile(name)
            assert file is not None
            printed[name] = file.read().decode()
    return Machine(path, json.loads(gzip.decompress(path.read_bytes())), printed)


def test_there_are_some() -> None:
    assert KERNELS == ["6.12.117", "7.2.13", "7.3-rc7"]


def test_free_lists_have_the_printed_lengths(machine: Machine) -> None:
    state = machine.state
    found: Counter[tuple[Any, ...]] = Counter()
    for zone, mt, order, pfns in state["free"]:
        found[machine.zones[zone], state["migratetypes"][mt], order] += len(pfns)
    typed = parse_pagetypeinfo(machine.printed["pagetypeinfo"])
    assert list(typed.migratetypes) == state["migratetypes"]
    assert typed.pageblock_order == state["pageblock_order"]
    compared = 0
    for printed in typed.zones:
        if (printed.nid, printed.name) not in machine.zones:
            continue
        for mt, counts in zip(typed.migratetypes, printed.free, strict=True):
            for order, count in enumerate(counts):
                assert found.pop(((printed.nid, printed.name), mt, order), 0) == count
                compared += 1
    assert not found
    assert compared >= 5 * 5 * 11
    for row in parse_buddyinfo(machine.printed["buddyinfo"]):
        if (row.nid, row.name) in machine.zones:
            zone = machine.zones.index((row.nid, row.name))
            sums = [
                sum(len(pfns) for at, _, order, pfns in state["free"] if (at, order) == (zone, n))
                for n in range(11)
            ]
            assert sums == list(row.free)


def test_pageblocks_have_the_printed_types(machine: Machine) -> None:
    """pagetypeinfo_showblockcount_print() counts what is online, reserved pageblocks too."""
    state, frames = machine.state, machine.frames
    there = {
        number
        for number in range(-(-len(frames) // SECTION))
        if (frames[number * SECTION : (number + 1) * SECTION] != NONE).any()
    }
    types = parse_pagetypeinfo(machine.printed["pagetypeinfo"])
    for printed in types.zones:
        if (printed.nid, printed.name) not in machine.zones:
            continue
        zone = state["zones"][machine.zones.index((printed.nid, printed.name))]
        start, end = zone["start_pfn"], zone["start_pfn"] + zone["spanned"]
        blocks = [block for block in range(start >> 9, -(-end >> 9)) if block << 9 >> 15 in there]
        counts = np.bincount([state["blocks"][block] for block in blocks], minlength=len(types.migratetypes))
        assert counts.tolist() == list(printed.blocks)


def test_zones_and_per_cpu_lists_are_as_printed(machine: Machine) -> None:
    state, compared = machine.state, 0
    for printed in parse_zoneinfo(machine.printed["zoneinfo"]):
        if (printed.nid, printed.name) not in machine.zones:
            continue
        number = machine.zones.index((printed.nid, printed.name))
        zone = state["zones"][number]
        for key in ("free", "boost", "min", "low", "high", "promo", "spanned", "present", "managed"):
            assert zone[key] == printed.pages[key], key
        assert zone["start_pfn"] == printed.tail["start_pfn"]
        assert zone["protection"] == list(printed.protection)
        for cpu, pageset in printed.pagesets.items():
            for key in ("count", "high", "batch", "high_min", "high_max"):
                # 6.12 does not print the last two
                assert zone["cpus"][cpu][key] == pageset.get(key, zone["cpus"][cpu][key]), key
                compared += 1
            listed = sum(
                len(pfns) << order for at, on, _, order, pfns in state["pcp"] if (at, on) == (number, cpu)
            )
            assert listed == pageset["count"]
    assert compared == 5 * 4 * 5


def test_no_frame_is_on_two_lists_and_lists_are_in_no_order_of_addresses(machine: Machine) -> None:
    seen = np.zeros(len(machine.frames), np.uint8)
    lists = machine.state["free"] + machine.state["pcp"]
    for *_, order, pfns in lists:
        for pfn in pfns:
            assert pfn % (1 << order) == 0
            seen[pfn : pfn + (1 << order)] += 1
    assert seen.max() == 1
    assert machine.state["torn"] == []
    assert any(pfns not in (sorted(pfns), sorted(pfns, reverse=True)) for *_, pfns in lists)


def test_a_machine_of_the_model_starts_with_these_lists(machine: Machine) -> None:
    trace = load_trace(machine.path)
    made = asi_pa.Allocator.from_trace(trace, recorded=True)
    assert made.verify() is None
    assert made.kernel.version == ".".join(machine.path.name.split(".")[:2]).split("-")[0]
    # HighAtomic's, CMA's and isolated blocks have another type in the model
    plain = {machine.state["migratetypes"].index(name) for name in ("Unmovable", "Movable", "Reclaimable")}
    mixed = {"CMA", "Isolate"} & {
        machine.state["migratetypes"][mt] for _, mt, _, pfns in machine.state["free"] if pfns
    }
    for number, zone in enumerate(made.spec.zones):
        shape = DumpShape(
            start_pfn=zone.start_pfn, spanned=zone.spanned, pageblock_order=9, max_page_order=10,
            cpus=made.spec.cpus, design=made.design,
        )  # fmt: skip
        state = take_apart(made.machine.dump(number), shape)
        at = machine.zones.index((zone.nid, zone.name))
        for _, mt, order, pfns in (row for row in machine.state["free"] if row[0] == at):
            found = (state.lists[order][min(mt, 2)] + zone.start_pfn).tolist() if mt in plain else pfns
            if mixed and mt == 1:
                found = [pfn for pfn in found if pfn in set(pfns)]
            assert found == pfns
        for _, cpu, mt, order, pfns in (row for row in machine.state["pcp"] if row[0] == at):
            row = state.cpus[cpu].lists[3 * order + mt if order < 4 else 12 + mt]
            assert (row + zone.start_pfn).tolist() == pfns
