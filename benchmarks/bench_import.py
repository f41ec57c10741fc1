"""What does ``import asi_pa`` cost over ``import numpy``?"""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from .harness import measure


@pytest.mark.benchmark(timer=time.perf_counter)
@pytest.mark.parametrize("module", ["numpy", "asi_pa"])
def test_import(benchmark, module):
    code = f"import sys, {module}; assert {module!r} in sys.modules"
    status = measure(
        benchmark,
        "import in a new interpreter",
        lambda: None,
        lambda _: subprocess.run([sys.executable, "-c", code], check=True).returncode,
        1,
    )
    assert status == 0
