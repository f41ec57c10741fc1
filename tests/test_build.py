"""What the build makes of its switches."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: setup.py as Cython's workers import it where they are not forked (Python 3.14 on): nothing is built.
TRANSLATE = """
import runpy
setup = runpy.run_path("setup.py")
setup["translated"](setup["extensions"](), OUT)
"""


@pytest.mark.parametrize(("debug", "checked"), [("0", False), ("1", True)])
def test_a_debug_build_checks_bounds(tmp_path, debug, checked):
    subprocess.run(
        [sys.executable, "-c", TRANSLATE.replace("OUT", repr(str(tmp_path)))],
        cwd=ROOT,
        env={**os.environ, "ASI_PA_DEBUG": debug, "ASI_PA_ONLY": "run/replay", "ASI_PA_ANNOTATE": "0"},
        check=True,
        capture_output=True,
    )
    (translated,) = tmp_path.rglob("replay.c")
    # The calls, not the one prototype or definition that there may be.
    assert (translated.read_text().count("__Pyx_RaiseBufferIndexError(") > 10) is checked


def test_no_source_overrides_the_build():
    for source in (ROOT / "asi_pa").rglob("*.p[yx][xd]"):
        assert "# cython:" not in source.read_text(), source


def test_without_a_compiler_it_says_what_to_install(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "setup.py",
            "--quiet",
            "build_ext",
            "--build-lib",
            str(tmp_path),
            "--build-temp",
            str(tmp_path),
        ],
        cwd=ROOT,
        env={**os.environ, "CC": "no-such-compiler -O2", "ASI_PA_ONLY": "trace/scanner"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "the C compiler 'no-such-compiler' is not here: apt install gcc" in done.stderr
