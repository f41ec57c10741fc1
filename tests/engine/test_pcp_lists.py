"""Per-CPU lists longer than their first array, against the twin, which keeps Python's."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from asi_pa.designs import as_design
from asi_pa.kernel.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from asi_pa.kernel.sizing import machine as laid_out
from asi_pa.kernel.spec import MachineSpec, PcpSpec
from tests.twin import Machine as Twin
from tests.twin.dump import first_difference
from tests.twin.engines import small_spec

engine = pytest.importorskip("asi_pa.engine.machine", reason="the extension modules are not built")

KINDS = (GFP_KERNEL, GFP_HIGHUSER_MOVABLE)


def large_lists(high: int) -> MachineSpec:
    """4,096 pages, of which a CPU's lists may have so many, or more."""
    return small_spec(
        pages=4096, start=0, pageblock_order=5, max_page_order=6, cpus=2,
        pcp=PcpSpec(batch=7, high_min=high, high_max=1800),
    )  # fmt: skip


@pytest.mark.parametrize(("high", "length"), [(60, 200), (500, 500), (1800, 1000)])
def test_lists_grow_move_and_empty_as_the_twins_do(high: int, length: int) -> None:
    design = as_design("linux")
    ours = engine.Machine(large_lists(high), design)
    theirs = Twin(large_lists(high), design)
    rng = random.Random(high)
    held: list[tuple[int, int]] = []
    longest = 0
    for burst in range(60):
        cpu = rng.randrange(2)
        if burst % 20 == 19:
            ours.drain(cpu)
            theirs.drain(cpu)
        for _ in range(rng.choice((3, 40, 400))):
            if burst % 2:
                if not held:
                    break
                pfn, order = held.pop(rng.randrange(len(held)) if rng.random() < 0.5 else -1)
                ours.free(pfn, order, cpu)
                theirs.free(pfn, order, cpu)
            else:
                gfp, order = rng.choice(KINDS), rng.choice((0, 0, 0, 0, 1, 3))
                pfn = ours.alloc(order, gfp, cpu)
                assert pfn == theirs.alloc(order, gfp, cpu)
                if pfn >= 0:
                    held.append((pfn, order))
        words = ours.dump(0).tolist()
        difference = first_difference(words, theirs.dump(0).tolist(), tail="")
        assert difference is None, f"after burst {burst}: {difference}"
        assert ours.verify() is None
        longest = max(longest, *(ours.counters(cpu)[0] for cpu in range(2)))
    assert longest > length, f"at most {longest} pages were on a CPU's lists: no array has grown much"


# A list grows by doubling: the last arrays of so long a one are more than the megabyte that is left.
NO_MEMORY = """
import resource
import sys
import numpy as np
from asi_pa.allocator import Allocator
from asi_pa.kernel.gfp import GFP_HIGHUSER_MOVABLE
from asi_pa.kernel.spec import PcpSpec
from asi_pa.run.replay import OP, Replay
from tests.twin.engines import small_spec

way, pages = sys.argv[1], 1 << 20
pcp = PcpSpec(batch=63, high_min=pages, high_max=pages)
made = Allocator(small_spec(pages=pages, start=0, pageblock_order=9, max_page_order=10, pcp=pcp))
machine = made.machine
if way == "replay":
    run = Replay(machine, [GFP_HIGHUSER_MOVABLE], pages)
    ops = np.zeros(pages, OP)
    ops["slot"] = np.arange(pages)
    ops["op"] = 1
    run.run(ops)
    ops["op"] = 2
else:
    pfns = made.alloc_pages_bulk(0, GFP_HIGHUSER_MOVABLE, pages - 4096)
    each = pfns.tolist()


def free() -> None:
    if way == "replay":
        run.run(ops)
    elif way == "bulk":
        made.free_pages_bulk(pfns)
    else:
        for pfn in each:
            made.free_pages(pfn)


with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 20), resource.RLIM_INFINITY))
try:
    free()
except MemoryError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert machine.verify() is None, machine.verify()
if way != "replay":
    for again in (lambda: made.alloc_pages(0), lambda: made.alloc_pages_bulk(0, n=5)):
        try:
            again()
        except MemoryError as error:
            print(error)
    assert machine.verify() is None, machine.verify()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of address space that malloc respects")
@pytest.mark.parametrize(("way", "times"), [("replay", 1), ("bulk", 3), ("one by one", 3)])
def test_a_list_that_cannot_grow_is_an_error(way: str, times: int) -> None:
    done = subprocess.run([sys.executable, "-c", NO_MEMORY, way], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == times
    assert all(line.startswith("no memory for a per-CPU list") for line in said), said


@pytest.mark.parametrize(("cpu", "left"), [(0, [100] * 2 + [97] * 3 + [94]), (1, [100] * 6)])
def test_pages_of_another_node_go_back_a_batch_at_every_third_tick(cpu: int, left: list[int]) -> None:
    """pcp->expire of refresh_cpu_vm_stats() (mm/vmstat.c); a node's own pages stay."""
    spec = laid_out("128M", nodes=2, cpus=2)
    (zone,) = (number for number, each in enumerate(spec.zones) if each.nid == 1)
    pcp = spec.zones[zone].pcp
    assert pcp is not None
    assert pcp.batch == 3
    machines = engine.Machine(spec, "linux"), Twin(spec, as_design("linux"))
    for machine in machines:
        held = []
        while (pfn := machine.alloc(0, GFP_KERNEL, cpu)) >= 0:
            held.append(pfn)
        machine.refresh_vm_stats(cpu, zone)
        first, *others = [pfn for pfn in held if pfn >= spec.zones[zone].start_pfn][:101]
        machine.free(first, 0, cpu)
        machine.drain(cpu, zone)  # moves NR_FREE_PAGES by one
        for pfn in others:
            machine.free(pfn, 0, cpu)
        found = []
        for _ in left:
            machine.refresh_vm_stats(cpu, zone)
            found.append(machine.counters(cpu, zone)[0])
        assert found == left
        assert machine.verify() is None
