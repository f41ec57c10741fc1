"""What the search finds by itself is what recorded kernels did: the pair is found, the run is exact."""

import pytest

from asi_pa.audit import audit
from asi_pa.audit.recorded import RUNS, recorded_run
from asi_pa.designs import DESIGNS
from asi_pa.verify.recording import read_recording
from asi_pa.verify.verdict import verify_recording
from tests.verify.cut_recorded_run import DATA

NEW = ["unmapped/v2", "unmapped/v4", "pool/as-posted", "pool/letter", "rfcv2-queue/as-posted"]


def committed(name):
    return next(DATA.rglob(f"{name}.npz"))


@pytest.fixture(scope="module")
def found():
    """(invariant, mechanism) of everything found, by design."""
    results = {name: audit(name, depth=5, states=150_000, only=("smallest", "reserve")) for name in NEW}
    return {
        name: {(f.invariant, f.mechanism): f for f in result.findings + result.liveness}
        for name, result in results.items()
    }


@pytest.mark.parametrize("design", NEW)
def test_each_is_found_without_being_told(found, design):
    missing = [pair for pair in RUNS[design] if pair not in found[design]]
    assert missing == []
    for (invariant, mechanism), finding in found[design].items():
        assert finding.recorded == recorded_run(design, invariant, mechanism)
        assert finding.as_dict()["recorded"] == finding.recorded
        assert ("recorded: " in finding.text()) == bool(finding.recorded)


@pytest.mark.parametrize("design", list(RUNS))
def test_the_runs_are_of_that_design_and_exact(design):
    for name in set(RUNS[design].values()):
        recorded = read_recording(committed(name))
        assert recorded.design is DESIGNS[design]
        assert verify_recording(recorded).exact


@pytest.mark.parametrize(
    ("run", "column", "pages"),
    [
        ("Vx-a2", 1, 512),
        ("Vx-a1", 2, 512),
        ("Px-a1", 1, 9),
        ("Px-b1", 1, 272),
        ("Lx-b1", 1, 256),
        ("Px-b2", 1, 512),
        ("Lx-b2", 1, 512),
    ],
)
def test_the_kernel_handed_out_wrongly_mapped_pages(run, column, pages):
    """Column 1 of resx: live protected pages that are present; 2: live plain pages that are absent."""
    resx = read_recording(committed(run)).resx
    assert resx is not None
    assert resx[-1, column] == pages


@pytest.mark.parametrize(
    ("run", "stale"), [("Ux-z1", 512), ("Vx-m1", 512), ("Px-f1", 1), ("Lx-f1", 1), ("Qx-c1", 1)]
)
def test_the_kernel_mapped_what_owners_left(run, stale):
    """The aux of a map event counts the stale pages that are exposed at that moment."""
    events = read_recording(committed(run)).events
    assert events is not None
    maps = [int(aux) & 0xFFFF for _, word, _, _, aux in events.tolist() if word & 0xFF == 1]
    assert max(maps) == stale


@pytest.mark.parametrize(
    ("run", "kinds"), [("Ux-m1", {1, 2}), ("Vx-m1", {1, 2}), ("Ux-g1", {0}), ("Vx-d1", {0})]
)
def test_the_kernel_failed_beside_whole_blocks_of_the_other_mapping(run, kinds):
    """By migratetype: failures with wholly free pageblocks of the other kind (column 6 of resx)."""
    recorded = read_recording(committed(run))
    assert recorded.resx is not None
    rows = (recorded.recorded_ops[:, 0] == 1) & (recorded.res[:, 0] < 0) & (recorded.resx[:, 6] > 0)
    assert kinds <= set((recorded.recorded_ops[rows, 2] & 3).tolist())
