"""The cost model: formulas by hand, the table's rules, and the sensitivity of rankings."""

from pathlib import Path

import pytest

from asi_pa.experiment import costs as model
from asi_pa.experiment.costs import load_costs, modelled_time, rank, sensitivity

NOTHING = {
    "leaf_writes_pte": 0,
    "leaf_writes_pmd": 0,
    "leaf_writes_pud": 0,
    "leaf_splits_2m": 0,
    "leaf_splits_1g": 0,
    "table_pages_allocated": 0,
    "tlb_flushes_ranged": 0,
    "tlb_flushes_full": 0,
    "tlb_flushed_pages": 0,
    "bytes_zeroed": 0,
    "flips_s2n": 0,
}


def with_(**counts: int) -> dict[str, int]:
    return {**NOTHING, **counts}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_every_default_names_its_source_and_unit() -> None:
    for name, cost in load_costs().table.items():
        assert len(cost.source) > 10, name
        assert cost.unit, name
        assert cost.value > 0, name


def test_nothing_done_costs_nothing() -> None:
    assert modelled_time(NOTHING, load_costs()).total == 0


def test_ranged_flush_alone_on_one_cpu() -> None:
    time = modelled_time(with_(tlb_flushes_ranged=1, tlb_flushed_pages=33), load_costs(), cpus=1)
    assert time.total == time.flush_caller == pytest.approx((994 + 262 * 33) / 3.0)


def test_ranged_flush_of_a_kernel_that_is_not_global_costs_other_spaces_their_share(tmp_path: Path) -> None:
    flush = with_(tlb_flushes_ranged=4, tlb_flushed_pages=4, tlb_flushes_other_spaces=3)
    once = 4 * (994 + 262) / 3.0
    assert modelled_time(flush, load_costs(), cpus=1).total == pytest.approx(once + 3 * 0.5 * 22000 / 3.0)
    costs = load_costs(write(tmp_path, "[costs]\nother_spaces_share = 7\n"))
    assert modelled_time(flush, costs, cpus=1).total == pytest.approx(once + 3 * 22000 / 3.0)


def test_missing_flushed_pages_counts_one_each() -> None:
    metrics = with_(tlb_flushes_ranged=7)
    del metrics["tlb_flushed_pages"]
    explicit = with_(tlb_flushes_ranged=7, tlb_flushed_pages=7)
    assert modelled_time(metrics, load_costs()) == modelled_time(explicit, load_costs())


def test_full_flush_on_four_cpus_by_hand() -> None:
    time = modelled_time(with_(tlb_flushes_full=10), load_costs(), cpus=4)
    once = (994 + 22000) / 3.0
    assert time.flush_caller == pytest.approx(10 * once)
    assert time.shootdown_wait == pytest.approx(10 * (1000 + 3 * 200))
    assert time.flush_others == pytest.approx(10 * 3 * (once + 500))
    assert time.caller == pytest.approx(time.flush_caller + time.shootdown_wait)
    assert time.total == pytest.approx(time.caller + time.flush_others)


def test_invlpgb_sends_no_interrupts_but_other_tlbs_refill(tmp_path: Path) -> None:
    costs = load_costs(write(tmp_path, "[machine]\ninvlpgb = true\n"))
    time = modelled_time(with_(tlb_flushes_full=1), costs, cpus=4)
    assert time.shootdown_wait == 0
    assert time.flush_others == pytest.approx(3 * (994 + 22000) / 3.0)


def test_zeroing_of_flipped_blocks_takes_the_large_rate_and_the_rest_the_small() -> None:
    time = modelled_time(with_(bytes_zeroed=(3 << 21) + 8192, flips_s2n=2), load_costs())
    assert time.zeroing == pytest.approx(2 * 139000 + (512 + 2) * 300)


def test_page_tables() -> None:
    metrics = with_(
        leaf_writes_pte=2, leaf_writes_pmd=3, leaf_writes_pud=5, leaf_splits_2m=7, leaf_splits_1g=11
    )
    metrics["table_pages_allocated"] = 18
    time = modelled_time(metrics, load_costs())
    assert (time.leaf_writes, time.leaf_splits, time.table_pages) == (10 * 30, 18 * 300, 18 * 300)


def test_user_overrides_keep_unit_and_name_their_file(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "[machine]\ncpus = 64\n[costs]\nleaf_write_ns = 12\n"
        "[costs.ipi_base_ns]\nvalue = 4000\nsource = 'measured here'\n",
    )
    costs = load_costs(path)
    assert costs.cpus == 64
    assert costs["leaf_write_ns"] == 12
    assert costs.table["leaf_write_ns"].source == f"given in {path}"
    assert costs.table["leaf_write_ns"].unit == load_costs().table["leaf_write_ns"].unit
    assert costs.table["ipi_base_ns"].source == "measured here"
    assert costs["zero_4k_ns"] == 300


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[costs]\nleaf_wirte_ns = 1\n", "unknown cost 'leaf_wirte_ns'"),
        ("[costs]\nleaf_write_ns = -1\n", "-1 is not a finite number >= 0"),
        ("[costs]\nleaf_write_ns = nan\n", "nan is not a finite"),
        ("[costs]\nleaf_write_ns = 'a'\n", "'a' is not a number"),
        ("[costs]\nleaf_write_ns = true\n", "True is not a number"),
        ("[costs]\nclock_ghz = 0\n", "clock_ghz is 0"),
        ("[costs.leaf_write_ns]\nsource = 'x'\n", "no value"),
        ("[costs.leaf_write_ns]\nvalue = 1\nunit = 'cycles'\n", "unit 'cycles'"),
        ("[costs.leaf_write_ns]\nvalue = 1\nsource = 3\n", "3 is not a text"),
        ("[costs.leaf_write_ns]\nvalue = 1\nnote = 'x'\n", "unknown key 'note'"),
        ("[machine]\ncpus = 0\n", "machine.cpus 0"),
        ("[machine]\ncpus = 1.5\n", "machine.cpus 1.5"),
        ("[machine]\ninvlpgb = 1\n", "machine.invlpgb 1"),
        ("[machine]\nspeed = 1\n", "unknown machine.speed"),
        ("machine = 3\n", "machine is not a table"),
        ("costs = 3\n", "costs is not a table"),
        ("cost = 3\n", "unknown key 'cost'"),
        ("schema = 'asi_pa.costs/9'\n", "schema 'asi_pa.costs/9'"),
        ("[costs\n", "line 1"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=r"mine\.toml") as caught:
        load_costs(path)
    assert said in str(caught.value)


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not UTF-8"):
        load_costs(path)


DESIGNS = {
    "linux": NOTHING,
    # Few flushes, much zeroing, against many flushes and none: which is dearer hangs on the costs.
    "zeroing": with_(bytes_zeroed=50 << 21, flips_s2n=50, leaf_writes_pmd=50, tlb_flushes_full=1),
    "flushing": with_(tlb_flushes_full=100, leaf_writes_pmd=100),
}


def test_sensitivity_finds_the_costs_that_decide() -> None:
    rows = {row.cost: row for row in sensitivity(DESIGNS, load_costs())}
    assert rows["zero_2m_ns"].rankings == (
        ("linux", "zeroing", "flushing"),
        ("linux", "flushing", "zeroing"),
        ("linux", "flushing", "zeroing"),
    )
    assert rows["tlb_refill_cycles"].changes
    assert rows["cpus"].changes
    assert not rows["leaf_write_ns"].changes
    assert set(rows) == {*load_costs().table, "cpus"}


def test_sensitivity_leaves_the_table_alone() -> None:
    costs = load_costs()
    before = dict(costs.table)
    sensitivity(DESIGNS, costs)
    assert costs.table == before


def test_equal_designs_rank_by_name() -> None:
    assert rank({"b": NOTHING, "a": NOTHING}, load_costs()) == ("a", "b")


@pytest.mark.parametrize("factor", [1.0, 0.5, float("nan"), float("inf")])
def test_factor_must_exceed_one(factor: float) -> None:
    with pytest.raises(ValueError, match="factor"):
        sensitivity(DESIGNS, load_costs(), factor=factor)


@pytest.mark.parametrize("cpus", [0, -1, 1.0, True, 1 << 21])
def test_cpus_must_be_a_count(cpus: int) -> None:
    with pytest.raises(ValueError, match="cpus"):
        modelled_time(NOTHING, load_costs(), cpus)


def test_everything_printed_says_that_it_is_a_model() -> None:
    costs = load_costs()
    times = {name: modelled_time(metrics, costs) for name, metrics in DESIGNS.items()}
    table = model.modelled_time_text(times)
    assert table.startswith("modelled time: a cost model, not a measurement")
    assert "flushing" in table
    text = model.sensitivity_text(sensitivity(DESIGNS, costs))
    assert text.startswith("modelled time: a cost model, not a measurement")
    assert "linux < flushing < zeroing" in text
    assert "same ranking" in text
    assert times["flushing"].as_dict()["label"] == model.LABEL
