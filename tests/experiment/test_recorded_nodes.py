"""A trace of a machine of two nodes: read with its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("asi_pa.run.replay", reason="the extension modules are not built")

import asi_pa
from asi_pa.cli import main
from asi_pa.designs import DESIGNS
from asi_pa.experiment.runs import build
from asi_pa.trace import Trace, load_trace, write_trace
from asi_pa.trace.nodes import cpus_by_pfn, recorded_nodes
from tests.trace.two_nodes import two_node_trace


@pytest.fixture(scope="module")
def trace() -> Trace:
    return two_node_trace(operations=30_000)


@pytest.fixture(scope="module")
def saved(trace: Trace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nodes") / "two.trace"
    write_trace(trace, path)
    return path


def test_the_pfns_say_the_nodes(trace: Trace) -> None:
    assert recorded_nodes(trace) == [0, 1]
    # the machine had CPU 1 on node 0; a CPU that asks for nothing is where the one before is
    assert cpus_by_pfn(trace) == [1, 0]
    assert cpus_by_pfn(replace(trace, cpus=4)) == [1, 0, 0, 0]
    assert recorded_nodes(load_trace("redis")) == [0]


@pytest.mark.parametrize("recorded", [True, False])
def test_the_start_is_that_of_the_machine(trace: Trace, recorded: bool) -> None:
    compiled = asi_pa.compile_trace(trace, recorded=recorded)
    zones = trace.snapshots["zones_start"]
    assert compiled.machine.cpu_nodes == (1, 0)
    assert [zone.nid for zone in compiled.machine.zones] == [0, 1]
    for record, zone, population in zip(zones, compiled.machine.zones, compiled.population, strict=True):
        assert zone.wmark == tuple(record[key] for key in ("min", "low", "high", "promo"))
        assert (zone.start_pfn, zone.spanned) == (record["start_pfn"], record["spanned"])
        # no event says that a page left the buddy, so what is taken first was on a per-CPU list
        assert population.free_pages <= record["free"]
        pages = (population.free_pages, population.pcp_pages, population.held_pages)
        assert min(pages) > 0
        assert sum(pages) == zone.spanned


def test_smaller_machines_keep_both_nodes(trace: Trace) -> None:
    compiled = asi_pa.compile_trace(trace, memory="700M")
    pages = [zone.spanned for zone in compiled.machine.zones]
    assert sum(pages) == 700 * 256
    assert abs(pages[0] - pages[1]) <= 1024
    for zone, population in zip(compiled.machine.zones, compiled.population, strict=True):
        assert population.start_pfn == zone.start_pfn
        assert population.free_pages + population.held_pages + population.pcp_pages == zone.spanned
    assert compiled.initial["evicted"] == 0
    for name in ("linux", "migratetype/sound", "pool/sound"):
        machine, run, _ = build(compiled, DESIGNS[name], reclaim=None, compaction=True)
        run.run(compiled.ops)
        assert machine.verify() is None
        assert all(node["numa_hit"] for node in machine.numa())


def test_on_the_recorded_machine_linux_takes_the_recorded_node(trace: Trace) -> None:
    """Nothing is short there: every request gets its own node's memory, as it did."""
    found = asi_pa.replay(trace, "linux", samples=2)
    assert [(node.cpus, node.numa_miss) for node in found.nodes] == [("1", 0), ("0", 0)]
    assert found.value("failures") == 0
    assert found.verify == "ok"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"nodes": 1}, "nodes 1: recorded on 2"),
        ({"nodes": 3}, "nodes 3: recorded on 2"),
        ({"nodes": "0/1/"}, "nodes 0/1/: recorded on 2"),
        ({"memory": "2G"}, "2048 MiB are more than its nodes had, 1024 MiB"),
    ],
)
def test_what_cannot_be_is_named(trace: Trace, how: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"^trace two-nodes: {words}"):
        asi_pa.compile_trace(trace, **how)
    gap = replace(trace, snapshots={"zones_start": [dict(z, nid=2 * z["nid"])
                                                    for z in trace.snapshots["zones_start"]]})  # fmt: skip
    with pytest.raises(ValueError, match="recorded on nodes 0, 2: not modelled"):
        asi_pa.compile_trace(gap)


def test_cpus_can_be_told(trace: Trace) -> None:
    assert asi_pa.compile_trace(trace, nodes="0-1/").machine.cpu_nodes == (0, 0)
    assert asi_pa.compile_trace(trace, nodes=2).machine.cpu_nodes == (1, 0)


def test_every_verb_answers_or_says_why_not(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["--quick", "--no-cache", "--no-relief", "--design", "migratetype"]
    assert main(["info", str(saved)]) == 0
    assert "node 1 Normal" in capsys.readouterr().out
    assert main(["compare", str(saved), *quick]) == 0
    out = capsys.readouterr().out
    assert "nodes recorded" in out
    assert "recorded on one node" not in out
    assert main(["validate", str(saved)]) == 0
    assert "two" in capsys.readouterr().out
    assert main(["compare", str(saved), *quick, "--nodes", "4"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["pressure", str(saved)]) == 2
    assert "recorded on 2 nodes" in capsys.readouterr().err
