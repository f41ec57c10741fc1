"""The same bytes under other locales, optimised Python, a home that cannot be written, and no temporary
place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("asi_pa.trace.scanner", reason="the extension modules are not built")

DATA = Path(__file__).resolve().parent / "data"
COMMANDS = (
    ["info", str(DATA / "field" / "22-patched-fields-and-rt-flags" / "rt.txt")],
    ["info", str(DATA / "field" / "19-oom-report" / "oom.txt")],
    ["designs", "migratetype"],
    ["verify", "--jobs", "1", str(next(DATA.glob("oracle/linux-7.2/D3*.npz")))],
    ["compare", str(DATA / "faults" / "14-non-utf8-name" / "s0.trace"), "--memory", "64M", "--quiet",
     "--designs", "linux", "--no-cache"],
)  # fmt: skip


def said(*flags: str, **environment: str) -> list[tuple[int, bytes, bytes]]:
    found = []
    for command in COMMANDS:
        words = [sys.executable, *flags, "-m", "asi_pa", *command]
        done = subprocess.run(words, capture_output=True, check=False, env={**os.environ, **environment})
        found.append((done.returncode, done.stdout, done.stderr))
    return found


@pytest.fixture(scope="module")
def plain() -> Any:
    found = said()
    assert [status for status, _, _ in found] == [0] * len(COMMANDS)
    return found


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"},
        {"PYTHONHASHSEED": "7"},
        {"TZ": "Asia/Kathmandu"},
    ],
)
def test_locales_and_seeds(plain: Any, environment: dict[str, str]) -> None:
    assert said(**environment) == plain


def test_optimised_python(plain: Any) -> None:
    assert said("-OO") == plain


def test_a_home_that_cannot_be_written(plain: Any) -> None:
    nowhere = "/proc/no-home"
    assert said(HOME=nowhere, XDG_CACHE_HOME=nowhere, XDG_CONFIG_HOME=nowhere) == plain


def test_no_place_for_temporary_files(plain: Any) -> None:
    """Python falls back to another place where TMPDIR is none."""
    assert said(TMPDIR="/proc/no-place") == plain
