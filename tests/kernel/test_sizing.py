"""Sizing against numbers that kernels computed: recorded runs, recorded traces, and /proc/zoneinfo here."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asi_pa.kernel import procfs, sizing
from asi_pa.kernel.spec import MachineSpec, PcpSpec, ZoneSpec

ORACLE = Path(__file__).parents[1] / "data" / "oracle"
SHARED = Path(os.environ.get("ASI_PA_SHARED", Path(__file__).resolve().parents[3] / "shared"))

# Kernel 6.18, 2 CPUs, zones as /proc/zoneinfo showed them (gcc and redis traces, start):
# (managed, min, low, high, high_min, high_max, batch), DMA, DMA32, Normal.
RECORDED_2CPUS = [
    [
        (3840, 17, 21, 25, 10, 240, 1),
        (772915, 3599, 4498, 5397, 2249, 48307, 63),
        (2850816, 13278, 16597, 19916, 8298, 178176, 63),
    ],
    [
        (3840, 17, 21, 25, 10, 240, 1),
        (772915, 3444, 4305, 5166, 2152, 48307, 63),
        (3014656, 13434, 16792, 20150, 8396, 188416, 63),
    ],
]


def _three_zones(managed, cpus):
    names = ("DMA", "DMA32", "Normal")
    starts = (0, 4096, 1 << 20)
    zones = [
        ZoneSpec(name=name, start_pfn=start, spanned=pages)
        for name, start, pages in zip(names, starts, managed, strict=True)
    ]
    return MachineSpec(zones=tuple(reversed(zones)), cpus=cpus)


@pytest.mark.parametrize("recorded", RECORDED_2CPUS)
def test_recorded_machine(recorded):
    spec = sizing.derive(_three_zones([row[0] for row in recorded], 2), kernel="6.18")
    for zone, row in zip(reversed(spec.zones), recorded, strict=True):
        assert zone.pcp is not None
        assert (zone.spanned, *zone.wmark[:3], zone.pcp.high_min, zone.pcp.high_max, zone.pcp.batch) == row


@pytest.mark.parametrize("name", ["gcc", "redis", "net", "kernelmem"])
def test_zones_of_the_shared_traces(name):
    path = SHARED / "traces" / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    with np.load(path) as data:
        meta = json.loads(str(data["meta"]))
    rows = [zone for zone in meta["zones_start"] if zone["managed"]]
    # the recorded machine's caches are not known, and zoneinfo does not tell FREE_HIGH_BATCH
    zones = replace(_three_zones([row["managed"] for row in rows], meta["cpus"]), data_cache=0)
    spec = sizing.derive(zones, kernel=meta["kernel"])
    for zone, row in zip(reversed(spec.zones), rows, strict=True):
        assert zone.wmark[:3] == (row["min"], row["low"], row["high"])
        for cpu in row["cpus"]:
            limits = PcpSpec(batch=cpu["batch"], high_min=cpu["high_min"], high_max=cpu["high_max"])
            assert zone.pcp == limits


def test_this_machine():
    """Everything derived must be what /proc/zoneinfo shows, where the sysctls are untouched."""
    try:
        zones = procfs.parse_zoneinfo(Path("/proc/zoneinfo").read_text())
        kbytes = int(Path("/proc/sys/vm/min_free_kbytes").read_text())
        scale = int(Path("/proc/sys/vm/watermark_scale_factor").read_text())
        ratios = [int(word) for word in Path("/proc/sys/vm/lowmem_reserve_ratio").read_text().split()]
    except OSError as error:
        pytest.skip(str(error))
    populated = [zone for zone in zones if zone.pages["managed"] and zone.name != "Movable"]
    nids = {zone.nid for zone in zones}
    if len(nids) > 1 or "DMA32" not in {zone.name for zone in populated}:
        pytest.skip("not a single-node x86-64 machine")
    cpus = len(populated[0].pagesets)
    names = [zone.name for zone in zones]
    managed = [zone.pages["managed"] for zone in zones]
    reserves = sizing.lowmem_reserves(managed, [*ratios, 0])
    lowmem = sum(zone.pages["managed"] for zone in populated)
    for zone in populated:
        pages = zone.pages["managed"]
        boost = zone.pages["boost"]
        marks = sizing.watermarks(pages, kbytes, lowmem, scale_factor=scale)
        shown = tuple(zone.pages[key] - boost for key in ("min", "low", "high", "promo"))
        if shown[0] != marks[0]:
            pytest.skip("memory was added since the watermarks were computed")
        assert shown == marks
        assert tuple(zone.protection) == reserves[names.index(zone.name)]
        for pageset in zone.pagesets.values():
            assert pageset["stat_threshold"] == sizing.stat_threshold(pages, cpus)
            assert pageset["batch"] == sizing.zone_batchsize(pages, "6.12")
            assert pageset["high_max"] == sizing.zone_highsize(pages // 8, pageset["batch"], cpus)


def _dump_head(data):
    """The 18 counters and the 8 pcp fields of a recorded run's first dump."""
    words = data["dumps"][int(data["dump_off"][0]) :].tolist()
    counters = words[4:22]
    at = 22
    orders, types = words[at : at + 2]
    at += 2
    for _ in range(orders):
        at += 1
        for _ in range(types):
            at += 1 + words[at]
    at += 1 + words[at]
    assert words[at] == 8
    return counters, words[at + 1 : at + 9]


def _recorded_runs():
    return sorted((SHARED / "oracle").glob("*/*.npz"))


@pytest.mark.skipif(not _recorded_runs(), reason="no recorded runs here")
def test_recorded_runs_agree_with_what_is_derived():
    """Watermark spacing, per-CPU limits and vmstat threshold of every recorded zone.

    The node under test shares min_free_kbytes with memory that the recording does not show, so WMARK_MIN
    is taken as found; everything above it must follow.
    """
    checked = 0
    for path in _recorded_runs():
        with np.load(path) as data:
            meta = json.loads(str(data["meta"]))
            counters, pcp = _dump_head(data)
        marks, managed = counters[6:10], counters[14]
        low, cpus = marks[1], meta["nr_cpus"]
        if meta["wmarks_forced"] is None:
            gap = max(marks[0] >> 2, managed * 10 // 10000)
            assert marks == [marks[0] + k * gap for k in range(4)], path
            # Whatever the rest of memory is, some total explains the share.
            pages = meta["min_free_kbytes"] >> 2
            most = pages * managed // marks[0]
            least = pages * managed // (marks[0] + 1) + 1
            assert any(
                sizing.watermarks(managed, meta["min_free_kbytes"], total) == tuple(marks)
                for total in {least, most}
            ), path
        else:
            low = _low_from_promo(marks[3], managed)  # PROMO is as the kernel computed it
        if meta.get("pcp_forced") is None:
            # the recording machine is an emulated one without caches that it could tell
            assert sizing.pcp_limits(managed, low, cpus, meta["kernel"], data_cache=0) == PcpSpec(
                batch=pcp[4], high_min=pcp[2], high_max=pcp[3]
            ), path
        if not meta["exact_counters"]:
            assert meta["stat_threshold"] == sizing.stat_threshold(managed, cpus), path
        checked += 1
    assert checked > 0


def _low_from_promo(promo, managed):
    """LOW of the zone whose PROMO this is: PROMO = MIN + 3 x max(MIN/4, managed/1000)."""
    for lowest in range(promo + 1):
        gap = max(lowest >> 2, managed * 10 // 10000)
        if lowest + 3 * gap == promo:
            return lowest + gap
    raise AssertionError(f"no watermark leads to promo {promo}")


def test_min_free_kbytes_clamps():
    assert sizing.min_free_kbytes(0) == 128
    assert sizing.min_free_kbytes(1 << 18) == 4096  # 1 GiB: sqrt(16 x 2^20)
    assert sizing.min_free_kbytes(1 << 30) == 262144


def test_khugepaged_recommends_eleven_pageblocks_a_zone():
    assert sizing.recommended_min_free_kbytes(1 << 30, 3) == 67584
    assert sizing.recommended_min_free_kbytes(1 << 30, 3, pcptypes=4) == 3 * 512 * 18 * 4
    assert sizing.recommended_min_free_kbytes(2000, 3) == 400


def test_more_pcp_types_raise_the_watermarks():
    """As recorded: the first dumps of R4L-1 (March 2025, four types) and S4L-1 (September, three)."""
    marks = {}
    for run in ("rfc-2025-03/R4L-1", "freetype-2025-09/S4L-1"):
        with np.load(ORACLE / f"{run}.npz") as data:
            counters, _ = _dump_head(data)
        marks[run[:3]] = counters[6]
        managed = counters[14]
    assert marks == {"rfc": 12275, "fre": 7501}
    spec = sizing.single_zone(managed * 4096)
    raised = sizing.raised_for(spec, 4)
    ratio = raised.zones[0].wmark[0] / spec.zones[0].wmark[0]
    assert ratio == pytest.approx(marks["rfc"] / marks["fre"], abs=2e-4) == pytest.approx(18 / 11, abs=2e-4)
    assert raised == sizing.single_zone(managed * 4096, pcptypes=4)
    for more in (spec, sizing.single_zone(managed * 4096, khugepaged=False)):
        assert sizing.raised_for(more, 3) == more
    for given in (False, 1 << 20):
        how = {"khugepaged": False} if given is False else {"min_free": given}
        stays = sizing.single_zone(managed * 4096, **how)
        assert sizing.raised_for(stays, 4) == stays


def test_a_machine_with_several_zones_is_raised_as_it_is_derived():
    for memory, nodes in (("16G", 1), ("8G", 2), ("512M", 1)):
        spec = sizing.machine(memory, nodes=nodes, cpus=4)
        assert sizing.raised_for(spec, 4) == sizing.machine(memory, nodes=nodes, cpus=4, pcptypes=4)


@pytest.mark.parametrize(
    ("design", "types"),
    [("linux", 3), ("migratetype", 4), ("migratetype/as-posted", 4), ("migratetype:khugepaged_mended=yes", 3),
     ("freetype", 3), ("pool", 3), ("unmapped/v4", 3)],
)  # fmt: skip
def test_a_designs_watermarks_are_its_own(design, types):
    """Wherever a machine is computed for a design: what a trace begins with, and an Allocator."""
    pytest.importorskip("asi_pa.run.replay", reason="the extension modules are not built")
    from asi_pa.allocator.allocator import Allocator
    from asi_pa.designs import as_design
    from asi_pa.experiment import build
    from asi_pa.trace import compile_trace
    from asi_pa.trace.workloads import workload

    compiled = compile_trace(workload("forks", "1G"), memory="1G")
    machine, *_ = build(compiled, as_design(design))
    expected = sizing.raised_for(compiled.machine, types).zones[0]
    assert machine.spec.zones[0] == expected
    assert (machine.spec.zones[0] == compiled.machine.zones[0]) == (types == 3)
    zone = sizing.single_zone("1G", pcptypes=types).zones[0]
    assert Allocator("1G", design, single_zone=True).spec.zones[0].wmark == zone.wmark


def test_lowmem_reserve():
    assert sizing.lowmem_reserves([3840, 772917, 688128, 0]) == [
        (0, 3019, 5707, 5707),
        (0, 0, 2688, 2688),
        (0, 0, 0, 0),
        (0, 0, 0, 0),
    ]
    assert sizing.lowmem_reserves([0, 1000, 0, 3200])[0] == (0, 0, 0, 0)
    assert sizing.lowmem_reserves([0, 0, 640, 3200])[2] == (0, 0, 0, 100)


@pytest.mark.parametrize(
    ("managed", "kernel", "batch"),
    [
        (100, "7.2", 1),
        (100, "6.12", 1),
        (11600, "7.2", 1),
        (12933, "7.2", 3),
        (65536, "6.12", 15),
        (1 << 30, "7.2", 63),
        (1 << 30, "6.12", 63),
    ],
)
def test_batch(managed, kernel, batch):
    assert sizing.zone_batchsize(managed, kernel) == batch


@pytest.mark.parametrize(
    ("managed", "cpus", "threshold"), [(16384, 1, 2), (65536, 1, 6), (65536, 4, 18), (772917, 2, 24)]
)
def test_stat_threshold(managed, cpus, threshold):
    assert sizing.stat_threshold(managed, cpus) == threshold


def test_zone_movable_has_small_watermarks_of_its_own():
    assert sizing.watermarks(1 << 20, 0, 1 << 20, movable=True)[0] == 128
    assert sizing.watermarks(2048, 0, 1 << 20, movable=True)[0] == 32


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64M", 64 << 20),
        ("4G", 4 << 30),
        ("1T", 1 << 40),
        ("0.5G", 1 << 29),
        ("512MiB", 512 << 20),
        (" 2 gb ", 2 << 30),
        ("8192", 8192),
        (4096, 4096),
    ],
)
def test_parse_size(text, size):
    assert sizing.parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "expected a number"),
        ("lots", "expected a number"),
        ("-4G", "expected a number"),
        ("4X", "expected a number"),
        ("1.2.3G", "expected a number"),
        ("0", "positive"),
        (-4096, "positive"),
        ("1000", "page size"),
        ("0.3", "whole number of bytes"),
        ("16T", "limit"),
        ("99999999P", "limit"),
    ],
)
def test_parse_size_refuses(text, why):
    with pytest.raises(ValueError, match=why) as caught:
        sizing.parse_size(text)
    assert repr(text) in str(caught.value)


def test_machine_is_laid_out_as_a_pc():
    spec = sizing.machine("16G", cpus=2, kernel="6.18")
    normal, dma32, dma = spec.zones
    assert [zone.name for zone in spec.zones] == ["Normal", "DMA32", "DMA"]
    # As /proc/zoneinfo shows it on a guest with a 1 GiB hole.
    assert (dma.start_pfn, dma.spanned, dma.present, dma.managed) == (1, 4095, 3998, 3840)
    assert (dma32.start_pfn, dma32.spanned, dma32.present) == (4096, 1044480, 782336)
    assert normal.start_pfn == 1 << 20
    ram = sum(zone.present or 0 for zone in spec.zones)
    assert ram == (16 << 18) - 98  # frame 0 and what the first MiB lacks
    assert normal.present is not None
    assert normal.managed == normal.present - (16 << 18) // 64
    assert spec.nofragment
    for zone in spec.zones:
        holes = sum(end - start for start, end in zone.holes)
        assert zone.managed == zone.spanned - holes


def test_small_machine_has_no_zone_normal():
    spec = sizing.machine("1G")
    assert [zone.name for zone in spec.zones] == ["DMA32", "DMA"]
    assert not spec.nofragment


def test_nodes_share_the_memory():
    spec = sizing.machine("8G", nodes=2, cpus=3)
    assert [(zone.nid, zone.name) for zone in spec.zones] == [
        (0, "Normal"),
        (0, "DMA32"),
        (0, "DMA"),
        (1, "Normal"),
    ]
    first, last = spec.zones[0], spec.zones[-1]
    assert first.end_pfn == last.start_pfn
    for zone, cpus in ((first, 2), (last, 1)):
        assert zone.pcp is not None
        assert zone.managed is not None
        assert zone.pcp.high_max == zone.managed // 8 // cpus
    # A node without CPUs divides by all that are online.
    memory_only = sizing.machine("8G", nodes=2, cpus=3, cpu_nodes=[0, 0, 0]).zones[-1]
    assert memory_only.pcp is not None
    assert memory_only.pcp.high_max == (memory_only.managed or 0) // 8 // 3


def test_single_zone():
    spec = sizing.single_zone("64M", cma="4M", exact_counters=True, pcp=False)
    (zone,) = spec.zones
    assert (zone.start_pfn, zone.spanned, zone.pcp, zone.stat_threshold) == (1 << 20, 16384, None, 0)
    assert zone.cma == (((1 << 20) + 15360, (1 << 20) + 16384),)
    assert sizing.single_zone(sizing.MAX_PAGES * 4096).zones[0].start_pfn == 0
    assert sizing.single_zone("64K", pageblock_order=2, max_page_order=3).pageblock_order == 2


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: sizing.single_zone("1M"), "one pageblock"),
        (lambda: sizing.single_zone("64M", cma="1M"), "CMA"),
        (lambda: sizing.single_zone("64M", cma="64M"), "CMA"),
        (lambda: sizing.single_zone("64M", max_page_order=11), "max_page_order 11"),
        (lambda: sizing.single_zone("64M", pageblock_order=10, max_page_order=9), "pageblock_order 10"),
        (lambda: sizing.single_zone("64M", start_pfn=1 << 32), "start_pfn"),
        (lambda: sizing.single_zone("64M", cpus=0), "cpus 0"),
        (lambda: sizing.machine("32M"), "at least 64M"),
        (lambda: sizing.machine("4G", nodes=0), "nodes 0"),
        (lambda: sizing.machine("4G", pci_hole="4G"), "PCI hole"),
        (lambda: sizing.machine("4G", cpu_nodes=[0, 0]), "cpu_nodes"),
        (lambda: sizing.machine("4G", cpu_nodes=[1]), "node 1 has no zone"),
        (lambda: sizing.machine("4G", kernel="2.6"), "unknown kernel '2.6'"),
    ],
)
def test_impossible_machines(call, why):
    with pytest.raises(ValueError, match=why):
        call()


@pytest.mark.parametrize(
    ("data_cache", "batch", "on"),
    [
        (756 << 10, 63, False),
        (760 << 10, 63, True),
        (2 << 20, 63, True),
        (12 << 10, 1, False),
        (16 << 10, 1, True),
    ],
)
def test_free_high_batch_by_the_size_of_the_data_cache(data_cache: int, batch: int, on: bool) -> None:
    """zone_pcp_update_cacheinfo(): (slice >> PAGE_SHIFT) > 3 * batch."""
    assert sizing.free_high_batch(data_cache, batch) is on


def test_a_described_machine_has_free_high_batch_by_its_cache() -> None:
    for cache, on in (("2M", True), ("512K", False)):
        for spec in (sizing.machine("4G", data_cache=cache), sizing.single_zone("4G", data_cache=cache)):
            pcp = spec.zones[0].pcp
            assert pcp is not None
            assert pcp.free_high_batch is on
