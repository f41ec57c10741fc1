"""A start state divided into nodes: nothing is lost, nothing is moved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from asi_pa.kernel.numa import as_nodes
from asi_pa.kernel.sizing import derive, machine
from asi_pa.kernel.spec import MachineSpec, ZoneSpec
from asi_pa.trace import Classifier, CompiledTrace, Starts, load_trace
from asi_pa.trace.nodes import boundaries

MIB = 256


@pytest.fixture(scope="module")
def starts() -> dict[str, Starts]:
    trace, rule = load_trace("redis"), Classifier.parse("rfc")
    return {nodes: Starts(trace, rule, nodes=nodes) for nodes in ("1", "2", "0-1//")}


def columns(compiled: CompiledTrace, *names: str) -> list[tuple[int, ...]]:
    """Columns of all zones, row by row, sorted."""
    parts = [[getattr(zone, name) for name in names] for zone in compiled.population]
    return sorted(tuple(row) for part in parts for row in np.array(part, np.int64).T.tolist())


def types(compiled: CompiledTrace) -> list[int]:
    """The types of all pageblocks, in order of address."""
    zones = sorted(compiled.population, key=lambda zone: zone.start_pfn)
    return [int(mt) for zone in zones for mt in zone.block_mt]


@pytest.mark.parametrize("nodes", ["2", "0-1//"])
@pytest.mark.parametrize("pages", [None, 900 * MIB + 3, 0])
def test_every_page_is_where_it_was(starts: dict[str, Starts], nodes: str, pages: int | None) -> None:
    """0: the recorded zones."""
    one, many = (s.recorded() if pages == 0 else s.at(pages, 5) for s in (starts["1"], starts[nodes]))
    assert one.nodes == 1
    assert many.nodes == as_nodes(nodes).count
    assert many.memory_bytes == one.memory_bytes
    assert (many.ops == one.ops).all()
    for names in (
        ("free_pfn", "free_order"),
        ("held_pfn", "held_order", "held_cls", "held_slot", "held_file"),
        ("pcp_pfn", "pcp_order", "pcp_mt", "pcp_cpu"),
    ):
        assert columns(many, *names) == columns(one, *names)
    assert types(many) == types(one)
    for zone, spec in zip(many.population, many.machine.zones, strict=True):
        assert (zone.start_pfn, zone.spanned, zone.holes) == (spec.start_pfn, spec.spanned, spec.holes)
        assert zone.free_pages + zone.held_pages + zone.pcp_pages == spec.managed


def test_lists_keep_their_order(starts: dict[str, Starts]) -> None:
    one, many = starts["1"].at(None), starts["2"].at(None)
    whole = one.population[0]
    for part in many.population:
        inside = (whole.free_pfn >= part.start_pfn) & (whole.free_pfn < part.start_pfn + part.spanned)
        assert whole.free_pfn[inside].tolist() == part.free_pfn.tolist()


def test_nodes_are_of_one_size_and_hold_what_a_kernel_would_compute(starts: dict[str, Starts]) -> None:
    made = starts["2"].recorded().machine
    pages = [sum(zone.managed or 0 for zone in made.zones if zone.nid == nid) for nid in (0, 1)]
    assert abs(pages[0] - pages[1]) <= 1 << made.max_page_order
    assert [(zone.nid, zone.name) for zone in made.zones] == [
        (0, "Normal"), (0, "DMA32"), (0, "DMA"), (1, "Normal"),
    ]  # fmt: skip
    assert made.cpu_nodes == (0, 1)
    assert made == derive(made, kernel="6.18")
    # the reserve of a node's own zones: node 1 has none below Normal
    assert made.zones[1].lowmem_reserve[2] == (made.zones[0].managed or 0) // 256
    apart = starts["0-1//"].at(900 * MIB)
    assert apart.machine.cpu_nodes == (0, 0)
    assert {zone.nid for zone in apart.machine.zones} == {0, 1, 2}


def test_boundaries_leave_holes_out() -> None:
    """As numa=fake=N (split_nodes_interleave): equal shares of what is no hole."""
    for nodes in (1, 2, 3, 8):
        spec = machine("8G", cpus=8)
        edges = boundaries(spec, nodes)
        assert len(edges) == nodes - 1
        assert not any(edge % 1024 for edge in edges)
    start = 1 << 20
    hole = (start + 100 * MIB, start + 200 * MIB)
    zone = ZoneSpec(start_pfn=start, spanned=400 * MIB, holes=(hole,))
    assert boundaries(MachineSpec(zones=(zone,)), 3) == [start + 200 * MIB, start + 300 * MIB]
    with pytest.raises(ValueError, match=r"nodes 8: 255 MiB of memory, a node has 32 MiB"):
        boundaries(MachineSpec(zones=(ZoneSpec(start_pfn=1 << 20, spanned=255 * MIB),)), 8)


def test_too_few_cpus_are_refused_with_the_trace(starts: dict[str, Starts]) -> None:
    trace = replace(starts["1"].trace, cpus=1)
    with pytest.raises(ValueError, match=r"^trace redis: nodes 2: the machine has 1 CPU, "):
        Starts(trace, Classifier.parse("rfc"), nodes=2)
