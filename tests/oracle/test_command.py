"""`asi-pa oracle`: what it refuses in one line, what it lists, and what it does without a kernel at hand."""

import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import asi_pa
from asi_pa.cli import main
from oracle import compare, fuzz, needs, qemu
from oracle.random_script import random_script
from oracle.recorded import save
from oracle.source import Source
from tests.oracle.kernel import FILES, tree
from tests.verify.cut_recorded_run import DATA


def refused(capsys, *words):
    assert main(["oracle", *words]) == 2
    err = capsys.readouterr().err
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    return lines[0]


def test_what_is_no_use_is_refused_in_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(needs, "_there", lambda what: True)
    monkeypatch.setattr(needs, "check", lambda wanted, there=None: None)
    assert "no such kernel tree" in refused(capsys, "build", str(tmp_path / "linux"), "--work", str(tmp_path))
    assert "needs a KERNEL" in refused(capsys, "record")
    assert "unknown kernel '5.4'" in refused(capsys, "record", str(tmp_path), "--rules", "5.4")
    assert "unknown design 'windows'" in refused(capsys, "record", str(tmp_path), "--design", "windows")
    assert "minutes" in refused(capsys, "fuzz", str(tmp_path), "--minutes", "-1")
    assert "invalid choice" in refused(capsys, "smash")
    given = tree(tmp_path / "odd", FILES | {"mm/vmstat.c": "int other;\n"})
    assert "mm/vmstat.c: variable sysctl_stat_interval not found" in refused(
        capsys, "build", str(given), "--work", str(tmp_path / "work")
    )


def test_what_is_missing_is_said_before_anything_is_done(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    words = refused(capsys, "fuzz", str(tmp_path), "--work", str(tmp_path / "work"))
    assert "packages of Debian and Ubuntu: gcc make flex bison bc" in words
    assert "qemu-system-x86" in words
    assert not (tmp_path / "work").exists()


def test_elsewhere_than_in_a_checkout_it_says_so(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(asi_pa, "__file__", str(tmp_path / "site-packages" / "asi_pa" / "__init__.py"))
    assert "works from a checkout of the project" in refused(capsys, "build", str(tmp_path))


def test_the_overview_and_the_list(capsys):
    assert main(["oracle"]) == 2
    assert "build|record|fuzz" in capsys.readouterr().err
    assert main(["oracle", "record", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:2] == ["D5-1", "core"] for line in lines)
    assert any(line.startswith("X4h-1 ") for line in lines)


@pytest.fixture
def source(tmp_path):
    (tmp_path / "tree" / "mm").mkdir(parents=True)
    (tmp_path / "tree" / "mm" / "oracle_features.h").write_text("#define ORACLE_DEFRAG_MODE 1\n")
    return Source(given=tmp_path, work=tmp_path, version="7.2.13", design=False)


def recorded(changed=False):
    """A committed run as it came from a kernel, or with one answer that no kernel gave."""
    with np.load(DATA / "linux-7.2" / "D3z-1.npz") as data:
        arrays = {name: data[name].copy() for name in data.files}
    arrays["meta"] = np.array(json.dumps(json.loads(str(arrays["meta"])) | {"cma_start": 0, "cma_pages": 0}))
    if changed:
        arrays["res"][40, 3] += 1
    return arrays


def test_fuzzing_counts_stops_at_a_difference_and_goes_on(source, monkeypatch):
    answers = iter([False, False, True, *[True] * 100])
    monkeypatch.setattr(compare, "record", lambda image, script, kernel: recorded(next(answers)))
    monkeypatch.setattr(fuzz, "random_script", partial(random_script, operations=100))
    said: list[str] = []
    tally, found = fuzz.fuzz(source, seconds=1e6, seed=9, say=said.append)
    assert (tally.next, tally.scripts, len(tally.differences)) == (3, 2, 1)
    assert tally.operations == 2 * len(recorded()["ops"])
    (run,) = found
    assert run.with_suffix(".txt").read_text().startswith("operation 40 (")
    assert "operation 40 of" in run.with_suffix(".txt").read_text()
    assert main(["verify", str(run)]) == 1
    assert any("shrunk to" in words for words in said)

    monkeypatch.setattr(compare, "record", lambda image, script, kernel: recorded(changed=True))
    tally, found = fuzz.fuzz(source, seconds=1e6, seed=9)
    assert (tally.next, tally.scripts, len(tally.differences)) == (4, 2, 2)
    assert fuzz.read_tally(source.work / "fuzz.json", "7.2.13", 9) == tally
    assert fuzz.read_tally(source.work / "fuzz.json", "7.2.13", 8).next == 0


def test_what_the_kernel_complains_about_is_kept(source, monkeypatch):
    calls = []

    def complain(image, script, kernel):
        calls.append(script.name)
        if len(calls) == 1:
            raise qemu.KernelError("the kernel complained: WARNING", "the console\n")
        return recorded(changed=len(calls) > 2)

    monkeypatch.setattr(compare, "record", complain)
    monkeypatch.setattr(fuzz, "random_script", partial(random_script, operations=100))
    tally, _ = fuzz.fuzz(source, seconds=1e6)
    assert tally.failures == ["fuzz-1-0: the kernel complained: WARNING"]
    assert (source.work / "found" / "fuzz-1-0.log").read_text() == "the console\n"


def test_a_recorded_run_that_is_refused_is_a_difference(tmp_path):
    arrays = recorded()
    arrays["dump_at"] = arrays["dump_at"][::-1].copy()
    compared = compare.compare_arrays(arrays)
    assert compared.verdict is None
    assert "the recorded run was refused" in compared.difference
    assert compare.compare_arrays(recorded()).difference == ""
    save(tmp_path / "run.npz", arrays)
    assert main(["verify", str(tmp_path / "run.npz")]) == 2


@pytest.mark.skipif("ASI_PA_KERNEL" not in os.environ, reason="ASI_PA_KERNEL names no kernel")
def test_the_whole_way_from_a_kernel_to_exact(capsys, tmp_path):
    """Builds, boots, records, verifies, fuzzes: minutes.  ASI_PA_ORACLE may name a work folder."""
    kernel = os.environ["ASI_PA_KERNEL"]
    work = os.environ.get("ASI_PA_ORACLE", str(tmp_path / "work"))
    sets = ("D3-1", "D5-1", "D7p-1", "D10p-1", "D11v-1", "C7-1")
    words = [kernel, *sets, "--work", work, "--out", str(tmp_path / "recorded")]
    assert main(["oracle", "record", *words, "--json", str(tmp_path / "sets.json")]) == 0
    assert "6 of 6 exact" in capsys.readouterr().out
    assert all(entry["exact"] for entry in json.loads((tmp_path / "sets.json").read_text())["sets"])
    assert len(list(Path(tmp_path, "recorded").glob("*.npz"))) == len(sets)
    assert main(["oracle", "fuzz", kernel, "--work", work, "--minutes", "0.2", "--seed", "424242"]) == 0
