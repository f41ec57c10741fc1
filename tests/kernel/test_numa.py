"""Nodes as they are asked for: how many, and whose CPUs are whose."""

from __future__ import annotations

import pytest

from asi_pa.kernel.numa import as_nodes, cpulist


def test_a_number_spreads_the_cpus_evenly() -> None:
    assert as_nodes(2).of_cpus(5) == (0, 0, 0, 1, 1)
    assert as_nodes("3").of_cpus(3) == (0, 1, 2)
    assert as_nodes(1).of_cpus(1) == (0,)


def test_cpus_are_listed_as_the_kernel_lists_them() -> None:
    nodes = as_nodes("0,2-3/1,4")
    assert (nodes.count, nodes.words, nodes.of_cpus(5)) == (2, "0,2-3/1,4", (0, 1, 0, 0, 1))
    assert as_nodes("0-1/").of_cpus(2) == (0, 0)  # memory without CPUs
    assert as_nodes(nodes) is nodes
    assert [cpulist(row) for row in nodes.cpus] == ["0,2-3", "1,4"]
    assert cpulist(()) == ""


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "how many, the CPUs"),
        ("two", "how many, the CPUs"),
        ("0-3", "how many, the CPUs"),
        ("0", "1 to 8"),
        ("9", "1 to 8"),
        ("/", "no CPU"),
        ("0-1/1", "on two of them"),
        ("0-x/1", "'0-x' is no range"),
        ("3-0/4", "'3-0' is no range"),
        ("0,/1", "'' is no range"),
        ("0-4096/5", "'0-4096' is no range"),
    ],
)
def test_what_cannot_be_is_named(given: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        as_nodes(given)


@pytest.mark.parametrize(
    ("given", "cpus", "words"),
    [
        ("2", 1, "the machine has 1 CPU, and the CPU of a request says its node .0/ makes"),
        ("3", 2, "the machine has 2 CPUs, and .* .0-1// makes nodes without CPUs"),
        ("0/1", 3, "CPU 2 is on none"),
        ("0/1", 1, "CPU 1, but the machine has 1 CPUs"),
    ],
)
def test_cpus_that_do_not_fit_are_named(given: str, cpus: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        as_nodes(given).of_cpus(cpus)
