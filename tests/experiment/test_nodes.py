"""Comparisons on machines of several nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("asi_pa.run.replay", reason="the extension modules are not built")

import asi_pa
from asi_pa.designs import DESIGNS
from asi_pa.experiment.comparison import compare
from asi_pa.experiment.runs import build, supply_of
from asi_pa.report import render_terminal
from asi_pa.run.replay import Replay
from asi_pa.trace import CompiledTrace


@pytest.fixture(scope="module")
def two() -> CompiledTrace:
    return asi_pa.compile_trace("redis", memory="860M", nodes=2)


def free(run: Replay) -> int:
    """Pages on free lists, in a pool and on per-CPU lists."""
    spec = run.machine.spec
    listed = sum(
        run.machine.counters(cpu, zone)[0] for cpu in range(spec.cpus) for zone in range(len(spec.zones))
    )
    return listed + sum(int(pages) for pages in run.free_pages())


@pytest.mark.parametrize("name", ["linux", "migratetype/sound", "pool/nonsensitive", "pool/sound"])
def test_as_many_pages_are_free_at_the_end_as_on_one_node(name: str) -> None:
    pages = []
    for nodes in (1, "1/0/"):
        compiled = asi_pa.compile_trace("redis", memory="2G", nodes=nodes)
        machine, run, _ = build(compiled, DESIGNS[name])
        run.run(compiled.ops)
        assert (run.failures, machine.verify()) == (0, None)
        pages.append(free(run))
    assert len(set(pages)) == 1


@pytest.mark.parametrize("name", sorted(DESIGNS))
def test_every_design_keeps_its_books_on_two_nodes(two: CompiledTrace, name: str) -> None:
    machine, run, _ = build(two, DESIGNS[name], reclaim=None, compaction=True)
    run.run(two.ops, 0, 100_000)
    assert machine.verify() is None
    counts = machine.numa()
    served = run.allocations - run.failures
    assert sum(node["numa_hit"] + node["numa_miss"] for node in counts) == served
    assert sum(node["numa_local"] + node["numa_other"] for node in counts) == served
    assert sum(node["numa_miss"] for node in counts) == sum(node["numa_foreign"] for node in counts)
    # one zone a node: what is preferred is what is local
    assert [node["numa_hit"] for node in counts] == [node["numa_local"] for node in counts]
    found = run.counts_by_node()
    free = [int(pages) for pages in run.free_pages()]
    assert sum(node["free_pages"] for node in found) == sum(free[:-1])
    assert sum(node["pool_pages"] for node in found) == free[-1]


def test_what_reclaim_frees_is_on_its_node(two: CompiledTrace) -> None:
    slots, nodes = supply_of(two, None, 3)
    assert len(slots) == len(set(slots.tolist())) > 1000
    for zone, population in zip(two.machine.zones, two.population, strict=True):
        mine = slots[nodes == zone.nid]
        assert len(mine)
        assert np.isin(mine, population.held_slot).all()


def test_a_node_without_cpus_serves_who_finds_nothing_elsewhere() -> None:
    compiled = asi_pa.compile_trace("redis", memory="860M", nodes="0-1/")
    found = asi_pa.replay(compiled, "linux", samples=2, reclaim=None, compaction=True)
    near, far = found.nodes
    assert (near.cpus, far.cpus) == ("0-1", "")
    assert near.numa_miss == near.numa_other == far.numa_hit == far.numa_local == far.numa_foreign == 0
    assert near.numa_foreign == far.numa_miss == far.numa_other > 0
    assert near.numa_hit == near.numa_local > 0
    assert found.value("numa_miss") == far.numa_miss


def small(nodes: int | str = 1, **more: Any) -> dict[str, Any]:
    how: dict[str, Any] = {"memory": "900M", "seeds": 2, "samples": 2, "reclaim": None} | more
    result = compare("redis", ["migratetype", "pool"], nodes=nodes, **how)
    for run in result["runs"]:
        for design in run["designs"]:
            for key in ("replay_seconds", "replay_ops_per_second"):
                del design["metrics"][key]
    return result


def test_two_nodes_are_compared_and_any_number_of_threads_finds_the_same() -> None:
    result = small(2, threads=1)
    assert result == small("0/1", threads=3) | {"nodes": "2"}
    assert result["nodes"] == "2"
    assert any("recorded on one node" in line for line in result["caveats"])
    (row,) = [row for row in result["answer"][0]["measures"] if row["measure"] == "remote"]
    mapped = [[node["mapped_blocks"] for node in d["nodes"]] for d in result["runs"][0]["designs"]]
    linux, migratetype, pool = mapped
    assert linux == pool == [0, 0]
    assert min(migratetype) > 0
    flips = [node["flips_s2n"] for node in result["runs"][0]["designs"][1]["nodes"]]
    assert any(flips)
    names = [design["design"] for design in result["runs"][0]["designs"]]
    assert all(0 < share < 1 for name in names for share in row["values"][name])
    for design in result["runs"][0]["designs"]:
        counts = design["metrics"]
        # the full replay is the first seed's
        share = counts["numa_miss"] / (counts["numa_hit"] + counts["numa_miss"])
        assert row["values"][design["design"]][0] == share
        for key in ("numa_miss", "flips_s2n", "flips_n2s"):
            assert sum(node[key] for node in design["nodes"]) == counts[key]
        assert sum(node["pages"] for node in design["nodes"]) == 900 * 256
        assert design["verify"] == "ok"


def test_one_node_says_nothing_of_nodes() -> None:
    result = small(1, seeds=1)
    assert result == small(seeds=1)
    assert "nodes" not in result
    assert not any(row["measure"] == "remote" for row in result["answer"][0]["measures"])
    for design in result["runs"][0]["designs"]:
        assert "nodes" not in design
        assert not any(key.startswith("numa_") for key in design["metrics"])


def test_the_screen_and_the_tables_tell_the_nodes() -> None:
    found = asi_pa.compare("redis", "migratetype", memory="900M", seeds=1, samples=2, nodes=2)
    assert found.nodes == "2"
    text = str(found)
    assert "rules; nodes 2; " in text
    assert "served by another node" in text
    assert "remote" in [column.name for column in found.columns()]
    assert all(row["remote"] is not None for row in found.records())
    lines = render_terminal(found.to_dict(), width=120).splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("by node"))
    node = found.runs[0].designs[0].nodes[1]
    assert lines[head + 2].split() == [
        "1", "1", f"{node.pages:,}", "0", "0", "0", f"{node.free_pages:,}", "0",
        f"{node.numa_hit:,}", f"{node.numa_miss:,}", f"{node.numa_foreign:,}",
    ]  # fmt: skip


def test_a_replay_on_nodes_is_settled_when_it_is_compiled(two: CompiledTrace) -> None:
    assert two.nodes == 2
    assert "node 1" in repr(two)
    with pytest.raises(ValueError, match="settled when a trace is compiled"):
        asi_pa.replay(two, nodes=2)
    with pytest.raises(ValueError, match="nodes 3: the machine has 2 CPUs"):
        asi_pa.replay("redis", nodes=3)
    with pytest.raises(ValueError, match="nodes 3: the machine has 2 CPUs"):
        asi_pa.sweep("redis", "linux", nodes=3)


def test_a_sweep_has_its_nodes() -> None:
    found = asi_pa.sweep("redis", "linux", memory="900M", nodes=2, executor="here")
    (row,) = found.records()
    of_one = asi_pa.replay("redis", "linux", memory="900M", nodes=2, samples=2, reclaim=None, compaction=True)
    assert row["numa_miss"] == of_one.value("numa_miss") != 0
