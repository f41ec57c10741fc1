"""Memory blocks added, onlined, offlined, removed: zones, limits and both direct maps follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from asi_pa.kernel import procfs
from asi_pa.kernel.gfp import GFP_KERNEL, parse_gfp

pytest.importorskip("asi_pa.allocator.allocator", reason="the extension modules are not built")

from asi_pa.allocator import Allocator, OutOfMemoryError, RangeBusyError
from asi_pa.designs import DESIGNS
from asi_pa.kernel.sizing import single_zone
from asi_pa.physmap.records import Cause, LogOp

SENSITIVE = parse_gfp("__GFP_SENSITIVE")
USER = parse_gfp("GFP_HIGHUSER_MOVABLE") | SENSITIVE
BLOCK = 1024  # pages of 4M


def plug(design="linux", **more):
    """16 MiB and room for as much again, in memory blocks of 4 MiB; pageblocks of 16 pages."""
    more = {"single_zone": True, "pageblock_order": 4, "max_page_order": 5} | more
    return Allocator("16M", design, hotplug="16M", memory_block="4M", **more)


def states(allocator):
    return [block.state for block in allocator.memory_blocks()]


def everything(allocator):
    """What an allocator is, as far as it can be seen."""
    zones = range(len(allocator.spec.zones))
    return (
        [allocator.machine.dump(zone).tobytes() for zone in zones],
        allocator.spec,
        allocator.memory_blocks(),
        allocator.zoneinfo(),
        allocator.statistics(),
        allocator.physmap.leaf_counts(),
        allocator.physmap.mapped_pages(tree="unrestricted"),
    )


@pytest.mark.parametrize("design", sorted(set(DESIGNS)))
def test_there_and_back(design):
    allocator = plug(design)
    fresh = plug(design)
    base = allocator.spec.zones[0].start_pfn
    room = base + 4 * BLOCK
    assert states(allocator) == ["online"] * 4 + ["absent"] * 4
    mapped = allocator.physmap.mapped_pages(tree="unrestricted")
    assert mapped == 4 * BLOCK

    allocator.add_memory(room, 2 * BLOCK)
    assert states(allocator) == ["online"] * 4 + ["offline"] * 2 + ["absent"] * 2
    assert allocator.physmap.mapped_pages(tree="unrestricted") == 6 * BLOCK
    assert allocator.statistics().pages_managed == 4 * BLOCK

    allocator.online_pages(room, BLOCK)
    assert states(allocator) == ["online"] * 5 + ["offline"] + ["absent"] * 2
    assert allocator.statistics().pages_free == allocator.statistics().pages_managed == 5 * BLOCK
    assert allocator.verify() is None

    pages = allocator.alloc_pages_bulk(0, GFP_KERNEL, 6 * BLOCK)
    assert pages.max() >= room
    with pytest.raises(RangeBusyError) as caught:
        allocator.offline_pages(room, BLOCK)
    assert room <= caught.value.pfn < room + BLOCK
    allocator.free_pages_bulk(pages)
    if allocator.design.wrapper in ("", "per-page"):
        allocator.offline_pages(room, BLOCK)
        allocator.remove_memory(room, 2 * BLOCK)
        assert states(allocator) == states(fresh)
        assert allocator.spec == fresh.spec
        assert allocator.physmap.mapped_pages(tree="unrestricted") <= mapped
    if not design.startswith(("migratetype/as", "freetype/as")):
        # as posted, the restricted tree forgets what was removed (docs/engine/physmap.md)
        assert allocator.verify() is None


def test_freshly_onlined_memory_is_used_last():
    """generic_online_page() and undo_isolate_page_range() put it to the tails."""
    allocator = plug(pcp=False)
    room = allocator.spec.zones[0].start_pfn + 4 * BLOCK
    allocator.add_memory(room, BLOCK)
    allocator.online_pages(room, BLOCK)
    pages = allocator.alloc_pages_bulk(5, USER, 5 * BLOCK // 32)
    assert (pages[: 4 * BLOCK // 32] < room).all()
    assert (pages[4 * BLOCK // 32 :] >= room).all()


def test_limits_are_those_of_a_machine_of_that_size():
    """init_per_zone_wmark_min(): as if the memory had been there from the start."""
    grown = Allocator("64M", single_zone=True, hotplug="128M", cpus=2)
    start = next(block.start_pfn for block in grown.memory_blocks() if block.state == "absent")
    grown.add_memory(start, 1 << 15)
    grown.online_pages(start, 1 << 15)
    large = Allocator("192M", single_zone=True, cpus=2)
    for one, two in zip(grown.spec.zones, large.spec.zones, strict=True):
        assert (one.wmark, one.lowmem_reserve, one.pcp, one.stat_threshold) == (
            two.wmark,
            two.lowmem_reserve,
            two.pcp,
            two.stat_threshold,
        )
    assert grown.pcp_state() == large.pcp_state()
    zone = procfs.parse_zoneinfo(grown.zoneinfo())[2]
    assert zone.pages["managed"] == zone.pages["present"] == 192 << 8


def test_given_limits_stay():
    spec = single_zone("8M", pageblock_order=4, max_page_order=5)
    zone = spec.zones[0]
    spec = replace(
        spec,
        zones=(
            replace(
                zone,
                spanned=2 * zone.spanned,
                holes=((zone.end_pfn, zone.end_pfn + zone.spanned),),
                managed=zone.spanned,
                present=zone.spanned,
            ),
        ),
    )
    allocator = Allocator(spec, hotplug=[(zone.end_pfn, zone.end_pfn + 1024)], memory_block="4M")
    allocator.add_memory(zone.end_pfn, 1024)
    allocator.online_pages(zone.end_pfn, 1024)
    assert allocator.spec.zones[0].wmark == zone.wmark
    assert allocator.statistics().pages_managed == zone.spanned + 1024
    with pytest.raises(ValueError, match="not whole blocks of 1024 pages inside a hole"):
        Allocator(spec, hotplug=[(zone.end_pfn - 1024, zone.end_pfn)], memory_block="4M")
    with pytest.raises(ValueError, match="give pfn ranges"):
        Allocator(spec, hotplug="4M")


def test_a_movable_zone_appears_in_the_zonelist_and_goes():
    allocator = Allocator("256M", hotplug="256M", hotplug_zone="Movable", cpus=2)
    start, n = next((b.start_pfn, 2 * b.pages) for b in allocator.memory_blocks() if b.state == "absent")
    assert allocator.spec.zones[0].name == "Movable"
    assert "Movable" not in allocator.buddyinfo()
    assert allocator.alloc_pages(0, USER) < start
    allocator.add_memory(start, n)
    allocator.online_pages(start, n)
    assert "Movable" in allocator.buddyinfo()
    movable = allocator.alloc_pages(0, USER)
    assert movable >= start
    assert allocator.alloc_pages(0, GFP_KERNEL) < start
    allocator.free_pages(movable)
    allocator.offline_pages(start, n)
    assert "Movable" not in allocator.buddyinfo()
    assert allocator.alloc_pages(0, USER) < start
    assert allocator.verify() is None


def test_a_whole_node_can_leave():
    """Its CPU's requests then go to the other node, and those that may not go there fail."""
    allocator = Allocator("256M", nodes=2, cpus=2, memory_block="4M")
    node = [b for b in allocator.memory_blocks() if b.nid == 1]
    for block in node:
        if block.removable:
            allocator.offline_pages(block.start_pfn, block.pages)
    left = [b for b in allocator.memory_blocks() if b.nid == 1 and b.state == "online"]
    assert all(not block.removable for block in left)
    pages = allocator.alloc_pages_bulk(0, GFP_KERNEL, 1000, cpu=1)
    assert len(pages) == 1000
    for _ in range(2):
        with pytest.raises(OutOfMemoryError):
            allocator.alloc_pages(10, GFP_KERNEL | parse_gfp("__GFP_THISNODE"), cpu=1)
    assert allocator.verify() is None


@pytest.mark.parametrize("pcp", [True, False])
def test_busy_memory_stays_as_it_is(pcp):
    allocator = plug("migratetype", pcp=pcp, cpus=2)
    base = allocator.spec.zones[0].start_pfn
    keep = allocator.alloc_pages_bulk(0, GFP_KERNEL, 600)
    allocator.free_pages_bulk(keep[1:])
    before = everything(allocator)
    with pytest.raises(RangeBusyError, match=f"pfn {int(keep[0])}: it is allocated") as caught:
        allocator.offline_pages(base, 4 * BLOCK)
    assert (caught.value.start, caught.value.end) == (base, base + 4 * BLOCK)
    assert everything(allocator) == before


def test_offline_finds_pages_on_per_cpu_lists():
    allocator = plug(cpus=2)
    base = allocator.spec.zones[0].start_pfn
    for cpu in range(2):
        allocator.free_pages_bulk(allocator.alloc_pages_bulk(0, GFP_KERNEL, 30, cpu=cpu), cpu=cpu)
    assert allocator.statistics().pages_pcp
    allocator.offline_pages(base, 3 * BLOCK)
    assert allocator.statistics().pages_pcp == 0
    assert allocator.statistics().pages_free == BLOCK
    zone = procfs.parse_zoneinfo(allocator.zoneinfo())[2]
    assert (zone.tail["start_pfn"], zone.pages["spanned"]) == (base + 3 * BLOCK, BLOCK)
    assert allocator.verify() is None
    allocator.online_pages(base, 3 * BLOCK)
    assert allocator.statistics().pages_free == 4 * BLOCK
    assert allocator.verify() is None


@pytest.mark.parametrize(
    ("step", "pfn", "n", "words"),
    [
        ("add_memory", 0, BLOCK, "there already"),
        ("add_memory", 1 << 31, BLOCK, "no room for hotplug"),
        ("add_memory", 4, 100, "not whole memory blocks of 1024"),
        ("add_memory", 4, 0, "not whole memory blocks"),
        ("add_memory", 8, BLOCK, "there already"),
        ("online_pages", 4, BLOCK, "is not offline"),
        ("online_pages", 0, BLOCK, "is not offline"),
        ("offline_pages", 4, BLOCK, "are not online"),
        ("offline_pages", 3, 2 * BLOCK, "are not online"),
        ("offline_pages", 8, BLOCK, "not inside one zone"),
        ("remove_memory", 0, BLOCK, "is not offline"),
        ("remove_memory", 4, BLOCK, "is not offline"),
    ],
)
def test_refusals(step, pfn, n, words):
    allocator = plug()
    before = everything(allocator)
    start = allocator.spec.zones[0].start_pfn + pfn * BLOCK
    with pytest.raises(ValueError, match=words):
        getattr(allocator, step)(start, n)
    assert everything(allocator) == before


def test_reserved_memory_cannot_go():
    """As on a PC: the first MiB and the memory map were never the allocator's."""
    allocator = Allocator("256M")
    block = next(b for b in allocator.memory_blocks() if not b.removable)
    assert block.state == "online"
    with pytest.raises(ValueError, match=r"have holes|not whole memory blocks"):
        allocator.offline_pages(block.start_pfn, block.pages)


def test_cma_cannot_go():
    allocator = plug(cma="4M")
    start, end = allocator.spec.zones[0].cma[0]
    with pytest.raises(RangeBusyError, match="its pageblock is CMA"):
        allocator.offline_pages(start, end - start)


@pytest.mark.parametrize("design", ["migratetype", "freetype"])
def test_nothing_stays_mapped_in_what_leaves(design):
    """The RFC's fourth TODO: the restricted tree follows, and a block comes back as boot makes one."""
    allocator = plug(design, pcp=False)
    base = allocator.spec.zones[0].start_pfn
    kernel = allocator.alloc_pages_bulk(0, GFP_KERNEL, 3 * BLOCK)
    allocator.free_pages_bulk(kernel)
    assert allocator.physmap.mapped_pages() >= 2 * BLOCK
    allocator.offline_pages(base, 4 * BLOCK)
    assert allocator.physmap.mapped_pages() == 0
    assert allocator.physmap.mapped_pages(tree="unrestricted") == 4 * BLOCK
    log = allocator.physmap.log()
    gone = log[(log["op"] == LogOp.UNMAP) & (log["cause"] == Cause.HOTPLUG)]
    assert gone["count"].sum() * 1 > 0
    allocator.remove_memory(base, 4 * BLOCK)
    assert allocator.physmap.mapped_pages(tree="unrestricted") == 0
    assert allocator.physmap.lookup(base) is None
    allocator.add_memory(base, 4 * BLOCK)
    assert allocator.physmap.mapped_pages(tree="unrestricted") == 4 * BLOCK
    allocator.online_pages(base, 4 * BLOCK)
    user = allocator.alloc_pages_bulk(0, USER, BLOCK)
    kernel = allocator.alloc_pages_bulk(0, GFP_KERNEL, BLOCK)
    assert len(user) == len(kernel) == BLOCK
    assert not any(allocator.physmap.present(pfn) for pfn in user[::50].tolist())
    assert all(allocator.physmap.present(pfn) for pfn in kernel[::50].tolist())
    assert allocator.statistics().leaked_pages == allocator.statistics().absent_pages == 0
    assert allocator.verify() is None


def test_random_hotplug_loses_nothing():
    allocator = plug("migratetype", cpus=2)
    base = allocator.spec.zones[0].start_pfn
    rng = np.random.default_rng(5)
    held: list[tuple[int, int]] = []
    counts = {"online": 0, "offline": 0, "busy": 0}
    for step in range(400):
        block = int(rng.integers(8))
        start = base + block * BLOCK
        what = states(allocator)[block]
        if what == "absent":
            allocator.add_memory(start, BLOCK)
        elif what == "offline":
            if rng.random() < 0.7:
                allocator.online_pages(start, BLOCK)
                counts["online"] += 1
            else:
                allocator.remove_memory(start, BLOCK)
        else:
            try:
                allocator.offline_pages(start, BLOCK)
                counts["offline"] += 1
            except RangeBusyError:
                counts["busy"] += 1
        for _ in range(40):
            if held and rng.random() < 0.55:
                pfn, order = held.pop(int(rng.integers(len(held))))
                allocator.free_pages(pfn, order, cpu=step % 2)
            else:
                order = int(rng.integers(3))
                try:
                    pfn = allocator.alloc_pages(order, [GFP_KERNEL, USER][int(rng.integers(2))])
                except OutOfMemoryError:
                    continue
                held.append((pfn, order))
        if step % 20 == 0:
            assert allocator.verify() is None
            s = allocator.statistics()
            assert s.pages_managed - s.pages_free - s.pages_pcp == sum(1 << order for _, order in held)
    assert all(counts.values()), counts
    assert allocator.statistics().leaked_pages == allocator.statistics().absent_pages == 0


@pytest.mark.parametrize("step", ["online", "offline"])
def test_online_and_offline_end_a_boost(step):
    """__setup_per_zone_wmarks(): watermark_boost = 0."""
    allocator = plug(pcp=False)
    room = allocator.spec.zones[0].start_pfn + 4 * BLOCK
    allocator.add_memory(room, BLOCK)
    if step == "offline":
        allocator.online_pages(room, BLOCK)
    taken = allocator.alloc_pages_bulk(0, USER, allocator.statistics().pages_free // 2)
    allocator.free_pages_bulk(taken[::2])
    held = []
    while not allocator.zone_state(0)["boost"]:
        # who does not wake kswapd, which would end the boost itself
        held.append(allocator.alloc_pages(0, parse_gfp("__GFP_DIRECT_RECLAIM")))
    allocator.free_pages_bulk(np.array([*held, *taken[1::2]]))
    assert allocator.zone_state(0)["boost"]
    if step == "online":
        allocator.online_pages(room, BLOCK)
    else:
        allocator.offline_pages(room, BLOCK)
    assert allocator.zone_state(0)["boost"] == 0
    assert allocator.verify() is None
