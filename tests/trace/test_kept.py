"""A compiled trace kept as bytes: the same start states, or none."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest

from asi_pa.experiment.cache import Cache, key_of, package_hash
from asi_pa.experiment.study import Subject
from asi_pa.run.settle import settled
from asi_pa.trace import Classifier, Starts, Trace, load_trace
from asi_pa.trace.kept import packed, unpacked

RULE = Classifier.parse("rfc")


@pytest.fixture(scope="module")
def trace() -> Trace:
    return load_trace("redis")


@pytest.fixture(scope="module")
def starts(trace: Trace) -> Starts:
    return Starts(trace, RULE, settle=settled)


@pytest.fixture(scope="module")
def kept(starts: Starts) -> bytes:
    return packed(starts)


def same(one: Any, other: Any, path: str = "") -> None:
    """Equal in every field, arrays with type and all."""
    assert type(one) is type(other), path
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype, path
        np.testing.assert_array_equal(one, other, path)
    elif is_dataclass(one):
        for field in fields(one):
            same(getattr(one, field.name), getattr(other, field.name), f"{path}.{field.name}")
    elif isinstance(one, tuple | list):
        assert len(one) == len(other), path
        for number, pair in enumerate(zip(one, other, strict=True)):
            same(*pair, f"{path}[{number}]")
    else:
        assert one == other, path


def test_the_same_start_states(trace: Trace, starts: Starts, kept: bytes) -> None:
    again = unpacked(trace, RULE, kept)
    assert again is not None
    same(starts.recorded(), again.recorded())
    same(starts.at(900 * 256, 3), again.at(900 * 256, 3))
    assert packed(again) == kept


def test_bytes_that_do_not_check_out_are_none(trace: Trace, kept: bytes) -> None:
    assert unpacked(trace, RULE, b"") is None
    assert unpacked(trace, RULE, kept[:-1]) is None
    for place in (0, 20, 40, len(kept) // 2, len(kept) - 1):
        damaged = bytearray(kept)
        damaged[place] ^= 1
        assert unpacked(trace, RULE, bytes(damaged)) is None
    # whole, but of something else
    head, body = kept[:16], zlib.compress(zlib.decompress(kept[36:])[:-100], 1)
    assert unpacked(trace, RULE, head + hashlib.blake2b(body, digest_size=20).digest() + body) is None


def test_another_trace_is_none(trace: Trace, kept: bytes) -> None:
    columns = ("time_ns", "cpu", "kind", "pfn", "order", "gfp", "comm")
    shorter = replace(trace, **{name: getattr(trace, name)[:-1] for name in columns})
    assert unpacked(shorter, RULE, kept) is None


class Counting(Cache):
    """A cache in memory that counts what it was given."""

    usable = True

    def __init__(self) -> None:
        super().__init__()
        self.blobs: dict[str, bytes] = {}
        self.puts = 0

    def get_bytes(self, key: str) -> bytes | None:
        return self.blobs.get(key)

    def put_bytes(self, key: str, blob: bytes) -> None:
        self.puts += 1
        self.blobs[key] = blob


def test_a_comparison_compiles_once_and_again_where_its_cache_is_damaged(
    trace: Trace, starts: Starts
) -> None:
    cache = Counting()
    first = Subject.of(trace, "rfc", 0, cache=cache)
    second = Subject.of(trace, "rfc", 0, cache=cache)
    assert cache.puts == 1
    same(first.whole, second.whole)
    (key,) = cache.blobs
    assert key == key_of("starts", package_hash(), first.hash, "rfc", 0)
    cache.blobs[key] = cache.blobs[key][:-8]
    same(first.whole, Subject.of(trace, "rfc", 0, cache=cache).whole)
    assert cache.puts == 2
