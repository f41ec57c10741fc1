"""Classifiers: the RFC's rule, the rule text, its errors."""

from __future__ import annotations

import numpy as np
import pytest

from asi_pa.kernel.gfp import GFP_HIGHUSER, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NAMES, parse_gfp
from asi_pa.trace import Classifier
from asi_pa.trace.classify import draw

RECLAIMABLE = GFP_KERNEL | GFP_NAMES["__GFP_RECLAIMABLE"]
PIPE = GFP_HIGHUSER | GFP_NAMES["__GFP_ACCOUNT"]


def test_the_rfc_rule() -> None:
    rule = Classifier.parse()
    assert rule.nonsensitive(GFP_KERNEL) == 1
    assert rule.nonsensitive(GFP_NAMES["GFP_NOWAIT"], "x", 3) == 1
    for mask in (GFP_HIGHUSER_MOVABLE, RECLAIMABLE, PIPE, GFP_KERNEL | GFP_NAMES["__GFP_MOVABLE"]):
        assert rule.nonsensitive(mask) == 0
    assert "__GFP_HARDWALL" in rule.describe()


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("rfc", 1), ("rfc;", 1), ("sensitive", 0), ("nonsensitive", 1), ("share=0.3", 0.3),
        (" share=0.3 ; seed=7", 0.3),
        ("comm=redis*:sensitive", 0), ("comm=nginx:sensitive", 1), ("comm=nginx:sensitive;share=.5", 0.5),
        ("order>=3:sensitive", 0), ("order>=4:sensitive", 1), ("order=3:sensitive", 0),
        ("order<=2:sensitive", 1),
        ("gfp=__GFP_IO|__GFP_FS:sensitive", 0), ("gfp=__GFP_IO|__GFP_HIGHMEM:sensitive", 1),
        ("gfp!=__GFP_DIRECT_RECLAIM:sensitive", 1), ("type=movable|reclaimable:sensitive", 1),
        ("type=unmovable:sensitive", 0), ("comm=redis*,order=2:sensitive", 1),
        ("comm=redis*,order=3:sensitive", 0),
        ("order=0:sensitive;order=3:share=0.25;sensitive", 0.25),
    ],
)  # fmt: skip
def test_rules(text: str, share: float) -> None:
    rule = Classifier.parse(text)
    assert rule.nonsensitive(GFP_KERNEL, "redis-server", 3) == share
    _, thresholds, _ = rule.table((GFP_KERNEL,), ("redis-server",), 11)
    assert thresholds[0, 0, 3] == int(share * 2**32)


def test_seed_in_text_wins() -> None:
    assert Classifier.parse("share=0.5", 3).seed == 3
    assert Classifier.parse("share=0.5;seed=8", 3).seed == 8
    assert "8" in Classifier.parse("share=0.5;seed=8", 3).describe()


@pytest.mark.parametrize(
    "text",
    ["x", "share=2", "share=a", "comm=a", "comm=a:b", "order:rfc", "order=x:rfc", "gfp=__GFP_X:rfc",
     "type=big:rfc",
     ":rfc;:", "comm>a:rfc", "comm=a,:what", "seed=-1", "share=0.5.5"],
)  # fmt: skip
def test_errors_name_the_rule(text: str) -> None:
    with pytest.raises(ValueError, match="classifier rule"):
        Classifier.parse(text)


@pytest.mark.parametrize("text", ["", " ; "])
def test_no_rule_is_no_classifier(text: str) -> None:
    with pytest.raises(ValueError, match="no rule"):
        Classifier.parse(text)


def test_too_many_classes() -> None:
    with pytest.raises(ValueError, match="request classes"):
        Classifier.parse().table([GFP_KERNEL | i << 21 for i in range(300)], ("x",), 11)


def test_draws_are_even_and_seeded() -> None:
    numbers = np.arange(10000, dtype=np.uint64)
    drawn = draw(5, numbers)
    assert 0.48 < (drawn < 2**31).mean() < 0.52
    np.testing.assert_array_equal(drawn, draw(5, numbers))
    assert (drawn != draw(6, numbers)).mean() > 0.99
    assert int(drawn.max()) < 2**32


SKB = parse_gfp("GFP_NOWAIT|__GFP_IO|__GFP_FS|__GFP_NORETRY|__GFP_COMP")


@pytest.mark.parametrize(
    ("text", "mask", "order", "share"),
    [
        ("rfc,skb=sensitive", SKB, 3, 0.0),
        ("rfc,skb=sensitive", SKB, 2, 1.0),
        ("rfc,skb=share=0.25,user=nonsensitive", SKB, 3, 0.25),
        ("rfc,user=nonsensitive", parse_gfp("GFP_HIGHUSER"), 0, 1.0),
        ("rfc,movable=nonsensitive", parse_gfp("GFP_HIGHUSER_MOVABLE"), 0, 1.0),
        ("rfc,reclaimable=nonsensitive", parse_gfp("GFP_KERNEL|__GFP_RECLAIMABLE"), 0, 1.0),
        ("rfc,vmalloc=sensitive", parse_gfp("GFP_KERNEL|__GFP_HIGHMEM"), 0, 0.0),
        (
            "comm=nobody:sensitive;rfc,pagetable=sensitive",
            parse_gfp("GFP_KERNEL|__GFP_ZERO|__GFP_COMP"),
            0,
            0.0,
        ),
        ("rfc,pagetable=sensitive", parse_gfp("GFP_KERNEL"), 0, 1.0),
    ],
)
def test_named_callers_are_set_one_by_one(text: str, mask: int, order: int, share: float) -> None:
    assert Classifier.parse(text).nonsensitive(mask, "", order) == share


@pytest.mark.parametrize(
    "text", ["rfc,skb", "rfc,nobody=sensitive", "rfc,skb=rfc", "rfc,skb=maybe", "rfc,skb=share=2"]
)
def test_what_is_no_setting_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="classifier rule"):
        Classifier.parse(text)
