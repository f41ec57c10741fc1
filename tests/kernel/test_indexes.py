"""Metrics against output that a kernel printed and against counting by hand."""

import itertools

import pytest

from asi_pa.kernel import indexes as metrics

# Quoted on LKML by R. Harris, 2018, from a kernel's debugfs: n_0 = 1983 and n_0 = 1, nothing else free.
GOLDEN = [
    (1983, "-1.000 0.500 0.750 0.875 0.937 0.969 0.984 0.992 0.996 0.998 0.999 "),
    (1, "-1.000 0.-500 0.-250 0.-125 0.-62 0.-31 0.-15 0.-07 0.-03 0.-01 0.000 "),
]


@pytest.mark.parametrize(("blocks", "text"), GOLDEN)
def test_extfrag_index_as_a_kernel_printed_it(blocks, text):
    free = [blocks] + [0] * 10
    assert metrics.index_text([metrics.extfrag_index(free, k) for k in range(11)]) == text


def test_nothing_free():
    free = [0] * 11
    assert [metrics.extfrag_index(free, k) for k in range(11)] == [0] * 11
    assert [metrics.unusable_index(free, k) for k in range(11)] == [1000] * 11
    assert [metrics.extfrag_for_order(free, k) for k in range(11)] == [0] * 11


def test_indexes_against_counting_each_block():
    for free in itertools.product((0, 1, 3), repeat=4):
        sizes = [1 << order for order, count in enumerate(free) for _ in range(count)]
        pages = sum(sizes)
        assert metrics.free_pages(free) == pages
        for order in range(4):
            fit = sum(size >> order for size in sizes)
            assert metrics.suitable_blocks(free, order) == fit
            if pages:
                unusable = sum(size for size in sizes if size < 1 << order)
                assert metrics.unusable_index(free, order) == 1000 * unusable // pages
                assert metrics.extfrag_for_order(free, order) == 100 * unusable // pages
                expected = 1000 - (1000 + 1000 * pages // (1 << order)) // len(sizes)
                assert metrics.extfrag_index(free, order) == (-1000 if fit else expected)


def test_unusable_share_falls_between_orders():
    assert metrics.unusable_index([2, 1, 0], 1) == 500
    assert metrics.extfrag_for_order([2, 1, 0], 1) == 50
    assert metrics.unusable_index([1, 1, 0], 1) == 333
    assert metrics.index_text([333, 1000, 0, -1, -1000]) == "0.333 1.000 0.000 0.-01 -1.000 "


@pytest.mark.parametrize("order", [-1, 3])
def test_order_out_of_range(order):
    for function in (metrics.extfrag_index, metrics.unusable_index, metrics.extfrag_for_order):
        with pytest.raises(ValueError, match=f"order {order}"):
            function([1, 2, 3], order)


def test_proactive_marks():
    assert metrics.proactive_marks() == (80, 90)
    assert metrics.proactive_marks(100) == (5, 15)
    assert metrics.proactive_marks(0) == (100, 100)
    with pytest.raises(ValueError, match="101"):
        metrics.proactive_marks(101)


def test_extfrag_event_classes():
    assert [order for order in range(11) if metrics.is_fragmenting(order)] == list(range(9))
    assert [order for order in range(11) if metrics.is_severe(order)] == [0, 1, 2, 3]


def test_directmap():
    assert metrics.directmap_kb(1, 1, 1) == {"4k": 4, "2m": 2048, "1g": 1048576}
    text = metrics.directmap_text(6656, 1011, 24)
    assert text.splitlines() == [
        "DirectMap4k:       26624 kB",
        "DirectMap2M:     2070528 kB",
        "DirectMap1G:    25165824 kB",
    ]
