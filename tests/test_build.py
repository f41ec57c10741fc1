"""What the build makes of its switches."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: setup.py as a module; "--name" asks it for nothing but a name.
TRANSLATE = """
import runpy, sys
sys.argv = ["setup.py", "--name"]
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
