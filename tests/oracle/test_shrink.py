"""Shrinking: the smallest script is found, frees follow their allocations, and questions are not wasted."""

from dataclasses import replace

import numpy as np

from oracle.script import ALLOC, DRAIN, FREE, Script, Setup
from oracle.shrink import by_rows, shortest, simpler, without

SETUP = Setup(zone_kib=65536, bypass=True, wmark=(0, 0, 0), boost=0)


def alloc(order):
    return (ALLOC, order, 16, 0, 0, 0)


def free(row):
    return (FREE, 0, 0, row, 0, 0)


def test_frees_go_with_what_they_free():
    ops = [alloc(0), alloc(1), free(0), alloc(2), free(1), free(3)]
    assert without(ops, 1, 2) == [alloc(0), free(0), alloc(2), free(2)]
    assert without(ops, 0, 1) == [alloc(1), alloc(2), free(0), free(1)]
    assert without(ops, 2, 6) == [alloc(0), alloc(1)]
    assert without(ops, 0, 6) == []


def test_a_recorded_run_becomes_a_script():
    rows = np.array([[1, 3, 16, 0, 0], [2, 0, 0, 0, 0], [7, 2, 0, 512, 1024]], np.int32)
    assert by_rows({"ops": rows}) == [(1, 3, 16, 0, 0, 0), (4, 0, 0, 0, 0, 0), (7, 2, 0, 512, 1024, 0)]
    on_cpus = np.array([[1, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]], np.int32)
    assert by_rows({"ops": on_cpus}) == [(1, 0, 0, 0, 0, 2), (4, 0, 0, 0, 0, 1)]


def test_the_shortest_script_is_found():
    """A fault that an allocation of order 7 shows, after one of order 5 that was freed."""
    ops = [alloc(k % 4) for k in range(300)]
    ops[100] = alloc(5)
    ops[180] = free(100)
    ops[250] = alloc(7)
    ops += [(DRAIN, 0, 0, 0, 0, 0)] * 200
    asked = []

    def shows(script):
        asked.append(len(script.ops))
        freed = {op[3] for op in script.ops if op[0] == FREE}
        fives = [row for row, op in enumerate(script.ops) if op[:2] == (ALLOC, 5) and row in freed]
        return bool(fives) and any(op[:2] == (ALLOC, 7) for op in script.ops[fives[0] :])

    small = shortest(Script("x", SETUP, ops), shows)
    assert list(small.ops) == [alloc(5), free(0), alloc(7)]
    assert len(asked) < 120


def test_the_number_of_questions_is_kept():
    asked = []

    def shows(script):
        asked.append(script)
        return len(script.ops) >= 900

    shortest(Script("x", SETUP, [alloc(0)] * 1000), shows, tries=30)
    assert len(asked) <= 60


def test_the_machine_becomes_simpler_too():
    setup = Setup(zone_kib=65536, cpus=4, pcp=(1, 2, 1), two_zones=True, dma32=True, exact=False)
    ops = [(ALLOC, 0, 16, 0, 0, 3)]

    def shows(script):
        assert script.setup.cpus > 1 or all(op[5] == 0 for op in script.ops)
        return script.setup.pcp is not None

    small = shortest(Script("x", setup, ops), shows).setup
    assert small == Setup(zone_kib=65536, pcp=(1, 2, 1), bypass=True, wmark=(0, 0, 0), boost=0)
    assert list(simpler(replace(small, pcp=None))) == []
