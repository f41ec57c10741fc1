"""Broken promises and what is left on the wrong side, each number with one meaning and one unit."""

from typing import Any

import numpy as np
import pytest

from asi_pa.designs import as_design
from asi_pa.engine.machine import Machine
from asi_pa.experiment import replay
from asi_pa.experiment.measured import Measured
from asi_pa.experiment.metrics import metric
from asi_pa.experiment.ranking import best, breaches
from asi_pa.kernel.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NAMES
from asi_pa.kernel.spec import MachineSpec, ZoneSpec
from asi_pa.physmap.physmap import Physmap
from asi_pa.run.replay import Replay
from asi_pa.trace import compile_trace, workload

BASE, ORDER, BLOCK = 4096, 3, 8
SENSITIVE = GFP_NAMES["__GFP_SENSITIVE"]
SECRET = GFP_KERNEL | SENSITIVE
USER = GFP_HIGHUSER_MOVABLE | SENSITIVE


def small(design: str, blocks: int = 4) -> Machine:
    """A zone without watermarks and pcp lists, pageblocks of eight pages."""
    zone = ZoneSpec(start_pfn=BASE, spanned=blocks * BLOCK, wmark=(0, 0, 0, 0))
    spec = MachineSpec(zones=(zone,), pageblock_order=ORDER, max_page_order=ORDER)
    return Machine(spec, as_design(design))


def physmap(machine: Machine) -> Physmap:
    found = machine.physmap
    assert found is not None
    return found


@pytest.mark.parametrize("order", [0, 2, 3])
def test_what_leaks_and_what_is_absent_are_two_numbers_both_in_pages(order: int) -> None:
    machine = small("per-page")
    physmap(machine).map(BASE, 4 * BLOCK, tree="restricted")  # behind the design's back
    assert machine.alloc(order, SECRET) >= 0
    stats = machine.stats()
    assert (stats["exposures"], stats["absences"]) == (1 << order, 0)

    machine = small("migratetype/as-posted:label_maps=no")  # the label promises what nobody does
    assert machine.alloc(order, GFP_KERNEL) >= 0
    stats = machine.stats()
    assert (stats["exposures"], stats["absences"]) == (0, 1 << order)


@pytest.mark.parametrize("design", ["migratetype", "per-page"])
def test_pages_handed_out_before_the_flush_count(design: str) -> None:
    machine = small(design)
    table = physmap(machine)
    table.unmap(BASE, 2, tree="restricted", flush=0)
    assert machine.alloc(ORDER, SECRET) == BASE
    assert machine.stats()["unflushed"] == 2
    table.flush(BASE, 1)  # does not reach both
    machine.free(BASE, ORDER)
    assert machine.alloc(ORDER, SECRET) == BASE
    assert machine.stats()["unflushed"] == 4
    table.flush(BASE, 2)
    machine.free(BASE, ORDER)
    assert machine.alloc(ORDER, SECRET) == BASE
    assert machine.stats()["unflushed"] == 4


def entry(name: str, tree: str, **counts: int) -> dict[str, Any]:
    metrics = {"leaked_pages": 0, "uncleared_pages": 0, "unflushed_pages": 0, "absent_pages": 0}
    return {
        "design": name,
        "protects": "something",
        "tree": tree,
        "metrics": {"bytes_zeroed": 4096} | metrics | counts,
    }


@pytest.mark.parametrize("key", ["leaked_pages", "uncleared_pages", "unflushed_pages"])
def test_each_exposure_is_a_breach(key: str) -> None:
    assert breaches(entry("a", "restricted", **{key: 1}))
    assert not breaches(entry("a", "restricted"))


def test_an_absent_page_is_an_oops_in_the_direct_map_and_a_cost_in_an_asi() -> None:
    asi, oops = entry("a", "restricted", absent_pages=9), entry("b", "unrestricted", absent_pages=9)
    assert not breaches(asi)
    assert breaches(oops)
    oops["metrics"]["bytes_zeroed"] = 0
    other = entry("c", "restricted", bytes_zeroed=8192)
    assert best(metric("bytes_zeroed"), [asi, oops, other]) == {"a"}


SIDES = {"migratetype": 7, "freetype": 7, "unmapped": 24, "per-page": 0, "rfcv2-queue": 0, "pool": 7}


@pytest.mark.parametrize(("design", "mapped"), SIDES.items())
def test_free_pages_at_the_end_are_told_by_side(design: str, mapped: int) -> None:
    """One nonsensitive page of four blocks is held; in unmapped/v4 a sensitive one, in a block of its own."""
    machine = small(design)
    request = SECRET if machine.design.tree == "unrestricted" else GFP_KERNEL
    assert machine.alloc(0, request) >= 0
    run = Replay(machine, np.zeros(1, np.uint32), 1)
    sides = Measured(None, machine, run, 0.0, 0).stranded()  # type: ignore[arg-type]
    assert sides == {"mapped": mapped, "unmapped": 31 - mapped}


@pytest.mark.parametrize("design", ["linux", "migratetype", "freetype", "per-page", "pool/sound", "unmapped"])
def test_flushes_are_held_against_the_requests_that_can_cause_them(design: str) -> None:
    compiled = compile_trace(workload("bursts", "64M"))
    found = replay(compiled, design, samples=2)["metrics"]
    flushes = found["tlb_flushes_ranged"] + found["tlb_flushes_full"]
    kinds = found["requests_by_kind"]
    value = found["tlb_flushes_per_1000_able"]
    if design == "linux":
        assert value is None
    elif design == "per-page":
        assert value == pytest.approx(1000 * flushes / kinds["nonsensitive"])
    elif design in ("migratetype", "freetype"):
        # all user memory of this workload may block
        assert value == pytest.approx(1000 * flushes / kinds["sensitive"])
    else:
        assert value is None or value >= 1000 * flushes / kinds["sensitive"]


def test_a_request_that_may_not_block_cannot_cause_a_flush_in_a_design_that_flips() -> None:
    """`network`: user memory that may block, and bursts of atomic kernel memory, here sensitive, too."""
    compiled = compile_trace(workload("network", "64M"), "type=unmovable:sensitive")
    metrics = replay(compiled, "migratetype", samples=2)["metrics"]
    ops = compiled.ops[compiled.ops["op"] == 1]
    blocks = (compiled.classes & np.uint32(GFP_NAMES["__GFP_DIRECT_RECLAIM"])) != 0
    able = int(blocks[ops["cls"]].sum())
    assert 0 < able < metrics["requests_by_kind"]["sensitive"]
    flushes = metrics["tlb_flushes_ranged"] + metrics["tlb_flushes_full"]
    assert metrics["tlb_flushes_per_1000_able"] == pytest.approx(1000 * flushes / able)
