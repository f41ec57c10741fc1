"""Who asks, and what a failure means to them, by mask and order."""

from __future__ import annotations

import numpy as np
import pytest

from asi_pa.kernel.callers import CALLERS, caller_of, fallback_of, group_of, way_out
from asi_pa.kernel.gfp import GFP_NAMES, MODEL_LRU, describe_gfp, parse_gfp
from asi_pa.trace import load_trace
from asi_pa.trace.compile import translated

SENSITIVE = GFP_NAMES["__GFP_SENSITIVE"]
#: As the recorded traces print them: mask, order, caller, way out, what is asked for instead.
SEEN = [
    ("GFP_NOWAIT|__GFP_IO|__GFP_FS|__GFP_NORETRY|__GFP_COMP", 3, "skb", "OPPORTUNISTIC", "GFP_KERNEL"),
    (
        "__GFP_IO|__GFP_FS|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP|__GFP_NOMEMALLOC", 1,
        "slab", "OPPORTUNISTIC", "GFP_KERNEL|__GFP_COMP",
    ),
    (
        "__GFP_RECLAIMABLE|__GFP_IO|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP|__GFP_NOMEMALLOC", 2,
        "slab", "OPPORTUNISTIC", "GFP_NOFS|__GFP_RECLAIMABLE|__GFP_COMP",
    ),
    ("GFP_ATOMIC|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP", 1, "slab", "OPPORTUNISTIC", "GFP_ATOMIC|__GFP_COMP"),
    (
        "GFP_ATOMIC|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP|__GFP_NOMEMALLOC", 1,
        "skbhead", "OPPORTUNISTIC", "GFP_ATOMIC|__GFP_COMP",
    ),
    ("GFP_KERNEL|__GFP_NOWARN|__GFP_COMP|__GFP_NOMEMALLOC", 2, "skbhead", "BLOCKING", None),
    ("GFP_TRANSHUGE|__GFP_NORETRY|__GFP_THISNODE", 9, "thp", "OPPORTUNISTIC", "GFP_HIGHUSER_MOVABLE"),
    (
        "GFP_HIGHUSER_MOVABLE|__GFP_WRITE|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP", 1,
        None, "OPPORTUNISTIC", None,
    ),
    ("GFP_HIGHUSER|__GFP_ACCOUNT", 0, "user", "BLOCKING", None),
    ("GFP_KERNEL|__GFP_HIGHMEM", 0, "vmalloc", "BLOCKING", None),
    ("GFP_KERNEL_ACCOUNT|__GFP_ZERO|__GFP_COMP", 0, "pagetable", "BLOCKING", None),
    ("GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP", 0, "kmalloc", "BLOCKING", None),
    ("GFP_NOWAIT", 0, None, "ATOMIC", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "order", "name", "way", "instead"), SEEN)
def test_masks_that_traces_hold(
    text: str, order: int, name: str | None, way: str, instead: str | None
) -> None:
    gfp = parse_gfp(text)
    caller = caller_of(gfp, order)
    assert (caller and caller.name) == name
    assert way_out(gfp, order).name == way
    page = fallback_of(gfp, order)
    assert (None if page is None else describe_gfp(page)) == instead


def test_what_the_model_adds_to_a_mask_stays() -> None:
    gfp = parse_gfp("GFP_TRANSHUGE") | MODEL_LRU | SENSITIVE
    assert fallback_of(gfp, 9) == parse_gfp("GFP_HIGHUSER_MOVABLE") | MODEL_LRU | SENSITIVE


def test_a_request_instead_has_a_caller_without_a_way_out() -> None:
    for text, order, _, _, instead in SEEN:
        page = fallback_of(parse_gfp(text), order)
        if instead is not None:
            assert page is not None
            assert group_of(page, 0) == "real"
            assert fallback_of(page, 0) is None


def test_names_are_told_apart() -> None:
    names = [caller.name for caller in CALLERS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("name", "counts"), [("net", (35_507, 328_274, 0)), ("redis", (235_649, 41_746, 2))])
def test_groups_of_the_bundled_traces(name: str, counts: tuple[int, int, int]) -> None:
    trace = load_trace(name)
    masks = translated(trace)
    asked = trace.kind == 0
    kinds, n = np.unique(trace.gfp[asked].astype(int) << 4 | trace.order[asked], return_counts=True)
    found = dict.fromkeys(("real", "declined", "huge"), 0)
    for kind, count in zip(kinds.tolist(), n.tolist(), strict=True):
        found[group_of(masks[kind >> 4], kind & 15)] += count
    assert tuple(found.values()) == counts
