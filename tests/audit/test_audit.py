"""The auditor: what it must find, what it must not, and that its scripts show what it says."""

import gc
import json
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import asi_pa
from asi_pa.audit import AuditResult, audit, audits, gather, scopes, search_unit, units
from asi_pa.audit.scopes import scaled
from asi_pa.audit.script import EVIDENCE
from asi_pa.audit.search import STEP_DTYPE, Batch, Search
from asi_pa.audit.shrink import shrink
from asi_pa.audit.unit import WALK
from asi_pa.designs import DESIGNS, as_design
from asi_pa.engine.machine import Machine
from asi_pa.kernel.gfp import GFP_ATOMIC, GFP_KERNEL, GFP_NAMES
from asi_pa.kernel.spec import MachineSpec, ZoneSpec

EXPOSED = "protected-page-present"
HIDDEN = "unprotected-page-absent"
STALE = "stale-data-mapped"
LABEL = "label-mapping"
SENSITIVE = GFP_NAMES["__GFP_SENSITIVE"]

#: What a real kernel with the March RFC did: the recorded set, invariant, mechanism, operations recorded.
RECORDED = [
    ("Rx-a1", EXPOSED, "merge that relabels", 20),
    ("Rx-a2", STALE, "merge that maps", 21),
    ("Rx-b1", EXPOSED, "pcplist that mixes: a page that a refill put there", 2),
    ("Rx-b2", HIDDEN, "pcplist that mixes: a page that a refill put there", 2),
    ("Rx-b3", EXPOSED, "pcplist that mixes: a page that a free put there", 3),
    ("Rx-c1", EXPOSED, "reserve of the wrong kind: a mapped block relabelled", 2),
    ("Rx-c2", HIDDEN, "reserve of the wrong kind: asked first", 2),
    ("Rx-c3", EXPOSED, "unreserve under a live page (that maps)", 2),
    ("Rx-c4", HIDDEN, "reserve of the wrong kind: asked last", 65),
    ("Rx-e1", EXPOSED, "page reporting that relabels", 19),
]
QUICK = ("smallest", "cma", "reserve", "lists", "windows-cma")


@pytest.fixture(scope="module")
def march():
    result = audit("migratetype/as-posted", depth=4, only=("smallest", "reserve"))
    lists = audit("migratetype/as-posted", depth=3, only=("reserve-lists",))
    for mine, other in ((result.findings, lists.findings), (result.liveness, lists.liveness)):
        known = {(f.invariant, f.mechanism) for f in mine}
        mine += [f for f in other if (f.invariant, f.mechanism) not in known]
    return result


@pytest.mark.parametrize(
    ("name", "invariant", "mechanism", "recorded"), RECORDED, ids=[r[0] for r in RECORDED]
)
def test_exposures_of_a_real_kernel_are_found(march, name, invariant, mechanism, recorded):
    found = {(f.invariant, f.mechanism): f for f in march.findings}
    finding = found[invariant, mechanism]
    assert finding.minimal
    assert finding.operations <= recorded, name
    assert march.status == 1


def test_one_finding_for_each_pair(march):
    pairs = [(f.invariant, f.mechanism) for f in march.findings + march.liveness]
    assert len(pairs) == len(set(pairs))
    assert (STALE, "claim without zeroing") in pairs
    assert (LABEL, "isolation that relabels") in pairs


def test_liveness_of_march(march):
    """Rx-d1, Rx-e2, Rx-e3: failures beside memory of the other kind."""
    found = {f.mechanism for f in march.liveness}
    stranded = {f.mechanism for f in march.liveness if f.invariant == "stranded-block"}
    assert "a protected unmovable request that may not block" in stranded
    assert "free pages stood by in partly used blocks (protected request)" in found
    assert "whole blocks stood by, none large enough (protected request)" in found
    # in March atomic nonsensitive requests claim a block (Rx-d2), blocking or not
    assert not any(f.startswith("an unprotected") for f in stranded)


def test_scripts_show_what_was_found(march, tmp_path):
    for number, finding in enumerate(march.findings + march.liveness):
        namespace = {"__name__": f"finding{number}"}
        with pytest.raises(SystemExit) as ended:
            exec(compile(finding.script(), f"finding{number}.py", "exec"), namespace)
        assert ended.value.code == 1, finding.text()


@pytest.mark.parametrize(
    "design",
    [
        "freetype/as-posted",
        "unmapped/v2",
        "unmapped/v4",
        "pool/as-posted",
        "pool/sound",
        "rfcv2-queue/as-posted",
    ],
)
def test_scripts_of_other_designs_show_what_was_found(design):
    result = audit(design, depth=3, only=("smallest", "cma", "reserve"))
    kinds = {finding.invariant for finding in result.findings + result.liveness}
    assert design.startswith(("unmapped", "rfcv2")) or "nonblocking-flips" in kinds
    for number, finding in enumerate(result.findings + result.liveness):
        with pytest.raises(SystemExit) as ended:
            exec(compile(finding.script(), f"finding{number}.py", "exec"), {"__name__": "finding"})
        assert ended.value.code == 1, finding.text()


@pytest.mark.parametrize("invariant", EVIDENCE)
def test_every_script_runs_to_its_end(march, invariant):
    """Also for what no built-in design breaks: the evidence is looked for, and not found."""
    finding = replace(march.findings[0], invariant=invariant, sequence=march.findings[0].sequence[:1])
    with pytest.raises(SystemExit):
        exec(compile(finding.script(), "finding.py", "exec"), {"__name__": "finding"})


def test_a_script_runs_on_its_own(march, tmp_path):
    finding = next(f for f in march.findings if f.invariant == EXPOSED)
    path = tmp_path / "finding.py"
    path.write_text(finding.script())
    env = {"PYTHONPATH": str(Path(asi_pa.__file__).parent.parent)}
    done = subprocess.run([sys.executable, path], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "present" in done.stdout


def test_the_sound_design_passes_a_script_of_the_broken_one(march):
    for finding in march.findings:
        if finding.invariant not in (EXPOSED, HIDDEN):
            continue
        text = finding.script().replace("'migratetype/as-posted'", "'migratetype/sound'")
        # ValueError: a free of what the sound design did not hand out
        with pytest.raises((SystemExit, ValueError)) as ended:
            exec(compile(text, "sound.py", "exec"), {"__name__": "sound"})
        assert getattr(ended.value, "code", 0) == 0, finding.text()


SOUND = [
    "per-page",
    "rfcv2-queue/sound",
    "migratetype/sound",
    "migratetype/eager",
    "freetype/sound",
    "unmapped/sound",
    "unmapped/symmetric",
    "ours/two-way",
    "pool/sound",
    "pool/nonsensitive",
]


@pytest.mark.parametrize("design", SOUND)
def test_sound_designs_come_out_clean(design):
    result = audit(design, depth=3, only=QUICK)
    # the second CPU of two largest blocks
    result.findings += audit(design, depth=1, only=("windows-four-blocks",)).findings
    assert [f.text() for f in result.findings] == []
    assert result.status == 0
    assert result.depth >= 3


def test_the_smallest_machines_are_searched_to_the_end():
    result = audit("migratetype/sound", only=("cma", "windows-cma"))
    assert result.exhaustive
    assert result.findings == []
    assert "every reachable state of 2 of 2" in result.text()


def test_september_as_posted():
    result = audit("freetype/as-posted", depth=3, only=("smallest", "four-blocks-cma"))
    poor = {(f.invariant, f.mechanism) for f in result.liveness}
    # Sx-g1: without direct reclaim, with __GFP_MEMALLOC, and flips all the same
    assert ("nonblocking-flips", "flip that unmaps") in poor
    # atomic nonsensitive requests fail while no pool exists
    assert ("stranded-block", "an unprotected unmovable request that may not block") in poor
    repaired = audit("freetype/sound", depth=3, only=("smallest",))
    assert not any(f.invariant == "nonblocking-flips" for f in repaired.liveness)


def test_windows_find_what_no_single_cpu_does():
    """As posted, isolation of a block in flight is lost or spoils the lists when the flip relabels it."""
    result = audit("migratetype/as-posted", depth=3, only=("windows-cma", "windows"))
    spoiled = [f for f in result.findings if f.invariant == "lost-or-twice"]
    for finding in spoiled:
        assert any("meanwhile" in step for step in finding.sequence)
        with pytest.raises(SystemExit) as ended:
            exec(compile(finding.script(), "window.py", "exec"), {"__name__": "window"})
        assert ended.value.code == 1
    # nothing but a counter is wrong: the state is no other one for who does not look at counters
    assert {f.mechanism.split("acting ")[1] for f in spoiled} == {
        "after a block was taken to flip it",
        "while its flush is under way",
        "before its new label is set",
    }
    assert all(f.minimal for f in spoiled)


def test_json_holds_everything(march):
    made = json.loads(json.dumps(march.as_dict()))
    assert made["schema"] == "asi_pa.audit/1"
    assert made["states"] == march.states > 0
    for finding in made["findings"]:
        assert set(finding) >= {"invariant", "mechanism", "operations", "sequence", "script"}
        assert finding["operations"] == sum(1 + ("meanwhile" in step) for step in finding["sequence"])


def without_time(result):
    made = result.as_dict()
    for place in (made, *made["searched"]):
        assert place.pop("seconds") >= 0
    assert made.pop("states_per_second") >= 0
    return made


@pytest.mark.parametrize(
    ("design", "operations", "only"),
    [
        # of each scope several levels, of the last ones a part: operations end them
        ("migratetype/as-posted", 400_000, ("smallest", "lists", "windows-reserve")),
        # one scope: all others help it
        ("unmapped/v2", 600_000, ("windows-four-blocks",)),
        ("pool/as-posted", 300_000, ("four-blocks", "reserve")),
    ],
)
def test_any_number_of_jobs_finds_the_same_in_the_same_order(design, operations, only):
    results = [audit(design, operations=operations, seed=7, only=only, jobs=jobs) for jobs in (1, 2, 3)]
    alone, *others = map(without_time, results)
    assert alone["findings"]
    assert all(other == alone for other in others)


def test_several_designs_come_in_their_order():
    names = ["pool/sound", "migratetype/as-posted", "per-page"]
    told: list[AuditResult] = []
    results = audits(names, depth=2, only=("cma", "reserve"), jobs=3, each=told.append)
    assert told == results
    assert [r.design_word for r in results] == names
    for name, result in zip(names, results, strict=True):
        assert without_time(audit(name, depth=2, only=("cma", "reserve"), jobs=1)) == without_time(result)


@pytest.mark.parametrize(
    ("depth", "states", "operations"), [(4, 1 << 20, 1 << 40), (99, 1500, 1 << 40), (99, 1 << 20, 20_000)]
)
def test_batches_of_a_level_lead_where_one_after_the_other_leads(depth, states, operations):
    """In whatever sizes, by other machines, and where a limit ends the search inside one."""
    alone, shared, arm = (make_search(name="lists") for _ in range(3))
    alone.explore(depth, states, 60.0, operations)
    # no time: only to a level that has something left
    while shared.explore(depth, states, 0.0, operations) and shared.stopped == "seconds":
        starts = range(0, shared.frontier, 7)
        batches = [
            (arm if first % 2 else shared).collect(shared, first, min(7, shared.frontier - first))
            for first in starts
        ]
        if not all(shared.merge(batch, states, operations) for batch in batches):
            break
    assert shared.stopped == alone.stopped == ("depth" if depth == 4 else shared.stopped)
    assert (shared.depth, shared.states, shared.transitions) == (alone.depth, alone.states, alone.transitions)
    for ours, theirs in zip(shared.findings(), alone.findings(), strict=True):
        assert ours[:3] == theirs[:3]
        assert np.array_equal(ours[3], theirs[3])


def test_a_unit_is_searched_in_another_process():
    work = units("migratetype/as-posted", depth=3, only=("cma", "reserve"))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(search_unit, work))
    here = audit("migratetype/as-posted", depth=3, only=("cma", "reserve"))
    assert without_time(gather("migratetype/as-posted", work, results)) == without_time(here)


def test_refusals():
    with pytest.raises(ValueError, match="protects nothing"):
        audit("linux")
    with pytest.raises(ValueError, match="unknown design"):
        audit("no-such")
    with pytest.raises(ValueError, match="depth 0"):
        audit("pool", depth=0)
    with pytest.raises(ValueError, match="states -1"):
        audit("pool", states=-1)
    with pytest.raises(ValueError, match="operations 0"):
        audit("pool", operations=0)
    with pytest.raises(TypeError, match=r"Search\.collect"):
        Batch()
    lists = make_search(name="lists")
    with pytest.raises(ValueError, match="same machine"):
        lists.collect(make_search(name="four-blocks"), 0, 1)
    with pytest.raises(ValueError, match="of 1"):
        lists.collect(lists, 1, 1)
    batch = lists.collect(lists, 0, 1)
    assert lists.merge(batch, 100)
    with pytest.raises(ValueError, match="0 are left"):
        lists.merge(batch, 100)
    with pytest.raises(ValueError, match="jobs 0"):
        audit("pool", jobs=0)
    with pytest.raises(ValueError, match="seconds"):
        audit("pool", seconds=float("nan"))
    with pytest.raises(ValueError, match="unknown scope"):
        audit("pool", only=("nowhere",))
    with pytest.raises(ValueError, match="whole blocks"):
        Search(
            Machine(
                MachineSpec(zones=(ZoneSpec(start_pfn=0, spanned=6),), pageblock_order=1, max_page_order=2),
                "migratetype",
            ),
            [(0, 0, 2)],
        )
    with pytest.raises(ValueError, match="at most 64 frames"):
        Search(Machine(MachineSpec(zones=(ZoneSpec(start_pfn=0, spanned=4096),)), "migratetype"), [(0, 0, 2)])


def make_search(design="migratetype/as-posted", name="smallest"):
    scope = next(s for s in scopes(as_design(design)) if s.name == name)
    requests = [(r.gfp, 0, scope.machine.max_page_order) for r in scope.requests]
    return Search(Machine(scope.machine, design), requests, scope.contig, windows=scope.windows)


def test_states_survive_packing_and_walks_are_shortened():
    """A walk from the first state finds a break; what is left of it breaks the same, and needs each step."""
    search = make_search()
    found: list[tuple[int, int, int, npt.NDArray[np.void]]] = []
    seed = 0
    while not found:
        found, operations, _ = search.walk(seed, WALK, 50)
        assert 0 < operations <= 50 * WALK
        seed += 1
    invariant, mechanism, _, steps = found[0]
    assert search.findings() == []
    short = shrink(search, steps, (invariant, mechanism))
    assert len(short) <= len(steps)
    pairs, _ = search.replay(short)
    assert (invariant, mechanism) in {pair[:2] for pair in pairs}
    for i in range(len(short) - 1):
        rest = np.delete(short, i)
        frees = rest["code"] == 2
        if not frees.any():
            pairs, _ = search.replay(rest)
            assert (invariant, mechanism) not in {pair[:2] for pair in pairs}


@pytest.mark.parametrize(
    ("design", "frames", "top", "reserve"),
    [
        ("migratetype/sound", 4, 2, 0),
        ("freetype/sound", 4, 1, 0),
        ("unmapped/sound", 4, 1, 0),
        ("unmapped/v2", 4, 2, 0),
        ("pool/letter", 4, 1, 0),
        ("migratetype/sound", 4, 1, 2),
    ],
)
def test_symmetry_loses_no_state(design, frames, top, reserve):
    """The states met with symmetry are those met without it, counted up to symmetry, all of them."""
    zone = ZoneSpec(
        start_pfn=0,
        spanned=frames,
        managed=reserve * 200 or None,
        wmark=(0, 99, 99, 99) if reserve else (0, 0, 0, 0),
    )
    spec = MachineSpec(zones=(zone,), pageblock_order=1, max_page_order=top, watermark_boost_factor=0)
    gfps = (GFP_KERNEL, GFP_KERNEL | SENSITIVE) if not reserve else (GFP_ATOMIC, GFP_ATOMIC | SENSITIVE)
    requests = [(gfp, 0, top) for gfp in gfps]
    searches = []
    for symmetry in (True, False):
        search = Search(
            Machine(spec, design), requests, (None, GFP_KERNEL), symmetry=symmetry, orbits=not symmetry
        )
        search.explore(1000, 1_000_000, 60.0)
        assert search.closed
        searches.append(search)
    small, large = searches
    assert small.states == large.orbits < large.states
    lengths = [{(f[0], f[1]): len(f[3]) for f in s.findings()} for s in searches]
    assert lengths[0] == lengths[1]


@pytest.mark.parametrize(
    ("design", "name", "depth", "states", "operations", "broken"),
    [
        ("migratetype/as-posted", "lists", 3, 1727, 11373, 12),
        ("freetype/sound", "reserve", 2, 705, 2004, 2),
        ("per-page", "smallest", 3, 2145, 20207, 0),
        ("rfcv2-queue/as-posted", "two-cpus", 3, 2320, 18172, 3),
        ("pool/nonsensitive", "four-blocks", 2, 593, 1290, 0),
        ("unmapped/v2", "windows", 3, 1958, 79433, 22),
        ("migratetype/as-posted", "windows-cma", 4, 3053, 229896, 25),
        ("migratetype/sound", "reserve-lists", 2, 649, 1469, 0),
    ],
)
def test_what_a_search_meets(design, name, depth, states, operations, broken):
    """Counted by a search that hashed and looked at every state, also at those that a sibling led to."""
    small = scaled(as_design(design))
    scope = next(s for s in scopes(small) if s.name == name)
    machine = Machine(scope.machine, small)
    requests = [(r.gfp, 0, scope.machine.max_page_order) for r in scope.requests]
    ticks = scope.machine.zones[0].pcp is not None
    search = Search(machine, requests, scope.contig, windows=scope.windows, ticks=ticks)
    search.explore(depth, 1 << 20, 60.0)
    assert (search.depth, search.states, search.transitions) == (depth, states, operations)
    assert len(search.findings()) == broken
    del search
    # the arrays are the machine's again
    assert machine.alloc(0, GFP_KERNEL) < scope.machine.zones[0].spanned


@pytest.mark.parametrize("design", [name for name, d in DESIGNS.items() if d.protects])
def test_every_design_can_be_searched(design):
    result = audit(design, depth=2, only=("smallest", "lists"))
    assert result.states > 10
    assert result.transitions > result.states


def test_a_search_in_a_cycle_is_collected():
    """It gives the arrays back to the machine's zones, whose machine may have been cleared before."""
    for _ in range(20):
        search = make_search(name="four-page-blocks")
        search.explore(2, 1000, 10.0)
        cycle: list[object] = [search]
        cycle.append(cycle)
        del search, cycle
        gc.collect()
    assert make_search().states == 1


def test_steps_have_the_layout_of_the_search():
    assert STEP_DTYPE.itemsize == 16
