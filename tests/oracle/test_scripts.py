"""Scripts: packed as the driver reads them, the same for a seed, and inside what the driver can hold."""

import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from oracle.edits import DRIVER
from oracle.folios import amid, folio_writer
from oracle.random_script import random_script
from oracle.script import ALLOC, CONTIG, FREE, FREES, ISOLATE, MAX_OPS, Script, Setup, Writer
from oracle.sets import CORE, choose, recipes

SETUP = Setup(zone_kib=65536)


def test_a_script_is_packed_as_the_driver_reads_it():
    setup = Setup(
        zone_kib=66576,
        bypass=True,
        compaction=True,
        wmark=(1, 2, 3),
        cma=(512, 1024),
        pcp=(4, 5, 6),
        holes=((7, 9), (20, 21)),
        dump_every=11,
    )
    packed = Script("x", setup, [(ALLOC, 3, 0x841, 0, 0, 2), (ISOLATE, 2, 0, 512, 70000, 0)]).packed()
    assert len(packed) == 4096 + 32
    head = struct.unpack("<19I", packed[:76])
    assert head[:4] == (0x4C43524F, 3, 2, 1 | 2 | 64)
    assert head[4:] == (1, 2, 3, 0xFFFFFFFF, 512, 1024, 11, 4, 5, 6, 2, 7, 9, 20, 21)
    assert struct.unpack("<BBHIII", packed[4096:4112]) == (ALLOC, 3, 0x841, 0, 0, 2)
    assert struct.unpack("<BBHIII", packed[4112:]) == (ISOLATE, 2, 0, 512, 70000, 0)


def test_the_driver_counts_as_we_do():
    header = (DRIVER / "oracle.h").read_text()
    for name, value in (("ORACLE_IN", 0x40000000), ("ORACLE_OUT", 0x48000000), ("ORACLE_EVENTS", 0x10000000)):
        assert f"#define {name}\t{value:#010x}UL" in header
    bits = [
        part.split("=")[0].strip()
        for part in header.split("enum oracle_mode {")[1].split("}")[0].split("\n\tMODE_")
    ]
    order = ("bypass", "exact", "defrag_mode", "two_zones", "cpus", "small_cache", "compaction", "design")
    assert len(bits) - 1 == len(order)
    for i, name in enumerate(order):
        changes: dict[str, Any] = {"exact": False} | {name: 2 if name == "cpus" else True}
        setup = replace(SETUP, **changes)
        assert setup.mode == 1 << i


def test_what_the_driver_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="0 operations"):
        Script("x", SETUP, []).packed()
    with pytest.raises(ValueError, match="a script has 1 to"):
        Script("x", SETUP, [(6, 0, 0, 0, 0, 0)] * (MAX_OPS + 1)).packed()
    with pytest.raises(ValueError, match="300 holes"):
        Script("x", replace(SETUP, holes=((1, 2),) * 300), [(6, 0, 0, 0, 0, 0)]).packed()


@pytest.mark.parametrize("k", range(8))
def test_random_scripts_are_the_same_every_time_and_fit(k):
    script = random_script(5, k, operations=1000)
    again = random_script(5, k, operations=1000)
    assert (script.setup, list(script.ops)) == (again.setup, list(again.ops))
    table, setup = np.array(script.ops), script.setup
    assert 0 < len(table) <= MAX_OPS
    assert (table[:, 5] < max(1, setup.cpus)).all()
    assert (table >= 0).all()
    ranges = table[np.isin(table[:, 0], (ISOLATE, CONTIG))]
    assert (ranges[:, 3] < ranges[:, 4]).all()
    assert (ranges[:, 4] <= setup.pages).all()
    named = np.flatnonzero(table[:, 0] == FREE)
    assert (table[named, 3] < named).all()
    start, pages = setup.cma
    assert start % 512 == pages % 512 == 0
    assert start + pages <= setup.pages
    edges = [edge for hole in setup.holes for edge in hole]
    assert edges == sorted(set(edges))
    assert not (setup.bypass and setup.cpus > 1)
    if (table[:, 0] == CONTIG).any():
        assert setup.exact
    script.packed()


def test_random_scripts_differ_and_cover_what_they_should():
    scripts = [random_script(1, k, operations=1500) for k in range(30)]
    assert len({script.packed() for script in scripts}) == len(scripts)
    setups = [script.setup for script in scripts]
    compactions = folio_writer(1, 2048)
    amid(compactions, 40)
    codes = {code for ops in (compactions.ops, *(script.ops for script in scripts)) for code, *_ in ops}
    assert {1, 2, 7, 9, 11, 16, 20, 21, 22, 23, 24} <= codes
    for name in ("bypass", "exact", "defrag_mode", "small_cache", "dma32", "two_zones", "compaction"):
        assert {getattr(setup, name) for setup in setups} == {False, True}, name
    for name in ("wmark", "boost", "pcp", "holes", "cma", "cpus", "zone_kib"):
        assert len({getattr(setup, name) for setup in setups}) > 2, name
    assert not any(random_script(1, k, defrag_mode=False, operations=50).setup.defrag_mode for k in range(12))


def test_sets_have_names_of_their_own_and_the_core_is_among_them():
    names = [recipe.name for recipe in recipes()]
    assert len(names) == len(set(names))
    assert set(CORE) <= set(names)
    assert sorted(recipe.name for recipe in choose((), defrag_mode=True)) == sorted(CORE)
    assert "D3d-1" not in [recipe.name for recipe in choose((), defrag_mode=False)]
    assert [recipe.name for recipe in choose(("D5",), defrag_mode=True)] == ["D5-1", "D5-2"]
    assert len(choose(("C*-1",), defrag_mode=True)) == 21
    with pytest.raises(ValueError, match="no set is named 'X9'"):
        choose(("X9",), defrag_mode=True)


def test_a_set_is_the_same_every_time():
    (recipe,) = choose(("C18-1",), defrag_mode=True)
    assert recipe.script().packed() == recipe.script().packed()


def test_a_writer_frees_only_what_it_has():
    w = Writer(1, 1024)
    w.free()
    assert w.ops == []
    w.alloc(3)
    w.free(newest=True)
    assert [op[0] for op in w.ops] == [ALLOC, 3]
    assert w.used == 0
    assert w.ops[1][0] in FREES
