"""The public allocator: calls, refusals that change nothing, texts, nodes, contiguous ranges."""

from __future__ import annotations

import contextlib
import pickle
import threading
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from asi_pa.kernel import procfs
from asi_pa.kernel.gfp import GFP_KERNEL, Migratetype, parse_gfp
from asi_pa.kernel.versions import KERNELS

pytest.importorskip("asi_pa.allocator.allocator", reason="the extension modules are not built")

from asi_pa import replay
from asi_pa.allocator import Allocator, OutOfMemoryError, RangeBusyError, Statistics
from asi_pa.designs import DESIGNS, Design
from asi_pa.kernel.numa import cpu_nodes, fallback_order
from asi_pa.kernel.sizing import machine, single_zone
from asi_pa.kernel.spec import MachineSpec
from asi_pa.physmap.records import PageBit
from asi_pa.trace import compile_trace, workload

SENSITIVE = parse_gfp("__GFP_SENSITIVE")
USER = parse_gfp("GFP_HIGHUSER_MOVABLE") | SENSITIVE
THISNODE = parse_gfp("__GFP_THISNODE")
ATOMIC = parse_gfp("GFP_ATOMIC")


def small(design="linux", **more):
    """4096 pages in pageblocks of 16, the largest order 5."""
    return Allocator("16M", design, single_zone=True, pageblock_order=4, max_page_order=5, **more)


def state(allocator):
    """Everything an allocator holds, as bytes."""
    return b"".join(allocator.machine.dump(zone).tobytes() for zone in range(len(allocator.spec.zones)))


# ---------------------------------------------------------------- single calls


def test_a_page_comes_and_goes():
    allocator = Allocator("64M", single_zone=True)
    pfn = allocator.alloc_pages(3, GFP_KERNEL)
    assert pfn % 8 == 0
    zone = allocator.spec.zones[0]
    assert zone.start_pfn <= pfn < zone.end_pfn
    allocator.free_pages(pfn, 3)
    assert allocator.verify() is None
    allocator.drain()
    assert state(allocator)[4:8] == state(Allocator("64M", single_zone=True))[4:8]


def test_calls_are_what_the_engine_does():
    """The API over the engine's own calls: the same pfns, the same state."""
    allocator = small(cpus=2)
    engine = small(cpus=2).machine
    rng = np.random.default_rng(0)
    held: list[tuple[int, int]] = []
    for _ in range(2000):
        cpu = int(rng.integers(2))
        if held and rng.random() < 0.5:
            pfn, order = held.pop(int(rng.integers(len(held))))
            allocator.free_pages(pfn, order, cpu=cpu)
            engine.free(pfn, order, cpu)
            continue
        order = int(rng.integers(5))
        gfp = [GFP_KERNEL, USER, ATOMIC, parse_gfp("GFP_NOFS|__GFP_RECLAIMABLE")][int(rng.integers(4))]
        expected = engine.alloc(order, gfp, cpu)
        try:
            pfn = allocator.alloc_pages(order, gfp, cpu=cpu)
        except OutOfMemoryError:
            pfn = -1
        assert pfn == expected
        if pfn >= 0:
            held.append((pfn, order))
    assert state(allocator) == engine.dump().tobytes()


def test_more_request_words_than_are_kept_decoded():
    allocator = small()
    engine = small().machine
    for bits in range(200):
        gfp = GFP_KERNEL | bits << 12 & ~parse_gfp("__GFP_MEMALLOC|__GFP_NOMEMALLOC")
        assert allocator.alloc_pages(0, gfp) == engine.alloc(0, gfp, 0)


def test_out_of_memory_says_what_was_wanted_and_why():
    allocator = small(pcp=False)
    allocator.alloc_pages_bulk(5, GFP_KERNEL, 127)
    with pytest.raises(OutOfMemoryError) as caught:
        allocator.alloc_pages(5, GFP_KERNEL)
    error = caught.value
    assert (error.order, error.gfp, error.cause) == (5, GFP_KERNEL, "watermark")
    words = "page allocation failure: order:5, mode:0xcc0(GFP_KERNEL): every zone it may use is below its"
    assert str(error) == f"{words} watermark"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert isinstance(error, MemoryError)
    counted = allocator.statistics()
    assert counted.failures == counted.failures_by_cause["watermark"] == 2
    assert allocator.verify() is None


def test_fragmentation_is_told_from_want():
    allocator = small(pcp=False, min_free=0)
    pages = allocator.alloc_pages_bulk(0, GFP_KERNEL, 5000)
    allocator.free_pages_bulk(np.sort(pages)[::2])
    with pytest.raises(OutOfMemoryError) as caught:
        allocator.alloc_pages(3, GFP_KERNEL)
    assert caught.value.cause == "fragmentation"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda a, p: a.free_pages(p + 1, 0), "not the first page"),
        (lambda a, p: a.free_pages(p, 1), "it is allocated with order 2"),
        (lambda a, p: a.free_pages(p + 4, 2), "it is free already"),
        (lambda a, p: a.free_pages(3, 0), "it is in no zone"),
        (lambda a, p: a.free_pages(-1, 0), "pfn -1, order 0: it is in no zone"),
        (lambda a, p: a.free_pages(1 << 70, 0), "it is in no zone"),
        (lambda a, p: a.free_pages(p, 6), "order 6 is not in 0..5"),
        (lambda a, p: a.free_pages(p, -1), "order -1 is not in 0..5"),
        (lambda a, p: a.free_pages(p, 2, cpu=1), "cpu 1 is not in 0..0"),
        (lambda a, p: a.free_pages(p, 2, cpu=-1), "cpu -1"),
        (lambda a, p: a.alloc_pages(6, GFP_KERNEL), "order 6 is not in 0..5"),
        (lambda a, p: a.alloc_pages(1 << 40, GFP_KERNEL), "order 1099511627776 is not"),
        (lambda a, p: a.alloc_pages(0, -1), "gfp -1: a request word has 32 bits"),
        (lambda a, p: a.alloc_pages(0, 1 << 32), "a request word has 32 bits"),
        (lambda a, p: a.alloc_pages(0, 0x18), "gfp 0x18: __GFP_MOVABLE and __GFP_RECLAIMABLE"),
        (lambda a, p: a.alloc_pages(0, GFP_KERNEL, cpu=9), "cpu 9 is not in 0..0"),
        (lambda a, p: a.alloc_pages_bulk(0, GFP_KERNEL), "n is missing"),
        (lambda a, p: a.alloc_pages_bulk(0, GFP_KERNEL, -1), "n -1"),
        (lambda a, p: a.alloc_pages_bulk([0, 6], GFP_KERNEL), "order 6 is not in 0..5"),
        (lambda a, p: a.alloc_pages_bulk([0, -1], GFP_KERNEL), "order -1 is not in 0..5"),
        (lambda a, p: a.alloc_pages_bulk([0, 1], GFP_KERNEL, 3), "one integer, or 3 of them"),
        (lambda a, p: a.alloc_pages_bulk([0.5], GFP_KERNEL), "float64"),
        (lambda a, p: a.alloc_pages_bulk(0, GFP_KERNEL, 4, np.zeros(3, np.uint32)), "array of 4 uint32"),
        (lambda a, p: a.alloc_pages_bulk(0, GFP_KERNEL, 4, np.zeros(4, np.int64)), "array of 4 uint32"),
        (lambda a, p: a.alloc_pages_bulk(0, GFP_KERNEL, 2, np.zeros(4, np.uint32)[::2]), "C-contiguous"),
        (lambda a, p: a.free_pages_bulk([p, p], 2), "element 1, free of pfn .* it is given twice"),
        (lambda a, p: a.free_pages_bulk([p, p + 4], 2), "element 1, .* it is free already"),
        (lambda a, p: a.free_pages_bulk([p, 7], 2), "element 1, .* it is in no zone; nothing was freed"),
        (lambda a, p: a.free_pages_bulk([p, -7], 2), "pfn -7 is in no zone"),
        (lambda a, p: a.free_pages_bulk([p], [2, 2]), "one integer, or 1 of them"),
        (lambda a, p: a.free_pages_bulk([[p]], 2), "one-dimensional"),
        (lambda a, p: a.free_pages_bulk([float(p)], 2), "float64"),
        (lambda a, p: a.free_contig_range(p, 4), "it is allocated with order 2"),
        (lambda a, p: a.alloc_contig_range(p, p), "not a range of one zone"),
        (lambda a, p: a.isolate(0, 16), "not a range of one zone"),
        (lambda a, p: a.drain(cpu=3), "cpu 3"),
        (lambda a, p: a.replay(), "no trace"),
        (lambda a, p: a.unusable_index("DMA"), "zones are 0: node 0 Normal"),
        (lambda a, p: a.free_lists(1), "zone 1"),
        (lambda a, p: a.set_memory_ro(1, 1), "not inside"),
    ],
)
def test_refusals_name_the_value_and_change_nothing(call, words):
    allocator = small()
    pfn = allocator.alloc_pages(2, GFP_KERNEL)
    before, counted = state(allocator), allocator.statistics()
    with pytest.raises(ValueError, match=words):
        call(allocator, pfn)
    assert state(allocator) == before
    assert allocator.statistics() == counted
    assert allocator.verify() is None
    allocator.free_pages(pfn, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"memory": "12Q"}, "12Q"),
        ({"memory": 0}, "positive"),
        ({"memory": "1M", "single_zone": True}, "one pageblock"),
        ({"memory": "8M"}, "at least 64M"),
        ({"design": "perfect"}, "unknown design 'perfect'"),
        ({"kernel": "2.4"}, "unknown kernel"),
        ({"cpus": 0}, "cpus 0"),
        ({"nodes": 2, "single_zone": True}, "nodes 2"),
        ({"max_page_order": 3}, "pageblock_order 9"),
        ({"cma": "3K"}, "3K"),
        ({"cma": "3M"}, "whole pageblocks"),
        ({"min_free": -1}, "min_free -1"),
        ({"watermark_boost_factor": -1}, "watermark_boost_factor -1"),
        ({"distances": ((10, 20),)}, "distances"),
        ({"nodes": 2, "distances": ((10, 9), (20, 10))}, "distance 9 from node 0 to 1"),
        ({"hotplug": "100M"}, "not a multiple of the memory block"),
        ({"hotplug": "1G", "hotplug_zone": "DMA"}, "Normal or Movable"),
        ({"hotplug": "1G", "memory_block": "96M"}, "power of two"),
        ({"hotplug": [(0, 1)]}, "expected a size"),
    ],
)
def test_machines_that_cannot_be(arguments, words):
    with pytest.raises(ValueError, match=words):
        Allocator(**{"memory": "128M", **arguments})


@pytest.mark.parametrize("wrong", ["0", 0.0, None])
def test_types_are_checked(wrong):
    allocator = small()
    with pytest.raises(TypeError):
        allocator.alloc_pages(wrong, GFP_KERNEL)
    with pytest.raises(TypeError):
        allocator.free_pages(wrong, 0)


def test_numpy_numbers_are_numbers():
    allocator = small()
    pfn = allocator.alloc_pages(np.int64(1), np.uint32(GFP_KERNEL), cpu=np.uint8(0))
    allocator.free_pages(np.uint64(pfn), np.int8(1))
    assert allocator.statistics().frees == 1


# ---------------------------------------------------------------- bulk


@pytest.mark.parametrize("design", ["linux", "migratetype", "freetype", "pool", "per-page", "rfcv2-queue"])
def test_bulk_calls_are_many_single_ones(design):
    one, many = small(design), small(design)
    orders = np.random.default_rng(1).geometric(0.6, 300).clip(1, 5) - 1
    for gfp in (GFP_KERNEL, USER):
        pfns = many.alloc_pages_bulk(orders, gfp)
        assert pfns.dtype == np.uint32
        assert pfns.tolist() == [one.alloc_pages(order, gfp) for order in orders.tolist()]
        back = np.random.default_rng(2).permutation(len(pfns))[:200]
        many.free_pages_bulk(pfns[back], orders[back])
        for i in back:
            one.free_pages(pfns[i], orders[i])
        assert state(one) == state(many)
    assert one.statistics() == many.statistics()
    assert many.verify() is None


def test_bulk_stops_where_memory_ends():
    allocator = small(pcp=False)
    out = np.zeros(5000, np.uint64)
    got = allocator.alloc_pages_bulk(0, GFP_KERNEL, out=out)
    assert got.base is out
    assert 3000 < len(got) < 4096
    assert not out[len(got) :].any()
    assert len(np.unique(got)) == len(got)
    with pytest.raises(OutOfMemoryError):
        allocator.alloc_pages(0, GFP_KERNEL)
    assert allocator.statistics().failures == 2
    allocator.free_pages_bulk(got)
    assert allocator.buddyinfo() == small(pcp=False).buddyinfo()


def test_bulk_of_nothing():
    allocator = small()
    assert len(allocator.alloc_pages_bulk(0, GFP_KERNEL, 0)) == 0
    assert len(allocator.alloc_pages_bulk(np.zeros(0, np.uint8), GFP_KERNEL)) == 0
    allocator.free_pages_bulk([])
    allocator.free_pages_bulk([], [])
    allocator.free_pages_bulk(np.zeros(0, np.uint32))
    assert allocator.statistics().allocations == 0


def test_frames_beyond_32_bits():
    spec = single_zone("64M", start_pfn=1 << 20)
    zone = replace(spec.zones[0], start_pfn=1 << 33)
    allocator = Allocator(replace(spec, zones=(zone,)))
    pfns = allocator.alloc_pages_bulk(0, GFP_KERNEL, 10)
    assert pfns.dtype == np.uint64
    assert pfns.min() >= 1 << 33
    with pytest.raises(ValueError, match="do not fit uint32"):
        allocator.alloc_pages_bulk(0, GFP_KERNEL, out=np.zeros(2, np.uint32))
    allocator.free_pages_bulk(pfns)
    pfn = allocator.alloc_pages(0)
    assert pfn >= 1 << 33
    allocator.free_pages(pfn)


# ---------------------------------------------------------------- several nodes


def test_requests_go_to_the_cpus_node_and_then_to_the_next():
    allocator = Allocator("512M", nodes=4, cpus=4, pcp=False)
    assert [zone.nid for zone in allocator.spec.zones] == sorted(zone.nid for zone in allocator.spec.zones)
    home = {cpu: allocator.alloc_pages(0, cpu=cpu) for cpu in range(4)}
    of = {pfn: zone.nid for zone in allocator.spec.zones for pfn in home.values() if _in(zone, pfn)}
    assert [of[home[cpu]] for cpu in range(4)] == [0, 1, 2, 3]
    seen: list[int] = []
    pages = allocator.alloc_pages_bulk(0, GFP_KERNEL, 1 << 20, cpu=2)
    for pfn in pages[:: len(pages) // 64].tolist():
        nid = next(zone.nid for zone in allocator.spec.zones if _in(zone, pfn))
        if nid not in seen[-1:]:
            seen.append(nid)
    assert seen[0] == 2
    assert list(dict.fromkeys(seen)) == [2, 3, 0, 1]


def _in(zone, pfn):
    return zone.start_pfn <= pfn < zone.end_pfn


def test_thisnode_stays():
    allocator = Allocator("256M", nodes=2, cpus=2, pcp=False)
    pages = allocator.alloc_pages_bulk(0, GFP_KERNEL | THISNODE, 1 << 20, cpu=1)
    assert len(pages) < allocator.statistics().pages_managed * 0.6
    assert all(
        any(_in(zone, pfn) and zone.nid == 1 for zone in allocator.spec.zones) for pfn in pages.tolist()
    )
    with pytest.raises(OutOfMemoryError, match="__GFP_THISNODE"):
        allocator.alloc_pages(0, GFP_KERNEL | THISNODE, cpu=1)
    assert not any(_in(z, allocator.alloc_pages(0, GFP_KERNEL, cpu=1)) for z in allocator.spec.zones if z.nid)


@pytest.mark.parametrize(("cpu", "zone"), [(0, (0, "DMA32")), (1, (1, "Normal"))])
def test_fragmentation_is_avoided_but_not_by_leaving_the_node(cpu, zone):
    """alloc_flags_nofragment() and get_page_from_freelist(): first another zone, then mixed blocks."""
    allocator = Allocator("8G", nodes=2, cpus=2, pcp=False)
    normal = next(z for z in allocator.spec.zones if (z.nid, z.name) == (cpu, "Normal"))
    everything = USER | THISNODE | parse_gfp("__GFP_MEMALLOC")
    pages: npt.NDArray[Any] = np.sort(allocator.alloc_pages_bulk(0, everything, 1 << 21, cpu=cpu))
    here = (pages >= normal.start_pfn) & (pages < normal.end_pfn)
    assert here.sum() == normal.managed
    allocator.free_pages_bulk(np.concatenate([pages[~here], pages[here][::2]]))
    pfn = allocator.alloc_pages(0, GFP_KERNEL, cpu=cpu)
    assert [(z.nid, z.name) for z in allocator.spec.zones if _in(z, pfn)] == [zone]
    assert allocator.verify() is None


def test_fallback_order_follows_distance_and_load():
    spec = machine("512M", nodes=4, cpus=4)
    assert fallback_order(spec) == {0: [0, 1, 2, 3], 1: [1, 2, 3, 0], 2: [2, 3, 0, 1], 3: [3, 0, 1, 2]}
    far = replace(spec, distances=((10, 40, 20, 30), (40, 10, 20, 20), (20, 20, 10, 20), (30, 20, 20, 10)))
    assert fallback_order(far)[0] == [0, 2, 3, 1]
    assert fallback_order(far)[1][0] == 1
    assert cpu_nodes(spec) == (0, 1, 2, 3)
    assert cpu_nodes(replace(spec, cpus=6)) == (0, 0, 1, 1, 2, 3)
    assert cpu_nodes(replace(spec, cpus=2, cpu_nodes=(3, 0))) == (3, 0)
    with pytest.raises(ValueError, match="node 7 has no zone"):
        Allocator(replace(spec, cpus=1, cpu_nodes=(7,)))


def test_nodes_without_cpus_are_last_resort_and_first_choice():
    """find_next_best_node() prefers a node without CPUs among equals."""
    spec = replace(machine("512M", nodes=4, cpus=3), cpus=3, cpu_nodes=(0, 1, 2))
    assert fallback_order(spec)[0] == [0, 3, 1, 2]


# ---------------------------------------------------------------- texts and numbers


@pytest.mark.parametrize("kernel", KERNELS)
def test_texts_are_the_kernels(kernel):
    allocator = Allocator("4G", kernel=kernel, cpus=2, nodes=2)
    allocator.alloc_pages_bulk(0, GFP_KERNEL, 1000)
    forms: tuple[tuple[str, Callable[[str], Any], Callable[[Any], str]], ...] = (
        (allocator.buddyinfo(), procfs.parse_buddyinfo, procfs.buddyinfo),
        (allocator.pagetypeinfo(), procfs.parse_pagetypeinfo, procfs.pagetypeinfo),
        (allocator.zoneinfo(), procfs.parse_zoneinfo, procfs.zoneinfo),
    )
    for text, parse, form in forms:
        assert form(parse(text)) == text
    zones = procfs.parse_zoneinfo(allocator.zoneinfo())
    assert len(zones) == 10
    counted = allocator.statistics()
    assert sum(zone.pages["managed"] for zone in zones) == counted.pages_managed
    free = sum(
        n << o for zone in procfs.parse_buddyinfo(allocator.buddyinfo()) for o, n in enumerate(zone.free)
    )
    assert free == counted.pages_free
    assert counted.pages_pcp == sum(p["count"] for zone in zones for p in zone.pagesets.values())
    names = [freetype.name for freetype in allocator.design.freetypes]
    assert list(procfs.parse_pagetypeinfo(allocator.pagetypeinfo()).migratetypes) == names


def test_a_pc_looks_like_one():
    """The PCI hole is spanned, and no pageblock of it counted, as on any machine with more than 3 GiB."""
    allocator = Allocator("8G")
    dma32 = next(z for z in procfs.parse_zoneinfo(allocator.zoneinfo()) if z.name == "DMA32")
    assert (dma32.pages["spanned"], dma32.pages["present"]) == (1044480, 782336)
    blocks = {z.name: sum(z.blocks) for z in procfs.parse_pagetypeinfo(allocator.pagetypeinfo()).zones}
    assert blocks == {"DMA": 8, "DMA32": 782336 // 512, "Normal": 5 * 512}


def test_indexes():
    allocator = small(pcp=False)
    assert allocator.unusable_index() == (0,) * 6
    assert allocator.extfrag_index("Normal") == (-1000,) * 6
    pages = allocator.alloc_pages_bulk(0, GFP_KERNEL, 4096)
    allocator.free_pages_bulk(np.sort(pages)[::2])
    assert allocator.unusable_index()[0] == 0
    assert allocator.unusable_index(0)[1] > 700


def test_statistics_are_frozen_and_add_up():
    allocator = small("migratetype", pcp=False)
    user = allocator.alloc_pages_bulk(0, USER, 1000)
    kernel = allocator.alloc_pages_bulk(0, GFP_KERNEL, 1000)
    s = allocator.statistics()
    assert isinstance(s, Statistics)
    with pytest.raises(FrozenInstanceError):
        s.flips_s2n = 0  # type: ignore[attr-defined]
    assert s.allocations == 2000
    assert s.flips_s2n >= 1000 // 16
    assert s.bytes_zeroed == s.flips_s2n * 16 * 4096
    assert s.pages_managed - s.pages_free == 2000
    assert s.leaked_pages == s.uncleared_pages == s.absent_pages == 0
    assert s.physmap.map_calls[1] > 0
    assert allocator.physmap.present(int(kernel[0]))
    assert not allocator.physmap.present(int(user[0]))
    # no flip back, but pageblocks of 16 pages split the leaves they lie in
    assert s.tlb_flushes == s.physmap.flushes_split == sum(s.physmap.splits_2m)
    assert sum(s.pages_free_by_type.values()) == s.pages_free


@pytest.mark.parametrize("design", sorted(set(DESIGNS)))
def test_every_design_serves_and_takes_back(design):
    allocator = small(design, cpus=2)
    rng = np.random.default_rng(3)
    for gfp in (GFP_KERNEL, USER, GFP_KERNEL | SENSITIVE):
        pages = allocator.alloc_pages_bulk(0, gfp, 500, cpu=1)
        assert len(pages) == 500
        allocator.free_pages_bulk(rng.permutation(pages))
    allocator.tick()
    assert allocator.verify() is None
    assert allocator.statistics().allocations == 1500


def test_ticks_and_drains_empty_the_lists():
    allocator = small(cpus=2)
    for cpu in range(2):
        allocator.free_pages_bulk(allocator.alloc_pages_bulk(0, GFP_KERNEL, 50, cpu=cpu), cpu=cpu)
    held = allocator.statistics().pages_pcp
    assert held > 0
    allocator.tick()
    allocator.drain(0)
    assert allocator.pcp_state(0, 0)["count"] == 0
    allocator.drain()
    assert allocator.statistics().pages_pcp == 0
    assert allocator.verify() is None


# ---------------------------------------------------------------- contiguous ranges


def test_contiguous_range():
    allocator = small(pcp=False)
    start = allocator.spec.zones[0].start_pfn + 64
    before = allocator.pageblocks().tolist()
    allocator.alloc_contig_range(start + 3, start + 35)
    assert allocator.verify() is None
    with pytest.raises(RangeBusyError) as caught:
        allocator.alloc_contig_range(start, start + 8)
    assert (caught.value.errno, caught.value.pfn) == (16, start + 3)
    assert "it is allocated with order 0" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert allocator.pageblocks().tolist() == before
    allocator.free_contig_range(start + 3, 32)
    assert allocator.buddyinfo() == small(pcp=False).buddyinfo()


def test_isolated_pages_are_out_of_reach():
    allocator = small(pcp=False)
    zone = allocator.spec.zones[0]
    allocator.isolate(zone.start_pfn, zone.start_pfn + 2048)
    types = [allocator.design.freetypes[i].mt for i in allocator.pageblocks().tolist()]
    assert types.count(Migratetype.ISOLATE) == 2048 // 16
    pages = allocator.alloc_pages_bulk(0, GFP_KERNEL, 4096)
    assert pages.min() >= zone.start_pfn + 2048
    with pytest.raises(RangeBusyError):
        allocator.isolate(zone.start_pfn + 2048, zone.end_pfn)
    allocator.unisolate(zone.start_pfn, zone.start_pfn + 2048)
    allocator.free_pages_bulk(pages)
    assert allocator.verify() is None
    assert allocator.statistics().pages_free == 4096


def test_cma():
    allocator = small(cma="1M", pcp=False)
    cma = allocator.spec.zones[0].cma[0]
    pages = allocator.alloc_pages_bulk(0, GFP_KERNEL, 4096)
    assert pages.max() < cma[0]
    allocator.alloc_contig_range(cma[0], cma[0] + 100, USER, cma=True)
    allocator.free_contig_range(cma[0], 100)
    assert allocator.verify() is None
    assert "CMA" in allocator.pagetypeinfo()


def test_cma_of_a_whole_machine():
    allocator = Allocator("4G", cma="64M")
    assert allocator.zone_state(0)["cma"] == 64 << 8
    assert allocator.verify() is None


# ---------------------------------------------------------------- the rest


def test_a_given_machine_is_taken_as_it_is():
    spec: MachineSpec = single_zone("32M", cpus=2)
    allocator = Allocator(spec, "migratetype", "6.12")
    assert allocator.spec is spec
    assert allocator.kernel.version == "6.12"
    assert repr(allocator) == "<Allocator migratetype/sound, kernel 6.12, managed pages: Normal 8192>"
    with pytest.raises(TypeError):
        pickle.dumps(allocator)
    with pytest.raises(RuntimeError, match="once"):
        allocator.__init__("64M")  # type: ignore[misc]


def test_protection_reaches_both_trees():
    allocator = small("migratetype")
    pfn = allocator.alloc_pages(0, GFP_KERNEL)
    allocator.set_memory_ro(pfn, 1)
    allocator.set_memory_x(pfn, 1)
    for tree in ("unrestricted", "restricted"):
        leaf = allocator.physmap.lookup(pfn, tree=tree)
        assert leaf is not None
        assert not leaf.entry & PageBit.RW
        assert not leaf.entry & PageBit.NX
    allocator.set_memory_rw(pfn, 1)
    allocator.set_memory_nx(pfn, 1)
    assert allocator.verify() is None


def test_replay_of_a_bundled_trace_and_calls_after_it():
    allocator = Allocator.from_trace("redis", "migratetype", memory="768M")
    assert allocator.trace is not None
    half = len(allocator.trace.ops) // 2
    assert allocator.replay(0, half) == half
    assert allocator.replay() == len(allocator.trace.ops) - half
    assert allocator.replay() == 0
    assert allocator.verify() is None
    pfn = allocator.alloc_pages(0, GFP_KERNEL)
    allocator.free_pages(pfn)
    entry = replay("redis", "migratetype", memory="768M", samples=2)
    s = allocator.statistics()
    assert entry.metrics["flips_s2n"] == s.flips_s2n
    assert entry.value("failures") == s.failures
    assert entry.metrics["allocations"] == s.allocations - 1
    with pytest.raises(ValueError, match=r"operations \[5, 3\)"):
        allocator.replay(5, 3)
    with pytest.raises(ValueError, match="settled"):
        replay(allocator.trace, memory="1G")


def bulk_calls(allocator: Allocator, until: threading.Event) -> threading.Thread:
    """Another thread, in bulk calls nearly all the time."""

    def work() -> None:
        for _ in range(200):
            if until.is_set():
                break
            with contextlib.suppress(RuntimeError):  # where the other one came first
                allocator.free_pages_bulk(allocator.alloc_pages_bulk(0, GFP_KERNEL, 900_000))

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_one_thread_at_a_time() -> None:
    """A call beside a bulk call of another thread is refused; two allocators do not see each other."""
    allocator, other, done = Allocator("4G", pcp=False), small(), threading.Event()
    refused: list[str] = []
    thread = bulk_calls(allocator, done)
    while thread.is_alive() and not refused:
        other.free_pages(other.alloc_pages(0))
        try:
            allocator.alloc_pages(0)
        except RuntimeError as error:
            refused.append(str(error))
    done.set()
    thread.join()
    assert allocator.verify() is None
    assert refused == ["a bulk call or a replay of this allocator is running in another thread"]


def test_single_calls_of_several_threads_take_their_turns() -> None:
    """With a GIL and without one (python3.14t): no page is handed out twice, no count is lost."""
    allocator, each = Allocator("1G", single_zone=True, cpus=4), 48_000
    held: list[list[int]] = [[] for _ in range(4)]
    begin = threading.Barrier(4)

    def work(cpu: int) -> None:
        mine = held[cpu]
        begin.wait()
        for turn in range(each):
            mine.append(allocator.alloc_pages(0, GFP_KERNEL, cpu=cpu))
            if turn % 3 == 2:
                allocator.free_pages(mine.pop(-2), cpu=cpu)

    threads = [threading.Thread(target=work, args=(cpu,)) for cpu in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pages = [pfn for mine in held for pfn in mine]
    assert len(pages) == len(set(pages)) == 4 * (each - each // 3)
    assert (allocator.allocations, allocator.frees) == (4 * each, 4 * (each // 3))
    assert allocator.verify() is None


def test_of_two_bulk_calls_at_once_one_is_refused() -> None:
    """Also where the second begins while the first still looks at its arguments, in Python."""
    allocator, done = Allocator("4G", pcp=False), threading.Event()

    class Orders:
        """Asked for an array, it waits until another thread's bulk call runs."""

        def __len__(self) -> int:
            return 50

        def __array__(self, dtype: Any = None, copy: Any = None) -> npt.NDArray[Any]:
            while thread.is_alive():
                try:
                    allocator.alloc_pages(0)
                except RuntimeError:
                    break
            return np.zeros(50, np.uint8)

    thread = bulk_calls(allocator, done)
    refused: list[str] = []
    while thread.is_alive() and not refused:
        try:
            allocator.alloc_pages_bulk(Orders(), GFP_KERNEL, 50)
        except RuntimeError as error:
            refused.append(str(error))
    done.set()
    thread.join()
    assert allocator.verify() is None
    assert refused == ["a bulk call or a replay of this allocator is running in another thread"]


class Waiting(Design):
    """Its first hook of a replay says that it is there, and goes on when it is told to."""

    def choose_block(self, view: Any, order: int, freetype: str) -> int | None:
        if not INSIDE.is_set():
            INSIDE.set()
            assert GO_ON.wait(60)
        return None


INSIDE, GO_ON = threading.Event(), threading.Event()


def test_of_two_replays_at_once_one_is_refused() -> None:
    """So are other calls, and the replay under way comes to what it does alone."""
    design = Waiting.based_on("migratetype", name="waiting", title="a hook that waits")
    trace = compile_trace(workload("bursts", "32M", 3), "share=0.6", memory="24M", seed=5)
    allocator, alone = (Allocator.from_trace(trace, design) for _ in range(2))
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(allocator.replay(0, 20_000)))
    thread.start()
    try:
        assert INSIDE.wait(60)
        for call in (
            allocator.replay,
            lambda: allocator.replay(0, 20_000),
            lambda: allocator.replay(3, 2),
            lambda: allocator.alloc_pages(0),
            lambda: allocator.alloc_pages_bulk(0, GFP_KERNEL, 4),
            allocator.verify,
        ):
            with pytest.raises(RuntimeError, match="a replay of this allocator is running in another thread"):
                call()
    finally:
        GO_ON.set()
        thread.join()
    assert done == [20_000] == [alone.replay(0, 20_000)]
    assert allocator.verify() is None
    assert state(allocator) == state(alone)
    with pytest.raises(ValueError, match=r"operations \[3, 2\)"):
        allocator.replay(3, 2)
    assert allocator.replay() == alone.replay() > 0  # nothing stays shut


def test_a_tick_folds_every_cpus_differences() -> None:
    """refresh_cpu_vm_stats(), mm/vmstat.c: NR_FREE_PAGES lags for a second at most."""
    allocator = Allocator("64M", single_zone=True, cpus=4, pcp=False)
    for cpu in range(4):
        allocator.alloc_pages(1, GFP_KERNEL, cpu=cpu)
    free = allocator.statistics().pages_free
    assert allocator.zone_state(0)["nr_free_pages"] > free
    allocator.tick()
    assert allocator.zone_state(0)["nr_free_pages"] == free
    assert allocator.verify() is None
