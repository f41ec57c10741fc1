"""The physmap, rule by rule: walks, splits, flushes, mirroring, hotplug, the log, refusals."""

import itertools

import pytest

from asi_pa.physmap.physmap import Physmap
from asi_pa.physmap.records import LOG_DTYPE, PAGE_OFFSET, Cause, LogOp, PageBit, frame_of

BLOCK = 512
GIB = 1 << 18


def test_walk_follows_table_pages_outside_the_model() -> None:
    physmap = Physmap(5 * GIB, 2 * GIB, max_leaf="1G")
    physmap.map(6 * GIB + 3 * BLOCK + 9, 1, tree="restricted")
    address = PAGE_OFFSET + ((6 * GIB + 3 * BLOCK + 9) << 12)
    steps = physmap.walk(address)
    assert [step.level for step in steps] == ["PGD", "PUD", "PMD", "PTE"]
    assert [step.slot for step in steps] == [273, 6, 3, 9]
    for above, below in itertools.pairwise(steps):
        assert frame_of(above.entry) == below.table_pfn
        assert below.table_pfn >= 1 << 37
    assert steps[-1].entry == 0x8000000000000063 | (6 * GIB + 3 * BLOCK + 9) << 12
    assert [step.level for step in physmap.walk(address, tree="unrestricted")] == ["PGD", "PUD"]
    assert physmap.walk(PAGE_OFFSET + (1 << 45))[-1].entry == 0


def test_prepared_entries_keep_the_frame_without_present_and_global() -> None:
    physmap = Physmap(0, GIB)
    leaf = physmap.lookup(700)
    assert leaf is not None
    assert (leaf.level, leaf.present, leaf.entry) == ("2M", False, 0x80000000002000E2)
    physmap.asi_map(512, 512)
    physmap.asi_unmap(512, 512)
    assert physmap.lookup(700) == leaf


def test_direct_map_text_is_meminfos() -> None:
    physmap = Physmap(0, GIB + 3 * BLOCK + 2, max_leaf="1G")
    assert physmap.direct_map_text() == (
        "DirectMap4k:           8 kB\nDirectMap2M:        6144 kB\nDirectMap1G:     1048576 kB\n"
    )
    physmap.unmap(7, 1)
    physmap.map(7, 1)
    assert physmap.direct_map_text() == (
        "DirectMap4k:        2056 kB\nDirectMap2M:     1052672 kB\nDirectMap1G:           0 kB\n"
    )
    counters = physmap.counters()
    assert (counters.direct_map_level2_splits, counters.direct_map_level3_splits) == (1, 1)


@pytest.mark.parametrize(("pages", "ranged"), [(1, 1), (33, 1), (34, 0), (512, 0)])
def test_flush_ceiling(pages: int, ranged: int) -> None:
    physmap = Physmap(0, GIB, cpus=8, split_flush=False)
    physmap.map(0, pages, tree="restricted")
    physmap.unmap(0, pages, tree="restricted", flush=0)
    assert physmap.counters().ipis == 0
    physmap.flush(0, pages)
    counters = physmap.counters()
    assert (counters.flushes_ranged, counters.flushes_full) == (ranged, 1 - ranged)
    assert counters.flushed_pages == pages * ranged
    assert counters.ipis == 7
    last = physmap.log()[-1]
    assert (last["op"], last["flush"], last["count"]) == (LogOp.FLUSH, 2 - ranged, pages)


def test_full_flush_can_be_asked_for() -> None:
    physmap = Physmap(0, GIB)
    physmap.unmap(0, 1, flush=2)
    assert physmap.counters().flushes_ranged == 0
    assert physmap.log()[-1]["flush"] == 2


def test_invlpgb_needs_no_interrupts() -> None:
    physmap = Physmap(0, GIB, cpus=64, invlpgb=True)
    physmap.asi_map(0, 512)
    physmap.asi_unmap(0, 512)
    assert (physmap.counters().flushes_full, physmap.counters().ipis) == (1, 0)
    physmap.flush(0, 1)
    assert (physmap.counters().flushes_ranged, physmap.counters().ipis) == (1, 0)


@pytest.mark.parametrize(("pages", "split", "ranged", "ipis"), [(1, 1, 1, 7), (33, 1, 1, 7), (34, 1, 0, 0)])
def test_cpa_flush_sends_interrupts_up_to_the_ceiling(pages: int, split: int, ranged: int, ipis: int) -> None:
    """cpa_flush(), arch/x86/mm/pat/set_memory.c: on_each_cpu() up to the ceiling, flush_tlb_all() above."""
    physmap = Physmap(0, GIB, cpus=8, invlpgb=True, mirror=False)
    physmap.set_memory_ro(0, pages)
    counters = physmap.counters()
    assert (counters.flushes_split, counters.flushes_ranged) == (split, ranged)
    assert counters.flushes_full == split + 1 - ranged
    assert counters.ipis == ipis


def test_no_leaf_is_global_in_a_kernel_with_asi() -> None:
    physmap = Physmap(0, GIB)
    physmap.asi_map(0, 512)
    for tree in ("restricted", "unrestricted"):
        leaf = physmap.lookup(0, tree=tree)
        assert leaf is not None
        assert leaf.present
        assert not leaf.entry & PageBit.GLOBAL
    plain = Physmap(0, GIB, global_pages=True).lookup(0, tree="unrestricted")
    assert plain is not None
    assert plain.entry == 0x80000000000001E3


def test_ranged_flush_costs_the_other_address_spaces_their_entries() -> None:
    """flush_tlb_one_kernel(): INVLPG reaches the current address space and global entries only."""
    for options, others in (({}, 1), ({"global_pages": True}, 0), ({"invlpgb": True}, 0)):
        physmap = Physmap(0, GIB, **options)  # type: ignore[arg-type]
        physmap.flush(0, 33)
        physmap.flush(0, 34)
        assert physmap.counters().flushes_others == others


def test_set_direct_map_invalid_takes_rw_and_dirty_and_default_gives_rw_back() -> None:
    """__set_pages_np() clears PRESENT, RW and DIRTY, __set_pages_p() sets PRESENT and RW."""
    physmap = Physmap(0, GIB, global_pages=True)
    entries = []
    for change in (physmap.unmap, physmap.map):
        change(0, 512)
        leaf = physmap.lookup(0, tree="unrestricted")
        assert leaf is not None
        entries.append(leaf.entry)
    assert entries == [0x80000000000000A0, 0x80000000000000A3]
    physmap.set_memory_ro(512, 512)
    leaf = physmap.lookup(512, tree="unrestricted")
    assert leaf is not None
    assert leaf.entry == 0x80000000002001A1


def test_asi_unmap_keeps_rw_and_dirty() -> None:
    physmap = Physmap(0, GIB)
    physmap.asi_map(0, 512)
    physmap.asi_unmap(0, 512)
    leaf = physmap.lookup(0)
    assert leaf is not None
    assert leaf.entry == 0x80000000000000E2


def test_every_split_flushes_unless_told_otherwise() -> None:
    """__split_large_page() ends with flush_tlb_all(), whether the leaf was present or not."""
    for wanted in (True, False):
        physmap = Physmap(0, GIB, split_flush=wanted)
        physmap.unmap(3, 1, flush=0)
        assert physmap.counters().flushes_full == wanted
        assert list(physmap.log()["flush"]) == [2 * wanted, 0]
        physmap.map(3, 1, tree="restricted")
        assert physmap.counters().splits_2m == (1, 1)
        assert physmap.counters().flushes_split == 2 * wanted


def test_set_memory_rox_makes_leaves_large_again() -> None:
    """CPA_COLLAPSE, for every caller of set_memory_rox() (7.2): where 512 entries agree, one flush."""
    physmap = Physmap(0, GIB, max_leaf="1G")
    physmap.set_memory_rox(0, 3)
    physmap.set_memory_rox(3, 508)
    assert physmap.leaf_counts(tree="unrestricted")["4K"] == 512
    before = physmap.counters()
    physmap.set_memory_rox(511, 1)
    counters = physmap.counters()
    assert counters.collapses_2m == (1, 1)
    assert (counters.direct_map_level2_collapses, counters.direct_map_level3_collapses) == (1, 0)
    assert counters.flushes_full == before.flushes_full + 1
    assert counters.tables_freed == (1, 1)
    assert physmap.leaf_counts(tree="unrestricted") == {"4K": 0, "2M": 512, "1G": 0}
    assert physmap.leaf_counts(present=False) == {"4K": 0, "2M": 512, "1G": 0}
    assert physmap.check() is None
    assert list(physmap.log()["op"][-3:]) == [LogOp.COLLAPSE, LogOp.COLLAPSE, LogOp.FLUSH]
    physmap.set_memory_rox(1024, GIB - 1024)
    physmap.set_memory_rox(512, 1)
    assert physmap.leaf_counts(tree="unrestricted") == {"4K": 512, "2M": 511, "1G": 0}
    physmap.set_memory_rox(513, 511)
    assert physmap.leaf_counts(tree="unrestricted") == {"4K": 0, "2M": 0, "1G": 1}
    assert physmap.check() is None


@pytest.mark.parametrize("collapse", [True, False])
def test_only_present_leaves_that_agree_collapse(collapse: bool) -> None:
    physmap = Physmap(0, GIB, collapse=collapse)
    physmap.map(5, 1, tree="restricted")
    physmap.set_memory_rox(0, 1)
    physmap.set_memory_rox(1, 511)
    assert physmap.counters().collapses_2m == (int(collapse), 0)
    physmap.set_memory_rox(512, 1)
    physmap.unmap(600, 1)
    physmap.set_memory_rox(513, 511)
    assert physmap.counters().collapses_2m[0] == collapse
    assert physmap.check() is None


def test_a_part_of_a_present_leaf_is_mapped_already() -> None:
    physmap = Physmap(0, GIB)
    physmap.asi_map(0, 512)
    physmap.map(3, 4, tree="restricted")
    physmap.map(5, 2)
    counters = physmap.counters()
    assert counters.redundant == 6
    assert (counters.splits_2m, counters.leaf_writes[1]) == ((0, 0), (0, 1, 0))
    physmap.unmap(3, 4, tree="restricted")
    physmap.map(3, 4, tree="restricted")
    assert physmap.leaf_counts() == {"4K": 512, "2M": 0, "1G": 0}


def test_as_posted_asi_map_skips_1g_and_4k_leaves() -> None:
    posted = Physmap(0, GIB, max_leaf="1G", as_posted_skip=True)
    posted.asi_map(0, 1024)
    assert posted.mapped_pages() == 0
    assert posted.counters().skipped_level == 2
    sound = Physmap(0, GIB, max_leaf="1G")
    sound.asi_map(0, 1024)
    assert sound.leaf_counts() == {"4K": 0, "2M": 2, "1G": 0}
    posted = Physmap(0, GIB, as_posted_skip=True, mirror=False)
    posted.set_memory_ro(5, 1)
    posted.asi_map(0, 1024)
    assert posted.leaf_counts() == {"4K": 0, "2M": 1, "1G": 0}
    sound = Physmap(0, GIB, mirror=False)
    sound.set_memory_ro(5, 1)
    sound.asi_map(0, 1024)
    assert sound.leaf_counts() == {"4K": 512, "2M": 1, "1G": 0}
    assert sound.check() is None


def test_mirror_keeps_asi_map_from_allocating_tables() -> None:
    physmap = Physmap(0, GIB)
    physmap.set_memory_ro(5, 1)
    before = physmap.counters().tables_allocated
    physmap.asi_map(0, 512)
    assert physmap.counters().tables_allocated == before
    leaf = physmap.lookup(5)
    assert leaf is not None
    assert not leaf.entry & PageBit.RW


def test_mirror_never_maps() -> None:
    """set_memory_np then set_memory_p must not make a sensitive page present."""
    physmap = Physmap(0, GIB)
    physmap.unmap(5, 1)
    physmap.map(5, 1)
    assert physmap.mapped_pages() == 0


def test_unmapping_reaches_the_restricted_tree_with_mirror_only() -> None:
    for mirror, left in ((True, 511), (False, 512)):
        physmap = Physmap(0, GIB, mirror=mirror)
        physmap.asi_map(0, 512)
        physmap.unmap(5, 1)
        assert physmap.mapped_pages() == left
        assert (physmap.check() is None) == mirror


def test_log_records_end_at_gaps() -> None:
    physmap = Physmap(0, GIB)
    physmap.asi_map(0, 512)
    physmap.asi_map(1024, 1024)
    physmap.asi_unmap(0, 2048)
    log = physmap.log(2)
    assert list(zip(log["pfn"], log["count"], log["flush"], strict=True)) == [(0, 1, 0), (1024, 2, 2)]
    physmap.asi_unmap(0, 2048)
    log = physmap.log(4)
    assert list(zip(log["pfn"], log["count"], log["flush"], strict=True)) == [(0, 0, 2)]


LEFT = [(512, 512, 0), (0, 700, 188), (100, 512, 512), (100, 1200, 688)]


@pytest.mark.parametrize(("pfn", "n", "left"), LEFT)
def test_removal_splits_nothing_and_leaves_parts_of_a_leaf_mapped(pfn: int, n: int, left: int) -> None:
    """remove_pmd_table(), arch/x86/mm/init_64.c: a 2M leaf is cleared as a whole or not at all."""
    physmap = Physmap(0, GIB)
    physmap.hot_remove(pfn, n)
    counters = physmap.counters()
    assert (counters.splits_2m, counters.left_mapped) == ((0, 0), left)
    assert physmap.mapped_pages(tree="unrestricted") == GIB - n + left
    assert physmap.present(pfn, tree="unrestricted") == bool(pfn % 512)
    assert (counters.flushes_full, counters.flushes_ranged) == (1, 0)
    assert physmap.check() is None


@pytest.mark.parametrize("pfn", [0, GIB - 512, 512])
def test_removal_of_a_part_of_a_1g_leaf_is_refused(pfn: int) -> None:
    """remove_pud_table() would walk the leaf as if it were a table."""
    physmap = Physmap(0, GIB, max_leaf="1G")
    with pytest.raises(ValueError, match="its 1G leaf reaches beyond"):
        physmap.hot_remove(pfn, 512)
    assert physmap.leaf_counts(tree="unrestricted")["1G"] == 1
    physmap.hot_remove(0, GIB)
    assert physmap.mapped_pages(tree="unrestricted") == 0


def test_without_mirror_check_names_the_first_difference() -> None:
    physmap = Physmap(0, GIB, mirror=False)
    physmap.asi_map(1024, 512)
    physmap.set_memory_ro(1030, 1)
    trouble = physmap.check()
    assert trouble is not None
    assert trouble.startswith("pfn 1030: protection differs, restricted entry 0x80000000004000e3")
    physmap.set_memory_rw(1030, 1)
    assert physmap.check() is None
    physmap.unmap(1033, 1)
    assert physmap.check() == "pfn 1033: present in the restricted tree, absent from the unrestricted one"


def test_protection_that_is_there_already_changes_nothing() -> None:
    physmap = Physmap(0, GIB)
    physmap.set_memory_rw(5, 1)
    physmap.set_memory_nx(5, 1)
    counters = physmap.counters()
    assert (counters.protect_calls, counters.splits_2m, counters.flushes_ranged) == (2, (0, 0), 0)


def test_hotplug_goes_through_both_trees() -> None:
    physmap = Physmap(0, 4 * GIB, present=GIB, max_leaf="2M")
    assert physmap.lookup(2 * GIB) is None
    assert physmap.table_pages() == {"PTE": 0, "PMD": 1, "PUD": 1, "PGD": 1}
    physmap.hot_add(2 * GIB, GIB)
    assert physmap.mapped_pages(tree="unrestricted") == 2 * GIB
    assert physmap.leaf_counts(tree="unrestricted")["2M"] == 1024
    assert physmap.leaf_counts(present=False)["2M"] == 1024
    assert physmap.mapped_pages() == 0
    physmap.asi_map(2 * GIB, 1024)
    physmap.hot_remove(2 * GIB + 512, 512)
    assert physmap.check() is None
    assert physmap.mapped_pages() == 512
    assert physmap.mapped_pages(tree="unrestricted") == 2 * GIB - 512
    physmap.hot_remove(2 * GIB, 512)
    physmap.hot_remove(2 * GIB + 1024, GIB - 1024)
    assert physmap.table_pages() == {"PTE": 0, "PMD": 1, "PUD": 1, "PGD": 1}
    assert physmap.counters().tables_freed[1] == 1
    assert physmap.check() is None
    physmap.hot_add(2 * GIB, BLOCK)
    assert physmap.mapped_pages() == 0


def test_empty_upper_tables_go_too() -> None:
    span = 1 << 27
    physmap = Physmap(0, 2 * span, max_leaf="2M")
    assert physmap.table_pages() == {"PTE": 0, "PMD": 1024, "PUD": 2, "PGD": 1}
    physmap.hot_remove(span, span)
    for tree in ("unrestricted", "restricted"):
        assert physmap.table_pages(tree=tree) == {"PTE": 0, "PMD": 512, "PUD": 1, "PGD": 1}
        assert [step.level for step in physmap.walk(PAGE_OFFSET + (span << 12), tree=tree)] == ["PGD"]
    assert physmap.counters().tables_freed == (513, 513)
    assert physmap.check() is None


def test_unmirrored_removal_exposes_what_is_plugged_in_next() -> None:
    physmap = Physmap(0, GIB, mirror=False)
    physmap.asi_map(512, 512)
    physmap.hot_remove(512, 512)
    assert physmap.check() == "pfn 512: the restricted tree has an entry for memory that is not there"
    physmap.hot_add(512, 512)
    assert physmap.present(512)


def test_freed_pte_tables_are_used_again() -> None:
    physmap = Physmap(0, GIB)
    held = []
    for round_ in range(3):
        for block in range(4):
            physmap.set_memory_ro(block * BLOCK + round_, 1)
        held.append(physmap.nbytes)
        assert physmap.table_pages(tree="unrestricted")["PTE"] == 4
        physmap.hot_remove(0, 4 * BLOCK)
        assert physmap.table_pages(tree="unrestricted")["PTE"] == 0
        physmap.hot_add(0, 4 * BLOCK)
        assert physmap.check() is None
    assert held == held[:1] * 3


@pytest.mark.parametrize(
    ("method", "arguments", "said"),
    [
        ("asi_map", (1, 512), "multiples of 512"),
        ("asi_map", (512, 511), "multiples of 512"),
        ("asi_unmap", (GIB, 512), "not inside"),
        ("asi_unmap", (GIB - 512, 1024), "not inside"),
        ("map", (0, 0), "n 0"),
        ("map", (-1, 1), "pfn -1"),
        ("unmap", (0, 1 << 70), "not inside"),
        ("unmap", (0, -5), "n -5"),
        ("flush", (GIB, 1), "not inside"),
        ("set_memory_ro", (GIB - 1, 2), "not inside"),
        ("hot_add", (0, 512), "pfn 0: there already"),
        ("hot_add", (3, 512), "multiples of 512"),
        ("hot_remove", (0, 0), "n 0"),
        ("lookup", (GIB,), "not inside"),
        ("present", (-3,), "not inside"),
        ("walk", (0x1000,), "0x1000"),
        ("asi_map", (0, 512, 99), "99"),
    ],
)
def test_bad_arguments_change_nothing(method: str, arguments: tuple[int, ...], said: str) -> None:
    physmap = Physmap(0, GIB)
    physmap.asi_map(512, 512)
    before = (physmap.counters(), physmap.mapped_pages(), len(physmap.log()))
    with pytest.raises(ValueError, match=said):
        getattr(physmap, method)(*arguments)
    assert (physmap.counters(), physmap.mapped_pages(), len(physmap.log())) == before


def test_unknown_tree_and_flush_are_refused() -> None:
    physmap = Physmap(0, GIB)
    with pytest.raises(ValueError, match="unknown tree 'both'"):
        physmap.map(0, 1, tree="both")
    with pytest.raises(ValueError, match="3 is not a valid Flush"):
        physmap.unmap(0, 1, flush=3)
    physmap.hot_remove(512, 512)
    with pytest.raises(ValueError, match="pfn 512: not there"):
        physmap.hot_remove(0, 1024)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pages": 0}, "pages 0"),
        ({"start_pfn": -1}, "pfn -1"),
        ({"start_pfn": (1 << 34) - 1, "pages": 2}, "64 TiB"),
        ({"max_leaf": "2m"}, "max_leaf '2m'"),
        ({"cpus": 0}, "cpus 0"),
        ({"flush_ceiling": -1}, "flush_ceiling -1"),
        ({"present": 1 << 40}, "present"),
        ({"pageblock_order": 19}, "pageblock_order 19"),
        ({"log_limit": -1}, "log_limit -1"),
    ],
)
def test_impossible_machines_are_refused(options: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Physmap(**options)  # type: ignore[arg-type]


def test_log_is_a_copy_and_can_be_read_from_anywhere() -> None:
    physmap = Physmap(0, GIB)
    for block in range(100):
        physmap.asi_map(block * BLOCK, BLOCK, Cause.CLAIM)
    log = physmap.log()
    assert log.dtype == LOG_DTYPE
    assert list(log["seq"]) == list(range(100))
    assert list(log["pfn"]) == [block * BLOCK for block in range(100)]
    physmap.asi_unmap(0, BLOCK)
    assert len(log) == 100
    assert list(physmap.log(100)["op"]) == [LogOp.UNMAP]
    assert len(physmap.log(101)) == len(physmap.log(1 << 40)) == 0


def test_log_limit_counts_what_it_drops() -> None:
    physmap = Physmap(0, GIB, log_limit=3)
    for block in range(10):
        physmap.asi_map(block * BLOCK, BLOCK)
    assert list(physmap.log()["seq"]) == [0, 1, 2]
    assert physmap.counters().log_dropped == 7
    silent = Physmap(0, GIB, log=False)
    silent.asi_map(0, BLOCK)
    assert len(silent.log()) == 0
    assert silent.counters().log_dropped == 0


@pytest.mark.parametrize(
    ("steps_down", "entry", "said"),
    [
        (0, 0, "tables at level PUD|leaves or tables"),
        (1, 0x2000000000067, "the PUD entry of pfn 0 does not lead"),
        (2, 0x8000000000200163 | 0x80, "the PMD leaf of pfn 0 holds another frame"),
        (2, 0, "leaves or tables at level PMD"),
        (2, 0x80000000000001E3, "leaves or tables at level PMD"),
    ],
)
def test_check_sees_damage(steps_down: int, entry: int, said: str) -> None:
    physmap = Physmap(0, GIB)
    step = physmap.walk(PAGE_OFFSET)[steps_down]
    physmap._poke(step.table_pfn, step.slot, entry)
    trouble = physmap.check()
    assert trouble is not None
    assert trouble.startswith("restricted tree: ")
    assert any(part in trouble for part in said.split("|"))


def test_small_pageblocks_map_by_page() -> None:
    physmap = Physmap(0, 64, pageblock_order=3)
    physmap.asi_map(8, 16)
    assert physmap.leaf_counts() == {"4K": 16, "2M": 0, "1G": 0}
    physmap.asi_unmap(16, 8)
    assert [physmap.present(pfn) for pfn in (7, 8, 15, 16)] == [False, True, True, False]


def test_four_tebibytes_take_little() -> None:
    physmap = Physmap(0, 1 << 30, max_leaf="1G")
    assert physmap.nbytes < (1 << 30) / 16
    physmap.asi_map(0, 1 << 30)
    assert physmap.leaf_counts()["2M"] == 1 << 21
    assert physmap.check() is None


def test_an_uninitialised_physmap_says_so() -> None:
    empty = Physmap.__new__(Physmap)
    with pytest.raises(RuntimeError, match="not initialised"):
        empty.check()
    physmap = Physmap(0, 512)
    with pytest.raises(RuntimeError, match="once"):
        physmap.__init__(0, 512)
