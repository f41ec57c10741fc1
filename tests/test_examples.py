"""The examples run, print what they promise, and stay short."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("asi_pa.allocator.allocator", reason="the extension modules are not built")

ROOT = Path(__file__).resolve().parent.parent
#: With the package of this tree, and nothing of the caller's.
RUN: dict[str, Any] = {
    "capture_output": True,
    "text": True,
    "check": True,
    "timeout": 120,
    "cwd": ROOT,
    "env": {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
}
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(name):
    """The lines an example prints, as lists of words."""
    done = subprocess.run([sys.executable, str(ROOT / "examples" / f"{name}.py")], **RUN)
    assert done.stderr == ""
    return [line.split() for line in done.stdout.splitlines()]


def test_all_are_here():
    assert {path.stem for path in EXAMPLES} >= {"flip_cost", "fragment_then_flip", "own_design"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_short(path):
    assert len(path.read_text().splitlines()) < 60


def test_the_tour_runs():
    """The Python of docs/use/api.md, as one script."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "use" / "api.md").read_text(), re.M | re.S)
    assert len(blocks) >= 5
    done = subprocess.run([sys.executable, "-c", "".join(blocks)], **RUN)
    assert "it is free already" in done.stdout
    assert "are busy" in done.stdout


def test_flip_cost():
    lines = run("flip_cost")
    table = {" ".join(words[:-3]): [float(word) for word in words[-3:]] for words in lines[1:]}
    assert lines[0][-3:] == ["per-page", "pool", "migratetype"]
    assert table["failures"] == [0, 0, 0]
    # The point of the RFC: whole pageblocks instead of pages.
    assert table["leaf writes"][0] > 100 * table["leaf writes"][2] > 0
    assert table["TLB flushes"][0] > 100 * table["TLB flushes"][2] > 0
    assert table["IPIs"][2] == pytest.approx(7 * table["TLB flushes"][2], abs=0.05)


def test_fragment_then_flip():
    rows = {words[0]: words for words in run("fragment_then_flip")[1:]}
    assert rows.keys() == {"linux", "migratetype", "freetype"}
    # March's four pcp types raise the watermarks (set_recommended_min_free_kbytes)
    assert int(rows["freetype"][1]) == int(rows["linux"][1]) > int(rows["migratetype"][1])
    assert int(rows["migratetype"][2]) < int(rows["linux"][2]) / 2
    assert rows["migratetype"][-1] == "flip_starvation"
    assert float(rows["linux"][4]) > 0.8


def test_own_design():
    lines = run("own_design")
    assert lines[0] == ["redis,", "768M", "migratetype", "mine"]
    table = {words[0]: [float(word) for word in words[1:]] for words in lines[1:]}
    assert table["leaked_pages"] == table["uncleared_pages"] == [0, 0]
    assert min(table["tlb_flushes_per_1000_able"]) > 0
    assert table["flips_n2s"][1] > table["flips_n2s"][0]
    assert table["extfrag_events"][1] < table["extfrag_events"][0]
