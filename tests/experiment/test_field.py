"""secretmem-vs-frag and guest: small machines, and what recorded kernels say of the same."""

import json

import pytest

from asi_pa.cli import main
from asi_pa.designs import as_design
from asi_pa.experiment.guest import CPUS, guest, guest_text
from asi_pa.experiment.scripted import SCARCE, USER, Scripted
from asi_pa.experiment.secretmem import secretmem, secretmem_text

DIRECT = ["unmapped/v2", "unmapped/v4", "unmapped/sound", "ours/two-way"]
POOLS = ["pool/as-posted", "pool/letter", "pool/sound"]
SECRETMEM = "per-page:tree=unrestricted"


@pytest.fixture(scope="module")
def rows():
    return {row.design: row for row in secretmem([*DIRECT, *POOLS, SECRETMEM], "128M")}


def test_the_first_requests_between_pinned_pieces(rows):
    """Recorded: 0 of 128 for the series of 2026 (Ux-k1, Vx-k1), 128 of 128 for the pool (Px-k1, Lx-k1)."""
    assert {rows[name].first for name in DIRECT} == {0}
    assert {rows[name].first for name in [*POOLS, SECRETMEM]} == {128}


def test_what_fragmentation_costs(rows):
    for name in DIRECT:
        row = rows[name]
        assert 0 < row.pinned < row.idle // 4
        # v2 asks for the request's order only; but its slow path keeps NOFRAGMENT, which 7.2 compacts for
        assert row.movable > 2 * row.pinned
        assert row.splits == 0
    for name in POOLS:
        assert rows[name].pinned > rows[name].idle // 3
        assert rows[name].splits > 50


def test_what_comes_back(rows):
    """v4 strands what protected owners freed; ours gives all of it back to who asks for 2M pages."""
    for name in ("unmapped/v2", "unmapped/v4", "unmapped/sound"):
        assert rows[name].huge_after < rows[name].huge_before // 4
    for name in ("ours/two-way", *POOLS, SECRETMEM):
        assert rows[name].huge_after == rows[name].huge_before


def test_a_guest():
    four, ours, pool, pages = guest(["unmapped/v4", "ours/two-way", "pool/sound", SECRETMEM], "256M", "64M")
    assert four.pages == pages.pages == 64 << 8
    # a block at a time, or a page
    assert (four.flushes, pages.flushes - pages.splits) == (32, 64 << 8)
    assert four.splits == 0
    assert pool.splits == 32
    assert list(pages.longer) == sorted(pages.longer)
    assert four.longer[-1] < 1.1 < pages.longer[0]
    # v4's stays until somebody unmovable wants it, ours goes back
    assert four.stranded[0] == four.stranded[-1] > 0
    assert ours.stranded[-1] < ours.stranded[0]
    assert pages.memory_blocks[1] == 0 < four.memory_blocks[1] <= four.ranges[0]


@pytest.mark.parametrize(
    "design", ["pool/as-posted", "pool/nonsensitive", "rfcv2-queue/as-posted", "migratetype"]
)
def test_odd_blocks_are_those_with_odd_pages(design):
    script = Scripted(as_design(design), "32M")
    assert not script.remapped_blocks().any()
    held = script.alloc(SCARCE, 0, 3)
    assert held.obtained == 3
    # a claim of March takes all of a largest buddy
    assert script.remapped_blocks().sum() == (2 if design == "migratetype" else 1)
    script.alloc(USER, 0, 5)
    script.check()


def test_texts_and_the_command(capsys, tmp_path):
    some = ["linux", "unmapped/v4"]
    assert len(secretmem_text(secretmem(some, "32M")).splitlines()) == 4
    text = guest_text(guest(some, "64M", "8M"))
    assert all(f"x at {cpus} CPUs" in text for cpus in CPUS)
    path = tmp_path / "guest.json"
    words = ["field", "guest", "--memory", "64M", "--size", "8M", "--designs", "linux,unmapped/v4"]
    assert main([*words, "--json", str(path)]) == 0
    assert capsys.readouterr().out == text
    made = json.loads(path.read_text())
    assert (made["schema"], made["scenario"]) == ("asi_pa.field/1", "guest")
    assert [row["design"] for row in made["rows"]] == some
    assert main(["field", "guest", "--memory", "none"]) == 2
    assert main(["field", "secretmem-vs-frag", "--designs", "nothing"]) == 2
