"""Why one operation of a replay went so: the state shown is the replay's, the arithmetic the engine's."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

from asi_pa import cli
from asi_pa.designs import as_design
from asi_pa.engine.machine import Machine
from asi_pa.experiment.explain import explain
from asi_pa.experiment.probe import Relief
from asi_pa.experiment.runs import build
from asi_pa.kernel.gfp import parse_gfp
from asi_pa.report.explained import explained_text, reasons
from asi_pa.run import look
from asi_pa.run.start import compile_trace
from asi_pa.trace import CompiledTrace
from asi_pa.trace.ops import Op

TRACE = "stress:64M:1"
BARE = Relief.none()


@pytest.fixture(scope="module")
def compiled() -> CompiledTrace:
    return compile_trace(TRACE)


@pytest.fixture(scope="module")
def starved() -> dict[str, Any]:
    return explain(TRACE, "failure", "migratetype", relief=BARE)


def events_by_hand(compiled: CompiledTrace, design: str) -> dict[str, list[int]]:
    """Operations in which something was counted, one operation after the other."""
    machine, run, _ = build(compiled, as_design(design))
    found: dict[str, list[int]] = {"failure": [], "flip": [], "fallback": []}
    before = (run.failures, machine.stats())
    for at in range(len(compiled.ops)):
        run.run(compiled.ops, at, at + 1)
        failures, stats = run.failures, machine.stats()
        found["failure"] += [at] * (failures - before[0])
        for word, names in (("flip", ("flips_s2n", "flips_n2s")), ("fallback", ("extfrag_events",))):
            found[word] += [at] * sum(stats[name] - before[1][name] for name in names)
        before = (failures, stats)
    return found


def test_an_event_is_the_operation_in_which_it_happens(compiled: CompiledTrace) -> None:
    found = events_by_hand(compiled, "migratetype")
    assert all(found.values())
    for word, operations in found.items():
        for which in (1, len(operations) // 2 + 1, len(operations)):
            about = explain(TRACE, f"{word}:{which}", "migratetype", relief=BARE)
            assert about["operation"] == operations[which - 1], (word, which)


@pytest.mark.parametrize("design", ["linux", "freetype/sound", "pool/nonsensitive"])
def test_the_state_is_that_of_a_replay_that_stops_there(compiled: CompiledTrace, design: str) -> None:
    about = explain(TRACE, 9000, design, relief=BARE)
    machine, run, _ = build(compiled, as_design(design))
    for when, end in (("before", 9000), ("after", 9001)):
        run.run(compiled.ops, run.done, end)
        free = about["zones"][0]["free_blocks"][when]
        assert list(np.sum(list(free.values()), axis=0)) == run.free_blocks(0).tolist()
        pages = [sum(count << order for order, count in enumerate(row)) for row in free.values()]
        pool = sum(count << order for order, count in enumerate(about["zones"][0]["pool"][when]))
        assert [*pages, pool] == run.free_pages().tolist()
        blocks = about["zones"][0]["pageblocks"][when]
        assert sum(blocks.values()) == len(run.block_kinds())
    assert machine.verify() is None


def test_why_a_request_starved(starved: dict[str, Any]) -> None:
    assert (starved["failed"], starved["cause"], starved["pfn"]) == (True, "flip_starvation", -1)
    free = starved["zones"][0]["free_blocks"]["before"]
    side = {ft["name"]: ft["mapped"] for ft in starved["freetypes"]}
    other = {name: row for name, row in free.items() if not side[name]}
    assert not any(any(row) for name, row in free.items() if side[name])
    assert not any(any(row[9:]) for row in other.values())
    pages = sum(count << order for row in other.values() for order, count in enumerate(row))
    words = reasons(starved)
    assert words[0].startswith("FAILED: free memory is of the other sensitivity")
    assert any(f"the other side: {pages:,} pages free" in line and "0 that a flip" in line for line in words)


def test_a_flip_is_told_with_where_it_came_from() -> None:
    about = explain(TRACE, "flip", "migratetype", relief=BARE)
    words = reasons(about)
    assert "free, order 10, Movable list" in words[0]
    assert words[1] == "now allocated; its pageblock is UnmovableNons, mapped"
    assert "pageblocks flipped from sensitive to nonsensitive: 2" in words
    before, after = (about["zones"][0]["pageblocks"][when] for when in ("before", "after"))
    assert after["UnmovableNons mapped"] - before.get("UnmovableNons mapped", 0) == 2


def test_a_free_is_told(compiled: CompiledTrace) -> None:
    at = int(np.flatnonzero(compiled.ops["op"] == Op.OP_FREE)[100])
    about = explain(TRACE, at, relief=BARE)
    assert (about["what"], about["request"]) == ("FREE", None)
    assert about["was"].startswith("allocated; ")
    assert about["is"].startswith(("free, order", "on CPU"))
    assert explained_text(about).splitlines()[4].startswith(f"  pfn {about['pfn']}: allocated")


MASKS = (
    "GFP_KERNEL", "GFP_ATOMIC", "GFP_NOWAIT", "GFP_HIGHUSER_MOVABLE", "GFP_KERNEL|__GFP_RECLAIMABLE",
    "GFP_KERNEL|__GFP_NORETRY|__GFP_COMP", "GFP_ATOMIC|__GFP_NOMEMALLOC", "GFP_KERNEL|__GFP_SENSITIVE",
)  # fmt: skip


@pytest.mark.parametrize("design", ["linux", "migratetype/sound", "unmapped/sound"])
def test_the_watermarks_arithmetic_is_the_engines(design: str) -> None:
    """Fill a machine step by step: the parts agree with the engine's own answer at each."""
    from asi_pa.kernel.sizing import single_zone

    machine, rng = Machine(single_zone("64M"), design), random.Random(5)
    held, seen = [], set()
    for _ in range(6000):
        order = rng.choice((0, 0, 0, 1, 3))
        pfn = machine.alloc(order, parse_gfp(rng.choice(MASKS)))
        if pfn >= 0:
            held.append((pfn, order))
        elif rng.random() < 0.02:
            machine.free(*held.pop(rng.randrange(len(held))))
        order, gfp, slow = rng.choice((0, 1, 3, 9)), parse_gfp(rng.choice(MASKS)), rng.random() < 0.5
        told = look.watermark(machine, 0, order, gfp, slow=slow)
        assert told["enough"] == (told["free"] - told["unusable"] > told["least"] + told["reserve"])
        if order == 0 and not told["boost"]:
            assert told["passes"] == told["enough"]
        elif told["passes"] and not told["boost"]:
            assert told["enough"]
        seen.add((order > 0, told["enough"], told["passes"]))
    assert {(False, True, True), (False, False, False), (True, False, False), (True, True, True)} <= seen


def test_what_a_request_is() -> None:
    from asi_pa.kernel.sizing import single_zone

    machine = Machine(single_zone("64M"), "migratetype/sound")
    kernel = look.request(machine, 0, parse_gfp("GFP_KERNEL|__GFP_SENSITIVE"))
    assert (kernel["sensitive"], kernel["may_block"]) == (True, True)
    assert "FLIP" in kernel["slow_flags"]
    atomic = look.request(machine, 3, parse_gfp("GFP_ATOMIC"))
    assert {"NON_BLOCK", "MIN_RESERVE", "HIGHATOMIC"} <= set(atomic["slow_flags"])
    assert (atomic["sensitive"], atomic["may_block"]) == (False, False)
    with pytest.raises(ValueError, match="order 99"):
        look.request(machine, 99, 0)


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    words = ["explain", TRACE, "failure", "--design", "migratetype", "--no-relief"]
    assert cli.main([*words, "--quiet"]) == 0
    first = capsys.readouterr().out
    assert max(map(len, first.splitlines())) <= 120
    assert cli.main([*words, "--quiet"]) == 0
    assert capsys.readouterr().out == first
    assert cli.main([*words, "--json", str(tmp_path / "why.json")]) == 0
    about = json.loads((tmp_path / "why.json").read_text())
    assert about["schema"] == "asi_pa.explain/1"
    assert explained_text(about) == first


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ("17996", "the replay has 17,996 operations, 0 to 17,995"),
        ("flop", "neither the number of an operation nor one of failure, real"),
        ("failure:0", "the first is failure:1"),
        ("flip", "flip 1 does not come: 0 in 17,996 operations"),
        ("-1", "error"),
    ],
)
def test_an_event_that_is_none_is_refused_in_a_line(
    capsys: pytest.CaptureFixture[str], event: str, says: str
) -> None:
    assert cli.main(["explain", TRACE, event, "--no-relief"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert says in err
