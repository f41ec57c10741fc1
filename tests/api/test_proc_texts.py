"""What /proc would show of a replay: the kernel's own lines, and the replay's numbers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import asi_pa
from asi_pa import cli
from asi_pa.experiment.explain import explain
from asi_pa.experiment.probe import Relief
from asi_pa.experiment.runs import build
from asi_pa.kernel import procfs
from asi_pa.results.texts import FORMS
from asi_pa.run.recorded import typed_free
from asi_pa.run.start import compile_trace

TRACE = "stress:64M:1"
#: Read at one moment on a machine with Linux 6.18.
REAL = Path(__file__).resolve().parents[1] / "data" / "procfs"


def shape(line: str) -> str:
    """A line without its numbers, and without the blanks that pad them."""
    return re.sub(r" *-?\d+(\.\d+)?", "#", line)


@pytest.fixture(scope="module")
def recorded() -> asi_pa.ProcTexts:
    return asi_pa.proc_texts("net", recorded=True, at=0, kernel="6.18")


def test_the_lines_are_those_of_a_real_machine(recorded: asi_pa.ProcTexts) -> None:
    texts = recorded
    real, lines = (REAL / "zoneinfo").read_text().splitlines(), texts.zoneinfo.splitlines()
    kinds = [shape(line) for line in real]
    assert {shape(line) for line in lines} <= {*kinds, shape("  node_unreclaimable:  0")}
    # a populated zone: in the real one's order, and nothing but what docs/use/api.md names is left out
    start = kinds.index(shape("Node 0, zone    DMA32"))
    whole = kinds[start : kinds.index(shape("Node 0, zone   Normal"))]
    begin = lines.index("Node 0, zone    DMA32")
    ours = [shape(line) for line in lines[begin : lines.index("Node 0, zone   Normal")]]
    left = [line.split("#")[0].split()[0] for line in whole if line not in ours]
    assert [line for line in whole if line in ours] == [line for line in ours if line in whole]
    counters = ("nr_zone_", "nr_mlock", "nr_zspages", "numa_", "nr_unaccepted", "nr_bounce")
    assert all(name.startswith(counters) for name in left), left
    # as a kernel without CMA prints it, of which the replayed machine has the column
    types = procfs.parse_pagetypeinfo((REAL / "pagetypeinfo").read_text()).migratetypes
    ours_too = procfs.parse_pagetypeinfo(texts.pagetypeinfo).migratetypes
    assert types == tuple(name for name in ours_too if name != "CMA")
    head = texts.pagetypeinfo.splitlines()[:4]
    assert head == (REAL / "pagetypeinfo").read_text().splitlines()[:4]


@pytest.mark.parametrize("name", ["pagetypeinfo", "zoneinfo"])
def test_real_texts_are_printed_again_byte_for_byte(name: str) -> None:
    text = (REAL / name).read_text()
    parse, write = {
        "pagetypeinfo": (procfs.parse_pagetypeinfo, procfs.pagetypeinfo),
        "zoneinfo": (procfs.parse_zoneinfo, procfs.zoneinfo),
    }[name]
    assert write(parse(text)) == text  # type: ignore[operator]


def test_the_start_is_the_recorded_machines(recorded: asi_pa.ProcTexts) -> None:
    """Within what happened while the snapshot was read."""
    trace = asi_pa.load_trace("net")
    made = procfs.parse_buddyinfo(recorded.buddyinfo)
    was = procfs.parse_buddyinfo(trace.snapshots["buddyinfo_start"]["text"])
    assert [(zone.nid, zone.name) for zone in made] == [(zone.nid, zone.name) for zone in was]
    for ours, theirs in zip(made, was, strict=True):
        pages = [sum(n << order for order, n in enumerate(zone.free)) for zone in (ours, theirs)]
        assert pages[0] == pytest.approx(pages[1], rel=0.002)
        assert ours.free[10] == pytest.approx(theirs.free[10], abs=3)


def test_they_are_the_replays() -> None:
    compiled = compile_trace(TRACE)
    machine, run, _ = build(compiled, asi_pa.DESIGNS["migratetype"], **Relief().options())
    run.run(compiled.ops, 0, 5000)
    texts = asi_pa.proc_texts(TRACE, "migratetype", 5000)
    assert texts.operation == 5000
    free = np.array(typed_free(machine, 0))
    (zone,) = procfs.parse_pagetypeinfo(texts.pagetypeinfo).zones
    assert np.array(zone.free).tolist() == free.tolist()
    (line,) = procfs.parse_buddyinfo(texts.buddyinfo)
    assert list(line.free) == free.sum(axis=0).tolist()
    assert texts.unusable_index == procfs.unusable_index([line])
    assert texts.extfrag_index == procfs.extfrag_index([line])
    assert repr(texts).startswith("<ProcTexts after 5,000 operations: buddyinfo,")
    assert asi_pa.proc_texts(TRACE, "migratetype", len(compiled.ops)) == asi_pa.proc_texts(
        TRACE, "migratetype"
    )


def test_a_moment_has_a_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    number = explain(TRACE, "flip:2", "migratetype")["operation"]
    texts = asi_pa.proc_texts(TRACE, "migratetype", "flip:2")
    assert texts.operation == number + 1
    assert texts == asi_pa.proc_texts(TRACE, "migratetype", number + 1)
    assert texts.pagetypeinfo != asi_pa.proc_texts(TRACE, "migratetype", number).pagetypeinfo
    words = ["timeline", TRACE, "--design", "migratetype", "--at", "flip:2", "--quiet"]
    for form in FORMS:
        assert cli.main([*words, "--form", form]) == 0
        assert capsys.readouterr().out == getattr(texts, form)
    out = tmp_path / "pagetypeinfo"
    assert cli.main([*words, "--form", "pagetypeinfo", "-o", str(out)]) == 0
    assert out.read_text() == texts.pagetypeinfo


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--form", "buddyinfo", "--at", "9,999,999,999"], "event 9,999,999,999: the replay has"),
        (["--form", "buddyinfo", "--at", "flop"], "'flop' is neither the number of an operation nor one of"),
        (["--form", "buddyinfo", "--at", "flip"], "flip 1 does not come: 0 in"),
        (["--form", "buddyinfo", "--recorded", "--memory", "1G"], "the recorded machine has the size"),
        (["--at", "3", "-o", "x.json"], "--at is of a text"),
        ([], "-o FILE.json or FILE.json.gz is needed"),
    ],
)
def test_what_cannot_be_is_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["timeline", TRACE, "--quiet", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_command_offers_what_there_is() -> None:
    from asi_pa.commands.timeline import TEXTS

    assert TEXTS == FORMS
