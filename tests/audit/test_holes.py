"""Every hole of the designs as posted, in a few operations: there in the posted one, gone in the sound ones.

The names are those of the sequences that real kernels ran (docs/use/audit.md), here in small: eight pages a
pageblock, largest blocks of two.  N: asks for mapped memory, S: for memory that is absent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from asi_pa.engine.machine import Machine
from asi_pa.kernel.gfp import GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NAMES, MODEL_LRU, Migratetype
from asi_pa.kernel.sizing import single_zone
from asi_pa.kernel.spec import MachineSpec, PcpSpec, ZoneSpec

BASE = 4096
ORDER, BLOCK = 3, 8
SENSITIVE = GFP_NAMES["__GFP_SENSITIVE"]
N, S = GFP_KERNEL, GFP_KERNEL | SENSITIVE
N_ATOMIC, S_ATOMIC = GFP_ATOMIC, GFP_ATOMIC | SENSITIVE
USER = GFP_HIGHUSER_MOVABLE | SENSITIVE | MODEL_LRU
N_MOVABLE = GFP_HIGHUSER_MOVABLE | MODEL_LRU
SLAB = GFP_KERNEL | GFP_NAMES["__GFP_RECLAIMABLE"] | SENSITIVE
MAY_NOT_BLOCK = GFP_NAMES["__GFP_MEMALLOC"]

PCP = PcpSpec(batch=2, high_min=32, high_max=32)
#: LOW out of reach, so that atomic requests reserve.
RESERVES: dict[str, Any] = {"blocks": 128, "wmark": (0, 2000, 2000, 2000)}


class Owners:
    """A small machine, and who owns what on it."""

    def __init__(self, design: str, blocks: int = 8, **zone: Any) -> None:
        spec = MachineSpec(
            zones=(ZoneSpec(start_pfn=BASE, spanned=blocks * BLOCK, **zone),),
            pageblock_order=ORDER,
            max_page_order=ORDER + 1,
            nofragment=False,
            watermark_boost_factor=0,
        )
        self.machine = Machine(spec, design)
        self.largest = blocks // 2
        self.live: dict[int, tuple[int, bool]] = {}

    def take(self, order: int, gfp: int) -> int:
        pfn = self.machine.alloc(order, gfp)
        if pfn >= 0:
            self.live[pfn] = order, bool(gfp & SENSITIVE)
        return pfn

    def take_all(self, order: int, gfp: int) -> None:
        while self.take(order, gfp) >= 0:
            pass

    def give(self, pfn: int) -> None:
        order, _ = self.live.pop(pfn)
        self.machine.free(pfn, order)

    def wrong(self) -> tuple[int, int, int]:
        """Live pages present although sensitive, absent although not; pages mapped with old secrets."""
        physmap, tree = self.machine.physmap, self.machine.design.tree
        assert physmap is not None
        exposed = hidden = 0
        for pfn, (order, sensitive) in self.live.items():
            here = sum(physmap.present(page, tree=tree) for page in range(pfn, pfn + (1 << order)))
            exposed += here * sensitive
            hidden += ((1 << order) - here) * (not sensitive)
        return exposed, hidden, int(self.machine.stats()["stale_exposed"])


def a1(m: Owners) -> None:
    """A free N block merges with the S block that is freed beside it."""
    m.give(m.take(0, N))
    for _ in range(m.largest - 1):
        m.take(ORDER + 1, S)
    m.give(m.take(ORDER, S))
    assert m.take(ORDER + 1, S) >= 0 or m.take(ORDER, S) >= 0


def a2(m: Owners) -> None:
    """An N block that is freed beside a free S block maps it, with what is in it."""
    m.give(m.take(0, N))
    for _ in range(m.largest - 1):
        m.take(ORDER + 1, S)
    s, n = m.take(ORDER, S), m.take(ORDER, N)
    m.give(s)
    m.give(n)


def b1(m: Owners) -> None:
    """S takes an order-9 page from the pcp list that N filled."""
    m.take(ORDER, N)
    m.take(ORDER, S)


def b2(m: Owners) -> None:
    """N takes one that a reclaimable request filled it with."""
    m.take(ORDER, SLAB)
    m.take(ORDER, N)


def b3(m: Owners) -> None:
    """S takes the very page that N freed."""
    m.give(m.take(ORDER, N))
    m.take(ORDER, S)


def c1(m: Owners) -> None:
    """A mapped block is reserved, then serves S."""
    m.take(1, N_ATOMIC)
    m.take(1, S_ATOMIC)


def c2(m: Owners) -> None:
    """An absent block is reserved, then serves N."""
    m.take(1, S_ATOMIC)
    m.take(1, N_ATOMIC)


def c3(m: Owners) -> None:
    """A reserve is given back to N while a sensitive page lives in it."""
    m.take(1, S_ATOMIC)
    m.machine.unreserve_highatomic(m.machine.design.freetype("UnmovableNons"), True)


def c4(m: Owners) -> None:
    """Everything is full, and N gets the reserve's page after all else failed."""
    m.take(1, S_ATOMIC)
    m.take_all(ORDER, S)
    m.take(0, N_ATOMIC)


def e1(m: Owners) -> None:
    """Page reporting makes a mapped block MOVABLE."""
    m.give(m.take(0, N))
    m.machine.take_and_putback(m.machine.design.freetype("UnmovableNons"), ORDER)
    m.take_all(ORDER + 1, USER)


def f1(m: Owners) -> None:
    """A contiguous range for S out of a block that N left mapped."""
    pfn = m.take(0, N)
    m.give(pfn)
    if m.machine.alloc_contig_range(pfn, pfn + BLOCK, gfp=S) == 0:
        m.live |= dict.fromkeys(range(pfn, pfn + BLOCK), (0, True))


def zeroing(m: Owners) -> None:
    """What a sensitive owner left is mapped as it is (the RFC's open point 2)."""
    m.give(m.take(0, S))
    m.take(0, N)


#: Sequence, zone, and (exposed, hidden, mapped with old secrets) in the RFC as posted.
MARCH: list[tuple[Callable[[Owners], None], dict[str, Any], tuple[int, int, int]]] = [
    (a1, {}, (8, 0, 0)),
    (a2, {}, (0, 0, 8)),
    (b1, {"pcp": PCP}, (8, 0, 0)),
    (b2, {"pcp": PCP}, (0, 8, 0)),
    (b3, {"pcp": PCP}, (8, 0, 0)),
    (c1, RESERVES, (2, 0, 0)),
    (c2, RESERVES, (0, 2, 0)),
    (c3, RESERVES, (2, 0, 2)),
    (c4, RESERVES, (0, 1, 0)),
    (e1, {}, (16, 0, 0)),
    (f1, {}, (8, 0, 0)),
    (zeroing, {}, (0, 0, 1)),
]


@pytest.mark.parametrize(("sequence", "zone", "wrong"), MARCH, ids=[row[0].__name__ for row in MARCH])
def test_march_as_posted(
    sequence: Callable[[Owners], None], zone: dict[str, Any], wrong: tuple[int, int, int]
) -> None:
    posted = Owners("migratetype/as-posted", **zone)
    sequence(posted)
    assert posted.wrong() == wrong
    for name in ("migratetype/sound", "migratetype/eager", "freetype/sound"):
        sound = Owners(name, **zone)
        sequence(sound)
        assert sound.wrong() == (0, 0, 0), name
        assert sound.machine.verify() is None


# ---------------------------------------------------------------- failures beside usable memory


def one_sided(design: str, gfp: int) -> Owners:
    """All memory was of one kind, and one largest block of it is free."""
    m = Owners(design)
    blocks = [m.take(ORDER + 1, gfp) for _ in range(m.largest)]
    assert min(blocks) >= 0
    m.give(blocks[0])
    return m


@pytest.mark.parametrize("design", ["migratetype/as-posted", "migratetype/sound"])
def test_d1_an_atomic_request_fails_beside_a_free_block_that_others_could_flip(design: str) -> None:
    m = Owners(design)
    mapped = m.take(ORDER + 1, N)
    m.take_all(ORDER + 1, S)
    m.give(mapped)
    assert m.take(0, S_ATOMIC) < 0
    assert m.take(0, S) >= 0
    # unmapped ahead of need, the same request is served
    eager = Owners("migratetype/eager:unmap_low=8,unmap_high=8")
    mapped = eager.take(ORDER + 1, N)
    eager.take_all(ORDER, S)
    eager.give(mapped)
    eager.take(0, N)
    assert eager.take(0, S_ATOMIC) >= 0
    assert eager.wrong() == (0, 0, 0)


@pytest.mark.parametrize(
    ("design", "served"),
    [
        ("migratetype/as-posted", True),
        ("migratetype/sound", True),
        ("freetype/as-posted", False),
        ("freetype/sound", False),
    ],
)
def test_d2_atomic_requests_for_mapped_memory(design: str, served: bool) -> None:
    """March maps for whoever asks; September only for those that may block."""
    assert (one_sided(design, S).take(0, N_ATOMIC) >= 0) == served
    assert one_sided(design, S).take(0, N) >= 0


@pytest.mark.parametrize("design", ["migratetype/as-posted", "migratetype/sound", "freetype/sound"])
def test_e2_two_free_blocks_that_are_no_buddies_make_no_large_one(design: str) -> None:
    m = Owners(design)
    halves = [m.take(ORDER, N) for _ in range(4)]
    m.take_all(ORDER + 1, S)
    for pfn in halves:
        if (pfn - BASE) // BLOCK % 2 == 0:
            m.give(pfn)
    assert m.take(ORDER + 1, S) < 0
    assert min(m.take(ORDER, S), m.take(ORDER, S)) >= 0
    assert m.wrong()[0] == 0


@pytest.mark.parametrize("design", ["migratetype/as-posted", "migratetype/sound", "freetype/sound"])
def test_e3_one_page_in_use_keeps_the_rest_of_its_block(design: str) -> None:
    m = Owners(design)
    assert m.take(0, N) >= 0
    m.take_all(ORDER, S)
    assert m.machine.counters()[2] >= BLOCK - 1
    assert m.take(0, S) < 0
    assert m.take(0, N) >= 0


# ---------------------------------------------------------------- September 2025


@pytest.mark.parametrize(
    ("design", "flushes"), [("freetype/as-posted", 1), ("freetype/sound", 0), ("migratetype/as-posted", 0)]
)
def test_g1_a_request_that_may_not_block_flips(design: str, flushes: int) -> None:
    """Patch 16 loses the no-block flag where __GFP_MEMALLOC makes it compute flags anew."""
    m = one_sided(design, N)
    got = m.take(0, MAY_NOT_BLOCK | SENSITIVE)
    assert (got >= 0) == bool(flushes)
    assert m.machine.stats()["flush_allocs"] == flushes
    assert m.wrong() == (0, 0, 0)


@pytest.mark.parametrize("design", ["freetype/as-posted", "freetype/as-posted-flags", "freetype/sound"])
def test_g2_a_flip_takes_a_block_of_cma(design: str) -> None:
    """Its tail goes to the MOVABLE list, from where an unmovable page takes the block over."""
    region = (BASE + 6 * BLOCK, BASE + 8 * BLOCK)
    m = Owners(design, cma=(region,))
    m.take_all(ORDER + 1, S)  # all but CMA, which unmovable requests may not use
    movable = m.take(0, N_MOVABLE)
    unmovable = m.take(0, N)
    types = [m.machine.design.freetypes[t].mt for t in m.machine.blocks()[0][6:]]
    if design == "freetype/sound":
        assert max(movable, unmovable) < 0, "the price: CMA serves its own side only"
        assert types == [Migratetype.CMA] * 2
        assert m.machine.verify() is None
        assert m.take(0, USER) >= 0
    else:
        assert region[0] <= movable < unmovable < region[1]
        assert Migratetype.UNMOVABLE in types or "another type" in (m.machine.verify() or "")
        assert m.machine.alloc_contig_range(*region, cma=True, gfp=USER) < 0


def test_the_flags_of_patch_16_keep_the_slow_path_above_the_low_watermark() -> None:
    failed = {}
    for design in ("freetype/as-posted", "freetype/as-posted-flags", "freetype/sound"):
        m = Owners(design, wmark=(0, 32, 40, 48))
        m.take_all(0, S)
        failed[design] = m.machine.counters()[2]
    assert failed["freetype/as-posted"] == failed["freetype/sound"] < 8
    assert failed["freetype/as-posted-flags"] >= 32


@pytest.mark.parametrize(
    ("design", "exposed"), [("freetype/as-posted", 8), ("freetype/sound", 0), ("unmapped/sound", 0)]
)
def test_f1_contiguous_ranges_of_september(design: str, exposed: int) -> None:
    m = Owners(design)
    f1(m)
    assert m.wrong() == (exposed, 0, 0)


# ---------------------------------------------------------------- 2025's queue, 2026's unmapped memory


@pytest.mark.parametrize(("design", "served"), [("rfcv2-queue/as-posted", False), ("rfcv2-queue", True)])
def test_free_pages_that_wait_in_the_queue_are_no_memory(design: str, served: bool) -> None:
    m = Owners(design)
    m.take_all(0, N)
    for pfn in list(m.live)[:BLOCK]:
        m.give(pfn)
    assert (m.take(0, N) >= 0) == served


@pytest.mark.parametrize(
    ("design", "stale"), [("rfcv2-queue/as-posted", 1), ("rfcv2-queue", 0), ("per-page", 0)]
)
def test_the_queue_clears_nothing(design: str, stale: int) -> None:
    m = Owners(design)
    zeroing(m)
    assert m.wrong() == (0, 0, stale)


@pytest.mark.parametrize("design", ["unmapped/v2", "unmapped/v4", "unmapped/sound", "unmapped/symmetric"])
def test_contiguous_ranges_over_a_free_unmapped_block(design: str) -> None:
    """Ux-f1 and Vx-f1 in small: refused at either end and in the middle; the sound ones flip the block."""
    m = Owners(design)
    pfn = m.take(0, S)
    m.give(pfn)
    posted = design in ("unmapped/v2", "unmapped/v4")
    around = (pfn, pfn + 3 * BLOCK) if pfn == BASE else (pfn - BLOCK, pfn + 2 * BLOCK)
    middle = -16 if around[0] < pfn else -22
    assert m.machine.alloc_contig_range(pfn, pfn + BLOCK, gfp=N) == (-22 if posted else 0)
    if not posted:
        m.live |= dict.fromkeys(range(pfn, pfn + BLOCK), (0, False))
        assert m.wrong() == (0, 0, 0)
        m.machine.free_contig_range(pfn, BLOCK)
    assert m.machine.alloc_contig_range(*around, gfp=N) == (middle if posted else 0)
    assert m.machine.verify() is None


def test_v4_maps_before_it_clears() -> None:
    """Ux-z1 in small: between the map and the clear whoever reads the direct map reads former secrets."""
    m = Owners("unmapped/v4")
    m.take_all(0, S)
    for pfn in list(m.live):
        m.give(pfn)
    seen: list[tuple[int, bool, int]] = []

    def look(at: int, pfn: int, _order: int) -> None:
        stats = m.machine.stats()
        assert m.machine.physmap is not None
        present = m.machine.physmap.present(pfn, tree="unrestricted")
        seen.append((at, present, stats["stale_exposed"] - stats["pages_zeroed"]))

    m.machine.at_window(look)
    m.take(0, N)
    m.machine.at_window(None)
    # off its list; mapped, all of the block stale; cleared
    assert seen == [(1, False, 0), (6, True, BLOCK), (3, True, 0)]
    assert m.wrong() == (0, 0, BLOCK)


def test_only_unmovable_requests_take_an_unmapped_block_back() -> None:
    """Ux-m1: all of the zone unmapped and free; movable and reclaimable requests fail beside it."""
    movable, reclaimable = (N | GFP_NAMES[name] for name in ("__GFP_MOVABLE", "__GFP_RECLAIMABLE"))
    for design in ("unmapped/v2", "unmapped/v4", "unmapped/sound"):
        m = Owners(design)
        m.take_all(0, S)
        for pfn in list(m.live):
            m.give(pfn)
        assert max(m.machine.alloc(0, gfp) for gfp in (movable, reclaimable)) == -1
        assert m.machine.alloc(0, N) >= 0
        assert m.machine.alloc(0, movable) >= 0, "out of the unmovable block"


def test_v2_merges_across_mappings() -> None:
    """Vx-a2: a mapped block freed beside a free unmapped one joins it, and goes to a protected request."""
    m = Owners("unmapped/v2")
    protected = m.take(ORDER, S)
    unprotected = m.take(ORDER, N)
    assert unprotected == protected ^ BLOCK
    m.give(unprotected)
    m.give(protected)
    m.take(ORDER + 1, S)
    assert m.wrong() == (BLOCK, 0, 0)
    assert m.machine.verify() is None


@pytest.mark.parametrize(
    ("design", "wrong"),
    [("pool/as-posted", 511), ("pool/letter", 0), ("pool/sound", 0)],
)
def test_what_a_refill_leaves_present(design: str, wrong: int) -> None:
    """Px-a1: as posted only the request's pages are unmapped, its neighbours wait in the pool present."""
    machine = Machine(single_zone("64M", pcp=False), design)
    pages = [machine.alloc(0, S) for _ in range(512)]
    assert machine.stats()["exposed_now"] == wrong
    for pfn in pages:
        machine.free(pfn, 0)
    assert machine.stats()["exposed_now"] == 0
    assert machine.shrink_pool(1 << 10) == 512
    assert machine.stats()["stale_exposed"] == {"pool/as-posted": 1, "pool/letter": 512}.get(design, 0)
    assert machine.verify() is None


def test_the_posted_shrinker_takes_the_running_total_off() -> None:
    """Px-e1: two orders in the pool, the second's share is counted twice against the request."""
    freed = {}
    for design in ("pool/as-posted", "pool/sound"):
        machine = Machine(single_zone("64M", pcp=False), design)
        machine.alloc(0, S)  # leaves 1, 2, 4 ... 256 pages
        freed[design] = machine.shrink_pool(8)
    assert freed == {"pool/as-posted": 7, "pool/sound": 15}


def test_a_contiguous_range_that_fails_undoes_what_others_isolated() -> None:
    """Ox-c1, Linux 7.2 and 6.12: the failing caller's cleanup covers its whole range."""
    for design, isolated in (("linux", 0), ("migratetype/as-posted", 0), ("migratetype/sound", 1)):
        m = Owners(design)
        assert m.machine.isolate(BASE, BASE + BLOCK) == 0
        assert m.machine.alloc_contig_range(BASE, BASE + 2 * BLOCK) == -16
        types = [m.machine.design.freetypes[t].mt for t in m.machine.blocks()[0]]
        assert types.count(Migratetype.ISOLATE) == isolated
